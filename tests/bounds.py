"""Bounds for what a training gives: from the spread over seeds, with the rate of false alarms that they have.

`python tests/spread.py TEST` prints the mean and the standard deviation of each value that a test checks here.
"""

import json
import math
import os
from pathlib import Path

from scipy import stats

FALSE_ALARM = 1e-5  # of each bound, on a processor or with seeds that it was not derived from
VARIABLE = "NASBENCH_TEST_SPREAD"  # the file that the values are written into, instead of being checked


def margin(sd: float, n: int, false_alarm: float = FALSE_ALARM) -> float:
    """How far below (or above) the mean of `n` values one more lies with probability `false_alarm`.

    The prediction interval for normal values: t sd sqrt(1 + 1/n), with Student's t of n - 1 degrees of freedom.
    """
    assert n >= 20, f"the spread over {n} seeds is too uncertain for a bound"
    return float(stats.t.isf(false_alarm, n - 1)) * sd * math.sqrt(1 + 1 / n)


def check_above(name: str, value: float, *, mean: float, sd: float, n: int = 20, least: float | None = None) -> None:
    """Fail unless a value is above what seeds alone explain: below that lies one in 100,000.

    Args:
        name: of the value within its test.
        value: of this run.
        mean: of the values under `n` seeds.
        sd: their standard deviation.
        n: seeds.
        least: a bound with a meaning of its own, such as 0 for a gain; it must be no tighter.
    """
    if not _recorded(name, value):
        bound = mean - margin(sd, n)
        assert least is None or least <= bound, (
            f"{name}: one in 100,000 seeds gives {bound:.4g}, which is below {least}"
        )
        bound = bound if least is None else least
        assert value > bound, f"{name} is {value:.4g}, not above {bound:.4g}; {n} seeds gave {mean} +- {sd}"


def check_below(name: str, value: float, *, mean: float, sd: float, n: int = 20, most: float | None = None) -> None:
    """Fail unless a value is below what seeds alone explain; else as `check_above`."""
    if not _recorded(name, value):
        bound = mean + margin(sd, n)
        assert most is None or most >= bound, f"{name}: one in 100,000 seeds gives {bound:.4g}, which is above {most}"
        bound = bound if most is None else most
        assert value < bound, f"{name} is {value:.4g}, not below {bound:.4g}; {n} seeds gave {mean} +- {sd}"


def check_learned(name: str, accuracy_pct: float, *, images: int, classes: int = 10) -> None:
    """Fail unless an accuracy is more than guessing reaches: that gives more in one of 100,000 cases (binomial).

    For tests in which a network has to have learned something, however much; how much is what `check_above` is for.
    """
    if not _recorded(name, accuracy_pct):
        bound = 100 * float(stats.binom.isf(FALSE_ALARM, images, 1 / classes)) / images
        assert accuracy_pct > bound, f"{name} is {accuracy_pct:.4g} %, and guessing reaches {bound:.4g} %"


def _recorded(name: str, value: float) -> bool:
    """Write the value into the file that `tests/spread.py` reads, if it asked for that."""
    path = os.environ.get(VARIABLE)
    if path:
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        with Path(path).open("a") as file:
            file.write(json.dumps({"test": test, "what": name, "value": float(value)}) + "\n")
    return bool(path)
