"""Many models timed on a machine that does other things, too.

Other work only ever slows a call down, never speeds it up, so what the model itself takes shows in the quietest moments
(Chen & Revels 2016, Robust benchmarking in noisy environments, arXiv 1608.04295). They take the minimum of the calls;
here it is the median of the calls in the quietest turns, since a single call has noise of its own in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasbench_compression.timing import Call, Seconds, Timer, take_turns, wall_seconds

ROUNDS = 20  # that the budget is divided into, at least, if a turn with the first call fits into its part
LEAST = 6  # rounds, whatever the budget
QUIET = 0.05  # share of the turns of a model that count, the quietest ones
SETTLED = 0.03  # how much slower than the quietest turn the third one may be
LONGEST_S = 0.005  # of a turn: a longer one is hardly ever left alone on a busy machine
PATIENCE = 4  # times the budget, while more than a tenth of the models are not settled


def time_in_rounds(
    calls: Sequence[Call],
    *,
    budget_s: float,
    seed: int = 0,
    timer: Timer = wall_seconds,
) -> list[list[Seconds]]:
    """Seconds of the calls of each model, turn by turn.

    In every round each model has one turn, in a new random order, so that no model always follows the same one. Turns
    are equally long, so the fastest models, on which a disturbance weighs most, are called most often. The first call
    of a turn finds the caches cold and is not timed. The busier the machine, the rarer are quiet moments: if too many
    models have not met three that agree, rounds go on beyond the budget, up to `PATIENCE` times of it.

    Args:
        calls: Function of each model that makes a call.
        budget_s: Seconds for all together; at least `LEAST` rounds are made, and there is at least one timed call in a
            turn.
        seed: Random seed of the order.
        timer: Function that makes a call and gives the seconds that it took.

    Returns:
        For each model its turns, each an array of seconds.
    """
    medians: list[list[float]] = [[] for _ in calls]

    def enough(turns: Sequence[Sequence[Seconds]], spent_s: float) -> bool:
        for model_medians, of_call in zip(medians, turns, strict=True):
            model_medians.append(float(np.median(of_call[-1])))
        if len(turns[0]) < LEAST or spent_s < budget_s:
            return False
        return spent_s >= PATIENCE * budget_s or _settled(medians)

    turn_s = min(LONGEST_S, budget_s / (ROUNDS * max(1, len(calls))))
    return take_turns(calls, enough, turn_s=turn_s, rng=np.random.default_rng(seed), timer=timer)


def _settled(medians: Sequence[Sequence[float]]) -> bool:
    quietest = np.sort(np.array(medians), axis=1)
    return bool(np.mean(quietest[:, 2] > (1 + SETTLED) * quietest[:, 0]) <= 0.1)


def quiet_seconds(turns: Sequence[Seconds]) -> Seconds:
    """The calls of the quietest turns: the twentieth part with the lowest medians, two at least; as they were timed."""
    count = min(len(turns), max(2, round(QUIET * len(turns))))
    chosen = sorted(np.argsort([np.median(turn) for turn in turns], kind="stable")[:count])
    return np.concatenate([turns[index] for index in chosen])
