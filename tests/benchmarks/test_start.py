"""benchmarks.start: every command is timed in every round, beside optuna and Python alone; no speeds."""

import json

import nasbench as nb


def test_each_command_is_timed_in_each_round(benchmark, tmp_path):
    run = tmp_path / "run"
    nb.search(
        "nasbench201",
        evaluate=lambda candidate: {"convolutions": float(candidate.architecture.count("conv"))},
        objectives={"convolutions": "max"},
        candidates=2,
        folder=run,
        progress=False,
    )
    code, out, err = benchmark("start", "--run", run, "--rounds", "2", "--json")
    assert code == 0, err
    speeds = {speed["command"]: speed for speed in json.loads(out)}
    aims = {name: speed["aim_s"] for name, speed in speeds.items() if speed["aim_s"] is not None}
    assert aims == {
        "nasbench --help": 0.5,
        "nasbench list spaces": 0.7,
        "nasbench status RUN": 0.7,
        "import nasbench": 0.1,
    }
    assert {"optuna --help", "python -c pass"} == set(speeds) - set(aims)
    for speed in speeds.values():
        assert len(speed["processor_s"]) == len(speed["wall_s"]) == 2
        assert min(speed["processor_s"]) > 0


def test_a_command_that_fails_is_named(benchmark, tmp_path):
    code, _, err = benchmark("start", "--run", tmp_path / "none", "--rounds", "1")
    assert code == 2 and "nasbench status RUN ended with exit code 2" in err
