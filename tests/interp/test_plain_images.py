"""A probe of any data set of pairs: every kind of image and label, normalised or not."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from interp.errors import UserError
from interp.network.modules import Normalized
from interp.probe import Probe, choose_probe
from tests.studies import ConfidencePlugin

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
BYTES = torch.randint(0, 256, (24, 3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
IMAGES, LABELS = BYTES.float() / 255, torch.arange(24) % 3


class Pairs(Dataset):
    """Whatever is given, and how often it was read."""

    def __init__(self, images, labels, **more) -> None:
        self.images, self.labels, self.read = images, labels, 0
        vars(self).update(more)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        self.read += 1
        return self.images[index], self.labels[index]


def normalized(images):
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


PICTURES = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in BYTES]
KINDS = {
    "floats": (IMAGES, LABELS), "doubles": (IMAGES.double(), LABELS.tolist()), "bytes": (BYTES, LABELS.numpy()),
    "pictures": (PICTURES, LABELS.int()), "transparent": ([p.convert("RGBA") for p in PICTURES], LABELS.float()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_pairs_gives_the_probe_that_the_harness_would_choose(kind):
    probe = Probe.of(Pairs(*KINDS[kind]), count=7, seed=3)
    data = TensorDataset(IMAGES, LABELS)
    data.targets = LABELS
    wanted = choose_probe(data, ("0", "1", "2"), 7, seed=3)
    for name in ("images", "labels", "indices"):
        assert torch.equal(getattr(probe, name), getattr(wanted, name)), name
    assert probe.class_names == ("0", "1", "2") and probe.labels.bincount().tolist() == [3, 2, 2]
    images, labels = next(probe.batches(24))
    assert torch.equal(images, IMAGES) and torch.equal(labels, LABELS)


def test_normalisation_is_undone_for_the_probe_and_done_for_the_network():
    probe = Probe.of(TensorDataset(normalized(IMAGES), LABELS), mean=MEAN, std=STD)
    torch.testing.assert_close(probe.images, IMAGES[probe.indices], atol=1e-6, rtol=0)
    assert probe.images.min() >= 0 and probe.images.max() <= 1
    net = nn.Sequential(nn.Flatten(), nn.Linear(90, 3)).double()
    wanted = net(normalized(IMAGES[probe.indices]).double()).softmax(1).amax(1)
    torch.testing.assert_close(ConfidencePlugin()(net, probe).highest, wanted.detach(), atol=1e-6, rtol=0)
    net[1].eval()  # frozen in a network that trains
    behind = probe.network(net)
    assert isinstance(behind, Normalized) and behind.body is net and behind.training
    assert net.training and not net[1].training
    assert Probe.of(TensorDataset(IMAGES, LABELS)).network(net) is net


def test_images_outside_of_0_to_1_are_warned_of_with_the_way_out():
    data = TensorDataset(normalized(IMAGES), LABELS)
    with pytest.warns(UserWarning, match=r"lie from -\d.* outside of \[0, 1\].* give mean= and std= of") as told:
        probe = Probe.of(data)
    assert told[0].filename == __file__ and torch.equal(probe.images, data.tensors[0][probe.indices])
    with pytest.warns(UserWarning, match="give mean= and std= those of the data set's own normalisation"):
        Probe.of(data, mean=[0.5], std=[1.0])


def test_known_labels_are_not_read_one_by_one_and_names_come_from_the_data_set():
    data = Pairs(IMAGES, LABELS, targets=LABELS.tolist(), classes=["cat", "dog", "owl"])
    probe = Probe.of(Subset(data, range(5, 17)), count=3)
    assert data.read == 3 and probe.label_names() == ["cat", "dog", "owl"] and len(probe.dataset) == 12
    data = Pairs(IMAGES, (LABELS + 1) % 3, targets=LABELS, target_transform=lambda label: (label + 1) % 3)
    probe = Probe.of(data, count=3)  # what is known beforehand is not what it gives
    assert torch.equal(probe.labels, data.labels[probe.indices])
    assert Probe.of(Pairs(IMAGES, torch.full((24,), -1)), count=2, class_names=["a"]).labels.tolist() == [-1, -1]


def test_random_numbers_that_the_data_set_draws_are_its_own():
    class Noisy(Pairs):
        def __getitem__(self, index):
            torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
            return super().__getitem__(index)

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    Probe.of(Noisy(IMAGES, LABELS))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


class Endless(IterableDataset):
    def __iter__(self):
        yield from zip(IMAGES, LABELS, strict=True)


WRONG = {
    "of the kind Endless": (Endless(), {}),
    "item 0 of the data set is of the kind dict": ([{"image": IMAGES[0]}], {}),
    r"shape \(6, 5\): wanted is \(channels, height, width\)": (Pairs(IMAGES[:, 0], LABELS), {}),
    "an image is of torch.int64": (Pairs(BYTES.long(), LABELS), {}),
    "an image is of the kind ndarray": (Pairs(BYTES.numpy(), LABELS), {}),
    "the mode I;16": (Pairs([Image.new("I;16", (4, 4))] * 24, LABELS), {}),
    "the label of item 0 is 'cat'": (Pairs(IMAGES, ["cat"] * 24), {}),
    "the label of item 1 is 0.5": (Pairs(IMAGES, [0.0, 0.5]), {}),
    "a label 2 and 2 names of classes: give class_names=": (Pairs(IMAGES, LABELS), {"class_names": ["a", "b"]}),
    r"mean=\[0.5\], std=\[\]: give both": (Pairs(IMAGES, LABELS), {"mean": [0.5]}),
    r"std=\[0.0\]": (Pairs(IMAGES, LABELS), {"mean": [0.5], "std": [0.0]}),
    "have 2 numbers, the images 3 channels": (Pairs(IMAGES, LABELS), {"mean": [0.5] * 2, "std": [0.5] * 2}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_read_is_said(message):
    data, options = WRONG[message]
    with pytest.raises(UserError, match=message):
        Probe.of(data, **options)
