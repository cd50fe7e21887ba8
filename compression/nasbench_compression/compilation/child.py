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
from typing import Any, Protocol

_TAIL = 400  # characters of the child's last words that an error repeats


class ChildError(RuntimeError):
    """The child did not finish; the message says why, in one sentence."""


class Started(Protocol):
    """A child that was started, the leader of a session of its own; a `subprocess.Popen` is one."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: It was still running after so many seconds.
        """


def run_child(
    arguments: Sequence[str],
    request: Mapping[str, Any],
    *,
    timeout_s: float,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run a Python program and return its answer to a request.

    The child is started with two more arguments, a file that holds the request as JSON and one where it writes its
    answer as JSON; `answer` does both for it. What it prints is kept for the error. When this returns, the child and
    all that it started are gone, however it ended.

    Args:
        arguments: Arguments of the interpreter, such as ["-m", "package.module"] or the path of a script.
        request: Request of the child, JSON.
        timeout_s: Seconds after which the child is killed.
        python: Path of the Python interpreter.
        environment: Environment variables beside those of this process; an empty value takes one away.

    Raises:
        ChildError: The child was killed, ended with an error, or did not answer.
    """
    variables = {name: value for name, value in {**os.environ, **(environment or {})}.items() if value != ""}

    def start(request_file: Path, answer_file: Path, output_file: Path) -> Started:
        with output_file.open("wb") as output:
            return subprocess.Popen(
                [python, *arguments, str(request_file), str(answer_file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,  # so that whatever it starts can be ended with it
            )

    return converse(start, request, timeout_s)


def converse(start: Callable[[Path, Path, Path], Started], request: Mapping[str, Any], timeout_s: float) -> Any:
    """The answer of a child to a request; see `run_child`.

    Args:
        start: Function that starts the child, given the files of its request, of its answer and of what it prints.
        request: Request of the child, JSON.
        timeout_s: Seconds after which the child is killed.

    Raises:
        ChildError: The child was killed, ended with an error, or did not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        request_file, answer_file, output_file = (
            Path(folder) / name for name in ("request.json", "answer.json", "output.txt")
        )
        request_file.write_text(json.dumps(dict(request)), encoding="utf-8")
        child = start(request_file, answer_file, output_file)
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildError(f"it was still running after {timeout_s:g} s and was ended") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if code < 0:
            raise ChildError(f"its process died of {signal.Signals(-code).name}{_last_words(output_file)}")
        if code or not answer_file.exists():
            raise ChildError(f"its process ended with code {code}{_last_words(output_file)}")
        reply = json.loads(answer_file.read_text(encoding="utf-8"))
    if "error" in reply:
        raise ChildError(reply["error"])
    return reply["result"]


def answer(work: Callable[[Any], Any]) -> None:
    """The whole life of a child: read the request, do the work, write the answer or the one line of its error."""
    request_file, answer_file = (Path(argument) for argument in sys.argv[-2:])
    try:
        reply = {"result": work(json.loads(request_file.read_text(encoding="utf-8")))}
    except Exception as error:  # whatever a compiler raises is the answer
        reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:_TAIL] or 'no message'}"}
    answer_file.write_text(json.dumps(reply), encoding="utf-8")


def _last_words(output: Path) -> str:
    text = output.read_text(encoding="utf-8", errors="replace").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][-_TAIL:]}" if lines else ""
