"""The data sets by name."""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import ValidationError, create_model

from nasbench_registry import Entries, Names, UserError, check_options, unknown

if TYPE_CHECKING:
    from nasbench.data.dataset import Data, Kind

DATASETS: Entries[Callable[..., Data]] = Entries(
    {
        "digits": "nasbench.data.digits:digits",
        "fashion_mnist": "nasbench.data.fashion_mnist:fashion_mnist",
        "mnist": "nasbench.data.mnist:mnist",
        "cifar10": "nasbench.data.cifar10:cifar10",
        "cifar100": "nasbench.data.cifar100:cifar100",
        "arrays": "nasbench.data.arrays:arrays",
        "image_folder": "nasbench.data.image_folder:image_folder",
        "imagenet_folder": "nasbench.data.imagenet_folder:imagenet_folder",
        "huggingface": "nasbench.data.huggingface:huggingface",
        "tabular": "nasbench.data.tabular:tabular",
    }
)

FILES: Entries[Callable[..., list[Path]]] = Entries(
    {
        "fashion_mnist": "nasbench.data.folders:fashion_files",
        "mnist": "nasbench.data.folders:mnist_files",
        "cifar10": "nasbench.data.folders:cifar10_files",
        "cifar100": "nasbench.data.folders:cifar100_files",
        "arrays": "nasbench.data.arrays:array_files",
        "image_folder": "nasbench.data.image_folder:image_files",
        "imagenet_folder": "nasbench.data.imagenet_folder:imagenet_files",
        "huggingface": "nasbench.data.huggingface:data_files",
        "tabular": "nasbench.data.tabular:table_files",
    }
)
"""Function that finds the files of a data set, given its option `path` if it has one; others are in no file."""

FOUND_BY_FILES = ("fashion_mnist", "mnist", "cifar10", "cifar100")
"""Data sets without an option that has to be given: they are at hand if their files are."""
KEPT = 2  # data sets in memory
SETTLED_S = 2.0  # after which a file system gives a file that is written again another time

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""Path, inode, size and times of files, one of which changes with their content."""


class _DataSets(Names[Callable[..., Any]]):
    """Functions that give a data set."""

    attribute = "function"

    def _checked(self, name: str, value: object) -> Callable[..., Any]:
        if not callable(value):
            raise UserError(f"data {name!r} is {value!r}; name a function that returns examples with their targets.")
        return value

    def _offers(self, value: object) -> bool:
        return inspect.isfunction(value)


datasets = _DataSets("data set", DATASETS, group="nasbench.datasets")
RESERVED = ("kind",)
"""Parameters that the problem sets, and that are no options."""
DIVISION = ("val_share", "test_share", "split_seed", "labels")
"""Options that any function of a user's own has beside its own, see `data_of`."""


def check_data(name: str, **options: Any) -> None:
    """Raise UserError unless a data set of this name takes these options; loads nothing."""
    make = datasets.find(name)
    function_options = {key: value for key, value in options.items() if name in DATASETS or not _is_division(key, make)}
    check_options(make, function_options, what=f"data set {name!r}", reserved=RESERVED)


def _is_division(option: str, make: Callable[..., Any]) -> bool:
    return option in DIVISION and option not in inspect.signature(make).parameters


def described_data(data: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and options of a section `data`."""
    return str(data["name"]), {key: value for key, value in data.items() if key != "name"}


def why_missing(name: str, **options: Any) -> str | None:
    """Why the images of a data set are not at hand, None if they are; reads no more of them than it has to.

    Raises:
        UserError: The name is unknown; or an option, where its images have to be read.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    try:
        if name in FOUND_BY_FILES:  # and these are found without torch
            FILES[name]()
        else:
            load_data(name, **options)
    except UserError as error:
        return str(error)
    return None


def why_no_files(name: str) -> str | None:
    """Why a data set that finds its files by itself cannot be read here; None if it can."""
    if name == "huggingface":
        missing = find_spec("datasets") is None
        return "it needs the package datasets; install nasbench-framework[huggingface]." if missing else None
    return why_missing(name) if name in FOUND_BY_FILES else None


def load_data(name: str, *, kind: Kind | None = None, **options: Any) -> Data:
    """The data set called `name`; kept in memory, and read again only if its files have changed.

    Args:
        name: One of `DATASETS`, or ``module:function`` of a function that gives what `data_of` takes.
        kind: Kind of the targets, which the problem knows; None takes them as the data set has them.
        options: Options of the data set.

    Raises:
        UserError: The name or an option is unknown, or the data are not there.
    """
    check_data(name, **options)
    if name not in DATASETS:
        return _from_function(name, kind, options)
    if kind is not None and "kind" in inspect.signature(DATASETS[name]).parameters:
        options["kind"] = kind
    typed_options = _typed(name, options)
    key = name, json.dumps(typed_options, sort_keys=True, default=os.fspath)
    stamp = _stamp(name, typed_options)
    cached = _cache.pop(key, None)
    data = cached[1] if cached is not None and cached[0] == stamp else DATASETS[name](**typed_options)
    newest_s = max((max(entry[-2:]) for entry in stamp), default=0) / 1e9
    if time.time() - newest_s > SETTLED_S:  # else the files might change once more, and keep their times
        _cache[key] = stamp, data
        for oldest in list(_cache)[:-KEPT]:
            del _cache[oldest]
    return data


def _from_function(name: str, kind: Kind | None, options: Mapping[str, Any]) -> Data:
    """The data of a function of the user's own; kept for the same function, options and kind."""
    from nasbench.data.given import called, data_of  # which needs torch, and a listing of names does not

    make = datasets.find(name)
    key = name, json.dumps([kind, dict(options)], sort_keys=True, default=repr)
    if key not in _function_cache or _function_cache[key][0] is not make:
        function_options = {option: value for option, value in options.items() if not _is_division(option, make)}
        division = {option: value for option, value in options.items() if option not in function_options}
        _function_cache.clear()
        _function_cache[key] = make, data_of(called(make, function_options), name, kind, **division)
    return _function_cache[key][1]


_function_cache: dict[tuple[str, str], tuple[Callable[..., Any], Data]] = {}
"""The last data set that a function gave, with the function."""

_cache: dict[tuple[str, str], tuple[Stamp, Data]] = {}
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
