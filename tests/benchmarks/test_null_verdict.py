"""A random search is called better than random search as rarely as is promised, and not by the toss of a coin."""

import functools

import pytest

from benchmarks.null_verdict import MEASURES, bootstrap_better, called_better, compare_better
from nasbench.objectives.statistics import NEEDED, null_rate

TRIALS, BUDGET = 400, 5
FALSE_ALARM = 1e-4  # of each interval


@pytest.mark.parametrize("apart", [False, True], ids=["parts of one search", "searches of their own"])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_verdict_of_a_baseline(measure, apart):
    trial = functools.partial(called_better, measure=measure, budget=BUDGET, searches=NEEDED + 1, apart=apart)
    rate = null_rate(trial, TRIALS, 1 / (NEEDED + 2), 1 - FALSE_ALARM)
    assert rate.sound, rate


def test_the_verdict_of_a_comparison():
    rate = null_rate(functools.partial(compare_better, budget=BUDGET), TRIALS, 0.025, 1 - FALSE_ALARM)
    assert rate.hits <= rate.most, rate  # an interval of few seeds may be wider than it promises


@pytest.mark.parametrize("measure", MEASURES)
def test_the_control_draws_with_replacement_and_is_seen_to_be_wrong(measure):
    rate = null_rate(functools.partial(bootstrap_better, measure=measure, budget=BUDGET), 60, 0.025, 1 - FALSE_ALARM)
    assert rate.hits > rate.most, rate


def test_the_command_prints_the_rates():
    import json
    import subprocess
    import sys

    words = ["-m", "benchmarks.null_verdict", "--trials", "2", "--candidates", "2", "--json"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, check=True)
    rates = json.loads(done.stdout)
    assert {name.partition(",")[0] for name in rates} == set(MEASURES)
    assert all({"hits", "trials", "rate", "fewest", "most", "sound"} == set(rate) for rate in rates.values())
