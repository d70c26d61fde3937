"""The head of a report and the sections below it, as HTML; charts and rows are filled in by the page's script."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.numeric.metrics import METRICS, by_family
from crowdselect.report.chartspec import Figure
from crowdselect.report.data import Run
from crowdselect.report.page import Markup, bar, html, joined, table
from crowdselect.report.projection import Map
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.methods import CROWD, method_of
from crowdselect.selection.selection import random_control

_CLUSTERS = 60  # clusters in the table
_WORDS = 8
_DASH = "\u2013"
_HEAD = html(
    '<div class="heads" aria-hidden="true"><span>rank</span><span>instruction</span><span>metrics</span><span>answer of</span>'
    "<span>reward</span></div>"
)
_KEY = html('<p class="key"><span>eligible</span><span class="ours">chosen</span></p>')


def head(run: Run) -> Markup:
    """Title, paragraph, warnings."""
    facts = run.facts
    simulated = html(
        '<div class="simulated">SIMULATED POOL: no real model or reward is behind these numbers</div>'
    )
    warnings = [*run.selection.warnings, *facts.get("notes", []), *run.problems]
    listed = joined(html("<li>{}</li>", text) for text in dict.fromkeys(warnings))
    return html(
        '{}<header id="done"><div class="in"><p class="eyebrow">crowdselect report</p>'
        '<h1>{:,} rows to train on</h1><p class="lead">{}</p>{}</div></header>',
        simulated if facts.get("simulated") else "",
        int(run.chosen.sum()),
        _paragraph(run),
        html('<ul class="warnings">{}</ul>', listed) if listed else "",
    )


def _paragraph(run: Run) -> Markup:
    facts, options = run.facts, run.options
    n, eligible, chosen = len(run.ids), int(run.eligible.sum()), int(run.chosen.sum())
    filled = facts.get("filled", 1)
    gaps = "" if filled == 1 else f" ({filled:.1%} of the rewards are there)"
    method = method_of(options)
    weights = {name: w for name, w in (options.get("weights") or {}).items() if w}
    formula = " + ".join(f"{w:g} \u00d7 {name}" for name, w in weights.items())
    sentences = [
        html(
            "From <b>{:,}</b> instructions of <b>{}</b>, answered by <b>{}</b> models and scored in the column <b>{}</b>{}, "
            '<b class="hit">{:,}</b> of <b>{:,}</b> eligible rows were chosen{}.',
            n,
            pool_name(run),
            _count(facts["models"]),
            facts["reward"],
            gaps,
            chosen,
            eligible,
            "" if method == CROWD.name else html(" by the baseline <b>{}</b>", method),
        )
    ]
    if formula:
        sentences.append(
            html("A row's score is <b>{}</b>, each metric as the share of eligible rows below it.", formula)
        )
    sentences.append(_cluster_sentence(run))
    answer = options.get("answer", "best")
    who = "the best-rewarded answer" if answer == "best" else f"the answer by the rule {answer}"
    teachers = len({name for name in run.models[run.chosen] if name is not None})
    rewards = run.number("reward")[run.chosen]
    mean = (
        ""
        if np.isnan(rewards).all()
        else html(", with a mean reward of <b>{:.4g}</b>", float(np.nanmean(rewards)))
    )
    sentences.append(html("To be trained on is {}, from <b>{:,}</b> models{}.", who, teachers, mean))
    barred = {code: k for code, k in run.selection.counts().items() if code not in {"selected", "below_cut"}}
    if barred:
        listed = joined(
            (html("<b>{:,}</b> {}", k, code.replace("_", " ")) for code, k in barred.items()), ", "
        )
        sentences.append(html("Not taken for another reason than the score: {}.", listed))
    return joined(sentences, " ")


def _count(value: object) -> str:
    """A number as a manifest has it, which may hold anything."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cluster_sentence(run: Run) -> Markup:
    quotas = [int(quota) for quota in (run.facts.get("quotas") or {}).values()]
    if not quotas:
        return html("There were no clusters.")
    by = run.options.get("cluster_by")
    how = f"the column {by}" if by else f"k-means on the vectors of {run.facts.get('embedder')}"
    gave = f"{min(quotas):,}" if min(quotas) == max(quotas) else f"{min(quotas):,} to {max(quotas):,}"
    return html("<b>{:,}</b> clusters, by {}, gave <b>{}</b> each.", len(quotas), how, gave)


def done(run: Run) -> Markup:
    """The difference to chance, the reasons of all rows, the options."""
    counts = run.selection.counts()
    reasons = table(
        ["reason", "rows", "what it says"],
        [[html('<span class="id">{}</span>', code), f"{k:,}", REASONS[code]] for code, k in counts.items()],
        numbers=[1],
    )
    options = joined(
        html("<dt>{}</dt><dd>{}</dd>", name, _plain(value))
        for name, value in [
            ("pool", run.facts.get("pool")),
            ("fingerprint", run.facts.get("fingerprint")),
            *run.options.items(),
        ]
        if value is not None
    )
    return html(
        '{}<details class="more"><summary>Every instruction of the pool, by reason</summary>{}</details>'
        '<details class="more"><summary>All options</summary><dl class="pair">{}</dl></details>',
        _against_chance(run),
        reasons,
        options,
    )


def _against_chance(run: Run) -> Markup:
    controls = random_control(run.selection)
    rows = []
    for name, c in controls.items():
        apart = (c.chosen - c.random) / c.spread if c.spread > 0 else None
        mark = "\u2013" if apart is None else f"{apart:+.1f}"
        rows.append(
            [
                "reward of the answer" if name == "reward" else name,
                f"{c.chosen:.4g}",
                f"{c.random:.4g} ± {c.spread:.2g}",
                mark if apart is None or abs(apart) <= 2 else html("<b>{}</b>", mark),
            ]
        )
    if not rows:
        return Markup()
    return html(
        '<section><h2>Against chance</h2><p class="note">Means over the chosen rows, and over 200 random choices with the same '
        "quotas. Up to two spreads apart is what chance does; whether a difference helps training is another question.</p>{}</section>",
        table(["mean of", "chosen", "random ± spread", "spreads apart"], rows, numbers=[1, 2, 3]),
    )


def pool_name(run: Run) -> str:
    """The pool's file name, for titles."""
    return Path(str(run.facts.get("pool", "the pool"))).name


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
