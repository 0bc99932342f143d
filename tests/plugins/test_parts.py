"""One part of a study that fails costs that part: layers, methods, disturbances, pictures; on networks of all kinds."""

import logging
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from interp.attribution.methods import METHODS
from interp.errors import UserError
from interp.parts import attempt, each_of, of_those_that_can
from interp.result import Result
from plugins.axis_alignment import AxisAlignmentPlugin
from plugins.base.sinks import show
from plugins.caricature import CaricaturePlugin
from plugins.class_attribution import ClassAttributionPlugin
from plugins.confusion import ConfusionPlugin
from plugins.feature_visualization import FeatureVisualizationPlugin
from plugins.nmf import NMFPlugin
from plugins.projection import ProjectionPlugin
from plugins.robustness import RobustnessPlugin
from plugins.saliency import SaliencyPlugin
from plugins.similarity import SimilarityPlugin
from tests.networks import make, probe
from tests.processes import on_processes

NMF = {"name": "n", "groups": 2, "icon_steps": 1, "restarts": 1}


def shown(result: Result) -> None:
    """Every caption has its picture, and every number can be logged."""
    assert set(result.captions()) == set(result.pictures())
    assert all(math.isfinite(value) for value in result.scalars().values())
    assert result.widgets()


@pytest.mark.parametrize(
    "kind", ["own function", "lstm", "old weight norm", "reentrant checkpoints", "remembering", "bfloat16", "float16"]
)
def test_awkward_networks_are_studied_and_left_as_they_were(kind):
    """Also without a warning of changes left behind, which would be an error here."""
    net, images = make(kind), probe()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    groups = NMFPlugin(**NMF).look(net, images)
    shown(groups)
    assert len(groups.effects) == len(groups.exact_effects) == 4 and not groups.left_out
    assert ("effects in float32" in groups.captions()["groups"]) == kind.endswith("float16") or kind == "bfloat16"
    chosen = ["gradient", "guided_backprop", "occlusion"]
    maps = SaliencyPlugin(name="s", methods=chosen, checks="none").look(net, images)
    assert list(maps.methods) == chosen and len(maps.gradient) == 4
    assert ClassAttributionPlugin(name="c").look(net, images).weights.any()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_method_that_raises_or_is_nan_costs_itself(monkeypatch):
    def broken(net, task):
        raise RuntimeError("no such thing")

    monkeypatch.setitem(METHODS, "gradient", broken)
    monkeypatch.setitem(METHODS, "occlusion", lambda net, task: task.images * torch.nan)
    monkeypatch.setattr("interp.attribution.trust.change_under_noise", lambda *_: float("nan"))
    result = SaliencyPlugin(name="s", steps=8, samples=2).look(make("batch norm"), probe())
    assert result.methods == tuple(m for m in METHODS if m not in ("gradient", "occlusion")) == tuple(result.checks)
    assert "gradient (RuntimeError: no such thing)" in result.left_out
    assert "occlusion (its maps hold 3072 NaN or infinite values of 3072)" in result.left_out
    assert "grad_cam's change under noise (it is nan)" in result.left_out
    assert "change_under_noise" not in result.checks["grad_cam"] and "class_correlation" in result.checks["grad_cam"]
    assert "no such thing" in result.captions()["methods"] and {"panels", "methods"} == set(result.pictures())
    shown(result)


def test_without_a_gradient_what_needs_none_is_left_and_without_anything_the_study_fails():
    class Decided(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot((images.mean(dim=(1, 2, 3)) > 0.5).long(), 3).float()

    result = SaliencyPlugin(name="s", checks="none").look(Decided(), probe())
    assert result.methods == ("occlusion",) and not len(result.gradient) and set(result.pictures()) == {"methods"}
    assert "the panels (RuntimeError: element 0 of tensors does not require grad" in result.captions()["methods"]
    broken = make("batch norm")
    nn.init.constant_(broken.body[2][2].weight, torch.nan)
    with pytest.raises(ValueError, match="nothing can be explained: .*occlusion"):
        SaliencyPlugin(name="s", methods=["occlusion"], checks="none").look(broken, probe())


def test_groups_are_kept_where_their_effects_cannot_be_had(monkeypatch):
    net = make("batch norm")
    monkeypatch.setattr("plugins.nmf.plugin.render", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("plugins.nmf.plugin.trust", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("plugins.nmf.effects.group_effects", lambda *_, **__: 1 / 0)
    half = NMFPlugin(**NMF | {"order": "effect"}).look(net, probe())
    assert [text.split(" (")[0] for text in half.left_out] == [
        "linear effects", "pictures of the groups", "null, floor and restarts"
    ]  # fmt: skip
    assert half.order == "effect" and half.exact_effects.shape == (4, 2, 3) and not len(half.effects)
    assert '"effects": null' not in half.widgets()["explore"]
    shown(half.following(half))
    nn.init.constant_(net.body[2][2].bias, torch.nan)
    none = NMFPlugin(**NMF | {"order": "effect"}).look(net, probe())
    assert "effects on classes (the logits hold 12 NaN or infinite values of 12)" in none.left_out
    assert none.classes == () and none.order == "horizontal_peak" and "12 NaN" in none.captions()["groups"]
    assert torch.equal(none.channel[none.channel.argsort(0)[:, 0]], half.channel[half.channel.argsort(0)[:, 0]])
    shown(none)


def test_a_layer_that_is_nan_costs_itself_and_a_network_that_is_its_study():
    net, images = make("group norm"), probe(5)
    net.body[1][0].weight.data[0, 0, 0, 0] = torch.nan  # all after it is
    layers, few = ["0", "1"], {"images": None, "quantile": 0.05}
    drawn = CaricaturePlugin(name="c", steps=1, images=2).look(net, images)
    assert drawn.layers == ("0",) and "Left out: 1 (" in drawn.captions()["caricatures"]
    features = FeatureVisualizationPlugin(name="f", steps=1, channels=2).look(net, images)
    assert set(features.layers) == {"0"} and "1 (activations of 1 hold" in features.captions()["channels"]
    for result in (drawn, features):
        assert all(math.isfinite(value) for value in result.scalars().values()) and result.pictures()
    alike = SimilarityPlugin(name="similarity", layers=layers).look(net, images)
    assert math.isnan(alike.scalars()["neighbours"]) and "Left out: 1 (NaN or infinite)." in alike.captions()["layers"]
    with pytest.warns(UserWarning, match="put out NaN"), pytest.raises(ValueError, match="so does every rotated unit"):
        AxisAlignmentPlugin(name="a", layer="1", rotations=1, alphas=[1.0], **few).look(net, images)
    for study in (ConfusionPlugin(name="c"), RobustnessPlugin(name="r", layers=["0"], **few)):
        with pytest.raises(ValueError, match="the logits of 5 of 5 images are NaN or infinite"):
            study.look(net, images)
    with pytest.raises(ValueError, match="the attributions at 0 hold"):
        ClassAttributionPlugin(name="c", layers=layers).look(net, images)


def test_a_disturbance_and_an_attack_that_cannot_be_made_cost_themselves(monkeypatch):
    monkeypatch.setattr("interp.perturbation.disturbed.rotate_images", lambda image, degrees: image * torch.nan)
    monkeypatch.setattr("interp.perturbation.attack.cross_entropy", lambda *_, **__: 1 / 0)
    settings = {"images": None, "quantile": 0.05, "disturbances": ["fgsm", "rotation", "patches"], "layers": ["0"]}
    with pytest.warns(UserWarning, match="put out NaN"):
        result = RobustnessPlugin(name="r", **settings).look(make("batch norm"), probe())
    assert result.families == ("", "patches", "patches") and len(result.left_out) == 4 + 3
    assert "fgsm 8 (ZeroDivisionError: division by zero)" in result.left_out
    assert "rotation 10 (the logits of 4 of 4 images are NaN or infinite)" in result.captions()["curves"]
    assert all(math.isfinite(value) for value in result.scalars().values()) and "curves" in result.pictures()


def of_many(rank: int, settings: dict) -> list[tuple[tuple[str, ...], tuple[str, ...]]] | None:
    METHODS["occlusion"] = lambda *_: 1 / 0  # in this process, which ends then
    maps = SaliencyPlugin(name="s", checks="none").look(make("group norm"), probe())
    kept = RobustnessPlugin(name="r", **settings).look(make("batch norm"), probe())
    return None if rank else [(maps.methods, maps.left_out), (kept.families, kept.left_out)]


def test_parts_that_fail_on_many_processes_are_those_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr("interp.perturbation.disturbed.rotate_images", lambda image, degrees: 1 / 0)
    settings = {"images": None, "quantile": 0.05, "disturbances": ["rotation", "patches"], "batch_size": 2}
    monkeypatch.setitem(METHODS, "occlusion", METHODS["occlusion"])
    alone = of_many(0, settings)
    assert on_processes(2, of_many, tmp_path, settings) == [alone, None]
    assert [text.split(" (")[0] for text in alone[0][1]] == ["deep_lift", "occlusion"] and len(alone[1][1]) == 3


def test_an_image_without_an_answer_is_none_of_the_first_class():
    net, images = make("batch norm"), probe(8)
    nn.init.constant_(net.body[2][2].bias, torch.nan)
    result = ProjectionPlugin(name="p", iterations=250, method="pca").look(net, images)
    assert result.predicted.tolist() == [-1] * 8 and result.wrong.all()
    assert "predictions of 8 images" in result.captions()["scatter"] and "no prediction" in result.widgets()["explore"]


def test_what_concerns_the_whole_study_is_raised_and_the_rest_is_told():
    def fail(error):
        raise error

    left_out: list[str] = []
    assert attempt(left_out, "a", lambda: fail(KeyError("k"))) is None and attempt(left_out, "b", lambda: 2) == 2
    assert each_of(left_out, {"c": lambda: fail(ValueError("x " * 300)), "d": lambda: 4}) == {"d": 4}
    assert left_out[0] == "a (KeyError: 'k')" and left_out[1].startswith("c (x x") and len(left_out[1]) < 220
    for error in (UserError("mend me"), torch.OutOfMemoryError("full")):
        with pytest.raises(type(error)):
            attempt([], "e", lambda error=error: fail(error))
    assert attempt(left_out, "f", lambda: fail(UserError("mend me")), settings=False) is None
    with pytest.raises(ZeroDivisionError):
        each_of([], {"g": lambda: 1 / 0, "h": lambda: fail(KeyError())})
    names, made = of_those_that_can(left_out, ["2", "0", "4"], lambda names: [8 / int(name) for name in names])
    assert (names, made) == (["2", "4"], [4, 2]) and left_out[-1] == "0 (ZeroDivisionError: division by zero)"


@dataclass(frozen=True)
class Torn(Result):
    """Some of what it shows cannot be made."""

    def pictures(self) -> dict[str, Tensor]:
        return {"bad": torch.rand(2, 2, 2, 2), "../out": torch.zeros(3, 4, 4), "good": torch.zeros(3, 4, 4).byte()}

    def captions(self) -> dict[str, str]:
        raise KeyError("lost")

    def tables(self) -> dict:
        raise ZeroDivisionError("no rows")

    def widgets(self) -> dict[str, str]:
        return {"good": "<p>here</p>", "bad": None}  # type: ignore[dict-item]


def test_what_cannot_be_shown_costs_no_other_picture_widget_or_table(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        show(Torn(), tmp_path, "study", [], epoch=0, step=0, files=(files := set()))
    for what in ("picture bad: ", "picture ../out: '../out' is no name", "captions: KeyError: 'lost'",
                 "tables: ZeroDivisionError: no rows", "widget bad: AttributeError"):  # fmt: skip
        assert what in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"good.png", "good.html"} <= files
    Torn(left_out=("a part (why)",)).save(tmp_path)
    assert Torn.load(tmp_path).left_out == ("a part (why)",)


def test_a_picture_that_cannot_be_drawn_is_told_of_and_costs_no_other(monkeypatch, caplog):
    result = NMFPlugin(**NMF).look(make("batch norm"), probe())
    grown = result.following(result)
    monkeypatch.setattr("plugins.nmf.view.hues", lambda count: 1 / 0)
    with caplog.at_level(logging.WARNING):
        assert grown.pictures() == {} and caplog.text.count("division by zero") >= 2
    monkeypatch.undo()
    monkeypatch.setattr("plugins.nmf.view._groups", lambda result: 1 / 0)
    assert set(grown.pictures()) == {"emergence"} and "the picture groups is left out" in caplog.text
    assert set(grown.widgets()) == {"explore"} and set(replace(grown, left_out=("x",)).captions()) == {
        "groups", "emergence"
    }  # fmt: skip
