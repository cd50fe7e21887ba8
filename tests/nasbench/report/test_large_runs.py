"""Reports of more candidates than a page can show: a sample is drawn, and it says so."""

import json

import pytest
from report_samples import make_report

from nasbench.report import figures
from nasbench.report.html import write_html
from nasbench.report.large import FRONT, drawn
from nasbench.storage.files import LONG, write_json

MANY = 20_000
REPORT = make_report()


@pytest.fixture(scope="module")
def large():
    """A search whose best comes in steps, and whose front has more members than are drawn."""
    done = next(candidate for candidate in REPORT["candidates"] if candidate["status"] == "done")
    quality, cost = "val_acc_pct", "latency_ms"
    candidates = []
    for number in range(MANY):
        on_front = number % 40 == 0
        level = 50.0 + number // 2000 if number % 2000 == 7 else 20.0
        value = 60.0 + number / MANY if on_front else level
        metrics = {**done["metrics"], quality: value, cost: 1.0 + number / MANY + (not on_front)}
        candidates.append(
            {**done, "id": number, "metrics": metrics, "scores": [value], "finished_s": 0.01 * number, "curve": {}}
            | {"network": f"network {number}"}
        )
    front = list(range(0, MANY, 40))
    return {**REPORT, "candidates": candidates, "front": front, "survivors": [], "drawings": []}


def test_a_page_of_many_candidates_is_small_and_says_what_is_drawn(large, tmp_path):
    write_html(large, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert len(page.encode()) < 2.2 * 2**20, "of these plotly.js takes 1.8"
    shown = len(drawn(large)["candidates"])
    assert f"{shown} of {MANY:,} candidates" in " ".join(page.split())
    assert f"{len(large['front']) - FRONT} members are left out" in " ".join(page.split())


def test_a_network_that_is_on_the_front_again_and_again_is_drawn_once(large):
    alike = [{**candidate, "network": f"network {candidate['id'] % 400}"} for candidate in large["candidates"]]
    assert drawn({**large, "candidates": alike})["front"] == list(range(0, 400, 40))


def test_the_curve_of_the_best_is_that_of_all_candidates(large):
    def best(report):
        (line,) = (trace for trace in figures.best_so_far(report).data if trace.name == "best so far")
        steps = []
        for moment, value in zip(line.x, line.y, strict=True):
            if not steps or value != steps[-1][1]:
                steps.append((moment, value))
        return steps

    assert best(drawn(large)) == best(large) and len(best(large)) > 10


def test_a_report_of_few_candidates_is_drawn_whole():
    assert drawn(REPORT) is REPORT


def test_a_long_list_of_a_json_file_has_a_line_for_each_entry(tmp_path):
    value = {"rows": [{"number": number, "text": "two\nlines"} for number in range(LONG + 1)], "nan": float("nan")}
    write_json(tmp_path / "long.json", value)
    text = (tmp_path / "long.json").read_text()
    assert json.loads(text) == value | {"nan": None}
    assert text.count("\n") == LONG + 5
