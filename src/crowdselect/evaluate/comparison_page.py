"""A comparison as one HTML page: tables, and a forest plot of every difference with its interval beside a line at 0."""

import base64
from typing import Any

from crowdselect._optional import optional
from crowdselect.evaluate.comparison import ROUNDS, UNCLEAR, MethodComparison
from crowdselect.evaluate.display import figure, p_value, span
from crowdselect.evaluate.protocols import PROTOCOLS
from crowdselect.report.chartspec import EXTRA, PLAIN, Figure, finished, label, theme, vega_lite_version
from crowdselect.report.page import Markup, document, html, joined, plain_table

_WIDTH = 640  # pixels of the plot
_SCHEMES = Markup(
    "<style>.drawn{margin:.5rem 0 1.5rem}.drawn img{max-width:100%;height:auto}.night{display:none}"
    "@media(prefers-color-scheme:dark){.day{display:none}.night{display:block}}</style>"
)

_ROW = 30  # pixels


def comparison_page(found: MethodComparison) -> str:
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


def _standings(found: MethodComparison) -> Markup:
    rows = [
        [
            one.name,
            one.runs,
            one.questions,
            figure(one.score),
            span(one.interval),
            span((one.lowest, one.highest)) if one.runs > 1 else "-",
        ]
        for one in found.standings
    ]
    return plain_table(["method", "runs", "questions", "score", "95 % interval", "single runs"], rows)


def _differences(found: MethodComparison) -> Markup:
    rows = [
        [
            html("{} &minus; {}", one.one, one.other),
            figure(one.difference),
            span(one.interval),
            one.questions,
            one.differing,
            p_value(one.p),
            p_value(one.p_holm),
            one.verdict if one.verdict == UNCLEAR else html("<span class=above>{}</span>", one.verdict),
        ]
        for one in found.differences
    ]
    heads = ["difference", "", "95 % interval", "questions", "that differ", "p", "p, Holm", "the first is"]
    return plain_table(heads, rows)


def forest_figure(found: MethodComparison) -> Figure | None:
    """Draw the differences; those whose interval holds 0 are grey.

    Returns:
        The figure; None where there is no difference to draw.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = optional("altair", extra=EXTRA)
    rows = [
        {
            "name": label(f"{one.one} - {one.other}", width=60),
            "value": one.difference,
            "low": one.interval[0],
            "high": one.interval[1],
            "clear": one.verdict != UNCLEAR,
        }
        for one in found.differences
        if one.difference is not None and one.interval is not None
    ]
    if not rows:
        return None
    names = [row["name"] for row in rows]
    y = alt.Y("name:N", title=None, sort=names, axis=alt.Axis(**PLAIN, labelLimit=320))
    base = alt.Chart()
    layers = [
        base.mark_rule(style="tick", strokeDash=[3, 3]).encode(x=alt.datum(0)),
        *_marks(base, y, alt, clear=False),
        *_marks(base, y, alt, clear=True),
    ]
    spec = finished(alt.layer(*layers), rows, height=_ROW * len(rows) + 10)
    return Figure(
        spec, "Differences", "Each line is a 95 % interval; where it reaches 0, no difference is shown."
    )


def _marks(base: Any, y: Any, alt: Any, *, clear: bool) -> list[Any]:  # noqa: ANN401  (Altair's classes)
    style = "chosen" if clear else "pool"
    some = base.transform_filter("datum.clear" if clear else "!datum.clear")
    return [
        some.mark_rule(style=style, strokeWidth=3).encode(
            x=alt.X("low:Q", title="difference"), x2="high:Q", y=y
        ),
        some.mark_point(style=style, filled=True, size=70, opacity=1).encode(x="value:Q", y=y),
    ]
