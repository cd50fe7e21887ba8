"""Promoted candidates go on from where the same network ended before, to what training it at once would have given."""

import json
from collections import Counter

import pytest
import torch
from tests_support import trained_of

import nasbench as nb
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.trial import Trial
from nasbench.experiment.loading import parse_experiment
from nasbench_registry import UserError

EPOCHS = 4


def experiment(small, **controller):
    return parse_experiment(
        small(
            controller={"name": "hyperband", "eta": 2, **controller},
            training={"epochs": EPOCHS, "learning_rate": 0.01},
            reward={"name": "scalar"},
            objectives=[{"metric": "val_acc_pct", "goal": "max"}],
        ).model_dump()
    )


def trial_of(evaluator, epochs, number):
    return Trial(number, evaluator.space.architecture([0] * len(evaluator.space.decisions)), epochs, 7, EPOCHS)


def epochs_in(folder):
    lines = (folder / "epochs.log").read_text().splitlines()
    return [(row["candidate"], row["epoch"]) for row in map(json.loads, lines)]


@pytest.fixture
def evaluator(small, tmp_path):
    return trained_of(experiment(small), checkpoints=tmp_path)


@pytest.fixture
def at_once(small, tmp_path):
    """What a training of all epochs gives: metrics and weights."""
    evaluator_anew = trained_of(experiment(small, promotion="anew"), checkpoints=tmp_path / "other")
    trial = trial_of(evaluator_anew, EPOCHS, 0)
    return evaluate(evaluator_anew, trial), evaluator_anew.checkpoints.load_weights(trial)


def check_equal(weights, expected):
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_rungs_lead_to_what_one_training_gives(evaluator, at_once, tmp_path):
    rungs = [evaluate(evaluator, trial_of(evaluator, epochs, number)) for number, epochs in enumerate((1, 2, EPOCHS))]
    last, weights = at_once
    assert [rung.metrics["epochs"] for rung in rungs] == [1, 2, EPOCHS]
    check_equal(evaluator.checkpoints.load_weights(trial_of(evaluator, EPOCHS, 2)), weights)
    assert rungs[-1].curve == last.curve
    spent = "training_operations"
    assert {k: v for k, v in rungs[-1].metrics.items() if k != spent} == {
        k: v for k, v in last.metrics.items() if k != spent
    }
    assert epochs_in(tmp_path) == [(0, 1), (1, 2), (2, 3), (2, 4)], "no epoch is trained twice"
    assert sum(rung.metrics[spent] for rung in rungs) == pytest.approx(last.metrics[spent])
    assert not list(tmp_path.glob("rung-*")), "after the last rung nobody needs the state"


def test_a_rung_of_another_bracket_begins_where_the_state_is_ahead_of_it(evaluator, at_once):
    """A state of two epochs is of no use to a candidate of one."""
    alone = evaluate(evaluator, trial_of(evaluator, 1, 0)).metrics
    evaluate(evaluator, trial_of(evaluator, 2, 1))
    assert evaluate(evaluator, trial_of(evaluator, 1, 2)).metrics == alone
    evaluate(evaluator, trial_of(evaluator, EPOCHS, 3))
    check_equal(evaluator.checkpoints.load_weights(trial_of(evaluator, EPOCHS, 3)), at_once[1])


def test_a_promoted_candidate_that_is_interrupted(evaluator, at_once, tmp_path):
    class Killed(BaseException):
        pass

    def report(epoch, so_far):
        if epoch == 3:
            raise Killed
        return True

    evaluate(evaluator, trial_of(evaluator, 2, 0))
    with pytest.raises(Killed):
        evaluate(evaluator, trial_of(evaluator, EPOCHS, 1), report)
    result = evaluate(evaluator, trial_of(evaluator, EPOCHS, 1))
    assert epochs_in(tmp_path) == [(0, 1), (0, 2), (1, 3), (1, 4)]
    check_equal(evaluator.checkpoints.load_weights(trial_of(evaluator, EPOCHS, 1)), at_once[1])
    assert result.metrics["training_operations"] == pytest.approx(at_once[0].metrics["training_operations"] / 2)


def test_a_damaged_state_is_as_good_as_none(evaluator, at_once, tmp_path):
    evaluate(evaluator, trial_of(evaluator, 2, 0))
    (state,) = tmp_path.glob("rung-*")
    state.write_bytes(state.read_bytes()[:-100])
    assert evaluate(evaluator, trial_of(evaluator, EPOCHS, 1)).metrics == at_once[0].metrics


def test_lost_weights_of_a_lower_rung_come_back(evaluator):
    trial = trial_of(evaluator, 2, 0)
    evaluate(evaluator, trial)
    weights = evaluator.checkpoints.load_weights(trial)
    evaluator.checkpoints.remove_weights(0)
    check_equal(evaluator.trained(0, trial.arch, trial.seed, 2).state_dict(), weights)


def test_results_of_the_two_ways_are_not_taken_for_each_other(small, tmp_path):
    results = []
    for promotion in ("anew", "continue"):
        cached_experiment = experiment(small, promotion=promotion).model_copy(update={"cache": str(tmp_path / "cache")})
        evaluator = trained_of(cached_experiment, checkpoints=tmp_path / promotion)
        results.append([evaluate(evaluator, trial_of(evaluator, 1, number)) for number in range(2)])
    assert [[result.cached for result in pair] for pair in results] == [[False, True]] * 2
    anew, continued = (first.metrics["val_loss"] for first, _ in results)
    assert anew != continued, "the rate of one falls to zero in an epoch"


def test_a_search_trains_no_epoch_twice(tmp_path):
    """A bracket of 4 + 2 + 1 candidates at 1, 2 and 4 epochs: 4 + 2 + 2 epochs, where the paper's way takes 12."""
    result = nb.search(
        {"name": "mobile", "widths": [8, 16], "layers": 1},
        problem=nb.image_classification("digits", epochs=EPOCHS),
        controller={"name": "hyperband", "eta": 2},
        objectives={"val_acc_pct": "max"},
        candidates=7,
        folder=tmp_path / "run",
    )
    assert list(result.candidates["epochs"]) == [1] * 4 + [2] * 2 + [4]
    done = Counter(epoch for _, epoch in epochs_in(tmp_path / "run" / "checkpoints"))
    assert done == {1: 4, 2: 2, 3: 1, 4: 1}
    assert not list((tmp_path / "run" / "checkpoints").glob("rung-*"))


def test_another_way_is_refused(small):
    with pytest.raises(UserError, match=r"promotion 'keep'.*anew|promotion 'keep'.*continue"):
        trained_of(experiment(small, promotion="keep"))
