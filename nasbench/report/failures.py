"""Candidates without a result on the page: their number, their messages, and their cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nasbench.evaluators.outcomes import SCORED

Record = Mapping[str, Any]


def failed_kinds(report: Record) -> list[Record]:
    """The rows of ``outcomes`` for the kinds that gave no result and occurred, in an attempt at least."""
    return [
        row
        for row in report.get("outcomes") or ()
        if row["kind"] not in SCORED and (row["count"] or row.get("retries"))
    ]


def messages(report: Record) -> list[dict[str, Any]]:
    """Messages that differ in numbers only are one row, with the message of the first candidate.

    Returns:
        `kind` of outcome, `times` that it came, `numbers` of the candidates, and `message`; the most frequent one
        first. What is over a limit is no failure, and stands below them.
    """
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for kind, number, message in _errors(report.get("candidates") or ()):
        groups.setdefault((kind, re.sub(r"\d+([.,]\d+)*(e[+-]?\d+)?", "#", message)), []).append((number, message))
    order = sorted(groups.items(), key=lambda item: (item[0][0] == "infeasible", -len(item[1]), item[0]))
    return [
        {
            "kind": kind,
            "times": len(errors),
            "numbers": list(dict.fromkeys(number for number, _ in errors)),
            "message": errors[0][1],
        }
        for (kind, _), errors in order
    ]


def _errors(candidates: Any) -> Iterator[tuple[str, int, str]]:
    for candidate in candidates:
        for attempt in candidate.get("attempts") or ():
            yield str(attempt.get("status")), candidate["id"], str(attempt.get("error") or "no message")
        if candidate.get("status") not in (*SCORED, "running"):
            yield str(candidate.get("status")), candidate["id"], str(candidate.get("error") or "no message")
