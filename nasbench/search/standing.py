"""How far a search is, without going through all of its candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.search.disk_record import RECORD, DiskRecord, begun_entry, candidate_of, outcome_entry, table_of
from nasbench.search.record import OUTCOME_DEFAULTS, RecordedCandidate, fill
from nasbench.search.tally import Tally
from nasbench.storage.files import write_json
from nasbench.storage.line_file import read_lines

if TYPE_CHECKING:
    from nasbench.search.settings import RunSettings
    from nasbench.storage.run_folder import RunFolder

STANDING = "standing.json"


@dataclass(frozen=True)
class Standing:
    """How far a search is.

    Attributes:
        tally: Counts, the best candidate and the front of the candidates.
        running: Candidates without an outcome, by number.
    """

    tally: Tally
    running: dict[int, RecordedCandidate]


def write_standing(path: Path, tally: Tally, running: Iterable[int], record: DiskRecord) -> None:
    """Write down how far a search is, and how much of its record that covers.

    Args:
        path: File to write.
        tally: Tally of the candidates of the record.
        running: Numbers of the candidates without an outcome.
        record: Record of the search; all of it is on the disk.
    """
    best = tally.best
    write_json(
        path,
        {
            "record": record.identity,
            "bytes": record.size,
            "tally": tally.to_json() | {"best": None if best is None else _entry(best)},
            "running": [_entry(record.candidates[number]) for number in running],
        },
        indent=None,
    )


def read_standing(folder: RunFolder, settings: RunSettings) -> Standing:
    """How far a run is, by what was written last and the lines of the record since; nothing is written.

    Where that is not there, or does not fit, all candidates are read.
    """
    from nasbench.search.settings import read_candidates

    record = folder.journal.with_name(RECORD)
    try:
        saved = folder.read(record.with_name(STANDING), ("record", "bytes", "tally", "running"))
        if _ends_a_line(record, saved["bytes"]):
            return _since(record, saved, settings)
    except (OSError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        pass  # what is wrong with the record, if it is that, is reported below
    candidates = read_candidates(folder, settings)
    tally = Tally(settings.objectives, settings.full_epochs, candidates)
    return Standing(tally, {candidate.id: candidate for candidate in candidates if candidate.status == "running"})


def _ends_a_line(record: Path, size: int) -> bool:
    """Whether so many bytes of the record are whole lines; not where something was put in or taken out before."""
    with record.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _since(record: Path, saved: dict[str, Any], settings: RunSettings) -> Standing:
    _, first = next(read_lines(record))
    if first["record"] != saved["record"]:
        raise KeyError("it is that of another record")
    table, space = table_of(first), first["space"]
    tally = Tally(settings.objectives, settings.full_epochs)
    best_entry = saved["tally"]["best"]
    best = None
    if best_entry is not None:
        best = candidate_of(best_entry, table, space)
        fill(best, best_entry["outcome"])
    tally.load(saved["tally"], best)
    running = {entry["candidate"]: candidate_of(entry, table, space) for entry in saved["running"]}
    for _, entry in read_lines(record, saved["bytes"]):
        if "outcome" in entry:
            ended = running.pop(entry["candidate"])
            fill(ended, entry["outcome"])
            tally.end(ended)
        elif "picks" in entry:
            running[entry["candidate"]] = candidate_of(entry, table, space)
            tally.begin()
        elif "value" in entry:
            running[entry["candidate"]].curve[str(entry["epoch"])] = entry["value"]
        elif "attempt" in entry:
            running[entry["candidate"]].attempts.append(entry["attempt"])
    return Standing(tally, running)


def _entry(candidate: RecordedCandidate) -> dict[str, Any]:
    """A candidate as its lines in the record tell of it, in one."""
    outcome = {name: getattr(candidate, name) for name in ("status", "metrics", "scores", "curve", *OUTCOME_DEFAULTS)}
    entry = begun_entry(candidate) | {"curve": candidate.curve, "attempts": candidate.attempts}
    return entry | {"outcome": outcome_entry(outcome)}
