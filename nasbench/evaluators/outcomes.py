"""The kinds of outcome that a candidate can have."""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal[
    "done",
    "stopped",
    "diverged",
    "out_of_memory",
    "timed_out",
    "crashed",
    "failed",
    "invalid",
    "infeasible",
]

Ending = Literal[
    "before training",
    "predicted latency",
    "zero-cost proxy",
    "short training",
    "after training",
    "recipe",
    "artefact",
    "after evaluation",
]
"""The stages of an evaluation that may end a candidate as infeasible, from cheap to expensive; the last one is
the study, which looks at the limits where an evaluator does not."""

ENDINGS: tuple[Ending, ...] = get_args(Ending)

OUTCOMES: dict[str, str] = {
    "done": "trained to its last epoch",
    "stopped": "stopped early by the scheduler",
    "diverged": "its loss or a metric stopped being a number, or it did no better than guessing",
    "out_of_memory": "it needed more memory than there was",
    "timed_out": "it took longer than search.candidate_minutes",
    "crashed": "its worker process or the machine of it ended",
    "failed": "an exception of any other kind",
    "invalid": "its network could not be built, or gives something other than one logit a class",
    "infeasible": "over a hard limit, or ended by an early stage of a search over recipes",
}
"""Every kind with what it means. A candidate without an outcome is `running`."""

SCORED = ("done", "stopped")
"""Outcomes that have metrics of a trained network; they count towards search.candidates."""

FAILURES = ("diverged", "out_of_memory", "timed_out", "crashed", "failed", "invalid")
"""Outcomes that are failures; `infeasible` is none."""
