"""Whether networks keep their order when they are compressed and deployed: will a joint search pay here?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nasbench.evaluators.compressed.recipe_space import RecipeSpace
from nasbench.objectives.metrics import goal_of
from nasbench.objectives.statistics import bootstrap_interval, bootstrap_rows, rank_correlation, rank_correlations
from nasbench.search.record import RecordedCandidate
from nasbench.tables.built import BuiltTable
from nasbench_registry import UserError
from search_spaces import Architecture

LEAST = 5  # networks with a recipe, for ranks to say anything
SAME_ORDER = 0.9  # a rank correlation above which an order counts as the same
PLAIN = "none"
TRAINED = "trained_"  # before the name of the metric of an uncompressed network

Order = Literal["same order", "other order", "cannot be told"]


@dataclass(frozen=True)
class Deployed:
    """A network with a recipe, as it is deployed.

    Attributes:
        network: Network in the notation of its space.
        recipe: Steps of the recipe but the compilation, in words.
        backend: Backend that the network is compiled with; "device" where the recipe names none.
        trained: Quality of the uncompressed network; larger is better.
        quality: Quality of the artefact; larger is better.
        macs: Multiply-adds of the compressed network; None if not known.
        latency_ms: Latency of the artefact in milliseconds; None if not known.
    """

    network: str
    recipe: str
    backend: str
    trained: float
    quality: float
    macs: float | None
    latency_ms: float | None


def in_words(entries: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The steps of a recipe but the compilation, and the backend."""
    steps, backend = [], "device"
    for entry in entries:
        ((name, options),) = entry.items()
        if name == "compile":
            backend = str((options or {}).get("backend", "onnxruntime"))
            continue
        described = " ".join(f"{key}={value}" for key, value in (options or {}).items())
        steps.append(f"{name} {described}".strip())
    return ", ".join(steps) or PLAIN, backend


def deployed_in_table(table: BuiltTable) -> list[Deployed]:
    """The rows of a table that are done.

    Raises:
        UserError: the table has no recipes, or does not say how good networks were before them.
    """
    rows, recipe = table.rows, table.card["recipe"]
    quality = _quality_of(table.metrics)
    if quality is None or not recipe:
        raise UserError(
            f"table {table.path} has no networks before and after several recipes, so nothing changes order."
        )
    space = RecipeSpace(recipe)
    cut = len(rows["picks"].iloc[0]) - len(space.decisions)
    words: dict[str, tuple[str, str]] = {}
    deployed = []
    for row in rows[rows["status"] == "done"].to_dict("records"):
        if row["recipe"] not in words:
            picks = tuple(map(int, row["picks"][cut:]))
            words[row["recipe"]] = in_words(space.entries(Architecture(space.name, picks)))
        deployed.append(_of(row["network"], words[row["recipe"]], row, quality))
    return deployed


def deployed_in_run(candidates: Iterable[RecordedCandidate]) -> list[Deployed]:
    """The candidates of a search over recipes that were built and judged, also those that broke a limit."""
    deployed = []
    for candidate in candidates:
        quality = _quality_of(candidate.metrics)
        if candidate.recipe is not None and quality is not None and {quality, "size_bytes"} <= set(candidate.metrics):
            deployed.append(_of(candidate.network, in_words(candidate.recipe), candidate.metrics, quality))
    return deployed


def _quality_of(metrics: Iterable[str]) -> str | None:
    """The metric that is known before and after a recipe; None if there is none."""
    return next((name.removeprefix(TRAINED) for name in metrics if name.startswith(TRAINED)), None)


def _of(network: str, words: tuple[str, str], metrics: Mapping[str, Any], quality: str) -> Deployed:
    sign = -1.0 if goal_of(quality) == "min" else 1.0

    def value_of(name: str) -> float | None:
        value = metrics.get(name)
        return None if value is None or value != value else float(value)

    trained, compressed = sign * float(metrics[f"{TRAINED}{quality}"]), sign * float(metrics[quality])
    return Deployed(network, *words, trained, compressed, value_of("macs"), value_of("latency_ms"))


def reorder(deployed: Sequence[Deployed]) -> dict[str, Any]:
    """The change of the order of networks, for each recipe and backend, and what it says of a joint search.

    Spearman's correlations over the networks that have this recipe: of the quality before and after it, and of the
    multiply-adds of the compressed network and its latency; with 95 % intervals by drawing networks with replacement.

    Returns:
        `networks`, `rows` (`recipe`, `backend`, `n`, and `quality` and `latency`, each null or with `correlation`,
        `low`, `high`, `order`) and `statement`.
    """
    groups: dict[tuple[str, str], list[Deployed]] = {}
    for network in deployed:
        groups.setdefault((network.recipe, network.backend), []).append(network)
    rows = []
    for (recipe, backend), members in groups.items():
        distinct = list({network.network: network for network in members}.values())
        if len(distinct) < LEAST:
            continue
        timed = [
            (network.macs, network.latency_ms)
            for network in distinct
            if network.macs is not None and network.latency_ms is not None
        ]
        rows.append(
            {
                "recipe": recipe,
                "backend": backend,
                "n": len(distinct),
                "quality": _agreement([(network.trained, network.quality) for network in distinct]),
                "latency": _agreement(timed),
            }
        )
    networks = len({network.network for network in deployed})
    return {"networks": networks, "rows": rows, "statement": _statement(networks, rows)}


def _agreement(pairs: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """The rank correlation of pairs, with its interval; None for too few, or where all of either are equal."""
    if len(pairs) < LEAST:
        return None
    first, second = np.array(pairs, dtype=float).T
    middle = rank_correlation(first, second)
    if middle != middle:
        return None
    samples = bootstrap_rows(len(pairs))
    low, high = bootstrap_interval(rank_correlations(first[samples], second[samples]))
    order: Order = "same order" if low > SAME_ORDER else "other order" if high < SAME_ORDER else "cannot be told"
    return {"correlation": middle, "low": low, "high": high, "order": order}


def _statement(networks: int, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return f"No recipe was applied to {LEAST} networks or more, so that nothing can be said of their order."
    sentences = [
        _sentence("accuracy before and after the recipe", rows, "quality"),
        _sentence("MACs and latency", rows, "latency"),
    ]
    changed_rows = [
        row for row in rows if any(row[measure] and row[measure]["order"] == "other order" for measure in MEASURES)
    ]
    same = all(row[measure] is None or row[measure]["order"] == "same order" for row in rows for measure in MEASURES)
    if changed_rows:
        advice = (
            "So the best network before compression need not be the best behind it: search networks and recipes "
            "together, or hand on the whole front, never the best network alone."
        )
    elif same:
        advice = (
            "So a joint search can win by what it costs, not by what it finds: recipes for trained networks are cheap."
        )
    else:
        advice = "More networks are needed to say whether a joint search would find anything else."
    return f"{networks} networks. {' '.join(text for text in sentences if text)} {advice}"


MEASURES = ("quality", "latency")


def _sentence(description: str, rows: Sequence[Mapping[str, Any]], key: str) -> str:
    correlated = [row for row in rows if row[key]]
    if not correlated:
        return ""
    reordered = sum(row[key]["order"] == "other order" for row in correlated)
    worst = min(correlated, key=lambda row: row[key]["correlation"])
    correlation = worst[key]
    return (
        f"By {description}, {reordered} of {len(correlated)} recipes and backends put networks in another order; the "
        f"rank correlation is lowest with {worst['recipe']} on {worst['backend']}, {correlation['correlation']:.2f} ("
        f"{correlation['low']:.2f} to {correlation['high']:.2f})."
    )
