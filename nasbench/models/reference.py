"""The outputs of a network for an input that never changes: they show whether it still computes the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench_compression.quantization.modules import is_reduced
from nasbench_compression.surgery import inference
from search_spaces import Task

COUNT = 2  # images, so that what depends on the others in a batch shows
MOST = 200  # outputs that are kept; of more, that many in even steps
TOLERANCE, REDUCED_TOLERANCE = 1e-3, 0.1
"""How far outputs may differ from the stored ones, as a share of the largest of those.

Another processor, number of threads or version of a library adds the terms of a sum in another order, or fuses a
multiplication with an addition. That moves a float32 sum of n terms by about sqrt(n) times half an epsilon (6e-8) of
their size: 1e-5 where 30,000 terms are added, and layers whose errors are independent add in quadrature. A thousandth
leaves a factor of ten for networks of a hundred such layers. Where values are rounded to fewer bits, the same noise
sends some of them to the other side: each moves by a step, 1/127 of the range in int8 and 1/128 of the value in bf16,
and a hundred layers in which all did so, independently, come to a tenth. A layer that was exchanged, an activation or
a stride, moves outputs by tens of percent.
"""


def reference_input(task: Task) -> tuple[torch.Tensor, ...]:
    """`COUNT` examples of each input: numbers with mean 0 and deviation 1, or whole ones below their limit.

    They are the same on every machine and in every version: NumPy freezes the stream of RandomState for ever (NEP 19).
    """
    stream = np.random.RandomState(0)
    tensors = []
    for spec in task.inputs:
        uniform, dtype = stream.random_sample((COUNT, *spec.shape)), getattr(torch, spec.dtype)
        values = (uniform - 0.5) * 12**0.5 if dtype.is_floating_point else np.floor(uniform * (spec.values or 2))
        tensors.append(torch.from_numpy(values).to(dtype))
    return tuple(tensors)


def reference(model: nn.Module, task: Task) -> dict[str, Any]:
    """The stored reference outputs of a network.

    Args:
        model: Network in any mode; it is not changed.
        task: Task whose inputs it takes.

    Returns:
        ``outputs``, numbers in the order of the network's outputs, and ``tolerance``; or ``none``, the reason why there
        are none: the network cannot compute this input, or gives other outputs each time.
    """
    try:
        first, second = _outputs(model, task), _outputs(model, task, seed=1)
    except Exception as error:  # whatever a network of a user's own does with noise
        return {"none": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    tolerance = REDUCED_TOLERANCE if is_reduced(model) or _has_few_bits(model) else TOLERANCE
    if not np.isfinite(first).all() or first.size == 0:
        return {"none": "its outputs are not finite numbers"}
    if _distance(second, first) > tolerance / 10:
        return {"none": "its outputs differ from one time to the next"}
    return {"outputs": [float(f"{value:.6g}") for value in first], "tolerance": tolerance}


def difference(model: nn.Module, task: Task, stored: Mapping[str, Any]) -> str | None:
    """How the answer of a network differs from the stored one, in words; None if it does not, or none was stored.

    Args:
        model: Network in any mode; it is not changed.
        task: Task whose inputs it takes.
        stored: Answer that `reference` gave.
    """
    if "outputs" not in stored:
        return None
    expected, tolerance = np.array(stored["outputs"]), float(stored["tolerance"])
    try:
        now = _outputs(model, task)
    except Exception as error:  # see `reference`
        return f"a reference input ends in {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if now.shape != expected.shape:
        return f"a reference input gives {now.size} numbers in place of {expected.size}"
    off = _distance(now, expected)
    if off <= tolerance:
        return None
    return f"outputs for a reference input are off by {100 * off:.2g} % of the largest ({100 * tolerance:g} % may be)"


def _distance(now: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    off = float(np.abs(now - expected).max()) if np.isfinite(now).all() else float("inf")
    return off / max(float(np.abs(expected).max()), 1e-12)


def _outputs(model: nn.Module, task: Task, seed: int = 0) -> np.ndarray[Any, Any]:
    tensor = next((tensor for tensor in (*model.parameters(), *model.buffers())), None)
    if tensor is not None and tensor.device.type != "cpu":
        model = copy.deepcopy(model).cpu()  # a GPU rounds what it multiplies to fewer bits
    with inference(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        outputs = list(_tensors(model(*reference_input(task))))
    flat = torch.cat([output.detach().double().flatten() for output in outputs]).numpy()
    return flat[:: -(-flat.size // MOST) or 1]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in whatever a network gives, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _has_few_bits(model: nn.Module) -> bool:
    tensors = (*model.parameters(), *model.buffers())
    return any(tensor.dtype in (torch.float16, torch.bfloat16, torch.int8, torch.uint8) for tensor in tensors)
