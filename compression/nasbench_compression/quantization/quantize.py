"""The step that gives weights, and inputs where the method says so, fewer bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from nasbench_compression.checks import check_network, check_number
from nasbench_compression.copying import copy_network
from nasbench_compression.quantization.calibration import CALIBRATIONS
from nasbench_compression.quantization.cast import HalfNetwork, cast, rounded_weights
from nasbench_compression.quantization.folding import fold, fold_checked
from nasbench_compression.quantization.layers import Prepared, entry_of, prepare, put, refuse_reduced
from nasbench_compression.quantization.qat import put_fakes, take_out_fakes
from nasbench_compression.quantization.sensitivity import Options, choose, entries_of
from nasbench_compression.reference import Reference, check_restores, deployed_copy
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import Context, Step, device_of, given, seeded
from nasbench_registry import UserError, one_of

# The first method of a precision is the one that is meant where none is named.
METHODS: dict[str, tuple[str, ...]] = {
    "int8": ("static", "qat", "dynamic", "weight_only"),
    "int4": ("weight_only",),
    "fp16": ("cast",),
    "bf16": ("cast",),
    "mixed": ("sensitivity",),
}
_LIMITS = ("max_size_bytes", "max_latency_ms", "max_acc_drop_pct")


@dataclass(frozen=True, kw_only=True)
class Quantize(Step):
    """Store weights in fewer bits and, for static, dynamic and quantization-aware int8, compute with fewer.

    Attributes:
        precision: Precision: "int8", "int4", "fp16", "bf16", or "mixed", which chooses fp32, int8 or int4 for each
            layer.
        method: Method: for int8 "static" (ranges of inputs are fixed beforehand), "qat" (and then trained with
            rounding), "dynamic" (linear layers only, each batch has its range) or "weight_only" (computes in float32);
            for int4 "weight_only"; for fp16 and bf16 "cast"; for mixed "sensitivity". None is the first of these.
        calibration: Calibration: "min_max", "percentile" or "entropy", of static, qat and mixed; see `input_ranges`.
        percentile: Percentile of that calibration, in percent.
        calibration_images: Number of images from which ranges are read; all, if there are fewer.
        group_size: Weights that share a scale, an even number; of weight_only, and of int4 layers in mixed.
        symmetric: Whether levels lie symmetric around zero, for the same; otherwise each group has a zero point.
        epochs: Epochs of qat.
        learning_rate: Learning rate of qat; None is the experiment's own.
        max_size_bytes: Limit of mixed on the bytes of all weights and buffers.
        max_latency_ms: Limit of mixed on the latency of what is deployed.
        max_acc_drop_pct: Limit of mixed on the points of validation accuracy that may be lost; one of the three.

    Deviation from Jacob et al.: batch norm is folded before qat, not during it; the network computes in float32 what an
    integer kernel would compute. In qat the ranges of "min_max" move with the training batches, those of the other
    calibrations stay.

    The note has `precision`, `method`, `calibration_images` where images were read, `folded` (convolutions and the
    batch norms in them), `layers` (what each layer is now), `left_float` and, if there are any, `left_unfolded` (layers
    and norms that stay as they are, each with the reason); for mixed also `choices` (precision of each
    layer) and `sensitivity` (see `nasbench_compression.quantization.sensitivity.Sensitivity`).
    """

    name: ClassVar[str] = "quantize"
    stage: ClassVar[str] = "quantized"
    nothing: ClassVar[Mapping[str, Any]] = {"precision": "fp32"}
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "int8 (static, dynamic, trained), weights in int8 or int4, fp16, bf16, or mixed by layer"
    source: ClassVar[str] = (
        "Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only "
        "Inference, CVPR 2018, arXiv:1712.05877; Migacz, 8-bit Inference with TensorRT, GTC 2017; Dettmers & "
        "Zettlemoyer, The case for 4-bit precision, ICML 2023, arXiv:2212.09720; Wu et al., Integer Quantization for "
        "Deep Learning Inference, 2020, arXiv:2004.09602"
    )

    advice: ClassVar[str] = "set device.runtime to a backend with int8 kernels, such as onnxruntime"

    precision: str = field(default="int8", kw_only=False)
    method: str | None = None
    calibration: str = "min_max"
    percentile: float = 99.99
    calibration_images: int = 128
    group_size: int = 32
    symmetric: bool = True
    epochs: int = 1
    learning_rate: float | None = None
    max_size_bytes: int | None = None
    max_latency_ms: float | None = None
    max_acc_drop_pct: float | None = None

    def __post_init__(self) -> None:
        one_of("quantize precision", self.precision, METHODS)
        if self.method is None:
            object.__setattr__(self, "method", METHODS[self.precision][0])
        one_of(f"quantize method for precision {self.precision}", str(self.method), METHODS[self.precision])
        one_of("quantize calibration", self.calibration, CALIBRATIONS)
        check_number("quantize percentile", self.percentile, above=50, at_most=100)
        check_number("quantize calibration_images", self.calibration_images, at_least=1, integer=True)
        check_number("quantize group_size", self.group_size, at_least=2, integer=True)
        if self.group_size % 2:
            raise UserError(f"quantize group_size is {self.group_size!r}; give an even number, for int4 fills bytes.")
        if not isinstance(self.symmetric, bool):
            raise UserError(f"quantize symmetric is {self.symmetric!r}; give true or false.")
        check_number("quantize epochs", self.epochs, at_least=1, integer=True)
        check_number("quantize learning_rate", self.learning_rate, above=0, optional=True)
        check_number("quantize max_size_bytes", self.max_size_bytes, at_least=1, integer=True, optional=True)
        check_number("quantize max_latency_ms", self.max_latency_ms, above=0, optional=True)
        check_number("quantize max_acc_drop_pct", self.max_acc_drop_pct, at_least=0, optional=True)
        self._check_limits()

    def _check_limits(self) -> None:
        limits = [name for name in _LIMITS if getattr(self, name) is not None]
        if self.precision == "mixed" and len(limits) != 1:
            raise UserError(f"quantize precision 'mixed' has {limits or 'no limit'}; give one of {', '.join(_LIMITS)}.")
        if self.precision != "mixed" and limits:
            value = getattr(self, limits[0])
            raise UserError(
                f"quantize {limits[0]} is {value!r} with precision {self.precision!r}; it goes with precision: mixed."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        latency = ("latency_ms",) if self.max_latency_ms is not None else ()
        by_method = {
            "static": ("calibration",),
            "qat": ("calibration", "finetune"),
            "sensitivity": ("calibration", "evaluate", *latency),
        }
        return by_method.get(str(self.method), ())

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: The network is quantized already, or has nothing to quantize; a limit cannot be met; or a weight
                is too large for fp16.
        """
        context.require(self.name, self.needs)
        note_head: dict[str, Any] = {"precision": self.precision, "method": self.method}
        if self.method == "cast":
            return self._cast(model, context)
        images = context.example_inputs
        if context.calibration is not None:
            images = context.calibration[: self.calibration_images]
            note_head["calibration_images"] = len(images)
        ranges = self.method in ("static", "qat", "sensitivity")
        prepared, images = prepare(model, images, self.calibration if ranges else "min_max", self.percentile)
        mixed_note: dict[str, Any] = {}
        left_float = dict(prepared.left_float)
        if self.method == "qat":
            prepared = self._train(prepared, context)
        if self.method == "sensitivity":
            options = Options(self.calibration, self.percentile, self.group_size, self.symmetric)
            limits = {name: getattr(self, name) for name in _LIMITS}
            choices, mixed_note = choose(prepared, images, context, options, **limits)
            layers = entries_of(prepared, choices, options)
            mixed_note["choices"] = choices
            left_float |= {name: "fp32 was chosen for it" for name, choice in choices.items() if choice == "fp32"}
        else:
            kinds = {"static": "static", "qat": "static", "dynamic": "dynamic", "weight_only": self.precision}
            kind = kinds[str(self.method)]
            candidates = prepared.layers()
            chosen = [name for name, layer in candidates.items() if kind != "dynamic" or isinstance(layer, nn.Linear)]
            if not chosen:
                reasons = "".join(f"; {name}: {reason}" for name, reason in left_float.items())
                raise UserError(
                    f"this network has no Linear for quantize method 'dynamic'{reasons}; "
                    f"method: static quantizes convolutions."
                )
            left_float |= {name: "method 'dynamic' has no convolutions" for name in candidates if name not in chosen}
            layers = {
                name: entry_of(kind, prepared.ranges[name], group_size=self.group_size, symmetric=self.symmetric)
                for name in chosen
            }
        quantized = put(prepared.model, layers)
        note = {**note_head, "folded": prepared.folded, "layers": layers, "left_float": left_float, **mixed_note}
        if prepared.left_unfolded:
            note["left_unfolded"] = prepared.left_unfolded
        check_restores(self, model, quantized, note, images)
        return quantized, note

    def _cast(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """Batch norms are folded first, as exporters do it too: so the file has the weights that were rounded."""
        refuse_reduced(model)
        name, images = list(context.inputs.items())[-1]  # the calibration inputs where there are any
        check_network("quantize", model, {name: images})
        images = images[:8]
        merged, reference = deployed_copy("quantize", model, images)
        folded, pairs, left_unfolded = fold_checked(merged, reference)
        half_network = cast(copy_network(folded), self.precision)
        note: dict[str, Any] = {"precision": self.precision, "method": self.method, "folded": [list(p) for p in pairs]}
        if left_unfolded:
            note["left_unfolded"] = left_unfolded
        rounded = Reference.of("quantize", rounded_weights(folded, self.precision), images)
        rounded.check(half_network, f"quantize: more than rounding the weights to {self.precision}", exact=True)
        check_restores(self, model, half_network, note, images)
        return half_network, note

    def _train(self, prepared: Prepared, context: Context) -> Prepared:
        """Train with rounding; the ranges are those at the end."""
        model = put_fakes(prepared.model, prepared.ranges, moving=self.calibration == "min_max")
        modes = {name: module.training for name, module in model.named_modules()}
        with seeded(context.seed, device=device_of(model)):
            given(context.finetune)(model, epochs=self.epochs, learning_rate=self.learning_rate)
        model, ranges = take_out_fakes(model)
        for name, module in model.named_modules():
            module.training = modes.get(name, module.training)
        return dataclasses.replace(prepared, model=model, ranges={name: ranges[name] for name in prepared.ranges})

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`."""
        model = reparameterize(copy_network(model))
        model = fold(model, [(convolution, norm) for convolution, norm in note["folded"]])
        if note.get("method") == "cast":
            return HalfNetwork(model, note["precision"])
        return put(model, note["layers"], with_values=False)
