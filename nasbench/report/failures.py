"""The section on candidates that have no result: how many, why, and what that cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasbench.evaluators.outcomes import SCORED
from nasbench.report import units
from nasbench.report.page import missing, safe

Record = Mapping[str, Any]

MESSAGES = 20  # different ones that are shown
IDS = 6  # candidates that are named for each


def failures(report: Record) -> str:
    """A table of the kinds that occurred and one of their messages, or the sentence that nothing failed."""
    candidates = report.get("candidates") or ()
    kinds = [
        row
        for row in report.get("outcomes") or ()
        if row["kind"] not in SCORED and (row["count"] or row.get("retries"))
    ]
    if not kinds:
        return missing("No candidate failed." if candidates else "No candidate has been tried yet.")
    return f"{_kinds(kinds)}\n{_early(report)}\n{_messages(report)}"


def _early(report: Record) -> str:
    """At which stage candidates were ended because they broke a limit, or were among the worst."""
    rows = [
        f"<tr><td>{safe(row['stage'])}</td><td>{row['count']}</td>"
        f"<td>{safe(units.duration(units.number(row.get('seconds'))))}</td>"
        f'<td class="text">{_numbers(row["candidates"])}</td></tr>'
        for row in report.get("early_ends") or ()
    ]
    if not rows:
        return ""
    head = '<tr><th>Ended by</th><th>Candidates</th><th>Device time</th><th class="text">Which</th></tr>'
    table = f'<table class="kinds"><thead>{head}</thead>\n<tbody>{"".join(rows)}</tbody></table>'
    note = "From cheap to expensive: what a stage ends does not pay for the stages after it."
    return f'<h3>Infeasible candidates, by stage</h3>\n<div class="scroll">{table}</div>\n<p class="note">{note}</p>'


def _numbers(numbers: Sequence[int]) -> str:
    """The first of them, and whether there are others."""
    return ", ".join(map(str, numbers[:IDS])) + ", \N{HORIZONTAL ELLIPSIS}" * (len(numbers) > IDS)


def _kinds(kinds: list[Record]) -> str:
    rows = []
    for row in kinds:
        retries, recovered = row.get("retries") or 0, row.get("recovered") or 0
        told = units.MISSING if row.get("counts") is None else "yes" if row["counts"] else "no"
        rows.append(
            f'<tr><td>{safe(units.outcome(row["kind"]))}</td><td class="text">{safe(row["meaning"])}</td>'
            f"<td>{row['count']}</td><td>{retries or units.MISSING}</td>"
            f"<td>{recovered if retries else units.MISSING}</td>"
            f"<td>{safe(units.duration(units.number(row.get('seconds'))))}</td><td>{told}</td></tr>"
        )
    head = (
        '<tr><th>Kind</th><th class="text">Meaning</th><th>Candidates</th><th>Attempts tried again</th>'
        "<th>Then with a result</th><th>Device time</th><th>Counts</th></tr>"
    )
    note = (
        "Candidates are those that ended so. An attempt that was tried again is no failure if a later one gave a "
        "result. Device time is that of both, and gave nothing. What counts, counts towards search.max_failures."
    )
    table = f'<table class="kinds"><thead>{head}</thead>\n<tbody>\n' + "\n".join(rows) + "\n</tbody></table>"
    return f'<div class="scroll">{table}</div>\n<p class="note">{note}</p>'


def _messages(report: Record) -> str:
    """Messages that differ in numbers only are one row, with the message of the first candidate."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for kind, number, message in _told(report.get("candidates") or ()):
        groups.setdefault((kind, re.sub(r"\d+([.,]\d+)*(e[+-]?\d+)?", "#", message)), []).append((number, message))
    # What is over a limit is no failure, and stands below them.
    order = sorted(groups.items(), key=lambda item: (item[0][0] == "infeasible", -len(item[1]), item[0]))
    rows = []
    for (kind, _), found in order[:MESSAGES]:
        numbers = list(dict.fromkeys(number for number, _ in found))
        named = _numbers(numbers)
        message = found[0][1]
        rows.append(
            f'<tr><td>{safe(units.outcome(kind))}</td><td>{len(found)}</td><td class="text">{named}</td>'
            f'<td class="text"><code title="{safe(message)}">{safe(units.shorten(message, 300))}</code></td></tr>'
        )
    head = '<tr><th>Kind</th><th>Times</th><th class="text">Candidates</th><th class="text">Message</th></tr>'
    note = "Messages that differ in numbers only stand together; the first of them is shown."
    if len(order) > MESSAGES:
        others = sum(len(found) for _, found in order[MESSAGES:])
        note += f" {len(order) - MESSAGES:,} other messages ({others:,} times) stand in report.json."
    table = f'<table class="kinds"><thead>{head}</thead>\n<tbody>\n' + "\n".join(rows) + "\n</tbody></table>"
    return f'<h3>Messages</h3>\n<div class="scroll">{table}</div>\n<p class="note">{note}</p>'


def _told(candidates: Any) -> Iterator[tuple[str, int, str]]:
    for candidate in candidates:
        for attempt in candidate.get("attempts") or ():
            yield str(attempt.get("status")), candidate["id"], str(attempt.get("error") or "no message")
        if candidate.get("status") not in (*SCORED, "running"):
            yield str(candidate.get("status")), candidate["id"], str(candidate.get("error") or "no message")
