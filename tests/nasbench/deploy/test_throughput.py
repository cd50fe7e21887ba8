"""Throughput curves: batches, threads, streams of requests, and the pick below a limit."""

import json

import pytest

from nasbench.cli.benchmark import _worth
from nasbench.deploy.streams import measure_streams
from nasbench.models.build import SpaceBuild
from nasbench_compression.compilation.child import ChildError


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A small network of `mobile`, untrained, as a search would store it."""
    import numpy as np

    from nasbench.data import load_data
    from nasbench.models import Origin, save_model
    from search_spaces import get_space
    from search_spaces.fresh_model import fresh_model

    options = {"widths": [8, 16], "layers": 1}
    space, task = get_space("mobile", **options), load_data("digits").task
    arch = space.sample(np.random.default_rng(0))
    folder = tmp_path_factory.mktemp("stored") / "model"
    model = fresh_model(space, arch, task, 0)
    origin = Origin(data={"name": "digits"}, training={})
    save_model(folder, model, build=SpaceBuild("mobile", options, arch), task=task, origin=origin)
    return folder


def test_an_entry_for_each_batch_and_number_of_threads(nasbench, stored, tmp_path):
    words = ("--batch", "1,4", "--threads", "1,2", "--seconds", "0.02", "--backend", "onnxruntime")
    more = ("--max-latency-ms", "10000", "--dollars-per-hour", "0.5", "--html", "page.html", "--json")
    code, out, _ = nasbench("benchmark", stored, *words, *more)
    entries = json.loads(out)
    assert code == 0
    assert [(entry["threads"], entry["batch"]) for entry in entries] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    for entry in entries:
        assert entry["protocol"]["batch"] == entry["batch"] and entry["protocol"]["threads"] == entry["threads"]
        assert entry["throughput_per_s"] == pytest.approx(1000 * entry["batch"] / entry["latency_ms"]["median"])
        assert entry["images_per_dollar"] == pytest.approx(3600 / 0.5 * entry["throughput_per_s"])
    best = max(entries, key=lambda entry: entry["throughput_per_s"])
    assert [entry for entry in entries if entry["picked"]] == [best]
    page = (tmp_path / "page.html").read_text()
    assert "images a second" in page and "picked" in page and "images/$" in page


def test_nothing_is_picked_where_nothing_is_fast_enough(nasbench, stored):
    words = ("--seconds", "0.02", "--backend", "onnxruntime", "--max-latency-ms", "0.000001")
    code, out, _ = nasbench("benchmark", stored, *words)
    assert code == 0 and "nothing has a p95 of 1e-06 ms" in out


def test_images_for_a_joule_are_those_of_a_batch():
    entry = {"batch": 8, "throughput_per_s": 10.0, "energy": {"energy_mj": 4.0}}
    assert _worth(entry, None) == {"images_per_joule": 2000.0}
    assert _worth({"batch": 8, "throughput_per_s": 10.0}, None) == {}


def test_a_price_that_is_none_is_refused(nasbench, stored):
    code, _, err = nasbench("benchmark", stored, "--dollars-per-hour", "0")
    assert code == 2 and "--dollars-per-hour is 0" in err


def test_streams_ask_at_the_same_time(nasbench, stored):
    words = ("--streams", "1,2", "--seconds", "0.3", "--backend", "onnxruntime", "--json")
    code, out, _ = nasbench("benchmark", stored, *words)
    entries = json.loads(out)
    assert code == 0 and [entry["streams"] for entry in entries] == [1, 2]
    for entry in entries:
        assert entry["protocol"]["repeats"] > 10 and entry["latency_ms"]["p95"] >= entry["latency_ms"]["median"] > 0
        assert entry["throughput_per_s"] == pytest.approx(entry["protocol"]["repeats"] / 0.3)


def test_a_compiled_artefact_has_streams_too(nasbench, stored, tmp_path):
    assert nasbench("export", stored, "--backend", "onnxruntime", "--out", tmp_path / "artefact")[0] == 0
    measurement = measure_streams(tmp_path / "artefact", None, 2, batch=2, seconds=0.2)
    assert measurement.streams == 2 and measurement.requests > 10
    assert measurement.throughput_per_s == pytest.approx(2 * measurement.requests / 0.2)


def test_a_stream_that_cannot_begin_says_why(tmp_path):
    with pytest.raises(ChildError, match="model folder"):
        measure_streams(tmp_path / "nowhere", None, 2, batch=1, seconds=0.1)


@pytest.mark.parametrize(("option", "value"), [("--batch", "0"), ("--threads", "1,x"), ("--streams", "-1")])
def test_numbers_are_checked(nasbench, stored, option, value):
    code, _, err = nasbench("benchmark", stored, option, value)
    assert code == 2 and option in err and repr(value) in err
