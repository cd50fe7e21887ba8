"""benchmarks.controllers: every controller is timed, and one that is too slow is stopped by name."""

import json

import pytest

from benchmarks.controller_speed import SAMPLERS, controller_speed
from controllers import CONTROLLERS
from search_spaces import get_space

SLOW = """
import time

from controllers import Controller, Proposal, SearchFinished


class Slow(Controller):
    '''Thinks for half a minute before its fourth proposal.'''

    name = "slow"
    asked = 0

    def _propose(self):
        self.asked += 1
        if self.asked == 4:
            time.sleep(30)
        return Proposal(self.space.sample(self.rng))


class Short(Slow):
    def _propose(self):
        raise SearchFinished
"""


STEADY = """
import time

from controllers import Controller, Proposal


class Steady(Controller):
    '''Thinks for 20 ms.'''

    name = "steady"

    def _propose(self):
        time.sleep(0.02)
        return Proposal(self.space.sample(self.rng))
"""


@pytest.mark.slow
def test_every_controller_stands_beside_optuna(benchmark):
    code, out, err = benchmark("controllers", "--told", "6", "--seconds", "6", "--json")
    assert code == 0, err
    cells = json.loads(out)["cells"]
    assert {cell["controller"] for cell in cells} == {*CONTROLLERS, *SAMPLERS}
    for cell in cells:
        assert cell["us_per_ask_tell"] > 0 and cell["rounds"] > 0 and not cell["stopped"], cell
        assert cell["asked"] <= cell["told"] >= 6


def test_a_cell_that_takes_too_long_is_named_as_stopped(benchmark, tmp_path):
    (tmp_path / "slow_controllers.py").write_text(SLOW)
    words = ["slow_controllers:Slow", "random", "slow_controllers:Short", "--told", "2,5"]
    code, out, err = benchmark("controllers", *words, "--seconds", "1", "--space", "fbnet")
    assert code == 0, err
    text = " ".join(out.split())
    assert "stopped after 1 s" in text and "nothing more to propose after 0 outcomes" in text
    assert "random" in text and "optuna TPESampler" in text


def test_what_was_not_asked_for_is_told(tmp_path, monkeypatch):
    """A third of the cap, half a second, goes into asking a controller that takes 20 ms; the rest is told."""
    (tmp_path / "steady_controllers.py").write_text(STEADY)
    monkeypatch.syspath_prepend(tmp_path)
    name = "steady_controllers:Steady"
    (cell,) = controller_speed([name], get_space("nasbench201"), told=[100], samplers=(), cap_s=1.5)
    assert cell.told == 100 and 1 <= cell.asked <= 25 and cell.us_per_ask_tell > 0


def test_several_scores_are_told_to_those_that_take_them(benchmark):
    words = ["nsga2", "ehvi", "--objectives", "3", "--told", "12", "--seconds", "3"]
    code, out, err = benchmark("controllers", *words, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["objectives"] == 3 and all(cell["us_per_ask_tell"] > 0 for cell in report["cells"])
    assert {cell["controller"] for cell in report["cells"]} == {"nsga2", "ehvi", *SAMPLERS}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["randon"], "Did you mean 'random'?"),
        (["--told", "a"], "--told is 'a'; give numbers of outcomes"),
        (["--told", "0,4"], "--told is '0,4'"),
        (["--space", "nasbench_201"], "Did you mean 'nasbench201'?"),
        (["--option", "cell=1"], "Did you mean 'cells'?"),
        (["random", "reinforce", "--objectives", "2"], "controller 'reinforce' takes one score"),
    ],
)
def test_mistakes_cost_one_sentence(benchmark, words, message):
    code, _, err = benchmark("controllers", *words)
    assert code == 2 and message in err and "Traceback" not in err
