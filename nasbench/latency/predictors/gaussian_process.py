"""A Gaussian process over encodings and work."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from controllers.gaussian_process import SMALLEST_NOISE, Kernel, Posterior, default_kernel, fit_kernel
from nasbench.latency.predictors.contract import Floats, LatencyPredictor, Networks, log_normal, standardized
from nasbench.latency.predictors.prices import Prices

STEPS = 50  # of the climb to the likeliest kernel


class GaussianProcess(LatencyPredictor):
    """A sum of prices, and a Gaussian process for the logarithm of what they are wrong by.

    Rasmussen & Williams 2006, Gaussian Processes for Machine Learning; White et al. 2021 (arXiv 2104.01177) find it
    among the best predictors for few architectures. The kernel is a sum over the table, the work and each group of the
    encoding, every one with a scale and a weight that the marginal likelihood chooses. Deviation: the mean of the
    process is the sum of prices, not a constant, so that it goes on sensibly outside of what was measured.

    Deviations are those of a measurement: of the process, of the noise, and of the prices as far as they were fitted to
    the very networks that the process sees.
    """

    name: ClassVar[str] = "gp"
    summary: ClassVar[str] = "prices, corrected by a Gaussian process over encodings and work"
    source: ClassVar[str] = "Rasmussen & Williams 2006; White et al. 2021, arXiv 2104.01177"

    def _fit(self, networks: Networks, latency_ms: Floats) -> None:
        self._networks, self._prices = networks, Prices(networks.priced, latency_ms)
        wrong = np.log(latency_ms) - self._prices.log_total(networks.priced)
        self._middle, self._unit = float(wrong.mean()), max(float(wrong.std()), 1e-6)
        self._values = (wrong - self._middle) / self._unit
        points = self._points(networks)
        start = default_kernel(points)
        self.kernel: Kernel = fit_kernel(start, start, points, self._values, steps=STEPS)

    def predict(self, networks: Networks) -> tuple[Floats, Floats]:
        """See `LatencyPredictor`."""
        posterior = Posterior(self.kernel, self._points(networks))
        posterior.observe(range(len(self._networks)), self._points(self._networks))
        mean = self._middle + self._unit * posterior.mean(self._values) + self._prices.log_total(networks.priced)
        variance = posterior.deviation() ** 2 + self.kernel.noise + SMALLEST_NOISE
        return log_normal(mean, self._unit**2 * variance + self._prices.optimism)

    def _points(self, networks: Networks) -> tuple[Floats, ...]:
        columns, measured = _groups(networks), _groups(self._networks)
        return tuple(standardized(group, like) for group, like in zip(columns, measured, strict=True))


def _groups(networks: Networks) -> tuple[Floats, ...]:
    table = (networks.table,) if networks.table.shape[1] else ()
    return (*table, networks.work, *networks.encoding)
