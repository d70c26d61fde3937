"""What the charts share: a figure, its Vega-Lite, and how rows get into it.

Colours are names of styles here (`pool`, `chosen`); a theme gives them their values, so that the page can
change between light and dark. Every expression is one of ours and every field has a name of ours: what comes from
a pool is only ever a value.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crowdselect.terminal import visible

Spec = dict[str, Any]
Records = list[dict[str, Any]]

EXTRA = "report"
"""The extra that draws."""

_NAME = 40  # characters of a model's or family's name
_OWN = frozenset(  # what every JavaScript object has: as a key of a table of Vega's these would be found there already
    [
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    ]
)

PLAIN = {"domain": False, "ticks": False, "labelPadding": 6}
"""An axis of names."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart."""

    spec: Spec
    """Vega-Lite, width "container" where the page decides, without a theme."""
    title: str
    says: str = ""
    """One sentence on how to read it."""
    colours: Mapping[str, Spec] = field(default_factory=dict)
    """Other encodings of the colour that a reader may choose, by their names."""


def finished(chart: Any, rows: Records, *, height: int) -> Spec:  # noqa: ANN401  (an Altair chart)
    """Finish a chart: width by the page, data inline and not looked at by the validator.

    Args:
        chart: Layers without data.
        rows: The data; None where a value is missing.
        height: Of the plot, in pixels.

    Returns:
        Vega-Lite.
    """
    made: Spec = chart.properties(data={"name": "rows"}).to_dict()
    # A float of numpy is no number to JSON; an infinite one must not get this far.
    values = json.loads(json.dumps(rows, default=float, allow_nan=False))
    made.pop("config", None)
    return {
        **made,
        "data": {"values": values},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }


def label(text: object, *, width: int = _NAME) -> str:
    """A name from a pool as a value that Vega may group by: one line, cut, and no key of JavaScript's own objects.

    Example:
        >>> label("__proto__") == "__proto__"
        False
    """
    shown = visible(text, width=width)
    return f"{shown}\u00a0" if shown in _OWN else shown
