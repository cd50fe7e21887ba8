"""Store our numbers of a table: python docs/make/store_numbers.py TABLE [OPTIONS of nasbench reproduce]."""

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
    stored = {"command": shlex.join(["nasbench", *asked]), "rows": rows}
    (NUMBERS / f"{words[0]}.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def _short(value: Any) -> Any:
    """A number with six digits, which is more than a page shows."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main(sys.argv[1:])
