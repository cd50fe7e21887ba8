"""A supernet: one set of weights, trained once, that gives every network of a space."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from nasbench.models.build import Build
from nasbench.models.model import Model, Noted
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Part, Problem
from nasbench.storage.files import write_json
from nasbench.storage.tensor_files import TensorFiles
from nasbench.supernet.sampling import get_sampling
from nasbench.supernet.training import EpochDone, SupernetTraining
from nasbench.supernet.weights import Member, SharedWeights
from nasbench_compression.batch_norm import estimate_statistics, norms_of
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

WEIGHTS, DESCRIPTION = "weights.safetensors", "supernet.json"
MEMBERS = 16
"""Structures of networks that are kept, for the next time that they are asked for."""


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """Weights of convolutions with channels last in the block, which takes a fifth less time on a CPU."""
    # The ignores are for torch's stub, which has no such argument.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


class Supernet(ABC):
    """Weights that all networks of a space share.

    Attributes:
        space: Search space of the networks.
        problem: Problem of the networks.
        weights: Weights that the networks share.
        smallest: Smallest architecture of the space.
        largest: Largest architecture of the space.
        epochs: Epochs that the weights were trained for so far.
        calibration_inputs: Largest number of training inputs from which the statistics of batch norm of each network
            are taken anew, for those of other networks do not fit; 0 leaves them as they are.
    """

    kind: ClassVar[str]
    sampling: ClassVar[str]

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        weights: SharedWeights,
        *,
        smallest: Architecture,
        largest: Architecture,
        calibration_inputs: int = 512,
    ) -> None:
        if calibration_inputs < 0:
            raise UserError(f"calibration_inputs is {calibration_inputs}; give a number of inputs, or 0 for none.")
        self.space, self.problem, self.weights = space, problem, weights
        self.smallest, self.largest = smallest, largest
        self.calibration_inputs = calibration_inputs
        self.epochs = 0
        self._members: OrderedDict[tuple[int, ...], Member] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process: all but the structures that can be made again."""
        return self.__dict__ | {"_members": OrderedDict()}

    @abstractmethod
    def make_member(self, arch: Architecture) -> Member:
        """The structure of a network, and where its parameters are in the shared weights.

        Raises:
            UserError: The supernet has no such network.
        """

    @abstractmethod
    def stored_as(self, arch: Architecture) -> tuple[Build, list[Noted]]:
        """How a network is built again without this supernet: what builds it, and steps with their notes.

        Raises:
            UserError: It is not known how the network is built in another process.
        """

    def extract(self, arch: Architecture) -> Model:
        """A network with copies of its weights, as a model that is compressed, exported and stored as any other.

        It gives the same outputs as `network`, and needs the supernet no more.

        Args:
            arch: Architecture of the space.
        """
        try:
            build, steps = self.stored_as(arch)
        except UserError:  # then it cannot be stored, but used
            return Model(self.network(arch), self.problem.task, problem=self.problem)
        return Model(self.network(arch), self.problem.task, build=build, steps=steps, problem=self.problem)

    @abstractmethod
    def untrained(self, arch: Architecture, seed: int) -> nn.Module:
        """The network as it is where it is trained alone, before that training.

        Args:
            arch: Architecture of the space.
            seed: Random seed of fresh weights, where it begins with such.
        """

    @abstractmethod
    def describe(self, folder: Path) -> dict[str, Any]:
        """The description that `load_supernet` needs beside the weights, as JSON; further files go to the folder."""

    def member(self, arch: Architecture) -> Member:
        """See `make_member`; the last ones are kept."""
        self.space.require_valid(arch)
        member = self._members.pop(arch.picks, None)
        if member is None:
            member = self.make_member(arch)
        self._members[arch.picks] = member
        while len(self._members) > MEMBERS:
            self._members.popitem(last=False)
        return member

    def network(self, arch: Architecture) -> nn.Module:
        """The network of an architecture with copies of its weights, in eval mode on the CPU.

        The statistics of its batch norms are taken anew from training inputs (`calibration_inputs`), as BigNAS does.

        Args:
            arch: Architecture of the space.

        Raises:
            UserError: The architecture belongs to another space, or its parts were in no training.
        """
        network = copy.deepcopy(self.member(arch).fill(self.weights)).eval()
        norms = norms_of(network)
        if norms and self.calibration_inputs:
            with channels_last(network):
                estimate_statistics(network, norms, self.problem.examples(self.calibration_inputs))
        return network

    def score(self, arch: Architecture, part: Part = "val", *, examples: int | None = None) -> Metrics:
        """The metrics of a network with the shared weights.

        Args:
            arch: Architecture of the space.
            part: Part of the examples: "val", or "test", which is read when nothing is left to choose.
            examples: Largest number of examples of the part, always the same ones; None is all.
        """
        problem, network = self.problem if examples is None else self.problem.fewer(examples, 0), self.network(arch)
        with channels_last(network):
            return problem.score(network, part)

    def train(
        self,
        *,
        epochs: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        sampling: str | None = None,
        learning_rate: float | None = None,
        folder: str | Path | None = None,
        on_epoch: Callable[[EpochDone], None] | None = None,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> Supernet:
        """Train the shared weights, in place.

        Args:
            epochs: Number of epochs; None is that of the problem's training.
            seed: Random seed of the architectures of each step, and of every other random choice.
            device: Where the weights are trained: cpu or cuda.
            sampling: Sampling of the networks: "sandwich", "uniform", "fair" or "progressive", see
                `nasbench.supernet.sampling`; None is that of the class.
            learning_rate: Learning rate; None is that of the problem's training.
            folder: Folder of the state after each epoch, from which a training that was interrupted goes on to the same
                weights; and of the trained supernet, which is only loaded if it is there already. None keeps nothing.
                A problem with a `fit` of its own begins anew, for it cannot be interrupted.
            on_epoch: Called after each epoch.
            on_batch: Called after each step, with the steps done and all there will be.

        Returns:
            This supernet.

        Raises:
            UserError: An option is out of range, or the folder holds a training with other options or of another
                supernet.
            Diverged: The loss is not finite.
        """
        training = SupernetTraining(
            self,
            get_sampling(sampling or self.sampling),
            epochs=epochs,
            seed=seed,
            device=device,
            learning_rate=learning_rate,
            folder=None if folder is None else Path(folder),
            on_batch=on_batch,
        )
        training.run(on_epoch)
        if folder is not None:
            self.save(folder)
        return self

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder, from which `load_supernet` reads it: safetensors and JSON, no pickle.

        Raises:
            UserError: It is not known how its networks are built in another process.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        about = {
            "format": 1,
            "kind": self.kind,
            "epochs": self.epochs,
            "calibration_inputs": self.calibration_inputs,
            "smallest": list(self.smallest.picks),
            "largest": list(self.largest.picks),
            "data": self.problem.digest,
            "shapes": self.weights.shapes,
            **self.describe(place),
        }
        state = {name: value.detach().cpu().contiguous() for name, value in self.weights.state_dict().items()}
        TensorFiles(place).save(WEIGHTS, state)
        write_json(place / DESCRIPTION, about)
        return place

    def load_weights(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Take the weights that `save` wrote.

        Raises:
            UserError: They are of another supernet, or damaged.
        """
        try:
            tensors, _ = TensorFiles(folder).load(WEIGHTS)
            self.weights.load_state_dict(tensors)
        except Exception as error:  # safetensors and torch raise several kinds
            why = " ".join(str(error).split())[:200]
            raise UserError(f"{folder / WEIGHTS} does not hold the weights of this supernet: {why}.") from None
        self.epochs = int(about["epochs"])

    def sample(self, count: int, seed: int = 0) -> Sequence[Architecture]:
        """So many different architectures, or all if there are fewer."""
        rng = np.random.default_rng(seed)
        chosen: dict[tuple[int, ...], Architecture] = {}
        for _ in range(50 * count):
            arch = self.space.canonical(self.space.sample(rng))
            chosen.setdefault(arch.picks, arch)
            if len(chosen) == count:
                break
        return list(chosen.values())
