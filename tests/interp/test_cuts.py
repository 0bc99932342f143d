"""Which tensors every path runs through, in graphs whose paths can be counted by hand."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from interp.network.cuts import Work, cuts, output_of


def flags(build, *, grad: bool = True) -> dict[str, bool]:
    """Whether each tensor that `build` notes in passing is a cut."""
    images = torch.rand(2, 4, requires_grad=grad)
    noted: dict[str, object] = {}

    def note(name: str, tensor: torch.Tensor) -> torch.Tensor:
        noted[name] = output_of(tensor)  # as it is now: it may be written over
        return tensor

    answer = build(images, note)
    return dict(zip(noted, cuts(answer, images, [*noted.values()]), strict=True))


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def chain(x, note):
    return note("b", note("a", x.sin()).cos()).sum()


def skip(x, note):
    a = note("a", x.sin())
    return note("sum", a + note("branch", a.cos())).sum()


def dense(x, note):
    a = note("a", x.sin())
    b = note("b", a.cos())
    return note("all", torch.cat([a, b, note("c", torch.cat([a, b], 1).exp())], 1)).sum()


def in_place(x, note):
    a = note("a", x.sin())
    b = note("b", a * 2)
    b += a
    return note("c", b.relu_()).sum()


def split(x, note):
    left, right = note("whole", x.sin()).chunk(2, dim=1)
    return note("out", torch.cat([note("left", left), note("right", right).cos()], 1)).sum()


def checkpointed(x, note):
    return note("out", checkpoint(lambda y: note("within", y.sin()), note("a", x * 2), use_reentrant=False)).sum()


def own_function(x, note):
    return note("out", Squared.apply(note("a", x.sin()))).sum()


def many_paths(x, note):
    for _ in range(200):  # 2 to the power of 200 paths
        x = note("last", x + x.sin() / 2)
    return (x + note("branch", x.cos())).sum()


def weights_apart(x, note):
    weight = nn.Parameter(torch.rand(4))
    return (note("a", x.sin()) * note("of weights", weight.exp())).sum()


CUTS = {
    chain: {"a": True, "b": True},
    skip: {"a": True, "branch": False, "sum": True},
    dense: {"a": True, "b": False, "c": False, "all": True},
    in_place: {"a": True, "b": False, "c": True},
    split: {"whole": True, "left": False, "right": False, "out": True},
    checkpointed: {"a": True, "within": True, "out": True},
    own_function: {"a": True, "out": True},
    many_paths: {"last": True, "branch": False},
    weights_apart: {"a": True, "of weights": False},
}


@pytest.mark.parametrize("build", CUTS, ids=lambda build: build.__name__)
def test_cuts_are_what_every_path_runs_through(build):
    assert flags(build) == CUTS[build]


def test_without_a_graph_nothing_is_a_cut():
    assert flags(chain, grad=False) == {"a": False, "b": False}
    with torch.no_grad():
        assert flags(chain) == {"a": False, "b": False}
    assert flags(lambda x, note: note("a", x.detach() * 2).sum()) == {"a": False}


def test_work_is_that_of_products():
    x, weight = torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3)
    with Work() as work:
        y = nn.functional.conv2d(x, weight, padding=1).relu()
        assert work.done == 2 * 2 * 5 * 64 * 27
        y.flatten(2) @ torch.rand(64, 7)
    assert work.done == 2 * 2 * 5 * 64 * 27 + 2 * 2 * 5 * 64 * 7


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}])
def test_the_work_of_recurrent_layers_is_that_of_their_matrices(options):
    sequence = torch.rand(3, 7, 5)
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        layer = kind(5, 4, batch_first=True, **options)
        for context in (torch.no_grad, torch.enable_grad):
            with context(), Work() as work:
                layer(sequence)
            matrices = sum(weight.numel() for weight in layer.parameters() if weight.ndim == 2)
            assert work.done == 2 * 3 * 7 * matrices, (kind, context)
