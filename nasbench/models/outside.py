"""Networks of other libraries: built by a function, with weights from a file, for data that they are to see here."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasbench.models.build import FunctionBuild
from nasbench.models.weights import load_weights, read_weights
from nasbench.problems.problem import Problem
from nasbench.problems.supervised import Supervised
from nasbench_compression.copying import summary
from nasbench_compression.inputs import InputPart, Packed, parts_of
from nasbench_compression.outputs import logits_of, tensors_of
from nasbench_compression.step import device_of, seeded
from nasbench_compression.surgery import inference
from nasbench_registry import UserError
from search_spaces import Task, TensorSpec

PACKED = "nasbench.models.outside:packed"


@dataclass(frozen=True)
class Known:
    """The inputs of a network as it says them itself.

    Attributes:
        shape: Shape of an image, (channels, height, width); None if the network does not say.
        mean: Mean of each channel of images in 0..1, subtracted before; None if the network does not say.
        std: Deviation that each channel is divided by.
    """

    shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def known_inputs(network: nn.Module) -> Known:
    """The images that networks of timm (``default_cfg``) and Transformers (``config``) say that they take."""
    about = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None)
    if isinstance(about, Mapping) and about.get("input_size"):
        mean, std = about.get("mean"), about.get("std")
        return Known(
            tuple(about["input_size"]),
            None if mean is None else tuple(mean),
            None if std is None else tuple(std),
        )
    config = getattr(network, "config", None)
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", None)
    if size is None or channels is None:
        return Known()
    height, width = (size, size) if isinstance(size, int) else size
    return Known((int(channels), int(height), int(width)))


def task_of(network: nn.Module, example: Any = None) -> Task:
    """The inputs and outputs of a network, as running it on an example shows.

    Args:
        network: Network in any mode; it is not changed.
        example: (n, ...) tensor or array; None takes a shape that the network says itself, see `known_inputs`.

    Raises:
        UserError: No example is given and the network does not say what it takes; or it does not run on that.
    """
    if example is None:
        shape = known_inputs(network).shape
        if shape is None:
            raise UserError(
                f"what a {type(network).__name__} takes is not known; give an example, such as "
                f"example=torch.zeros(1, 3, 224, 224) (on the command line --input-shape 3,224,224), or the problem "
                f"that it is for (--data)."
            )
        example = torch.zeros(1, *shape)
    batch = torch.as_tensor(example)
    if batch.ndim < 2 or len(batch) == 0:
        raise UserError(f"the example has shape {tuple(batch.shape)}; give a batch of inputs, such as (n, c, h, w).")
    inputs = torch.cat([batch[:1], batch[:1]])  # a batch of two shows which axis is the batch
    try:
        with inference(network):
            outputs = [tensor for tensor in tensors_of(network(inputs.to(device_of(network)))).values() if tensor.ndim]
    except Exception as error:  # whatever the user's network raises
        raise UserError(
            f"a {type(network).__name__} does not run on inputs of shape {tuple(batch.shape[1:])} ({summary(error)}); "
            f"give an example of what it takes."
        ) from error
    if not outputs or any(len(tensor) != 2 for tensor in outputs):
        raise UserError(
            f"a {type(network).__name__} gives no tensor with one entry for each input of a batch; return one."
        )
    dtype = str(inputs.dtype).removeprefix("torch.")
    values = None if inputs.is_floating_point() else int(batch.max()) + 1
    input_spec = TensorSpec(tuple(inputs.shape[1:]), dtype, values)
    return Task(inputs=input_spec, outputs=[TensorSpec(tuple(tensor.shape[1:]) or (1,)) for tensor in outputs])


def check_fits(network: nn.Module, problem: Problem, how: str) -> None:
    """Refuse a network that does not take what a problem has, or gives other outputs than it wants.

    Args:
        network: Network in any mode; it is not changed.
        problem: Problem of the network.
        how: How the network was built, for errors.

    Raises:
        UserError: With both shapes.
    """
    examples = problem.examples(2)
    inputs = examples if isinstance(examples, tuple | list) else (examples,)
    shapes = " and ".join(str(tuple(tensor.shape[1:])) for tensor in inputs)
    try:
        with inference(network):
            output = logits_of(network(*(tensor.to(device_of(network)) for tensor in inputs)))
    except Exception as error:  # whatever the user's network raises
        raise UserError(
            f"{how} does not run on the data, inputs of shape {shapes} ({summary(error)}); give data, or options of "
            f"the data set such as size, that it takes."
        ) from error
    expected_shape = problem.task.outputs[0].shape
    if tuple(output.shape[1:]) != expected_shape:
        raise UserError(
            f"{how} gives {' x '.join(map(str, output.shape[1:])) or 'one number'} for each input, and the data want "
            f"{' x '.join(map(str, expected_shape))}; give the option of the function that sets it, such as "
            f"num_classes."
        )


def network_from(build: FunctionBuild, weights: Path | None, seed: int) -> nn.Module:
    """A network of a function, in evaluation mode.

    Args:
        build: Function with its options.
        weights: File of weights, see `read_weights`; None leaves those that the function gives.
        seed: Random seed of what the function draws.

    Raises:
        UserError: It cannot be built so, or the weights are those of another network.
    """
    with seeded(seed, device=torch.device("cpu")):
        network = build.call()
    if weights is not None:
        load_weights(network, read_weights(weights), f"{weights} into {build.text}")
    return network.eval()


def normalised(problem: Problem, mean: Sequence[float] | None, std: Sequence[float] | None) -> Problem:
    """The problem with inputs normalised as a network from outside knows them.

    Args:
        problem: Problem with data of images.
        mean: Mean of each channel of images in 0..1; None leaves those of the training images.
        std: Deviation of each channel, likewise.

    Raises:
        UserError: Only one of both is given, or not one number a channel.
    """
    if mean is None and std is None:
        return problem
    if not isinstance(problem, Supervised):
        raise UserError("mean and std are given, and the problem normalises its inputs itself; leave them out.")
    channels = problem.task.input_shape[0]
    if mean is None or std is None or len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise UserError(
            f"mean is {mean} and std is {std}; give both, a number for each of the {channels} channels, std above 0."
        )
    return dataclasses.replace(problem, data=problem.data.normalised_by(mean, std))


def packed(build: str, inputs: Sequence[Mapping[str, Any]], options: Mapping[str, Any] | None = None) -> nn.Module:
    """A network of several inputs that takes them packed into one, for ``build="nasbench.models.outside:packed"``.

    Args:
        build: Function ``module:function`` that makes the network.
        inputs: Fields of an `InputPart` for each input.
        options: Keyword arguments of `build`.
    """
    return Packed(FunctionBuild(build, options or {}).call(), [InputPart(**fields) for fields in inputs])


def packed_network(
    network: nn.Module, build: FunctionBuild | None, example: Any
) -> tuple[nn.Module, FunctionBuild | None]:
    """A network that takes several inputs as one that takes them packed, and how that one is built.

    Args:
        network: Network that takes several inputs; it is not changed.
        build: How the network is built; None if it is not known.
        example: Tuple or list of inputs (n, ...), or a dict of them by the arguments of `forward`; with a tensor, the
            network stays what it is.
    """
    if not isinstance(example, Mapping | tuple | list):
        return network, build
    parts = parts_of(example)
    if build is not None:
        part_entries = [part.to_json() for part in parts]
        build = FunctionBuild(PACKED, {"build": build.function, "options": dict(build.options), "inputs": part_entries})
    return Packed(network, parts), build


def transformers(architecture: str, **config: Any) -> nn.Module:
    """A network of the library Transformers with fresh weights, for ``build="nasbench.models.outside:transformers"``.

    Args:
        architecture: Name of the class, such as ViTForImageClassification.
        config: Options of its configuration, such as image_size=32, num_labels=10.

    Raises:
        UserError: The library is not installed, or has no such network.
    """
    try:
        library = importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            f"Transformers is not installed ({error}); run pip install 'nasbench-framework[transformers]'."
        ) from None
    kind = getattr(library, architecture, None)
    if kind is None or not hasattr(kind, "config_class"):
        offered = [name for name in dir(library) if "For" in name]
        raise UserError(
            f"Transformers has no network {architecture!r}; it has for example "
            f"{' or '.join(difflib.get_close_matches(architecture, offered)) or 'ViTForImageClassification'}."
        )
    network: nn.Module = kind(kind.config_class(**config))
    return network
