"""init: a commented experiment file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasbench.cli.options import Json
from nasbench.cli.output import show
from nasbench_registry import UserError

TEMPLATE = """\
# An experiment of nasbench; try it with: nasbench search {file} --dry-run
# Every key, with its default: docs/experiments.md. What a key may name: nasbench list spaces, controllers, ...

# What is searched: a name, or module:Class for a space of your own beside this file.
space: {space}

# What networks are trained on: digits comes with scikit-learn; image_folder and arrays read your own images.
data: {data}

# What is tried next: random, regularized_evolution, nsga2, bayesian, reinforce, hyperband, ...
controller: {{name: regularized_evolution, population: 8, tournament: 3}}

# What is optimised; a limit is hard: {{goal: min, limit: 5.0}}. Any metric that the evaluator gives.
objectives: {{val_acc_pct: max, latency_ms: min}}

# What the controller is told: scalar (the first objective), pareto (all of them), or MnasNet's weighted product.
reward: {{name: weighted_product, target: {{latency_ms: 0.05}}, exponent: -0.07}}

# Whose latency counts, in which runtime; 20 networks are measured to predict the others.
device: {{runtime: onnxruntime, samples: 20}}

training: {{epochs: 5, learning_rate: 0.003}}
search: {{candidates: 12}}

# Several candidates at a time: {{name: ray, workers: 2}}; then a scheduler such as asha may stop the worst ones early.
executor: {{name: inline}}

# The best networks go through a recipe; each stage is measured as it would be deployed.
survivors: 1
recipe:
  - prune: {{ratio: 0.3, epochs: 2}}
  - quantize: {{precision: int8}}
  - compile: {{backend: onnxruntime}}
"""


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("experiment.yaml"),
    space: Annotated[str, typer.Option(help="Name of a space, or module:Class.")] = "mobile",
    data: Annotated[str, typer.Option(help="Name of a data set.")] = "digits",
    json: Json = False,
) -> None:
    """Write a commented experiment file to begin with."""
    if file.exists():
        raise UserError(f"{file} is there already; give another file, or remove it first.")
    file.write_text(TEMPLATE.format(file=file, space=space, data=data), encoding="utf-8")
    show({"file": str(file)}, f"{file} is written; try it with: nasbench search {file} --dry-run", as_json=json)
