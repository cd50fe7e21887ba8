"""Weights and states of training of the candidates of a run: safetensors, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import SafetensorError

from nasbench.storage.tensor_files import TensorFiles, Tensors, save_tensors
from nasbench_registry import UserError
from search_spaces import Architecture

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "epochs.log"
RUNG = "rung-"
DAMAGED = (SafetensorError, KeyError, ValueError)


class CandidateKey(Protocol):
    """The key of the files of a candidate; a `Trial` is one."""

    @property
    def number(self) -> int:
        """The number of the candidate."""

    @property
    def arch(self) -> Architecture:
        """The architecture of the candidate."""

    @property
    def epochs(self) -> int | None:
        """The fidelity asked for; None is the full budget."""

    @property
    def seed(self) -> int:
        """The random seed of its weights."""

    @property
    def attempt(self) -> int:
        """How many attempts came before."""


@dataclass(frozen=True)
class Checkpoints:
    """The files of the candidates of a run, in a folder that all of its workers reach.

    Attributes:
        folder: Folder that holds the files.
    """

    folder: Path

    @property
    def _files(self) -> TensorFiles:
        return TensorFiles(self.folder)

    def weights(self, number: int) -> str:
        """The name of the file with the weights of a trained candidate."""
        return f"{number:05d}.safetensors"

    def training(self, number: int) -> str:
        """The name of the file with the state of a candidate in training, from which it goes on if interrupted."""
        return f"{number:05d}.training.safetensors"

    def log(self, trial: CandidateKey, epoch: int) -> None:
        """Note that an epoch of training was finished; the log tells what was trained, and whether twice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"candidate": trial.number, "epoch": epoch, "attempt": trial.attempt, "process": os.getpid()})
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def save_training(self, trial: CandidateKey, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Keep the state of a candidate in training, and what is needed to go on with it.

        Args:
            trial: Trial of the candidate.
            tensors: Tensors of the state.
            about: JSON values; `epoch` is the number of finished epochs.
        """
        metadata = {"of": _identity(trial), "epoch": str(about["epoch"]), "about": json.dumps(about)}
        self._save(self.training(trial.number), tensors, metadata)

    def load_training(self, trial: CandidateKey) -> tuple[Tensors, dict[str, Any]] | None:
        """The state and what was kept with it; None if there is none of this very trial that can be read."""
        try:
            tensors, metadata = self._files.load(self.training(trial.number))
            return (tensors, json.loads(metadata["about"])) if metadata.get("of") == _identity(trial) else None
        except (OSError, *DAMAGED):
            return None

    def save_rung(self, trial: CandidateKey, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Keep the state of a network after the last epoch of its candidate, for one of the same network that goes on.

        Args:
            trial: Trial of fewer epochs than the schedule that it was trained by.
            tensors: Tensors of the state.
            about: JSON values that are needed to go on.
        """
        self._save(_rung(trial), tensors, {"of": _network(trial), "about": json.dumps(about)})

    def load_rung(self, trial: CandidateKey) -> tuple[Tensors, dict[str, Any]] | None:
        """The state that an earlier candidate of the same network ended in, and what was kept with it, or None."""
        try:
            tensors, metadata = self._files.load(_rung(trial))
            return tensors, json.loads(metadata["about"])
        except (OSError, *DAMAGED):
            return None

    def remove_rungs(self, trial: CandidateKey | None = None) -> None:
        """Give up the states that promoted candidates would go on from, of one network or of all."""
        names = [name for name in self.sizes() if name.startswith(RUNG)] if trial is None else [_rung(trial)]
        for name in names:
            self._remove(name)

    def epoch(self, number: int) -> int | None:
        """The last epoch whose state was kept of a candidate in training; None if there is none, or it is damaged."""
        try:
            return int(self._files.about(self.training(number))["epoch"])
        except (OSError, *DAMAGED):
            return None

    def save_weights(self, trial: CandidateKey, model: nn.Module) -> None:
        """Keep the weights of a trained candidate; the state of its training is not needed any more."""
        self._save(self.weights(trial.number), _tensors(model), {"of": _network(trial)})
        self._remove(self.training(trial.number))

    def copy_weights(self, trial: CandidateKey, file: Path) -> None:
        """Keep weights that lie in a local file; FileNotFoundError if it is not there."""
        from safetensors.torch import load_file

        self._save(self.weights(trial.number), load_file(file), {"of": _network(trial)})

    def load_weights(self, trial: CandidateKey) -> Tensors | None:
        """The weights of a trained candidate; None if there are none of this very network that can be read."""
        try:
            tensors, metadata = self._files.load(self.weights(trial.number))
        except (OSError, *DAMAGED):
            return None
        return tensors if metadata.get("of") == _network(trial) else None

    # ---- what becomes of the files

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        return self._files.sizes()

    def remove_weights(self, number: int) -> None:
        """Give up the weights of a candidate."""
        self._remove(self.weights(number))

    def forget(self, number: int, names: Collection[str]) -> None:
        """Remove what only an unfinished candidate needs, as far as it is among the names that are there."""
        for name in (self.training(number), self.hang(number).name):
            if name in names:
                self._remove(name)

    # ---- the traceback of a hanging worker

    def hang(self, number: int) -> Path:
        """Where a worker writes at which line a candidate hangs, before it ends itself."""
        return self.folder / f"{number:05d}.hang.txt"

    def take_hang(self, number: int) -> str:
        """The text that was written there, empty if nothing was; it is removed."""
        note = self.hang(number)
        try:
            text = note.read_text(encoding="utf-8", errors="replace")
            note.unlink()
        except FileNotFoundError:
            return ""
        return text

    def _save(self, name: str, tensors: Mapping[str, torch.Tensor], about: dict[str, str]) -> None:
        self._files.save(name, tensors, about)

    def _remove(self, name: str) -> None:
        self._files.remove(name)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights of a network aside, then rename, so that the file is whole or not there."""
    save_tensors(_tensors(model), path)


def _tensors(model: nn.Module) -> Tensors:
    """The state of a network, each tensor with memory of its own, as the file has it, even if several share a weight.

    Raises:
        UserError: The state holds something else than tensors.
    """
    tensors: Tensors = {}
    memories: set[int] = set()
    for name, value in model.state_dict().items():
        if not hasattr(value, "untyped_storage"):
            raise UserError(
                f"{name!r} in the state of this network is a {type(value).__name__}, and only tensors can be stored; "
                f"keep it in a buffer, or let the code that builds the network make it."
            )
        memory = value.untyped_storage().data_ptr()
        tensors[name] = (value.clone() if memory in memories else value).contiguous()
        memories.add(memory)
    return tensors


def _network(trial: CandidateKey) -> str:
    """A text that is equal for networks that are the same before they are trained."""
    return json.dumps([list(trial.arch.picks), trial.seed])


def _rung(trial: CandidateKey) -> str:
    return f"{RUNG}{hashlib.sha256(_network(trial).encode()).hexdigest()[:32]}.safetensors"


def _identity(trial: CandidateKey) -> str:
    """A text that is equal for equal trainings; a retry with smaller parts of a batch goes on with the state."""
    return json.dumps([list(trial.arch.picks), trial.epochs, trial.seed])
