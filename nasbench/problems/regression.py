"""Numbers to be predicted for an image or for a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nasbench.data.dataset import Kind
from nasbench.data.split import Scale
from nasbench.objectives.metrics import METRICS, Metric, Metrics
from nasbench.problems.supervised import Supervised
from nasbench_compression.outputs import logits_of


@dataclass(frozen=True)
class Regression(Supervised):
    """Examples with k numbers each.

    Networks are trained with the mean squared error on targets of mean 0 and deviation 1, which is what they give;
    metrics, and what `predict` returns, are in the units of the targets.
    """

    name: ClassVar[str] = "regression"
    summary: ClassVar[str] = "numbers for each image or row; root mean squared and mean absolute error, R2"
    kind: ClassVar[Kind | None] = "values"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """val_rmse, val_mae and val_r2, each the mean over the k numbers."""
        return {name: METRICS[name] for name in ("val_rmse", "val_mae", "val_r2")}

    @property
    def scale(self) -> Scale:
        """The mean and deviation of the training targets."""
        assert self.data.targets is not None, "values have a scale"
        return self.data.targets

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean squared error in deviations of the training targets."""
        return functional.mse_loss(logits_of(outputs).float(), self.scale(targets))

    def sums(self, output: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """For each of the k numbers: squared and absolute errors, the targets less their mean, and its squares."""
        targets = targets.double()
        error = self.scale.back(output).double() - targets
        centred = targets - torch.tensor(self.scale.mean, dtype=torch.float64, device=targets.device)
        return {
            "squares": error.square().sum(0),
            "absolutes": error.abs().sum(0),
            "targets": centred.sum(0),
            "target_squares": centred.square().sum(0),
        }

    def summarise(self, totals: Mapping[str, Tensor], examples: int) -> Metrics:
        """Rmse and mae in units of the targets, and r2, the share of their variance that is explained."""
        squares = totals["squares"]
        spread = totals["target_squares"] - totals["targets"].square() / examples
        return {
            "rmse": float((squares / examples).sqrt().mean()),
            "mae": float((totals["absolutes"] / examples).mean()),
            "r2": float((1 - squares / spread.clamp(min=1e-12)).mean()),
        }

    def decode(self, outputs: Any) -> Any:
        """Outputs in the units of the targets."""
        return self.scale.back(torch.as_tensor(np.asarray(outputs))).numpy()
