"""Measured architectures of a space, and the latency predictor that they give."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from nasbench.costs.work import WORK, work_and_operators
from nasbench.latency.operator_table import COLUMNS, OperatorTable
from nasbench.latency.predictors import PREDICTORS, HeldOut, LatencyPredictor, Networks, get_predictor
from nasbench.latency.predictors.validation import best, calibrated, cross_validate
from nasbench_registry import UserError, one_of
from search_spaces import Architecture, SearchSpace, Task

Floats = npt.NDArray[np.float64]

AUTO = "auto"
LEAST = 10  # measured networks
MEASURED = ("architectures", "work", "latency_ms", "protocol")  # keys that a stored calibration must have


@dataclass(frozen=True)
class Calibration:
    """Measurements of a sample, and the predictor that is fitted on them. JSON in and out, no pickle.

    Only measurements are stored: a predictor is fitted on them again wherever it is needed, which takes a second at
    most and always gives the same one.

    Attributes:
        architectures: Architectures in the notation of the space.
        work: (n, len(WORK)) work of the networks.
        latency_ms: (n,) measured latencies in milliseconds.
        protocol: How they were measured.
        operators: Measured operators of the device; None if there are none.
        table: (n, len(COLUMNS)) latency of each architecture by its operators; (n, 0) without them.
        method: Name of the predictor.
        std_scale: Factor of the predictor's deviations, so that 95 % of networks are inside of their intervals.
    """

    architectures: Sequence[str]
    work: Floats
    latency_ms: Floats
    protocol: Mapping[str, Any]
    operators: OperatorTable | None = None
    table: Floats | None = None
    method: str = "work"
    std_scale: float = 1.0

    def networks(self, space: SearchSpace) -> Networks:
        """The descriptions of the architectures that predictors read."""
        table = np.zeros((len(self.work), 0)) if self.table is None else self.table
        return Networks.of(space, [space.parse(text) for text in self.architectures], self.work, table)

    def predictor(self, space: SearchSpace) -> NetworkPredictor:
        """A predictor of the space's networks, fitted on all measurements."""
        fitted = get_predictor(self.method).fit(self.networks(space), self.latency_ms)
        return NetworkPredictor(space, fitted, self.operators, self.std_scale)

    def extended(self, architectures: Sequence[str], work: Floats, table: Floats, latency_ms: Floats) -> Calibration:
        """The calibration with further measurements, described as its own; what its predictor is stays as it is.

        Args:
            architectures: (k) architectures in the notation of the space.
            work: (k, len(WORK)) work, as `described` gives it.
            table: (k, len(COLUMNS)) columns, as `described` gives them; (k, 0) if no operators were measured.
            latency_ms: (k,) measured latencies in milliseconds.
        """
        return dataclasses.replace(
            self,
            architectures=[*self.architectures, *architectures],
            work=np.vstack([self.work, work]),
            table=None if self.table is None else np.vstack([self.table, table]),
            latency_ms=np.concatenate([self.latency_ms, latency_ms]),
        )

    def hold_out(self, space: SearchSpace, *, seed: int = 0) -> HeldOut:
        """Cross-validate the predictor in five parts; deviations are scaled by what the other parts ask for."""
        return decide(self, space, self.method, seed=seed)[1][self.method]

    def methods(self) -> list[str]:
        """The predictors that can be fitted on these measurements."""
        return [name for name in PREDICTORS if name != "lookup" or self.operators is not None]

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "architectures": list(self.architectures),
            "work": {"columns": list(WORK), "rows": self.work.tolist()},
            "latency_ms": self.latency_ms.tolist(),
            "protocol": dict(self.protocol),
            "operators": None if self.operators is None else self.operators.to_json(),
            "table": None if self.table is None else {"columns": list(COLUMNS), "rows": self.table.tolist()},
            "predictor": self.method,
            "std_scale": self.std_scale,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_json` wrote; UserError if it was written for other kinds of work."""
        table, operators = data.get("table"), data.get("operators")
        for stored, columns in ((data["work"], WORK), (table, COLUMNS)):
            if stored is not None and tuple(stored["columns"]) != columns:
                raise UserError(
                    f"the stored latency measurements describe {', '.join(stored['columns'])}; this version needs "
                    f"{', '.join(columns)}; delete them (predictor.json of a run) to measure again."
                )
        return cls(
            data["architectures"],
            np.array(data["work"]["rows"]),
            np.array(data["latency_ms"]),
            data["protocol"],
            None if operators is None else OperatorTable.from_json(operators),
            None if table is None else np.array(table["rows"]),
            data.get("predictor", "work"),
            data.get("std_scale", 1.0),
        )


class NetworkPredictor:
    """Predicts the latency of networks of a space on the device that was measured.

    Args:
        space: Search space of the networks.
        fitted: Fitted predictor.
        operators: Measurements of operators, if there are any.
        std_scale: Factor of the deviations.
    """

    def __init__(
        self, space: SearchSpace, fitted: LatencyPredictor, operators: OperatorTable | None, std_scale: float
    ) -> None:
        self.space, self.fitted, self.operators, self.std_scale = space, fitted, operators, std_scale

    def predict(self, arch: Architecture, model: nn.Module, task: Task) -> tuple[float, float]:
        """Mean and standard deviation in milliseconds of one architecture, whose network is `model`.

        Runs the network once for what it does; it is left as it was.
        """
        mean, std = self.predict_many([arch], *described([(model, task)], self.operators))
        return float(mean[0]), float(std[0])

    def predict_many(self, archs: Sequence[Architecture], work: Floats, table: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation in milliseconds, (n,) each, of architectures described as `described` does."""
        mean, std = self.fitted.predict(Networks.of(self.space, archs, work, table))
        return mean, std * self.std_scale


def described(networks: Iterable[tuple[nn.Module, Task]], operators: OperatorTable | None) -> tuple[Floats, Floats]:
    """(n, len(WORK)) what networks do, and (n, len(COLUMNS)) what measured operators say of them, (n, 0) without."""
    rows, tables = [], []
    for model, task in networks:
        done, used = work_and_operators(model, task)
        rows.append(done)
        tables.append(np.zeros(0) if operators is None else operators.row(used))
    return np.array(rows), np.array(tables)


def decide(
    calibration: Calibration, space: SearchSpace, method: str, *, seed: int = 0
) -> tuple[Calibration, dict[str, HeldOut]]:
    """The measurements with the predictor that is to be used, and the cross-validation of every one looked at.

    Args:
        calibration: Calibration with the measurements.
        space: Search space of the architectures.
        method: Name of a predictor; `auto` is the one that ranks held-out architectures best.
        seed: Random seed of the cross-validation.

    Raises:
        UserError: There are fewer than 10 measurements, no such predictor, or it cannot be fitted on them.
    """
    networks, latency_ms = calibration.networks(space), calibration.latency_ms
    if len(networks) < LEAST:
        raise UserError(
            f"a latency predictor needs {LEAST} or more measured networks, not {len(networks)}; if there are no more, "
            f"measure each candidate with device.latency: measured."
        )
    names = calibration.methods() if method == AUTO else [one_of("predictor", method, (*PREDICTORS, AUTO))]
    raw = {
        name: cross_validate(functools.partial(get_predictor, name), networks, latency_ms, seed=seed) for name in names
    }
    name = best(raw)
    decided = dataclasses.replace(calibration, method=name, std_scale=raw[name].scale())
    return decided, {predictor_name: calibrated(held_out, seed=seed) for predictor_name, held_out in raw.items()}
