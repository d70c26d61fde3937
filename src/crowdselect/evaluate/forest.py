"""The forest plot of a comparison: every difference with its interval, beside a line at 0."""

from typing import Any

from crowdselect._optional import optional
from crowdselect.evaluate.comparison import UNCLEAR, Comparison
from crowdselect.report.chartspec import EXTRA, PLAIN, Figure, finished, label

_ROW = 30  # pixels


def forest_figure(found: Comparison) -> Figure | None:
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
