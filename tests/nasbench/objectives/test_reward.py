"""Scores, limits and the front; and which candidates of a search survive."""

from dataclasses import dataclass

import numpy as np
import pytest

from nasbench.experiment.experiment import Experiment
from nasbench.experiment.loading import parse_experiment
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Reward, broken_limit, pareto_front, scores, violation
from nasbench.search.record import RecordedCandidate, comparable
from nasbench.search.select import choose_survivors
from search_spaces import Architecture

ACCURACY = {"metric": "val_acc_pct", "goal": "max"}
LATENCY = {"metric": "latency_ms", "goal": "min"}
PARAMS = {"metric": "params", "goal": "min"}


def experiment(reward: dict, *objectives: dict) -> Experiment:
    return parse_experiment(
        {
            "name": "r",
            "space": "mobile",
            "controller": "random",
            "objectives": list(objectives or (ACCURACY, LATENCY)),
            "reward": reward,
        }
    )


def scored(settings: Experiment, metrics: dict) -> tuple[float, ...]:
    return scores(settings.objectives, settings.reward, metrics)


def weighted(target: dict, exponent: float | list[float] = -0.07) -> dict:
    return {"name": "weighted_product", "target": target, "exponent": exponent}


class TestWeightedProduct:
    mnasnet = experiment(weighted({"latency_ms": 2.0}))

    def reward(self, accuracy: float, latency: float) -> float:
        (score,) = scored(self.mnasnet, {"val_acc_pct": accuracy, "latency_ms": latency, "params": 1e6})
        return score

    def test_by_hand(self) -> None:
        assert self.reward(76.0, 3.0) == pytest.approx(73.87325, abs=1e-5)  # 76 * 1.5 ** -0.07
        assert scored(experiment(weighted({"latency_ms": 2}, -1)), {"val_acc_pct": 90, "latency_ms": 4}) == (45,)

    def test_on_target_it_is_the_accuracy(self) -> None:
        assert self.reward(76.0, 2.0) == 76.0

    @pytest.mark.parametrize("latency", [0.1, 2.0, 30.0])
    def test_half_the_latency_is_worth_five_percent(self, latency) -> None:
        gain = self.reward(76.0, latency / 2) / self.reward(76.0, latency)
        assert gain == pytest.approx(2**0.07)
        assert gain == pytest.approx(1.05, abs=0.001)  # how MnasNet chose its exponent

    @pytest.mark.parametrize("value", [1.0, 2.0, 4.0])
    def test_the_hard_form_takes_nothing_off_what_meets_its_target(self, value) -> None:
        hard = experiment(weighted({"latency_ms": 2.0}, [0, -1]))
        (score,) = scored(hard, {"val_acc_pct": 80.0, "latency_ms": value})
        assert score == (80.0 if value <= 2.0 else 40.0)
        fast = experiment(weighted({"throughput_per_s": 2.0}, [0, -1]))
        (score,) = scored(fast, {"val_acc_pct": 80.0, "latency_ms": 1.0, "throughput_per_s": value})
        assert score == (80.0 if value >= 2.0 else 40.0)

    def test_several_targets(self) -> None:
        both = experiment(weighted({"latency_ms": 2.0, "params": 1e6}))
        metrics = {"val_acc_pct": 80.0, "latency_ms": 3.0, "params": 5e5}
        by_latency, by_params = (experiment(weighted(target)) for target in ({"latency_ms": 2.0}, {"params": 1e6}))
        assert scored(both, metrics)[0] == pytest.approx(
            scored(by_latency, metrics)[0] * scored(by_params, metrics)[0] / 80
        )

    def test_the_order_of_the_objectives_does_not_matter(self) -> None:
        metrics = {"val_acc_pct": 80.0, "latency_ms": 3.0}
        turned = experiment(weighted({"latency_ms": 2.0}), LATENCY, ACCURACY)
        assert scored(turned, metrics) == scored(self.mnasnet, metrics)


def test_pareto_gives_every_objective_with_larger_as_better() -> None:
    pareto = experiment({"name": "pareto"}, ACCURACY, LATENCY, PARAMS)
    base = {"val_acc_pct": 80.0, "latency_ms": 3.0, "params": 1e6}
    assert scored(pareto, base) == (80.0, -3.0, -1e6)
    for position, better in enumerate([{"val_acc_pct": 81.0}, {"latency_ms": 2.0}, {"params": 9e5}]):
        improved = scored(pareto, base | better)
        assert [a > b for a, b in zip(improved, scored(pareto, base), strict=True)] == [
            position == index for index in range(3)
        ]


def test_scalar_is_the_first_objective() -> None:
    metrics = {"val_acc_pct": 80.0, "latency_ms": 3.0}
    assert scored(experiment({"name": "scalar"}), metrics) == (80.0,)
    assert scored(experiment({"name": "scalar"}, LATENCY, ACCURACY), metrics) == (-3.0,)


class TestBrokenLimit:
    objectives = experiment({"name": "pareto"}, ACCURACY | {"limit": 70}, LATENCY | {"limit": 5.0}, PARAMS).objectives

    @pytest.mark.parametrize(
        "metrics",
        [
            {"val_acc_pct": 71, "latency_ms": 4.9, "params": 1e12},
            {"val_acc_pct": 70, "latency_ms": 5.0, "params": 0},
            {"params": 1e12},
            {},
        ],
        ids=["within", "on the limit", "not known yet", "nothing known"],
    )
    def test_none_is_broken(self, metrics) -> None:
        assert broken_limit(self.objectives, metrics) is None

    def test_over(self) -> None:
        text = broken_limit(self.objectives, {"latency_ms": 5.25})
        assert text.startswith("latency_ms 5.25 is over the limit 5 ")
        assert "milliseconds" in text

    def test_under(self) -> None:
        text = broken_limit(self.objectives, {"val_acc_pct": 69.5, "latency_ms": 1})
        assert text.startswith("val_acc_pct 69.5 is under the limit 70 ")


class TestViolation:
    objectives = TestBrokenLimit.objectives

    @pytest.mark.parametrize(
        ("metrics", "beyond"),
        [
            ({"val_acc_pct": 70, "latency_ms": 5.0, "params": 1e12}, 0.0),
            ({"val_acc_pct": 63}, 7 / 70),
            ({"val_acc_pct": 63, "latency_ms": 7.5}, 7 / 70 + 2.5 / 5),
            ({"val_acc_pct": 99, "latency_ms": 7.5}, 2.5 / 5),
            ({}, 0.0),
        ],
    )
    def test_by_hand(self, metrics, beyond) -> None:
        assert violation(self.objectives, metrics) == pytest.approx(beyond)

    def test_of_a_limit_of_zero(self) -> None:
        objectives = experiment({"name": "pareto"}, ACCURACY, LATENCY | {"limit": 0.0}).objectives
        assert violation(objectives, {"latency_ms": 2.0}) == 2.0


class TestFront:
    objectives = experiment({"name": "pareto"}).objectives

    @pytest.mark.parametrize("seed", range(20))
    def test_agrees_with_brute_force(self, seed) -> None:
        rng = np.random.default_rng(seed)
        points = rng.integers(0, 6, (30, 2)).tolist()  # coarse, so that some are equal
        metrics = {7 * n: {"val_acc_pct": acc, "latency_ms": ms} for n, (acc, ms) in enumerate(points)}
        expected = []
        for n, (accuracy, latency) in enumerate(points):
            beaten = False
            for other_accuracy, other_latency in points:
                as_good = other_accuracy >= accuracy and other_latency <= latency
                beaten |= as_good and (other_accuracy, other_latency) != (accuracy, latency)
            if not beaten:
                expected.append(7 * n)
        assert pareto_front(self.objectives, metrics) == expected

    def test_equal_candidates_are_all_on_it(self) -> None:
        same = {"val_acc_pct": 80.0, "latency_ms": 1.0}
        metrics = {3: same, 1: same, 2: {"val_acc_pct": 79.0, "latency_ms": 1.0}}
        assert pareto_front(self.objectives, metrics) == [1, 3]

    def test_small_ones(self) -> None:
        assert pareto_front(self.objectives, {}) == []
        assert pareto_front(self.objectives, {4: {"val_acc_pct": 1.0, "latency_ms": 9.0}}) == [4]


@dataclass
class FinishedStudy:
    """What `choose_survivors` reads of a study."""

    objectives: tuple[Objective, ...]
    reward: Reward
    candidates: list[RecordedCandidate]
    front: list[int]

    @property
    def comparable(self) -> list[RecordedCandidate]:
        return comparable(self.candidates, 1)


def finished(reward: dict, points: list[tuple[float, float] | None]) -> FinishedStudy:
    """A study whose candidates have these accuracies and latencies; None failed."""
    settings = experiment(reward)
    candidates = []
    for number, point in enumerate(points):
        arch = Architecture("mobile", (number,))
        if point is None:
            candidates.append(RecordedCandidate(number, arch, None, status="failed", error="Diverged: lost"))
            continue
        metrics = {"val_acc_pct": point[0], "latency_ms": point[1]}
        known = scores(settings.objectives, settings.reward, metrics)
        candidates.append(RecordedCandidate(number, arch, None, status="done", metrics=metrics, scores=known))
    front = pareto_front(settings.objectives, {c.id: c.metrics for c in candidates if c.status == "done"})
    return FinishedStudy(settings.objectives, settings.reward, candidates, front)


def chosen(study: FinishedStudy, number: int) -> list[int]:
    return [candidate.id for candidate in choose_survivors(study, number)]


class TestSurvivors:
    # 0, 2 and 5 are the front; 4 has the second best product
    points: tuple = ((90.0, 4.0), None, (80.0, 1.0), (70.0, 2.0), (89.9, 4.1), (85.0, 2.0))

    def test_one_score_prefers_the_front_and_fills_up_with_the_best(self) -> None:
        study = finished({"name": "scalar"}, self.points)
        assert study.front == [0, 2, 5]
        assert chosen(study, 1) == [0]
        assert chosen(study, 3) == [0, 5, 2]  # though 4 has a better score than 5 and 2
        assert chosen(study, 4) == [0, 5, 2, 4]
        assert chosen(study, 9) == [0, 5, 2, 4, 3]

    def test_one_score_may_be_a_product(self) -> None:
        study = finished(weighted({"latency_ms": 1.0}, -0.5), self.points)
        products = {c.id: c.scores[0] for c in study.candidates if c.scores}
        ids = chosen(study, 3)
        assert sorted(ids) == study.front
        assert [products[n] for n in ids] == sorted((products[n] for n in ids), reverse=True)

    def test_several_scores_spread_along_the_front(self) -> None:
        ladder = [(50.0 + step, 1.0 + step) for step in range(11)]  # no one dominates another
        study = finished({"name": "pareto"}, ladder)
        assert len(study.front) == 11
        assert chosen(study, 3) == [10, 5, 0]
        assert chosen(study, 2) == [10, 0]
        assert chosen(study, 1) == [10]
        for number in range(1, 12):
            ids = chosen(study, number)
            assert len(set(ids)) == number
            assert ids == sorted(ids, reverse=True)
            if number > 1:
                gaps = -np.diff(ids)
                assert gaps.max() - gaps.min() <= 1

    def test_several_scores_fill_up_too(self) -> None:
        study = finished({"name": "pareto"}, self.points)
        assert chosen(study, 4) == [0, 5, 2, 4]
        assert chosen(study, 9) == [0, 5, 2, 4, 3]

    @pytest.mark.parametrize("reward", [{"name": "scalar"}, {"name": "pareto"}], ids=["one", "several"])
    def test_nothing_to_choose(self, reward) -> None:
        assert chosen(finished(reward, []), 3) == []
        assert chosen(finished(reward, [None, None]), 3) == []
        assert chosen(finished(reward, self.points), 0) == []

    def test_of_equals_the_first_comes_first(self) -> None:
        for reward in ({"name": "scalar"}, {"name": "pareto"}):
            assert chosen(finished(reward, [(80.0, 1.0)] * 3), 2)[0] == 0
