"""Checks of a machine: what disturbs measurements, and the resources that run out."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nasbench.data.folders import data_folders
from nasbench.devices.clock import CPUS, clock
from nasbench.doctor.finding import Finding

ENOUGH_GB, LITTLE_GB = 5.0, 1.0
MEMORY_GB = 2.0
SHARED_MEMORY = Path("/dev/shm")
GB = 1 << 30


def look(cpus: Path = CPUS) -> Iterator[Finding]:
    """Processors and their load and clock, memory, disk, and the folders for data.

    Args:
        cpus: Folder in which the kernel describes processors.
    """
    yield from _processor(cpus)
    yield from _memory()
    yield from _disks()
    yield from _data()


def _processor(cpus: Path) -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > usable / 2:
        yield Finding(
            "load",
            "note",
            f"the mean load of the last minute is {load:.1f} on {usable} processors; latencies are measured beside "
            f"other work.",
            "end the other programs before you measure",
        )
    else:
        yield Finding("load", "ok", f"the mean load of the last minute is {load:.1f} on {usable} processors")
    frequency = clock(cpus)
    if frequency is not None and frequency["governor"] not in (None, "performance"):
        yield Finding(
            "clock",
            "note",
            f"the frequency of the processor is chosen by {frequency['governor']} (up to "
            f"{frequency['max_mhz'] or 0:.0f} MHz); the first calls of a measurement may be slower.",
            "sudo cpupower frequency-set --governor performance",
        )
    else:
        text = (
            "the machine does not tell"
            if frequency is None
            else f"{frequency['governor']}, up to {frequency['max_mhz'] or 0:.0f} MHz"
        )
        yield Finding("clock", "ok", f"governor of the frequency: {text}")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None and (not threads.isdigit() or not 0 < int(threads) <= usable):
        yield Finding(
            "threads",
            "problem",
            f"OMP_NUM_THREADS is {threads!r} on {usable} processors.",
            f"unset it, or set it to a number from 1 to {usable}",
        )


def _memory() -> Iterator[Finding]:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) / (1 << 20)
    except (OSError, KeyError, ValueError):
        return
    if free < MEMORY_GB:
        yield Finding(
            "memory",
            "problem",
            f"{free:.1f} GiB of memory are free, and a worker of a search takes about one.",
            "end other programs, or search with fewer workers: -o executor.workers=1",
        )
    else:
        yield Finding("memory", "ok", f"{free:.1f} GiB of memory are free")
    if SHARED_MEMORY.is_dir():
        shared = shutil.disk_usage(SHARED_MEMORY).free / GB
        if shared < LITTLE_GB:
            yield Finding(
                "shared memory",
                "problem",
                f"{SHARED_MEMORY} has {shared:.2f} GiB left, and Ray keeps its objects there.",
                "in a container, start it with --shm-size=2g",
            )


def _disks() -> Iterator[Finding]:
    for folder_name, folder in (("working folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / GB
        mend = f"free some space, or work in another folder than {folder}"
        if free < LITTLE_GB:
            yield Finding("disk", "problem", f"the {folder_name} {folder} has {free:.2f} GiB left.", mend)
        elif not os.access(folder, os.W_OK):
            yield Finding(
                "disk", "problem", f"the {folder_name} {folder} may not be written.", f"leave {folder} for another"
            )
        else:
            little = free < ENOUGH_GB
            text = f"the {folder_name} {folder} has {free:.1f} GiB left"
            yield Finding("disk", "note" if little else "ok", text, mend if little else None)


def _data() -> Iterator[Finding]:
    named = os.environ.get("NASBENCH_DATA")
    for folder in data_folders():
        is_named = named is not None and folder == data_folders()[0]
        if is_named and not folder.is_dir():
            yield Finding(
                "data",
                "problem",
                f"NASBENCH_DATA is {named}, which is no folder.",
                f"mkdir -p {named}, or set it to another folder",
            )
        elif folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            yield Finding("data", "problem", f"the data folder {folder} may not be read.", f"chmod -R u+rX {folder}")
        elif folder.is_dir():
            names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
            yield Finding("data", "ok", f"{folder} has {', '.join(names) or 'nothing yet'}")
        else:
            yield Finding("data", "ok", f"{folder} is not there yet; nasbench data fetch makes it")
