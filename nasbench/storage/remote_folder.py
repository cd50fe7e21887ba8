"""A folder behind a URL that fsspec knows: an object store, a server of files, a mounted disk."""

from __future__ import annotations

import os
import posixpath
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nasbench_registry import UserError

Result = TypeVar("Result")

OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "ocilake", "oss", "tos", "hf", "memory")
)
"""Protocols whose stores put a file whole, know no folders, and rename by copying."""

WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # before another try; drivers try again themselves, too
STAMPS = ("ETag", "etag", "md5Hash", "mtime", "modify", "LastModified", "last_modified", "updated", "created")
"""What drivers call the thing that changes whenever a file does."""


class RemoteError(OSError):
    """A remote folder cannot be read or written, now or at all."""


@dataclass(frozen=True)
class Entry:
    """A file of a remote folder.

    Attributes:
        size: in bytes.
        stamp: another one whenever the file has changed; None if its driver tells none.
    """

    size: int
    stamp: str | None


def is_url(text: str) -> bool:
    """Whether a place is a URL with a protocol, and not a path; a single letter is the drive of a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)", text) is not None


def shown(url: str) -> str:
    """A URL for people: without its password."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:...@", url)


@dataclass(frozen=True)
class RemoteFolder:
    """Reads and writes whole files of a folder; it travels to other processes as its URL.

    Credentials and options are those of the driver: its environment variables and files, and fsspec's. A lost
    connection is tried again for half a minute. A file is the old one or the new one, never a part: an object store
    sees to that itself, and on a file system it is written aside and renamed.

    Attributes:
        url: of the folder, without a slash at its end.
    """

    url: str

    @classmethod
    def at(cls, url: str) -> RemoteFolder:
        """The folder at a URL, once its driver is found; nothing is read or written.

        Raises:
            UserError: the protocol is unknown, its driver is not installed, or the server refuses.
        """
        import fsspec

        if "::" in url:  # a cache of fsspec would hide what other machines write
            raise UserError(f"{shown(url)} names several protocols; give one, such as s3://bucket/run.")
        try:
            files, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise _missing_driver(url, error) from None
        except ValueError as error:
            if "Protocol not known" not in str(error):
                raise UserError(f"{shown(url)} is no URL that can be opened: {_words(error)}.") from None
            raise UserError(
                f"the protocol of {shown(url)} is unknown; give a folder, or a URL such as s3://bucket/run, "
                f"gs://bucket/run, ftp://host/run or file:///folder/run."
            ) from None
        except Exception as error:  # some drivers connect at once, and each has exceptions of its own
            words = f"{shown(url)} cannot be opened: {_words(error)}"
            raise UserError(f"{words}; check the address and your access.") from None
        if "local" in _protocols(files):
            return cls("file://" + root)  # absolute, for it travels
        return cls(url.rstrip("/"))

    def below(self, name: str) -> RemoteFolder:
        """A folder in this one."""
        return RemoteFolder(f"{self.url}/{name}")

    def read(self, name: str, start: int | None = None, end: int | None = None, *, patient: bool = True) -> bytes:
        """The content of a file, or its bytes from `start` up to `end`.

        Raises:
            FileNotFoundError: there is none.
            RemoteError: it cannot be read.
        """
        return self._do("read", name, lambda files, path: bytes(files.cat_file(path, start=start, end=end)), patient)

    def write(self, name: str, content: bytes, *, patient: bool = True) -> None:
        """Write a file; RemoteError if that cannot be done."""
        self._put(name, lambda files, path: files.pipe_file(path, content), patient)

    def upload(self, name: str, file: Path, *, patient: bool = True) -> None:
        """Write a file with the content of a local one; RemoteError if that cannot be done."""
        self._put(name, lambda files, path: files.put_file(str(file), path), patient)

    def download(self, name: str, file: Path, *, patient: bool = True) -> None:
        """Write a local file, whole or not at all, with the content of one of here; RemoteError if that fails."""
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            self._do("read", name, lambda files, path: files.get_file(path, str(aside)), patient)
            aside.replace(file)
        except FileNotFoundError as error:
            raise RemoteError(f"{shown(self.url)} has no {name} any more") from error
        finally:
            aside.unlink(missing_ok=True)

    def remove(self, name: str, *, patient: bool = True) -> None:
        """Remove a file, if it is there; RemoteError if that cannot be done."""

        def act(files: Any, path: str) -> None:
            try:
                files.rm_file(path)
            except Exception:
                if files.exists(path):
                    raise

        with suppress(FileNotFoundError):
            self._do("remove", name, act, patient)

    def entries(self, skip: tuple[str, ...] = (), *, patient: bool = True) -> dict[str, Entry]:
        """All files here and in folders below, by their path from here; no hidden ones, such as those written aside.

        Args:
            skip: folders that are left out.
            patient: whether to try again while the connection is away.

        Raises:
            RemoteError: the folder cannot be read. One that is not there is empty.
        """
        try:
            return self._do("read", "", lambda files, path: dict(_walk(files, path, skip)), patient)
        except FileNotFoundError:
            return {}

    def _put(self, name: str, send: Callable[[Any, str], Any], patient: bool) -> None:
        def act(files: Any, path: str) -> None:
            if not OBJECT_STORES.isdisjoint(_protocols(files)):
                send(files, path)
                return
            folder, own = posixpath.split(path)
            files.makedirs(folder, exist_ok=True)
            aside = f"{folder}/.{own}.{uuid.uuid4().hex[:8]}.tmp"
            try:
                send(files, aside)
                _rename(files, aside, path)
            except BaseException:
                with suppress(Exception):
                    files.rm_file(aside)
                raise

        try:
            self._do("write", name, act, patient)
        except FileNotFoundError as error:  # the bucket, say
            raise RemoteError(f"{shown(self.url)} cannot be written: {_words(error)}") from error

    def _do(self, what: str, name: str, act: Callable[[Any, str], Result], patient: bool) -> Result:
        import fsspec

        for wait in (*(WAITS_S if patient else ()), None):
            try:
                # Each time anew: fsspec keeps what can be used again, for each thread; a connection of ftp cannot.
                files, root = fsspec.core.url_to_fs(self.url)
                files.invalidate_cache()  # others write here, too
                return act(files, f"{root}/{name}" if name else root)
            except FileNotFoundError:
                raise
            except Exception as error:  # each driver has exceptions of its own
                if wait is None or _is_hopeless(error):
                    raise RemoteError(f"{shown(self.url)} cannot be {_PAST[what]}: {_words(error)}") from error
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _is_hopeless(error: Exception) -> bool:
    """Whether another try would give the same."""
    kinds = PermissionError | ImportError | ValueError | NotImplementedError
    return isinstance(error, kinds) or re.search("Credential|Authentication", type(error).__name__) is not None


_PAST = {"read": "read", "write": "written", "remove": "changed"}


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _walk(files: Any, root: str, skip: tuple[str, ...], folder: str = "") -> Iterator[tuple[str, Entry]]:
    # Not find(), which takes a folder that cannot be read for an empty one.
    place = f"{root}/{folder}".rstrip("/")
    for about in files.ls(place, detail=True):
        own = posixpath.basename(about["name"].rstrip("/"))
        name = f"{folder}/{own}" if folder else own
        if own.startswith(".") or name in skip or about["name"].rstrip("/") == place:
            continue
        if about["type"] == "directory":
            yield from _walk(files, root, skip, name)
        else:
            stamp = next((str(about[key]) for key in STAMPS if about.get(key) is not None), None)
            yield name, Entry(int(about["size"] or 0), stamp)


def _rename(files: Any, aside: str, path: str) -> None:
    try:
        files.mv(aside, path)
    except Exception:
        if not files.exists(path):
            raise
        files.rm_file(path)  # this one does not rename over a file
        files.mv(aside, path)


def _missing_driver(url: str, error: ImportError) -> UserError:
    from fsspec.registry import known_implementations

    known = known_implementations.get(url.partition("://")[0], {})
    package = str(known.get("class", "")).partition(".")[0]
    if package in ("", "fsspec"):  # a driver of fsspec itself, on a library that is missing
        package = getattr(error.__cause__ or error, "name", None) or "its driver"
    return UserError(
        f"{shown(url)} needs a driver that is not installed ({_words(error)}): pip install {package}, on every machine "
        f"that trains."
    )


def _words(error: BaseException) -> str:
    return shown(" ".join(str(error).split()))[:300].rstrip(".") or type(error).__name__
