"""From a family of devices and a few measurements to one device.

What cannot be known beforehand is averaged over, each hypothesis with the probability that the measurements give it
(Bayesian model averaging, Hoeting et al. 1999): whether parts add up or multiply (the scale), how unlike the sources
the device is, and how noisy it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

from nasbench.latency.transfer_scale import Scale
from nasbench.latency.transfer_sources import DEGREES, Family

Floats = npt.NDArray[np.float64]

STRANGE = (0.03, 0.1, 0.3, 1.0)
NOISE = np.array([0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256])
NOISE_SPREAD = 1.0  # of the logarithm of the noise of devices, at least
OFFSET_VARIANCE = 4.0
ROUNDS = 15  # of reweighting outliers


@dataclass(frozen=True)
class Belief:
    """The posterior of a device on one scale: features . weights + offset, with the offset as the last weight.

    Attributes:
        probability: Probability that this is the scale to use.
        mean: (p + 1,) mean of the weights and the offset.
        root: (p + 1, r) root of the covariance, which is root @ root.T.
        noise_variance: Variance of the noise of a measurement.
    """

    probability: float
    mean: Floats
    root: Floats
    noise_variance: float


def adapt(families: Mapping[Scale, tuple[Family, Floats]], features: Floats, relative: Floats) -> dict[Scale, Belief]:
    """The beliefs after measurements.

    Args:
        families: Family and (devices,) noise of its devices, for each scale.
        features: (k, p) features of the measured architectures; k may be 0.
        relative: (k,) latencies as multiples of what is typical on the device.
    """
    hypotheses = {}
    for scale, (family, noise) in families.items():
        hypotheses[scale] = _on_scale(family, noise, features, scale.forward(relative))
        hypotheses[scale].log_evidence += np.log(scale.slope(relative)).sum()
    total = logsumexp(np.concatenate([of_scale.log_evidence.ravel() for of_scale in hypotheses.values()]))
    return {scale: of_scale.merged(total) for scale, of_scale in hypotheses.items()}


@dataclass
class _Hypotheses:
    """All hypotheses of one scale.

    Attributes:
        log_evidence: (strange, noise) logarithms of the evidence.
        means: (strange, noise, p + 1) means of the weights.
        covariances: (strange, noise, p + 1, p + 1) covariances of the weights.
    """

    log_evidence: Floats
    means: Floats
    covariances: Floats

    def merged(self, total: float) -> Belief:
        """The one normal distribution with the mean and the covariance of their mixture."""
        probability = float(np.exp(logsumexp(self.log_evidence) - total))
        share = np.exp(self.log_evidence - logsumexp(self.log_evidence))
        mean = np.einsum("sn,snp->p", share, self.means)
        between = self.means - mean
        covariance = np.einsum("sn,snpq->pq", share, self.covariances)
        covariance += np.einsum("sn,snp,snq->pq", share, between, between)
        values, vectors = np.linalg.eigh(covariance)
        significant = values > 1e-12 * max(values.max(), 1e-12)
        noise_variance = float(share.sum(axis=0) @ NOISE**2) * DEGREES / (DEGREES - 2)
        return Belief(probability, mean, vectors[:, significant] * np.sqrt(values[significant]), noise_variance)


def _on_scale(family: Family, noise: Floats, features: Floats, measured: Floats) -> _Hypotheses:
    extended = with_offset(features)
    prior_mean = np.append(family.mean, 0.0)
    spread = max(float(np.log(noise).std()), NOISE_SPREAD)
    log_prior = -0.5 * ((np.log(NOISE) - np.log(noise).mean()) / spread) ** 2
    evidence, means, covariances = [], [], []
    for strange in STRANGE:
        covariance = extended_covariance(family, strange)
        cross = covariance @ extended.T
        log_likelihood, precision, pull = _robust(
            extended @ cross, measured - extended @ prior_mean, NOISE[:, None] ** 2
        )
        evidence.append(log_likelihood + log_prior)
        means.append(prior_mean + pull @ cross.T)
        covariances.append(covariance - cross @ precision @ cross.T)
    return _Hypotheses(np.array(evidence), np.array(means), np.array(covariances))


def _robust(between: Floats, wrong: Floats, noise_square: Floats) -> tuple[Floats, Floats, Floats]:
    """Normal weights, noise of Student's t distribution: reweighted until it settles.

    Args:
        between: (k, k) covariance of the measurements without noise.
        wrong: (k,) measurements less their mean.
        noise_square: (noise, 1) squared noise.

    Returns:
        The logarithm of the likelihood (noise,), the precision of the measurements (noise, k, k), and that times
        `wrong` (noise, k).
    """
    k = len(wrong)
    noise_variance = np.repeat(noise_square, k, axis=1)
    for _ in range(ROUNDS):
        pull = np.linalg.inv(between + noise_variance[:, :, None] * np.eye(k)) @ wrong
        residual_square = (noise_variance * pull) ** 2
        noise_variance = noise_square * (DEGREES + residual_square / noise_square) / (DEGREES + 1)
    precision = np.linalg.inv(between + noise_variance[:, :, None] * np.eye(k)).astype(np.float64, copy=False)
    pull = precision @ wrong
    residual_square = (noise_variance * pull) ** 2
    # The likelihood of normal noise with these variances, corrected by how much likelier the t distribution makes it.
    log_normal = -0.5 * (pull @ wrong) + 0.5 * np.linalg.slogdet(precision)[1]
    log_t = -0.5 * np.log(noise_square) - (DEGREES + 1) / 2 * np.log1p(residual_square / (DEGREES * noise_square))
    log_t += gammaln((DEGREES + 1) / 2) - gammaln(DEGREES / 2) - 0.5 * np.log(DEGREES / 2)
    corrected = log_t + 0.5 * np.log(noise_variance) + 0.5 * residual_square / noise_variance
    log_likelihood: Floats = log_normal + corrected.sum(axis=1)
    return log_likelihood, precision, pull


def with_offset(features: Floats) -> Floats:
    """(n, p + 1) with a column of ones."""
    return np.hstack([features, np.ones((len(features), 1))])


def extended_covariance(family: Family, strange: float) -> Floats:
    """(p + 1, p + 1) covariance of weights and offset before anything is measured."""
    size = len(family.mean)
    covariance = np.zeros((size + 1, size + 1))
    covariance[:size, :size] = family.covariance(strange)
    covariance[size, size] = OFFSET_VARIANCE
    return covariance
