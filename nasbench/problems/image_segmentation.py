"""A class for each pixel of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from nasbench.data.dataset import IGNORED, Kind
from nasbench.objectives.metrics import METRICS, Metric, Metrics
from nasbench.problems.supervised import Supervised
from nasbench_compression.outputs import logits_of


@dataclass(frozen=True)
class ImageSegmentation(Supervised):
    """Images with a class for each pixel; pixels of class 255 count nowhere.

    The mean intersection over union is that of PASCAL VOC (Everingham et al. 2015): of each class, over all pixels of
    all images, the intersection of its true and its predicted pixels over their union; classes without any pixel in
    both are left out of the mean.
    """

    name: ClassVar[str] = "image_segmentation"
    summary: ClassVar[str] = "a class for each pixel; mean intersection over union, pixel accuracy, cross-entropy"
    kind: ClassVar[Kind | None] = "masks"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """val_miou_pct, val_pixel_acc_pct and val_loss."""
        return {name: METRICS[name] for name in ("val_miou_pct", "val_pixel_acc_pct", "val_loss")}

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Cross-entropy of logits (n, classes, h, w), with the label smoothing of the training."""
        return functional.cross_entropy(
            logits_of(outputs), targets, ignore_index=IGNORED, label_smoothing=self.training.label_smoothing
        )

    def sums(self, output: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """(classes, classes) pixels by their class and the predicted one, and the cross-entropy."""
        classes, labelled = output.shape[1], targets != IGNORED
        pairs = classes * targets[labelled] + output.argmax(1)[labelled]
        return {
            "pixels": pairs.bincount(minlength=classes**2).reshape(classes, classes),
            "loss": functional.cross_entropy(output, targets, ignore_index=IGNORED, reduction="sum"),
        }

    def summarise(self, totals: Mapping[str, Tensor], examples: int) -> Metrics:
        """miou_pct, pixel_acc_pct, and loss, the mean cross-entropy of a pixel."""
        pixels = totals["pixels"]
        hits = pixels.diagonal()
        union = pixels.sum(0) + pixels.sum(1) - hits
        count = max(1.0, float(pixels.sum()))
        return {
            "miou_pct": 100 * float((hits / union)[union > 0].mean()),
            "pixel_acc_pct": 100 * float(hits.sum()) / count,
            "loss": float(totals["loss"]) / count,
        }
