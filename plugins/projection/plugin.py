"""How the projection study is asked for."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from interp.parts import attempt
from interp.probe import Probe, names_in
from interp.projection import METHODS, embed, measures, project, reduce
from plugins.base import Plugin, setting
from plugins.projection.result import ProjectionResult

PIXELS = 2**22  # of all thumbnails together: of up to 4,096 images they are 32 pixels wide


@dataclass(kw_only=True)
class ProjectionPlugin(Plugin):
    """Embeddings of the validation set in a plane (METHODS: projection; seed 004)."""

    shares: ClassVar[bool] = True

    layer: str | None = setting(None, "averaged over its positions; null: what the last linear layer reads")
    method: str = setting("tsne", "tsne, pca or umap (extra `umap`)", choices=METHODS)
    images: int = setting(1000, "of the validation set, balanced over the classes", least=5)
    dimensions: int = setting(
        50, "largest principal components of the embeddings, which everything is computed from", least=2
    )
    iterations: int = setting(500, "of tsne and umap; tsne needs 250 or more", least=250)

    def analyze(self, net: nn.Module, probe: Probe) -> ProjectionResult:
        chosen, of = probe.some(self.images), len(probe if probe.dataset is None else probe.dataset)
        side = min(32, max(8, math.isqrt(PIXELS // min(self.images, of))))
        embedded = embed(net, chosen.batches(self.batch_size), self.layer, side)
        vectors, kept = reduce(embedded.vectors, self.dimensions, self.seed)
        layout = project(vectors, self.method, iterations=self.iterations, seed=self.seed)
        left_out = _without_prediction(embedded.predicted)
        trust = attempt(left_out, "measures of the layout", lambda: measures(vectors, embedded.labels, layout))
        return ProjectionResult(
            vectors=vectors, variance_kept=kept, layer=self.layer or _read(net), layout=layout, method=self.method,
            iterations=self.iterations, seed=self.seed, labels=embedded.labels, predicted=embedded.predicted,
            class_names=probe.class_names, thumbnails=embedded.thumbnails, of=of, trust=trust or {},
            film=layout[None], looks=(0,), left_out=tuple(left_out),
            image_names=names_in(chosen.dataset, range(len(vectors))) if (embedded.labels < 0).any() else (),
        )  # fmt: skip


def _without_prediction(predicted: Tensor) -> list[str]:
    """What to say of images without a prediction, as a part that is left out."""
    missing = int((predicted < 0).sum())
    return [f"predictions of {missing} images (their logits are NaN or infinite)"] if missing else []


def _read(net: nn.Module) -> str:
    """What is embedded where no layer is named."""
    linear = any(isinstance(module, nn.Linear) for module in net.modules())
    return f"the input of the last {'linear layer' if linear else '1 x 1 convolution'}"
