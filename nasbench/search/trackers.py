"""Searches in experiment trackers: each candidate is one run of MLflow or Weights & Biases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from nasbench.search.callbacks import Callback
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench_registry import UserError


class MlflowCallback(Callback):
    """One MLflow run for the search, and below it one for each candidate: its choices, its metrics, its curve.

    MLflow knows a search again by its name and seed, so that a resumed one goes on in the same MLflow run.

    Args:
        tracking_uri: Where MLflow keeps its runs, such as ``sqlite:///mlflow.db`` or a server; None is MLflow's
            own setting. MLflow 3 takes a folder only if MLFLOW_ALLOW_FILE_STORE is set to true.
        experiment: Name of the MLflow experiment; None is that of the search.
    """

    summary: ClassVar[str] = "MLflow: a run for each candidate (extra mlflow)"

    def __init__(self, tracking_uri: str | None = None, experiment: str | None = None) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise UserError(
                "callback 'mlflow' needs the package mlflow; install it with pip install 'nasbench-framework[mlflow]'."
            ) from None
        with _reachable(tracking_uri):
            self._client = MlflowClient(tracking_uri=tracking_uri)
        self._uri, self._name = tracking_uri, experiment
        self._experiment = self._run = ""
        self._quality = ""

    def begin(self, study: Study, experiment: Mapping[str, Any]) -> None:
        """Open the run of the search, and write down candidates that are missing there."""
        name = self._name or str(experiment["name"])
        with _reachable(self._uri):
            existing = self._client.get_experiment_by_name(name)
        self._experiment = existing.experiment_id if existing is not None else self._client.create_experiment(name)
        self._quality = study.quality
        key = f"{experiment['name']}, seed {experiment['seed']}"
        runs = self._client.search_runs([self._experiment], f"tags.search = '{key}'", max_results=1)
        run = runs[0] if runs else self._client.create_run(self._experiment, run_name=key, tags={"search": key})
        self._run = run.info.run_id
        if not runs:
            for section in ("space", "controller", "reward", "seed"):
                self._client.log_param(self._run, section, str(experiment[section])[:500])
        below = f"tags.`mlflow.parentRunId` = '{self._run}'"
        inside = self._client.search_runs([self._experiment], below, max_results=50_000)
        logged = {int(child.data.tags["candidate"]) for child in inside}
        for candidate in study.candidates:
            if candidate.status != "running" and candidate.id not in logged:
                self._log(candidate)

    def candidate_done(self, candidate: RecordedCandidate, study: Study) -> None:
        """Write the candidate down."""
        self._log(candidate)
        best = study.best
        if best is not None and best.scores:
            self._client.log_metric(self._run, "best_score", best.scores[0], step=candidate.id)
        self._client.log_metric(self._run, "front_size", study.front_size, step=candidate.id)

    def stage_done(self, rank: int, stage: Mapping[str, Any]) -> None:
        """Write down what a stage of a survivor measured."""
        for name, value in _numbers(stage["metrics"]).items():
            self._client.log_metric(self._run, f"survivor_{rank}/{stage['name']}/{name}".replace(" ", "_"), value)

    def end(self, report: Mapping[str, Any]) -> None:
        """Close the run of the search."""
        self._client.set_tag(self._run, "status", str(report["status"])[:500])
        self._client.set_terminated(self._run)

    def _log(self, candidate: RecordedCandidate) -> None:
        tags = {"mlflow.parentRunId": self._run, "candidate": str(candidate.id), "status": candidate.status}
        run = self._client.create_run(self._experiment, run_name=f"candidate {candidate.id}", tags=tags)
        number = run.info.run_id
        self._client.log_param(number, "architecture", candidate.architecture[:500])
        for name, option in candidate.choices.items():
            self._client.log_param(number, name, str(option)[:500])
        for name, value in candidate.metrics.items():
            self._client.log_metric(number, name, value)
        for epoch, value in candidate.curve.items():
            self._client.log_metric(number, f"{self._quality}_by_epoch", value, step=int(epoch))
        if candidate.error:
            self._client.set_tag(number, "error", candidate.error[:500])
        self._client.set_terminated(number, status="FINISHED" if candidate.scores else "FAILED")


@contextlib.contextmanager
def _reachable(tracking_uri: str | None) -> Iterator[None]:
    """Inside the block MLflow opens its store; UserError if it cannot."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        place = "its own tracking URI" if tracking_uri is None else f"tracking_uri {tracking_uri!r}"
        why = " ".join(str(error).split())[:300]
        raise UserError(
            f"MLflow cannot use {place} ({why}); give a database such as sqlite:///mlflow.db, or a server that answers."
        ) from error


class WandbCallback(Callback):
    """One run of Weights & Biases for the search: a row for each candidate, the best score and the size of the front.

    Args:
        project: Name of the project; None is that of the search.
        mode: Online, offline or disabled; None is W&B's own setting.
        folder: Where W&B keeps its files; None is its own setting.
    """

    summary: ClassVar[str] = "Weights & Biases: a row for each candidate (extra wandb)"

    def __init__(self, project: str | None = None, mode: str | None = None, folder: str | None = None) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError(
                "callback 'wandb' needs the package wandb; install it with pip install 'nasbench-framework[wandb]'."
            ) from None
        self._wandb: Any = wandb
        self._options = {"project": project, "mode": mode, "dir": folder}
        self._run: Any = None

    def begin(self, study: Study, experiment: Mapping[str, Any]) -> None:
        """Open the run, and write down the candidates of earlier processes."""
        options = self._options | {"project": self._options["project"] or str(experiment["name"])}
        self._run = self._wandb.init(
            **options,
            config=dict(experiment),
            name=f"{experiment['name']}, seed {experiment['seed']}",
            reinit="create_new",
        )
        for candidate in study.candidates:
            if candidate.status != "running":
                self.candidate_done(candidate, study)

    def candidate_done(self, candidate: RecordedCandidate, study: Study) -> None:
        """Write the candidate down."""
        best = study.best
        row: dict[str, Any] = {"candidate": candidate.id, "status": candidate.status, "front_size": study.front_size}
        row |= {f"choice/{name}": option for name, option in candidate.choices.items()}
        if best is not None and best.scores:
            row["best_score"] = best.scores[0]
        self._run.log(row | dict(candidate.metrics))

    def stage_done(self, rank: int, stage: Mapping[str, Any]) -> None:
        """Write down what a stage of a survivor measured."""
        for name, value in _numbers(stage["metrics"]).items():
            self._run.summary[f"survivor_{rank}/{stage['name']}/{name}"] = value

    def end(self, report: Mapping[str, Any]) -> None:
        """Close the run."""
        self._run.summary["status"] = str(report["status"])
        self._run.finish()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a stage that are numbers; of a latency its median."""
    flat = {name: value.get("median") if isinstance(value, Mapping) else value for name, value in metrics.items()}
    return {name: float(value) for name, value in flat.items() if isinstance(value, int | float)}
