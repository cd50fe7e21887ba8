"""The result of a search, for Python and notebooks."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from nasbench.experiment.build import Brought, Prepared, prepare
from nasbench.experiment.stored import stored_experiment
from nasbench.experiment.unchanged import check_code
from nasbench.models.build import SpaceBuild
from nasbench.models.model import Model, predicted
from nasbench.report.build import build_report, candidates_table
from nasbench.search.record import RecordedCandidate
from nasbench.search.settings import read_candidates, read_settings
from nasbench.search.study import network_seed
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError
from nasbench_registry.files import user_path

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 10  # rows of the front in a notebook


@dataclass(frozen=True)
class SearchedCandidate:
    """A candidate of a finished search.

    Attributes:
        result: Result of the search.
        recorded: Record of the candidate.
    """

    result: Result
    recorded: RecordedCandidate

    @property
    def id(self) -> int:
        """The number of the candidate, from 0."""
        return self.recorded.id

    @property
    def architecture(self) -> str:
        """The architecture in the notation of its space."""
        return self.recorded.architecture

    @property
    def choices(self) -> dict[str, Any]:
        """The option of each decision that matters."""
        return dict(self.recorded.choices)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name."""
        return dict(self.recorded.metrics)

    def network(self) -> nn.Module:
        """The network in eval mode: with its trained weights, where the search trained it; else as it is built.

        Raises:
            UserError: the space was given as an object, and is not at hand here, or its code was edited since.
        """
        return self.result._network(self.recorded)

    def model(self) -> Model:
        """The network as a model, which can be compressed, compiled, measured and saved.

        Raises:
            UserError: the search trained no network, or the space is not at hand here.
        """
        return self.result._model(self.recorded)

    def predict(self, inputs: Any) -> Any:
        """The outputs of the network, as a NumPy array; of regression in the units of the targets.

        Args:
            inputs: Inputs as the network takes them, with the batch first: an array or a tensor.
        """
        return predicted(self.network(), inputs, self.result._prepared.problem)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.recorded.metrics.items())
        return f"candidate {self.id}: {self.architecture} ({numbers})"


class Result:
    """The result of a search; it is read from the run folder, without the code of the space.

    Args:
        folder: Folder of the run.
        brought: Parts that were given as objects.
    """

    def __init__(self, folder: RunFolder, brought: Brought | None = None) -> None:
        self.folder = folder.path
        self._run = folder
        self._brought = brought or Brought()

    @classmethod
    def read(cls, folder: str | Path) -> Result:
        """The result of a run that is there; UserError if there is none."""
        return cls(RunFolder(user_path(folder)).require())

    @cached_property
    def _candidates(self) -> list[RecordedCandidate]:
        return read_candidates(self._run, read_settings(self._run))

    @cached_property
    def json(self) -> dict[str, Any]:
        """The content of `report.json`; docs/report.md describes every key."""
        return build_report(self._run)

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """A row for each candidate, with a column for each decision and for each metric; the index is its number."""
        table = candidates_table(self.json, self._candidates)
        return table.set_index("id") if len(table) else table

    @property
    def front(self) -> pd.DataFrame:
        """The rows of `candidates` that no other one dominates in the objectives."""
        table = self.candidates
        return table[table["on_front"]] if len(table) else table

    @property
    def status(self) -> str:
        """How the search ended."""
        return str(self.json["status"])

    @property
    def best(self) -> SearchedCandidate:
        """The candidate with the largest first score, of those that were trained for the most epochs.

        Raises:
            UserError: no candidate is done.
        """
        compared = {row["id"] for row in self.json["candidates"] if row["compared"]}
        scored = [candidate for candidate in self._candidates if candidate.id in compared and candidate.scores]
        if not scored:
            raise UserError(
                f"no candidate of {self._run.name} is done, so there is no best one; result.candidates says why."
            )
        return SearchedCandidate(self, max(scored, key=lambda candidate: (candidate.scores or (), -candidate.id)))

    def __getitem__(self, number: int) -> SearchedCandidate:
        """The candidate with this number."""
        by_number = {candidate.id: candidate for candidate in self._candidates}
        if number not in by_number:
            raise UserError(
                f"{self._run.name} has no candidate {number}; its {len(by_number)} candidates count from 0."
            )
        return SearchedCandidate(self, by_number[number])

    def plot(self) -> go.Figure:
        """The Pareto front, or with a single objective the values of all candidates, as an interactive figure."""
        from nasbench.report import figures

        axes = figures.objective_axes(self.json)
        return figures.distribution(self.json) if axes is None else figures.pareto_front(self.json, axes)

    def report(self) -> Path:
        """The page `report.html` of the run."""
        return self._run.report_html

    def _network(self, candidate: RecordedCandidate) -> nn.Module:
        prepared = self._prepared
        evaluator = prepared.evaluator(self._run, None)
        seed = network_seed(prepared.experiment.seed, prepared.space, candidate.arch)
        try:
            return evaluator.trained(candidate.id, candidate.arch, seed, candidate.epochs).eval()
        except NotImplementedError:
            from search_spaces.fresh_model import fresh_model

            arch = evaluator.network_arch(candidate.arch)
            return fresh_model(evaluator.network_space, arch, evaluator.task, seed).eval()

    def _model(self, candidate: RecordedCandidate) -> Model:
        prepared = self._prepared
        problem, space = prepared.required, prepared.experiment.space
        arch = prepared.evaluator(self._run, None).network_arch(candidate.arch)
        build = SpaceBuild(space.name, space.options, arch)
        return Model(self._network(candidate), problem.task, build=build, problem=problem)

    @cached_property
    def _prepared(self) -> Prepared:
        prepared = prepare(stored_experiment(self._run), self._brought)
        check_code(prepared, self._run)
        return prepared

    def __repr__(self) -> str:
        done = int((self.candidates["status"] == "done").sum()) if len(self.candidates) else 0
        return f"Result of {self._run.name}: {self.status}; {done} candidates done, {len(self.front)} on the front"

    def _repr_html_(self) -> str:
        """The HTML that a notebook shows: the end of the search, its front, and the path of the report."""
        metrics = [objective["metric"] for objective in self.json["experiment"]["objectives"]]
        columns = ["architecture", *(name for name in metrics if name in self.front)]
        front = self.front[columns].head(SHOWN) if len(self.front) else self.front
        more = f"<p>... and {len(self.front) - SHOWN} more</p>" if len(self.front) > SHOWN else ""
        return (
            f"<p>{html.escape(repr(self))}</p>{front.to_html(float_format=lambda value: f'{value:.4g}')}{more}"
            f"<p>report: {html.escape(str(self.report()))}</p>"
        )
