"""The values of a row of a table of latencies, measured seed by seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nasbench.objectives.statistics import rank_correlation
from nasbench.reproduce.latency_limit import READ_EPOCHS, Choice, choice_method
from nasbench.reproduce.latency_ranking import RankingTask, middle_rows, ranking_method
from nasbench.tables.latencies import NewDevice, device_latencies, require_latencies
from nasbench.tables.paper_table import PaperTable, Row, TableColumn
from nasbench.tables.protocols import LatencyLimit, LatencyRanking
from nasbench.tables.registry import load_table


def check_method(table: PaperTable, row: Row) -> None:
    """Raise UserError if the method of a row or one of its options does not exist, or data are missing."""
    assert row.method is not None, "the row is run"
    require_latencies()
    if isinstance(table.protocol, LatencyRanking):
        ranking_method(row.method)
    else:
        load_table("nasbench201")
        choice_method(row.method)


def measure_row(table: PaperTable, row: Row, seed: int) -> dict[str, float]:
    """The value of every column of a row for one seed."""
    assert row.method is not None, "the row is run"
    protocol = table.protocol
    if isinstance(protocol, LatencyRanking):
        return _ranking(table, protocol, row.method, seed)
    assert isinstance(protocol, LatencyLimit), "no other protocol has methods"
    return _limits(table, protocol, row.method, seed)


def _ranking(table: PaperTable, protocol: LatencyRanking, options: Mapping[str, object], seed: int) -> dict[str, float]:
    task = RankingTask(protocol.known_devices, protocol.pool, seed)
    devices = [NewDevice(name) for name in dict.fromkeys(name for column in table.columns for name in column.devices)]
    shown: dict[str, dict[str, float]] = {}
    for device, ranked in zip(devices, ranking_method(options).rank(task, devices), strict=True):
        truth = device_latencies(device.name)
        query = middle_rows(truth, *protocol.query, protocol.dropped)
        shown[device.name] = {
            "spearman": rank_correlation(ranked.latency[query], truth[query]),
            "spearman_all": rank_correlation(ranked.latency, truth),
            "measurements": device.measurements,
            "adapt_s": ranked.adapt_s,
            "predict_s": ranked.predict_s,
        }
    return {
        column.name: float(np.mean([shown[name][str(column.shows)] for name in column.devices]))
        for column in table.columns
    }


def _limits(table: PaperTable, protocol: LatencyLimit, options: Mapping[str, object], seed: int) -> dict[str, float]:
    task, method = RankingTask(protocol.known_devices, protocol.pool, seed), choice_method(options)
    cells = load_table("nasbench201")
    tests = cells.column(dataset=protocol.dataset, split="test", epochs=READ_EPOCHS)
    limits = dict.fromkeys(
        (column.devices[0], column.limit_ms) for column in table.columns if column.limit_ms is not None
    )
    choices: dict[tuple[str, float], Choice] = {
        (name, limit_ms): method.choose(task, NewDevice(name), limit_ms, cells, protocol.dataset)
        for name, limit_ms in limits
    }

    def value(column: TableColumn) -> float:
        if column.limit_ms is not None:
            choice = choices[column.devices[0], column.limit_ms]
            return float(tests[choice.row]) if column.shows == "test_acc_pct" else choice.latency_ms
        chosen = [(limit, choice) for (name, limit), choice in choices.items() if name in column.devices]
        if column.shows == "limits_met":
            return float(sum(choice.latency_ms <= limit for limit, choice in chosen))
        return float(np.mean([getattr(choice, str(column.shows)) for _, choice in chosen]))

    return {column.name: value(column) for column in table.columns}
