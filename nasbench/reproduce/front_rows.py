"""Rows of a table of networks inside one trained network: by one elastic training, or by pruning several times."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from controllers import Outcome, get_controller
from nasbench.costs.compute import compute_by_operations
from nasbench.costs.cost import counts
from nasbench.models.build import Build
from nasbench.models.model import Model
from nasbench.models.workbench import Workbench
from nasbench.objectives.hypervolume import hypervolume
from nasbench.problems.image_classification import ImageClassification
from nasbench.reproduce.compression_rows import build_of, trained, workbench
from nasbench.reproduce.hypervolume_rows import check_multi_objective
from nasbench.reproduce.simulate import REPEATS, proposals
from nasbench.supernet.elastic import elastic
from nasbench.supernet.sampling import Sandwich
from nasbench.tables.protocols import ElasticFront
from nasbench_compression import get_step
from nasbench_registry import UserError, check_options, one_of
from search_spaces import Architecture

Vector = npt.NDArray[np.float64]
DENSE, CUT = "dense", "cut"
PRECISIONS = ("fp32", "int8")
SECONDS_EACH, ROUNDS = 0.3, 3
SECONDS_SCORED = 0.1  # of measuring a network that is a candidate, and the trained one in turn
BISECTIONS = 12
BETWEEN = 50  # networks by chance, whose mean multiply-adds count for those of the steps


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Training after the network was made elastic or cut.

    Attributes:
        epochs: Number of epochs, of the elastic network or of each pruned one.
        learning_rate: Learning rate.
        batch_size: Examples of a step; None is what the protocol's training says.
    """

    epochs: int
    learning_rate: float
    batch_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Elastic(Tuning):
    """Make the network elastic, train its networks together, and deploy the best ones of a sample.

    Attributes:
        widths: Shares of the channels that may be left, see `nasbench.supernet.elastic.elastic`.
        round_to: Number of which numbers of channels are multiples.
        depth: Whether residual blocks may be left out.
        controller: Controller of accuracy and latency that chooses the networks that are evaluated, and its
            options.
        scored: Number of networks of which the validation accuracy is computed, beside the largest and the smallest.
        examples: Number of validation examples for that.
        deployed: Largest number of networks on the front of validation accuracy and latency that are deployed.
        finetune_epochs: Number of epochs for which each of these is trained alone, beginning with the shared weights.
        finetune_learning_rate: Learning rate of that training.
    """

    widths: tuple[float, ...] = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
    round_to: int = 4
    depth: bool = True
    controller: Mapping[str, Any] = field(default_factory=lambda: {"name": "nsga2", "population": 40})
    scored: int = 200
    examples: int = 2000
    deployed: int = 12
    finetune_epochs: int = 0
    finetune_learning_rate: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Pruned(Tuning):
    """Prune the network to each ratio of its multiply-adds with the step `prune`, and fine-tune each result.

    Attributes:
        macs_ratios: Shares of the multiply-adds that are removed, as the step `prune` has them; with dropped blocks, of
            those of the network that is left.
        round_to: Number of which numbers of channels are multiples.
        dropped_blocks: Number of residual blocks that the step `drop_layers` leaves out first, for each ratio; None
            drops none.
    """

    macs_ratios: tuple[float, ...]
    round_to: int = 4
    dropped_blocks: tuple[int, ...] | None = None


class TorchPruning(Pruned):
    """The same with torch-pruning alone, as its documentation does: one ratio of channels for all layers."""


METHODS: dict[str, type[Tuning]] = {"elastic": Elastic, "pruned": Pruned, "torch_pruning": TorchPruning}


def front_of_networks_method(method: Mapping[str, Any]) -> Tuning:
    """The method of a row; UserError if its name or an option is not allowed."""
    kind = METHODS[one_of("method", str(method["name"]), METHODS)]
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in method.items() if key != "name"
    }
    check_options(kind, options, what=f"method {method['name']!r}")
    tuning = kind(**options)
    if isinstance(tuning, Elastic):
        check_multi_objective(str(tuning.controller.get("name")), _controller_options(tuning))
    if isinstance(tuning, Pruned) and tuning.dropped_blocks is not None:
        if isinstance(tuning, TorchPruning):
            raise UserError("method 'torch_pruning' has no dropped_blocks; leave them out, or take method 'pruned'.")
        if len(tuning.dropped_blocks) != len(tuning.macs_ratios):
            raise UserError(
                f"dropped_blocks={list(tuning.dropped_blocks)} of method 'pruned' must have a number for each of the "
                f"{len(tuning.macs_ratios)} macs_ratios; 0 drops none."
            )
    return tuning


@dataclass(frozen=True)
class Cut:
    """A network that is deployed.

    Attributes:
        network: Network.
        macs: Number of its multiply-adds.
    """

    network: nn.Module
    macs: float


def measure_front_of_networks(
    protocol: ElasticFront, method: Mapping[str, Any], seed: int, folder: Path | None
) -> dict[str, Any]:
    """The values that a column may show of a row, for one seed, and the deployed networks as `points`.

    All artefacts take turns with that of the trained network in fp32.

    Args:
        protocol: Protocol of the table.
        method: Name and options of the method.
        seed: Random seed of every random choice.
        folder: Folder in which an elastic training is stored after each epoch; None stores nothing.
    """
    tuning = front_of_networks_method(method)
    bench = workbench(protocol, seed)
    first = next(iter(protocol.networks))
    dense = trained(protocol, first, seed)
    fewer = _for_tuning(bench, protocol.tuning_images, tuning.batch_size)
    began = time.perf_counter()
    if isinstance(tuning, Elastic):
        cuts, macs_of_epochs = _elastic(tuning, dense, build_of(protocol, first), fewer, folder)
    elif isinstance(tuning, Pruned):
        cuts = _cuts(tuning, dense, fewer)
        macs_of_epochs = tuning.epochs * sum(cut.macs for cut in cuts)
    else:
        raise TypeError(f"{type(tuning).__name__} is no method of these rows")
    spent_s = time.perf_counter() - began
    images = len(_classification(fewer).data.train)
    points = _deployed(cuts, dense, bench)
    covered = {
        f"hypervolume_{precision}": covered_share(points, precision, protocol.floor_acc_pct) for precision in PRECISIONS
    }
    return covered | {
        "networks": float(len(cuts)),
        "best_test_acc_pct": max(point["fp32_test_acc_pct"] for point in points),
        "pfs_days": compute_by_operations(macs_of_epochs, images, 1).pfs_days,
        "seconds": spent_s,
        "points": points,
    }


def covered_share(points: Sequence[Mapping[str, float]], precision: str, floor_acc_pct: float) -> float:
    """The hypervolume of test accuracy above a floor and of saved latency, each as a share of what there could be.

    Args:
        points: Deployed networks, with `fp32_test_acc_pct` and `fp32_of_dense_latency`, or the same of int8.
        precision: Precision of the artefacts: "fp32" or "int8".
        floor_acc_pct: Test accuracy that is worth nothing, in percent.
    """
    shares = [
        (
            (point[f"{precision}_test_acc_pct"] - floor_acc_pct) / (100 - floor_acc_pct),
            1 - point[f"{precision}_of_dense_latency"],
        )
        for point in points
    ]
    return hypervolume(np.array(shares))


def accuracy_over_latency(points: Sequence[Mapping[str, float]], precision: str, grid: Vector) -> Vector:
    """The best test accuracy at each latency of a grid, as shares of that of the trained network; NaN where none is."""
    best = [
        max((p[f"{precision}_test_acc_pct"] for p in points if p[f"{precision}_of_dense_latency"] <= x), default=np.nan)
        for x in grid
    ]
    return np.array(best, dtype=np.float64)


def _classification(bench: Workbench) -> ImageClassification:
    if not isinstance(bench.problem, ImageClassification):
        raise TypeError("the workbench of a protocol has a problem of image classification")
    return bench.problem


def _for_tuning(bench: Workbench, count: int | None, batch_size: int | None) -> Workbench:
    """The same with so many training images, whose normalization stays that of all, and another batch size."""
    problem = _classification(bench)
    data = dataclasses.replace(problem.data, train=problem.data.train.some(count, 0))
    training = problem.training.model_copy(update={"batch_size": batch_size or problem.training.batch_size})
    return dataclasses.replace(bench, problem=dataclasses.replace(problem, data=data, training=training))


def _elastic(
    method: Elastic, dense: nn.Module, build: Build, bench: Workbench, folder: Path | None
) -> tuple[list[Cut], float]:
    """The networks on the front of the sample, and the multiply-adds of all epochs of the training for an image."""
    problem, task = _classification(bench), bench.task
    supernet = elastic(
        Model(dense, task, build=build, problem=problem),
        problem,
        widths=method.widths,
        round_to=method.round_to,
        depth=method.depth,
        seed=bench.seed,
    )
    supernet.train(epochs=method.epochs, seed=bench.seed, learning_rate=method.learning_rate, folder=folder)
    assert bench.device is not None, "the bench was made with one"
    judge, device, compiled = problem.fewer(method.examples, 0), bench.device, bench.device.compile(dense, task)
    scored: dict[Architecture, tuple[float, float]] = {}

    def evaluated(arch: Architecture) -> tuple[float, float]:
        """Validation accuracy, and latency in fp32 as a multiple of the trained network's."""
        if arch not in scored:
            network = supernet.network(arch)
            turns = device.compare({DENSE: compiled, CUT: device.compile(network, task)}, task, SECONDS_SCORED)
            scored[arch] = judge.score(network, "val")["val_acc_pct"], turns.ratios[CUT].ratio
        return scored[arch]

    def macs(arch: Architecture) -> float:
        return counts(supernet.untrained(arch, bench.seed), task).macs

    ends = supernet.largest, supernet.smallest
    for arch in ends:
        evaluated(arch)
    name = str(method.controller["name"])
    controller = get_controller(name, supernet.space, seed=bench.seed, **_controller_options(method))
    for proposal in proposals(controller, name, REPEATS * method.scored):
        accuracy, latency = evaluated(supernet.space.canonical(proposal.arch))
        controller.tell(Outcome(proposal, (accuracy, -latency)))
        if len(scored) == method.scored + len(ends):
            break
    between = float(np.mean([macs(arch) for arch in supernet.sample(BETWEEN, bench.seed)]))
    front = _front([(accuracy, latency, arch) for arch, (accuracy, latency) in scored.items()])
    kept = front if len(front) <= method.deployed else _spread(front, method.deployed)
    cuts = [Cut(supernet.network(arch), macs(arch)) for _, _, arch in kept]
    macs_of_epochs = method.epochs * (sum(map(macs, ends)) + Sandwich.between * between)
    if method.finetune_epochs:
        for cut in cuts:
            bench.finetune(cut.network, epochs=method.finetune_epochs, learning_rate=method.finetune_learning_rate)
            cut.network.eval()
        macs_of_epochs += method.finetune_epochs * sum(cut.macs for cut in cuts)
    return cuts, macs_of_epochs


def _controller_options(method: Elastic) -> dict[str, Any]:
    return {key: value for key, value in method.controller.items() if key != "name"}


def _front(scored: Sequence[tuple[float, float, Any]]) -> list[tuple[float, float, Any]]:
    """What no other has at least the accuracy of with a smaller cost, from small to large.

    Args:
        scored: Accuracy, cost and name of each.
    """
    front: list[tuple[float, float, Any]] = []
    for entry in sorted(scored, key=lambda entry: (entry[1], -entry[0])):
        if not front or entry[0] > front[-1][0]:
            front.append(entry)
    return front


def _spread(front: Sequence[Any], count: int) -> list[Any]:
    """So many of a front, at equal distances along it, both ends included."""
    return [front[place] for place in np.linspace(0, len(front) - 1, count).round().astype(int).tolist()]


def _cuts(method: Pruned, dense: nn.Module, bench: Workbench) -> list[Cut]:
    """The pruned and fine-tuned networks."""
    cuts = []
    dropped = method.dropped_blocks or (0,) * len(method.macs_ratios)
    for ratio, blocks in zip(method.macs_ratios, dropped, strict=True):
        if isinstance(method, TorchPruning):
            network = by_torch_pruning(dense, bench.calibration()[:1], ratio, method.round_to)
        else:
            steps = [get_step("drop_layers", count=blocks)] if blocks else []
            network = dense
            for step in [*steps, get_step("prune", macs_ratio=ratio, round_to=method.round_to, epochs=0)]:
                pruned = step.apply(network, bench.context())[0]
                assert isinstance(pruned, nn.Module), "a pruned network is a network"
                network = pruned
        bench.finetune(network, epochs=method.epochs, learning_rate=method.learning_rate)
        cuts.append(Cut(network.eval(), counts(network, bench.task).macs))
    return cuts


def by_torch_pruning(network: nn.Module, image: torch.Tensor, macs_ratio: float, round_to: int) -> nn.Module:
    """Prune with torch-pruning alone, as near to a ratio of the multiply-adds as one ratio of channels comes.

    That ratio is found by halving.

    Args:
        network: Network, which is not changed.
        image: One input.
        macs_ratio: Share of the multiply-adds that is removed.
        round_to: Number of which numbers of channels are multiples.
    """
    import torch_pruning

    from nasbench_compression.macs import count_macs

    whole = count_macs(network, image)
    outputs = network(image).shape[1]
    low, high = 0.0, 1.0
    nearest, distance = network, float("inf")
    for _ in range(BISECTIONS):
        ratio = (low + high) / 2
        cut = copy.deepcopy(network)
        last = [module for module in cut.modules() if isinstance(module, nn.Linear) and module.out_features == outputs]
        torch_pruning.pruner.BasePruner(
            cut,
            image,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=last,
            round_to=round_to,
        ).step()
        removed = 1 - count_macs(cut, image) / whole
        if abs(removed - macs_ratio) < distance:
            nearest, distance = cut, abs(removed - macs_ratio)
        low, high = (ratio, high) if removed < macs_ratio else (low, ratio)
    return nearest


def _deployed(cuts: Sequence[Cut], dense: nn.Module, bench: Workbench) -> list[dict[str, float]]:
    """Test accuracy and latency of every network in both precisions; latency as a multiple of the trained network's."""
    assert bench.device is not None, "the bench was made with one"
    artefacts = {DENSE: bench.device.compile(dense, bench.task)}
    for place, cut in enumerate(cuts):
        for precision in PRECISIONS:
            artefacts[f"{precision} {place}"] = bench.device.compile(
                cut.network, bench.task, precision, bench.calibration()
            )
    comparison = bench.device.compare(artefacts, bench.task, SECONDS_EACH, rounds=ROUNDS)
    points = []
    for place, cut in enumerate(cuts):
        point = {"macs": cut.macs}
        for precision in PRECISIONS:
            name = f"{precision} {place}"
            point[f"{precision}_test_acc_pct"] = bench.problem.score(artefacts[name], "test")["test_acc_pct"]
            point[f"{precision}_of_dense_latency"] = comparison.ratios[name].ratio
            point[f"{precision}_bytes"] = float(artefacts[name].bytes)
        points.append(point)
    return points
