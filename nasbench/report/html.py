"""``report.html``: the record of a search as one page that opens anywhere, offline, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from nasbench.devices.measure import ESTIMATORS
from nasbench.report import figures, units
from nasbench.report.agreement import agreement_figure
from nasbench.report.cost import cost_rows, cost_sentence
from nasbench.report.curves import curve, learning_curves, quality_of, shown_curves
from nasbench.report.failures import failed_kinds, messages
from nasbench.report.front_page import front, quantity
from nasbench.report.importance_bars import beyond_chance, importance_figures
from nasbench.report.large import drawn
from nasbench.report.operations import operations_over_epochs
from nasbench.report.over_time import against_baseline, hypervolume_over_time
from nasbench.report.overview import cards, result_sentence, runtime
from nasbench.report.page import TEMPLATES, drawing, write_page
from nasbench.report.reproduce import again
from nasbench.report.stage_bars import EAGER, Measure, accuracy_metric, stage_bars

Record = Mapping[str, Any]


def errors_pct(pairs: Sequence[Record]) -> list[float]:
    """The errors of predictions, in percent of what was measured, in ascending order."""
    return sorted(100 * abs(pair["predicted_ms"] / pair["measured_ms"] - 1) for pair in pairs)


def estimators(report: Record) -> list[str]:
    """The estimators that latencies were read from: in the search, on the front, of stages."""
    places = {"search": "in the search", "front": "on the front", "stages": "of stages"}
    used = {places[key]: estimator for key, estimator in (report.get("latency") or {}).items() if estimator}
    return [f"{place}, {ESTIMATORS.get(estimator, estimator)}" for place, estimator in used.items()]


def reordered(reordering: Record | None) -> list[dict[str, str]]:
    """A row of the page for each recipe and backend whose networks were put in order."""

    def text(agreement: Record | None) -> str:
        return (
            f"{agreement['correlation']:.2f} ({agreement['low']:.2f} to {agreement['high']:.2f})" if agreement else ""
        )

    return [
        {
            "recipe": row["recipe"],
            "backend": row["backend"],
            "networks": str(row["n"]),
            "accuracy before and after": text(row["quality"]),
            "MACs and latency": text(row["latency"]),
        }
        for row in (reordering or {}).get("rows") or ()
    ]


TEMPLATES.filters |= {
    function.__name__: function
    for function in (accuracy_metric, beyond_chance, curve, errors_pct, figures.metric, quantity, runtime)
}


def write_html(report: Record, path: Path) -> None:
    """Write the report as one self-contained HTML file.

    The file appears whole or not at all: it is written aside, then renamed. Parts that the report does not have yet
    become a sentence that says so.

    Args:
        report: Content of ``report.json``.
        path: File that is written, in the folder of the run; the drawings that the report names are read from there.
    """
    shown = drawn(report)
    candidates = {candidate["id"]: candidate for candidate in shown.get("candidates") or ()}
    survivors = report.get("survivors") or ()
    write_page(
        "report.html.j2",
        path,
        report=report,
        name=str((report.get("experiment") or {}).get("name") or "search"),
        candidates=candidates,
        all_candidates=len(report.get("candidates") or ()),
        cards=list(cards(report)),
        found=result_sentence(report),
        spent=cost_sentence(report),
        drawings={
            name: drawing(path.parent / name)
            for survivor in survivors
            if (name := survivor.get("drawing")) and (path.parent / name).is_file()
        },
        figures={
            "distribution": figures.distribution(report),
            "progress": figures.best_so_far(shown),
            "hypervolume": hypervolume_over_time(shown),
            "baseline": against_baseline(shown),
            "curves": learning_curves(shown),
            "agreement": agreement_figure(report.get("agreement")),
            "operations_chosen": operations_over_epochs(report, "chosen"),
            "operations_strengths": operations_over_epochs(report, "strengths"),
            "predictor": figures.predictor(report.get("predictor") or {}),
        },
        progress=figures.progress_scores(report)[0],
        kinds={figures.status(candidate) for candidate in candidates.values()},
        importance=importance_figures(report),
        shown_curves=shown_curves(shown),
        quality=units.METRICS.get(quality_of(report), (quality_of(report), ""))[0],
        stage_figures={
            survivor["rank"]: {
                measure: figure for measure in get_args(Measure) if (figure := stage_bars(survivor, measure)).data
            }
            for survivor in survivors
        },
        estimators=estimators(report),
        reordered=reordered(report.get("reorder")),
        failed_kinds=failed_kinds(report),
        messages=messages(report),
        costs=cost_rows(report),
        again=again(report),
        EAGER=EAGER,
        HELD_OUT=figures.HELD_OUT,
        **front(shown, path.parent),
    )
