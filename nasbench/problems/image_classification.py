"""One image, or one row of a table, and k classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from nasbench.data.dataset import Kind
from nasbench.objectives.metrics import METRICS, Metric, Metrics
from nasbench.problems.supervised import Supervised
from nasbench.training.training import Loss
from nasbench_compression.outputs import logits_of


@dataclass(frozen=True)
class ImageClassification(Supervised):
    """Examples of one class each."""

    name: ClassVar[str] = "image_classification"
    summary: ClassVar[str] = "one class for each image or row; accuracy, cross-entropy"
    kind: ClassVar[Kind | None] = "classes"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """val_acc_pct and val_loss."""
        return {name: METRICS[name] for name in ("val_acc_pct", "val_loss")}

    @property
    def _criterion(self) -> Loss | None:
        return None

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Cross-entropy of logits (n, classes), with the label smoothing of the training."""
        return functional.cross_entropy(logits_of(outputs), targets, label_smoothing=self.training.label_smoothing)

    def sums(self, output: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """How many are right, and the cross-entropy."""
        return {
            "correct": (output.argmax(1) == targets).sum(),
            "loss": functional.cross_entropy(output, targets, reduction="sum"),
        }

    def summarise(self, totals: Mapping[str, Tensor], examples: int) -> Metrics:
        """acc_pct, the share of examples whose largest logit is their class, and loss, the mean cross-entropy."""
        return {
            "acc_pct": 100 * float(totals["correct"]) / examples,
            "loss": float(totals["loss"]) / examples,
        }
