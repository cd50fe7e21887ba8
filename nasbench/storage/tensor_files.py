"""Named tensors in safetensors files of a folder: whole or not there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from safetensors import safe_open

from nasbench.storage.files import written_aside

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class TensorFiles:
    """The files of a folder."""

    folder: Path

    def save(self, name: str, tensors: Mapping[str, torch.Tensor], about: dict[str, str] | None = None) -> None:
        """Write aside, then rename."""
        save_tensors(tensors, self.folder / name, about)

    def load(self, name: str) -> tuple[Tensors, dict[str, str]]:
        """Tensors and texts, read from a map of the file.

        Raises:
            FileNotFoundError: It is not there.
            SafetensorError, KeyError, ValueError: It is damaged.
        """
        with safe_open(self.folder / name, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118

    def about(self, name: str) -> dict[str, str]:
        """Read the head of the file."""
        with safe_open(self.folder / name, framework="np") as file:
            return file.metadata() or {}

    def remove(self, name: str) -> None:
        """Unlink."""
        (self.folder / name).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file by name, from one listing; files that vanish meanwhile are left out."""
        sizes: dict[str, int] = {}
        if self.folder.is_dir():
            for entry in os.scandir(self.folder):
                try:
                    sizes[entry.name] = entry.stat().st_size
                except FileNotFoundError:
                    continue
        return sizes


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    """Write tensors aside, then rename, so that the file is whole or not there."""
    import safetensors.torch

    with written_aside(path) as aside:
        try:
            safetensors.torch.save_file(dict(tensors), aside, about)
        except safetensors.SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number.group(1)), os.strerror(int(number.group(1)))) from None  # a full disk, for example
