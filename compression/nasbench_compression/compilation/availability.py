"""Requirements of backends on this machine, checked without importing torch or a runtime, for listings."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from nasbench_registry.lazy import load

INTERPRETER = "NASBENCH_LITERT_PYTHON"
MADE = Path(".venv-litert") / "bin" / "python"  # by `make litert`


def missing_packages(name: str, packages: Sequence[str], extra: str) -> str | None:
    """The packages of a backend that are not installed, and what installs them; None if all are."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if not missing:
        return None
    return (
        f"backend {name!r} needs {', '.join(missing)}, which is not installed; "
        f"run: pip install 'nasbench-framework[{extra}]'"
    )


def why_unavailable(name: str, packages: Sequence[str], extra: str, also_needs: str) -> str | None:
    """What is missing and how to get it, None if nothing is; the arguments are attributes of `Backend`."""
    return missing_packages(name, packages, extra) or (load(also_needs)(name) if also_needs else None)


def no_compiler(name: str) -> str | None:
    """What is missing of what Inductor needs to compile, a C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is not None:
        return None
    return (
        f"backend {name!r} needs a C++ compiler, and there is no {compiler!r} here; install g++, or name "
        f"another one in the variable CXX."
    )


def no_compiler_for_tvm(name: str) -> str | None:
    """A C++ compiler that TVM will find by its own rules, without the seconds that importing it takes."""
    if os.environ.get("CXX") or os.environ.get("CC"):
        return None
    if any(shutil.which(compiler) for compiler in ("g++", "gcc", "clang++", "clang", "c++", "cc")):
        return None
    return f"backend {name!r} needs a C++ compiler, and there is none on the path; install g++ or set CXX to one."


def no_converter(name: str) -> str | None:
    """The environment that makes TFLite files; a file runs without it."""
    if converter() is not None:
        return None
    named = os.environ.get(INTERPRETER)
    problem = f"{INTERPRETER} is {named}, where no interpreter is" if named else f"there is no {MADE} here"
    return (
        f"backend {name!r} converts networks in an environment of its own, and {problem}; run: make litert, and set "
        f"{INTERPRETER} to the .venv-litert/bin/python that it makes."
    )


def converter() -> Path | None:
    """The interpreter that makes TFLite files, or None."""
    named = os.environ.get(INTERPRETER)
    python = Path(named) if named else Path.cwd() / MADE
    return python if os.access(python, os.X_OK) else None


def no_gpu(name: str) -> str | None:
    """A GPU that torch finds, which is asked last."""
    import torch

    if torch.cuda.is_available():
        return None
    return f"backend {name!r} needs an NVIDIA GPU and a torch that was built for CUDA; neither is seen here."
