"""Pictures drawn by us and by Lucent, and what other networks make of them, for featurevis.py."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from math import exp

import torch
from torch import Tensor
from transfer_pairs import Pair, Verdict, high_share, resized

from interp.featurevis import Recipe, evaluate, kept, render
from interp.featurevis.objectives import channel

OURS, OUR_EVERY, PEER_EVERY = "ours", 8, 16  # steps between looks
PEER_SIDE, PEER_RATE = 128, 0.05  # Lucent's own
FITTED = "as the images"
PEER_WAYS = ("128 pixels", FITTED, f"{FITTED}, small moves")


@dataclass
class Look:
    """Pictures after some steps: what they cost, how each judge finds them, and what they are like."""

    way: str
    step: int
    cpu: float
    judged: dict[str, Verdict]
    high: float
    kept: float  # the median, as where nearly nothing was gained it is any number

    def row(self, judge: str) -> list[object]:
        verdict = self.judged[judge]
        top5 = "" if verdict.top5 is None else verdict.top5
        return [self.way, self.step, self.cpu, verdict.top1, top5, verdict.log_probability, self.high, self.kept]

    def figures(self, judge: str) -> dict[str, object]:
        verdict = {name: number and round(number, 3) for name, number in vars(self.judged[judge]).items()}
        whole = {"cpu_s": self.cpu, "high_share": self.high, "kept": self.kept}
        return {"way": self.way, "steps": self.step} | verdict | {name: round(n, 3) for name, n in whole.items()}


def transfer(pair: Pair) -> dict[str, list[Look]]:
    """Looks by who drew, means over seeds; both in turn, so that other processes disturb both alike."""
    ways = ["defaults"] if pair.of_usual_size else PEER_WAYS
    runs: dict[str, list[list[Look]]] = {}
    for seed in pair.seeds:
        runs.setdefault(OURS, []).append(ours(pair, seed))
        for way in ways if find_spec("lucent") else ():
            runs.setdefault(f"Lucent, {way}", []).append(peer(pair, seed, way))
    return {way: means(way, of_way) for way, of_way in runs.items()}


def compared(looks: dict[str, list[Look]], judge: str) -> tuple[list[Look], dict[str, object]]:
    """The looks that tell most, and the ratios."""
    probability = lambda look: exp(look.judged[judge].log_probability)  # noqa: E731
    end = looks[OURS][-1]
    figures: dict[str, object] = {"ours": end.figures(judge)}
    bests = [max(of_way, key=probability) for way, of_way in looks.items() if way != OURS]
    if not bests:
        return [end], figures
    best = max(bests, key=probability)
    then = [look for way, of_way in looks.items() if way != OURS for look in of_way if look.cpu <= end.cpu]
    by_then = max(then, key=probability, default=None)
    same = min((look.cpu for look in looks[OURS] if probability(look) >= probability(best)), default=None)
    figures |= {
        "lucent": best.figures(judge),
        "transfer_ratio": round(probability(end) / probability(best), 3),
        "lucent_at_our_cpu": by_then and by_then.figures(judge),
        "transfer_ratio_at_our_cpu": by_then and round(probability(end) / probability(by_then), 3),
        "speed_to_same_transfer": same and round(best.cpu / same, 2),
    }
    return [end, *([by_then] if by_then else []), *bests], figures


def ours(pair: Pair, seed: int) -> list[Look]:
    """By the default recipe."""
    recipe, shape = Recipe(seed=seed), (len(pair.classes), *pair.images.shape[1:])
    options, marks = recipe.options((shape[2], shape[3])), {0: time.process_time()}
    drawn = render(
        *(pair.net, recipe.begin(pair.images, shape), channel(pair.head, pair.classes)),
        thresholds=(thresholds := range(OUR_EVERY, options["steps"] + 1, OUR_EVERY)),
        progress=lambda step: marks.setdefault(step, time.process_time()),
        **options,
    )
    frames = zip(thresholds, drawn.film, strict=True)  # those after an early end repeat the last one
    return list(
        looked_at(pair, OURS, ((step, marks[step] - marks[0], frame) for step, frame in frames if step in marks))
    )


def peer(pair: Pair, seed: int, way: str) -> list[Look]:
    """By Lucent's `render_vis`, which enlarges to 224 pixels what is smaller unless it is told a size."""
    import numpy
    from lucent.optvis import objectives, param
    from lucent.optvis.render import render_vis

    side = pair.size if FITTED in way else PEER_SIDE
    channels = None if pair.images.shape[1] == 3 else pair.images.shape[1]  # None: three, decorrelated
    numbers = enumerate(pair.classes)
    objective = objectives.Objective.sum(
        [objectives.channel(f"body_{pair.head}", number, batch=at) for at, number in numbers]
    )
    torch.manual_seed(seed)
    numpy.random.seed(seed)  # noqa: NPY002 (Lucent draws its moves from it)
    clock = Clock()
    frames = render_vis(
        pair.net, objective, lambda: param.image(side, batch=len(pair.classes), channels=channels),
        clock.optimizer, small_moves(side / PEER_SIDE) if "small" in way else None,
        thresholds=(thresholds := range(PEER_EVERY, pair.peer_steps + 1, PEER_EVERY)),
        fixed_image_size=None if pair.of_usual_size else pair.size,
        preprocess=False, progress=False, show_image=False,
    )  # fmt: skip
    pair.net.zero_grad()
    for module in pair.net.modules():
        module._forward_hooks.clear()  # Lucent leaves one on each
    pictures = (torch.from_numpy(frame).permute(0, 3, 1, 2) for frame in frames)
    return list(looked_at(pair, f"Lucent, {way}", zip(thresholds, map(clock.until, thresholds), pictures, strict=True)))


class Clock:
    """CPU time at the start and after each step of Lucent's own optimiser."""

    def __init__(self) -> None:
        self.marks = [time.process_time()]

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        adam = torch.optim.Adam(parameters, lr=PEER_RATE)
        adam.register_step_post_hook(lambda *_: self.marks.append(time.process_time()))
        return adam

    def until(self, step: int) -> float:
        return self.marks[step] - self.marks[0]


def small_moves(scale: float) -> list[Callable[[Tensor], Tensor]]:
    """Lucent's standard transforms for a canvas `scale` as wide as 128 pixels; it has no jitter of one pixel."""
    from lucent.optvis import transform

    first, last = ([transform.jitter(pixels)] if pixels > 1 else [] for pixels in (round(8 * scale), round(4 * scale)))
    pad = transform.pad(round(12 * scale), mode="constant", constant_value=0.5)
    return [pad, *first, *transform.standard_transforms[2:4], *last]


def looked_at(pair: Pair, way: str, frames: Iterable[tuple[int, float, Tensor]]) -> Iterable[Look]:
    objective = channel(pair.head, pair.classes)
    grey = evaluate(pair.net, torch.full((len(pair.classes), *pair.images.shape[1:]), 0.5), objective)
    for step, cpu, frame in frames:
        judged = {name: judge(frame, pair.classes) for name, judge in pair.judges.items()}
        seen = resized(frame, pair.size)
        left = float(kept(pair.net, seen, objective, grey).median())
        yield Look(way, step, cpu, judged, high_share(seen), left)


def means(way: str, runs: list[list[Look]]) -> list[Look]:
    """The mean over seeds after each step; a render that ended before stays as it is."""
    steps = sorted({look.step for run in runs for look in run})
    return [_mean(way, step, [[look for look in run if look.step <= step][-1] for run in runs]) for step in steps]


def _mean(way: str, step: int, looks: list[Look]) -> Look:
    mean = statistics.fmean
    verdicts = {judge: Verdict.mean([look.judged[judge] for look in looks]) for judge in looks[0].judged}
    cpu, high, left = (mean(numbers) for numbers in zip(*((k.cpu, k.high, k.kept) for k in looks), strict=True))
    return Look(way, step, cpu, verdicts, high, left)
