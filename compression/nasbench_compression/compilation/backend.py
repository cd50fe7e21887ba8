"""What a compilation backend is, and what it makes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench_compression.checks import check_number
from nasbench_compression.reparameterization import reparameterize
from nasbench_registry import UserError, one_of

Images = NDArray[np.float32]


class CompiledModel(ABC):
    """A network as it would be deployed.

    Attributes:
        options: of the backend that made or loaded it, with which `get_backend` makes that backend again.
    """

    options: Mapping[str, Any] = {}

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
        """JSON: backend, version, precision, threads; where they are known, how many operators there are of each kind.

        `operators` are those of the network as it was given to the runtime, `operators_optimized` those that it runs
        after fusing and folding.
        """


class SingleFile(CompiledModel):
    """One whose artefact is a single file, held in memory.

    Attributes:
        artefact: the content of the file.
        filename: its name in a folder.
    """

    artefact: bytes
    filename: ClassVar[str]

    def save(self, path: Path | str) -> Path:
        """See `CompiledModel`."""
        file = artefact_path(path, self.filename)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.artefact)
        return file

    @property
    def bytes(self) -> int:
        """See `CompiledModel`."""
        return len(self.artefact)


@dataclass(frozen=True, kw_only=True)
class Backend(ABC):
    """A compiler or runtime. Its fields are its options.

    Attributes:
        name: as users type it.
        summary: one line for a listing.
        source: where it is documented.
        precisions: those that it can compile to.
        artefact: name of the file that `CompiledModel.save` writes into a folder.
        packages: import names without which it does not run.
        extra: of this project, that installs them.
        usage: a few lines of Python that run the artefact without this project: from `images` (n, c, h, w) float32 to
            `logits` (n, classes); with the fields {file}, {threads}, {batch} and {arithmetic}, which
            is bf16 or f32, to be filled in. Empty where the artefact does not run by itself.
        threads: a call may use.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    artefact: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    usage: ClassVar[str] = ""

    threads: int = 1

    def __post_init__(self) -> None:
        check_number(f"{self.name} threads", self.threads, at_least=1, integer=True)

    @classmethod
    def why_unavailable(cls) -> str | None:
        """What is missing on this machine and how to get it; None if nothing is. By default it asks for `packages`."""
        missing = [package for package in cls.packages if importlib.util.find_spec(package) is None]
        if not missing:
            return None
        return (
            f"backend {cls.name!r} needs {', '.join(missing)}, which is not installed; "
            f"run: pip install 'nasbench-framework[{cls.extra}]'"
        )

    @classmethod
    def why_not_loadable(cls) -> str | None:
        """As `why_unavailable`, for running what was saved, which may need less than making it."""
        return cls.why_unavailable()

    def options(self) -> dict[str, Any]:
        """The fields by name: JSON."""
        return dataclasses.asdict(self)

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
        compiled = self._compile(reparameterize(model), example_inputs, precision, calibration)
        compiled.options = self.options()
        return compiled

    @abstractmethod
    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        """Compile; availability and precision are checked, branches merged. `model` must be left as it was."""

    def load(self, path: Path | str) -> CompiledModel:
        """Load what `CompiledModel.save` wrote.

        Args:
            path: the folder or the file that was given to `save`.

        Raises:
            UserError: the backend is not installed, nothing is there, or the artefact cannot run by itself.
        """
        missing = self.why_not_loadable()
        if missing:
            raise UserError(missing)
        file = artefact_path(path, self.artefact)
        if not file.is_file():
            suffix = Path(self.artefact).suffix
            raise UserError(f"there is no file {file}; give the folder or the {suffix} file that was saved.")
        compiled = self._load(file)
        compiled.options = self.options()
        return compiled

    @abstractmethod
    def _load(self, file: Path) -> CompiledModel:
        """Load a file that is there."""


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


def in_batches(run: Callable[[Images], Images], images: Images, batch: int) -> Images:
    """Any number of images through a runtime that takes `batch` at a time; the last ones are filled up with zeros.

    Args:
        run: (batch, c, h, w) to (batch, classes); what it returns may be overwritten by the next call.
        images: (n, c, h, w), contiguous float32.
        batch: of the artefact.

    Returns:
        Logits (n, classes).
    """
    if len(images) == batch:
        return run(images)
    logits = []
    for start in range(0, len(images), batch):
        piece = images[start : start + batch]
        count = len(piece)
        if count < batch:
            piece = np.concatenate([piece, np.zeros((batch - count, *piece.shape[1:]), np.float32)])
        logits.append(np.array(run(piece)[:count]))
    return np.concatenate(logits)


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
