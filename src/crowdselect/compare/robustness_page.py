"""The robustness of a selection as one HTML page; see `crowdselect.report.page`."""

from crowdselect.compare.robustness import AXES, Robustness, Variant
from crowdselect.report.page import Markup, document, html, plain_table
from crowdselect.selection.selection import score_line

_WIDE, _TALL = 200, 14
_OPEN = 12  # variants of an axis that are shown at once, those that keep least; the rest unfold


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
        html("<details><summary>{} more</summary>{}</details>", len(rest), _table(rest, found.chance))
        if rest
        else ""
    )
    return html("<h2>{}</h2>{}{}", AXES[axis], _table(shown, found.chance), more)


def _table(variants: list[Variant], chance: float) -> Markup:
    rows = [[variant.name, *_cells(variant, chance)] for variant in variants]
    return plain_table(["", "kept", "Jaccard", ""], rows)


def _cells(variant: Variant, chance: float) -> list[object]:
    if variant.kept is None or variant.jaccard is None:
        return ["-", "-", variant.why]
    return [f"{variant.kept:.1%}", f"{variant.jaccard:.2f}", _bar(variant.kept, chance)]


def _bar(kept: float, chance: float) -> Markup:
    return html(
        '<svg width="{wide}" height="{tall}" role="img" aria-label="{kept:.0%}">'
        '<rect class=band width="{wide}" height="{tall}" rx="3"/>'
        '<rect class=dot width="{bar:.1f}" height="{tall}" rx="3"/>'
        '<line class=mean x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{tall}"/></svg>',
        wide=_WIDE,
        tall=_TALL,
        kept=kept,
        bar=kept * _WIDE,
        at=chance * _WIDE,
    )
