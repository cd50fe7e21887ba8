"""``python -m benchmarks.null_verdict``: how often a random search is called better than random search.

It should be in 2.5 % of cases. Beside what the report says stands what it would say by the bootstrap, which draws the
other searches with replacement from a single one, as a control of what these trials can see.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from benchmarks.command import run_command
from nasbench.cli.options import Json
from nasbench.cli.output import show
from nasbench.objectives.hypervolume import Scale, growth
from nasbench.objectives.reward import objective_scores
from nasbench.objectives.statistics import NEEDED, NullRate, chance_rank, null_rate, ratio_interval, ratio_verdict
from nasbench.report.baseline import ENOUGH, compare_with_baseline
from nasbench.search.record import RecordedCandidate
from nasbench.search.settings import RunSettings
from search_spaces import Architecture

MEASURES = {
    "score": ({"val_acc_pct": "max"}, {"name": "scalar"}),
    "hypervolume": ({"val_acc_pct": "max", "latency_ms": "min"}, {"name": "pareto"}),
}
RESAMPLED = 100  # of the control
TAIL = 0.025  # of 95 % to either side
SEEDS = 5  # of each of two searches that `nasbench compare` compares


def settings(measure: str) -> RunSettings:
    """Settings of a search whose measure is a score or the hypervolume."""
    objectives, reward = MEASURES[measure]
    return RunSettings.of(
        {
            "name": "null",
            "seed": 0,
            "controller": {"name": "random"},
            "objectives": [{"metric": metric, "goal": goal} for metric, goal in objectives.items()],
            "reward": reward,
            "search": {},
            "executor": {},
            "outcomes": {},
            "training": {"epochs": 1},
            "survivors": 0,
            "baseline": {"name": "random", "candidates": None, "seeds": 1},
        }
    )


def random_search(rng: np.random.Generator, budget: int, run_settings: RunSettings) -> list[RecordedCandidate]:
    """Candidates drawn independently until so many are done: larger ones are better and slower, one in twenty fails."""
    candidates: list[RecordedCandidate] = []
    done_count = 0
    while done_count < budget:
        size, luck, fails = rng.normal(), rng.standard_t(4), rng.random() < 0.05
        metrics = {
            "val_acc_pct": float(80 + 4 * np.tanh(size) + luck),
            "latency_ms": float(np.exp(size + rng.normal())),
        }
        candidate = RecordedCandidate(
            len(candidates), Architecture("null", (len(candidates),)), None, finished_s=float(len(candidates))
        )
        candidate.status = "failed" if fails else "done"
        if not fails:
            candidate.metrics, done_count = metrics, done_count + 1
            candidate.scores = objective_scores(run_settings.objectives, metrics)
        candidates.append(candidate)
    return candidates


def called_better(seed: int, *, measure: str, budget: int, searches: int, apart: bool) -> bool:
    """Whether the report says so of one random search beside others.

    Args:
        seed: Random seed of all searches.
        measure: Key of `MEASURES`.
        budget: Number of candidates of a search, without those that fail.
        searches: Number of searches that it is compared with.
        apart: Whether these have seeds of their own, or are parts of a longer search.
    """
    rng, run_settings = np.random.default_rng([seed, budget, searches, apart]), settings(measure)
    ours = random_search(rng, budget, run_settings)
    lengths = [budget] * searches if apart else [budget * searches]
    comparison = compare_with_baseline(
        ours, [random_search(rng, length, run_settings) for length in lengths], run_settings
    )
    return comparison is not None and bool(comparison["better"])


def bootstrap_better(seed: int, *, measure: str, budget: int) -> bool:
    """The control: whether a search is beyond 97.5 % of what is drawn with replacement from another one like it."""
    rng, run_settings = np.random.default_rng([seed, budget]), settings(measure)
    ours, theirs = (
        [candidate for candidate in random_search(rng, budget, run_settings) if candidate.status == "done"]
        for _ in range(2)
    )
    scale = Scale.of(run_settings.objectives, [candidate.metrics for candidate in (*ours, *theirs)])

    def reached(search: list[RecordedCandidate]) -> float:
        if measure == "score":
            return max(candidate.metrics["val_acc_pct"] for candidate in search)
        return growth(scale.points([candidate.metrics for candidate in search]))[-1]

    drawn = [reached([theirs[row] for row in rng.integers(len(theirs), size=len(theirs))]) for _ in range(RESAMPLED)]
    return reached(ours) > float(np.quantile(drawn, 0.975))


def compare_better(seed: int, *, budget: int) -> bool:
    """Whether `nasbench compare` calls one random search better than another, from a few seeds of each."""
    rng, run_settings = np.random.default_rng([seed, budget, SEEDS]), settings("hypervolume")
    groups = [[random_search(rng, budget, run_settings) for _ in range(SEEDS)] for _ in range(2)]
    done_candidates = [
        [[candidate for candidate in run if candidate.status == "done"] for run in group] for group in groups
    ]
    scale = Scale.of(
        run_settings.objectives, [candidate.metrics for group in done_candidates for run in group for candidate in run]
    )
    ours, theirs = (
        [growth(scale.points([candidate.metrics for candidate in run]))[-1] for run in group]
        for group in done_candidates
    )
    _, low, high = ratio_interval(ours, theirs, paired=False)
    return ratio_verdict(low, high) == "better"


def rates(trials: int, budget: int, searches: int) -> dict[str, NullRate]:
    """The rate of each verdict, with what chance allows for it."""
    promised = chance_rank(searches) / (searches + 1)
    verdicts: dict[str, tuple[Callable[[int], bool], float]] = {}
    for measure in MEASURES:
        named = functools.partial(called_better, measure=measure, budget=budget, searches=searches)
        verdicts[f"{measure}, {searches} parts of one search"] = functools.partial(named, apart=False), promised
        verdicts[f"{measure}, {searches} searches of their own"] = functools.partial(named, apart=True), promised
        control = functools.partial(bootstrap_better, measure=measure, budget=budget)
        verdicts[f"{measure}, control: bootstrap of one search"] = control, TAIL
    between = functools.partial(compare_better, budget=budget)
    verdicts[f"hypervolume, nasbench compare of {SEEDS} seeds each"] = between, TAIL
    return {name: null_rate(trial, trials, rate) for name, (trial, rate) in verdicts.items()}


def command(
    trials: Annotated[int, typer.Option(min=1, help="Pairs of independent searches.")] = 400,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates of each search.")] = 10,
    searches: Annotated[int, typer.Option(min=NEEDED, help="Random searches that a search is compared with.")] = ENOUGH,
    json: Json = False,
) -> None:
    """Measure how often a random search is called better than random search."""
    null_rates = rates(trials, candidates, searches)
    table = Table(title=f"called better where there is no difference, {trials:,} pairs of searches")
    for column in ("verdict", "rate", "promised", "hits", "95 % by chance", "sound"):
        table.add_column(column, justify="left" if column == "verdict" else "right")
    for name, rate in null_rates.items():
        table.add_row(
            name,
            f"{100 * rate.hits / rate.trials:.1f} %",
            f"{100 * rate.rate:.1f} %",
            f"{rate.hits} of {rate.trials}",
            f"{rate.fewest} to {rate.most}",
            "yes" if rate.sound else "no",
        )
    show({name: asdict(rate) | {"sound": rate.sound} for name, rate in null_rates.items()}, table, as_json=json)


if __name__ == "__main__":
    run_command(command, "null_verdict")
