"""Small concept data and networks to dissect."""

import torch
from torch import nn

from interp.dissection import Concepts, Labels
from interp.dissection.concepts.data import NONE, TensorConcepts


class Channels(nn.Module):
    """A network whose layer `units` puts out the image's own channels, averaged over `pool` x `pool` pixels."""

    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        self.units = nn.AvgPool2d(pool)

    def forward(self, images):
        return self.units(images).mean(dim=(2, 3))


def random_data(images=11, concepts=4, planes=2, side=8, channels=5, seed=0):
    """Images of noise with label maps of noise: two categories, one of which not every image is labelled for."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(-1, concepts, (images, planes, side, side), generator=generator)
    maps[torch.rand(maps.shape, generator=generator) < 0.05] = NONE
    labelled = torch.ones(images, 2, dtype=torch.bool)
    labelled[::3, 1] = False
    maps[(maps >= 2) & ~labelled[:, 1, None, None, None]] = NONE
    names = Concepts(tuple("abcdefgh"[:concepts]), ("first", "second"), tuple(int(c >= 2) for c in range(concepts)))
    return TensorConcepts(torch.rand(images, channels, 6, 6, generator=generator), maps, labelled, names)


class Ragged:
    """Concept data whose label maps have sizes and numbers of planes of their own."""

    def __init__(self, data):
        self.data, self.concepts = data, data.concepts

    def __len__(self):
        return len(self.data)

    def image(self, index):
        return self.data.image(index)

    def labels(self, index):
        given = self.data.labels(index)
        return Labels(given.maps[: index % 3, : 5 + index % 2], given.labelled)
