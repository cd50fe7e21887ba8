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
from nasbench.data.given import NAMES, told, with_missing_parts
from nasbench_registry import UserError, unknown
from nasbench_registry.files import user_path

TARGETS = ("label", "labels", "target", "class")
"""How the column is called that is told, where none is given and the features name no classes."""


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
    """What `save_to_disk` wrote, parquet files, or a folder of images that `datasets` reads; nothing is downloaded.

    Args:
        path: a folder, or one parquet file. Files whose names begin with train, validation or test are these parts.
        inputs: the column of images, or of arrays; or several of numbers. None takes the images, and where there are
            none all columns beside the target.
        target: the column that is told; None takes the one whose feature names classes, or one called label or target.
        size: height and width that every image is resized to.
        channels: 3 for colour, 1 for grey.
        val_share: share of the examples that validates, where no split does.
        test_share: share that tests, where no split does.
        split_seed: random seed of the division.
        background: grey level behind transparent pixels, from 0 (black) to 1 (white).
        resize: as in the data set image_folder.
        kind: kind of the targets; None goes by their type.

    Raises:
        UserError: the package is not installed, the folder holds no data set, a column is not there or is of no use, or
            an option is out of range.
    """
    check_division("huggingface", val_share, test_share, split_seed)
    decoding = Decoding.of("huggingface", size, channels, background, resize)
    root = user_path(path)
    name = f"huggingface:{root.name}"
    splits = _splits(root)
    features = splits["train"].features
    answer = _target(name, features, target)
    looked_at = _inputs(name, features, inputs, answer)
    wanted = [np.asarray(split[answer]) for split in splits.values()]
    answers, classes = told(name, wanted, kind, _names(features[answer]))
    if _is_image(features[looked_at[0]]):
        images = {
            part: (_Images(split, looked_at[0], part), answered.tolist())
            for (part, split), answered in zip(splits.items(), answers, strict=True)
        }
        parts = {
            part: (pixels, answered)
            for (part, (pixels, _)), answered in zip(decoded_or_not(images, decoding).items(), answers, strict=True)
        }
        white = 255.0
    else:
        parts = {
            part: (_numbers(name, split, looked_at), answered)
            for (part, split), answered in zip(splits.items(), answers, strict=True)
        }
        white = 255.0 if all(array.dtype == np.uint8 for array, _ in parts.values()) else 1.0
    train, val, test = with_missing_parts(parts, val_share, test_share, split_seed)
    columns = looked_at if len(looked_at) > 1 else ()
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


def _target(name: str, features: Mapping[str, Any], asked: str | None) -> str:
    if asked is not None:
        if asked not in features:
            raise unknown("column", asked, features, where=f"of data set {name!r}")
        return asked
    found = [column for column, feature in features.items() if _names(feature) is not None]
    found = found if len(found) == 1 else [column for column in TARGETS if column in features][:1]
    if not found:
        raise UserError(
            f"data set {name!r} has the columns {', '.join(features)}, and which of them is to be told is not known; "
            f"name it by the option target."
        )
    return found[0]


def _inputs(name: str, features: Mapping[str, Any], asked: str | Sequence[str] | None, target: str) -> list[str]:
    if asked is not None:
        columns = [asked] if isinstance(asked, str) else list(asked)
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
        """Its number and its part."""
        return f"image {number} of the {self.part} split"

    def stamp(self, number: int) -> str:
        """Its number in what the package holds for the same data."""
        return f"{self.split._fingerprint} {number}"
