"""The family of devices: weights of features, fitted on each of them, and the distribution that they form.

A measurement on device d is, on one of the scales,

    y = offset_d + features . w_d + noise,    w_d ~ normal(0, variance of the feature's group on d),

with noise of Student's t distribution: measured tables are exact for most architectures and far off for a few, and
a few that are off must not move the fit. Everything is found by expectation maximization (Dempster et al. 1977; for
the t distribution Lange, Little & Taylor 1989; group variances as in automatic relevance determination, MacKay 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DEGREES = 3.0  # of freedom of the noise
ROUNDS = 30
POOLED = 1.0  # how many devices the group variances of all devices are worth beside those of a device of its own
SMALLEST_NOISE, SMALLEST_VARIANCE = 1e-3, 1e-8

# How the family of devices is seen, chosen on the meta-training and meta-validation devices of HELP.
ISOTROPIC_DEVICES = 3.0  # how many devices the variances of whole groups are worth beside what devices show
SIZE_VARIANCE = 0.03  # devices differ in how much latencies spread by a sixth or so, as one size for all


@dataclass(frozen=True)
class SourceFit:
    """Devices of one scale.

    Attributes:
        weights: (p, devices) weights of the features.
        noise: (devices,) scale of the noise.
        variances: (groups,) mean of the squared weights over features and devices.
        trust: (n,) how little an architecture was off on these devices, 1 for as little as all.
    """

    weights: Floats
    noise: Floats
    variances: Floats
    trust: Floats


def fit_sources(features: Floats, groups: npt.NDArray[np.int64], measured: Floats) -> SourceFit:
    """Fit all devices.

    Args:
        features: (n, p) features of the architectures.
        groups: (p,) group of each feature, numbered from 0.
        measured: (n, devices) measured latencies on one scale.
    """
    n, devices = measured.shape
    sizes = np.bincount(groups)
    offset = np.median(measured, axis=0)
    noise_square = np.maximum(np.median(np.abs(measured - offset), axis=0) ** 2, SMALLEST_NOISE**2)
    variance = np.full((devices, len(sizes)), 0.1)
    believed = np.ones((n, devices))
    weights = np.zeros((features.shape[1], devices))
    moments = np.zeros_like(variance)
    for _ in range(ROUNDS):
        for d in range(devices):
            precision = believed[:, d] / noise_square[d]
            weighted = features * precision[:, None]
            covariance = np.linalg.inv(weighted.T @ features + np.diag(1 / variance[d][groups]))
            weights[:, d] = covariance @ (weighted.T @ (measured[:, d] - offset[d]))
            fitted = features @ weights[:, d]
            offset[d] = precision @ (measured[:, d] - fitted) / precision.sum()
            wrong = (measured[:, d] - offset[d] - fitted) ** 2
            believed[:, d] = (DEGREES + 1) / (DEGREES + wrong / noise_square[d])
            uncertain = ((features @ covariance) * features).sum(axis=1)
            noise_square[d] = max(float((believed[:, d] * (wrong + uncertain)).mean()), SMALLEST_NOISE**2)
            moments[d] = np.bincount(groups, weights[:, d] ** 2 + covariance.diagonal()) / np.maximum(sizes, 1)
        common = np.exp(np.log(np.maximum(moments, SMALLEST_VARIANCE)).mean(axis=0))
        variance = np.maximum((moments + POOLED * common) / (1 + POOLED), SMALLEST_VARIANCE)
    trust = believed.mean(axis=1) * DEGREES / (DEGREES + 1)
    return SourceFit(weights, np.sqrt(noise_square), moments.mean(axis=0), trust)


@dataclass(frozen=True)
class Family:
    """The distribution of the weights of a device that has not been measured.

    Attributes:
        mean: (p,) mean of the weights of the devices seen.
        spread: (p, devices) how each differs from it, so that spread @ spread.T is their covariance.
        isotropic: (p,) variances of a device that differs from the mean in ways that no source does.
    """

    mean: Floats
    spread: Floats
    isotropic: Floats

    @classmethod
    def of(cls, fit: SourceFit, groups: npt.NDArray[np.int64]) -> Family:
        """The family that these devices are drawn from; one device is a family, too."""
        devices = fit.weights.shape[1]
        mean = fit.weights.mean(axis=1)
        spread = fit.weights - mean[:, None]
        between = np.bincount(groups, (spread**2).sum(axis=1)) / np.maximum(np.bincount(groups), 1)
        worth = devices - 1 + ISOTROPIC_DEVICES
        isotropic = (between + ISOTROPIC_DEVICES * fit.variances) / worth
        return cls(mean, spread / np.sqrt(max(1, devices - 1)), isotropic[groups])

    def covariance(self, strange: float) -> Floats:
        """(p, p) covariance of the weights.

        Args:
            strange: Number from 0 for devices that differ as the sources do to 1 for devices that may differ in any
                feature.
        """
        seen = (1 - strange) * self.spread @ self.spread.T + strange * np.diag(self.isotropic)
        covariance: Floats = seen + SIZE_VARIANCE * np.outer(self.mean, self.mean)
        return covariance
