"""The sections of a report below its head, as HTML; charts and rows are filled in by the page's script."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from crowdselect.numeric.metrics import METRICS, by_family
from crowdselect.report.chartspec import Figure
from crowdselect.report.data import Run
from crowdselect.report.markup import Markup, html, joined
from crowdselect.report.page import bar, table
from crowdselect.report.projection import Map

_CLUSTERS = 60  # clusters in the table
_WORDS = 8
_DASH = "\u2013"

_HEAD = html(
    '<div class="heads" aria-hidden="true"><span>rank</span><span>instruction</span><span>metrics</span><span>answer of</span>'
    "<span>reward</span></div>"
)
_KEY = html('<p class="key"><span>eligible</span><span class="ours">chosen</span></p>')


def crowd_section(run: Run, found: dict[str, Figure]) -> Markup:
    """The crowd: reward against size, and coverage."""
    crowd = run.facts.get("crowd", [])
    families = {m["family"] for m in crowd if m["family"] is not None}
    unknown = sum(m["size_b"] is None or m["family"] is None for m in crowd)
    guessed = sum(m["source"] == "name" for m in crowd)
    text = f"{len(crowd):,} models of {len(families):,} known families"
    if unknown:
        text += (
            f"; family or size of {unknown:,} is not known, so they take no part in {_listed(by_family())}"
        )
    text += f"; of {guessed:,} they are read off the name" if guessed else ""
    if "crowd" in found and "coverage" not in found:
        text += ". Every model has a reward for every instruction"
    shown = joined(_figure(name, found) for name in ("crowd", "coverage"))
    if not shown:
        text += ". Rewards are not shown, because the pool is not at hand or no size is known"
    return html('<p class="note">{}.</p><div class="grid two">{}</div>', text, shown)


def metrics_section(run: Run, found: dict[str, Figure]) -> Markup:
    """The metrics: what they are, distributions, correlations."""
    if not run.metrics:
        return html('<p class="note">This run has no metrics.</p>')
    words = joined(
        html(
            "<dt>{}</dt><dd>{}</dd>",
            name,
            METRICS[name].words if name in METRICS else "a column of --metrics",
        )
        for name in run.metrics
    )
    return html(
        '<dl class="pair">{}</dl>{}<div class="grid">{}</div><div class="grid two sub">{}</div>',
        words,
        _KEY,
        joined(_figure(key, found) for key in run.keys.values()),
        _figure("correlations", found),
    )


def map_section(points: Map, found: dict[str, Figure]) -> Markup:
    """The map, or why there is none."""
    if "map" not in found:
        return html('<p class="note">There is no map: {}.</p>', points.said)
    colours = found["map"].colours
    choices = joined(
        html('<option value="{}">{}</option>', key, colour["title"] or key) for key, colour in colours.items()
    )
    tools = html(
        '<div class="tools"><label>Colour by <select data-colours="map">{}</select></label></div>', choices
    )
    return joined([tools if choices else "", _figure("map", found, wide=True)])


def clusters_section(run: Run) -> Markup:
    """The clusters: size, quota, typical words, mean metrics."""
    if not run.clustered:
        return html('<p class="note">There were no clusters.</p>')
    labels, sizes = np.unique(run.cluster[run.eligible & (run.cluster >= 0)], return_counts=True)
    taken = np.array([int(run.chosen[run.cluster == label].sum()) for label in labels])
    words, names = run.typical_words(_WORDS), run.facts.get("cluster_names")
    shown = (
        np.argsort(-sizes, kind="stable")[:_CLUSTERS] if len(labels) > _CLUSTERS else np.arange(len(labels))
    )
    highest = max(float((sizes / sizes.sum()).max()), float((taken / max(taken.sum(), 1)).max()))
    rows = []
    for at in shown:
        label = int(labels[at])
        here = run.eligible & (run.cluster == label)
        means = [_mean(values[here]) for values in run.metrics.values()]
        rows.append(
            [
                label if names is None else names[label] or _DASH,
                f"{sizes[at]:,}",
                f"{taken[at]:,}",
                bar(sizes[at] / sizes.sum() / highest, taken[at] / max(taken.sum(), 1) / highest),
                html('<span class="words">{}</span>', ", ".join(words.get(label, [])) or _DASH),
                *means,
            ]
        )
    note = "Typical words are those that a cluster's instructions hold far more often than the others'."
    if len(labels) > _CLUSTERS:
        note += f" The {_CLUSTERS} largest of {len(labels):,} are shown."
    heads = [
        "cluster",
        "eligible",
        "chosen",
        "share",
        "typical words",
        *(f"mean {name}" for name in run.metrics),
    ]
    numbers = [1, 2, *range(5, len(heads))]
    return html('<p class="note">{}</p>{}{}', note, _KEY, table(heads, rows, numbers=numbers, name="stack"))


def rows_section(run: Run, shown: int) -> Markup:
    """The chosen rows: a place for the script to list them, with search, filter and order."""
    labels = [str(label) for label in np.unique(run.cluster[run.chosen])] if run.clustered else []
    names = run.facts.get("cluster_names")
    shown_names = [label if names is None else names[int(label)] or _DASH for label in labels]
    cluster = joined(html('<option value="{0}">cluster {0}</option>', name) for name in shown_names)
    orders = {
        "rank": "by rank",
        "reward": "by reward",
        "length": "longest instruction",
        "answer": "longest answer",
    }
    orders |= {key: f"highest {name}" for name, key in run.keys.items()}
    order = joined(html('<option value="{}">{}</option>', key, text) for key, text in orders.items())
    part = (
        f" The first {shown:,} of {int(run.chosen.sum()):,} are here; all are in selection.parquet."
        if shown < run.chosen.sum()
        else ""
    )
    bars = f" The small bars say how high it stands in {_listed(list(run.metrics))}." if run.metrics else ""
    clusters = html(
        '<select id="cluster" aria-label="Cluster"><option value="">all clusters</option>{}</select>', cluster
    )
    return html(
        '<p class="note">Open a row for its texts and its reason.{}{}</p>'
        '<div class="tools"><input type="search" id="search" placeholder="Search instruction, answer, model or id" '
        'aria-label="Search the chosen rows">{}<select id="order" aria-label="Order">{}</select>'
        '<span class="count" id="count" role="status"></span></div>'
        '{}<ol class="rows" id="found"></ol><p class="tools"><button id="more" type="button">Show more</button></p>',
        bars,
        part,
        clusters if cluster else "",
        order,
        _HEAD,
    )


def extremes_section(run: Run) -> Markup:
    """The highest and lowest rows of each metric."""
    parts = [
        html(
            '<div class="sub"><h3>{} {}</h3><ol class="rows" data-rows="{}-{}"></ol></div>',
            side,
            name,
            key,
            run.keys[name],
        )
        for name in run.metrics
        for side, key in (("highest", "high"), ("lowest", "low"))
    ]
    if not parts:
        return Markup()
    note = "Of all eligible rows, whether chosen (with their rank) or not. The extremes of a metric are often broken rows: look at them."
    return html('<p class="note">{}</p>{}', note, joined(parts))


def missed_section(rows: Sequence[int]) -> Markup:
    """The rows that were nearest to being chosen."""
    if not rows:
        return html('<p class="note">No eligible row was left out for its score.</p>')
    return html(
        '<p class="note">Rows that lacked the least score to the last one chosen in their cluster.</p>'
        '<ol class="rows" data-rows="missed"></ol>'
    )


def teachers_section(found: dict[str, Figure]) -> Markup:
    """Whose answers are trained on."""
    return _figure("teachers", found, wide=True)


def lengths_section(found: dict[str, Figure]) -> Markup:
    """Lengths of instructions and answers."""
    shown = joined(_figure(name, found) for name in ("instruction-length", "answer-length"))
    if not shown:
        return html('<p class="note">There are no texts to measure.</p>')
    note = "Characters, on a logarithmic axis. Answers of the eligible rows are a sample of up to 1,000. Reward models often like length: a gap here may be theirs."
    return html('<p class="note">{}</p>{}<div class="grid two">{}</div>', note, _KEY, shown)


def _figure(name: str, found: dict[str, Figure], *, wide: bool = False) -> Markup:
    if name not in found:
        return Markup()
    return html(
        '<figure class="{kind}"><figcaption><h3>{title}</h3><p>{says}</p></figcaption>'
        '<div class="plot" data-chart="{name}" role="img" aria-label="{title}: {says}"></div></figure>',
        kind="wide" if wide else "",
        title=found[name].title,
        says=found[name].says,
        name=name,
    )


def _mean(values: Any) -> str:  # noqa: ANN401  (an array)
    return _DASH if np.isnan(values).all() else f"{np.nanmean(values):.3g}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
