"""Layouts are found from what moves in a layer, whatever its kind and shape."""

import pytest
import torch
from torch import nn

from interp.network.evidence import changed, evidence
from interp.network.layers import Layer, layouts
from interp.network.positions import MAPS, Layout


class Patches(nn.Module):
    """Patches as tokens, attention among them, and each of the layouts in which they may stand."""

    def __init__(self, patch: int | tuple[int, int], before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.special = nn.Parameter(torch.randn(before + after, 16))
        self.before = before
        self.embed, self.mix, self.weights = nn.Conv2d(3, 16, patch, patch), nn.Linear(16, 48), nn.Softmax(dim=-1)
        self.tokens, self.tokens_first, self.flattened, self.last = (nn.Identity() for _ in range(4))
        self.heads, self.add = nn.Identity(), nn.Linear(16, 16)

    def forward(self, images):
        maps = self.embed(images)
        self.last(maps.movedim(1, -1).tanh())
        tokens = maps.flatten(2).mT
        first, last = (part.expand(len(tokens), -1, -1) for part in self.special.tensor_split([self.before]))
        tokens = torch.cat([first, tokens, last], dim=1)
        queries, keys, values = self.heads(self.mix(tokens).unflatten(2, (6, 8)).transpose(1, 2)).chunk(3, dim=1)
        mixed = self.weights(queries @ keys.mT) @ values
        tokens = self.tokens(tokens + self.add(mixed.transpose(1, 2).flatten(2)))
        self.tokens_first(tokens.transpose(0, 1).tanh())
        return self.flattened(tokens.mT.tanh()).mean(dim=2)


@pytest.mark.parametrize(
    ("size", "patch", "special"),
    [((32, 32), 4, (0, 0)), ((16, 64), 4, (0, 0)), ((16, 64), 4, (1, 0)), ((48, 16), 4, (5, 0)), ((32, 32), 8, (0, 1)),
     ((24, 40), 8, (1, 1)), ((32, 32), (4, 8), (1, 0)), ((28, 28), 7, (8, 0))],
)  # fmt: skip
def test_positions_are_found_in_every_layout(size, patch, special):
    torch.manual_seed(0)
    net = Patches(patch, *special).eval()
    names = ("embed", "last", "tokens", "tokens_first", "flattened", "mix", "add", "heads", "weights")
    found = layouts(net, torch.rand(2, 3, *size), names)
    down, across = (patch, patch) if isinstance(patch, int) else patch
    grid = size[0] // down, size[1] // across
    assert found["embed"] == Layout("channels_first", *grid) and found["last"] == Layout("channels_last", *grid)
    for name in ("tokens", "tokens_first", "flattened", "mix"):
        assert found[name] == Layout(name if name != "mix" else "tokens", *grid, *special), name
    assert found["add"] == found["tokens"]  # what is added to tokens lies as they do
    assert found["weights"] is None and found["heads"] is None


@pytest.mark.parametrize("kind", ["tokens", "tokens_first", "flattened", "vector", *MAPS])
def test_a_grid_and_an_output_are_each_others_transpose(kind):
    shapes = {"tokens": (2, 15, 7), "tokens_first": (15, 2, 7), "flattened": (2, 7, 15), "vector": (2, 7),
              "channels_first": (2, 7, 3, 4), "channels_last": (2, 3, 4, 7)}  # fmt: skip
    tokens = kind not in (*MAPS, "vector")
    at = Layout(kind, *((1, 1) if kind == "vector" else (3, 4)), *((2, 1) if tokens else ()))
    output = torch.randn(shapes[kind])
    grid = at.grid(output)
    assert grid.shape == (2, 7, *((1, 1) if kind == "vector" else (3, 4))) and at.channels(output.shape) == 7
    other = torch.randn_like(grid)
    assert torch.equal(at.grid(at.output(other)), other)
    torch.testing.assert_close((at.output(other) * output).sum(), (grid * other).sum())


@pytest.mark.parametrize("size", [(32, 64), (64, 32), (32, 32)])
def test_a_convolution_with_as_many_channels_as_rows_is_no_channels_last(size):
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.Sigmoid())
    found = layouts(net, torch.rand(1, 3, *size), ["0", "1", "3"])
    assert set(found.values()) == {Layout("channels_first", size[0] // 2, size[1] // 2)}


class Rows(nn.Module):
    """An image read row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.head = nn.LSTM(48, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, images):
        return self.head(self.read(images.transpose(1, 2).flatten(2))[0][:, -1])


def test_rows_are_no_grid():
    torch.manual_seed(0)
    assert layouts(Rows(), torch.rand(1, 3, 16, 16), ["read"]) == {"read": None}


def test_where_nothing_changes_the_shape_decides():
    net = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(2), nn.Identity())
    with torch.no_grad():
        [parameter.zero_() for parameter in net.parameters()]
    net[1].forward = lambda x: x.flatten(2).mT
    assert layouts(net, torch.rand(2, 3, 16, 16), ["2"])["2"] == Layout("tokens", 4, 4)


def test_one_tile_a_row_is_changed_in_a_column_of_its_own():
    image = torch.full((3, 12, 18), 0.5)
    first, *others = changed(image)
    places = [(other != image).any(dim=0).nonzero() for other in others]
    assert torch.equal(first, image) and [len(place) for place in places] == [6] * 6
    assert [int(place[0, 0]) for place in places] == [0, 2, 4, 6, 8, 10]
    assert sorted(int(place[0, 1]) for place in places) == [0, 3, 6, 9, 12, 15]
    assert changed(torch.rand(1, 4, 4)).shape == (7, 1, 4, 4)
    at, agreement = evidence(changed(torch.rand(5, 24, 36)), (24, 36))
    assert at == Layout("channels_first", 24, 36) and agreement > 0.95


def test_activations_of_many_batches_are_joined_whichever_axis_is_that_of_the_images():
    torch.manual_seed(0)
    net, images = Patches(4).eval(), torch.rand(5, 3, 16, 32)
    layer = Layer.named(net, images, "tokens_first")
    whole, parts = (layer.activations(net, images, size) for size in (5, 2))
    assert whole.shape == (5, 16, 4, 8)
    torch.testing.assert_close(parts, whole)
