"""Elastic networks: a trained network becomes a supernet of all that is inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nasbench.models.build import Build, FunctionBuild, inferred_build
from nasbench.models.model import Model, Noted
from nasbench.models.origin import origin_of
from nasbench.models.outside import check_fits
from nasbench.models.store import load_model, save_model
from nasbench.models.workbench import Workbench
from nasbench.problems.problem import Problem
from nasbench.supernet.elastic_space import KEPT, LEFT_OUT, RESOLUTION, ElasticSpace, elastic_decisions
from nasbench.supernet.resolution import AtResolution
from nasbench.supernet.subnetwork import SubnetworkStep
from nasbench.supernet.supernet import Supernet
from nasbench.supernet.weights import Member, SharedWeights, Source
from nasbench_compression.copying import copy_network
from nasbench_compression.pruning.layers import drop_block
from nasbench_compression.pruning.shapes import changed_shapes
from nasbench_compression.subnetworks import Divisible
from nasbench_registry import UserError
from search_spaces import Architecture, Task

BASE = "whole"
"""Folder of the network that a stored elastic one was made of."""


class ElasticSupernet(Supernet):
    """The weights of a trained network, shared by all networks inside it; made by `elastic`.

    Attributes:
        divisible: Channels and blocks that may be missing.
        whole: Trained network as it was, as a model.
    """

    kind: ClassVar[str] = "elastic"
    sampling: ClassVar[str] = "sandwich"
    space: ElasticSpace

    def __init__(
        self,
        whole: Model,
        problem: Problem,
        divisible: Divisible,
        space: ElasticSpace,
        options: Mapping[str, Any],
        calibration_inputs: int = 512,
    ) -> None:
        sizes = [len(decision.options) for decision in space.decisions]
        super().__init__(
            space,
            problem,
            SharedWeights(dict(divisible.model.named_parameters())),
            smallest=Architecture(space.name, (0,) * len(sizes)),
            largest=Architecture(space.name, tuple(size - 1 for size in sizes)),
            calibration_inputs=calibration_inputs,
        )
        self.whole, self.divisible, self.options = whole, divisible, dict(options)
        space.supernet = self

    @property
    def left_out(self) -> Mapping[str, str]:
        """Layers and blocks that every network has whole, each with the reason."""
        return self.divisible.left_out

    def choices(self, arch: Architecture) -> tuple[dict[str, int], list[str], int | None]:
        """Channels that are left, blocks that are left out, and the resolution if it is not that of the data."""
        chosen = self.space.choices(arch)
        resolution = chosen.pop(RESOLUTION, None)
        dropped = [name for name, option in chosen.items() if option == LEFT_OUT]
        widths = {name: option for name, option in chosen.items() if option not in (LEFT_OUT, KEPT)}
        side = self.problem.task.input_shape[-1] if resolution is not None else None
        return widths, dropped, None if resolution == side else resolution

    def make_member(self, arch: Architecture) -> Member:
        """See `Supernet.make_member`."""
        widths, dropped, resolution = self.choices(arch)
        part = self.divisible.subnetwork(widths, dropped)
        trained = dict(part.network.named_parameters())
        sources = {name: Source(name, places) for name, places in part.positions.items() if name in trained}
        if resolution is None:
            return Member(part.network, sources)
        inside = {f"{AtResolution.INSIDE}.{name}": source for name, source in sources.items()}
        return Member(AtResolution(part.network, resolution), inside)

    def stored_as(self, arch: Architecture) -> tuple[Build, list[Noted]]:
        """The code that builds the whole network, and what is cut of it; see `Supernet.stored_as`."""
        widths, dropped, resolution = self.choices(arch)
        cut = self.divisible.subnetwork(widths, dropped).network
        whole = copy_network(self.divisible.model)
        for name in dropped:
            drop_block(whole, name)
        step = SubnetworkStep(widths=widths, left_out=tuple(dropped), resolution=resolution)
        note = {"shapes": changed_shapes(whole, cut), "left_out": dropped, "resolution": resolution}
        return self._build, [*self.whole.steps, (step, note)]

    @property
    def _build(self) -> Build:
        return self.whole.build or inferred_build(self.divisible.model)

    def untrained(self, arch: Architecture, seed: int) -> nn.Module:
        """The network cut from the trained one, as the shared weights began; see `Supernet.untrained`."""
        widths, dropped, resolution = self.choices(arch)
        cut = self.divisible.subnetwork(widths, dropped).network
        return cut if resolution is None else AtResolution(cut, resolution)

    def describe(self, folder: Path) -> dict[str, Any]:
        """See `Supernet.describe`."""
        save_model(
            folder / BASE,
            self.divisible.model,
            build=self._build,
            task=self.problem.task,
            steps=self.whole.steps,
            origin=origin_of(self.problem),
        )
        scores = {
            group.layer: values.tolist()
            for group, values in zip(self.divisible.groups, self.divisible.scores, strict=True)
        }
        return {"options": self.options, "scores": scores}


def elastic(
    model: nn.Module | Model,
    problem: Problem,
    *,
    widths: Sequence[float] = (0.5, 0.75, 1.0),
    round_to: int | None = None,
    depth: bool = True,
    resolutions: Sequence[int] = (),
    importance: str = "l2",
    heads: bool = True,
    exclude: Sequence[str] = (),
    calibration_inputs: int = 512,
    seed: int = 0,
    build: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> ElasticSupernet:
    """Make a trained network elastic: the networks inside it share its weights, and are trained together by `train`.

    Widths are those of the groups of coupled channels and attention heads that `Prune` removes, sorted by importance
    once; depth are the residual blocks that `DropLayers` removes. As in BigNAS (Yu et al., ECCV 2020,
    arXiv:2003.11142), narrower networks are leading parts of wider ones.

    Args:
        model: Trained network, of any library, or a model; it is not changed.
        problem: Problem of the network.
        widths: Shares of the channels of a group that may be left, above 0 and at most 1; 1 is always one of them.
        round_to: Number of which numbers of channels are multiples.
        depth: Whether residual blocks may be left out.
        resolutions: Sides in pixels that square images may be resized to inside the network, in place of their own.
        importance: Importance of channels, see `Prune`.
        heads: Whether attention heads may be left out.
        exclude: Names of modules, or patterns of names, whose layers keep their channels.
        calibration_inputs: Number of training inputs for batch norms, see `Supernet`.
        seed: Random seed of the search for groups.
        build: Function ``module:function`` that makes the network, for storing it; see `nasbench.save`.
        options: Options of `build`.

    Raises:
        UserError: The network has no channels and no blocks that may be missing, does not fit the problem, or an option
            is out of range.
    """
    shares = sorted({*map(float, widths), 1.0})
    if shares[0] <= 0 or shares[-1] > 1:
        raise UserError(f"widths are {list(widths)}; give shares of the channels above 0 and at most 1.")
    if round_to is not None and round_to < 1:
        raise UserError(f"round_to is {round_to}; give a number of channels from 1.")
    whole = model if isinstance(model, Model) else Model(model, problem.task)
    if build is not None:
        function_build: Build = FunctionBuild(build, dict(options or {}))
        whole = Model(whole.network, problem.task, build=function_build, steps=whole.steps, problem=problem)
    network = whole.network
    if network is None:
        raise UserError("a compiled artefact cannot be made elastic; give the network that it was compiled from.")
    if not isinstance(model, Model):
        check_fits(network, problem, f"the {type(network).__name__}")
    sides = _sides(resolutions, problem.task, network)
    chosen = {
        "widths": shares,
        "round_to": round_to,
        "depth": depth,
        "resolutions": sides,
        "importance": importance,
        "heads": heads,
        "exclude": list(exclude),
        "seed": seed,
    }
    return _elastic(whole, problem, chosen, calibration_inputs, None)


def _elastic(
    whole: Model,
    problem: Problem,
    chosen: Mapping[str, Any],
    calibration_inputs: int,
    scores: Mapping[str, Sequence[float]] | None,
) -> ElasticSupernet:
    assert whole.network is not None, "who calls has checked it"
    network = copy_network(whole.network).cpu().eval()
    divisible = Divisible.of(
        network,
        Workbench(problem, int(chosen["seed"])).context(),
        importance=chosen["importance"],
        heads=bool(chosen["heads"]),
        exclude=tuple(chosen["exclude"]),
        scores=scores,
    )
    decisions = elastic_decisions(
        divisible, chosen["widths"], chosen["round_to"], bool(chosen["depth"]), chosen["resolutions"]
    )
    if not decisions:
        raise UserError(
            f"widths {chosen['widths']}, depth {chosen['depth']} and round_to {chosen['round_to']} leave nothing to "
            f"choose in this network; give more widths, or a smaller round_to."
        )
    space = ElasticSpace.with_decisions(decisions)
    return ElasticSupernet(whole, problem, divisible, space, chosen, calibration_inputs)


def _sides(resolutions: Sequence[int], task: Task, network: nn.Module) -> list[int]:
    """The resolutions, with that of the data; UserError if the network does not run on one of them."""
    if not resolutions:
        return []
    shape = task.input_shape
    if len(shape) != 3 or shape[1] != shape[2]:
        raise UserError(f"resolutions are those of square images, and this network takes {shape}; leave them out.")
    sides = sorted({*map(int, resolutions), shape[-1]})
    for side in sides:
        if not 0 < side <= shape[-1]:
            raise UserError(f"resolution {side} is not from 1 to {shape[-1]}, the side of the images.")
        try:
            with torch.no_grad():
                AtResolution(copy_network(network).cpu().eval(), side)(torch.zeros(2, *shape))
        except Exception as error:  # whatever the user's network raises
            words = " ".join(str(error).split())[:200]
            raise UserError(f"this network does not run on images of {side} x {side} pixels ({words}).") from error
    return sides


def load_elastic(folder: Path, about: Mapping[str, Any], problem: Problem) -> ElasticSupernet:
    """Read what `Supernet.save` wrote of an elastic network."""
    stored = load_model(folder / BASE)
    whole = Model(
        stored.model, stored.task, build=stored.build, steps=stored.steps, problem=problem, origin=stored.origin
    )
    return _elastic(whole, problem, about["options"], int(about["calibration_inputs"]), about["scores"])
