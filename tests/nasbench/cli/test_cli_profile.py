"""profile: what a space costs and what share of it meets the limits."""

import json

import pytest
import yaml
from scipy.stats import binomtest
from tests_support import experiment_of

from nasbench.cli.profile import sparkline
from nasbench.costs.cost import cost
from nasbench.costs.memory import peak_activation_bytes
from nasbench.objectives.statistics import share_interval
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

TASK = Task((1, 8, 8), 10)


def limited(**limits):
    accuracy = {"metric": "val_acc_pct", "goal": "max", "limit": 90}
    return [accuracy, *({"metric": name, "goal": "min", "limit": limit} for name, limit in limits.items())]


def test_a_small_space_is_gone_through_as_a_whole(nasbench, write):
    """Every number by going through the space itself: 2 kernels and 3 widths in one layer."""
    options = {"widths": [16], "layers": 1, "blocks": ["convolution"]}
    space = get_space("mobile", **options)
    archs = [space.architecture([0, kernel, width]) for kernel in range(2) for width in range(3)]
    models = [fresh_model(space, arch, TASK, 0) for arch in archs]
    counted = [cost(model, TASK) for model in models]
    macs = sorted(counts.macs for counts in counted)
    limits = {"macs": macs[2], "params": sorted(counts.params for counts in counted)[1]}
    path = write(space={"name": "mobile", **options}, objectives=limited(**limits))
    code, out, err = nasbench("profile", path, "--json", "--samples", "50")
    assert code == 0, err
    profile = json.loads(out)
    assert (profile["architectures"], profile["exhaustive"], profile["asked"]) == (6, True, 50)
    rows = {row["metric"]: row for row in profile["costs"]}
    assert list(rows) == ["macs", "params", "size_bytes", "peak_memory_bytes", "bytes_moved", "flops_per_byte"]
    row = rows["macs"]
    assert (row["quantiles"]["min"], row["quantiles"]["max"]) == (macs[0], macs[-1])
    assert row["quantiles"]["median"] == (macs[2] + macs[3]) / 2
    assert cost(fresh_model(space, space.parse(row["at_min"]), TASK, 0), TASK).macs == macs[0]
    assert cost(fresh_model(space, space.parse(row["at_max"]), TASK, 0), TASK).macs == macs[-1]
    assert sum(row["histogram"]) == 6
    assert (row["limit"], row["share_within"]) == (macs[2], 0.5)
    assert rows["size_bytes"]["share_within"] is None
    peaks = [peak_activation_bytes(model, TASK) for model in models]
    assert rows["peak_memory_bytes"]["quantiles"]["max"] == max(peaks)
    intensities = sorted(counts.flops / counts.bytes_moved for counts in counted)
    assert rows["flops_per_byte"]["quantiles"]["min"] == intensities[0]
    joint = sum(counts.macs <= limits["macs"] and counts.params <= limits["params"] for counts in counted)
    assert profile["feasible"]["architectures"] == joint
    assert profile["feasible"]["low"] == profile["feasible"]["high"] == profile["feasible"]["share"] == joint / 6
    assert profile["feasible"]["not_checked"] == ["val_acc_pct"]


def test_a_sample_has_an_interval_and_depends_on_the_seed_alone(nasbench, write):
    words = ["profile", write(objectives=limited(macs=60_000)), "--samples", "25", "--json"]
    first, again, another_seed = (json.loads(nasbench(*words, *more)[1]) for more in ([], [], ["--seed", "1"]))
    assert first["architectures"] == 25 and not first["exhaustive"] and first["latency"] is None
    share = first["feasible"]
    assert share["low"] < share["share"] < share["high"]
    assert share["share"] == share["architectures"] / 25
    assert again["costs"] == first["costs"] != another_seed["costs"]
    assert first["seconds"] / 25 < 1


def test_latency_is_predicted_and_its_error_told(nasbench, write):
    path = write(device={"samples": 12})
    code, out, err = nasbench("profile", path, "--samples", "12", "--latency", "--json")
    assert code == 0, err
    profile = json.loads(out)
    rows = {row["metric"]: row["quantiles"] for row in profile["costs"]}
    assert rows["latency_ms"]["max"] == pytest.approx(1000 / rows["throughput_per_s"]["min"])
    assert profile["latency"]["n"] == 12 and profile["latency"]["median_error_pct"] > 0
    assert profile["latency"]["protocol"]["order"] == "in rounds, the quietest twentieth"


def test_the_table(nasbench, write):
    objectives = limited(macs=60_000, latency_ms=50)
    path = write(objectives=objectives, device={"samples": 10}, reward={"name": "scalar"})
    code, out, err = nasbench("profile", path, "--samples", "10")
    assert code == 0, err
    table = " ".join(out.split())
    assert "10 distinct random networks of mobile" in table
    assert "<= 60.0 k" in table and "<= 50.0 ms" in table and "KiB" in table
    assert "meet every limit that is known before training, 95 % interval" in table
    assert "Known only after training: val_acc_pct" in table
    assert "latency_ms *" in table and "* predicted: median error" in table
    assert "cheapest" in table and "least" in table and "most" in table


def test_networks_that_cannot_be_built_are_told(nasbench, tmp_path):
    (tmp_path / "half_space.py").write_text(
        "from torch import nn\nfrom search_spaces import Decision, SearchSpace\n\n\n"
        "class Half(SearchSpace):\n    name = 'half'\n    decisions = (Decision('width', (1, 2, 3, 4)),)\n\n"
        "    def build(self, arch, task):\n        width = self.choices(arch)['width']\n"
        "        if width > WIDEST:\n            raise RuntimeError(f'width {width} is too wide')\n"
        "        return nn.Sequential(nn.Conv2d(1, width, 3), nn.Flatten(), nn.Linear(36 * width, task.classes))\n\n\n"
        "WIDEST = 2\n\n\nclass None_(Half):\n    def build(self, arch, task):\n        raise RuntimeError('never')\n"
    )
    for name in ("Half", "None_"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(experiment_of(space=f"half_space:{name}")))
    code, out, _ = nasbench("profile", "Half.yaml", "--json")
    profile = json.loads(out)
    assert (code, profile["architectures"], profile["exhaustive"]) == (0, 2, False)
    assert "width 3 is too wide" in profile["failed"]["width=3"]
    assert "2 could not be built" in " ".join(nasbench("profile", "Half.yaml")[1].split())
    code, out, err = nasbench("profile", "None_.yaml")
    assert (code, out) == (2, "")
    assert "none of 4 networks" in err and "never" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.yaml"], "there is no file missing.yaml"),
        (["small.yaml", "-o", "space.layer=1"], "Did you mean 'layers'?"),
        (["small.yaml", "-o", "device.runtime=onxruntime"], "Did you mean 'onnxruntime'?"),
        (["small.yaml", "--samples", "0"], "--samples"),
    ],
)
def test_mistakes(nasbench, write, words, message):
    write()
    code, out, err = nasbench("profile", *words)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize(("hits", "trials"), [(0, 20), (1, 20), (10, 20), (20, 20), (3, 1000)])
def test_the_interval_is_that_of_wilson(hits, trials):
    expected = binomtest(hits, trials).proportion_ci(0.95, "wilson")
    assert share_interval(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_an_interval_of_the_sparkline_is_blank_only_if_it_is_empty():
    assert sparkline([0, 1, 500, 1000]) == " ▁▄█"
