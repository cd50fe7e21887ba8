"""``report.html``: the record of a search as one page that opens anywhere, offline, on a phone and on paper."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from nasbench.files import write_text
from nasbench.report import figures, page, units

Record = Mapping[str, Any]

ABOUT_THE_RUN = ("started", "command", "seed", "commit", "machine", "cores")


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
        _head(report, name),
        _section("Survivors, stage by stage", f"{_survivors(report)}\n{_drawings(report, path.parent)}"),
        _section("Pareto front" if figures.objective_axes(report) else "Objective", _front(report)),
        _section("Best so far", _progress(report)),
        _section("What each stage changed", _stages(report)),
        _section("Latency predictor", _predictor(report)),
        _section("Failures", _failures(report)),
        _section("How to reproduce", _reproduce(report)),
    ]
    write_text(path, page.document(f"{name} - search report", "\n".join(sections)))


def _head(report: Record, name: str) -> str:
    status = str(report.get("status") or "unknown")
    early = "" if status == "complete" else " early"
    return (
        f'<header>\n<h1>{_text(name)}</h1>\n<p class="status{early}">Status: {_text(status)}</p>\n'
        f'<p class="summary">{_asked(report)} {_found(report)} {_cost(report)}</p>\n</header>'
    )


def _asked(report: Record) -> str:
    experiment = report.get("experiment") or {}
    goals = []
    for objective in experiment.get("objectives") or ():
        words, unit = units.METRICS.get(objective["metric"], (objective["metric"], ""))
        limit = units.number(objective.get("limit"))
        bound = "at least" if objective["goal"] == "max" else "at most"
        within = "" if limit is None else f" ({bound} {units.significant(limit)} {unit})".replace(" )", ")")
        goals.append(f"{'high' if objective['goal'] == 'max' else 'low'} {_text(words)}{within}")
    device = experiment.get("device") or {}
    threads, batch = device.get("threads"), device.get("batch")
    details = [f"{_text(threads)} thread{'s' * (threads != 1)}"] if threads is not None else []
    details += [f"batch {_text(batch)}"] if batch is not None else []
    details += [_text(device["runtime"])] if device.get("runtime") else []
    where = f"{_part(experiment, 'device')}{' (' + ', '.join(details) + ')' if details else ''}"
    return (
        f"Asked for {' and '.join(goals) or 'no objective'} on the device {where}: the controller "
        f"{_part(experiment, 'controller')} searched the space {_part(experiment, 'space')} on the data "
        f"{_part(experiment, 'data')}."
    )


def _found(report: Record) -> str:
    survivors = sorted((s for s in report.get("survivors") or () if s.get("stages")), key=lambda s: s["rank"])
    if not survivors:
        return "Found no survivor yet."
    best = survivors[0]
    first = best["stages"][0]
    kept = [stage for stage in best["stages"] if stage.get("accepted")]
    who = f"The best survivor (candidate {_text(best['candidate'])})"
    if not kept or kept[-1] is first:
        return f"{who} has {_described(best, first)} as {_text(first['name'])}; no later stage was accepted."
    last = kept[-1]
    key = figures.accuracy_metric(best)
    before, now = first.get("metrics") or {}, last.get("metrics") or {}
    changes = [_faster(now.get("latency_ms"), before.get("latency_ms"))]
    sizes = (units.number(now.get("size_bytes")), units.number(before.get("size_bytes")))
    changes.append(units.times(*sizes, "smaller", "larger", "as large as before"))
    points = units.points(units.number(now.get(key)), units.number(before.get(key)))
    changes.append(f"{points} percentage points of accuracy" if points else "")
    told = ", ".join(change for change in changes if change)
    sentence = (
        f"{who} went from {_described(best, first)} as {_text(first['name'])} to {_described(best, last)} as "
        f"{_text(last['name'])}{': ' if told else ''}{told}."
    )
    eager = (best.get("baseline") or {}).get("latency_ms")
    if gain := _faster(now.get("latency_ms"), eager):
        known = units.significant(units.median_ms(eager))
        sentence += f" Against the searched model in eager PyTorch ({known} ms) it is {gain}."
    if any(isinstance(one, Mapping) and one.get("unstable") for one in (now.get("latency_ms"), eager)):
        sentence += " The timing was unstable; do not trust small differences."
    return sentence


def _faster(now: object, before: object) -> str:
    """The ratio of two measured latencies; empty where they were not measured alike."""
    if not isinstance(now, Mapping) or not isinstance(before, Mapping) or not units.comparable(now, before):
        return ""
    return units.times(units.median_ms(now), units.median_ms(before), "faster", "slower", "as fast")


def _described(survivor: Record, stage: Record) -> str:
    metrics = stage.get("metrics") or {}
    key = figures.accuracy_metric(survivor)
    accuracy, latency = units.number(metrics.get(key)), units.median_ms(metrics.get("latency_ms"))
    size = units.number(metrics.get("size_bytes"))
    parts = [f"{units.percentage(accuracy)}&nbsp;% {units.METRICS[key][0]}"] if accuracy is not None else []
    parts += [f"{units.significant(latency)}&nbsp;ms"] if latency is not None else []
    parts += [units.size(size).replace(" ", "&nbsp;")] if size is not None else []
    return f"<b>{', '.join(parts) or 'no measurements'}</b>" + (f" ({how})" if (how := _runtime(metrics)) else "")


def _cost(report: Record) -> str:
    candidates, compute = report.get("candidates") or (), report.get("compute") or {}
    counts = {status: sum(c.get("status") == status for c in candidates) for status in ("done", "failed", "infeasible")}
    told = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    parts = [f"{len(candidates)} candidate{'s' * (len(candidates) != 1)}" + (f" ({told})" if told else "")]
    wall, busy = units.number(compute.get("wall_seconds")), units.number(compute.get("device_seconds"))
    parts += [f"{units.duration(wall)} of wall time"] if wall is not None else []
    parts += [f"{units.duration(busy)} of device time"] if busy is not None else []
    days = units.number(compute.get("pfs_days"))
    parts += [f"{days:.2g} petaflop/s-days"] if days is not None else []
    return f"The cost: {', '.join(parts)}."


def _survivors(report: Record) -> str:
    survivors = report.get("survivors") or ()
    if not survivors:
        return _empty("No candidate has gone through the recipe yet, so there is nothing to compare.")
    keys = {figures.accuracy_metric(survivor) for survivor in survivors}
    accuracy = units.METRICS[next(iter(keys))][0].capitalize() if len(keys) == 1 else "Accuracy"
    heads = ["Stage", f"{accuracy}, %", "Latency median (p95), ms", "Size", "Params", "MACs", "Throughput, 1/s"]
    head = "".join(f"<th>{name}</th>" for name in heads)
    head += '<th class="text">Runtime, precision</th><th class="text">Accepted</th>'
    bodies = []
    for survivor in survivors:
        arch = str(survivor.get("architecture", ""))
        rows = [
            f'<tr class="group"><th class="text" colspan="9"><div>Survivor {_text(survivor["rank"])}, candidate '
            f'{_text(survivor["candidate"])} &nbsp;<code title="{_text(arch)}">{_text(units.shorten(arch))}</code>'
            "</div></th></tr>"
        ]
        baseline = survivor.get("baseline") or {}
        if units.median_ms(baseline.get("latency_ms")) is not None:
            cells = ["", _latency(baseline["latency_ms"], None), "", "", "", ""]
            rows.append(_row(figures.EAGER, cells, _runtime(baseline), "for reference"))
        stages = survivor.get("stages") or []
        rows += [_stage_row(survivor, stage, stages[0]) for stage in stages]
        if not stages:
            rows.append('<tr><td colspan="9" class="empty">No stage has been measured yet.</td></tr>')
        bodies.append("<tbody>\n" + "\n".join(rows) + "\n</tbody>")
    note = (
        "Small print: the difference from the first stage of the survivor, in percentage points for accuracy and in "
        "percent elsewhere. Rejected stages are grey; the recipe went on without them."
    )
    table = f'<table class="stages"><thead><tr>{head}</tr></thead>\n' + "\n".join(bodies) + "\n</table>"
    return f'<div class="scroll">{table}</div>\n<p class="note">{note}</p>'


def _drawings(report: Record, root: Path) -> str:
    parts = []
    for survivor in report.get("survivors") or ():
        who = f"survivor {survivor['rank']}, candidate {survivor['candidate']}"
        if error := survivor.get("drawing_error"):
            parts.append(_empty(f"The architecture of {who} could not be drawn: {error}"))
        elif (name := survivor.get("drawing")) and (root / name).is_file():
            drawn = (root / name).read_text(encoding="utf-8")
            parts.append(
                f'<details class="drawing"{" open" * (not parts)}><summary>The architecture of {_text(who)}</summary>\n'
                f'<div class="scroll">{drawn}</div></details>'
            )
    return "\n".join(parts)


def _stage_row(survivor: Record, stage: Record, first: Record) -> str:
    metrics, start = stage.get("metrics") or {}, first.get("metrics") or {}
    if stage is first:
        start = {}
    key = figures.accuracy_metric(survivor)
    accuracy, before = units.number(metrics.get(key)), units.number(start.get(key))
    cells = [
        _with_small(units.percentage(accuracy), units.points(accuracy, before)),
        _latency(metrics.get("latency_ms"), start.get("latency_ms")),
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
        verdict += f": {_text(reason)}" if not accepted else f"<small>{_text(reason)}</small>"
    return _row(str(stage.get("name")), cells, _runtime(metrics), verdict, rejected=not accepted)


def _row(name: str, cells: Sequence[str], runtime: str, verdict: str, *, rejected: bool = False) -> str:
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    kind = ' class="rejected"' if rejected else ""
    return (
        f"<tr{kind}><td>{_text(name)}</td>{numbers}"
        f'<td class="text">{runtime or units.MISSING}</td><td class="text verdict">{verdict}</td></tr>'
    )


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
    return f"{_text(text)}<small>{_text(small)}</small>" if small else _text(text)


def _runtime(metrics: Record) -> str:
    latency = metrics.get("latency_ms")
    told = latency if isinstance(latency, Mapping) else {}
    words = [told.get("runtime") or metrics.get("runtime"), told.get("precision") or metrics.get("precision")]
    return ", ".join(_text(word) for word in words if word)


def _front(report: Record) -> str:
    objectives = (report.get("experiment") or {}).get("objectives") or ()
    axes = figures.objective_axes(report)
    if axes is None:
        note = "The search has one objective, so there is no front: this is how the candidates are spread over it."
        return _plot(figures.distribution(report), "objective", note, "No candidate is done with a value to draw.")
    caption = "Hover or tap a point for its architecture."
    if len(objectives) > 2:
        caption = (
            f"The front of all {len(objectives)} objectives, seen from two of them: its members need not lie on "
            f"the edge of this picture. {caption}"
        )
    across, up = (objective["metric"] for objective in axes)
    infeasible = [c for c in report.get("candidates") or () if c.get("status") == "infeasible"]
    if any(figures.metric(c, up) is None and figures.metric(c, across) is not None for c in infeasible):
        words = units.METRICS.get(up, (up, ""))[0]
        caption = f"Infeasible candidates without {_text(words)} stand at the lower edge. {caption}"
    return _plot(figures.pareto_front(report), "front", caption, "No candidate is done with both objectives to draw.")


def _progress(report: Record) -> str:
    title, _, _ = figures.progress_scores(report)
    judged = "The score is the reward of the search; larger is better."
    if title != figures.SCORE:
        judged = f"The reward has several scores, so progress is judged by {_text(title.partition(',')[0])} alone."
    caption = f"{judged} Only feasible candidates count; those without a value stand at the lower edge."
    if any(figures.status(each) == figures.SHORTER for each in report.get("candidates") or ()):
        caption = f"{caption} Candidates that were trained for fewer epochs than others are drawn and do not count."
    return _plot(figures.best_so_far(report), "progress", caption, "No candidate has a score yet.")


def _stages(report: Record) -> str:
    survivors = report.get("survivors") or ()
    if not survivors:
        return _empty("No survivor has been compressed yet.")
    parts = [
        '<p class="note">Every bar is a measured value; the small number is the change since the last accepted stage '
        "(percentage points for accuracy, percent for latency and size). Rejected stages are grey and hatched. "
        "Latency and size start at zero; accuracy does not, and says its range.</p>"
    ]
    for survivor in survivors:
        drawn = [
            page.plot(figure, f"stages-{survivor['rank']}-{measure}", tools=False)
            for measure in get_args(figures.Measure)
            if (figure := figures.stage_bars(survivor, measure)).data
        ]
        head = (
            f"<h3>Survivor {_text(survivor['rank'])}, candidate {_text(survivor['candidate'])}</h3>\n"
            f'<p class="note"><code>{_text(survivor.get("architecture", ""))}</code></p>'
        )
        panels = '<div class="panels">\n' + "\n".join(drawn) + "\n</div>"
        body = panels if drawn else _empty("No stage of this survivor has been measured yet.")
        parts.append(f'<div class="survivor">\n{head}\n{body}\n</div>')
    return "\n".join(parts)


def _predictor(report: Record) -> str:
    told = report.get("predictor")
    if not told:
        return _empty("No latency predictor was used: latencies were measured, or are no objective.")
    error, rank = units.number(told.get("median_error_pct")), units.number(told.get("spearman"))
    facts = [f"Spearman rank correlation {rank:.3f}"] if rank is not None else []
    facts += [f"median error {units.significant(error)} %"] if error is not None else []
    facts += [f"n = {_text(told['n'])}"] if told.get("n") is not None else []
    text = f"<p>{_text(told.get('name') or 'Predictor')}: {', '.join(facts) or 'no figures of merit'}.</p>"
    protocol = f"Held out: {_text(told['protocol'])}" if told.get("protocol") else "What was held out is not recorded."
    empty = "No pair of measured and predicted latency was kept."
    return f"{text}\n{_plot(figures.predictor(told), 'predictor', protocol, empty, square=True)}"


def _failures(report: Record) -> str:
    candidates = report.get("candidates") or ()
    kinds: dict[str, list[Record]] = {}
    for candidate in candidates:
        if candidate.get("status") == "failed":
            error = str(candidate.get("error") or "no message")
            kinds.setdefault(error.partition(":")[0].strip() or "no message", []).append(candidate)
    if not kinds:
        return _empty("No candidate failed." if candidates else "No candidate has been tried yet.")
    rows = []
    for kind, failed in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0])):
        error = str(failed[0].get("error") or "no message")
        rows.append(
            f"<tr><td>{_text(units.shorten(kind, 60))}</td><td>{len(failed)}</td>"
            f'<td class="text">candidate {_text(failed[0]["id"])}: <code title="{_text(error)}">'
            f"{_text(units.shorten(error, 300))}</code></td></tr>"
        )
    head = '<tr><th>Error</th><th>Count</th><th class="text">Example</th></tr>'
    return f"<table><thead>{head}</thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table>"


def _reproduce(report: Record) -> str:
    environment, experiment = report.get("environment") or {}, report.get("experiment") or {}
    if not environment and not experiment:
        return _empty("Neither the environment nor the experiment was recorded.")
    facts = {key: environment[key] for key in ABOUT_THE_RUN if environment.get(key) is not None}
    facts.setdefault("seed", experiment.get("seed", "not recorded"))
    command = facts.pop("command", None)
    if isinstance(command, Sequence) and not isinstance(command, str):
        command = shlex.join(str(word) for word in command)
    versions: dict[str, object] = {}
    for key, value in environment.items():
        if isinstance(value, Mapping):
            versions |= value
        elif key not in ABOUT_THE_RUN:
            versions[key] = value
    plain = json.loads(json.dumps(experiment, default=str))
    written = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return "\n".join(
        [
            f"<pre>{_text(command)}</pre>" if command else _empty("The command was not recorded."),
            f'<div class="columns"><div>{_facts("The run", facts)}</div>',
            f"<div>{_facts('Versions', versions)}</div></div>",
            f"<h3>The experiment, resolved</h3>\n<pre>{_text(written)}</pre>",
        ]
    )


def _facts(title: str, facts: Record) -> str:
    rows = "".join(f"<tr><td>{_text(key)}</td><td>{_text(value)}</td></tr>" for key, value in facts.items())
    table = f'<table class="facts"><tbody>{rows}</tbody></table>' if rows else _empty("Not recorded.")
    return f"<h3>{title}</h3>\n{table}"


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def _plot(figure: Any, name: str, caption: str, empty: str, *, square: bool = False) -> str:
    """The figure with its caption (HTML), or the sentence that says why there is none."""
    if not figure.data:
        return _empty(empty)
    kind = ' class="square"' if square else ""
    return f"<figure{kind}>\n{page.plot(figure, name)}\n<figcaption>{caption}</figcaption>\n</figure>"


def _empty(sentence: str) -> str:
    return f'<p class="empty">{_text(sentence)}</p>'


def _part(experiment: Record, key: str) -> str:
    part = experiment.get(key)
    name = part.get("name") if isinstance(part, Mapping) else part
    return f"<b>{_text(name or 'unnamed')}</b>"


def _text(value: object) -> str:
    return html.escape(str(value))
