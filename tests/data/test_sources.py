"""Every source: what it knows, and what it says when its files are wrong."""

import multiprocessing
import os
import subprocess
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.datasets import CIFAR10, MNIST
from torchvision.transforms import v2

from interp.errors import UserError
from interp.lit.classifier import Classifier
from interp.lit.data import ImageData, Splits, TensorImages
from interp.lit.data.digits import digits
from interp.lit.data.folder import image_folder
from interp.lit.data.images import stratified
from interp.lit.data.torchvision import torchvision
from tests.conftest import SHARED


def folder(base, classes=("cat", "dog"), parts=("train", "val"), count=3):
    for part in parts:
        for index, name in enumerate(classes):
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (20, 30), (index * 200, 10, 10)).save(base / part / name / f"{number}.png")
    return base


def test_digits_are_all_there_once_and_stratified():
    splits = digits(size=8)
    sets = (splits.train, splits.val, splits.test)
    assert sum(len(part) for part in sets) == 1797 and all(355 < len(part) < 365 for part in sets[1:])
    assert all(part.targets.bincount(minlength=10).min() > 0.09 * len(part) for part in sets)
    rows = torch.cat([part.images.flatten(1) for part in sets])
    from sklearn.datasets import load_digits

    expected = (torch.from_numpy(load_digits().data) / 16 * 255).round().byte()
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))


def test_data_module_knows_what_a_network_needs():
    data = ImageData(digits, size=16)
    assert (data.channels, data.size, len(data.class_names)) == (1, 16, 10)
    mean, std = data.normalization
    images = data.splits.train.images.float() / 255
    assert mean[0] == pytest.approx(float(images.mean()), abs=0.01)
    assert std[0] == pytest.approx(float(images.std()), abs=0.01)
    part = TensorImages(torch.arange(96).view(2, 3, 4, 4).byte(), torch.arange(2))
    few = ImageData(lambda: Splits(part, part, part, ("a", "b")))
    whole = torch.stack([few.splits.train[index][0] for index in range(2)]).double()
    assert few.normalization[0] == pytest.approx(whole.mean(dim=(0, 2, 3)).tolist(), rel=1e-12)
    assert few.normalization[1] == pytest.approx(whole.std(dim=(0, 2, 3)).tolist(), rel=1e-9)
    image, target = data.splits.val[0]
    assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1 and isinstance(target, int)


@pytest.mark.parametrize(("given", "kept"), [({"mean": [0.5]}, 0), ({"std": [0.25]}, 1)])
def test_a_mean_or_a_deviation_alone_is_kept(given, kept):
    normalization = ImageData(digits, size=8, **given).normalization
    measured = ImageData(digits, size=8).normalization
    assert normalization[kept] == next(iter(given.values())) and normalization[1 - kept] == measured[1 - kept]


def test_augmentation_touches_training_images_only():
    data = ImageData(digits, size=8, augment=[v2.RandomHorizontalFlip(p=1.0)], batch_size=4)
    plain = ImageData(digits, size=8, batch_size=4)
    flipped = data.train_dataloader().dataset[5][0]
    assert torch.equal(flipped, plain.train_dataloader().dataset[5][0].flip(-1))
    assert torch.equal(data.val_dataloader().dataset[5][0], plain.val_dataloader().dataset[5][0])


@pytest.mark.parametrize(("count", "processes", "size"), [(7, 3, 2), (10, 3, 3), (4, 4, 8), (2, 3, 2)])
def test_many_processes_read_each_image_once_and_each_of_them_some(count, processes, size):
    """Of fewer images than processes all read all, so that every share is as it would be."""
    images, seen = TensorImages(torch.arange(count).byte().view(-1, 1, 1, 1), torch.arange(count)), []
    for rank in range(processes):
        data = ImageData(lambda: Splits(images, images, images, ("a",)), batch_size=size)
        place = {"num_replicas": processes, "rank": rank}
        data.trainer = SimpleNamespace(world_size=processes, distributed_sampler_kwargs=place)
        loaders = data.val_dataloader(), data.test_dataloader()
        seen += [torch.cat([targets for _, targets in loader]).tolist() for loader in loaders]
    assert all(seen) and seen[::2] == seen[1::2]
    times = 1 if count >= processes else processes
    assert sorted(number for mine in seen[::2] for number in mine) == sorted([*range(count)] * times)


@pytest.mark.parametrize(("count", "processes", "size"), [(10, 4, 2), (9, 3, 2), (7, 3, 1), (5, 4, 8)])
def test_images_that_two_processes_train_on_count_once(count, processes, size):
    counted = []
    for rank in range(processes):
        sampler = DistributedSampler(range(count), processes, rank, shuffle=True)
        loader = DataLoader(range(count), size, sampler=sampler)
        module = SimpleNamespace(trainer=SimpleNamespace(train_dataloader=loader))
        for index, numbers in enumerate(loader):
            repeated = Classifier._repeated(module, (numbers, numbers), index)
            counted += numbers[: len(numbers) - repeated].tolist()
    assert sorted(counted) == list(range(count))
    alone = SimpleNamespace(trainer=SimpleNamespace(train_dataloader=DataLoader(range(count), size)))
    assert Classifier._repeated(alone, (numbers, numbers), index) == 0


def test_workers_leave_the_signals_of_a_job_to_the_main_process():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # torch now starts a thread in every worker, too
    torch.rand(300, 300) @ torch.rand(300, 300)
    data = ImageData(digits, size=8, batch_size=200, num_workers=1)
    batches = iter(data.val_dataloader())
    torch.set_num_threads(threads)
    next(batches)
    (worker,) = multiprocessing.active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    assert len(next(batches)[1]) == 159 and worker.is_alive()


def test_class_folders_may_have_any_bytes_in_their_names(tmp_path):
    base = folder(tmp_path, classes=("caf\udce8", "caf\udce9", "dog"))
    assert ImageData(image_folder, root=str(base)).class_names == (r"caf\udce8", r"caf\udce9", "dog")


def test_stratified_is_disjoint_and_complete():
    targets = torch.arange(103) % 4
    kept, held_out = stratified(targets, 0.25)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(103))
    assert targets[held_out].bincount().tolist() == [6, 6, 6, 6]


@pytest.mark.parametrize(("setting", "value"), [("batch_size", 0), ("num_workers", -1), ("probe_images", 0)])
def test_numbers_out_of_range_are_refused(setting, value):
    with pytest.raises(UserError, match=f"data.{setting}={value}: must be at least"):
        ImageData(digits, **{setting: value})


def test_mnist_from_its_files():
    root = SHARED / "data" / "mnist"
    if not root.is_dir():
        pytest.skip(f"{root} is not here")
    splits = torchvision(MNIST, str(root))
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [8100, 900, 1000]
    assert splits.class_names == ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    assert splits.train[0][0].shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("dataset", "files"), [(MNIST, "train-images-idx3-ubyte.*MNIST/raw/"), (CIFAR10, "cifar-10-python.tar.gz")]
)
def test_no_network_says_which_files_go_where(dataset, files, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError, match=rf"data.root={tmp_path} and could not be downloaded.*{files}"):
        torchvision(dataset, str(tmp_path))


def test_folder_of_images(tmp_path):
    splits = image_folder(str(folder(tmp_path)), size=16)
    assert splits.class_names == ("cat", "dog") and len(splits.train) == 6
    image, target = splits.train[5]
    assert image.shape == (3, 16, 16) and target == 1 and float(image[0].mean()) == pytest.approx(200 / 255)
    assert splits.test is None and len(image_folder(str(folder(tmp_path, parts=("test",))), size=16).test) == 6


def test_folder_without_validation(tmp_path):
    with pytest.raises(UserError, match=f"no folder {tmp_path}/val"):
        image_folder(str(folder(tmp_path, parts=("train",))))


def test_empty_class_folder_is_named(tmp_path):
    (folder(tmp_path) / "train" / "bird").mkdir()
    with pytest.raises(UserError, match=f"no images in {tmp_path}/train/bird"):
        image_folder(str(tmp_path))


def test_classes_that_differ_are_named(tmp_path):
    folder(tmp_path, parts=("train",))
    folder(tmp_path, classes=("cat", "cow"), parts=("val",))
    with pytest.raises(UserError, match="different classes: cow, dog"):
        image_folder(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_unreadable_image_is_named(tmp_path, content):
    path = folder(tmp_path) / "train" / "cat" / "1.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"cannot read the image {path}"):
        image_folder(str(tmp_path))


def test_a_data_set_whose_files_are_none_is_said_to_be_so(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in {"images-idx3": b"", "labels-idx1": bytes(16)}.items():
        for part in ("train", "t10k"):
            (raw / f"{part}-{name}-ubyte").write_bytes(content)
    for download in (True, False):
        with pytest.raises(UserError, match="MNIST in data.root=.* cannot be read .*: remove it"):
            torchvision(MNIST, str(tmp_path), download=download)
    (raw / "train-images-idx3-ubyte").unlink()
    os.mkfifo(raw / "train-images-idx3-ubyte")
    with pytest.raises(UserError, match="MNIST in data.root=.* cannot be read .*is no regular file"):
        torchvision(MNIST, str(tmp_path))
