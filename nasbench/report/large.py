"""What is drawn of a search with more candidates than a page can show."""

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
        report: the content of ``report.json``.
    """
    candidates: Sequence[Record] = report.get("candidates") or ()
    if len(candidates) <= MOST:
        return report
    members = set(report.get("front") or ())
    networks = {
        each.get("network") or each.get("architecture"): each["id"]
        for each in reversed(candidates)
        if each["id"] in members
    }
    front = _spread(sorted(networks.values()), FRONT)  # a small space has the same network on it again and again
    kept = {*front, *(survivor["candidate"] for survivor in report.get("survivors") or ())}
    bests = set(_bests(report)) - kept
    others = [each["id"] for each in candidates if each["id"] not in kept and each["id"] not in bests]
    sample = bests.union(_spread(others, max(0, DRAWN - len(kept) - len(bests))))
    thinner: dict[str, Any] = {
        "candidates": [
            _brief(each, report) if each["id"] in sample else each
            for each in candidates
            if each["id"] in kept or each["id"] in sample
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
    done = [each for each in report["candidates"] if figures.status(each) == "done" and each["id"] in scores]
    done.sort(key=lambda each: each["finished_s"])
    found: list[int] = []
    for each in done:
        value = scores[each["id"]]
        if not found or (value > scores[found[-1]] if goal == "max" else value < scores[found[-1]]):
            found.append(each["id"])
    return found


def _brief(candidate: Record, report: Record) -> Record:
    """A candidate of the sample, with what a point needs: its architecture stands in report.json."""
    objectives = [each["metric"] for each in (report.get("experiment") or {}).get("objectives") or ()]
    metrics = {name: value for name, value in (candidate.get("metrics") or {}).items() if name in objectives}
    return {**candidate, "metrics": metrics, "architecture": "", "network": "", "recipe": None}


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """So many of the values at most, evenly spread, both ends included."""
    if len(values) <= most:
        return list(values)
    return [values[index] for index in np.linspace(0, len(values) - 1, most).round().astype(int)] if most else []


def _thin(told: Record, columns: Sequence[str]) -> Record:
    """Columns of one length with fewer rows; one that is shorter keeps those that it has."""
    rows = _spread(range(len(told[columns[0]])), DRAWN)
    return {**told, **{name: [told[name][row] for row in rows if row < len(told[name])] for name in columns}}
