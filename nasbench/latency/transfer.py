"""A latency predictor that moves to a new device with a handful of measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load_file, save

from nasbench.latency.transfer_adapt import Belief, adapt, extended_covariance, with_offset
from nasbench.latency.transfer_design import choose, measure
from nasbench.latency.transfer_features import Features
from nasbench.latency.transfer_scale import SCALES, Scale
from nasbench.latency.transfer_sources import Family, SourceFit, fit_sources
from nasbench.storage.files import write_bytes, write_json
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

Floats = npt.NDArray[np.float64]

FORMAT = 1
NUMBERS, DESCRIPTION = "transfer.safetensors", "transfer.json"
MOST_FITTED, MOST_CANDIDATES, MOST_EVERYWHERE = 4096, 512, 1024  # architectures drawn by the seed from more

# With which devices in mind measurements are chosen; from the meta-training and meta-validation devices of HELP.
DESIGN_SCALE, DESIGN_STRANGE, DESIGN_NOISE = SCALES[0], 0.1, 0.1
LEAST_SHARE = 1e-3  # of the typical latency, which is the least that is predicted


class TransferPredictor:
    """Latency on a new device from measurements of other devices and a few of its own.

    Devices differ in a few numbers: what they ask for each kind of layer. A Gaussian prior over such weights is learned
    from the source devices, the measurements of the new device turn it into a posterior, and the measurements that do
    most are proposed beforehand. Three steps, each of which may be repeated:

        predictor = TransferPredictor(space, seed=0)
        predictor.fit_sources(archs, {"phone": phone_ms, "server": server_ms})
        todo = predictor.suggest(10)                     # measure these on the new device
        predictor.adapt(todo, measured_ms)
        mean_ms, std_ms = predictor.predict(anything)

    The task is that of HELP (Lee et al. 2021, arXiv 2106.08630), MultiPredict (Akhauri & Abdelfattah 2023, arXiv
    2306.02459) and NASFLAT (2024, arXiv 2403.02446), which meta-learn a network for it. The method here is another one:
    a hierarchical Bayesian linear model of options, counts of options and products of them, with outliers (see the
    files transfer_*.py). Its few constants were chosen on the meta-training and meta-validation devices of HELP alone,
    each left out in turn, with and without its relatives; the test devices decided nothing.

    Args:
        space: Search space of the architectures; they are read through `one_hot` and `option_counts`.
        seed: Random seed of the subsets that stand for more architectures than are needed.
    """

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        self.space, self.seed = space, seed
        self._sources: dict[str, Floats] = {}
        self._archs: list[Architecture] = []
        self._own: list[Architecture] = []
        self._own_ms: Floats = np.zeros(0)
        self._beliefs: dict[Scale, Belief] = {}
        self._typical_ms = 1.0

    def fit_sources(self, archs: Sequence[Architecture], latency_ms: Mapping[str, npt.ArrayLike]) -> TransferPredictor:
        """Learn what devices have in common; forgets what was measured on a new device.

        Args:
            archs: Architectures that were measured: n different ones, 10 or more; a few hundred are enough.
            latency_ms: For each source device (n,) latencies in milliseconds of these architectures. One device is
                enough; the more there are and the more they differ, the better.

        Returns:
            The predictor itself.

        Raises:
            UserError: There are too few architectures, no device, or a latency that is not a positive number.
        """
        if not latency_ms:
            raise UserError("there are no source devices; give latencies of at least one device by its name.")
        if len(archs) < 10:
            raise UserError(f"source devices need 10 or more architectures, not {len(archs)}; measure more of them.")
        sources = {name: _checked(values, len(archs), f"of device {name!r}") for name, values in latency_ms.items()}
        self._check_archs(archs)
        self._archs, self._sources = list(archs), sources
        self._own, self._own_ms = [], np.zeros(0)
        rows = self._drawn(len(archs), MOST_FITTED)
        fitted = [archs[row] for row in rows]
        typical = np.array([np.median(values[rows]) for values in sources.values()])
        relative = np.stack([values[rows] for values in sources.values()], axis=1) / typical
        self._features = Features(self.space, fitted)
        linear = self._features(fitted)
        simple = fit_sources(linear, self._features.groups, SCALES[-1].forward(relative))
        self._features.add_products(linear, _importance(simple, self._features.groups))
        features = self._features(fitted)
        self._fits = {scale: fit_sources(features, self._features.groups, scale.forward(relative)) for scale in SCALES}
        self._families = {scale: Family.of(fit, self._features.groups) for scale, fit in self._fits.items()}
        self._trust = dict(zip(fitted, self._fits[DESIGN_SCALE].trust, strict=True))
        self._everywhere = features[self._drawn(len(features), MOST_EVERYWHERE)]
        self._believe()
        return self

    def suggest(self, count: int, among: Sequence[Architecture] | None = None) -> list[Architecture]:
        """Architectures to measure on the new device next, most informative first; the same for the same seed.

        What has been measured on it (`adapt`) is taken into account and not proposed again. Architectures that many
        source devices measured far off from what their likes suggest are avoided.

        Args:
            count: Number of architectures; fewer if there are fewer to choose from.
            among: Architectures that can be measured; None takes those that the sources measured. Of more than 512, as
                many are drawn by the seed.

        Raises:
            UserError: `fit_sources` has not been called, or `count` is not positive.
        """
        self._require_sources()
        if count < 1:
            raise UserError(f"{count} architectures cannot be suggested; ask for 1 or more.")
        own = set(self._own)
        available = [arch for arch in dict.fromkeys(self._archs if among is None else among) if arch not in own]
        self._check_archs(available)
        if not available:
            return []
        candidates = [available[row] for row in self._drawn(len(available), MOST_CANDIDATES)]
        covariance = extended_covariance(self._families[DESIGN_SCALE], DESIGN_STRANGE)
        if self._own:
            measured = with_offset(self._features(self._own))
            covariance = measure(covariance, measured, self._design_noise(self._own))
        points = with_offset(self._features(candidates))
        noise = self._design_noise(candidates)
        rows = choose(covariance, points, noise, with_offset(self._everywhere), count)
        return [candidates[row] for row in rows]

    def adapt(self, archs: Sequence[Architecture], latency_ms: npt.ArrayLike) -> TransferPredictor:
        """Learn from measurements of the new device, in place of those given before.

        Args:
            archs: Measured architectures (k), repeats allowed; those of `suggest` or any others.
            latency_ms: (k,) their latencies in milliseconds.

        Returns:
            The predictor itself.

        Raises:
            UserError: `fit_sources` has not been called, or a latency is not a positive number.
        """
        self._require_sources()
        measured = _checked(latency_ms, len(archs), "of the new device")
        self._check_archs(archs)
        if not len(archs):
            raise UserError("there are no measurements of the new device; measure what suggest() proposes.")
        self._own, self._own_ms = list(archs), measured
        self._believe()
        return self

    def predict(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean and standard deviation in milliseconds, (n,) each, of what a measurement would show.

        The deviation holds what is not known about the device and the noise of a measurement; it is carried over from
        the scale of the model to milliseconds by its slope.

        Raises:
            UserError: `adapt` has not been called.
        """
        if not self._own:
            raise UserError("nothing has been measured on the new device; call fit_sources() and then adapt().")
        self._check_archs(archs)
        if not len(archs):
            return np.zeros(0), np.zeros(0)
        points = with_offset(self._features(archs))
        first, second = np.zeros(len(points)), np.zeros(len(points))
        for scale, belief in self._beliefs.items():
            mean = np.maximum(scale.backward(points @ belief.mean), LEAST_SHARE)
            variance = ((points @ belief.root) ** 2).sum(axis=1) + belief.noise_variance
            first += belief.probability * mean
            second += belief.probability * (mean**2 + variance / scale.slope(mean) ** 2)
        return first * self._typical_ms, np.sqrt(np.maximum(second - first**2, 0)) * self._typical_ms

    def save(self, folder: Path) -> None:
        """Write the measurements of all devices as transfer.json and transfer.safetensors.

        What is learned from them is not stored: `load` learns it again, in a second or so.

        Raises:
            UserError: `fit_sources` has not been called.
        """
        self._require_sources()
        numbers = {"source_picks": _picks(self._archs), "source_ms": np.stack(list(self._sources.values()))}
        if self._own:
            numbers |= {"own_picks": _picks(self._own), "own_ms": self._own_ms}
        write_bytes(folder / NUMBERS, save(numbers))
        about = {"format": FORMAT, "space": self.space.name, "decisions": _decisions(self.space), "seed": self.seed}
        write_json(folder / DESCRIPTION, about | {"sources": list(self._sources)})

    @classmethod
    def load(cls, folder: Path, space: SearchSpace) -> TransferPredictor:
        """A predictor that `save` wrote, for the same space; it predicts and suggests what the saved one did.

        Raises:
            UserError: The folder holds none, it is damaged, or it belongs to another space.
        """
        try:
            about = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            numbers = load_file(folder / NUMBERS)
            header = about["format"], about["space"], about["decisions"]
            seed, names = int(about["seed"]), list(about["sources"])
            archs = _architectures(about["space"], numbers["source_picks"])
            sources = dict(zip(names, numbers["source_ms"], strict=True))
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise UserError(
                f"{folder} holds no transfer predictor that can be read ({error}); give a folder that save() wrote."
            ) from None
        if header[0] != FORMAT:
            raise UserError(f"{folder} has format {header[0]!r}; this version reads format {FORMAT}.")
        if header[1:] != (space.name, _decisions(space)):
            raise UserError(
                f"{folder} is about space {header[1]!r} with {len(header[2])} decisions, not about this space "
                f"{space.name!r} with {len(space.decisions)}; load it with the space that it was fitted on."
            )
        predictor = cls(space, seed).fit_sources(archs, sources)
        if "own_ms" in numbers:
            predictor.adapt(_architectures(space.name, numbers["own_picks"]), numbers["own_ms"])
        return predictor

    def _believe(self) -> None:
        if not self._own:
            self._beliefs = {}
            return
        features = self._features(self._own)
        expected = SCALES[0].backward(features @ self._families[SCALES[0]].mean)
        self._typical_ms = float(np.median(self._own_ms / np.maximum(expected, LEAST_SHARE)))
        families = {scale: (self._families[scale], fit.noise) for scale, fit in self._fits.items()}
        self._beliefs = adapt(families, features, self._own_ms / self._typical_ms)

    def _design_noise(self, archs: Sequence[Architecture]) -> Floats:
        return DESIGN_NOISE**2 / np.array([self._trust.get(arch, 1.0) for arch in archs])

    def _drawn(self, count: int, most: int) -> npt.NDArray[np.int64]:
        """Row numbers in order: all, or `most` of them, by the seed."""
        if count <= most:
            return np.arange(count)
        return np.sort(np.random.default_rng(self.seed).choice(count, most, replace=False))

    def _require_sources(self) -> None:
        if not self._sources:
            raise UserError("no source devices are known; call fit_sources() first.")

    def _check_archs(self, archs: Sequence[Architecture]) -> None:
        for arch in archs:
            if arch.space != self.space.name or len(arch.picks) != len(self.space.decisions):
                self.space.require_valid(arch)


def _importance(fit: SourceFit, groups: npt.NDArray[np.int64]) -> Floats:
    """(q, q) second moments of weights: those seen, and a tenth of what a group has in common."""
    devices = fit.weights.shape[1]
    moments: Floats = fit.weights @ fit.weights.T / devices + 0.1 * np.diag(fit.variances[groups])
    return moments


def _checked(latency_ms: npt.ArrayLike, count: int, whose: str) -> Floats:
    values = np.array(latency_ms, dtype=np.float64)
    if values.shape != (count,):
        raise UserError(f"{count} architectures need as many latencies {whose}, not an array of shape {values.shape}.")
    bad = values[~(np.isfinite(values) & (values > 0))]
    if len(bad):
        raise UserError(f"latencies {whose} must be positive numbers of milliseconds, not {bad[0]}.")
    return values


def _picks(archs: Sequence[Architecture]) -> npt.NDArray[np.int64]:
    return np.array([arch.picks for arch in archs], dtype=np.int64)


def _architectures(space: str, picks: npt.NDArray[np.int64]) -> list[Architecture]:
    return [Architecture(space, tuple(row)) for row in picks.tolist()]


def _decisions(space: SearchSpace) -> list[list[object]]:
    return [[decision.name, len(decision.options)] for decision in space.decisions]
