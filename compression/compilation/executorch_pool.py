"""The threads that all programs of ExecuTorch in a process share."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar


class Pool:
    """The threads of XNNPACK, which all programs of the process share.

    A change of their number would leave loaded methods with threads that are gone. So all methods are dropped before
    it, and are loaded again when they are called.
    """

    methods: ClassVar[weakref.WeakKeyDictionary[object, Any]] = weakref.WeakKeyDictionary()

    @classmethod
    def method(cls, owner: object, program: Any, threads: int) -> Any:
        """The method "forward" of a program, on so many threads; it must not be kept beyond a call.

        Args:
            owner: whose method it is; when that is gone, so is the method.
            program: loaded.
            threads: of the whole process, from now on.
        """
        cls._use(threads)
        if owner not in cls.methods:
            cls.methods[owner] = program.load_method("forward")
        return cls.methods[owner]

    @classmethod
    def _use(cls, threads: int) -> None:
        from executorch.extension.pybindings import portable_lib

        if portable_lib._threadpool_get_thread_count() != threads:
            cls.methods.clear()
            with descriptors_closed():
                portable_lib._unsafe_reset_threadpool(threads)


@contextlib.contextmanager
def descriptors_closed() -> Iterator[None]:
    """Nothing reaches standard output and error; the library writes there without asking Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, nowhere):
            os.close(descriptor)
