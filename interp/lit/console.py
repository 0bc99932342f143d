"""What the terminal shows of a run."""

import logging
import warnings
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichModelSummary, RichProgressBar
from torch import nn

from interp.lit.safety.secrets import hide_in_logs
from interp.network.layer_table import COLUMNS, layer_table
from interp.network.modules import unwrap
from interp.probe import Probe

# Warnings that are Lightning's own affair, or about a choice that the harness makes on purpose.
EXPECTED = (
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*could be decompression bomb.*",  # interp.image_file refuses such images itself
    ".*recommended to use `self.log.*sync_dist=True.*",  # what is logged is the same on every process, or a torchmetric
)


def calm() -> None:
    """Leave Lightning's messages to the root logger, once, from warnings upwards; hide secrets in what is logged."""
    hide_in_logs()
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(False)
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)


class Progress(RichProgressBar):
    """Lightning's progress bars without the loggers' version number."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands beside the bar."""
        return {key: value for key, value in super().get_metrics(trainer, pl_module).items() if key != "v_num"}


class LayerSummary(RichModelSummary):
    """Lightning's model summary of the network alone, with the layer names that plugins take."""

    @staticmethod
    def summarize(summary_data: list[tuple[str, list[str]]], *args: Any, **kwargs: Any) -> None:
        """Show the rows inside `net.body`."""
        names = dict(summary_data)["Name"]
        rows = [index for index, name in enumerate(names) if name.startswith("net.body.")]
        kept = [(title, [cells[index] for index in rows]) for title, cells in summary_data]
        kept = [(t, [c.removeprefix("net.body.") for c in cells]) for t, cells in kept]
        RichModelSummary.summarize(kept, *args, **kwargs)


def print_layers(name: str, net: nn.Module, probe: Probe) -> None:
    """Print where studies look in `net` unless a layer is named, and why not elsewhere."""
    from rich import get_console
    from rich.table import Column, Table
    from rich.text import Text

    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    caption = "Depth: share of the computation. Bypass: share of a change of the answer that goes past the layer."
    columns = [Column(name, overflow="fold", no_wrap=name == COLUMNS[0]) for name in COLUMNS]  # names are wanted whole
    table = Table(*columns, title=f"Layers of {name or type(unwrap(net)).__name__}", caption=caption)
    for row in layer_table(net, probe.to(device).images[:8]):
        table.add_row(*map(Text, row))
    get_console().print(table)
