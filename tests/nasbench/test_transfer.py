"""A latency predictor that moves to a new device with ten measurements."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from nasbench.hardware.transfer import TransferPredictor
from nasbench_registry import UserError
from search_spaces import get_space

MOBILE = get_space("mobile", widths=[8, 16], layers=1)
SOURCES = (
    *("1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3"),
    *("essential_ph_1", "samsung_s7"),
)
UNSEEN = ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss")


def synthetic(archs, seed):
    """Latencies of a device that asks a price of its own for every option, with 3 % of noise."""
    rng = np.random.default_rng(seed)
    features = MOBILE.one_hot(archs)
    shared = np.random.default_rng(99).gamma(2.0, 1.0, features.shape[1])
    prices = shared * rng.lognormal(0.0, 0.7, features.shape[1])
    return (features @ prices) * rng.lognormal(0.0, 0.03, len(archs))


@pytest.fixture(scope="module")
def archs():
    rng = np.random.default_rng(0)
    return list({MOBILE.canonical(MOBILE.sample(rng)): None for _ in range(600)})


@pytest.fixture(scope="module")
def fitted(archs):
    known = archs[:200]
    return TransferPredictor(MOBILE, seed=0).fit_sources(
        known, {f"device{seed}": synthetic(known, seed) for seed in range(8)}
    )


def test_new_devices_are_ranked_better_than_by_the_most_similar_one_that_is_known(fitted, archs):
    where = {arch: row for row, arch in enumerate(archs)}
    todo = fitted.suggest(10)
    assert len(set(todo)) == 10 and set(todo) <= set(archs[:200])
    ours, nearest, errors, typical, inside = [], [], [], [], []
    for seed in range(50, 58):
        own = synthetic(archs, seed)
        fitted.adapt(todo, [own[where[arch]] for arch in todo])
        mean, std = fitted.predict(archs[200:])
        truth = own[200:]
        ours.append(spearmanr(mean, truth).statistic)
        # The most similar one in hindsight, which nobody could have picked.
        nearest.append(max(spearmanr(synthetic(archs, known)[200:], truth).statistic for known in range(8)))
        errors.append(np.median(np.abs(mean / truth - 1)))
        typical.append(np.median(np.abs(np.median(truth) / truth - 1)))
        inside.append(np.mean(np.abs(mean - truth) <= 2 * std))
    gains = np.array(ours) - np.array(nearest)
    assert gains.mean() > 2 * gains.std(ddof=1) / np.sqrt(len(gains)), (ours, nearest)
    assert np.mean(errors) < 0.8 * np.mean(typical), "milliseconds, not only ranks"
    assert np.mean(inside) > 0.8, f"{np.mean(inside):.2f} of the truth lies within two deviations"


def test_uncertainty_shrinks_with_measurements(fitted, archs):
    own, where = synthetic(archs, 51), {arch: row for row, arch in enumerate(archs)}
    todo = fitted.suggest(40)
    spread = []
    for count in (3, 10, 40):
        fitted.adapt(todo[:count], [own[where[arch]] for arch in todo[:count]])
        mean, std = fitted.predict(archs[200:])
        spread.append(float(np.median(std / mean)))
    assert spread[0] > spread[1] > spread[2]


def test_the_same_in_a_new_object_from_disk(fitted, archs, tmp_path):
    own, where = synthetic(archs, 52), {arch: row for row, arch in enumerate(archs)}
    todo = fitted.suggest(10)
    fitted.adapt(todo, [own[where[arch]] for arch in todo])
    fitted.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["transfer.json", "transfer.safetensors"]
    loaded = TransferPredictor.load(tmp_path, MOBILE)
    for one, other in zip(fitted.predict(archs), loaded.predict(archs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert loaded.suggest(5) == fitted.suggest(5)
    with pytest.raises(UserError, match="about space 'mobile'"):
        TransferPredictor.load(tmp_path, get_space("nasbench201"))
    with pytest.raises(UserError, match="holds no transfer predictor"):
        TransferPredictor.load(tmp_path / "nowhere", MOBILE)


def test_mistakes_are_said(archs):
    predictor = TransferPredictor(MOBILE)
    with pytest.raises(UserError, match="call fit_sources"):
        predictor.suggest(10)
    with pytest.raises(UserError, match="10 or more architectures, not 3"):
        predictor.fit_sources(archs[:3], {"one": [1.0, 2.0, 3.0]})
    with pytest.raises(UserError, match="positive numbers of milliseconds, not -1"):
        predictor.fit_sources(archs[:10], {"one": [1.0] * 9 + [-1.0]})
    predictor.fit_sources(archs[:50], {"one": synthetic(archs[:50], 0)})
    with pytest.raises(UserError, match="nothing has been measured"):
        predictor.predict(archs)


def test_the_unseen_devices_of_the_literature(data_file):
    """The protocol of HELP: sources know 900 cells, 10 measurements, 1,000 other cells without their outer fifth."""
    table = pd.read_csv(data_file("nasbench201/nasbench201.csv.gz"), usecols=["arch"])
    space = get_space("nasbench201")
    cells = [space.parse(text) for text in table["arch"][:1900]]

    def latencies(device):
        told = torch.load(data_file(f"latency_nasbench201/raw/{device}.pt"), weights_only=True)
        return np.array(told, dtype=float)[:1900]

    predictor = TransferPredictor(space, seed=0)
    predictor.fit_sources(cells[:900], {device: latencies(device)[:900] for device in SOURCES})
    todo = predictor.suggest(10)
    rows = [cells.index(arch) for arch in todo]
    found = {}
    for device in UNSEEN:
        own = latencies(device)
        predictor.adapt(todo, own[rows])
        query = 900 + np.argsort(own[900:])[100:900]
        mean, _ = predictor.predict([cells[row] for row in query])
        found[device] = float(spearmanr(mean, own[query]).statistic)
    # Published: 0.932 with up to 20 measurements (HELP). Ours was 0.9554 to 0.9564 with three seeds.
    assert np.mean(list(found.values())) > 0.95, found
