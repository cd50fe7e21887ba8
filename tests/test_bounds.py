"""The bounds of other tests: the rate of false alarms that they claim, and what they refuse."""

import numpy as np
import pytest
from bounds import FALSE_ALARM, VARIABLE, check_above, check_below, check_learned, margin
from scipy import stats


def test_false_alarms_are_as_rare_as_claimed():
    rate, trials = 0.01, 20_000
    values = np.random.default_rng(0).normal(size=(trials, 21))
    sd = values[:, :20].std(axis=1, ddof=1)
    alarms = int((values[:, 20] < values[:, :20].mean(axis=1) - margin(1, 20, rate) * sd).sum())
    assert stats.binomtest(alarms, trials, rate).pvalue > 1e-6


def test_few_seeds_give_no_bound():
    with pytest.raises(AssertionError, match="too uncertain"):
        margin(1, 19)


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_what_lies_beyond_the_spread_fails():
    spread = {"mean": 90.0, "sd": 1.0}
    check_above("accuracy", 90 - 0.99 * margin(1, 20), **spread)
    check_below("accuracy", 90 + 0.99 * margin(1, 20), **spread)
    with pytest.raises(AssertionError, match="not above"):
        check_above("accuracy", 90 - 1.01 * margin(1, 20), **spread)
    with pytest.raises(AssertionError, match="not below"):
        check_below("accuracy", 90 + 1.01 * margin(1, 20), **spread)
    with pytest.raises(AssertionError):
        check_above("accuracy", float("nan"), **spread)


def test_a_bound_with_a_meaning_is_refused_where_seeds_would_break_it():
    check_above("gain", 0.1, mean=7.0, sd=1.0, least=0)
    with pytest.raises(AssertionError, match="not above"):
        check_above("gain", -0.1, mean=7.0, sd=1.0, least=0)
    with pytest.raises(AssertionError, match="one in 100,000"):
        check_above("gain", 7.0, mean=7.0, sd=2.0, least=0)
    with pytest.raises(AssertionError, match="one in 100,000"):
        check_below("loss", 0.0, mean=-7.0, sd=2.0, most=0)


@pytest.mark.parametrize(("images", "classes"), [(360, 10), (50, 2)])
def test_who_guesses_has_learned_nothing(images, classes):
    """Of the counts that guessing gives, those that pass are as rare as claimed; all others fail."""
    passed = 0.0
    for right in range(images + 1):
        try:
            check_learned("accuracy", 100 * right / images, images=images, classes=classes)
        except AssertionError:
            assert stats.binom.sf(right - 1, images, 1 / classes) > FALSE_ALARM
        else:
            passed += stats.binom.pmf(right, images, 1 / classes)
    assert 0 < passed <= FALSE_ALARM


def test_values_are_written_instead_where_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "values.jsonl"))
    check_above("accuracy", 0.0, mean=90.0, sd=1.0)
    assert '"what": "accuracy", "value": 0.0' in (tmp_path / "values.jsonl").read_text()
