"""The search of the docs that W&B steers: what it passes to train.py composes."""

import itertools
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from conf.check import CONF, check
from interp.lit.hydra_versions import BASE

DOCS = Path(__file__).parents[1] / "docs"
SWEEP = yaml.safe_load((DOCS / "wandb_sweep.yaml").read_text())


def choices(parameter: dict) -> list:
    """Every value, or the ends of a range."""
    return (
        [parameter["value"]]
        if "value" in parameter
        else parameter.get("values") or [parameter["min"], parameter["max"]]
    )


@pytest.mark.parametrize("chosen", list(itertools.product(*map(choices, SWEEP["parameters"].values()))))
def test_what_it_passes_composes(chosen):
    given = dict(zip(SWEEP["parameters"], chosen, strict=True))
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    rendered = create_sweep_command_args({"args": {name: {"value": value} for name, value in given.items()}})
    with initialize_config_dir(str(CONF), **BASE):
        cfg = compose("train", ["output=/tmp/nowhere", *rendered["args_no_hyphens"]])
    check(cfg, "train")
    assert cfg.optimizer.lr == given["optimizer.lr"] and set(cfg.plugin) == {"nmf"}
    assert cfg.model._target_.endswith(given["model"])


def test_it_calls_the_program_with_a_metric_that_is_logged():
    assert (DOCS.parent / SWEEP["program"]).is_file() and SWEEP["metric"]["name"] == "val/accuracy"
    assert SWEEP["command"][-1] == "${args_no_hyphens}"
    assert (DOCS / "wandb_sweep.yaml").read_text() in (DOCS / "sweeps.md").read_text()
