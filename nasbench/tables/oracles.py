"""What an evaluation on NAS-Bench-201 gives and costs, for `simulate`."""

from __future__ import annotations

from nasbench.tables.table import Table, Vector
from nasbench_registry import UserError, one_of

# Images that a trial trains on, that it validates on, and those of the epoch whose seconds are in the table.
IMAGES = {
    "cifar10": (25_000, 25_000, 50_000),
    "cifar100": (50_000, 5_000, 50_000),
    "imagenet16_120": (151_700, 3_000, 151_700),
}
VALIDATION_COST = 1 / 3  # of a training image, which also has a backward pass


class TableOracle:
    """One column of a table as the answer, at its own number of epochs and no other.

    Args:
        table: where the numbers are.
        scores: (n,) answers by row.
        seconds: (n,) cost of an evaluation by row.
        epochs: the only fidelity that there is.
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
        """What it costs. Raises UserError for another fidelity than `self.epochs`."""
        self._require(epochs)
        return self.costs[row]

    def _require(self, epochs: int | None) -> None:
        if epochs is not None and epochs != self.epochs:
            raise UserError(
                f"a proposal asks for {epochs} epochs, and table {self.name!r} has only the result after the whole "
                f"schedule of {self.epochs}; set min_epochs and max_epochs of the controller to {self.epochs}."
            )


def validation_oracle(table: Table, *, dataset: str) -> TableOracle:
    """Validation accuracy after 12 epochs, charged as in the search experiments of NAS-Bench-201 and NATS-Bench.

    A trial costs the seconds of its 12 epochs and of one pass over the validation images, and again if it is repeated:

        s * (12 * trained / timed + 1/3 * validated / timed)

    where s are the seconds of an epoch in the table, over `timed` images. On CIFAR-10 a trial trains on one half of the
    50,000 images and validates on the other, so that is s * (12 / 2 + 1/3 / 2). A validation image costs a third of a
    training image: an approximation, for the table has no validation times (the authors' published example, 34.61 s
    for 50,000 training and 2.14 s for 10,000 test images, has 0.31).
    """
    trained, validated, timed = IMAGES[one_of("data set", dataset, IMAGES)]
    epochs = 12
    share = (epochs * trained + VALIDATION_COST * validated) / timed
    scores = table.column(dataset=dataset, split="val", epochs=epochs)
    return TableOracle(table, scores, table.epoch_seconds(dataset=dataset) * share, epochs=epochs)


def full_training_oracle(table: Table, *, dataset: str) -> TableOracle:
    """Test accuracy after 200 epochs on all training images, charged with the seconds of these epochs.

    For counting how many queries a search needs until it meets the best architecture, where what is searched for and
    what is answered must be the same column; it is no model of a search that may not see test images.
    """
    epochs = 200
    scores = table.column(dataset=dataset, split="test", epochs=epochs)
    return TableOracle(table, scores, table.epoch_seconds(dataset=dataset) * epochs, epochs=epochs)
