"""A joint search: the artefact is the reward, stages end candidates early, and nothing is trained twice."""

import json
from dataclasses import replace

import numpy as np
import pytest
from bounds import check_above
from judging import judge
from tests_support import begin

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.compressed.latency import LEAST, predict_artefact
from nasbench.evaluators.errors import InfeasibleError
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.trial import Trial
from nasbench.experiment.build import prepare
from nasbench.experiment.run import run_search
from nasbench.models import load_compiled
from nasbench.report import build_report
from nasbench_registry import UserError
from search_spaces.fresh_model import fresh_model

RECIPE = [
    {"prune": {"ratio": {"choice": [0, 0.5]}, "epochs": 1}},
    {"quantize": {"precision": {"choice": ["fp32", "int8"]}}},
    {"compile": {"backend": "onnxruntime"}},
]
DEVICE = {"runtime": "onnxruntime", "latency": "measured"}
OBJECTIVES = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}]


@pytest.fixture
def joint_experiment(small):
    def make(**changes):
        whole = {
            "space": {"name": "mobile", "widths": [16, 48], "layers": 1},
            "recipe": RECIPE,
            "device": DEVICE,
            "objectives": OBJECTIVES,
            "reward": {"name": "pareto"},
            "controller": {"name": "nsga2", "population": 4},
            "tensorboard": False,
        }
        return small(**(whole | changes))

    return make


@pytest.fixture
def joint(joint_experiment, tmp_path):
    """An evaluator in a run folder, and trials of one network with each recipe."""

    def make(**changes):
        run = begin(tmp_path / "run", joint_experiment(**changes))
        space = run.prepared.space
        # Of a smaller one, the graph in int8 takes more bytes than the weights.
        network = space.network.parse("convolution_k5_w1.0/convolution_k5_w1.0")
        seed = run.study.seed_of
        trials = {}
        for number, picks in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            arch = space.join([network, space.recipes.architecture(picks)])
            trials[picks] = Trial(number, arch, None, seed(arch))
        return run.evaluator, trials, run.folder, space

    return make


def metrics_of(evaluator, trial):
    return evaluator(Candidate(trial, evaluator.space, evaluator.task, lambda epoch, metrics: True))


def epochs_trained(folder) -> int:
    return len((folder.path / "checkpoints" / "epochs.log").read_text().splitlines())


def test_ten_recipes_do_not_train_ten_times(joint):
    evaluator, trials, folder, _ = joint()
    assert len({trial.seed for trial in trials.values()}) == 1, "the recipe does not change the weights"
    by_recipe = {picks: metrics_of(evaluator, trial) for picks, trial in trials.items()}
    assert epochs_trained(folder) == 1
    assert [bool(metrics.get("cached")) for metrics in by_recipe.values()] == [False, True, True, True]
    assert len({metrics["trained_val_acc_pct"] for metrics in by_recipe.values()}) == 1
    assert by_recipe[1, 0]["macs"] < by_recipe[0, 0]["macs"] and by_recipe[1, 0]["params"] < by_recipe[0, 0]["params"]
    assert by_recipe[0, 1]["size_bytes"] < by_recipe[0, 0]["size_bytes"]


def test_metrics_are_those_of_the_artefact_that_is_kept(joint):
    evaluator, trials, folder, _ = joint()
    for picks, trial in trials.items():
        metrics = metrics_of(evaluator, trial)
        kept = folder.path / "artefacts" / f"{trial.number:05d}"
        artefact = load_compiled(kept)
        assert artefact.bytes == metrics["size_bytes"]
        assert judge(artefact, evaluator.training.problem.data.val).accuracy_pct == metrics["val_acc_pct"]
        steps = [step["name"] for step in json.loads((kept / "model.json").read_text())["steps"]]
        assert steps == [name for name, pick in zip(("prune", "quantize"), picks, strict=True) if pick] + ["compile"]
        assert metrics["latency_ms"] > 0


def test_recipes_that_begin_alike_share_the_beginning(joint, monkeypatch):
    monkeypatch.setattr("nasbench.evaluators.compressed.compressed.WORTH_KEEPING_S", 0.0)
    evaluator, trials, folder, _ = joint()
    alone = metrics_of(evaluator, trials[1, 1])
    kept = sorted((folder.path / "shared" / "steps").iterdir())
    assert len(kept) == 2, "after pruning, and after pruning and quantizing"
    again = metrics_of(evaluator, replace(trials[1, 1], number=7))
    first = metrics_of(evaluator, trials[1, 0])
    assert sorted((folder.path / "shared" / "steps").iterdir()) == kept, "nothing was made a second time"
    same = ("val_acc_pct", "size_bytes", "macs", "params")
    assert [alone[name] for name in same] == [again[name] for name in same]
    assert first["macs"] == alone["macs"]


@pytest.mark.parametrize(
    ("limit", "ending"),
    [
        ({"val_acc_pct": 99.9}, "after training"),
        ({"size_bytes": 10}, "artefact"),
        ({"latency_ms": 1e-6}, "artefact"),
    ],
)
def test_a_limit_ends_a_candidate_at_the_first_stage_that_knows(joint, limit, ending):
    (name, value), *_ = limit.items()
    objectives = [objective | {"limit": limit.get(objective["metric"])} for objective in OBJECTIVES]
    if name == "size_bytes":
        objectives.append({"metric": name, "goal": "min", "limit": value})
    evaluator, trials, *_ = joint(objectives=objectives)
    outcome = evaluate(evaluator, trials[1, 1])
    assert outcome.status == "infeasible" and outcome.ending == ending and name in outcome.error
    assert ("size_bytes" in outcome.metrics) == (ending == "artefact"), "what was known is kept"
    known = outcome.metrics["trained_val_acc_pct" if name == "val_acc_pct" else name]
    assert outcome.violation == pytest.approx(abs(known - value) / value) and outcome.violation > 0


def test_a_bad_proxy_or_a_bad_start_ends_a_candidate(joint):
    evaluator, trials, _, space = joint(
        joint={"proxy": "naswot", "proxy_keep": 0.5, "short_epochs": 1, "short_keep": 0.5}, training={"epochs": 2}
    )
    trial = trials[0, 0]
    score = metrics_of(evaluator, trial)["proxy_score"]
    rng = np.random.default_rng(0)
    texts: dict[str, str] = {}  # recipes of different networks, none of them this one
    while len(texts) < 10:
        text = space.format(space.sample(rng))
        texts.setdefault(space.network.format(space.halves(space.parse(text))[0]), text)
        texts.pop(space.network.format(space.halves(trial.arch)[0]), None)
    others = list(texts.values())
    better = tuple((text, (("proxy_score", score + 1 + n),)) for n, text in enumerate(others))
    outcome = evaluate(evaluator, replace(trial, number=5, history=better))
    assert outcome.status == "infeasible" and "proxy_score" in outcome.error and outcome.training_seconds == 0
    assert outcome.ending == "zero-cost proxy"
    copies = tuple((others[0], (("proxy_score", score + 1 + n),)) for n in range(10))
    assert evaluate(evaluator, replace(trial, number=5, history=copies)).status == "done", "they are one network"
    trained = (space.format(trials[0, 1].arch), (("trained_val_acc_pct", 90.0),))
    outcome = evaluate(evaluator, replace(trial, number=5, history=(*better, trained)))
    assert outcome.status == "done", "the proxy is not asked about a network that is trained already"
    worse = tuple(
        (text, (("proxy_score", score - 1 - n), ("short_val_acc_pct", 101.0))) for n, text in enumerate(others)
    )
    outcome = evaluate(evaluator, replace(trial, number=6, seed=1, history=worse))
    assert outcome.status == "infeasible" and "short_val_acc_pct" in outcome.error
    assert outcome.ending == "short training"
    assert "trained_val_acc_pct" not in outcome.metrics, "it was not trained to the end"


def test_a_recipe_that_does_not_fit_is_no_failure(joint_experiment, tmp_path):
    recipe = [{"prune": {"max_macs": {"choice": [1, 10**12]}}}, {"compile": {"backend": "onnxruntime"}}]
    run = begin(tmp_path / "run", joint_experiment(recipe=recipe))
    space = run.prepared.space
    arch = space.join([space.network.sample(np.random.default_rng(0)), space.recipes.architecture((0,))])
    outcome = evaluate(run.evaluator, Trial(3, arch, None, 0))
    assert outcome.status == "infeasible" and "does not fit: pruned" in outcome.error
    assert outcome.ending == "recipe"


def test_artefacts_that_are_too_slow_beyond_doubt_are_not_trained(joint):
    objectives = [OBJECTIVES[0], OBJECTIVES[1] | {"limit": 0.05}]
    evaluator, _, folder, space = joint(objectives=objectives)
    rng = np.random.default_rng(1)
    drawn = [space.sample(rng) for _ in range(LEAST + 20)]
    known = []
    for arch in drawn:  # latency that the choices explain, in milliseconds
        params = sum(parameter.numel() for parameter in fresh_model(space, arch, evaluator.task, 0).parameters())
        known.append(params / 1e4 * (0.4 if "int8" in space.format(arch) else 1.0))
    earlier = tuple(
        (space.format(a), (("latency_ms", ms),)) for a, ms in zip(drawn[LEAST:], known[LEAST:], strict=True)
    )
    few = predict_artefact(space, drawn[0], evaluator.task, earlier[: LEAST - 1])
    assert few is None, "too few were measured"
    guesses = [predict_artefact(space, arch, evaluator.task, earlier) for arch in drawn[:LEAST]]
    correlation = np.corrcoef([np.log(mean) for mean, _ in guesses], np.log(known[:LEAST]))[0, 1]
    check_above("correlation", correlation, mean=0.8495, sd=0.099, least=0)
    slow = tuple((text, (("latency_ms", 1000 * dict(metrics)["latency_ms"]),)) for text, metrics in earlier)
    outcome = evaluate(evaluator, Trial(0, drawn[0], None, 0, history=slow))
    assert outcome.status == "infeasible" and "predicted beyond doubt" in outcome.error
    assert outcome.ending == "predicted latency"
    assert not (folder.path / "checkpoints").exists()


def test_a_whole_joint_search(joint_experiment, tmp_path):
    experiment = joint_experiment(search={"candidates": 8}, survivors=2, baseline="random")
    run = begin(tmp_path / "run", experiment)
    folder = run.folder
    with folder.locked():
        report = run_search(run.prepared, folder)
    assert report["status"] == "complete"
    done = [candidate for candidate in report["candidates"] if candidate["status"] == "done"]
    assert len(done) == 8 and all("quantize.precision=" in candidate["architecture"] for candidate in done)
    assert report["baseline"]["controller"] == "random" and "random search" in report["baseline"]["statement"]
    assert len(report["hypervolume"]["values"]) == 8
    assert report["hypervolume"]["values"] == sorted(report["hypervolume"]["values"])
    for survivor in report["survivors"]:
        named = [next(iter(step)) for step in survivor["recipe"]]
        assert len(survivor["stages"]) == 1 + len(named) and named[-1] == "compile"
        last = survivor["stages"][-1]["metrics"]
        searched = next(candidate for candidate in done if candidate["id"] == survivor["candidate"])["metrics"]
        assert last["val_acc_pct"] == searched["val_acc_pct"], "the artefact of the search, made again"
        assert last["size_bytes"] == searched["size_bytes"]
    assert {candidate["id"] for candidate in done if candidate["measured_latency_ms"]} >= set(report["front"])
    # Everything is there: going on does nothing again.
    before = epochs_trained(folder)
    with folder.locked():
        again = run_search(prepare(experiment), folder)
    assert epochs_trained(folder) == before and again["front"] == report["front"]
    assert build_report(folder)["survivors"] != []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"controller": {"name": "hyperband"}, "reward": {"name": "scalar"}}, ["hyperband", "joint.short_epochs"]),
        ({"objectives": [*OBJECTIVES, {"metric": "peak_memory_bytes", "goal": "min"}]}, ["peak_memory_bytes"]),
        (
            {"recipe": [{"compile": {"backend": "onnxruntime"}}], "controller": {"name": "sequential"}},
            ["sequential", "choice"],
        ),
        ({"recipe": [{"prune": {"raito": {"choice": [0.1, 0.2]}}}]}, ["raito", "'ratio'"]),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(joint_experiment, changes, words):
    with pytest.raises(UserError) as caught:
        prepare(joint_experiment(**changes))
    assert all(word in str(caught.value) for word in words)


def test_infeasible_tells_what_was_known():
    error = InfeasibleError("why", {"macs": 1.0}, "recipe", 0.5)
    assert (error.metrics, error.ending, error.violation) == ({"macs": 1.0}, "recipe", 0.5)
