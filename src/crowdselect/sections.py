"""The sections of a report below its head, as HTML; charts and rows are filled in by the page's script."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from crowdselect.chartspec import Figure
from crowdselect.page import bar, esc, table
from crowdselect.projection import Map
from crowdselect.rundata import Run

_CLUSTERS = 60  # clusters in the table
_WORDS = 8
_DASH = "\u2013"
_METRIC_WORDS = {
    "difficulty": "minus the mean reward: the crowd does badly",
    "separability": "variance of the rewards: the models differ",
    "stability": "rank agreement of reward and size within families: larger models do better",
}

_HEAD = (
    '<div class="heads" aria-hidden="true"><span>rank</span><span>instruction</span><span>metrics</span><span>answer of</span>'
    "<span>reward</span></div>"
)
_KEY = '<p class="key"><span>eligible</span><span class="ours">chosen</span></p>'


def crowd_section(run: Run, found: dict[str, Figure]) -> str:
    """The crowd: reward against size, and coverage."""
    crowd = run.facts.get("crowd", [])
    families = {m["family"] for m in crowd if m["family"] is not None}
    unknown = sum(m["size_b"] is None or m["family"] is None for m in crowd)
    guessed = sum(m["source"] == "name" for m in crowd)
    text = f"{len(crowd):,} models of {len(families):,} known families"
    text += (
        f"; family or size of {unknown:,} is not known, so they take no part in stability" if unknown else ""
    )
    text += f"; of {guessed:,} they are read off the name" if guessed else ""
    if "crowd" in found and "coverage" not in found:
        text += ". Every model has a reward for every instruction"
    shown = "".join(_figure(name, found) for name in ("crowd", "coverage"))
    if not shown:
        text += ". Rewards are not shown, because the pool is not at hand or no size is known"
    return f'<p class="note">{text}.</p><div class="grid two">{shown}</div>'


def metrics_section(run: Run, found: dict[str, Figure]) -> str:
    """The metrics: what they are, distributions, correlations."""
    if not run.metrics:
        return '<p class="note">This run has no metrics.</p>'
    words = "".join(
        f"<dt>{esc(name)}</dt><dd>{esc(_METRIC_WORDS.get(name, 'a column of --metrics'))}</dd>"
        for name in run.metrics
    )
    shown = "".join(_figure(key, found) for key in run.keys.values())
    correlations = _figure("correlations", found)
    return f'<dl class="pair">{words}</dl>{_KEY}<div class="grid">{shown}</div><div class="grid two sub">{correlations}</div>'


def map_section(points: Map, found: dict[str, Figure]) -> str:
    """The map, or why there is none."""
    if "map" not in found:
        return f'<p class="note">There is no map: {esc(points.said)}.</p>'
    colours = found["map"].colours
    named = {key: esc(colour["title"] or key) for key, colour in colours.items()}
    choices = "".join(f'<option value="{key}">{name}</option>' for key, name in named.items())
    tools = (
        f'<div class="tools"><label>Colour by <select data-colours="map">{choices}</select></label></div>'
        if choices
        else ""
    )
    return tools + _figure("map", found, wide=True)


def clusters_section(run: Run) -> str:
    """The clusters: size, quota, typical words, mean metrics."""
    if not run.clustered:
        return '<p class="note">There were no clusters.</p>'
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
                esc(label if names is None else names[label] or _DASH),
                f"{sizes[at]:,}",
                f"{taken[at]:,}",
                bar(sizes[at] / sizes.sum() / highest, taken[at] / max(taken.sum(), 1) / highest),
                f'<span class="words">{esc(", ".join(words.get(label, [])) or _DASH)}</span>',
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
    return f'<p class="note">{note}</p>{_KEY}' + table(heads, rows, numbers=numbers, name="stack")


def rows_section(run: Run, shown: int) -> str:
    """The chosen rows: a place for the script to list them, with search, filter and order."""
    labels = [str(label) for label in np.unique(run.cluster[run.chosen])] if run.clustered else []
    names = run.facts.get("cluster_names")
    shown_names = [esc(label if names is None else names[int(label)] or _DASH) for label in labels]
    cluster = "".join(f'<option value="{name}">cluster {name}</option>' for name in shown_names)
    orders = {
        "rank": "by rank",
        "reward": "by reward",
        "length": "longest instruction",
        "answer": "longest answer",
    }
    orders |= {key: f"highest {name}" for name, key in run.keys.items()}
    order = "".join(f'<option value="{esc(key)}">{esc(text)}</option>' for key, text in orders.items())
    part = (
        f" The first {shown:,} of {int(run.chosen.sum()):,} are here; all are in selection.parquet."
        if shown < run.chosen.sum()
        else ""
    )
    bars = f" The small bars say how high it stands in {_listed(list(run.metrics))}." if run.metrics else ""
    return (
        f'<p class="note">Open a row for its texts and its reason.{bars}{part}</p>'
        '<div class="tools"><input type="search" id="search" placeholder="Search instruction, answer, model or id" aria-label="Search the chosen rows">'
        + (
            f'<select id="cluster" aria-label="Cluster"><option value="">all clusters</option>{cluster}</select>'
            if cluster
            else ""
        )
        + f'<select id="order" aria-label="Order">{order}</select><span class="count" id="count" role="status"></span></div>'
        f'{_HEAD}<ol class="rows" id="found"></ol><p class="tools"><button id="more" type="button">Show more</button></p>'
    )


def extremes_section(run: Run) -> str:
    """The highest and lowest rows of each metric."""
    parts = [
        f'<div class="sub"><h3>{side} {esc(name)}</h3><ol class="rows" data-rows="{key}-{run.keys[name]}"></ol></div>'
        for name in run.metrics
        for side, key in (("highest", "high"), ("lowest", "low"))
    ]
    if not parts:
        return ""
    note = "Of all eligible rows, whether chosen (with their rank) or not. The extremes of a metric are often broken rows: look at them."
    return f'<p class="note">{note}</p>' + "".join(parts)


def missed_section(rows: Sequence[int]) -> str:
    """The rows that were nearest to being chosen."""
    if not rows:
        return '<p class="note">No eligible row was left out for its score.</p>'
    return (
        '<p class="note">Rows that lacked the least score to the last one chosen in their cluster.</p>'
        '<ol class="rows" data-rows="missed"></ol>'
    )


def teachers_section(found: dict[str, Figure]) -> str:
    """Whose answers are trained on."""
    return _figure("teachers", found, wide=True)


def lengths_section(found: dict[str, Figure]) -> str:
    """Lengths of instructions and answers."""
    shown = "".join(_figure(name, found) for name in ("instruction-length", "answer-length"))
    if not shown:
        return '<p class="note">There are no texts to measure.</p>'
    note = "Characters, on a logarithmic axis. Answers of the eligible rows are a sample of up to 1,000. Reward models often like length: a gap here may be theirs."
    return f'<p class="note">{note}</p>{_KEY}<div class="grid two">{shown}</div>'


def _figure(name: str, found: dict[str, Figure], *, wide: bool = False) -> str:
    if name not in found:
        return ""
    figure = found[name]
    return (
        f'<figure class="{"wide" if wide else ""}"><figcaption><h3>{esc(figure.title)}</h3><p>{esc(figure.says)}</p></figcaption>'
        f'<div class="plot" data-chart="{name}" role="img" aria-label="{esc(figure.title)}: {esc(figure.says)}"></div></figure>'
    )


def _mean(values: Any) -> str:  # noqa: ANN401  (an array)
    return _DASH if np.isnan(values).all() else f"{np.nanmean(values):.3g}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
