"""Score candidates with weights that all of them share."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.costs import ENERGY, LATENCY, ON_PAPER, CandidateCosts
from nasbench.evaluators.evaluator import BLOCK, Progress, attempt
from nasbench.evaluators.trained import Trained, TrainingLimits
from nasbench.models.build import Build
from nasbench.models.model import Noted
from nasbench.objectives.metrics import Metrics
from nasbench.objectives.objective import Objective
from nasbench.problems.problem import Problem
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import RunFolder
from nasbench.supernet.correlation import agreement
from nasbench.supernet.elastic import ElasticSupernet
from nasbench.supernet.elastic_space import ElasticSpace
from nasbench.supernet.sampling import SAMPLINGS
from nasbench.supernet.shared import share
from nasbench.supernet.store import load_supernet
from nasbench.supernet.supernet import DESCRIPTION, Supernet
from nasbench.training.precision import autocast_type
from nasbench_registry import UserError, one_of
from nasbench_registry.config import Count, Positive, Strict, Whole
from nasbench_registry.files import user_path
from search_spaces import Architecture, SearchSpace

ALONE = "alone.json"


class SupernetConfig(Strict):
    """The options of the evaluator `supernet`.

    Attributes:
        folder: Folder of a trained supernet; null trains shared weights of the space in the run folder. An elastic
            space has its supernet.
        epochs: That shared weights are trained for; null is training.epochs.
        learning_rate: Learning rate of shared weights; null is training.learning_rate.
        sampling: Which networks of the space are trained in a step: sandwich, uniform, fair or progressive.
        kernels: Whether small kernels are the middle of large ones (shared), or have weights of their own (separate).
        examples: Number of validation examples that candidates are evaluated on; null is all.
        calibration_inputs: Training inputs that statistics of batch norm are taken from anew for each candidate.
        afterwards: What survivors go through: finetune trains them on from the shared weights, scratch from fresh ones,
            shared leaves them as they are.
        after_epochs: Epochs of that training; null is training.epochs.
        check: Networks that are trained alone when the search is over, to see whether the shared weights rank as they
            do; 0 trains none.
        check_epochs: Epochs of each of them; null is training.epochs.
    """

    folder: str | None = None
    epochs: Count | None = None
    learning_rate: Positive | None = None
    sampling: str = "uniform"
    kernels: Literal["shared", "separate"] = "shared"
    examples: Count | None = 2048
    calibration_inputs: Whole = 512
    afterwards: Literal["finetune", "scratch", "shared"] = "finetune"
    after_epochs: Count | None = None
    check: Annotated[int, Field(ge=0)] = 24
    check_epochs: Count | None = None

    @classmethod
    def read(cls, options: dict[str, Any]) -> SupernetConfig:
        """The options as they are written; UserError if a name or a value is not allowed."""
        for name in options:
            one_of("option of evaluator supernet", name, cls.model_fields)
        try:
            config = cls.model_validate(options)
        except ValidationError as error:
            fault = error.errors()[0]
            raise UserError(
                f"evaluator.{'.'.join(map(str, fault['loc']))} is {fault['input']!r}: {fault['msg']}."
            ) from None
        one_of("sampling", config.sampling, SAMPLINGS)
        if config.check in (1, 2):
            raise UserError(
                f"evaluator.check is {config.check}; a rank correlation needs 3 networks, and 0 checks nothing."
            )
        return config


class SupernetScores(Trained):
    """The metrics of a candidate with shared weights; they are trained once, before the first candidate.

    Args:
        space: Search space that candidates belong to.
        problem: Problem of the search.
        costs: Costs that are read of the device.
        config: Options of the evaluator.
        folder: Folder in which shared weights are trained and kept, if `config` names none.
        supernet: Trained supernet; None takes that of the space, or of the folder.
        seed: Random seed of the shared weights, of their training, and of the networks that are trained alone.
        objectives: Objectives whose limits end a candidate.
        limits: Limits of one candidate.
    """

    summary = "the network with weights that are shared by all networks, trained once"
    trains_once = False

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        costs: CandidateCosts,
        config: SupernetConfig,
        folder: Path,
        *,
        supernet: Supernet | None = None,
        seed: int = 0,
        objectives: Sequence[Objective] = (),
        limits: TrainingLimits | None = None,
    ) -> None:
        super().__init__(space, problem, costs, objectives=objectives, limits=limits)
        self.config, self.seed = config, seed
        self.folder = folder if config.folder is None else user_path(config.folder)
        if supernet is None and isinstance(space, ElasticSpace):
            supernet = space.supernet
        self._trained_supernet = supernet
        if supernet is not None or config.folder is not None:
            self._check_fits(self.supernet)  # or it says what the folder lacks

    def _check_fits(self, supernet: Supernet) -> None:
        """Raise UserError if a supernet is of another space, or was trained on other data, than this search has."""
        if (supernet.space.name, supernet.space.decisions) != (self.space.name, self.space.decisions):
            raise UserError(
                f"the supernet is one of space {supernet.space.name!r} with {len(supernet.space.decisions)} decisions, "
                f"and this search is one of space {self.space.name!r} with {len(self.space.decisions)}, or with other "
                f"options; search the space of the supernet."
            )
        if supernet.problem.task != self.problem.task:
            raise UserError(
                f"the supernet was trained for {supernet.problem.task}, and the data of this search are "
                f"{self.problem.task}; search with the data that it was trained on."
            )
        if supernet.problem.digest != self.problem.digest:
            raise UserError(
                "the supernet was trained on other data than those of this search, or on such as are normalised in "
                "another way; search with the data that it was trained on, which nb.search(supernet.space, "
                "evaluate=supernet) takes by itself."
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the problem, and the costs."""
        return (*self.problem.metrics, "epochs", *ON_PAPER, *LATENCY, *ENERGY)

    @property
    def at_once(self) -> int:
        """Several: under Ray, a pool of processes each of which reads the shared weights once."""
        return BLOCK

    def evaluate_many(self, candidates: Sequence[Candidate]) -> Sequence[Metrics | Exception]:
        """One after the other: networks of different widths do not fit into one pass."""
        return [attempt(self, candidate) for candidate in candidates]

    @property
    def supernet(self) -> Supernet:
        """The shared weights, read once a process.

        Raises:
            UserError: They were not trained yet.
        """
        if self._trained_supernet is not None:
            return self._trained_supernet
        return _loaded(self.folder, self.space, self.problem)

    def begin(self, progress: Progress) -> None:
        """See `Evaluator.begin`: train the shared weights, or go on with it."""
        config = self.config
        if self._trained_supernet is not None or config.folder is not None:
            return
        if (self.folder / DESCRIPTION).exists():
            self._check_fits(self.supernet)
            return
        supernet = share(
            self.space,
            self.problem,
            kernels=config.kernels,
            calibration_inputs=config.calibration_inputs,
            seed=self.seed,
        )
        epochs = config.epochs or self.problem.training.epochs
        progress.phase("train shared weights", epochs)
        supernet.train(
            epochs=epochs,
            seed=self.seed,
            device=self.limits.device_here,
            sampling=config.sampling,
            learning_rate=config.learning_rate,
            folder=self.folder,
            on_epoch=lambda epoch: progress.advance(epoch.number, f"loss {epoch.loss:.3g}"),
        )

    def end(self, progress: Progress, folder: Path) -> None:
        """See `Evaluator.end`: compare with networks that are trained alone, for the report."""
        config = self.config
        place = RunFolder(folder).agreement
        if not config.check or place.exists():
            return
        progress.phase("train networks alone, to compare", config.check)
        result = agreement(
            self.supernet,
            networks=config.check,
            epochs=config.check_epochs,
            seed=self.seed,
            device=self.limits.device_here,
            file=folder / ALONE,
            on_network=progress.advance,
        )
        write_json(place, result.to_json())

    def _train(
        self, model: nn.Module, candidate: Candidate, metrics: dict[str, float], deadline: float | None
    ) -> dict[str, float]:
        """Nothing is trained: the metrics with the shared weights."""
        began = time.perf_counter()
        network = self.supernet.network(candidate.arch)
        # With channels last it takes a quarter less time. Types of torch lack this call.
        network.to(device=self.limits.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with self._autocast():
            result: dict[str, float] = {"epochs": float(self.supernet.epochs), **self._judge.score(network, "val")}
        result["training_seconds"] = time.perf_counter() - began
        candidate.report(1, metrics | result)
        return result

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        """The number type of `training.precision`, in which candidates are evaluated, too."""
        device = torch.device(self.limits.device)
        kind = autocast_type(self.problem.training.precision, device)
        return contextlib.nullcontext() if kind is None else torch.autocast(device.type, kind)

    @functools.cached_property
    def _judge(self) -> Problem:
        """The problem, with as many validation examples as candidates are evaluated on."""
        examples = self.config.examples
        return self.problem if examples is None else self.problem.fewer(examples, 0)

    def stored_as(self, arch: Architecture, build: Build) -> tuple[Build, list[Noted]]:
        """The network of an elastic one needs neither its supernet nor its space; see `Evaluator.stored_as`."""
        return (
            self._trained_supernet.stored_as(arch)
            if isinstance(self._trained_supernet, ElasticSupernet)
            else (build, [])
        )

    def check_storable(self) -> None:
        """Raise UserError if networks of an elastic one cannot be stored, as survivors and artefacts are."""
        supernet = self._trained_supernet
        if isinstance(supernet, ElasticSupernet):
            supernet.stored_as(supernet.smallest)

    def trained(self, number: int, arch: Architecture, seed: int, epochs: int | None) -> nn.Module:
        """The network of a survivor, fine-tuned from the shared weights or trained alone, as the options say."""
        config = self.config
        alone = config.afterwards == "scratch"
        network = self.supernet.untrained(arch, seed) if alone else self.supernet.network(arch)
        if config.afterwards != "shared":
            self.problem.fit(network, seed=seed, epochs=config.after_epochs, device=self.limits.device_here)
        return network.eval()


@functools.lru_cache(maxsize=1)
def _cached(folder: Path, stamp: int) -> list[Supernet]:
    return []


def _loaded(folder: Path, space: SearchSpace, problem: Problem) -> Supernet:
    """The supernet of a folder, which is kept until its files change."""
    try:
        stamp = (folder / DESCRIPTION).stat().st_mtime_ns
    except OSError:
        stamp = 0
    supernets = _cached(folder, stamp)
    if not supernets:
        supernets.append(load_supernet(folder, problem, space))
    return supernets[0]
