"""What a compilation backend is, and what it makes."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.checks import check_number
from compression.reparameterization import reparameterize
from nasbench_registry import UserError, one_of

Images = NDArray[np.float32]


class CompiledModel(ABC):
    """A network as it would be deployed."""

    @abstractmethod
    def __call__(self, images: Images) -> Images:
        """Logits (n, classes) float32 for images (n, c, h, w) float32; n is any number from 1."""

    @abstractmethod
    def save(self, path: Path | str) -> Path:
        """Write the artefact and return the file written.

        Args:
            path: a folder, made if need be, or a file with the suffix of the backend's artefact.
        """

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of the artefact in bytes."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """JSON: backend, version, precision, threads, and operator counts where they are known."""


@dataclass(frozen=True, kw_only=True)
class Backend(ABC):
    """A compiler or runtime. Its fields are its options.

    Attributes:
        name: as users type it.
        summary: one line for a listing.
        source: where it is documented.
        precisions: those that it can compile to.
        threads: a call may use.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]

    threads: int = 1

    def __post_init__(self) -> None:
        check_number(f"{self.name} threads", self.threads, at_least=1, integer=True)

    @classmethod
    @abstractmethod
    def why_unavailable(cls) -> str | None:
        """What is missing on this machine and how to get it; None if nothing is."""

    def compile(
        self,
        model: nn.Module,
        example_inputs: Tensor,
        precision: str = "fp32",
        calibration: Tensor | None = None,
    ) -> CompiledModel:
        """Compile a network for the CPU; it is left as it was, mode, weights and structure.

        Branches that can be merged for deployment are merged first, see `reparameterize`.

        Args:
            model: a float network, or one from the step `quantize`. In "fp32" that one is compiled with its weights
                on the int8 grid and float inputs.
            example_inputs: (n, c, h, w) float32, whose shape but the first number is fixed in the artefact.
            precision: one of `precisions`.
            calibration: (m, c, h, w) float32 images, from which int8 reads its ranges.

        Raises:
            UserError: the backend is not installed, the precision is unknown, or calibration images are missing.
        """
        missing = self.why_unavailable()
        if missing:
            raise UserError(missing)
        one_of(f"precision of backend {self.name!r}", precision, self.precisions)
        return self._compile(reparameterize(model), example_inputs, precision, calibration)

    @abstractmethod
    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        """Compile; availability and precision are checked, branches merged. `model` must be left as it was."""

    @abstractmethod
    def load(self, path: Path | str) -> CompiledModel:
        """Load what `CompiledModel.save` wrote.

        Args:
            path: the folder or the file that was given to `save`.

        Raises:
            UserError: nothing is there, or the artefact cannot run by itself.
        """


def artefact_path(path: Path | str, filename: str) -> Path:
    """`path` if it is a file of the right suffix, else the file of that name in the folder `path`."""
    path = Path(path)
    return path if path.suffix == Path(filename).suffix else path / filename


def as_images(images: Images) -> Images:
    """The images as contiguous float32, checked to be a batch.

    Raises:
        UserError: they are not (n, c, h, w).
    """
    if images.ndim != 4 or len(images) == 0:
        raise UserError(f"images have shape {images.shape}; give (n, c, h, w) with n of at least 1.")
    return np.ascontiguousarray(images, dtype=np.float32)


def needs_calibration(backend: str, calibration: Tensor | None) -> Tensor:
    """The calibration images, or the error for their absence."""
    if calibration is None or len(calibration) == 0:
        raise UserError(f"backend {backend!r} needs calibration images for int8; give some as (m, c, h, w) float32.")
    return calibration.detach().cpu().float()


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """This number of torch threads inside the block; changing it costs time, so only if it differs."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
