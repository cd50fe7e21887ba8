"""Which decisions mattered for each objective, by Optuna's evaluator of the importance of parameters.

Watanabe, Bansal & Hutter 2023, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces,
IJCAI; with decisions that only matter under a condition, as Optuna extends it. An importance says how much the options
of the best quarter of the candidates differ from those of all.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, create_trial

from controllers.quiet import quiet_optuna
from nasbench.objectives.objective import Objective
from nasbench.search.record import RecordedCandidate

BEST = 0.25  # the share of the candidates that is compared with all
LEAST = 20  # fewest candidates: the best quarter then holds the five that the evaluator requires
MOST = 2000  # most candidates, evenly spread over the search: more take minutes
SHUFFLES = 40  # permutations of the values, to estimate the shares by chance
CHANCE = 95  # percentile of the shares under permutation

ShareTable = dict[str, dict[str, float] | str]
Values = npt.NDArray[np.float64]


class _Options(CategoricalDistribution):
    """Options that are not copied with every trial: the evaluator tells them apart quickly if they are the same."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Options:
        return self


def importance(
    candidates: Sequence[RecordedCandidate], options: Mapping[str, int], objectives: Sequence[Objective]
) -> tuple[ShareTable, ShareTable]:
    """The share of each decision in the importance of all, and what share chance gives, for each objective.

    A few candidates always differ in something. So the values are dealt out anew at random many times; a decision whose
    share is not above the 95th percentile of what it has then is as important as chance would make it look.

    Args:
        candidates: Candidates that are done and comparable.
        options: Number of options of each decision of the space, in the order of the space.
        objectives: Objectives of the search.

    Returns:
        `{metric: {decision: share}}`, the largest share first, and the same of the shares by chance. In place of the
        decisions stands a sentence where there is nothing to tell.
    """
    shares: ShareTable = {}
    chance: ShareTable = {}
    for objective in objectives:
        name = objective.metric
        usable = [
            candidate for candidate in candidates if name in candidate.metrics and np.isfinite(candidate.metrics[name])
        ]
        usable = [
            usable[index] for index in np.unique(np.linspace(0, len(usable) - 1, min(len(usable), MOST)).astype(int))
        ]
        costs = np.array([candidate.metrics[name] * (-1 if objective.goal == "max" else 1) for candidate in usable])
        reason = _too_little(len(usable), costs)
        if reason is None:
            decision_shares, by_chance = _shares(_trials(usable, options), costs)
            reason = (
                None
                if decision_shares
                else "no decision sets the best quarter apart, for candidates or values are the same"
            )
        if reason is not None:
            shares[name] = chance[name] = reason
        else:
            shares[name], chance[name] = decision_shares, by_chance
    return shares, chance


def _too_little(count: int, costs: Values) -> str | None:
    if count < LEAST:
        return (
            f"{count} candidate{'s' * (count != 1)} with a result are too few to tell which decisions mattered; "
            f"it takes {LEAST}"
        )
    return "all candidates have the same value" if np.ptp(costs) == 0 else None


def _trials(candidates: Sequence[RecordedCandidate], counts: Mapping[str, int]) -> list[FrozenTrial]:
    """The active decisions of each candidate, as parameters; without those that are the same in all of them."""
    options = {name: _Options(range(count)) for name, count in counts.items() if count > 1}
    names = list(counts)
    rows = []
    for candidate in candidates:
        active = candidate.choices
        rows.append({name: pick for name, pick in zip(names, candidate.arch.picks, strict=True) if name in active})
    varied = [name for name in options if len({row.get(name) for row in rows}) > 1]
    trials = []
    for row in rows:
        params = {name: row[name] for name in varied if name in row}
        distributions: dict[str, BaseDistribution] = {name: options[name] for name in params}
        trials.append(create_trial(value=0.0, params=params, distributions=distributions))
    return trials


def _shares(trials: Sequence[FrozenTrial], costs: Values) -> tuple[dict[str, float], dict[str, float]]:
    """Shares by decision, and by chance; both empty if the best differ from the others in nothing."""
    from optuna.importance import PedAnovaImportanceEvaluator  # brings scikit-learn, which takes two seconds

    with quiet_optuna():
        study = optuna.create_study(direction="minimize")
    study.add_trials(trials)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)

    def weights(values: Sequence[float]) -> dict[str, float]:
        def target(trial: FrozenTrial) -> float:
            return values[trial.number]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it reminds that lower values are better
            return dict(evaluator.evaluate(study, target=target))

    importances = weights(costs.tolist())
    total = sum(importances.values())
    if not total > 0:
        return {}, {}
    rng = np.random.default_rng(0)
    permuted = [weights(rng.permutation(costs).tolist()) for _ in range(SHUFFLES)]
    order = sorted(importances, key=lambda name: (-importances[name], name))
    return (
        {name: importances[name] / total for name in order},
        {name: float(np.percentile([shares.get(name, 0.0) for shares in permuted], CHANCE)) / total for name in order},
    )
