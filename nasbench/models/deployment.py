"""A README and checksums beside an artefact, so that somebody without this project can run it and trust it."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasbench.models.normalization import in_words
from nasbench.storage.files import write_text
from nasbench_compression.registry import backends
from search_spaces import Task

README, CHECKSUMS = "README.md", "SHA256SUMS"
NOT_THE_ARTEFACT = frozenset({README, CHECKSUMS, "model.json"})


def write_deployment(folder: Path, about: Mapping[str, Any]) -> None:
    """Write README.md and SHA256SUMS beside a compiled artefact.

    `sha256sum --check SHA256SUMS` tells whether the files are those that were measured.

    Args:
        folder: Folder with the artefact and its `model.json`.
        about: Content of `model.json`.
    """
    write_text(folder / README, _readme(folder, about))
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != CHECKSUMS)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]
    write_text(folder / CHECKSUMS, "\n".join(lines) + "\n")


def artefact_files(folder: Path) -> list[Path]:
    """The files of a compiled artefact."""
    return sorted(file for file in folder.iterdir() if file.is_file() and file.name not in NOT_THE_ARTEFACT)


def _network(about: Mapping[str, Any]) -> str:
    if "build" in about:
        return f"Network: `{about['build']['function']}` with {dict(about['build']['options'])}"
    return f"Architecture: `{about['architecture']['text']}` of the space `{about['space']['name']}`"


def _readme(folder: Path, about: Mapping[str, Any]) -> str:
    compiled, task = about["compiled"], about["task"]
    names = ", ".join(f"`{file.name}` ({file.stat().st_size:,} bytes)" for file in artefact_files(folder))
    parts = [
        f"# {compiled['backend']} {compiled['version']}, {compiled['precision']}",
        f"{_purpose(Task.from_json(task), about['normalization'])}: {names}.",
        _network(about)
        + (f", after {', '.join(step['name'] for step in about['steps'])}" if about["steps"] else "")
        + ". Everything about it stands in `model.json`.",
        "## Run it",
        _run(compiled, about),
        "## Images and labels" if len(Task.from_json(task).input_shape) == 3 else "## Inputs and outputs",
        _images(about),
    ]
    numbers = _numbers(about["metrics"])
    if numbers:
        parts += ["## Numbers", numbers]
    parts += ["## Is it whole?", f"    sha256sum --check {CHECKSUMS}"]
    return "\n\n".join(parts) + "\n"


def _run(compiled: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    usage = backends.find(compiled["backend"]).usage
    if not usage:
        return (
            f"Backend `{compiled['backend']}` writes no file that runs by itself: load this folder with `nasbench "
            f"benchmark`, or with `nasbench.models.load_compiled`."
        )
    shape = ", ".join(map(str, ("n", *Task.from_json(about["task"]).input_shape)))
    arithmetic = "bf16" if compiled["precision"] == "bf16" else "f32"
    lines = textwrap.dedent(usage).strip()
    code = lines.format(
        file=compiled["file"], threads=compiled["threads"], batch=compiled.get("batch", 1), arithmetic=arithmetic
    )
    return (
        f"`images` is a {Task.from_json(about['task']).inputs[0].dtype} array ({shape}), normalized as below; this "
        f"project is not needed.\n\n```python\n{code}\n{_output_code(about['normalization'])}\n```"
    )


def _purpose(task: Task, normalization: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, task.input_shape))
    inputs_text = f"images of {shape} (channels, height, width)" if len(task.input_shape) == 3 else f"inputs of {shape}"
    output_shape = task.outputs[0].shape
    if normalization.get("targets"):
        return f"A network that tells {output_shape[0]} number(s) of {inputs_text}"
    if len(output_shape) == 1:
        return f"A classifier of {output_shape[0]} classes for {inputs_text}"
    return f"A network that gives {' x '.join(map(str, output_shape))} for {inputs_text}"


def _output_code(normalization: Mapping[str, Any]) -> str:
    """How what the network gives is read, in a line of Python."""
    scale = normalization.get("targets")
    return f"print(logits * {scale['std']} + {scale['mean']})" if scale else "print(logits.argmax(1))"


def _images(about: Mapping[str, Any]) -> str:
    normalization = about["normalization"]
    paragraphs = [in_words(normalization, about["data"], Task.from_json(about["task"]).input_shape)]
    if normalization.get("targets"):
        paragraphs.append(
            "What the network gives is in deviations from the mean of the training targets; `* std + mean` of "
            f"{normalization['targets']} makes them what they were."
        )
    if normalization.get("labels"):
        paragraphs.append(f"Class by class: {', '.join(map(str, normalization['labels']))}.")
    return (
        "\n\n".join(paragraph for paragraph in paragraphs if paragraph) or "How images were normalized is not recorded."
    )


def _numbers(metrics: Mapping[str, Any]) -> str:
    rows = []
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            rows.append(f"- {name}: {value:,.6g}")
        elif name == "latency_ms" and isinstance(value, Mapping):
            rows.append(
                f"- latency_ms: {value['median']:.4g} (95 % interval {value['low']:.4g} to {value['high']:.4g}; batch "
                f"{value['batch']}, {value['threads']} thread(s), {value['device']})"
            )
    return "\n".join(rows)
