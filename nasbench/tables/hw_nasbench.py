"""HW-NAS-Bench: latency and energy of all cells of NAS-Bench-201 on six devices (Li et al. 2021, arXiv 2103.10584).

One file a data set, for the size of the images and the number of classes change the costs. Milliseconds and millijoules
of one image. The Edge TPU could not run 4,699 of the cells; they have no latency there.

The copy that is fetched holds no numbers of the benchmark's other space, FBNet's, so that part is not here.
"""

from __future__ import annotations

import ast
import csv
import functools
import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nasbench.data.folders import data_folders
from nasbench_registry import UserError, one_of
from search_spaces import Architecture

Vector = npt.NDArray[np.float64]

DEVICES = ("edgegpu", "raspi4", "edgetpu", "pixel3", "eyeriss", "fpga")
ENERGY_DEVICES = ("edgegpu", "eyeriss", "fpga")
FILES = {"cifar10": "hw_cifar10.csv", "cifar100": "hw_cifar100.csv", "imagenet16_120": "hw_ImageNet16-120.csv"}
FOLDER = "hw_nasbench"
CONTENT_SHA256 = {  # of the text inside
    "hw_cifar10.csv": "71e56e00ce03525aaccdb5bac4f9856b8733ed12741ff09e12784d30fa21a602",
    "hw_cifar100.csv": "43e66dff2c02fd36f655c989615c95ae366b97a60f289410c802c5b8b87a1cb8",
    "hw_ImageNet16-120.csv": "c0d10fa8da52bcf8880496c22fa126cce39d8acf3c9224670170e31ef0294a0c",
}
NET_EDGES = ((1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2))  # (node, its input), in the order of a `net`
NET_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
UNMEASURED = -1.0


@dataclass(frozen=True)
class HardwareTable:
    """Costs of every cell on six devices.

    Attributes:
        dataset: Data set whose images the networks take.
        architectures: Architectures of all rows.
        latency_ms: (n,) latencies in milliseconds by device, NaN where it was not measured.
        energy_mj: (n,) energies in millijoules by device, for those in `ENERGY_DEVICES`.
    """

    dataset: str
    architectures: tuple[Architecture, ...]
    latency_ms: Mapping[str, Vector]
    energy_mj: Mapping[str, Vector]

    def aligned(self, architectures: tuple[Architecture, ...]) -> npt.NDArray[np.int64]:
        """(m,) the rows of these architectures."""
        rows = {arch: row for row, arch in enumerate(self.architectures)}
        return np.array([rows[arch] for arch in architectures], dtype=np.int64)


def architecture_of(net: tuple[int, ...]) -> Architecture:
    """The cell that a `net` of the files stands for."""
    from search_spaces.nasbench201 import EDGES, OPERATIONS  # which imports torch: a listing of tables does without

    picked = dict(zip(NET_EDGES, net, strict=True))
    picks = tuple(OPERATIONS.index(NET_OPERATIONS[picked[edge]]) for edge in EDGES)
    return Architecture("nasbench201", picks)


@functools.lru_cache(maxsize=len(FILES))
def load_hw_nasbench(dataset: str) -> HardwareTable:
    """The table of a data set; kept in memory.

    Raises:
        UserError: There is no such data set, or its file is not at hand or not what was published.
    """
    name = FILES[one_of("data set", dataset, FILES)]
    places = [folder / FOLDER / f"{name}.gz" for folder in data_folders()]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"table 'hw_nasbench' was not found as {' or '.join(map(str, places))}; run: "
            f"nasbench data fetch hw_nasbench."
        )
    rows = list(csv.DictReader(io.StringIO(unpacked(path, CONTENT_SHA256[name]).decode("ascii"))))

    def column(field: str) -> Vector:
        values = np.array([float(row[field]) for row in rows])
        values[values == UNMEASURED] = np.nan
        values.setflags(write=False)
        return values

    return HardwareTable(
        dataset,
        tuple(architecture_of(ast.literal_eval(row["net"])) for row in rows),
        {device: column(f"{device}_latency") for device in DEVICES},
        {device: column(f"{device}_energy") for device in ENERGY_DEVICES},
    )


def unpacked(path: Path, sha256: str) -> bytes:
    """The text in a compressed file.

    Raises:
        UserError: It cannot be read, or is not what was published.
    """
    source = path.parent.name
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); run: nasbench data fetch {source}.") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} does not hold the published numbers; run: nasbench data fetch {source}.")
    return content
