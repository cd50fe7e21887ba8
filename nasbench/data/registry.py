"""The data sets by name."""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import ValidationError, create_model

from nasbench_registry import Entries, UserError, check_options, unknown

if TYPE_CHECKING:
    from nasbench.data.images import ImageData

DATASETS: Entries[Callable[..., ImageData]] = Entries(
    {
        "digits": "nasbench.data.digits:digits",
        "fashion_mnist": "nasbench.data.fashion_mnist:fashion_mnist",
        "arrays": "nasbench.data.arrays:arrays",
        "image_folder": "nasbench.data.image_folder:image_folder",
    }
)

FILES: Entries[Callable[..., list[Path]]] = Entries(
    {
        "fashion_mnist": "nasbench.data.folders:fashion_files",
        "arrays": "nasbench.data.arrays:array_files",
        "image_folder": "nasbench.data.image_folder:image_files",
    }
)
"""What finds the files of a data set, given its option `path` if it has one; the others are read from no file."""

KEPT = 2  # data sets in memory
SETTLED_S = 2.0  # after which a file system gives a file that is written again another time

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""Path, inode, size and times of files, one of which changes with their content."""


def check_data(name: str, **options: Any) -> None:
    """Raise UserError unless a data set of this name takes these options; loads nothing."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    check_options(DATASETS[name], options, what=f"data set {name!r}")


def why_missing(name: str, **options: Any) -> str | None:
    """Why the images of a data set are not at hand, None if they are; reads no more of them than it has to.

    Raises:
        UserError: the name is unknown; or an option, where its images have to be read.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    try:
        if name == "fashion_mnist":  # its files say it, and they are found without torch
            FILES[name]()
        else:
            load_data(name, **options)
    except UserError as error:
        return str(error)
    return None


def load_data(name: str, **options: Any) -> ImageData:
    """The data set called `name`; kept in memory, and read again only if its files have changed.

    Raises:
        UserError: the name or an option is unknown, or the data are not there.
    """
    check_data(name, **options)
    asked = _typed(name, options)
    key = name, json.dumps(asked, sort_keys=True, default=os.fspath)
    stamp = _stamp(name, asked)
    kept = _kept.pop(key, None)
    data = kept[1] if kept is not None and kept[0] == stamp else DATASETS[name](**asked)
    newest_s = max((max(entry[-2:]) for entry in stamp), default=0) / 1e9
    if time.time() - newest_s > SETTLED_S:  # else the files might change once more, and keep their times
        _kept[key] = stamp, data
        for oldest in list(_kept)[:-KEPT]:
            del _kept[oldest]
    return data


_kept: dict[tuple[str, str], tuple[Stamp, ImageData]] = {}
"""Data sets in memory, the one that was used last at the end."""


def _typed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with every default; UserError if one is missing or has the wrong type."""
    types = get_type_hints(DATASETS[name])
    fields: dict[str, Any] = {
        parameter.name: (types[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(DATASETS[name]).parameters.values()
    }
    try:
        return dict(create_model(name, **fields)(**options))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"data set {name!r}: option {problem['loc'][0]!r}: {problem['msg']}.") from None


def _stamp(name: str, options: Mapping[str, Any]) -> Stamp:
    if name not in FILES:
        return ()
    entries = []
    for file in FILES[name](*([options["path"]] if "path" in options else [])):
        about = file.stat()
        entries.append((str(file.absolute()), about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return tuple(entries)
