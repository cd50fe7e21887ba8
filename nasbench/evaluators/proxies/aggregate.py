"""Several proxies as one: what ranks high by all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from nasbench_registry import UserError, one_of

Vector = npt.NDArray[np.float64]

AGGREGATES: dict[str, tuple[str, ...]] = {
    "az_nas": ("az_expressivity", "az_progressivity", "az_trainability", "macs"),
    "jacov_params": ("jacov", "params"),
}
"""Proxies that `log_rank_sum` adds, by the name of the sum."""


def log_rank_sum(columns: Sequence[npt.ArrayLike]) -> Vector:
    """(n,) the sum over proxies of log(rank / n), ranks from 1 for the worst (AZ-NAS, arXiv 2403.19232, eq. 10).

    A network has to be fair by all proxies: to be among the worst by one costs more than to be the best by another
    gains. Equal values share the mean of their ranks.

    Args:
        columns: (n,) scores of the same networks for each proxy; larger is better.
    """
    ranks = [rankdata(np.asarray(column, dtype=np.float64)) for column in columns]
    total: Vector = np.sum([np.log(rank / len(rank)) for rank in ranks], axis=0)
    return total


def vote(columns: Sequence[npt.ArrayLike]) -> Vector:
    """(n,) how many other networks lie below by most of the proxies (Abdelfattah et al., arXiv 2101.08134, section 3).

    Args:
        columns: Scores as of `log_rank_sum`; an odd number of columns.
    """
    votes = np.sum([np.sign(np.subtract.outer(column, column)) for column in map(np.asarray, columns)], axis=0)
    wins: Vector = (votes > 0).sum(axis=1).astype(np.float64)
    return wins


def aggregate(name: str, columns: Mapping[str, npt.ArrayLike]) -> Vector:
    """The sum called `name` of `AGGREGATES`, or the proxy of that name by itself.

    Args:
        name: Name of a sum or of a proxy.
        columns: (n,) scores by proxy.

    Raises:
        UserError: A proxy of the sum is not among the columns, or there is no such sum or proxy.
    """
    if name not in AGGREGATES:
        return np.asarray(columns[one_of("aggregate or proxy", name, [*AGGREGATES, *columns])], dtype=np.float64)
    missing = [proxy for proxy in AGGREGATES[name] if proxy not in columns]
    if missing:
        raise UserError(f"{name} adds ranks of {', '.join(AGGREGATES[name])}, and there is no {missing[0]}; score it.")
    return log_rank_sum([columns[proxy] for proxy in AGGREGATES[name]])
