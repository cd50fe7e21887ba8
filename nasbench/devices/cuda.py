"""This machine's GPU, with PyTorch, eager or compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from nasbench.devices.device import Device
from nasbench.devices.energy import Meter, Nvml
from nasbench_compression import CompiledModel
from nasbench_compression.compilation.eager import EagerModel
from nasbench_compression.compilation.inductor import torch_compiled
from nasbench_compression.compilation.signature import Array, arrays
from nasbench_compression.quantization.modules import is_quantized
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.timing import Timer, cuda_seconds
from nasbench_registry import UserError, one_of
from search_spaces import Task

RUNTIMES = ("eager", "torch_compile")


@dataclass(frozen=True)
class CudaDevice(Device):
    """The current CUDA GPU; the images are there already, and the events of its own clock time the network.

    Attributes:
        runtime: Name of the runtime, one of `RUNTIMES`.
        threads: Number of threads; of no effect on the GPU, kept in the protocol.
    """

    name: ClassVar[str] = "cuda"
    summary: ClassVar[str] = "this machine's GPU, with PyTorch: eager or torch_compile"

    missing: ClassVar[str] = "nasbench.devices.gpu:why_no_gpu"

    def why_unavailable(self) -> str | None:
        """Why there is no GPU; both runtimes come with PyTorch."""
        return self.why_missing()

    def why_not(self, compiled: CompiledModel) -> str | None:
        """It times networks of PyTorch that were compiled for it."""
        if isinstance(compiled, GpuModel):
            return None
        backend = compiled.describe()["backend"]
        return f"the GPU runs networks of PyTorch, and this is an artefact of {backend} for the CPU"

    @property
    def machine(self) -> str:
        """The name of the GPU."""
        return torch.cuda.get_device_name()

    def compile(
        self, model: nn.Module, task: Task, precision: str = "fp32", calibration: torch.Tensor | None = None
    ) -> CompiledModel:
        """A copy of the network on the GPU.

        Raises:
            UserError: There is no GPU, or the network is quantized, for which PyTorch has no kernels there.
        """
        missing = self.why_missing()
        if missing:
            raise UserError(missing)
        one_of("runtime of device 'cuda'", self.runtime, RUNTIMES)
        if precision != "fp32" or is_quantized(model):
            raise UserError(f"device 'cuda' runs fp32 networks only, not {precision}; measure this one on device cpu.")
        return GpuModel(model, self.runtime, self.threads)

    def eager(self, model: nn.Module, task: Task) -> CompiledModel | None:
        """The network in eager PyTorch on the GPU."""
        return GpuModel(model, "eager", self.threads)

    @property
    def _timer(self) -> Timer:
        return cuda_seconds

    @property
    def meter(self) -> Meter:
        """The counter of the GPU."""
        return Nvml(torch.cuda.current_device() if torch.cuda.is_available() else 0)

    def _call(self, compiled: CompiledModel, task: Task) -> Callable[[], object]:
        if not isinstance(compiled, GpuModel):
            raise UserError(f"{self.why_not(compiled)}; compile the network with this device.")
        images = task.one_input(self.batch, seed=0).to(compiled.place)
        return lambda: compiled.run(images)


class GpuModel(EagerModel):
    """A network in evaluation mode on a GPU.

    Args:
        model: Network, which is copied, its branches merged.
        runtime: Name of the runtime, one of `RUNTIMES`.
        threads: Threads of the process that gives the GPU its work.
        place: Name of the torch device.
    """

    def __init__(self, model: nn.Module, runtime: str, threads: int, place: str = "cuda") -> None:
        network = copy.deepcopy(reparameterize(model)).eval().requires_grad_(False).to(place)
        super().__init__(network, "fp32", threads)
        self.runtime, self.place = runtime, place
        self._network: Callable[[torch.Tensor], torch.Tensor] = (
            torch_compiled(network) if runtime == "torch_compile" else network
        )

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) for images (n, c, h, w), both where the network is; they may not be done yet."""
        with torch.inference_mode():
            return self._network(images)

    def _run(self, images: Array) -> list[Array]:
        return arrays(self.run(torch.from_numpy(images).to(self.place)))

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; the precision says if convolutions round to TensorFloat-32 on the way."""
        rounds = self.place == "cuda" and torch.backends.cudnn.allow_tf32
        return super().describe() | {
            "backend": self.runtime,
            "version": f"{torch.__version__}, CUDA {torch.version.cuda}",
            "precision": "tf32" if rounds else "fp32",
        }
