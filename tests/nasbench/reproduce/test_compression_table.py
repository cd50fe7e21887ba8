"""A table of recipes: networks are trained once, rows go through real steps, and what is finished is kept."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from bounds import check_learned
from judging import judge
from tests_support import SMALL_RESNET, TRANSFORMERS

from nasbench.costs.cost import counts
from nasbench.data import load_data
from nasbench.reproduce import compression_rows, trained_rows
from nasbench.reproduce.compression_rows import measure_recipe, recipe_method, trained
from nasbench.reproduce.reproduce import reproduce
from nasbench.storage.tensor_files import TensorFiles
from nasbench.tables.paper_table import load_paper_table
from nasbench.training.training import Training
from nasbench_compression import get_backend
from nasbench_registry import UserError
from search_spaces import Task

pytestmark = pytest.mark.skipif(
    get_backend("onnxruntime").why_unavailable() is not None, reason=str(get_backend("onnxruntime").why_unavailable())
)
COLUMNS = ("test_acc_pct", "val_acc_pct", "macs", "stored_bytes", "artefact_bytes", "of_dense_latency", "seconds")
ROWS = {
    "dense": {},
    "pruned": {"recipe": [{"prune": {"importance": "l2", "macs_ratio": 0.5, "epochs": 1}}]},
    "int8": {"recipe": [{"quantize": {"method": "static"}}]},
    "sparse": {"recipe": [{"sparsify": {"sparsity": 0.8, "epochs": 4}}]},
    "student": {"network": "small", "trained": False, "recipe": [{"distill": {"epochs": 4}}]},
}


def written(tmp_path, **changes):
    data = {
        "title": "small",
        "paper": "a test",
        "table": "of its own",
        "seeds": 1,
        "protocol": {
            "kind": "compression",
            "data": {"name": "digits"},
            "space": {"name": "resnet", "depths": [1, 2], "widths": [[8, 16], [16, 32]], "blocks": ["basic"]},
            "networks": {"large": "basic-2,2-16,32", "small": "basic-1,1-8,16"},
            "training": {"epochs": 4, "learning_rate": 0.01},
            "text": "small networks on digits",
        },
        "columns": [{"name": name, "shows": name} for name in COLUMNS],
        "rows": [{"name": name, "method": {"name": "recipe", **row}} for name, row in ROWS.items()],
    } | changes
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NASBENCH_DATA", raising=False)


def test_rows_are_measured_as_deployed_and_kept(cache, tmp_path, monkeypatch, nasbench) -> None:
    table, keep = load_paper_table(written(tmp_path)), tmp_path / "kept"
    result, test = reproduce(table, keep=keep), load_data("digits").test
    measured = {(cell.row, cell.column): cell.measured for cell in result.entries}
    for row in ROWS:
        check_learned(f"accuracy, {row}", measured[row, "test_acc_pct"], images=len(test))
        assert measured[row, "of_dense_latency"] > 0, row
    assert measured["pruned", "macs"] == pytest.approx(0.5 * measured["dense", "macs"], rel=0.03)
    assert measured["pruned", "artefact_bytes"] < 0.9 * measured["dense", "artefact_bytes"]
    assert measured["int8", "stored_bytes"] < 0.35 * measured["dense", "stored_bytes"]
    assert measured["sparse", "stored_bytes"] < 0.6 * measured["sparse", "artefact_bytes"]  # what runs is dense
    large = trained(table.protocol, "large", 0)
    assert measured["dense", "macs"] == counts(large, Task((1, 8, 8), 10)).macs
    assert measured["dense", "test_acc_pct"] == judge(large, test).accuracy_pct
    assert measured["student", "macs"] < 0.5 * measured["dense", "macs"]
    # Each network is trained once, and a finished row is not run again.
    assert len(list((tmp_path / "cache" / "nasbench" / "trained").glob("*/model.json"))) == 1
    monkeypatch.setattr(trained_rows, "_measure", lambda *args: pytest.fail("it was kept"))
    again = reproduce(table, keep=keep)
    assert [cell.measured for cell in again.entries] == [cell.measured for cell in result.entries]
    code, out, err = nasbench("reproduce", "small.yaml", "--run", "kept", "--html", "page.html")
    assert code == 0, err
    assert "pruned" in out and "paper" not in out
    page = (tmp_path / "page.html").read_text()
    assert "Their numbers" not in page and "<th>difference" not in page and "0.5" in page


def test_the_same_seed_gives_the_same_network(cache, tmp_path) -> None:
    protocol = load_paper_table(written(tmp_path)).protocol
    method = {"name": "recipe", "network": "small", "recipe": ROWS["pruned"]["recipe"]}
    one, other = (measure_recipe(protocol, method, 3) for _ in range(2))
    timed = ("latency_ms", "of_dense_latency", "seconds")
    assert {k: v for k, v in one.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}


def of_functions(tmp_path, **changes):
    """A table whose network is that of a function, and is trained from another start than it is stored by."""
    data = yaml.safe_load(Path(written(tmp_path)).read_text())
    network = {"build": TRANSFORMERS, "options": SMALL_RESNET, "start": {"downsample_in_first_stage": False}}
    data["protocol"] |= {"networks": {"resnet": network}, "training": {"epochs": 2, "learning_rate": 0.003}} | changes
    del data["protocol"]["space"]
    data["rows"] = data["rows"][:1]
    (tmp_path / "functions.yaml").write_text(yaml.safe_dump(data))
    return load_paper_table(str(tmp_path / "functions.yaml"))


def test_a_network_of_a_function_goes_on_training_where_it_was_interrupted(cache, tmp_path, monkeypatch) -> None:
    protocol = of_functions(tmp_path).protocol
    undisturbed = trained(protocol, "resnet", 0).state_dict()
    shutil.rmtree(tmp_path / "cache")

    class Killed(BaseException):
        pass

    save, saved = TensorFiles.save, []

    def save_once(files, name, tensors, about=None):
        if saved:
            raise Killed
        saved.append(name)
        save(files, name, tensors, about)

    monkeypatch.setattr(TensorFiles, "save", save_once)
    with pytest.raises(Killed):
        trained(protocol, "resnet", 0)
    monkeypatch.setattr(TensorFiles, "save", save)
    epochs = []
    run_epoch = Training.run_epoch
    monkeypatch.setattr(Training, "run_epoch", lambda training: epochs.append(training.epoch) or run_epoch(training))
    again = trained(protocol, "resnet", 0).state_dict()
    assert epochs == [1], "the first epoch was not trained again"
    assert all(torch.equal(again[name], value) for name, value in undisturbed.items())
    assert [path.name for path in (tmp_path / "cache" / "nasbench" / "trained").glob("*.training")] == []


def test_an_architecture_without_a_space_is_refused(cache, tmp_path) -> None:
    with pytest.raises(UserError, match="network large is an architecture, and there is no space; name it"):
        of_functions(tmp_path, networks={"large": "basic-2,2-16,32"})


@pytest.mark.parametrize("name", ["efficientnet-cifar10", "resnet20-cifar10"])
def test_shipped_tables_of_networks_that_are_brought(name) -> None:
    table = load_paper_table(name)
    assert [row.name for row in table.rows][-3:] == ["MACs / 2", "int8", "MACs / 2 + int8"]
    for row in table.rows:
        recipe_method(table.protocol, row.method)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"name": "a", "method": {"name": "recip"}}]}, "Did you mean 'recipe'"),
        ({"rows": [{"name": "a", "method": {"name": "recipe", "network": "lage"}}]}, "Did you mean 'large'"),
        ({"rows": [{"name": "a", "method": {"name": "recipe", "steps": []}}]}, "unknown option 'steps'"),
        ({"rows": [{"name": "a", "method": {"name": "recipe", "recipe": ["prun"]}}]}, "Did you mean 'prune'"),
        ({"rows": [{"name": "a", "controller": {"name": "random"}}]}, "tables of latency have methods"),
        ({"columns": [{"name": "a", "shows": "macz"}]}, "Did you mean 'macs'"),
        ({"columns": [{"name": "a", "shows": "macs", "devices": ["fpga"]}]}, "have a name and shows, no more"),
    ],
)
def test_a_wrong_file_costs_one_sentence(cache, tmp_path, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        reproduce(load_paper_table(written(tmp_path, **changes)))


def test_a_step_that_fails_says_which(cache, tmp_path, monkeypatch) -> None:
    protocol = load_paper_table(written(tmp_path)).protocol
    monkeypatch.setattr(
        compression_rows, "trained", lambda protocol, name, seed: compression_rows._fresh(protocol, name, seed)
    )
    method = {"name": "recipe", "recipe": [{"decompose": {"rank": 10_000}}]}
    with pytest.raises(UserError, match="the recipe of a row fails: decomposed: decompose makes no"):
        measure_recipe(protocol, method, 0)


def test_what_is_missing_is_told(cache, tmp_path) -> None:
    protocol = load_paper_table(written(tmp_path)).protocol
    assert protocol.why_unavailable() is None
    absent = protocol.model_copy(update={"data": {"name": "image_folder", "path": str(tmp_path / "none")}})
    assert "none" in absent.why_unavailable()


def test_only_what_trains_is_kept(tmp_path) -> None:
    with pytest.raises(UserError, match="has nothing that would have to be kept"):
        reproduce(load_paper_table("nats-bench-tss"), keep=tmp_path)


def test_the_table_of_the_project_names_every_importance_and_method() -> None:
    from nasbench_compression.decomposition.decompose import METHODS
    from nasbench_compression.pruning.importances import IMPORTANCES

    text = json.dumps([row.method for row in load_paper_table("compression-fashion").rows])
    assert all(f'"importance": "{name}"' in text for name in IMPORTANCES)
    assert all(f'"method": "{name}"' in text for name in METHODS)
