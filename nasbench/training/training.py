"""A network in training."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from nasbench.data.dataset import Kind
from nasbench.data.split import IMAGES, Inputs, Split
from nasbench.training.augmentation import Batch, augmented, check_augmentation
from nasbench.training.config import TrainingConfig
from nasbench.training.errors import Diverged, TimedOut
from nasbench.training.guessing import Guessing
from nasbench.training.optimization import make_optimizer, warm_cosine
from nasbench.training.precision import autocast_type
from nasbench_compression.outputs import logits_of
from nasbench_registry import UserError

Loss = Callable[[Any, Any, torch.Tensor], torch.Tensor]
"""loss(inputs, what the network gives, targets) -> scalar tensor, the mean over the examples."""

OnBatch = Callable[[int, int], None]
"""on_batch(steps done, steps in all), after each step of the optimizer."""

MAX_GRADIENT_NORM = 5.0
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Epoch:
    """The outcome of one epoch.

    Attributes:
        number: Number of the epoch, from 1.
        loss: Mean loss over the batches, each taken before its step.
        accuracy_pct: Share of the images of the epoch, as they were trained on, whose largest logit was the label; None
            where the targets are no classes.
    """

    number: int
    loss: float
    accuracy_pct: float | None


class Training:
    """A network in training that can be stopped after any epoch and taken up again, to the same weights.

    `state_dict` holds all that the next epoch depends on. An equal model with the same data and options that loads it,
    in this process or in another one, goes on to weights that are equal to the bit, on the same kind of device and
    with the same number of threads. On a GPU that holds as far as its kernels are deterministic; those of cuDNN are
    told to be. A module that keeps something outside of its own `state_dict` is on its own.

    After an epoch that raised, the object is of no more use; a state from before can be loaded into a new one.

    Attributes:
        model: Network that is trained, in place. Meanwhile its tensors are on `device` and channels-last, which
            convolutions prefer, depthwise ones most of all.
        epoch: Number of epochs that are finished.
        epochs: Number of epochs of the training.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Split,
        config: TrainingConfig,
        *,
        seed: int,
        epochs: int | None = None,
        learning_rate: float | None = None,
        loss: Loss | None = None,
        targets: Kind | None = None,
        device: torch.device | str = "cpu",
        accumulate: int = 1,
        deadline: float | None = None,
        on_batch: OnBatch | None = None,
        max_gradient_norm: float = MAX_GRADIENT_NORM,
        before_step: Callable[[Batch], None] | None = None,
    ) -> None:
        """Move the model to the device; train nothing yet.

        Args:
            model: Network that takes the inputs of `data`; gives (n, classes) logits, or whatever `loss` takes.
            data: Examples that it is fitted on; what is in memory is moved to a GPU as a whole.
            config: Optimizer, schedule and the like.
            seed: Random seed of the order of the images, of their augmentation, and of dropout and the like.
            epochs: Number of epochs instead of `config.epochs`.
            learning_rate: Learning rate instead of `config.learning_rate`.
            loss: Loss instead of cross-entropy; with one, accuracy does not decide whether training has diverged.
            targets: Kind of the targets; None is "classes", of which accuracy is counted.
            device: Device to train on: cpu or cuda.
            accumulate: Number of parts that every batch goes through the network in, to need less memory. Their
                gradients add up to that of the mean loss over the batch; but batch norm sees the smaller parts.
            deadline: Value of `time.monotonic()` that no batch may end after; None is no limit.
            on_batch: Called after each step; what it changes outside of the model, a resumed training does not know.
            max_gradient_norm: Norm at which gradients are clipped.
            before_step: Called with the examples of a step before it, likewise; what it draws from the global
                generators is part of the state.

        Raises:
            UserError: The device can do no training, or not in `config.precision`.
            ValueError: `accumulate` is below 1.
        """
        if str(device).partition(":")[0] not in DEVICES:
            raise UserError(f"networks are trained on cpu or cuda, not on {str(device)!r}.")
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"networks shall be trained on {str(device)!r}, and torch finds no GPU here; take cpu.")
        if accumulate < 1:
            raise ValueError(f"accumulate={accumulate} must be 1 or more")
        self._autocast_type = autocast_type(config.precision, self._device)
        check_augmentation(config.augmentation, data.holds_images, targets or "classes", data.scales[0])
        self._started = time.monotonic()
        self._deadline = deadline
        self._on_batch = on_batch
        self._max_gradient_norm = max_gradient_norm
        self._before_step = before_step
        self._config = config
        self._accumulate = accumulate
        self.model = model
        self.epoch = 0
        self.epochs = config.epochs if epochs is None else epochs
        # torch leaves this form of the call out of its types.
        model.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._data = data.on(self._device)
        # The last, smaller batch is left out: batch norm dislikes it.
        self._batches = max(1, len(data) // config.batch_size)
        self._seen = min(len(data), self._batches * config.batch_size)
        self._criterion = _cross_entropy(config.label_smoothing) if loss is None else loss
        self._counts = (targets or "classes") == "classes"
        self._guessing = Guessing.of(data.targets, self._seen) if loss is None and self._counts else None
        self._at_chance = 0  # the last so many epochs were no better than guessing
        self._rate = config.learning_rate if learning_rate is None else learning_rate
        self._factor = warm_cosine(self._batches, self.epochs, config.warmup_epochs)
        self._optimizer = make_optimizer(model, config, self._rate)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._autocast_type is torch.float16)
        self._order = torch.Generator().manual_seed(seed)
        # A drawn seed, as under the same one images would be changed by the numbers that order them.
        drawn = torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed))
        self._augmentation = torch.Generator().manual_seed(int(drawn))
        self._random = {"cpu": torch.Generator().manual_seed(seed).get_state()}  # of what draws inside the network
        if self._device.type == "cuda":
            self._random["cuda"] = torch.Generator(self._device).manual_seed(seed).get_state()
        self._forward: Callable[..., Any] = model
        if config.compile:
            from nasbench_compression.compilation.inductor import torch_compiled

            torch.compiler.reset()  # else the ninth network of a process counts as too many and is not compiled
            self._forward = torch_compiled(model)

    def run_epoch(self) -> Epoch:
        """Train for one more epoch; leave the model in training mode and the global generators as they were.

        The learning rate rises linearly over `config.warmup_epochs` and falls along a cosine to zero; gradients are
        clipped.

        Raises:
            Diverged: The loss is not finite; or training accuracy was no better than guessing for
                `config.chance_epochs` epochs in a row.
            TimedOut: The deadline is over.
        """
        if self.epoch >= self.epochs:
            raise UserError(f"all {self.epochs} epochs of this training are done; begin another one to train for more.")
        number = self.epoch + 1
        self.model.train()
        order = torch.randperm(len(self._data), generator=self._order).to(self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)  # read once: reading makes a GPU wait
        total = 0.0
        size = self._config.batch_size
        with self._own_random_state(), _deterministic_cudnn():
            for batch in range(self._batches):
                for group in self._optimizer.param_groups:
                    group["lr"] = self._rate * self._factor(self.epoch * self._batches + batch)
                total += self._step(order[batch * size : (batch + 1) * size], correct)
                if self._on_batch is not None:
                    self._on_batch(self.epoch * self._batches + batch + 1, self.epochs * self._batches)
                if self._deadline is not None and time.monotonic() > self._deadline:
                    seconds = time.monotonic() - self._started
                    raise TimedOut(f"time was up in epoch {number} of {self.epochs} after {seconds:.0f} s of training")
        self.epoch = number
        accuracy_pct = 100 * int(correct) / self._seen if self._counts else None
        done = Epoch(number, total / self._batches, accuracy_pct)
        self._check_chance(done)
        return done

    def _step(self, rows: torch.Tensor, correct: torch.Tensor) -> float:
        """One step of the optimizer on the examples of `rows`; their mean loss. Counts into `correct`."""
        batch = self._batch(rows)
        if self._before_step is not None:
            self._before_step(batch)
        parts = min(self._accumulate, len(rows))
        total = 0.0
        for part, (inputs, targets) in enumerate(batch.parts(parts)):
            with self._autocast():
                outputs = self._forward(*inputs) if isinstance(inputs, tuple) else self._forward(inputs)
            if self._autocast_type is not None:
                outputs = _in_float32(outputs)
            value = batch.loss(self._criterion, inputs, outputs, targets) * (len(targets) / len(rows))
            loss = value.item()
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} in epoch {self.epoch + 1} of {self.epochs}; lower the learning rate"
                )
            if part == 0:  # no sooner: memory that is given back before a forward pass is slow to get again on a CPU
                self._optimizer.zero_grad(set_to_none=True)
            self._scaler.scale(value).backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            if self._counts:
                correct += (logits_of(outputs).detach().argmax(1) == targets.first).sum()
            total += loss
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self._max_gradient_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return total

    def _batch(self, rows: torch.Tensor) -> Batch:
        """Some examples on the device, changed by chance as the configuration says."""
        inputs, targets = self._data.take(rows)
        inputs, targets = _moved(inputs, self._device), targets.to(self._device, non_blocking=True)
        if isinstance(inputs, torch.Tensor) and inputs.ndim == IMAGES:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            return augmented(inputs, targets, self._config.augmentation, self._augmentation, self._data.scales[0])
        return Batch(inputs, targets)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of the optimizer in an epoch."""
        return self._batches

    @property
    def rate(self) -> float:
        """The learning rate of the step that is being done."""
        return float(self._optimizer.param_groups[0]["lr"])

    def updates(self, gradients: Mapping[nn.Parameter, torch.Tensor]) -> dict[nn.Parameter, torch.Tensor]:
        """The step of SGD for each parameter, per unit of the learning rate; nothing is changed.

        Args:
            gradients: Gradients of parameters of the model, before they are clipped.
        """
        updates = {}
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in gradients:
                    step = gradients[parameter] + group["weight_decay"] * parameter.detach()
                    before = self._optimizer.state[parameter].get("momentum_buffer")
                    buffer = step if before is None else group["momentum"] * before + step
                    updates[parameter] = step + group["momentum"] * buffer  # Nesterov's
        return updates

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self._autocast_type is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, self._autocast_type)

    def _check_chance(self, done: Epoch) -> None:
        limit = self._config.chance_epochs
        if self._guessing is None or limit is None or done.accuracy_pct is None:
            return
        self._at_chance = self._at_chance + 1 if self._guessing.explains(done.accuracy_pct) else 0
        if self._at_chance >= limit:
            raise Diverged(
                f"training accuracy was no better than guessing for {self._at_chance} epochs in a row "
                f"({done.accuracy_pct:.1f} % in epoch {done.number} of {self.epochs}, and the most frequent label is "
                f"{100 * self._guessing.share:.1f} % of the images); lower the learning rate, or raise "
                f"training.chance_epochs"
            )

    @contextlib.contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Let the global generators be those of this training, and put them back after."""
        devices = [self._cuda_index()] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self._random["cpu"])
            for index in devices:
                torch.cuda.set_rng_state(self._random["cuda"], index)
            yield
            self._random["cpu"] = torch.get_rng_state()
            for index in devices:
                self._random["cuda"] = torch.cuda.get_rng_state(index)

    def _cuda_index(self) -> int:
        return torch.cuda.current_device() if self._device.index is None else self._device.index

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All that the next epoch depends on, as contiguous tensors of their own on the CPU, by name.

        Names are model.*, optimizer.PARAMETER.*, random.*, order, augmentation, epoch, at_chance, and scaler.* in fp16.
        """
        state: dict[str, torch.Tensor] = {
            "epoch": torch.tensor(self.epoch),
            "at_chance": torch.tensor(self._at_chance),
            "order": self._order.get_state(),
            "augmentation": self._augmentation.get_state(),
        }
        state |= {f"random.{name}": value for name, value in self._random.items()}
        state |= {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            moments = self._optimizer.state.get(parameter, {})
            state |= {f"optimizer.{name}.{moment}": value for moment, value in moments.items()}
        if self._scaler.is_enabled():
            scaler = self._scaler.state_dict()
            state["scaler.scale"] = torch.tensor(scaler["scale"], dtype=torch.float64)
            state["scaler.growth_tracker"] = torch.tensor(scaler["_growth_tracker"])
        return {
            name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, value in state.items()
        }

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on after the epoch that `tensors`, from `state_dict`, were taken after.

        A state from another kind of device is taken up, too, though not to the bit.

        Raises:
            ValueError: A tensor is missing, or is of an optimizer, a parameter or an epoch that this training lacks.
            RuntimeError: The weights are not of this model.
        """
        missing = {"epoch", "at_chance", "order", "augmentation", "random.cpu"} - tensors.keys()
        if missing:
            raise ValueError(f"the state of a training lacks {', '.join(sorted(missing))}; it is not from state_dict")
        if int(tensors["epoch"]) > self.epochs:
            raise ValueError(f"the state is of epoch {int(tensors['epoch'])}, and this training has {self.epochs}")
        self.model.load_state_dict(_below("model.", tensors))
        self._load_optimizer(_below("optimizer.", tensors))
        if self._scaler.is_enabled() and "scaler.scale" in tensors:
            scaler = self._scaler.state_dict()
            scaler["scale"] = float(tensors["scaler.scale"])
            scaler["_growth_tracker"] = int(tensors["scaler.growth_tracker"])
            self._scaler.load_state_dict(scaler)
        self._order.set_state(tensors["order"])
        self._augmentation.set_state(tensors["augmentation"])
        self._random |= {name: value for name, value in _below("random.", tensors).items() if name in self._random}
        self._at_chance = int(tensors["at_chance"])
        self.epoch = int(tensors["epoch"])

    def _load_optimizer(self, tensors: Mapping[str, torch.Tensor]) -> None:
        expected = {"momentum_buffer"} if self._config.optimizer == "sgd" else {"step", "exp_avg", "exp_avg_sq"}
        parameters = dict(self.model.named_parameters())
        self._optimizer.state.clear()
        for key, value in tensors.items():
            name, _, moment = key.rpartition(".")
            if name not in parameters or moment not in expected:
                raise ValueError(
                    f"the state has {key} for another optimizer than this training's {self._config.optimizer}"
                )
            # The count of steps stays on the CPU; moments are laid out as their parameter, as sums may depend on it.
            loaded = value.clone() if moment == "step" else torch.empty_like(parameters[name]).copy_(value)
            self._optimizer.state[parameters[name]][moment] = loaded.detach()

    def finish(self) -> nn.Module:
        """The model on the CPU, contiguous and in eval mode; it can be trained no further by this object."""
        self.model.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
        return self.model.eval()


def _cross_entropy(smoothing: float) -> Loss:
    return lambda inputs, outputs, labels: nn.functional.cross_entropy(
        logits_of(outputs), labels, label_smoothing=smoothing
    )


def _moved(inputs: Inputs, device: torch.device) -> Inputs:
    if isinstance(inputs, tuple):
        return tuple(tensor.to(device, non_blocking=True) for tensor in inputs)
    return inputs.to(device, non_blocking=True)


def _in_float32(outputs: Any) -> Any:
    """The outputs of a network under autocast as float32, in which losses are computed."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, outputs)


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _deterministic_cudnn() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
