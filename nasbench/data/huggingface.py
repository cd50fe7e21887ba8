"""Data sets of the package `datasets` of Hugging Face that lie on this machine (see docs/data.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasbench.data.dataset import Data, Kind, check_division, make_data
from nasbench.data.decoding import CROP, Decoding
from nasbench.data.encoded import decoded_or_not
from nasbench.data.given import NAMES, encode_targets, with_missing_parts
from nasbench_registry import UserError, unknown
from nasbench_registry.files import user_path

TARGETS = ("label", "labels", "target", "class")
"""The usual names of the target column, where none is given and the features name no classes."""


def huggingface(
    *,
    path: str | os.PathLike[str],
    inputs: str | Sequence[str] | None = None,
    target: str | None = None,
    size: Sequence[int] = (32, 32),
    channels: int = 3,
    val_share: float = 0.15,
    test_share: float = 0.15,
    split_seed: int = 0,
    background: float = 1.0,
    resize: str = CROP,
    kind: Kind | None = None,
) -> Data:
    """A folder of `save_to_disk`, parquet files, or a folder of images that `datasets` reads; nothing is downloaded.

    Args:
        path: Folder, or one parquet file. Files whose names begin with train, validation or test are these parts.
        inputs: Column of images, or of arrays; or several columns of numbers. None takes the images, and where there
            are none all columns beside the target.
        target: Target column; None takes the one whose feature names classes, or one called label or target.
        size: Height and width that every image is resized to.
        channels: Number of channels: 3 for colour, 1 for grey.
        val_share: Share of the examples that validates, where no split does.
        test_share: Share of the examples that tests, where no split does.
        split_seed: Random seed of the division.
        background: Grey level behind transparent pixels, from 0 (black) to 1 (white).
        resize: How the shape is changed, as in the data set image_folder.
        kind: Kind of the targets; None goes by their type.

    Raises:
        UserError: The package is not installed, the folder holds no data set, a column is not there or is of no use, or
            an option is out of range.
    """
    check_division("huggingface", val_share, test_share, split_seed)
    decoding = Decoding.of("huggingface", size, channels, background, resize)
    root = user_path(path)
    name = f"huggingface:{root.name}"
    splits = _splits(root)
    features = splits["train"].features
    target_column = _target(name, features, target)
    input_columns = _inputs(name, features, inputs, target_column)
    raw_targets = [np.asarray(split[target_column]) for split in splits.values()]
    targets, classes = encode_targets(name, raw_targets, kind, _names(features[target_column]))
    if _is_image(features[input_columns[0]]):
        images = {
            part: (_Images(split, input_columns[0], part), part_targets.tolist())
            for (part, split), part_targets in zip(splits.items(), targets, strict=True)
        }
        parts = {
            part: (pixels, part_targets)
            for (part, (pixels, _)), part_targets in zip(decoded_or_not(images, decoding).items(), targets, strict=True)
        }
        white = 255.0
    else:
        parts = {
            part: (_numbers(name, split, input_columns), part_targets)
            for (part, split), part_targets in zip(splits.items(), targets, strict=True)
        }
        white = 255.0 if all(array.dtype == np.uint8 for array, _ in parts.values()) else 1.0
    train, val, test = with_missing_parts(parts, val_share, test_share, split_seed)
    columns = input_columns if len(input_columns) > 1 else ()
    return make_data(name, train, val, test, classes, white=white, columns=columns)


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files that `huggingface` may read; UserError if there are none."""
    root = user_path(path)
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    if not files:
        raise UserError(f"data set 'huggingface': there is no file in {root}; give a folder, or a parquet file.")
    return files


def _splits(root: Path) -> dict[str, Any]:
    """The splits by the name of their part."""
    try:
        import datasets
    except ImportError:
        raise UserError(
            "data set 'huggingface' needs the package datasets; install nasbench-framework[huggingface]."
        ) from None
    files = data_files(root)
    parquet = [file for file in files if file.suffix == ".parquet"]
    try:
        if (root / "dataset_dict.json").exists() or (root / "state.json").exists():
            opened = datasets.load_from_disk(str(root))
        elif parquet:
            opened = datasets.load_dataset("parquet", data_files=_by_part(parquet))
        else:
            opened = datasets.load_dataset("imagefolder", data_dir=str(root))
    except Exception as error:  # the package raises errors of many kinds
        words = " ".join(str(error).split())[:200].rstrip(".") or "no message"
        raise UserError(
            f"{root} is no data set that the package datasets reads ({type(error).__name__}: {words}); give what "
            f"save_to_disk wrote, parquet files, or a folder of images."
        ) from error
    splits = dict(opened) if isinstance(opened, Mapping) else {"train": opened}
    strange = [split for split in splits if split.lower() not in NAMES]
    if strange or "train" not in {NAMES[split.lower()] for split in splits}:
        raise UserError(
            f"{root} has the splits {', '.join(splits)}; give train, and validation, test or both beside it, and save "
            f"them so."
        )
    return {NAMES[split.lower()]: part for split, part in splits.items()}


def _by_part(files: Sequence[Path]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for file in files:
        begins = next((name for name in NAMES if file.name.lower().startswith(name)), "train")
        parts.setdefault(NAMES[begins], []).append(str(file))
    return parts


def _target(name: str, features: Mapping[str, Any], chosen: str | None) -> str:
    if chosen is not None:
        if chosen not in features:
            raise unknown("column", chosen, features, where=f"of data set {name!r}")
        return chosen
    candidates = [column for column, feature in features.items() if _names(feature) is not None]
    candidates = candidates if len(candidates) == 1 else [column for column in TARGETS if column in features][:1]
    if not candidates:
        raise UserError(
            f"data set {name!r} has the columns {', '.join(features)}, and which of them is the target is not known; "
            f"name it by the option target."
        )
    return candidates[0]


def _inputs(name: str, features: Mapping[str, Any], chosen: str | Sequence[str] | None, target: str) -> list[str]:
    if chosen is not None:
        columns = [chosen] if isinstance(chosen, str) else list(chosen)
    else:
        images = [column for column, feature in features.items() if _is_image(feature) and column != target]
        columns = images[:1] or [column for column in features if column != target]
    for column in columns:
        if column not in features:
            raise unknown("column", column, features, where=f"of data set {name!r}")
    if not columns or (len(columns) > 1 and any(_is_image(features[column]) for column in columns)):
        raise UserError(f"data set {name!r} has inputs {columns}; name one column of images, or columns of numbers.")
    return columns


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _names(feature: Any) -> list[str] | None:
    """The classes that a feature names; None if it names none."""
    names = getattr(feature, "names", None)
    return list(names) if isinstance(names, list | tuple) else None


def _numbers(name: str, split: Any, columns: Sequence[str]) -> Any:
    """(n, columns) of several columns, (n, ...) of a single one."""
    arrays = []
    for column in columns:
        try:
            array = np.asarray(split.with_format("numpy")[column][:])
            if array.dtype.kind not in "iufb":
                raise ValueError(f"values of type {array.dtype}")
        except ValueError as error:
            raise UserError(
                f"column {column!r} of data set {name!r} holds no numbers of one shape ({error}); name others by the "
                f"option inputs."
            ) from None
        arrays.append(array)
    if len(arrays) == 1:
        return arrays[0] if arrays[0].ndim > 1 else arrays[0][:, None].astype(np.float32)
    return np.stack([array.astype(np.float32) for array in arrays], axis=1)


class _Images:
    """A column of images as they are stored, which `EncodedImages` decodes."""

    def __init__(self, split: Any, column: str, part: str) -> None:
        from datasets import Image

        self.split, self.column, self.part = split.cast_column(column, Image(decode=False)), column, part

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, number: int) -> Path | bytes:
        stored = self.split[number][self.column]
        if stored is None:
            raise UserError(f"{self.name(number)} is missing; leave the example out.")
        return stored["bytes"] if stored["bytes"] is not None else Path(stored["path"])

    def name(self, number: int) -> str:
        """The number of an image and its part."""
        return f"image {number} of the {self.part} split"

    def stamp(self, number: int) -> str:
        """The number of an image in what the package holds for the same data."""
        return f"{self.split._fingerprint} {number}"
