"""A table of networks inside one trained network: elastic, pruned by us, pruned by torch-pruning."""

import json

import numpy as np
import pytest
import yaml

from nasbench.costs.compute import PFS_DAY
from nasbench.costs.cost import counts
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.report.paper_page import curve_figure, write_paper_page
from nasbench.reproduce import front_rows, trained_rows
from nasbench.reproduce.front_rows import _front, accuracy_over_latency, covered_share
from nasbench.reproduce.reproduce import reproduce
from nasbench.supernet.elastic import elastic
from nasbench.supernet.supernet import Supernet
from nasbench.tables.paper_table import load_paper_table
from nasbench_compression import get_backend
from nasbench_registry import UserError
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

pytestmark = pytest.mark.skipif(
    get_backend("onnxruntime").why_unavailable() is not None, reason=str(get_backend("onnxruntime").why_unavailable())
)
COLUMNS = ("hypervolume_fp32", "hypervolume_int8", "networks", "best_test_acc_pct", "pfs_days", "seconds")
PRUNE = {"epochs": 1, "learning_rate": 0.005, "macs_ratios": [0.2, 0.5], "round_to": 1}
ROWS = {
    "elastic": {"epochs": 1, "learning_rate": 0.005, "widths": [0.5, 1.0], "scored": 6, "examples": 50, "deployed": 3},
    "pruned": PRUNE,
    "torch_pruning": PRUNE,
}

ELASTIC = {"name": "elastic", **ROWS["elastic"]}
FINETUNED = ELASTIC | {"finetune_epochs": 2, "finetune_learning_rate": 0.005}
FEWER_BLOCKS = {"name": "pruned", **PRUNE, "dropped_blocks": [0, 1]}


def written(tmp_path, **changes):
    data = {
        "title": "small",
        "paper": "a test",
        "table": "of its own",
        "seeds": 1,
        "protocol": {
            "kind": "elastic_front",
            "data": {"name": "digits"},
            "space": {"name": "resnet", "depths": [1], "widths": [[16], [32]], "shortcut": "projection"},
            "networks": {"dense": "basic-1,1-16,32"},
            "training": {"epochs": 2, "learning_rate": 0.01},
            "tuning_images": 500,
            "floor_acc_pct": 10,
            "text": "small networks on digits",
        },
        "columns": [{"name": name, "shows": name} for name in COLUMNS],
        "rows": [
            *({"name": name, "method": {"name": name, **row}} for name, row in ROWS.items()),
            {"name": "fewer blocks", "method": FEWER_BLOCKS},
            {"name": "fine-tuned", "method": FINETUNED},
        ],
    } | changes
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_paper_table(str(path))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NASBENCH_DATA", raising=False)
    monkeypatch.setattr(front_rows, "SECONDS_EACH", 0.02)


def test_the_hypervolume_of_points_by_hand():
    """Above a floor of 50 %: (0.8, 0.5) and (0.6, 0.75) cover 0.4 + 0.15; what is slower or worse covers nothing."""
    points = [
        {"fp32_test_acc_pct": 90, "fp32_of_dense_latency": 0.5},
        {"fp32_test_acc_pct": 80, "fp32_of_dense_latency": 0.25},
        {"fp32_test_acc_pct": 95, "fp32_of_dense_latency": 1.2},
        {"fp32_test_acc_pct": 40, "fp32_of_dense_latency": 0.1},
    ]
    assert covered_share(points, "fp32", 50) == pytest.approx(0.8 * 0.5 + 0.6 * 0.25)
    grid = np.array([0.05, 0.1, 0.3, 0.6, 1.0])
    assert accuracy_over_latency(points, "fp32", grid).tolist()[1:] == [40, 80, 90, 90]
    assert np.isnan(accuracy_over_latency(points, "fp32", grid)[0])


def test_the_front_is_from_small_to_large_and_each_step_gains_accuracy():
    scored = [(80, 5, "a"), (70, 2, "b"), (80, 3, "c"), (60, 4, "d"), (90, 9, "e"), (71, 2, "f")]
    assert [name for _, _, name in _front(scored)] == ["f", "c", "e"]


def test_every_row_is_deployed_with_the_compute_that_it_says_and_kept(cache, tmp_path, monkeypatch):
    table, keep = written(tmp_path), tmp_path / "kept"
    train, trained = Supernet.train, []
    monkeypatch.setattr(Supernet, "train", lambda self, **options: trained.append(self) or train(self, **options))
    finetune, finetuned = Workbench.finetune, []
    monkeypatch.setattr(
        Workbench,
        "finetune",
        lambda self, network, **options: finetuned.append(options["epochs"]) or finetune(self, network, **options),
    )
    result = reproduce(table, keep=keep)
    entries = {(cell.row, cell.column): cell.measured for cell in result.entries}
    files = {json.loads(file.read_text())["row"]: json.loads(file.read_text()) for file in keep.glob("*.json")}
    assert set(files) == {*ROWS, "fewer blocks", "fine-tuned"}
    for row, stored in files.items():
        points = stored["found"]["points"]
        assert entries[row, "networks"] == len(points)
        assert entries[row, "best_test_acc_pct"] == max(point["fp32_test_acc_pct"] for point in points)
        for precision in ("fp32", "int8"):
            assert entries[row, f"hypervolume_{precision}"] == covered_share(points, precision, 10)
        # Of a small network, the graph takes more than the weights; which elastic ones are deployed, the seed decides.
        large = [point for point in points if point["macs"] >= files["pruned"]["found"]["points"][0]["macs"]]
        assert all(point["int8_bytes"] < point["fp32_bytes"] for point in large)
    for row, tolerance in (("pruned", 0.1), ("torch_pruning", 0.3)):  # one ratio of channels for all layers is coarse
        macs = [point["macs"] for point in files[row]["found"]["points"]]
        assert entries[row, "pfs_days"] == pytest.approx(2 * 3 * 500 * sum(macs) / PFS_DAY)
        assert macs[1] / macs[0] == pytest.approx(0.5 / 0.8, rel=tolerance)
    pruned, fewer = ([point["macs"] for point in files[row]["found"]["points"]] for row in ("pruned", "fewer blocks"))
    assert fewer[0] == pruned[0] and fewer[1] < 0.9 * pruned[1]
    for supernet in trained:  # of two rows
        assert len(supernet.problem.data.train) == 500
    tuned = files["fine-tuned"]["found"]["points"]
    further = sum(point["macs"] for point in tuned) * FINETUNED["finetune_epochs"] * 2 * 3 * 500 / PFS_DAY
    assert entries["fine-tuned", "pfs_days"] == pytest.approx(entries["elastic", "pfs_days"] + further)
    assert finetuned.count(FINETUNED["finetune_epochs"]) == len(tuned)
    macs = [point["macs"] for point in files["elastic"]["found"]["points"]]
    assert len(macs) <= 3
    assert curve_figure(result, table.columns[0]).layout.xaxis.title.text.startswith("latency, as a share")
    write_paper_page(result, tmp_path / "page.html", "nasbench reproduce small")
    page = (tmp_path / "page.html").read_text()
    assert "Accuracy over latency" in page and "test accuracy over latency, int8" in page and "best cell" not in page
    assert f"{entries['pruned', 'pfs_days']:.3g}" in page and f"{entries['pruned', 'hypervolume_int8']:.3f}" in page
    monkeypatch.setattr(trained_rows, "_measure", lambda *args: pytest.fail("it was kept"))
    assert [cell.measured for cell in reproduce(table, keep=keep).entries] == [cell.measured for cell in result.entries]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"name": "a", "method": {"name": "elastik", **PRUNE}}]}, "Did you mean 'elastic'"),
        (
            {"rows": [{"name": "a", "method": {"name": "pruned", **PRUNE, "macs_ratio": 1}}]},
            "Did you mean 'macs_ratios'",
        ),
        ({"rows": [{"name": "a", "method": ELASTIC | {"controller": {"name": "bayesian"}}}]}, "takes one score"),
        ({"rows": [{"name": "a", "method": ELASTIC | {"controller": {"name": "nsga"}}}]}, "Did you mean 'nsga2'"),
        ({"rows": [{"name": "a", "method": FEWER_BLOCKS | {"dropped_blocks": [1]}}]}, "a number for each of the 2"),
        ({"rows": [{"name": "a", "method": FEWER_BLOCKS | {"name": "torch_pruning"}}]}, "has no dropped_blocks"),
        ({"columns": [{"name": "a", "shows": "hypervolume"}]}, "Did you mean 'hypervolume_"),
        ({"columns": [{"name": "a", "shows": "networks", "devices": ["fpga"]}]}, "where networks are trained"),
    ],
)
def test_a_wrong_file_costs_one_sentence(cache, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        reproduce(written(tmp_path, **changes))


def test_the_table_of_the_project_gives_all_rows_the_same_compute():
    table = load_paper_table("elastic-cifar10")
    further = {"dropped_blocks", "finetune_epochs"}
    methods = {row.method["name"]: row.method for row in table.rows if not further & set(row.method)}
    assert set(methods) == {"elastic", "pruned", "torch_pruning"}
    assert methods["pruned"]["macs_ratios"] == methods["torch_pruning"]["macs_ratios"]
    left = [1 - ratio for ratio in methods["pruned"]["macs_ratios"]]
    assert len(left) == 5 and methods["pruned"]["epochs"] == methods["torch_pruning"]["epochs"]
    method = methods["elastic"]
    space = get_space(**table.protocol.space)
    problem = image_classification("digits")
    network = fresh_model(space, space.parse(table.protocol.networks["resnet20"]), problem.task, 0)
    supernet = elastic(network, problem, widths=method["widths"], round_to=method["round_to"])
    largest, smallest, *between = (
        counts(supernet.untrained(arch, 0), problem.task).macs
        for arch in (supernet.largest, supernet.smallest, *supernet.sample(50, 0))
    )
    of_a_step = (largest + smallest + 2 * np.mean(between)) / largest
    assert method["epochs"] * of_a_step == pytest.approx(methods["pruned"]["epochs"] * sum(left), rel=0.1)
