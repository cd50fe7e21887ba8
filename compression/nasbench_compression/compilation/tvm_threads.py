"""TVM's worker threads."""

from __future__ import annotations

import os
import threading

from nasbench_compression.compilation.descriptors import descriptors_closed


class Pool(threading.local):
    """TVM's worker threads: every thread that calls it has its own.

    TVM reads two variables of the environment, whenever it starts workers and in each call that may use them: how many
    there may be, which it would else take from OMP_NUM_THREADS, and whether it may bind the calling thread to the
    first core, for good.
    """

    threads = 0

    def use(self, threads: int) -> None:
        """Let calls from this thread use so many."""
        if self.threads == threads:
            return
        import tvm

        os.environ["TVM_NUM_THREADS"] = str(max(threads, os.cpu_count() or 1))
        os.environ["TVM_BIND_THREADS"] = "0"
        with descriptors_closed():
            tvm.get_global_func("runtime.config_threadpool")(0, threads)
        self.threads = threads


pool = Pool()
