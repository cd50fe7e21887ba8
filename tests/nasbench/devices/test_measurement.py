"""What a measurement claims: intervals that cover, ratios that hold, models that stay as they were, bytes by hand."""

import json
import random
import time

import numpy as np
import pytest
import torch
from scipy.stats import binom
from tests_support import Attending
from torch import nn

from nasbench.cli.profile import readable
from nasbench.costs.cost import cost
from nasbench.devices.clock import clock
from nasbench.devices.compare import agreement
from nasbench.devices.cuda import CudaDevice
from nasbench.devices.device import Device
from nasbench.devices.energy import Rapl
from nasbench.models import Origin, save_model
from nasbench.models.build import SpaceBuild
from nasbench_compression.timing import cuda_seconds, median_interval, ratio_of, time_in_turn
from nasbench_registry import UserError
from search_spaces import Task, get_space

TASK = Task((3, 8, 6), 10)
DRAWS = 1000
SIX_SIGMAS = 6 * np.sqrt(0.95 * 0.05 / DRAWS)


def bursts(rng, n, length, size=0.3):
    """Noise factors (n,) of a busy machine: each stretch of about `length` calls has a speed of its own."""
    speeds = rng.normal(0, size, n)
    change = rng.random(n) < 1 / length
    change[0] = True
    return np.exp(speeds[np.flatnonzero(change)[np.cumsum(change) - 1]])


class TestMedianInterval:
    @pytest.mark.parametrize("length", [1, 10, 30])
    def test_covers_the_median_where_noise_comes_in_bursts(self, length) -> None:
        """Six parts of 100 calls are nearly independent where bursts are short against a part; calls are not."""
        rng = np.random.default_rng(length)
        covered = by_calls = 0
        for _ in range(DRAWS):
            values = bursts(rng, 600, length) * np.exp(rng.normal(0, 0.02, 600))
            low, high = median_interval(values)
            covered += low <= 1 <= high
            ordered = np.sort(values)
            ranks = binom.ppf([0.025, 0.975], 600, 0.5).astype(int)
            by_calls += ordered[ranks[0]] <= 1 <= ordered[ranks[1]]
        assert covered / DRAWS >= 0.95 - SIX_SIGMAS - (0.01 if length > 1 else 0)
        assert by_calls / DRAWS < (0.98 if length == 1 else 0.75)  # what order statistics of the calls would claim

    def test_two_honest_measurements_agree(self) -> None:
        rng = np.random.default_rng(0)
        rounds = []
        for _ in range(100):
            values = np.exp(rng.normal(0, 0.1, 300))
            rounds.append((float(np.median(values)), *median_interval(values)))
        assert agreement(rounds) >= 0.95
        shifted = [(1.1 * middle, 1.1 * low, 1.1 * high) for middle, low, high in rounds[:50]]
        assert agreement([*shifted, *rounds[50:]]) < 0.6  # the machine became slower halfway

    def test_agreement_by_hand(self) -> None:
        # 1 and 5 face each other with halves of 3 and 0: 4 > 3. With 4 instead of 0 the root is 5.
        assert agreement([(5.0, 5.0, 9.0), (1.0, 1.0, 4.0)]) == 0
        assert agreement([(5.0, 1.0, 5.0), (1.0, 1.0, 4.0)]) == 1
        with pytest.raises(UserError, match="two measurements or more, not 1"):
            agreement([(1.0, 1.0, 1.0)])


class TestRatio:
    @pytest.mark.parametrize("ratio", [1.0, 0.4])
    @pytest.mark.parametrize("n", [30, 300])
    def test_covers_the_ratio_and_what_is_common_cancels(self, ratio, n) -> None:
        """One machine that drifts for both, noise of each one's own that is skewed, and a known ratio."""
        rng = np.random.default_rng(n)
        covered, narrower = 0, 0
        for _ in range(DRAWS):
            machine = np.repeat(bursts(rng, n // 5, 20), 5)  # turns of five calls meet the same speed
            one, other = (machine * np.exp(0.05 * rng.exponential(size=n)) for _ in range(2))
            estimate = ratio_of(ratio * one, other)
            covered += estimate.low <= ratio <= estimate.high
            assert estimate.low <= estimate.ratio <= estimate.high
            low, high = median_interval(one)
            narrower += estimate.high / estimate.low < high / low
        assert covered / DRAWS >= 0.95 - SIX_SIGMAS
        assert narrower / DRAWS > 0.9 or n == 30

    def test_needs_calls_that_took_turns(self) -> None:
        with pytest.raises(UserError, match="as many of both, not 10 and 9"):
            ratio_of(np.ones(10), np.ones(9))
        with pytest.raises(UserError, match="at least 6 calls"):
            ratio_of(np.ones(5), np.ones(5))


def test_every_repeat_takes_turns_and_another_timer_can_be_given() -> None:
    """Thirty repeats are six turns, one for each part of an interval."""
    order = []

    def timer(call):
        call()
        order.append("timed")
        return float(len(order))

    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    timed = time_in_turn(calls, budget_s=0, min_repeats=30, max_repeats=30, warmup=1, warmup_s=0, timer=timer)
    assert len(timed["a"][0]) == 30
    assert "".join(order).replace("timed", "+") == "ab" + 6 * ("a" + 5 * "a+" + "b" + 5 * "b+")
    assert timed["b"][0][-1] == len(order)


class TestClock:
    def write(self, root, cpu, **files):
        folder = root / f"cpu{cpu}" / "cpufreq"
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")

    def test_governor_and_limits_of_all_processors(self, tmp_path) -> None:
        limits = {"scaling_min_freq": 800_000, "scaling_max_freq": 3_600_000}
        self.write(tmp_path, 0, scaling_governor="schedutil", **limits)
        self.write(tmp_path, 1, scaling_governor="performance", scaling_min_freq=600_000, scaling_max_freq=2_000_000)
        (tmp_path / "cpuidle").mkdir()
        assert clock(tmp_path) == {"governor": "performance,schedutil", "min_mhz": 600.0, "max_mhz": 3600.0}

    def test_a_machine_that_tells_little_or_nothing(self, tmp_path) -> None:
        assert clock(tmp_path) is None
        self.write(tmp_path, 0, scaling_governor="powersave", scaling_max_freq="<unknown>")
        assert clock(tmp_path) == {"governor": "powersave", "min_mhz": None, "max_mhz": None}


def image_bytes(*channels: int) -> int:
    """Of so many maps of 8x6 float32 values."""
    return sum(channels) * 8 * 6 * 4


class TestTraffic:
    def test_by_hand(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 48, 10))
        counted = cost(model, TASK)
        convolution = image_bytes(3, 4) + 4 * (3 * 4 + 4)
        norm = image_bytes(4, 4) + 4 * 4 * 4  # weight, bias, running mean and variance
        relu = image_bytes(4, 4)
        linear = image_bytes(4) + 4 * (4 * 48 * 10 + 10) + 4 * 10  # flattening moves nothing
        assert counted.bytes_moved == convolution + norm + relu + linear
        assert counted.macs == 48 * 3 * 4 + 4 * 48 * 10
        assert counted.flops == 2 * counted.macs
        assert counted.flops_per_byte == counted.flops / counted.bytes_moved
        assert counted.peak_activation_bytes == image_bytes(4, 4)
        as_json = counted.to_json()
        assert json.loads(json.dumps(as_json)) == as_json
        assert (as_json["flops"], as_json["flops_per_byte"]) == (counted.flops, counted.flops_per_byte)

    def test_in_place_twice_and_by_a_stride_of_zero(self) -> None:
        class Odd(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = x + x  # is read once, and written: 3 and 3
                torch.relu_(x)  # reads and writes
                return x * x[:, :, :1, :1].expand_as(x)  # three values, however often they are shown

        assert cost(Odd(), TASK).bytes_moved == image_bytes(3, 3) * 3 + 4 * 3

    def test_attention_has_its_parts(self) -> None:
        counted = cost(Attending(), Task((16, 8, 6), 2))
        # At least: tokens into three projections and out of them, into the product, out of it, and through the last.
        assert counted.bytes_moved >= image_bytes(16) * (1 + 3 + 3 + 1 + 1 + 1) + 4 * (4 * 16 * 16 + 4 * 16)
        assert counted.peak_activation_bytes < counted.bytes_moved

    def test_nothing_is_moved(self) -> None:
        counted = cost(nn.Identity(), TASK)
        assert (counted.bytes_moved, counted.flops_per_byte) == (0, 0)

    def test_as_people_read_it(self) -> None:
        assert (readable("bytes_moved", 2048.0), readable("flops_per_byte", 0.5)) == ("2.00 KiB", "0.500")


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_the_model_is_left_as_it_was(runtime) -> None:
    """Weights, modes, hooks, gradients, generators, threads: counting, compiling and timing change none of them."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.5))
    model.append(nn.Linear(4 * 24, 10)).train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model(torch.randn(2, *TASK.input_shape)).sum().backward()
    model[3].register_forward_hook(lambda module, inputs, output: None)
    model[5].register_full_backward_hook(lambda module, inputs, outputs: None)

    def state():
        tensors = dict(model.state_dict()) | {
            f"gradient of {name}": parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        return {name: tensor.clone() for name, tensor in tensors.items()} | {"generator": torch.get_rng_state()}, (
            [id(tensor) for tensor in (*model.parameters(), *model.buffers())],
            [module.training for module in model.modules()],
            [list(hooks.values()) for layer in model for hooks in (layer._forward_hooks, layer._backward_hooks)],
            [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()],
            (np.random.get_state()[1].tolist(), random.getstate()),
            (torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        )

    before = state()
    device = Device(runtime, threads=2, batch=2)
    latency = device.latency(model, TASK, budget_s=0.02)
    compiled = device.compile(model, TASK)
    device.compare({"one": compiled, "other": compiled}, TASK, budget_s=0.02)
    cost(model, TASK)
    assert latency.threads == 2 and latency.clock == clock()
    tensors, facts = state()
    torch.testing.assert_close(tensors, before[0], rtol=0, atol=0)
    assert facts == before[1]


def test_models_are_compared_in_one_run() -> None:
    device = Device("eager")
    small, large = nn.Flatten(), nn.Sequential(nn.Conv2d(3, 64, 7, padding=3), nn.Conv2d(64, 64, 5), nn.Flatten())
    compiled = {"large": device.compile(large, TASK), "small": device.compile(small, TASK)}
    comparison = device.compare(compiled, TASK, budget_s=0.05, rounds=2)
    assert list(comparison.latencies) == ["large", "small"] and list(comparison.ratios) == ["small"]
    ratio = comparison.ratios["small"]
    assert 0 < ratio.low <= ratio.ratio <= ratio.high < 1
    for name, latency in comparison.latencies.items():
        assert latency.repeats == sum(one_round.repeats for one_round in comparison.rounds[name]) >= 60
    assert len(comparison.ratio_rounds["small"]) == 2


@pytest.mark.only_where(torch.cuda.is_available())
@pytest.mark.parametrize("runtime", ["eager", "torch_compile"])
def test_a_gpu_is_timed_by_its_own_clock(runtime) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()).train()
    latency = CudaDevice(runtime, batch=4).latency(model, TASK, budget_s=0.05)
    assert 0 < latency.low <= latency.median <= latency.high
    assert latency.batch == 4 and "CUDA" in latency.runtime and latency.device == torch.cuda.get_device_name()
    assert model.training and next(model.parameters()).device.type == "cpu"
    # Products that take a while: what the host waits for is no less than what the GPU's own clock says.
    factor = torch.randn(4096, 4096, device="cuda")
    before = time.perf_counter()
    seconds = cuda_seconds(lambda: factor @ factor)
    assert 1e-5 < seconds < time.perf_counter() - before


@pytest.fixture
def stored(tmp_path):
    """Save random networks of a space; the folder of each."""

    def save(name, side=8, **options):
        task = Task((1, side, side), 10)
        space = get_space("mobile", **options)
        arch = space.sample(np.random.default_rng(0))
        model = space.build(arch, task).eval()
        origin = Origin({"name": "digits"})
        save_model(tmp_path / name, model, build=SpaceBuild("mobile", options, arch), task=task, origin=origin)
        return tmp_path / name, cost(model, task)

    return save


def test_benchmark_compares_stored_models(nasbench, stored) -> None:
    (one, counted), (other, _) = stored("one", widths=[8], layers=1), stored("other", widths=[16], layers=1)
    words = ["benchmark", one, other, "--backend", "eager", "--batch", "1,2", "--seconds", "0.05", "--rounds", "2"]
    code, out, err = nasbench(*words, "--json")
    assert code == 0, err
    entries = json.loads(out)
    assert [(entry["model"], entry["batch"]) for entry in entries] == [
        (str(one), 1),
        (str(other), 1),
        (str(one), 2),
        (str(other), 2),
    ]
    for first, second in (entries[:2], entries[2:]):
        assert first["ratio"] is None and first["rounds"]["ratio"] is None
        ratio = second["ratio"]
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"] and ratio["to"] == f"{one} eager"
        assert len(second["rounds"]["latency_ms"]) == len(second["rounds"]["ratio"]) == 2
        assert 0 <= second["rounds"]["ratio_agreement"] <= 1
        assert first["protocol"]["repeats"] == second["protocol"]["repeats"] >= 60
        assert first["protocol"]["clock"] == clock()
    assert entries[0]["cost"] == counted.to_json()
    assert "energy" not in entries[0]

    code, out, err = nasbench(*words)
    text = " ".join(out.split())
    assert code == 0, err
    assert "of the first" in text and "FLOPs a byte" in text and "timed in turn" in text


def test_models_of_two_shapes_are_not_compared(nasbench, stored) -> None:
    (one, _), (other, _) = stored("one", layers=1), stored("other", 16, layers=1)
    code, _, err = nasbench("benchmark", one, other, "--backend", "eager")
    assert code == 2
    assert "1x8x8 and 1x16x16" in err


@pytest.mark.only_where(Rapl().why_unavailable() is not None)
def test_energy_that_cannot_be_counted_is_said_before_anything_is_timed(nasbench) -> None:
    code, out, err = nasbench("benchmark", "nowhere", "--energy")
    assert (code, out) == (2, "")
    assert f"--energy: {Rapl().why_unavailable()}" in " ".join(err.split())
