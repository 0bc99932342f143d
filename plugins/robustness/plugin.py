"""How far answers, detectors and activations survive disturbed images, epoch by epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from interp.confusion import all_answered
from interp.dissection import ConceptData, broken_units, concept_data, evidence, targets_of
from interp.dissection.robustness import SURVIVAL, Seen, see, survival
from interp.draw import grid
from interp.draw.charts import chart, lines, palette, shades
from interp.draw.detectors import masked
from interp.errors import UserError
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt, drawn, each_of, omissions
from interp.perturbation.attack import Attacked
from interp.perturbation.disturbed import ATTACKS, Disturbed, disturbances
from interp.probe import Probe
from interp.processes.share import go_on_alone
from interp.result import Cell, Result
from plugins.base import Plugin, setting

RADII = (1, 2, 4, 8)  # of attacks, in 255ths of the full scale
PAGE = 5  # families in a picture


@dataclass(frozen=True)
class RobustnessResult(Result):
    """Y layers under D disturbances; number 0 of D + 1 is the undisturbed data."""

    layers: tuple[str, ...]  # Y names, early to late
    families: tuple[str, ...]  # D + 1 names, "" first
    strengths: tuple[str, ...]  # D + 1, "0" first
    right: str  # what a right answer is: accuracy (the image's class) or agreement (the undisturbed answer)
    answers: Tensor  # (D + 1,) float64, share of right ones
    survival: Tensor  # (D + 1, Y, 7) float64, the columns of interp.dissection.robustness.SURVIVAL
    count: int  # images
    rows: tuple[str, ...]  # S: unit, concept and IoU of each pictured image
    images: Tensor  # (S, D + 1, C, H, W) uint8
    masks: Tensor  # (S, D + 1, H, W) bool, where the unit fires

    def scalars(self) -> dict[str, float]:
        had = self.survival[0, :, 0]
        values = {self.right: float(self.answers[0])}
        for family, at in self._families().items():
            mean = self.survival[at].mean(dim=0)  # over strengths: (Y, 7)
            values[f"{self.right}/{family}"] = float(self.answers[at].mean())
            values[f"rank_correlation/{family}"] = float(mean[:, 6].mean())
            if had.any():
                values[f"detectors_kept/{family}"] = float(mean[:, 2].sum() / had.sum())
                values[f"iou_kept/{family}"] = float((mean[:, 5] * had).sum() / had.sum())
        return values

    def _families(self) -> dict[str, list[int]]:
        """The numbers of each family's disturbances, weakest first."""
        return {name: list(at) for name, at in groupby(range(1, len(self.families)), self.families.__getitem__)}

    def _name(self, number: int) -> str:
        return f"{self.families[number]} {self.strengths[number]}" if number else "original"

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        rows: list[list[Cell]] = [
            [layer, self._name(d), float(self.answers[d]), *map(int, row[:5]), *row[5:]]
            for y, layer in enumerate(self.layers)
            for d, row in enumerate(self.survival[:, y].tolist())
        ]
        return {"survival": (["layer", "images", self.right, *SURVIVAL], rows)}

    def pictures(self) -> dict[str, Tensor]:
        makers: dict[str, Callable[[], Tensor]] = {}
        for suffix, families in self._pages():
            shape: dict[str, Any] = {"rows": 4, "columns": len(families), "height": 1.7}
            makers[f"curves{suffix}"] = partial(chart, self._curves, families, sharex="col", sharey="row", **shape)
            if self.rows:
                makers[f"units{suffix}"] = partial(self._units, families)
        return drawn("picture", makers)

    def _units(self, families: dict[str, list[int]]) -> Tensor:
        at = [0, *(d for chosen in families.values() for d in chosen)]
        return grid(masked(self.images[:, at], self.masks[:, at]), self.rows, [self._name(d) for d in at])

    @classmethod
    def compared(cls, results: dict[str, Self]) -> dict[str, tuple[Tensor, str]]:
        first = next(iter(results.values()))
        fitting = {name: each for name, each in results.items() if each._families() == first._families()}
        families = first._families()

        def draw(axes: Any) -> None:
            for column, (family, at) in enumerate(families.items()):
                ticks = [first.strengths[d] for d in (0, *at)]
                for row, kept in enumerate((lambda r: r.answers, lambda r: r.survival[..., 6].mean(dim=1))):
                    curves = {name: kept(each)[[0, *at]].tolist() for name, each in fitting.items()}
                    lines(axes[row, column], curves, ticks, palette(len(curves)))
                axes[0, column].set_title(family)
            axes[0, 0].set_ylabel(first.right)
            axes[1, 0].set_ylabel("rank correlation")
            axes[0, 0].legend()

        picture = chart(draw, rows=2, columns=len(families), sharex="col", sharey="row")
        text = "Right answers, and the rank correlation of activations (mean over layers), over the strength."
        return {"compared": (picture, text)}

    def _pages(self) -> Iterator[tuple[str, dict[str, list[int]]]]:
        families = list(self._families().items())
        for page, start in enumerate(range(0, len(families), PAGE), 1):
            yield f"_{page}" if page > 1 else "", dict(families[start : start + PAGE])

    def _curves(self, axes: Any, families: dict[str, list[int]]) -> None:
        had = self.survival[0, :, 0]
        # a layer without a detector has none to keep: NaN leaves a gap
        kept = self.survival[..., 2] / had
        iou = self.survival[..., 5].masked_fill(had == 0, torch.nan)
        measures = {"detectors kept": kept, "IoU kept": iou, "rank correlation": self.survival[..., 6]}
        for column, (family, disturbed) in zip(axes.T, families.items(), strict=True):
            at = [0, *disturbed]
            ticks = [self.strengths[d] for d in at]
            lines(column[0], {"all": self.answers[at].tolist()}, ticks, ["black"])
            column[0].set_title(family.replace("_", " "))
            for row, measured in zip(column[1:], measures.values(), strict=True):
                by_layer = dict(zip(self.layers, measured[at].T.tolist(), strict=True))
                lines(row, by_layer, ticks, shades(len(self.layers)))
        for row, name in zip(axes, (self.right, *measures), strict=True):
            row[0].set_ylabel(name)
            row[0].set_ylim(min(0.0, row[0].get_ylim()[0]), max(1.05, row[0].get_ylim()[1]))
        key = {"handles": axes[1, 0].get_lines(), "ncols": min(4, len(self.layers)), "frameon": False}
        axes[0, 0].figure.legend(loc="outside lower center", **key)

    def captions(self) -> dict[str, str]:
        had = ", ".join(f"{n:.0f} at {name}" for n, name in zip(self.survival[0, :, 0], self.layers, strict=True))
        answer = "the image's class" if self.right == "accuracy" else "the same answer as undisturbed"
        curves = (
            f"{self.count} images disturbed more and more (0: not at all), their labels moved alike; thresholds stay "
            f"those of the undisturbed images. {self.right.capitalize()}: {answer}. Kept are detectors ({had}) that "
            "still detect their concept: where they are few the curve says little. IoU kept: with that concept, over "
            "what it was. Rank correlation: whether the same images still excite a unit most. Noise also brightens, by "
            f"half its strength; shuffling breaks whatever is larger than a patch.{omissions(self.left_out)}"
        )
        units = (
            "The best units of each layer, with their concept and IoU, in the images in which they peak: original and "
            "disturbed, lit where the unit fires. Robust is what stays lit on the same thing."
        )
        both = {"curves": curves, **({"units": units} if self.rows else {})}
        return {name + suffix: text for suffix, _ in self._pages() for name, text in both.items()}


@dataclass(kw_only=True)
class RobustnessPlugin(Plugin):
    """What disturbed images leave of the network's answers and detectors (seed 003)."""

    shares: ClassVar[bool] = True

    every_n_epochs: int = setting(5, "it looks at all images once for each disturbance", least=1)
    layers: Sequence[str] = setting([], "none: up to 4, evenly spread over the computation (docs/layers.md)")
    concepts: ConceptData | None = setting(
        None, "the data set's own (shapes), else its classes; or {_target_: interp.dissection.Broden, root: FOLDER}"
    )
    disturbances: Sequence[str] = setting(
        ["noise", "rotation", "patches"],
        "also fgsm, pgd, corruptions (the extra `corruptions`, 435 MB) or one of these by name",
    )
    images: int | None = setting(200, "of the concept data, evenly spread; null: all", least=1)
    quantile: float = setting(0.005, "share of its positions in which a unit fires, before upsampling")
    minimum: float = setting(0.04, "IoU that a detector exceeds")
    shown: int = setting(2, "units of each layer in the picture", least=0)
    top: int = setting(2, "images for each of them", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.disturbances = list(dict.fromkeys(self.disturbances))
        if not self.disturbances:
            raise UserError(f"plugin.{self.name}.disturbances is empty: name one, such as noise")
        disturbances(name for name in self.disturbances if name not in ATTACKS)

    def analyze(self, net: nn.Module, probe: Probe) -> RobustnessResult:
        data = concept_data(probe, self.concepts, self.images)
        layers = [Layer.named(net, probe.images, name) for name in self.layers] or spread_layers(net, probe.images[:8])
        self.layers = [layer.name for layer in layers]
        options: dict[str, Any] = {name: getattr(self, name) for name in ("quantile", "minimum", "batch_size")}
        clean = self._see(net, data, layers, options)
        left_out = broken_units(clean.found[layer.name] for layer in layers)
        options["thresholds"] = {name: found.thresholds for name, found in clean.found.items()}
        classes = targets_of(probe, data, self.concepts)
        targets = clean.answers if classes is None else classes
        disturbed = {f"{family} {strength}": (family, strength, part)
                     for family, strength, part in self._disturbed(net, data, targets)}  # fmt: skip
        makers = {name: partial(self._see, net, part, layers, options) for name, (*_, part) in disturbed.items()}
        seen = [clean, *(found := each_of(left_out, makers)).values()]
        go_on_alone()
        families, strengths, parts = zip(("", "0", data), *(disturbed[name] for name in found), strict=True)
        sheets = attempt(left_out, "pictures of units", partial(self._sheets, net, parts, layers, clean))
        survived = [torch.stack([survival(clean, one, name) for name in self.layers]) for one in seen]
        return RobustnessResult(
            tuple(self.layers), families, strengths, right="agreement" if classes is None else "accuracy",
            answers=torch.stack([(one.answers == targets).double().mean() for one in seen]),
            survival=torch.stack(survived), count=len(data), rows=self._rows(layers, clean) if sheets else (),
            images=sheets[0] if sheets else torch.zeros(0, dtype=torch.uint8),
            masks=sheets[1] if sheets else torch.zeros(0, dtype=torch.bool), left_out=tuple(left_out),
        )  # fmt: skip

    def _see(self, net: nn.Module, data: ConceptData, layers: Sequence[Layer], options: dict[str, Any]) -> Seen:
        """What the network makes of `data`; raises ValueError where it has no answer to an image."""
        found = see(net, data, layers, self.top, **options)
        all_answered(found.answers)
        return found

    def _disturbed(
        self, net: nn.Module, data: ConceptData, targets: Tensor
    ) -> Iterator[tuple[str, str, Disturbed | Attacked]]:
        for name in self.disturbances:
            if name in ATTACKS:
                for radius in RADII:
                    yield name, str(radius), Attacked(data, net, targets, radius, ATTACKS[name], self.batch_size)
            else:
                for kind in disturbances([name]):
                    yield kind.family, kind.strength, Disturbed(data, kind, self.seed)

    def _sheets(
        self, net: nn.Module, parts: Sequence[ConceptData], layers: Sequence[Layer], clean: Seen
    ) -> tuple[Tensor, Tensor]:
        """Those of all data: (S, D + 1, C, H, W) uint8 and (S, D + 1, H, W) bool."""
        images, masks = zip(*(self._sheet(net, data, layers, clean) for data in parts), strict=True)
        return torch.stack(images, dim=1), torch.stack(masks, dim=1)

    def _sheet(self, net: nn.Module, data: ConceptData, layers: Sequence[Layer], clean: Seen) -> tuple[Tensor, Tensor]:
        """Images (S, C, H, W) uint8 of `data` in which the leading units peak undisturbed, and where these fire."""
        parts = []
        for layer in layers:
            found = clean.found[layer.name]
            units = found.leading(self.shown)
            tops = clean.tops[layer.name].images[units]
            parts.append(evidence(net, data, layer, units, tops, found.thresholds, self.batch_size))
        images, fires = (torch.cat([part[at].flatten(0, 1) for part in parts]) for at in (0, 1))
        return images, fires

    def _rows(self, layers: Sequence[Layer], clean: Seen) -> tuple[str, ...]:
        rows = []
        for layer in layers:
            found = clean.found[layer.name]
            for unit in found.leading(self.shown).tolist():
                rows.append(f"{layer.name} {unit}: {found.concepts[found.best[unit]]} {found.best_iou[unit]:.2f}")
                rows += [""] * (clean.tops[layer.name].images.shape[1] - 1)
        return tuple(rows)
