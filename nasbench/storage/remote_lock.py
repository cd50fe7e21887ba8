"""The lock of a run that several machines can reach: a file that tells who works there, and that it still does."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from nasbench.storage.remote_folder import RemoteError, RemoteFolder, shown
from nasbench_registry import UserError

NAME = "lock.json"
REFRESH_S = 30.0
STALE_S = 180.0
"""After so long without a sign of life the holder counts as dead; clocks of machines must agree within a minute."""
SETTLE_S = 1.0  # of two machines that begin at once, the one that wrote last has the lock


@dataclass(frozen=True)
class Holder:
    """Who works, or worked last, in a run folder.

    Attributes:
        host: name of the machine.
        pid: of the process.
        system: the running system that the process belongs to; empty where that cannot be told.
        session: a name that no other holder has.
        time_s: of the last sign of life, in seconds since 1970.
        released: whether it has ended.
    """

    host: str
    pid: int
    system: str
    session: str
    time_s: float
    released: bool = False

    @property
    def silent_s(self) -> float:
        """Seconds since the last sign of life."""
        return max(0.0, time.time() - self.time_s)

    @property
    def alive(self) -> bool:
        """Whether it still works, as far as can be told from here."""
        if self.released or self.silent_s >= STALE_S:
            return False
        return not (self.system and self.system == _system() and not _is_running(self.pid))


class RemoteLock:
    """Holds a remote run folder for this process.

    No lock can be taken at once everywhere, so it is taken in two steps: write, wait, read again. It is given a sign
    of life every `REFRESH_S` seconds, in a thread. Whoever holds it looks before each write whether it still does, for
    a machine that slept or was cut off may have been replaced.

    Args:
        folder: the run.
    """

    def __init__(self, folder: RemoteFolder) -> None:
        self.folder = folder
        self.session = uuid.uuid4().hex
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def holder(self, *, patient: bool = False) -> Holder | None:
        """Who works, or worked last, in the folder; None if nobody did. RemoteError if it cannot be read."""
        for last in (False, True):
            try:
                return Holder(**json.loads(self.folder.read(NAME, patient=patient)))
            except FileNotFoundError:
                return None
            except (ValueError, TypeError):
                if not last:
                    time.sleep(SETTLE_S)  # half written, on a server that does not rename
        return None

    def acquire(self) -> Holder | None:
        """Take the lock, and keep it alive until `release`; who held it before.

        Raises:
            UserError: another process holds it, or the folder cannot be written.
        """
        try:
            before = self.holder()
            if before is not None and before.alive:
                raise self._refused(before)
            self._write()
            time.sleep(SETTLE_S)
            now = self.holder()
        except RemoteError as error:
            raise UserError(f"{error}; check the address, and that this machine may write there.") from None
        if now is None or now.session != self.session:
            raise self._refused(now)
        self._thread = threading.Thread(target=self._refresh, name="nasbench-lock", daemon=True)
        self._thread.start()
        return before

    def check(self) -> None:
        """Nothing if this process still holds the lock.

        Raises:
            UserError: another machine took it over.
            RemoteError: that cannot be told now.
        """
        holder = self.holder(patient=True)
        if holder is None or holder.session != self.session:
            who = "nobody" if holder is None else f"process {holder.pid} on {holder.host}"
            raise UserError(
                f"{shown(self.folder.url)} is no longer held by this search but by {who}, for it gave no sign of life "
                f"for {STALE_S:.0f} seconds; nothing more is written there, see nasbench status."
            )

    def release(self) -> None:
        """Let go of it; a failure is no matter, for it becomes stale."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.check()
            self._write(released=True)
        except (RemoteError, UserError):
            pass

    def _write(self, *, released: bool = False) -> None:
        own = Holder(socket.gethostname(), os.getpid(), _system(), self.session, time.time(), released)
        self.folder.write(NAME, (json.dumps(asdict(own)) + "\n").encode(), patient=False)

    def _refresh(self) -> None:
        wait = REFRESH_S
        while not self._ended.wait(wait):
            try:
                self.check()
                self._write()
                wait = REFRESH_S
            except UserError:
                return  # the next write of the run finds out, too
            except RemoteError:
                wait = REFRESH_S / 6

    def _refused(self, holder: Holder | None) -> UserError:
        place = shown(self.folder.url)
        if holder is None:
            return UserError(f"{place} does not keep what is written there; check the address.")
        return UserError(
            f"process {holder.pid} on {holder.host} works in {place}, and gave a sign of life {holder.silent_s:.0f} "
            f"seconds ago; wait for it, or stop it there: {STALE_S:.0f} seconds after its last sign it counts as dead."
        )


def _system() -> str:
    """The same text in two processes only if each of them sees whether the other one runs."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
