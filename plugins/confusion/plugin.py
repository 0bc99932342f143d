"""How the confusion study is asked for."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from interp.confusion import blocks, confused_pairs, confusions, examples, images_at, predictions, row_shares
from interp.probe import Probe
from plugins.base import Plugin, setting
from plugins.confusion.result import ConfusionResult
from plugins.confusion.view import FRAME


@dataclass(kw_only=True)
class ConfusionPlugin(Plugin):
    """Confusion matrix of the whole validation set, with the most confused pairs (METHODS: confusion; seed 004)."""

    shares: ClassVar[bool] = True

    pairs: int = setting(8, "most frequent mistakes to show", least=1)
    examples: int = setting(8, "images of each, the most confident first", least=1)
    shown: int = setting(
        24, "rows and columns of the picture: of more classes the worst ones, and all others in one", least=2
    )

    def analyze(self, net: nn.Module, probe: Probe) -> ConfusionResult:
        answers = predictions(net, probe.batches(self.batch_size))
        counts = confusions(answers, len(probe.class_names))
        pairs = confused_pairs(counts, self.pairs)
        chosen = examples(answers, pairs, self.examples)
        return ConfusionResult(
            cells=counts.cells, class_names=probe.class_names, pairs=pairs, examples=images_at(probe, chosen),
            examples_found=(chosen >= 0).sum(dim=1), unknown=int((answers.true < 0).sum()), shown=self.shown,
            film=row_shares(blocks(counts, FRAME)).float()[None], looks=(0,),
        )  # fmt: skip
