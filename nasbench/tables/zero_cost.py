"""Thirteen zero-cost proxies of cells of NAS-Bench-201, as published (Krishnakumar et al. 2022, arXiv 2210.03230).

Of the 9,445 cells without an operation that nothing comes from or goes to, on images of CIFAR-10 and of ImageNet16-120.
"""

from __future__ import annotations

import ast
import csv
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasbench.data.folders import data_folders
from nasbench.tables.hw_nasbench import architecture_of, unpacked
from nasbench_registry import UserError, one_of
from search_spaces import Architecture, SearchSpace

Vector = npt.NDArray[np.float64]

FOLDER = "zero_cost"
FILES = {"cifar10": "nb201_zc_proxies.csv", "imagenet16_120": "nb201_ImageNet16-120_zc_proxies.csv"}
CONTENT_SHA256 = {  # of the text inside
    "nb201_zc_proxies.csv": "d5bb98f98fef9f8fc03c6fb4776e50d7cfa901b05e9023e594e527f861ec309e",
    "nb201_ImageNet16-120_zc_proxies.csv": "b9c075045d3cef79067fa2f13568428a429ddf3d17f55bb704b3f92706e17739",
}
OUR_NAMES = {"flops": "macs", "nwot": "naswot"}
"""Names of ours where the files have others."""


@dataclass(frozen=True)
class PublishedProxies:
    """Scores of cells.

    Attributes:
        architectures: Architectures of all rows.
        scores: (n,) scores by our name of the proxy, larger is better.
    """

    architectures: tuple[Architecture, ...]
    scores: Mapping[str, Vector]


@functools.lru_cache(maxsize=len(FILES))
def load_published_proxies(dataset: str) -> PublishedProxies:
    """The scores on the images of a data set; kept in memory.

    Raises:
        UserError: There are none of this data set, or the file is not at hand or not what was published.
    """
    name = FILES[one_of("data set with published proxies", dataset, FILES)]
    places = [folder / FOLDER / f"{name}.gz" for folder in data_folders()]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"table 'zero_cost' was not found as {' or '.join(map(str, places))}; run: nasbench data fetch zero_cost."
        )
    rows = list(csv.DictReader(io.StringIO(unpacked(path, CONTENT_SHA256[name]).decode("ascii"))))
    names = [field for field in rows[0] if field not in ("net", "net_str")]
    return PublishedProxies(
        tuple(architecture_of(ast.literal_eval(row["net"])) for row in rows),
        {OUR_NAMES.get(field, field): np.array([float(row[field]) for row in rows]) for field in names},
    )


def published_features(
    dataset: str, names: Sequence[str], space: SearchSpace
) -> Callable[[Sequence[Architecture]], npt.NDArray[np.float64]]:
    """A function that gives the published scores of n cells as ranks from 0 to 1: (n, proxies).

    A cell that was not scored has those of one that computes the same: without the operations that nothing comes from
    or goes to, and then as `canonical` has it. Every cell has such a one.

    Args:
        dataset: Data set of the scores; those on CIFAR-10 stand for CIFAR-100.
        names: Names of the proxies.
        space: Search space of the cells.
    """
    from scipy.stats import rankdata  # a listing of tables does without

    published = load_published_proxies("cifar10" if dataset == "cifar100" else dataset)
    for name in names:
        one_of("published zero-cost proxy", name, published.scores)
    ranks = np.stack([rankdata(published.scores[name]) / len(published.architectures) for name in names], axis=1)
    by_cell = {space.canonical(arch): row for arch, row in zip(published.architectures, ranks, strict=True)}

    def features(archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        rows = [by_cell[space.canonical(_on_paths(arch))] for arch in archs]
        return np.array(rows, dtype=np.float64).reshape(len(archs), len(names))

    return features


def _on_paths(arch: Architecture) -> Architecture:
    """The cell without the operations that lie on no path from its input to its output."""
    from search_spaces.nasbench201 import EDGES, OPERATIONS  # which imports torch, see `architecture_of`

    none = OPERATIONS.index("none")
    edges = [edge for edge, pick in zip(EDGES, arch.picks, strict=True) if pick != none]  # in the order of their nodes
    reached, needed = {0}, {3}
    for node, source in edges:
        reached |= {node} if source in reached else set()
    for node, source in reversed(edges):
        needed |= {source} if node in needed else set()
    picks = [
        pick if source in reached and node in needed else none
        for (node, source), pick in zip(EDGES, arch.picks, strict=True)
    ]
    return Architecture(arch.space, tuple(picks))


def best_published(
    dataset: str, names: Sequence[str], space: SearchSpace, *, sample: int, best: int, seed: int
) -> list[Architecture]:
    """The best different networks of a sample of all cells, by the sum of the logarithms of their published ranks."""
    drawn_rng = np.random.default_rng(seed)
    drawn = list(dict.fromkeys(space.canonical(space.sample(drawn_rng)) for _ in range(sample)))
    columns = published_features(dataset, names, space)(drawn)
    from scipy.stats import rankdata

    total = np.log(np.stack([rankdata(column) for column in columns.T]) / len(drawn)).sum(axis=0)
    return [drawn[place] for place in np.argsort(-total, kind="stable")[:best].tolist()]
