"""Experiment files: what is read, what is refused, and in which words."""

import json
import pickle
from pathlib import Path

import pytest
import yaml

from nasbench.experiment.build import prepare
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.loading import load_experiment, parse_experiment
from nasbench_compression import Recipe
from nasbench_registry import UserError
from nasbench_registry.files import read_yaml

SHIPPED = sorted(
    set((Path(__file__).parents[3] / "experiments").glob("*.yaml"))
    - {Path(__file__).parents[3] / "experiments/zoo.yaml"}
)
SMALLEST = {"name": "small", "space": "mobile", "controller": "random"}
FULL = {
    **SMALLEST,
    "seed": 3,
    "space": {"name": "mobile", "widths": [8, 16], "layers": 1},
    "controller": {"name": "regularized_evolution", "population": 4, "tournament": 2},
    "objectives": [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min", "limit": 5}],
    "reward": {"name": "weighted_product", "target": {"latency_ms": 1}, "exponent": -0.07},
    "executor": {"name": "ray", "workers": 2},
    "recipe": [{"prune": {"ratio": 0.4}}, {"quantize": None}, "compile"],
}


def refused(**changes) -> str:
    """The sentence with which an experiment with these changes is refused."""
    with pytest.raises(UserError) as caught:
        parse_experiment(SMALLEST | changes)
    return in_one_line(caught.value)


def in_one_line(error: UserError) -> str:
    text = str(error)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    for jargon in ("Traceback", "ValidationError", "pydantic", 'File "', "Tuple", "tuple", "Dictionary"):
        assert jargon not in text
    return text


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments_load(path) -> None:
    if isinstance(read_yaml(path), list):
        assert Recipe.parse(read_yaml(path)).steps
        return
    experiment = load_experiment(path)
    assert experiment.name
    assert parse_experiment(json.loads(experiment.model_dump_json())) == experiment


def test_something_is_shipped() -> None:
    assert any(path.name == "quickstart.yaml" for path in SHIPPED)


@pytest.mark.parametrize("data", [SMALLEST, FULL], ids=["smallest", "full"])
def test_a_resolved_experiment_reads_back_equal(data) -> None:
    experiment = parse_experiment(data)
    dumped = experiment.model_dump(mode="json")
    assert parse_experiment(json.loads(json.dumps(dumped))) == experiment
    assert parse_experiment(yaml.safe_load(yaml.safe_dump(dumped, sort_keys=False))) == experiment
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    assert parse_experiment(FULL | {"seed": 4}) != experiment


def test_options_and_defaults() -> None:
    experiment = parse_experiment(FULL)
    assert experiment.space.options == {"widths": [8, 16], "layers": 1}
    assert experiment.data.name == "digits"
    assert [next(iter(step)) for step in experiment.recipe] == ["prune", "quantize", "compile"]
    assert experiment.needs_latency
    assert experiment.needed_metrics == {"val_acc_pct", "latency_ms"}
    smallest = parse_experiment(SMALLEST)
    assert smallest.space.name == "mobile"
    assert smallest.space.options == {}
    assert not smallest.needs_latency
    assert parse_experiment(SMALLEST | {"recipe": None}).recipe == ()


def test_parsing_leaves_the_data_as_they_were() -> None:
    before = json.dumps(FULL)
    parse_experiment(FULL)
    assert json.dumps(FULL) == before


@pytest.mark.parametrize(
    ("changes", "wrong", "right"),
    [
        ({"objektives": []}, "objektives", "objectives"),
        ({"device": {"thread": 1}}, "thread", "threads"),
        ({"objectives": [{"metric": "val_acc_pct", "goal": "max", "limits": 3}]}, "limits", "limit"),
        ({"reward": {"name": "weighted_product", "targets": {"latency_ms": 1}}}, "targets", "target"),
        ({"training": {"epoch": 3}}, "epoch", "epochs"),
        ({"search": {"candidate": 3}}, "candidate", "candidates"),
        ({"executor": {"name": "ray", "worker": 3}}, "worker", "workers"),
        ({"gate": {"max_drop": 3}}, "max_drop", "max_drop_pct"),
        ({"reward": {"name": "weigthed_product"}}, "weigthed_product", "weighted_product"),
        ({"objectives": [{"metric": "val_acc_pct", "goal": "mx"}]}, "mx", "max"),
        ({"executor": {"name": "rai"}}, "rai", "ray"),
        ({"training": {"optimizer": "adam"}}, "adam", "adamw"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(changes, wrong, right) -> None:
    text = refused(**changes)
    assert repr(wrong) in text
    assert text.endswith(f"Did you mean {right!r}?")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"epochs": 0}}, ["training.epochs", "0"]),
        ({"training": {"learning_rate": float("nan")}}, ["training.learning_rate", "nan"]),
        ({"training": {"learning_rate": float("inf")}}, ["training.learning_rate", "inf"]),
        ({"reward": {"name": "weighted_product", "target": {"latency_ms": -1}}}, ["reward.target.latency_ms", "-1"]),
        ({"reward": {"name": "weighted_product", "target": {}}}, ["reward.target", "empty"]),
        ({"reward": {"name": "weighted_product"}}, ["'reward.target'", "missing"]),
        ({"reward": {"target": {"latency_ms": 1}}}, ["'reward.name'", "missing"]),
        ({"reward": 3}, ["reward", "3", "keys"]),
        ({"objectives": [{"metric": "macs", "goal": "min", "limit": float("nan")}]}, ["objectives.0.limit", "nan"]),
        ({"objectives": []}, ["objectives", "empty"]),
        ({"objectives": {"metric": "macs", "goal": "min"}}, ["'metric'", "'macs'", "goal: min"]),
        ({"objectives": [{"goal": "min"}]}, ["'objectives.0.metric'", "missing"]),
        ({"objectives": [{"metric": "macs", "goal": "min"}] * 2}, ["macs, macs", "twice"]),
        ({"executor": {"name": "inline", "workers": 2}}, ["inline", "1 worker, not 2", "ray"]),
        ({"space": {"layers": 3}}, ["'space.name'", "missing"]),
        ({"space": 3}, ["space is 3", "keys"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": 1.5}, ["seed", "1.5"]),
        ({"name": "a/b"}, ["name", "'a/b'"]),
        ({"name": ""}, ["name", "empty"]),
        ({"device": {"samples": 9}}, ["device.samples", "9", "10"]),
        ({"survivors": "many"}, ["survivors", "'many'"]),
        ({"survivors": [3, 3]}, ["survivors [3, 3]", "twice"]),
        ({"survivors": [-1]}, ["survivors", "-1"]),
        ({"recipe": {"prune": {"ratio": 0.4}}}, ["recipe", "list"]),
        ({"recipe": [{"prune": 3}]}, ["recipe.0.prune", "3"]),
        ({"seed": [0] * 10_000}, ["seed", "..."]),
    ],
)
def test_a_bad_value_is_named_in_one_sentence(changes, words) -> None:
    text = refused(**changes)
    for word in words:
        assert word in text
    assert len(text) < 300


@pytest.mark.parametrize(
    ("changes", "wrong", "right"),
    [
        ({"objectives": [{"metric": "latency", "goal": "min"}]}, "latency", "latency_ms"),
        ({"objectives": {"test_acc_pct": "max"}}, "test_acc_pct", "val_acc_pct"),
        (
            {
                "objectives": {"val_acc_pct": "max"},
                "reward": {"name": "weighted_product", "target": {"param": 1}},
            },
            "param",
            "params",
        ),
        ({"stop_at": {"marcs": 1}}, "marcs", "macs"),
    ],
)
def test_a_metric_that_the_evaluator_never_gives_is_answered_with_the_nearest(changes, wrong, right) -> None:
    """Names of metrics are open, and the evaluator that trains says which ones it gives."""
    with pytest.raises(UserError) as caught:
        prepare(parse_experiment(SMALLEST | changes))
    text = in_one_line(caught.value)
    assert repr(wrong) in text and text.endswith(f"Did you mean {right!r}?")


@pytest.mark.parametrize("goals", [[], ["max", "max"]])
def test_weighted_product_wants_one_metric_to_maximise(goals) -> None:
    objectives = [{"metric": "macs", "goal": "min"}]
    objectives += [
        {"metric": metric, "goal": goal} for metric, goal in zip(["val_acc_pct", "params"], goals, strict=False)
    ]
    reward = {"name": "weighted_product", "target": {"macs": 1e6}}
    assert f"not {len(goals)}" in refused(objectives=objectives, reward=reward)


@pytest.mark.parametrize("data", [None, 3, [], "mobile"])
def test_no_mapping_is_no_experiment(data) -> None:
    with pytest.raises(UserError) as caught:
        parse_experiment(data)
    assert "the experiment" in in_one_line(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("space: mobile\ncontroller: [random\nseed: 1\n", ["not YAML", "line 3"]),
        ("space: mobile\n  seed: 1\n", ["not YAML", "line 2"]),
        ("space: mobile\ncontroller: random\nseed: 2024-99-99\n", ["not YAML"]),
        ("seed: \x00\n", ["not YAML"]),
        ("", ["NoneType", "not an experiment"]),
        ("- space\n- controller\n", ["list", "not an experiment"]),
        ("mobile\n", ["str", "not an experiment"]),
    ],
    ids=["open bracket", "indentation", "impossible date", "null byte", "empty", "list", "text"],
)
def test_files_that_are_no_experiment(text, words, tmp_path) -> None:
    with pytest.raises(UserError) as caught:
        load_experiment(written(tmp_path, text))
    message = in_one_line(caught.value)
    for word in ["mine.yaml", *words]:
        assert word in message


def test_files_that_cannot_be_read(tmp_path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    for path in (tmp_path / "missing.yaml", tmp_path, binary, binary / "below", tmp_path / ("x" * 300)):
        with pytest.raises(UserError) as caught:
            load_experiment(path)
        assert str(path) in in_one_line(caught.value)


def test_the_file_gives_the_name_and_seed_replaces_the_files(tmp_path) -> None:
    path = written(tmp_path, "space: mobile\ncontroller: random\nseed: 3\n")
    assert load_experiment(path).name == "mine"
    assert load_experiment(path).seed == 3
    assert load_experiment(path, seed=0).seed == 0
    assert load_experiment(path, ["seed=5"]).seed == 5
    assert load_experiment(path, ["seed=5"], seed=7).seed == 7


@pytest.fixture
def full_file(tmp_path) -> Path:
    return written(tmp_path, yaml.safe_dump(FULL | {"space": "mobile", "data": "digits"}))


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("training.epochs=2", lambda e: e.training.epochs, 2),
        ("training.learning_rate=1e-2", lambda e: e.training.learning_rate, 0.01),
        ("name=other", lambda e: e.name, "other"),
        ("space.layers=3", lambda e: (e.space.name, e.space.options), ("mobile", {"layers": 3})),
        (
            "space={name: nasbench201, cells: 1}",
            lambda e: (e.space.name, e.space.options.get("cells")),
            ("nasbench201", 1),
        ),
        ("data.train_images=100", lambda e: (e.data.name, e.data.options), ("digits", {"train_images": 100})),
        ("controller.population=9", lambda e: e.controller.options, {"population": 9, "tournament": 2}),
        ("recipe.0.prune.ratio=0.5", lambda e: e.recipe[0], {"prune": {"ratio": 0.5}}),
        ("recipe.1.quantize.method=static", lambda e: e.recipe[1], {"quantize": {"method": "static"}}),
        ("recipe.2.compile.backend=eager", lambda e: e.recipe[2], {"compile": {"backend": "eager"}}),
        ("recipe.1=compile", lambda e: e.recipe[1], {"compile": None}),
        ("recipe=[]", lambda e: e.recipe, ()),
        ("objectives.1.limit=2.5", lambda e: e.objectives[1].limit, 2.5),
        ("objectives.1.limit=", lambda e: e.objectives[1].limit, None),
        ("reward.target.latency_ms=0.5", lambda e: e.reward.target, {"latency_ms": 0.5}),
    ],
)
def test_overrides(override, read, value, full_file) -> None:
    changed = load_experiment(full_file, [override])
    assert read(changed) == value
    assert read(load_experiment(full_file)) != value
    assert load_experiment(full_file, [override, "seed=99"]).seed == 99


def test_the_last_override_wins(full_file) -> None:
    assert load_experiment(full_file, ["training.epochs=2", "training.epochs=4"]).training.epochs == 4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs", ["not key=value"]),
        ("=3", ["not key=value"]),
        ("", ["not key=value"]),
        ("training.epochs=[1", ["not a YAML value"]),
        ("seed=2024-99-99", ["not a YAML value"]),
        ("seed.value=3", ["'seed'", "no keys below"]),
        ("recipe.3.prune.ratio=0.5", ["'3'", "index below 3"]),
        ("recipe.9=compile", ["'9'", "index below 3"]),
        ("recipe.prune.ratio=0.5", ["'prune'", "index below 3"]),
        ("training.epoch=3", ["Did you mean 'epochs'"]),
        ("training.=3", ["unknown key ''"]),
        ("training.epochs=", ["training.epochs is None"]),
    ],
)
def test_overrides_that_are_refused(override, words, full_file) -> None:
    with pytest.raises(UserError) as caught:
        load_experiment(full_file, [override])
    message = in_one_line(caught.value)
    for word in words:
        assert word in message


def test_an_experiment_cannot_be_changed() -> None:
    experiment = Experiment.model_validate(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        experiment.seed = 4
