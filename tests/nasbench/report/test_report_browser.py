"""The report in a real browser: no complaints, pointer, touch and keyboard, a phone, and paper."""

import re

import pytest
from browser import CHROMIUM, Browser
from report_samples import make_report

from nasbench.drawing.svg import svg
from nasbench.report.html import write_html
from nasbench.storage.files import write_text
from search_spaces.diagram import Node, chain

pytestmark = pytest.mark.only_where(CHROMIUM)

PRUNE = {"prune": {"ratio": 0.25, "importance": "l2"}}


def full_report():
    """With everything that a report may hold."""
    report = make_report()
    report["experiment"]["objectives"].append({"metric": "size_bytes", "goal": "min", "limit": None})
    report["space"] = {"architectures": 4_000_000, "recipes": 42}
    for one in report["candidates"]:
        one |= {"network": one["architecture"], "recipe": [PRUNE, {"compile": {"backend": "onnxruntime"}}]}
        one["architecture"] += " & prune.ratio=0.25"
    done = [one for one in report["candidates"] if one["status"] == "done"]
    seconds = [one["finished_s"] for one in done]
    report["hypervolume"] = {"seconds": seconds, "values": [n / len(done) for n in range(len(done))]}
    count = list(range(1, 21))
    report["baseline"] = {
        **{"controller": "random", "measure": "score", "candidates": 20, "count": count, "better": True},
        **{"searches": 40, "coverage_pct": 95.1, "verdict": "better"},
        **{key: [at - 1 / n for n in count] for key, at in (("low", 90), ("mean", 91), ("high", 92), ("search", 93))},
        "statement": "evolution reached 93; random search reached 91",
    }
    names = [f"mobile.s{stage}l{layer}_block" for stage in range(3) for layer in range(4)]
    shares = {name: 1 / (2 + place) for place, name in enumerate(names)}
    report["importance"] = {"val_acc_pct": shares, "latency_ms": shares, "size_bytes": "too few candidates"}
    report["importance_by_chance"] = {metric: dict.fromkeys(names, 0.2) for metric in ("val_acc_pct", "latency_ms")}
    report["early_ends"] = [{"stage": "artefact", "count": 4, "seconds": 9.0, "candidates": [4, 18, 25, 32]}]
    return report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The file of a report, with drawings of the first survivor and of the front."""
    folder, report = tmp_path_factory.mktemp("run"), full_report()
    first = report["survivors"][0]
    first |= {"drawing": "survivors/1/architecture.svg", "drawing_error": None}
    rows = []
    for number in report["front"]:
        file = first["drawing"] if number == first["candidate"] else f"drawings/{number}.svg"
        nodes = [Node("a", f"image {number}", kind="input"), Node("b", "linear", "10", "output")]
        write_text(folder / file, svg([chain("network", nodes)], title=f"Candidate {number}"))
        rows.append({"candidates": [number], "drawing": file, "drawing_error": None})
    report["drawings"] = rows
    write_html(report, folder / "report.html")
    return folder / "report.html", report


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def shown(browser):
    return browser.run("document.getElementById('shown').innerText")


def drawn(browser):
    return browser.run("[...document.querySelectorAll('#shown svg text')].map((one) => one.textContent)")


def place_of(browser, number):
    """Where a candidate of the front is on the screen."""
    return browser.run(
        f"""(() => {{
          const plot = document.getElementById("front");
          plot.scrollIntoView({{block: "center"}});
          const trace = plot.data.find((one) => one.name === "Pareto front");
          const at = trace.customdata.indexOf({number});
          const {{xaxis, yaxis}} = plot._fullLayout, box = plot.getBoundingClientRect();
          return [box.left + xaxis._offset + xaxis.d2p(trace.x[at]), box.top + yaxis._offset + yaxis.d2p(trace.y[at])];
        }})()"""
    )


def test_the_page_loads_nothing_and_complains_of_nothing(browser, page):
    browser.open(page[0])
    plots = browser.run("[...document.querySelectorAll('.js-plotly-plot')].map((one) => one.id)")
    assert {"front", "front-size_bytes", "progress", "hypervolume", "baseline", "importance-val_acc_pct"} <= set(plots)
    assert browser.run("document.querySelectorAll('.js-plotly-plot .main-svg').length") >= len(plots)
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_click_on_a_point_shows_its_architecture(browser, page):
    browser.open(page[0])
    ranks = {one["candidate"] for one in page[1]["survivors"]}
    number = next(member for member in page[1]["front"] if member not in ranks)
    assert shown(browser) == ""
    browser.click(*place_of(browser, number))
    assert shown(browser).startswith(f"Candidate {number}\n") and f"image {number}" in drawn(browser)
    assert "prune: ratio 0.25, importance l2" in shown(browser)
    assert browser.run("[...document.querySelectorAll('tr.on')].map((one) => one.dataset.candidate)") == [str(number)]
    assert browser.run("document.getElementById('front').data.at(-1).x.length") == 1  # it is marked
    assert browser.problems == []


def test_a_tap_does_the_same_on_a_phone(browser, page):
    browser.open(page[0], width=360, height=780, mobile=True)
    ranks = {one["candidate"] for one in page[1]["survivors"]}
    number = next(member for member in page[1]["front"] if member not in ranks)
    browser.tap(*place_of(browser, number))
    assert shown(browser).startswith(f"Candidate {number}\n") and f"image {number}" in drawn(browser)
    assert browser.problems == []


def test_the_keyboard_goes_from_row_to_row(browser, page):
    browser.open(page[0])
    rows = browser.run("[...document.querySelectorAll('tr[data-candidate]')].map((one) => one.dataset.candidate)")
    assert sorted(map(int, rows)) == sorted({*page[1]["front"], *(one["candidate"] for one in page[1]["survivors"])})
    browser.run("document.querySelector('tr[data-candidate] button').focus()")
    browser.press("Enter")
    assert shown(browser).startswith(f"Candidate {rows[0]}")
    browser.press("ArrowDown")
    assert shown(browser).startswith(f"Candidate {rows[1]}")
    assert browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    survivor = page[1]["survivors"][0]["candidate"]  # its drawing stands in another section
    browser.run(f"document.querySelector('tr[data-candidate=\"{survivor}\"] button').click()")
    assert f"survivor {page[1]['survivors'][0]['rank']}" in shown(browser) and f"image {survivor}" in drawn(browser)
    assert browser.problems == []


def test_nothing_is_wider_than_a_phone(browser, page):
    browser.open(page[0], width=360, height=780, mobile=True)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    small = browser.run(
        "[...document.querySelectorAll('button')].filter((one) => one.getBoundingClientRect().height < 40).length"
    )
    assert small == 0  # a finger hits them
    assert browser.problems == []


def test_paper_holds_all_of_it(browser, page):
    browser.open(page[0])
    printed = browser.pdf()
    assert printed.startswith(b"%PDF-")
    sides = re.findall(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert sides and {(float(width) // 5, float(height) // 5) for width, height in sides} == {(119, 168)}  # A4
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.size(718, 1000)  # what A4 leaves between margins of 12 mm, in pixels
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.settle()
    try:
        wide = browser.run(
            """[...document.querySelectorAll("body *")]
              .filter((one) => one.closest("svg") === null || one.matches("svg.main-svg, .scroll > svg"))
              .filter((one) => one.getBoundingClientRect().right > 719 && one.getBoundingClientRect().width > 0)
              .map((one) => `${one.tagName} ${one.id} ${one.className.baseVal ?? one.className}`)"""
        )
        assert wide == []
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
