"""Whether an attribution map means anything: it must follow the class, the weights and the network's answer.

A map here is (B, H, W): attributions summed over channels. For sensitivities its size is what ranks pixels, for the
others its sign counts (`ranking`).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from interp.attribution.curves import Chance, areas, logits
from interp.attribution.methods import COMPLETE, SENSITIVITIES, Task, attribute, completeness_error, settled
from interp.attribution.random_copies import cascade, some, tells_apart
from interp.attribution.saliency import spearman
from interp.parts import attempt

# Each check with its limit: failed above it or, where it is negative, below it without the sign; and what that means.
LIMITS = {
    "class_correlation": (0.5, "much the same for another class (so it shows the image, not the answer)"),
    "weights_correlation": (0.5, "much the same with random weights (so it does not show what was learnt)"),
    "deletion_gain": (-0.02, "no better than chance at finding the pixels whose loss lowers the answer"),
    "deletion_z": (-2.0, "no better than random orders of the pixels at finding those whose loss lowers the answer"),
    "insertion_gain": (-0.02, "no better than chance at finding the pixels that are enough for the answer"),
    "insertion_z": (-2.0, "no better than random orders of the pixels at finding those that are enough for the answer"),
    "change_under_noise": (1.0, "unstable: an invisible change of the image changes it by more than itself"),
    "completeness_error": (0.1, "not adding up to the difference of the logits, where more steps may help"),
}
SIGNIFICANCE = {"deletion_gain": "deletion_z", "insertion_gain": "insertion_z"}  # judged instead, where it is known


def map_checks(
    net: nn.Module,
    method: str,
    task: Task,
    chance: Chance,
    *,
    weights: bool = True,
    left_out: list[str] | None = None,
) -> dict[str, float]:
    """The checks of one method's maps that can be made, by name; `weights` asks for the dearest of them.

    `left_out` gets those that fail, with the reason.

    - `class_correlation`: Spearman of |map| for the target with that for another class
    - `weights_correlation`: the same with maps of the network with random weights, mean over a cascade
    - `deletion_gain`, `insertion_gain`: how much faster than in a random order of pixels the target's probability falls
      when the best are taken away, and rises when they come first; area between the curves, 0 is chance
    - `deletion_z`, `insertion_z`: these in standard errors of a random order; below 2 chance would do as well
    - `change_under_noise`: largest relative change of the map when the image changes by 0.02
    - `completeness_error`, of integrated gradients and DeepLIFT: |sum - difference of logits| / |difference|

    Draws random numbers from torch's global stream.
    """
    task = settled(net, method, task)
    attributions = attribute(net, method, task)
    maps = attributions.sum(dim=1)
    gains = chance.gains(*areas(net, task, ranking(method, maps), chance.ends))
    checks: dict[str, Callable[[], float]] = {
        "class_correlation": lambda: class_correlation(net, method, task, maps),
        "weights_correlation": lambda: weights_correlation(net, method, task, maps),
        **{name: partial(gains.__getitem__, name) for name in gains},
        "change_under_noise": lambda: change_under_noise(net, method, task),
        "completeness_error": lambda: completeness_error(net, task, attributions),
    }
    wanted = {"weights_correlation": weights, "completeness_error": method in COMPLETE}
    values = {
        name: attempt(
            [] if left_out is None else left_out, f"{method}'s {name.replace('_', ' ')}", partial(_known, check)
        )
        for name, check in checks.items()
        if wanted.get(name, True)
    }
    return {name: value for name, value in values.items() if value is not None}


def _known(check: Callable[[], float]) -> float:
    if not math.isfinite(value := check()):
        raise ValueError(f"it is {value}")
    return value


def similarity(first: Tensor, second: Tensor) -> float:
    """Mean Spearman correlation of the sizes of two sets of maps (B, H, W)."""
    return float(spearman(first.abs().flatten(1), second.abs().flatten(1)).mean())


@torch.no_grad()
def class_correlation(net: nn.Module, method: str, task: Task, maps: Tensor) -> float:
    """Similarity of `maps` to those for another class, for each image the likeliest one that is not its target.

    Raises ValueError where there is one class.
    """
    of_classes = logits(net, task)
    if of_classes.shape[1] < 2:
        raise ValueError("there is no other class")
    other = of_classes.scatter(1, task.targets[:, None], -torch.inf).argmax(dim=1)
    return similarity(maps, attribute(net, method, replace(task, targets=other)).sum(dim=1))


@torch.no_grad()
def weights_correlation(net: nn.Module, method: str, task: Task, maps: Tensor) -> float:
    """Similarity of `maps` to those of the network with random weights, mean over a cascade (Adebayo et al. 2018).

    Raises ValueError where random weights leave no difference between the images.
    """
    similarities = []
    for copy in cascade(net, task.images):
        if not tells_apart(copy(some(task.images))):
            raise ValueError("random weights are no control: with them the answer is the same for all images")
        similarities.append(similarity(maps, attribute(copy, method, task).sum(dim=1)))
    return sum(similarities) / len(similarities)


def ranking(method: str, maps: Tensor) -> Tensor:
    """What ranks the pixels of `maps`: the size of sensitivities, the value of contributions."""
    return maps.abs() if method in SENSITIVITIES else maps


def change_under_noise(net: nn.Module, method: str, task: Task) -> float:
    """captum's max-sensitivity (Yeh et al. 2019): |map of the disturbed image - map| / |map|, worst of 3, mean."""
    from captum.metrics import sensitivity_max

    def explain(images: tuple[Tensor, ...], target: Tensor) -> tuple[Tensor]:
        # As a tuple: captum takes the norm of a lone tensor over its batch.
        return (attribute(net, method, replace(task, images=images[0].detach(), targets=target)),)

    options = {"perturb_radius": 0.02, "n_perturb_samples": 3, "max_examples_per_batch": len(task.images)}
    return float(sensitivity_max(explain, task.images, target=task.targets, **options).mean())


def failed(check: str, value: float) -> bool:
    """Whether the `value` of a check is a bad one.

    >>> failed("class_correlation", 0.8), failed("deletion_gain", 0.3), failed("deletion_gain", -0.2)
    (True, False, True)
    """
    limit = LIMITS[check][0]
    return value > limit if limit > 0 else value < -limit


def verdict(checks: dict[str, dict[str, float]]) -> str:
    """Sentences on which methods fail which of their `checks` (by method, then by check), and what that means."""
    sentences = []
    for check, (_, meaning) in LIMITS.items():
        better = SIGNIFICANCE.get(check)
        values = {method: of[check] for method, of in checks.items() if check in of and better not in of}
        bad = {method: value for method, value in values.items() if failed(check, value)}
        if 2 < len(bad) == len(values):
            sentences.append(f"every method ({min(bad.values()):.2f} to {max(bad.values()):.2f}): {meaning}.")
        elif bad:
            sentences.append(f"{', '.join(f'{method} ({value:.2f})' for method, value in bad.items())}: {meaning}.")
    return " ".join(["Failed checks:", *sentences] if sentences else ["All checks are passed."])
