"""The head of the page: the result of the search, in a sentence and in a few numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup, escape

from nasbench.report import units
from nasbench.report.stage_bars import accuracy_metric

Record = Mapping[str, Any]


def result_sentence(report: Record) -> Markup:
    """The best survivor from its first stage to the last that was accepted, as a sentence."""
    return Markup(_summary(report))


def _summary(report: Record) -> str:
    best = _best(report)
    if best is None:
        if (report.get("experiment") or {}).get("survivors") in (0, []) and (count := len(report.get("front") or ())):
            return f"No survivor was asked for; {count} candidate{'s are' if count > 1 else ' is'} on the front."
        return "Found no survivor yet."
    first = best["stages"][0]
    last = _last(best)
    subject = f"The best survivor (candidate {escape(best['candidate'])})"
    if last is None or last is first:
        return f"{subject} has {_described(best, first)} as {escape(first['name'])}; no later stage was accepted."
    key = accuracy_metric(best)
    before, now = first.get("metrics") or {}, last.get("metrics") or {}
    changes = [_faster(now.get("latency_ms"), before.get("latency_ms"))]
    sizes = (units.number(now.get("size_bytes")), units.number(before.get("size_bytes")))
    changes.append(units.times(*sizes, "smaller", "larger", "as large as before"))
    gained = units.quality_change(units.number(now.get(key)), units.number(before.get(key)), key)
    changes.append(f"{gained} {_of_quality(key)}" if gained else "")
    described = ", ".join(change for change in changes if change)
    sentence = (
        f"{subject} went from {_described(best, first)} as {escape(first['name'])} to {_described(best, last)} as "
        f"{escape(last['name'])}{': ' if described else ''}{described}."
    )
    eager = (best.get("baseline") or {}).get("latency_ms")
    if gain := _faster(now.get("latency_ms"), eager):
        eager_latency = units.significant(units.median_ms(eager))
        sentence += f" Against the searched model in eager PyTorch ({eager_latency} ms) it is {gain}."
    if any(isinstance(latency, Mapping) and latency.get("unstable") for latency in (now.get("latency_ms"), eager)):
        sentence += " The timing was unstable; do not trust small differences."
    return sentence


def cards(report: Record) -> Iterator[tuple[str, str, str]]:
    """A number, what it is, and where it comes from: the best survivor beside its network in eager PyTorch; time."""
    best = _best(report)
    last = None if best is None else _last(best)
    if best is not None and last is not None:
        first = best["stages"][0].get("metrics") or {}
        now = last.get("metrics") or {}
        yield from _latency_card(best, now)
        size, whole = units.number(now.get("size_bytes")), units.number(first.get("size_bytes"))
        if words := units.times(size, whole, "smaller", "larger", "the same size"):
            yield _number(words), _rest(words), f"{units.size(size)}; the network had {units.size(whole)}"
        key = accuracy_metric(best)
        accuracy, before = units.number(now.get(key)), units.number(first.get(key))
        if gained := units.quality_change(accuracy, before, key):
            detail = f"{units.quality_text(accuracy, key)}; the network had {units.quality_text(before, key)}"
            unit = "points of " if units.in_percent(key) else ""
            yield gained, f"{unit}{_quality_name(key)}", detail
    compute = report.get("compute") or {}
    wall, busy = units.number(compute.get("wall_seconds")), units.number(compute.get("device_seconds"))
    days = units.number(compute.get("pfs_days"))
    if wall is not None:
        details = [f"{units.significant(busy / 3600)} device-hours"] if busy is not None else []
        details += [f"{days:.2g} petaflop/s-days"] if days is not None else []
        yield units.significant(wall / 3600), "hours", ", ".join(details)


def _quality_name(metric: str) -> str:
    return units.METRICS.get(metric, (metric, ""))[0]


def _of_quality(metric: str) -> str:
    if metric in ("val_acc_pct", "test_acc_pct"):
        return "percentage points of accuracy"
    return f"{'percentage points' if units.in_percent(metric) else ''} of {_quality_name(metric)}".strip()


def _latency_card(best: Record, now: Record) -> Iterator[tuple[str, str, str]]:
    """Latency against eager PyTorch, by the ratio that was timed in turn where there is one, with its interval."""
    eager, latency = (best.get("baseline") or {}).get("latency_ms"), now.get("latency_ms")
    latency_text = f"{units.significant(units.median_ms(latency))} ms"
    ratio = {key: units.number((now.get("of_eager") or {}).get(key)) for key in ("ratio", "low", "high")}
    value, low, high = ratio["ratio"], ratio["low"], ratio["high"]
    if value and low and high:
        faster = value <= 1
        ends = (1 / high, 1 / low) if faster else (low, high)
        interval = f"{units.significant(ends[0])} to {units.significant(ends[1])}"
        yield (
            f"{units.significant(1 / value if faster else value)}\N{MULTIPLICATION SIGN}",
            f"as {'fast' if faster else 'slow'} as the network in eager PyTorch",
            f"95 % interval {interval}; {latency_text}",
        )
    elif words := _faster(latency, eager):
        yield _number(words), f"{_rest(words)} than the network in eager PyTorch", latency_text


def _number(words: str) -> str:
    """``2.3 times smaller`` begins with its number."""
    return (
        words.partition(" times ")[0] + "\N{MULTIPLICATION SIGN}" if " times " in words else "1\N{MULTIPLICATION SIGN}"
    )


def _rest(words: str) -> str:
    return words.partition(" times ")[2] or words


def _best(report: Record) -> Record | None:
    survivors = sorted(
        (survivor for survivor in report.get("survivors") or () if survivor.get("stages")),
        key=lambda survivor: survivor["rank"],
    )
    return survivors[0] if survivors else None


def _last(survivor: Record) -> Record | None:
    """The last stage that was accepted."""
    accepted: list[Record] = [stage for stage in survivor["stages"] if stage.get("accepted")]
    return accepted[-1] if accepted else None


def _faster(now: object, before: object) -> str:
    """The ratio of two measured latencies; empty where they were not measured alike."""
    if not isinstance(now, Mapping) or not isinstance(before, Mapping) or not units.comparable(now, before):
        return ""
    return units.times(units.median_ms(now), units.median_ms(before), "faster", "slower", "as fast")


def _described(survivor: Record, stage: Record) -> str:
    metrics = stage.get("metrics") or {}
    key = accuracy_metric(survivor)
    accuracy, latency = units.number(metrics.get(key)), units.median_ms(metrics.get("latency_ms"))
    size = units.number(metrics.get("size_bytes"))
    written = units.quality_text(accuracy, key).replace(" ", "&nbsp;")
    parts = [f"{written} {escape(_quality_name(key))}"] if accuracy is not None else []
    parts += [f"{units.significant(latency)}&nbsp;ms"] if latency is not None else []
    parts += [units.size(size).replace(" ", "&nbsp;")] if size is not None else []
    return f"<b>{', '.join(parts) or 'no measurements'}</b>" + (
        f" ({runtime_text})" if (runtime_text := escape(runtime(metrics))) else ""
    )


def runtime(metrics: Record) -> str:
    """Runtime and precision of what was measured; empty if neither is known."""
    latency = metrics.get("latency_ms")
    conditions = latency if isinstance(latency, Mapping) else {}
    words = [
        conditions.get("runtime") or metrics.get("runtime"),
        conditions.get("precision") or metrics.get("precision"),
    ]
    return ", ".join(str(word) for word in words if word)
