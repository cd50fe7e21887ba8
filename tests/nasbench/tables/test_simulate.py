"""The simulated clock, by hand."""

import pytest

from controllers import Controller, Proposal, SearchFinished
from nasbench.evaluators.tabular import Tabular
from nasbench.reproduce.simulate import simulate
from nasbench.search.study import MAX_REPEATS
from nasbench.tables.oracles import IMAGES, full_training_oracle, validation_oracle
from nasbench.tables.registry import TABLES, load_table
from nasbench_registry import UserError


class Script(Controller):
    """Proposes what it was given."""

    name = "script"

    def __init__(self, space, picks, epochs=None, forever=False):
        super().__init__(space, seed=0)
        self.rest, self.epochs, self.forever, self.told = list(picks), epochs, forever, []

    def _propose(self):
        if not self.rest:
            raise SearchFinished
        picks = self.rest[0] if self.forever and len(self.rest) == 1 else self.rest.pop(0)
        return Proposal(self.space.architecture(picks), self.epochs)

    def _observe(self, outcome):
        self.told.append(outcome.proposal.arch.picks)


@pytest.fixture
def looked_up(grid, small, monkeypatch):
    """Scores 10 * a + b; seconds 1, 2, ... in the order of the rows (2, 1), (2, 0), (1, 1), (1, 0), (0, 1), (0, 0)."""
    monkeypatch.setitem(TABLES, "small", lambda: small)
    monkeypatch.setitem(IMAGES, "images", (1, 12))  # twelve epochs of a twelfth of the images: one epoch
    load_table.cache_clear()
    yield Tabular(grid, table="small", dataset="images")
    load_table.cache_clear()


def test_one_worker_adds_up_seconds_and_keeps_the_trial_that_spends_the_budget(grid, looked_up):
    trace = simulate(Script(grid, [(0, 0), (1, 0), (1, 0), (2, 1), (2, 0)]), looked_up, budget_s=12)
    assert trace.rows.tolist() == [5, 3, 3]
    assert trace.ended_s.tolist() == [6, 10, 14], "a repeated trial costs again"
    assert trace.scores.tolist() == [0, 10, 10] and trace.full.all()


def test_two_workers_answer_in_the_order_in_which_trials_end(grid, looked_up):
    script = Script(grid, [(0, 0), (2, 1), (2, 0), (1, 0)])
    trace = simulate(script, looked_up, max_queries=4, workers=2)
    assert script.told == [(2, 1), (2, 0), (0, 0), (1, 0)]
    assert trace.ended_s.tolist() == [1, 3, 6, 7]


def test_the_end_of_the_controller_and_the_wanted_row_end_a_search(grid, looked_up):
    assert len(simulate(Script(grid, [(0, 0)]), looked_up, budget_s=100).rows) == 1
    trace = simulate(Script(grid, [(0, 0), (2, 1), (1, 0)]), looked_up, max_queries=10, until_row=0)
    assert trace.rows.tolist() == [5, 0]


def test_free_repeats_cost_neither_seconds_nor_queries(grid, looked_up):
    script = Script(grid, [(0, 0), (0, 0), (2, 1), (0, 0), (2, 0), (1, 0)])
    trace = simulate(script, looked_up, max_queries=3)
    assert trace.rows.tolist() == [5, 0, 1]
    assert trace.ended_s.tolist() == [6, 7, 9]
    assert script.told == [(0, 0), (0, 0), (2, 1), (0, 0), (2, 0)], "a repeated proposal is answered, too"


def test_a_search_that_only_repeats_itself_ends(grid, looked_up):
    script = Script(grid, [(0, 0)], forever=True)
    assert simulate(script, looked_up, max_queries=3).rows.tolist() == [5]
    assert script.told == [(0, 0)] * (1 + MAX_REPEATS)


def test_a_fidelity_that_is_not_in_the_table_is_an_error(grid, looked_up):
    assert simulate(Script(grid, [(0, 0)], epochs=12), looked_up, budget_s=1).full.tolist() == [True]
    with pytest.raises(UserError, match="asks for 4 epochs.*only the result after the whole schedule of 12"):
        simulate(Script(grid, [(0, 0)], epochs=4), looked_up, budget_s=1)


def test_a_trial_is_charged_with_its_training(table):
    """Half of the images of CIFAR-10 train; on CIFAR-10 the published costs of all cells are these."""
    row = 1462
    for dataset, factor in {"cifar10": 6, "cifar100": 12, "imagenet16_120": 12}.items():
        oracle = validation_oracle(table, dataset=dataset)
        arch = table.architectures[row]
        expected = table.seconds_per_epoch(arch, dataset=dataset) * factor
        assert oracle.seconds(row, None) == pytest.approx(expected, rel=1e-12)
        assert oracle.score(row, 12) == table.query(arch, dataset=dataset, split="val", epochs=12)
        with pytest.raises(UserError, match="asks for 6 epochs"):
            oracle.score(row, 6)
        full = full_training_oracle(table, dataset=dataset)
        assert full.score(row, None) == table.query(arch, dataset=dataset, split="test", epochs=200)
        assert full.seconds(row, 200) == pytest.approx(200 * table.seconds_per_epoch(arch, dataset=dataset))
    # The authors' example: 415.30 seconds for 12 epochs on all 50,000 images.
    assert 12 * table.seconds_per_epoch(table.architectures[row], dataset="cifar10") == pytest.approx(415.3, rel=0.01)
    for cell, seconds in {0: 86.6531, 1462: 207.6499}.items():  # published
        assert validation_oracle(table, dataset="cifar10").seconds(cell, 12) == pytest.approx(seconds, rel=1e-4)
    with pytest.raises(UserError, match="unknown data set"):
        validation_oracle(table, dataset="cifar10-valid")
    assert set(IMAGES) == {"cifar10", "cifar100", "imagenet16_120"}
