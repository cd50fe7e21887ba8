"""A trained network through a recipe: what is accepted, what is rolled back, and what is measured of every stage."""

import copy
import dataclasses
import functools
import json
from typing import ClassVar

import pytest
import torch
from bounds import check_above, check_learned
from judging import judge
from torch import nn

from nasbench.costs.cost import cost, stored_bytes
from nasbench.devices.device import Device
from nasbench.models import Origin, load_model, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.survivors.config import GateConfig
from nasbench.survivors.gate import Saving
from nasbench.survivors.stages import measure_stages, run_recipe, save_stages
from nasbench.training.config import TrainingConfig
from nasbench_compression import CompiledModel, Context, Recipe, Step, get_backend
from nasbench_compression.quantization.modules import is_quantized
from nasbench_compression.timing import Ratio
from nasbench_registry import UserError
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

SPACE = {"widths": [16, 32], "layers": 2}
TEXT = "convolution_k3_w1.0-inverted_residual_k3_w1.0/convolution_k3_w1.0-depthwise_separable_k3_w1.0"
LENIENT = GateConfig(max_drop_pct=100)
ONNX_MISSING = get_backend("onnxruntime").why_unavailable()


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(image_classification("digits", training=TrainingConfig(epochs=3, learning_rate=0.005)), seed=0)


@pytest.fixture(scope="module")
def searched(bench) -> nn.Module:
    """A network that was trained for three epochs; shared, so not to be changed."""
    space = get_space("mobile", **SPACE)
    model = fresh_model(space, space.parse(TEXT), bench.problem.data.task, 0)
    bench.finetune(model, epochs=3)
    check_learned("accuracy", bench.validate(model), images=len(bench.problem.data.val))
    return model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusing(Step):
    """Does not fit any network."""

    name = "refusing"
    stage = "refused"
    summary = "refuses"
    source = "this test"

    def apply(self, model: nn.Module, context: Context):
        raise UserError("no layer is called conv7.")

    def restore(self, model: nn.Module, note: dict) -> nn.Module:
        return model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failing(Step):
    """Raises."""

    name = "failing"
    stage = "failed"
    summary = "raises"
    source = "this test"

    def apply(self, model: nn.Module, context: Context):
        raise RuntimeError("out of\n  luck")

    def restore(self, model: nn.Module, note: dict) -> nn.Module:
        return model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken(Failing):
    """Makes a network whose logits are not finite."""

    name = "broken"
    stage = "broken_down"

    def apply(self, model: nn.Module, context: Context):
        class Nothing(nn.Module):
            def forward(self, x):
                return torch.full((len(x), 10), torch.nan)

        return Nothing(), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forget(Failing):
    """Makes a network that never answers one of the ten classes: about ten points of accuracy."""

    name = "forget"
    stage = "forgetful"
    label: int

    def apply(self, model: nn.Module, context: Context):
        class Without(nn.Module):
            def __init__(self, label: int) -> None:
                super().__init__()
                self.model, self.label = model, label

            def forward(self, x):
                return self.model(x) - 1e6 * nn.functional.one_hot(torch.tensor(self.label), 10)

        return Without(self.label).eval(), {}


def steps(*entries) -> tuple[Step, ...]:
    return Recipe.parse(list(entries)).steps


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def untouched(searched):
    """Checks at the end that the searched network is as it was."""
    before = {name: tensor.clone() for name, tensor in searched.state_dict().items()}
    modes = [module.training for module in searched.modules()]
    gradients = [parameter.requires_grad for parameter in searched.parameters()]
    yield
    after = searched.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert [module.training for module in searched.modules()] == modes
    assert [parameter.requires_grad for parameter in searched.parameters()] == gradients


@pytest.fixture(scope="module")
def stages(searched, bench):
    recipe = [{"prune": {"ratio": 0.3, "epochs": 2}}, {"distill": {"epochs": 2}}, {"quantize": {}}]
    if not ONNX_MISSING:
        recipe.append({"compile": {"backend": "onnxruntime"}})
    else:
        recipe.append({"compile": {"backend": "eager"}})
    heard: list[str] = []
    results = run_recipe(searched, Recipe.parse(recipe), bench, GateConfig(), on_stage=heard.append)
    assert heard == [stage.name for stage in results[1:]]
    return results


class TestRecipe:
    def test_stages_in_their_order(self, stages, searched, bench) -> None:
        assert [stage.name for stage in stages] == ["searched", "pruned", "distilled", "quantized", "compiled"]
        assert all(stage.accepted and stage.reason is None for stage in stages)
        assert [[step.name for step, _ in stage.steps] for stage in stages] == [
            [],
            ["prune"],
            ["prune", "distill"],
            ["prune", "distill", "quantize"],
            ["prune", "distill", "quantize", "compile"],
        ]
        assert stages[0].model is searched
        assert stages[1].options["ratio"] == 0.3
        assert stages[0].seconds == 0
        assert all(stage.seconds > 0 for stage in stages[1:])

    def test_each_step_goes_on_from_the_one_before(self, stages, searched) -> None:
        sizes = [parameters(stage.network) for stage in stages[:3]]
        assert sizes[1] < sizes[0]
        assert sizes[2] == sizes[1]
        assert not is_quantized(stages[2].network)
        assert is_quantized(stages[3].network)
        assert isinstance(stages[4].model, CompiledModel)
        assert stages[4].network is stages[3].network

    def test_accuracy_is_that_of_the_stage(self, stages, bench) -> None:
        for stage in stages:
            assert (
                stage.scores["val_acc_pct"]
                == judge(stage.model, bench.problem.data.val).accuracy_pct
                == bench.validate(stage.model)
            )
            check_learned(stage.name, stage.scores["val_acc_pct"], images=len(bench.problem.data.val))

    def test_notes_are_json(self, stages) -> None:
        for _, note in stages[-1].steps:
            assert json.loads(json.dumps(note)) == note

    def test_nothing_to_do(self, searched, bench, untouched) -> None:
        results = run_recipe(searched, Recipe(()), bench, GateConfig())
        assert [(stage.name, stage.accepted) for stage in results] == [("searched", True)]

    def test_what_was_done_before_is_kept(self, searched, bench, untouched) -> None:
        earlier = run_recipe(searched, Recipe(steps({"prune": {"ratio": 0.2}})), bench, LENIENT)[1]
        results = run_recipe(earlier.network, Recipe(steps({"quantize": {}})), bench, LENIENT, before=earlier.steps)
        assert [[step.name for step, _ in stage.steps] for stage in results] == [["prune"], ["prune", "quantize"]]

    def test_the_same_again(self, searched, bench, untouched) -> None:
        recipe = Recipe(steps({"prune": {"ratio": 0.3, "epochs": 1}}, {"distill": {"epochs": 1}}))
        first, again = (run_recipe(searched, recipe, bench, LENIENT)[-1].network.state_dict() for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first)


class TestGate:
    def test_a_step_that_costs_too_much_is_rolled_back(self, searched, bench, untouched) -> None:
        recipe = Recipe(steps({"prune": {"ratio": 0.9, "epochs": 0}}, {"quantize": {}}))
        first, pruned, quantized = run_recipe(searched, recipe, bench, GateConfig(max_drop_pct=1))
        assert pruned.accepted is False
        check_above(
            "points lost", first.scores["val_acc_pct"] - pruned.scores["val_acc_pct"], mean=82.53, sd=2.4, least=1
        )
        for number in (
            f"{pruned.scores['val_acc_pct']:.2f} %",
            f"{first.scores['val_acc_pct'] - pruned.scores['val_acc_pct']:.2f} points",
            "allows 1",
        ):
            assert number in pruned.reason
        assert parameters(pruned.network) < parameters(searched)  # kept, so that the report can show it
        assert [step.name for step, _ in pruned.steps] == ["prune"]
        # The next step went on from the searched network.
        assert quantized.accepted
        assert [step.name for step, _ in quantized.steps] == ["quantize"]
        assert quantized.network.state_dict().keys() != pruned.network.state_dict().keys()
        weights = [m.weight_int8.numel() for m in quantized.network.modules() if hasattr(m, "weight_int8")]
        floats = [m.weight.numel() for m in searched.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert weights == floats

    def test_the_same_step_passes_a_lenient_gate(self, searched, bench, untouched) -> None:
        (_, pruned) = run_recipe(searched, Recipe(steps({"prune": {"ratio": 0.9}})), bench, LENIENT)
        assert (pruned.accepted, pruned.reason) == (True, None)

    def test_drops_are_counted_from_the_searched_network(self, searched, bench, untouched) -> None:
        """Two steps, each within the gate, that are over it together."""
        recipe = Recipe((Forget(label=3), Forget(label=7), Forget(label=3)))
        first, one, both, _ = (stage.scores["val_acc_pct"] for stage in run_recipe(searched, recipe, bench, LENIENT))
        most = max(first - one, one - both)
        assert 0 < most < first - both
        results = run_recipe(searched, recipe, bench, GateConfig(max_drop_pct=(most + first - both) / 2))
        assert [stage.accepted for stage in results] == [True, True, False, True]
        assert [step.label for step, _ in results[3].steps] == [3, 3]
        assert results[3].scores["val_acc_pct"] == results[1].scores["val_acc_pct"]

    def test_a_gain_is_no_loss(self, bench) -> None:
        space = get_space("mobile", **SPACE)
        untrained = fresh_model(space, space.parse(TEXT), bench.problem.data.task, 0)
        recipe = Recipe(steps({"prune": {"ratio": 0.2, "epochs": 2}}))
        first, pruned = run_recipe(untrained, recipe, bench, GateConfig(max_drop_pct=0))
        check_above(
            "points won", pruned.scores["val_acc_pct"] - first.scores["val_acc_pct"], mean=58.3, sd=8.5, least=0
        )
        assert pruned.accepted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slow(Step):
    """Gives the network with more work behind it: as large as before, and slower."""

    repeats: int = 300  # tens of times the work of the network, far more than what noise does
    name: ClassVar[str] = "slow"
    stage: ClassVar[str] = "slowed"
    summary: ClassVar[str] = "more work"
    source: ClassVar[str] = "none"
    advice: ClassVar[str] = "set repeats: 0"

    def apply(self, model, context):
        return nn.Sequential(copy.deepcopy(model), *(nn.Softsign() for _ in range(self.repeats))), {}

    def restore(self, model, note):
        return nn.Sequential(copy.deepcopy(model), *(nn.Softsign() for _ in range(self.repeats)))


class TestSavings:
    """Each step is measured against the stage before it, on the device."""

    @pytest.fixture
    def on_device(self, bench):
        return dataclasses.replace(bench, device=Device("eager"))

    def test_what_saves_neither_time_nor_bytes_is_rolled_back(self, searched, on_device, untouched) -> None:
        recipe = Recipe((Slow(), *steps({"prune": {"ratio": 0.5}})))
        _, slowed, pruned = run_recipe(searched, recipe, on_device, LENIENT)
        assert slowed.accepted is False and slowed.advice == "set repeats: 0"
        assert slowed.saving.latency.low > 1 and slowed.saving.bytes[0] == slowed.saving.bytes[1]
        for words in ("saves neither time nor bytes", f"{slowed.saving.latency.ratio:.2f} times", "timed in turn"):
            assert words in slowed.reason
        assert pruned.accepted and [step.name for step, _ in pruned.steps] == ["prune"]
        assert pruned.saving.bytes[1] < 0.8 * pruned.saving.bytes[0] == 0.8 * stored_bytes(searched)

    def test_what_was_tried_on_it_stands_beside_the_advice(self, searched, on_device, untouched) -> None:
        calls = []

        def advise(network, compiled, bench):
            calls.append((network, compiled, bench.device.runtime))
            return "tried on it, in turn: less"

        _, slowed = run_recipe(searched, Recipe((Slow(),)), on_device, LENIENT, advise=advise)
        assert slowed.advice == "set repeats: 0; tried on it, in turn: less"
        assert calls == [(slowed.model, slowed.deployed, "eager")]

    def test_where_nothing_was_promised_or_asked_for_it_stays(self, searched, bench, on_device, untouched) -> None:
        class Honest(Slow):
            saves: ClassVar[bool] = False

        _, kept = run_recipe(searched, Recipe((Honest(),)), on_device, LENIENT)
        assert kept.accepted and kept.saving.latency.low > 1 and kept.advice is None
        lenient = LENIENT.model_copy(update={"must_save": False})
        for where, gate in ((on_device, lenient), (bench, LENIENT)):
            _, kept = run_recipe(searched, Recipe((Slow(),)), where, gate)
            assert kept.accepted and kept.saving is None

    def test_what_is_too_slow_is_rolled_back_even_if_it_was_not_asked_to_save(
        self, searched, on_device, untouched
    ) -> None:
        gate = LENIENT.model_copy(update={"must_save": False, "max_latency_ratio": 1.05})
        _, slowed = run_recipe(searched, Recipe((Slow(),)), on_device, gate)
        assert slowed.accepted is False and slowed.saving.latency.low > 1.05
        assert slowed.reason.endswith("gate.max_latency_ratio allows 1.05")
        _, kept = run_recipe(
            searched, Recipe((Slow(),)), on_device, gate.model_copy(update={"max_latency_ratio": 1000})
        )
        assert kept.accepted and kept.reason is None and kept.saving is not None

    def test_a_faster_network_of_the_same_size_is_worth_it(self) -> None:
        def worth_it(ratio, before, after):
            return Saving(Ratio(*ratio), (before, after)).worth_it

        assert worth_it((0.9, 0.85, 0.99), 100, 100)
        assert not worth_it((0.9, 0.85, 1.01), 100, 100)
        assert worth_it((1.3, 1.2, 1.4), 1000, 990)
        assert not worth_it((1.0, 0.9, 1.1), 1000, 991)


class TestFailures:
    @pytest.mark.parametrize(
        ("step", "name", "problem", "reason", "skip"),
        [
            (Failing(), "failed", "failed", "it failed: RuntimeError: out of luck", True),
            (Broken(), "broken_down", "diverged", "its training diverged: ", False),
            (Refusing(), "refused", "refused", "no layer is called conv7", False),
            (Refusing(), "refused", "refused", "no layer is called conv7", True),
        ],
    )
    def test_a_step_without_a_model(
        self, step, name, problem, reason, skip, searched, bench, untouched, caplog
    ) -> None:
        """Nothing goes on behind what failed, for that is no step rolled back; a refused one may be left out."""
        recipe = Recipe((*steps({"decompose": {"ratio": 0.8}}), step, *steps({"quantize": {}})))
        _, before, without, *behind = run_recipe(searched, recipe, bench, LENIENT, skip_refused=skip)
        assert (without.name, without.accepted, without.model, without.scores) == (name, False, None, {})
        assert without.problem == problem and reason in without.reason and "\n" not in without.reason
        assert without.network is before.network and without.steps == before.steps
        goes_on = problem == "diverged" or (problem == "refused" and skip)
        assert [[step.name for step, _ in stage.steps] for stage in behind] == [["decompose", "quantize"]] * goes_on
        assert ("Traceback" in caplog.text) == (problem == "failed")
        with pytest.raises(UserError, match="has no model, and so no size"):
            _ = without.size_bytes

    def test_repeated_steps_are_numbered(self, searched, bench, untouched) -> None:
        again = steps({"prune": {"ratio": 0.2}})
        recipe = Recipe((*again, Broken(), *again, Broken(), *again))
        heard: list[str] = []
        results = run_recipe(searched, recipe, bench, LENIENT, on_stage=heard.append)
        assert heard == ["pruned", "broken_down", "pruned_2", "broken_down_2", "pruned_3"]
        assert [stage.name for stage in results] == ["searched", *heard]


@pytest.fixture(scope="module")
def measured(stages, bench):
    device = Device("eager" if ONNX_MISSING else "onnxruntime", threads=1, batch=1)
    failed = dataclasses.replace(
        stages[0], name="failed", model=None, accepted=False, reason="RuntimeError: out of luck"
    )
    return [*stages, failed], *measure_stages([*stages, failed], bench, device), device


class TestMeasuring:
    def test_every_metric_of_every_stage(self, measured, bench) -> None:
        stages, metrics, _, _ = measured
        assert metrics[-1] == {}
        for stage, numbers in zip(stages[:-1], metrics[:-1], strict=True):
            assert set(numbers) == {
                "val_acc_pct",
                "val_loss",
                "test_acc_pct",
                "test_loss",
                "params",
                "macs",
                "size_bytes",
                "latency_ms",
                "throughput_per_s",
                "of_eager",
            }
            ratio = numbers["of_eager"]
            assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
            assert numbers["val_acc_pct"] == stage.scores["val_acc_pct"]
            assert numbers["test_acc_pct"] == judge(stage.model, bench.problem.data.test).accuracy_pct
            assert numbers["throughput_per_s"] == pytest.approx(1000 / numbers["latency_ms"]["median"])
        assert json.loads(json.dumps(metrics)) == metrics

    def test_counts(self, measured, searched, bench) -> None:
        by_name = {stage.name: numbers for stage, numbers in zip(measured[0], measured[1], strict=True)}
        counted = cost(searched, bench.problem.data.task)
        assert by_name["searched"]["params"] == counted.params
        assert by_name["searched"]["macs"] == counted.macs
        assert by_name["pruned"]["params"] < counted.params
        assert by_name["pruned"]["macs"] < counted.macs
        # Quantization changes no count, but for the batch norms that are folded away.
        assert 0.9 * by_name["distilled"]["macs"] < by_name["quantized"]["macs"] <= by_name["distilled"]["macs"]
        assert by_name["compiled"]["params"] == by_name["quantized"]["params"]

    def test_bytes(self, measured) -> None:
        stages, metrics, _, _ = measured
        by_name = {stage.name: numbers["size_bytes"] for stage, numbers in zip(stages[:-1], metrics, strict=False)}
        assert by_name["quantized"] < by_name["distilled"] / 2 <= by_name["searched"] / 2
        assert by_name["compiled"] == stages[4].model.bytes

    def test_protocol(self, measured) -> None:
        stages, metrics, eager, device = measured
        for stage, numbers in zip(stages[:-1], metrics, strict=False):
            latency = numbers["latency_ms"]
            assert 0 < latency["low"] <= latency["median"] <= latency["high"]
            assert latency["median"] <= latency["p95"]
            assert latency["iqr"] >= 0
            assert latency["repeats"] >= 30
            assert latency["warmup"] >= 10
            assert (latency["batch"], latency["threads"]) == (1, 1)
            assert latency["runtime"].startswith(device.runtime)
            assert latency["precision"] == ("int8" if is_quantized(stage.network) else "fp32")
            assert latency["device"]
        assert eager.runtime == f"eager {torch.__version__}"
        assert eager.precision == "fp32"
        assert len({numbers["latency_ms"]["repeats"] for numbers in metrics[:-1]} | {eager.repeats}) == 1  # in turn

    def test_stages_are_saved_and_described(self, measured, bench, tmp_path) -> None:
        stages, metrics, _, _ = measured
        space = get_space("mobile", **SPACE)
        save = functools.partial(
            save_model, build=SpaceBuild("mobile", SPACE, space.parse(TEXT)), task=bench.problem.data.task
        )
        place = tmp_path / "survivors" / "1"
        described = save_stages(tmp_path, place, stages, metrics, save=save, origin=Origin({"name": "digits"}))
        assert [entry["name"] for entry in described] == [stage.name for stage in stages]
        assert [entry["metrics"] for entry in described] == metrics
        assert described[0]["artefact"] == "survivors/1/searched"
        assert (described[-1]["artefact"], described[-1]["reason"]) == (None, "RuntimeError: out of luck")
        assert json.loads(json.dumps(described)) == described
        assert sorted(path.name for path in place.iterdir()) == sorted(stage.name for stage in stages[:-1])
        images = bench.problem.data.test.examples[:20]
        for stage, entry in list(zip(stages, described, strict=True))[:4]:
            stored = load_model(tmp_path / entry["artefact"])
            with torch.no_grad():
                torch.testing.assert_close(stored.model(images), stage.model(images), atol=1e-6, rtol=0)
            assert stored.origin.data == {"name": "digits"}
            assert stored.origin.metrics == entry["metrics"]


class TestWorkbench:
    def test_judging_keeps_each_mode(self, searched, bench) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10)).train()
        model[2].eval()
        results = [judge(model, bench.problem.data.val) for _ in range(2)]
        assert results[0] == results[1]  # so dropout rested
        assert [module.training for module in model] == [True, True, False]

    def test_context(self, searched, bench) -> None:
        context = bench.context(searched)
        assert context.teacher is searched
        assert torch.equal(context.calibration, bench.problem.data.train.examples[: len(context.calibration)])
        assert context.evaluate(searched) == bench.validate(searched)
        assert context.seed == bench.seed

    def test_validation_images_decide(self, searched, bench) -> None:
        assert bench.validate(searched) == judge(searched, bench.problem.data.val).accuracy_pct
        assert judge(searched, bench.problem.data.val) != judge(searched, bench.problem.data.test)
