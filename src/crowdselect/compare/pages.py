"""A comparison, and the robustness of a selection, each as one HTML page; see `crowdselect.report.page`."""

import math

from crowdselect.compare.facts import figure_words
from crowdselect.compare.robustness import AXES, Robustness, Variant
from crowdselect.compare.selections import Chance, Comparison, short_names
from crowdselect.report.page import Markup, document, html, joined, number, plain_table
from crowdselect.selection.selection import score_line

_VALUES = 12  # values of a mix that are shown; the rest are one line
_MARKS = {1: ("above", "\u25b2"), -1: ("below", "\u25bc"), 0: ("", "")}
_WIDE, _TALL = 240, 26  # of a strip of dots

_BAR_WIDE, _BAR_TALL = 200, 14
_OPEN = 12  # variants of an axis that are shown at once, those that keep least; the rest unfold


def comparison_page(comparison: Comparison) -> str:
    """Write the page.

    Args:
        comparison: From `crowdselect.compare.selections.compare`.

    Returns:
        A whole HTML document. Names and values from pools are shown as text, control characters as escapes.
    """
    pool = comparison.pool
    title = f"{comparison.settings['selections']} selections of one pool"
    parts = [
        html("<h1>{}</h1>", title),
        html("<p class=warn><b>This pool is simulated: no real model or reward is behind it.</b></p>")
        if pool["simulated"]
        else Markup(),
        html(
            "<p class=soft>{}: {} instructions. {}</p>",
            pool["path"],
            pool["instructions"],
            _settings(comparison),
        ),
        *(html("<p class=warn>{}</p>", problem) for problem in comparison.problems),
        html("<h2>Figures, against chance</h2>"),
        html(
            "<p>Random: {}. Its column is mean &plusmn; standard deviation. A figure is marked "
            "<span class=above>&#9650; above</span> or <span class=below>&#9660; below</span> where one more random choice "
            "would come out so far on that side one time in forty: of the {} figures here, chance alone would "
            "mark about {:.0f}. A mark says that a selection is different, not that it is better to train on.</p>",
            short_names(comparison.names).get(comparison.random, comparison.random),
            _cells(comparison),
            _cells(comparison) / 20,
        ),
        _figures(comparison),
        html("<h2>How much they share</h2>"),
        html(
            "<p>Rows that two selections have in common; below, their Jaccard index, and how many rows two random choices "
            "of these sizes would share. For seeds of one method it is the mean over their pairs.</p>"
        ),
        _overlap(comparison),
        *(_mix(name, comparison) for name in _mix_names(comparison)),
        *_warnings(comparison),
    ]
    return document(title, parts)


def _settings(comparison: Comparison) -> str:
    settings = comparison.settings
    words = [f"Lengths in {settings['unit']}"]
    if "embedder" in settings:
        words.append(
            f"distances and {settings['clusters']} clusters by {settings['embedder']}, near-duplicates above a cosine "
            f"of {settings['near']:g}"
        )
    return "; ".join(words) + "."


def _figures(comparison: Comparison) -> Markup:
    short = short_names(comparison.names)
    heads = [html("{}<small>{}</small>", short[side.name], side.method) for side in comparison.sides]
    rows = []
    for name, words in figure_words().items():
        chance = comparison.chance.get(name)
        if chance is None and all(side.figures[name] is None for side in comparison.sides):
            continue
        cells = [_cell(side.figures[name], chance) for side in comparison.sides]
        usual = (
            "-"
            if chance is None
            else html("{}<small>&plusmn; {:.2g}</small>", number(chance.mean), chance.spread)
        )
        rows.append([words, usual, _strip(name, comparison), *cells])
    where = html("where they stand<small>band: random</small>")
    return plain_table(["figure", "random", where, *heads], rows)


def _cell(value: float | None, chance: Chance | None) -> Markup:
    beyond = 0 if value is None or chance is None else chance.beyond(value)
    kind, sign = _MARKS[beyond]
    said = html('<span aria-label="{} random">{}</span> ', kind, sign) if sign else ""
    return html('<span class="{}">{}{}</span>', kind or "usual", said, number(value))


def _strip(name: str, comparison: Comparison) -> Markup:
    """Every selection as a dot on the band of what random choices come to."""
    chance, short = comparison.chance.get(name), short_names(comparison.names)
    known = [(side, value) for side in comparison.sides if (value := side.figures[name]) is not None]
    if chance is None or not known:
        return Markup()
    ends = [chance.low, chance.high, *(value for _, value in known)]
    low, high = min(ends), max(ends)
    if not math.isfinite(high - low) or high == low:
        return Markup()

    def at(value: float) -> float:
        return 8 + (_WIDE - 16) * (value - low) / (high - low)

    dots = joined(
        html(
            '<circle class=dot cx="{:.1f}" cy="{:g}" r="5"><title>{}: {}</title></circle>',
            at(value),
            _TALL / 2,
            short[side.name],
            number(value),
        )
        for side, value in known
    )
    return html(
        '<svg width="{wide}" height="{tall}" viewBox="0 0 {wide} {tall}" role="img" aria-label="{name}">'
        '<rect class=band x="{low:.1f}" y="4" width="{width:.1f}" height="{band}" rx="3"/>'
        '<line class=mean x1="{mean:.1f}" x2="{mean:.1f}" y1="4" y2="{end}"/>{dots}</svg>',
        wide=_WIDE,
        tall=_TALL,
        name=figure_words()[name],
        low=at(chance.low),
        width=max(at(chance.high) - at(chance.low), 1),
        band=_TALL - 8,
        mean=at(chance.mean),
        end=_TALL - 4,
        dots=dots,
    )


def _overlap(comparison: Comparison) -> Markup:
    names, jaccard = comparison.names, comparison.jaccard
    short = short_names(names)
    rows = []
    for i, name in enumerate(names):
        cells = [
            html(
                "{}<small>{:.2f}; chance {:.0f}</small>",
                number(float(comparison.overlap[i, j])),
                float(jaccard[i, j]),
                float(comparison.expected[i, j]),
            )
            for j in range(len(names))
        ]
        rows.append([short[name], *cells])
    return plain_table(["", *(short[name] for name in names)], rows)


def _mix_names(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(name for side in comparison.sides for name in side.mixes)) or list(
        comparison.random_mixes
    )


def _mix(name: str, comparison: Comparison) -> Markup:
    mixes = [side.mixes.get(name, {}) for side in comparison.sides]
    usual = comparison.random_mixes.get(name, {})
    total: dict[str, float] = {}
    for mix in (usual, *mixes):
        for value, share in mix.items():
            total[value] = total.get(value, 0.0) + share
    values = sorted(total, key=lambda value: (-total[value], value))
    shown, rest = values[:_VALUES], values[_VALUES:]
    short = short_names(comparison.names)
    rows = [[value, *(f"{mix.get(value, 0.0):.1%}" for mix in (usual, *mixes))] for value in shown]
    if rest:
        sums = [sum(mix.get(value, 0.0) for value in rest) for mix in (usual, *mixes)]
        rows.append([f"{len(rest)} others", *(f"{share:.1%}" for share in sums)])
    title = "Whose answers" if name == "models" else f"Mix of {name}"
    heads = [name, "random", *(short[side.name] for side in comparison.sides)]
    return html("<h2>{}</h2>{}", title, plain_table(heads, rows))


def _warnings(comparison: Comparison) -> list[Markup]:
    """Every warning once, with the selections that have it."""
    short = short_names(comparison.names)
    told: dict[str, list[str]] = {}
    for side in comparison.sides:
        for warning in side.warnings:
            told.setdefault(warning, []).append(short[side.name])
    items = [html("<li>{}: {}</li>", ", ".join(names), warning) for warning, names in told.items()]
    return [html("<h2>Warnings of the selections</h2><ul>{}</ul>", joined(items))] if items else []


def _cells(comparison: Comparison) -> int:
    """How many figures are held against chance."""
    return sum(side.figures[name] is not None for side in comparison.sides for name in comparison.chance)


def robustness_page(found: Robustness) -> str:
    """Write the page.

    Args:
        found: From `crowdselect.compare.robustness.robustness`.

    Returns:
        A whole HTML document.
    """
    facts, n = found.facts, len(found.chosen)
    title = f"How much of a selection of {n} stays"
    rows = [
        [
            AXES[row["axis"]],
            row["variants"],
            f"{row['kept']:.0%}",
            _bar(row["kept"], found.chance),
            html("{:.0%}<small>{}</small>", row["lowest"], row["lowest_name"]),
        ]
        for row in found.summary()
    ]
    simulated = html("<p class=warn><b>This pool is simulated: no real model or reward is behind it.</b></p>")
    options = facts["options"]
    return document(
        title,
        [
            html("<h1>{}</h1>", title),
            simulated if facts["simulated"] else Markup(),
            html(
                "<p class=soft>{}: {} of {} instructions that could be chosen, by the reward {} of {} models. Score: {}; "
                "clusters: {}; seed {}.</p>",
                facts["pool"],
                n,
                found.eligible,
                facts["reward"],
                facts["models"],
                score_line(options),
                options["cluster_by"] or options["clusters"] or "none",
                options["seed"],
            ),
            html(
                "<p>The selection was made again with one choice changed at a time. Kept: the share of its rows that the other "
                "selection has too; a random choice would have {:.1%} of them (the line in the bars). The choice "
                "that matters most stands first.</p>",
                found.chance,
            ),
            plain_table(["what was changed", "variants", "kept, mean", "", "kept, lowest"], rows),
            *(_axis(row["axis"], found) for row in found.summary()),
        ],
    )


def _axis(axis: str, found: Robustness) -> Markup:
    own = [variant for variant in found.variants if variant.axis == axis]
    own.sort(key=lambda variant: (variant.kept is None, variant.kept, variant.name))
    shown, rest = own[:_OPEN], own[_OPEN:]
    more = (
        html("<details><summary>{} more</summary>{}</details>", len(rest), _variants(rest, found.chance))
        if rest
        else ""
    )
    return html("<h2>{}</h2>{}{}", AXES[axis], _variants(shown, found.chance), more)


def _variants(variants: list[Variant], chance: float) -> Markup:
    rows = [[variant.name, *_kept_cells(variant, chance)] for variant in variants]
    return plain_table(["", "kept", "Jaccard", ""], rows)


def _kept_cells(variant: Variant, chance: float) -> list[object]:
    if variant.kept is None or variant.jaccard is None:
        return ["-", "-", variant.why]
    return [f"{variant.kept:.1%}", f"{variant.jaccard:.2f}", _bar(variant.kept, chance)]


def _bar(kept: float, chance: float) -> Markup:
    return html(
        '<svg width="{wide}" height="{tall}" role="img" aria-label="{kept:.0%}">'
        '<rect class=band width="{wide}" height="{tall}" rx="3"/>'
        '<rect class=dot width="{bar:.1f}" height="{tall}" rx="3"/>'
        '<line class=mean x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{tall}"/></svg>',
        wide=_BAR_WIDE,
        tall=_BAR_TALL,
        kept=kept,
        bar=kept * _BAR_WIDE,
        at=chance * _BAR_WIDE,
    )
