"""What short commands import; `python -m benchmarks.start` times them."""

import json
import subprocess
import sys

import nasbench as nb
from nasbench.cli.app import COMMANDS
from nasbench.cli.list_ import KINDS

STATISTICS = ("pandas", "scipy.stats", "sklearn", "plotly")
TENSORS = (*STATISTICS, "torch", "ray", "scipy", "sqlalchemy", "torch_pruning", "tensorly", "fvcore")
RECORD = ("optuna", "numpy", "pydantic", "safetensors")
"""What reading the record of a run needs."""
HEAVY = (*TENSORS, *RECORD)
TYPER = {"pydantic"}
"""What typer has read the arguments of a command."""

CALL = """
import json, sys
from nasbench.cli.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["nasbench", *words]
    try:
        main()
    except SystemExit as left:
        assert not left.code, (words, left.code)
"""


def imported(code, *words):
    """Which of `HEAVY` a fresh interpreter has imported after some code."""
    lines = f"{code}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{lines}", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def imported_by(*commands):
    return imported(CALL, json.dumps([list(map(str, words)) for words in commands]))


def test_the_package_imports_nothing_of_it():
    assert imported("import nasbench") == set()
    light = ("nasbench_registry", "search_spaces", "controllers", "nasbench_compression", "nasbench.report")
    assert imported(f"import {', '.join(light)}") == set()
    assert imported("import nasbench; nasbench.UserError") == set()


def test_a_control_imports_it():
    """That a search needs them shows that their absence elsewhere means something."""
    assert {"torch", "optuna", "numpy", "pydantic"} <= imported("import nasbench.experiment.api")


def test_a_process_that_measures_a_model_imports_no_statistics():
    """Each cell of a matrix has such a process, and digits lie in a package that takes two seconds to import."""
    code = "import nasbench.deploy.attempt\nfrom nasbench.data import load_data\nload_data('digits')"
    assert imported(code).isdisjoint({*STATISTICS, "optuna"})


def test_a_process_that_prepares_an_experiment_imports_no_statistics():
    """Each worker and each resume is such a process."""
    assert imported("import nasbench.experiment.build").isdisjoint(STATISTICS)


def test_help_imports_nothing_of_it():
    assert imported_by(["--help"], ["--version"]) == set()


def test_help_of_no_command_imports_any_of_it():
    assert imported_by(*([name, "--help"] for name in COMMANDS), ["data", "fetch", "--help"]) <= TYPER


def test_lists_of_what_is_ours_import_nothing_of_it():
    kinds = ("spaces", "controllers", "predictors", "metrics")
    assert set(kinds) < set(KINDS)
    assert imported_by(*(["list", kind] for kind in kinds)) <= TYPER


def test_no_list_imports_tensors():
    kinds = ("evaluators", "schedulers", "rewards", "steps", "backends", "devices", "problems", "data", "tables")
    assert set(kinds) < set(KINDS)
    assert imported_by(*(["list", kind] for kind in kinds)) <= set(RECORD)


def test_a_run_is_looked_at_without_tensors(tmp_path):
    nb.search(
        "nasbench201",
        evaluate=lambda candidate: {"convolutions": float(candidate.architecture.count("conv"))},
        objectives={"convolutions": "max"},
        candidates=3,
        folder=tmp_path / "runs/mine",
        progress=False,
    )
    assert imported_by(["status", tmp_path / "runs/mine"]) <= set(RECORD)
    assert imported_by(["list", "runs", tmp_path / "runs"]) <= set(RECORD)
