"""Store our numbers of a table: python docs/make/store_numbers.py TABLE [OPTIONS of nasbench reproduce].

Rows that need other options can be stored one command after the other: those of earlier commands stay.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

from papers import NUMBERS

COLUMNS = ("row", "column", "measured", "std", "n", "p95")


def main(words: list[str]) -> None:
    """Run ``nasbench reproduce`` and write its rows of numbers into ``docs/numbers``.

    Args:
        words: The name of a table, and options of ``nasbench reproduce``.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    asked = ["reproduce", *words, "--json"]
    start = [sys.executable, "-c", "from nasbench.cli.app import main; main()"]
    printed = json.loads(subprocess.run([*start, *asked], check=True, stdout=subprocess.PIPE, text=True).stdout)
    measured = [row for row in printed["rows"] if row["measured"] is not None]
    rows = [{key: _short(row[key]) for key in COLUMNS if row[key] is not None} for row in measured]
    file = NUMBERS / f"{words[0]}.json"
    runs = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    runs = replaced(runs, {"command": shlex.join(["nasbench", *asked]), "rows": rows})
    file.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def replaced(runs: list[dict[str, Any]], run: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs with a new one, whose rows take the place of those of the same names.

    Args:
        runs: Stored runs: the command of each, and its rows of numbers.
        run: The new run.
    """
    new = {row["row"] for row in run["rows"]}
    kept = [{**stored, "rows": [row for row in stored["rows"] if row["row"] not in new]} for stored in runs]
    return [stored for stored in kept if stored["rows"]] + [run]


def _short(value: Any) -> Any:
    """A number with six digits, which is more than a page shows."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main(sys.argv[1:])
