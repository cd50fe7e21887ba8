"""The last step of a recipe: make the artefact that is deployed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from nasbench_compression.checks import check_number
from nasbench_compression.compilation.backend import Backend, CompiledModel
from nasbench_compression.quantization.modules import is_quantized
from nasbench_compression.step import Context, Step
from nasbench_registry import UserError, one_of


@dataclass(frozen=True, kw_only=True)
class Compile(Step):
    """Compile the network with a backend.

    Attributes:
        backend: Name of the backend, as in `nasbench_compression.backends`.
        precision: Precision, one of the backend's; None is "int8" for a quantized network and "fp32" for any other.
        threads: Number of threads that a call of the compiled model may use.
        backend_options: Other options of the backend, by name, such as {graph_optimization: extended}.

    The note is `describe()` of the compiled model, its size in `bytes`, and how it agrees with the network, see
    `Agreement`.
    """

    name: ClassVar[str] = "compile"
    stage: ClassVar[str] = "compiled"
    not_after: ClassVar[frozenset[str]] = frozenset({"compile"})
    summary: ClassVar[str] = "make the artefact that is deployed, with one of the backends"
    source: ClassVar[str] = "documented by each backend"

    saves: ClassVar[bool] = False  # it is what the stages before are judged by, where the device has the same runtime

    backend: str = "onnxruntime"
    precision: str | None = None
    threads: int = 1
    backend_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("compile threads", self.threads, at_least=1, integer=True)
        if not isinstance(self.backend_options, dict) or "threads" in self.backend_options:
            raise UserError(
                f"compile backend_options are {self.backend_options!r}; give options of backend {self.backend!r} as "
                f"{{option: value}}, and threads beside them."
            )
        backend = self._backend()
        if self.precision is not None:
            one_of(f"precision of backend {self.backend!r}", self.precision, backend.precisions)

    def _backend(self) -> Backend:
        from nasbench_compression.registry import get_backend  # the registry imports this file for its table

        return get_backend(self.backend, threads=self.threads, **self.backend_options)

    def apply(self, model: nn.Module, context: Context) -> tuple[CompiledModel, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: The backend is not installed here; the message says what to install.
            WorkFailed: The backend cannot compile this network, or its artefact computes something else.
        """
        precision = self.precision or ("int8" if is_quantized(model) else "fp32")
        compiled = self._backend().compile(model, context.example_inputs, precision, context.calibration)
        agreement = None if compiled.agreement is None else compiled.agreement.to_json()
        return compiled, {**compiled.describe(), "bytes": compiled.bytes, "agreement": agreement}

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """Impossible: a compiled model is an artefact, not a network.

        Raises:
            UserError: Always; the message names the way to load the artefact.
        """
        raise UserError(
            f"a compiled model is no network to be restored; load its artefact with "
            f"get_backend({note.get('backend', self.backend)!r}).load(path)."
        )
