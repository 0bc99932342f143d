"""Loss, accuracy and macro F1 of a training's stage, counted."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Scores(Metric):
    """Mean loss, accuracy and macro F1 of the images so far, over all processes.

    Letters: B images, J classes. torchmetrics' own F1 holds B x J^2 numbers at once where deterministic algorithms are
    on; here three counts a class are kept, from which the same values follow. The macro F1 is over the classes that
    have an image or a prediction; the loss keeps NaN.
    """

    full_state_update = False
    counts: Tensor  # (3, J) int64: images of the class that were predicted so, images of it, images predicted as it
    loss: Tensor  # (2,) float32: sum over the images, number of images

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("counts", torch.zeros(3, classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count a batch: its mean loss (), logits (B, J), classes (B,) int64 in 0 to J - 1."""
        predicted = logits.argmax(dim=1)
        hits = torch.where(predicted == targets, targets, 3 * self.classes)
        cells = torch.cat([hits, targets + self.classes, predicted + 2 * self.classes])
        self.counts += torch.bincount(cells, minlength=3 * self.classes + 1)[:-1].view(3, self.classes)
        self.loss += torch.stack([loss.float() * len(targets), loss.new_tensor(len(targets), dtype=torch.float32)])

    def compute(self) -> dict[str, Tensor]:
        """The scores as float32 () by name."""
        hits, true, predicted = self.counts
        seen = true + predicted
        f1 = (2 * hits / seen)[seen > 0].mean()
        return {"loss": self.loss[0] / self.loss[1], "accuracy": hits.sum() / true.sum(), "f1": f1}
