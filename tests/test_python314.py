"""From Python 3.14 on `compression` is a package of the standard library; nothing here may hide it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def standard_library(tmp_path):
    """A folder that lies behind the clone on the path, as the standard library does, with a package `compression`."""
    package = tmp_path / "standard" / "compression"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("WHERE = 'the standard library'\n")
    (package / "zstd.py").write_text("NAME = 'zstd'\n")
    return package.parent


def python(folder, standard_library, *words, first=()):
    """Python in a folder, with the standard folder behind it on the path, and the project's own code behind both."""
    path = os.pathsep.join(map(str, (*first, standard_library, ROOT / "compression")))
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_folder_of_the_clone_is_no_package():
    assert not (ROOT / "compression" / "__init__.py").exists()
    assert (ROOT / "compression" / "nasbench_compression" / "__init__.py").exists()


def test_a_program_in_the_clone_finds_the_package_of_the_standard_library(standard_library):
    code = "import compression, compression.zstd; print(compression.WHERE, compression.zstd.NAME)"
    done = python(ROOT, standard_library, "-c", code, first=[ROOT])
    assert done.stdout.strip() == "the standard library zstd", done.stderr


def test_both_packages_are_imported_in_one_program(standard_library):
    code = "import compression, nasbench_compression; print(compression.WHERE, nasbench_compression.Step.__name__)"
    done = python(ROOT, standard_library, "-c", code, first=[ROOT])
    assert done.stdout.strip() == "the standard library Step", done.stderr


def test_a_virtual_environment_is_made_in_the_clone(standard_library, tmp_path):
    done = python(ROOT, standard_library, "-m", "venv", "--without-pip", str(tmp_path / "environment"), first=[ROOT])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "environment" / "pyvenv.cfg").exists()


@pytest.mark.parametrize(
    "words", [["--version"], ["list", "steps"], ["list", "controllers"], ["search", "-h"]], ids=" ".join
)
def test_commands_that_are_started_in_the_clone_work(standard_library, words):
    code = "import compression; assert compression.WHERE; from nasbench.cli.app import main; main()"
    done = python(ROOT, standard_library, "-c", code, *words, first=[ROOT])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_wheel_holds_what_runs_and_nothing_else(tmp_path):
    """As setuptools finds it: all five packages, stubs and tables of papers; no tests, no benchmarks."""
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path / "lib")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = {file.relative_to(tmp_path / "lib").as_posix() for file in (tmp_path / "lib").rglob("*") if file.is_file()}
    tops = {file.partition("/")[0] for file in files}
    assert tops == {"search_spaces", "controllers", "nasbench_compression", "nasbench", "nasbench_registry"}
    assert {"nasbench/tables/papers/nats-bench-tss.yaml", "nasbench/data/__init__.pyi", "nasbench/py.typed"} <= files
