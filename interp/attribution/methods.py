"""Attributions at the input by name. captum computes them; here they are batched, and what does not fit is said."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from interp.attribution.activations import LAYERS, NONLINEAR, Separate, unseen
from interp.attribution.saliency import mean_colour
from interp.attribution.tail import Tail
from interp.errors import UserError, unknown
from interp.network.layers import Layer, choose_layer
from interp.parts import reason
from interp.result import finite
from interp.vectors import fraction

RELU = frozenset(["relu"])


@dataclass(frozen=True)
class Task:
    """What is to be explained: the logits `targets` (B,) int64 of `images` (B, C, H, W) in [0, 1]."""

    images: Tensor
    targets: Tensor
    blank: Tensor  # (C, 1, 1) or (1, 1, 1): an image without content, for methods that compare with one
    layer: str | Layer | None = None  # of Grad-CAM; None: as `choose_layer` does
    steps: int = 32  # of integrated gradients
    samples: int = 16  # of SmoothGrad
    noise: float = 0.15  # of SmoothGrad: standard deviation, in brightness
    batch_size: int = 64  # forward passes at once, which bound the memory

    def parts(self) -> list["Task"]:
        """The same for `batch_size` images at a time."""
        pairs = zip(self.images.split(self.batch_size), self.targets.split(self.batch_size), strict=True)
        return [replace(self, images=images, targets=targets) for images, targets in pairs]

    @property
    def blanks(self) -> Tensor:
        """(B, C, H, W) the blank image for each."""
        return self.blank.to(self.images).expand_as(self.images)


def attribute(net: nn.Module, method: str, task: Task) -> Tensor:
    """Attributions (B, C, H, W), or (B, 1, H, W) of Grad-CAM, of one of the `METHODS`; `net` in eval mode.

    In logits per unit of brightness (gradients) or in logits (the others). Raises UserError for another name and
    ValueError for NaN; ask `why_not` first whether the method fits the network.
    """
    if method not in METHODS:
        raise unknown("attribution method", method, METHODS)
    subject, task = _subject(net, method, task.images), settled(net, method, task)
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.filterwarnings("ignore", "Setting (forward, )?backward hooks")
        maps = torch.cat([METHODS[method](subject, part).detach() for part in task.parts()])
    return finite(maps, "its maps")


def settled(net: nn.Module, method: str, task: Task) -> Task:
    """The task with a layer found, where the method looks at one: the same for all batches and for altered networks."""
    if method != "grad_cam" or isinstance(task.layer, Layer):
        return task
    return replace(task, layer=choose_layer(net, task.images[:2], task.layer, signed=True))


def _subject(net: nn.Module, method: str, images: Tensor) -> nn.Module:
    """What the method looks at: a copy where it puts hooks on activations."""
    if method not in HOOKING:
        return net
    guided = method == "guided_backprop"
    return Separate(net, images[:1], RELU if guided else LAYERS, clamped=guided)


def why_not(net: nn.Module, method: str, images: Tensor, layer: str | None = None) -> str:
    """Why the method would not mean what its name says on this network, '' where it fits. Looks at up to six images.

    DeepLIFT's maps must add up (`falls_short`). Raises UserError for a `layer` that does not exist or has no grid.
    """
    if (said := unfit(net, method, images, layer)) or method != "deep_lift":
        return said
    predicted = net(images[:6]).detach().argmax(dim=1)
    blank = mean_colour(net, images)
    task = Task(images[:6], predicted, images.new_zeros(1, 1, 1) if blank is None else blank)
    tasks = (task, replace(task, targets=0 * predicted))
    try:
        return next(filter(None, (falls_short(net, method, t, attribute(net, method, t)) for t in tasks)), "")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # captum's, or of a network that cannot be copied
        return reason(error)


def unfit(net: nn.Module, method: str, images: Tensor, layer: str | Layer | None = None) -> str:
    """`why_not` as far as the network's layers tell, without a map. Looks at two images."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    two_images = images[:2]
    if method in HOOKING:
        guided = method == "guided_backprop"
        kinds, among = ((nn.ReLU,), RELU) if guided else (tuple(SUPPORTED_NON_LINEAR), NONLINEAR)
        try:
            return unseen(_subject(net, method, two_images), two_images, kinds, among)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # other activations for the second image, or a network that cannot be copied
            return reason(error)
    if method == "grad_cam" and not isinstance(layer, Layer):
        try:
            choose_layer(net, two_images, layer, signed=True)
        except UserError:
            if layer:
                raise
            return "no layer has a grid of positions"
    return ""


def falls_short(net: nn.Module, method: str, task: Task, found: Tensor) -> str:
    """Why maps (B, C, H, W) are not what the method promises, '' where they add up to what they should or need not.

    DeepLIFT's by rule: what it does not know (group and layer norm, products, functions of one's own) is lost. Those of
    integrated gradients converge with the steps, except where the logit jumps.
    """
    if method not in COMPLETE or (error := completeness_error(net, task, found)) <= COMPLETE[method]:
        return ""
    steps = f" in {task.steps} steps" * (method == "integrated_gradients")
    return f"its maps miss the difference of the logits that they should add up to by {error:.0%}{steps}"


@torch.no_grad()
def completeness_error(net: nn.Module, task: Task, found: Tensor) -> float:
    """How far attributions (B, C, H, W) are from adding up to logit(image) - logit(blank), relative to that; median."""

    def chosen(images: Tensor) -> Tensor:
        batches = replace(task, images=images).parts()
        return torch.cat([net(p.images).float().gather(1, p.targets[:, None])[:, 0] for p in batches])

    sums, difference = found.float().flatten(1).sum(dim=1), chosen(task.images) - chosen(task.blanks)
    rounding = 1e-4 * found.float().abs().flatten(1).sum(dim=1)  # where they cancel each other, that is what is left
    return float(fraction((sums - difference).abs(), difference.abs().maximum(rounding)).median())


def _gradient(net: nn.Module, task: Task) -> Tensor:
    from captum.attr import Saliency

    return Saliency(net).attribute(_leaf(task), task.targets, abs=False)


def _integrated_gradients(net: nn.Module, task: Task) -> Tensor:
    from captum.attr import IntegratedGradients

    size = {"n_steps": task.steps, "internal_batch_size": max(task.batch_size, len(task.images))}
    return IntegratedGradients(net).attribute(_leaf(task), task.blanks, task.targets, **size)


def _smoothgrad(net: nn.Module, task: Task) -> Tensor:
    from captum.attr import NoiseTunnel, Saliency

    noise = {"nt_type": "smoothgrad", "nt_samples": task.samples, "nt_samples_batch_size": 1, "stdevs": task.noise}
    return NoiseTunnel(Saliency(net)).attribute(_leaf(task), target=task.targets, abs=False, **noise)


def _grad_cam(net: nn.Module, task: Task) -> Tensor:
    """As captum's LayerGradCam, which knows maps with channels first alone; also of tokens on their grid."""
    assert isinstance(task.layer, Layer)  # as `settled` leaves it
    tail = Tail(net, task.images, task.layer)
    weights = tail.pull(task.targets[None])[0].mean(dim=(2, 3), keepdim=True)
    maps = (weights * tail.activations).sum(dim=1, keepdim=True).relu()
    return nn.functional.interpolate(maps, tuple(task.images.shape[2:]), mode="bilinear")


def _guided_backprop(net: nn.Module, task: Task) -> Tensor:
    from captum.attr import GuidedBackprop

    return GuidedBackprop(net).attribute(_leaf(task), task.targets)


def _deep_lift(net: nn.Module, task: Task) -> Tensor:
    from captum.attr import DeepLift

    return DeepLift(net).attribute(_leaf(task), task.blanks, task.targets)


def _occlusion(net: nn.Module, task: Task) -> Tensor:
    from captum.attr import Occlusion

    channels, height, width = task.images.shape[1:]
    window, stride = occlusion_window(height, width)
    sliding = {"sliding_window_shapes": (channels, *window), "strides": (channels, *stride)}
    return Occlusion(net).attribute(task.images, baselines=task.blanks, target=task.targets, **sliding)


def occlusion_window(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Window and stride in pixels: a quarter of each side, moved by half of that."""
    window = max(1, height // 4), max(1, width // 4)
    return window, (max(1, window[0] // 2), max(1, window[1] // 2))


def _leaf(task: Task) -> Tensor:
    """A copy: captum asks for its gradient, and leaves that so after an exception."""
    return task.images.clone().requires_grad_()


METHODS: dict[str, Callable[[nn.Module, Task], Tensor]] = {
    "gradient": _gradient,
    "integrated_gradients": _integrated_gradients,
    "smoothgrad": _smoothgrad,
    "grad_cam": _grad_cam,
    "guided_backprop": _guided_backprop,
    "deep_lift": _deep_lift,
    "occlusion": _occlusion,
}
COMPLETE = {"deep_lift": 0.1, "integrated_gradients": 0.5}  # adding up is what they promise; the miss that is too much
HOOKING = ("guided_backprop", "deep_lift")  # leave traces on the network while they run
SENSITIVITIES = ("gradient", "smoothgrad", "guided_backprop")  # what matters is the size; the others push up or down
