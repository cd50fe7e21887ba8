"""Work in a process of its own: a compiler that crashes or hangs takes nothing else with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_TAIL = 400  # characters of the child's last words that an error repeats


class ChildError(RuntimeError):
    """The child did not finish; the message says why, in one sentence."""


def run_child(
    arguments: Sequence[str],
    request: Mapping[str, Any],
    *,
    timeout_s: float,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """What a Python program answers to a request.

    The child is started with two more arguments, a file that holds the request as JSON and one where it writes its
    answer as JSON; `answer` does both for it. What it prints is kept for the error. When this returns, the child and
    all that it started are gone, however it ended.

    Args:
        arguments: of the interpreter, such as ["-m", "package.module"] or the path of a script.
        request: JSON.
        timeout_s: after which it is killed.
        python: the interpreter.
        environment: variables beside those of this process; an empty value takes one away.

    Raises:
        ChildError: it was killed, ended with an error, or did not answer.
    """
    variables = {name: value for name, value in {**os.environ, **(environment or {})}.items() if value != ""}
    with tempfile.TemporaryDirectory() as folder:
        asked, answered, said = (Path(folder) / name for name in ("request.json", "answer.json", "output.txt"))
        asked.write_text(json.dumps(dict(request)), encoding="utf-8")
        with said.open("wb") as output:
            child = subprocess.Popen(
                [python, *arguments, str(asked), str(answered)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,  # so that whatever it starts can be ended with it
            )
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildError(f"it was still running after {timeout_s:g} s and was ended") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.returncode < 0:
            raise ChildError(f"its process died of {signal.Signals(-child.returncode).name}{_last_words(said)}")
        if child.returncode or not answered.exists():
            raise ChildError(f"its process ended with code {child.returncode}{_last_words(said)}")
        found = json.loads(answered.read_text(encoding="utf-8"))
    if "error" in found:
        raise ChildError(found["error"])
    return found["result"]


def answer(work: Callable[[Any], Any]) -> None:
    """The whole life of a child: read the request, do the work, write the answer or the one line of its error."""
    asked, answered = (Path(argument) for argument in sys.argv[-2:])
    try:
        found = {"result": work(json.loads(asked.read_text(encoding="utf-8")))}
    except Exception as error:  # whatever a compiler raises is the answer
        found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:_TAIL] or 'no message'}"}
    answered.write_text(json.dumps(found), encoding="utf-8")


def _last_words(output: Path) -> str:
    text = output.read_text(encoding="utf-8", errors="replace").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][-_TAIL:]}" if lines else ""
