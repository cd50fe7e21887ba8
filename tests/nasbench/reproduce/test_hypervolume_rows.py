"""What a table of fronts reads off."""

import numpy as np
import pytest

from nasbench.objectives.hypervolume import front
from nasbench.reproduce.hypervolume_rows import (
    FrontSearch,
    cell_macs,
    front_method,
    ground,
    macs_front,
    searched,
)
from nasbench.reproduce.reproduce import reproduce
from nasbench.tables.paper_table import load_paper_table
from nasbench.tables.registry import load_table
from nasbench_registry import UserError
from search_spaces import get_space


@pytest.fixture
def data(data_file):
    return data_file("hw_nasbench/hw_cifar10.csv.gz")


def test_a_front_by_hand():
    points = np.array([[1.0, 5.0], [2.0, 4.0], [2.0, 3.0], [5.0, 1.0], [1.0, 5.0]])
    assert sorted(front(points).tolist()) == [[1.0, 5.0], [2.0, 4.0], [5.0, 1.0]]


def test_all_cells_cover_everything(data):
    held = ground("cifar10", "edgetpu", False)
    missing = np.isnan(held.points).any(axis=1)
    assert missing.sum() == 4699
    assert np.nanmin(held.points, axis=0) == pytest.approx([0, 0])
    assert np.nanmax(held.points, axis=0) == pytest.approx([1, 1])
    assert held.share(range(15_625)) == pytest.approx(1)
    assert held.share(np.flatnonzero(missing)[:5].tolist()) == 0


def test_one_cell_of_each_network_covers_what_the_note_of_the_table_says(data):
    benchmark, space = load_table("nasbench201"), get_space("nasbench201")
    rows = list({benchmark.row(space.canonical(arch)) for arch in benchmark.architectures})
    devices = load_paper_table("hw-nas-bench").columns[0].devices
    share = np.mean([ground("cifar10", device, False).share(rows) for device in devices])
    assert len(rows) == 6466 and round(float(share), 3) == 0.985


def test_macs_are_those_of_the_networks(data):
    macs = cell_macs("cifar10")
    assert macs.argmax() == 1462 and 180e6 < macs.max() < 250e6  # 219 M FLOPs in the paper, of the largest cell
    assert 0.6 < ground("cifar10", "edgegpu", False).share(macs_front("cifar10")) < 0.8


def test_a_search_counts_different_cells(data):
    scores = ground("cifar10", "fpga", False).scores
    rows = searched(FrontSearch(controller="nsga2", options={"population": 4}), scores, 0, 12)
    assert len(rows) == len(set(rows)) == 12


def test_equal_cells_can_be_different_candidates_of_a_controller_with_a_model(data):
    scores, space = ground("cifar10", "pixel3", False).scores, get_space("nasbench201")
    for merge_equal in (True, False):
        method = FrontSearch(controller="ehvi", options={"initial": 10}, merge_equal=merge_equal)
        rows = searched(method, scores, 0, 40)
        archs = [load_table("nasbench201").architectures[row] for row in rows]
        assert len(set(rows)) == 40
        assert all(space.canonical(arch) == arch for arch in archs) == merge_equal


def test_methods_that_are_not_allowed():
    with pytest.raises(UserError, match="takes one score"):
        front_method({"name": "search", "controller": "bayesian"})
    with pytest.raises(UserError, match="Did you mean 'nsga2'"):
        front_method({"name": "search", "controller": "nsga"})
    with pytest.raises(UserError, match="macs_front"):
        front_method({"name": "mac_front"})


def test_the_table_is_kept_and_goes_on(data, tmp_path):
    table = load_paper_table("hw-nas-bench")
    small = table.model_copy(update={"columns": tuple(c for c in table.columns if c.name == "fpga_at_100_share")})
    rows = small.select(["random", "front by MACs"])
    first = reproduce(small, seeds=2, rows=rows, keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    again = reproduce(small, seeds=2, rows=rows, keep=tmp_path)
    assert [entry.measured for entry in first.entries] == [entry.measured for entry in again.entries]
    assert all(0 < entry.measured <= 1 for entry in first.entries)
    assert first.entries[0].note is None and "random is ahead by" in first.entries[1].note
