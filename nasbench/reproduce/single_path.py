"""One-shot searches in two steps: weights are trained by single paths, then networks are compared with them."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from controllers import Outcome, get_controller
from nasbench.problems.image_classification import ImageClassification
from nasbench.reproduce.simulate import proposals
from nasbench.storage.files import read_json, write_json
from nasbench.supernet.sampling import SAMPLINGS
from nasbench.supernet.shared import share
from nasbench.supernet.training import EpochDone
from nasbench_registry import UserError, one_of
from nasbench_registry.config import Count, Named, Strict
from search_spaces import Architecture, SearchSpace

NAME = "single_path"
SECONDS = "seconds.json"  # beside the state of the training: what it took so far


class SinglePath(Strict):
    """The options of such a search.

    Attributes:
        sampling: Sampling of the networks of a training step: "uniform" (SPOS, Guo et al., arXiv:1904.00420) or "fair"
            (FairNAS, Chu et al., arXiv:1907.01845).
        epochs: Number of epochs of the training of the weights.
        training: Keys of the training section that differ from those of the protocol.
        controller: Controller that chooses the networks that are compared, with its options.
        candidates: Number of networks that are compared by their validation accuracy with the shared weights.
        calibration_inputs: Number of training inputs for the statistics of the batch norms of each of them.
    """

    sampling: str = "uniform"
    epochs: Count
    training: dict[str, Any] = Field(default_factory=dict)
    controller: Named = Named.model_validate({"name": "regularized_evolution", "population": 20, "tournament": 5})
    candidates: Count = 100
    calibration_inputs: Count = 256

    @classmethod
    def read(cls, options: dict[str, Any]) -> SinglePath:
        """The options as they are written; UserError if a name or a value is not allowed."""
        for name in options:
            one_of(f"option of method {NAME}", name, cls.model_fields)
        try:
            config = cls.model_validate(options)
        except ValidationError as error:
            fault = error.errors()[0]
            raise UserError(f"method {NAME}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from None
        one_of("sampling", config.sampling, SAMPLINGS)
        return config


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The network with the best validation accuracy among those that were compared.

    Attributes:
        arch: Architecture of the network.
        val_acc_pct: Validation accuracy with the shared weights, in percent.
        seconds: Seconds of the training and of the comparison.
    """

    arch: Architecture
    val_acc_pct: float
    seconds: float


def search_single_path(
    space: SearchSpace, problem: ImageClassification, config: SinglePath, *, seed: int, folder: Path | None = None
) -> Chosen:
    """Train shared weights by single paths, compare networks, and return the best one.

    Args:
        space: Search space.
        problem: Problem whose training examples the weights are fitted on, and whose validation examples compare.
        config: Options of the search.
        seed: Random seed of every random choice.
        folder: Folder of the training, which goes on from there; None stores nothing.
    """
    training = problem.training.model_copy(update={"epochs": config.epochs})
    training = type(training).model_validate(training.model_dump() | config.training | {"epochs": config.epochs})
    supernet = share(
        space,
        dataclasses.replace(problem, training=training),
        kernels="separate",
        calibration_inputs=config.calibration_inputs,
        seed=seed,
    )
    before_s = _seconds(folder)
    spent_s = before_s

    def on_epoch(epoch: EpochDone) -> None:
        nonlocal spent_s
        spent_s = before_s + epoch.seconds
        if folder is not None:
            write_json(folder / SECONDS, {"seconds": spent_s})

    supernet.train(seed=seed, sampling=config.sampling, folder=folder, on_epoch=on_epoch)
    began = time.perf_counter()
    controller = get_controller(config.controller.name, space, seed=seed, **config.controller.options)
    accuracies: dict[Architecture, float] = {}
    for proposal in proposals(controller, config.controller.name, config.candidates):
        arch = space.canonical(proposal.arch)
        if arch not in accuracies:
            accuracies[arch] = supernet.score(arch)["val_acc_pct"]
        controller.tell(Outcome(proposal, (accuracies[arch],)))
    best = max(accuracies, key=lambda arch: accuracies[arch])
    return Chosen(best, accuracies[best], spent_s + time.perf_counter() - began)


def _seconds(folder: Path | None) -> float:
    file = None if folder is None else folder / SECONDS
    return float(read_json(file, "delete it", ("seconds",))["seconds"]) if file is not None and file.exists() else 0.0
