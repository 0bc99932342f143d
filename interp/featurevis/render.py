"""The optimisation loop: all images, layers and objectives of a study at once."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.featurevis.canvas import Canvas
from interp.featurevis.gradients import RedirectedRelu
from interp.featurevis.progress import steps_with_bar
from interp.featurevis.scene import Parts, Scene
from interp.featurevis.transforms import NONE, Transforms, for_size
from interp.network.modules import frozen


@dataclass(frozen=True)
class Rendered:
    """Pictures and how far they got."""

    images: Tensor  # (B, C, H, W) in [0, 1]
    values: Tensor  # (B,) the objectives of the images themselves, without transforms
    start: Tensor  # (B,) the same before the first step
    history: Tensor  # (steps, B) the objectives under the transforms of each step
    film: Tensor  # (T, B, C, H, W) the images after as many steps as each threshold says
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
    progress: Callable[[int], object] | None = None,
) -> Rendered:
    """Move `canvas` towards the largest `objective` in `steps` steps; `net` and `canvas` are left as they were.

    `objective` holds for all images, or is a list of (objective, count) for as many images in order. `transforms`
    default to the set for the size. Images of one group in `groups` (B,) int64 are moved alike, as is its image in
    `reference` (R, C, H, W) for R groups; without groups each is its own. ReLUs are redirected for at most `redirect`
    steps, as long as an image needs it; `fold` batch norms. `progress` is called with each step done; on a terminal a
    render of more than a few seconds shows a bar. Raises UserError for objectives that do not fit or do not depend on
    the image, ValueError for one that is NaN.
    """
    with ExitStack() as stack:
        stack.enter_context(frozen(net))
        canvas = replace(canvas, parameters=[p.detach().clone().requires_grad_() for p in canvas.parameters])
        scene = stack.enter_context(Scene.open(net, objective, canvas(), reference, groups, fold))
        transforms = transforms or for_size(canvas.size)
        moves = _moves(scene, canvas, transforms, steps, learning_rate or canvas.rate, seed, redirect)
        return _followed(scene, canvas, transforms, moves, thresholds, progress)


def evaluate(net: nn.Module, images: Tensor, objective: Parts, **scene: Tensor) -> Tensor:
    """The `objective` (B,) of `images` (B, C, H, W) as they are; `scene` may hold `reference` and `groups`."""
    with frozen(net), torch.no_grad(), Scene.open(net, objective, images, fold=False, **scene) as opened:
        return opened.values(images)


def _moves(
    scene: Scene, canvas: Canvas, transforms: Transforms, steps: int, rate: float, seed: int, redirect: int
) -> Iterator[Tensor]:
    """Move the canvas; after each step the objectives (B,) before it."""
    maps = transforms.draw(steps, scene.group_count, canvas.size, seed)
    noise = torch.Generator(canvas.parameters[0].device).manual_seed(seed)
    relus = RedirectedRelu()
    optimizer = type(canvas).optimizer(canvas.parameters, lr=rate)
    for step in steps_with_bar(steps):
        redirected = step < redirect and relus.useful
        if redirected:
            relus.useful = False  # until the backward pass needs it
        values = scene.values(canvas(), transforms, maps[step], noise, relus if redirected else nullcontext())
        if not values.requires_grad:
            raise UserError(f"{scene.name} does not depend on the image: choose another layer or objective")
        gradients = torch.autograd.grad(-values.sum(), canvas.parameters)
        for parameter, gradient in zip(canvas.parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        yield values.detach()


def _followed(
    scene: Scene,
    canvas: Canvas,
    transforms: Transforms,
    moves: Iterator[Tensor],
    thresholds: Collection[int],
    progress: Callable[[int], object] | None,
) -> Rendered:
    """What the `moves` of the canvas come to."""
    start, film, history = _values(scene, canvas, transforms, "at the start"), [], []
    for done, values in enumerate(moves, start=1):
        history.append(values)
        if done in thresholds:
            film.append(_images(canvas))
        if progress is not None:
            progress(done)
    values, images = _values(scene, canvas, transforms, "at the end"), _images(canvas)
    return Rendered(
        images=images,
        values=values,
        start=start,
        history=torch.stack(history) if history else values.new_zeros(0, len(values)),
        film=torch.stack(film) if film else images.new_zeros(0, *images.shape),
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
