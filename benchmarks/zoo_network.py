"""What compression makes of one network of another library: halved, in int8, exported, and built again.

Run as ``python -m benchmarks.zoo_network`` with the entry as JSON on standard input; it prints a row as JSON. A process
of its own keeps what one network leaves behind, and what it may crash, away from the others.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from benchmarks.no_torchvision import without_torchvision
from benchmarks.time_limit import TimeUp, time_limit
from nasbench_compression import CompiledModel, Context, get_backend, get_step
from nasbench_compression.macs import count_macs
from nasbench_compression.outputs import difference, tensors_of
from nasbench_compression.step import count_parameters, seeded
from nasbench_compression.surgery import inference

HALF = 0.5
LONGEST_S = 120
"""Processor seconds that torch-pruning may take: its search for groups does not end on every network."""
LIBRARIES = ("timm", "segmentation_models_pytorch")
"""They import torchvision, and build networks without it."""


def zoo_row(entry: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """Every measurement of one network; what fails is noted with its error, and the rest goes on.

    Args:
        entry: `name`, `build` as ``module:function`` or ``module:Class.method``, its `options`, and `input`, the shape
            of one image; `config`, with the same two keys, is built first and given to `build`, as Transformers wants.
        seed: Random seed of the weights and of the images.

    Returns:
        JSON: `macs` and `params` as [before, after]; `kept`, the share of multiply-adds that `prune` left; `prune_s`,
        `torch_pruning_s`; `torch_pruning_kept`; `restored_off`, `int8_restored_off`, `exported_off` and
        `int8_exported_off`, the largest difference of outputs in units of the largest output; `left_out`, reasons; and
        for everything that failed a sentence under `errors`.
    """
    torch.manual_seed(seed)
    images = torch.randn(16, *entry["input"], generator=torch.Generator().manual_seed(seed))
    network = build(entry, seed)
    row: dict[str, Any] = {"name": entry["name"], "input": list(entry["input"]), "errors": {}}

    @contextlib.contextmanager
    def noted(stage: str) -> Iterator[None]:
        try:
            yield
        except TimeUp:
            row["errors"][stage] = f"it took more than {LONGEST_S} processor seconds"
        except Exception as error:  # whatever the network, a runtime or a library raises is a result here
            row["errors"][stage] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

    context = Context(images[:1], calibration=images, seed=seed)
    prune, quantize = get_step("prune", macs_ratio=HALF, heads=True), get_step("quantize", precision="int8")
    row["macs"], row["params"] = [count_macs(network, images[:1])], [count_parameters(network)]
    with noted("torch_pruning"), time_limit(LONGEST_S, processor=True):
        row["torch_pruning_s"], cut = _seconds(lambda: _by_torch_pruning(network, images[:1]))
        row["torch_pruning_kept"] = count_macs(cut, images[:1]) / row["macs"][0]
    pruned = network
    with noted("prune"):
        row["prune_s"], (pruned, note) = _seconds(lambda: prune.apply(network, context))
        row["macs"].append(count_macs(pruned, images[:1]))
        row["params"].append(count_parameters(pruned))
        row["kept"] = row["macs"][1] / row["macs"][0]
        row["missed"] = note["missed"]
        row["left_out"] = note["left_out"]
        restored = prune.restore(build(entry, seed + 1), json.loads(json.dumps(note)))
        row["restored_off"] = _off(restored, pruned, images)
    with noted("export"):
        row["exported_off"] = _exported_off(pruned, images, "fp32")
    with noted("int8"):
        int8_network, note = quantize.apply(pruned, context)
        assert isinstance(int8_network, nn.Module), "a quantized network is a network"
        row["int8_layers"] = len(note["layers"])
        restored = quantize.restore(pruned, json.loads(json.dumps(note)))
        row["int8_restored_off"] = _off(restored, int8_network, images)
        row["int8_exported_off"] = _exported_off(int8_network, images, "int8")
    return row


def build(entry: Mapping[str, Any], seed: int) -> nn.Module:
    """The network of an entry, with weights of a seed, in evaluation mode."""
    arguments: list[Any] = []
    with seeded(seed, device=torch.device("cpu")):
        if "config" in entry:
            arguments = [_named(entry["config"]["build"])(**entry["config"].get("options", {}))]
        network: nn.Module = _named(entry["build"])(*arguments, **entry.get("options", {}))
    return network.eval()


def _named(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    manager = without_torchvision() if module.partition(".")[0] in LIBRARIES else contextlib.nullcontext()
    with manager:
        value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value  # type: ignore[no-any-return]  # a name in the file of the zoo is a function


def _by_torch_pruning(network: nn.Module, image: Tensor) -> nn.Module:
    """Prune as its documentation does: the same share of channels everywhere, except where the output comes from."""
    network = copy.deepcopy(network)
    outputs = {tensor.shape[1] for tensor in tensors_of(network(image)).values() if tensor.ndim > 1}
    last = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features in outputs]
    pruner = torch_pruning.pruner.BasePruner(
        network,
        image,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=1 - HALF**0.5,
        ignored_layers=last,
        output_transform=lambda output: sum(tensor.sum() for tensor in tensors_of(output).values()),
    )
    pruner.step()
    return network


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds and result of a call; what else the machine does counts for neither side."""
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def _off(restored: nn.Module, expected_network: nn.Module, images: Tensor) -> float:
    restored.load_state_dict(expected_network.state_dict())
    with inference(restored), inference(expected_network):
        return difference(restored(images[:2]), expected_network(images[:2]))


def _exported_off(network: nn.Module, images: Tensor, precision: str) -> float:
    compiled: CompiledModel = get_backend("onnxruntime").compile(network, images[:1], precision, images)
    with inference(network):
        expected = list(tensors_of(network(images[:1])).values())
    outputs = list(tensors_of(_as_tensors(compiled(images[:1].numpy()))).values())
    return max(difference(output, expected_output) for output, expected_output in zip(outputs, expected, strict=True))


def _as_tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_tensors(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_as_tensors(part) for part in value]
    return torch.from_numpy(value)


if __name__ == "__main__":
    print(json.dumps(zoo_row(json.load(sys.stdin))))
