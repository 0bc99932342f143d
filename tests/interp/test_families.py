"""Where to look in families of networks as they are published, with random weights and small images."""

import pytest

from benchmarks.layers import build, two_images
from interp.network.bypass import Exchange
from interp.network.choice import LIMIT, NEAR
from interp.network.layers import choose_layer, spread_layers
from interp.network.survey import survey

# By name the size of images, and whether a class token is read, which holds what positions do not.
FAMILIES = {
    "densenet121": ((128, 192), False),
    "mobilenet_v3_large": ((128, 96), False),
    "squeezenet1_1": ((64, 128), False),
    "inception_v3": ((96, 128), False),
    "swin_t": ((64, 128), False),
    "vit_b_32": ((224, 224), True),
    "resnetv2_50x1_bit": ((64, 96), False),
    "ghostnet_050": ((64, 128), False),
    "hrnet_w18_small": ((128, 192), False),
    "tf_efficientnet_lite0": ((128, 64), False),
}


@pytest.mark.slow  # test_choice.py holds the same of small networks
@pytest.mark.parametrize("name", FAMILIES)
def test_the_answer_passes_through_where_we_look_and_layers_are_spread(name):
    pytest.importorskip("timm", reason="the extra `pretrained` is not installed")
    size, class_token = FAMILIES[name]
    images = two_images(size)
    net = build(name, images)
    layer, layers = choose_layer(net, images, signed=True), spread_layers(net, images)
    exchange, found = Exchange(net, images), {one.name: one for one in survey(net, images)}
    for one in (layer, *layers):
        assert found[one.name].cut and one.bypass == exchange.bypass(one.name, one.layout)
        assert one.layout.special if class_token else one.bypass <= LIMIT
        assert (one.layout.height > one.layout.width) == (size[0] > size[1])
    behind = found[layer.name].depth + NEAR
    deeper = [one for one in found.values() if not one.why and one.side >= 4 and one.depth > behind]
    assert all(exchange.bypass(one.name, one.layout) > LIMIT for one in deeper)
    depths = [found[one.name].depth for one in layers]
    assert depths == sorted(depths) and len(layers) == 4
    if name != "hrnet_w18_small":  # its answer runs along several branches from 0.13 to 1
        assert max(after - before for before, after in zip([0.0, *depths], [*depths, depths[-1]], strict=True)) < 0.5
