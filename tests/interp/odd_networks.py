"""Small networks in which it is not plain where to look; each takes images (B, 3, H, W)."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def conv(inputs: int = 8, outputs: int = 8, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU())


def plain() -> nn.Module:
    return nn.Sequential(conv(3, 8, 2), conv(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 5))


class Pooled(nn.Module):
    """A stem, what `run` makes of it, and a linear layer on the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 8, 2), nn.Linear(8, 5)

    def run(self, x):
        return x

    def forward(self, images):
        return self.head(self.run(self.stem(images)).mean(dim=(2, 3)))


class Recurrent(Pooled):
    """One block that runs three times."""

    def __init__(self) -> None:
        super().__init__()
        self.block = conv()

    def run(self, x):
        for _ in range(3):
            x = self.block(x)
        return x


class Inner(nn.Module):
    """Puts out a tuple, of which the second is read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x):
        return {"mean": x.mean(dim=(2, 3)), "maps": (x + self.conv(x).tanh(), None)}


class Tuples(Pooled):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Inner(), Inner()

    def run(self, x):
        return self.second(self.first(x)["maps"][0])["maps"][0]


class Dense(Pooled):
    """Layers whose outputs are kept beside the later ones; squeeze and excitation in a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.grow, self.gate, self.join = conv(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid()), nn.Conv2d(16, 8, 1)

    def run(self, x):
        y = self.grow(x)
        y = y * self.gate(y.mean(dim=(2, 3), keepdim=True))
        return self.join(torch.cat([x, y], dim=1))


class HiddenSkip(Pooled):
    """A way past `block` that no gradient shows."""

    def __init__(self) -> None:
        super().__init__()
        self.block = conv()

    def run(self, x):
        return self.block(x) + 3 * x.detach()


class AddedByHand(Pooled):
    """What no layer puts out is passed on; each block adds its share."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(conv() for _ in range(5))

    def run(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


class Ignored(Pooled):
    """`block` writes in place, and what it puts out is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.last = nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, 1, 1)

    def run(self, x):
        x = self.last(x)
        self.relu(x)
        return x


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(conv(3, 8, 2), conv(), conv()) for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        parts = self.left(images), self.right(images.flip(2))
        return self.head(torch.cat([part.mean(dim=(2, 3)) for part in parts], dim=1))


class Checkpointed(Pooled):
    """Without reentrance: torch warns of a reentrant one whenever a pass records no gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.block = conv()

    def run(self, x):
        return checkpoint(self.block, x, use_reentrant=False)


class NoGradient(Pooled):
    """Hides its graph."""

    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


class MapOfLogits(nn.Module):
    """Its last convolution has a channel a class, and nothing learnt comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.last = conv(3, 8, 2), conv(), nn.Sequential(nn.Conv2d(8, 5, 1), nn.ReLU())

    def forward(self, images):
        return self.last(self.block(self.stem(images))).mean(dim=(2, 3))


class ClassToken(nn.Module):
    """A transformer of three blocks that reads its class token alone."""

    def __init__(self, batch_first: bool = True, read: str = "class") -> None:
        super().__init__()
        self.batch_first, self.read = batch_first, read
        self.patch, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        make = lambda: nn.TransformerEncoderLayer(16, 2, 64, batch_first=batch_first, norm_first=True)  # noqa: E731
        self.blocks, self.head = nn.Sequential(make(), make(), make()), nn.Linear(16, 5)

    def forward(self, images):
        x = self.patch(images).flatten(2).mT
        if self.read == "class":
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        x = self.blocks(x if self.batch_first else x.transpose(0, 1))
        x = x if self.batch_first else x.transpose(0, 1)
        return self.head(x[:, 0] if self.read == "class" else x.mean(dim=1))


def mean_read() -> nn.Module:
    return ClassToken(read="mean")


def sequence_first() -> nn.Module:
    return ClassToken(batch_first=False, read="mean")


def one_channel() -> nn.Module:
    return nn.Sequential(conv(3, 1), conv(1, 8), conv(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class UpsampledPool(Pooled):
    """Pools to a grid that is larger than what it has, as VGG does with small images."""

    def __init__(self) -> None:
        super().__init__()
        self.block = conv(8, 8, 2)
        self.pool = nn.AdaptiveAvgPool2d(20)

    def run(self, x):
        return self.pool(self.block(x))
