"""A user's module: a space that builds no networks, functions that score it with metrics of their own, a callback."""

import sys

from tests_support import experiment_of

LUNCH = '''
import json
import sys
from pathlib import Path

from nasbench.evaluators.evaluator import Evaluator
from nasbench.search.callbacks import Callback
from search_spaces import Decision, SearchSpace

FILLINGS = {"bean": 3.0, "egg": 4.0, "salmon": 9.0}


class Lunch(SearchSpace):
    """Twenty-four lunches: the taste and the price of each can be worked out by hand."""

    name = "lunch"
    decisions = (
        Decision("filling", tuple(FILLINGS)),
        Decision("price", (1, 2, 3, 4)),
        Decision("sauce", (False, True)),
    )

    def build(self, arch, task):
        raise AssertionError("nothing is built for a function that builds nothing")


def value(choices):
    return {"taste": FILLINGS[choices["filling"]] + choices["sauce"] + 0.1 * choices["price"],
            "price_eur": 2.5 * choices["price"] + FILLINGS[choices["filling"]] / 3}


def evaluate(candidate):
    return value(candidate.choices)


def by_epochs(candidate):
    """Tastes better with every epoch; reports all that the search needs, and stops when it is told to."""
    whole = value(candidate.choices)
    for epoch in range(1, candidate.epochs + 1):
        so_far = whole | {"taste": whole["taste"] * epoch / candidate.epochs, "epochs": epoch}
        if not candidate.report(epoch, so_far):
            break
    return so_far


def no_dict(candidate):
    return candidate.number


def no_price(candidate):
    return {"taste": 1.0}


MISTAKES = {
    1: None,
    3: {"taste": "good", "price_eur": 1.0},
    5: {"taste": 1.0},
    7: {"taste": float("inf"), "price_eur": 1.0},
}


def every_other(candidate):
    """Every other candidate goes wrong in a way of its own."""
    if candidate.number == 9:
        raise KeyError("salmon")
    if candidate.number == 11:
        sys.exit("no lunch today")
    return MISTAKES[candidate.number] if candidate.number in MISTAKES else value(candidate.choices)


def same_name(candidate):
    """A metric that is called like a decision; one candidate fails."""
    return None if candidate.number == 3 else {"price": 100 * candidate.choices["price"]}


class Spiced(Evaluator):
    def __init__(self, space, task=None, *, spices):
        super().__init__(space, task)
        self.spices = spices

    @property
    def metrics(self):
        return ("taste", "spices")

    def __call__(self, candidate):
        return {"taste": value(candidate.choices)["taste"] + self.spices, "spices": self.spices}


class Diary(Callback):
    """Writes down what it hears, a line each."""

    def __init__(self, *, file, fails_at=None):
        self.file, self.fails_at = Path(file), fails_at

    def note(self, *words):
        with self.file.open("a") as file:
            file.write(json.dumps(words) + "\\n")

    def begin(self, study, experiment):
        self.note("begin", len(study.candidates), experiment["name"])

    def candidate_done(self, candidate, study):
        if candidate.id == self.fails_at:
            raise RuntimeError("the diary is full")
        self.note("candidate", candidate.id, candidate.status, candidate.metrics)

    def front_changed(self, front, study):
        self.note("front", *front)

    def retry(self, number, status, error):
        self.note("retry", number, status)

    def end(self, report):
        self.note("end", report["status"])


class NoCallback:
    pass


class Unfinished(Evaluator):
    pass
'''

OBJECTIVES = {"taste": "max", "price_eur": {"goal": "min", "limit": 11.0}}

FRONT = {
    f"filling={filling},price={price},sauce=true"
    for filling, price in (("bean", 1), ("egg", 1), ("salmon", 1), ("salmon", 2), ("salmon", 3))
}
"""The lunches that no other within the limit dominates, worked out by hand."""


def lunch_of(**changes):
    """A search for lunch."""
    own = {
        "name": "lunch",
        "space": "lunch:Lunch",
        "controller": "random",
        "evaluator": "lunch:evaluate",
        "objectives": OBJECTIVES,
        "reward": {"name": "scalar"},
        "search": {"candidates": 10},
        "tensorboard": False,
    }
    return experiment_of(**(own | changes))


def write_lunch(folder):
    """Write the module into a folder; what this process has imported of another one is forgotten."""
    sys.modules.pop("lunch", None)
    (folder / "lunch.py").write_text(LUNCH)
