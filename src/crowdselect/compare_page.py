"""The comparison as one HTML page: no scripts, nothing fetched, all text escaped, light and dark, wide and narrow."""

import math

from crowdselect.compare import Chance, Comparison, short_names
from crowdselect.comparefacts import FIGURES
from crowdselect.plainpage import document, esc, number

_VALUES = 12  # values of a mix that are shown; the rest are one line
_MARKS = {1: ("above", "\u25b2"), -1: ("below", "\u25bc"), 0: ("", "")}
_WIDE, _TALL = 240, 26  # of a strip of dots


def comparison_page(comparison: Comparison) -> str:
    """Write the page.

    Args:
        comparison: From `crowdselect.compare.compare`.

    Returns:
        A whole HTML document. Names and values from pools are shown as text, control characters as escapes.
    """
    pool = comparison.pool
    title = f"{comparison.settings['selections']} selections of one pool"
    parts = [
        f"<h1>{esc(title)}</h1>",
        "<p class=warn><b>This pool is simulated: no real model or reward is behind it.</b></p>"
        if pool["simulated"]
        else "",
        f"<p class=soft>{esc(pool['path'])}: {pool['instructions']} instructions. {esc(_settings(comparison))}</p>",
        *(f"<p class=warn>{esc(problem)}</p>" for problem in comparison.problems),
        "<h2>Figures, against chance</h2>",
        (
            f"<p>Random: {esc(short_names(comparison.names).get(comparison.random, comparison.random))}. Its column is mean &plusmn; standard deviation. A figure is marked "
            "<span class=above>&#9650; above</span> or <span class=below>&#9660; below</span> where one more random choice "
            f"would come out so far on that side one time in forty: of the {_cells(comparison)} figures here, chance alone would "
            f"mark about {_cells(comparison) / 20:.0f}. A mark says that a selection is different, not that it is better to "
            "train on.</p>"
        ),
        _figures(comparison),
        "<h2>How much they share</h2>",
        (
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


def _figures(comparison: Comparison) -> str:
    short = short_names(comparison.names)
    heads = "".join(
        f"<th>{esc(short[side.name])}<small>{esc(side.method)}</small></th>" for side in comparison.sides
    )
    rows = []
    for name, words in FIGURES.items():
        chance = comparison.chance.get(name)
        if chance is None and all(side.figures[name] is None for side in comparison.sides):
            continue
        cells = "".join(_cell(side.figures[name], chance) for side in comparison.sides)
        usual = "-" if chance is None else f"{number(chance.mean)}<small>&plusmn; {chance.spread:.2g}</small>"
        rows.append(
            f"<tr><td>{esc(words)}</td><td>{usual}</td><td>{_strip(name, comparison)}</td>{cells}</tr>"
        )
    return (
        "<div class=scroll><table><thead><tr><th>figure</th><th>random</th><th>where they stand<small>band: random</small></th>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: float | None, chance: Chance | None) -> str:
    beyond = 0 if value is None or chance is None else chance.beyond(value)
    kind, sign = _MARKS[beyond]
    said = f'<span aria-label="{kind} random">{sign}</span> ' if sign else ""
    return f"<td class={kind or 'usual'}>{said}{number(value)}</td>"


def _strip(name: str, comparison: Comparison) -> str:
    """Every selection as a dot on the band of what random choices come to."""
    chance, short = comparison.chance.get(name), short_names(comparison.names)
    known = [(side, value) for side in comparison.sides if (value := side.figures[name]) is not None]
    if chance is None or not known:
        return ""
    ends = [chance.low, chance.high, *(value for _, value in known)]
    low, high = min(ends), max(ends)
    if not math.isfinite(high - low) or high == low:
        return ""

    def at(value: float) -> float:
        return 8 + (_WIDE - 16) * (value - low) / (high - low)

    dots = "".join(
        f'<circle class=dot cx="{at(value):.1f}" cy="{_TALL / 2:g}" r="5"><title>{esc(short[side.name])}: {number(value)}</title></circle>'
        for side, value in known
    )
    band = f'<rect class=band x="{at(chance.low):.1f}" y="4" width="{max(at(chance.high) - at(chance.low), 1):.1f}" height="{_TALL - 8}" rx="3"/>'
    mean = f'<line class=mean x1="{at(chance.mean):.1f}" x2="{at(chance.mean):.1f}" y1="4" y2="{_TALL - 4}"/>'
    return f'<svg width="{_WIDE}" height="{_TALL}" viewBox="0 0 {_WIDE} {_TALL}" role="img" aria-label="{esc(FIGURES[name])}">{band}{mean}{dots}</svg>'


def _overlap(comparison: Comparison) -> str:
    names, jaccard = comparison.names, comparison.jaccard
    short = short_names(names)
    heads = "".join(f"<th>{esc(short[name])}</th>" for name in names)
    rows = []
    for i, name in enumerate(names):
        cells = "".join(
            f"<td>{number(float(comparison.overlap[i, j]))}<small>{jaccard[i, j]:.2f}; chance {comparison.expected[i, j]:.0f}</small></td>"
            for j in range(len(names))
        )
        rows.append(f"<tr><td>{esc(short[name])}</td>{cells}</tr>")
    return f"<div class=scroll><table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _mix_names(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(name for side in comparison.sides for name in side.mixes)) or list(
        comparison.random_mixes
    )


def _mix(name: str, comparison: Comparison) -> str:
    mixes = [side.mixes.get(name, {}) for side in comparison.sides]
    usual = comparison.random_mixes.get(name, {})
    total: dict[str, float] = {}
    for mix in (usual, *mixes):
        for value, share in mix.items():
            total[value] = total.get(value, 0.0) + share
    values = sorted(total, key=lambda value: (-total[value], value))
    shown, rest = values[:_VALUES], values[_VALUES:]
    short = short_names(comparison.names)
    heads = "".join(f"<th>{esc(short[side.name])}</th>" for side in comparison.sides)
    rows = [
        f"<tr><td>{esc(value)}</td>"
        + "".join(f"<td>{mix.get(value, 0.0):.1%}</td>" for mix in (usual, *mixes))
        + "</tr>"
        for value in shown
    ]
    if rest:
        cells = "".join(
            f"<td>{sum(mix.get(value, 0.0) for value in rest):.1%}</td>" for mix in (usual, *mixes)
        )
        rows.append(f"<tr><td>{len(rest)} others</td>{cells}</tr>")
    title = "Whose answers" if name == "models" else f"Mix of {name}"
    return (
        f"<h2>{esc(title)}</h2><div class=scroll><table><thead><tr><th>{esc(name)}</th><th>random</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _warnings(comparison: Comparison) -> list[str]:
    """Every warning once, with the selections that have it."""
    short = short_names(comparison.names)
    told: dict[str, list[str]] = {}
    for side in comparison.sides:
        for warning in side.warnings:
            told.setdefault(warning, []).append(short[side.name])
    items = [f"<li>{esc(', '.join(names))}: {esc(warning)}</li>" for warning, names in told.items()]
    return [f"<h2>Warnings of the selections</h2><ul>{''.join(items)}</ul>"] if items else []


def _cells(comparison: Comparison) -> int:
    """How many figures are held against chance."""
    return sum(side.figures[name] is not None for side in comparison.sides for name in comparison.chance)
