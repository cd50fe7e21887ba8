"""CP decomposition of convolutions, after Lebedev et al., ICLR 2015, arXiv:1412.6553."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorly
import torch
from numpy.typing import NDArray
from tensorly.cp_tensor import CPTensor, cp_to_tensor
from tensorly.decomposition import parafac
from torch import nn

from compression.checks import check_number
from compression.reparameterization import reparameterize
from compression.step import Context, Step, count_parameters, device_of, seeded
from compression.surgery import replace_module
from nasbench_registry import UserError, one_of

Array = NDArray[np.float64]
METHODS = ("cp",)
_SWEEPS = 100
_CHEAP = 5_000  # weights up to which several starts are affordable: a 64x64x3x3 weight takes seconds for each
_STARTS = 3
_RIDGE = 1e-10  # keeps the least squares solvable where the weight has fewer components than the rank


def cp_factors(weight: Array, rank: int, seed: int) -> tuple[list[Array], float]:
    """Factors of a tensor and the error that they leave, the best of several starts.

    Alternating least squares of tensorly in float64, which ends in a local optimum: small weights start three times,
    twice from Gaussian factors and once from singular vectors, large ones from Gaussian factors only.

    Args:
        weight: any number of dimensions d.
        rank: number of components R.
        seed: decides the random starts.

    Returns:
        d matrices (size of the dimension, R), with the scale of a component spread evenly over them, and the
        relative error ||W - W'|| / ||W|| in the Frobenius norm.
    """
    rng = np.random.default_rng(seed)
    norm = float(np.linalg.norm(weight))
    if norm == 0:
        return [np.zeros((size, rank)) for size in weight.shape], 0.0
    best: tuple[float, list[Array]] | None = None
    with tensorly.backend.backend_context("numpy", local_threadsafe=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the rank exceeds a side of the kernel, which is as it should be
        for start in range(_STARTS if weight.size <= _CHEAP else 1):
            gaussian = CPTensor((np.ones(rank), [rng.standard_normal((size, rank)) for size in weight.shape]))
            try:
                weights, factors = parafac(
                    weight / norm,
                    rank,
                    n_iter_max=_SWEEPS,
                    init="svd" if start == 2 else gaussian,
                    random_state=int(rng.integers(2**31)),
                    l2_reg=_RIDGE,
                )
            except np.linalg.LinAlgError:  # a singular system; another start may do
                continue
            weights = weights * norm
            error = float(np.linalg.norm(weight - cp_to_tensor((weights, factors)))) / norm
            if math.isfinite(error) and (best is None or error < best[0]):
                best = error, _balanced(weights, factors)
    if best is None:
        raise UserError(f"CP decomposition with rank {rank} diverges on a weight of shape {weight.shape}; lower rank.")
    return best[1], best[0]


def _balanced(weights: Array, factors: list[Array]) -> list[Array]:
    """Give each factor the same share of a component's scale, so that float32 and fine-tuning can handle it."""
    norms = np.stack([np.linalg.norm(factor, axis=0) for factor in factors])
    share = np.abs(weights * norms.prod(axis=0)) ** (1 / len(factors))
    balanced = [factor / np.maximum(norm, 1e-300) * share for factor, norm in zip(factors, norms, strict=True)]
    balanced[0] = balanced[0] * np.sign(weights)
    return balanced


def cp_layers(layer: nn.Conv2d, rank: int) -> nn.Sequential:
    """The convolutions that stand for `layer`, with unset weights.

    For a 3x3 kernel, 16 -> 32 channels, rank 8: 1x1 16 -> 8; 3x1 on each of the 8; 1x3 on each of the 8; 1x1 8 -> 32
    with the bias. Zero padding commutes with the first layer since that has no bias. A side of length one needs
    no layer of its own, but keeps its stride and padding in the other one.
    """
    device, dtype = layer.weight.device, layer.weight.dtype
    height, width = layer.kernel_size
    stride, dilation = layer.stride, layer.dilation
    first = nn.Conv2d(layer.in_channels, rank, 1, bias=False, device=device, dtype=dtype)
    last = nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None, device=device, dtype=dtype)

    def depthwise(kernel: tuple[int, int], vertical: bool, horizontal: bool) -> nn.Conv2d:
        chosen = (vertical, horizontal)
        padding = layer.padding
        if not isinstance(padding, str):
            padding = tuple(value if on else 0 for value, on in zip(padding, chosen, strict=True))
        return nn.Conv2d(
            rank,
            rank,
            kernel,
            stride=tuple(value if on else 1 for value, on in zip(stride, chosen, strict=True)),  # type: ignore[arg-type]  # two values, which a generator hides
            padding=padding,  # type: ignore[arg-type]  # two values, which a generator hides
            dilation=tuple(value if on else 1 for value, on in zip(dilation, chosen, strict=True)),  # type: ignore[arg-type]  # two values, which a generator hides
            groups=rank,
            bias=False,
            device=device,
            dtype=dtype,
        )

    if height == 1 or width == 1:
        return nn.Sequential(first, depthwise((height, width), True, True), last)
    return nn.Sequential(first, depthwise((height, 1), True, False), depthwise((1, width), False, True), last)


def decompose_convolution(layer: nn.Conv2d, rank: int, seed: int) -> tuple[nn.Sequential, float]:
    """The CP form of a convolution and the relative error of its weight; `layer` is left as it was."""
    weight = layer.weight.detach().double().cpu().numpy()
    out_channels, in_channels, height, width = weight.shape
    kept = [size for size in (height, width) if size > 1]
    factors, error = cp_factors(weight.reshape(out_channels, in_channels, *kept), rank, seed)
    layers = cp_layers(layer, rank)
    shapes = [(rank, in_channels, 1, 1), *(tuple(m.weight.shape) for m in list(layers)[1:-1])]  # type: ignore[arg-type]  # each is a convolution
    values = [factor.T.reshape(shape) for factor, shape in zip(factors[1:], shapes, strict=True)]
    values.append(factors[0].reshape(out_channels, rank, 1, 1))
    with torch.no_grad():
        for module, value in zip(layers, values, strict=True):
            assert isinstance(module, nn.Conv2d)
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        if layer.bias is not None:
            layers[-1].bias.copy_(layer.bias)  # type: ignore[operator]  # the last one has a bias if `layer` has
    return layers.train(layer.training), error


@dataclass(frozen=True, kw_only=True)
class Decompose(Step):
    """Replace each convolution by four small ones, from the CP decomposition of its weight.

    Deviations from Lebedev et al.: the decomposition is alternating least squares in place of non-linear least
    squares, from several starts; the rank follows from a budget for each layer; all layers are replaced at once.
    Blocks with a simpler form for deployment take it first (`reparameterize`), for it is that which is to get smaller.

    Attributes:
        method: "cp".
        ratio: share of a layer's weights to keep, above 0 and below 1; decides the rank unless that is given.
        rank: the same number of components for each layer.
        epochs: fine-tuning afterwards.
        learning_rate: of the fine-tuning; None is the experiment's own.

    Left alone are convolutions with groups, with a 1x1 kernel, with padding other than zeros, those that would not
    get smaller and those used in another way than as a plain `torch.nn.Conv2d`. The note holds `params` as
    [before, after], for each replaced layer its `rank` and `relative_error` = ||W - W'|| / ||W||, and `left_alone`
    as {layer: reason}.
    """

    name: ClassVar[str] = "decompose"
    stage: ClassVar[str] = "decomposed"
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "CP decomposition of convolutions into four small ones"
    source: ClassVar[str] = (
        "Lebedev et al., Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition, "
        "ICLR 2015, arXiv:1412.6553"
    )

    method: str = "cp"
    ratio: float = 0.5
    rank: int | None = None
    epochs: int = 0
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        one_of("decompose method", self.method, METHODS)
        check_number("decompose ratio", self.ratio, above=0, below=1)
        check_number("decompose rank", self.rank, at_least=1, integer=True, optional=True)
        check_number("decompose epochs", self.epochs, at_least=0, integer=True)
        check_number("decompose learning_rate", self.learning_rate, above=0, optional=True)

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: no convolution gets smaller; says why for each.
        """
        small = copy.deepcopy(reparameterize(model))
        layers: dict[str, Any] = {}
        left_alone: dict[str, str] = {}
        with seeded(context.seed, device=device_of(model)):
            for index, (name, layer) in enumerate(list(small.named_modules())):
                if not isinstance(layer, nn.Conv2d):
                    continue
                rank = self._rank_for(layer)
                if isinstance(rank, str):
                    left_alone[name] = rank
                    continue
                replacement, error = decompose_convolution(layer, rank, context.seed + index)
                small = replace_module(small, layer, replacement)
                layers[name] = {"rank": rank, "relative_error": error}
            if not layers:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in left_alone.items())
                raise UserError(
                    f"decompose makes no convolution of this network smaller ({reasons or 'it has none'}); "
                    f"lower rank or raise ratio, or leave the step out of the recipe."
                )
            if self.epochs:
                context.finetune(small, epochs=self.epochs, learning_rate=self.learning_rate)
        params = [count_parameters(model), count_parameters(small)]
        return small, {"method": self.method, "params": params, "layers": layers, "left_alone": left_alone}

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`."""
        model = copy.deepcopy(reparameterize(model))
        for name, made in note["layers"].items():
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Conv2d), f"{name} of the note is a {type(layer).__name__}"
            model = replace_module(model, layer, cp_layers(layer, made["rank"]).train(layer.training))
        return model

    def _rank_for(self, layer: nn.Conv2d) -> int | str:
        """The rank, or why the layer is left alone."""
        sides = [size for size in layer.kernel_size if size > 1]
        if type(layer) is not nn.Conv2d:
            return f"a {type(layer).__name__} is no plain Conv2d"
        if layer.groups > 1:
            return f"it has {layer.groups} groups"
        if not sides:
            return "its kernel is 1x1"
        if layer.padding_mode != "zeros":
            return f"its padding mode is {layer.padding_mode}"
        each = layer.in_channels + layer.out_channels + sum(sides)
        whole = layer.weight.numel()
        rank = self.rank if self.rank is not None else int(self.ratio * whole / each)
        if rank < 1:
            return f"one component has {each} weights, more than a share of {self.ratio} of its {whole}"
        if rank * each >= whole:
            return f"{rank} components have {rank * each} weights, no fewer than its {whole}"
        return rank
