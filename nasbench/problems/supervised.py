"""The common part of the built-in problems: examples with targets, a loss, and sums over batches for metrics."""

from __future__ import annotations

import contextlib
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nasbench.data.dataset import Data, Kind
from nasbench.data.given import called, data_of
from nasbench.data.registry import described_data, load_data
from nasbench.data.split import Inputs, Split
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Part, Problem, ReportEpoch
from nasbench.training.augmentation import check_augmentation
from nasbench.training.config import TrainingConfig, read_training
from nasbench.training.errors import Diverged
from nasbench.training.loop import train
from nasbench.training.training import Loss, Training
from nasbench_compression import CompiledModel
from nasbench_compression.outputs import logits_of, tensors_of
from nasbench_compression.step import device_of
from nasbench_compression.surgery import inference
from nasbench_registry import UserError
from search_spaces import Task

JUDGED_AT_ONCE = 512
"""Largest number of examples in a forward pass that evaluates a network."""
PIXELS_AT_ONCE = 2**16
"""Pixels of all images of such a pass on a processor: activations of more leave its caches, and cost twice the time."""
GIVEN = "<given>"
"""The name of a data set that was given as an object, which no name finds again."""
_KINDS = {"classes": "one class for each example", "masks": "a class for each pixel", "values": "numbers"}
_PROBLEMS = {"classes": "image_classification", "masks": "image_segmentation", "values": "regression"}


@dataclass(frozen=True)
class Supervised(Problem):
    """Examples with targets. A subclass says what the loss is and what is counted.

    Attributes:
        kind: Kind of the targets that it needs; None takes them as the data have them.
        data: Data whose training examples fit and calibrate, and whose validation examples evaluate.
        training: How a network is trained where nobody says otherwise.
        data_source: Name and options of the data set, by which it is loaded again.
    """

    kind: ClassVar[Kind | None] = None

    data: Data = field(repr=False)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data_source: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Any, *, training: TrainingConfig | None = None, **options: Any) -> Self:
        """The problem of some data.

        Args:
            data: Name of a data set, see ``nasbench list data``; a function that gives one, or ``module:function``; or
                what such a function gives, see `nasbench.data.given.data_of`.
            training: How networks are trained; options of `TrainingConfig` may be given directly instead.
            options: Options of `TrainingConfig`, such as ``epochs=3``, and those of the data set.

        Raises:
            UserError: A name or an option is unknown, the data are missing, or have other targets.
        """
        training_options = {key: options.pop(key) for key in list(options) if key in TrainingConfig.model_fields}
        changed = read_training(training_options)
        chosen = (training or TrainingConfig()).model_copy(
            update={key: getattr(changed, key) for key in training_options}
        )
        if callable(data) and not isinstance(data, Data):
            function_options = [key for key in options if key in inspect.signature(data).parameters]
            data = _importable_name(data) or called(data, {key: options.pop(key) for key in function_options})
        if isinstance(data, str):
            return cls.loaded({"name": data, **options}, chosen)
        return cls.checked(data_of(data, GIVEN, cls.kind, **options), chosen, {"name": GIVEN})

    @classmethod
    def loaded(cls, source: Mapping[str, Any], training: TrainingConfig | None) -> Self:
        """The problem of the sections `data` and `training` of an experiment; UserError as `of`."""
        name, options = described_data(source)
        if name == GIVEN:
            raise UserError("the data of this problem were given as an object; give the problem again, by `problem=`.")
        return cls.checked(load_data(name, kind=cls.kind, **options), training or TrainingConfig(), source)

    @classmethod
    def checked(cls, data: Data, training: TrainingConfig, source: Mapping[str, Any]) -> Self:
        """The problem of these data; UserError if their targets are of another kind."""
        if cls.kind is not None and cls.kind != data.kind:
            raise UserError(
                f"problem {cls.name or cls.__name__!r} needs {_KINDS[cls.kind]}, and data set "
                f"{data.name!r} gives {_KINDS[data.kind]}; take the problem {_PROBLEMS[data.kind]!r}, or other data."
            )
        check_augmentation(training.augmentation, data.train.holds_images, data.kind, data.scale)
        return cls(data, training, dict(source))

    @abstractmethod
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            outputs: Outputs of the network.
            targets: Targets of the data.
        """

    @abstractmethod
    def sums(self, output: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """The values that are summed over the batches of a part, by name.

        Args:
            output: Tensor of the outputs that answers, see `logits_of`.
            targets: Targets of the data.
        """

    @abstractmethod
    def summarise(self, totals: Mapping[str, Tensor], examples: int) -> Metrics:
        """Metrics of the totals; their names have no part in front.

        Args:
            totals: Totals of `sums`, added up, in float64.
            examples: Number of examples in the part.
        """

    @property
    def task(self) -> Task:
        """The inputs and outputs of a network, as the data say."""
        return self.data.task

    @property
    def images_recur(self) -> bool:  # type: ignore[override]  # a class attribute in the contract
        """Whether nothing augments the examples."""
        return not self.training.augmentation.changes

    @property
    def source(self) -> Mapping[str, Any]:
        """The name of the problem; data and training are sections of their own."""
        return {
            name: value for name, value in super().source.items() if name not in ("data", "training", "data_source")
        }

    @property
    def digest(self) -> str:
        """The digest of the data."""
        return self.data.digest

    def fit(
        self,
        network: nn.Module,
        *,
        epochs: int | None = None,
        seed: int,
        device: str = "cpu",
        report: ReportEpoch | None = None,
        loss: Callable[..., Any] | None = None,
        learning_rate: float | None = None,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        """Train on the training examples; see `nasbench.training.loop.train`, which raises Diverged and TimedOut."""
        train(
            network,
            self.data.train,
            self.training,
            seed=seed,
            epochs=epochs,
            device=device,
            learning_rate=learning_rate,
            loss=self._criterion if loss is None else loss,
            targets=self.data.kind,
            on_batch=on_batch,
            on_epoch=None if report is None else lambda epoch, mean: report(epoch, {"train_loss": mean}),
        )

    def begin(
        self,
        network: nn.Module,
        *,
        seed: int,
        epochs: int | None,
        device: str,
        accumulate: int,
        deadline: float | None,
        loss: Loss | None = None,
        **options: Any,
    ) -> Training:
        """A training that can be stopped after any epoch and taken up again; see `nasbench.training.Training`.

        Args:
            network: Network to train.
            seed: Random seed; as for the following, see `Training`.
            epochs: Number of epochs; None is the full budget.
            device: Where the network is trained: cpu or cuda.
            accumulate: Number of parts of a batch.
            deadline: Deadline as a value of `time.monotonic()`.
            loss: Loss in place of that of the problem.
            options: Further options of `Training`.
        """
        return Training(
            network,
            self.data.train,
            self.training,
            seed=seed,
            epochs=epochs,
            loss=self._criterion if loss is None else loss,
            targets=self.data.kind,
            device=device,
            accumulate=accumulate,
            deadline=deadline,
            **options,
        )

    @property
    def _criterion(self) -> Loss | None:
        """The loss of training; None is the cross-entropy of `Training`, which sees when a network only guesses."""
        return lambda inputs, outputs, targets: self.loss(outputs, targets)

    def score(self, model: Callable[..., Any], part: Part = "val") -> Metrics:
        """See `Problem.score`.

        Raises:
            Diverged: An output is not finite.
        """
        split = self.data.val if part == "val" else self.data.test
        totals: dict[str, Tensor] = {}
        for outputs, targets in answers(model, split):
            for name, value in self.sums(logits_of(outputs), targets).items():
                totals[name] = totals[name] + value.double().cpu() if name in totals else value.double().cpu()
        return {f"{part}_{name}": value for name, value in self.summarise(totals, len(split)).items()}

    def score_on(self, device: str, model: Callable[..., Any], part: Part = "val") -> Metrics:
        """See `Problem.score_on`: a network is on the device while it is evaluated."""
        with _placed(model, torch.device(device)):
            return self.score(model, part)

    def examples(self, count: int) -> Inputs:
        """So many training inputs at most, as a network takes them."""
        return self.data.train.take(slice(count))[0]

    def targets(self, count: int) -> Tensor:
        """The targets of `examples`."""
        return self.data.train.targets[:count]

    def unseen(self, count: int | None, seed: int) -> Inputs:
        """Validation inputs."""
        return self.data.val.some(count, seed).examples

    def judged(self, part: Part) -> int:
        """See `Problem.judged`."""
        return len(self.data.val if part == "val" else self.data.test)

    def fewer(self, count: int | None, seed: int) -> Problem:
        """The same, with so many validation and test examples at most, drawn by the seed."""
        return replace(self, data=self.data.fewer(count, seed))


def _importable_name(function: Callable[..., Any]) -> str | None:
    """``module:function``, if another process finds the function by it."""
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", "<locals>")
    return None if module == "__main__" or "<" in name or "." in name else f"{module}:{name}"


@contextlib.contextmanager
def _placed(model: Callable[..., Any], device: torch.device) -> Iterator[None]:
    """Let a network be on a device in the block, and then where it was."""
    before = device_of(model) if isinstance(model, nn.Module) else device
    if not isinstance(model, nn.Module) or before.type == device.type:
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


def answers(model: Callable[..., Any], split: Split) -> Iterator[tuple[Any, Tensor]]:
    """The outputs of a network or a compiled model for every example, in batches, with the targets on the same device.

    Raises:
        Diverged: An output is not finite.
    """
    if isinstance(model, nn.Module):
        device = device_of(model)
        with inference(model):
            yield from _answers(lambda *inputs: model(*(tensor.to(device) for tensor in inputs)), split, device)
    elif isinstance(model, CompiledModel):
        yield from _answers(lambda *inputs: _tensors(model(*(tensor.numpy() for tensor in inputs))), split, None)
    else:
        with torch.no_grad():
            yield from _answers(model, split, None)


def _answers(ask: Callable[..., Any], split: Split, device: torch.device | None) -> Iterator[tuple[Any, Tensor]]:
    for inputs, targets in split.batches(_at_once(split, device)):
        outputs = ask(*inputs) if isinstance(inputs, tuple) else ask(inputs)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors_of(outputs).values()):
            raise Diverged("the network gives outputs that are not finite")
        yield outputs, targets if device is None else targets.to(device)


def _at_once(split: Split, device: torch.device | None) -> int:
    """Number of examples of a forward pass; fewer where images are large and a processor computes."""
    if not split.holds_images or (device is not None and device.type != "cpu"):
        return JUDGED_AT_ONCE
    height, width = split.inputs[0].shape[-2:]
    return max(1, min(JUDGED_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def _tensors(outputs: Any) -> Any:
    """Arrays as tensors, in whatever form they come."""
    if isinstance(outputs, Mapping):
        return {name: torch.from_numpy(array) for name, array in outputs.items()}
    if isinstance(outputs, tuple | list):
        return tuple(torch.from_numpy(array) for array in outputs)
    return torch.from_numpy(outputs)
