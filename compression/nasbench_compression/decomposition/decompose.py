"""Layers become chains of smaller ones, from a decomposition of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from nasbench_compression.checks import check_network, check_number
from nasbench_compression.copying import copy_network
from nasbench_compression.decomposition.cp import CP
from nasbench_compression.decomposition.decomposable import Cost, DecomposableLayer, find_decomposable
from nasbench_compression.decomposition.latency import LatencySearch
from nasbench_compression.decomposition.links import build
from nasbench_compression.decomposition.method import Method, decompose_layer
from nasbench_compression.decomposition.ranks import (
    Choice,
    by_energy,
    by_rank,
    by_ratio,
    by_vbmf,
    to_limit,
    without_small,
    written,
)
from nasbench_compression.decomposition.svd import SVD
from nasbench_compression.decomposition.tensor_train import TensorTrain
from nasbench_compression.decomposition.tucker import Tucker
from nasbench_compression.exclude import check_exclude
from nasbench_compression.macs import count_macs
from nasbench_compression.reference import check_restores, deployed_copy
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import Context, Step, count_parameters, device_of, given, seeded
from nasbench_compression.surgery import replace_module
from nasbench_registry import UserError, one_of

METHODS: dict[str, Method] = {method.name: method for method in (CP(), Tucker(), TensorTrain(), SVD())}
RANK_RULES = ("vbmf",)
_RULES = ("ratio", "rank", "energy", "rank_rule", "max_macs", "macs_ratio", "max_params", "max_latency_ms")
_DEFAULT_RATIO = 0.5


@dataclass(frozen=True, kw_only=True)
class Decompose(Step):
    """Replace layers by chains of small ones, from a decomposition of their weights.

    Papers of the methods and deviations from them stand in their files: `cp`, `tucker`, `tensor_train`, `svd`. All
    layers are replaced at once. Blocks with a simpler form for deployment take it first (`reparameterize`), for it is
    that which is to get smaller.

    Attributes:
        method: "cp", "tucker", "tt" (tensor train) or "svd".
        ratio: Share of a layer's weights to keep, above 0 and below 1.
        rank: Ranks of each layer, all the same, or as large as the layer allows.
        energy: Share of a weight's squared norm (of its squared singular values) to keep, above 0 and below 1.
        rank_rule: "vbmf", ranks by variational Bayesian matrix factorization.
        max_macs: Multiply-adds of the whole network for one image, at most.
        macs_ratio: Share of the network's multiply-adds, at most.
        max_params: Parameters of the whole network, at most.
        max_latency_ms: Measured latency of the network, at most.
        exclude: Names of modules, or patterns such as "blocks.*", whose layers are left alone.
        epochs: Number of epochs of fine-tuning afterwards.
        learning_rate: Learning rate of the fine-tuning; None is the experiment's own.

    One of the options from `ratio` to `max_latency_ms` decides the ranks; with none, it is a ratio of 0.5. For a whole
    network, each layer keeps the same share of its cost, but for the smallest, which have a hundredth of it together
    and are left alone. A network that is within the limit already stays as it is.

    Left alone are layers that would not get smaller, convolutions with groups or with padding other than zeros, and
    layers that are used in another way than as plain modules. The note holds `params` and `macs` as [before, after],
    for each replaced layer its `rank` (a list where there are several), its `relative_error` = ||W - W'|| / ||W||
    and, for CP, the `sensitivity` of its factors, and `left_alone` as {layer: reason}. With `max_latency_ms`
    it holds, under `measured`, `latency_ms` as [before, after] and the number of `measurements`.
    """

    name: ClassVar[str] = "decompose"
    stage: ClassVar[str] = "decomposed"
    nothing: ClassVar[Mapping[str, Any]] = {"ratio": 0, "macs_ratio": 0}
    not_after: ClassVar[frozenset[str]] = frozenset({"sparsify", "quantize", "compile"})
    summary: ClassVar[str] = "CP, Tucker-2, tensor train or SVD of convolutions and linear layers"
    source: ClassVar[str] = (
        "cp: Lebedev et al. 2015, arXiv:1412.6553; Phan et al. 2020, arXiv:2008.05441; tucker: Kim et al. 2016, "
        "arXiv:1511.06530; tt: Oseledets, Tensor-Train Decomposition, SIAM J. Sci. Comput. 33(5), 2011; svd: Jaderberg "
        "et al. 2014, arXiv:1405.3866; Denton et al. 2014, arXiv:1404.0736"
    )

    advice: ClassVar[str] = (
        "keep less of each layer, or set max_latency_ms: several small layers pay for their calls and their memory "
        "only where they do much less"
    )

    method: str = "cp"
    ratio: float | None = None
    rank: int | None = None
    energy: float | None = None
    rank_rule: str | None = None
    max_macs: int | None = None
    macs_ratio: float | None = None
    max_params: int | None = None
    max_latency_ms: float | None = None
    exclude: tuple[str, ...] = ()
    epochs: int = 0
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        one_of("decompose method", self.method, METHODS)
        if self.rank_rule is not None:
            one_of("decompose rank_rule", self.rank_rule, RANK_RULES)
        for option in ("ratio", "energy", "macs_ratio"):
            check_number(f"decompose {option}", getattr(self, option), above=0, below=1, optional=True)
        for option in ("rank", "max_macs", "max_params"):
            check_number(f"decompose {option}", getattr(self, option), at_least=1, integer=True, optional=True)
        check_number("decompose max_latency_ms", self.max_latency_ms, above=0, optional=True)
        check_number("decompose epochs", self.epochs, at_least=0, integer=True)
        check_number("decompose learning_rate", self.learning_rate, above=0, optional=True)
        object.__setattr__(self, "exclude", check_exclude("decompose", self.exclude))
        rules = [option for option in _RULES if getattr(self, option) is not None]
        if len(rules) > 1:
            values = ", ".join(f"{option} {getattr(self, option)!r}" for option in rules)
            raise UserError(f"decompose has {values}, but only one of them can decide the ranks; leave out the others.")
        if not rules:
            object.__setattr__(self, "ratio", _DEFAULT_RATIO)

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        return (*super().needs, *(("latency_ms",) if self.max_latency_ms is not None else ()))

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: No layer gets smaller, and the message gives the reason for each; or the network cannot be
                brought to the limit.
        """
        method = METHODS[self.method]
        context.require(self.name, self.needs)
        check_network("decompose", model, {"example_inputs": context.example_inputs})
        images = context.example_inputs.to(device_of(model))
        small, _ = deployed_copy("decompose", model, images)
        macs = count_macs(small, images)
        layers: dict[str, Any] = {}
        with seeded(context.seed, device=device_of(model)):
            candidates, left_alone = find_decomposable(small, method, self.exclude, images, context.seed)
            chosen, within, measured = self._choose(method, candidates, small, macs, context)
            for candidate in candidates:
                ranks = chosen[candidate.name]
                if isinstance(ranks, str):
                    left_alone[candidate.name] = ranks
                    continue
                chain, error = decompose_layer(method, candidate.layer, ranks, candidate.seed)
                small = replace_module(small, candidate.layer, chain)
                layers[candidate.name] = {"rank": written(ranks), "relative_error": error} | method.report(chain)
            if not layers and not within:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in left_alone.items())
                raise UserError(
                    f"decompose makes no {'layer' if method.linear else 'convolution'} of this network smaller "
                    f"({reasons or 'it has none'}); "
                    f"lower rank or raise ratio, or leave the step out of the recipe."
                )
            if self.epochs and layers:
                given(context.finetune)(small, epochs=self.epochs, learning_rate=self.learning_rate)
        note = {
            "method": self.method,
            "params": [count_parameters(model), count_parameters(small)],
            "macs": [macs, count_macs(small, images)],
            "layers": layers,
            "left_alone": left_alone,
            **measured,
        }
        check_restores(self, model, small, note, images)
        return small, note

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`."""
        method = METHODS[note["method"]]
        model = reparameterize(copy_network(model))
        for name, entry in note["layers"].items():
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Conv2d | nn.Linear), f"{name} of the note is a {type(layer).__name__}"
            rank = entry["rank"]
            ranks = tuple(rank) if isinstance(rank, list) else (rank,)
            model = replace_module(model, layer, build(layer, method.links(layer, ranks)))
        return model

    def _choose(
        self, method: Method, candidates: list[DecomposableLayer], model: nn.Module, macs: int, context: Context
    ) -> tuple[dict[str, Choice], bool, dict[str, Any]]:
        """Ranks, or why a layer is left alone; whether the limit holds as it is; and what the note gets besides."""
        if self.max_latency_ms is not None:
            outcome = LatencySearch(model, method, candidates, given(context.latency_ms)).run(self.max_latency_ms)
            measured = {"latency_ms": list(outcome.latency_ms), "measurements": outcome.measurements}
            return outcome.chosen, outcome.latency_ms[0] <= self.max_latency_ms, {"measured": measured}
        if self.max_params is not None:
            whole, cost, unit = count_parameters(model), DecomposableLayer.weights, "parameters"
            return self._within("max_params", self.max_params, whole, candidates, cost, unit)
        if self.max_macs is not None:
            return self._within("max_macs", self.max_macs, macs, candidates, DecomposableLayer.macs, "multiply-adds")
        if self.macs_ratio is not None:
            limit = int(self.macs_ratio * macs)
            return self._within("macs_ratio", limit, macs, candidates, DecomposableLayer.macs, "multiply-adds")
        return {candidate.name: self._layer_ranks(method, candidate) for candidate in candidates}, False, {}

    def _layer_ranks(self, method: Method, candidate: DecomposableLayer) -> Choice:
        """Ranks of one layer, by the rules that look at one layer."""
        if self.rank is not None:
            return by_rank(method, candidate, self.rank)
        if self.energy is not None:
            return by_energy(method, candidate, self.energy)
        if self.rank_rule is not None:
            return by_vbmf(method, candidate)
        assert self.ratio is not None, "there is always a rule"
        return by_ratio(method, candidate, self.ratio)

    def _within(
        self, option: str, limit: int, whole: int, candidates: list[DecomposableLayer], cost: Cost, unit: str
    ) -> tuple[dict[str, Choice], bool, dict[str, Any]]:
        """Ranks of all layers, by the rules that look at the whole network."""
        method = METHODS[self.method]
        if whole <= limit:
            reason = f"the network has {whole} {unit}, which is within the limit"
            return {candidate.name: reason for candidate in candidates}, True, {}
        large = without_small(method, candidates, cost)
        fixed = whole - sum(cost(candidate, method, None) for candidate in large)
        chosen, spent = to_limit(method, large, limit - fixed, cost)
        if fixed + spent > limit:
            raise UserError(
                f"decompose {option} is {getattr(self, option)!r}, a limit of {limit} {unit}, but {self.method} brings "
                f"this network from {whole} to no less than {fixed + spent}; raise it, exclude less, or prune first."
            )
        small = f"the smallest layers have less than a hundredth of the {unit} together"
        return {candidate.name: chosen.get(candidate.name, small) for candidate in candidates}, False, {}
