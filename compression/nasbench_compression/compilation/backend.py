"""What a compilation backend is, and what it makes."""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench_compression.checks import check_number
from nasbench_compression.compilation.agreement import Agreement, Limits, examine
from nasbench_compression.compilation.availability import why_unavailable
from nasbench_compression.compilation.signature import Array, Signature, as_written, deployed
from nasbench_compression.reparameterization import reparameterize
from nasbench_registry import UserError, WorkFailed, one_of

if TYPE_CHECKING:
    from nasbench_compression.compilation.profiler import Profiler

Images = NDArray[np.float32]
_WORDS = 400  # characters of what a compiler says that an error repeats


class CompiledModel(ABC):
    """A network as it would be deployed. A subclass has `_run`, or `__call__` itself.

    Attributes:
        options: Options of the backend that made or loaded it, with which `get_backend` makes that backend again.
        signature: Inputs that it takes and outputs that it gives.
        agreement: Comparison with its network when it was compiled; None if it was loaded, or could not be compared.
        limits: Limits with which it can be compared again, on other inputs; None where `agreement` is None.
        why_not_profiled: Reason why its operators cannot be timed; without meaning where there is a `profiler`.
    """

    options: Mapping[str, Any] = {}
    signature: Signature = Signature()
    agreement: Agreement | None = None
    limits: Limits | None = None
    why_not_profiled: ClassVar[str] = "no profiler of it is known here"

    def __call__(self, images: Images, *further_inputs: Images) -> Any:
        """Outputs of the network: for a classifier, logits (n, classes) float32 of images (n, c, h, w) float32.

        Args:
            images: Images as the network takes them; n is any number from 1, unless what the network gives for one
                depends on the others of its batch.
            further_inputs: Other inputs of a network that is `Packed`.

        Returns:
            An array; for a network with several outputs a tuple of arrays, or a dict of them by name.

        Raises:
            UserError: The images have another number of dimensions, or the batch another size than it must have.
        """
        if further_inputs:
            images = np.concatenate([np.asarray(part).reshape(len(part), -1) for part in (images, *further_inputs)], 1)
        inputs = self.signature.checked(images)
        outputs = self._outputs(inputs)
        copies = [  # by others: a weight that is an output, or an input that comes out as it went in
            np.array(output) if axis is None or np.may_share_memory(output, inputs) else output
            for output, axis in zip(outputs, self.signature.axes, strict=True)
        ]
        return self.signature.formed(copies)

    @property
    def batch(self) -> int | None:
        """Images that the artefact takes at a time; None is any number."""
        return self.signature.fixed

    def _outputs(self, images: Array) -> list[Array]:
        """All outputs for any number of images."""
        return self.signature.in_batches(self._run, images, self.batch)

    def _run(self, images: Array) -> Sequence[Array]:
        """The outputs, in the order of the signature, for as many images as `batch` says."""
        raise NotImplementedError(f"{type(self).__name__} has neither _run nor __call__")

    @abstractmethod
    def save(self, path: Path | str) -> Path:
        """Write the artefact and return the file written.

        Args:
            path: Folder, which is made if it does not exist, or a file with the suffix of the backend's artefact.
        """

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of the artefact in bytes."""

    def profiler(self, images: Images) -> Profiler:
        """This model under the profiler of its runtime, on one batch.

        Args:
            images: As many images as `batch` says, or any number where that is None.

        Raises:
            NoProfiler: The runtime has none that can be reached from here; the message says why.
        """
        from nasbench_compression.compilation.profiler import NoProfiler

        raise NoProfiler(f"backend {self.describe()['backend']!r} cannot be profiled: {self.why_not_profiled}.")

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """JSON: backend, version, precision, threads; where they are known, how many operators there are of each kind.

        `operators` are those of the network as it was given to the runtime, `operators_optimized` those that it runs
        after fusing and folding.
        """


class SingleFile(CompiledModel):
    """Compiled model whose artefact is a single file, held in memory.

    Attributes:
        artefact: Content of the file.
        filename: Name of the file in a folder.
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
        name: Name that users type.
        summary: One line for a listing.
        source: Address of its documentation.
        precisions: Precisions that it can compile to.
        artefact: Name of the file that `CompiledModel.save` writes into a folder.
        packages: Import names of the packages without which it does not run.
        extra: Extra of this project that installs them.
        also_needs: Function that is called with `name` and says what else is missing, as ``module:function``; empty
            where nothing is.
        usage: Lines of Python that run the artefact without this project: from `images` (n, c, h, w) float32 to
            `logits` (n, classes); with the fields {file}, {threads}, {batch} and {arithmetic}, which
            is bf16 or f32, to be filled in. Empty where the artefact does not run by itself.
        compile_s: Seconds that it takes to compile a small network, roughly; a search tries the quickest backend first.
        threads: Number of threads that a call may use.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    artefact: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    also_needs: ClassVar[str] = ""
    usage: ClassVar[str] = ""
    compile_s: ClassVar[float] = 5.0

    threads: int = 1

    def __post_init__(self) -> None:
        check_number(f"{self.name} threads", self.threads, at_least=1, integer=True)

    @classmethod
    def why_unavailable(cls) -> str | None:
        """What is missing on this machine and how to get it; None if nothing is."""
        return why_unavailable(cls.name, cls.packages, cls.extra, cls.also_needs)

    @classmethod
    def why_not_loadable(cls) -> str | None:
        """As `why_unavailable`, for running a saved artefact, which may need less than compiling it."""
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

        The artefact is compared with the network on real inputs, see `agreement`.

        Args:
            model: Float network, or one from the step `quantize`. In "fp32" that one is compiled with its weights
                on the int8 grid and float inputs. One in float64, bfloat16 or float16 is compiled in float32.
            example_inputs: Inputs (n, c, h, w), or whatever tensor the network takes alone, whose shape but the first
                number is fixed in the artefact.
            precision: One of `precisions`.
            calibration: Real inputs (m, c, h, w), from which int8 reads its ranges, and on which outputs are compared.

        Raises:
            UserError: The backend is not installed, the precision is unknown, calibration images are missing, or the
                network does not run on the example.
            WorkFailed: The backend cannot compile this network, or its artefact computes something else.
        """
        missing = self.why_unavailable()
        if missing:
            raise UserError(missing)
        one_of(f"precision of backend {self.name!r}", precision, self.precisions)
        example = _as_cpu_tensor(example_inputs, "example_inputs")
        images = None if calibration is None else _as_cpu_tensor(calibration, "calibration")
        examined = examine(model, example, images, precision)
        network = deployed(reparameterize(model), examined.signature, writes=examined.writes)
        with self._failures(network):
            compiled = self._compile(network, example, precision, images)
            compiled.options, compiled.signature = self.options(), examined.signature
            if examined.limits is not None:
                whole = compiled.batch if examined.signature.whole else None
                description = f"the artefact of backend {self.name!r}"
                compiled.limits = Limits(description, precision, examined.limits, whole)
                compiled.agreement = compiled.limits.check(compiled, model, examined.inputs)
        return compiled

    @contextlib.contextmanager
    def _failures(self, network: nn.Module) -> Iterator[None]:
        """What a compiler or a runtime raises inside the block, as one sentence; a fault of ours stays what it is."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if _is_ours(error):
                raise
            words = " ".join(str(error).split())[:_WORDS] or "no message"
            kind = type(as_written(network)).__name__
            raise WorkFailed(
                f"backend {self.name!r} cannot compile this network ({kind}): {type(error).__name__}: {words}"
            ) from error

    @abstractmethod
    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        """Compile; availability and precision are checked, branches merged. `model` must be left as it was."""

    def load(self, path: Path | str) -> CompiledModel:
        """Load what `CompiledModel.save` wrote.

        Args:
            path: Folder or file that was given to `save`.

        Raises:
            UserError: The backend is not installed, nothing is there, or the artefact cannot run by itself.
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


def _as_cpu_tensor(inputs: object, name: str) -> Tensor:
    """Inputs as a backend takes them: one tensor on the CPU, float32 if it has floats."""
    if not isinstance(inputs, Tensor) or inputs.ndim == 0 or len(inputs) == 0:
        kind = f"a tensor of shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise UserError(f"{name} is {kind}; give one tensor (n, ...) with n of at least 1: backends take one input.")
    inputs = inputs.detach().cpu().contiguous()
    return inputs.float() if inputs.is_floating_point() else inputs


def _is_ours(error: Exception) -> bool:
    """Whether an exception is a fault of this package: of a kind that its own lines raise, and raised by one."""
    if not isinstance(
        error, AssertionError | AttributeError | LookupError | NameError | NotImplementedError | TypeError
    ):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("nasbench_compression.")


def needs_calibration(backend: str, calibration: Tensor | None) -> Tensor:
    """The calibration images, or the error for their absence."""
    if calibration is None or len(calibration) == 0:
        raise UserError(f"backend {backend!r} needs calibration images for int8; give some as (m, c, h, w) float32.")
    return calibration


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
