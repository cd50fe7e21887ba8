"""The threads that all programs of ExecuTorch in a process share."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

from nasbench_compression.compilation.descriptors import descriptors_closed
from nasbench_compression.compilation.exported import silence


class Pool:
    """The threads of XNNPACK, which all programs of the process share.

    A change of their number would leave loaded methods with threads that are gone. So all programs are dropped before
    it, with the methods that they keep, and are loaded again when they are called.
    """

    programs: ClassVar[weakref.WeakKeyDictionary[object, Any]] = weakref.WeakKeyDictionary()

    @classmethod
    def program(cls, owner: object, artefact: bytes, threads: int) -> Any:
        """The program in an artefact, on so many threads; neither it nor a method of it may be kept beyond a call.

        Args:
            owner: Owner of the program; when it is gone, so is the program.
            artefact: Program in the format of ExecuTorch.
            threads: Number of threads of the whole process, from now on.
        """
        cls._use(threads)
        if owner not in cls.programs:
            with silence(), descriptors_closed():
                from executorch.runtime import Runtime

                cls.programs[owner] = Runtime.get().load_program(artefact)
        return cls.programs[owner]

    @classmethod
    def _use(cls, threads: int) -> None:
        from executorch.extension.pybindings import portable_lib

        if portable_lib._threadpool_get_thread_count() != threads:
            cls.programs.clear()
            with descriptors_closed():
                portable_lib._unsafe_reset_threadpool(threads)
