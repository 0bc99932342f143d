"""Results survive the disk, whole or not at all."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp.files import regular, replacing
from interp.result import Result, finite
from interp.storage import packed, unpacked


@dataclass(frozen=True)
class Found(Result):
    values: Tensor
    names: tuple[str, ...]
    share: float

    def scalars(self) -> dict[str, float]:
        return {"mean": float(self.values.mean())}


def test_saved_and_loaded_is_equal(tmp_path):
    found = Found(torch.rand(3, 4).T.requires_grad_(), ("a", "b"), 0.5)
    found.save(tmp_path / "epoch=0001", epoch=1)
    again = Found.load(tmp_path / "epoch=0001")
    assert torch.equal(found.values, again.values) and again.names == ("a", "b") and again.share == 0.5
    assert not found.values.requires_grad


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple)
    | st.dictionaries(st.sampled_from(["tuple", "pairs", "a", "1"]) | st.integers() | st.tuples(st.text()), inner),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_whatever_json_can_hold_comes_back_as_it_was(what):
    again = unpacked(json.loads(json.dumps(packed(what))))
    assert again == what and repr(again) == repr(what)  # 1, 1.0 and True are equal, a tuple and a list are not


def test_nested_tuples_survive_the_disk(tmp_path):
    names = (("a", ("b",)), ["c", {1: ("d",), "tuple": ()}, {"tuple": 2}, {}])
    Found(torch.rand(2), names, 0.5).save(tmp_path)
    assert repr(Found.load(tmp_path).names) == repr(names)


def test_a_result_is_no_alias_of_what_goes_on_training(tmp_path):
    for weights in (torch.rand(3, 4), torch.rand(3, 4).T, torch.rand(2, 3, 4)[1:], torch.nn.Linear(2, 2).weight):
        found = Found(weights, (), 0.0)
        before = found.values.clone()
        weights.detach().add_(1)
        assert torch.equal(found.values, before) and found.values.is_contiguous()
    shared = torch.rand(4)
    replace(Found(shared, (), 0.0), share=1.0).save(tmp_path)
    assert torch.equal(Found.load(tmp_path).values, shared)


def test_a_flipped_byte_in_either_file_is_no_result(tmp_path):
    Found(torch.rand(3), ("a", "b"), 0.5).save(tmp_path, epoch=1)
    tensors, about = tmp_path / "result.safetensors", tmp_path / "result.json"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="is damaged: result.safetensors and the fields do not match their digest"):
        Found.load(tmp_path)
    tensors.write_bytes(whole)
    about.write_text(about.read_text().replace("0.5", "0.7"))
    with pytest.raises(ValueError, match="is damaged"):
        Found.load(tmp_path)


def test_results_of_before_have_no_digest_and_load(tmp_path):
    Found(torch.rand(3), ("a", "b"), 0.5).save(tmp_path)
    about = json.loads((tmp_path / "result.json").read_text())
    del about["sha256"]
    about["fields"]["names"] = ["a", "b"]  # as they were written then
    (tmp_path / "result.json").write_text(json.dumps(about))
    assert Found.load(tmp_path).names == ("a", "b")


def test_only_regular_files_are_read(tmp_path):
    Found(torch.rand(3), (), 0.5).save(tmp_path)
    for name in ("result.json", "result.safetensors"):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(OSError, match="is no regular file"):  # and not: waits for ever
            Found.load(tmp_path)
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(kept)
    for path in (tmp_path, Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(OSError, match="is no regular file"):
            regular(path)


def test_a_field_that_an_earlier_version_did_not_have_takes_its_default(tmp_path):
    Found(torch.rand(2), ("a",), 0.5).save(tmp_path)
    about = json.loads((tmp_path / "result.json").read_text())
    del about["fields"]["left_out"], about["sha256"]
    (tmp_path / "result.json").write_text(json.dumps(about))
    assert Found.load(tmp_path).left_out == ()


def test_a_torn_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("earlier")
    with pytest.raises(OSError, match="disk full"), replacing(path) as beside:
        beside.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_finite_counts_what_is_not():
    with pytest.raises(ValueError, match="weights hold 2 NaN or infinite values of 3"):
        finite(torch.tensor([1.0, float("nan"), float("inf")]), "weights")
