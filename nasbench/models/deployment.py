"""What goes with an artefact, so that somebody without this project can run it and trust it: a README and checksums."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasbench.models.normalization import in_words
from nasbench.storage.files import write_text
from nasbench_compression.registry import backends

README, CHECKSUMS = "README.md", "SHA256SUMS"
NOT_THE_ARTEFACT = frozenset({README, CHECKSUMS, "model.json"})


def write_deployment(folder: Path, about: Mapping[str, Any]) -> None:
    """Write README.md and SHA256SUMS beside a compiled artefact.

    `sha256sum --check SHA256SUMS` tells whether the files are those that were measured.

    Args:
        folder: with the artefact and its `model.json`.
        about: the content of `model.json`.
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
    channels, height, width = task["input_shape"]
    names = ", ".join(f"`{file.name}` ({file.stat().st_size:,} bytes)" for file in artefact_files(folder))
    parts = [
        f"# {compiled['backend']} {compiled['version']}, {compiled['precision']}",
        f"A classifier of {task['classes']} classes for images of {channels} x {height} x {width} (channels, height, "
        f"width): {names}.",
        _network(about)
        + (f", after {', '.join(step['name'] for step in about['steps'])}" if about["steps"] else "")
        + ". Everything about it stands in `model.json`.",
        "## Run it",
        _run(compiled, about),
        "## Images and labels",
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
    channels, height, width = about["task"]["input_shape"]
    arithmetic = "bf16" if compiled["precision"] == "bf16" else "f32"
    lines = textwrap.dedent(usage).strip()
    code = lines.format(
        file=compiled["file"], threads=compiled["threads"], batch=compiled.get("batch", 1), arithmetic=arithmetic
    )
    return (
        f"`images` is a float32 array (n, {channels}, {height}, {width}), normalized as below; this project is not "
        f"needed.\n\n```python\n{code}\nprint(logits.argmax(1))\n```"
    )


def _images(about: Mapping[str, Any]) -> str:
    normalization = about["normalization"]
    told = [in_words(normalization, about["data"], tuple(about["task"]["input_shape"]))]
    if normalization.get("labels"):
        told.append(f"Class by class: {', '.join(map(str, normalization['labels']))}.")
    return "\n\n".join(part for part in told if part) or "How images were normalized is not recorded."


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
