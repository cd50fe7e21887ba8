"""How calls are timed everywhere in this project: in turn, with intervals from parts of the run.

There is one loop, `take_turns`. What differs is when it has seen enough, and what is read from the turns: the median of
all calls (`time_in_turn`), the ratio of two calls (`ratio_of`), or the quietest moments (`nasbench.devices.rounds`).
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from nasbench_registry import UserError

Seconds = npt.NDArray[np.float64]
Call = Callable[[], object]
Timer = Callable[[Call], float]
Name = TypeVar("Name", bound=Hashable)

PARTS = 6  # of a run, from which the interval of a median is read
TURN = 5  # calls of one model before the next has its turn; thirty repeats are then six turns, one for each part
TIGHT = 0.02  # half-width of the median's interval, relative to the median, at which repeating ends
CHECKS = 20  # how often in a budget it is looked whether the interval is tight


def wall_seconds(call: Call) -> float:
    """Seconds from the call to its return."""
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def cuda_seconds(call: Call) -> float:
    """Seconds that the GPU takes for a call, between two events on the current stream.

    A call returns when its kernels are in the queue, not when they are done. So the queue is emptied before the first
    event, and the second one is waited for: the clock of the host would time the queueing.
    """
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # of torch
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000  # it gives milliseconds


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


def take_turns(
    calls: Sequence[Call],
    enough: Callable[[Sequence[Sequence[Seconds]], float], bool],
    *,
    turn: int = 1,
    turn_s: float = 0.0,
    cold: bool = True,
    rng: np.random.Generator | None = None,
    timer: Timer = wall_seconds,
) -> list[list[Seconds]]:
    """The loop that times calls: in every round each of them has one turn. The garbage collector rests meanwhile.

    Args:
        calls: Calls to time.
        enough: Whether to end, asked after every round with the turns of each call so far and the seconds since the
            beginning.
        turn: Least number of timed calls in a turn.
        turn_s: Least duration of a turn, in seconds.
        cold: Whether a turn begins with a call that finds the caches cold and is not timed.
        rng: Random generator that draws a new order for every round; None keeps the order of `calls`.
        timer: Function that makes a call and returns the seconds that it took.

    Returns:
        The turns of each call, each turn an array of seconds.
    """
    turns: list[list[Seconds]] = [[] for _ in calls]
    if not calls:
        return turns
    with no_collecting():
        began = time.perf_counter()
        while True:
            for index in range(len(calls)) if rng is None else rng.permutation(len(calls)):
                call, turn_seconds, end = calls[index], list[float](), time.perf_counter() + turn_s
                if cold:
                    call()
                while len(turn_seconds) < turn or time.perf_counter() < end:
                    turn_seconds.append(timer(call))
                turns[index].append(np.array(turn_seconds))
            if enough(turns, time.perf_counter() - began):
                return turns


def time_calls(
    call: Call,
    *,
    budget_s: float = 0.5,
    min_repeats: int = 30,
    max_repeats: int = 20_000,
    warmup: int = 10,
    warmup_s: float = 0.05,
    tight: float = TIGHT,
    timer: Timer = wall_seconds,
) -> tuple[Seconds, int]:
    """Seconds of repeated calls, and the number of calls that warmed up before them.

    Repeats for `budget_s`, or only half of it once the 95 % interval of the median is within `tight` of it: a short
    burst can look steady while the machine changes speed from one tenth of a second to the next. At least `min_repeats`
    and at most `max_repeats` times. The garbage collector rests meanwhile.
    """
    timed = time_in_turn(
        {"": call},
        budget_s=budget_s,
        min_repeats=min_repeats,
        max_repeats=max_repeats,
        warmup=warmup,
        warmup_s=warmup_s,
        tight=tight,
        timer=timer,
    )
    return timed[""]


def time_in_turn(
    calls: Mapping[Name, Call],
    *,
    budget_s: float = 0.5,
    min_repeats: int = 30,
    max_repeats: int = 20_000,
    warmup: int = 10,
    warmup_s: float = 0.05,
    turn: int = TURN,
    tight: float = TIGHT,
    timer: Timer = wall_seconds,
) -> dict[Name, tuple[Seconds, int]]:
    """As `time_calls`, for several calls that take turns, so that what the machine does meanwhile hits all alike.

    Args:
        calls: Calls to time, by name.
        budget_s: Time for all calls together, in seconds.
        min_repeats: Least number of timed calls of each, whatever the budget.
        max_repeats: Largest number of timed calls of each; the last turn that would go beyond it is not begun.
        warmup: Least number of calls of each before the first timed one.
        warmup_s: Least duration of these calls, in seconds.
        turn: Timed calls of one before the next has its turn; one more, which finds the caches cold, is not timed.
        tight: Half-width of the intervals, relative to the medians, at which it may end early; 0 uses the whole budget.
        timer: Function that makes a call and returns the seconds that it took.
    """
    warmed = {name: _warm_up(call, warmup, warmup_s) for name, call in calls.items()}
    turn, look_s = min(turn, max_repeats), budget_s / 2

    def enough(turns: Sequence[Sequence[Seconds]], spent_s: float) -> bool:
        nonlocal look_s
        repeats = turn * len(turns[0])
        if repeats + turn > max_repeats:
            return True
        if repeats < min_repeats or spent_s < look_s:
            return False
        look_s = spent_s + budget_s / CHECKS
        return spent_s >= budget_s or all(half_width(np.concatenate(call_turns)) < tight for call_turns in turns)

    turns = take_turns(list(calls.values()), enough, turn=turn, cold=len(calls) > 1, timer=timer)
    return {name: (np.concatenate(call_turns), warmed[name]) for name, call_turns in zip(calls, turns, strict=True)}


def _warm_up(call: Call, calls: int, seconds: float) -> int:
    warmed, start = 0, time.perf_counter()
    while warmed < calls or time.perf_counter() - start < seconds:
        call()
        warmed += 1
    return warmed


def median_interval(values: Seconds) -> tuple[float, float]:
    """An interval of the median of values in the order of their time: that of the medians of six parts of the run.

    The median of a part is as likely above the true one as below it. If the parts are independent, all six are on the
    same side in 2 of 2^6 cases, so the extremes cover it in 96.9 %, whatever the distribution. Only parts, a sixth of
    the run each, have to be independent, not calls: noise of a shared machine comes in bursts of many calls, and order
    statistics of the calls give intervals that are far too narrow. What changes more slowly than a run lasts, no
    interval can tell from within it.

    Args:
        values: Values (n,) in the order in which they were measured; fewer than six give an interval that covers less.
    """
    parts = np.array_split(values, min(PARTS, len(values)))
    medians = [float(np.median(part)) for part in (*parts, values)]  # all values too, for parts may differ in length
    return min(medians), max(medians)


def half_width(values: Seconds) -> float:
    """Half of the width of `median_interval`, as a share of the median."""
    low, high = median_interval(values)
    return (high - low) / 2 / float(np.median(values))


@dataclass(frozen=True)
class Ratio:
    """The latency of one model as a multiple of another's, both timed in turn in one run.

    Attributes:
        ratio: Latency of the model over that of the other one; below 1, the model is faster.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    ratio: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The fields by name."""
        return asdict(self)


def part_ratios(seconds: Seconds, reference: Seconds) -> Seconds:
    """(PARTS,) the ratio of the medians of two calls in each part of a run in which they took turns.

    Args:
        seconds: Seconds (n,) of one call, in the order of their time.
        reference: Seconds (n,) of the other one, in the same order.

    Raises:
        UserError: There are not as many of one as of the other, or fewer than six.
    """
    if len(seconds) != len(reference) or len(seconds) < PARTS:
        raise UserError(
            f"a ratio needs at least {PARTS} calls of each model, and as many of both, not {len(seconds)} and "
            f"{len(reference)}; time them with time_in_turn."
        )
    parts = zip(np.array_split(seconds, PARTS), np.array_split(reference, PARTS), strict=True)
    return np.array([np.median(part) / np.median(reference_part) for part, reference_part in parts])


def ratio_of(seconds: Seconds, reference: Seconds) -> Ratio:
    """The ratio of two medians, from calls that took turns, and its interval from six parts of the run.

    The ratio of the medians is taken in each part, where both models met the same noise, so that what slows both down
    cancels. As in `median_interval`, the extremes of six ratios cover the true one in 96.9 % of runs if each is as
    likely above it as below; the ratio is their median.

    Args:
        seconds: Seconds (n,) of one model, in the order of their time.
        reference: Seconds (n,) of the other one, in the same order.

    Raises:
        UserError: There are not as many of one as of the other, or fewer than six.
    """
    ratios = part_ratios(seconds, reference)
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))


def compare_two(
    call: Call, reference: Call, *, budget_s: float, timer: Timer = wall_seconds
) -> tuple[Ratio, float, float]:
    """The ratio of a call to another one, and the median seconds of both, from as little as twelve calls of each.

    Args:
        call: Call that is compared.
        reference: Call that it is compared with.
        budget_s: Time for both calls together, in seconds.
        timer: Function that makes a call and returns the seconds that it took.
    """
    timed = time_in_turn(
        {True: call, False: reference},
        budget_s=budget_s,
        min_repeats=2 * PARTS,
        turn=2,
        warmup=2,
        warmup_s=0.0,
        timer=timer,
    )
    (seconds, _), (reference_seconds, _) = timed[True], timed[False]
    return ratio_of(seconds, reference_seconds), float(np.median(seconds)), float(np.median(reference_seconds))
