"""Several runs of one experiment, searched in different ways or with different seeds, side by side."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasbench.objectives.hypervolume import Scale, growth
from nasbench.objectives.reward import pareto_front
from nasbench.objectives.statistics import ratio_interval, ratio_verdict
from nasbench.report.build import read_remeasured, read_space
from nasbench.report.within_limits import within_limits
from nasbench.search.record import RecordedCandidate, describe
from nasbench.search.remeasured import overlay
from nasbench.search.settings import RunSettings, read_candidates, read_settings
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError

MOMENTS = 60  # number of points in time at which curves are given, up to the common time
CHANGES_NOTHING = ("seed", "tensorboard", "survivors", "baseline", "storage", "callbacks")
ALIKE = ("problem", "data", "objectives")  # sections in which compared runs must agree


@dataclass(frozen=True)
class Run:
    """A run, read.

    Attributes:
        name: Name of the folder of the run.
        settings: Settings of the run, as they were requested.
        joint: Whether recipes were searched, too.
        candidates: Candidates that are done and meet every limit, in the order in which they finished.
        all: Every candidate.
    """

    name: str
    settings: RunSettings
    joint: bool
    candidates: list[RecordedCandidate]
    all: list[RecordedCandidate]

    @property
    def seconds(self) -> float:
        """Seconds of search."""
        return max((candidate.finished_s for candidate in self.all), default=0.0)


def read_run(folder: RunFolder) -> Run:
    """The candidates of a run, with the latencies that were measured when its search was over."""
    settings = read_settings(folder)
    everyone = read_candidates(folder, settings)
    remeasured = overlay(everyone, read_remeasured(folder), settings.objectives, settings.reward)
    return Run(folder.name, settings, read_space(folder)["joint"], within_limits(remeasured, settings), everyone)


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Hypervolume of each way of searching over time, and the ratios between them with intervals.

    Runs whose experiments differ only in their seeds are one group. All share one scale, whose reference is the worst
    value of each objective among all candidates that meet the limits, and whose ideal is the best. Groups are compared
    with the first one, at the end of the shortest run: by the ratio of mean hypervolumes, with a t interval of the
    logarithms, over pairs of equal seeds where both groups have the same seeds.

    Raises:
        UserError: there is no run, they differ in their data or objectives, or none has a candidate.
    """
    if not runs:
        raise UserError("there is nothing to compare; give the folders of one run or more.")
    first = runs[0]
    for run in runs[1:]:
        for section in ALIKE:
            if run.settings.asked[section] != first.settings.asked[section]:
                raise UserError(
                    f"{run.name} and {first.name} differ in {section}, so that their numbers do not compare; compare "
                    f"runs with the same {' and '.join(ALIKE)}."
                )
    pooled = [candidate.metrics for run in runs for candidate in run.candidates]
    if not pooled:
        raise UserError("none of the runs has a candidate that is done and meets the limits; search longer first.")
    scale = Scale.of(first.settings.objectives, pooled)
    common_s = min(run.seconds for run in runs)
    groups = [_group(label, members, scale, common_s) for label, members in _grouped(runs).items()]
    reference = groups[0]
    return {
        "objectives": [objective.model_dump(mode="json") for objective in first.settings.objectives],
        "scale": scale.to_json(),
        "common_seconds": common_s,
        "groups": groups,
        "comparisons": [_comparison(reference, other) for other in groups[1:]],
    }


def _grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by the way of searching, with a short name for each."""
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(_without_seed(run.settings.asked), []).append(run)
    labels: dict[str, list[Run]] = {}
    several = len({run.settings.name for run in runs}) > 1
    for members in kinds.values():
        settings = members[0].settings
        joint = members[0].joint and settings.controller != "sequential"
        way = f"joint {settings.controller}" if joint else settings.way
        label = f"{settings.name}, {way}" if several else way
        labels[_free(label, labels)] = members
    return labels


def _free(label: str, labels: Mapping[str, Any]) -> str:
    numbered = (f"{label} #{number}" for number in itertools.count(2))
    return label if label not in labels else next(candidate for candidate in numbered if candidate not in labels)


def _without_seed(experiment: Mapping[str, Any]) -> str:
    """A key that runs of one group share: their experiment without the seed and what cannot change a result."""
    return json.dumps({key: value for key, value in experiment.items() if key not in CHANGES_NOTHING}, sort_keys=True)


def _group(label: str, runs: Sequence[Run], scale: Scale, common_s: float) -> dict[str, Any]:
    moments = np.linspace(0, common_s, MOMENTS + 1)[1:]
    curves = np.array([_curve(run, scale, moments) for run in runs])
    described = []
    for run, curve in zip(runs, curves, strict=True):
        front = pareto_front(run.settings.objectives, {candidate.id: candidate.metrics for candidate in run.candidates})
        by_id = {candidate.id: candidate for candidate in run.candidates}
        described.append(
            {
                "run": run.name,
                "seed": run.settings.seed,
                "seconds": run.seconds,
                "candidates": len(run.candidates),
                "evaluated": len(run.all),
                "trained": sum(not candidate.cached and candidate.training_seconds > 0 for candidate in run.all),
                "hypervolume": float(curve[-1]),
                "front": [describe(by_id[number]) for number in front],
            }
        )
    final = curves[:, -1]
    return {
        "name": label,
        "runs": described,
        "hypervolume": {
            "mean": float(final.mean()),
            "std": float(final.std(ddof=1)) if len(final) > 1 else None,
            "n": len(final),
        },
        "over_time": {
            "seconds": moments.tolist(),
            "mean": curves.mean(axis=0).tolist(),
            "std": curves.std(axis=0, ddof=1).tolist() if len(curves) > 1 else None,
        },
    }


def _curve(run: Run, scale: Scale, moments: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """The hypervolume of a run at these seconds of search."""
    values = [0.0, *growth(scale.points([candidate.metrics for candidate in run.candidates]))]
    finished = np.array([candidate.finished_s for candidate in run.candidates])
    return [values[int((finished <= moment).sum())] for moment in moments]


def _comparison(reference: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The ratio of the first group's hypervolume to another one's, with its interval and a sentence."""
    ours = {run["seed"]: run["hypervolume"] for run in reference["runs"]}
    theirs = {run["seed"]: run["hypervolume"] for run in other["runs"]}
    paired = set(ours) == set(theirs) and len(ours) == len(reference["runs"]) and len(theirs) == len(other["runs"])
    ratio, low, high = ratio_interval(
        [ours[seed] for seed in sorted(ours)] if paired else [run["hypervolume"] for run in reference["runs"]],
        [theirs[seed] for seed in sorted(theirs)] if paired else [run["hypervolume"] for run in other["runs"]],
        paired=paired,
    )
    comparison = {"of": reference["name"], "to": other["name"], "paired": paired, "hypervolume_ratio": ratio}
    return comparison | {
        "low": low,
        "high": high,
        "statement": _statement(reference["name"], other["name"], ratio, low, high),
    }


def _statement(ours: str, theirs: str, ratio: float | None, low: float | None, high: float | None) -> str:
    if ratio is None:
        return f"{ours} and {theirs} cannot be compared: a run covered nothing."
    if low is None or high is None:
        return f"{ours} covers {ratio:.3f} times what {theirs} does, in one run each: that says nothing of other seeds."
    interval = f"{ratio:.3f} times the hypervolume of {theirs} (95 % interval {low:.3f} to {high:.3f})"
    outcome = ratio_verdict(low, high)
    if outcome != "no difference":
        return f"{ours} was {outcome}: {interval}."
    return f"no difference can be told between {ours} and {theirs}: {interval}."
