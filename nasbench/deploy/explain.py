"""Why a network takes as long as it does: where the time goes in the runtime, and what bounds it there.

The profiler of the runtime tells seconds by operator. Calls under it take turns with calls without it, and both are
read in the quieter ones; what the operators do not add up to is the overhead of a call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench.deploy.layers import Layer, layers_of, located, module_of
from nasbench.deploy.setting import Setting
from nasbench.devices.clock import clock
from nasbench.devices.device import processor_name
from nasbench.devices.measure import Latency, summarise
from nasbench.devices.roofline import Bound, Roofline
from nasbench_compression import CompiledModel
from nasbench_compression.compilation.profiler import QUIET, NoProfiler, OperatorTime
from nasbench_compression.timing import TURN, Seconds, take_turns, time_calls

SECONDS, ROUNDS = 1.0, 6  # least seconds and rounds of calls in turn, with and without the profiler
LEFT = 0.1  # share of the profiler's time of an operator that is never subtracted as the profiler's own cost
ROUNDING_S = 1e-9  # seconds of a call that are only the rounding of sums
VECTOR = 8
"""Channels that the narrowest vector unit in use takes at a time."""
FAMILIES = {
    "cast": "casts and requantizations",
    "reorder": "changes of layout",
    "other": "other operators",
    "call": "overhead of the call",
}


@dataclass(frozen=True)
class ProfiledOperator:
    """An operator of a profile, with its layer and its bound.

    Attributes:
        operator: Operator as the runtime ran it.
        layer: Layer of the network that it computes; None where it computes none or that is not known.
        needed_macs: Multiply-adds of that layer; fewer than those executed where channels are padded.
        bound: What bounds the operator, see `Roofline.bound`.
        roof_s: Seconds that it would take at the roof.
    """

    operator: OperatorTime
    layer: str | None
    needed_macs: int | None
    bound: Bound
    roof_s: float

    @property
    def family(self) -> str:
        """A key of `FAMILIES`, or `layer`."""
        if self.operator.cast or self.operator.reorder:
            return "cast" if self.operator.cast else "reorder"
        return "other" if self.layer is None else "layer"

    @property
    def place(self) -> str:
        """The row in which it is compared with operators of another model."""
        if self.layer is not None:
            return self.layer
        if self.family in ("cast", "reorder"):
            return FAMILIES[self.family]
        return module_of(self.operator) or FAMILIES["other"]

    def to_json(self, total_s: float) -> dict[str, Any]:
        """Every number by name."""
        operator = self.operator
        return {
            "name": operator.name,
            "kind": operator.kind,
            "layer": self.layer,
            "place": self.place,
            "fused": list(operator.parts) if len(operator.parts) > 1 else [],
            "precision": operator.precision,
            "family": self.family,
            "ms": 1000 * operator.seconds,
            "share": operator.seconds / total_s,
            "macs": operator.macs,
            "needed_macs": self.needed_macs,
            "bytes": operator.bytes,
            "channels": operator.channels,
            "bound": self.bound,
            "roof_ms": 1000 * self.roof_s,
        }


@dataclass(frozen=True)
class Profile:
    """The time of a compiled model, by operator.

    Attributes:
        latency: Latency of a call without the profiler.
        call_s: Seconds of a call in the quieter calls, which are read as those of the operators are.
        operators: Operators in the order in which they run; empty where the runtime cannot tell.
        why_not: Reason for which the runtime cannot tell.
        layers: Layers of the network, by name; empty where there is only an artefact.
        setting: Setting in which the network was compiled.
        facts: Facts that the artefact holds, see `CompiledModel.describe`.
        bytes: Size of the artefact in bytes.
        roofline: Roofline of this machine.
    """

    latency: Latency
    call_s: float
    operators: Sequence[ProfiledOperator]
    why_not: str | None
    layers: Mapping[str, Layer]
    setting: Setting
    facts: Mapping[str, Any]
    bytes: int
    roofline: Roofline
    notes: Sequence[str] = field(default=())

    @property
    def operators_s(self) -> float:
        """Seconds of all operators."""
        return sum(profiled.operator.seconds for profiled in self.operators)

    @property
    def total_s(self) -> float:
        """Seconds that shares are of: those of a call, or of the operators where they add up to more."""
        return max(self.call_s, self.operators_s)

    @property
    def overhead_s(self) -> float:
        """Seconds of the runtime and Python around the operators; 0 where the operators add up to more than a call."""
        overhead_s = self.call_s - self.operators_s
        return overhead_s if self.operators and overhead_s > ROUNDING_S else 0.0

    def seconds(self, **attributes: Any) -> float:
        """Seconds of the operators whose attributes have these values, as ``family="cast"``."""
        return sum(
            profiled.operator.seconds
            for profiled in self.operators
            if all(getattr(profiled, name) == value for name, value in attributes.items())
        )

    def by_place(self) -> dict[str, float]:
        """Seconds by `ProfiledOperator.place`, in the order in which they run; the overhead of the call at the end."""
        seconds_by_place: dict[str, float] = {}
        for profiled in self.operators:
            seconds_by_place[profiled.place] = seconds_by_place.get(profiled.place, 0.0) + profiled.operator.seconds
        if self.operators:
            seconds_by_place[FAMILIES["call"]] = self.overhead_s
        return seconds_by_place

    @property
    def float_left(self) -> list[ProfiledOperator]:
        """Operators in float inside an int8 graph, those apart that only cast or move."""
        if self.setting.precision != "int8":
            return []
        return [
            profiled
            for profiled in self.operators
            if profiled.operator.precision != "int8" and profiled.family in ("layer", "other")
        ]

    @property
    def awkward(self) -> list[ProfiledOperator]:
        """Products with a width that is no multiple of `VECTOR` and more than it, whose last lanes do nothing."""
        return [
            profiled
            for profiled in self.operators
            if profiled.layer is not None and _awkward(self.layers[profiled.layer])
        ]

    def to_json(self) -> dict[str, Any]:
        """The JSON that `nasbench explain --json` prints of a model."""
        total = self.total_s
        return {
            "setting": self.setting.to_json(),
            "label": self.setting.label(),
            "latency_ms": self.latency.to_json(),
            "call_ms": 1000 * self.call_s,
            "size_bytes": self.bytes,
            "why_not": self.why_not,
            "operators_ms": 1000 * self.operators_s,
            "overhead_ms": 1000 * self.overhead_s if self.operators else None,
            "overhead_share": self.overhead_s / total if self.operators else None,
            "casts_ms": 1000 * self.seconds(family="cast"),
            "reorders_ms": 1000 * self.seconds(family="reorder"),
            "bound_ms": {bound: 1000 * self.seconds(bound=bound) for bound in ("arithmetic", "memory", "overhead")},
            "float_in_int8": [profiled.operator.name for profiled in self.float_left],
            "awkward_widths": {
                str(profiled.layer): self.layers[str(profiled.layer)].channels for profiled in self.awkward
            },
            "given_operators": self.facts.get("operators"),
            "run_operators": self.facts.get("operators_optimized"),
            "operators": [profiled.to_json(total) for profiled in self.operators],
        }


def _awkward(layer: Layer) -> bool:
    ends = [layer.channels[1]] if layer.groups > 1 else list(layer.channels)
    return any(width > VECTOR and width % VECTOR for width in ends)


def profile(
    compiled: CompiledModel,
    setting: Setting,
    inputs: torch.Tensor,
    roofline: Roofline,
    network: nn.Module | None = None,
    *,
    seconds: float = SECONDS,
) -> Profile:
    """Time a compiled model by operator.

    Args:
        compiled: Compiled model.
        setting: Setting in which it was compiled.
        inputs: (batch, ...) inputs of one call.
        roofline: Roofline of this machine.
        network: Network that was compiled; without it, the profile has no layers.
        seconds: Least seconds of calls in turn.
    """
    images = inputs.numpy()
    layers = {} if network is None else layers_of(network, inputs)
    operators: list[OperatorTime] = []
    why_not = None
    try:
        profiler = compiled.profiler(images)
    except NoProfiler as error:
        why_not = str(error)
        timed, _ = time_calls(lambda: compiled(images), budget_s=seconds)
    else:

        def enough(turns: Sequence[Sequence[Seconds]], spent_s: float) -> bool:
            return len(turns[0]) >= ROUNDS and spent_s >= seconds

        profiler()
        turns = take_turns([lambda: compiled(images), profiler], enough, turn=TURN)
        timed = np.concatenate(turns[0])
        operators = fitted(profiler.operators(_quiet_s(timed)), _quiet_s(timed))
    facts = compiled.describe()
    latency = summarise(
        timed,
        warmup=0,
        batch=len(images),
        threads=int(facts["threads"]),
        runtime=f"{facts['backend']} {facts['version']}",
        precision=str(facts["precision"]),
        device=processor_name(),
        clock=clock(),
    )
    return Profile(
        latency,
        _quiet_s(timed),
        _explained(operators, layers, roofline),
        why_not,
        layers,
        setting,
        facts,
        compiled.bytes,
        roofline,
    )


def _quiet_s(seconds: Seconds) -> float:
    return float(np.quantile(seconds, QUIET))


def fitted(operators: Sequence[OperatorTime], call_s: float) -> list[OperatorTime]:
    """Operators that add up to no more than the call without the profiler.

    A profiler costs each operator about the same; what of that is left is taken from all alike, but for a tenth of what
    each takes, which stays.
    """
    seconds = np.array([operator.seconds for operator in operators])
    low, high = 0.0, float(seconds.max(initial=0.0))
    if seconds.sum() <= call_s:
        return list(operators)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(LEFT * seconds, seconds - middle).sum() > call_s else (low, middle)
    return [
        replace(operator, seconds=float(remaining_s))
        for operator, remaining_s in zip(operators, np.maximum(LEFT * seconds, seconds - high), strict=True)
    ]


def _explained(
    operators: Sequence[OperatorTime], layers: Mapping[str, Layer], roofline: Roofline
) -> list[ProfiledOperator]:
    names = located(operators, layers)
    times = Counter(name for name in names if name is not None)
    profiled = []
    for operator, name in zip(operators, names, strict=True):
        needed = None if name is None else layers[name].macs // times[name]
        if operator.macs is None and needed is not None:
            operator = replace(operator, macs=needed)
        profiled.append(ProfiledOperator(operator, name, needed, roofline.bound(operator), roofline.roof_s(operator)))
    return profiled


def compared(before: Profile, after: Profile) -> list[dict[str, Any]]:
    """The time of two models side by side, place by place.

    Returns:
        JSON: `place`, `before_ms`, `after_ms`, `difference_ms`; of both the `kind` of the slowest operator, `macs`,
        `precision`, and what `bound` them.
    """
    first, second = before.by_place(), after.by_place()
    rows = []
    for place in dict.fromkeys([*first, *second]):
        before_ms, after_ms = 1000 * first.get(place, 0.0), 1000 * second.get(place, 0.0)
        rows.append(
            {
                "place": place,
                "before_ms": before_ms,
                "after_ms": after_ms,
                "difference_ms": after_ms - before_ms,
                "kind": [_of_slowest(model_profile, place, "kind") for model_profile in (before, after)],
                "macs": [_macs(model_profile, place) for model_profile in (before, after)],
                "precision": [_of_slowest(model_profile, place, "precision") for model_profile in (before, after)],
                "bound": [_of_slowest(model_profile, place, "bound") for model_profile in (before, after)],
            }
        )
    last = FAMILIES["call"]
    return sorted(rows, key=lambda row: row["place"] == last)


def _macs(profile: Profile, place: str) -> int | None:
    return profile.layers[place].macs if place in profile.layers else None


def _of_slowest(profile: Profile, place: str, attribute: str) -> str | None:
    """An attribute of the slowest operator of a place."""
    operators = [profiled for profiled in profile.operators if profiled.place == place]
    if not operators:
        return None
    slowest = max(operators, key=lambda profiled: profiled.operator.seconds)
    return str(getattr(slowest, attribute, None) or getattr(slowest.operator, attribute))
