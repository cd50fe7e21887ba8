"""What a search prints at its end: its survivors with their stages; without survivors, its front."""

import io

from report_samples import make_report
from rich.console import Console

from nasbench.report import result_table


def printed(report):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(result_table(report))
    return console.export_text()


def test_survivors_and_their_stages():
    text = printed(make_report())
    assert "Survivors of" in text and "eager PyTorch" in text


def test_without_survivors_the_front_with_every_objective():
    report = make_report()
    report["survivors"] = []
    lines = [line for line in printed(report).splitlines() if line.startswith("│") and line.split("│")[1].strip()]
    assert len(lines) == min(len(report["front"]), 10)
    metrics = {candidate["id"]: candidate["metrics"] for candidate in report["candidates"]}
    first = report["experiment"]["objectives"][0]
    shown = [metrics[int(line.split("│")[1])][first["metric"]] for line in lines]
    assert shown == sorted(shown, reverse=first["goal"] == "max")
