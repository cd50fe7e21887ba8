"""The Python that runs, and the ones that it starts."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nasbench.doctor.finding import Finding

LOWEST, HIGHEST = (3, 11), (3, 14)
LITERT = "NASBENCH_LITERT_PYTHON"


def look(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Iterator[Finding]:
    """Version, environment, and the interpreter of another environment that converts to TFLite.

    Args:
        version: Version of the interpreter.
    """
    text = f"Python {'.'.join(map(str, version))} at {sys.executable}, {platform.machine()}, {platform.system()}"
    if not LOWEST <= version[:2] <= HIGHEST:
        yield Finding(
            "python",
            "problem",
            f"{text}; this project is tested with {LOWEST[0]}.{LOWEST[1]} to {HIGHEST[0]}.{HIGHEST[1]}.",
            "make an environment with one of them, such as: python3.12 -m venv .venv",
        )
    elif sys.maxsize < 2**32:
        yield Finding("python", "problem", f"{text}; it has 32 bits, and PyTorch needs 64.", "install a 64-bit Python")
    else:
        yield Finding("python", "ok", text)
    yield from _command()
    named = os.environ.get(LITERT)
    if named:
        yield _converter(named)


def _command() -> Iterator[Finding]:
    """Whether ``nasbench`` on the path belongs to this interpreter."""
    command = shutil.which("nasbench")
    if command is None:
        yield Finding(
            "command",
            "note",
            "no command nasbench is on the PATH.",
            f"call {Path(sys.executable).parent / 'nasbench'}, or activate the environment",
        )
        return
    folder = Path(command).resolve().parent
    if folder != Path(sys.executable).parent.resolve() and folder != Path(sys.prefix, "bin").resolve():
        yield Finding(
            "command",
            "problem",
            f"nasbench on the PATH is {command}, which is not of the environment {sys.prefix} that runs now: a shell "
            f"and a notebook would use different versions.",
            f"source {Path(sys.prefix) / 'bin' / 'activate'}",
        )
    else:
        yield Finding("command", "ok", f"nasbench on the PATH is {command}")


def _converter(program: str) -> Finding:
    mend = "run: make litert, and set it to .venv-litert/bin/python"
    if shutil.which(program) is None:
        return Finding("litert", "problem", f"{LITERT} is {program}, which is no program that can be run.", mend)
    try:
        completed = subprocess.run(
            [program, "-c", "import importlib.util as u; print(u.find_spec('litert_torch') is not None)"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("litert", "problem", f"{LITERT} is {program}, which cannot be run ({error}).", mend)
    if completed.stdout.strip() != "True":
        return Finding("litert", "problem", f"{LITERT} is {program}, which has no package litert-torch.", mend)
    return Finding("litert", "ok", f"{LITERT} is {program}, which converts networks to TFLite files")
