"""The convolutions and linear layers of networks, each measured once on a device.

Cai et al. 2019 (ProxylessNAS, arXiv 1812.00332) and Wu et al. 2019 (FBNet, arXiv 1812.03443) tabulate the blocks of one
space; here the entries are operators, read from what runs, so that any space has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nasbench.costs.operators import KINDS, Operator
from nasbench.devices.device import Device
from search_spaces import Task

Floats = npt.NDArray[np.float64]

COLUMNS = (*(f"{kind}_ms" for kind in KINDS), "measured_operators")
"""Columns of a network by the table: milliseconds of its operators by kind, and how many they are."""

SECONDS_EACH = 0.05
TOGETHER = 200  # operators that are in memory at a time
MOST = 800  # operators that a table measures; the others are estimated from their nearest relative


@dataclass(frozen=True)
class OperatorTable:
    """Measured operators of one device.

    Attributes:
        ms: Milliseconds of a network of this one operator.
        nothing_ms: Milliseconds of a network that does next to nothing: what every call costs.
    """

    ms: Mapping[Operator, float]
    nothing_ms: float

    def row(self, operators: Mapping[Operator, int]) -> Floats:
        """(len(COLUMNS),) what the table says of a network with so many of each operator.

        An operator that was not measured costs as much as the one of its kind with the closest shape, in proportion to
        their multiply-adds.
        """
        totals = dict.fromkeys(COLUMNS, 0.0)
        for operator, count in operators.items():
            totals[f"{operator.kind}_ms"] += count * self._alone_ms(operator)
            totals["measured_operators"] += count
        return np.array([totals[name] for name in COLUMNS])

    def _alone_ms(self, operator: Operator) -> float:
        if operator in self.ms:
            return max(0.0, self.ms[operator] - self.nothing_ms)
        tabulated = self._shapes.get(operator.kind)
        if tabulated is None:
            return 0.0
        relatives, shapes = tabulated
        nearest = relatives[int(((shapes - _shape(operator)) ** 2).sum(axis=1).argmin())]
        return max(0.0, self.ms[nearest] - self.nothing_ms) * operator.macs / nearest.macs

    @cached_property
    def _shapes(self) -> dict[str, tuple[list[Operator], Floats]]:
        by_kind: dict[str, list[Operator]] = {}
        for operator in self.ms:
            by_kind.setdefault(operator.kind, []).append(operator)
        return {
            kind: (operators, np.array([_shape(operator) for operator in operators]))
            for kind, operators in by_kind.items()
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        rows = [asdict(operator) | {"ms": ms} for operator, ms in self.ms.items()]
        return {"nothing_ms": self.nothing_ms, "operators": rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OperatorTable:
        """The table that `to_json` wrote."""
        ms = {
            Operator.from_json({key: value for key, value in row.items() if key != "ms"}): float(row["ms"])
            for row in data["operators"]
        }
        return cls(ms, float(data["nothing_ms"]))


def _shape(operator: Operator) -> Floats:
    """Logarithms of the sizes that decide how long an operator takes."""
    kernel = operator.kernel or (1, 1)
    numbers = (*operator.inputs, operator.outputs, *kernel, *operator.stride, operator.groups)
    return np.log(np.array(numbers, dtype=np.float64))


def measure_operators(
    device: Device,
    used: Iterable[Mapping[Operator, int]],
    *,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> OperatorTable:
    """Measure each distinct operator of some networks on a device, at most `MOST`, the most frequent ones.

    Args:
        device: Device that times compiled networks.
        used: Number of times that each network has each operator.
        seed: Random seed of the weights, and of the order in which they take turns.
        on_progress: Called with the number of compiled operators and of all.
    """
    total: Counter[Operator] = Counter()
    for counts in used:
        total.update(counts)
    operators = [operator for operator, _ in total.most_common(MOST)]
    medians: list[float] = []
    for start in range(0, 1 + len(operators), TOGETHER):
        compiled = []
        for operator in [None, *operators][start : start + TOGETHER]:
            task = Task(operator.inputs if operator else (1, 1, 8), 2)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = operator.network() if operator else _Scale()
            compiled.append((device.compile(network.eval(), task), task))
            on_progress(start + len(compiled), 1 + len(operators))
        timed = device.measure_quietly(compiled, budget_s=SECONDS_EACH, seed=seed)
        medians += [latency.median for latency in timed]
    return OperatorTable(dict(zip(operators, medians[1:], strict=True)), medians[0])


class _Scale(nn.Module):
    """As little as a network can do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Half of the image."""
        return 0.5 * x
