"""A data set that a user's function or notebook gives: arrays, tensors or torch Datasets with targets of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nasbench.data.dataset import Data, Kind, Part, Raw, check_division, divided, make_data
from nasbench.data.on_disk import ON_DISK_BYTES, TYPES, FileArray, OnDisk
from nasbench_registry import UserError, raised

NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""How the parts of a divided data set are called, and which part each of them is."""
FORMS = "(inputs, targets), a torch Dataset, or a dict of these with the keys train, val and test"

Pair = tuple[list[Raw], npt.NDArray[Any]]


def data_of(
    value: Any,
    name: str,
    kind: Kind | None = None,
    *,
    val_share: float = 0.15,
    test_share: float = 0.15,
    split_seed: int = 0,
    labels: Sequence[str] | None = None,
) -> Data:
    """A data set from what a user has.

    Args:
        value: (inputs, targets) of arrays or tensors, where inputs may be a list of several; a torch Dataset of such
            pairs; or the parts of one, as a dict with the keys train, val and test, or in that order. A part that is
            not there is taken from the training examples. Bytes are scaled to 0..1, floating point numbers are taken as
            they are; both are then normalised. Other whole numbers are tokens.
        name: Name of the data set, for errors and reports.
        kind: Kind of the targets; None goes by their type: names and whole numbers are classes, whole numbers for each
            pixel are masks, and floating point numbers are values.
        val_share: Share of the examples that validates, where no part does.
        test_share: Share of the examples that tests.
        split_seed: Random seed of the division.
        labels: Names of the classes, the first one for target 0; None takes those that occur.

    Raises:
        UserError: It is something else, or the parts do not fit together.
    """
    if isinstance(value, Data):
        return value
    check_division(name, val_share, test_share, split_seed)
    pairs = {part: _pair(name, part, part_value) for part, part_value in _parts(name, value).items()}
    if len({len(inputs) for inputs, _ in pairs.values()}) > 1:
        raise UserError(f"data set {name!r} gives another number of inputs in one part than in another.")
    targets, classes = encode_targets(name, [raw for _, raw in pairs.values()], kind, labels)
    parts: dict[str, Part] = {
        part: (inputs, part_targets) for (part, (inputs, _)), part_targets in zip(pairs.items(), targets, strict=True)
    }
    train, val, test = with_missing_parts(parts, val_share, test_share, split_seed)
    bytes_only = all(array.dtype in (np.uint8, torch.uint8) for array in pairs["train"][0])
    return make_data(name, train, val, test, classes, white=255.0 if bytes_only else 1.0)


def with_missing_parts(
    parts: Mapping[str, Part], val_share: float, test_share: float, seed: int
) -> tuple[Part, Part, Part]:
    """Train, val and test; what is not there is taken from the training examples."""
    shares = {"val": val_share, "test": test_share}
    missing = [part for part in shares if part not in parts]
    completed = dict(parts)
    if missing:
        inputs, targets = parts["train"]
        rows = divided(targets, tuple(shares[part] for part in missing), seed)
        for part, chosen in zip([*missing, "train"], rows, strict=True):
            completed[part] = (_rows(inputs, chosen), targets[chosen])
    return completed["train"], completed["val"], completed["test"]


def _rows(inputs: Raw | Sequence[Raw], rows: npt.NDArray[np.int64]) -> list[Raw]:
    arrays: list[Any] = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    return [array.subset(rows) if isinstance(array, OnDisk) else array[rows] for array in arrays]


def _parts(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        parts: dict[str, Any] = {}
        for key, part in value.items():
            if str(key).lower() not in NAMES:
                raise UserError(f"data set {name!r} gives a dict with the key {key!r}; give {FORMS}.")
            parts[NAMES[str(key).lower()]] = part
    elif isinstance(value, list | tuple) and len(value) in (2, 3) and all(_is_part(part) for part in value):
        parts = dict(zip(("train", "test") if len(value) == 2 else ("train", "val", "test"), value, strict=True))
    else:
        parts = {"train": value}
    if "train" not in parts:
        raise UserError(
            f"data set {name!r} gives {', '.join(parts)} and no train; networks need examples to learn from."
        )
    return parts


def _is_part(value: Any) -> bool:
    """Whether it is a part by itself: a pair or a torch Dataset, and not the inputs or targets of one."""
    if isinstance(value, list | tuple):
        return len(value) == 2 and all(hasattr(array, "dtype") or _is_arrays(array) for array in value)
    return not hasattr(value, "dtype") and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _is_arrays(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(hasattr(array, "shape") for array in value)


def _pair(name: str, part: str, value: Any) -> Pair:
    """Inputs, one array or more, and targets."""
    if not (isinstance(value, list | tuple) and len(value) == 2):
        value = _collected(name, part, value)
    raw, targets = value
    several = list(raw) if _is_arrays(raw) else [raw]
    inputs = [_raw(name, array) for array in several]
    told_targets = as_array(name, targets)
    several_rows = told_targets.ndim > 0 and all(array.ndim > 0 for array in inputs)
    if several_rows and len(told_targets) == 0:
        raise UserError(f"data set {name!r} gives a {part} part without examples; give some, or leave the part out.")
    if not several_rows or len({len(array) for array in (*inputs, told_targets)}) != 1:
        shapes = ", ".join(str(tuple(array.shape)) for array in (*inputs, told_targets))
        raise UserError(
            f"data set {name!r} gives a {part} part with inputs and targets of shapes {shapes}; give as many of one as "
            f"of the other."
        )
    for array in inputs:
        if not is_real(_numpy_type(array)):
            raise UserError(f"data set {name!r} gives inputs of type {array.dtype}; give numbers.")
    return inputs, told_targets


def _raw(name: str, array: Any) -> Raw:
    """An array in memory; or on disk, also that of a large file of bytes or float32 that NumPy maps."""
    if isinstance(array, np.memmap) and array.nbytes > ON_DISK_BYTES and array.dtype.str in TYPES.values():
        mapped = FileArray.of(array)
        array = array if mapped is None else mapped
    return array if isinstance(array, OnDisk) else as_array(name, array)


def is_real(dtype: Any) -> bool:
    """Whether numbers of this type are whole, or floating point numbers."""
    return np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)


def _numpy_type(array: Raw) -> Any:
    return np.dtype(array.numpy_dtype) if isinstance(array, OnDisk) else array.dtype


def _collected(name: str, part: str, dataset: Any) -> tuple[list[npt.NDArray[Any]], Any]:
    """All examples of a torch Dataset."""
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")) or hasattr(dataset, "dtype"):
        raise UserError(f"data set {name!r} gives a {type(dataset).__name__}; give {FORMS}.")
    inputs: list[list[npt.NDArray[Any]]] = []
    targets = []
    if len(dataset) == 0:
        raise UserError(f"data set {name!r} gives a {part} part without examples; give some, or leave the part out.")
    for number in range(len(dataset)):
        try:
            example = dataset[number]
        except Exception as error:  # whatever the user's code raises
            raise UserError(
                f"data set {name!r}: example {number} of the {part} part cannot be read ({raised(error)}); repair it, "
                f"or leave it out."
            ) from error
        if not (isinstance(example, list | tuple) and len(example) >= 2):
            raise UserError(
                f"data set {name!r}: example {number} of the {part} part is a {type(example).__name__}; a Dataset "
                f"gives (input, target) pairs."
            )
        *fields, target = example
        arrays = list(fields[0]) if len(fields) == 1 and _is_arrays(fields[0]) else fields
        if not all(hasattr(array, "shape") or isinstance(array, int | float) for array in arrays):
            raise UserError(
                f"data set {name!r}: the input of example {number} is a {type(arrays[0]).__name__}; give it a "
                f"transform that makes a tensor or an array of it."
            )
        inputs.append([as_array(name, array) for array in arrays])
        targets.append(as_array(name, target))
    try:
        return [np.stack(column) for column in zip(*inputs, strict=True)], np.stack(targets)
    except ValueError as error:
        raise UserError(
            f"data set {name!r}: the examples of the {part} part differ in shape ({error}); bring them to one size."
        ) from None


def as_array(name: str, value: Any) -> npt.NDArray[Any]:
    """A tensor, a table, a list or a number as an array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return np.asarray(value.float() if value.dtype is torch.bfloat16 else value)
    try:
        array = np.asarray(value)
        # An array of objects may hold numbers or names all the same.
        return np.asarray(array.tolist()) if array.dtype == object and None not in array.ravel().tolist() else array
    except (TypeError, ValueError) as error:
        raise UserError(
            f"data set {name!r} gives a {type(value).__name__} that is no array ({str(error).rstrip('.')}); give rows "
            f"of one length."
        ) from None


def called(function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """The result of a user's function; UserError for whatever it raises, with that behind it."""
    try:
        return function(**options)
    except UserError:
        raise
    except Exception as error:
        named = getattr(function, "__qualname__", repr(function))
        raise UserError(f"the function {named} gives no data ({raised(error)}).") from error


def encode_targets(
    name: str, parts: Sequence[npt.NDArray[Any]], kind: Kind | None, named: Sequence[str] | None = None
) -> tuple[list[npt.NDArray[Any]], tuple[str, ...]]:
    """Targets of every part as classes from 0 without gaps, masks, or values; and the names of the classes.

    Args:
        name: Name of the data set.
        parts: Targets of each part, as they came.
        kind: Kind of the targets; None goes by their type.
        named: Names of the classes, for targets that are whole numbers.

    Raises:
        UserError: They are not of this kind.
    """
    if len({array.shape[1:] for array in parts}) > 1 or len({_is_text(array) for array in parts}) > 1:
        raise UserError(f"data set {name!r} gives targets of another shape or type in one part than in another.")
    first = parts[0]
    squeezed = [array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in parts]
    if kind is None:
        kind = "values" if np.issubdtype(first.dtype, np.floating) else "masks" if first.ndim == 3 else "classes"
    if kind == "values":
        strange = next((array for array in parts if not is_real(array.dtype) and array.dtype != bool), None)
        if strange is not None:
            raise UserError(
                f"data set {name!r} gives targets such as {strange.ravel().tolist()[0]!r}, and regression needs "
                f"numbers that are real."
            )
        return [array.astype(np.float64) for array in parts], ()
    encoded = [_whole(name, array, kind) for array in squeezed]
    if kind == "masks":
        return encoded, _mask_names(name, encoded, named)
    if encoded[0].ndim != 1:
        raise UserError(
            f"data set {name!r} gives targets of shape {encoded[0].shape}, and classification needs one for each "
            f"example."
        )
    values = np.unique(np.concatenate(encoded))
    if named is not None:
        return encoded, _names_of(name, named)
    if not _is_text(values) and values[0] < 0:
        count = sum(int((array < 0).sum()) for array in encoded)
        raise UserError(
            f"data set {name!r}: {count:,} of {sum(map(len, encoded)):,} labels are negative, down to {values[0]}; "
            f"classes are numbered from 0, so leave out examples that have none."
        )
    return [np.searchsorted(values, array).astype(np.int64) for array in encoded], tuple(str(value) for value in values)


def _mask_names(name: str, masks: Sequence[npt.NDArray[Any]], named: Sequence[str] | None) -> tuple[str, ...]:
    from nasbench.data.dataset import IGNORED

    if masks[0].ndim != 3:
        raise UserError(
            f"data set {name!r} gives masks of shape {masks[0].shape}, and segmentation needs a class for each pixel: "
            f"(n, height, width)."
        )
    below = sum(int((array < 0).sum()) for array in masks)
    if below:
        raise UserError(
            f"data set {name!r} has masks with {below:,} pixels below 0; number classes from 0, and write {IGNORED} "
            f"where none is asked for."
        )
    most = max(int(array[array != IGNORED].max(initial=0)) for array in masks)
    if most == 0:
        raise UserError(
            f"data set {name!r} has masks of nothing but 0 and {IGNORED}, where {IGNORED} is asked of no one; number "
            f"the classes 0, 1 and so on."
        )
    return _names_of(name, named) if named is not None else tuple(str(number) for number in range(most + 1))


def _names_of(name: str, labels: Any) -> tuple[str, ...]:
    """The option `labels`; UserError if it is no list of names of which each is another."""
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise UserError(f"labels={labels!r} of data set {name!r} must be a list of names.")
    twice = next((label for label in labels if list(labels).count(label) > 1), None)
    if twice is not None:
        raise UserError(f"labels of data set {name!r} name {twice!r} twice; give each class a name of its own.")
    return tuple(labels)


def _is_text(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind in "US" or (array.dtype == object and isinstance(array.flat[0] if array.size else "", str))


def _whole(name: str, array: npt.NDArray[Any], kind: Kind) -> npt.NDArray[Any]:
    """Targets that name classes; floating point numbers only if they are whole."""
    if _is_text(array):
        return array.astype(str)
    if np.issubdtype(array.dtype, np.floating):
        off = ~np.isfinite(array) | (array != np.round(array))
        if off.any():
            raise UserError(
                f"data set {name!r} has labels such as {array[off].flat[0]:g}, which number no class; give whole "
                f"numbers or names, or take the problem regression."
            )
        return array.astype(np.int64)
    if array.dtype == bool or np.issubdtype(array.dtype, np.integer):
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise UserError(f"data set {name!r} has the label {array.max()}; number classes from 0.")
        return array.astype(np.int64)
    values = array.ravel().tolist()
    if array.dtype == object and None in values:
        raise UserError(
            f"data set {name!r} has {values.count(None):,} of {len(values):,} labels that are None; leave examples "
            f"without one out."
        )
    raise UserError(f"data set {name!r} has labels of type {array.dtype}; give whole numbers or names.")
