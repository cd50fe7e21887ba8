"""A working copy of a remote run folder: pulled once, then pushed as it changes."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasbench.storage.files import write_json
from nasbench.storage.remote_folder import RemoteFolder
from nasbench.storage.remote_lock import NAME as LOCK

STATE = ".mirror.json"
JOURNAL, CONTROLLER, CONFIG, SURVIVOR = "study.journal", "controller.json", "config.yaml", "survivor.json"
ELSEWHERE = ("checkpoints", "tensorboard")
"""Folders that are no part of it: checkpoints lie at the URL alone, scalars are written anew by whoever resumes."""

Signature = list[int]


class Mirror:
    """Keeps a local folder and a remote one the same.

    The study goes on from a controller that is older than its journal, never from one that is newer. So the controller
    is read before the journal and written after it.

    Args:
        remote: the run.
        path: the working copy.
    """

    def __init__(self, remote: RemoteFolder, path: Path) -> None:
        self.remote, self.path = remote, path
        self._pushing = threading.Lock()
        self._session: str | None = None  # in which the remote folder was written from here
        self._same: dict[str, Signature] = {}  # local files as they were when both sides were equal
        self._stamps: dict[str, list[Any]] = {}  # remote files, likewise

    def pull(self, session: str | None) -> None:
        """Make the working copy what the remote folder is, unless the last one who wrote there wrote from here.

        Args:
            session: of whoever wrote there last; None if nobody did.

        Raises:
            RemoteError: the folder cannot be read.
        """
        self._load()
        if session is not None and session == self._session:
            return  # what is here is what is there, or newer
        there = self.remote.entries(ELSEWHERE)
        there.pop(LOCK, None)
        if CONFIG not in there and (self.path / CONFIG).exists():
            # A run that is gone there may be wanted yet.
            self.path.rename(self.path.with_name(f"{self.path.name}-{time.strftime('%Y%m%d-%H%M%S')}"))
            self._same, self._stamps = {}, {}
        self._session = None
        self._save()
        for name in sorted(there, key=_order, reverse=True):
            stamp, file = [there[name].size, there[name].stamp], self.path / name
            known = stamp[1] is not None and self._stamps.get(name) == stamp
            if known and self._same.get(name) == _signature(file):
                continue
            self.remote.download(name, file)
            self._same[name], self._stamps[name] = _signature(file), stamp
        for name in set(self._names()) - there.keys():
            (self.path / name).unlink(missing_ok=True)
        self._save()

    def _load(self) -> None:
        state: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((self.path / STATE).read_text(encoding="utf-8"))
        self._session, self._same, self._stamps = state.get("session"), state.get("same", {}), state.get("stamps", {})

    def own(self, session: str) -> None:
        """From now on the remote folder is written from here, in this session."""
        self._session = session
        self._save()

    def push(self) -> int:
        """Write what has changed here to the remote folder; the number of files.

        Raises:
            RemoteError: the connection is away; another call goes on where this one ended.
        """
        with self._pushing:
            controller = _signature(self.path / CONTROLLER)
            content = {CONTROLLER: self._read(CONTROLLER)} if controller else {}
            changed = self.changed() | {CONTROLLER: controller}  # what it knows is in a journal that is looked at now
            if controller in ([], self._same.get(CONTROLLER)):
                del changed[CONTROLLER]
            if JOURNAL in changed:
                content[JOURNAL] = self._read(JOURNAL)
            try:
                for name in sorted(changed, key=_order):
                    self._stamps.pop(name, None)
                    if name in content:
                        self.remote.write(name, content[name])
                    else:
                        self.remote.upload(name, self.path / name)
                    self._same[name] = changed[name]
            finally:
                if changed:
                    self._save()
            return len(changed)

    def changed(self) -> dict[str, Signature]:
        """The local files that are not yet at the remote folder."""
        found = {name: _signature(self.path / name) for name in self._names()}
        return {name: each for name, each in found.items() if each and each != self._same.get(name)}

    def _read(self, name: str) -> bytes:
        content = (self.path / name).read_bytes()
        return content[: content.rfind(b"\n") + 1] if name == JOURNAL else content  # another thread may be writing

    def _names(self) -> Iterator[str]:
        for file in self.path.rglob("*"):
            name = file.relative_to(self.path)
            hidden = any(part.startswith(".") for part in name.parts)
            if not hidden and name.parts[0] not in ELSEWHERE and file.suffix != ".lock" and file.is_file():
                yield name.as_posix()

    def _save(self) -> None:
        state = {"url": self.remote.url, "session": self._session, "same": self._same, "stamps": self._stamps}
        write_json(self.path / STATE, state)


def _order(name: str) -> tuple[int, str]:
    """In which files are pushed: what shows that other files are complete comes after them."""
    file = name.rpartition("/")[2]
    return {JOURNAL: 0, CONTROLLER: 1, SURVIVOR: 3, CONFIG: 4}.get(file, 2), name


def _signature(file: Path) -> Signature:
    """Another one whenever the file has changed; empty if it is not there."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ino]
