"""Notebooks and Python examples of the documentation run in a real notebook kernel, cell by cell."""

import importlib.util
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))

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


def test_the_python_example_of_the_readme(tmp_path, monkeypatch):
    """A search, its front, and its best network as an artefact, in ten statements."""
    (source,) = cells("README.md")
    assert len([line for line in source.splitlines() if line.strip()]) <= 11
    (printed,) = execute(tmp_path, [source], monkeypatch)
    assert "architecture" in printed and "test_acc_pct" in printed and "ms" in printed
    assert (tmp_path / "runs/first/report.html").exists()
    assert (tmp_path / "artefacts/first/model.onnx").exists()


def test_a_function_scores_candidates_under_ray_with_early_stopping(tmp_path, monkeypatch):
    source, after = cells("docs/python.md")[0], "print(result.best.metrics, set(result.candidates['status']))"
    table, printed = execute(tmp_path, [source, after], monkeypatch)
    assert "val_mae" in table and "weights" in table
    assert "val_mae" in printed
    assert "done" in printed and "failed" not in printed


def test_a_searched_network_is_compressed_compiled_saved_and_loaded(tmp_path, monkeypatch):
    (printed,) = execute(tmp_path, [cells("docs/python.md")[1]], monkeypatch)
    assert "(3, 10)" in printed


def test_a_space_of_a_notebook_is_searched_under_ray_in_twenty_lines(tmp_path, monkeypatch):
    source = cells("docs/python.md")[2]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    (printed,) = execute(tmp_path, [source], monkeypatch)
    assert "val_acc_pct" in printed and "Conv2d" in printed
    assert (tmp_path / "runs/tiny/report.html").exists()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_of_the_documentation(notebook, tmp_path, monkeypatch, data_file):
    """It runs, and what it shows has a picture; so has the stored one, which the site shows."""
    if notebook.stem == "paper-table":
        data_file("nasbench201/nasbench201.csv.gz")
    spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "docs/make/run_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    for document in (module.run(notebook, tmp_path), nbformat.read(notebook, as_version=4)):
        outputs = [output for cell in document.cells if cell.cell_type == "code" for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error"]
        assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
