"""Jobs of a table, in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from nasbench_registry import WorkFailed

Job = TypeVar("Job")
Done = TypeVar("Done")


def run_all(run: Callable[[Job], Done], jobs: Sequence[Job], workers: int) -> Iterator[Done]:
    """The result of each job, in the order in which they end; with one worker in this process, one after the other.

    Args:
        run: Function of a module, which other processes find by its name.
        jobs: Jobs that are sent to them.
        workers: Number of processes.

    Raises:
        WorkFailed: a process ended before its job; what others gave was given before.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(run, jobs)
        return
    # Not forked: torch has threads of its own, which a fork would leave half alive.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool:
        raise WorkFailed(
            f"one of {workers} worker processes ended before its work was done, for want of memory, say; try "
            f"--workers 1, and what is kept in the folder of --run is not measured again."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
