"""Every builder fits the data and names its layers."""

import pytest
import torch

from interp.errors import UserError
from interp.layers import choose_layer, layers
from interp.lit.data import ImageData, Splits, TensorImages
from interp.lit.models import resnet18, small_cnn, timm, torchvision


def images(channels: int, size: int, classes: int = 7) -> ImageData:
    def source() -> Splits:
        part = TensorImages(torch.randint(256, (8, channels, size, size), dtype=torch.uint8), torch.arange(8) % classes)
        return Splits(part, part, part, tuple(f"class {c}" for c in range(classes)))

    return ImageData(source)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("build", [small_cnn, resnet18, lambda data: torchvision(data, "mobilenet_v3_small")])
def test_channels_and_classes_come_from_the_data(build, channels):
    net = build(images(channels, 32)).eval()
    assert net(torch.rand(2, channels, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(("size", "grid"), [(8, 8), (28, 7), (32, 8), (64, 8), (128, 8)])
def test_small_cnn_keeps_a_grid_to_look_at(size, grid):
    data = images(1, size)
    net = small_cnn(data).eval()
    assert list(dict(net.body.named_children()))[:4] == ["block1", "block2", "block3", "block4"]
    assert net.body[:4](torch.rand(1, 1, size, size)).shape[-1] == grid
    assert choose_layer(net, torch.rand(2, 1, size, size)).name == "block4"


def test_resnet_has_its_layers_on_small_images():
    net = resnet18(images(3, 32)).eval()
    assert {"layer1", "layer4"} <= layers(net).keys()
    assert choose_layer(net, torch.rand(2, 3, 32, 32)).name == "layer4"


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet", "vgg11", "vit_b_32"])
def test_heads_of_many_architectures_are_replaced(name):
    size = 224 if name == "vit_b_32" else 64
    net = torchvision(images(3, size), name).train()
    assert net(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_unknown_models_and_weights_name_the_nearest():
    with pytest.raises(UserError, match="no torchvision model 'resnt18'; did you mean 'resnet18'"):
        torchvision(images(3, 32), "resnt18")
    with pytest.raises(UserError, match="no weights 'IMAGENET1K_V9' in resnet18; did you mean 'IMAGENET1K_V1'"):
        torchvision(images(3, 32), "resnet18", "IMAGENET1K_V9")


def test_weights_without_a_network_name_the_way_out(monkeypatch, tmp_path):
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = (
        "model.weights=DEFAULT of googlenet: .*cannot be downloaded .*Without a network take model=efficientnet_lite0"
    )
    with pytest.raises(UserError, match=message):
        torchvision(images(3, 32), "googlenet", "DEFAULT")


def test_timm_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match="pip install -e '.\\[pretrained\\]'"):
        timm(images(3, 32), "resnet18")


def test_timm_models_fit_the_data():
    pytest.importorskip("timm", reason="the extra `pretrained` is not installed")
    assert timm(images(1, 32), "resnet10t").eval()(torch.rand(2, 1, 32, 32)).shape == (2, 7)
    small = timm(images(1, 32), "vit_tiny_patch16_224", patch_size=4, depth=2)
    assert small.eval()(torch.rand(2, 1, 32, 32)).shape == (2, 7) and len(small.body.blocks) == 2
    with pytest.raises(UserError, match="no timm model 'resnet18t'"):
        timm(images(3, 32), "resnet18t")
