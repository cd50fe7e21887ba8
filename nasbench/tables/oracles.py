"""Answers and costs of evaluations on NAS-Bench-201, for `simulate`."""

from __future__ import annotations

from nasbench.tables.table import Table, Vector
from nasbench_registry import UserError, one_of

# Images that a trial trains on, and those of the epoch whose seconds are in the table.
IMAGES = {"cifar10": (25_000, 50_000), "cifar100": (50_000, 50_000), "imagenet16_120": (151_700, 151_700)}


class TableOracle:
    """One column of a table as the answer, at its own number of epochs and no other.

    Args:
        table: Table with the numbers.
        scores: (n,) answers by row.
        seconds: (n,) cost of an evaluation by row.
        epochs: The only fidelity that there is.
    """

    def __init__(self, table: Table, scores: Vector, seconds: Vector, *, epochs: int) -> None:
        self.row = table.row
        self.epochs = epochs
        self.scores: list[float] = scores.tolist()  # a search reads single numbers, and lists are faster at that
        self.costs: list[float] = seconds.tolist()
        self.name = table.name

    def score(self, row: int, epochs: int | None) -> float:
        """The answer. Raises UserError for another fidelity than `self.epochs`."""
        self._require(epochs)
        return self.scores[row]

    def seconds(self, row: int, epochs: int | None) -> float:
        """The seconds that it costs. Raises UserError for another fidelity than `self.epochs`."""
        self._require(epochs)
        return self.costs[row]

    def _require(self, epochs: int | None) -> None:
        if epochs is not None and epochs != self.epochs:
            raise UserError(
                f"a proposal asks for {epochs} epochs, and table {self.name!r} has only the result after the whole "
                f"schedule of {self.epochs}; set min_epochs and max_epochs of the controller to {self.epochs}."
            )


def validation_oracle(table: Table, *, dataset: str) -> TableOracle:
    """Validation accuracy after 12 epochs, charged with the training, and again if a trial is repeated.

    A trial costs 12 * trained / timed seconds of an epoch in the table, which are over `timed` images. On CIFAR-10 a
    trial trains on one half of the 50,000 images and validates on the other: six times the seconds of an epoch, which
    are the costs that the paper's search experiments publish by cell. The pass over the validation images is not among
    them.
    """
    trained, timed = IMAGES[one_of("data set", dataset, IMAGES)]
    epochs = 12
    scores = table.column(dataset=dataset, split="val", epochs=epochs)
    seconds = table.epoch_seconds(dataset=dataset) * (epochs * trained / timed)
    return TableOracle(table, scores, seconds, epochs=epochs)


def full_training_oracle(table: Table, *, dataset: str) -> TableOracle:
    """Test accuracy after 200 epochs on all training images, charged with the seconds of these epochs.

    For counting how many queries a search needs until it meets the best architecture, where what is searched for and
    what is answered must be the same column; it is no model of a search that may not see test images.
    """
    epochs = 200
    scores = table.column(dataset=dataset, split="test", epochs=epochs)
    return TableOracle(table, scores, table.epoch_seconds(dataset=dataset) * epochs, epochs=epochs)
