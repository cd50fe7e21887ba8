"""Reference pages of every public name, and of every name that an experiment file may use."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstrings import all_text, code_rows, first_paragraph, option_rows, sentence, table

API, NAMES = "reference/api", "reference/names"
PACKAGES = {
    "search_spaces": "what can be built",
    "search_spaces.blocks": "block modules",
    "controllers": "search strategies",
    "nasbench_compression": "recipes, steps and backends",
    "nasbench.data": "data sets",
    "nasbench.latency": "latency on an unseen device",
    "nasbench.models": "networks on disk",
    "nasbench.report": "reports of runs",
    "nasbench.supernet.differentiable": "differentiable search",
    "nasbench.tables": "tabular benchmarks",
    "nasbench.training": "the training loop",
    "nasbench_registry": "names, and errors of users",
}
"""Packages with public names beside `nasbench`, which is the face of all."""

GROUPS = {
    "Search": ("search", "resume", "Result", "Candidate", "Evaluator", "Callback", "maximize", "minimize", "Metric"),
    "Spaces": (
        "SearchSpace",
        "Decision",
        "Architecture",
        "ProductSpace",
        "Task",
        "TensorSpec",
        "check_space",
        "get_space",
    ),
    "Problems and training": (
        "Problem",
        "Supervised",
        "image_classification",
        "image_segmentation",
        "regression",
        "TrainingConfig",
    ),
    "Models and compression": (
        "Model",
        "save",
        "load",
        "measure",
        "compress",
        "Prune",
        "DropLayers",
        "Sparsify",
        "Decompose",
        "Distill",
        "Quantize",
        "Compile",
    ),
    "Weight sharing": ("elastic", "share", "Supernet", "load_supernet"),
}
"""Names of `nasbench` in the order of its page; those that stand in no group are the last group."""


def _home(package: str, name: str) -> tuple[str, Any]:
    """The full name of where a public name is defined, and the thing itself."""
    module = importlib.import_module(package)
    if package == "nasbench":
        place, _, attribute = module._HOMES.get(name, "nasbench.experiment.api").partition(":")
        attribute = attribute or name
        thing = getattr(importlib.import_module(place), attribute)
    else:
        thing, place, attribute = getattr(module, name), package, name
    defined = getattr(thing, "__module__", None)
    if (inspect.isclass(thing) or inspect.isfunction(thing)) and defined is not None:
        return f"{defined}.{thing.__qualname__}", thing
    return f"{_stub_home(place, attribute)}.{attribute}", thing


def _stub_home(package: str, name: str) -> str:
    """The module that a package's stub names for a public name; the package itself where it has no stub."""
    import ast

    stub = Path(importlib.import_module(package).__file__ or "").with_suffix(".pyi")
    if stub.is_file():
        for node in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
                return node.module
    return package


def api_pages(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Path and Markdown of the pages of public names, which mkdocstrings fills from docstrings.

    Args:
        missing: List to which a sentence is appended for each public name that has no docstring.
    """
    import nasbench

    public = [name for name in nasbench.__all__ if name != "__version__"]
    grouped = {name for names in GROUPS.values() for name in names}
    documented = {}
    groups = {**GROUPS, "More": tuple(name for name in public if name not in grouped)}
    parts = [
        "# nasbench, from Python\n\nThese are the names of `import nasbench as nb`. [From Python](../../python.md) has "
        "examples. The names of each package: "
        + ", ".join(f"[`{package}`]({package}.md)" for package in PACKAGES)
        + "."
    ]
    for title, names in groups.items():
        rows = []
        for name in names:
            place, thing = _home("nasbench", name)
            summary = first_paragraph(thing)
            if not summary:
                missing.append(f"nasbench.{name} has no docstring")
            documented[place] = name
            heading = f"      heading_level: 1\n      heading: nb.{name}\n      toc_label: nb.{name}\n"
            yield f"{API}/nb/{name}.md", f"---\ntitle: nb.{name}\n---\n\n::: {place}\n    options:\n{heading}"
            rows.append((f"[`nb.{name}`](nb/{name}.md)", sentence(summary)))
        if rows:
            parts += [f"## {title}", table(("name", "meaning"), rows)]
    yield f"{API}/index.md", "\n\n".join(parts) + "\n"
    for package, about in PACKAGES.items():
        module = importlib.import_module(package)
        text = [f"# {package}", sentence(f"{about}: {first_paragraph(module)}")]
        for name in module.__all__:
            place, thing = _home(package, name)
            if place in documented:
                text.append(f"## {name}\n\nSee [`nb.{documented[place]}`](nb/{documented[place]}.md).")
                continue
            text.append(
                f"::: {place}\n    options:\n      heading_level: 2\n      heading: {name}\n      toc_label: {name}"
            )
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and not first_paragraph(thing):
                missing.append(f"{package}.{name} has no docstring")
        yield f"{API}/{package}.md", "\n\n".join(text) + "\n"


def kinds() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Title, how one is named, and the things by name, of each kind that an experiment file may name."""
    from typing import get_args

    from controllers import CONTROLLERS
    from nasbench.data.registry import DATASETS
    from nasbench.evaluators.registry import EVALUATORS
    from nasbench.latency.predictors import PREDICTORS
    from nasbench.objectives.reward import Reward
    from nasbench.problems.names import PROBLEMS
    from nasbench.search.config import SchedulerConfig
    from nasbench.supernet.differentiable.registry import METHODS
    from nasbench_compression import BACKENDS, STEPS
    from search_spaces import SPACES
    from search_spaces.blocks import BLOCKS

    def sections(union: Any) -> dict[str, Any]:
        members = get_args(get_args(union)[0])
        return {get_args(one.model_fields["name"].annotation)[0]: one for one in members}

    return {
        "spaces": ("Search spaces", "space: {{name: {0}}}", dict(SPACES)),
        "blocks": ("Block modules", "", dict(BLOCKS)),
        "controllers": ("Controllers: search strategies", "controller: {{name: {0}}}", dict(CONTROLLERS)),
        "differentiable": ("Differentiable methods", "controller: {{name: {0}}}", dict(METHODS)),
        "evaluators": ("Evaluators", "evaluator: {{name: {0}}}", dict(EVALUATORS)),
        "problems": ("Problems", "problem: {{name: {0}}}", dict(PROBLEMS)),
        "data": ("Data sets", "data: {{name: {0}}}", dict(DATASETS)),
        "rewards": ("Rewards", "reward: {{name: {0}}}", sections(Reward)),
        "schedulers": ("Schedulers: early stopping", "scheduler: {{name: {0}}}", sections(SchedulerConfig)),
        "predictors": ("Latency predictors", "device: {{predictor: {0}}}", dict(PREDICTORS)),
        "steps": ("Steps of a recipe", "recipe: [{{{0}: {{...}}}}]", dict(STEPS)),
        "backends": ("Backends: runtimes", "device: {{runtime: {0}}}", dict(BACKENDS)),
    }


GIVEN = {
    "controllers": ("space", "seed", "objectives"),
    "differentiable": ("space", "seed", "objectives"),
    "evaluators": ("space", "task", "problem", "calibration", "target_device", "device", "experiment"),
    "blocks": ("inputs", "outputs"),
    "predictors": ("space", "task"),
}
"""Parameters of each kind that the framework fills in, so that a file does not name them."""


def name_pages(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Path and Markdown of the pages of names that an experiment file may use, with the options of each.

    Args:
        missing: List to which a sentence is appended for each name without a summary.
    """
    rows = []
    for kind, (title, how, things) in kinds().items():
        parts = [f"# {title}"]
        for name, thing in things.items():
            text = all_text(thing) or getattr(thing, "summary", "")
            if not text:
                missing.append(f"{name} of {kind} has no docstring")
            parts += [f"## {name}", text]
            if how:
                parts.append("```yaml\n" + how.format(name) + "\n```")
            options = option_rows(thing, GIVEN.get(kind, ()))
            if options:
                parts.append(table(("option", "value", "default", "meaning"), code_rows(options)))
        yield f"{NAMES}/{kind}.md", "\n\n".join(part for part in parts if part) + "\n"
        rows.append((f"[{title}]({kind}.md)", str(len(things)), ", ".join(f"`{name}`" for name in things)))
    text = (
        "# Names in an experiment file\n\nThese names can be values of keys; each has its options. For your own class, "
        "write `module:Class`.\n\n" + table(("kind", "number", "names"), rows) + "\n"
    )
    yield f"{NAMES}/index.md", text
