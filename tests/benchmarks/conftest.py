"""What the tests of benchmarks/ share."""

import importlib

import pytest

from benchmarks.command import run_command


@pytest.fixture
def benchmark(run_main):
    """Call ``python -m benchmarks.MODULE``: (exit code, standard output, standard error)."""

    def call(module, *words):
        command = importlib.import_module(f"benchmarks.{module}").command
        return run_main(lambda: run_command(command, module), *words)

    return call
