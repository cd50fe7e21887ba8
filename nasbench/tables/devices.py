"""Published latencies by the name that `device: {name: table, file: ...}` takes.

hw_nasbench/cifar10/edgegpu        HW-NAS-Bench: latency and, of three devices, energy
latency_nasbench201/titan_rtx_256  the latencies of HELP
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from nasbench.devices.table import Cost
from nasbench.tables import hw_nasbench, latencies
from nasbench_registry import one_of
from search_spaces import Architecture
from search_spaces.nasbench201 import NASBench201


@dataclass(frozen=True)
class PublishedDevice:
    """The latencies of a device in a published table.

    Attributes:
        table: Name of the table: "hw_nasbench" or "latency_nasbench201".
        dataset: Data set whose images the networks take; empty where the table has only one size.
        device: Name of the device in the table.
    """

    table: str
    dataset: str
    device: str

    def costs(self) -> dict[str, Cost]:
        """The costs of each cell in the table; UserError if it is not at hand."""
        return _costs(self)


@functools.lru_cache(maxsize=4)
def _costs(published: PublishedDevice) -> dict[str, Cost]:
    space = NASBench201()
    archs: tuple[Architecture, ...]
    if published.table == "hw_nasbench":
        table = hw_nasbench.load_hw_nasbench(published.dataset)
        archs, latency_ms = table.architectures, table.latency_ms[published.device]
        energy_mj = table.energy_mj.get(published.device)
    else:
        archs, latency_ms, energy_mj = latencies.latency_cells(), latencies.device_latencies(published.device), None
    measured_rows = np.flatnonzero(~np.isnan(latency_ms)).tolist()
    return {
        space.format(archs[row]): Cost(
            row, float(latency_ms[row]), None if energy_mj is None else float(energy_mj[row])
        )
        for row in measured_rows
    }


def published_device(name: str) -> PublishedDevice | None:
    """The device of that name; None if the name is no table's, but may be a file's.

    Raises:
        UserError: The table has no such device or data set.
    """
    table, _, rest = name.partition("/")
    if table == "hw_nasbench":
        dataset, _, device = rest.partition("/")
        one_of("data set of table 'hw_nasbench'", dataset, hw_nasbench.FILES)
        return PublishedDevice(table, dataset, one_of("device of table 'hw_nasbench'", device, hw_nasbench.DEVICES))
    if table == "latency_nasbench201":
        return PublishedDevice(table, "", one_of("device of table 'latency_nasbench201'", rest, latencies.DEVICES))
    return None
