"""Weights from outside: files that other libraries wrote, into networks that a function builds."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nasbench_registry import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "ema")
"""Keys below which training scripts keep the weights of a checkpoint."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""Prefixes that wrappers of a network (`DataParallel`, `torch.compile`, training modules) put before each name."""


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a file of `torch.save`, of which nothing but tensors is unpickled.

    Args:
        file: File of a state dict, or of a checkpoint that has one below one of `WRAPPERS`.

    Raises:
        UserError: There is no such file, it cannot be read so, or holds no weights.
    """
    if not file.is_file():
        raise UserError(f"there is no file of weights {file}; give a .safetensors file, or one written by torch.save.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        read: Any = torch.load(file, map_location="cpu", weights_only=True)
    except safetensors.SafetensorError as error:
        raise UserError(f"{file} is not a sound safetensors file ({error}); get it again.") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{file} holds more than tensors, and unpickling it could run any code; where it comes from, write its "
            f"weights alone: torch.save(network.state_dict(), FILE)."
        ) from None
    except Exception as error:  # whatever torch raises for files that are none of its own
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{file} is not a file of weights ({type(error).__name__}: {why}); give a .safetensors file, or one "
            f"written by torch.save."
        ) from None
    weights = _unwrapped(read)
    if weights is None:
        keys = ", ".join(map(repr, list(read)[:5])) if isinstance(read, Mapping) else f"a {type(read).__name__}"
        raise UserError(f"{file} holds no state dict but {keys}; write one: torch.save(network.state_dict(), FILE).")
    return weights


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network, of which each must be there with the same shape.

    Counters of batch norm, which old files lack, may be missing. Names may begin with one of `PREFIXES`.

    Args:
        network: Network that gets them, in place.
        weights: Weights by the names that the network has for them.
        source: File and network, for errors.

    Raises:
        UserError: They are those of another network; says which do not fit.
    """
    ours = network.state_dict()
    weights = _named_alike(weights, ours)
    missing = [name for name in ours if name not in weights and not name.endswith("num_batches_tracked")]
    unknown = [name for name in weights if name not in ours]
    shapes = [name for name in ours if name in weights and weights[name].shape != ours[name].shape]
    faults = []
    if shapes:
        first = shapes[0]
        more = f", as have {len(shapes) - 1} more" if len(shapes) > 1 else ""
        faults.append(
            f"{first} has shape {tuple(weights[first].shape)} in the file and {tuple(ours[first].shape)} in the "
            f"network{more}"
        )
    if missing:
        faults.append(f"the file lacks {len(missing)} of {len(ours)}, such as {missing[0]}")
    if unknown:
        faults.append(f"the network has no {unknown[0]}" + (f", nor {len(unknown) - 1} more" * (len(unknown) > 1)))
    if faults:
        raise UserError(
            f"{source}: these are the weights of another network: {'; '.join(faults)}; build the network with the "
            f"options that it was trained with."
        )
    network.load_state_dict({**{name: value for name, value in ours.items() if name not in weights}, **weights})


def load_in_order(network: nn.Module, weights: Mapping[str, Tensor], source: str, *, but: Sequence[str] = ()) -> None:
    """Put weights into a network whose layers have other names, but come in the same order with the same shapes.

    Args:
        network: Network that gets them, in place.
        weights: Weights of another implementation of the same network.
        source: Description of the weights, for errors.
        but: Layers of the network that keep what they have, such as the last one of another number of classes.

    Raises:
        UserError: The shapes differ.
    """
    ours, theirs = (
        [(name, value) for name, value in state.items() if not name.endswith("num_batches_tracked")]
        for state in (network.state_dict(), weights)
    )
    if len(ours) != len(theirs):
        raise UserError(
            f"{source} are {len(theirs)} tensors, and the network has {len(ours)}; they are of another network."
        )
    renamed: dict[str, Tensor] = {}
    for (name, tensor), (other_name, value) in zip(ours, theirs, strict=True):
        if name.rpartition(".")[0] in but:
            continue
        if tensor.shape != value.shape:
            raise UserError(
                f"{source}: {other_name} has shape {tuple(value.shape)}, and {name}, in its place in the network, "
                f"{tuple(tensor.shape)}; they are of another network."
            )
        renamed[name] = value
    network.load_state_dict(network.state_dict() | renamed)


def _unwrapped(read: Any) -> dict[str, Tensor] | None:
    if not isinstance(read, Mapping):
        return None
    tensors = {str(name): value for name, value in read.items() if isinstance(value, Tensor)}
    if tensors and len(tensors) == len(read):
        return tensors
    inner = (_unwrapped(read[key]) for key in WRAPPERS if key in read)
    return next((weights for weights in inner if weights is not None), tensors or None)


def _named_alike(weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without a prefix that all of them have, where the network knows more of the names without it."""
    named = dict(weights)
    for prefix in PREFIXES:
        if named and all(name.startswith(prefix) for name in named):
            shorter = {name.removeprefix(prefix): value for name, value in named.items()}
            if len(shorter.keys() & ours.keys()) > len(named.keys() & ours.keys()):
                named = shorter
    return named
