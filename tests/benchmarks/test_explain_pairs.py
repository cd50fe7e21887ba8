"""What `python -m benchmarks.explain` calls shown."""

import pytest

from benchmarks.explain import PAIRS, moved_as_predicted, summed_up


def removed(predicted, low, high):
    measured = None if low is None else {"ratio": (low + high) / 2, "low": low, "high": high}
    return {"predicted": predicted, "measured": measured}


@pytest.mark.parametrize(
    ("predicted", "low", "high", "moved"),
    [
        (0.7, 0.68, 0.72, True),
        (0.7, 0.79, 0.85, True),  # within a tenth
        (0.7, 0.85, 0.9, False),
        (0.7, 0.4, 0.5, False),
        (0.95, 0.9, 1.01, False),  # it may not have moved at all
        (0.7, None, None, False),
    ],
)
def test_moved_as_predicted(predicted, low, high, moved):
    assert moved_as_predicted(removed(predicted, low, high)) is moved


def test_pairs_are_counted():
    good, bad = removed(0.7, 0.68, 0.72), removed(0.7, 0.4, 0.5)
    rows = [
        {"faster": False, "removed": [bad, good]},
        {"faster": True, "removed": [good]},
        {"faster": False, "removed": [bad]},
        {"faster": True, "removed": []},
    ]
    assert summed_up(rows) == {"count": 4, "not_faster": 2, "shown": 2, "not_faster_shown": 1}


def test_there_are_ten_different_pairs():
    assert len({pair.name for pair in PAIRS}) == 10
