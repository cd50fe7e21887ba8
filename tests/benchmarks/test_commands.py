"""Every command of benchmarks/ starts from a clone, and nothing that is installed needs one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if 'run_command(command, "' in path.read_text()
)


def test_the_documentation_lists_the_commands():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert len(COMMANDS) >= 5
    assert [name for name in COMMANDS if f"    python -m benchmarks.{name} " not in text] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_starts_and_refuses_what_it_does_not_know(name):
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    shown = subprocess.run([*command, "-h"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0, shown.stderr
    assert f"python -m benchmarks.{name}" in shown.stdout
    wrong = subprocess.run(
        [*command, "--no-such-option"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
