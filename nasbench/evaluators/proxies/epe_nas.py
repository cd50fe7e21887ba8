"""epe_nas: how alike images of one class move the output (Lopes, Alirezazadeh & Alexandre, arXiv 2102.08099)."""

from __future__ import annotations

import math

import torch

from nasbench.evaluators.proxies.jacov import correlations
from nasbench.evaluators.proxies.probe import Probe
from nasbench_registry import UserError

SMALL = 1e-5
MANY_CLASSES = 100


def epe_nas(probe: Probe) -> float:
    """Over the classes, the sum of |sum of log(|c| + k)|, where c are the correlations of the Jacobians of its images.

    Eq. 4 and 5. If the network has more than 100 classes, the sum of each class is divided by the number of its images,
    and the score is the sum of |difference| over all pairs of classes, divided by the number of classes among the
    images. The Jacobian of an image is that of the sum of all outputs; k is 1e-5. Minus infinity where that of an image
    is constant.

    Raises:
        UserError: The targets are no classes.
    """
    targets = probe.targets
    if targets is None or targets.ndim != 1 or targets.is_floating_point():
        raise UserError("zero-cost proxy 'epe_nas' compares images of one class, and the targets are no classes.")
    jacobian, by_class = probe.jacobian, list[float]()
    many = probe.halves[0].classes > MANY_CLASSES
    for label in torch.unique(targets).tolist():
        correlation = correlations(jacobian[targets == label])
        if not bool(torch.isfinite(correlation).all()):
            return -math.inf
        logs = torch.log(correlation.abs() + SMALL)
        by_class.append(float(logs.sum()) / (len(logs) if many else 1))
    if many:
        return sum(abs(score - other) for score in by_class for other in by_class) / len(by_class)
    return sum(map(abs, by_class))
