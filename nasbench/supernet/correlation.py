"""Whether shared weights rank networks as training alone does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasbench.objectives.statistics import bootstrap_interval, bootstrap_rows, rank_correlation, rank_correlations
from nasbench.storage.files import write_json
from nasbench.supernet.supernet import Supernet
from nasbench_registry import UserError

ENOUGH = 0.5
"""Rank correlation below which shared weights say too little of networks trained alone."""


@dataclass(frozen=True)
class Agreement:
    """How networks rank with shared weights, and trained alone.

    Attributes:
        quality: Metric of validation examples.
        epochs: Epochs that each network was trained for alone.
        architectures: Architectures in the notation of the space.
        shared: (n,) quality with the shared weights.
        alone: (n,) quality after training alone.
        spearman: Rank correlation of the two; NaN, as its interval, where all values of one are equal.
        interval: 95 % interval of the correlation, by bootstrap over networks.
    """

    quality: str
    epochs: int
    architectures: list[str]
    shared: list[float]
    alone: list[float]
    spearman: float
    interval: tuple[float, float]

    @property
    def sentence(self) -> str:
        """The consequence for a search with the shared weights."""
        low, high = self.interval
        if not math.isfinite(low):
            return f"All of {len(self.shared)} networks do equally well, which says nothing of their ranks."
        figures = (
            f"The rank correlation (Spearman) of {len(self.shared)} networks with shared weights and trained alone for "
            f"{self.epochs} epochs is {self.spearman:.2f} (95 % interval {low:.2f} to {high:.2f})"
        )
        if not high >= ENOUGH:
            return f"{figures}: too low to trust the ranking; train the supernet longer, or networks alone."
        if not low >= ENOUGH:
            return f"{figures}: it is not certain that the ranking can be trusted, so train several of the best alone."
        return f"{figures}."

    def to_json(self) -> dict[str, Any]:
        """All fields, and the sentence."""
        is_defined = math.isfinite(self.spearman)
        figures = {"spearman": self.spearman, "interval": list(self.interval)} if is_defined else {}
        return {**self.__dict__, "spearman": None, "interval": None, **figures, "sentence": self.sentence}


def agreement(
    supernet: Supernet,
    *,
    networks: int = 24,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    file: Path | None = None,
    on_network: Callable[[int], None] | None = None,
) -> Agreement:
    """Train a sample of the networks alone, and compare their ranks with those of shared weights.

    Args:
        supernet: Trained supernet.
        networks: Number of networks, of different architectures.
        epochs: Epochs of training alone; None is that of the problem's training.
        seed: Random seed of the sample and of the trainings.
        device: Where the networks are trained: cpu or cuda.
        file: File that keeps what was trained, so that it goes on if it was interrupted; None keeps nothing.
        on_network: Called with the number of networks that are done.

    Raises:
        UserError: Fewer than three networks.
    """
    archs = supernet.sample(networks, seed)
    if len(archs) < 3:
        raise UserError(f"a rank correlation of {len(archs)} networks says nothing; take at least 3.")
    problem = supernet.problem
    length = problem.training.epochs if epochs is None else epochs
    trained_alone: dict[str, float] = {}
    if file is not None and file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        trained_alone = stored["alone"] if stored["epochs"] == length and stored["seed"] == seed else {}
    shared, alone = [], []
    for number, arch in enumerate(archs, start=1):
        text = supernet.space.format(arch)
        if text not in trained_alone:
            network = supernet.untrained(arch, seed)
            problem.fit(network, epochs=length, seed=seed, device=device)
            trained_alone[text] = problem.score_on(device, network)[problem.quality]
            if file is not None:
                write_json(file, {"epochs": length, "seed": seed, "alone": trained_alone})
        alone.append(trained_alone[text])
        shared.append(supernet.score(arch)[problem.quality])
        if on_network is not None:
            on_network(number)
    shared_values, alone_values = np.array(shared), np.array(alone)
    rows = bootstrap_rows(len(archs))
    spearman = rank_correlation(shared_values, alone_values)
    unknown = (math.nan, math.nan)
    return Agreement(
        problem.quality,
        length,
        list(map(supernet.space.format, archs)),
        shared,
        alone,
        spearman,
        bootstrap_interval(rank_correlations(shared_values[rows], alone_values[rows]))
        if math.isfinite(spearman)
        else unknown,
    )
