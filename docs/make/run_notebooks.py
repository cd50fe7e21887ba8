"""Run notebooks of the documentation and store their outputs in them: python docs/make/run_notebooks.py [NAME]..."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs that it has in a new kernel.

    Args:
        path: The notebook.
        folder: Working folder of the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    paths = [str(ROOT), str(ROOT / "compression"), os.environ.get("PYTHONPATH", "")]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PLOTLY_RENDERER": "plotly_mimetype", "TQDM_DISABLE": "1"}
    notebook = nbformat.read(path, as_version=4)
    about = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=about, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _passing(output)]
    notebook.metadata.pop("widgets", None)
    return notebook


def _passing(output: nbformat.NotebookNode) -> bool:
    """Whether an output is of no use when the cell has ended: progress bars and warnings."""
    data = output.get("data", {})
    if output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in data:
        return True
    return output.output_type == "display_data" and not data.get("text/plain", "x").strip()


def main(names: list[str]) -> None:
    """Run these notebooks, or all of them."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(run(path, Path(folder)), path)
        print(f"{path.stem}: {time.monotonic() - began:.0f} s, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
