"""`report.json` from the files of a run, whatever state the run is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nasbench.devices.measure import ALL_CALLS, TOLD
from nasbench.latency.calibration import MEASURED, Calibration
from nasbench.latency.predictors.validation import HeldOut
from nasbench.objectives.reward import pareto_front
from nasbench.report.accounting import compute, count_outcomes
from nasbench.report.artefact_predictor import artefact_predictor
from nasbench.report.baseline import compare_with_baseline, hypervolume_over_time
from nasbench.report.early import early_ends
from nasbench.report.figures import HELD_OUT
from nasbench.report.importance import importance
from nasbench.report.reorder import deployed_in_run, reorder
from nasbench.search.record import RecordedCandidate, comparable, describe
from nasbench.search.remeasured import overlay
from nasbench.search.settings import RunSettings, read_candidates, read_settings
from nasbench.storage.files import write_json, write_text
from nasbench.storage.run_folder import EPOCHS, RunFolder, baseline_folders

LISTS = ("metrics", "scores", "curve", "network", "recipe")  # what does not fit a cell of trials.csv, or stands there


def build_report(folder: RunFolder) -> dict[str, Any]:
    """The report of a run as JSON; docs/report.md describes every key."""
    settings = read_settings(folder)
    return _build(folder, settings, read_candidates(folder, settings))


def _build(folder: RunFolder, settings: RunSettings, candidates: Sequence[RecordedCandidate]) -> dict[str, Any]:
    measured = read_remeasured(folder)
    space = read_space(folder)
    comparables = comparable(candidates, settings.full_epochs)
    certain = overlay(comparables, measured, settings.objectives, settings.reward)
    compared = {candidate.id: candidate.metrics for candidate in certain}
    stored = [folder.read(file, ("rank", "candidate", "stages")) for file in folder.survivors.glob("*/survivor.json")]
    # A resumed run may have asked for more of them before.
    survivors = sorted(
        (survivor for survivor in stored if survivor["rank"] <= settings.survivor_count),
        key=lambda survivor: int(survivor["rank"]),
    )
    summary = folder.read(folder.summary) if folder.summary.exists() else {}
    options = {decision["name"]: int(decision["options"]) for decision in space["decisions"]}
    shares, chance = importance(comparables, options, settings.objectives)
    return {
        "experiment": dict(settings.asked),
        "environment": folder.about(),
        "space": {"architectures": space["architectures"], "recipes": space["recipes"]},
        "quality": space.get("quality"),
        "status": summary.get("status") or "the search has not ended",
        "candidates": [
            describe(candidate)
            | {"compared": candidate.id in compared, "measured_latency_ms": measured.get(candidate.id)}
            for candidate in candidates
        ],
        "front": pareto_front(settings.objectives, compared),
        "survivors": survivors,
        "latency": _estimators(folder, settings, candidates, measured, survivors),
        "predictor": _predictor(folder, space["joint"], candidates, measured),
        "reorder": reorder(deployed_in_run(candidates)) if space["joint"] else None,
        "hypervolume": hypervolume_over_time(certain, settings),
        "baseline": _baseline(folder, candidates, settings),
        "differentiable": _differentiable(folder),
        "importance": shares,
        "importance_by_chance": chance,
        "agreement": folder.read(folder.agreement, ("spearman",)) if folder.agreement.exists() else None,
        "outcomes": count_outcomes(candidates, settings.outcomes),
        "early_ends": early_ends(candidates),
        "compute": compute(candidates, survivors, settings.executor, _peak(folder)),
    }


def write_report(folder: RunFolder) -> dict[str, Any]:
    """Build the report; draw the survivors and the front; write report.json, report.html and trials.csv."""
    from nasbench.report.front_drawings import draw_front
    from nasbench.report.html import write_html
    from nasbench.report.survivor_drawings import draw_survivors

    settings = read_settings(folder)
    candidates = read_candidates(folder, settings)
    report = _build(folder, settings, candidates)
    report["survivors"] = draw_survivors(folder.path, report["survivors"])
    members = set(report["front"])
    front = [candidate for candidate in candidates if candidate.id in members]
    report["drawings"] = draw_front(folder.path, front, settings.asked, report["survivors"])
    write_json(folder.report_json, report)
    write_html(report, folder.report_html)
    write_text(folder.trials, candidates_table(report, candidates).to_csv(index=False))
    return report


def candidates_table(report: Mapping[str, Any], candidates: Sequence[RecordedCandidate]) -> pd.DataFrame:
    """A row for each candidate: what came of it, a column for each decision and for each metric, whether on the front.

    A decision that has the name of a metric or of another column is called ``choice_NAME``.

    Args:
        report: Report of the run.
        candidates: Candidates of the run.
    """
    front = set(report["front"])
    choices = {candidate.id: candidate.choices for candidate in candidates}
    column_names = {name for row in report["candidates"] for name in (*row, *row["metrics"])}
    rows = [
        {key: value for key, value in row.items() if key not in LISTS}
        | {"attempts": 1 + len(row["attempts"]), "on_front": row["id"] in front}
        | {"measured_latency_ms": (row["measured_latency_ms"] or {}).get("median")}
        | {f"choice_{name}" if name in column_names else name: option for name, option in choices[row["id"]].items()}
        | row["metrics"]
        for row in report["candidates"]
    ]
    return pd.DataFrame(rows)


def read_space(folder: RunFolder) -> dict[str, Any]:
    """The size of the space of a run, and the number of options of each decision."""
    empty: dict[str, Any] = {"architectures": None, "recipes": None, "joint": False, "decisions": []}
    return folder.read(folder.space, empty.keys()) if folder.space.exists() else empty


def read_remeasured(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """The latencies that were measured after the search, by the number of the candidate."""
    if not folder.remeasured.exists():
        return {}
    return {int(number): latency for number, latency in folder.read(folder.remeasured).items()}


def _baseline(
    folder: RunFolder, candidates: Sequence[RecordedCandidate], settings: RunSettings
) -> dict[str, Any] | None:
    """The comparison with the baseline; None if none was asked for, or it has not begun."""
    requested = settings.asked["baseline"]
    begun = [inner for inner in baseline_folders(folder, requested["seeds"] if requested else 0) if inner.exists]
    searches = [read_candidates(inner, read_settings(inner)) for inner in begun]
    return compare_with_baseline(candidates, searches, settings) if requested and searches else None


def _differentiable(folder: RunFolder) -> dict[str, Any] | None:
    """The preferences of a differentiable search after each epoch; None where the controller is another one."""
    file = folder.differentiable / EPOCHS
    return folder.read(file, ("method", "edges", "history")) if file.exists() else None


def _peak(folder: RunFolder) -> dict[str, Any] | None:
    """The peak compute of the device that trained; None before a search begins."""
    return folder.read(folder.peak) if folder.peak.exists() else None


def _estimators(
    folder: RunFolder,
    settings: RunSettings,
    candidates: Sequence[RecordedCandidate],
    measured: Mapping[int, Mapping[str, Any]],
    survivors: Sequence[Mapping[str, Any]],
) -> dict[str, str | None]:
    """The estimators of latencies: in the search, on the front and in the stages; see `ESTIMATORS`."""
    search = None
    if folder.calibration.exists():
        search = folder.read(folder.calibration, MEASURED)["protocol"].get("estimator")
    elif settings.asked["device"]["latency"] == "measured" and any(
        "latency_ms" in candidate.metrics for candidate in candidates
    ):
        search = ALL_CALLS if settings.asked["device"]["name"] in ("cpu", "cuda") else TOLD
    stages = [stage["metrics"].get("latency_ms") for survivor in survivors for stage in survivor["stages"]]
    front, stage = (
        next((latency.get("estimator") for latency in latencies if latency), None)
        for latencies in (measured.values(), stages)
    )
    return {"search": search, "front": front, "stages": stage}


def _predictor(
    folder: RunFolder,
    joint: bool,
    candidates: Sequence[RecordedCandidate],
    measured: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any] | None:
    if joint:
        return artefact_predictor(candidates)
    if not folder.calibration.exists():
        return None
    stored = folder.read(folder.calibration, MEASURED)
    calibration, rows = Calibration.from_json(stored), stored.get("held_out")
    if rows is None:
        return None
    held_out = HeldOut(*(np.array(rows[name]) for name in ("measured_ms", "predicted_ms", "std_ms")))
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
                "id": candidate.id,
                "predicted_ms": candidate.metrics.get("latency_predicted_ms", candidate.metrics["latency_ms"]),
                "measured_ms": measured[candidate.id]["median"],
            }
            for candidate in candidates
            if candidate.id in measured
        ],
        "unsure": [
            {
                "id": candidate.id,
                "predicted_ms": candidate.metrics["latency_predicted_ms"],
                "measured_ms": candidate.metrics["latency_ms"],
            }
            for candidate in candidates
            if "latency_predicted_ms" in candidate.metrics
        ],
    }
