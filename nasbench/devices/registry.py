"""Where networks are measured: one file a device, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nasbench_compression import get_backend
from nasbench_registry import Entries, UserError, one_of

if TYPE_CHECKING:
    from nasbench.devices.config import DeviceConfig
    from nasbench.devices.device import Device
    from nasbench.devices.table import CostTable

DEVICES: Entries[type[Device]] = Entries(
    {
        "cpu": "nasbench.devices.device:Device",
        "cuda": "nasbench.devices.cuda:CudaDevice",
        "table": "nasbench.devices.table:TableDevice",
        "command": "nasbench.devices.command:CommandDevice",
    }
)


def get_device(config: DeviceConfig, published: Callable[[str], CostTable | None] | None = None) -> Device:
    """The device of an experiment; whether it can be used here, `why_unavailable` says.

    Args:
        config: Section `device` of the experiment.
        published: Function that finds a published table of latencies by its name, for device `table`.

    Raises:
        UserError: Its runtime is unknown, or not one that this device can have.
    """
    from nasbench.devices.command import NO_FILE, CommandDevice
    from nasbench.devices.cuda import RUNTIMES, CudaDevice
    from nasbench.devices.device import Device
    from nasbench.devices.table import TableDevice

    runtime, threads, batch = config.runtime, config.threads, config.batch
    if config.name == "cuda":
        one_of("runtime of device 'cuda'", runtime, RUNTIMES)
        return CudaDevice(runtime, threads, batch)
    get_backend(runtime, threads=threads)
    if config.name == "table":
        return TableDevice(runtime, threads, batch, file=config.file or "", published=published)
    if config.name == "command":
        if runtime in NO_FILE:
            raise UserError(
                f"device 'command' measures a file, and runtime {runtime!r} has none that runs by itself; set "
                f"device.runtime, to onnxruntime for example."
            )
        return CommandDevice(runtime, threads, batch, command=config.command or "", timeout_s=config.timeout_s)
    return Device(runtime, threads, batch)
