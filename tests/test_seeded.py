"""`--seeded` leaves out exactly what no shift of the seeds can change, and nothing that is not known to be so."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parent
DRAWS = """
    import functools
    import subprocess
    import sys

    import numpy as np
    import pytest
    import torch

    @functools.cache
    def cached():
        return np.random.default_rng(0).random()

    @pytest.fixture(scope="module")
    def drawn():
        return torch.rand(1)

    def test_nothing(): pass

    @pytest.mark.fixed_seeds
    def test_golden(): np.random.default_rng(0)

    def test_seed(): np.random.default_rng(0)

    def test_generator(): torch.Generator().manual_seed(0)

    def test_global_generator(): torch.rand(1)

    def test_global_generator_restored():
        with torch.random.fork_rng():
            torch.rand(1)

    def test_fixture(drawn): pass

    def test_fixture_again(drawn): pass

    def test_cache(): cached()

    def test_cache_again(): cached()

    def test_child(): subprocess.run([sys.executable, "-c", "import numpy; numpy.random.default_rng(0)"], check=True)
"""
IMPORTS = """
    import drawn_at_import

    def test_that_reads_it(): pass
"""
IMPORTED = """
    import numpy as np

    VALUE = np.random.default_rng(0).random()
"""


def outcome(folder, *words, shift=0) -> set[str]:
    """The names of the tests that pass; all have to."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NASBENCH_TEST")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    environment |= {"NASBENCH_TEST_SEED_SHIFT": str(shift)}
    command = [sys.executable, "-m", "pytest", "-rp", "-p", "conftest", "--rootdir", ".", *words, "."]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return {line.rpartition("::")[2] for line in run.stdout.splitlines() if line.startswith("PASSED")}


def test_what_a_shift_cannot_change_is_left_out_until_the_code_changes(tmp_path):
    files = {"test_draws": DRAWS, "test_imports": IMPORTS, "drawn_at_import": IMPORTED}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    every = outcome(tmp_path, shift=1)
    assert len(every) == textwrap.dedent(DRAWS + IMPORTS).count("def test_")
    assert every - outcome(tmp_path, "--seeded", shift=2) == {"test_nothing", "test_golden"}
    with (tmp_path / "test_draws.py").open("a") as file:
        file.write("# changed\n")
    assert every - outcome(tmp_path, "--seeded") == {"test_golden"}
