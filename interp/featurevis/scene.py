"""What is rendered: a network in which each image of a batch has an objective, and perhaps a reference."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.featurevis.fold import folded
from interp.featurevis.objective import Look, Objective
from interp.featurevis.transforms import NONE, Transforms
from interp.network.layers import find_layer, forward_to, layouts
from interp.network.positions import Layout
from interp.network.tracing import eager

Parts = Objective | Sequence[tuple[Objective, int]]


@dataclass(frozen=True)
class Scene:
    """A part of the batch needs one forward pass, of its own images only, to its own deepest layer only."""

    net: nn.Module
    parts: list[tuple[Objective, slice]]
    layers: dict[str, nn.Module]
    groups: Tensor  # (B,) int64
    reference: Tensor | None  # (R, C, H, W)
    precision: torch.dtype | None  # of autocast, None where it is off
    layouts: dict[torch.Size, dict[str, Layout | None]] = field(
        default_factory=dict
    )  # of the layers, by size of frames

    @classmethod
    @contextmanager
    def open(
        cls,
        net: nn.Module,
        objective: Parts,
        images: Tensor,
        reference: Tensor | None = None,
        groups: Tensor | None = None,
        fold: bool = True,
    ) -> Iterator["Scene"]:
        """The scene for `images` (B, C, H, W); until the block ends autocast holds for the network alone.

        Raises UserError where counts, sizes or layers do not fit.
        """
        objectives_of_rows = _parts(objective, len(images))
        groups = torch.arange(len(images)) if groups is None else groups
        _check(images, reference, groups)
        layers = {name: find_layer(net, name) for part, _ in objectives_of_rows for name in sorted(part.layers)}
        kind = images.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(kind, enabled=False))
            stack.enter_context(eager())
            scene = cls(net, objectives_of_rows, layers, groups.to(images.device), reference, precision)
            if fold and layers and precision is None:
                sample = torch.rand(images[:1].shape, generator=torch.Generator().manual_seed(0)).to(images.device)
                stack.enter_context(folded(net, _fed(net, sample), layers))
            yield scene

    @property
    def name(self) -> str:
        """What the objectives are called, for errors."""
        return "; ".join(dict.fromkeys(f"the objective {part.name!r}" for part, _ in self.parts))

    @property
    def group_count(self) -> int:
        """How many moves are drawn in each step."""
        return int(self.groups.max()) + 1

    def values(
        self,
        images: Tensor,
        transforms: Transforms = NONE,
        maps: Tensor | None = None,
        noise: torch.Generator | None = None,
        mode: AbstractContextManager = nullcontext(),  # noqa: B008 (it holds nothing)
    ) -> Tensor:
        """The objectives (B,) of `images` (B, C, H, W), moved by `maps` (groups, 2, 3), in `mode`."""
        if maps is None:
            maps = transforms.draw(1, self.group_count, (images.shape[-2], images.shape[-1]), seed=0)[0]
        maps = maps.to(images.device)
        own_maps = maps[self.groups]
        frames = transforms(images, own_maps, noise)
        reference = self._reference(transforms, maps)
        values = []
        for objective, rows in self.parts:
            with mode:
                seen = self.see(frames[rows], objective.layers)
            of_reference = {name: reference[name][self.groups[rows]] for name in objective.layers & reference.keys()}
            look = Look(images[rows], seen, of_reference, None if transforms == NONE else own_maps[rows])
            values.append(_one_each(objective, look))
        return torch.cat(values)

    @torch.no_grad()
    def _reference(self, transforms: Transforms, maps: Tensor) -> dict[str, Tensor]:
        return {} if self.reference is None else self.see(transforms(self.reference, maps), self.layers.keys())

    def see(self, frames: Tensor, names) -> dict[str, Tensor]:
        """Activations (B, C, h, w) in float32 of the named layers; logits (B, J) have one position."""
        if not names:
            return {}
        kind = frames.device.type
        with torch.autocast(kind, self.precision or torch.get_autocast_dtype(kind), self.precision is not None):
            if frames.shape[1:] not in self.layouts:
                self.layouts[frames.shape[1:]] = layouts(self.net, _fed(self.net, frames[:1].detach()), self.layers)
            seen = forward_to(self.net, _fed(self.net, frames), {name: self.layers[name] for name in names})
        at = self.layouts[frames.shape[1:]]
        return {name: _spatial(at[name], name, tensor).float() for name, tensor in seen.items()}


def _spatial(at: Layout | None, name: str, output: Tensor) -> Tensor:
    """Activations (B, C, h, w) of a layer's `output`; logits (B, J) have one position."""
    if at is not None:
        return at.grid(output)
    raise UserError(
        f"layer {name!r} puts out {tuple(output.shape)}; feature visualisation needs (B, C, H, W), tokens on "
        "a grid or (B, C): choose a convolutional layer, a transformer block or the head"
    )


def _fed(net: nn.Module, frames: Tensor) -> Tensor:
    """`frames` as the network wants them; channels last makes convolutions faster on CPUs and GPUs."""
    weights = (p.dtype for p in net.parameters() if p.is_floating_point())
    return frames.to(next(weights, frames.dtype), memory_format=torch.channels_last)


def _one_each(objective: Objective, look: Look) -> Tensor:
    values = objective(look)
    if values.shape != look.images.shape[:1]:
        raise UserError(f"{objective.name!r} gives {tuple(values.shape)} values for {len(look.images)} images")
    return values


def _parts(objective: Parts, count: int) -> list[tuple[Objective, slice]]:
    given = [(objective, count)] if isinstance(objective, Objective) else list(objective)
    if sum(number for _, number in given) != count:
        raise UserError(f"the objectives are for {sum(number for _, number in given)} images, the canvas has {count}")
    ends = torch.tensor([number for _, number in given]).cumsum(0).tolist()
    return [(part, slice(end - number, end)) for (part, number), end in zip(given, ends, strict=True)]


def _check(images: Tensor, reference: Tensor | None, groups: Tensor) -> None:
    if len(groups) != len(images):
        raise UserError(f"{len(groups)} groups are given for {len(images)} images")
    if reference is None:
        return
    if reference.shape[1:] != images.shape[1:] or len(reference) != int(groups.max()) + 1:
        raise UserError(
            f"the reference is {tuple(reference.shape)}; {int(groups.max()) + 1} groups of a canvas of "
            f"{tuple(images.shape)} want as many images of the same size"
        )
