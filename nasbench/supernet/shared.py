"""Shared weights of any space: one set of tensors, of which each network takes leading slices."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.models.build import Build, SpaceBuild
from nasbench.models.model import Noted
from nasbench.models.origin import origin_of, problem_from
from nasbench.models.store import Origin
from nasbench.problems.problem import Problem
from nasbench.supernet.sampling import extremes
from nasbench.supernet.supernet import Supernet
from nasbench.supernet.weights import Member, SharedWeights, Source
from nasbench_compression.copying import summary
from nasbench_compression.step import count_parameters
from nasbench_compression.subnetworks import Positions
from nasbench_registry import UserError, one_of
from search_spaces import Architecture, SearchSpace, Task, get_space, spaces
from search_spaces.blocks.transformer_encoder import SelfAttention
from search_spaces.fresh_model import fresh_model

Kernels = Literal["shared", "separate"]
KERNELS = ("shared", "separate")

_ENOUGH = 100
"""Networks in a row that bring no new tensor and no larger one: then all are taken to be known."""
_AT_MOST = 3000


class SharedSupernet(Supernet):
    """Weights that all networks of a space share; made by `share`.

    A parameter is shared by all networks that have one at the same path of modules of the same classes, such as
    ``cells.0.edge1.0.weight``; smaller ones are leading slices of the largest, and kernels its middle (weight
    entanglement: Chen et al., AutoFormer, ICCV 2021, arXiv:2107.00651). A matrix that holds those of queries, keys and
    values is three parts, of each of which a smaller one has a leading slice.

    Attributes:
        kernels: Kernel weights: "shared": small kernels are the middle of large ones; "separate": each size has weights
            of its own.
    """

    kind: ClassVar[str] = "shared"
    sampling: ClassVar[str] = "uniform"

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        weights: SharedWeights,
        *,
        smallest: Architecture,
        largest: Architecture,
        kernels: Kernels = "shared",
        seed: int = 0,
        calibration_inputs: int = 512,
    ) -> None:
        super().__init__(
            space, problem, weights, smallest=smallest, largest=largest, calibration_inputs=calibration_inputs
        )
        self.kernels, self.seed = kernels, seed

    def make_member(self, arch: Architecture) -> Member:
        """See `Supernet.make_member`."""
        network = fresh_model(self.space, arch, self.problem.task, self.seed)
        sources = {}
        for name, shared in shared_names(network, self.kernels).items():
            key, parameter = shared.key, shared.parameter
            whole = tuple(self.weights[key].shape) if key in self.weights else (0,) * parameter.ndim
            if any(size > most for size, most in zip(parameter.shape, whole, strict=True)):
                raise UserError(
                    f"the network {self.space.format(arch)} has a part, {name}, that is in none of the networks of "
                    f"which the shared weights were made; raise networks of share()."
                )
            sources[name] = Source(key, shared.positions(whole))
        return Member(network, sources)

    def stored_as(self, arch: Architecture) -> tuple[Build, list[Noted]]:
        """See `Supernet.stored_as`."""
        build = SpaceBuild(*source_of(self.space), arch)
        if build.make_space().decisions != self.space.decisions:
            raise UserError(
                f"space {self.space.name!r} has other decisions when it is made again with {build.options}; let its "
                f"class keep each argument in an attribute of the same name."
            )
        return build, []

    def describe(self, folder: Path) -> dict[str, Any]:
        """See `Supernet.describe`."""
        name, options = source_of(self.space)
        return {
            "kernels": self.kernels,
            "seed": self.seed,
            "space": {"name": name, **options},
            "decisions": _described(self.space),
            "task": self.problem.task.to_json(),
            "origin": dataclasses.asdict(origin_of(self.problem)),
        }

    def untrained(self, arch: Architecture, seed: int) -> nn.Module:
        """The network with fresh weights; see `Supernet.untrained`."""
        return fresh_model(self.space, arch, self.problem.task, seed)


def source_of(space: SearchSpace) -> tuple[str, dict[str, Any]]:
    """The name and the options by which a space is made again: those that its object keeps under their names."""
    kind = type(space)
    registered_name = space.name if space.name in spaces.entries and spaces.find(space.name) is kind else None
    attributes = {name: getattr(space, name, None) for name in inspect.signature(kind).parameters}
    plain = {
        name: value for name, value in attributes.items() if isinstance(value, str | int | float | bool | list | tuple)
    }
    return registered_name or f"{kind.__module__}:{kind.__qualname__}", plain


@dataclasses.dataclass(frozen=True)
class Shared:
    """A parameter of a network, and how it lies in the shared tensor.

    Attributes:
        key: Name of the shared tensor.
        parameter: Parameter.
        parts: Number of equal parts along the first dimension that are matrices, or biases, of their own.
        has_kernel: Whether the dimensions after the first two are those of a kernel.
    """

    key: str
    parameter: nn.Parameter
    parts: int
    has_kernel: bool

    def positions(self, whole: Sequence[int]) -> Positions:
        """The first positions along each dimension, or along each part of it; the middle ones along a kernel.

        Args:
            whole: Shape of the shared tensor.
        """
        along: list[slice | Tensor | None] = []
        for dimension, (size, most) in enumerate(zip(self.parameter.shape, whole, strict=True)):
            if size == most:
                along.append(None)
            elif dimension == 0 and self.parts > 1:
                starts = torch.arange(self.parts) * (most // self.parts)
                along.append((starts[:, None] + torch.arange(size // self.parts)).flatten())
            else:
                start = (most - size) // 2 if self.has_kernel and dimension >= 2 else 0
                along.append(slice(start, start + size))
        return Positions(tuple(along))


def shared_names(network: nn.Module, kernels: Kernels) -> dict[str, Shared]:
    """How each parameter of a network is shared, by its name in the network."""
    classes = {path: type(module).__name__ for path, module in network.named_modules()}
    shared = {}
    for name, parameter in network.named_parameters():
        path, _, attribute = name.rpartition(".")
        steps = path.split(".") if path else []
        along = [f"{step}={classes['.'.join(steps[: index + 1])]}" for index, step in enumerate(steps)]
        module = network.get_submodule(path)
        role, parts = str(parameter.ndim), _parts(network, path, attribute)
        if parts > 1:
            role += f"parts{parts}"
        if isinstance(module, nn.modules.conv._ConvNd):
            if module.groups > 1:
                role += "depthwise" if module.groups == module.in_channels else f"groups{module.groups}"
            if kernels == "separate":
                role += "x".join(map(str, module.kernel_size))
        shared[name] = Shared(
            "|".join((*along, attribute, role)), parameter, parts, isinstance(module, nn.modules.conv._ConvNd)
        )
    return shared


def _parts(network: nn.Module, path: str, attribute: str) -> int:
    """Number of matrices in a parameter: three where it gives the queries, keys and values of attention."""
    parent, _, name = path.rpartition(".")
    if isinstance(network.get_submodule(path), nn.MultiheadAttention):
        return 3 if attribute.startswith("in_proj") else 1
    return 3 if name == "qkv" and isinstance(network.get_submodule(parent), SelfAttention) else 1


def share(
    space: SearchSpace,
    problem: Problem,
    *,
    kernels: Kernels = "shared",
    networks: int = _ENOUGH,
    calibration_inputs: int = 512,
    seed: int = 0,
) -> SharedSupernet:
    """Weights that all networks of a space share; `train` trains them.

    Nothing is asked of the space but `build`. Networks are sampled until so many in a row bring no parameter that is
    new or larger than those before.

    Args:
        space: Search space of the networks.
        problem: Problem of the networks.
        kernels: Kernel weights, see `SharedSupernet`.
        networks: Number of networks that bring nothing new before the search for parameters ends.
        calibration_inputs: Number of training inputs for batch norms, see `Supernet`.
        seed: Random seed of the first weights, and of the sample.

    Raises:
        UserError: The networks share no parameter, one of them cannot be built, or an option is out of range.
    """
    one_of("kernels", kernels, KERNELS)
    if networks < 1:
        raise UserError(f"networks is {networks}; give a number of networks from 1.")
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    largest_of: dict[str, Shared] = {}
    owner: dict[str, tuple[int, ...]] = {}
    sharing = False

    def built(arch: Architecture) -> nn.Module:
        try:
            return fresh_model(space, arch, problem.task, seed)
        except Exception as error:  # whatever the user's space raises
            raise UserError(f"the network {space.format(arch)} cannot be built: {summary(error)}.") from error

    def look(arch: Architecture) -> bool:
        """Whether the network has a parameter that is new or larger."""
        nonlocal sharing
        news = False
        for shared in shared_names(built(arch), kernels).values():
            key, parameter = shared.key, shared.parameter
            before = shapes.get(key, (0,) * parameter.ndim)
            shapes[key] = tuple(map(max, before, parameter.shape))
            sharing |= owner.setdefault(key, arch.picks) != arch.picks
            news |= shapes[key] != before
            if key not in largest_of or parameter.numel() > largest_of[key].parameter.numel():
                largest_of[key] = shared
        return news

    def size(arch: Architecture) -> float:
        return count_parameters(built(arch))

    smallest, largest = extremes(space, size, rng)
    look(smallest), look(largest)
    quiet = seen = 0
    while quiet < networks and seen < _AT_MOST:
        quiet = 0 if look(space.sample(rng)) else quiet + 1
        seen += 1
        if not sharing and seen >= networks:
            raise UserError(
                f"no two of {seen} networks of space {space.name!r} have a parameter at the same place, so there is "
                f"nothing to share; build networks whose modules have the same names."
            )
    generator = torch.Generator().manual_seed(seed)
    weights = SharedWeights({key: _filled(largest_of[key], shape, generator) for key, shape in sorted(shapes.items())})
    return SharedSupernet(
        space,
        problem,
        weights,
        smallest=smallest,
        largest=largest,
        kernels=kernels,
        seed=seed,
        calibration_inputs=calibration_inputs,
    )


def _filled(shared: Shared, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """First values in the shape of the largest: those of a network, and around them such as have the same spread."""
    fresh = shared.parameter.detach()
    if tuple(fresh.shape) == shape:
        return fresh.clone()
    spread = float(fresh.std()) if fresh.numel() > 1 else 0.0
    tensor = torch.randn(shape, generator=generator, dtype=fresh.dtype) * spread + fresh.mean()
    places = shared.positions(shape).take(torch.arange(tensor.numel()).view(shape))
    tensor.view(-1)[places.flatten()] = fresh.flatten()
    return tensor


def _described(space: SearchSpace) -> dict[str, Any]:
    """Name and decisions of a space, as JSON values."""
    decisions = [[decision.name, decision.options, decision.when] for decision in space.decisions]
    about: dict[str, Any] = json.loads(json.dumps({"name": space.name, "decisions": decisions}))
    return about


def load_shared(
    folder: Path, about: Mapping[str, Any], space: SearchSpace | None, problem: Problem | None
) -> SharedSupernet:
    """Read what `Supernet.save` wrote of shared weights, but for the weights.

    Args:
        folder: Folder of the supernet.
        about: Description of the supernet.
        space: Search space of the networks; None makes it again by its name.
        problem: Problem of the networks; None makes it again from its data.
    """
    if space is None:
        named = dict(about["space"])
        space = get_space(named.pop("name"), **named)
    if _described(space) != about["decisions"]:
        raise UserError(
            f"{folder} holds shared weights of another space than this {space.name!r}, with other decisions; use the "
            f"space and the options that they were trained with."
        )
    if problem is None:
        problem = problem_from(Origin(**about["origin"]), Task.from_json(about["task"]), folder)
    archs = {name: space.architecture(about[name]) for name in ("smallest", "largest")}
    return SharedSupernet(
        space,
        problem,
        SharedWeights({name: torch.zeros(shape) for name, shape in about["shapes"].items()}),
        kernels=about["kernels"],
        seed=int(about["seed"]),
        calibration_inputs=int(about["calibration_inputs"]),
        **archs,
    )
