"""Named tensors in safetensors files of a folder, local or remote: whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import safe_open

from nasbench.storage.remote_folder import RemoteFolder

Tensors = dict[str, torch.Tensor]


class TensorFiles(Protocol):
    """The files of a folder."""

    def save(self, name: str, tensors: Mapping[str, torch.Tensor], about: dict[str, str] | None = None) -> None:
        """Write a file with tensors and texts about them."""

    def load(self, name: str) -> tuple[Tensors, dict[str, str]]:
        """Tensors and texts.

        Raises:
            FileNotFoundError: it is not there.
            SafetensorError, KeyError, ValueError: it is damaged.
            RemoteError: the folder cannot be reached.
        """

    def about(self, name: str) -> dict[str, str]:
        """The texts alone; raises as `load` does."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""


@dataclass(frozen=True)
class LocalTensors:
    """Files of a folder on a disk."""

    folder: Path

    def save(self, name: str, tensors: Mapping[str, torch.Tensor], about: dict[str, str] | None = None) -> None:
        """Write aside, then rename."""
        save_tensors(tensors, self.folder / name, about)

    def load(self, name: str) -> tuple[Tensors, dict[str, str]]:
        """Read from a map of the file."""
        with safe_open(self.folder / name, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118

    def about(self, name: str) -> dict[str, str]:
        """Read the head of the file."""
        with safe_open(self.folder / name, framework="pt") as file:
            return file.metadata() or {}

    def remove(self, name: str) -> None:
        """Unlink."""
        (self.folder / name).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Of one listing; files that vanish meanwhile are left out."""
        found: dict[str, int] = {}
        if self.folder.is_dir():
            for entry in os.scandir(self.folder):
                try:
                    found[entry.name] = entry.stat().st_size
                except FileNotFoundError:
                    continue
        return found


@dataclass(frozen=True)
class RemoteTensors:
    """Files of a folder behind a URL; each of them passes through memory once."""

    folder: RemoteFolder

    def save(self, name: str, tensors: Mapping[str, torch.Tensor], about: dict[str, str] | None = None) -> None:
        """Put the whole file."""
        self.folder.write(name, safetensors.torch.save(dict(tensors), about))

    def load(self, name: str) -> tuple[Tensors, dict[str, str]]:
        """Get the whole file."""
        content = self.folder.read(name)
        return safetensors.torch.load(content), _texts(content[8 : 8 + _head_bytes(content)])

    def about(self, name: str) -> dict[str, str]:
        """Get the head alone: its length, then itself."""
        length = _head_bytes(self.folder.read(name, 0, 8))
        return _texts(self.folder.read(name, 8, 8 + length))

    def remove(self, name: str) -> None:
        """Remove it at once or not at all: another time will do."""
        self.folder.remove(name, patient=False)

    def sizes(self) -> dict[str, int]:
        """Of one listing."""
        return {name: entry.size for name, entry in self.folder.entries(patient=False).items()}


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    """Write tensors aside, then rename, so that the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        safetensors.torch.save_file(dict(tensors), aside, about)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _head_bytes(content: bytes) -> int:
    """A safetensors file begins with the length of its head, eight bytes, and the head, a JSON object."""
    return int.from_bytes(content[:8], "little")


def _texts(head: bytes) -> dict[str, str]:
    found: dict[str, Any] = json.loads(head)
    return dict(found.get("__metadata__", {}))
