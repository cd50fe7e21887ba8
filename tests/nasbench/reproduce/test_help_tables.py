"""Tables of latencies: what is measured counts, what is not measured is not seen, and the numbers of the paper."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from bounds import check_above
from scipy.stats import norm, spearmanr

from nasbench.reproduce.latency_limit import TransferSearch, promise
from nasbench.reproduce.latency_ranking import METHODS, RankingTask, cell_macs, middle_rows, ranking_method
from nasbench.reproduce.reproduce import reproduce
from nasbench.tables.latencies import NewDevice, device_latencies, latency_cells
from nasbench.tables.paper_table import load_paper_table
from nasbench_registry import UserError

ROOT = Path(__file__).parents[3]
RANKING, LIMITS = "help-table3", "help-table4"
THREE = ("cifar10", "cifar100", "imagenet16_120")
UNSEEN = ("titan_rtx_256", "gold_6226", "pixel2", "raspi4", "eyeriss", "fpga")


@pytest.fixture
def latencies(data_file):
    """The published latencies are at hand."""
    data_file("latency_nasbench201/raw/str_arch2idx.pt")


def by_column(result, row):
    return {cell.column: cell for cell in result.entries if cell.row == row}


# ---- the data


def test_cells_and_latencies_have_the_order_of_the_benchmark(latencies, table):
    assert latency_cells() == table.architectures
    assert len(device_latencies("pixel2")) == 15_625 and device_latencies("fpga").min() > 1
    with pytest.raises(ValueError, match="read-only"):
        device_latencies("fpga")[0] = 0
    with pytest.raises(UserError, match="Did you mean 'pixel3'"):
        device_latencies("pixel_3")


def test_every_measured_cell_counts_once(latencies):
    device = NewDevice("eyeriss")
    assert device.measure([5, 5, 7]).tolist() == device_latencies("eyeriss")[[5, 5, 7]].tolist()
    device.measure([7])
    assert device.measurements == 2 and set(device.measured) == {5, 7}


def test_the_query_cells_are_the_middle_of_a_range():
    latency = np.array([50.0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, -5])
    assert middle_rows(latency, 1, 11, 0.1).tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert middle_rows(latency, 1, 11, 0.0).tolist() == list(range(1, 11))


def test_multiply_adds_are_those_of_the_paper(latencies):
    """Dong & Yang: the largest cell, all 3x3 convolutions, has 220.1 million."""
    assert cell_macs()[1462] / 1e6 == pytest.approx(220.1, abs=0.2) and cell_macs().argmax() == 1462


# ---- ranking


@pytest.mark.parametrize("options", [{"name": "transfer"}, {"name": "ridge"}, {"name": "transfer", "choice": "random"}])
def test_a_method_sees_only_what_it_measures(latencies, monkeypatch, options):
    """Ten cells of the pool; nothing changes if all others of the device are unknown."""
    protocol = load_paper_table(RANKING).protocol
    task = RankingTask(protocol.known_devices, protocol.pool, seed=1)
    device = NewDevice("raspi4")
    (before,) = ranking_method(options).rank(task, [device])
    assert device.measurements == 10 and max(device.measured) < 900
    hidden = NewDevice("raspi4")
    hidden._latency_ms = np.full(15_625, np.nan)
    hidden._latency_ms[list(device.measured)] = list(device.measured.values())
    (after,) = ranking_method(options).rank(task, [hidden])
    assert np.array_equal(before.latency, after.latency) and np.isfinite(after.latency).all()


def test_ten_measurements_rank_six_unseen_devices_better_than_the_paper(latencies):
    """The means of three seeds; deviations of the bounds are those of one over 20 seeds, by the root of three."""
    paper_table = load_paper_table(RANKING)
    rows = ["FLOPS", "HELP", "transfer (ours)", "transfer, one known device", "ridge (baseline)"]
    result = reproduce(paper_table, seeds=3, rows=paper_table.select(rows))
    assert result.curves == {} and result.optima == {}
    ours, paper = by_column(result, "transfer (ours)"), by_column(result, "HELP")
    check_above("ours", ours["mean_spearman"].measured, mean=0.9556, sd=0.00085 / 3**0.5)
    check_above("ours, all cells", ours["mean_all_spearman"].measured, mean=0.9677, sd=0.00056 / 3**0.5)
    assert ours["target_measurements"].measured == 10 and paper["target_measurements"].paper == 20
    for device in UNSEEN:
        gain = ours[f"{device}_spearman"].measured - paper[f"{device}_spearman"].paper
        check_above(f"gain on {device}", gain, mean=0.0234, sd=0.0046 / 3**0.5, least=0)  # pixel2, the least sure
        assert paper[f"{device}_spearman"].measured is None and paper[f"{device}_spearman"].trust == "V"
    gain = by_column(result, "transfer, one known device")["mean_spearman"].measured - paper["mean_spearman"].paper
    check_above("gain with one known device", gain, mean=0.0164, sd=0.0046 / 3**0.5, least=0)
    ridge = by_column(result, "ridge (baseline)")["mean_spearman"].measured
    check_above("ridge", ridge, mean=0.9359, sd=0.0042 / 3**0.5)
    gain = ours["mean_spearman"].measured - ridge
    check_above("gain over ridge", gain, mean=0.0197, sd=0.0043 / 3**0.5, least=0)
    assert ours["mean_spearman"].std > 0 and ours["adapt_s"].measured > 0 and ours["predict_15625_s"].measured > 0

    flops = by_column(result, "FLOPS")
    assert flops["mean_spearman"].n == 1 and flops["target_measurements"].measured == 0
    for device in ("titan_rtx_256", "gold_6226", "pixel2", "fpga"):  # the same cells and the same outliers as theirs
        assert flops[f"{device}_spearman"].measured == pytest.approx(flops[f"{device}_spearman"].paper, abs=0.006)


# ---- under a limit


def test_what_is_returned_meets_its_limit(latencies, table):
    paper_table = load_paper_table(LIMITS)
    names = ["MetaD2A + HELP", "transfer, all accuracies known", "bound (best in the table)"]
    result = reproduce(paper_table, seeds=1, rows=paper_table.select(names))
    paper, ours, bound = (by_column(result, name) for name in names)
    assert ours["limits_met_of_15"].measured == bound["limits_met_of_15"].measured == 15
    assert paper["limits_met_of_15"].paper == 10 and 10 < ours["target_measurements"].measured <= 15
    assert ours["accuracy_queries"].measured == 15_625
    accuracy = table.column(dataset="cifar100", split="test", epochs=200)
    reached, over, luck = [], [], np.ones(1)  # the probabilities that random cells under the limits reach 0, 1, ...
    for column in paper_table.columns:
        if column.shows != "test_acc_pct":
            continue
        latency = column.name.replace("cifar100_test_acc_pct", "latency_ms")
        assert ours[latency].measured <= column.limit_ms and bound[latency].measured <= column.limit_ms
        assert ours[column.name].measured <= bound[column.name].measured
        if paper[latency].paper > column.limit_ms:
            over.append(column.name)
            assert "over the limit" in paper[column.name].note and "over the limit" in paper[latency].note
        else:
            assert paper[column.name].note is None
            reached.append(ours[column.name].measured >= paper[column.name].paper)
            meet = device_latencies(column.devices[0]) <= column.limit_ms
            share = np.mean(accuracy[meet] >= paper[column.name].paper)
            luck = np.convolve(luck, (1 - share, share))
    assert len(over) == 5
    assert luck[sum(reached) :].sum() < 1e-5


def test_a_search_pays_for_accuracies_and_for_measurements(latencies, table):
    protocol = load_paper_table(LIMITS).protocol
    task, device = RankingTask(protocol.known_devices, protocol.pool, seed=0), NewDevice("eyeriss")
    search = TransferSearch(accuracy_queries=30)
    choice = search.choose(task, device, 7.0, table, "cifar100")
    assert choice.latency_ms == device_latencies("eyeriss")[choice.row] <= 7.0
    assert choice.accuracy_queries == 30 and choice.measurements == device.measurements <= 15
    assert choice.row in device.measured
    # The best of 30 random cells under the limit is worse than that in one of 100,000 cases.
    accuracy = table.column(dataset="cifar100", split="test", epochs=200)
    assert accuracy[choice.row] > np.quantile(accuracy[device_latencies("eyeriss") <= 7.0], 1e-5 ** (1 / 30))
    again = search.choose(task, NewDevice("eyeriss"), 7.0, table, "cifar100")
    assert again == choice
    with pytest.raises(UserError, match="no cell is expected to meet 0.01 ms on 'eyeriss'"):
        search.choose(task, NewDevice("eyeriss"), 0.01, table, "cifar100")


def test_smoothed_accuracies_rank_good_cells_better_and_the_best_of_three_is_at_least_the_first(latencies, table):
    test = table.column(dataset="cifar100", split="test", epochs=200)
    raw, smooth = (promise(table, ("cifar100",), smooth=smooth) for smooth in (False, True))
    good = raw > np.median(raw)
    assert spearmanr(smooth[good], test[good]).statistic > spearmanr(raw[good], test[good]).statistic + 0.01
    protocol = load_paper_table(LIMITS).protocol
    task, choices = RankingTask(protocol.known_devices, protocol.pool, seed=0), []
    for returned in (1, 3):
        search = TransferSearch(datasets=THREE, smooth=True, verifications=10, returned=returned)
        choices.append(search.choose(task, NewDevice("eyeriss"), 7.0, table, "cifar100"))
    first, best = choices
    assert (
        test[best.row] >= test[first.row] and best.row != first.row and max(choices[0].latency_ms, best.latency_ms) <= 7
    )
    assert first.measurements <= 20 and best.accuracy_queries == 3 * 15_625


# ---- the files and the command


def changed(name, tmp_path, **changes):
    data = load_paper_table(name).model_dump(mode="json", exclude_none=True, exclude_defaults=True) | changes
    data = {key: value for key, value in data.items() if key != "name"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


FOUND = {"name": "x_spearman", "shows": "spearman", "devices": ["fpga"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "nasbench201"}, "unknown table 'nasbench201'; known: latency_nasbench201"),
        ({"columns": [{**FOUND, "devices": ["fgpa"]}]}, "Did you mean 'fpga'"),
        ({"columns": [{**FOUND, "devices": []}]}, "column 'x_spearman' has no devices"),
        ({"columns": [{**FOUND, "shows": "latency_ms"}]}, "unknown shows 'latency_ms'"),
        ({"columns": [{**FOUND, "search": "cifar10"}]}, "do not belong to protocols of latency"),
        ({"columns": [{**FOUND, "limit_ms": 3}]}, "others have no limit"),
        ({"rows": [{"name": "a", "controller": {"name": "random"}}]}, "tables of latency have methods"),
        ({"rows": [{"name": "a", "method": {"measurements": 3}}]}, "the method of row 'a' has no name"),
    ],
)
def test_a_wrong_file_costs_one_sentence(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        load_paper_table(changed(RANKING, tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        (RANKING, {"name": "transfers"}, "Did you mean 'transfer'"),
        (RANKING, {"name": "transfer", "measurement": 3}, "unknown option 'measurement' of method 'transfer'"),
        (RANKING, {"name": "transfer", "measurements": 0}, "measurements=0 of method 'transfer' must be 1 or more"),
        (RANKING, {"name": "ridge", "choice": "clever"}, "unknown choice 'clever'; known: random, suggested"),
        (LIMITS, {"name": "transfer", "accuracy_queries": 0}, "accuracy_queries=0 .* must be 1 or more"),
        (LIMITS, {"name": "transfer", "returned": 0}, "returned=0 .* must be 1 or more"),
        (LIMITS, {"name": "transfer", "smooth": True, "accuracy_queries": 9}, "smooth .* needs all accuracies"),
        (LIMITS, {"name": "transfer", "datasets": ["cifar11"]}, "Did you mean 'cifar10'"),
        (LIMITS, {"name": "transfer", "controller": "bayes"}, "Did you mean 'bayesian'"),
    ],
)
def test_a_method_that_is_not_there_stops_before_anything_runs(latencies, table, tmp_path, name, method, message):
    paper_table = load_paper_table(changed(name, tmp_path, rows=[{"name": "a", "method": method}]))
    with pytest.raises(UserError, match=message):
        reproduce(paper_table, seeds=1)
    assert set(METHODS) == {"transfer", "ridge", "flops"}


def test_what_programs_and_people_read(nasbench, latencies, tmp_path):
    code, out, err = nasbench("reproduce", RANKING, "--seeds", "1", "--workers", "1", "--rows", "FLOPS,HELP", "--json")
    assert code == 0, err
    cells = {(row["row"], row["column"]): row for row in json.loads(out)["rows"]}
    row = cells["FLOPS", "titan_rtx_256_spearman"]
    assert row["paper"] == 0.95 and row["trust"] == "V" and 0.94 < row["measured"] < 0.96 and row["seconds"] > 0
    assert cells["HELP", "mean_all_spearman"]["measured"] is None and cells["HELP", "mean_all_spearman"]["reason"]

    code, out, err = nasbench("reproduce", LIMITS, "--seeds", "1", "--rows", "MetaD2A + HELP", "--html", "t.html")
    assert code == 0, err
    assert "72.10* [V]" in out and "the published cell takes 14.3 ms, over the limit of 14 ms" in " ".join(out.split())
    page = (tmp_path / "t.html").read_text()
    assert "72.10*<sup>V</sup>" in page and "over the limit of 14 ms" in page and "Best so far" not in page
    code, out, _ = nasbench("list", "tables", "--json")
    assert {RANKING, LIMITS} <= {table["name"] for table in json.loads(out)}


def test_the_documentation(latencies, capsys):
    text = (ROOT / "docs/transfer.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(script, "docs/transfer.md", "exec"), {})
    (predicted, deviation) = re.search(
        r"10 measurements; cell 1462: (\d+) \+- (\d+) ms", capsys.readouterr().out
    ).groups()
    error = abs(float(predicted) - device_latencies("raspi4")[1462])
    assert error < norm.isf(1e-5 / 2) * float(deviation)
    tables = (ROOT / "docs/tables.md").read_text()
    assert all(f"`{name}`" in tables and f"reproduce {name}" in text for name in (RANKING, LIMITS))


def test_without_data_the_command_says_how_to_get_them(nasbench, tmp_path, monkeypatch):
    device_latencies.cache_clear()
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, _, err = nasbench("reproduce", RANKING)
    assert code == 2 and "run: nasbench data fetch latency_nasbench201" in err
    with pytest.raises(UserError, match="run: nasbench data fetch latency_nasbench201"):
        device_latencies("fpga")


def test_another_content_is_refused(tmp_path, monkeypatch, data_file):
    published = data_file("latency_nasbench201/raw/str_arch2idx.pt").parent
    folder = tmp_path / "latency_nasbench201/raw"
    folder.mkdir(parents=True)
    for file in published.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "fpga.pt").write_bytes((folder / "eyeriss.pt").read_bytes())
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
    device_latencies.cache_clear()
    with pytest.raises(UserError, match=r"fpga\.pt does not hold the published numbers"):
        device_latencies("fpga")
    device_latencies.cache_clear()
