"""Tables that users build: killed at any moment, no row is lost and none is measured twice."""

import itertools
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controllers import Outcome
from nasbench.evaluators.compressed.compressed import Compressed
from nasbench.evaluators.replayed import Replayed
from nasbench.experiment.build import Brought, prepare
from nasbench.experiment.build_table import Listed, build_table, distinct
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.loading import override
from nasbench.experiment.run import run_search
from nasbench.experiment.stored import start_run
from nasbench.report.build import build_report
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.run_folder import RunFolder
from nasbench.tables.built import merge, read_table, write_table
from nasbench_registry import UserError
from search_spaces import Decision, SearchSpace

RECIPE = [
    {"prune": {"ratio": {"choice": [0, 0.5]}, "epochs": 1}},
    {"quantize": {"precision": {"choice": ["fp32", "int8"]}}},
    {"compile": {"backend": "onnxruntime"}},
]


class Squares(SearchSpace):
    """Thirty-six points; nothing is built."""

    name = "squares"
    decisions = (Decision("a", (0, 1, 2, 3, 4, 5)), Decision("b", (0, 1, 2, 3, 4, 5)))

    def build(self, arch, task):
        raise UserError("nothing is built here.")


def numbers(**changes):
    """An experiment whose candidates are scored by a function."""
    return Experiment.model_validate(
        {
            "name": "squares",
            "space": "mobile",
            "controller": "random",
            "evaluator": "given:here",  # by `Brought`, so that nothing is trained
            "objectives": {"val_f1": "max", "latency_ms": "min"},
            "reward": "pareto",
            "executor": "inline",
            "survivors": 0,
        }
        | changes
    )


def build_squares(out: Path, networks: int, log: Path | None = None, **options):
    def evaluate(candidate):
        if log is not None:
            with log.open("a") as file:
                file.write(f"{list(candidate.arch.picks)}\n")
            time.sleep(0.01)
        a, b = candidate.arch.picks
        return {"val_f1": a * b, "latency_ms": 1.0 + a}

    brought = Brought(space=Squares(), evaluate=evaluate)
    return build_table(numbers(), out, networks=networks, code_folder=out.parent, brought=brought, **options)


def test_killed_three_times_no_row_is_lost_and_none_is_measured_twice(tmp_path):
    out, log = tmp_path / "squares.parquet", tmp_path / "log"
    log.touch()
    for kill_at in (5, 12, 20):
        child = os.fork()
        if child == 0:
            try:
                build_squares(out, 30, log)
            finally:
                os._exit(0)
        while len(log.read_text().splitlines()) < kill_at:
            assert os.waitpid(child, os.WNOHANG)[0] == 0, "it ended by itself"
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "it was killed while it worked"
    table = build_squares(out, 30, log)
    assert len(table.rows) == 30 == table.rows["network"].nunique()
    measured = log.read_text().splitlines()
    assert len(set(measured)) == 30
    assert len(measured) <= 33, "only what was being measured when it was killed is measured again"


def test_more_networks_go_on_behind_those_that_are_there_and_parts_make_a_whole(tmp_path):
    log = tmp_path / "log"
    first = build_squares(tmp_path / "a.parquet", 5, log)
    more = build_squares(tmp_path / "a.parquet", 9, log)
    assert more.rows["network"].tolist()[:5] == first.rows["network"].tolist()
    assert len(log.read_text().splitlines()) == 9
    second = build_squares(tmp_path / "b.parquet", 6, first=9)
    rows, card = merge([more, second])
    whole = build_squares(tmp_path / "c.parquet", 15)
    assert rows["network"].tolist() == whole.rows["network"].tolist()
    assert card["networks"] == card["rows"] == 15 and len(card["built"]) == 2
    assert len(merge([more, first])[0]) == 9, "a row that both have counts once"


def test_rows_measured_again_say_how_far_numbers_differ(tmp_path):
    count = 0

    def evaluate(candidate):
        nonlocal count
        count += 1
        return {"val_f1": 10.0 + candidate.seed % 2, "latency_ms": 2.0 if 8 < count <= 13 else 1.0}

    brought, experiment = Brought(space=Squares(), evaluate=evaluate), numbers()
    options = {"networks": 8, "repeat": 5, "code_folder": tmp_path, "brought": brought}
    table = build_table(experiment, tmp_path / "a.parquet", **options)
    noise = table.card["noise"]
    assert noise["rows"] == 5, "a row a network"
    assert noise["metrics"]["latency_ms"]["std"] == pytest.approx(np.sqrt(0.5))
    assert noise["metrics"]["latency_ms"]["relative"] == pytest.approx(np.log(2) * np.sqrt(0.5))
    assert len(table.rows) == 8 and read_table(table.path).card["noise"] == noise
    assert count == 13
    build_table(experiment, tmp_path / "a.parquet", **options | {"repeat": 0, "networks": 9})
    assert read_table(table.path).card["noise"] == noise, "a longer table still knows it"
    build_table(experiment, tmp_path / "a.parquet", **options | {"repeat": 6, "networks": 10})
    assert count == 16, "two networks and one more row measured again"
    assert read_table(table.path).card["noise"]["rows"] == 6


def test_merged_parts_keep_the_noise_of_both_and_warn_of_two_machines(tmp_path, capsys):
    from nasbench.cli.build_table import build_table as command

    parts = []
    for number, (rows, std) in enumerate([(4, 1.0), (12, 3.0)]):
        table = build_squares(tmp_path / f"{number}.parquet", 2, first=2 * number)
        metrics = {"val_f1": {"std": std, "relative": None if number else 0.1}}
        noise = {"rows": rows, "what": "another seed", "metrics": metrics}
        built = [{**table.card["built"][0], "machine": f"processor {number}"}]
        parts.append(write_table(table.path, table.rows, {**table.card, "noise": noise, "built": built}).path)
    command(tmp_path / "unused.yaml", tmp_path / "c.parquet", merge=parts, json=True)
    noise = read_table(tmp_path / "c.parquet").card["noise"]
    assert noise["rows"] == 16
    assert noise["metrics"]["val_f1"] == {"std": pytest.approx(np.sqrt((4 * 1 + 12 * 9) / 16)), "relative": None}
    printed = capsys.readouterr()
    assert "measured on processor 0 and processor 1" in printed.err
    assert json.loads(printed.out)["networks_with_all_recipes"] == 4


def test_a_table_is_written_to_no_other_file(tmp_path):
    from nasbench.cli.build_table import build_table as command

    table = build_squares(tmp_path / "a.parquet", 2)
    with pytest.raises(UserError, match=r"a table is a parquet file, and --out is .*b\.json; name it .*b\.parquet"):
        command(tmp_path / "unused.yaml", tmp_path / "b.json", merge=[table.path])
    assert not (tmp_path / "b.json").exists()
    with pytest.raises(UserError, match="leave out --networks, --recipes, --first and --repeat"):
        command(tmp_path / "unused.yaml", tmp_path / "b.parquet", merge=[table.path], repeat=3)


def test_recipes_of_a_trained_network_are_measured_though_the_first_does_not_fit_it():
    space = Squares()
    prefixes = [[space.architecture((a, b)) for b in range(3)] for a in range(3)]
    controller = Listed(space, prefixes)
    proposed = []
    for scores, shared_s in ((None, 5.0), ((1.0,), 0.0), (None, 0.0), (None, 0.0), ((1.0,), 5.0)):
        proposed.append(controller.ask())
        controller.tell(Outcome(proposed[-1], scores, seconds=6.0, shared_seconds=shared_s))
    proposed += [controller.ask(), controller.ask()]
    picks = [proposal.arch.picks for proposal in proposed]
    assert picks == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2)], "(1, 0) failed before it was trained"


def test_parts_of_other_tables_are_refused(tmp_path):
    first = build_squares(tmp_path / "a.parquet", 3)
    another_seed = replace(first, card={**first.card, "seed": 1})
    with pytest.raises(UserError, match="differ in seed"):
        merge([first, another_seed])
    with pytest.raises(UserError, match="builds a table of 1 recipes from network 0 on"):
        build_squares(tmp_path / "a.parquet", 3, first=2)


def test_a_table_says_what_does_not_fit(tmp_path):
    table = build_squares(tmp_path / "a.parquet", 3)
    with pytest.raises(UserError, match=r"no table .*none.parquet; build it"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="cannot be read as a parquet file"):
        read_table(tmp_path / "text.parquet")
    with pytest.raises(UserError, match="holds rows of space 'squares', not of 'triangles'"):
        triangles = Squares()
        triangles.name = "triangles"
        table.require_space(triangles)
    with pytest.raises(UserError, match="was built with decision a of 0, 1, 2, 3, 4, 5, and here it is a of 0, 1"):
        smaller = Squares()
        smaller.decisions = (Decision("a", (0, 1)), Decision("b", (0, 1)))
        table.require_space(smaller)
    write_table(tmp_path / "less.parquet", table.rows.drop(columns="val_f1"), table.card)
    with pytest.raises(UserError, match=r"less\.parquet lacks column val_f1"):
        read_table(tmp_path / "less.parquet")
    card = {**table.card, "metrics": {**table.card["metrics"], "latency_ms": {"unit": "us", "goal": "min"}}}
    write_table(tmp_path / "us.parquet", table.rows, card)
    with pytest.raises(UserError, match="gives latency_ms in 'us', and it is 'ms' here"):
        read_table(tmp_path / "us.parquet")
    with pytest.raises(UserError, match="in other units than 'latency_us'; ask for latency_ms"):
        table.require_metric("latency_us")
    with pytest.raises(UserError, match="gives no 'energy_mj'; it has latency_ms, val_f1"):
        table.require_metric("energy_mj")


def test_distinct_gives_all_of_a_small_space_or_draws_without_repetition():
    space, rng = Squares(), np.random.default_rng
    every = distinct(space, None, rng(0))
    assert [arch.picks for arch in every] == list(itertools.product(range(6), range(6)))
    few = distinct(space, 7, rng(3))
    assert len(set(few)) == 7 and distinct(space, 12, rng(3))[:7] == few
    assert set(distinct(space, 100, rng(3))) == set(every)


@pytest.fixture(scope="module")
def joint_table(tmp_path_factory):
    """Two networks of digits with four recipes each."""
    folder = tmp_path_factory.mktemp("joint")
    config = {
        "name": "tiny",
        "data": "digits",
        "space": {"name": "mobile", "widths": [16, 32], "layers": 1, "kernels": [3], "blocks": ["convolution"]},
        "controller": "random",
        "device": {"runtime": "onnxruntime", "latency": "measured"},
        "objectives": {"val_acc_pct": "max", "latency_ms": "min", "size_bytes": "min"},
        "reward": "pareto",
        "training": {"epochs": 1},
        "executor": "inline",
        "survivors": 0,
        "tensorboard": False,
        "recipe": RECIPE,
    }
    experiment = override(config, [])
    return config, build_table(experiment, folder / "tiny.parquet", networks=2, code_folder=folder)


def test_a_network_is_trained_once_and_its_recipes_are_timed_in_one_run(joint_table):
    _, table = joint_table
    rows = table.rows
    assert len(rows) == 8 and (rows["status"] == "done").all()
    assert (rows.groupby("network")["training_seconds"].nunique() == 1).all() and (rows["training_seconds"] > 0).all()
    assert (rows.groupby("network")["trained_val_acc_pct"].nunique() == 1).all()
    assert (rows["recipe_seconds"] > 0).all() and (rows["recipe_cpu_seconds"] > 0).all()
    assert (rows["latency_low_ms"] <= rows["latency_ms"]).all() and (
        rows["latency_ms"] <= rows["latency_high_ms"]
    ).all()
    assert "timed in turn, in one run" in table.card["metrics"]["latency_ms"]["protocol"]
    beside = json.loads(table.path.with_suffix(".json").read_text())
    assert beside["rows"] == 8 and beside["metrics"]["latency_ms"]["unit"] == "ms"


def test_a_kill_between_training_and_recipe_loses_no_seconds(joint_table, tmp_path, monkeypatch):
    config, _ = joint_table
    experiment, out, epochs = override(config | {"training": {"epochs": 2}}, []), tmp_path / "tiny.parquet", []
    saved = Checkpoints.save_training

    def first_epoch(self, trial, tensors, about):
        saved(self, trial, tensors, about)
        epochs.append(about)
        raise KeyboardInterrupt

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as during_training:
        during_training.setattr(Checkpoints, "save_training", first_epoch)
        with pytest.raises(KeyboardInterrupt):
            build_table(experiment, out, networks=1, code_folder=tmp_path)
    with monkeypatch.context() as after_training:
        after_training.setattr(Compressed, "apply", killed)
        with pytest.raises(KeyboardInterrupt):
            build_table(experiment, out, networks=1, code_folder=tmp_path)
    rows = build_table(experiment, out, networks=1, code_folder=tmp_path).rows
    assert len(rows) == 4 and len(epochs) == 1
    assert (rows["training_seconds"] > epochs[0]["seconds"]).all()
    assert (rows["training_cpu_seconds"] > epochs[0]["cpu_seconds"]).all()


@pytest.mark.slow
def test_under_ray_networks_are_trained_once_and_the_rows_are_those_of_one_process(joint_table, tmp_path):
    config, alone = joint_table
    experiment = override(config | {"executor": {"name": "ray", "workers": 1}}, [])
    rows = build_table(experiment, tmp_path / "ray.parquet", networks=2, code_folder=tmp_path).rows
    assert len(rows) == 8 and (rows["status"] == "done").all()
    assert (rows.groupby("network")["training_seconds"].nunique() == 1).all()
    columns = ["network", "recipe", "val_acc_pct", "size_bytes"]
    pairs = zip(*(table[columns].sort_values(columns[:2]).to_numpy() for table in (rows, alone.rows)), strict=True)
    for built, expected in pairs:
        assert built.tolist() == expected.tolist()


def search_of(config, table, folder, **changes):
    evaluator = {"name": "tabular", "table": str(table.path)}
    experiment = Experiment.model_validate(config | {"evaluator": evaluator, "search": {"candidates": 8}} | changes)
    prepared, run = prepare(experiment), RunFolder(folder)
    start_run(run, experiment, folder.parent, "")
    with run.locked():
        run_search(prepared, run)
    return build_report(run)


def test_a_search_of_the_table_pays_for_each_training_once(joint_table, tmp_path):
    config, table = joint_table
    report = search_of(config, table, tmp_path / "run")
    rows = table.rows
    paid = rows.drop_duplicates("network")["training_seconds"].sum() + rows["recipe_seconds"].sum()
    done = [candidate for candidate in report["candidates"] if candidate["status"] == "done"]
    assert len(done) == 8
    assert max(candidate["finished_s"] for candidate in done) == pytest.approx(paid)
    assert sum(candidate["training_seconds"] > 0 for candidate in done) == 2
    by_name = rows.set_index("network")["trained_val_acc_pct"].to_dict()
    assert all(candidate["metrics"]["trained_val_acc_pct"] == by_name[candidate["network"]] for candidate in done)


def test_what_the_table_lacks_is_never_proposed_and_said_if_asked_for(joint_table, tmp_path):
    config, table = joint_table
    experiment = Experiment.model_validate(config | {"evaluator": {"name": "tabular", "table": str(table.path)}})
    space = prepare(experiment).space
    rng = np.random.default_rng(0)
    measured = {tuple(picks) for picks in table.rows["picks"]}
    drawn = [space.sample(rng) for _ in range(30)]
    moved = [space.mutate(arch, rng) for arch in drawn]
    crossed = [space.crossover(a, b, rng) for a, b in zip(drawn, moved, strict=True)]
    assert {space.canonical(arch).picks for arch in (*drawn, *moved, *crossed)} <= measured
    whole = prepare(Experiment.model_validate(config)).space
    evaluator = Replayed(whole, table=table)
    missing = next(
        arch for arch in (whole.sample(rng) for _ in range(1000)) if whole.canonical(arch).picks not in measured
    )
    from nasbench.evaluators.evaluate import evaluate
    from nasbench.evaluators.trial import Trial

    ended = evaluate(evaluator, Trial(0, missing, None, 0))
    assert ended.status == "invalid" and "has no row for this network" in ended.error


def test_the_wrong_recipe_or_metric_is_refused_before_the_search(joint_table):
    config, table = joint_table
    named = {"name": "tabular", "table": str(table.path)}
    recipe = [{"prune": {"ratio": {"choice": [0, 0.25]}, "epochs": 1}}, *RECIPE[1:]]
    with pytest.raises(UserError, match=r"built with decision recipe\.prune\.ratio of 0, 0\.5, and here it is"):
        prepare(Experiment.model_validate(config | {"evaluator": named, "recipe": recipe}))
    with pytest.raises(UserError, match="latency_us"):
        objectives = {"val_acc_pct": "max", "latency_us": "min"}
        prepare(Experiment.model_validate(config | {"evaluator": named, "objectives": objectives}))
