"""``report.html``: the record of a search as one page that opens anywhere, offline, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from nasbench.report import figures, page, units
from nasbench.report.cost import cost
from nasbench.report.curves import learning_curves, quality_of, shown_curves
from nasbench.report.failures import failures
from nasbench.report.front_page import front_members, survivor_drawing
from nasbench.report.importance_bars import importance_section
from nasbench.report.over_time import against_baseline, hypervolume_over_time
from nasbench.report.overview import overview, runtime
from nasbench.report.page import missing, safe, section
from nasbench.report.recipe_text import recipe_steps
from nasbench.report.reproduce import reproduce
from nasbench.report.stage_bars import EAGER, Measure, accuracy_metric, stage_bars
from nasbench.storage.files import write_text

Record = Mapping[str, Any]


def write_html(report: Record, path: Path) -> None:
    """Write the report as one self-contained HTML file.

    The file appears whole or not at all: it is written aside, then renamed. Parts that the report does not have yet
    become a sentence that says so.

    Args:
        report: the content of ``report.json``.
        path: the file to write, in the folder of the run; the drawings that the report names are read from there.
    """
    name = str((report.get("experiment") or {}).get("name") or "search")
    sections = [
        overview(report, name),
        section("Survivors, stage by stage", f"{_survivors(report)}\n{_drawings(report, path.parent)}"),
        section("Pareto front" if figures.objective_axes(report) else "Objective", _front(report, path.parent)),
        section("Best so far", _progress(report)),
        section("What mattered", importance_section(report)),
        *([section("Learning curves", _curves(report))] if shown_curves(report) else []),
        section("What each stage changed", _stages(report)),
        section("Latency predictor", _predictor(report)),
        section("Failures", failures(report)),
        section("Cost", cost(report)),
        section("How to reproduce", reproduce(report)),
    ]
    write_text(path, page.document(f"{name} - search report", "\n".join(sections)))


def _survivors(report: Record) -> str:
    survivors = report.get("survivors") or ()
    if not survivors:
        return missing("No candidate has gone through the recipe yet, so there is nothing to compare.")
    keys = {accuracy_metric(survivor) for survivor in survivors}
    quality = units.label(next(iter(keys))) if len(keys) == 1 else "accuracy, %"
    heads = [
        "Stage",
        safe(quality[:1].upper() + quality[1:]),
        "Latency median (p95), ms",
        "Size",
        "Params",
        "MACs",
        "Throughput, 1/s",
    ]
    head = "".join(f"<th>{name}</th>" for name in heads)
    head += '<th class="text">Runtime, precision</th><th class="text">Accepted</th>'
    bodies = []
    for survivor in survivors:
        arch = str(survivor.get("architecture", ""))
        rows = [
            f'<tr class="group"><th class="text" colspan="9"><div>Survivor {safe(survivor["rank"])}, candidate '
            f'{safe(survivor["candidate"])} &nbsp;<code title="{safe(arch)}">{safe(units.shorten(arch))}</code>'
            "</div></th></tr>"
        ]
        baseline = survivor.get("baseline") or {}
        if units.median_ms(baseline.get("latency_ms")) is not None:
            cells = ["", _latency(baseline["latency_ms"], None), "", "", "", ""]
            rows.append(_row(EAGER, cells, runtime(baseline), "for reference"))
        stages = survivor.get("stages") or []
        rows += [_stage_row(survivor, stage, stages[0]) for stage in stages]
        if not stages:
            rows.append('<tr><td colspan="9" class="empty">No stage has been measured yet.</td></tr>')
        bodies.append("<tbody>\n" + "\n".join(rows) + "\n</tbody>")
    note = (
        "Small print: the difference from the first stage of the survivor, in percentage points for accuracy and in "
        "percent elsewhere; latency as a multiple of that in eager PyTorch, timed in turn, with its 95 % interval. "
        "Rejected stages are grey; the recipe went on without them."
    )
    table = f'<table class="stages"><thead><tr>{head}</tr></thead>\n' + "\n".join(bodies) + "\n</table>"
    return f'<div class="scroll">{table}</div>\n<p class="note">{note}</p>'


def _drawings(report: Record, root: Path) -> str:
    parts = []
    for survivor in report.get("survivors") or ():
        who = f"survivor {survivor['rank']}, candidate {survivor['candidate']}"
        if error := survivor.get("drawing_error"):
            parts.append(missing(f"The architecture of {who} could not be drawn: {error}"))
        elif (name := survivor.get("drawing")) and (root / name).is_file():
            drawn = (root / name).read_text(encoding="utf-8")
            parts.append(
                f'<details class="drawing"{" open" * (not parts)}><summary>The architecture of {safe(who)}</summary>\n'
                f'<div class="scroll" id="{survivor_drawing(survivor["rank"])}">{drawn}</div></details>'
            )
    return "\n".join(parts)


def _stage_row(survivor: Record, stage: Record, first: Record) -> str:
    metrics, start = stage.get("metrics") or {}, first.get("metrics") or {}
    if stage is first:
        start = {}
    key = accuracy_metric(survivor)
    accuracy, before = units.number(metrics.get(key)), units.number(start.get(key))
    latency = _latency(metrics.get("latency_ms"), start.get("latency_ms"))
    if of_eager := metrics.get("of_eager"):
        times, interval = _ratio(of_eager)
        latency += f"<small>{times} of eager</small><small>{interval}</small>"
    cells = [
        _with_small(units.quality_text(accuracy, key, unit=False), units.quality_change(accuracy, before, key)),
        latency,
    ]
    for name, write in (
        ("size_bytes", units.size),
        ("params", units.count),
        ("macs", units.count),
        ("throughput_per_s", units.significant),
    ):
        value = units.number(metrics.get(name))
        cells.append(_with_small(write(value), units.relative(value, units.number(start.get(name)))))
    accepted = bool(stage.get("accepted"))
    reason = str(stage.get("reason") or "")
    verdict = "yes" if accepted else "no"
    if reason:
        verdict += f": {safe(reason)}" if not accepted else f"<small>{safe(reason)}</small>"
    if stage.get("advice"):
        verdict += f"<small>To help: {safe(stage['advice'])}.</small>"
    if saving := (stage.get("saving") or {}).get("latency"):
        times, interval = _ratio(saving)
        verdict += f"<small>{times} of the latency of the stage before {interval}</small>"
    return _row(str(stage.get("name")), cells, runtime(metrics), verdict, rejected=not accepted)


def _row(name: str, cells: Sequence[str], runtime: str, verdict: str, *, rejected: bool = False) -> str:
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    kind = ' class="rejected"' if rejected else ""
    return (
        f"<tr{kind}><td>{safe(name)}</td>{numbers}"
        f'<td class="text">{runtime or units.MISSING}</td><td class="text verdict">{verdict}</td></tr>'
    )


def _ratio(ratio: Record) -> tuple[str, str]:
    """A ratio of latencies, and its 95 % interval."""
    value, low, high = (units.significant(units.number(ratio.get(key))) for key in ("ratio", "low", "high"))
    return value, f"({low} to {high})"


def _latency(latency: object, before: object) -> str:
    median = units.median_ms(latency)
    if median is None or not isinstance(latency, Mapping):
        return units.significant(median)
    text = f"{units.significant(median)} ({units.significant(units.number(latency.get('p95')))})"
    alike = isinstance(before, Mapping) and units.comparable(latency, before)
    notes = [
        units.relative(median, units.median_ms(before)) if alike else "",
        "unstable" * bool(latency.get("unstable")),
    ]
    return _with_small(text, ", ".join(note for note in notes if note))


def _with_small(text: str, small: str) -> str:
    return f"{safe(text)}<small>{safe(small)}</small>" if small else safe(text)


def _front(report: Record, root: Path) -> str:
    objectives = (report.get("experiment") or {}).get("objectives") or ()
    axes = figures.objective_axes(report)
    if axes is None:
        note = "The search has one objective, so there is no front: this is how the candidates are spread over it."
        drawn = _plot(figures.distribution(report), "objective", note, "No candidate is done with a value to draw.")
        return f"{drawn}\n{front_members(report, root)}"
    caption = "Point at a candidate for its numbers; click or tap it to see more."
    if len(objectives) > 2:
        caption = (
            f"The front of all {len(objectives)} objectives, seen from two of them: its members need not lie on "
            f"the edge of this picture. {caption}"
        )
    empty = "No candidate is done with both objectives to draw."
    parts = [_plot(figures.pareto_front(report), "front", _at_the_edge(report, axes) + caption, empty)]
    for other in figures.further_axes(report):
        figure, words = figures.pareto_front(report, other), units.METRICS.get(other[0]["metric"], ("",))[0]
        caption = f"{_at_the_edge(report, other)}The same front, seen from {safe(words or other[0]['metric'])}."
        parts.append(_plot(figure, f"front-{other[0]['metric']}", caption, empty))
    return "\n".join([*parts, front_members(report, root)])


def _at_the_edge(report: Record, axes: tuple[Record, Record]) -> str:
    """That candidates without a value stand at the lower edge, if there are any."""
    across, up = (objective["metric"] for objective in axes)
    infeasible = [c for c in report.get("candidates") or () if c.get("status") == "infeasible"]
    if not any(figures.metric(c, up) is None and figures.metric(c, across) is not None for c in infeasible):
        return ""
    return f"Infeasible candidates without {safe(units.METRICS.get(up, (up, ''))[0])} stand at the lower edge. "


def _progress(report: Record) -> str:
    title, _, _ = figures.progress_scores(report)
    judged = "The score is the reward of the search; larger is better."
    if title != figures.SCORE:
        judged = f"The reward has several scores, so progress is judged by {safe(title.partition(',')[0])} alone."
    caption = f"{judged} Only feasible candidates count; those without a value stand at the lower edge."
    kinds = {figures.status(each) for each in report.get("candidates") or ()}
    if figures.SHORTER in kinds:
        caption = f"{caption} Candidates that were trained for fewer epochs than others are drawn and do not count."
    if figures.STOPPED in kinds:
        caption = (
            f"{caption} Candidates that were stopped early are drawn with what they had reached; they do not count."
        )
    parts = [_plot(figures.best_so_far(report), "progress", caption, "No candidate has a score yet.")]
    if report.get("hypervolume"):
        note = (
            "Hypervolume: what the candidates so far dominate, between the worst value of every objective (0) and the "
            "best of all of them at once (1). Costs count by their logarithms."
        )
        parts.append(_plot(hypervolume_over_time(report), "hypervolume", note, "No hypervolume was recorded."))
    if told := report.get("baseline"):
        note = (
            f"{safe(told['statement'])} The band is where another {safe(told['controller'])} search lies with a "
            f"probability of {told['coverage_pct']:.0f}&nbsp;%."
        )
        parts.append(_plot(against_baseline(report), "baseline", note, "The baseline has no candidate yet."))
    return "\n".join(parts)


def _curves(report: Record) -> str:
    there = sum(len(each.get("curve") or ()) > 1 for each in report.get("candidates") or ())
    shown = len(shown_curves(report))
    words = units.METRICS.get(quality_of(report), (quality_of(report), ""))[0]
    caption = f"{safe(words[:1].upper() + words[1:])} while training. Hover or tap a line for its candidate."
    if any(each.get("status") == "stopped" for each in shown_curves(report)):
        caption = f"A dot is where the scheduler stopped a candidate. {caption}"
    if shown < there:
        caption = f"{shown:,} of {there:,} curves, evenly spread over the search. {caption}"
    return _plot(learning_curves(report), "curves", caption, "No candidate was validated twice.")


def _stages(report: Record) -> str:
    survivors = report.get("survivors") or ()
    if not survivors:
        return missing("No survivor has been compressed yet.")
    parts = [
        '<p class="note">From where it began to the result: green is a change for the better, red for the worse, since '
        "the last accepted stage, in percentage points for accuracy and in percent for latency and size. Latency and "
        "size are multiples and start at zero; accuracy does not. Lines at the ends of bars are 95&nbsp;% intervals of "
        "ratios that were timed in turn; a change that stays within its interval is grey. Rejected stages are grey and "
        "hatched; the recipe went on without them.</p>"
    ]
    for survivor in survivors:
        drawn = [
            page.plot(figure, f"stages-{survivor['rank']}-{measure}", tools=False)
            for measure in get_args(Measure)
            if (figure := stage_bars(survivor, measure)).data
        ]
        head = (
            f"<h3>Survivor {safe(survivor['rank'])}, candidate {safe(survivor['candidate'])}</h3>\n"
            f"{_what(report, survivor)}"
        )
        panels = '<div class="panels">\n' + "\n".join(drawn) + "\n</div>"
        body = panels if drawn else missing("No stage of this survivor has been measured yet.")
        parts.append(f'<div class="survivor">\n{head}\n{body}\n</div>')
    return "\n".join(parts)


def _what(report: Record, survivor: Record) -> str:
    """The architecture of a survivor, and its recipe where recipes were searched."""
    candidates: Sequence[Record] = report.get("candidates") or ()
    chosen = next((one for one in candidates if one["id"] == survivor["candidate"]), {**survivor, "recipe": None})
    if chosen.get("recipe") is None:
        return f'<p class="note"><code>{safe(survivor.get("architecture", ""))}</code></p>'
    steps = "; ".join(safe(step) for step in recipe_steps(chosen["recipe"])) or "no step"
    return f'<p class="note"><code>{safe(chosen.get("network", ""))}</code><br>{steps}</p>'


def _predictor(report: Record) -> str:
    told = report.get("predictor")
    if not told:
        if (report.get("space") or {}).get("recipes"):
            return missing(
                "No artefact has both a predicted and a measured latency: predictions begin after a dozen measurements."
            )
        return missing("No latency predictor was used: latencies were measured, or are no objective.")
    error, rank = units.number(told.get("median_error_pct")), units.number(told.get("spearman"))
    facts = [f"Spearman rank correlation {rank:.3f}"] if rank is not None else []
    facts += [f"median error {units.significant(error)} %"] if error is not None else []
    facts += [f"n = {safe(told['n'])}"] if told.get("n") is not None else []
    text = f"<p>{safe(told.get('name') or 'Predictor')}: {', '.join(facts) or 'no figures of merit'}.</p>"
    how = "Held out: " if told.get("what", figures.HELD_OUT) == figures.HELD_OUT else "Compared: "
    protocol = f"{how}{safe(told['protocol'])}" if told.get("protocol") else "What was held out is not recorded."
    text += _unsure(told.get("unsure") or ()) + _chosen(told.get("chosen") or ())
    empty = "No pair of measured and predicted latency was kept."
    return f"{text}\n{_plot(figures.predictor(told), 'predictor', protocol, empty, square=True)}"


def _unsure(unsure: Sequence[Record]) -> str:
    """How often a search did not believe its predictor, and how far that was off then."""
    if not unsure:
        return ""
    errors = _errors_pct(unsure)
    return (
        f"<p>{len(unsure)} candidate{'s were' if len(unsure) > 1 else ' was'} measured during the search, where the "
        f"prediction was unsure: it was off by {units.significant(errors[len(errors) // 2])} % in the middle. "
        f"The predictor was fitted again with what was measured.</p>"
    )


def _errors_pct(pairs: Sequence[Record]) -> list[float]:
    """Of predictions, in percent of what was measured, in ascending order."""
    return sorted(100 * abs(each["predicted_ms"] / each["measured_ms"] - 1) for each in pairs)


def _chosen(chosen: Sequence[Record]) -> str:
    """How far predictions were off where it mattered."""
    if not chosen:
        return ""
    errors = _errors_pct(chosen)
    who = f"{len(chosen)} candidate{'s' * (len(chosen) > 1)} on the front or among the survivors"
    return (
        f"<p>{who} {'were' if len(chosen) > 1 else 'was'} measured when the search was over, "
        f"in turn; the front of this report is that of the measured latencies. Their predictions were off by "
        f"{units.significant(errors[len(errors) // 2])} % in the middle and {units.significant(errors[-1])} % at most."
        f"</p>"
    )


def _plot(figure: Any, name: str, caption: str, empty: str, *, square: bool = False) -> str:
    """The figure with its caption (HTML), or the sentence that says why there is none."""
    if not figure.data:
        return missing(empty)
    kind = ' class="square"' if square else ""
    return f"<figure{kind}>\n{page.plot(figure, name)}\n<figcaption>{caption}</figcaption>\n</figure>"
