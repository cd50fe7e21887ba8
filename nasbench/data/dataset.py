"""A data set in three parts: training fits, validation chooses, test is read once, at the end."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from nasbench.data.on_disk import OnDisk
from nasbench.data.split import IMAGES, LEAST_STD, Scale, Split, Stored, chunks, measured_scale
from nasbench_registry import UserError
from search_spaces import Task, TensorSpec

ROUNDING = 1e-9
"""How far apart numbers are that were only written in another unit and back."""
IGNORED = 255
"""The class of a pixel that nothing is asked of, as data sets for segmentation write it."""

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Raw = npt.NDArray[Any] | OnDisk
Part = tuple[Raw | Sequence[Raw], npt.NDArray[Any]]
"""Inputs (n, ...) as they are stored, one array or several, with their targets."""
Kind = Literal["classes", "masks", "values"]
"""Kind of the target of an example: its class (n,), the class of each pixel (n, height, width), or numbers (n, k)."""
_WORDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Data:
    """A data set, in memory or, where it is large, on disk.

    Attributes:
        name: Name of the data set.
        train: Examples that weights are fitted on.
        val: Examples that every choice is made on.
        test: Examples of the reported result, read once.
        labels: Names of the classes; empty for values.
        targets: Mean and deviation of the training values; None for classes.
        columns: Names of the columns of a table, or of the values; empty where they have none.
    """

    name: str
    train: Split
    val: Split
    test: Split
    labels: tuple[str, ...] = ()
    targets: Scale | None = None
    columns: tuple[str, ...] = ()

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all examples, targets and names: the same only for data that train the same networks."""
        scales = [None if scale is None else (scale.mean, scale.std, scale.white) for scale in self.train.scales]
        digest = hashlib.sha256(repr((self.labels, scales)).encode())
        for part in (self.train, self.val, self.test):
            for stored in (*part.inputs, part.targets):
                digest.update(repr((tuple(stored.shape), str(stored.dtype))).encode())
                if isinstance(stored, OnDisk):
                    for part_of_it in stored.fingerprint():
                        digest.update(part_of_it)
                else:
                    digest.update(stored.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def kind(self) -> Kind:
        """The kind of the targets."""
        if self.train.targets.is_floating_point():
            return "values"
        return "masks" if self.train.targets.ndim == 3 else "classes"

    @property
    def scale(self) -> Scale | None:
        """The scale of the first input."""
        return self.train.scales[0]

    @property
    def mean(self) -> tuple[float, ...]:
        """Subtracted from each channel of the first input, where `white` is 1; empty if it is not scaled."""
        return () if self.scale is None else self.scale.mean

    @property
    def std(self) -> tuple[float, ...]:
        """The deviation that each channel is divided by, likewise."""
        return () if self.scale is None else self.scale.std

    @property
    def white(self) -> float:
        """The stored number that is scaled to 1, such as 255; 1 where stored numbers are taken as they are."""
        return 1.0 if self.scale is None else self.scale.white

    def normalised_by(self, mean: Sequence[float], std: Sequence[float]) -> Data:
        """The same examples for a network that was trained on some with this mean and deviation, which it knows best.

        Args:
            mean: Mean that is subtracted from each channel of the first input, scaled to 0..1.
            std: Deviation that each channel is divided by.
        """
        if np.allclose(mean, self.mean, rtol=ROUNDING, atol=0) and np.allclose(std, self.std, rtol=ROUNDING, atol=0):
            return self
        scales = (Scale(tuple(mean), tuple(std), self.white), *self.train.scales[1:])
        train, val, test = (part.scaled_by(scales) for part in (self.train, self.val, self.test))
        return replace(self, train=train, val=val, test=test)

    @property
    def task(self) -> Task:
        """The inputs and outputs of a network: a number for each class, for each class and pixel, or each value."""
        inputs = [
            _spec([part.inputs[index] for part in (self.train, self.val, self.test)], scale is not None)
            for index, scale in enumerate(self.train.scales)
        ]
        targets = self.train.targets
        if self.kind == "values":
            return Task(inputs=inputs, outputs=TensorSpec(tuple(targets.shape[1:])))
        return Task(inputs=inputs, outputs=TensorSpec((len(self.labels), *targets.shape[1:])))

    def fewer(self, count: int | None, seed: int) -> Data:
        """The same with so many validation and test examples at most, by chance; None takes all."""
        return replace(self, val=self.val.some(count, seed), test=self.test.some(count, seed))


def _spec(stored: Sequence[Stored], is_scaled: bool) -> TensorSpec:
    shape = tuple(stored[0].shape[1:])
    if is_scaled or stored[0].dtype.is_floating_point:
        return TensorSpec(shape)
    return TensorSpec(shape, "int64", max(int(chunk.max()) for part in stored for chunk in chunks(part)) + 1)


def stratified_parts(labels: Labels, shares: tuple[float, ...], seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices in parts of the given shares (the last part takes the rest), each class divided alike."""
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = [round(len(members) * share) for share in np.cumsum(shares)]
        for part, chunk in zip(parts, np.split(members, cuts), strict=True):
            part.extend(chunk.tolist())
    return [rng.permutation(np.array(part, dtype=np.int64)) for part in parts]


def divided(targets: npt.NDArray[Any], shares: tuple[float, ...], seed: int) -> list[npt.NDArray[np.int64]]:
    """As `stratified_parts`, for targets of every kind: masks and values are divided by chance."""
    labels = targets if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer) else np.zeros(len(targets), int)
    return stratified_parts(labels, shares, seed)


def check_division(name: str, val_share: float, test_share: float, split_seed: int) -> None:
    """Raise UserError unless the options by which a user's examples are divided make sense."""
    for option, value in {"val_share": val_share, "test_share": test_share, "split_seed": split_seed}.items():
        if isinstance(value, bool) or not isinstance(value, int if option == "split_seed" else int | float):
            raise UserError(f"{option}={value!r} of data set {name!r} must be a number.")
    if min(val_share, test_share) <= 0 or val_share + test_share >= 1:
        raise UserError(f"val_share={val_share} and test_share={test_share} must be above 0 and sum to less than 1.")
    if split_seed < 0:
        raise UserError(f"split_seed={split_seed} of data set {name!r} must be 0 or more.")


def make_data(
    name: str,
    train: Part,
    val: Part,
    test: Part,
    labels: Sequence[str] = (),
    *,
    white: float = 1.0,
    columns: Sequence[str] = (),
) -> Data:
    """A data set whose inputs are scaled by the mean and deviation of the training examples.

    Inputs of floating point numbers, and bytes, are scaled; other whole numbers, such as tokens, stay as they are.
    Integer targets are classes, others are values.

    Args:
        name: Name of the data set.
        train: Inputs and targets of the training examples.
        val: Inputs and targets of the validation examples.
        test: Inputs and targets of the test examples.
        labels: Names of the classes; empty for values.
        white: Stored number that counts as 1.
        columns: Names of the columns.

    Raises:
        UserError: A part is empty, a number is not finite, a label is outside 0..classes-1, there are fewer than two
            classes, or a class has no training example, so that nothing would train its output.
    """
    parts = {"train": train, "val": val, "test": test}
    for part, (_, targets) in parts.items():
        if len(targets) == 0:
            raise UserError(f"data set {name!r} leaves no {_WORDS[part]} images; use more images.")
        if np.issubdtype(targets.dtype, np.integer):
            _check_labels(name, _WORDS[part], targets, len(labels))
    values = not np.issubdtype(train[1].dtype, np.integer)
    if not values:
        _check_classes(name, train[1], labels)
    inputs = {part: _listed(stored) for part, (stored, _) in parts.items()}
    _check_shapes(name, inputs, train[1])
    _check_finite(name, inputs, {part: targets for part, (_, targets) in parts.items()})
    scales = [
        measured_scale(stored, white) if stored.dtype == torch.uint8 or stored.dtype.is_floating_point else None
        for stored in inputs["train"]
    ]
    splits = {part: Split(inputs[part], _targets(targets), scales) for part, (_, targets) in parts.items()}
    scale = measured_scale(splits["train"].targets) if values else None
    if scale is not None:
        _check_constant(name, scale)
    return Data(name, splits["train"], splits["val"], splits["test"], tuple(labels), scale, tuple(columns))


def _listed(stored: Raw | Sequence[Raw]) -> list[Stored]:
    arrays = list(stored) if isinstance(stored, list | tuple) else [stored]
    return [array if isinstance(array, OnDisk) else _tensor(array) for array in arrays]


def _tensor(array: Any) -> torch.Tensor:
    """In memory: bytes as they are, images and floating point numbers as float32, other whole numbers as int64."""
    if array.dtype == np.uint8:
        return torch.from_numpy(np.require(array, requirements=("C", "W")))
    is_scaled = np.issubdtype(array.dtype, np.floating) or array.ndim == IMAGES
    kind = np.float32 if is_scaled else np.int64
    return torch.from_numpy(np.require(array, kind, ("C", "W")))


def _targets(targets: npt.NDArray[Any]) -> torch.Tensor:
    if np.issubdtype(targets.dtype, np.integer):
        return torch.from_numpy(targets.astype(np.int64))
    values = targets.astype(np.float32)
    return torch.from_numpy(values[:, None] if values.ndim == 1 else values)


def _check_labels(name: str, part: str, targets: npt.NDArray[Any], classes: int) -> None:
    labelled = targets[targets != IGNORED] if targets.ndim == 3 else targets
    if labelled.size == 0:
        raise UserError(f"data set {name!r} has {part} masks without a pixel that is asked for; give them classes.")
    if labelled.min() < 0 or labelled.max() >= classes:
        raise UserError(
            f"data set {name!r} has {part} labels from {labelled.min()} to {labelled.max()}; with {classes} "
            f"classes they must be from 0 to {classes - 1}."
        )


def _check_classes(name: str, targets: npt.NDArray[Any], labels: Sequence[str]) -> None:
    if len(labels) < 2:
        raise UserError(f"data set {name!r} has {len(labels)} class(es); a classification task needs 2 or more.")
    untrained = [labels[label] for label in np.setdiff1d(np.arange(len(labels)), targets)]
    if untrained:
        raise UserError(
            f"data set {name!r} has no training image of {len(untrained)} of its {len(labels)} classes "
            f"({', '.join(untrained[:5])}{', ...' if len(untrained) > 5 else ''}), so nothing would train their "
            f"outputs; give each class more images, or leave it out."
        )


def _check_shapes(name: str, inputs: dict[str, list[Stored]], targets: npt.NDArray[Any]) -> None:
    """Refuse parts whose inputs differ in shape or type, and masks that have another size than their images."""
    first = inputs["train"]
    for part, stored in inputs.items():
        for training_input, part_input in zip(first, stored, strict=True):
            if (
                tuple(training_input.shape[1:]) != tuple(part_input.shape[1:])
                or training_input.dtype != part_input.dtype
            ):
                raise UserError(
                    f"data set {name!r} has training inputs of shape {tuple(training_input.shape[1:])} and type "
                    f"{_kind(training_input)}, and {_WORDS[part]} inputs of shape {tuple(part_input.shape[1:])} and "
                    f"type {_kind(part_input)}; give all parts in the same form."
                )
    if targets.ndim == 3 and first[0].ndim == IMAGES and tuple(first[0].shape[2:]) != targets.shape[1:]:
        raise UserError(
            f"data set {name!r} has images of {_size(first[0].shape[2:])} pixels with masks of "
            f"{_size(targets.shape[1:])}; bring both to one size."
        )


def _kind(stored: Stored) -> str:
    return str(stored.dtype).removeprefix("torch.")


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _check_constant(name: str, scale: Scale) -> None:
    """Refuse values that are the same number in every training example, up to rounding."""
    for index, (mean, std) in enumerate(zip(scale.mean, scale.std, strict=True)):
        if std <= max(LEAST_STD, 1e-7 * abs(mean)):
            which = f"target {index} of data set" if len(scale.mean) > 1 else "the target of data set"
            raise UserError(
                f"{which} {name!r} is {mean:g} in every training example, so there is nothing to learn; leave it out."
            )


def _check_finite(name: str, inputs: dict[str, list[Stored]], targets: dict[str, npt.NDArray[Any]]) -> None:
    pixels = broken = total = 0
    for stored in inputs.values():
        total += len(stored[0])
        for array in stored:
            if array.dtype.is_floating_point:
                for chunk in chunks(array):
                    bad = ~chunk.isfinite().flatten(1)
                    pixels, broken = pixels + int(bad.sum()), broken + int(bad.any(1).sum())
    if pixels:
        value_noun = "pixels" if inputs["train"][0].ndim == 4 else "values"
        noun = "images" if value_noun == "pixels" else "examples"
        raise UserError(
            f"data set {name!r} has {pixels:,} {value_noun} in {broken:,} of {total:,} {noun} that are NaN or "
            f"infinite, or too large for float32; repair these {noun}, or leave them out."
        )
    lost = sum(
        int((~np.isfinite(array)).sum()) for array in targets.values() if np.issubdtype(array.dtype, np.floating)
    )
    if lost:
        raise UserError(
            f"data set {name!r} has {lost:,} target values that are NaN or infinite; leave their examples out."
        )
