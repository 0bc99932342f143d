"""Training as users set it: without checkpoints, without an end, without a test set, with networks of their own."""

import json
import logging

import pytest
import torch

NOISE = "data={{_target_: interp.lit.data.ImageData, source: {{_target_: tests.odd.noise, _partial_: true{}}}, {}}}"
SMALL = ["logger=report", "trainer.accelerator=cpu", "trainer.max_epochs=2"]
BATCHES = "batch_size: 4, probe_images: 3"


def noise(options: str = "", loading: str = BATCHES) -> str:
    return NOISE.format(f", {options}" if options else "", loading)


def rows(folder) -> list[dict]:
    lines = (folder / "results" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["metrics"] for line in lines]


def test_an_own_network_and_schedule_train_on_data_without_a_test_set(train, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    own = [
        "model={_target_: tests.odd.Plain, classes: 3}",
        "scheduler={_target_: torch.optim.lr_scheduler.StepLR, step_size: 2}",
    ]
    run = train(tmp_path, *SMALL, noise(), *own, quick=False)
    assert {"net.body.1.weight", "net.body.1.bias"} == set(run.checkpoint()["state_dict"])
    assert not any(name.startswith("test/") for row in rows(tmp_path) for name in row)
    assert f"Done: val/accuracy {run.objective:.4f}, val/accuracy of the best " in caplog.text
    assert "(not tested)" in caplog.text and "test/accuracy" not in caplog.text


@pytest.mark.parametrize(
    "off", [["+trainer.enable_checkpointing=false"], ["callbacks.checkpoint=null", "callbacks.last_checkpoint=null"]]
)
def test_without_checkpoints_the_last_weights_are_tested(train, tmp_path, off, caplog):
    caplog.set_level(logging.INFO)
    quick = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "data.size=8"]
    run = train(tmp_path, *off, *quick, "+trainer.limit_test_batches=1", "model.widths=[8]")
    assert run.objective is not None and "test/accuracy" in caplog.text and not (tmp_path / "checkpoints").exists()
    assert "no best checkpoint was kept: the network is tested as it is after the last epoch" in caplog.text


def test_a_time_limit_without_a_number_of_epochs(train, tmp_path):
    endless = ["trainer.max_epochs=-1", "+trainer.max_time={milliseconds: 1}", "scheduler=none"]
    run = train(
        tmp_path, *SMALL, noise(), "model={_target_: tests.odd.net}", *endless, "+plugin=confusion", quick=False
    )
    looks = sorted(path.name for path in (tmp_path / "results" / "confusion").iterdir())
    assert looks == ["epoch=0000", f"epoch={run.checkpoint()['epoch'] + 1:04d}"]


@pytest.mark.parametrize(
    ("count", "model", "left_out"), [(13, "normed", True), (13, "net", False), (12, "normed", False)]
)
def test_a_last_batch_of_one_image_is_left_out_where_it_must_be(train, tmp_path, caplog, count, model, left_out):
    run = train(tmp_path, *SMALL, noise(f"count: {count}"), f"model={{_target_: tests.odd.{model}}}", quick=False)
    said = "the last batch of each epoch would be one image (13 images, data.batch_size=4)"
    assert caplog.text.count(said) == left_out
    assert run.checkpoint()["global_step"] == 2 * (count // 4 + (count % 4 > 0) - left_out)


def test_batches_of_one_image_are_refused_by_a_network_that_needs_two(train, tmp_path):
    with pytest.raises(ValueError, match="data.batch_size=1 with 12 training images: batches of one image"):
        train(
            tmp_path,
            *SMALL,
            noise("", "batch_size: 1, probe_images: 3"),
            "model={_target_: tests.odd.normed}",
            quick=False,
        )


def test_images_of_different_sizes_in_a_batch_are_named():
    from interp.errors import UserError
    from interp.lit.data.batches import collate

    with pytest.raises(UserError, match=r"images of a batch have different sizes, such as \(1, 7, 8\) and \(1, 8, 8\)"):
        collate([(torch.rand(1, 8, 8), 0), (torch.rand(1, 7, 8), 1)])


def test_early_stopping_does_not_count_epochs_without_validation(train, tmp_path):
    stop = ["callbacks.early_stopping.patience=2", "+trainer.check_val_every_n_epoch=3", "trainer.max_epochs=7"]
    run = train(
        tmp_path,
        *SMALL,
        noise(),
        "model={_target_: tests.odd.net}",
        *stop,
        "optimizer.lr=0",
        "scheduler=none",
        quick=False,
    )
    assert run.checkpoint()["epoch"] == 6 and run.objective is not None  # two records: the second is no better, once
