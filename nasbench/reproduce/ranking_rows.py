"""Rows of a table of rank correlations: how shared weights rank networks that are trained alone, too."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from nasbench.models.model import Model
from nasbench.objectives.statistics import bootstrap_interval, bootstrap_rows, rank_correlation, rank_correlations
from nasbench.reproduce.compression_rows import build_of, trained
from nasbench.reproduce.one_shot_rows import problem_of
from nasbench.storage.files import content_key
from nasbench.supernet.correlation import agreement
from nasbench.supernet.elastic import elastic
from nasbench.supernet.sampling import SAMPLINGS
from nasbench.supernet.shared import KERNELS, Kernels, share
from nasbench.supernet.supernet import Supernet
from nasbench.tables.protocols import SharedRanking, TrainedNetworks
from nasbench.tables.registry import TABLES, load_table
from nasbench_registry import UserError, check_options, one_of
from search_spaces import get_space

NETWORK = "network"  # the name of the trained network where it is kept
READ_EPOCHS = 200
SHARED_ONLY = ("epochs", "learning_rate", "sampling")  # options that training alone has nothing to do with
ALONE = "alone"  # folder of what training alone gave, which rows share


@dataclass(frozen=True, kw_only=True)
class SharedTraining:
    """A training of shared weights, and the networks whose ranks are compared.

    Attributes:
        space: Name and options of the space.
        epochs: Number of epochs of the shared weights.
        learning_rate: Learning rate of the shared weights; None is that of the training section.
        training: Keys of the training section, of the shared weights and of networks trained alone, that differ from
            those of the protocol.
        alone_epochs: Number of epochs for which each network is trained alone.
        networks: Number of networks that are compared.
    """

    space: dict[str, Any]
    epochs: int
    learning_rate: float | None = None
    training: dict[str, Any] = field(default_factory=dict)
    alone_epochs: int | None = None
    networks: int = 24


@dataclass(frozen=True, kw_only=True)
class ElasticRanks(SharedTraining):
    """Train a network, make it elastic, and train networks inside it together, and each alone from the same start.

    Attributes:
        network: Architecture of the network, in the notation of the space.
        tuning_images: Number of training images after the first training; None is all.
        widths: Shares of the channels that may be left, see `nasbench.supernet.elastic.elastic`.
        round_to: Number of which numbers of channels are multiples.
        depth: Whether residual blocks may be left out.
    """

    network: str
    alone_epochs: int
    tuning_images: int | None = None
    widths: tuple[float, ...] = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
    round_to: int = 4
    depth: bool = True


@dataclass(frozen=True, kw_only=True)
class SharedRanks(SharedTraining):
    """Train shared weights of a space; networks alone begin with random weights, or are looked up in a benchmark.

    Attributes:
        sampling: Sampling of the networks of a training step, see `nasbench.supernet.sampling`.
        kernels: Kernels of several sizes: "shared" or "separate".
        benchmark: Table of trained networks, in place of `alone_epochs`: test accuracies after 200 epochs.
        dataset: Data set of the table.
    """

    sampling: str = "uniform"
    kernels: Kernels = "shared"
    benchmark: str | None = None
    dataset: str = "cifar10"


METHODS: dict[str, type[SharedTraining]] = {"elastic": ElasticRanks, "shared": SharedRanks}


def ranking_method(method: Mapping[str, Any]) -> ElasticRanks | SharedRanks:
    """The method of a row; UserError if a name or an option is not allowed, or the data of a benchmark are missing."""
    kind = METHODS[one_of("method", str(method["name"]), METHODS)]
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in method.items() if key != "name"
    }
    check_options(kind, options, what=f"method {method['name']!r}")
    ranks = kind(**options)
    space = get_space(**ranks.space)
    if ranks.networks < 3:
        raise UserError(f"networks is {ranks.networks}; a rank correlation needs at least 3.")
    if isinstance(ranks, ElasticRanks):
        space.parse(ranks.network)
        return ranks
    assert isinstance(ranks, SharedRanks), "there are two methods"
    one_of("sampling", ranks.sampling, SAMPLINGS)
    one_of("kernels", ranks.kernels, KERNELS)
    if (ranks.benchmark is None) == (ranks.alone_epochs is None):
        raise UserError(
            f"method {method['name']!r} needs either alone_epochs, for training each network alone, or a benchmark."
        )
    if ranks.benchmark is not None:
        table = load_table(one_of("benchmark", ranks.benchmark, TABLES))
        if table.space.name != space.name:
            raise UserError(f"benchmark {ranks.benchmark!r} holds no networks of space {space.name!r}.")
    return ranks


def measure_ranking(
    protocol: SharedRanking, method: Mapping[str, Any], seed: int, folder: Path | None
) -> dict[str, Any]:
    """The values that a column may show of a row, for one seed, and the accuracies of each network.

    Args:
        protocol: Protocol of the table.
        method: Name and options of the method.
        seed: Random seed of every random choice.
        folder: Folder in which trainings are stored, to go on from there; None stores nothing.
    """
    ranks, began = ranking_method(method), time.perf_counter()
    supernet = _elastic(protocol, ranks, seed) if isinstance(ranks, ElasticRanks) else _shared(protocol, ranks, seed)
    supernet.train(
        epochs=ranks.epochs,
        seed=seed,
        sampling=ranks.sampling if isinstance(ranks, SharedRanks) else None,
        learning_rate=ranks.learning_rate,
        folder=folder,
    )
    seconds = time.perf_counter() - began
    if isinstance(ranks, SharedRanks) and ranks.benchmark is not None:
        table, archs = load_table(ranks.benchmark), supernet.sample(ranks.networks, seed)
        names = [supernet.space.format(arch) for arch in archs]
        shared = [supernet.score(arch)["val_acc_pct"] for arch in archs]
        alone = [table.query(arch, dataset=ranks.dataset, split="test", epochs=READ_EPOCHS) for arch in archs]
    else:
        file = None if folder is None else _file(protocol, ranks, seed, folder.parent)
        compared = agreement(supernet, networks=ranks.networks, epochs=ranks.alone_epochs, seed=seed, file=file)
        names, shared, alone = compared.architectures, compared.shared, compared.alone
    return correlations(shared, alone) | {
        "shared_acc_pct": float(np.mean(shared)),
        "alone_acc_pct": float(np.mean(alone)),
        "seconds": seconds,
        "networks": [list(network) for network in zip(names, shared, alone, strict=True)],
    }


def _file(protocol: SharedRanking, ranks: SharedTraining, seed: int, folder: Path) -> Path:
    """The file of the accuracies alone: the same for all rows that differ in how the shared weights are trained."""
    facts = {name: value for name, value in dataclasses.asdict(ranks).items() if name not in SHARED_ONLY}
    shown = protocol.model_dump(mode="json", exclude={"text"})
    (folder / ALONE).mkdir(parents=True, exist_ok=True)
    return folder / ALONE / f"{content_key({'protocol': shown, 'method': facts, 'seed': seed})}.json"


def correlations(shared: Sequence[float], alone: Sequence[float]) -> dict[str, float]:
    """Rank correlations of two accuracies of the same networks, with an interval by bootstrap over networks.

    Args:
        shared: (n,) accuracies with shared weights.
        alone: (n,) accuracies after training alone.

    Raises:
        UserError: All networks are equally accurate in one of the two, which has no ranks.
    """
    first, second = np.array(shared), np.array(alone)
    spearman = rank_correlation(first, second)
    if np.isnan(spearman):
        raise UserError("all networks have the same accuracy with shared weights or alone; train longer.")
    rows = bootstrap_rows(len(first))
    low, high = bootstrap_interval(rank_correlations(first[rows], second[rows]))
    kendall = float(stats.kendalltau(first, second).statistic)
    return {"spearman": spearman, "spearman_low": low, "spearman_high": high, "kendall": kendall}


def _elastic(protocol: SharedRanking, ranks: ElasticRanks, seed: int) -> Supernet:
    first = TrainedNetworks(
        data=protocol.data, space=ranks.space, networks={NETWORK: ranks.network}, training=protocol.training, text=""
    )
    dense, problem = trained(first, NETWORK, seed), problem_of(protocol, ranks.training)
    data = dataclasses.replace(problem.data, train=problem.data.train.some(ranks.tuning_images, 0))
    problem = dataclasses.replace(problem, data=data)
    return elastic(
        Model(dense, problem.task, build=build_of(first, NETWORK), problem=problem),
        problem,
        widths=ranks.widths,
        round_to=ranks.round_to,
        depth=ranks.depth,
        seed=seed,
    )


def _shared(protocol: SharedRanking, ranks: SharedTraining, seed: int) -> Supernet:
    assert isinstance(ranks, SharedRanks), "there are two methods"
    return share(get_space(**ranks.space), problem_of(protocol, ranks.training), kernels=ranks.kernels, seed=seed)
