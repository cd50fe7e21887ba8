"""A process with torch and this package loaded, which forks children: they begin at once, and not seconds later.

``python -m nasbench.deploy.fork_server FD`` is that process, and `start` starts it. It runs nothing itself, so that
what a child loads, breaks or leaks is gone with the child.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from nasbench_compression.compilation.child import Started, answer

IDLE_S = 60.0  # after so long without a child it ends; the next child starts another one
PRELOADED = ("nasbench.deploy.attempt", "nasbench.deploy.streams")
READ_BY_LIBRARIES = (
    "ATEN_",
    "CUDA_",
    "DNNL_",
    "KMP_",
    "LD_",
    "MKL_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTHON",
    "TORCH",
)
"""How variables begin that libraries read while they are loaded: where these change, another server is needed."""


@dataclass(frozen=True)
class Job:
    """What a child does; the rest is as in the process that asks.

    Attributes:
        function: ``module:function`` that answers the request.
        request: File that holds the request.
        answer: File for the answer.
        output: File for what is printed.
        folder: Working folder.
        environment: Environment variables.
        path: Folders in which modules are looked for.
    """

    function: str
    request: Path
    answer: Path
    output: Path
    folder: str = field(default_factory=os.getcwd)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    path: list[str] = field(default_factory=lambda: list(sys.path))

    def run(self) -> None:
        """Do it, in the child."""
        os.setsid()  # so that whatever it starts can be ended with it
        with open(os.devnull, "rb") as nothing, self.output.open("wb") as output:
            for target, source in ((0, nothing), (1, output), (2, output)):
                os.dup2(source.fileno(), target)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.path[:] = self.path
        sys.argv = [self.function, str(self.request), str(self.answer)]
        module, _, name = self.function.partition(":")
        answer(getattr(importlib.import_module(module), name))


_servers: list[tuple[Connection, dict[str, str]]] = []  # those that have no child, with the variables they started with
_lock = threading.Lock()
os.register_at_fork(after_in_child=_servers.clear)  # they belong to the parent


def start(job: Job) -> Started:
    """Start a child; its exit code is that of an interpreter that runs the job."""
    variables = {name: value for name, value in job.environment.items() if name.startswith(READ_BY_LIBRARIES)}
    while True:
        with _lock:
            place = next((place for place, (_, at_start) in enumerate(_servers) if at_start == variables), None)
            server = None if place is None else _servers.pop(place)[0]
        try:
            return _Forked(_new_server() if server is None else server, variables, job)
        except (EOFError, OSError) as error:  # it was idle for too long
            if server is None:
                raise RuntimeError("the process that forks children ended at once; is the memory full?") from error


class _Forked:
    def __init__(self, server: Connection, variables: dict[str, str], job: Job) -> None:
        self._server, self._variables = server, variables
        self._code: int | None = None
        server.send(job)
        self.pid: int = server.recv()

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not self._server.poll(timeout):
                raise subprocess.TimeoutExpired("a child", timeout or 0.0)
            try:
                self._code = int(self._server.recv())
            except EOFError:  # the server was killed, and nothing else is known of the child
                self._code = -signal.SIGKILL
                return self._code
            with _lock:
                _servers.append((self._server, self._variables))
        return self._code


def _new_server() -> Connection:
    ours, theirs = Pipe()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "nasbench.deploy.fork_server", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in sys.path if path))},
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the process that asks
        )
    return ours


def serve(caller: Connection) -> Job | None:
    """Fork a child for each job.

    Returns:
        In the child, its job; in the server None, when it has been idle for long or the caller is gone.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # a child that ends goes through all objects otherwise, and copies their memory
    while caller.poll(IDLE_S):
        try:
            job: Job = caller.recv()
        except EOFError:
            break
        child = os.fork()
        if not child:
            caller.close()
            return job
        caller.send(child)
        caller.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return None


def main() -> None:
    """The life of the server and, in the end, of each child."""
    job = serve(Connection(int(sys.argv[1])))
    if job is not None:
        job.run()


if __name__ == "__main__":
    from nasbench.deploy.fork_server import main as run  # jobs are pickled as of this module, not of __main__

    run()
