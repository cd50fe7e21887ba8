"""Devices other than this machine's CPU: tables, commands, GPUs; and what a survivor's stages know of them."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests_support import experiment_of, trained_of

from nasbench.devices.command import CommandDevice
from nasbench.devices.config import DeviceConfig
from nasbench.devices.cuda import CudaDevice, GpuModel
from nasbench.devices.device import Device
from nasbench.devices.registry import DEVICES, get_device
from nasbench.devices.table import NotInTable, TableDevice
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.latency import LatencyEstimator
from nasbench.evaluators.trial import Trial
from nasbench.experiment.build import prepare
from nasbench.experiment.loading import parse_experiment
from nasbench.latency.calibrate import calibrate, measure_sample
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.survivors.config import GateConfig
from nasbench.survivors.stages import measure_stages, run_recipe
from nasbench.training.config import TrainingConfig
from nasbench_compression import Recipe, get_backend
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

TASK = Task((1, 8, 8), 10)
OPTIONS = {"widths": [8, 16], "layers": 1, "blocks": ["convolution", "depthwise_separable"]}
MOBILE = get_space("mobile", **OPTIONS)
ARCHS = [MOBILE.sample(np.random.default_rng(seed)) for seed in range(3)]
LATENCY = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}]
CELL = "|nor_conv_3x3~0|+|none~0|none~1|+|{}~0|none~1|skip_connect~2|"
onnx_missing = get_backend("onnxruntime").why_unavailable()
needs_onnx = pytest.mark.skipif(onnx_missing is not None, reason=str(onnx_missing))


@pytest.fixture
def table(tmp_path):
    def write(*rows, head="seconds,latency_ms,architecture"):
        file = tmp_path / "latencies.csv"
        file.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
        return TableDevice(file=str(file))

    return write


@pytest.fixture(scope="module")
def survivor():
    """A network that was not trained for long, taken through a recipe."""
    bench = Workbench(image_classification("digits", training=TrainingConfig(epochs=1)), seed=0)
    model = fresh_model(MOBILE, ARCHS[0], TASK, 0).eval()
    entries = ["quantize", *([] if onnx_missing else [{"compile": {"backend": "onnxruntime"}}])]
    recipe = Recipe.parse([{entry: None} if isinstance(entry, str) else entry for entry in entries])
    return run_recipe(model, recipe, bench, GateConfig(max_drop_pct=100)), bench


def test_every_device_is_listed(nasbench):
    code, out, _ = nasbench("list", "devices", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and list(rows) == list(DEVICES) == ["cpu", "cuda", "table", "command"]
    assert rows["cpu"]["why_unavailable"] is None
    assert (rows["cuda"]["why_unavailable"] is None) == torch.cuda.is_available()
    assert all(row["summary"] and (Path(__file__).parents[3] / row["source"]).exists() for row in rows.values())
    assert {row["name"] for row in json.loads(nasbench("list", "predictors", "--json")[1])} >= {"work", "lookup"}


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"name": "gpu"}, "unknown value of device.name: 'gpu'"),
        ({"name": "table"}, "device 'table' needs the key 'file'"),
        ({"file": "x.csv"}, "device 'cpu' has none; set name: table"),
        ({"name": "command", "command": "bench", "runtime": "onnxruntime"}, r"add \{model\}"),
        ({"name": "command", "command": "bench {model}"}, "set device.runtime, to onnxruntime"),
        ({"name": "cuda", "runtime": "onnxruntime"}, "unknown runtime of device 'cuda' 'onnxruntime'"),
        ({"name": "table", "file": "x", "predictor": "lookup"}, "use work, trees or gp"),
        ({"predictor": "trees,gp"}, "unknown value of device.predictor"),
        ({"calibration": "kept", "latency": "measured"}, "set latency: predicted"),
    ],
)
def test_mistakes_in_the_section(device, words):
    with pytest.raises(UserError, match=words) as raised:
        get_device(parse_experiment(experiment_of(device=device)).device)
    assert len(str(raised.value).splitlines()) == 1


class TestTable:
    def test_a_lookup_finds_the_same_network_in_another_form(self, table) -> None:
        cells = get_space("nasbench201")
        # The first two build one network: a skip connection from a node that is nothing, and nothing.
        device = table(f"9,1.5,{CELL.format('nor_conv_3x3')}", f"9,2.5,{CELL.format('nor_conv_1x1')}")
        assert device.latency_ms(cells, cells.parse(CELL.format("nor_conv_1x1"))) == 2.5
        another_form = next(
            arch
            for arch in (cells.architecture(picks) for picks in np.ndindex(*(5,) * 6))
            if cells.canonical(arch) == cells.canonical(cells.parse(CELL.format("nor_conv_3x3")))
            and cells.format(arch) != CELL.format("nor_conv_3x3")
        )
        assert device.latency_ms(cells, another_form) == 1.5
        with pytest.raises(NotInTable, match=r"has no latency of \|nor_conv_3x3~0\|"):
            device.latency_ms(cells, cells.parse(CELL.format("avg_pool_3x3")))
        assert [cells.format(arch) for arch in device.known(cells)] == [
            CELL.format("nor_conv_3x3"),
            CELL.format("nor_conv_1x1"),
        ]

    def test_several_forms_of_one_network_are_averaged_and_a_changed_file_is_read_again(self, table) -> None:
        cells = get_space("nasbench201")
        same = [
            arch
            for arch in (cells.architecture(picks) for picks in np.ndindex(*(5,) * 6))
            if cells.canonical(arch) == cells.canonical(cells.parse(CELL.format("nor_conv_3x3")))
        ]
        device = table(f"9,1.0,{cells.format(same[0])}", f"9,4.0,{cells.format(same[1])}")
        assert [device.latency_ms(cells, arch) for arch in same[:3]] == [1.0, 4.0, 2.5]
        assert len(device.known(cells)) == 1
        file = Path(device.file)
        before = file.stat().st_mtime_ns
        file.write_text(file.read_text().replace("4.0", "6.0"))
        assert file.stat().st_mtime_ns != before
        assert [device.latency_ms(cells, arch) for arch in same[:3]] == [1.0, 6.0, 3.5]

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (["1,fast,{0}"], "line 2: latency_ms is 'fast'; write a positive number"),
            (["1,1.0,{0}", "1,-3,{1}"], "line 3: latency_ms is '-3'"),
            (["1,,{0}"], "line 2: latency_ms is ''"),
            (["1,1.0,{0}", "1,1.0,{0}"], "line 3: '{0}' is there twice, first in line 2"),
            (["1,1.0,{0}", "1,2.0,conv_k3/conv_k3"], "line 3: unknown s0l0_block 'conv'"),
            ([], "has no line below its head"),
        ],
    )
    def test_lines_that_are_wrong(self, table, rows, words) -> None:
        texts = [MOBILE.format(arch) for arch in ARCHS]
        device = table(*(row.format(*texts) for row in rows))
        with pytest.raises(UserError, match=re.escape(words.format(*texts))):
            device.check(MOBILE)

    def test_files_that_are_none(self, table, tmp_path) -> None:
        assert "check device.file" in TableDevice(file=str(tmp_path / "none.csv")).why_unavailable()
        assert "no column 'latency_ms', only architecture, b" in table("1,2", head="architecture,b").why_unavailable()
        (tmp_path / "latencies.csv").write_bytes(b"\xff\xfe\x00architecture")
        assert "cannot be read as a CSV file" in TableDevice(file=str(tmp_path / "latencies.csv")).why_unavailable()

    def test_candidates_of_a_search(self, table) -> None:
        device = table(f"1,0.25,{MOBILE.format(ARCHS[0])}")
        experiment = parse_experiment(
            experiment_of(
                space={"name": "mobile", **OPTIONS},
                device={"name": "table", "file": device.file, "latency": "measured", "batch": 4},
                objectives=LATENCY,
                reward={"name": "scalar"},
                executor={"name": "ray", "workers": 2},  # a lookup is not spoilt by training beside it
            )
        )
        assert isinstance(prepare(experiment).device, TableDevice)
        done, missing = (evaluate(trained_of(experiment), Trial(0, arch, None, 1)) for arch in ARCHS[:2])
        assert done.status == "done"
        assert (done.metrics["latency_ms"], done.metrics["throughput_per_s"]) == (0.25, 16000)
        assert missing.status == "infeasible"
        assert "has no latency of " + MOBILE.format(ARCHS[1]) in missing.error

    def test_a_predictor_is_fitted_on_its_lines(self, table) -> None:
        archs = {MOBILE.canonical(MOBILE.sample(np.random.default_rng(seed))) for seed in range(40)}
        latencies = {MOBILE.format(arch): 1.0 + sum(arch.picks) for arch in archs}
        device = table(*(f"1,{value},{text}" for text, value in latencies.items()))
        calibration = calibrate(MOBILE, TASK, device, samples=12, seed=0, predictor="auto")
        assert calibration.operators is None and calibration.method != "lookup"
        assert [latencies[text] for text in calibration.architectures] == calibration.latency_ms.tolist()
        protocol = calibration.protocol
        assert (protocol["device"], protocol["order"], protocol["repeats"]) == (f"table {device.file}", "looked up", 0)

    def test_stages_of_a_survivor(self, table, survivor) -> None:
        stages, bench = survivor
        device = table(f"1,0.25,{MOBILE.format(ARCHS[0])}")
        metrics, eager = measure_stages(
            stages, bench, device, lambda model, task: device.candidate(MOBILE, ARCHS[0], model, task)
        )
        assert eager is None
        assert metrics[0]["latency_ms"]["median"] == 0.25 and math.isnan(metrics[0]["latency_ms"]["p95"])
        for stage in metrics[1:]:
            assert stage["latency_ms"] is stage["throughput_per_s"] is None
            assert "has latencies of architectures as they are searched" in stage["latency_reason"]
            assert stage["test_acc_pct"] >= 0 and stage["macs"] > 0


def script(text: str, folder: Path) -> str:
    file = folder / "script.py"
    file.write_text(text)
    return f"{sys.executable} {file} {{model}} {{batch}} {{threads}} {{input_shape}}"


@pytest.fixture(scope="module")
def bench_py(tmp_path_factory) -> str:
    """A command that runs the program of the documentation."""
    text = (Path(__file__).parents[3] / "docs" / "devices.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return script(program, tmp_path_factory.mktemp("board"))


@needs_onnx
class TestCommand:
    def test_the_program_of_the_documentation_measures(self, bench_py) -> None:
        device = get_device(DeviceConfig(name="command", runtime="onnxruntime", command=bench_py, batch=2))
        assert device == CommandDevice("onnxruntime", 1, 2, command=bench_py)
        assert device.why_unavailable() is None
        model = fresh_model(MOBILE, ARCHS[0], TASK, 0)
        latency = device.latency(model, TASK)
        assert 0 < latency.low <= latency.median <= latency.high
        assert (latency.repeats, latency.batch, latency.precision) == (100, 2, "fp32")
        assert latency.runtime == device.compile(model, TASK).describe()["backend"] + " " + latency.runtime.split()[1]
        assert not latency.device.startswith("command")  # the program names the machine

    def test_a_search_measures_also_where_its_command_names_the_machine_behind_it(self, tmp_path) -> None:
        command = script("""print('{"latency_ms": 3, "device": "a board"}')""", tmp_path)
        device = CommandDevice("onnxruntime", command=command)
        calibration = measure_sample(MOBILE, TASK, device, samples=2, seed=0)
        assert calibration.protocol["ran_on"] == "a board"
        compiled = device.compile(fresh_model(MOBILE, ARCHS[0], TASK, 0), TASK)
        assert LatencyEstimator(MOBILE, TASK, device, calibration).measured_ms(lambda: compiled) == 3.0

    def test_stages_of_a_survivor(self, bench_py, survivor) -> None:
        stages, bench = survivor
        metrics, eager = measure_stages(stages, bench, CommandDevice("onnxruntime", command=bench_py))
        assert eager is None
        assert [stage["latency_ms"]["precision"] for stage in metrics] == ["fp32", "int8", "int8"]
        eager_artefact = get_backend("eager").compile(stages[0].network, torch.zeros(1, *TASK.input_shape))
        assert "files of onnxruntime, and this is an artefact of eager" in CommandDevice(
            "onnxruntime", command=bench_py
        ).why_not(eager_artefact)

    @pytest.mark.parametrize(
        ("printed", "expected"),
        [
            ({"latency_ms": 3}, {"median": 3.0, "p95": None, "repeats": 0}),
            ({"latency_ms": [1, 2, 9]}, {"median": 2.0, "iqr": 4.0, "repeats": 3}),
            (
                {"latency_ms": {"median": 2.5, "p95": 3, "repeats": 40}, "device": "a board", "runtime": "its own 7"},
                {"median": 2.5, "p95": 3.0, "iqr": None, "repeats": 40, "device": "a board", "runtime": "its own 7"},
            ),
        ],
    )
    def test_what_a_command_may_print(self, tmp_path, printed, expected) -> None:
        command = script(f"print('loading'); print('''{json.dumps(printed)}''')", tmp_path)
        device = CommandDevice("onnxruntime", command=command)
        latency = device.latency(fresh_model(MOBILE, ARCHS[0], TASK, 0), TASK).to_json()
        values = {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in latency.items()
        }
        assert values | expected == values

    @pytest.mark.parametrize(
        ("program", "words"),
        [
            ("import sys; sys.exit('no such board')", "ended with exit code 1 and said: no such board"),
            ("print('42')", "printed '42' last; it must print a JSON object with latency_ms"),
            ("print('{\"latency_ms\": []}')", "must print a JSON object"),
            ("print('{\"latency_ms\": -1}')", "printed latency_ms -1; it must be a positive number"),
            ("print('{\"latency_ms\": [1, NaN]}')", "printed latency_ms nan"),
            ('print(\'{"latency_ms": {"mean": 1}}\')', "printed median None"),
            ("import time; time.sleep(60)", "took longer than device.timeout_s=1"),
        ],
    )
    def test_commands_that_fail(self, tmp_path, program, words) -> None:
        device = CommandDevice(
            "onnxruntime", command=script(program, tmp_path), timeout_s=1.0 if "sleep" in program else 60
        )
        with pytest.raises(UserError, match=re.escape(words)):
            device.latency(fresh_model(MOBILE, ARCHS[0], TASK, 0), TASK)

    def test_a_command_that_is_not_there(self) -> None:
        device = CommandDevice("onnxruntime", command="no-such-program {model}")
        with pytest.raises(UserError, match="'command no-such-program {model}' cannot run: No such file"):
            device.latency(fresh_model(MOBILE, ARCHS[0], TASK, 0), TASK)

    def test_a_search(self, nasbench, tmp_path) -> None:
        """Candidates are told what the command prints, and so is the report; the file has a byte for each of it."""
        program = "import json, os, sys; print(json.dumps({'latency_ms': os.path.getsize(sys.argv[1]) / 1000}))"
        config = experiment_of(
            space={"name": "mobile", **OPTIONS},
            device={
                "name": "command",
                "runtime": "onnxruntime",
                "latency": "measured",
                "command": script(program, tmp_path),
            },
            objectives=LATENCY,
            reward={"name": "scalar"},
            controller="random",
            search={"candidates": 2},
            survivors=1,
            recipe=["quantize"],
        )
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
        code, out, err = nasbench("search", "small.yaml", "--run", "run")
        assert code == 0, err
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        candidates = {candidate["id"]: candidate["metrics"]["latency_ms"] for candidate in report["candidates"]}
        (best,) = report["survivors"]
        searched, quantized = (stage["metrics"]["latency_ms"] for stage in best["stages"])
        assert searched["median"] == pytest.approx(candidates[best["candidate"]], rel=0.01)
        assert quantized["median"] != searched["median"] and searched["p95"] is None
        assert best["baseline"] is None
        assert "searched" in out  # the table for people has no p95 either


class TestCuda:
    def test_the_network_is_the_same_wherever_it_is(self) -> None:
        model = fresh_model(MOBILE, ARCHS[0], TASK, 0).train()
        images = np.random.default_rng(0).standard_normal((3, *TASK.input_shape)).astype(np.float32)
        here = GpuModel(model, "eager", threads=1, place="cpu")
        expected = get_backend("eager").compile(model, torch.zeros(1, *TASK.input_shape))(images)
        np.testing.assert_array_equal(here(images), expected)
        assert model.training and here.run(torch.from_numpy(images)).requires_grad is False
        assert here.describe()["backend"] == "eager" and here.describe()["precision"] == "fp32"

    def test_what_it_cannot_time(self, survivor) -> None:
        device = CudaDevice()
        artefact = get_backend("eager").compile(survivor[0][0].network, torch.zeros(1, *TASK.input_shape))
        assert "artefact of eager for the CPU" in device.why_not(artefact)
        with pytest.raises(UserError, match="compile the network with this device"):
            device.measure(artefact, TASK)

    @pytest.mark.only_where(not torch.cuda.is_available())
    def test_without_a_gpu(self, survivor) -> None:
        experiment = parse_experiment(
            experiment_of(device={"name": "cuda"}, objectives=LATENCY, reward={"name": "scalar"})
        )
        with pytest.raises(UserError, match="torch finds no GPU"):
            prepare(experiment)
        with pytest.raises(UserError, match="torch finds no GPU"):
            get_device(experiment.device).compile(survivor[0][0].network, TASK)

    @pytest.mark.only_where(torch.cuda.is_available())
    def test_with_a_gpu(self, survivor) -> None:
        stages, bench = survivor
        metrics, eager = measure_stages(stages, bench, CudaDevice("torch_compile"))
        assert eager.runtime.startswith("eager") and metrics[0]["latency_ms"]["runtime"].startswith("torch_compile")
        assert metrics[0]["latency_ms"]["device"] == torch.cuda.get_device_name() == eager.device
        assert "fp32 networks only" in metrics[1]["latency_reason"]


def test_a_step_that_the_runtime_cannot_run_has_a_reason(survivor, monkeypatch):
    stages, bench = survivor
    real = Device.compile

    def compile_(self, model, task, precision="fp32", calibration=None):
        return real(self, model, task, "int4" if precision == "int8" else precision, calibration)

    monkeypatch.setattr(Device, "compile", compile_)
    metrics, eager = measure_stages(stages, bench, Device("eager"))
    assert metrics[0]["latency_ms"]["median"] > 0 and eager.median > 0
    assert metrics[1]["latency_ms"] is None and "'int4'" in metrics[1]["latency_reason"]
