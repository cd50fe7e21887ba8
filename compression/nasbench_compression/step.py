"""Interface of a compression step, and the context that it works with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.compilation.backend import CompiledModel
from nasbench_compression.outputs import logits_of
from nasbench_compression.zeros import zeros_kept
from nasbench_registry import UserError

Loss = Callable[[Any, Any, Tensor], Tensor]
"""loss(inputs, what the network gives, labels) -> scalar tensor, in place of that of the problem.

What it gives is logits (n, classes), or any other tensor, or a tuple or a dict with it inside.
"""

OnBatch = Callable[[int, int], None]
"""on_batch(steps done, steps in all), after each step of the optimizer."""


class Finetune(Protocol):
    """Trains a model in place on the training images of the experiment."""

    def __call__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        epochs: int,
        learning_rate: float | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        """Train `model` for `epochs`.

        Args:
            model: Network that is trained in place, and left in evaluation mode.
            loss: Loss to train with; None is that of the problem, cross-entropy of classes.
            epochs: Number of epochs of training.
            learning_rate: Learning rate; None is the experiment's own.
            on_batch: Function that is called after each step of the optimizer, with the number of steps done and of
                all.
        """


@dataclass(frozen=True)
class _KeepingZeros:
    """Fine-tuning under which the marked zeros of a network stay zero; here, so that no step has to think of it."""

    train: Finetune

    def __call__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        epochs: int,
        learning_rate: float | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(
                "fine-tuning has nothing to train, for the network has no weight that requires a gradient; "
                "call requires_grad_() on what is to be trained, or take a step without epochs."
            )
        with zeros_kept(model) as set_to_zero:

            def after_batch(done: int, total: int) -> None:
                if on_batch is not None:
                    on_batch(done, total)
                if set_to_zero is not None:
                    set_to_zero()

            watched = after_batch if set_to_zero is not None else on_batch
            self.train(model, loss, epochs=epochs, learning_rate=learning_rate, on_batch=watched)


MEANING: Mapping[str, str] = {
    "calibration": "real inputs, as many as there are for a good picture of them, such as calibration=images[:256]",
    "labels": "the class index of each calibration input, labels=classes[:256]",
    "finetune": "a function that trains, finetune(model, loss=None, *, epochs, learning_rate=None, on_batch=None)",
    "evaluate": "a function that gives the quality of a network, the higher the better, evaluate(model) -> number",
    "latency_ms": "a function that gives the latency of a network in milliseconds, latency_ms(model) -> number",
    "teacher": "a trained network to learn from, teacher=network",
}
"""Parts that a `Context` may have besides its example inputs, and how a user gives them."""


@dataclass(frozen=True)
class Context:
    """Everything a step may use besides the model; injected, so that no step knows a training loop.

    Only `example_inputs` must be there. A step names in `Step.needs` what else it uses with its options.

    Attributes:
        example_inputs: One batch as the network takes it, (n, ...): images (n, c, h, w), signals (n, c, length),
            vectors (n, features), tokens (n, length).
        calibration: Real training inputs, (m, ...) like the example, from which value ranges are read.
        finetune: Function that trains a model in place; zeros that `sparsify` made stay zeros under any such function.
        evaluate: Quality of a network or of a compiled model on validation data, the higher the better; accuracy in
            percent where there are classes.
        seed: Random seed of every random choice of a step.
        teacher: Network that a student learns from; a `Recipe` fills in the model that it started from.
        labels: Class indices or other targets of `calibration`, (m, ...), for what needs the gradient of the loss.
        loss: Function (output of the network, labels) -> mean loss of a batch, a scalar; None is cross-entropy, and so
            is a loss that gives None.
        quality: Name of the quality that `evaluate` gives.
        classes: Whether the network scores classes, so that its outputs have a softmax; False for other numbers.
        latency_ms: Median latency of a network, or of a compiled model, as it would be deployed, in milliseconds.
        images_recur: Whether fine-tuning shows the same images unchanged in each epoch, so that what a teacher says
            about them need be computed only once; False where they are augmented.
        load_teacher: Function that reads the network in a folder, for a teacher that is named by its path; None where a
            teacher cannot be named so.

    Raises:
        UserError: Inputs have another form, or there are not as many labels as calibration inputs.
    """

    example_inputs: Tensor
    _: KW_ONLY
    calibration: Tensor | None = None
    labels: Tensor | None = None
    finetune: Finetune | None = None
    evaluate: Callable[[nn.Module | CompiledModel], float] | None = None
    loss: Callable[[Any, Tensor], Tensor | None] | None = None
    quality: str = "val_acc_pct"
    classes: bool = True
    latency_ms: Callable[[nn.Module | CompiledModel], float] | None = None
    teacher: nn.Module | None = None
    seed: int = 0
    images_recur: bool = False
    load_teacher: Callable[[str], nn.Module] | None = None

    def __post_init__(self) -> None:
        for name, value in self.inputs.items():
            if not isinstance(value, Tensor) or value.ndim < 2 or len(value) == 0:
                is_tensor = isinstance(value, Tensor)
                form = f"has shape {tuple(value.shape)} and type {value.dtype}" if is_tensor else f"is {value!r:.80}"
                raise UserError(
                    f"{name} {form}; give a batch of at least one input as a tensor, such as images (n, c, h, w)."
                )
        if self.labels is not None:
            if self.calibration is None:
                raise UserError(
                    f"labels are given without the calibration inputs they belong to; {_how('calibration')}."
                )
            if self.labels.shape[:1] != self.calibration.shape[:1]:
                raise UserError(
                    f"labels have shape {tuple(self.labels.shape)} for {len(self.calibration)} calibration images; "
                    f"give one class index for each."
                )
        if self.finetune is not None and not isinstance(self.finetune, _KeepingZeros):
            object.__setattr__(self, "finetune", _KeepingZeros(self.finetune))

    @property
    def inputs(self) -> dict[str, Tensor]:
        """`example_inputs` and, where they are given, `calibration`, by their names."""
        batches = {"example_inputs": self.example_inputs}
        return batches if self.calibration is None else batches | {"calibration": self.calibration}

    def task_loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The mean loss of a batch: that of `loss`, else the cross-entropy of the logits in the outputs."""
        value = None if self.loss is None else self.loss(outputs, labels)
        return functional.cross_entropy(logits_of(outputs), labels) if value is None else value

    def require(self, step: str, needs: Sequence[str]) -> None:
        """Refuse to run a step that needs something which is not given.

        Args:
            step: Name of the step, for the error.
            needs: Keys of `MEANING` that the step needs.

        Raises:
            UserError: Something is missing; the message says what, and how to give it.
        """
        missing = [name for name in needs if getattr(self, name) is None]
        if missing:
            further = "".join(f"; and {name}: {MEANING[name]}" for name in missing[1:])
            raise UserError(
                f"{step}, with these options, needs what the Context has not got: {_how(missing[0])}{further}."
            )


def _how(name: str) -> str:
    return f"give {name}: {MEANING[name]}"


Given = TypeVar("Given")


def given(value: Given | None) -> Given:
    """The value of a part that a context must have, after `Context.require` of a step that needs it."""
    assert value is not None, "a step names in `needs` all that it uses"
    return value


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One way to make a network smaller. Its fields are the options a recipe may set.

    Attributes:
        name: Key in a recipe.
        stage: Past participle under which a report lists the result.
        not_after: Names of the steps that it must not follow.
        summary: One line for a listing.
        source: Paper that the step follows.
        needs: Parts of a `Context` that it uses with its options, besides the example inputs.
        saves: Whether it promises to save time or bytes, so that one that does neither is rolled back; what wins
            accuracy back promises nothing of the kind.
        advice: Advice for a user where the step saved nothing.
        nothing: Values of options with which it would do nothing. A recipe refuses them, and leaves the step out where
            they are one of several that a search chooses from.
    """

    name: ClassVar[str]
    stage: ClassVar[str]
    nothing: ClassVar[Mapping[str, Any]] = {}
    saves: ClassVar[bool] = True
    advice: ClassVar[str] = "leave the step out of the recipe"
    not_after: ClassVar[frozenset[str]] = frozenset()
    summary: ClassVar[str]
    source: ClassVar[str]

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of `MEANING`; fine-tuning, where the step has an option `epochs` that is above 0."""
        return ("finetune",) if getattr(self, "epochs", 0) else ()

    @abstractmethod
    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module | CompiledModel, dict[str, Any]]:
        """Return the smaller model and a note.

        The model that comes in is left exactly as it was: weights, mode and structure. The note is JSON, says
        what was done and holds what `restore` needs; times that were measured stand under `measured`, as they are never
        the same twice. The global random generators are left as they were.

        Raises:
            UserError: The options do not fit this network.
        """

    @abstractmethod
    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """Give a network without this step the structure with it: same names, shapes and types, weights unset.

        Needs no data; `load_state_dict` of the weights of the stepped model then makes it complete. `model` is
        left as it was.
        """

    def bytes_promised(self, size_bytes: int, note: dict[str, Any]) -> int:
        """Bytes of the network in the form that the step promises, given those of its weights as they are stored."""
        return size_bytes

    def options(self) -> dict[str, Any]:
        """The fields as a JSON object, as a recipe would write them."""
        fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # tuples become lists
        return fields


@contextlib.contextmanager
def seeded(seed: int, *, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block, and leave them outside as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def device_of(model: nn.Module) -> torch.device:
    """Where the weights are; the CPU for a network without any."""
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def count_parameters(model: nn.Module) -> int:
    """Number of learned values."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_bytes(model: nn.Module) -> int:
    """Bytes of the tensors of the network, as they are stored."""
    tensors = [value for value in model.state_dict().values() if isinstance(value, Tensor)]  # else an extra state
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
