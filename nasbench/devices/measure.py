"""Latency as it is, with the protocol that gave it."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PARTS = 6  # of a run, from which the interval of a median is read
TURN = 5  # calls of one model before the next has its turn; thirty repeats are then six turns, one for each part
TIGHT = 0.02  # half-width of the median's interval, relative to the median, at which repeating ends
UNSTABLE = 0.10  # ... and above which a measurement is marked
CHECKS = 20  # how often in a budget it is looked whether the interval is tight

Timer = Callable[[Callable[[], object]], float]


@dataclass(frozen=True)
class Latency:
    """Latency of one batch, in milliseconds, and how it was measured.

    Attributes:
        median: of the repeats.
        p95: 95th percentile.
        iqr: interquartile range.
        low: lower end of the 95 % interval of the median, see `median_interval`.
        high: its upper end.
        repeats: timed calls.
        warmup: calls before them.
        batch: images a call.
        threads: threads of the runtime.
        runtime: what ran the network, with its version.
        precision: of its arithmetic.
        device: the name of the processor.
        unstable: whether the interval of the median stayed wider than 10 % to either side.
        clock: what governs the clock of the processor, see `nasbench.devices.clock`; None if the machine does not say.
    """

    median: float
    p95: float
    iqr: float
    low: float
    high: float
    repeats: int
    warmup: int
    batch: int
    threads: int
    runtime: str
    precision: str
    device: str
    unstable: bool
    clock: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @property
    def throughput_per_s(self) -> float:
        """Images a second, from the median."""
        return 1000 * self.batch / self.median


def wall_seconds(call: Callable[[], object]) -> float:
    """Seconds from the call to its return."""
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


@contextlib.contextmanager
def no_collecting() -> Iterator[None]:
    """Let the garbage collector rest."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def time_calls(
    call: Callable[[], object],
    *,
    budget_s: float = 0.5,
    min_repeats: int = 30,
    max_repeats: int = 20_000,
    warmup: int = 10,
    warmup_s: float = 0.05,
    timer: Timer = wall_seconds,
) -> tuple[npt.NDArray[np.float64], int]:
    """Seconds of repeated calls, and the number of calls that warmed up before them.

    Repeats for `budget_s`, or only half of it once the 95 % interval of the median is within 2 % of it: a short burst
    can look steady while the machine changes speed from one tenth of a second to the next. At least `min_repeats`
    and at most `max_repeats` times. The garbage collector rests meanwhile.
    """
    timed = time_in_turn(
        {"": call},
        budget_s=budget_s,
        min_repeats=min_repeats,
        max_repeats=max_repeats,
        warmup=warmup,
        warmup_s=warmup_s,
        timer=timer,
    )
    return timed[""]


def time_in_turn(
    calls: Mapping[str, Callable[[], object]],
    *,
    budget_s: float = 0.5,
    min_repeats: int = 30,
    max_repeats: int = 20_000,
    warmup: int = 10,
    warmup_s: float = 0.05,
    turn: int = TURN,
    timer: Timer = wall_seconds,
) -> dict[str, tuple[npt.NDArray[np.float64], int]]:
    """As `time_calls`, for several calls that take turns, so that what the machine does meanwhile hits all alike.

    Args:
        calls: what to time, by name.
        budget_s: for all together.
        min_repeats: of each, whatever the budget.
        max_repeats: of each.
        warmup: calls of each before the first timed one, at least.
        warmup_s: seconds of them, at least.
        turn: timed calls of one before the next has its turn; one more, which finds the caches cold, is not timed.
        timer: makes a call and gives the seconds that it took.
    """
    warmed = {name: _warm_up(call, warmup, warmup_s) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with no_collecting():
        start, repeats, check_s = time.perf_counter(), 0, budget_s / 2
        while repeats < max_repeats:
            for name, call in calls.items():
                if len(calls) > 1:
                    call()
                for _ in range(min(turn, max_repeats - repeats)):
                    seconds[name].append(timer(call))
            repeats += turn
            spent = time.perf_counter() - start
            if repeats < min_repeats or spent < check_s:
                continue
            check_s = spent + budget_s / CHECKS
            if spent >= budget_s or all(_spread(np.array(times)) < TIGHT for times in seconds.values()):
                break
    return {name: (np.array(times), warmed[name]) for name, times in seconds.items()}


def _warm_up(call: Callable[[], object], calls: int, seconds: float) -> int:
    warmed, start = 0, time.perf_counter()
    while warmed < calls or time.perf_counter() - start < seconds:
        call()
        warmed += 1
    return warmed


def median_interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """An interval of the median of values in the order of their time: that of the medians of six parts of the run.

    The median of a part is as likely above the true one as below it. If the parts are independent, all six are on the
    same side in 2 of 2^6 cases, so the extremes cover it in 96.9 %, whatever the distribution. Only parts, a sixth of
    the run each, have to be independent, not calls: noise of a shared machine comes in bursts of many calls, and order
    statistics of the calls give intervals that are far too narrow. What changes more slowly than a run lasts, no
    interval can tell from within it.

    Args:
        values: (n,) in the order in which they were measured; below six of them it covers less.
    """
    parts = np.array_split(values, min(PARTS, len(values)))
    medians = [float(np.median(part)) for part in (*parts, values)]  # all values too, for parts may differ in length
    return min(medians), max(medians)


def _spread(values: npt.NDArray[np.float64]) -> float:
    low, high = median_interval(values)
    return (high - low) / 2 / float(np.median(values))


def summarise(
    seconds: npt.NDArray[np.float64],
    *,
    warmup: int,
    batch: int,
    threads: int,
    runtime: str,
    precision: str,
    device: str,
    clock: Mapping[str, Any] | None = None,
) -> Latency:
    """The latency in timed calls, which are in the order of their time."""
    values = seconds * 1000
    low, high = median_interval(values)
    quartiles = np.percentile(values, [25, 75])
    return Latency(
        median=float(np.median(values)),
        p95=float(np.percentile(values, 95)),
        iqr=float(quartiles[1] - quartiles[0]),
        low=low,
        high=high,
        repeats=len(values),
        warmup=warmup,
        batch=batch,
        threads=threads,
        runtime=runtime,
        precision=precision,
        device=device,
        unstable=_spread(values) > UNSTABLE,
        clock=clock,
    )
