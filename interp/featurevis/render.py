"""The optimisation loop: all images, layers and objectives of a study at once."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from interp.errors import UserError
from interp.featurevis.canvas import Canvas
from interp.featurevis.gradients import RedirectedRelu
from interp.featurevis.progress import GLANCE, SATURATED, Gains, steps_with_bar
from interp.featurevis.scene import Parts, Scene
from interp.featurevis.transforms import NONE, Transforms, for_size
from interp.network.modules import frozen

KEPT = 0.25  # of the detail in each direction: what of the objective it keeps goes with what other networks see


@dataclass(frozen=True)
class Rendered:
    """Pictures and how far they got."""

    images: Tensor  # (B, C, H, W) in [0, 1]
    values: Tensor  # (B,) the objectives of the images themselves, without transforms
    start: Tensor  # (B,) the same before the first step
    history: Tensor  # (steps, B) the objectives under the transforms of each step that was done
    film: Tensor  # (T, B, C, H, W) the images after as many steps as each threshold says
    steps: Tensor  # (B,) int64, those that moved each image: fewer than were asked for where its objective saturated
    influence: Tensor  # (B, H, W) sum over the steps of |gradient at the pixel|, the largest 1: a transparency (MACO)
    canvas: Canvas  # where another render may go on


def render(
    net: nn.Module,
    canvas: Canvas,
    objective: Parts,
    *,
    steps: int = 128,
    learning_rate: float | None = None,
    transforms: Transforms | None = None,
    thresholds: Collection[int] = (),
    seed: int = 0,
    reference: Tensor | None = None,
    groups: Tensor | None = None,
    redirect: int = 16,
    fold: bool = True,
    saturation: float = SATURATED,
    progress: Callable[[int], object] | None = None,
) -> Rendered:
    """Move `canvas` towards the largest `objective` in `steps` steps; `net` and `canvas` are left as they were.

    `objective` holds for all images, or is a list of (objective, count) for as many images in order. `transforms`
    default to the set for the size. Images of one group in `groups` (B,) int64 are moved alike, as is its image in
    `reference` (R, C, H, W) for R groups; without groups each is its own. ReLUs are redirected for at most `redirect`
    steps, as long as an image needs it; `fold` batch norms. An image whose objective, without transforms, gains less in
    `GLANCE` steps than the share `saturation` of its whole gain stays as it is (0: none does). `progress` is called
    with each step done; on a terminal a render of more than a few seconds shows a bar. Raises UserError for objectives
    that do not fit or do not depend on the image, ValueError for one that is NaN.
    """
    with ExitStack() as stack:
        stack.enter_context(frozen(net))
        canvas = replace(canvas, parameters=[p.detach().clone().requires_grad_() for p in canvas.parameters])
        scene = stack.enter_context(Scene.open(net, objective, canvas(), reference, groups, fold))
        transforms = transforms or for_size(canvas.size)
        gains = Gains(canvas, _values(scene, canvas, transforms, "at the start"), saturation)
        moves = _moves(scene, canvas, transforms, gains, steps, learning_rate or canvas.rate, seed, redirect)
        return _followed(scene, canvas, transforms, gains, moves, thresholds, progress)


def evaluate(net: nn.Module, images: Tensor, objective: Parts, **scene: Tensor) -> Tensor:
    """The `objective` (B,) of `images` (B, C, H, W) as they are; `scene` may hold `reference` and `groups`."""
    with frozen(net), torch.no_grad(), Scene.open(net, objective, images, fold=False, **scene) as opened:
        return opened.values(images)


@torch.no_grad()
def kept(net: nn.Module, images: Tensor, objective: Parts, start: Tensor, **scene: Tensor) -> Tensor:
    """(B,) what `images` (B, C, H, W) keep of their gain over `start` (B,) when a quarter of their detail is left.

    (objective of the image made four times smaller and as large again - start) / (objective of the image - start): 1
    for a picture whose large shapes bring everything about, about 0 where its finest detail does; 0 where nothing was
    gained. `scene` as for `evaluate`.
    """
    size = (images.shape[-2], images.shape[-1])
    small = [max(1, round(side * KEPT)) for side in size]
    blurred = interpolate(
        interpolate(images, small, mode="bilinear", antialias=True), size, mode="bilinear", align_corners=False
    )
    whole, left = (evaluate(net, seen, objective, **scene) - start for seen in (images, blurred))
    return torch.where(whole > 0, left / torch.where(whole > 0, whole, 1.0), 0.0)


def _moves(
    scene: Scene,
    canvas: Canvas,
    transforms: Transforms,
    gains: Gains,
    steps: int,
    rate: float,
    seed: int,
    redirect: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Move the canvas; after each step the objectives (B,) before it and their gradient (B, C, H, W) at the images."""
    maps = transforms.draw(steps, scene.group_count, canvas.size, seed)
    noise = torch.Generator(canvas.parameters[0].device).manual_seed(seed)
    relus = RedirectedRelu()
    optimizer = type(canvas).optimizer(canvas.parameters, lr=rate)
    for step in steps_with_bar(steps):
        redirected = step < redirect and relus.useful
        if redirected:
            relus.useful = False  # until the backward pass needs it
        images = canvas()
        values = scene.values(images, transforms, maps[step], noise, relus if redirected else nullcontext())
        if not values.requires_grad:
            raise UserError(f"{scene.name} does not depend on the image: choose another layer or objective")
        at_images, *gradients = torch.autograd.grad(-values.sum(), [images, *canvas.parameters])
        for parameter, gradient in zip(canvas.parameters, gradients, strict=True):
            parameter.grad = gradient
        with gains.still(canvas):
            optimizer.step()
        yield values.detach(), at_images


def _followed(
    scene: Scene,
    canvas: Canvas,
    transforms: Transforms,
    gains: Gains,
    moves: Iterator[tuple[Tensor, Tensor]],
    thresholds: Collection[int],
    progress: Callable[[int], object] | None,
) -> Rendered:
    """What the `moves` of the canvas come to."""
    film, history, influence = dict[int, Tensor](), list[Tensor](), torch.zeros_like(_images(canvas)[:, 0])
    for done, (values, at_images) in enumerate(moves, start=1):
        history.append(values)
        influence += at_images.abs().sum(dim=1)
        if done in thresholds:
            film[done] = _images(canvas)
        if progress is not None:
            progress(done)
        if gains.saturation and done % GLANCE == 0:
            gains.glance(_values(scene, canvas, transforms, f"after {done} steps"))
            if not gains.moving.any():
                break
    values, images = _values(scene, canvas, transforms, "at the end"), _images(canvas)
    most = influence.amax(dim=(1, 2), keepdim=True)
    frames = [film.get(threshold, images) for threshold in sorted(thresholds) if threshold > 0]
    return Rendered(
        images=images,
        values=values,
        start=gains.start,
        history=torch.stack(history) if history else values.new_zeros(0, len(values)),
        film=torch.stack(frames) if frames else images.new_zeros(0, *images.shape),
        steps=gains.steps,
        influence=influence / torch.where(most > 0, most, 1.0),
        canvas=replace(canvas, parameters=[p.detach() for p in canvas.parameters]),
    )


@torch.no_grad()
def _images(canvas: Canvas) -> Tensor:
    return canvas().detach()


def _values(scene: Scene, canvas: Canvas, transforms: Transforms, when: str) -> Tensor:
    """The objectives (B,) of the images as they are; raises ValueError where one is not finite."""
    with torch.no_grad():
        values = scene.values(_images(canvas), replace(NONE, feed=transforms.feed))
    bad = (~values.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"{scene.name} is NaN or infinite {when} for images {bad} of {len(values)}")
    return values
