"""What a compression step is, and what it is given to work with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.backend import CompiledModel
from nasbench_compression.zeros import zeros_kept
from nasbench_registry import UserError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""loss(inputs (n, c, h, w), logits (n, classes), labels (n,)) -> scalar tensor, in place of cross-entropy.

The logits may as well be all that the network gives, such as a tuple or a dict with the logits in it.
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
            model: trained in place, and left in evaluation mode.
            loss: None is cross-entropy.
            epochs: of training.
            learning_rate: None is the experiment's own.
            on_batch: called after each step of the optimizer, with the steps done and all there will be.
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


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a step may use besides the model; injected, so that no step knows a training loop.

    Attributes:
        example_inputs: one batch as the network takes it, (n, c, h, w) float32.
        calibration: real training images, (m, c, h, w) float32, from which value ranges are read.
        finetune: trains a model in place; whatever is given here, zeros that `sparsify` made stay zeros under it.
        evaluate: validation accuracy of a network or of a compiled model, in percent.
        seed: decides every random choice of a step.
        teacher: the network a student learns from; a `Recipe` fills in the model that it started from.
        labels: (m,) class indices of `calibration`, for what needs the gradient of the loss; None if there are none.
        latency_ms: median latency of a network, or of a compiled model, as it would be deployed; None where nothing can
            be measured.
        images_recur: fine-tuning shows the same images unchanged in each epoch, so that what a teacher says about them
            need be computed only once; False where they are augmented.
        load_teacher: reads the network in a folder, for a teacher that is named by its path; None where none can be.
    """

    example_inputs: Tensor
    calibration: Tensor
    finetune: Finetune
    evaluate: Callable[[nn.Module | CompiledModel], float]
    seed: int
    teacher: nn.Module | None = None
    labels: Tensor | None = None
    latency_ms: Callable[[nn.Module | CompiledModel], float] | None = None
    images_recur: bool = False
    load_teacher: Callable[[str], nn.Module] | None = None

    def __post_init__(self) -> None:
        for name in ("example_inputs", "calibration"):
            value = getattr(self, name)
            if value.ndim != 4 or len(value) == 0 or not value.is_floating_point():
                raise UserError(
                    f"{name} has shape {tuple(value.shape)} and type {value.dtype}; "
                    f"give at least one image as a (n, c, h, w) float tensor."
                )
        if self.labels is not None and self.labels.shape != self.calibration.shape[:1]:
            raise UserError(
                f"labels have shape {tuple(self.labels.shape)} for {len(self.calibration)} calibration images; "
                f"give one class index for each."
            )
        if not isinstance(self.finetune, _KeepingZeros):
            object.__setattr__(self, "finetune", _KeepingZeros(self.finetune))


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One way to make a network smaller. Its fields are the options a recipe may set.

    Attributes:
        name: the key in a recipe.
        stage: past participle under which a report lists the result.
        not_after: names of the steps that it must not follow.
        summary: one line for a listing.
        source: the paper.
        saves: whether it promises to save time or bytes, so that one that does neither is rolled back; what wins
            accuracy back promises nothing of the kind.
        advice: what to change where it saved nothing.
        nothing: values of options with which it would do nothing. A recipe refuses them, and leaves the step out where
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

    @abstractmethod
    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module | CompiledModel, dict[str, Any]]:
        """Return the smaller model and a note.

        The model that comes in is left exactly as it was: weights, mode and structure. The note is JSON, says
        what was done and holds what `restore` needs; times that were measured stand under `measured`, as they are never
        the same twice. The global random generators are left as they were.

        Raises:
            UserError: the options do not fit this network.
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
