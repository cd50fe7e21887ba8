"""A run folder behind a URL: checkpoints lie there, the small files in a working copy that is kept the same."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from nasbench.data.folders import data_folders
from nasbench.experiment.experiment import Experiment
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.mirror import Mirror
from nasbench.storage.remote_folder import RemoteError, RemoteFolder, is_url, shown
from nasbench.storage.remote_lock import RemoteLock
from nasbench.storage.run_folder import CHECKPOINTS, RunFolder
from nasbench_registry import UserError

EVERY_S = 5.0  # what changes between two outcomes reaches the URL within this time

Tell = Callable[[str], None]


def open_run(place: str, tell: Tell) -> RunFolder:
    """The run folder of a path, or of a URL, whose small files are pulled.

    Args:
        place: a path, or a URL of fsspec.
        tell: hears in a sentence each when a URL cannot be reached, and when it can again.

    Raises:
        UserError: the URL cannot be opened.
    """
    if not is_url(place):
        return RunFolder(Path(place))
    folder = RemoteRunFolder(RemoteFolder.at(place), tell)
    folder.refresh()
    return folder


class RemoteRunFolder(RunFolder):
    """A run that any machine can go on with from its URL, one at a time.

    Args:
        remote: the run.
        tell: hears what the user should know.
    """

    def __init__(self, remote: RemoteFolder, tell: Tell) -> None:
        super().__init__(working_copy(remote))
        self.name = shown(remote.url)
        self.checkpoints = Checkpoints(remote.below(CHECKPOINTS))
        self._remote, self._tell = remote, tell
        self._mirror = Mirror(remote, self.path)
        # Beside the working copy, which a pull may move away.
        self._lock = self.path.with_name(f"{self.path.name}.lock")
        self._pulling = FileLock(self.path.with_name(f"{self.path.name}.pull.lock"))
        self._pusher: Pusher | None = None

    def refresh(self) -> None:
        """Pull, to read; not while a process of this machine works here, for then the newest files are here."""
        with self._pulling:
            if self._is_held():
                return
            try:
                holder = RemoteLock(self._remote).holder()
                self._mirror.pull(holder.session if holder else None)
            except RemoteError as error:
                if not self.exists:
                    raise UserError(f"{error}; check the address and your access.") from None
                self._tell(f"{error}; what follows is what was known on this machine")

    def is_locked(self) -> bool:
        """Whether a process works here now, on this machine or another one."""
        if self._is_held():
            return True
        try:
            holder = RemoteLock(self._remote).holder()
        except RemoteError:
            return False
        return holder is not None and holder.alive

    def start(self, experiment: Experiment, code_folder: Path, command: str) -> None:
        """As for a local folder; the beginning reaches the URL, too."""
        super().start(experiment, code_folder, command)
        self.push()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run, on this machine and at its URL; pull first, push meanwhile and at the end.

        Raises:
            UserError: another process holds it, or the URL cannot be read and written.
        """
        with super().locked():
            lock = RemoteLock(self._remote)
            before = lock.acquire()
            try:
                with self._pulling:
                    self._mirror.pull(before.session if before else None)
                    self._mirror.own(lock.session)
                self._tell(f"working copy of {self.name}: {self.path}")
                self._pusher = Pusher(self._mirror, lock, self._tell)
                try:
                    yield
                finally:
                    self._pusher.close()
                    self._pusher = None
            except RemoteError as error:
                raise UserError(f"{error}; check the address and your access.") from None
            finally:
                lock.release()

    @contextmanager
    def held_if_free(self) -> Iterator[None]:
        """Hold the run, so that what is written reaches the URL; while another process does, it stays here."""
        if self.is_locked():
            self._tell(f"another process works in {self.name}; what is written now stays in {self.path}")
            yield
            return
        with self.locked():
            yield

    def push(self) -> None:
        """Have what changed written to the URL, soon; UserError if another machine took the run over."""
        if self._pusher is not None:
            self._pusher.wake()


class Pusher:
    """Pushes in a thread of its own, so that no worker waits for a slow network.

    Args:
        mirror: what is pushed.
        lock: without which nothing is.
        tell: hears when the URL cannot be reached, and when it can again.
    """

    def __init__(self, mirror: Mirror, lock: RemoteLock, tell: Tell) -> None:
        self._mirror, self._lock, self._tell = mirror, lock, tell
        self._wake, self._ended = threading.Event(), threading.Event()
        self._away = False
        self._lost: UserError | None = None
        self._raised = False
        self._thread = threading.Thread(target=self._run, name="nasbench-push", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Push soon; UserError if the lock was lost."""
        if self._lost is not None:
            self._raised = True
            raise self._lost
        self._wake.set()

    def close(self) -> None:
        """Push a last time, and end."""
        self._ended.set()
        self._wake.set()
        self._thread.join()
        if self._lost is None:
            self._push(f"what is missing there is kept in {self._mirror.path}; nasbench resume, here, takes it along")
        if self._lost is not None and not self._raised:
            self._tell(str(self._lost))

    def _run(self) -> None:
        while self._lost is None:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            if self._ended.is_set():
                return
            self._push("the search goes on, and the next push takes along what is missing")

    def _push(self, otherwise: str) -> None:
        try:
            if not self._mirror.changed():
                return
            self._lock.check()
            self._mirror.push()
        except RemoteError as error:
            if not self._away or self._ended.is_set():
                self._tell(f"{error}; {otherwise}")
            self._away = True
        except UserError as error:
            self._lost = error
        else:
            if self._away:
                self._tell(f"{shown(self._mirror.remote.url)} answers again and has everything")
            self._away = False


def working_copy(remote: RemoteFolder) -> Path:
    """The folder for the small files of a remote run: in the cache of the user, with the name of the run."""
    own = re.sub(r"[^\w.-]", "_", remote.url.rpartition("/")[2]) or "run"
    return data_folders()[-1] / "runs" / f"{own}-{hashlib.sha256(remote.url.encode()).hexdigest()[:12]}"
