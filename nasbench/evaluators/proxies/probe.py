"""An untrained network under examination: the passes through it, which proxies share."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from nasbench_compression.outputs import logits_of, tensors_of
from nasbench_registry import UserError

IMAGES = 64  # that a proxy looks at, unless a user gives another number
NOISE = 16  # random images of proxies that look at no data
PIXELS = 32 * 32  # of such an image; of smaller ones there are more, for a covariance needs as many positions

T = TypeVar("T")

ACTIVATIONS: frozenset[Callable[..., Any]] = frozenset(
    {
        *(functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
        *(functional.relu6, functional.hardtanh, functional.hardtanh_),
        *(functional.gelu, functional.silu, functional.mish, functional.hardswish, functional.elu, functional.elu_),
        *(functional.leaky_relu, functional.leaky_relu_, functional.prelu, torch.prelu, Tensor.prelu),
    }
)
"""The functions that activation modules call, and their other forms; `nn.ReLU6` calls hardtanh."""

Loss = Callable[[Any, Tensor], Tensor | None]


@dataclass(frozen=True)
class HalfPass:
    """The results of a forward pass of one half of the images, and of its backward passes.

    Attributes:
        patterns: (n, units) whether a unit is above zero, for each activation that ran, a module or a function.
        input_gradient: (n, inputs) gradient of the sum of all outputs.
        weight_gradients: Gradient of the mean loss, for each of `Probe.weights`; None without targets.
        fisher: Half the mean square over examples of activation times gradient, over the channels of all convolutions
            and linear layers; None without targets.
        classes: Number of classes of the network: the size of the last axis of its logits.
    """

    patterns: list[Tensor]
    input_gradient: Tensor
    weight_gradients: list[Tensor] | None
    fisher: float | None
    classes: int


class Probe:
    """A network, the images that go through it, and the results of these passes.

    The passes run on a copy in which batch norms normalize by the batch, as in training, and dropout is off. The images
    go through in two halves, each with a forward pass, a backward pass of the loss and one of the sum of the outputs;
    what is read of the whole batch is put together from these. Nothing runs before a proxy asks for it.

    Args:
        network: Any network; it is not changed.
        images: (n, ...) real inputs; of floating-point numbers for all proxies that need gradients of them.
        targets: (n, ...) targets of the loss; None where they are not known.
        loss: Function (outputs, targets) -> the mean loss; None is cross-entropy.
        seed: Random seed of the images and weights of the proxies that have their own.

    Raises:
        UserError: There are fewer than two images.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        targets: Tensor | None = None,
        *,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> None:
        if len(images) < 2:
            raise UserError(f"zero-cost proxies compare images, and there are {len(images)}; give two or more.")
        self.original, self.images, self.targets, self.seed = network, images, targets, seed
        self._shared: dict[str, tuple[Any, float]] = {}  # what passes gave, and the seconds that they took
        self.read: set[str] = set()  # what was read of it
        self.loss = loss or (lambda outputs, labels: functional.cross_entropy(logits_of(outputs), labels))
        if targets is not None:
            self.targets = targets[: len(self.images)]

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """The result of `make`, computed once for all proxies.

        Args:
            name: Name of the pass.
            make: Function that runs the pass.
        """
        if name not in self._shared:
            began = time.perf_counter()
            self._shared[name] = make(), time.perf_counter() - began
        self.read.add(name)
        value: T = self._shared[name][0]
        return value

    def timed(self, call: Callable[[Probe], float]) -> tuple[float, float]:
        """The score of a proxy, and the seconds that it takes by itself: with all passes that it reads."""
        earlier_passes, began = set(self._shared), time.perf_counter()
        self.read.clear()
        value = call(self)
        spent = time.perf_counter() - began
        of_passes = {name: seconds for name, (_, seconds) in self._shared.items() if name in self.read}
        return value, spent + sum(seconds for name, seconds in of_passes.items() if name in earlier_passes)

    # ---- the network

    def copied(self) -> nn.Module:
        """A copy whose batch norms normalize by the batch and whose dropout is off."""
        network = copy.deepcopy(self.original).eval().requires_grad_(True)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        if self.images.ndim == 4:
            # Quicker, and the same numbers. The ignore is for torch's stub, which has no such argument.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    @cached_property
    def network(self) -> nn.Module:
        """The copy that the shared passes run on; its weights are those that were given."""
        return self.copied()

    @cached_property
    def layers(self) -> list[nn.Module]:
        """Convolutions and linear layers of `network`."""
        return [module for module in self.network.modules() if isinstance(module, (_ConvNd, nn.Linear))]

    @cached_property
    def weights(self) -> list[Tensor]:
        """The weights of `layers`, without biases."""
        weights = []
        for layer in self.layers:
            assert isinstance(layer.weight, Tensor), "layers have weights"
            weights.append(layer.weight)
        return weights

    # ---- real images

    @property
    def halves(self) -> tuple[HalfPass, HalfPass]:
        """The passes of both halves of the images."""
        middle = len(self.images) // 2
        return self.shared("halves", lambda: (self._pass(slice(0, middle)), self._pass(slice(middle, None))))

    def _pass(self, part: slice) -> HalfPass:
        images = self.images[part]
        if not images.is_floating_point():
            raise UserError(
                f"this zero-cost proxy needs gradients of the inputs, and they are {images.dtype}; use macs, params, "
                f"l2_norm or another evaluator."
            )
        images = images.clone().requires_grad_(True)
        patterns: list[Tensor] = []
        outputs_of_layers: list[tuple[Tensor, bool]] = []  # and whether the layer is linear

        def activation(output: Tensor) -> None:
            if output.ndim > 0 and len(output) % len(images) == 0:  # what gates channels may have no axis of images
                patterns.append(output.detach().reshape(len(images), -1) > 0)

        def layer(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs_of_layers.append((output, isinstance(module, nn.Linear)))

        with hooked([(module, layer) for module in self.layers]), Activations(activation), torch.enable_grad():
            outputs = self.network(images)
        total = torch.stack(
            [output.sum() for output in tensors_of(outputs).values() if output.is_floating_point()]
        ).sum()
        with_loss = self.targets is not None
        (input_gradient,) = torch.autograd.grad(  # zeros where nothing reaches the output
            total, [images], retain_graph=with_loss, allow_unused=True, materialize_grads=True
        )
        gradients, fisher = None, None
        if self.targets is not None:
            loss = self.loss(outputs, self.targets[part])
            if loss is None:
                raise UserError("the problem has no loss that a proxy could take the gradient of; define Problem.loss.")
            differentiable = [(output, linear) for output, linear in outputs_of_layers if output.requires_grad]
            all_gradients = torch.autograd.grad(
                loss, [*self.weights, *(output for output, _ in differentiable)], allow_unused=True
            )
            gradients = [
                torch.zeros_like(weight) if gradient is None else gradient
                for weight, gradient in zip(self.weights, all_gradients[: len(self.weights)], strict=True)
            ]
            fisher = 0.0
            for (output, linear), gradient in zip(differentiable, all_gradients[len(self.weights) :], strict=True):
                if gradient is not None:
                    product = output.detach() * gradient
                    if product.ndim > 2:  # the channels of a linear layer come last
                        product = product.flatten(1, -2).sum(1) if linear else product.flatten(2).sum(2)
                    fisher += float(product.square().mean(0).sum()) / 2
        logits = logits_of(outputs)
        classes = logits.shape[-1] if logits.ndim else 1
        return HalfPass(patterns, input_gradient.detach().flatten(1), gradients, fisher, classes)

    @property
    def gradients(self) -> list[Tensor]:
        """The gradient of the mean loss of all images, for each of `weights`.

        Raises:
            UserError: There are no targets.
        """
        first, second = (self.loss_gradients(half) for half in self.halves)
        share = len(self.halves[0].input_gradient) / len(self.images)
        return [
            share * first_gradient + (1 - share) * second_gradient
            for first_gradient, second_gradient in zip(first, second, strict=True)
        ]

    @staticmethod
    def loss_gradients(half: HalfPass) -> list[Tensor]:
        """The gradients of the mean loss of one half; UserError if there are no targets."""
        if half.weight_gradients is None:
            raise UserError(
                "this zero-cost proxy reads the gradient of the loss, and the problem tells no targets; define "
                "Problem.targets and Problem.loss, or use a proxy without labels, such as naswot or synflow."
            )
        return half.weight_gradients

    @property
    def jacobian(self) -> Tensor:
        """(n, inputs) gradient of the sum of all outputs by the images."""
        return torch.cat([half.input_gradient for half in self.halves])

    def patterns(self) -> list[Tensor]:
        """(n, units) of each activation that ran: which units are above zero."""
        first, second = (half.patterns for half in self.halves)
        return [torch.cat(pair) for pair in zip(first, second, strict=True)]

    # ---- random images

    def noise(self, count: int = NOISE, *, stream: int = 0) -> Tensor:
        """Images of independent normal numbers, in the shape of the real ones.

        Args:
            count: Number of images; images of fewer than 32 x 32 pixels are more, so that there are as many pixels.
            stream: Number of the random stream.

        Returns:
            (n, ...) images.

        Raises:
            UserError: The inputs are no floating-point numbers.
        """
        if not self.images.is_floating_point():
            raise UserError(f"this zero-cost proxy makes random images, and the inputs are {self.images.dtype}.")
        generator = torch.Generator().manual_seed(2 * self.seed + stream)
        if self.images.ndim == 4:
            count *= math.ceil(PIXELS / min(PIXELS, self.images[0, 0].numel()))
        return torch.randn(count, *self.images.shape[1:], generator=generator)

    def renewed(self, initialize: Callable[[Tensor, torch.Generator], object]) -> nn.Module:
        """A copy with other weights in its convolutions and linear layers, and norms that only normalize.

        Args:
            initialize: Function (weight, generator) that fills a weight in place.
        """
        network, generator = self.copied(), torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, (_ConvNd, nn.Linear)):
                    initialize(module.weight, generator)
                    if module.bias is not None:
                        module.bias.zero_()
                elif isinstance(module, (_BatchNorm, nn.GroupNorm, nn.LayerNorm)) and module.weight is not None:
                    module.weight.fill_(1)
                    if module.bias is not None:
                        module.bias.zero_()
        return network


class Activations(TorchFunctionMode):
    """Inside the block the outputs of `ACTIVATIONS` are seen, whether a module calls them or the network itself.

    Args:
        seen: Function that is called with each output.
    """

    def __init__(self, seen: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        output = func(*args, **(kwargs or {}))
        if func in ACTIVATIONS:
            self._seen(output)
        return output


@contextmanager
def hooked(hooks: list[tuple[nn.Module, Callable[..., None]]]) -> Iterator[None]:
    """Forward hooks for the time of a block."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def blocks(network: nn.Module) -> list[nn.Module]:
    """The chain that a network is: its children in order, sequences replaced by what they hold.

    Blocks are those children that are made of modules themselves (cells, residual blocks, layers of a transformer);
    where there are fewer than two, convolutions and linear layers.
    """

    def chain(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if type(child) in (nn.Sequential, nn.ModuleList):
                yield from chain(child)
            else:
                yield child

    modules = list(chain(network))
    composed = [module for module in modules if next(module.children(), None) is not None]
    if len(composed) > 1:
        return composed
    if len(composed) == 1:  # the network in a wrapper, beside a head
        return blocks(composed[0])
    return [module for module in modules if isinstance(module, (_ConvNd, nn.Linear))]
