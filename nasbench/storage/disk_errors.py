"""The fault of a disk, a folder or a right, in a sentence."""

from __future__ import annotations

import errno
import os

FULL = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota of the disk is used up; make room",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit (ulimit -f)",
    errno.EIO: "the disk reports an error; look after it",
    errno.ESTALE: "the file server has lost it; mount it again",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine; close some",
}
"""The work cannot go on now; the same command may do it later."""
REFUSED = {
    errno.EACCES: "this user has no right to it; give another path, or change the rights",
    errno.EPERM: "this user has no right to it; give another path, or change the rights",
    errno.EROFS: "the disk is read-only; give a path that can be written",
    errno.ENOTDIR: "a part of the path is a file; give another path",
    errno.EISDIR: "it is a folder, and a file is needed; give another path",
    errno.EEXIST: "there is a file of this name; give another path",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.ELOOP: "its links lead in a circle; give another path",
    errno.ENOENT: "it is not there any more, or never was; check the path",
}
"""Another path is needed."""


def disk_error(error: OSError) -> str | None:
    """The sentence; None for an error that no path or disk of the user's explains, such as a bug of ours.

    Args:
        error: Error from reading or writing a file.
    """
    words = FULL.get(error.errno or 0) or REFUSED.get(error.errno or 0)
    path = os.fspath(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else None
    if words is None or (path is None and error.errno not in FULL):
        return None
    where = os.fsdecode(path) if path is not None else "a file cannot be written"
    shown = where if len(where) <= 300 else f"{where[:297]}..."
    return f"{shown}: {words}."


def is_full(error: BaseException) -> bool:
    """Whether the machine is to blame, and not what it was working on."""
    return isinstance(error, OSError) and error.errno in FULL
