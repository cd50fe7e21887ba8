"""How much compute a training took, by the two methods of Amodei & Hernandez 2018, "AI and Compute" (OpenAI), appendix.

Either the operations of the network are counted, or the time of the devices is multiplied by what they could do at
best and by the share of it that they are assumed to have done. Both give operations, additions and multiplications
counted apart, whatever their precision; 1e15 of them a second for a day are one petaflop/s-day.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nasbench.costs.cost import FLOPS_PER_MAC
from nasbench_registry import UserError

PASSES = 3  # a forward pass, and a backward one that costs twice as much
ASSUMED_UTILIZATION = 0.33  # what the source usually assumes
PFS_DAY = 1e15 * 86_400  # operations of one petaflop/s-day


@dataclass(frozen=True)
class Compute:
    """Compute of a training.

    Attributes:
        operations: Number of operations: additions and multiplications.
    """

    operations: float

    @property
    def pfs_days(self) -> float:
        """Petaflop/s-days."""
        return self.operations / PFS_DAY


def compute_by_operations(macs: float, samples: float, epochs: float) -> Compute:
    """Compute of a training by counting: 2 operations a multiply-add, times 3 for forward and backward.

    Optimizer, augmentation and validation are left out, as in the source.

    Args:
        macs: Multiply-adds of one sample.
        samples: Number of samples of one epoch.
        epochs: Number of epochs of the training.

    Raises:
        UserError: A number is negative or not finite.
    """
    for name, value in (("macs", macs), ("samples", samples), ("epochs", epochs)):
        _check(name, value)
    return Compute(FLOPS_PER_MAC * PASSES * macs * samples * epochs)


def compute_by_time(
    device_seconds: float, peak_flops_per_s: float, utilization: float = ASSUMED_UTILIZATION
) -> Compute:
    """Compute of a training from its time.

    Args:
        device_seconds: Seconds of all devices together.
        peak_flops_per_s: Peak of one device, in operations a second.
        utilization: Share of the peak that training is assumed to reach, from 0 to 1.

    Raises:
        UserError: A number is negative or not finite, or the utilization above 1.
    """
    for name, value in (("device_seconds", device_seconds), ("peak_flops_per_s", peak_flops_per_s)):
        _check(name, value)
    if not 0 <= utilization <= 1:
        raise UserError(f"utilization is {utilization}; give a share from 0 to 1, such as {ASSUMED_UTILIZATION}.")
    return Compute(device_seconds * peak_flops_per_s * utilization)


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{name} is {value}; give a number from 0.")
