"""Where studies look in many families of networks: python benchmarks/layers.py [NAME ...] [--quick] [--size H W]

Random weights, batch norms and layer scales as after some training, the smallest images that suit a network (or two
sizes of them). Prints the layer that nmf, class attribution and Grad-CAM take where none is named, how deep it lies (in
shares of the multiplications of a pass), its bypass, the layers over which the others are spread, the CPU seconds of
the choice and of a forward pass of the same two images.
"""

import argparse
import time
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.network.layers import choose_layer, spread_layers, survey

TORCHVISION = {
    "alexnet": 224, "convnext_tiny": 128, "densenet121": 224, "efficientnet_b0": 128, "efficientnet_v2_s": 128,
    "googlenet": 128, "inception_v3": 128, "maxvit_t": 224, "mnasnet0_5": 128, "mobilenet_v2": 128,
    "mobilenet_v3_large": 224, "regnet_x_400mf": 128, "regnet_y_400mf": 128, "resnet18": 128, "resnet50": 128,
    "resnext50_32x4d": 128, "shufflenet_v2_x0_5": 128, "squeezenet1_1": 128, "swin_t": 128, "swin_v2_t": 128,
    "vgg11": 128, "vgg11_bn": 128, "vit_b_32": 224, "wide_resnet50_2": 128,
}  # fmt: skip
TIMM = {
    "beit_base_patch16_224": 224, "cait_xxs24_224": 224, "coat_lite_tiny": 224, "convnextv2_atto": 128,
    "crossvit_tiny_240": 240, "deit_tiny_distilled_patch16_224": 224, "dla34": 128, "dpn68": 128,
    "edgenext_xx_small": 128,
    "focalnet_tiny_srf": 128, "ghostnet_050": 128, "hrnet_w18_small": 128, "levit_128s": 224, "mixer_s32_224": 224,
    "mobilevit_xxs": 128, "nf_resnet26": 128, "nfnet_l0": 128, "pit_ti_224": 224, "poolformer_s12": 128,
    "pvt_v2_b0": 128,
    "regnety_002": 128, "res2net50_14w_8s": 128, "resmlp_12_224": 224, "resnetv2_50x1_bit": 128,
    "swin_tiny_patch4_window7_224": 224, "tf_efficientnet_lite0": 128, "tnt_s_legacy_patch16_224": 224,
    "twins_pcpvt_small": 128, "vit_tiny_patch16_224": 224, "xcit_nano_12_p16_224": 224,
}  # fmt: skip
QUICK = ["resnet18", "densenet121", "mobilenet_v3_large", "squeezenet1_1", "regnety_002", "ghostnet_050"]


def build(name: str, images: Tensor) -> nn.Module:
    """The network with random weights, as after some training on `images`."""
    torch.manual_seed(0)
    if name in TORCHVISION:
        from torchvision.models import get_model

        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        net = get_model(name, weights=None, num_classes=10, **options)
    else:
        import timm

        net = timm.create_model(name, num_classes=10)
    return lived_in(net.eval(), images)


@torch.no_grad()
def lived_in(net: nn.Module, images: Tensor) -> nn.Module:
    """Batch norms, layer scales and heads that start at zero get values, or the logits would not depend on layers."""
    for parameter in net.parameters():
        if parameter.numel() and float(parameter.abs().max()) < 1e-3:
            parameter.normal_(0, 0.2 if parameter.ndim == 1 else 0.02)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5), norm.bias.normal_(0, 0.2)
        norm.train().momentum = 1.0
    net(images)
    for norm in norms:
        norm.eval()
    return net


def two_images(size: Sequence[int]) -> Tensor:
    """Two smooth images (2, 3, H, W) of a `size` (H, W)."""
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, tuple(size), mode="bilinear")


def row(name: str, size: tuple[int, int]) -> tuple:
    """What is printed of one network."""
    images = two_images(size)
    net = build(name, images)
    began = time.process_time()
    with torch.no_grad():
        net(images)
    forward, began = time.process_time() - began, time.process_time()
    try:
        layer = choose_layer(net, images, signed=True)
    except UserError as error:
        return name, "x".join(map(str, size)), str(error)[:60], *[""] * 7
    seconds = time.process_time() - began
    chosen = spread_layers(net, images)
    depths = {one.name: one.depth for one in survey(net, images, cuts_only=False)}
    along = ", ".join(f"{one.name} {depths[one.name]:.2f} ({one.bypass:.2f})" for one in chosen)
    grid = f"{layer.layout.height}x{layer.layout.width}"
    return (
        name, "x".join(map(str, size)), layer.name, grid, layer.layout.kind, "" if layer.non_negative else "signed",
        f"{depths[layer.name]:.2f}", f"{layer.bypass:.2f}", along, f"{seconds:.2f}", f"{forward:.2f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true", help="six families")
    parser.add_argument("--size", nargs=2, type=int, help="height and width of the images")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sizes = TORCHVISION | TIMM
    for name in given.names or (QUICK if given.quick else sizes):
        try:
            print(*row(name, tuple(given.size or (sizes.get(name, 128),) * 2)), sep=" | ", flush=True)
        except Exception as error:
            print(name, type(error).__name__, str(error)[:200], sep=" | ", flush=True)


if __name__ == "__main__":
    main()
