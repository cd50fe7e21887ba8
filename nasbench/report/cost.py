"""The cost of a search: a sentence for the head of the page, and its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nasbench.evaluators.outcomes import OUTCOMES, SCORED
from nasbench.report import units

Record = Mapping[str, Any]


def cost_sentence(report: Record) -> str:
    """Candidates by outcome, wall time, device time and operations."""
    candidates, compute = report.get("candidates") or (), report.get("compute") or {}
    counts = Counter(candidate.get("status") for candidate in candidates)
    outcomes = ", ".join(f"{counts[kind]} {units.outcome(kind)}" for kind in (*OUTCOMES, "running") if counts[kind])
    parts = [f"{len(candidates)} candidate{'s' * (len(candidates) != 1)}" + (f" ({outcomes})" if outcomes else "")]
    wall, busy = units.number(compute.get("wall_seconds")), units.number(compute.get("device_seconds"))
    parts += [f"{units.duration(wall)} of wall time"] if wall is not None else []
    parts += [f"{units.duration(busy)} of device time"] if busy is not None else []
    days = units.number(compute.get("pfs_days"))
    parts += [f"{days:.2g} petaflop/s-days"] if days is not None else []
    return f"The cost: {', '.join(parts)}."


def cost_rows(report: Record) -> list[tuple[str, str, str]]:
    """Name, value and meaning of each part of the cost that is known and occurred.

    Where the time went, what share of it was training, and the compute of training by counting and by time.
    """
    recorded = report.get("compute") or {}
    compute = {key: units.number(value) for key, value in recorded.items()}
    rows = [*_rows(report, compute), *_compute_rows(compute, recorded.get("peak") or {})]
    return [row for row in rows if row[1] != units.MISSING]


def _rows(report: Record, compute: Mapping[str, float | None]) -> list[tuple[str, str, str]]:
    """Name, value and meaning of each part; MISSING as the value of what is not known or did not occur."""
    lost = sum(units.number(row.get("seconds")) or 0.0 for row in _lost(report))
    cached = sum(bool(candidate.get("cached")) for candidate in report.get("candidates") or ())
    share = compute.get("utilization")
    executor = (report.get("experiment") or {}).get("executor") or {}
    workers = executor.get("workers") or 1
    search, compression = compute.get("search_wall_seconds"), compute.get("compression_device_seconds")
    return [
        ("wall time", units.duration(compute.get("wall_seconds")), _parts(search, compression)),
        (
            "device time",
            units.duration(compute.get("device_seconds")),
            _parts(compute.get("search_device_seconds"), compression),
        ),
        (
            "lost",
            units.duration(lost) if lost else units.MISSING,
            "of the device time of the search, to candidates without a result and to attempts that were repeated",
        ),
        ("training", units.duration(compute.get("training_seconds")), "of the device time, inside the training loop"),
        (
            "utilization",
            units.MISSING if share is None else f"{100 * share:.0f} %",
            f"training / ({workers} worker{'s' * (workers != 1)} x {units.duration(search)} of search)",
        ),
        (
            "from the cache",
            f"{cached:,}" if cached else units.MISSING,
            f"candidate{'s' * (cached != 1)} trained before, by this run or another; that is not counted again",
        ),
    ]


def _compute_rows(compute: Mapping[str, float | None], peak: Record) -> list[tuple[str, str, str]]:
    """Training compute by both methods of Amodei & Hernandez (2018), and the utilization that makes them equal."""
    counted, timed = compute.get("pfs_days"), compute.get("pfs_days_by_time")
    reached, best = compute.get("measured_utilization"), units.number(peak.get("flops_per_s"))
    assumed, seconds = compute.get("assumed_utilization"), compute.get("training_device_seconds")
    at_best = "" if best is None else f"{units.count(best)}FLOP/s"
    return [
        (
            "compute, by operations",
            units.MISSING if counted is None else f"{counted:.2g} petaflop/s-days",
            "of the training of the candidates: 2 a MAC, times 3 for forward and backward, times images and epochs",
        ),
        (
            "compute, by time",
            units.MISSING if timed is None else f"{timed:.2g} petaflop/s-days",
            f"{units.duration(seconds)} of devices in training x {at_best} at best x {assumed}, assumed to be used",
        ),
        (
            "used of the best",
            units.MISSING if reached is None else f"{100 * reached:.2g} %",
            f"by operations / (devices in training x {at_best}), the fastest product of two {peak.get('size')}x"
            f"{peak.get('size')} matrices in {peak.get('precision')} on {peak.get('device')}",
        ),
    ]


def _lost(report: Record) -> list[Record]:
    return [row for row in report.get("outcomes") or () if row["kind"] not in SCORED]


def _parts(search: float | None, compression: float | None) -> str:
    if search is None or compression is None:
        return ""
    return f"search {units.duration(search)}, compression {units.duration(compression)}"
