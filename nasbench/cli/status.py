"""The state of a run, from its files; a search that goes on in it is not disturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from nasbench.cli.options import Json, Run
from nasbench.cli.output import show
from nasbench.evaluators.outcomes import FAILURES, OUTCOMES, SCORED
from nasbench_registry.files import user_path

if TYPE_CHECKING:
    from nasbench.search.config import SearchConfig
    from nasbench.search.record import RecordedCandidate
    from nasbench.search.tally import Tally
    from nasbench.storage.run_folder import RunFolder


SHOWN = 30  # members of the front in the table


def status(run: Run, json: Json = False) -> None:
    """Show how far a run is."""
    from nasbench.storage.run_folder import RunFolder

    folder = RunFolder(user_path(run)).require()
    state = run_status(folder)
    show(state, _table(state), as_json=json)


def run_status(folder: RunFolder) -> dict[str, Any]:
    """The JSON that `nasbench status --json` prints."""
    from nasbench.search.record import describe
    from nasbench.search.settings import read_settings
    from nasbench.search.standing import read_standing

    settings = read_settings(folder)
    standing = read_standing(folder, settings)
    tally, counts = standing.tally, standing.tally.counts
    active = folder.is_locked()
    ended = folder.read(folder.summary, ("status",))["status"] if folder.summary.exists() else None
    return {
        "run": folder.name,
        "status": "running" if active else ended or "the search has not ended",
        "active": active,
        "asked": settings.budget.candidates,
        "done": counts["done"],
        "stopped": counts["stopped"],
        "running": counts["running"],
        "failed": sum(counts[kind] for kind in FAILURES),
        "infeasible": counts["infeasible"],
        "outcomes": {kind: counts[kind] for kind in OUTCOMES if counts[kind]},
        "cached": tally.cached,
        "front": tally.front,
        "survivors": len(list(folder.survivors.glob("*/survivor.json"))),
        "best": None if tally.best is None or not tally.best.scores else describe(tally.best),
        "utilization": tally.utilization(settings.executor.workers),
        "time_left_s": None if ended else search_left_s(tally, settings.budget),
        "training": [
            {
                "id": candidate.id,
                "epoch": epoch_of(folder, candidate),
                "epochs": candidate.epochs or settings.full_epochs,
            }
            for candidate in standing.running.values()
        ],
    }


def search_left_s(tally: Tally, budget: SearchConfig) -> float | None:
    """Seconds of search until all candidates are finished or max_hours are over; None before the first one finished.

    Compression of the survivors is not counted.
    """
    spent, finished = tally.finished_s, sum(tally.counts[kind] for kind in SCORED)
    left_s = None if not finished else spent / finished * max(0, budget.candidates - finished)
    if left_s is not None and budget.max_hours is not None:
        left_s = min(left_s, max(0.0, 3600 * budget.max_hours - spent))
    return left_s


def epoch_of(folder: RunFolder, candidate: RecordedCandidate) -> int | None:
    """The last epoch that a running candidate is known to have finished, from its checkpoint or its curve."""
    epochs = [int(epoch) for epoch in candidate.curve]
    checkpoint_epoch = folder.checkpoints.epoch(candidate.id)
    return max([*epochs, *([] if checkpoint_epoch is None else [checkpoint_epoch])], default=None)


def _table(state: dict[str, Any]) -> Table:
    from nasbench.report import units
    from nasbench.report.progress import time_left

    best, share = state["best"], state["utilization"]
    rows = {
        "status": state["status"],
        "candidates": f"{state['done'] + state['stopped']} of {state['asked']} finished, {state['running']} running",
        "outcomes": ", ".join(f"{units.outcome(kind)} {count}" for kind, count in state["outcomes"].items()),
        "from the cache": str(state["cached"] or ""),
        "in training": ", ".join(
            f"candidate {candidate['id']} at epoch {candidate['epoch'] or 0} of {candidate['epochs']}"
            for candidate in state["training"]
        ),
        "front": ", ".join(map(str, state["front"][:SHOWN]))
        + (f" and {len(state['front']) - SHOWN:,} others" if len(state["front"]) > SHOWN else ""),
        "best": "",
        "survivors": str(state["survivors"]),
        "utilization": "" if share is None else f"{100 * share:.0f} % of the workers' time was training",
        "time left": time_left(state["time_left_s"]),
    }
    if best is not None:
        rows["best"] = f"candidate {best['id']}: score {best['scores'][0]:.3f}, {best['architecture']}"
    table = Table(title=f"Run {state['run']}", show_header=False)
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table
