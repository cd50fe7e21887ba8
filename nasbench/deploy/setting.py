"""A way to compile a network: backend, precision and options; and the ways that a backend offers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasbench_compression import Backend, backends, get_backend
from nasbench_registry import UserError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")

CHOICES: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "eager": {"memory_format": ("contiguous", "channels_last")},
    "torch_compile": {"memory_format": ("contiguous", "channels_last"), "mode": ("default", "max-autotune")},
    "aot_inductor": {"memory_format": ("contiguous", "channels_last"), "mode": ("default", "max-autotune")},
    "onnxruntime": {"graph_optimization": ("all", "extended", "basic")},
    "openvino": {"hint": ("latency", "throughput")},
    "tvm": {"trials": (0, 32, 128)},
}
"""Options of the backends that are worth a search, each with its values; one that a backend lacks is passed over."""


@dataclass(frozen=True)
class Setting:
    """Backend, precision and options of a compilation. Hashable; JSON in and out.

    Attributes:
        backend: Name of the backend.
        precision: One of the backend's precisions.
        options: Options of the backend that differ from its defaults, as (name, value), sorted.
        batch: Images in one call.
    """

    backend: str
    precision: str
    options: tuple[tuple[str, Any], ...] = ()
    batch: int = 1

    @classmethod
    def of(cls, backend: str, precision: str, options: Mapping[str, Any] | None = None, batch: int = 1) -> Setting:
        """The setting with these options; those that are the backend's defaults are left out, for they say nothing."""
        defaults = _defaults(backend)
        changed = {name: value for name, value in (options or {}).items() if defaults.get(name, _NONE) != value}
        return cls(backend, precision, tuple(sorted(changed.items())), batch)

    def make(self, **more: Any) -> Backend:
        """The backend with these options and more.

        Raises:
            UserError: unknown name or option, or a value out of range.
        """
        return get_backend(self.backend, **{**dict(self.options), **more})

    @property
    def threads(self) -> int:
        """Threads of one call."""
        return int(dict(self.options).get("threads", 1))

    def values(self) -> dict[str, Any]:
        """The values that can be chosen, defaults too: `precision`, `batch`, `threads` and the backend's options."""
        defaults = _defaults(self.backend)
        chosen = {name: defaults[name] for name in ("threads", *choices(self.backend)) if name in defaults}
        return {"precision": self.precision, "batch": self.batch, **chosen, **dict(self.options)}

    def label(self) -> str:
        """The setting as text in a table: ``onnxruntime int8, threads=2``."""
        parts = [f"{name}={value}" for name, value in self.options]
        parts += [f"batch={self.batch}"] if self.batch != 1 else []
        return ", ".join([f"{self.backend} {self.precision}", *parts])

    def to_json(self) -> dict[str, Any]:
        """The JSON that `from_json` reads."""
        return {
            "backend": self.backend,
            "precision": self.precision,
            "options": dict(self.options),
            "batch": self.batch,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Setting:
        """The setting that `to_json` wrote."""
        return cls(data["backend"], data["precision"], tuple(sorted(data["options"].items())), data["batch"])


_NONE = object()


def _defaults(backend: str) -> dict[str, Any]:
    kind = backends.find(backend)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def choices(backend: str) -> dict[str, list[Any]]:
    """The options of a backend that are worth a search, each with the values that it takes, its default first."""
    defaults, offered = _defaults(backend), {}
    for name, values in CHOICES.get(backend, {}).items():
        if name not in defaults:
            continue
        allowed = [value for value in dict.fromkeys((defaults[name], *values)) if _takes(backend, name, value)]
        if len(allowed) > 1:
            offered[name] = allowed
    return offered


def _takes(backend: str, name: str, value: Any) -> bool:
    try:
        get_backend(backend, **{name: value})
    except UserError:
        return False
    return True


def settings(
    backend: str, precisions: Iterable[str], threads: Sequence[int] = (1,), batches: Sequence[int] = (1,)
) -> list[Setting]:
    """Every setting that a backend offers.

    Args:
        backend: Name of the backend.
        precisions: Precisions to offer; those that the backend does not have are passed over.
        threads: Numbers of threads of one call.
        batches: Numbers of images of one call.

    Returns:
        The first one of each precision has the backend's defaults, if `threads` and `batches` begin with them.
    """
    offered = {"threads": list(threads)} | choices(backend)
    supported = [precision for precision in precisions if precision in backends.find(backend).precisions]
    return [
        Setting.of(backend, precision, dict(zip(offered, values, strict=True)), batch)
        for precision, batch, *values in itertools.product(supported, batches, *offered.values())
    ]


def why_not(setting: Setting) -> str | None:
    """Why a setting cannot be tried here, known without trying it; None if it can.

    Raises:
        UserError: there is no such backend.
    """
    kind = backends.find(setting.backend)
    missing = kind.why_unavailable()
    if missing is None and setting.precision not in kind.precisions:
        missing = (
            f"backend {setting.backend!r} does not compile to {setting.precision}; it has {', '.join(kind.precisions)}"
        )
    return missing
