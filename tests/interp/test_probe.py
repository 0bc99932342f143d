"""The probe is fixed, balanced and never larger than the data."""

import pytest
import torch

from interp.lit.data import TensorImages
from interp.probe import Probe, balanced_choice, choose_probe


def images(targets: list[int]) -> TensorImages:
    count = len(targets)
    return TensorImages(
        torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 1, 2, 2), torch.tensor(targets)
    )


def test_balanced_over_classes_and_sorted():
    targets = torch.arange(1000) % 10
    chosen = balanced_choice(targets, 30, seed=3)
    assert targets[chosen].tolist() == sorted(targets[chosen].tolist())
    assert targets[chosen].bincount().tolist() == [3] * 10
    assert len(chosen.unique()) == 30


def test_rare_classes_are_there_even_when_the_rest_must_fill():
    targets = torch.tensor([0] * 50 + [1] * 2 + [2])
    assert targets[balanced_choice(targets, 9, seed=0)].bincount().tolist() == [6, 2, 1]


def test_same_seed_same_images_whatever_the_random_state():
    first = choose_probe(images([0, 1] * 20), ("a", "b"), 6, seed=1)
    torch.rand(3)
    again = choose_probe(images([0, 1] * 20), ("a", "b"), 6, seed=1)
    assert torch.equal(first.images, again.images) and torch.equal(first.indices, again.indices)
    assert not torch.equal(first.indices, choose_probe(images([0, 1] * 20), ("a", "b"), 6, seed=2).indices)


def test_images_belong_to_their_labels():
    probe = choose_probe(images([0, 1, 2] * 5), ("a", "b", "c"), 6)
    assert (probe.indices % 3).tolist() == probe.labels.tolist()
    assert torch.equal((probe.images[:, 0, 0, 0] * 255).round().long(), probe.indices)
    assert probe.label_names() == ["a", "a", "b", "b", "c", "c"]


def test_more_than_there_are_takes_all_and_says_so():
    with pytest.warns(UserWarning, match="wants 100 images, the set has 4"):
        assert len(choose_probe(images([0, 1, 0, 1]), ("a", "b"), 100)) == 4


def test_the_rest_of_the_data_set_can_be_read_in_order_with_the_random_state_left_alone():
    probe = choose_probe(images([0, 1] * 20), ("a", "b"), 6)
    before = torch.get_rng_state()
    read = list(probe.batches(16))
    assert torch.equal(before, torch.get_rng_state())
    assert [len(labels) for _, labels in read] == [16, 16, 8]
    assert torch.equal(torch.cat([pixels for pixels, _ in read])[:, 0, 0, 0].mul(255).round(), torch.arange(40.0))
    alone = Probe(probe.images, probe.labels, probe.class_names, probe.indices)
    assert torch.equal(torch.cat([labels for _, labels in alone.batches(4)]), probe.labels)


def test_some_of_some_are_balanced_too():
    some = choose_probe(images([0, 1] * 20), ("a", "b"), 6).some(20)
    fewer = some.some(4)
    assert fewer.dataset.targets.tolist() == [0, 0, 1, 1] and len(some.dataset) == 20
    pixels, labels = next(fewer.batches(4))
    assert labels.tolist() == ((pixels[:, 0, 0, 0] * 255).round().long() % 2).tolist() == [0, 0, 1, 1]


def test_images_of_no_known_class_are_called_by_their_own_name_in_its_order():
    dataset = images([-1] * 30)
    dataset.image_names = [f"{n:02}.jpg" for n in range(30)]
    probe = choose_probe(dataset, ("a",), 8)
    assert probe.label_names() == sorted(probe.label_names()) == [f"{n:02}.jpg" for n in probe.indices.tolist()]
    dataset.targets = torch.tensor([0, -1] * 15)
    mixed = choose_probe(dataset, ("a",), 4)
    assert [name.endswith(".jpg") for name in mixed.label_names()] == [True, True, False, False]
    assert choose_probe(images([-1] * 3), ("a",), 3).label_names() == ["", "", ""]
    assert mixed.names_of(torch.zeros(4).long())[1:3] == [f"{mixed.image_names[1]}: a", "a"]
    assert probe.to("cpu").label_names() == probe.label_names()
