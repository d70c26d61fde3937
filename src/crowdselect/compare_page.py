"""The comparison as one HTML page: no scripts, nothing fetched, all text escaped, light and dark, wide and narrow."""

import html
import math
from collections.abc import Mapping, Sequence

from crowdselect.compare import Chance, Comparison, Side
from crowdselect.comparefacts import FIGURES
from crowdselect.show import visible

_VALUES = 12  # values of a mix that are shown; the rest are one line
_MARKS = {1: ("above", "\u25b2"), -1: ("below", "\u25bc"), 0: ("", "")}
_WIDE, _TALL = 240, 26  # of a strip of dots

_STYLE = """
:root{color-scheme:light dark;--ink:#23262b;--soft:#656a73;--line:#e3dfd6;--paper:#fff;--back:#f7f5f0;--band:#d9dde4;
--above:#255fa3;--below:#a4571a;--dot:#2f6db5}
@media(prefers-color-scheme:dark){:root{--ink:#e9e6df;--soft:#a2a6ae;--line:#33373e;--paper:#1d2025;--back:#15171b;
--band:#3a3f48;--above:#7db4f2;--below:#f0a35e;--dot:#6aa9f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",Arial,sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .75rem}h2{font-size:1.15rem;margin:2.5rem 0 .5rem}
p{max-width:46rem;margin:.5rem 0}.soft{color:var(--soft)}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:middle}
tr:last-child>*{border-bottom:0}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:9rem;position:sticky;left:0;
background:var(--paper)}
thead th{vertical-align:bottom;white-space:normal;overflow-wrap:anywhere;min-width:6rem}
thead small,td small{display:block;font-weight:400;color:var(--soft)}
.above{color:var(--above);font-weight:600}.below{color:var(--below);font-weight:600}
svg{display:block}.band{fill:var(--band)}.mean{stroke:var(--soft);stroke-width:1.5}.dot{fill:var(--dot);fill-opacity:.75}
.warn{border-left:3px solid var(--below);padding-left:.75rem}
li{overflow-wrap:anywhere}
"""


def comparison_page(comparison: Comparison) -> str:
    """Write the page.

    Args:
        comparison: From `crowdselect.compare.compare`.

    Returns:
        A whole HTML document. Names and values from pools are shown as text, control characters as escapes.

    Example:
        >>> "<script" in _esc("<script>alert(1)</script>")
        False
    """
    pool = comparison.pool
    title = f"{comparison.settings['selections']} selections of one pool"
    parts = [
        f"<h1>{_esc(title)}</h1>",
        "<p class=warn><b>This pool is simulated: no real model or reward is behind it.</b></p>"
        if pool["simulated"]
        else "",
        f"<p class=soft>{_esc(pool['path'])}: {pool['instructions']} instructions. {_esc(_settings(comparison))}</p>",
        *(f"<p class=warn>{_esc(problem)}</p>" for problem in comparison.problems),
        "<h2>Figures, against chance</h2>",
        (
            f"<p>Random: {_esc(comparison.random)}. Its column is mean &plusmn; standard deviation. A figure is marked "
            "<span class=above>&#9650; above</span> or <span class=below>&#9660; below</span> where one more random choice "
            "would come out so far on that side one time in forty. With many figures a few marks come by chance alone, "
            "and a mark says that a selection is different, not that it is better to train on.</p>"
        ),
        _figures(comparison),
        "<h2>How much they share</h2>",
        (
            "<p>Rows that two selections have in common; below, their Jaccard index, and how many rows two random choices "
            "of these sizes would share. For seeds of one method it is the mean over their pairs.</p>"
        ),
        _overlap(comparison),
        *(_mix(name, comparison) for name in _mix_names(comparison)),
        *_warnings(comparison.sides),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>{_esc(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _esc(value: object) -> str:
    return html.escape(visible(value))


def number(value: float | None) -> str:
    """A figure with as many digits as it needs.

    Example:
        >>> number(1234.5), number(0.12345), number(12.0), number(None)
        ('1,234', '0.1235', '12', '-')
    """
    if value is None or math.isnan(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


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
    heads = "".join(
        f"<th>{_esc(side.name)}<small>{_esc(side.method)}</small></th>" for side in comparison.sides
    )
    rows = []
    for name, words in FIGURES.items():
        chance = comparison.chance.get(name)
        if chance is None and all(side.figures[name] is None for side in comparison.sides):
            continue
        cells = "".join(_cell(side.figures[name], chance) for side in comparison.sides)
        usual = "-" if chance is None else f"{number(chance.mean)}<small>&plusmn; {chance.spread:.2g}</small>"
        rows.append(
            f"<tr><td>{_esc(words)}</td><td>{usual}</td>{cells}<td>{_strip(name, comparison)}</td></tr>"
        )
    return (
        "<div class=scroll><table><thead><tr><th>figure</th><th>random</th>"
        f"{heads}<th>where they stand<small>band: random</small></th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: float | None, chance: Chance | None) -> str:
    beyond = 0 if value is None or chance is None else chance.beyond(value)
    kind, sign = _MARKS[beyond]
    said = f'<span aria-label="{kind} random">{sign}</span> ' if sign else ""
    return f"<td class={kind or 'usual'}>{said}{number(value)}</td>"


def _strip(name: str, comparison: Comparison) -> str:
    """Every selection as a dot on the band of what random choices come to."""
    chance = comparison.chance.get(name)
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
        f'<circle class=dot cx="{at(value):.1f}" cy="{_TALL / 2:g}" r="5"><title>{_esc(side.name)}: {number(value)}</title></circle>'
        for side, value in known
    )
    band = f'<rect class=band x="{at(chance.low):.1f}" y="4" width="{max(at(chance.high) - at(chance.low), 1):.1f}" height="{_TALL - 8}" rx="3"/>'
    mean = f'<line class=mean x1="{at(chance.mean):.1f}" x2="{at(chance.mean):.1f}" y1="4" y2="{_TALL - 4}"/>'
    return f'<svg width="{_WIDE}" height="{_TALL}" viewBox="0 0 {_WIDE} {_TALL}" role="img" aria-label="{_esc(FIGURES[name])}">{band}{mean}{dots}</svg>'


def _overlap(comparison: Comparison) -> str:
    names, jaccard = comparison.names, comparison.jaccard
    heads = "".join(f"<th>{_esc(name)}</th>" for name in names)
    rows = []
    for i, name in enumerate(names):
        cells = "".join(
            f"<td>{number(float(comparison.overlap[i, j]))}<small>{jaccard[i, j]:.2f}; chance {comparison.expected[i, j]:.0f}</small></td>"
            for j in range(len(names))
        )
        rows.append(f"<tr><td>{_esc(name)}</td>{cells}</tr>")
    return f"<div class=scroll><table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _mix_names(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(name for side in comparison.sides for name in side.mixes)) or list(
        comparison.random_mixes
    )


def _mix(name: str, comparison: Comparison) -> str:
    mixes: Sequence[Mapping[str, float]] = [side.mixes.get(name, {}) for side in comparison.sides]
    usual = comparison.random_mixes.get(name, {})
    total: dict[str, float] = {}
    for mix in (usual, *mixes):
        for value, share in mix.items():
            total[value] = total.get(value, 0.0) + share
    values = sorted(total, key=lambda value: (-total[value], value))
    shown, rest = values[:_VALUES], values[_VALUES:]
    heads = "".join(f"<th>{_esc(side.name)}</th>" for side in comparison.sides)
    rows = [
        f"<tr><td>{_esc(value)}</td>"
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
        f"<h2>{_esc(title)}</h2><div class=scroll><table><thead><tr><th>{_esc(name)}</th><th>random</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _warnings(sides: Sequence[Side]) -> list[str]:
    items = [f"<li>{_esc(side.name)}: {_esc(warning)}</li>" for side in sides for warning in side.warnings]
    return [f"<h2>Warnings of the selections</h2><ul>{''.join(items)}</ul>"] if items else []
