"""A comparison as one HTML page: tables, and a forest plot of the differences with their intervals and a line at 0."""

import base64
from collections.abc import Mapping
from typing import Any

from crowdselect._optional import optional
from crowdselect.evaluate.comparison import ROUNDS, UNCLEAR, MethodComparison
from crowdselect.evaluate.display import common_decimals, figure, p_value, span
from crowdselect.evaluate.measures import MEASURES
from crowdselect.report.chartspec import EXTRA, PLAIN, Figure, finished, label, theme, vega_lite_version
from crowdselect.report.page import render
from crowdselect.terminal import counted

_WIDTH = 640  # pixels of the plot
_ROW = 30  # pixels


def comparison_page(found: MethodComparison, *, made: Mapping[str, Any] | None = None) -> str:
    """Write the page; its template is `evaluate.html`, see `crowdselect.report.page`.

    Args:
        found: From `comparison.compare`.
        made: As for `crowdselect.report.page.render`.

    Returns:
        A complete HTML document without scripts.

    Raises:
        MissingExtraError: The extra `report` is not installed.
    """
    drawn, digits = forest_figure(found), common_decimals(found)
    return render(
        "evaluate.html",
        made=made,
        title=f"{counted(len(found.standings), 'method')} on {MEASURES[found.benchmark].title}",
        kind="evaluation",
        simulated=False,
        warnings=found.notes,
        unit=found.unit,
        of=MEASURES[found.benchmark].of,
        judge=found.judge,
        baseline=found.baseline,
        rounds=ROUNDS,
        scores=_scores(found, digits),
        differences=_differences(found, digits),
        drawn=None if drawn is None else {"title": drawn.title, "says": drawn.says, "images": _images(drawn)},
    )


def _images(drawn: Figure) -> list[tuple[str, str]]:
    """Draw a figure for light and for dark pages, as base64 SVG images, in which no script can run."""
    convert = optional("vl_convert", extra=EXTRA)
    images = []
    for scheme, dark in (("day", False), ("night", True)):
        spec = {**drawn.spec, "config": theme(dark=dark), "width": _WIDTH}
        svg = convert.vegalite_to_svg(spec, vl_version=vega_lite_version())
        images.append((scheme, base64.b64encode(svg.encode()).decode()))
    return images


def _scores(found: MethodComparison, digits: int) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "runs": one.runs,
            "questions": one.questions,
            "score": figure(one.score, digits),
            "interval": span(one.interval, digits),
            "single": span((one.lowest, one.highest), digits) if one.runs > 1 else "-",
        }
        for one in found.standings
    ]


def _differences(found: MethodComparison, digits: int) -> list[dict[str, Any]]:
    return [
        {
            "one": one.one,
            "other": one.other,
            "difference": figure(one.difference, digits),
            "interval": span(one.interval, digits),
            "questions": one.questions,
            "differing": one.differing,
            "p": p_value(one.p),
            "p_holm": p_value(one.p_holm),
            "verdict": one.verdict,
            "shown": one.verdict != UNCLEAR,
        }
        for one in found.differences
    ]


def forest_figure(found: MethodComparison) -> Figure | None:
    """Draw the differences; those whose interval includes 0 are grey.

    Returns:
        The figure; None if there is no difference to draw.

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
    names = [str(row["name"]) for row in rows]
    # A browser's font may be wider than the one used for layout.
    extent = min(320, 7 * max(len(name) for name in names))
    y = alt.Y("name:N", title=None, sort=names, axis=alt.Axis(**PLAIN, labelLimit=320, minExtent=extent))
    base = alt.Chart()
    layers = [
        base.mark_rule(style="tick", strokeDash=[3, 3]).encode(x=alt.datum(0)),
        *_marks(base, y, alt, clear=False),
        *_marks(base, y, alt, clear=True),
    ]
    spec = finished(alt.layer(*layers), rows, height=_ROW * len(rows) + 10)
    return Figure(
        spec, "Differences", "Each line is a 95% interval; where it reaches 0, no difference is shown."
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
