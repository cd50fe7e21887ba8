"""A device behind a command: another machine that is reached by ssh, a simulator, a board with a runner of its own."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nasbench.devices.measure import TOLD, Latency, summarise
from nasbench.devices.reported import UNKNOWN, ReportedDevice, reported_latency
from nasbench_compression import CompiledModel
from nasbench_registry import UserError
from search_spaces import Task

PLACES = ("{model}", "{batch}", "{threads}", "{input_shape}")
NO_FILE = ("eager",)  # runtimes whose artefact cannot run by itself


@dataclass(frozen=True)
class CommandDevice(ReportedDevice):
    """A command measures the file that a network is compiled to, and prints what it measured as JSON.

    The network is compiled here, for `runtime`; the artefact is stored, and its path takes the place of ``{model}`` in
    the command. The last line that the command prints is an object with `latency_ms`: a list of the times of calls, one
    number, or an object with `median` and as far as they are known `p95`, `iqr` and `repeats`; all in milliseconds.
    `device` and `runtime` may name what ran the file.

    Attributes:
        command: Command in words as in a shell, but no shell runs them; ``{model}``, ``{batch}``, ``{threads}`` and
            ``{input_shape}``, such as 3,32,32, are filled in.
        timeout_s: Seconds after which a command has failed.
    """

    command: str = ""
    timeout_s: float = 60.0

    name: ClassVar[str] = "command"
    summary: ClassVar[str] = "a command that measures an exported network, on another machine say"
    order: ClassVar[str] = "one after the other"

    def why_not(self, compiled: CompiledModel) -> str | None:
        """It takes files of its own runtime."""
        backend = compiled.describe()["backend"]
        if backend == self.runtime:
            return None
        return f"the command measures files of {self.runtime}, and this is an artefact of {backend}"

    @property
    def machine(self) -> str:
        """The command, for nothing else is known before it runs."""
        return f"command {self.command}"

    def reported(self, compiled: CompiledModel, task: Task) -> Latency:
        """The latency that the command measures; how long it takes is up to it.

        Raises:
            UserError: The command cannot run, fails, takes too long, or prints something else.
        """
        with tempfile.TemporaryDirectory(prefix="nasbench-") as folder:
            reply = self._run(compiled.save(Path(folder)), task)
        facts = compiled.describe()
        about: dict[str, Any] = {
            "batch": self.batch,
            "threads": self.threads,
            "runtime": str(reply.get("runtime") or f"{facts['backend']} {facts['version']}"),
            "device": str(reply.get("device") or self.machine),
            "precision": str(facts["precision"]),
        }
        latency = reply["latency_ms"]
        if isinstance(latency, list):
            times = np.array([self._milliseconds(value, "latency_ms") for value in latency])
            return summarise(times / 1000, warmup=0, estimator=TOLD, **about)
        if isinstance(latency, Mapping):
            p95_ms, iqr_ms = (
                self._milliseconds(latency[key], key, least=0.0) if key in latency else UNKNOWN
                for key in ("p95", "iqr")
            )
            median_ms, repeats = self._milliseconds(latency.get("median"), "median"), int(latency.get("repeats", 0))
            return reported_latency(median_ms, p95_ms=p95_ms, iqr_ms=iqr_ms, repeats=repeats, **about)
        return reported_latency(self._milliseconds(latency, "latency_ms"), **about)

    def _run(self, file: Path, task: Task) -> Mapping[str, Any]:
        values = (file, self.batch, self.threads, ",".join(map(str, task.input_shape)))
        words = [os.path.expanduser(word) for word in shlex.split(self.command)]
        for place, value in zip(PLACES, values, strict=True):
            words = [word.replace(place, str(value)) for word in words]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=self.timeout_s, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{self.machine!r} took longer than device.timeout_s={self.timeout_s:g}; raise it, or look what hangs."
            ) from None
        except OSError as error:
            raise UserError(f"{self.machine!r} cannot run: {error.strerror}; check device.command.") from None
        if done.returncode != 0:
            last_line = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise UserError(f"{self.machine!r} ended with exit code {done.returncode} and said: {last_line}.")
        last = (done.stdout.strip() or "nothing").splitlines()[-1]
        try:
            reply = json.loads(last)
        except ValueError:
            reply = None
        if not isinstance(reply, Mapping) or "latency_ms" not in reply or reply["latency_ms"] == []:
            raise UserError(
                f"{self.machine!r} printed {last[:200]!r} last; it must print a JSON object with latency_ms, a "
                f"number of milliseconds or a list of them."
            )
        return reply

    def _milliseconds(self, value: object, key: str, least: float = 1e-12) -> float:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < least:
            raise UserError(f"{self.machine!r} printed {key} {value!r}; it must be a positive number of milliseconds.")
        return float(value)
