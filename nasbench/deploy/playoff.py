"""The last round of a search: the best few timed in turn, so that one of them can be called the fastest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasbench.deploy.process import ChildError
from nasbench.deploy.race import Race, race_in_child

EAGER = "eager"
ROUNDS = 3


def playoff(
    eager: Mapping[str, Any], contenders: Mapping[str, Mapping[str, Any]], *, seconds: float, timeout_s: float
) -> dict[str, Any]:
    """Time eager PyTorch and the contenders in turn, in `ROUNDS` rounds.

    If one of them takes the process with it, each is raced against eager alone, and those that do not run are left out.

    Args:
        eager: Reference, as `race_in_child` takes it.
        contenders: Contenders by name, as `race_in_child` takes them.
        seconds: Seconds of timing for each contender and round.
        timeout_s: Seconds after which a process is ended.

    Returns:
        JSON: `order`, names from the fastest on; `race`, for each of these `of_eager` and `latency_ms`, and `of`, the
        ratios to the others that were in the same race; `eager_latency_ms`; `left_out`, reasons by name.
    """
    races: dict[str, Race] = {}
    left_out: dict[str, str] = {}
    try:
        together = race_in_child({EAGER: eager, **contenders}, seconds=seconds, rounds=ROUNDS, timeout_s=timeout_s)
        races = dict.fromkeys(contenders, together)
    except ChildError:
        for name, contender in contenders.items():
            try:
                races[name] = race_in_child(
                    {EAGER: eager, name: contender}, seconds=seconds, rounds=ROUNDS, timeout_s=timeout_s
                )
            except ChildError as error:
                left_out[name] = str(error)
    order = sorted(races, key=lambda name: races[name].ratios[name, EAGER].ratio)
    return {
        "order": order,
        "race": {name: _raced(name, races[name]) for name in order},
        "eager_latency_ms": races[order[0]].latencies[EAGER].to_json() if order else None,
        "left_out": left_out,
    }


def _raced(name: str, race: Race) -> dict[str, Any]:
    latency = race.latencies[name]
    return {
        "of_eager": race.ratios[name, EAGER].to_json(),
        "of": {
            reference: ratio.to_json()
            for (compared, reference), ratio in race.ratios.items()
            if compared == name and reference != EAGER
        },
        "latency_ms": latency.to_json(),
        "throughput_per_s": latency.throughput_per_s,
    }
