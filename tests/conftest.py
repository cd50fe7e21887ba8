"""What all tests share."""

import importlib
import os
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from tests_support import TINY_SPACE, experiment_of

from nasbench.cli.app import main
from nasbench.experiment.loading import parse_experiment

torch.set_num_threads(1)
# Of all processes that tests start, too: runs with other kernels (ATEN_CPU_CAPABILITY) share Inductor's cache folder.
os.environ.setdefault("TORCH_COMPILE_CACHE_KEY_TAG", torch.backends.cpu.get_cpu_capability())

SEED_SHIFT = Path(__file__).parent / "seed_shift"


def pytest_addoption(parser):
    parser.addoption("--seeded", action="store_true", help="only the tests that NASBENCH_TEST_SEED_SHIFT can change")


def pytest_configure(config):
    config.addinivalue_line("markers", "fixed_seeds: golden values, whose seeds NASBENCH_TEST_SEED_SHIFT leaves alone")
    sys.path.append(str(SEED_SHIFT))
    config.pluginmanager.register(importlib.import_module("seeded").SeededTests(config))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("fixed_seeds"):
            patch.delenv("NASBENCH_TEST_SEED_SHIFT", raising=False)
        return (yield)


def pytest_collection_modifyitems(config, items):
    """Leave out what this machine has no hardware or rights for; a test that CI skips means that data are missing."""
    left_out = [item for item in items if not all(mark.args[0] for mark in item.iter_markers("only_where"))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def data_file():
    """A file below the folder that NASBENCH_DATA names when the test begins; skips where it names none."""
    folder = os.environ.get("NASBENCH_DATA")

    def find(relative: str) -> Path:
        if not folder:
            pytest.skip(f"NASBENCH_DATA is not set, and this test reads {relative} from the folder that it names")
        path = Path(folder) / relative
        assert path.exists(), f"NASBENCH_DATA is {folder}, which has no {relative}"
        return path

    return find


@pytest.fixture
def run_main(monkeypatch, capfd, tmp_path):
    """Call what a command starts in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(main, *words):
        monkeypatch.setattr(sys, "argv", ["nasbench", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call


@pytest.fixture
def nasbench(run_main):
    """Call the command line: (exit code, standard output, standard error)."""
    return partial(run_main, main)


@pytest.fixture
def small():
    return lambda **changes: parse_experiment(experiment_of(**changes))


@pytest.fixture
def write(tmp_path):
    """Write an experiment file of a small search."""

    def make(name="small.yaml", **changes):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(experiment_of(**changes)))
        return path

    return make


@pytest.fixture
def user_folder(tmp_path):
    """A folder outside of the repository with a space of 20 lines."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my_space.py").write_text(textwrap.dedent(TINY_SPACE))
    return folder
