"""A file of JSON lines that is appended to: each line costs the same, however many there are."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nasbench.storage.files import of_file
from nasbench_registry import UserError

TOGETHER_S = 0.2
"""Lines of so many seconds may wait for the disk together."""


class LineFile:
    """Appends lines, which a killed process leaves at once, and a machine that loses its power after `sync`.

    Args:
        path: Path of the file; created if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with of_file(path):
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._synced = time.monotonic()
        self._waits = False

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._file).st_size

    def append(self, entry: Mapping[str, Any], *, now: bool) -> None:
        """Add an entry.

        Args:
            entry: JSON values.
            now: Whether to wait until it is on the disk; otherwise it gets there with others, within `TOGETHER_S` while
                there are further ones.

        Raises:
            OSError: It cannot be written; the file may end in half a line then, which `mend` takes away.
        """
        line = memoryview(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        with of_file(self.path):
            while line:
                line = line[os.write(self._file, line) :]
        self._waits = True
        if now or time.monotonic() - self._synced >= TOGETHER_S:
            self.sync()

    def sync(self) -> None:
        """Wait until all that was appended is on the disk.

        Raises:
            OSError: It cannot be written, or the file is gone: what is written into a deleted file is lost.
        """
        if not self._waits:
            return
        with of_file(self.path):
            os.fsync(self._file)
            on_disk, opened = self.path.stat(), os.fstat(self._file)
        if (on_disk.st_dev, on_disk.st_ino) != (opened.st_dev, opened.st_ino):
            raise UserError(f"{self.path} was replaced while this process was writing it; let one process do that.")
        self._waits, self._synced = False, time.monotonic()

    def close(self) -> None:
        """Write the rest, and close the file."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1


def mend(path: Path) -> None:
    """Cut off what a killed process or a machine that lost its power leaves: half a line, or zeros.

    Only who may write the file calls this, so no other process is writing.
    """
    if not path.exists():
        return
    with of_file(path), path.open("r+b") as file:
        end = whole = file.seek(0, os.SEEK_END)
        while whole:
            start = _line_before(file, whole)
            file.seek(start)
            if is_entry(file.read(whole - start)):
                break
            whole = start
        if whole < end:
            file.truncate(whole)


def read_lines(path: Path, start: int = 0) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line of a file with its entry; the last one is left out if it is still being written.

    Args:
        path: Path of the file.
        start: Number of bytes of whole lines that are passed over.

    Raises:
        ValueError: A line is no entry; its number, from 1, is the second argument of the error.
    """
    with of_file(path), path.open("rb") as file:
        broken = None
        file.seek(start)
        for number, line in enumerate(file, start=1):
            if broken is not None:
                raise broken
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise TypeError
            except (ValueError, TypeError):
                broken = ValueError("no entry", number)
                continue
            yield line, entry


def is_entry(line: bytes) -> bool:
    """Whether a line is whole, and a JSON object."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _line_before(file: Any, end: int) -> int:
    """Where the line begins that ends at this position."""
    start, step = end - 1, 65_536  # the last byte is the end of the line itself
    while start > 0:
        begin = max(0, start - step)
        file.seek(begin)
        position = file.read(start - begin).rfind(b"\n")
        if position >= 0:
            return int(begin + position + 1)
        start = begin
    return 0
