"""The threads that all programs of ExecuTorch in a process share."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

from compression.compilation.descriptors import descriptors_closed


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
