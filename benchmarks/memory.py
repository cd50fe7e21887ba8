"""``python -m benchmarks.memory``: how much memory a process needs to load and to train on images of a file."""

from __future__ import annotations

import json as json_format
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.command import child_environment, run_command
from benchmarks.image_file import write_images
from nasbench.cli.options import Json
from nasbench.cli.output import err, show
from nasbench_registry import UserError
from nasbench_registry.files import user_path

SETS = ("20000x32", "1000000x64")
MIB = 2**20


def command(
    sets: Annotated[
        list[str] | None, typer.Argument(help=f"IMAGESxSIDE [{' '.join(SETS)}].", show_default=False)
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="Steps of 64 images of the epoch that is trained.")] = 200,
    folder: Annotated[
        Path | None, typer.Option(help="Where the files are made, and deleted [a temporary one].", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the images and of the training.")] = 0,
    json: Json = False,
) -> None:
    """Write colour images as bytes, load them, train for a part of an epoch: the peak of resident memory after each.

    Each set is loaded and trained on in a process of its own, on one thread, as the data set `arrays`, through the
    problem image_classification. What counts is VmHWM of Linux, in which pages of a mapped file count, too.
    """
    if not sys.platform.startswith("linux"):
        raise UserError("the peak of resident memory is read from /proc/self/status, which only Linux has.")
    rows = []
    with tempfile.TemporaryDirectory(dir=None if folder is None else user_path(folder)) as temporary_folder:
        for text in sets or SETS:
            images, side = _read(text)
            free, needed = shutil.disk_usage(temporary_folder).free, images * 3 * side**2
            if needed > free - 2**30:
                raise UserError(
                    f"{text} takes {needed:,} bytes, and {temporary_folder} has {free:,} left; name another --folder."
                )
            file = Path(temporary_folder) / "images.safetensors"
            err.print(f"{text}: writing {needed / MIB:,.0f} MiB ...", highlight=False)
            write_images(file, images, side, seed)
            err.print(f"{text}: loading and training ...", highlight=False)
            rows.append({"images": images, "side": side, "bytes": needed, **_measured(file, batches, seed)})
            file.unlink()
    table = Table(title=f"peak of resident memory, MiB, in {batches} steps of 64 images")
    for column in ("images", "bytes of images", "libraries", "loading", "training", "images a second"):
        table.add_column(column, justify="right")
    for row in rows:
        peaks = [f"{row[name] / MIB:,.0f}" for name in ("libraries_bytes", "loading_bytes", "training_bytes")]
        description = f"{row['images']:,} x {row['side']}x{row['side']}x3"
        table.add_row(description, f"{row['bytes']:,}", *peaks, f"{row['images_per_s']:,.0f}")
    show(rows, table, as_json=json)


def _read(text: str) -> tuple[int, int]:
    count, _, side = text.partition("x")
    if not (count.isdecimal() and side.isdecimal() and int(count) >= 1000 and int(side) >= 8):
        raise UserError(f"{text!r} is no set of images; give IMAGESxSIDE, such as {SETS[0]}, at least 1000x8.")
    return int(count), int(side)


def _measured(file: Path, batches: int, seed: int) -> dict[str, Any]:
    child = [sys.executable, "-m", "benchmarks.memory_child", str(file), str(batches), str(seed)]
    completed = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True, env=child_environment())
    measured: dict[str, Any] = json_format.loads(completed.stdout)
    return measured


if __name__ == "__main__":
    run_command(command, "memory")
