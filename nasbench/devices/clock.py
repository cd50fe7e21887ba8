"""The governor of the processor's clock, as Linux gives it. Many virtual machines do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CPUS = Path("/sys/devices/system/cpu")


def clock(root: Path = CPUS) -> dict[str, Any] | None:
    """Governor and frequency limits over all processors; None if the machine does not tell.

    Args:
        root: Folder in which the kernel describes processors.

    Returns:
        `governor` (several are joined with a comma), `min_mhz` and `max_mhz`: the lowest and the highest frequency that
        a governor may choose. One that the kernel does not give is None.
    """
    folders = list(root.glob("cpu[0-9]*/cpufreq"))
    governors = {text for folder in folders if (text := _read(folder / "scaling_governor"))}
    lowest, highest = (
        [int(text) for folder in folders if (text := _read(folder / f"scaling_{end}_freq")).isdigit()]
        for end in ("min", "max")
    )
    if not (governors or lowest or highest):
        return None
    return {
        "governor": ",".join(sorted(governors)) or None,
        "min_mhz": min(lowest) / 1000 if lowest else None,  # the kernel gives kHz
        "max_mhz": max(highest) / 1000 if highest else None,
    }


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
