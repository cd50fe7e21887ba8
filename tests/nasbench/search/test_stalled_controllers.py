"""A controller that waits for outcomes although nothing runs ends the search with a sentence, under python -O, too."""

import os
import subprocess
import sys
from pathlib import Path

WAITING = """
from controllers import Controller, Proposal


class Waiting(Controller):
    name, summary, source = "waiting", "", ""
    asked = 0

    def _propose(self):
        self.asked += 1
        return Proposal(self.space.sample(self.rng)) if self.asked <= 2 else None
"""

SIMULATED = """
from waiting import Waiting
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.tabular import Tabular
from nasbench.reproduce.simulate import simulate
from nasbench_registry import UserError
from search_spaces import get_space


class Zero(Tabular):
    metrics = ("val_acc_pct",)
    epochs = 1

    def __init__(self, space):
        Evaluator.__init__(self, space)
        self.oracle = self

    def row(self, arch):
        return 0

    def __call__(self, candidate):
        return {"val_acc_pct": 0.0, "simulated_seconds": 1.0}


space = get_space("mobile")
try:
    simulate(Waiting(space, seed=0), Zero(space), max_queries=3)
except UserError as error:
    print(error)
"""


def tells_of_the_wait(text):
    return "waits for outcomes, and no candidate is running" in " ".join(text.split())


def test_in_a_search(nasbench, write, tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    experiment = write(controller={"name": "waiting:Waiting"}, search={"candidates": 5}, survivors=0)
    code, _, err = nasbench("search", experiment, "--run", "run")
    assert code == 2 and tells_of_the_wait(err) and "Traceback" not in err, err


def test_in_a_simulated_search_without_asserts(tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    here = Path(__file__).resolve().parents[3]
    path = os.pathsep.join([str(tmp_path), str(here), str(here / "compression")])
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED],
        env=os.environ | {"PYTHONPATH": path, "PYTHONOPTIMIZE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert tells_of_the_wait(done.stdout), done.stderr
