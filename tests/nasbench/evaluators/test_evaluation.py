"""Candidates that are trained, that fail, and that are refused."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from bounds import check_above, check_below
from judging import judge
from safetensors.torch import load_file
from tests_support import trained_of

from nasbench.costs.cost import cost
from nasbench.costs.work import work
from nasbench.data import load_data
from nasbench.devices.registry import get_device
from nasbench.evaluators.errors import InfeasibleError, InvalidNetwork
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.function import FunctionEvaluator
from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.experiment.loading import parse_experiment
from nasbench.latency.calibration import Calibration
from nasbench.objectives.metrics import METRICS
from nasbench.storage.checkpoints import Checkpoints
from nasbench.training import Diverged, TimedOut
from search_spaces import Architecture, get_space
from search_spaces.fresh_model import fresh_model

SPACE = {"widths": [8, 16], "layers": 1}
TEXT = "convolution_k3_w1.0/depthwise_separable_k3_w1.0"
ARCH = get_space("mobile", **SPACE).parse(TEXT)
TRIAL = Trial(3, ARCH, None, 11)
ANY = Trial(0, Architecture("mobile", (0,)), None, 0)


def experiment(*objectives: dict, **changes):
    accuracy = {"metric": "val_acc_pct", "goal": "max"}
    return parse_experiment(
        {
            "name": "e",
            "data": "digits",
            "space": {"name": "mobile", **SPACE},
            "controller": "random",
            "objectives": list(objectives)
            if accuracy["metric"] in [o["metric"] for o in objectives]
            else [accuracy, *objectives],
            "training": {"epochs": 1, "learning_rate": 0.01},
            **changes,
        }
    )


def calibration() -> Calibration:
    """Measurements of a machine that needs a nanosecond for every multiply-add, and a fifth of a millisecond."""
    space, task = get_space("mobile", **SPACE), load_data("digits").task
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(30)]
    rows = np.array([work(space.build(arch, task), task) for arch in archs])
    return Calibration([space.format(a) for a in archs], rows, 0.2 + 1e-6 * rows[:, 3:5].sum(axis=1), {})


def scored(function, report=None) -> Evaluated:
    """What comes of `ANY` with this function for its evaluator."""
    return evaluate(FunctionEvaluator(get_space("mobile", **SPACE), function), ANY, report)


class TestEvaluate:
    def test_done(self) -> None:
        result = scored(lambda candidate: {"val_acc_pct": np.float32(81.5), "params": 1000})
        assert (result.status, result.error) == ("done", None)
        assert result.metrics == {"val_acc_pct": 81.5, "params": 1000.0}
        assert all(type(value) is float for value in result.metrics.values())
        assert result.seconds >= 0
        assert Evaluated.from_json(json.loads(json.dumps(result.to_json()))) == result

    def test_the_evaluator_hears_trial_and_report(self) -> None:
        heard = []

        def evaluator(candidate):
            assert candidate.trial is ANY
            assert candidate.report(1, {"train_loss": 2.0}) is False
            return {"val_acc_pct": 1.0}

        result = scored(evaluator, lambda epoch, so_far: heard.append((epoch, so_far.metrics)) is not None)
        assert (result.status, result.metrics) == ("stopped", {"val_acc_pct": 1.0})
        assert heard == [(1, {"train_loss": 2.0})]
        assert scored(lambda candidate: {"go_on": candidate.report(1, {})}).metrics == {"go_on": 1.0}

    @pytest.mark.parametrize(
        ("error", "status", "words"),
        [
            (ValueError("wrong\n  in two lines"), "failed", "ValueError: wrong in two lines"),
            (MemoryError(), "out_of_memory", "MemoryError: no message"),
            (torch.OutOfMemoryError("no memory"), "out_of_memory", "OutOfMemoryError: no memory"),
            (
                RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
                "out_of_memory",
                "RuntimeError: Def",
            ),
            (AssertionError("x" * 5000), "failed", "AssertionError: xxx"),
            (RecursionError("too deep"), "failed", "RecursionError: too deep"),
            (Diverged("the loss became nan"), "diverged", "Diverged: the loss became nan"),
            (TimedOut("time was up in epoch 3 of 9"), "timed_out", "time was up in epoch 3 of 9"),
            (InvalidNetwork("the network cannot be built"), "invalid", "the network cannot be built"),
        ],
    )
    def test_any_exception_is_a_failure_of_its_kind_with_a_reason(self, error, status, words) -> None:
        def evaluator(candidate):
            raise error

        result = scored(evaluator)
        assert result.status == status
        assert result.metrics == {}
        assert result.error.startswith(words)
        assert len(result.error) <= 500
        assert "\n" not in result.error

    def test_a_report_that_raises(self) -> None:
        def report(epoch, metrics):
            raise OSError("disk full")

        assert scored(lambda candidate: {"go_on": candidate.report(1, {})}, report).error == "OSError: disk full"

    def test_who_presses_control_c_is_heard(self) -> None:
        def evaluator(candidate):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            scored(evaluator)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
    def test_metrics_that_are_not_finite(self, bad) -> None:
        result = scored(lambda candidate: {"val_acc_pct": 80.0, "val_loss": bad})
        assert result.status == "diverged"
        assert result.error == "Diverged: val_loss is not a finite number"
        assert result.metrics == {}

    @pytest.mark.parametrize("returned", [None, 80.0, {"val_acc_pct": None}, {"val_acc_pct": "good"}, {"a": [1, 2]}])
    def test_an_evaluator_that_returns_something_else(self, returned) -> None:
        result = scored(lambda candidate: returned)
        assert result.status == "failed"
        assert result.error.startswith("the evaluator ") and "number" in result.error

    def test_over_a_limit(self) -> None:
        def evaluator(candidate):
            raise InfeasibleError("macs 9 is over the limit 5")

        result = scored(evaluator)
        assert (result.status, result.error) == ("infeasible", "macs 9 is over the limit 5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The evaluator, where its weights lie, what it found, and what it reported meanwhile."""
    folder = tmp_path_factory.mktemp("checkpoints")
    evaluator = trained_of(experiment(training={"epochs": 2, "learning_rate": 0.01}), calibration(), folder)
    heard = []
    result = evaluate(evaluator, TRIAL, lambda epoch, so_far: heard.append((epoch, so_far.metrics)) is None)
    return evaluator, folder, result, heard


class TestTrained:
    def test_metrics(self, trained) -> None:
        result = trained[2]
        assert result.status == "done"
        metrics = result.metrics
        others = {"val_miou_pct", "val_pixel_acc_pct", "val_rmse", "val_mae", "val_r2"}  # of other problems
        assert set(METRICS) - {"peak_memory_bytes", "ram_bytes", "flash_bytes", "energy_mj"} - others <= set(metrics)
        task = load_data("digits").task
        counted = cost(get_space("mobile", **SPACE).build(ARCH, task), task)
        assert (metrics["macs"], metrics["params"]) == (counted.macs, counted.params)
        assert metrics["size_bytes"] == counted.size_bytes
        check_above("accuracy", metrics["val_acc_pct"], mean=53.53, sd=5.6)
        assert metrics["throughput_per_s"] == pytest.approx(1000 / metrics["latency_ms"])
        images = len(load_data("digits").train)
        assert metrics["training_operations"] == 6 * counted.macs * images * 2

    def test_latency_is_that_of_the_calibration(self, trained) -> None:
        task = load_data("digits").task
        row = work(get_space("mobile", **SPACE).build(ARCH, task), task)
        assert trained[2].metrics["latency_ms"] == pytest.approx(0.2 + 1e-6 * (row[3] + row[4]), rel=1e-3)
        assert 0 <= trained[2].metrics["latency_std_ms"] < 0.01

    def test_every_epoch_is_reported(self, trained) -> None:
        heard = trained[3]
        assert [epoch for epoch, _ in heard] == [1, 2]
        first, last = (metrics["train_loss"] for _, metrics in heard)
        assert last == trained[2].metrics["train_loss"]
        check_below("last loss, to the first", last / first, mean=0.8775, sd=0.014, most=1)

    def test_the_checkpoint_is_the_network_that_was_judged(self, trained) -> None:
        _, folder, result, _ = trained
        path = folder / Checkpoints(folder).weights(TRIAL.number)
        assert sorted(folder.iterdir()) == [path, folder / "epochs.log"]
        data = load_data("digits")
        model = fresh_model(get_space("mobile", **SPACE), ARCH, data.task, seed=999)
        model.load_state_dict(load_file(path))
        score = judge(model.eval(), data.val)
        assert score.accuracy_pct == result.metrics["val_acc_pct"]
        assert score.loss == pytest.approx(result.metrics["val_loss"], rel=1e-5)

    def test_pickles_and_gives_the_same_again(self, trained, tmp_path) -> None:
        evaluator, folder, result, _ = trained
        torch.manual_seed(77)  # must not matter
        state = torch.get_rng_state()
        copied = pickle.loads(pickle.dumps(evaluator))
        copied.checkpoints = Checkpoints(tmp_path)
        again = evaluate(copied, pickle.loads(pickle.dumps(TRIAL)))
        assert again.metrics == result.metrics
        assert torch.equal(torch.get_rng_state(), state)
        weights = [Checkpoints(place).load_weights(TRIAL) for place in (folder, tmp_path)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    def test_the_seed_decides(self) -> None:
        first, second = (evaluate(trained_of(experiment()), Trial(0, ARCH, None, seed)).metrics for seed in (1, 2))
        assert first["train_loss"] != second["train_loss"]
        assert first["macs"] == second["macs"]

    def test_fewer_epochs_where_the_trial_asks_for_them(self) -> None:
        heard = []
        evaluator = trained_of(experiment(training={"epochs": 5}))
        evaluate(evaluator, Trial(0, ARCH, 2, 1), lambda epoch, metrics: heard.append(epoch) is None)
        assert heard == [1, 2]

    def test_who_listens_may_end_it(self) -> None:
        evaluator = trained_of(experiment(training={"epochs": 5}))
        result = evaluate(evaluator, TRIAL, lambda epoch, metrics: False)
        assert result.status == "stopped"
        assert result.error == "stopped by the scheduler after epoch 1"
        macs, images = result.metrics["macs"], len(load_data("digits").train)
        assert result.metrics["training_operations"] == 6 * macs * images  # one epoch

    def test_no_latency_unless_it_is_asked_for(self) -> None:
        assert "latency_ms" not in evaluate(trained_of(experiment()), TRIAL).metrics

    def test_measured_latency(self) -> None:
        with_latency = experiment({"metric": "latency_ms", "goal": "min"}, device={"latency": "measured", "batch": 2})
        metrics = evaluate(trained_of(with_latency), TRIAL).metrics
        assert metrics["latency_ms"] > 0
        assert metrics["throughput_per_s"] == pytest.approx(2000 / metrics["latency_ms"])
        assert get_device(with_latency.device).batch == 2

    @pytest.mark.parametrize(
        ("metric", "goal", "limit"),
        [
            ("macs", "min", 1000),
            ("params", "min", 10),
            ("size_bytes", "min", 10),
            ("latency_ms", "min", 0.001),
            ("throughput_per_s", "max", 1e9),
        ],
    )
    def test_over_a_limit_it_is_not_trained(self, metric, goal, limit, tmp_path) -> None:
        with_limit = experiment({"metric": metric, "goal": goal, "limit": limit})
        heard = []
        evaluator = trained_of(with_limit, calibration(), tmp_path)
        result = evaluate(evaluator, TRIAL, lambda epoch, metrics: heard.append(epoch) is None)
        assert (result.status, result.ending) == ("infeasible", "before training")
        assert result.error.startswith(metric)
        assert f"the limit {limit:.4g}" in result.error
        known = result.metrics[metric]
        assert result.violation == pytest.approx(abs(known - limit) / limit) and result.violation > 0
        assert heard == []
        assert list(tmp_path.iterdir()) == []

    def test_under_the_limit_it_is(self, tmp_path) -> None:
        with_limit = experiment({"metric": "macs", "goal": "min", "limit": 1e9})
        assert evaluate(trained_of(with_limit, None, tmp_path), TRIAL).status == "done"
        assert Checkpoints(tmp_path).load_weights(TRIAL)

    def test_a_limit_on_accuracy_is_known_afterwards(self) -> None:
        with_limit = experiment({"metric": "val_acc_pct", "goal": "max", "limit": 100})
        heard = []
        result = evaluate(trained_of(with_limit), TRIAL, lambda epoch, metrics: heard.append(epoch) is None)
        assert (result.status, result.ending) == ("infeasible", "after training")
        assert "under the limit 100" in result.error
        assert result.violation == pytest.approx(1 - result.metrics["val_acc_pct"] / 100)
        assert heard == [1]

    def test_divergence_is_a_failure(self, tmp_path) -> None:
        diverging = experiment(training={"epochs": 20, "learning_rate": 1e30, "optimizer": "sgd"})
        result = evaluate(trained_of(diverging, None, tmp_path), TRIAL)
        assert result.status == "diverged"
        assert result.error.startswith("Diverged: the loss became")
        assert list(tmp_path.iterdir()) == []

    def test_an_architecture_of_another_space(self) -> None:
        result = evaluate(trained_of(experiment()), Trial(0, Architecture("nasbench201", (0,) * 6), None, 0))
        assert result.status == "invalid"
        assert "nasbench201" in result.error


def test_fresh_models_are_decided_by_their_seed_alone() -> None:
    space, task = get_space("mobile", **SPACE), load_data("digits").task
    state = torch.get_rng_state()
    first, again, another_seed = (fresh_model(space, ARCH, task, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], another_seed[name]) for name in first)
