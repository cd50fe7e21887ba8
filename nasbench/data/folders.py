"""Where data are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from nasbench_registry.files import user_path


def data_folders() -> list[Path]:
    """The folder that NASBENCH_DATA names, if it does, and the cache folder of the user."""
    named = os.environ.get("NASBENCH_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nasbench"
    return [user_path(named), cache] if named else [cache]
