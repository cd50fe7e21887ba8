"""The spread over seeds of what tests check with `bounds.py`: python tests/spread.py TEST... [--seeds 20].

Each of the shifts 1, 2, ... of all seeds (see `seed_shift`) is a run of pytest of its own. Tests that fail in
another assertion are named; options that are unknown here are those of pytest.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from bounds import VARIABLE, margin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many shifts of all seeds")
    parser.add_argument("--first", type=int, default=1, help="the first shift")
    parser.add_argument("--values", type=Path, help="a file that the values are added to, and all of it is summed up")
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        path = (arguments.values or Path(folder) / "values.jsonl").resolve()
        for shift in range(arguments.first, arguments.first + arguments.seeds):
            environment = {VARIABLE: str(path), "NASBENCH_TEST_SEED_SHIFT": str(shift)}
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *rest]
            run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
            lines = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            print(f"shift {shift}: " + "\n    ".join([(run.stdout or run.stderr).splitlines()[-1], *lines]), flush=True)
        values = collections.defaultdict(list)
        for row in map(json.loads, path.read_text().splitlines() if path.exists() else ()):
            values[row["test"], row["what"]].append(row["value"])
    for (test, name), numbers in values.items():
        mean, sd, n = np.mean(numbers), np.std(numbers, ddof=1), len(numbers)
        bounds = "" if n < 20 else f"; bounds {mean - margin(sd, n):.4g} and {mean + margin(sd, n):.4g}"
        print(
            f"{test}\n    {name}: mean={mean:.4g}, sd={sd:.3g}, n={n}; {min(numbers):.4g} to {max(numbers):.4g}{bounds}"
        )


if __name__ == "__main__":
    main()
