"""A sample of a space is measured, kept, checked on fresh networks, and used by experiments."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import yaml
from tests_support import experiment_of
from torch import nn

from nasbench.costs.work import WORK
from nasbench.devices.device import Device
from nasbench.devices.rounds import LEAST, quiet_seconds, time_in_rounds
from nasbench.evaluators.costs import CandidateCosts
from nasbench.evaluators.latency import LatencyEstimator
from nasbench.experiment.build import prepare
from nasbench.experiment.loading import parse_experiment
from nasbench.latency.calibrate import calibrate, check_on_fresh, measure_sample
from nasbench.latency.calibration import Calibration, decide
from nasbench.latency.stored import CalibrationScope, load_calibration, save_calibration
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model
from search_spaces.mobile import Mobile

OPTIONS = {"widths": [8, 16], "layers": 1, "blocks": ["convolution", "depthwise_separable", "repvgg"]}
TASK = Task((1, 8, 8), 10)
EAGER = Device("eager")


@pytest.fixture(scope="module")
def space():
    return get_space("mobile", **OPTIONS)


@pytest.fixture(scope="module")
def measured(space):
    """Twenty networks, and the operators of these and of sixty more."""
    return measure_sample(space, TASK, EAGER, samples=20, seed=0, predictor="auto")


class TestRounds:
    def test_every_model_has_its_turn_in_every_round_and_the_order_changes(self) -> None:
        heard: list[str] = []
        calls = [lambda name=name: heard.append(name) for name in "abcd"]
        turns = time_in_rounds(calls, budget_s=0.0, seed=3)
        assert [len(model_turns) for model_turns in turns] == [LEAST] * 4
        # One call that is not timed and, without a budget, one that is.
        assert all(len(turn) == 1 for model_turns in turns for turn in model_turns)
        rounds = ["".join(heard[at : at + 8 : 2]) for at in range(0, len(heard), 8)]
        assert heard[::2] == heard[1::2] and len(rounds) == LEAST
        assert all(sorted(order) == list("abcd") for order in rounds) and len(set(rounds)) > 1
        again: list[str] = []
        time_in_rounds([lambda name=name: again.append(name) for name in "abcd"], budget_s=0.0, seed=3)
        assert again == heard

    def test_the_fastest_are_called_most_often(self) -> None:
        work = [torch.randn(8, 8), torch.randn(400, 400)]
        turns = time_in_rounds([lambda matrix=matrix: matrix @ matrix for matrix in work], budget_s=0.1, seed=0)
        small, large = (sum(len(turn) for turn in model_turns) for model_turns in turns)
        assert small > large
        assert np.median(quiet_seconds(turns[0])) < np.median(quiet_seconds(turns[1]))

    def test_what_other_work_slows_down_does_not_count(self) -> None:
        rng = np.random.default_rng(0)
        slow = rng.permutation(20) < 14  # in most turns the machine is busy, and takes up to twice as long
        turns = [0.01 * (1 + 0.01 * rng.normal(size=30)) * (1 + busy * rng.uniform(0.2, 1)) for busy in slow]
        everything = np.concatenate(turns)
        # A median of 60 calls with a deviation of 1 % is known to 0.16 %; the two lowest of a few medians lie below.
        assert np.median(quiet_seconds(turns)) == pytest.approx(0.01, rel=0.01)
        assert np.median(everything) > 0.012
        assert (
            len(quiet_seconds(turns)) == 60
            and len(quiet_seconds(turns[:3])) == 60
            and len(quiet_seconds(turns[:1])) == 30
        )


class TestCalibration:
    def test_what_is_measured(self, space, measured) -> None:
        assert len(set(measured.architectures)) == len(measured.latency_ms) == 20
        assert (measured.latency_ms > 0).all()
        used = {operator for text in measured.architectures for operator in work_operators(space, text)}
        assert used <= set(measured.operators.ms)
        assert (measured.table[:, -1] > 0).all()
        assert measured.methods() == ["work", "lookup", "trees", "gp"]

    def test_the_decision_is_the_best_of_all(self, space, measured) -> None:
        decided, looked_at = decide(measured, space, "auto")
        assert list(looked_at) == ["work", "lookup", "trees", "gp"]
        assert looked_at[decided.method].spearman == max(held_out.spearman for held_out in looked_at.values())
        assert decide(measured, space, "gp")[0].method == "gp"
        np.testing.assert_array_equal(decided.hold_out(space).predicted_ms, looked_at[decided.method].predicted_ms)
        alone = dataclasses.replace(measured, operators=None, table=None)
        assert list(decide(alone, space, "auto")[1]) == ["work", "trees", "gp"]
        for calibration, method, words in (
            (alone, "lookup", "needs measured operators"),
            (measured, "tree", "Did you mean 'trees'"),
        ):
            with pytest.raises(UserError, match=words):
                decide(calibration, space, method)

    @pytest.mark.parametrize("method", ["work", "lookup", "trees", "gp"])
    def test_json_gives_the_same_predictor(self, space, measured, method) -> None:
        decided = decide(measured, space, method)[0]
        again = Calibration.from_json(json.loads(json.dumps(decided.to_json())))
        assert again.to_json() == decided.to_json()
        arch = space.parse(measured.architectures[3])
        model = fresh_model(space, arch, TASK, 0)
        predicted = decided.predictor(space).predict(arch, model, TASK)
        assert again.predictor(space).predict(arch, model, TASK) == predicted
        mean, std = predicted
        assert 0.2 * measured.latency_ms[3] < mean < 5 * measured.latency_ms[3] and std > 0
        # What a candidate of an experiment is told is this prediction.
        estimator = LatencyEstimator(space, TASK, EAGER, again)
        costs = CandidateCosts(EAGER, frozenset({"latency_ms"}), estimator, unsure_pct=None)
        known = costs(space, arch, model, TASK)
        assert (known["latency_ms"], known["latency_std_ms"]) == predicted

    def test_deviations_are_scaled(self, space, measured) -> None:
        decided = decide(measured, space, "work")[0]
        arch = space.parse(measured.architectures[0])
        model = fresh_model(space, arch, TASK, 0)
        _, std = decided.predictor(space).predict(arch, model, TASK)
        _, scaled_std = (
            dataclasses.replace(decided, std_scale=3 * decided.std_scale).predictor(space).predict(arch, model, TASK)
        )
        assert scaled_std == pytest.approx(3 * std)

    def test_other_columns_are_refused(self, measured) -> None:
        for part in ("work", "table"):
            stored = json.loads(json.dumps(measured.to_json()))
            stored[part]["columns"][0] = "layers"
            with pytest.raises(UserError, match=r"delete them \(predictor\.json of a run\)"):
                Calibration.from_json(stored)

    def test_too_few_networks(self) -> None:
        few = get_space("mobile", widths=[8], layers=1, blocks=["convolution"])
        with pytest.raises(UserError, match="needs 10 or more measured networks, not 6"):
            calibrate(few, TASK, EAGER, samples=20, seed=0)


class Faulty(Mobile):
    """Networks with a wide first layer cannot be built, and those with kernel 5 cannot be run."""

    faults = ("s0l0_width", 1.0), ("s0l0_kernel", 5)

    def build(self, arch, task):
        (name, option), (kernel_name, kernel) = self.faults
        if self.choices(arch)[name] == option:
            raise RuntimeError("too wide")
        network = super().build(arch, task)
        return nn.Sequential(network, nn.Linear(3, 3)) if self.choices(arch)[kernel_name] == kernel else network


class AllFaulty(Faulty):
    faults = ("s0l0_width", 0.5), ("s0l0_kernel", 3)


def test_networks_that_fail_are_passed_over():
    options = OPTIONS | {"width_factors": [0.5, 1.0], "widths": [16, 32]}
    calibration = calibrate(Faulty(**options), TASK, EAGER, samples=20, seed=0)
    assert len(calibration.architectures) == len(calibration.latency_ms) >= 10
    assert all("k3_w0.5/" in text for text in calibration.architectures)
    with pytest.raises(UserError, match="no network of space 'mobile' could be built and compiled: .*too wide"):
        calibrate(AllFaulty(**options | {"width_factors": [0.5]}), TASK, EAGER, samples=12, seed=0)


def work_operators(space, text):
    from nasbench.costs.work import work_and_operators

    return work_and_operators(fresh_model(space, space.parse(text), TASK, 0), TASK)[1]


class TestCheck:
    def test_on_networks_that_had_no_part_in_it(self, space, measured, monkeypatch) -> None:
        decided = decide(measured, space, "work")[0]
        asked_for: list = []
        monkeypatch.setattr(
            Device,
            "candidate",
            lambda self, space, arch, model, task: (asked_for.append(arch), self.compile(model, task))[1],
        )
        check = check_on_fresh(decided, space, TASK, EAGER, count=6, seed=5)
        assert check.n == 6 and (check.measured_ms > 0).all()
        measured_archs = {space.canonical(space.parse(text)) for text in measured.architectures}
        assert len(set(asked_for)) == 6 and not measured_archs & {space.canonical(arch) for arch in asked_for}

    def test_when_nothing_is_left(self, space) -> None:
        few = get_space("mobile", widths=[8], layers=1, blocks=["convolution"])
        texts = [few.format(few.architecture([0, kernel, width])) for kernel in range(2) for width in range(3)]
        everything = Calibration(texts, np.ones((6, len(WORK))), np.ones(6), {})
        with pytest.raises(UserError, match="all 6 networks that there are were measured"):
            check_on_fresh(everything, few, TASK, EAGER, count=2, seed=0)


class TestStored:
    @pytest.fixture
    def setting(self):
        return CalibrationScope.of("mobile", OPTIONS, TASK, EAGER)

    def test_comes_back(self, space, measured, setting, tmp_path) -> None:
        decided = decide(measured, space, "trees")[0]
        save_calibration(tmp_path / "kept", decided, setting, {})
        assert load_calibration(tmp_path / "kept", setting).to_json() == decided.to_json()
        # Defaults that are written out change nothing.
        written = CalibrationScope.of("mobile", OPTIONS | {"kernels": (3, 5)}, TASK, EAGER)
        assert load_calibration(tmp_path / "kept", written).method == "trees"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"space": "resnet"}, "space is 'resnet' here and 'mobile' there"),
            ({"space_options": {"layers": 2}}, "option layers of the space is 2 here and 1 there"),
            ({"input_shape": (3, 8, 8)}, r"input_shape is \(3, 8, 8\) here and \(1, 8, 8\) there"),
            ({"device": "cuda"}, "device is 'cuda' here"),
            ({"runtime": "onnxruntime"}, "runtime is 'onnxruntime' here and 'eager' there"),
            ({"threads": 2}, "threads is 2 here and 1 there"),
            ({"batch": 8}, "batch is 8 here and 1 there"),
            ({"machine": "another"}, "machine is 'another' here"),
        ],
    )
    def test_another_setting_is_refused(self, measured, setting, tmp_path, change, words) -> None:
        save_calibration(tmp_path, measured, setting, {})
        if "space_options" in change:
            change = {"space_options": {**setting.space_options, **change["space_options"]}}
        with pytest.raises(UserError, match=words):
            load_calibration(tmp_path, dataclasses.replace(setting, **change))

    def test_files_that_are_none(self, setting, tmp_path) -> None:
        with pytest.raises(UserError, match=r"there is no file .*calibration\.json .* nasbench calibrate"):
            load_calibration(tmp_path, setting)
        for text, words in (("{", "is damaged"), ('{"format": 7}', "has format 7"), ('{"format": 1}', "is damaged")):
            (tmp_path / "calibration.json").write_text(text)
            with pytest.raises(UserError, match=words):
                load_calibration(tmp_path, setting)


def test_the_command_and_an_experiment_that_uses_what_it_kept(nasbench, tmp_path):
    options = [f"--space-option={key}={json.dumps(value)}" for key, value in OPTIONS.items()]
    code, out, err = nasbench(
        *("calibrate", "--space", "mobile", *options, "--runtime", "eager", "--samples", "12", "--check", "4"),
        *("--predictor", "work", "--out", "kept", "--json"),
    )
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["predictor"], summary["measured"], summary["folder"]) == ("work", 12, "kept")
    assert summary["check"]["n"] == 4 and summary["cross_validation"]["work"]["n"] == 12
    for figure in ("spearman", "median_error_pct", "within_10_pct", "coverage_pct"):
        numbers = summary["check"][figure]
        assert numbers["low"] <= numbers["value"] <= numbers["high"]
    assert summary["input_shape"] == [1, 8, 8]
    kept = json.loads((tmp_path / "kept" / "calibration.json").read_text())["measurements"]

    changes = {
        "space": {"name": "mobile", **OPTIONS},
        "device": {"calibration": "kept", "unsure_pct": None},
        "objectives": [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}],
        "reward": {"name": "scalar"},
        "controller": "random",
        "search": {"candidates": 2},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(experiment_of(**changes)))
    code, out, err = nasbench("search", "small.yaml", "--run", "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert {
        k: v for k, v in json.loads((tmp_path / "run" / "predictor.json").read_text()).items() if k != "held_out"
    } == kept
    assert report["predictor"]["n"] == 12 and report["predictor"]["name"] == "work"
    assert all(candidate["metrics"]["latency_std_ms"] > 0 for candidate in report["candidates"])

    code, out, err = nasbench("search", "small.yaml", "--run", "other", "-o", "device.batch=2")
    assert code == 2 and "batch is 2 here and 1 there" in err
    assert prepare(parse_experiment(experiment_of(**changes))).calibration.to_json() == kept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--space", "mobil"], "Did you mean 'mobile'"),
        (["--space", "mobile", "--space-option", "layer=1"], "Did you mean 'layers'"),
        (["--space", "mobile", "--runtime", "onnxruntim"], "Did you mean 'onnxruntime'"),
        (["--space", "mobile", "--predictor", "gps"], "Did you mean 'gp'"),
        (["--space", "mobile", "--device", "tabel"], "Did you mean 'table'"),
        (["--space", "mobile", "--device", "table"], "device 'table' needs the key 'file'"),
        (["--space", "mobile", "--device-option", "fil=x"], "Did you mean 'file'"),
        (["--space", "mobile", "--input-shape", "3,32"], "--input-shape is '3,32'"),
    ],
)
def test_mistakes_on_the_command_line(nasbench, words, message):
    code, out, err = nasbench("calibrate", *words)
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1
