"""A comparison as one HTML page: no scripts, nothing fetched, all text escaped, light and dark."""

from crowdselect._optional import optional
from crowdselect.chartspec import EXTRA, Figure
from crowdselect.evaluate.comparison import ROUNDS, UNCLEAR, Comparison
from crowdselect.evaluate.display import figure
from crowdselect.evaluate.forest import forest_figure
from crowdselect.evaluate.protocols import PROTOCOLS
from crowdselect.figures import vega_lite_version
from crowdselect.plainpage import document, esc
from crowdselect.theme import theme

_WIDTH = 640  # pixels of the plot
_SCHEMES = (
    "<style>.drawn{margin:.5rem 0 1.5rem}.drawn svg{max-width:100%;height:auto}.night{display:none}"
    "@media(prefers-color-scheme:dark){.day{display:none}.night{display:block}}</style>"
)


def comparison_page(found: Comparison) -> str:
    """Write the page.

    Args:
        found: From `comparison.compare`.

    Returns:
        A whole HTML document.

    Raises:
        MissingExtraError: The extra `report` is not installed.
    """
    title = f"{len(found.standings)} methods on {PROTOCOLS[found.benchmark].title}"
    beside = "" if found.baseline is None else f" The baseline {found.baseline} has a score of 50."
    drawn = forest_figure(found)
    return document(
        title,
        [
            f"<h1>{esc(title)}</h1>",
            f"<p class=soft>{esc(f'Scores in {found.unit}, judged by {found.judge}.{beside}')}</p>",
            *(f"<p class=warn>{esc(note)}</p>" for note in found.notes),
            "<h2>Scores</h2>",
            _standings(found),
            "<h2>Differences</h2>",
            (
                f"<p>Paired over the questions that both sides have verdicts on; {ROUNDS:,} rounds of resampling over "
                "questions and, where a method was trained several times, over its runs. p is two-sided"
                f"{_correction(len(found.differences))}. Where an interval holds 0, "
                "no difference is shown, which does not mean that there is none.</p>"
            ),
            "" if drawn is None else _SCHEMES + _pictures(drawn),
            _differences(found),
        ],
    )


def _correction(count: int) -> str:
    return f"; Holm&rsquo;s correction is for the {count} differences shown here" if count > 1 else ""


def _pictures(drawn: Figure) -> str:
    """Draw a figure twice, for light and for dark pages."""
    convert = optional("vl_convert", extra=EXTRA)
    made = []
    for name, dark in (("day", False), ("night", True)):
        spec = {**drawn.spec, "config": theme(dark=dark), "width": _WIDTH}
        svg = convert.vegalite_to_svg(spec, vl_version=vega_lite_version())
        made.append(f'<div class="drawn {name}" role="img" aria-label="{esc(drawn.title)}">{svg}</div>')
    return f"<p class=soft>{esc(drawn.says)}</p>{''.join(made)}"


def _standings(found: Comparison) -> str:
    rows = "".join(
        f"<tr><td>{esc(one.name)}</td><td>{one.runs}</td><td>{one.questions}</td><td>{figure(one.score)}</td>"
        f"<td>{_ends(one.interval)}</td><td>{_span(one.lowest, one.highest) if one.runs > 1 else '-'}</td></tr>"
        for one in found.standings
    )
    heads = "<th>method</th><th>runs</th><th>questions</th><th>score</th><th>95 % interval</th><th>single runs</th>"
    return _table(heads, rows)


def _differences(found: Comparison) -> str:
    rows = []
    for one in found.differences:
        kind = "" if one.verdict == UNCLEAR else ' class="above"'
        rows.append(
            f"<tr><td>{esc(one.one)} &minus; {esc(one.other)}</td><td>{figure(one.difference)}</td>"
            f"<td>{_ends(one.interval)}</td><td>{one.questions}</td><td>{one.differing}</td><td>{_chance(one.p)}</td>"
            f"<td>{_chance(one.p_holm)}</td><td{kind}>{esc(one.verdict)}</td></tr>"
        )
    heads = (
        "<th>difference</th><th></th><th>95 % interval</th><th>questions</th><th>that differ</th><th>p</th>"
        "<th>p, Holm</th><th>the first is</th>"
    )
    return _table(heads, "".join(rows))


def _table(heads: str, rows: str) -> str:
    return f"<div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


def _ends(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else _span(*ends)


def _span(low: float | None, high: float | None) -> str:
    return f"{figure(low)} to {figure(high)}"


def _chance(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
