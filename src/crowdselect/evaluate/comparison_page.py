"""A comparison as one HTML page: no scripts, nothing fetched, all text escaped, light and dark."""

import base64

from crowdselect._optional import optional
from crowdselect.evaluate.comparison import ROUNDS, UNCLEAR, Comparison
from crowdselect.evaluate.display import figure
from crowdselect.evaluate.forest import forest_figure
from crowdselect.evaluate.protocols import PROTOCOLS
from crowdselect.report.chartspec import EXTRA, Figure, theme
from crowdselect.report.figures import vega_lite_version
from crowdselect.report.page import Markup, document, html, joined, plain_table

_WIDTH = 640  # pixels of the plot
_SCHEMES = Markup(
    "<style>.drawn{margin:.5rem 0 1.5rem}.drawn img{max-width:100%;height:auto}.night{display:none}"
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
            html("<h1>{}</h1>", title),
            html("<p class=soft>Scores in {}, judged by {}.{}</p>", found.unit, found.judge, beside),
            *(html("<p class=warn>{}</p>", note) for note in found.notes),
            html("<h2>Scores</h2>"),
            _standings(found),
            html("<h2>Differences</h2>"),
            html(
                "<p>Paired over the questions that both sides have verdicts on; {:,} rounds of resampling over "
                "questions and, where a method was trained several times, over its runs. p is two-sided{}. "
                "Where an interval holds 0, no difference is shown, which does not mean that there is none.</p>",
                ROUNDS,
                _correction(len(found.differences)),
            ),
            Markup() if drawn is None else joined([_SCHEMES, _pictures(drawn)]),
            _differences(found),
        ],
    )


def _correction(count: int) -> Markup:
    if count <= 1:
        return Markup()
    return html("; Holm&rsquo;s correction is for the {} differences shown here", count)


def _pictures(drawn: Figure) -> Markup:
    """Draw a figure twice, for light and for dark pages; as images, in which nothing can act."""
    convert = optional("vl_convert", extra=EXTRA)
    made = []
    for name, dark in (("day", False), ("night", True)):
        spec = {**drawn.spec, "config": theme(dark=dark), "width": _WIDTH}
        svg = convert.vegalite_to_svg(spec, vl_version=vega_lite_version())
        made.append(
            html(
                '<div class="drawn {}"><img alt="{}" src="data:image/svg+xml;base64,{}"></div>',
                name,
                drawn.title,
                base64.b64encode(svg.encode()).decode(),
            )
        )
    return html("<p class=soft>{}</p>{}", drawn.says, joined(made))


def _standings(found: Comparison) -> Markup:
    rows = [
        [
            one.name,
            one.runs,
            one.questions,
            figure(one.score),
            _ends(one.interval),
            _span(one.lowest, one.highest) if one.runs > 1 else "-",
        ]
        for one in found.standings
    ]
    return plain_table(["method", "runs", "questions", "score", "95 % interval", "single runs"], rows)


def _differences(found: Comparison) -> Markup:
    rows = [
        [
            html("{} &minus; {}", one.one, one.other),
            figure(one.difference),
            _ends(one.interval),
            one.questions,
            one.differing,
            _chance(one.p),
            _chance(one.p_holm),
            one.verdict if one.verdict == UNCLEAR else html("<span class=above>{}</span>", one.verdict),
        ]
        for one in found.differences
    ]
    heads = ["difference", "", "95 % interval", "questions", "that differ", "p", "p, Holm", "the first is"]
    return plain_table(heads, rows)


def _ends(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else _span(*ends)


def _span(low: float | None, high: float | None) -> str:
    return f"{figure(low)} to {figure(high)}"


def _chance(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
