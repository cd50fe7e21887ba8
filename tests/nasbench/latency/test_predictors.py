"""Latency predictors: what they learn, how sure they are, and what they are judged by."""

import json

import numpy as np
import pytest
import torch
from bounds import check_above, check_below
from scipy.stats import spearmanr
from torch import nn

from nasbench.costs.cost import cost
from nasbench.costs.operators import Operator
from nasbench.costs.work import WORK, work, work_and_operators
from nasbench.devices.device import Device
from nasbench.latency.operator_table import COLUMNS, OperatorTable, measure_operators
from nasbench.latency.predictors import PREDICTORS, HeldOut, Networks, get_predictor
from nasbench.latency.predictors.validation import best, calibrated, cross_validate
from nasbench.latency.sample import STRATA, choose_sample
from nasbench_registry import UserError
from search_spaces import Task
from search_spaces.blocks import BLOCKS

PRICES = np.array(
    [0.004, 0.02, 1e-6, 0.03, 5e-6, 0.01, 2e-6, 0.04, 0.0, 0.01, 1e-6, 2e-6, 0.0, 0.05]
)  # of each kind of work, and the constant


def synthetic(n: int, seed: int, size: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Work of n networks, and what it costs at `PRICES`."""
    rng = np.random.default_rng(seed)
    typical = size * np.array([30, 10, 1e6, 5, 1e5, 8, 1e5, 2, 3, 4, 1e4, 1e5, 5e4])
    rows = typical * rng.uniform(0.3, 2.0, (n, len(WORK)))
    return rows, np.hstack([rows, np.ones((n, 1))]) @ PRICES


def bare(rows: np.ndarray) -> Networks:
    """Networks of which only the work is known."""
    return Networks(rows, np.zeros((len(rows), 0)))


def wrong_prices(n: int, seed: int, noise: float = 0.02) -> tuple[Networks, np.ndarray]:
    """Networks whose first two decisions change the latency by up to half, whatever their work is."""
    rng = np.random.default_rng(seed)
    rows, latency_ms = synthetic(n, seed)
    picks = rng.integers(3, size=(n, 4))
    one_hot = np.eye(3)[picks].reshape(n, 12)
    factor = 1 + 0.25 * (picks[:, 0] == 1) + 0.25 * (picks[:, 1] == 2)
    table = np.abs(rng.normal(size=(n, len(COLUMNS))))
    return Networks(rows, table, (one_hot, picks.astype(float))), latency_ms * factor * np.exp(
        noise * rng.normal(size=n)
    )


class TestWorkPrices:
    def test_finds_the_prices_and_goes_on_outside_of_what_was_measured(self) -> None:
        rows, latency_ms = synthetic(40, 0)
        rows[:, 4] = 0  # work that no network does costs nothing
        latency_ms = np.hstack([rows, np.ones((40, 1))]) @ PRICES
        predictor = get_predictor("work").fit(bare(rows), latency_ms)
        contributions = np.array([*rows.mean(axis=0), 1]) * (predictor.prices.values - PRICES)
        np.testing.assert_allclose(np.delete(contributions, 4), 0, atol=1e-8)
        far, expected = synthetic(10, 1, size=100)
        far[:, 4] = 0
        expected = np.hstack([far, np.ones((10, 1))]) @ PRICES
        mean, std = predictor.predict(bare(far))
        np.testing.assert_allclose(mean, expected, rtol=1e-6)
        assert mean.shape == std.shape == (10,)

    def test_never_predicts_less_than_nothing(self) -> None:
        rows, latency_ms = synthetic(15, 2)
        noise = latency_ms * np.random.default_rng(3).lognormal(0, 1, 15)  # a machine that does what it likes
        predictor = get_predictor("work").fit(bare(rows), noise)
        mean, std = predictor.predict(bare(np.vstack([synthetic(50, 4, size=0.01)[0], np.zeros(len(WORK))])))
        assert (predictor.prices.values >= 0).all() and (mean >= 0).all() and (std >= 0).all()

    def test_its_deviation_is_the_scatter(self) -> None:
        rows, latency_ms = synthetic(2000, 5)
        noisy = latency_ms * (1 + 0.05 * np.random.default_rng(6).normal(size=2000))
        mean, std = get_predictor("work").fit(bare(rows), noisy).predict(bare(rows))
        # The standard deviation of 2,000 draws is known to 0.05 / sqrt(4000); six sigmas.
        np.testing.assert_allclose(std / mean, 0.05, atol=6 * 0.05 / np.sqrt(4000))


@pytest.mark.parametrize("name", PREDICTORS)
class TestEveryPredictor:
    def test_fits_the_same_again_and_leaves_the_generators(self, name) -> None:
        networks, latency_ms = wrong_prices(60, 0)
        before, state = np.random.get_state()[1].copy(), torch.get_rng_state()
        first = get_predictor(name).fit(networks, latency_ms)
        mean, std = first.predict(networks)
        again = get_predictor(name).fit(networks, latency_ms).predict(networks)
        np.testing.assert_array_equal((mean, std), again)
        np.testing.assert_array_equal(np.random.get_state()[1], before)
        assert torch.equal(torch.get_rng_state(), state)
        assert mean.shape == std.shape == (60,) and (mean > 0).all() and (std > 0).all()
        alone = first.predict(networks[np.array([7])])
        np.testing.assert_allclose(np.ravel(alone), (mean[7], std[7]), rtol=1e-9)

    def test_latencies_that_are_none_and_too_few(self, name) -> None:
        networks, latency_ms = wrong_prices(20, 0)
        for bad in (0.0, -1.0, np.nan, np.inf):
            latency_ms[7] = bad
            with pytest.raises(UserError, match=f"positive numbers of milliseconds, not {bad}"):
                get_predictor(name).fit(networks, latency_ms)
        with pytest.raises(UserError, match="8 or more measured networks, not 7"):
            get_predictor(name).fit(networks[np.arange(7)], latency_ms[:7])

    def test_what_the_prices_are_wrong_by_is_learnt_from_the_encoding(self, name) -> None:
        networks, latency_ms = wrong_prices(150, 1)
        held_out = cross_validate(lambda: get_predictor(name), networks, latency_ms)
        if name in ("work", "lookup"):  # they do not read it: the factors 1, 1.25 and 1.5 stay
            check_above("error without", held_out.median_error_pct, mean=11.6, sd=0.6)
        else:
            check_below("error with", held_out.median_error_pct, mean=2.914, sd=0.42)
            check_above("rank correlation with", held_out.spearman, mean=0.9816, sd=0.0053)

    def test_intervals_hold_for_networks_that_had_no_part_in_them(self, name) -> None:
        networks, latency_ms = wrong_prices(300, 2, noise=0.1)
        learnt, fresh = np.arange(150), np.arange(150, 300)
        raw = cross_validate(lambda: get_predictor(name), networks[learnt], latency_ms[learnt])
        # Six sigmas of 150 draws that are inside with a probability of 0.95, which itself is known from 120 others.
        tolerance = 100 * 6 * np.sqrt(0.95 * 0.05 * (1 / 150 + 1 / 120))
        assert calibrated(raw).coverage_pct > 95 - tolerance
        scale = raw.scale()
        mean, std = get_predictor(name).fit(networks[learnt], latency_ms[learnt]).predict(networks[fresh])
        assert HeldOut(latency_ms[fresh], mean, scale * std).coverage_pct > 95 - tolerance
        # And not by being as wide as the world.
        check_below("width", np.median(scale * std / mean), mean=0.2132, sd=0.022, most=1)

    def test_few_networks_that_many_prices_meet_exactly_do_not_make_it_sure(self, name) -> None:
        rows, latency_ms = synthetic(216, 3)
        latency_ms *= np.exp(0.1 * np.random.default_rng(3).normal(size=216))
        rng = np.random.default_rng(4)
        networks = Networks(rows, np.abs(rng.normal(size=(216, len(COLUMNS)))), (rng.random((216, 8)),))
        learnt, fresh = np.arange(16), np.arange(16, 216)
        mean, std = get_predictor(name).fit(networks[learnt], latency_ms[learnt]).predict(networks[fresh])
        # Unscaled: about the noise of 0.1, however well 20 prices fit 16 networks.
        check_above("log of the deviation", np.log(np.median(std / mean)), mean=-1.979, sd=0.37)
        check_below("log of the width", np.log(np.median(std / mean)), mean=-1.979, sd=0.37)
        check_above("coverage", HeldOut(latency_ms[fresh], mean, std).coverage_pct, mean=88.53, sd=9.6)


def test_a_lookup_needs_a_table() -> None:
    rows, latency_ms = synthetic(20, 0)
    with pytest.raises(UserError, match="'lookup' needs measured operators"):
        get_predictor("lookup").fit(bare(rows), latency_ms)
    with pytest.raises(UserError, match=r"not by \(20, 12\)"):
        bare(rows[:, :-1])
    with pytest.raises(UserError, match="unknown predictor 'tree'.*Did you mean 'trees'"):
        get_predictor("tree")


class TestHeldOut:
    def test_figures_by_hand(self) -> None:
        held_out = HeldOut(np.array([1.0, 2, 4, 10]), np.array([1.05, 2.4, 4.0, 9.0]), np.array([0.1, 0.1, 0.1, 0.5]))
        assert held_out.n == 4
        assert held_out.spearman == 1
        assert held_out.median_error_pct == pytest.approx(100 * (0.05 + 0.1) / 2)
        assert held_out.within_10_pct == 75  # 5, 20, 0 and 10 %
        assert held_out.coverage_pct == 50  # 0.5, 4, 0 and 2 deviations away
        assert [held_out.scaled(factor).coverage_pct for factor in (1.5, 2.1)] == [75, 100]

    def test_intervals_of_the_figures(self) -> None:
        rng = np.random.default_rng(0)
        measured = rng.lognormal(0, 0.5, 400).round(1)  # with ties
        held_out = HeldOut(measured, measured * np.exp(0.1 * rng.normal(size=400)), 0.1 * measured)
        figures = held_out.figures(seed=1)
        assert figures == held_out.figures(seed=1)
        assert held_out.spearman == pytest.approx(spearmanr(measured, held_out.predicted_ms).statistic)
        for name, figure in figures.items():
            assert figure["low"] <= getattr(held_out, name) == figure["value"] <= figure["high"]
        # Within 10 % means within one sigma: a share of 0.68, whose interval is known from the binomial distribution.
        width = figures["within_10_pct"]["high"] - figures["within_10_pct"]["low"]
        assert width == pytest.approx(100 * 2 * 1.96 * np.sqrt(0.68 * 0.32 / 400), rel=0.25)
        narrow = held_out.subset(np.arange(100)).figures()["spearman"]
        assert narrow["high"] - narrow["low"] > figures["spearman"]["high"] - figures["spearman"]["low"]

    def test_the_scale_makes_95_of_100_fit(self) -> None:
        deviations = np.arange(1, 101) / 100
        held_out = HeldOut(np.full(100, 5.0), 5.0 - deviations, np.full(100, 0.001))
        assert held_out.coverage_pct == 0
        # 96 of 100, since a 95th of 100 known values is not yet the 95th percentile of a new one.
        assert held_out.scaled(held_out.scale() * (1 + 1e-9)).coverage_pct == 96

    def test_cross_validation_does_not_see_what_it_predicts(self) -> None:
        rows, _ = synthetic(100, 9)
        nothing = np.random.default_rng(9).lognormal(0, 0.5, 100)  # nothing to be learnt from
        first, again = (cross_validate(lambda: get_predictor("work"), bare(rows), nothing, seed=3) for _ in range(2))
        # Under chance, a rank correlation has standard deviation 1 / sqrt(n - 1); fits without a part lean negative.
        assert first.spearman < 6 / np.sqrt(99)  # six of them
        np.testing.assert_array_equal(first.predicted_ms, again.predicted_ms)

    def test_the_best_ranks_best(self) -> None:
        measured = np.arange(1.0, 21)
        exact = HeldOut(measured, measured, measured)
        doubled = HeldOut(measured, 2 * measured, measured)  # ranks as well, errs more
        swapped = HeldOut(measured, np.roll(measured, 1), measured)
        assert best({"swapped": swapped, "doubled": doubled, "exact": exact}) == "exact"
        assert best({"swapped": swapped, "doubled": doubled}) == "doubled"


class TestOperators:
    def test_what_runs_by_hand(self) -> None:
        network = nn.Sequential(
            nn.Conv2d(3, 16, (3, 5), stride=(1, 2), padding=(1, 2)),
            nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16),
            nn.Conv2d(16, 8, 3, groups=4),
            nn.Conv2d(8, 8, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        )
        _, operators = work_and_operators(network, Task((3, 8, 6), 10))
        assert operators == {
            Operator((3, 8, 6), 16, (3, 5), (1, 2), (1, 2)): 1,
            Operator((16, 8, 3), 16, (3, 3), (1, 1), (2, 2), (2, 2), 16): 1,
            Operator((16, 8, 3), 8, (3, 3), groups=4): 1,
            Operator((8, 6, 1), 8, (1, 1)): 1,
            Operator((1, 1, 8), 10): 1,
        }
        assert [operator.kind for operator in operators] == ["dense", "depthwise", "grouped", "pointwise", "linear"]

    @pytest.mark.parametrize("name", BLOCKS)
    def test_operators_of_every_block_are_all_of_its_products(self, name) -> None:
        task = Task((16, 8, 6), 10)
        _, operators = work_and_operators(BLOCKS[name](16, 16), task)
        counted = cost(BLOCKS[name](16, 16), task)
        assert (
            sum(count * operator.macs for operator, count in operators.items()) == counted.macs - counted.attention_macs
        )
        for operator in operators:
            alone = operator.network()
            assert cost(alone, Task(operator.inputs, 2)).macs == operator.macs
            assert work_and_operators(alone, Task(operator.inputs, 2))[1] == {operator: 1}

    def test_a_table_adds_up_what_is_measured_and_finds_relatives_for_the_rest(self) -> None:
        small, large, linear = Operator((8, 8, 8), 8, (1, 1)), Operator((64, 8, 8), 64, (1, 1)), Operator((1, 1, 8), 10)
        table = OperatorTable({small: 0.03, large: 0.25, linear: 0.004}, nothing_ms=0.01)
        row = dict(zip(COLUMNS, table.row({small: 2, linear: 1}), strict=True))
        assert row == pytest.approx(
            dict.fromkeys(COLUMNS, 0.0) | {"pointwise_ms": 0.04, "measured_operators": 3}  # no time is below nothing
        )
        near_large = Operator((64, 8, 8), 96, (1, 1))
        assert table.row({near_large: 1})[0] == pytest.approx(1.5 * 0.24)
        assert table.row({Operator((8, 8, 8), 8, (3, 3)): 1})[:5].sum() == 0  # no dense one was measured
        again = OperatorTable.from_json(json.loads(json.dumps(table.to_json())))
        assert again == table

    def test_operators_are_measured_on_the_device(self) -> None:
        small, large = Operator((8, 4, 4), 8, (1, 1)), Operator((64, 16, 16), 128, (3, 3), padding=(1, 1))
        rows = Operator((1, 5, 8), 3)
        device, heard = Device("eager", batch=2), []
        state = torch.get_rng_state()
        table = measure_operators(
            device, [{small: 3}, {large: 1, rows: 1}], seed=0, on_progress=lambda *at: heard.append(at)
        )
        assert torch.equal(torch.get_rng_state(), state)
        assert set(table.ms) == {small, large, rows} and heard[-1] == (4, 4)
        assert table.ms[large] > 5 * table.ms[small] > 0  # of 2,300 times as many multiply-adds


class TestSample:
    def test_cheap_and_dear_ones_alike(self) -> None:
        rows = np.exp(np.random.default_rng(0).normal(size=(200, len(WORK))))
        taken = choose_sample(rows, 40)
        assert taken == choose_sample(rows, 40)
        assert len(set(taken)) == 40
        macs = [index for index, name in enumerate(WORK) if name.endswith("_macs")]
        logs = np.log1p(np.stack([rows[:, 0], rows[:, macs].sum(axis=1)]))
        effort = ((logs - logs.mean(axis=1, keepdims=True)) / logs.std(axis=1, keepdims=True)).sum(axis=0)
        part = np.searchsorted(np.quantile(effort, np.arange(1, STRATA) / STRATA), effort[taken])
        assert np.bincount(part, minlength=STRATA).tolist() == [8] * STRATA

    def test_far_from_each_other(self) -> None:
        rng = np.random.default_rng(1)
        rows = np.exp(rng.normal(size=(200, len(WORK))))

        def closest(indices) -> float:
            logs = np.log1p(rows)[indices]
            apart = np.linalg.norm((logs[:, None] - logs[None]) / np.log1p(rows).std(axis=0), axis=2)
            return float(apart[np.triu_indices(len(indices), 1)].min())

        assert closest(choose_sample(rows, 40)) > max(closest(rng.permutation(200)[:40]) for _ in range(100))

    def test_all_if_there_are_no_more(self) -> None:
        assert choose_sample(np.ones((7, len(WORK))), 10) == list(range(7))
        assert sorted(choose_sample(np.ones((7, len(WORK))), 6))[0] >= 0  # networks that are all alike


def test_work_is_read_as_before_beside_the_operators() -> None:
    network, task = BLOCKS["inverted_residual"](16, 16), Task((16, 8, 6), 10)
    np.testing.assert_array_equal(work(network, task), work_and_operators(network, task)[0])
