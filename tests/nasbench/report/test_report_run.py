"""The report of a search over architectures and recipes, from its record to its page."""

import json
from types import MappingProxyType

import numpy as np
import pytest
from report_samples import Page, plots
from scipy.stats import binom
from tests_support import begin, experiment_of

from nasbench.evaluators.outcomes import ENDINGS
from nasbench.evaluators.trial import Evaluated
from nasbench.experiment.build import prepare
from nasbench.experiment.loading import parse_experiment
from nasbench.objectives.objective import Objective
from nasbench.report import front_drawings, write_report
from nasbench.report.artefact_predictor import artefact_predictor
from nasbench.report.early import early_ends
from nasbench.report.importance import LEAST, importance
from nasbench.report.recipe_text import recipe_steps
from nasbench.search.record import RecordedCandidate
from search_spaces import get_space

RECIPE = [
    {"prune": {"ratio": {"choice": [0, 0.25, 0.5]}, "importance": {"choice": ["l2", "taylor"]}}},
    {"quantize": {"precision": {"choice": ["fp32", "int8"]}}},
    {"compile": {"backend": "onnxruntime"}},
]


def joint_experiment():
    return parse_experiment(
        experiment_of(
            recipe=RECIPE,
            controller={"name": "random"},
            objectives=[{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}],
            reward={"name": "pareto"},
            device={"name": "cpu", "runtime": "onnxruntime", "latency": "measured"},
            search={"candidates": 60},
        )
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose latency the pruning ratio decides, with made-up results of 60 candidates; and its report."""
    path = tmp_path_factory.mktemp("runs") / "joint"
    begun = begin(path, joint_experiment(), command="nasbench search joint.yaml --seed 0")
    folder, study, rng = begun.folder, begun.study, np.random.default_rng(0)
    for number in range(60):
        trial = study.next_trial()
        ratio = study.space.choices(trial.arch)["recipe.prune.ratio"]
        latency = (1 - ratio) * rng.uniform(0.95, 1.05)
        known = {"val_acc_pct": rng.uniform(80, 90), "latency_ms": latency, "latency_predicted_ms": 1.1 * latency}
        outcome = Evaluated("done", known, None, 2.0, training_seconds=1.0)
        if number % 6 == 5:
            ending = ENDINGS[number // 6 % len(ENDINGS)]
            outcome = Evaluated("infeasible", {"latency_predicted_ms": 3.0}, "over a limit", 0.5, ending=ending)
        study.finish(trial.number, outcome)
    return folder, write_report(folder)


def test_candidates_tell_their_network_and_their_recipe(run):
    folder, report = run
    assert json.loads(folder.report_json.read_text()) == json.loads(json.dumps(report))
    networks = prepare(joint_experiment()).network_space
    for candidate in report["candidates"]:
        assert candidate["architecture"].startswith(f"{candidate['network']} & ")
        assert networks.format(networks.parse(candidate["network"])) == candidate["network"]
        ratios = [step["prune"]["ratio"] for step in candidate["recipe"] if "prune" in step]
        assert ratios in ([], [0.25], [0.5]) and ("prune.ratio=0," in candidate["architecture"]) == (ratios == [])
        assert {"compile": {"backend": "onnxruntime"}} in candidate["recipe"]
    assert report["space"] == {"architectures": networks.size, "recipes": (2 * 2 + 1) * 2}
    assert "network" not in folder.trials.read_text().partition("\n")[0].split(",")


def test_what_decides_a_metric_is_found_and_chance_is_not(run):
    _, report = run
    shares, chance = report["importance"]["latency_ms"], report["importance_by_chance"]["latency_ms"]
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == set(chance) and "recipe.prune.importance" in shares  # it only matters with pruning
    noise = report["importance"]["val_acc_pct"]
    beyond = [name for name in noise if noise[name] > report["importance_by_chance"]["val_acc_pct"][name]]
    # Each is beyond the 95th percentile of 40 shuffles, with which it is exchangeable, in at most 3 of 41 cases.
    assert len(beyond) <= binom.isf(1e-5, len(noise), 3 / 41) < len(noise)


def test_what_decides_a_metric_comes_first():
    """Of 60 candidates so many may have the ratio of the fastest that it hardly sets them apart; not of 600."""
    space, rng = prepare(joint_experiment()).space, np.random.default_rng(0)
    candidates = []
    for number in range(600):
        arch = space.sample(rng)
        choices = dict(space.choices(arch))
        latency = (1 - choices["recipe.prune.ratio"]) * rng.uniform(0.95, 1.05)
        candidates.append(
            RecordedCandidate(number, arch, None, choices=choices, status="done", metrics={"latency_ms": latency})
        )
    options = {decision.name: len(decision.options) for decision in space.decisions}
    importances, chance = importance(candidates, options, [Objective(metric="latency_ms", goal="min")])
    shares, by_chance = importances["latency_ms"], chance["latency_ms"]
    assert next(iter(shares)) == "recipe.prune.ratio"
    assert shares["recipe.prune.ratio"] > 4 * by_chance["recipe.prune.ratio"]


def test_predictions_of_artefacts_are_compared_with_what_was_measured(run):
    _, report = run
    predictor = report["predictor"]
    assert (
        predictor["n"]
        == len(predictor["measured_ms"])
        == sum(candidate["status"] == "done" for candidate in report["candidates"])
    )
    assert predictor["spearman"] == pytest.approx(1) and predictor["median_error_pct"] == pytest.approx(10)
    assert predictor["chosen"] == predictor["unsure"] == [] and predictor["coverage_pct"] is None


def test_early_ends_are_counted_by_stage(run):
    _, report = run
    rows = report["early_ends"]
    assert [row["stage"] for row in rows] == list(ENDINGS)
    assert sum(row["count"] for row in rows) == 10 and rows[0]["candidates"] == [5, 53] and rows[0]["seconds"] == 1.0
    assert report["candidates"][5]["ending"] == ENDINGS[0] and report["candidates"][6]["ending"] is None


def test_the_front_is_drawn_once_a_network(run):
    folder, report = run
    assert sorted(number for row in report["drawings"] for number in row["candidates"]) == report["front"]
    files = sorted(file.name for file in (folder.path / "drawings").iterdir())
    assert files == sorted(row["drawing"].removeprefix("drawings/") for row in report["drawings"])
    networks = [report["candidates"][number]["network"] for number in report["front"]]
    assert len(files) == len(set(networks))


def test_the_page_shows_all_of_it(run):
    folder, report = run
    page = Page(folder.report_html.read_text(encoding="utf-8"))
    assert {"front", "hypervolume", "importance-latency_ms", "importance-val_acc_pct", "predictor"} <= set(plots(page))
    assert "prune: ratio 0 | 0.25 | 0.5, importance l2 | taylor" in page.text
    assert "x 10 recipes" in page.text and "Spearman rank correlation 1.000, median error 10.0 %" in page.text
    assert "Infeasible candidates, by stage" in page.text and "zero-cost proxy" in page.text
    buttons = [tag for tag, _ in page.tags].count("button")
    assert buttons == len(report["front"])
    assert "nasbench search joint.yaml --seed 0" in page.text and "again.yaml" in page.text
    assert folder.report_html.stat().st_size < 2e6  # most of it is plotly.js


def test_a_diagram_that_fails_costs_one_drawing(run, monkeypatch, tmp_path):
    folder, report = run
    study = begin(folder.path, joint_experiment()).study
    space, experiment = study.space, report["experiment"]
    front = [study.candidates[number] for number in report["front"]]
    bad, draw = space.network.parse(front[0].network), type(space.network).diagram

    def diagram(self, arch, task):
        if arch == bad:
            raise RuntimeError("no\npicture")
        return draw(self, arch, task)

    monkeypatch.setattr(type(space.network), "diagram", diagram)
    rows = front_drawings.draw_front(tmp_path, front, experiment, [])
    assert rows[0]["drawing"] is None and rows[0]["drawing_error"] == "RuntimeError: no picture"
    assert all(row["drawing_error"] is None and (tmp_path / row["drawing"]).exists() for row in rows[1:])
    monkeypatch.setattr(front_drawings, "MOST_BYTES", 5000)
    rows = front_drawings.draw_front(tmp_path, front, experiment, [])
    kept = [row["drawing"] for row in rows if row["drawing"]]
    assert kept and any("nasbench draw" in (row["drawing_error"] or "") for row in rows)
    assert sorted(file.name for file in (tmp_path / "drawings").iterdir()) == sorted(name[9:] for name in kept)


def test_an_end_whose_stage_is_not_told_came_before_or_after_training():
    reason = "macs 9 is over the limit 8"
    candidates = [
        RecordedCandidate(0, None, None, status="infeasible", metrics={"macs": 9.0}, error=reason),
        RecordedCandidate(1, None, None, status="infeasible", metrics={"macs": 9.0, "train_loss": 1.0}, error=reason),
        RecordedCandidate(2, None, None, status="failed", error=reason),
    ]
    rows = [(row["stage"], row["candidates"]) for row in early_ends(candidates)]
    assert rows == [("before training", [0]), ("after training", [1])]


class TestImportance:
    SPACE = get_space("nasbench201")
    OPTIONS = MappingProxyType({decision.name: len(decision.options) for decision in SPACE.decisions})
    OBJECTIVES = (Objective(metric="val_acc_pct", goal="max"),)

    def candidate(self, number, arch, value):
        choices, metrics = self.SPACE.choices(arch), {"val_acc_pct": value}
        return RecordedCandidate(number, arch, None, choices=choices, status="done", metrics=metrics)

    def candidates(self, count, value):
        rng = np.random.default_rng(1)
        archs = [self.SPACE.sample(rng) for _ in range(count)]
        return [self.candidate(number, arch, value(arch)) for number, arch in enumerate(archs)]

    def test_too_few_and_equal_candidates_are_told(self):
        for count, value, sentence in (
            (0, lambda arch: 1.0, "0 candidates with a result are too few"),
            (1, lambda arch: 1.0, "1 candidate with"),
            (LEAST - 1, lambda arch: float(arch.picks[0]), f"it takes {LEAST}"),
            (LEAST, lambda arch: 1.0, "all candidates have the same value"),
        ):
            shares, chance = importance(self.candidates(count, value), self.OPTIONS, self.OBJECTIVES)
            assert sentence in shares["val_acc_pct"] and chance == shares

    def test_one_network_tried_again_and_again_differs_in_nothing(self):
        (one,) = self.candidates(1, lambda arch: 1.0)
        again = [self.candidate(number, one.arch, float(number)) for number in range(30)]
        assert "the best quarter apart" in importance(again, self.OPTIONS, self.OBJECTIVES)[0]["val_acc_pct"]

    def test_it_is_the_same_every_time_and_warns_of_nothing(self, recwarn):
        candidates = self.candidates(60, lambda arch: float(arch.picks[2]))
        first = importance(candidates, self.OPTIONS, self.OBJECTIVES)
        assert first == importance(candidates, self.OPTIONS, self.OBJECTIVES)
        assert next(iter(first[0]["val_acc_pct"])) == self.SPACE.decisions[2].name
        assert not [warning for warning in recwarn if "optuna" in str(warning.filename)]


def test_few_or_constant_predictions_have_no_rank():
    assert artefact_predictor([RecordedCandidate(0, None, None, metrics={"latency_predicted_ms": 1.0})]) is None
    pairs = [
        RecordedCandidate(n, None, None, metrics={"latency_ms": 1.0, "latency_predicted_ms": 1.2}) for n in range(4)
    ]
    predictor = artefact_predictor(pairs)
    assert predictor["spearman"] is None and predictor["median_error_pct"] == pytest.approx(20)
    assert artefact_predictor(pairs[:2])["n"] == 2


@pytest.mark.parametrize(
    ("entries", "lines"),
    [
        ([], []),
        (["decompose"], ["decompose"]),
        ([{"compile": {}}, {"prune": None}], ["compile", "prune"]),
        (
            [{"compile": {"backend": "tvm", "precision": None, "backend_options": {"opt": True}}}],
            ["compile: backend tvm, opt true"],
        ),
        ([{"choice": [None, {"quantize": {"bits": 8}}]}], ["either (no step), or (quantize: bits 8)"]),
        ([{"prune": {"ratio": {"choice": [None, 0.5]}}}], ["prune: ratio none | 0.5"]),
    ],
)
def test_recipes_are_written_for_people(entries, lines):
    assert recipe_steps(entries) == lines
