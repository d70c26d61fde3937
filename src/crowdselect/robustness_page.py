"""The robustness of a selection as one HTML page; see `crowdselect.plainpage`."""

from crowdselect.plainpage import document, esc
from crowdselect.robustness import AXES, Robustness, Variant
from crowdselect.summary import score_line

_WIDE, _TALL = 200, 14
_OPEN = 12  # variants of an axis that are shown at once, those that keep least; the rest unfold


def robustness_page(found: Robustness) -> str:
    """Write the page.

    Args:
        found: From `crowdselect.robustness.robustness`.

    Returns:
        A whole HTML document.
    """
    facts, n = found.facts, len(found.chosen)
    title = f"How much of a selection of {n} stays"
    rows = [
        f"<tr><td>{esc(AXES[row['axis']])}</td><td>{row['variants']}</td><td>{row['kept']:.0%}</td>"
        f"<td>{_bar(row['kept'], found.chance)}</td><td>{row['lowest']:.0%}<small>{esc(row['lowest_name'])}</small></td></tr>"
        for row in found.summary()
    ]
    simulated = "<p class=warn><b>This pool is simulated: no real model or reward is behind it.</b></p>"
    return document(
        title,
        [
            f"<h1>{esc(title)}</h1>",
            simulated if facts["simulated"] else "",
            (
                f"<p class=soft>{esc(facts['pool'])}: {n} of {found.eligible} instructions that could be chosen, by the reward "
                f"{esc(facts['reward'])} of {facts['models']} models. Score: {esc(score_line(facts['options']))}; clusters: "
                f"{esc(facts['options']['cluster_by'] or facts['options']['clusters'] or 'none')}; seed {facts['options']['seed']}.</p>"
            ),
            (
                "<p>The selection was made again with one choice changed at a time. Kept: the share of its rows that the other "
                f"selection has too; a random choice would have {found.chance:.1%} of them (the line in the bars). The choice "
                "that matters most stands first.</p>"
            ),
            (
                "<div class=scroll><table><thead><tr><th>what was changed</th><th>variants</th><th>kept, mean</th>"
                f"<th></th><th>kept, lowest</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
            ),
            *(_axis(row["axis"], found) for row in found.summary()),
        ],
    )


def _axis(axis: str, found: Robustness) -> str:
    own = [variant for variant in found.variants if variant.axis == axis]
    own.sort(key=lambda variant: (variant.kept is None, variant.kept, variant.name))
    shown, rest = own[:_OPEN], own[_OPEN:]
    more = (
        f"<details><summary>{len(rest)} more</summary>{_table(rest, found.chance)}</details>" if rest else ""
    )
    return f"<h2>{esc(AXES[axis])}</h2>{_table(shown, found.chance)}{more}"


def _table(variants: list[Variant], chance: float) -> str:
    rows = "".join(f"<tr><td>{esc(variant.name)}</td>{_cells(variant, chance)}</tr>" for variant in variants)
    return (
        "<div class=scroll><table><thead><tr><th></th><th>kept</th><th>Jaccard</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cells(variant: Variant, chance: float) -> str:
    if variant.kept is None or variant.jaccard is None:
        return f"<td>-</td><td>-</td><td>{esc(variant.why)}</td>"
    return f"<td>{variant.kept:.1%}</td><td>{variant.jaccard:.2f}</td><td>{_bar(variant.kept, chance)}</td>"


def _bar(kept: float, chance: float) -> str:
    line = f'<line class=mean x1="{chance * _WIDE:.1f}" x2="{chance * _WIDE:.1f}" y1="0" y2="{_TALL}"/>'
    band = f'<rect class=band width="{_WIDE}" height="{_TALL}" rx="3"/>'
    bar = f'<rect class=dot width="{kept * _WIDE:.1f}" height="{_TALL}" rx="3"/>'
    return f'<svg width="{_WIDE}" height="{_TALL}" role="img" aria-label="{kept:.0%}">{band}{bar}{line}</svg>'
