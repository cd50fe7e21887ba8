"""Score a candidate by training it."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasbench.costs.compute import compute_by_operations
from nasbench.data import ImageData, load_data
from nasbench.evaluators.cache import Cache
from nasbench.evaluators.costs import costs
from nasbench.evaluators.evaluator import InfeasibleError, InvalidNetwork, Report, Trial
from nasbench.evaluators.outcomes import Ending
from nasbench.experiment.experiment import Experiment
from nasbench.objectives.metrics import Metrics
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Scalar, broken_limit, violation
from nasbench.storage.checkpoints import Checkpoints
from nasbench.training import Training, score
from search_spaces import Architecture, SearchSpace, Task, get_space
from search_spaces.fresh_model import fresh_model


@dataclass(frozen=True)
class Trained:
    """Build, cost, train, validate; keep the weights.

    Costs come first: a candidate over a hard limit is refused before it is trained. What the shared cache knows is
    not trained. A candidate whose training was interrupted goes on after its last checkpoint, to the same weights as
    if nothing had happened.

    Attributes:
        experiment: what was asked.
        calibration: measured architectures as JSON, from which latency is predicted; None where latency is measured
            or not needed.
        checkpoints: the folder or URL for the weights and for states of training; None keeps none.
        data: the images; None loads them. Processes on one machine share one copy of what is given here under Ray.
    """

    experiment: Experiment
    calibration: Mapping[str, Any] | None = None
    checkpoints: str | None = None
    data: ImageData | None = field(default=None, compare=False, repr=False)

    def __call__(self, trial: Trial, report: Report) -> Metrics:
        """Metrics of the candidate: val_acc_pct, val_loss, train_loss, epochs, macs, params, size_bytes, latency_ms.

        Raises:
            InvalidNetwork: it cannot be built, or does not fit the task.
            InfeasibleError: it breaks a hard limit.
            Diverged: its loss stopped being finite, or it does no better than guessing.
            TimedOut: it takes longer than search.candidate_minutes.
            RemoteError: checkpoints are behind a URL that cannot be read.
        """
        started = time.monotonic()
        config = self.experiment
        torch.set_num_threads(config.executor.threads)
        data = self.data or load_data(config.data.name, **config.data.options)
        space = get_space(config.space.name, **config.space.options)
        model = checked_model(space, trial.arch, data.task, trial.seed)
        metrics = costs(space, trial.arch, model, data.task, config, self.calibration, trial.learned)
        self._check(metrics, "before training")
        place = None if self.checkpoints is None else Checkpoints.at(self.checkpoints)
        cache = None if config.cache is None else Cache(Path(config.cache).expanduser())
        known = None if cache is None else cache.find(config, space, trial, place)
        if known is not None:
            metrics |= known | {"cached": 1.0}
        else:
            limit = config.search.candidate_minutes
            deadline = None if limit is None else started + 60 * limit
            trained = self._train(model, data, trial, report, metrics, place, deadline)
            if place is not None:
                place.save_weights(trial, model)
            if cache is not None and trained["epochs"] == (trial.epochs or config.training.epochs):
                about = {name: value for name, value in trained.items() if name != "training_seconds"}
                cache.store(config, space, trial, about, model)
            metrics |= trained
        self._check(metrics, "after training")
        return metrics

    def _train(
        self,
        model: nn.Module,
        data: ImageData,
        trial: Trial,
        report: Report,
        metrics: dict[str, float],
        place: Checkpoints | None,
        deadline: float | None,
    ) -> dict[str, float]:
        """Train, from the last checkpoint on if there is one; what training gave."""
        config = self.experiment
        device = "cuda" if config.executor.gpus > 0 else "cpu"
        begin = functools.partial(
            Training,
            data=data.train,
            config=config.training,
            seed=trial.seed,
            epochs=trial.epochs,
            device=device,
            accumulate=trial.accumulate,
            deadline=deadline,
        )
        past: list[dict[str, float]] = []  # what was reported after each epoch
        before_s = 0.0
        saved = None if place is None else place.load_training(trial)
        fresh = copy.deepcopy(model.state_dict()) if saved is not None else {}
        training = begin(model)
        if saved is not None:
            tensors, about = saved
            try:
                training.load_state_dict(tensors)
                past, before_s = about["past"], about["seconds"]
            except (KeyError, ValueError, RuntimeError):  # of another version, or damaged: from the beginning, then
                model.load_state_dict(fresh)
                training = begin(model)
        going = True
        for epoch, told in enumerate(past, start=1):  # a scheduler that lost its memory hears them again
            going = going and report(epoch, metrics | told)
        every = config.training.validate_every or (1 if config.scheduler else None)
        began = time.perf_counter()

        def seconds() -> float:
            return before_s + time.perf_counter() - began

        while going and training.epoch < training.epochs:
            epoch_done = training.run_epoch()
            epoch = epoch_done.number
            told = self._spent(metrics, epoch, len(data.train)) | {
                "train_loss": epoch_done.loss,
                "train_acc_pct": epoch_done.accuracy_pct,
            }
            last = epoch == training.epochs
            if every is not None and epoch % every == 0 and not last:
                validation = score(model.eval(), data.val, device=device)
                told |= {"val_acc_pct": validation.accuracy_pct, "val_loss": validation.loss}
            past.append(told)
            if place is not None:
                place.log(trial, epoch)
                if config.checkpoints.every is not None and epoch % config.checkpoints.every == 0 and not last:
                    place.save_training(
                        trial, training.state_dict(), {"epoch": epoch, "past": past, "seconds": seconds()}
                    )
            going = last or report(epoch, metrics | told | {"training_seconds": seconds()})
        training.finish()
        validation = score(model, data.val)
        result = past[-1] | {"val_acc_pct": validation.accuracy_pct, "val_loss": validation.loss}
        result["training_seconds"] = seconds()
        if going:
            report(len(past), metrics | result)
        return result

    @staticmethod
    def _spent(metrics: Metrics, epochs: int, images: int) -> dict[str, float]:
        operations = compute_by_operations(metrics["macs"], images, epochs).operations
        return {"epochs": float(epochs), "training_operations": operations}

    def _check(self, metrics: Metrics, when: Ending) -> None:
        broken = broken_limit(self.experiment.objectives, metrics)
        if broken:
            raise InfeasibleError(broken, metrics, when, violation(self.experiment.objectives, metrics))


def training_alone(experiment: Experiment) -> Experiment:
    """The experiment with validation accuracy for its only objective: nothing else is measured, limited or rewarded."""
    accuracy = Objective(metric="val_acc_pct", goal="max")
    return experiment.model_copy(update={"objectives": (accuracy,), "reward": Scalar(name="scalar"), "recipe": ()})


def checked_model(space: SearchSpace, arch: Architecture, task: Task, seed: int) -> nn.Module:
    """`fresh_model`, run once on an empty image.

    Raises:
        InvalidNetwork: it cannot be built or run, or does not give one logit a class.
    """
    try:
        model = fresh_model(space, arch, task, seed)
        with torch.no_grad():
            shape = tuple(model.eval()(torch.zeros(1, *task.input_shape)).shape)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):
            raise
        words = " ".join(str(error).split()) or "no message"
        raise InvalidNetwork(f"the network cannot be built: {type(error).__name__}: {words}") from error
    if shape != (1, task.classes):
        raise InvalidNetwork(f"the network gives shape {shape} for one image, not (1, {task.classes})")
    return model.train()
