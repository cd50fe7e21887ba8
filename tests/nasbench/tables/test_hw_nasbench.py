"""HW-NAS-Bench and the published proxies: what must hold of them, and how a device finds them."""

import csv
import gzip
import io

import numpy as np
import pytest
import yaml

from nasbench.devices.config import DeviceConfig
from nasbench.devices.registry import get_device
from nasbench.devices.table import NotInTable
from nasbench.evaluators.costs import CandidateCosts
from nasbench.evaluators.errors import InfeasibleError
from nasbench.tables.devices import published_device
from nasbench.tables.hw_nasbench import DEVICES, FILES, architecture_of, load_hw_nasbench
from nasbench.tables.latencies import device_latencies, latency_cells
from nasbench.tables.sources import fetch, get_source, verify
from nasbench.tables.zero_cost import load_published_proxies
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.nasbench201 import NASBench201

SPACE = NASBench201()


@pytest.fixture
def data(data_file):
    return data_file("hw_nasbench/hw_cifar10.csv.gz").parent.parent


def test_the_numbers_of_an_operation_are_read_in_their_order(data):
    """`zero_cost` writes both forms of each cell; the one is converted, the other is the paper's notation."""
    with gzip.open(data / "zero_cost/nb201_zc_proxies.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9445
    for row in rows[::97]:
        net = tuple(int(number) for number in row["net"].strip("()").split(","))
        assert SPACE.format(architecture_of(net)) == row["net_str"]


@pytest.mark.parametrize("dataset", FILES)
def test_the_published_facts_hold(data, dataset):
    table = load_hw_nasbench(dataset)
    assert len(set(table.architectures)) == SPACE.size == 15_625
    assert set(table.latency_ms) == set(DEVICES) and set(table.energy_mj) == {"edgegpu", "eyeriss", "fpga"}
    assert np.isnan(table.latency_ms["edgetpu"]).sum() == 4699
    others = [table.latency_ms[device] for device in DEVICES if device != "edgetpu"] + list(table.energy_mj.values())
    assert all((values > 0).all() for values in others)
    rows = table.aligned(table.architectures[5:8])
    assert rows.tolist() == [5, 6, 7]


def test_a_device_finds_them_by_name(data):
    device = get_device(DeviceConfig(name="table", file="hw_nasbench/cifar10/eyeriss"), published_device)
    table = load_hw_nasbench("cifar10")
    arch = table.architectures[77]
    assert device.why_unavailable() is None and device.meter.why_unavailable() is None
    assert device.latency_ms(SPACE, arch) == table.latency_ms["eyeriss"][77]
    candidate = device.candidate(
        SPACE, arch, get_space("nasbench201", channels=2, cells=1).build(arch, Task((3, 8, 8), 2)), Task((3, 8, 8), 2)
    )
    assert device.energy(candidate, Task((3, 8, 8), 2)).energy_mj == table.energy_mj["eyeriss"][77]
    tpu = get_device(DeviceConfig(name="table", file="hw_nasbench/cifar10/edgetpu"), published_device)
    missing = table.architectures[int(np.isnan(table.latency_ms["edgetpu"]).argmax())]
    assert tpu.meter.why_unavailable() is not None
    with pytest.raises(NotInTable):
        tpu.latency_ms(SPACE, missing)
    help_table = get_device(DeviceConfig(name="table", file="latency_nasbench201/pixel3"), published_device)
    assert help_table.latency_ms(SPACE, latency_cells()[9]) == device_latencies("pixel3")[9]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hw_nasbench/cifar10/edgegpuu", "Did you mean 'edgegpu'"),
        ("hw_nasbench/cifar1/edgegpu", "Did you mean 'cifar10'"),
        ("latency_nasbench201/pixel33", "Did you mean 'pixel3'"),
    ],
)
def test_names_that_do_not_exist(name, words):
    with pytest.raises(UserError, match=words):
        published_device(name)
    assert published_device("latencies.csv") is None


def test_energies_of_a_file(tmp_path):
    cells = [SPACE.format(arch) for arch in (SPACE.architecture([1] * 6), SPACE.architecture([2] * 6))]
    file = tmp_path / "own.csv"
    file.write_text(f"architecture,latency_ms,energy_mj\n{cells[0]},2.0,8.0\n{cells[1]},3.0,\n")
    device = get_device(DeviceConfig(name="table", file=str(file)), published_device)
    task = Task((3, 8, 8), 2)
    small = get_space("nasbench201", channels=2, cells=1)

    def energy(pick):
        arch = SPACE.architecture([pick] * 6)
        return device.energy(device.candidate(SPACE, arch, small.build(arch, task), task), task)

    assert (energy(1).energy_mj, energy(1).power_w) == (8.0, 4.0)
    with pytest.raises(UserError, match="no energy of this network"):
        energy(2)
    other = SPACE.architecture([3] * 6)
    for needed in ("energy_mj", "latency_ms"):
        costs = CandidateCosts(device, frozenset({needed}))
        assert costs(SPACE, SPACE.architecture([1] * 6), small.build(other, task), task)[needed] in (8.0, 2.0)
        with pytest.raises(InfeasibleError, match="costs are not known: .*own.csv has no latency of"):
            costs(SPACE, other, small.build(other, task), task)
    file.write_text(f"architecture,latency_ms,energy_mj\n{cells[0]},2.0,-8\n")
    assert "line 2: energy_mj is '-8'; write a positive number of millijoules" in device.why_unavailable()


def test_a_search_of_a_table_looks_costs_on_a_published_device_up(data, nasbench, tmp_path):
    def search(name, **changes):
        experiment = {
            "space": "nasbench201",
            "controller": {"name": "ehvi", "initial": 3},
            "evaluator": {"name": "tabular", "table": "nasbench201"},
            "device": {"name": "table", "file": f"hw_nasbench/cifar10/{name}"},
            "objectives": {"test_acc_pct": "max", "latency_ms": "min", "energy_mj": "min"},
            "search": {"candidates": 6},
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(experiment | changes))
        code, _, err = nasbench("search", file.name, "--run", name)
        rows = []
        if code == 0:
            with (tmp_path / name / "trials.csv").open() as trials:
                rows = list(csv.DictReader(trials))
        return rows, err

    costs = load_hw_nasbench("cifar10")
    rows, err = search("eyeriss")
    assert [row["status"] for row in rows] == ["done"] * 6, err
    for row in rows:
        (place,) = costs.aligned((SPACE.parse(row["architecture"]),))
        assert float(row["latency_ms"]) == costs.latency_ms["eyeriss"][place]
        assert float(row["energy_mj"]) == costs.energy_mj["eyeriss"][place]
        assert float(row["throughput_per_s"]) == pytest.approx(1000 / costs.latency_ms["eyeriss"][place])
    # The Edge TPU has no energies, and could not run some of the cells.
    assert "unknown metric 'energy_mj'" in search("edgetpu")[1]
    missing = costs.architectures[int(np.isnan(costs.latency_ms["edgetpu"]).argmax())]
    rows, err = search(
        "edgetpu", objectives={"test_acc_pct": "max", "latency_ms": "min"}, start_with=[SPACE.format(missing)]
    )
    assert rows[0]["status"] == "infeasible" and "costs are not known" in rows[0]["error"], err
    assert "unknown metric" in search("cpu", device={"name": "cpu"})[1], "nothing is known of a device that measures"


@pytest.mark.parametrize("name", ["hw_nasbench", "zero_cost"])
def test_they_are_fetched_and_verified(data, name, tmp_path, monkeypatch):
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = get_source(name)
    written = fetch(source, mirror=data / name)
    assert len(written) == len(source.files) and set(verify(source).values()) == {""}
    for file in written:
        assert gzip.decompress(file.read_bytes()) == gzip.decompress((data / name / file.name).read_bytes())
    written[0].write_bytes(gzip.compress(b"net\n"))
    assert "does not hold the published numbers" in verify(source)[written[0]]
    written[0].write_bytes(io.BytesIO(b"nothing").getvalue())
    assert "cannot be read" in verify(source)[written[0]]


def test_the_published_proxies(data):
    proxies = load_published_proxies("cifar10")
    assert len(proxies.architectures) == 9445 and len(proxies.scores) == 13
    assert {"macs", "naswot"} <= set(proxies.scores) and "flops" not in proxies.scores
    with pytest.raises(UserError, match="cifar10"):
        load_published_proxies("cifar100")
