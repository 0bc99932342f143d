"""Names of before: what a configuration or a checkpoint of an earlier version calls, by the names that it has now."""

from typing import Any

NOW = {  # of classes and functions that a configuration could name
    "interp.lit.checkpoint.RunCheckpoint": "interp.lit.checkpoints.checkpoint.RunCheckpoint",
    "interp.lit.report.Report": "interp.lit.report.logger.Report",
    "interp.lit.sinks.wandb": "interp.lit.wandb.logger.wandb",
}


def with_new_names(node: Any) -> Any:
    """A plain configuration with the new name of whatever `_target_` names, at any depth.

    >>> with_new_names({"checkpoint": {"_target_": "interp.lit.checkpoint.RunCheckpoint", "monitor": "val/loss"}})
    {'checkpoint': {'_target_': 'interp.lit.checkpoints.checkpoint.RunCheckpoint', 'monitor': 'val/loss'}}
    """
    if isinstance(node, list):
        return [with_new_names(item) for item in node]
    if not isinstance(node, dict):
        return node
    named = {key: with_new_names(value) for key, value in node.items()}
    if isinstance(target := named.get("_target_"), str):
        named["_target_"] = NOW.get(target, target)
    return named
