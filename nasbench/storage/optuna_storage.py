"""Where the record of a study lies: a journal in the run folder, or any storage of Optuna that a URL names."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from nasbench.storage.disk_errors import disk_error
from nasbench.storage.files import of_file
from nasbench_registry import UserError

Result = TypeVar("Result")

PATIENCE_S = 120.0  # a database that is restarted or moved comes back within this time


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """The storage that an experiment names.

    Args:
        url: URL of SQLAlchemy, ``postgresql+psycopg://user:${PASSWORD}@host/database``, with environment variables to
            fill in; None is the journal.
        journal: File of the journal; a process that was killed leaves it readable.

    Raises:
        UserError: A variable is not set, the driver of the database is not installed, or nothing answers there.
    """
    if url is None:
        with of_file(journal):
            return JournalStorage(JournalFileBackend(str(journal)))
    filled = _fill(url)
    try:
        # A connection that broke while nobody used it is replaced before it is used.
        return RDBStorage(filled, engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        raise UserError(
            f"storage {url!r} needs the driver of its database ({_words(error)}); install it, for PostgreSQL with "
            f"pip install 'nasbench-framework[postgresql]', and name it: postgresql+psycopg://..."
        ) from None
    except _lost(ValueError) as error:
        raise UserError(f"storage {url!r} cannot be opened: {_words(error)}.") from None


class StorageLost(Exception):
    """The storage of a study does not answer any more; what it has is kept, and the run can be resumed."""


def patiently(call: Callable[[bool], Result]) -> Result:
    """The result of a call to a storage; called again while the connection to it is lost.

    Args:
        call: Function that takes whether it was called before, for the connection may have broken after the storage had
            obeyed.

    Raises:
        StorageLost: The storage did not come back within `PATIENCE_S`.
        OSError: The file of a journal cannot be written. Then it may end in half a line, behind which nothing can be
            written before `Record` has mended it.
    """
    end, wait, again = time.monotonic() + PATIENCE_S, 0.1, False
    while True:
        try:
            return call(again)
        except _lost() as error:
            if isinstance(error, OSError) and disk_error(error) is not None:
                raise
            if time.monotonic() + wait > end:
                raise StorageLost(f"the storage of the study does not answer any more: {_words(error)}") from error
            time.sleep(wait)
            wait, again = min(2 * wait, 10.0), True


def _lost(*further: type[Exception]) -> tuple[type[Exception], ...]:
    """Others, and what a storage that does not answer raises: of SQLAlchemy, slow to import, once one is open."""
    database = sys.modules.get("sqlalchemy.exc")
    return (*further, StorageInternalError, OSError, *(() if database is None else (database.SQLAlchemyError,)))


def _fill(url: str) -> str:
    """The URL with its environment variables; a value that is a part of it may hold any character."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise UserError(f"storage {url!r} needs the environment variable {name}, which is not set; set it.")
        text = os.environ[name]
        return text if match.group() == url else quote(text, safe="")

    return re.sub(r"\$\{(\w+)\}", value, url)


def _words(error: BaseException) -> str:
    """The cause in one line, without the statement that SQLAlchemy adds and without the address with its password."""
    cause = error.__cause__ or error
    text = " ".join(str(cause).split()).partition(" [SQL:")[0].partition(" (Background on")[0]
    return re.sub(r"://[^@\s]*@", "://...@", text)[:300].rstrip(".") or type(error).__name__
