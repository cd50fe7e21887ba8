"""Python examples of the documentation run in a real notebook kernel, cell by cell."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def cells(file):
    return re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), flags=re.DOTALL)


def execute(folder, sources, monkeypatch):
    """The outputs of each cell, as text."""
    paths = [str(ROOT), str(ROOT / "compression"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    about = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=about).execute()
    return [
        "".join(
            "".join(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            for output in cell["outputs"]
        )
        for cell in notebook.cells
    ]


def test_the_first_python_example_of_the_readme(tmp_path, monkeypatch):
    """A space of a cell is searched under Ray, its front drawn, its best network rebuilt, in at most 20 lines."""
    source = cells("README.md")[0]
    lines = [line for line in source.splitlines() if line.strip()]
    assert len(lines) <= 20
    shows = "print(len(result.front), result.best.metrics['val_acc_pct'], result._repr_html_().count('<tr'))"
    example, told = execute(tmp_path, [source, shows], monkeypatch)
    assert "Conv2d" in example and "array([" in example
    assert int(told.split()[0]) >= 1
    assert (tmp_path / "runs/tiny/report.html").exists()


def test_a_function_scores_candidates_under_ray_with_early_stopping(tmp_path, monkeypatch):
    source, after = cells("docs/python.md")[0], "print(result.best.metrics, set(result.candidates['status']))"
    table, told = execute(tmp_path, [source, after], monkeypatch)
    assert "val_mae" in table and "weights" in table
    assert "val_mae" in told
    assert "done" in told and "failed" not in told


def test_a_searched_network_is_compressed_compiled_saved_and_loaded(tmp_path, monkeypatch):
    (printed,) = execute(tmp_path, [cells("docs/python.md")[1]], monkeypatch)
    assert "(3, 10)" in printed
