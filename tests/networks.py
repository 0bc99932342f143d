"""Small networks of awkward kinds, which studies must bear: norms, functions of one's own, caches, half precision."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from interp.network.layers import Normalized
from interp.probe import Probe

CLASSES = ("a", "b", "c")


def block(inputs: int, outputs: int, norm: Callable[[int], nn.Module] = lambda _: nn.Identity(), stride: int = 1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), norm(outputs), nn.ReLU())


def head() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def cnn(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    return nn.Sequential(block(3, 8, norm, 2), block(8, 8, norm), head())


class LayerNorm(nn.LayerNorm):
    """Over the channels of maps."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


class Between(nn.Module):
    """Two blocks, with what `between` makes of their maps, and a head."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda maps: maps) -> None:
        super().__init__()
        self.first, self.second, self.head, self.between = block(3, 8, stride=2), block(8, 8), head(), between

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(self.between(self.first(images))))


class Sign(torch.autograd.Function):
    """A step with a straight-through gradient, and no forward derivative."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0].abs() <= 1)


class Recurrent(Between):
    """An LSTM reads the positions of the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.rnn(self.second(self.first(images)).flatten(2).mT)[0][:, -1])


class Checkpointed(Between):
    """Keeps no activations within its blocks in training, in the old way through which few gradients pass."""

    def forward(self, images: Tensor) -> Tensor:
        maps = checkpoint(self.second, self.first(images), use_reentrant=True)
        return self.head(checkpoint(self.between, maps, use_reentrant=True))


class Remembering(Between):
    """Counts its passes, keeps a bias between them while it is not trained, and makes a buffer at the first."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.kept, self.calls = nn.Parameter(torch.zeros(8, 8, 8)), {}, 0
        self.register_buffer("passes", torch.tensor(0))
        self.register_buffer("mask", None)

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.passes += 1
        if self.mask is None:
            self.mask = torch.ones(8, 8)
        if "bias" not in self.kept:
            self.kept["bias"] = self.bias * 2
        return self.head(self.second(self.first(images) + self.kept["bias"] * self.mask))


def weight_normed(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    net = cnn(lambda _: nn.Identity())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old one is deprecated, and in many networks
        for layer in (net[0][0], net[1][0], net[2][2]):
            wrap(layer)
    return net


KINDS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": cnn,
    "group norm": lambda: cnn(lambda count: nn.GroupNorm(2, count)),
    "instance norm": lambda: cnn(nn.InstanceNorm2d),
    "layer norm": lambda: cnn(LayerNorm),
    "arithmetic": lambda: Between(lambda maps: maps * maps / (1 + maps.abs())),
    "own function": lambda: Between(Sign.apply),
    "lstm": Recurrent,
    "old weight norm": lambda: weight_normed(nn.utils.weight_norm),
    "old spectral norm": lambda: weight_normed(nn.utils.spectral_norm),
    "weight norm": lambda: weight_normed(nn.utils.parametrizations.weight_norm),
    "reentrant checkpoints": Checkpointed,
    "remembering": Remembering,
    "bfloat16": lambda: cnn().bfloat16(),
    "float16": lambda: cnn().half(),
}


def make(kind: str) -> Normalized:
    """The network of this kind, the same each time, for images in [0, 1]."""
    torch.manual_seed(0)
    net = KINDS[kind]()
    return Normalized(net, [0.5] * 3, [0.25] * 3).to(next(net.parameters()).dtype).eval()


def probe(images: int = 4) -> Probe:
    """Random images, 16 x 16."""
    pixels = torch.rand(images, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Probe(pixels, torch.arange(images) % 3, CLASSES, torch.arange(images))
