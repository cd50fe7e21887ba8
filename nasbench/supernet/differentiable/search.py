"""A network of mixed edges in training: weights on half of the examples, the parameters of a method on the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from nasbench.problems.problem import Problem
from nasbench.problems.supervised import Supervised
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import EPOCHS
from nasbench.storage.tensor_files import TensorFiles
from nasbench.supernet.differentiable.method import Method, Step
from nasbench.supernet.differentiable.mixed import Mixture, mixed_network
from nasbench.supernet.differentiable.registry import method_class
from nasbench.supernet.differentiable.settings import divided
from nasbench.training.augmentation import Batch, Targets
from nasbench.training.errors import Diverged
from nasbench.training.training import Training
from nasbench_compression.outputs import logits_of
from nasbench_registry import UserError, WorkFailed
from search_spaces import Architecture, EdgeSpace, SearchSpace

STATE = "state.safetensors"
BETAS = (0.5, 0.999)  # of Adam for the parameters of a method, as in DARTS


@dataclass(frozen=True)
class SearchEpoch:
    """The outcome of an epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        picks: Picks of the architecture that the method derives now.
        architecture: Architecture in the notation of its space.
        train_loss: Training loss of the mixed network, the mean over the batches.
        val_quality: Quality of the derived architecture with the shared weights, on the validation examples.
        strengths: How much each operation, by its text, is preferred, as the mean over the edges.
        chosen: Number of edges on which the derived architecture has each operation.
        seconds: Seconds that the epoch took.
    """

    epoch: int
    picks: tuple[int, ...]
    architecture: str
    train_loss: float
    val_quality: float
    strengths: Mapping[str, float]
    chosen: Mapping[str, int]
    seconds: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchEpoch:
        """The epoch that `dataclasses.asdict` gave, through JSON."""
        return cls(**{**data, "picks": tuple(data["picks"])})


def require_edges(space: SearchSpace, method: str) -> EdgeSpace:
    """The space, if it has edges to mix; UserError if it has none."""
    if isinstance(space, EdgeSpace):
        return space
    raise UserError(
        f"controller {method!r} mixes operations on edges, and space {space.name!r} has none; take nasbench201, darts "
        f"or a space derived from search_spaces.EdgeSpace, or another controller."
    )


def require_examples(problem: Problem | None, method: str) -> Supervised:
    """The problem, if its training examples can be divided; UserError if not."""
    if problem is None:
        raise UserError(
            f"controller {method!r} trains a network, and this search has no data; give the section data, beside an "
            f"evaluator that needs none."
        )
    if not isinstance(problem, Supervised):
        raise UserError(
            f"controller {method!r} divides the training examples in two halves, and {type(problem).__name__} does not "
            f"say what they are; derive it from nasbench.Supervised, or take another controller."
        )
    return problem


def check_search(space: SearchSpace, problem: Problem | None, method: str, options: Mapping[str, Any]) -> None:
    """Raise UserError where `DifferentiableSearch` would, unless it is that the network cannot be built."""
    kind = method_class(method)
    settings, method_options = divided(kind, options)
    kind(require_edges(space, method), seed=0, **method_options)
    epochs = settings.epochs or kind.epochs
    if settings.weights_first >= epochs:
        raise UserError(
            f"weights_first={settings.weights_first} of controller {method!r} leaves none of the {epochs} epochs for "
            f"the parameters of the method; set a smaller number, or more epochs."
        )
    train = require_examples(problem, method).data.train
    count = min(len(train), settings.train_examples or len(train))
    if count // 2 < settings.batch_size:
        raise UserError(
            f"controller {method!r} divides {count} training examples in two halves, and its batch_size is "
            f"{settings.batch_size}; set a smaller one."
        )


class DifferentiableSearch:
    """A differentiable search, epoch by epoch.

    With a folder it can be killed at any moment: another object with the same arguments goes on after the last finished
    epoch, to an architecture and parameters that are equal to the bit (on the same kind of device and with as many
    threads). What is there of a search with other arguments is begun anew.

    Args:
        space: Search space whose edges are mixed; derived from `EdgeSpace`.
        problem: Problem whose training examples are divided by chance in two halves, one that weights are fitted on and
            one that moves the parameters of the method. The quality of a derived architecture is that of its validation
            examples.
        method: Name of a method.
        seed: Random seed of every random choice.
        device: Where the search trains: cpu or cuda.
        folder: Folder of the state after each epoch; None keeps none.
        options: Options of `SearchSettings`, and of the method.

    Attributes:
        method: Method with its parameters.
        epochs: Number of epochs.
        history: Outcome of each epoch that is done.

    Raises:
        UserError: An option is not allowed, the space has no edges, or there are fewer examples than two batches.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem | None,
        method: str,
        *,
        seed: int = 0,
        device: str = "cpu",
        folder: Path | None = None,
        **options: Any,
    ) -> None:
        check_search(space, problem, method, options)
        kind = method_class(method)
        self.settings, method_options = divided(kind, options)
        self.space = require_edges(space, method)
        self.method: Method = kind(self.space, seed=seed, **method_options)
        self.problem = require_examples(problem, method)
        self.epochs = self.settings.epochs or type(self.method).epochs
        self.history: list[SearchEpoch] = []
        self._files = None if folder is None else TensorFiles(folder)
        self._about = json.dumps(
            {
                "space": self.space.name,
                "edges": [[edge.name, list(edge.operations)] for edge in self.space.edges()],
                "kept": {key: value for key, value in vars(space).items() if isinstance(value, str | int | float)},
                "method": method,
                "options": method_options,
                "settings": asdict(self.settings) | {"epochs": self.epochs},
                "seed": seed,
                "data": self.problem.digest,
                "training": self.problem.training.augmentation.model_dump(mode="json"),
            },
            sort_keys=True,
        )
        self._seed = seed
        train = self.problem.data.train.some(self.settings.train_examples, seed)
        half, batch = len(train) // 2, self.settings.batch_size
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed + 1))
        self._held = train.rows(order[half : 2 * half])
        self._mixture = Mixture()
        network = mixed_network(self.space, self.problem.task, self._mixture, seed)
        config = self.problem.training.model_copy(
            update={
                "optimizer": "sgd",
                "learning_rate": self.settings.learning_rate,
                "weight_decay": self.settings.weight_decay,
                "batch_size": batch,
                "warmup_epochs": 0.0,
                "label_smoothing": 0.0,
                "precision": "fp32",
                "compile": False,
                "chance_epochs": None,  # a network that is drawn anew for each step learns late
            }
        )
        self._training = Training(
            network,
            train.rows(order[:half]),
            config,
            seed=seed,
            epochs=self.epochs,
            loss=lambda inputs, outputs, targets: self.problem.loss(outputs, targets),
            targets=self.problem.data.kind,
            device=device,
            before_step=self._before_step,
        )
        self._device = torch.device(device)
        self._network = self._training.model
        self._held = self._held.on(self._device)
        self._parameters = self.method.parameters()
        self._adam = (
            torch.optim.Adam(
                self._parameters,
                lr=self.settings.architecture_rate,
                betas=BETAS,
                weight_decay=self.settings.architecture_decay,
            )
            if self._parameters
            else None
        )
        self._batch = 0
        self._order = torch.empty(0, dtype=torch.int64)
        self._load()

    # ---- the search

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    @property
    def architecture(self) -> Architecture:
        """The architecture that the method derived after the last finished epoch."""
        if not self.history:
            raise UserError("no epoch of this search is done; call run_epoch() or run() first.")
        return self.space.architecture(self.history[-1].picks)

    def run(self, on_epoch: Callable[[SearchEpoch], None] | None = None) -> Architecture:
        """Train to the last epoch; the architecture that the method derives then."""
        while self.epoch < self.epochs:
            done = self.run_epoch()
            if on_epoch is not None:
                on_epoch(done)
        return self.architecture

    def run_epoch(self) -> SearchEpoch:
        """Train for one more epoch, and derive.

        Raises:
            WorkFailed: The loss is not finite.
        """
        started = time.monotonic()
        alone = self.settings.weights_first
        self.method.begin_epoch(max(0, self.epoch - alone) / max(1, self.epochs - alone - 1))
        self._batch = 0
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        self._order = torch.randperm(len(self._held), generator=generator).to(self._device)
        try:
            loss = self._training.run_epoch().loss
            arch = self.method.derive(self._quality_of_some)
            quality = self._quality(arch)
        except Diverged as error:
            raise WorkFailed(
                f"the differentiable search {self.method.name!r} diverged in epoch {self.epoch + 1} of {self.epochs} "
                f"({error}); lower learning_rate of the controller."
            ) from None
        strengths = self.method.strengths()
        edges = self.space.edges()
        operations = list(dict.fromkeys(_text(operation) for edge in edges for operation in edge.operations))
        chosen, mean = dict.fromkeys(operations, 0), dict.fromkeys(operations, 0.0)
        placed = self.space.operations_of(arch)
        for edge in edges:
            chosen[_text(edge.operations[placed[edge.name]])] += 1
            for operation, strength in zip(edge.operations, strengths[edge.name], strict=True):
                mean[_text(operation)] += float(strength) / len(edges)
        done = SearchEpoch(
            self.epoch + 1,
            arch.picks,
            self.space.format(arch),
            loss,
            quality,
            mean,
            chosen,
            time.monotonic() - started,
        )
        self.history.append(done)
        self._save()
        return done

    def _before_step(self, batch: Batch) -> None:
        """Move the parameters of the method, then mix the edges for the step of the weights."""
        if self.epoch >= self.settings.weights_first:
            self._move_parameters(batch)
        with torch.no_grad():
            self._mixture.set(self.method.edges, self.method.weights())

    def _move_parameters(self, batch: Batch) -> None:
        size = self.settings.batch_size
        inputs, targets = self._held.take(self._order[self._batch * size : (self._batch + 1) * size])
        held_back = Batch(_moved(inputs, self._device), targets.to(self._device))
        self._batch += 1
        step = Step(
            train_loss=lambda: self._loss(batch),
            val_loss=lambda: self._loss(held_back),
            val_quality=lambda: self._quality_of(held_back),
            parameters=list(self._network.parameters()),
            rate=self._training.rate,
            updates=self._training.updates,
        )
        self.method.gradients(step)
        if self._adam is not None:
            self._adam.step()

    def _loss(self, batch: Batch) -> torch.Tensor:
        self._mixture.set(self.method.edges, self.method.weights())
        batch_targets = Targets(batch.targets, batch.others)
        return batch.loss(
            lambda inputs, outputs, targets: self.problem.loss(outputs, targets),
            batch.inputs,
            self._outputs(batch),
            batch_targets,
        )

    def _outputs(self, batch: Batch) -> Any:
        return self._network(*batch.inputs) if isinstance(batch.inputs, tuple) else self._network(batch.inputs)

    def _quality_of(self, batch: Batch) -> float:
        """The quality of a network that the method mixes now."""
        self._mixture.set(self.method.edges, self.method.weights())
        return self._judged(batch)

    def _judged(self, batch: Batch) -> float:
        with torch.no_grad():
            outputs = self._outputs(batch)
            if self.problem.data.kind == "classes":
                return float((logits_of(outputs).argmax(1) == batch.targets).float().mean())
            return -float(self.problem.loss(outputs, batch.targets))

    def _quality_of_some(self, arch: Architecture) -> float:
        """The quality of an architecture with the shared weights, on one batch of held back examples."""
        self._mixture.fix(self.space.operations_of(arch))
        inputs, targets = self._held.take(self._order[: self.settings.batch_size])
        return self._judged(Batch(_moved(inputs, self._device), targets.to(self._device)))

    def _quality(self, arch: Architecture) -> float:
        """The quality of an architecture with the shared weights, by the problem."""
        self._mixture.fix(self.space.operations_of(arch))
        return float(self.problem.score(self._network, "val")[self.problem.quality])

    # ---- what is kept

    def _save(self) -> None:
        if self._files is None:
            return
        tensors = {f"training.{name}": value for name, value in self._training.state_dict().items()}
        tensors |= {f"alpha.{index}": alpha.detach().cpu() for index, alpha in enumerate(self.method.alphas)}
        for index, parameter in enumerate(self._parameters):
            state = {} if self._adam is None else self._adam.state.get(parameter, {})
            tensors |= {f"adam.{index}.{name}": value.detach().cpu().clone() for name, value in state.items()}
        history = [asdict(epoch) for epoch in self.history]
        metadata = {"of": self._about, "history": json.dumps(history), "method": json.dumps(self.method.state())}
        self._files.save(STATE, tensors, metadata)
        self._tell()

    def _tell(self) -> None:
        """Write what a report reads; made from the state, so that a process that dies here loses nothing."""
        if self._files is not None:
            report = {
                "method": self.method.name,
                "epochs": self.epochs,
                "edges": len(self.space.edges()),
                "quality": self.problem.quality,
                "history": [asdict(epoch) for epoch in self.history],
            }
            write_json(self._files.folder / EPOCHS, report)

    def _load(self) -> None:
        """Go on from what is there; begin anew where nothing of this search can be read."""
        if self._files is None:
            return
        try:
            tensors, metadata = self._files.load(STATE)
        except (OSError, SafetensorError, KeyError, ValueError):
            return
        if metadata.get("of") != self._about:
            return
        self._training.load_state_dict(
            {name.removeprefix("training."): value for name, value in tensors.items() if name.startswith("training.")}
        )
        with torch.no_grad():
            for index, alpha in enumerate(self.method.alphas):
                alpha.copy_(tensors[f"alpha.{index}"])
        if self._adam is not None:
            for index, parameter in enumerate(self._parameters):
                names = [name for name in ("step", "exp_avg", "exp_avg_sq") if f"adam.{index}.{name}" in tensors]
                if names:  # it has moved
                    self._adam.state[parameter] = {name: tensors[f"adam.{index}.{name}"].clone() for name in names}
        self.method.load_state(json.loads(metadata["method"]))
        self.history = [SearchEpoch.from_json(entry) for entry in json.loads(metadata["history"])]
        self._tell()


def _text(operation: Any) -> str:
    return operation if isinstance(operation, str) else json.dumps(operation)


def _moved(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, tuple):
        return tuple(tensor.to(device) for tensor in inputs)
    return inputs.to(device)
