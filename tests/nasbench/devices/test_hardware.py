"""Costs, measured latencies and the predictor that is fitted on them."""

import gc
import json

import numpy as np
import pytest
import torch
from tests_support import Attending
from torch import nn

from nasbench.costs.cost import cost
from nasbench.costs.memory import peak_activation_bytes
from nasbench.costs.work import WORK, work
from nasbench.devices.config import DeviceConfig
from nasbench.devices.device import Device, processor_name
from nasbench.devices.measure import summarise
from nasbench.devices.registry import get_device
from nasbench.latency.calibrate import calibrate, distinct_sample
from nasbench_compression.quantization.static_int8 import quantize_static
from nasbench_compression.timing import median_interval, time_calls, time_in_turn
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.blocks import BLOCKS
from search_spaces.blocks.layers import Residual
from search_spaces.blocks.repvgg import RepVGG
from search_spaces.blocks.transformer_encoder import TransformerOnMap

TASK = Task((3, 8, 6), 10)
QUICK = {"budget_s": 0.0, "warmup_s": 0.0}


class Small(nn.Module):
    """3 -> 16 channels, kernel 3, on 8x6; 16 -> 16 in 4 groups, kernel 5, stride 2, on 4x3; 16 -> 10."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 16, 5, stride=2, padding=2, groups=4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.convolution(x)))
        return self.linear(self.pool(self.grouped(x)).flatten(1))


FIRST, GROUPED, LINEAR = 8 * 6 * 9 * 3 * 16, 4 * 3 * 25 * 4 * 16, 16 * 10
PARAMS = 9 * 3 * 16 + 2 * 16 + 25 * 4 * 16 + 16 + 16 * 10 + 10


class TestCost:
    def test_convolution_and_linear_layer(self) -> None:
        convolution = nn.Conv2d(5, 7, 3, padding=1)
        assert cost(convolution, Task((5, 9, 11), 2)).macs == 9 * 11 * 3 * 3 * 5 * 7
        linear = nn.Sequential(nn.Flatten(), nn.Linear(30, 4))
        assert cost(linear, Task((5, 2, 3), 2)).macs == 30 * 4

    def test_a_whole_network(self) -> None:
        counted = cost(Small(), TASK)
        assert (counted.macs, counted.attention_macs) == (FIRST + GROUPED + LINEAR, 0)
        assert counted.uncounted == {}
        assert counted.params == PARAMS
        # Four bytes a number: parameters, running mean and variance; and the eight bytes of the batch counter.
        assert counted.size_bytes == 4 * (PARAMS + 2 * 16) + 8

    def test_normalization_pooling_and_interpolation_are_free(self) -> None:
        free = [
            *(nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.LayerNorm([4, 8, 6])),
            *(nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(2)),
        ]
        counted = cost(nn.Sequential(nn.Conv2d(3, 4, 1), *free), TASK)
        assert counted.macs == 48 * 3 * 4
        assert counted.uncounted == {}

    @pytest.mark.parametrize("heads", [1, 4])
    def test_a_transformer_encoder(self, heads) -> None:
        model, tokens, width = TransformerOnMap(16, 16, heads=heads), 8 * 6, 16
        linear = tokens * width * (3 * width + width + 4 * width + 4 * width)
        products = 2 * tokens * tokens * width  # queries with keys, and weights with values
        counted = cost(model, Task((16, 8, 6), 2))
        assert (counted.macs, counted.attention_macs) == (linear + products, products)
        assert counted.uncounted == {"aten::add": 2, "aten::gelu": 1}

    def test_attention_with_other_keys_and_values(self) -> None:
        class Cross(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                q, k, v = x.new_ones(1, 2, 5, 4), x.new_ones(1, 2, 7, 4), x.new_ones(1, 2, 7, 6)
                return nn.functional.scaled_dot_product_attention(q, k, v)

        assert cost(Cross(), TASK).macs == 2 * 5 * 7 * 4 + 2 * 5 * 7 * 6

    def test_attention_of_torch_is_not_hidden(self) -> None:
        before = torch.backends.mha.get_fastpath_enabled()
        assert cost(Attending(), Task((16, 8, 6), 2)).macs == 48 * 16 * 4 * 16 + 2 * 48 * 48 * 16
        assert torch.backends.mha.get_fastpath_enabled() is before

    def test_padding_by_name(self) -> None:
        by_name, by_number = nn.Conv2d(4, 8, 3, padding="same", groups=2), nn.Conv2d(4, 8, 3, padding=1, groups=2)
        task = Task((4, 8, 6), 2)
        assert cost(by_name, task) == cost(by_number, task)
        assert cost(by_number, task).macs == 48 * 9 * 2 * 8

    def test_bytes_are_those_of_the_file(self, tmp_path) -> None:
        from safetensors.torch import save_file

        model = Small()
        save_file(model.state_dict(), tmp_path / "model.safetensors")
        data = (tmp_path / "model.safetensors").read_bytes()
        head = 8 + int.from_bytes(data[:8], "little")
        assert cost(model, TASK).size_bytes == len(data) - head

    def test_what_is_not_counted_is_said(self) -> None:
        class Twice(nn.Module):
            def forward(self, x):
                return torch.sigmoid(x) + torch.sigmoid(x + 1)

        counted = cost(nn.Sequential(nn.Conv2d(3, 3, 1), Twice()), TASK)
        assert counted.macs == 8 * 6 * 9
        assert counted.uncounted == {"aten::sigmoid": 2, "aten::add": 2}
        assert cost(nn.Conv2d(3, 3, 1), TASK).uncounted == {}


def work_of(model: nn.Module, task: Task = TASK) -> dict[str, float]:
    return dict(zip(WORK, work(model, task).tolist(), strict=True))


class TestWork:
    def test_by_hand(self) -> None:
        assert work_of(Small()) == {
            "operators": 4,  # two convolutions, pooling and the linear layer; batch norm and flattening cost nothing
            "dense_convolutions": 1,
            "dense_macs": FIRST + LINEAR,
            "depthwise_convolutions": 0,
            "depthwise_macs": 0,
            "groups": 4,
            "grouped_macs": GROUPED,
            "attentions": 0,
            "normalizations": 0,
            "copies": 0,
            "activations": 0,
            "elements": 16 * 48 + 16 * 12 + 16 + 10,
            "params": PARAMS,
        }

    def test_what_a_network_does_without_modules(self) -> None:
        class Functional(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                joined = torch.cat([x, torch.sigmoid(x)], dim=1)
                return nn.functional.layer_norm(joined, joined.shape[1:]).transpose(1, 2).reshape(1, -1)

        counts = work_of(Functional())
        assert (counts["copies"], counts["normalizations"], counts["activations"]) == (2, 1, 3 * 48)
        assert counts["operators"] == 4  # cat, sigmoid, norm, and the copy that the last reshape makes

    def test_multiply_adds_agree_with_cost(self) -> None:
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(64, 10)
        )
        counts = work_of(model)
        assert counts["dense_macs"] + counts["depthwise_macs"] == cost(model, TASK).macs
        assert counts["depthwise_convolutions"] == 1 and counts["groups"] == 0

    @pytest.mark.parametrize("name", BLOCKS)
    def test_multiply_adds_of_every_block(self, name) -> None:
        block, task = BLOCKS[name], Task((16, 8, 6), 10)
        for model in [block(16, 16), *([block(16, 24, stride=2)] if block.reshapes else [])]:
            counts, costs = work_of(model, task), cost(model, task)
            assert counts["dense_macs"] + counts["depthwise_macs"] + counts["grouped_macs"] == costs.macs
            assert counts["params"] == costs.params

    def test_identities_and_dropout_are_no_work(self) -> None:
        layers = [nn.Conv2d(3, 4, 3), nn.Flatten()]
        idle = [nn.Conv2d(3, 4, 3), nn.Identity(), nn.Dropout(), nn.Flatten()]
        np.testing.assert_array_equal(work(nn.Sequential(*layers), TASK), work(nn.Sequential(*idle), TASK))


@pytest.mark.parametrize("count", [cost, work, peak_activation_bytes])
@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_modes_weights_and_generator(count, training) -> None:
    model = Small().train(training)
    model.norm.train(not training)  # such as a frozen batch norm in a network that is trained
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    count(model, TASK)
    assert model.training is model.convolution.training is training
    assert model.norm.training is not training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def image_bytes(*channels: int) -> int:
    """Of so many maps of 8x6 float32 values."""
    return sum(channels) * 8 * 6 * 4


class TestPeakActivationBytes:
    def test_a_chain_needs_two_neighbours(self) -> None:
        layers = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 2, 1)]
        assert peak_activation_bytes(nn.Sequential(*layers), TASK) == image_bytes(16, 8)
        # How the layers are nested does not matter, although Python holds the input of the inner chain for longer.
        nested = nn.Sequential(layers[0], nn.Sequential(layers[1], nn.Sequential(*layers[2:])))
        assert peak_activation_bytes(nested, TASK) == image_bytes(16, 8)

    def test_the_image_counts(self) -> None:
        assert peak_activation_bytes(nn.Conv2d(3, 1, 1), TASK) == image_bytes(3, 1)
        assert peak_activation_bytes(nn.Identity(), TASK) == image_bytes(3)

    def test_a_shortcut_keeps_its_input(self) -> None:
        body = nn.Sequential(nn.Conv2d(4, 16, 1), nn.Conv2d(16, 12, 1), nn.Conv2d(12, 4, 1))
        assert peak_activation_bytes(nn.Sequential(nn.Conv2d(3, 4, 1), body), TASK) == image_bytes(16, 12)
        assert peak_activation_bytes(nn.Sequential(nn.Conv2d(3, 4, 1), Residual(body)), TASK) == image_bytes(4, 16, 12)

    def test_writing_in_place_and_views_take_nothing(self) -> None:
        convolution, last = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 1, 1)
        peaks = [
            peak_activation_bytes(nn.Sequential(convolution, *between, last), TASK)
            for between in ([], [nn.ReLU(inplace=True)], [nn.Unflatten(1, (4, 4)), nn.Flatten(1, 2)], [nn.ReLU()])
        ]
        assert peaks == [image_bytes(16, 3)] * 3 + [image_bytes(16, 16)]

    def test_a_late_use_keeps_a_tensor_and_a_view_of_it(self) -> None:
        class Late(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.wide, self.last = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 20, 1), nn.Conv2d(20, 1, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = self.first(x)
                part = x[:, :1]
                return self.last(self.wide(x)) + part

        assert peak_activation_bytes(Late(), TASK) == image_bytes(5, 20, 1)

    def test_weights_do_not_count(self) -> None:
        assert peak_activation_bytes(nn.Sequential(nn.Flatten(), nn.Linear(144, 1000)), TASK) == 4 * (144 + 1000)

    def test_branches_are_merged_and_int8_is_counted_as_float(self) -> None:
        block = RepVGG(3, 3)
        assert peak_activation_bytes(block, TASK) == image_bytes(3, 3)
        quantized, _ = quantize_static(block.eval(), torch.randn(4, *TASK.input_shape))
        assert peak_activation_bytes(quantized, TASK) == image_bytes(3, 3)


class TestMedianInterval:
    @pytest.mark.parametrize("n", [30, 31, 50, 101, 1000])
    def test_covers_the_median_95_times_in_100(self, n) -> None:
        draws = 4000
        rng = np.random.default_rng(n)
        samples = rng.exponential(size=(draws, n))  # skewed, as latencies are
        covered = np.mean([low <= np.log(2) <= high for low, high in map(median_interval, samples)])
        # The medians of six parts are all on one side of it in 2 of 64 cases. Six sigmas of 4,000 draws on top.
        assert covered == pytest.approx(1 - 2 / 64, abs=6 * np.sqrt(0.03 * 0.97 / draws))

    @pytest.mark.parametrize("n", [1, 2, 3, 10, 30, 31, 100])
    def test_both_ends_alike(self, n) -> None:
        values = np.random.default_rng(n).normal(size=n)
        low, high = median_interval(values)
        assert median_interval(-values) == (-high, -low)
        assert values.min() <= low <= np.median(values) <= high <= values.max()

    def test_narrows_with_more_values(self) -> None:
        values = np.random.default_rng(0).normal(size=10_000)
        widths = [np.diff(median_interval(values[:n]))[0] for n in (30, 300, 10_000)]
        assert widths[0] > widths[1] > widths[2]


class TestTiming:
    @staticmethod
    def recorder(names: str) -> tuple[list[str], dict]:
        order: list[str] = []
        return order, {name: lambda name=name: order.append(name) for name in names}

    def test_calls_take_turns(self) -> None:
        order, calls = self.recorder("abc")
        timed = time_in_turn(calls, min_repeats=8, max_repeats=8, warmup=3, turn=4, **QUICK)
        assert list(timed) == ["a", "b", "c"]
        for seconds, warmed in timed.values():
            assert len(seconds) == 8
            assert warmed == 3
            assert (seconds > 0).all()
        # Warm-up of each; then turns of one call that is not timed and four that are.
        assert "".join(order) == "aaabbbccc" + 2 * ("aaaaa" + "bbbbb" + "ccccc")

    def test_a_single_call_needs_no_turns(self) -> None:
        order, calls = self.recorder("a")
        seconds, warmed = time_calls(calls["a"], min_repeats=30, max_repeats=30, warmup=5, **QUICK)
        assert (len(seconds), warmed) == (30, 5)
        assert len(order) == 35

    @pytest.mark.parametrize("most", [1, 7, 25, 30])
    def test_never_more_than_max_repeats(self, most) -> None:
        _, calls = self.recorder("ab")
        timed = time_in_turn(calls, min_repeats=1, max_repeats=most, warmup=1, budget_s=60, warmup_s=0)
        assert all(len(seconds) <= most for seconds, _ in timed.values())

    def test_at_least_min_repeats_whatever_the_budget(self) -> None:
        _, calls = self.recorder("ab")
        timed = time_in_turn(calls, min_repeats=40, warmup=1, **QUICK)
        assert all(len(seconds) >= 40 for seconds, _ in timed.values())

    def test_the_garbage_collector_rests_and_comes_back(self) -> None:
        states = []
        assert gc.isenabled()
        time_calls(lambda: states.append(gc.isenabled()), min_repeats=10, max_repeats=10, warmup=2, **QUICK)
        assert states[2:] == [False] * 10
        assert gc.isenabled()

    def test_also_after_an_exception(self) -> None:
        def fails() -> None:
            if not gc.isenabled():  # so only where it is timed
                raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            time_calls(fails, warmup=2, **QUICK)
        assert gc.isenabled()

    def test_who_had_it_off_keeps_it_off(self) -> None:
        gc.disable()
        try:
            time_calls(lambda: None, min_repeats=10, max_repeats=10, **QUICK)
            assert not gc.isenabled()
        finally:
            gc.enable()


FACTS = {"warmup": 10, "batch": 4, "threads": 1, "runtime": "eager 2", "precision": "fp32", "device": "a CPU"}


class TestSummarise:
    def test_fields(self) -> None:
        seconds = np.arange(1, 101) / 1000  # 1 to 100 ms
        latency = summarise(np.random.default_rng(0).permutation(seconds), **FACTS)
        assert latency.median == pytest.approx(50.5)
        assert latency.p95 == pytest.approx(95, abs=0.5)
        assert latency.iqr == pytest.approx(50, abs=1)
        assert latency.low < 50.5 < latency.high
        assert latency.repeats == 100
        assert latency.throughput_per_s == pytest.approx(4 / 0.0505)
        stored = latency.to_json()
        assert json.loads(json.dumps(stored)) == stored
        assert stored.items() >= FACTS.items()

    def test_unstable_is_marked(self) -> None:
        rng = np.random.default_rng(0)
        steady = 0.01 * (1 + 0.01 * rng.normal(size=50))
        restless = np.where(rng.random(50) < 0.5, 0.01, 0.02)  # the machine has two speeds
        assert summarise(steady, **FACTS).unstable is False
        assert summarise(restless, **FACTS).unstable is True


class TestCalibrate:
    def test_measures_distinct_architectures(self) -> None:
        space = get_space("mobile", widths=[8, 16], layers=1, blocks=["convolution", "identity"])
        task = Task((1, 8, 8), 10)
        state, heard = torch.get_rng_state(), []
        device = Device("eager", threads=1, batch=2)
        calibration = calibrate(space, task, device, samples=12, seed=0, on_progress=lambda *at: heard.append(at))
        assert torch.equal(torch.get_rng_state(), state)
        assert heard[-12:] == [(done, 12) for done in range(1, 13)]  # after the pool that they are chosen from
        assert len(calibration.architectures) == len(calibration.latency_ms) == 12
        archs = [space.parse(text) for text in calibration.architectures]
        assert len({space.canonical(arch) for arch in archs}) == 12
        assert (calibration.latency_ms > 0).all()
        for arch, row in zip(archs, calibration.work, strict=True):
            np.testing.assert_array_equal(row, work(space.build(arch, task), task))
        protocol = calibration.protocol
        assert (protocol["batch"], protocol["threads"], protocol["precision"]) == (2, 1, "fp32")
        assert protocol["runtime"] == f"eager {torch.__version__}"
        assert protocol["device"] == processor_name() != ""
        assert protocol["repeats"] >= 2  # a call in each of the two quietest turns, however busy the machine is
        assert json.loads(json.dumps(calibration.to_json())) == calibration.to_json()

    def test_a_sample_is_decided_by_its_generator_and_ends_with_a_small_space(self) -> None:
        space = get_space("mobile", widths=[8], layers=1, kernels=[3], width_factors=[1.0, 2.0])
        size = len({space.canonical(space.sample(np.random.default_rng(n))) for n in range(300)})
        sample = distinct_sample(space, 1000, np.random.default_rng(0))
        assert len(sample) == len(set(sample)) == size
        large = get_space("mobile")
        first, again, another_seed = (distinct_sample(large, 5, np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert first == again != another_seed


class TestDevice:
    def test_unknown_runtime(self) -> None:
        with pytest.raises(UserError, match=r"unknown backend 'onnxruntim'.*Did you mean 'onnxruntime'"):
            get_device(DeviceConfig(runtime="onnxruntim"))
        with pytest.raises(UserError, match="Did you mean 'eager'"):
            Device("eagre").compile(Small(), TASK)

    def test_from_config(self) -> None:
        device = get_device(DeviceConfig(runtime="eager", threads=2, batch=3))
        assert device == Device("eager", 2, 3)
        assert device.why_unavailable() is None

    def test_latency_leaves_the_model(self) -> None:
        model = Small().train()
        model.norm.eval()
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        threads = torch.get_num_threads()
        latency = Device("eager", threads=1, batch=4).latency(model, TASK, budget_s=0.05)
        assert 0 < latency.low <= latency.median <= latency.high
        assert latency.median <= latency.p95
        assert (latency.batch, latency.threads, latency.precision) == (4, 1, "fp32")
        assert latency.repeats >= 30
        assert latency.warmup >= 10
        assert model.training
        assert not model.norm.training
        assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
        assert torch.get_num_threads() == threads

    def test_several_in_turn(self) -> None:
        device = Device("eager")
        compiled = {name: device.compile(Small(), TASK) for name in ("one", "other")}
        latencies = device.compare(compiled, TASK, budget_s=0.05).latencies
        assert list(latencies) == ["one", "other"]
        assert latencies["one"].repeats == latencies["other"].repeats >= 30
        assert all(latency.median > 0 for latency in latencies.values())
