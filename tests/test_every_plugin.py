"""The contract that each study of conf/plugin/ gets tested for nothing."""

import math
from dataclasses import fields

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from conf.check import CONF
from interp.lit import build
from interp.lit.data import ImageData, Splits, TensorImages
from interp.lit.hydra_versions import BASE
from interp.lit.models import small_cnn
from interp.network.layers import Normalized
from interp.probe import choose_probe
from interp.result import Result
from tests.conftest import identical

NAMES = sorted(path.stem for path in (CONF / "plugin").glob("*.yaml"))


@pytest.fixture(params=NAMES)
def plugin(request):
    return make(request.param, *QUICK.get(request.param, []))


def make(name: str, *settings: str):
    with initialize_config_dir(str(CONF), **BASE):
        cfg = compose("train", [f"+plugin={name}", "output=/tmp/nowhere", *(f"plugin.{name}.{s}" for s in settings)])
    return build.plugins(cfg)[0]


QUICK = {
    "axis_alignment": ["rotations=1", "alphas=[0.5]"],
    "caricature": ["steps=2", "images=2"],
    "feature_visualization": ["steps=2", "channels=2"],
    "nmf": ["icon_steps=2", "restarts=1", "groups=3"],
    "projection": ["iterations=250"],
    "robustness": ["disturbances=[noise]"],
    "saliency": ["steps=4", "samples=2"],
}
FEWER = {name: ["images=100"] for name in ("axis_alignment", "dissection", "projection", "robustness", "similarity")}


def coloured(channels: int) -> tuple[Normalized, ImageData]:
    def source() -> Splits:
        images = torch.randint(
            256, (24, channels, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        part = TensorImages(images, torch.arange(24) % 3)
        return Splits(part, part, part, ("red", "green", "blue"))

    torch.manual_seed(0)
    data = ImageData(source)
    return small_cnn(data, widths=(8, 16, 16)), data


def same(first: Result, second: Result) -> bool:
    return identical(vars(first), vars(second))


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("plain"), *DISTURBABLE)


# Dropout, augmentation and a late scheduler: whatever a study disturbed would show in the weights.
DISTURBABLE = (
    "model.dropout=0.3",
    "data.augment=[{_target_: torchvision.transforms.v2.RandomRotation, degrees: 10}]",
    "logger=csv",
    "trainer.accumulate_grad_batches=3",
    *(SMALL := ("model.widths=[8,12,12]", "data.probe_images=4")),
)


@pytest.mark.parametrize("name", NAMES)
def test_training_is_left_alone_and_analysis_afterwards_agrees(name, plain, train, tmp_path):
    quick = [*QUICK.get(name, []), *FEWER.get(name, [])]
    asked = [f"plugin.{name}.{setting}" for setting in ("every_n_epochs=1", *quick)]
    studied = train(tmp_path, f"+plugin={name}", *asked, *DISTURBABLE)
    ours, theirs = studied.checkpoint(), plain.checkpoint()
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert identical(ours[part], theirs[part])
    assert identical(ours["callbacks"]["RandomState"], theirs["callbacks"]["RandomState"])
    assert metrics_of(studied, name) == metrics_of(plain, name)
    folders = sorted((tmp_path / "results" / name).iterdir())
    assert [folder.name for folder in folders] == ["epoch=0000", "epoch=0001", "epoch=0002"]
    assert all((folder / "result.json").is_file() and list(folder.glob("*.png")) for folder in folders)
    plugin, (net, probe) = make(name, *quick), rebuilt(studied, *SMALL)
    afterwards = plugin.continued(plugin.look(net, probe), folders[-1].parent, epoch=2)
    assert same(afterwards, type(afterwards).load(folders[-1]))


def metrics_of(run, name: str) -> list[dict]:
    import csv

    rows = list(csv.DictReader((run.folder / "csv" / "metrics.csv").read_text().splitlines()))
    rows = [{k: v for k, v in row.items() if v and not k.startswith(f"{name}/")} for row in rows]
    return [row for row in rows if set(row) - {"epoch", "step"}]


def rebuilt(run, *settings: str):
    """The network of a run with these settings, and its probe."""
    from interp.lit.classifier import load_weights

    with initialize_config_dir(str(CONF), **BASE):
        cfg = compose("train", ["output=/tmp/nowhere", "data.size=16", "model.dropout=0.3", *settings])
    images = build.data(cfg)
    net = build.network(cfg, images)
    load_weights(net, images.class_names, run.checkpoint())
    return net, images.probe


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 7])
def test_finite_numbers_and_pictures_are_shown(plugin, channels, count, tmp_path):
    net, data = coloured(channels)
    result = plugin.look(net, choose_probe(data.splits.val, data.class_names, count))
    assert result.scalars() and all(math.isfinite(value) for value in result.scalars().values())
    pictures = result.pictures()
    assert pictures and set(result.captions()) <= set(pictures)
    for picture in pictures.values():
        assert picture.dtype == torch.uint8 and picture.ndim == 3 and len(picture) == 3 and picture.float().std() > 1
    result.save(tmp_path)
    again = type(result).load(tmp_path)
    assert same(result, again) and result.scalars() == again.scalars()
    assert all(torch.equal(picture, again.pictures()[key]) for key, picture in pictures.items())
    assert result.widgets() == again.widgets() and not set(result.widgets()) & set(pictures)
    assert all(
        not getattr(result, f.name).requires_grad for f in fields(result) if torch.is_tensor(getattr(result, f.name))
    )


class Embeddings:
    """Stands in for TensorBoard's writer."""

    def add_embedding(self, vectors, rows, images, *_, **__) -> None:
        assert len(images) == len(rows) == len(vectors) and images.shape[1] == 3 and images.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_any_count_of_channels_is_drawn(name):
    study = make(name, *QUICK.get(name, []))
    for channels in (2, 4, 5):
        _, data = coloured(channels)
        body = [nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
        result = study.look(Normalized(nn.Sequential(*body), *data.normalization), data.probe)
        for picture in result.pictures().values():
            assert picture.dtype == torch.uint8 and picture.ndim == 3 and len(picture) == 3
            assert picture.float().std() > 1
        cells = [cell for _, rows in result.tables().values() for row in rows for cell in row if torch.is_tensor(cell)]
        assert all(cell.dtype == torch.uint8 and len(cell) == 3 for cell in cells) and all(result.widgets().values())
        result.to_tensorboard(Embeddings(), name, 0)


def test_same_network_same_result_whatever_the_random_state(plugin):
    net, data = coloured(3)
    first = plugin.look(net, data.probe)
    torch.rand(7)
    assert same(first, plugin.look(net, data.probe))


def test_the_network_is_left_as_it_was(plugin):
    net, data = coloured(3)
    net.train()
    net.body.block1.eval()
    net.body.head.weight.requires_grad_(False)
    net.body.head.bias.grad = torch.ones(3)
    before, modes = {k: v.clone() for k, v in net.state_dict().items()}, [m.training for m in net.modules()]
    plugin.look(net, data.probe)
    assert modes == [m.training for m in net.modules()] and not net.body.head.weight.requires_grad
    assert torch.equal(net.body.head.bias.grad, torch.ones(3)) and net.body.block1.conv.weight.grad is None
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())


def test_it_works_inside_inference_mode(plugin):
    net, data = coloured(1)
    expected = plugin.look(net, data.probe)
    with torch.inference_mode():
        assert same(plugin.look(net, data.probe), expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_its_yaml_is_a_field_and_the_reverse(name):
    settings = {*OmegaConf.load(CONF / "plugin" / f"{name}.yaml"), *OmegaConf.load(CONF / "study.yaml")}
    assert settings - {"defaults", "_target_"} == {f.name for f in fields(make(name))} - {"name"}
