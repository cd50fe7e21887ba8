"""How much each layer suffers from fewer bits, and which layers get how many.

One layer at a time is quantized and the network is judged, as in Wu et al., Integer Quantization for Deep Learning
Inference: Principles and Empirical Evaluation, 2020, arXiv:2004.09602, section 5 on partial quantization. Layers are
then chosen greedily, the smallest harm for each byte first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.copying import copy_network
from nasbench_compression.outputs import logits_of
from nasbench_compression.quantization.layers import Entry, Prepared, entry_of, prepare, put
from nasbench_compression.step import Context, count_bytes, given
from nasbench_compression.surgery import inference
from nasbench_registry import UserError, one_of

PRECISIONS = ("int8", "int4")
_KINDS = {"int8": "static", "int4": "int4"}
_BATCH = 64


@dataclass(frozen=True)
class Sensitivity:
    """Effect of quantizing one layer alone.

    Attributes:
        layer: Name of the layer.
        precision: Precision of the layer: "int8" (static, weights and inputs) or "int4" (weights only, in groups).
        val_acc_pct: Validation accuracy, in percent.
        acc_drop_pct: Points of validation accuracy below the float network.
        loss: Cross-entropy on the calibration images; None where they have no labels, or the network no logits.
        divergence: Mean Kullback-Leibler divergence, in nats, of the float network's class probabilities on the
            calibration images from those of the quantized one. It tells layers apart where accuracy does not. None
            where it is not finite: the layer does not bear the precision.
        saved_bytes: Bytes by which the weights of the network become smaller.
    """

    layer: str
    precision: str
    val_acc_pct: float
    acc_drop_pct: float
    loss: float | None
    divergence: float | None
    saved_bytes: int


@dataclass(frozen=True)
class Options:
    """How layers are quantized.

    Attributes:
        calibration: Calibration, see `input_ranges`.
        percentile: Percentile, see `input_ranges`.
        group_size: Weights of an int4 layer that share a scale.
        symmetric: Whether the levels of int4 lie symmetric around zero.
        images: Number of calibration images, the first ones; None is all.
    """

    calibration: str = "min_max"
    percentile: float = 99.99
    group_size: int = 32
    symmetric: bool = True
    images: int | None = None


def sensitivity(
    model: nn.Module, context: Context, precisions: Iterable[str] = PRECISIONS, options: Options | None = None
) -> list[Sensitivity]:
    """Quantize each layer alone, in each precision, and judge the network; in the order of the layers.

    It costs one validation and one pass over the calibration images for each layer and precision.

    Args:
        model: Float network; it is not changed.
        context: Context whose `evaluate`, `calibration` and, if there are any, `labels` judge the network.
        precisions: Precisions to try, of "int8" and "int4".
        options: Options of the quantization; None is the defaults.

    Raises:
        UserError: An unknown precision; or as `prepare`.
    """
    options = options or Options()
    context.require("sensitivity", ("calibration", "evaluate"))
    prepared, images = _prepare(model, context, options)
    return measure(prepared, images, context, precisions, options)


def _prepare(model: nn.Module, context: Context, options: Options) -> tuple[Prepared, Tensor]:
    return prepare(model, given(context.calibration)[: options.images], options.calibration, options.percentile)


def measure(
    prepared: Prepared, images: Tensor, context: Context, precisions: Iterable[str], options: Options
) -> list[Sensitivity]:
    """`sensitivity` of a network that is prepared."""
    precisions = list(precisions)
    for precision in precisions:
        one_of("precision of a layer", precision, PRECISIONS)
    labels = None if context.labels is None else context.labels[: len(images)].to(images.device)
    evaluate = given(context.evaluate)
    before = evaluate(prepared.model)
    reference = _logits(prepared.model, images)
    size = count_bytes(prepared.model)
    sensitivities = []
    for name in prepared.ranges:
        for precision in precisions:
            quantized = with_choices(prepared, {name: precision}, options)
            logits = _logits(quantized, images)
            accuracy = evaluate(quantized)
            sensitivities.append(
                Sensitivity(
                    layer=name,
                    precision=precision,
                    val_acc_pct=accuracy,
                    acc_drop_pct=before - accuracy,
                    loss=_loss(logits, labels, context),
                    divergence=_divergence(reference, logits, context.classes),
                    saved_bytes=size - count_bytes(quantized),
                )
            )
    return sensitivities


def with_choices(prepared: Prepared, choices: dict[str, str], options: Options) -> nn.Module:
    """A copy in which these layers have these precisions; "fp32" leaves a layer as it is."""
    return put(copy_network(prepared.model), entries_of(prepared, choices, options))


def entries_of(prepared: Prepared, choices: dict[str, str], options: Options) -> dict[str, Entry]:
    """What the note says of the layers that are not left in float32."""
    return {
        name: entry_of(
            _KINDS[precision], prepared.ranges[name], group_size=options.group_size, symmetric=options.symmetric
        )
        for name, precision in choices.items()
        if precision != "fp32"
    }


def choose(
    prepared: Prepared,
    images: Tensor,
    context: Context,
    options: Options,
    *,
    max_size_bytes: int | None = None,
    max_latency_ms: float | None = None,
    max_acc_drop_pct: float | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
    """A precision for each layer, under one limit.

    Moves, a layer to int8 or from there to int4, are ordered by the divergence that they add for each byte that they
    save. `max_size_bytes`: moves are made until the weights fit. `max_acc_drop_pct`: every move is tried in that order,
    and taken back if validation accuracy falls by more. `max_latency_ms`: layers go to int8 only, as nothing runs int4
    faster here; the fewest that meet the limit are found by halving, which takes latency to fall with their number.

    Returns:
        The choice, and a note: `sensitivity`, with `order` and what was reached.

    Raises:
        UserError: The limit cannot be met; the message says what can be reached.
    """
    precisions = ("int8",) if max_latency_ms is not None else PRECISIONS
    table = measure(prepared, images, context, precisions, options)
    moves = _ordered(table)
    note: dict[str, Any] = {"sensitivity": [vars(entry) for entry in table]}
    choices = dict.fromkeys(prepared.ranges, "fp32")
    if max_size_bytes is not None:
        size = count_bytes(prepared.model)
        saved = {(entry.layer, entry.precision): entry.saved_bytes for entry in table}
        for layer, precision in moves:
            if size <= max_size_bytes:
                break
            size -= saved[layer, precision] - saved.get((layer, choices[layer]), 0)
            choices[layer] = precision
        if size > max_size_bytes:
            raise UserError(
                f"quantize max_size_bytes is {max_size_bytes!r}, and with all layers in their fewest bits the network "
                f"takes {size} bytes; raise the limit, or prune before."
            )
    elif max_acc_drop_pct is not None:
        evaluate = given(context.evaluate)
        before = evaluate(prepared.model)
        for layer, precision in moves:
            changed_choices = {**choices, layer: precision}
            if before - evaluate(with_choices(prepared, changed_choices, options)) <= max_acc_drop_pct:
                choices = changed_choices
    elif max_latency_ms is not None:
        choices, note["measured"] = _for_latency(prepared, context, options, moves, max_latency_ms)
    return choices, note


def _for_latency(
    prepared: Prepared, context: Context, options: Options, moves: Sequence[tuple[str, str]], limit: float
) -> tuple[dict[str, str], dict[str, float]]:
    latency_ms = given(context.latency_ms)

    def after(count: int) -> dict[str, str]:
        return {**dict.fromkeys(prepared.ranges, "fp32"), **dict(moves[:count])}

    measured = {len(moves): latency_ms(with_choices(prepared, after(len(moves)), options))}
    if measured[len(moves)] > limit:
        raise UserError(
            f"quantize max_latency_ms is {limit!r}, and with every layer in int8 the network takes "
            f"{measured[len(moves)]:.3g} ms; raise the limit, or prune before."
        )
    low, high = -1, len(moves)  # the fewest that meet the limit are above low, and at most high
    while high - low > 1:
        middle = (low + high) // 2
        measured[middle] = latency_ms(with_choices(prepared, after(middle), options))
        low, high = (low, middle) if measured[middle] <= limit else (middle, high)
    return after(high), {"latency_ms": measured[high]}


def _ordered(table: Sequence[Sensitivity]) -> list[tuple[str, str]]:
    """Layer and precision of each move, int8 of a layer before its int4, the smallest harm for each byte first."""
    by_layer: dict[str, dict[str, Sensitivity]] = {}
    for entry in table:
        by_layer.setdefault(entry.layer, {})[entry.precision] = entry
    weighted: list[tuple[float, int, str, str]] = []
    for layer_index, (layer, entries) in enumerate(by_layer.items()):
        harm, saved, last = 0.0, 0, 0.0
        for precision in PRECISIONS:
            if precision not in entries or entries[precision].saved_bytes <= saved:
                continue
            entry = entries[precision]
            divergence = math.inf if entry.divergence is None else entry.divergence
            added = math.inf if divergence == math.inf else max(divergence - harm, 0.0) / (entry.saved_bytes - saved)
            last = max(last, added)  # a move that needs the one before it cannot come first
            weighted.append((last, layer_index, layer, precision))
            harm, saved = divergence, entry.saved_bytes
    weighted.sort(key=lambda move: (move[0], move[1], PRECISIONS.index(move[3])))
    return [(layer, precision) for _, _, layer, precision in weighted]


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """(m, classes), or all that there is for each image in a row."""
    with inference(model):
        batches = [logits_of(model(batch)).float() for batch in torch.split(images, _BATCH)]
    if len(images) != sum(logits.shape[0] if logits.ndim else 1 for logits in batches):
        raise UserError(
            f"how sensitive layers are is read from what the network gives for each image, and this one gives "
            f"{tuple(batches[0].shape)} for {min(len(images), _BATCH)} images; take int8 for all layers."
        )
    return torch.cat([logits if logits.ndim > 1 else logits[:, None] for logits in batches])


def _loss(logits: Tensor, labels: Tensor | None, context: Context) -> float | None:
    if labels is None:
        return None
    if context.loss is None and (logits.ndim != 2 or int(labels.max()) >= logits.shape[1]):
        return None
    return _finite(context.task_loss(logits, labels))


def _divergence(reference: Tensor, logits: Tensor, classes: bool) -> float | None:
    if not classes:  # half the mean squared difference is the divergence of normal distributions with deviation 1
        return _finite(0.5 * functional.mse_loss(logits, reference))
    p, q = functional.log_softmax(reference, 1), functional.log_softmax(logits, 1)
    return _finite(functional.kl_div(q, p, reduction="batchmean", log_target=True))


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None
