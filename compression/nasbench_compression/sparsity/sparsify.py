"""Unstructured pruning: single weights become zero, and the layers keep their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench_compression.batch_norm import refresh_statistics
from nasbench_compression.checks import check_network, check_number
from nasbench_compression.copying import copy_network
from nasbench_compression.exclude import check_exclude
from nasbench_compression.reference import check_restores, deployed_copy
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.sparsity.csr import compare_kernels, stored_bytes, to_csr
from nasbench_compression.sparsity.gradual import Gradual
from nasbench_compression.sparsity.masks import keep_globally, keep_n_of_m, keep_per_layer, parse_pattern
from nasbench_compression.sparsity.scores import magnitude_scores, snip_scores
from nasbench_compression.sparsity.weights import Weight, find_weights, multiplied
from nasbench_compression.step import Context, Step, count_parameters, device_of, given, seeded
from nasbench_compression.zeros import keep_zeros
from nasbench_registry import UserError, one_of

IMPORTANCES = ("magnitude", "snip", "movement")
SCHEDULES = ("one_shot", "cubic")


@dataclass(frozen=True, kw_only=True)
class Sparsify(Step):
    """Set the least important weights of convolutions, linear layers and attention to zero.

    They stay zero when this or a later step trains the network further. Blocks with a simpler form for deployment take
    it first (`reparameterize`), for merged branches would have no zeros. In the end statistics of batch norm are taken
    anew from the calibration images, if the network validates better with them: averages of a training lag behind.

    Attributes:
        importance: Importance of a weight: "magnitude" (|w|), "snip" (|w * dL/dw| on the calibration images), or
            "movement" (learned during fine-tuning, of which it needs some `epochs`).
        sparsity: Share of the weights that become zero, above 0 and below 1; of each layer, or of all with
            `global_ranking`.
        pattern: Pattern "N:M" in place of `sparsity`: of each M weights along the inputs of a layer N stay.
        global_ranking: Whether the weights of all layers compete.
        schedule: Schedule of the sparsity: "one_shot", then fine-tuning; or "cubic", growing during fine-tuning (Zhu &
            Gupta 2017). None is cubic where there are `epochs` and no `pattern`.
        begin: Share of the fine-tuning at which sparsity begins to grow.
        end: Share at which it is reached.
        frequency: Number of steps of the optimizer between two changes; None is a hundredth of the fine-tuning.
        exclude: Names of modules, or patterns such as "features.*", that are left alone.
        epochs: Number of epochs of fine-tuning.
        learning_rate: Learning rate of the fine-tuning; None is the experiment's own.

    The note holds, for each layer and in all, `weights`, `density` (share that is not zero, counted in the result),
    `dense_bytes` and `csr_bytes` (as compressed sparse rows with 32-bit indices); `network_density` over all
    parameters; `left_alone` as {layer: reason}; `batch_norm`, what `refresh_statistics` gives; and in `measured` the
    latency of the dense and of a sparse kernel, as `nasbench_compression.sparsity.csr.compare_kernels` has it.
    """

    name: ClassVar[str] = "sparsify"
    stage: ClassVar[str] = "sparsified"
    nothing: ClassVar[Mapping[str, Any]] = {"sparsity": 0}
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "unstructured pruning of weights by magnitude, SNIP or movement, or N of M"
    source: ClassVar[str] = (
        "Zhu & Gupta, To prune, or not to prune: exploring the efficacy of pruning for model compression, 2017, "
        "arXiv:1710.01878; Lee et al., SNIP, ICLR 2019, arXiv:1810.02340; Sanh et al., Movement Pruning, NeurIPS 2020, "
        "arXiv:2005.07683; Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, arXiv:2104.08378"
    )

    advice: ClassVar[str] = "raise sparsity: below about a half, the indices of sparse rows cost what they save"

    importance: str = "magnitude"
    sparsity: float | None = None
    pattern: str | None = None
    global_ranking: bool = False
    schedule: str | None = None
    begin: float = 0.0
    end: float = 0.75
    frequency: int | None = None
    exclude: tuple[str, ...] = ()
    epochs: int = 0
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        one_of("sparsify importance", self.importance, IMPORTANCES)
        check_number("sparsify sparsity", self.sparsity, above=0, below=1, optional=True)
        if self.schedule is not None:
            one_of("sparsify schedule", self.schedule, SCHEDULES)
        check_number("sparsify begin", self.begin, at_least=0, at_most=1)
        check_number("sparsify end", self.end, at_least=0, at_most=1)
        check_number("sparsify frequency", self.frequency, at_least=1, integer=True, optional=True)
        check_number("sparsify epochs", self.epochs, at_least=0, integer=True)
        check_number("sparsify learning_rate", self.learning_rate, above=0, optional=True)
        object.__setattr__(self, "exclude", check_exclude("sparsify", self.exclude))
        if self.pattern is not None:
            parse_pattern(self.pattern)
        self._check_together()

    def _check_together(self) -> None:
        if (self.sparsity is None) == (self.pattern is None):
            raise UserError(
                f"sparsify has sparsity {self.sparsity!r} and pattern {self.pattern!r}; give one of them, such as "
                f"sparsity: 0.8."
            )
        if self.begin > self.end:
            raise UserError(f"sparsify begin is {self.begin!r} and end is {self.end!r}; end no sooner than you begin.")
        if self.pattern is not None and (self.global_ranking or self.schedule == "cubic"):
            option = "global_ranking" if self.global_ranking else "schedule cubic"
            raise UserError(f"sparsify pattern {self.pattern!r} goes with no {option}: it is the same in each layer.")
        if self.importance == "movement" and (self.epochs == 0 or not self._gradual):
            raise UserError(
                "sparsify importance 'movement' is learned while sparsity grows; give epochs of fine-tuning, "
                "schedule cubic or none, and sparsity in place of a pattern."
            )
        if self.schedule == "cubic" and self.epochs == 0:
            raise UserError("sparsify schedule 'cubic' grows during fine-tuning, and epochs is 0; give epochs.")

    @property
    def _gradual(self) -> bool:
        return self.schedule == "cubic" or (self.schedule is None and self.epochs > 0 and self.pattern is None)

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        return (*super().needs, *(("calibration", "labels") if self.importance == "snip" else ()))

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: Nothing can be made sparse, and the message says why. Or the importance is "snip" and the context
                has no labels. Or the network does not run on the images, has no copy, or holds values that are not
                finite.
        """
        context.require(self.name, self.needs)
        check_network("sparsify", model, context.inputs)
        inputs = context.example_inputs.to(device_of(model))
        sparse, _ = deployed_copy("sparsify", model, inputs)
        weights, left_alone = self._choose_layers(sparse, inputs)
        with seeded(context.seed, device=device_of(sparse)):
            if self._gradual:
                scores = self._scores(sparse, weights, context) if self.importance == "snip" else None
                gradual = Gradual(
                    weights,
                    self._masks,
                    self._share,
                    scores=scores,
                    movement=self.importance == "movement",
                    begin=self.begin,
                    end=self.end,
                    frequency=self.frequency,
                )
                with gradual.watching():
                    given(context.finetune)(
                        sparse, epochs=self.epochs, learning_rate=self.learning_rate, on_batch=gradual
                    )
                gradual.finish()
                _mark(weights)
            else:
                scores = self._scores(sparse, weights, context)
                with torch.no_grad():
                    for name, mask in self._masks(scores, self._share).items():
                        weights[name].value.mul_(mask)
                _mark(weights)
                if self.epochs:
                    given(context.finetune)(sparse, epochs=self.epochs, learning_rate=self.learning_rate)
            statistics = refresh_statistics(sparse, context)
        note = {
            "importance": self.importance,
            **({"pattern": self.pattern} if self.pattern else {"sparsity": self.sparsity}),
            "schedule": "cubic" if self._gradual else "one_shot",
            **_described(sparse, weights),
            "left_alone": left_alone,
            "batch_norm": statistics,
            "measured": compare_kernels(sparse, weights, inputs[:1]),
        }
        check_restores(self, model, sparse, note, inputs)
        return sparse, note

    def bytes_promised(self, size_bytes: int, note: dict[str, Any]) -> int:
        """See `Step.bytes_promised`; the sparse layers are stored as compressed sparse rows."""
        return size_bytes - int(note["dense_bytes"]) + int(note["csr_bytes"])

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`; the layers keep their zeros from then on, so the weights have to be loaded first."""
        model = reparameterize(copy_network(model))
        weights, _ = find_weights(model)
        _mark({name: weights[name] for name in note["layers"]})
        return model

    def _choose_layers(self, model: nn.Module, inputs: Tensor) -> tuple[dict[str, Weight], dict[str, str]]:
        weights, left_alone = find_weights(model, self.exclude)
        used = multiplied(model, inputs[:1], weights)
        for name, weight in list(weights.items()):
            if name not in used:
                left_alone[name] = (
                    f"no operation multiplies with it as it is: the {type(weight.module).__name__} does not run, or "
                    f"computes another weight from it, in which zeros may not be zero"
                )
            elif self.pattern is not None and weight.value.shape[1] % parse_pattern(self.pattern)[1]:
                left_alone[name] = f"its {weight.value.shape[1]} inputs do not divide into groups of {self.pattern}"
            elif self.importance == "movement" and not weight.value.requires_grad:
                left_alone[name] = "its weight is frozen, so that it cannot move"
            elif weight.value.numel() < 2:
                left_alone[name] = "it has a single weight"
            else:
                continue
            del weights[name]
        if not weights:
            reasons = "; ".join(f"{name or 'the network itself'}: {reason}" for name, reason in left_alone.items())
            names = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
            nothing = f"no module of it is a convolution, a linear layer or attention; it has the classes {names}"
            raise UserError(
                f"sparsify finds no layer of this network to make sparse ({reasons or nothing}); "
                f"change exclude or pattern, or leave the step out of the recipe."
            )
        return weights, left_alone

    @property
    def _share(self) -> float:
        return 0.0 if self.sparsity is None else self.sparsity

    def _scores(self, model: nn.Module, weights: Mapping[str, Weight], context: Context) -> dict[str, Tensor]:
        if self.importance == "magnitude":
            return magnitude_scores(weights)
        calibration, labels = given(context.calibration), given(context.labels)
        return snip_scores(model, weights, calibration, labels, context.task_loss)

    def _masks(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        if self.pattern is not None:
            n, m = parse_pattern(self.pattern)
            return {name: keep_n_of_m(score, n, m) for name, score in scores.items()}
        return (keep_globally if self.global_ranking else keep_per_layer)(scores, sparsity)


def _mark(weights: Mapping[str, Weight]) -> None:
    for weight in weights.values():
        keep_zeros(weight.module, weight.name)


def _described(model: nn.Module, weights: Mapping[str, Weight]) -> dict[str, Any]:
    """Counts and bytes of what came out, not of what was asked for."""
    layers = {}
    for name, weight in weights.items():
        value = weight.value.detach()
        groups = weight.module.groups if isinstance(weight.module, nn.modules.conv._ConvNd) else 1
        layers[name] = {
            "weights": value.numel(),
            "density": _nonzeros(value) / value.numel(),
            "dense_bytes": value.numel() * value.element_size(),
            "csr_bytes": stored_bytes(to_csr(value, groups)),
        }
    count = sum(int(layer["weights"]) for layer in layers.values())
    nonzeros = sum(_nonzeros(weight.value.detach()) for weight in weights.values())
    everywhere = sum(_nonzeros(parameter.detach()) for parameter in model.parameters())
    return {
        "weights": count,
        "density": nonzeros / count,
        "network_density": everywhere / count_parameters(model),
        "dense_bytes": sum(layer["dense_bytes"] for layer in layers.values()),
        "csr_bytes": sum(layer["csr_bytes"] for layer in layers.values()),
        "layers": layers,
    }


def _nonzeros(tensor: Tensor) -> int:
    return int(torch.count_nonzero(tensor))
