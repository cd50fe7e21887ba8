"""BOHB: Hyperband whose new architectures come from a model of good and bad ones (Falkner et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from controllers.core import Outcome
from controllers.hyperband import Hyperband, Promotion
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class BOHB(Hyperband):
    """Brackets of Hyperband, filled by a density model as in TPE (Bergstra et al. 2011).

    Outcomes at one number of epochs are split into good and bad; each half is a kernel density over the decisions.
    A new architecture is the one of `num_samples` draws around the good ones with the largest ratio of the densities.
    The model of the most epochs that has enough outcomes is used; before there is one, and for a share of the draws,
    architectures are random. Failed ones count as the worst.

    Kernels are those of the authors' code (HpBandSter): for an unordered decision of c options, Aitchison & Aitken's,
    1 - h on the option itself and h / (c - 1) on each other one, with h = 1.06 * std * n^(-1 / (4 + d)), the standard
    deviation being that of the option's number; a decision that does not matter in an architecture takes the option
    that it has in another one of the same half.

    Deviations from that code: h ends at (c - 1) / c, where the kernel is uniform (there it may pass 1, and densities
    become negative); c counts all options, not those that occur; draws that are no architecture of the space are
    dropped; each decision that does not matter is filled in by itself; brackets have the paper's sizes. Architectures
    whose outcomes come without being asked for join the model.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        min_epochs: Fewest epochs of a rung, at least.
        max_epochs: Epochs of the last rung; an experiment fills in the epochs of its training.
        eta: Reduction factor: one of so many candidates goes on to the next rung, with so many times the epochs.
        min_points: Fewest outcomes in each half; by default, and at least, one more than there are decisions.
        top_n_percent: Share of the outcomes that are good, in per cent.
        num_samples: Number of draws of which the best is proposed.
        random_fraction: Share of the proposals that are uniform draws all the same.
        bandwidth_factor: Factor by which draws from a numeric kernel are wider than the kernel. Decisions are no
            numbers and the authors' code leaves their kernels as they are, so it changes nothing; it is there to be
            written down with the other published settings.
        min_bandwidth: Smallest bandwidth h.
        promotion: Training of promoted candidates, continue or anew; see `Hyperband`.
    """

    name = "bohb"
    summary = "hyperband with a kernel density model of good and bad"
    source = "Falkner et al. 2018, arXiv 1807.01774"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        min_epochs: int = 1,
        max_epochs: int = 81,
        eta: int = 3,
        min_points: int | None = None,
        top_n_percent: int = 15,
        num_samples: int = 64,
        random_fraction: float = 1 / 3,
        bandwidth_factor: float = 3.0,
        min_bandwidth: float = 1e-3,
        promotion: Promotion = "continue",
    ) -> None:
        super().__init__(space, seed=seed, min_epochs=min_epochs, max_epochs=max_epochs, eta=eta, promotion=promotion)
        if not 1 <= top_n_percent <= 99 or num_samples < 1 or not 0 <= random_fraction <= 1:
            raise UserError(
                f"top_n_percent={top_n_percent}, num_samples={num_samples}, random_fraction={random_fraction}: the "
                f"first must be from 1 to 99, the second 1 or more, the third from 0 to 1."
            )
        if not 0 < min_bandwidth < 1 or bandwidth_factor <= 0:
            raise UserError(
                f"min_bandwidth={min_bandwidth}, bandwidth_factor={bandwidth_factor}: the first must lie between 0 "
                f"and 1, the second above 0."
            )
        self.sizes = np.array(space.layout.sizes)
        self.free = np.flatnonzero(self.sizes > 1)
        self.min_points = max(min_points or 0, len(self.free) + 1)
        self.top_n_percent, self.num_samples = top_n_percent, num_samples
        self.random_fraction, self.min_bandwidth = random_fraction, min_bandwidth
        self.outcomes: dict[int, Outcomes] = {}  # by epochs

    def split(self, count: int) -> tuple[int, int] | None:
        """How many of so many outcomes are good and how many bad; None if they are too few for a model."""
        good = max(self.min_points, self.top_n_percent * count // 100)
        bad = min(count - good, max(self.min_points, (100 - self.top_n_percent) * count // 100))
        return (good, bad) if bad > len(self.free) else None

    def _observe(self, outcome: Outcome) -> None:
        super()._observe(outcome)
        table = self.outcomes.setdefault(self._epochs(outcome), Outcomes(len(self.sizes)))
        table.add(outcome.proposal.arch.picks, -np.inf if outcome.scores is None else outcome.scores[0])

    def _new(self) -> Architecture:
        epochs = max(
            (rung_epochs for rung_epochs, table in self.outcomes.items() if self.split(table.count)), default=None
        )
        if epochs is not None and self.rng.random() >= self.random_fraction:
            arch = self._from_model(self.outcomes[epochs])
            if arch is not None:
                return arch
        return super()._new()

    def _from_model(self, table: Outcomes) -> Architecture | None:
        """The most promising of the draws; None if none of them is an architecture of the space."""
        sizes = self.split(table.count)
        assert sizes is not None, "there is no model of so few outcomes"
        ranked = table.picks[np.argsort(-table.scores, kind="stable")]
        good = Kernels(self._filled(ranked[: sizes[0]]), self.sizes, self.min_bandwidth, self.free)
        bad = Kernels(self._filled(ranked[sizes[0] : sum(sizes)]), self.sizes, self.min_bandwidth, self.free)
        draws = good.sample(self.num_samples, self.rng)
        ratios = np.maximum(good.density(draws), 1e-32) / np.maximum(bad.density(draws), 1e-32)
        for index in np.argsort(-ratios, kind="stable"):
            arch = Architecture(self.space.name, tuple(draws[index].tolist()))
            if self.space.is_valid(arch):
                return arch
        return None

    def _filled(self, picks: Ints) -> Ints:
        """(n, decisions) picks, those that do not matter replaced by what matters in another row, or at random."""
        if not self.space.layout.conditional:
            return picks
        flags = self.space.layout.active_many(picks)
        filled = picks.copy()
        for column in np.flatnonzero(~flags.all(axis=0)):
            empty, full = ~flags[:, column], picks[flags[:, column], column]
            options = full if len(full) else np.arange(self.sizes[column])
            filled[empty, column] = self.rng.choice(options, size=int(empty.sum()))
        return filled

    def _state(self) -> dict[str, Any]:
        outcomes = {
            str(epochs): [[picks, None if score == -np.inf else score] for picks, score in table.rows()]
            for epochs, table in self.outcomes.items()
        }
        return {**super()._state(), "outcomes": outcomes}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        super()._load_state(state)
        self.outcomes = {}
        for epochs, rows in state["outcomes"].items():
            table = self.outcomes.setdefault(int(epochs), Outcomes(len(self.sizes)))
            for picks, score in rows:
                table.add(picks, -np.inf if score is None else score)


class Outcomes:
    """Picks and scores in arrays that grow by doubling.

    Args:
        decisions: Number of columns of the picks.
    """

    def __init__(self, decisions: int) -> None:
        self.count = 0
        self._picks = np.zeros((16, decisions), dtype=np.int64)
        self._scores = np.zeros(16)

    def add(self, picks: Any, score: float) -> None:
        """Append one outcome."""
        if self.count == len(self._scores):
            self._picks = np.concatenate([self._picks, self._picks])  # the second half is room
            self._scores = np.concatenate([self._scores, self._scores])
        self._picks[self.count], self._scores[self.count] = picks, score
        self.count += 1

    @property
    def picks(self) -> Ints:
        """(n, decisions) picks."""
        return self._picks[: self.count]

    @property
    def scores(self) -> Floats:
        """(n,) scores, minus infinity for a failed candidate."""
        return self._scores[: self.count]

    def rows(self) -> list[tuple[list[int], float]]:
        """The outcomes in plain values."""
        return list(zip(self.picks.tolist(), self.scores.tolist(), strict=True))


class Kernels:
    """A density over decisions: the mean of a product of Aitchison-Aitken kernels around each row.

    Args:
        rows: (n, decisions) picks.
        sizes: Number of options of each decision.
        min_bandwidth: Smallest bandwidth.
        free: Decisions with more than one option; only they count.
    """

    def __init__(self, rows: Ints, sizes: Ints, min_bandwidth: float, free: Ints) -> None:
        self.rows, self.sizes, self.free = rows, sizes, free
        count, options = len(rows), sizes[free]
        rule = 1.06 * rows[:, free].std(axis=0) * count ** (-1 / (4 + len(free)))
        self.bandwidth = np.clip(rule, min_bandwidth, (options - 1) / options)
        self.other = np.log(self.bandwidth / (options - 1))
        self.same = np.log(1 - self.bandwidth) - self.other

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """(count, decisions) draws: a row, in which each option is drawn anew with the probability `bandwidth`."""
        draws = self.rows[rng.integers(len(self.rows), size=count)]
        anew = rng.random((count, len(self.free))) < self.bandwidth
        drawn = rng.integers(self.sizes[self.free], size=anew.shape)
        draws[:, self.free] = np.where(anew, drawn, draws[:, self.free])
        return draws

    def density(self, picks: Ints) -> Floats:
        """(m,) densities of (m, decisions) picks."""
        logs = np.full((len(picks), len(self.rows)), self.other.sum())
        for column, same in zip(self.free, self.same, strict=True):
            logs += same * (picks[:, column, None] == self.rows[None, :, column])
        densities: Floats = np.exp(logs).mean(axis=1)
        return densities
