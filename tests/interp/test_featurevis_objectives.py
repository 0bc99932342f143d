"""Objectives against hand-written loops and finite differences."""

import pytest
import torch

from interp import vectors
from interp.errors import UserError
from interp.featurevis.objective import Look
from interp.featurevis.objectives import (
    caricature,
    channel,
    cosine,
    direction,
    distance,
    diversity,
    l1,
    l2,
    similarity,
    total_variation,
    unit,
    weighted,
)
from interp.featurevis.transforms import Transforms

B, C, H, W = 3, 4, 5, 6


def look(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(B, 3, 8, 8, generator=generator).to(dtype)
    activations, reference = (torch.randn(B, C, H, W, generator=generator).to(dtype) for _ in range(2))
    return Look(images, {"conv": activations}, {"conv": reference})


VECTORS = torch.randn(B, C, generator=torch.Generator().manual_seed(5))
WEIGHTS = torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(6))


def angle(a, v):
    return (a @ v) / (a.norm() * v.norm())


def positions(a):
    return [a[:, y, x] for y in range(H) for x in range(W)]


def mean(values):
    return sum(values) / len(values)


def gram(a):
    matrix = a.flatten(1) @ a.flatten(1).T
    return matrix / matrix.norm()


def caricature_by_hand(a, r, power, cosine_power):
    dot = (a * r).sum()
    return dot * max(0.1, dot / a.norm()) ** power * max(0.1, angle(a.flatten(), r.flatten())) ** cosine_power


BY_HAND = {
    "channel": (channel("conv", 2), lambda i, a, r, x: a[2].mean()),
    "channels": (channel("conv", [3, 0, 1]), lambda i, a, r, x: a[[3, 0, 1][i]].mean()),
    "unit": (unit("conv", torch.tensor([3, 0, 1])), lambda i, a, r, x: a[[3, 0, 1][i], 2, 3]),
    "unit_elsewhere": (unit("conv", 1, position=(4, 0)), lambda i, a, r, x: a[1, 4, 0]),
    "direction": (direction("conv", VECTORS[0]), lambda i, a, r, x: mean([p @ VECTORS[0] for p in positions(a)])),
    "directions": (
        direction("conv", VECTORS, power=2),
        lambda i, a, r, x: mean([p @ VECTORS[i] * max(0.1, angle(p, VECTORS[i])) ** 2 for p in positions(a)]),
    ),
    "direction_at": (direction("conv", VECTORS, position=(1, 5)), lambda i, a, r, x: a[:, 1, 5] @ VECTORS[i]),
    "cosine": (cosine("conv", VECTORS), lambda i, a, r, x: mean([angle(p, VECTORS[i]) for p in positions(a)])),
    "caricature": (caricature("conv"), lambda i, a, r, x: (a * r).sum()),
    "caricature_powers": (
        caricature("conv", power=2, cosine_power=1),
        lambda i, a, r, x: caricature_by_hand(a, r, 2, 1),
    ),
    "similarity": (similarity("conv"), lambda i, a, r, x: angle(a.flatten(), r.flatten())),
    "weighted": (weighted("conv", WEIGHTS), lambda i, a, r, x: (a * WEIGHTS[i]).sum()),
    "distance": (distance("conv"), lambda i, a, r, x: ((a - r) ** 2).sum() / (r**2).sum()),
    "total_variation": (
        total_variation(),
        lambda i, a, r, x: (x[:, 1:] - x[:, :-1]).abs().mean() + (x[..., 1:] - x[..., :-1]).abs().mean(),
    ),
    "l1": (l1(), lambda i, a, r, x: (x - 0.5).abs().mean()),
    "l2": (l2(0.0), lambda i, a, r, x: (x**2).mean()),
    "sum": (2 * channel("conv", 2) - l1() * 3 + 1, lambda i, a, r, x: 2 * a[2].mean() - 3 * (x - 0.5).abs().mean() + 1),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_objective_equals_its_definition(name):
    objective, by_hand = BY_HAND[name]
    seen = look()
    rows = zip(seen.activations["conv"], seen.reference["conv"], seen.images, strict=True)
    expected = torch.stack([by_hand(i, *row) for i, row in enumerate(rows)])
    torch.testing.assert_close(objective(seen), expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", [*BY_HAND, "diversity"])
def test_gradient_agrees_with_finite_differences(name):
    objective = diversity("conv") if name == "diversity" else BY_HAND[name][0]
    seen = look(torch.float64, seed=2)

    def value(activations, images):
        return objective(Look(images, {"conv": activations}, seen.reference))

    inputs = seen.activations["conv"].requires_grad_(), seen.images.requires_grad_()
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True, eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1e15])
@pytest.mark.parametrize("name", ["cosine", "similarity", "diversity", "directions", "caricature"])
def test_angles_do_not_depend_on_the_size_of_activations(name, scale):
    degree = {"directions": 1, "caricature": 2}.get(name, 0)  # of the dot product beside the angle
    made = {"diversity": diversity("conv"), "caricature": caricature("conv", cosine_power=1)}
    objective = made.get(name) or BY_HAND[name][0]
    seen = look(torch.float64)
    tiny = {layer: [part[layer] * scale for part in (seen.activations, seen.reference)] for layer in ("conv",)}
    small = Look(seen.images, *({layer: parts[at].requires_grad_() for layer, parts in tiny.items()} for at in (0, 1)))
    values = objective(small)
    torch.testing.assert_close(values / scale**degree, objective(seen), rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(values.sum(), small.activations["conv"])
    assert gradient.isfinite().all() and gradient.any()


def test_angles_in_half_the_precision_of_small_activations_and_of_zeros():
    a, r = torch.rand(2, B, 64) * 1e-30
    expected = torch.nn.functional.cosine_similarity(a.double(), r.double(), eps=0.0)
    torch.testing.assert_close(vectors.cosine(a, r), expected.float())
    rough = vectors.cosine((a * 1e25).bfloat16(), (r * 1e25).bfloat16())
    assert rough.dtype == torch.float32 and (rough - expected).abs().max() < 1e-2
    zeros = torch.zeros(2, 5, requires_grad=True)
    found = vectors.cosine(zeros, torch.ones(2, 5))
    assert torch.equal(found, torch.zeros(2)) and torch.autograd.grad(found.sum(), zeros)[0].isfinite().all()
    assert vectors.cosine(torch.full((1, 3), torch.nan), torch.ones(1, 3)).isnan().all()


def test_diversity_compares_images_of_the_same_set_only():
    seen = look()
    grams = [gram(a) for a in seen.activations["conv"]]
    all_three = torch.stack([sum((g * h).sum() for h in grams if h is not g) / 3 for g in grams])
    torch.testing.assert_close(diversity("conv")(seen), all_three)
    pair = (grams[0] * grams[2]).sum() / 2
    of_sets = diversity("conv", torch.tensor([0, 1, 0]))(seen)
    torch.testing.assert_close(of_sets, torch.stack([pair, torch.zeros(()), pair]), atol=1e-5, rtol=0)


def test_weights_move_with_the_picture():
    transforms = Transforms(jitter=0.5)
    maps = transforms.draw(1, 2, (8, 8), seed=3)[0]
    images = torch.nn.functional.pad(torch.rand(2, 1, 2, 2), (3, 3, 3, 3)) + 0.5
    moved = transforms(images, maps) - 0.5
    matched = weighted("conv", images - 0.5)(Look(images, {"conv": moved}, maps=maps))
    torch.testing.assert_close(matched, moved.square().sum(dim=(1, 2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (channel("conv", 4), r"channels 4 are not all in 0 to 3"),
        (channel("conv", [0, 1]), r"2 channels are given for 3 images: give one, or one for each"),
        (unit("conv", 0, position=(5, 0)), r"position \(5, 0\) is outside of the layer's grid of 5 x 6"),
        (direction("conv", torch.ones(7)), r"vectors \(7,\) do not fit activations \(3, 4, 5, 6\)"),
        (weighted("conv", torch.ones(3, 4, 1, 1)), r"weights \(3, 4, 1, 1\) do not fit 'conv'"),
    ],
)
def test_what_does_not_fit_is_named(objective, message):
    with pytest.raises(UserError, match=message):
        objective(look())
    with pytest.raises(UserError, match="give `reference`"):
        caricature("conv")(Look(look().images, look().activations))
