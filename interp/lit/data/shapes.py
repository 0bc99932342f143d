"""Generated pictures whose every pixel is labelled: colour, texture, object, part and scene, free of each other.

A shape with a texture, in one of six colours, with a knob, a bar, both or neither, before one of four scenes. The class
is shape x texture ("striped disc"); all else varies freely, so that what a network could know beside the class is known
exactly. Only objects carry colour and texture labels: a blue sky is unlabelled.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.errors import UserError
from interp.lit.data.concepts import ConceptImages
from interp.lit.data.images import Splits
from interp.lit.data.shapes_draw import SCENES, SHAPES, SIDE, TEXTURES, Grid, Objects, blend

COLORS = {
    "red": (0.88, 0.16, 0.16),
    "orange": (0.98, 0.55, 0.08),
    "yellow": (0.98, 0.90, 0.12),
    "green": (0.12, 0.78, 0.24),
    "blue": (0.16, 0.36, 0.95),
    "purple": (0.66, 0.20, 0.86),
}
CLASS_NAMES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
CONCEPT_NAMES = {
    "color": ("", *COLORS),
    "texture": ("", *TEXTURES),
    "object": ("", *SHAPES),
    "part": ("", "knob", "bar"),
    "scene": ("", *SCENES),
}
BLOCK = 100  # images that share a random stream and are drawn together
DICE = 240  # uniform numbers of a scene
RADII = ((13.0, 20.0), (13.0, 16.0), (8.0, 10.0))  # of a single object, of the first of two, of the second


@dataclass(frozen=True)
class Shapes:
    """Images with their classes and pixel labels."""

    images: Tensor  # (N, 3, H, W) uint8
    targets: Tensor  # (N,) int64, indices into CLASS_NAMES
    concepts: dict[str, Tensor]  # category -> (N, H, W) uint8, indices into its names, 0 where there is no label
    concept_names: dict[str, tuple[str, ...]]  # category -> names, "" first


def shapes(
    train: int = 4800,
    val: int = 600,
    test: int = 600,
    *,
    size: int = 64,
    objects: int = 1,
    shortcut: float = 0.0,
    seed: int = 0,
) -> Splits:
    """Three sets of `ConceptImages` from streams that never meet, whatever the `seed`.

    `shortcut` applies to the training images only: validation and test show what relying on the scene costs.
    """
    for name, value, least in (("train", train, 1), ("val", val, 1), ("test", test, 1), ("seed", seed, 0)):
        _at_least(name, value, least)
    splits = []
    for stream, (count, tie) in enumerate(((train, shortcut), (val, 0.0), (test, 0.0))):
        generated = generate(count, 3 * seed + stream, size=size, objects=objects, shortcut=tie)
        splits.append(ConceptImages(generated.images, generated.targets, generated.concepts, generated.concept_names))
    return Splits(splits[0], splits[1], splits[2], CLASS_NAMES)


def generate(count: int, seed: int, *, size: int = 64, objects: int = 1, shortcut: float = 0.0) -> Shapes:
    """`count` images of `size` x `size`, each ten in turn with every class once; image i does not depend on `count`.

    Of two `objects` the larger, in front, is the class; the other is any. With probability `shortcut` the scene is
    number class mod 4, else it is drawn freely (and may be that one too). All lengths grow with `size`.
    """
    _check(count, seed, size, objects, shortcut)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    targets = torch.empty(count, dtype=torch.int64)
    concepts = {category: torch.zeros(count, size, size, dtype=torch.uint8) for category in CONCEPT_NAMES}
    for start in range(0, count, BLOCK):
        block = slice(start, min(start + BLOCK, count))
        rng = np.random.default_rng((seed, start // BLOCK))
        labels = {category: maps[block] for category, maps in concepts.items()}
        targets[block], images[block] = _draw_block(rng, Grid.of(size), objects, shortcut, labels)
    return Shapes(images, targets, concepts, dict(CONCEPT_NAMES))


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise UserError(f"data.{name}={value}: must be a whole number of at least {least}")


def _check(count: int, seed: int, size: int, objects: int, shortcut: float) -> None:
    for name, value, least in (("count", count, 0), ("seed", seed, 0), ("size", size, 32)):
        _at_least(name, value, least)
    if objects not in (1, 2):
        raise UserError(f"data.objects={objects}: must be 1 or 2")
    if not 0 <= shortcut <= 1:
        raise UserError(f"data.shortcut={shortcut}: must be a probability, from 0 to 1")


def _draw_block(
    rng: np.random.Generator, grid: Grid, objects: int, shortcut: float, labels: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Targets (n,) and images (n, 3, H, W) uint8 of one stream; writes `labels`, category -> (n, H, W)."""
    count, size = len(labels["scene"]), grid.x.shape[-1]
    targets = _uniform(rng, BLOCK // 10, 10).argsort(1).flatten()
    tied, free, dice, light = (_uniform(rng, BLOCK, n) for n in (1, 1, DICE, 1))
    scene = torch.where(tied[:, 0] < shortcut, targets % len(SCENES), (free[:, 0] * len(SCENES)).long())
    front_to_back = _choose_objects(rng, targets, objects)
    noise = _uniform(rng, count, 3, size, size)
    scene, dice, targets = scene[:count], dice[:count], targets[:count]
    canvas = torch.empty(count, 3, size, size)
    for index, paint in enumerate(SCENES.values()):
        canvas[scene == index] = paint(grid, dice[scene == index, :, None, None])
    labels["scene"][:] = (scene + 1)[:, None, None]
    for things in reversed(front_to_back):
        _draw_objects(canvas, grid, things.first(count), labels)
    canvas *= 0.88 + 0.2 * light[:count, :, None, None]
    return targets, canvas.add_(0.07 * (noise - 0.5)).clamp_(0, 1).mul_(255).round_().byte()


def _uniform(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.random(shape, dtype=np.float32))


def _choose_objects(rng: np.random.Generator, targets: Tensor, count: int) -> list[Objects]:
    """One or two objects of each image, the first of the class `targets` (n,)."""
    side = _direction(_uniform(rng, len(targets)))
    side = side / side.abs().amax(1, keepdim=True)
    chosen = []
    for number, (low, high) in enumerate(RADII[:1] if count == 1 else RADII[1:]):
        dice = _uniform(rng, 10, len(targets))
        kind = targets if number == 0 else (dice[0] * len(CLASS_NAMES)).long()
        radius, place = low + (high - low) * dice[1], dice[2:4].T
        # two objects keep to opposite sides, or the larger would hide the other
        offset = 2 * place - 1 if count == 1 else (1 - 2 * number) * side * (0.85 + 0.15 * place)
        center = SIDE / 2 + (SIDE / 2 - 1.25 * radius)[:, None] * offset
        chosen.append(_object(kind, radius, center, dice[4:]))
    return chosen


def _object(kind: Tensor, radius: Tensor, center: Tensor, dice: Tensor) -> Objects:
    return Objects(
        shape=kind // len(TEXTURES),
        texture=kind % len(TEXTURES),
        color=(dice[0] * len(COLORS)).long(),
        knob=dice[1] < 0.5,
        bar=dice[2] < 0.5,
        radius=radius,
        period=6 + 2 * dice[3],
        center=center,
        turn=_direction(dice[4]),
        texture_turn=_direction(dice[5]),
    )


def _direction(turns: Tensor) -> Tensor:
    angle = turns.double() * (2 * torch.pi)
    return torch.stack([angle.cos(), angle.sin()], 1).float()


def _draw_objects(canvas: Tensor, grid: Grid, things: Objects, labels: dict[str, Tensor]) -> None:
    """Lay an object over each image of `canvas` (n, 3, H, W) and its labels over `labels` (n, H, W), in place."""
    body, mark, knob, bar = things.distances(grid)
    color = torch.tensor(list(COLORS.values()))[things.color]
    light, dark = 0.88 * color + 0.12, 0.42 * color
    part = torch.minimum(knob, bar)
    whole = torch.minimum(body, part)
    blend(canvas, (0.0, 0.0, 0.0), 0.4 * (1 - whole / 3).clamp(0, 1))
    for outline, paint in ((body, light), (part, 0.6 * color + 0.4)):
        inside = grid.cover(outline)
        blend(canvas, paint, inside)
        if outline is body:
            blend(canvas, dark, inside * grid.cover(mark))
        blend(canvas, 0.25 * color, inside * grid.cover(-1.1 - outline))
    for category, number in (("object", things.shape), ("color", things.color)):
        labels[category][:] = torch.where(whole <= 0, number[:, None, None] + 1, labels[category])
    bare = torch.where(part <= 0, 0, things.texture[:, None, None] + 1)
    labels["texture"][:] = torch.where(whole <= 0, bare, labels["texture"])
    part_labels = (knob <= 0) + 2 * (bar <= 0)
    labels["part"][:] = torch.where(whole <= 0, part_labels, labels["part"])
