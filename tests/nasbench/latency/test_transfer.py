"""A predictor that moves to a new device, on devices that are made up: their costs are known."""

import json

import numpy as np
import pytest
from bounds import check_above, check_below
from scipy.stats import spearmanr

from nasbench.latency.transfer import TransferPredictor
from nasbench_registry import UserError
from search_spaces import Decision, SearchSpace, get_space

OPS = ("skip", "small", "large", "pool")


class Chain(SearchSpace):
    """Six layers, each one of four operations, and a width that multiplies their cost: 12,288 architectures."""

    name = "chain"
    decisions = (*(Decision(f"layer{i}", OPS) for i in range(6)), Decision("width", (1.0, 1.5, 2.0)))

    def build(self, arch, task):
        raise AssertionError("a predictor of architectures needs no network")


class Machine:
    """A device: a cost for each operation, a start-up time, and a share of the work that runs at the same time.

    Odd seeds are phones, which pay for pooling; even ones are servers, which pay for every layer that is there.
    """

    def __init__(self, seed, noise=0.02, outliers=0.03):
        rng = np.random.default_rng(seed)
        kind = [0.05, 1.0, 4.0, 1.5] if seed % 2 else [0.02, 1.0, 1.6, 0.8]
        self.cost = np.array(kind) * rng.lognormal(0, 0.3, 4)
        self.start, self.unit = rng.uniform(1, 4), rng.lognormal(0, 1)
        self.rng, self.noise, self.outliers = rng, noise, outliers

    def exact(self, archs):
        picks = np.array([arch.picks for arch in archs])
        widths = np.array(Chain.decisions[-1].options)[picks[:, -1]]
        return self.unit * (self.start + widths * self.cost[picks[:, :-1]].sum(axis=1))

    def measure(self, archs):
        values = self.exact(archs) * self.rng.lognormal(0, self.noise, len(archs))
        return np.where(self.rng.random(len(archs)) < self.outliers, 3 * values, values)


@pytest.fixture(scope="module")
def space():
    return Chain()


@pytest.fixture(scope="module")
def archs(space):
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(space.sample(rng) for _ in range(1200)))


@pytest.fixture(scope="module")
def known(archs):
    """Six devices on 200 architectures."""
    return {f"device{seed}": Machine(seed).measure(archs[:200]) for seed in range(6)}


@pytest.fixture(scope="module")
def fitted(space, archs, known):
    """A predictor that knows them; `adapt` replaces what it learned of a new device before."""
    return TransferPredictor(space, seed=0).fit_sources(archs[:200], known)


@pytest.fixture(scope="module")
def todo(space, archs, known):
    """What it suggests when it knows nothing of a new device: 16, of which the first ten are ten suggestions."""
    return TransferPredictor(space, seed=0).fit_sources(archs[:200], known).suggest(16)


@pytest.fixture
def fresh(space, archs, known):
    """A predictor that knows nothing of a new device."""
    return TransferPredictor(space, seed=0).fit_sources(archs[:200], known)


def rank(predictor, archs, machine):
    return spearmanr(predictor.predict(archs)[0], machine.exact(archs)).statistic


def least_squares_on_counts(space, archs, measured, others):
    columns = space.option_counts([*archs, *others])
    weights = np.linalg.lstsq(columns[: len(archs)], measured, rcond=None)[0]
    return columns[len(archs) :] @ weights


# ---- what it is for


def test_ten_measurements_rank_architectures_that_no_device_has_seen(space, archs, fitted, todo):
    """Noise of 2 % and outliers included; counts alone cannot know that the width multiplies."""
    unseen, correlations, counts = archs[200:], [], []
    for seed in range(100, 108):
        machine = Machine(seed)
        measured = machine.measure(todo[:10])
        correlations.append(rank(fitted.adapt(todo[:10], measured), unseen, machine))
        baseline = least_squares_on_counts(space, todo[:10], measured, unseen)
        counts.append(spearmanr(baseline, machine.exact(unseen)).statistic)
    check_above("mean rank correlation", np.mean(correlations), mean=0.9972, sd=0.0036)
    check_above("least rank correlation", min(correlations), mean=0.991, sd=0.019)
    check_above("gain over counts", np.mean(correlations) - np.mean(counts), mean=0.3014, sd=0.037, least=0)


def test_one_source_or_few_measurements_are_enough_to_begin_with(space, archs):
    source, target, unseen = Machine(1), Machine(3), archs[200:]
    predictor = TransferPredictor(space).fit_sources(archs[:200], {"only": source.measure(archs[:200])})
    todo = predictor.suggest(12)
    ranks = [rank(predictor.adapt(todo[:n], target.exact(todo[:n])), unseen, target) for n in (1, 3, 12)]
    check_above("of one measurement", ranks[0], mean=0.969, sd=0.026, least=0)
    check_above("of three", ranks[1], mean=0.9855, sd=0.012, least=0)
    check_above("of twelve", ranks[2], mean=0.995, sd=0.0035, least=0)


def test_a_measurement_that_is_far_off_changes_little(archs, fitted, todo):
    machine = Machine(200)
    measured = machine.exact(todo)
    measured[4] *= 5
    check_above("rank correlation", rank(fitted.adapt(todo, measured), archs[200:], machine), mean=0.9989, sd=0.00049)


def test_latencies_are_predicted_in_milliseconds_of_the_new_device(archs, fitted, todo):
    """Also on a device that is a thousand times slower than any source."""
    machine, unseen = Machine(300, noise=0.01, outliers=0), archs[200:]
    measured = machine.measure(todo)
    mean, std = fitted.adapt(todo, measured).predict(unseen)
    check_below("median error", np.median(np.abs(mean / machine.exact(unseen) - 1)), mean=0.009944, sd=0.0026)
    slower, slower_std = fitted.adapt(todo, 1000 * measured).predict(unseen)
    assert slower == pytest.approx(1000 * mean, rel=1e-6) and slower_std == pytest.approx(1000 * std, rel=1e-6)


# ---- what it does not know


def test_deviations_cover_what_is_measured_and_shrink_with_measurements(archs, fitted, todo):
    unseen, inside, sizes = archs[200:], [], []
    for seed in range(400, 408):
        machine = Machine(seed, outliers=0)
        measured, truth = machine.measure(todo), machine.measure(unseen)
        by_count = [fitted.adapt(todo[:count], measured[:count]).predict(unseen) for count in (2, 6, 16)]
        sizes.append([np.mean(std / mean) for mean, std in by_count])
        inside.append(np.mean(np.abs(truth - by_count[-1][0]) < 2 * by_count[-1][1]))
    two, six, sixteen = np.mean(sizes, axis=0)
    check_above("log of two to sixteen", np.log(two / sixteen), mean=1.641, sd=0.21, least=0)
    check_above("log of six to sixteen", np.log(six / sixteen), mean=0.7188, sd=0.079, least=0)
    check_above("mean share inside", np.mean(inside), mean=0.9871, sd=0.0055)
    check_above("least share inside", min(inside), mean=0.9686, sd=0.0085)


def test_what_was_not_measured_is_less_certain(archs, fitted):
    """All measured architectures lack pooling, so those that pool are further off."""
    without = [arch for arch in archs[:200] if 3 not in arch.picks[:-1]]
    many = [arch for arch in archs[200:] if arch.picks[:-1].count(3) >= 3]
    none = [arch for arch in archs[200:] if 3 not in arch.picks[:-1]]
    mean, std = fitted.adapt(without[:12], Machine(501).exact(without[:12])).predict([*many, *none])
    share = std / mean
    ratio = share[: len(many)].mean() / share[len(many) :].mean()
    check_above("log of unmeasured to measured", np.log(ratio), mean=1.378, sd=0.23, least=0)


# ---- what to measure


def test_suggestions_teach_more_than_random_choices(space):
    """Root mean square of relative errors on two new devices (5 % of noise), for each of twelve sets of known ones."""
    ratios = []
    for first in range(0, 120, 10):
        rng = np.random.default_rng(first)
        archs = list(dict.fromkeys(space.sample(rng) for _ in range(700)))
        pool, unseen = archs[:200], archs[200:]
        known = {f"device{seed}": Machine(seed).measure(pool) for seed in range(first, first + 6)}
        predictor = TransferPredictor(space, seed=0).fit_sources(pool, known)
        suggested = predictor.suggest(10)
        drawn = [[pool[row] for row in rng.choice(200, 10, replace=False)] for _ in range(4)]

        def error(chosen, predictor=predictor, first=first, unseen=unseen):
            errors = []
            for seed in (first + 700, first + 701):
                machine = Machine(seed, noise=0.05, outliers=0)
                mean, _ = predictor.adapt(chosen, machine.measure(chosen)).predict(unseen)
                errors.append(np.sqrt(np.mean(np.log(mean / machine.exact(unseen)) ** 2)))
            return np.mean(errors)

        ratios.append(error(suggested) / np.mean([error(chosen) for chosen in drawn]))
    check_below("error, to that of random choices", np.mean(ratios), mean=0.7266, sd=0.039, most=1)


def test_suggestions_follow_the_seed_and_what_can_be_measured(space, archs, known, todo, fresh):
    assert len(set(todo)) == 16 and set(todo) <= set(archs[:200])
    assert fresh.suggest(10) == todo[:10]
    few = archs[300:303]
    assert set(fresh.suggest(5, among=few * 2)) == set(few) and len(fresh.suggest(5, among=few * 2)) == 3
    fresh.adapt(todo, Machine(1).exact(todo))
    assert not set(fresh.suggest(10)) & set(todo) and fresh.suggest(5, among=todo) == []
    chosen = [
        TransferPredictor(space, seed).fit_sources(archs[:200], known).suggest(6, among=archs) for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2], "of more than 512, the seed draws"


def test_the_global_generator_is_left_alone(archs, fresh):
    before = np.random.get_state()[1].copy()
    chosen = fresh.suggest(3, among=archs)
    fresh.adapt(chosen, [1.0, 2.0, 3.0]).predict(archs)
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("name", ["nasbench101", "nats_size", "fbnet", "mobile"])
def test_it_works_for_spaces_of_the_literature(name):
    """The devices price every option at every place; 20 measurements of a device that mixes two of them."""
    space, rng = get_space(name), np.random.default_rng(0)
    archs = list(dict.fromkeys(space.sample(rng) for _ in range(700)))
    columns = space.one_hot(archs)
    prices = rng.lognormal(0, 0.7, (4, columns.shape[1]))
    known, unseen = archs[:400], archs[400:]
    latency = 1 + columns @ prices.T
    predictor = TransferPredictor(space).fit_sources(known, {str(d): latency[:400, d] for d in range(4)})
    target = dict(zip(archs, 0.5 * latency[:, 0] + 0.5 * latency[:, 1], strict=True))
    todo = predictor.suggest(20)
    predictor.adapt(todo, [target[arch] for arch in todo])
    correlation = spearmanr(predictor.predict(unseen)[0], [target[arch] for arch in unseen]).statistic
    check_above("rank correlation", correlation, mean=0.9997, sd=0.00057)


# ---- files and mistakes


def test_what_is_saved_is_loaded_without_pickle(space, archs, fresh, todo, tmp_path):
    fresh.save(tmp_path / "untouched")
    assert TransferPredictor.load(tmp_path / "untouched", space).suggest(16) == todo
    fresh.adapt(todo, Machine(7).exact(todo)).save(tmp_path / "phone")
    assert {path.name for path in (tmp_path / "phone").iterdir()} == {"transfer.json", "transfer.safetensors"}
    assert json.loads((tmp_path / "phone/transfer.json").read_text())["space"] == "chain"
    loaded = TransferPredictor.load(tmp_path / "phone", Chain())
    for before, after in zip(fresh.predict(archs), loaded.predict(archs), strict=True):
        assert np.array_equal(before, after)
    assert loaded.suggest(5, among=archs) == fresh.suggest(5, among=archs)

    with pytest.raises(UserError, match="about space 'chain' with 7 decisions, not about this space 'nasbench201'"):
        TransferPredictor.load(tmp_path / "phone", get_space("nasbench201"))
    (tmp_path / "phone/transfer.safetensors").write_bytes(b"cut")
    for folder in ("phone", "nowhere"):
        with pytest.raises(UserError, match="give a folder that save\\(\\) wrote"):
            TransferPredictor.load(tmp_path / folder, space)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda p, a: p.fit_sources(a[:20], {}), "no source devices; give latencies"),
        (lambda p, a: p.fit_sources(a[:9], {"x": np.ones(9)}), "10 or more architectures, not 9"),
        (lambda p, a: p.fit_sources(a[:20], {"x": np.ones(19)}), r"20 architectures need as many.*'x', not.*\(19,\)"),
        (lambda p, a: p.fit_sources(a[:20], {"x": np.zeros(20)}), "device 'x' must be positive.*not 0.0"),
        (lambda p, a: p.fit_sources(a[:20], {"x": np.full(20, np.nan)}), "must be positive.*not nan"),
        (lambda p, a: p.suggest(0), "0 architectures cannot be suggested"),
        (lambda p, a: p.suggest(3, among=[get_space("fbnet").sample(np.random.default_rng(0))]), "space 'fbnet'"),
        (lambda p, a: p.adapt(a[:2], [1.0, -1.0]), "of the new device must be positive.*not -1.0"),
        (lambda p, a: p.adapt([], []), "no measurements of the new device; measure what suggest"),
        (
            lambda p, a: p.predict(a),
            r"nothing has been measured on the new device; call fit_sources\(\) and then adapt",
        ),
        (
            lambda p, a: TransferPredictor(p.space).suggest(3),
            r"no source devices are known; call fit_sources\(\) first",
        ),
        (lambda p, a: TransferPredictor(p.space).adapt(a[:1], [1.0]), "call fit_sources"),
        (lambda p, a: TransferPredictor(p.space).save(None), "call fit_sources"),
    ],
)
def test_mistakes_cost_one_sentence(fresh, archs, step, message):
    with pytest.raises(UserError, match=message) as caught:
        step(fresh, archs)
    assert "\n" not in str(caught.value)
