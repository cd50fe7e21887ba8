"""Where the code of a stored model lies: a user's own space, function or step, which its folder names only."""

from __future__ import annotations

import contextlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError

INSTALLED = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def code_folders(about: Any) -> list[str]:
    """The folders from which ``module:attribute`` names in a JSON value were imported; installed packages need none."""
    folders: dict[str, None] = {}
    for name in _texts(about):
        module_name, colon, _ = name.partition(":")
        file = getattr(sys.modules.get(module_name), "__file__", None)
        if not colon or module_name == "__main__" or file is None:
            continue
        path = Path(file).resolve()
        # a/b.py of a.b, and a/b/__init__.py of a.b, lie below the folder that is on the path.
        root = path.parents[module_name.count(".") + (path.name == "__init__.py")]
        if not any(root.is_relative_to(place) for place in INSTALLED):
            folders[str(root)] = None
    return list(folders)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


@contextlib.contextmanager
def importable(folder: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Let the code of a stored model be imported in the context: from where it was, or from where its run began.

    Args:
        folder: Folder of the model.
        about: Description of the model, whose `code` has the `folders` that `code_folders` gave.
    """
    places = [Path(place) for place in about["code"]["folders"]]
    for run in (RunFolder(parent) for parent in folder.resolve().parents):
        if run.environment.is_file():
            with contextlib.suppress(UserError):
                places.append(run.code_folder())
            break
    added = [text for text in dict.fromkeys(map(str, places)) if text not in sys.path and Path(text).is_dir()]
    sys.path.extend(added)  # behind all others, so that nothing is found there that was found elsewhere before
    try:
        yield
    finally:
        for text in added:
            sys.path.remove(text)
