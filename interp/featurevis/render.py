"""The optimisation loop: all images, layers and objectives of a study at once."""

from collections.abc import Callable, Collection
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace

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
        run = _Run(scene, canvas, transforms or for_size(canvas.size))
        run.go(steps, learning_rate or canvas.rate, seed, redirect, thresholds, progress)
        return run.result()


def evaluate(net: nn.Module, images: Tensor, objective: Parts, **scene: Tensor) -> Tensor:
    """The `objective` (B,) of `images` (B, C, H, W) as they are; `scene` may hold `reference` and `groups`."""
    with frozen(net), torch.no_grad(), Scene.open(net, objective, images, fold=False, **scene) as opened:
        return opened.values(images)


@dataclass
class _Run:
    scene: Scene
    canvas: Canvas
    transforms: Transforms
    history: list[Tensor] = field(default_factory=list)
    film: list[Tensor] = field(default_factory=list)

    def go(self, steps, rate, seed, redirect, thresholds, progress) -> None:
        self.start = self.value("at the start")
        self.influence = torch.zeros_like(self.images()[:, 0])
        maps = self.transforms.draw(steps, self.scene.group_count, self.canvas.size, seed)
        noise = torch.Generator(self.influence.device).manual_seed(seed)
        relus = RedirectedRelu()
        optimizer = type(self.canvas).optimizer(self.canvas.parameters, lr=rate)
        for step in steps_with_bar(steps):
            self.step(maps[step], noise, relus if step < redirect and relus.useful else None)
            optimizer.step()
            if step + 1 in thresholds:
                self.film.append(self.images())
            if progress is not None:
                progress(step + 1)

    def step(self, maps: Tensor, noise: torch.Generator, relus: RedirectedRelu | None) -> None:
        """Note the values and leave the gradients on the canvas."""
        if relus is not None:
            relus.useful = False  # until the backward pass needs it
        images = self.canvas()
        values = self.scene.values(images, self.transforms, maps, noise, relus or nullcontext())
        if not values.requires_grad:
            raise UserError(f"{self.scene.name} does not depend on the image: choose another layer or objective")
        at_images, *gradients = torch.autograd.grad(-values.sum(), [images, *self.canvas.parameters])
        for parameter, gradient in zip(self.canvas.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.history.append(values.detach())
        self.influence += at_images.abs().sum(dim=1)

    @torch.no_grad()
    def images(self) -> Tensor:
        return self.canvas().detach()

    @torch.no_grad()
    def value(self, when: str) -> Tensor:
        """The objectives (B,) of the images as they are; raises ValueError where one is not finite."""
        values = self.scene.values(self.images(), replace(NONE, feed=self.transforms.feed))
        bad = (~values.isfinite()).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"{self.scene.name} is NaN or infinite {when} for images {bad} of {len(values)}")
        return values

    def result(self) -> Rendered:
        values, images = self.value("at the end"), self.images()
        parameters = [p.detach() for p in self.canvas.parameters]
        most = self.influence.amax(dim=(1, 2), keepdim=True)
        return Rendered(
            images=images,
            values=values,
            start=self.start,
            history=torch.stack(self.history) if self.history else values.new_zeros(0, len(values)),
            film=torch.stack(self.film) if self.film else images.new_zeros(0, *images.shape),
            influence=self.influence / torch.where(most > 0, most, 1.0),
            canvas=replace(self.canvas, parameters=parameters),
        )
