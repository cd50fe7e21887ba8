"""The search for the fastest setting: what it proposes, what it refuses, and that kill -9 loses nothing."""

import json
import signal
import time

import numpy as np
import pytest
from stored_digits import store_trained, write_backends
from tests_support import nasbench_process, wait_until

from nasbench.deploy.playoff import playoff
from nasbench.deploy.process import ChildError
from nasbench.deploy.proposals import Proposals
from nasbench.deploy.race import Race
from nasbench.deploy.setting import Setting, settings
from nasbench.deploy.tune import Tune
from nasbench.deploy.tuning import Tuning
from nasbench.devices.measure import Latency
from nasbench.models import load_compiled, load_model
from nasbench_compression import BACKENDS
from nasbench_compression.timing import Ratio

OFFERED = settings("onnxruntime", ("fp32", "int8"), (1, 2)) + settings("eager", ("fp32", "int8"), (1, 2))
DEFAULTS = [Setting.of("onnxruntime", "fp32"), Setting.of("eager", "fp32")]
KEPT = {"runs": 0.0, "accuracy": -1.0}


def tell(proposals, proposal, violations=KEPT):
    trial, setting = proposal
    # Int8 with two threads is the fastest; eager is slower by far.
    value = 3.0 * (setting.backend == "eager") - (setting.precision == "int8") - (setting.threads == 2)
    proposals.tell(trial, {"setting": setting.to_json()}, value, violations)
    return setting


def test_defaults_come_first_and_none_comes_twice_even_if_resumed(tmp_path):
    tried = []
    for part in (5, 5, len(OFFERED)):  # a new object each time, as after a kill
        proposals = Proposals(tmp_path / "journal", OFFERED, DEFAULTS, seed=0)
        assert [record["setting"] for record in proposals.records] == [setting.to_json() for setting in tried]
        for _ in range(part):
            proposal = proposals.ask()
            if proposal is None:
                break
            tried.append(tell(proposals, proposal))
        else:
            proposals.ask()  # it is killed in this trial, which is asked for again
    assert tried[:2] == DEFAULTS
    assert len(tried) == len(set(tried)) == len(OFFERED) == 20
    assert proposals.ask() is None


def test_what_there_is_no_time_for_is_not_proposed(tmp_path):
    proposals = Proposals(tmp_path / "journal", OFFERED, DEFAULTS, seed=0)
    proposal = proposals.ask(lambda setting: setting.backend == "eager")
    assert proposal is not None and tell(proposals, proposal) == DEFAULTS[1]
    assert proposals.ask(lambda setting: False) is None
    proposals.give_up(proposals.ask()[0])
    assert proposals.ask()[1] == DEFAULTS[0], "one that was given up is asked for again"


def test_the_estimator_learns_what_fails(tmp_path):
    """Of ten proposals after the first twelve, by chance five would be of eager, which always fails here.

    Under 20 seeds there were 0 or 1, where a draw by chance among what is left had made them 3 to 7.
    """
    offered = settings("onnxruntime", ("fp32", "int8"), (1, 2, 3, 4)) + settings(
        "eager", ("fp32", "int8"), (1, 2, 3, 4, 5, 6)
    )
    proposals = Proposals(tmp_path / "journal", offered, DEFAULTS, seed=0)
    tried = []
    for _ in range(22):
        proposal = proposals.ask()
        failed = {"runs": 1.0, "accuracy": 0.0}
        tried.append(tell(proposals, proposal, failed if proposal[1].backend == "eager" else KEPT))
    assert sum(setting.backend == "eager" for setting in tried[12:]) <= 3, [setting.label() for setting in tried]


def raced(ratios):
    latency = Latency(1.0, 1.2, 0.1, 0.9, 1.1, 30, 10, 1, 1, "r", "fp32", "d", False)
    names = ["eager", *ratios]
    speed = {"eager": 1.0, **ratios}
    return Race(
        dict.fromkeys(names, latency),
        {(a, b): Ratio(speed[a] / speed[b], 0.0, 9.0) for a in names for b in names if a != b},
    )


def test_a_playoff_leaves_out_what_does_not_run(monkeypatch):
    speeds = {"a": 0.5, "b": 0.2, "c": 0.3}

    def race_in_child(entrants, **_):
        if "b" in entrants:
            raise ChildError("its process died of SIGSEGV")
        return raced({name: speeds[name] for name in entrants if name != "eager"})

    monkeypatch.setattr("nasbench.deploy.playoff.race_in_child", race_in_child)
    result = playoff({}, {"a": {}, "b": {}, "c": {}}, seconds=0.1, timeout_s=1)
    assert result["order"] == ["c", "a"] and result["left_out"] == {"b": "its process died of SIGSEGV"}
    assert result["race"]["c"]["of_eager"]["ratio"] == 0.3 and result["race"]["c"]["of"] == {}
    json.dumps(result)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return store_trained(tmp_path_factory.mktemp("model"))


def test_what_cannot_be_asked_for(nasbench, folder, tmp_path):
    write_backends(tmp_path)
    common = ["tune", folder, "--out", "t", "--max-minutes", "1"]
    for words, message in (
        (["--goal", "speed"], "unknown goal 'speed'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--backend", "onnx"], "unknown backend 'onnx'"),
        (["--backend", "mine:Missing"], "no backend can be tried here"),
    ):
        code, out, err = nasbench(*common, *words)
        assert code == 2 and message in err and out == "", err
    assert not (tmp_path / "t/study.journal").exists()


def test_one_process_at_a_time(nasbench, folder, tmp_path):
    words = ["tune", folder, "--out", tmp_path / "t", "--max-minutes", "0.1", "--backend", "eager"]
    with Tune(Tuning(model=folder, backends=("eager",)), tmp_path / "t"):
        code, _, err = nasbench(*words)
        assert code == 2 and "another process searches in" in err
    code, out, _ = nasbench(*words)
    assert code == 1 and "There was no time for a trial" in out


def test_what_a_search_chooses_from(folder, tmp_path):
    with Tune(
        Tuning(model=folder, backends=("onnxruntime", "eager"), max_threads=3, batch=4), tmp_path / "a"
    ) as search:
        offered = search.proposals.offered
        assert search.proposals.defaults == [Setting.of(name, "fp32", {}, 4) for name in ("onnxruntime", "eager")]
        assert {setting.batch for setting in offered} == {4}
        assert {setting.threads for setting in offered} == {1, 2, 3}
    tuning = Tuning(model=folder, backends=("eager",), goal="throughput", batch=4)
    with Tune(tuning, tmp_path / "b") as search:
        assert {setting.batch for setting in search.proposals.offered} == {1, 4, 8, 32, 128}
        assert search.proposals.defaults == [Setting.of("eager", "fp32", {}, 4)]


@pytest.mark.parametrize("order", [1, -1])
def test_a_short_time_is_spent_on_what_is_cheap_and_promising(folder, tmp_path, order):
    """Trials are simulated: seconds, and time as a share of eager's, by backend."""
    simulated = {"aot_inductor": (70, 0.7), "torch_compile": (60, 0.7), "onnxruntime": (6, 0.2), "openvino": (7, 0.15)}
    simulated |= {"eager": (5, 1.0), "executorch": (30, 0.2), "tvm": (20, 4.0)}
    here = [name for name in simulated if BACKENDS[name].why_unavailable() is None]
    tuning = Tuning(model=folder, backends=tuple(here[::order]))
    with Tune(tuning, tmp_path / "t") as search:
        left, trials = 90.0, []
        while (proposal := search.ask(left)) is not None:
            trial, setting = proposal
            seconds, share = simulated[setting.backend]
            share *= 0.6 if setting.precision == "int8" else 1.0
            left -= seconds
            trials.append(setting)
            record = {"setting": setting.to_json(), "seconds": seconds, "conversion_s": 1, "ratio": {"ratio": share}}
            search.proposals.tell(trial, record, np.log(share), KEPT)
            if left < 0:
                break
        options = [setting.options for setting in trials]
        first_tuned = next((number for number, option in enumerate(options) if option), len(options))
        early = trials[:first_tuned]
        cheap = [Setting.of(name, precision) for name in ("onnxruntime", "openvino") for precision in ("fp32", "int8")]
        assert {setting for setting in cheap if setting.backend in here} <= set(early[:6])
        assert len(trials) >= 8
        assert not {"aot_inductor", "torch_compile"} & {setting.backend for setting in early[:6]}


def test_the_defaults_of_all_backends_come_before_any_tuning(folder, tmp_path):
    names = ("aot_inductor", "eager", "onnxruntime", "openvino")
    here = tuple(name for name in names if BACKENDS[name].why_unavailable() is None)
    with Tune(Tuning(model=folder, backends=here), tmp_path / "t") as search:
        trials = []
        while (proposal := search.ask(1e6)) is not None and not proposal[1].options:
            trials.append(proposal[1])
            record = {"setting": proposal[1].to_json(), "seconds": 1, "conversion_s": 1, "ratio": None}
            search.proposals.tell(proposal[0], record, 0.0, KEPT)
        plain = {setting for setting in search.proposals.offered if not setting.options}
        assert set(trials) == plain and {setting.backend for setting in plain} == set(here)


@pytest.mark.slow
def test_kill_9_loses_nothing_and_the_winner_is_no_slower_than_the_best_default(nasbench, folder, tmp_path):
    write_backends(tmp_path)
    runtimes = [word for name in ("Good", "Wrong", "Crashes", "Missing") for word in ("--backend", f"mine:{name}")]
    words = ["tune", folder, "--out", tmp_path / "t", "--seconds", "0.05", "--images", "200", *runtimes]
    process = nasbench_process(*map(str, words), "--max-minutes", "30", log=tmp_path / "log.txt")
    journal = tmp_path / "t/tune.json"
    wait_until(journal.exists, process, tmp_path / "log.txt")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = json.loads(journal.read_text())["trials"]
    assert before and not json.loads(journal.read_text())["done"]

    code, out, err = nasbench(*words, "--max-minutes", "30", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["done"] and result["trials"][: len(before)] == before
    by_backend = {trial["setting"]["backend"]: trial for trial in result["trials"]}
    assert set(by_backend) == {"mine:Good", "mine:Wrong", "mine:Crashes"} and len(result["trials"]) == 3
    assert "no_such_package" in result["not_installed"]["mine:Missing"]
    assert by_backend["mine:Crashes"]["reason"].startswith("its process died of SIGSEGV")
    assert "does not compute what the network computes" in by_backend["mine:Wrong"]["reason"]
    assert by_backend["mine:Wrong"]["ratio"] is None, "what is wrong is not timed"
    winner, default = result["winner"], result["best_default"]
    assert winner["setting"]["backend"] == "mine:Good" and result["runner_up"] is None
    assert winner["of_eager"]["ratio"] <= default["of_eager"]["ratio"]
    assert winner["of_eager"]["low"] <= winner["of_eager"]["ratio"] <= winner["of_eager"]["high"]

    best, images = load_compiled(tmp_path / "t/best"), np.zeros((3, 1, 8, 8), np.float32)
    assert best(images).shape == (3, 10) and load_model(folder).task.classes == 10

    started = time.monotonic()
    code, out, err = nasbench(*words, "--max-minutes", "20", "--json")
    assert code == 0 and json.loads(out) == result and "was finished before" in err
    assert time.monotonic() - started < 10
    code, _, err = nasbench(*words, "--max-minutes", "20", "--max-acc-drop-pct", "2")
    assert code == 2 and "max_acc_drop_pct was 1.0 and is 2.0" in err
