"""`report.json` from the files of a run, whatever state the run is in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nasbench.evaluators.compressed.space import JointSpace, experiment_space, network_space
from nasbench.experiment.experiment import Experiment
from nasbench.latency.calibration import Calibration
from nasbench.objectives.reward import pareto_front
from nasbench.report.accounting import compute, count_outcomes
from nasbench.report.artefact_predictor import artefact_predictor
from nasbench.report.baseline import compare_with_baseline, hypervolume_over_time
from nasbench.report.early import early_ends
from nasbench.report.figures import HELD_OUT
from nasbench.report.importance import importance
from nasbench.search.record import Candidate, Record, comparable
from nasbench.search.remeasured import overlay
from nasbench.storage.files import write_json, write_text
from nasbench.storage.run_folder import RunFolder, baseline_folder
from search_spaces import SearchSpace

LISTS = ("metrics", "scores", "curve", "network", "recipe")  # what does not fit a cell of trials.csv, or stands there


def build_report(folder: RunFolder) -> dict[str, Any]:
    """What a program reads of a run; docs/report.md describes every key."""
    experiment = folder.require().experiment()
    space = experiment_space(experiment)
    return _build(folder, experiment, space, read_candidates(folder, experiment, space))


def _build(
    folder: RunFolder, experiment: Experiment, space: SearchSpace, candidates: Sequence[Candidate]
) -> dict[str, Any]:
    measured = read_remeasured(folder)
    certain = overlay(comparable(candidates, experiment.training.epochs), measured, experiment)
    compared = {each.id: each.metrics for each in certain}
    stored = [json.loads(file.read_text(encoding="utf-8")) for file in folder.survivors.glob("*/survivor.json")]
    # A resumed run may have asked for more of them before.
    survivors = sorted((s for s in stored if s["rank"] <= experiment.survivor_count), key=lambda s: int(s["rank"]))
    summary = json.loads(folder.summary.read_text(encoding="utf-8")) if folder.summary.exists() else {}
    shares, chance = importance(comparable(candidates, experiment.training.epochs), space, experiment.objectives)
    return {
        "experiment": experiment.model_dump(mode="json"),
        "environment": json.loads(folder.environment.read_text(encoding="utf-8")),
        "space": {
            "architectures": network_space(space).size,
            "recipes": space.recipes.size if isinstance(space, JointSpace) else None,
        },
        "status": summary.get("status") or "the search has not ended",
        "candidates": [
            describe(each, space) | {"compared": each.id in compared, "measured_latency_ms": measured.get(each.id)}
            for each in candidates
        ],
        "front": pareto_front(experiment.objectives, compared),
        "survivors": survivors,
        "predictor": _predictor(folder, space, candidates, measured),
        "hypervolume": hypervolume_over_time(certain, experiment),
        "baseline": _baseline(folder, space, candidates, experiment),
        "importance": shares,
        "importance_by_chance": chance,
        "outcomes": count_outcomes(candidates, experiment),
        "early_ends": early_ends(candidates),
        "compute": compute(candidates, survivors, experiment.executor, _peak(folder)),
    }


def write_report(folder: RunFolder) -> dict[str, Any]:
    """Build the report; draw the survivors and the front; write report.json, report.html and trials.csv."""
    from nasbench.report.front_drawings import draw_front
    from nasbench.report.html import write_html
    from nasbench.report.survivor_drawings import draw_survivors

    experiment = folder.require().experiment()
    space = experiment_space(experiment)
    candidates = read_candidates(folder, experiment, space)
    report = _build(folder, experiment, space, candidates)
    report["survivors"] = draw_survivors(folder.path, report["survivors"])
    front = [each for each in candidates if each.id in set(report["front"])]
    report["drawings"] = draw_front(folder.path, front, space, experiment, report["survivors"])
    write_json(folder.report_json, report)
    write_html(report, folder.report_html)
    rows = [
        {key: value for key, value in each.items() if key not in LISTS}
        | {"attempts": 1 + len(each["attempts"])}
        | {"measured_latency_ms": (each["measured_latency_ms"] or {}).get("median")}
        | each["metrics"]
        for each in report["candidates"]
    ]
    write_text(folder.trials, pd.DataFrame(rows).to_csv(index=False))
    return report


def read_candidates(folder: RunFolder, experiment: Experiment, space: SearchSpace) -> list[Candidate]:
    """Every candidate of a run, by number; nothing is written, so a search may go on meanwhile."""
    if experiment.storage is None and not folder.journal.exists():
        return []  # the search has not begun; latency is being measured
    record = Record(folder, experiment, space, mend=False)
    return [record.candidates[number] for number in sorted(record.candidates)]


def read_remeasured(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """The latencies that were measured after the search, by the number of the candidate."""
    if not folder.remeasured.exists():
        return {}
    return {int(number): each for number, each in json.loads(folder.remeasured.read_text(encoding="utf-8")).items()}


def describe(candidate: Candidate, space: SearchSpace) -> dict[str, Any]:
    """A candidate in JSON values."""
    return {
        "id": candidate.id,
        "architecture": space.format(candidate.arch),
        **_halves(space, candidate),
        "status": candidate.status,
        "metrics": candidate.metrics,
        "scores": list(candidate.scores) if candidate.scores else None,
        "epochs": candidate.epochs,
        "seconds": candidate.seconds,
        "training_seconds": candidate.training_seconds,
        "finished_s": candidate.finished_s,
        "error": candidate.error,
        "ending": candidate.ending,
        "violation": candidate.violation,
        "attempts": candidate.attempts,
        "cached": candidate.cached,
        "curve": {epoch: round(candidate.curve[epoch], 3) for epoch in sorted(candidate.curve, key=int)},
    }


def _halves(space: SearchSpace, candidate: Candidate) -> dict[str, Any]:
    """The network and the recipe of a candidate by themselves; without a recipe of its own, that is None."""
    if not isinstance(space, JointSpace):
        return {"network": space.format(candidate.arch), "recipe": None}
    network, point = space.split(candidate.arch)
    return {"network": space.network.format(network), "recipe": space.recipes.entries(point)}


def _baseline(
    folder: RunFolder, space: SearchSpace, candidates: Sequence[Candidate], experiment: Experiment
) -> dict[str, Any] | None:
    """The comparison with the baseline; None if none was asked for, or it has not begun."""
    inner = baseline_folder(folder)
    if experiment.baseline is None or not inner.exists:
        return None
    return compare_with_baseline(candidates, read_candidates(inner, inner.experiment(), space), experiment)


def _peak(folder: RunFolder) -> dict[str, Any] | None:
    """What the device that trained does at best; None in runs of earlier versions, and before a search begins."""
    return json.loads(folder.peak.read_text(encoding="utf-8")) if folder.peak.exists() else None


def _predictor(
    folder: RunFolder, space: SearchSpace, candidates: Sequence[Candidate], measured: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any] | None:
    if isinstance(space, JointSpace):
        return artefact_predictor(candidates)
    if not folder.calibration.exists():
        return None
    calibration = Calibration.from_json(json.loads(folder.calibration.read_text(encoding="utf-8")))
    held_out = calibration.hold_out(space)
    protocol = calibration.protocol
    calls = f"median of {protocol['repeats']} calls or more, " if protocol["repeats"] else ""
    return {
        "name": calibration.method,
        "what": HELD_OUT,
        "spearman": held_out.spearman,
        "median_error_pct": held_out.median_error_pct,
        "within_10_pct": held_out.within_10_pct,
        "coverage_pct": held_out.coverage_pct,
        "n": held_out.n,
        "protocol": (
            f"five-fold cross-validation: each of {held_out.n} architectures is predicted by a fit without it; "
            f"{protocol['runtime']}, {protocol['precision']}, batch {protocol['batch']}, "
            f"{protocol['threads']} thread(s), {protocol['device']}, {calls}{protocol['order']}"
        ),
        "measured_ms": held_out.measured_ms.tolist(),
        "predicted_ms": held_out.predicted_ms.tolist(),
        "chosen": [
            {
                "id": each.id,
                "predicted_ms": each.metrics.get("latency_predicted_ms", each.metrics["latency_ms"]),
                "measured_ms": measured[each.id]["median"],
            }
            for each in candidates
            if each.id in measured
        ],
        "unsure": [
            {
                "id": each.id,
                "predicted_ms": each.metrics["latency_predicted_ms"],
                "measured_ms": each.metrics["latency_ms"],
            }
            for each in candidates
            if "latency_predicted_ms" in each.metrics
        ],
    }
