"""Callbacks that receive the events of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study


class Callback:
    """Receives every event of a search; each method does nothing until it is overridden.

    Callbacks run in the process of the search, in its own thread, and should be quick. What one of them raises ends the
    search; what finished before is kept.
    """

    def begin(self, study: Study, experiment: Mapping[str, Any]) -> None:
        """The search begins, or goes on.

        Args:
            study: Study of the search; it holds the candidates of an earlier process, if there was one.
            experiment: Settings of the experiment, as JSON values.
        """

    def phase(self, name: str, total: int) -> None:
        """A new part of the work begins, of so many pieces."""

    def advance(self, done: int, text: str = "") -> None:
        """So many pieces of the part are done."""

    def candidate_done(self, candidate: RecordedCandidate, study: Study) -> None:
        """A candidate ended; its status says how."""

    def front_changed(self, front: Sequence[int], study: Study) -> None:
        """The Pareto front has other members now.

        Args:
            front: Numbers of the candidates on the front.
            study: Study of the search.
        """

    def retry(self, number: int, status: str, error: str | None) -> None:
        """An attempt at a candidate failed, and another one will follow."""

    def stage_done(self, rank: int, stage: Mapping[str, Any]) -> None:
        """A stage of a survivor was measured and stored.

        Args:
            rank: Rank of the survivor, counted from 1.
            stage: Entry of the stage, as `report.json` holds it.
        """

    def stopping(self) -> None:
        """The user wants to stop; the running candidates finish first."""

    def end(self, report: Mapping[str, Any]) -> None:
        """The search is over, and its report is written.

        Args:
            report: Content of `report.json`.
        """


class Callbacks(Callback):
    """Several callbacks that receive every event, in their order.

    Args:
        members: Callbacks to call.
    """

    def __init__(self, members: Iterable[Callback]) -> None:
        self.members = tuple(members)


def hears_of_fronts(callback: Callback) -> bool:
    """Whether the callback overrides `front_changed`; otherwise the members of the front need not be computed."""
    if isinstance(callback, Callbacks):
        return any(map(hears_of_fronts, callback.members))
    return getattr(callback.front_changed, "__func__", None) is not Callback.front_changed


def _to_all(event: str) -> Callable[..., None]:
    def tell(self: Callbacks, *words: Any) -> None:
        for member in self.members:
            getattr(member, event)(*words)

    return tell


for _event in [name for name in vars(Callback) if not name.startswith("_")]:
    setattr(Callbacks, _event, _to_all(_event))
