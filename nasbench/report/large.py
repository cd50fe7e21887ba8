"""The sample that is drawn of a search with more candidates than a page can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasbench.report import figures

Record = Mapping[str, Any]

DRAWN = 300
"""Candidates of a page, at most about so many; of a curve, points. Beside the 4.8 MB of plotly.js they are few."""
FRONT = 100
"""Members of the front that are drawn, at most."""
MOST = 3000
"""Up to so many candidates all of them are drawn."""


def drawn(report: Record) -> Record:
    """The report with a sample of its candidates, where they are more than a page can show.

    Survivors are all there, and whatever was the best so far, so that the curve of the best is exact; members of the
    front up to `FRONT`, each network once; and of the others as many as there is room for, spread evenly over the
    search.

    Args:
        report: Content of ``report.json``.
    """
    candidates: Sequence[Record] = report.get("candidates") or ()
    if len(candidates) <= MOST:
        return report
    members = set(report.get("front") or ())
    networks = {
        candidate.get("network") or candidate.get("architecture"): candidate["id"]
        for candidate in reversed(candidates)
        if candidate["id"] in members
    }
    front = _spread(sorted(networks.values()), FRONT)  # a small space has the same network on it again and again
    always_drawn = {*front, *(survivor["candidate"] for survivor in report.get("survivors") or ())}
    bests = set(_bests(report)) - always_drawn
    remaining = [
        candidate["id"]
        for candidate in candidates
        if candidate["id"] not in always_drawn and candidate["id"] not in bests
    ]
    sample = bests.union(_spread(remaining, max(0, DRAWN - len(always_drawn) - len(bests))))
    thinner: dict[str, Any] = {
        "candidates": [
            _brief(candidate, report) if candidate["id"] in sample else candidate
            for candidate in candidates
            if candidate["id"] in always_drawn or candidate["id"] in sample
        ],
        "front": front,
    }
    thinner["hidden_front"] = len(report.get("front") or ()) - len(front)
    hypervolume, baseline = report.get("hypervolume"), report.get("baseline")
    if hypervolume:
        thinner["hypervolume"] = _thin(hypervolume, ("seconds", "values"))
    if baseline:
        thinner["baseline"] = _thin(baseline, ("count", "mean", "low", "high", "search"))
    return {**report, **thinner}


def _bests(report: Record) -> list[int]:
    """The numbers of the candidates that were the best so far when they ended."""
    _, goal, scores = figures.progress_scores(report)
    done = [
        candidate
        for candidate in report["candidates"]
        if figures.status(candidate) == "done" and candidate["id"] in scores
    ]
    done.sort(key=lambda candidate: candidate["finished_s"])
    bests: list[int] = []
    for candidate in done:
        value = scores[candidate["id"]]
        if not bests or (value > scores[bests[-1]] if goal == "max" else value < scores[bests[-1]]):
            bests.append(candidate["id"])
    return bests


def _brief(candidate: Record, report: Record) -> Record:
    """A candidate of the sample, with what a point needs: its architecture stands in report.json."""
    objectives = [objective["metric"] for objective in (report.get("experiment") or {}).get("objectives") or ()]
    metrics = {name: value for name, value in (candidate.get("metrics") or {}).items() if name in objectives}
    return {**candidate, "metrics": metrics, "architecture": "", "network": "", "recipe": None}


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly spread, both ends included."""
    if len(values) <= most:
        return list(values)
    return [values[index] for index in np.linspace(0, len(values) - 1, most).round().astype(int)] if most else []


def _thin(columns_of_rows: Record, columns: Sequence[str]) -> Record:
    """Columns of one length with fewer rows; one that is shorter keeps those that it has."""
    rows = _spread(range(len(columns_of_rows[columns[0]])), DRAWN)
    return {
        **columns_of_rows,
        **{name: [columns_of_rows[name][row] for row in rows if row < len(columns_of_rows[name])] for name in columns},
    }
