"""Shared parts of the charts: figures, Vega-Lite with data, colours and fonts, and writing figures to files.

Colours are names of styles (`pool`, `chosen`); `theme` defines them, so that the page can switch between light and
dark; the page's own colours are the same, in `templates/page.css`. Expressions and field names are always ours: text
from a pool is only ever a value.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crowdselect import __version__
from crowdselect._optional import optional
from crowdselect.errors import OutputError
from crowdselect.terminal import visible
from crowdselect.writing import TOOL, new_files, write_manifest

LIGHT = {
    "ink": "#23262b",
    "soft": "#656a73",
    "line": "#e3dfd6",
    "paper": "#ffffff",
    "pool": "#b9bdc6",
    "chosen": "#c2452d",
}
DARK = {
    "ink": "#e9e6df",
    "soft": "#a2a6ae",
    "line": "#33373e",
    "paper": "#1d2025",
    "pool": "#5b626e",
    "chosen": "#ff8a66",
}
# Ten hues that remain distinct with the most common colour blindness, in order of use.
_LIGHT_SERIES = [
    "#2f6db5",
    "#d0742b",
    "#3d8f5f",
    "#a04a8c",
    "#b8962e",
    "#4aa3b8",
    "#8a5a3c",
    "#7165c4",
    "#d4668a",
    "#6b7280",
]
_DARK_SERIES = [
    "#6aa9f0",
    "#f0a35e",
    "#6cc593",
    "#d184c0",
    "#e0c163",
    "#74cfe2",
    "#c2906c",
    "#a79cf2",
    "#f291b0",
    "#a4aab6",
]
_SANS = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"

Spec = dict[str, Any]
Records = list[dict[str, Any]]
EXTRA = "report"
"""The extra that charts need."""

_NAME = 40  # characters of a model's or family's name
_OWN = frozenset(  # members of every JavaScript object, which Vega's lookup tables would seem to contain
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
LIST = "figures.json"
"""Lists our files in a folder of figures, which may have other files too."""

_WIDTH = 480  # pixels, for files; on a page the width is the container's

PLAIN = {"domain": False, "ticks": False, "labelPadding": 6}
"""Settings of an axis of names."""


def theme(*, dark: bool) -> dict[str, Any]:
    """Return a Vega-Lite configuration.

    Args:
        dark: For a dark page.

    Returns:
        The configuration; `style` has the styles that the charts use.

    Example:
        >>> theme(dark=False)["style"]["chosen"]["fill"]
        '#c2452d'
    """
    c = DARK if dark else LIGHT
    series = _DARK_SERIES if dark else _LIGHT_SERIES
    ends = ["#2f64a8", c["paper"], "#b0452c"] if dark else ["#5b8fd6", "#f7f5f0", "#dd6b50"]
    ramp = (
        ["#2c3a55", "#4a7fb5", "#8fd0c0", "#f5e9a0"] if dark else ["#e8dfa6", "#7cc0a2", "#3b82a8", "#2b3a76"]
    )
    label = {"labelColor": c["soft"], "titleColor": c["soft"], "labelFont": _SANS, "titleFont": _SANS}
    return {
        "background": None,
        "font": _SANS,
        "view": {"stroke": None},
        "axis": {
            **label,
            "titleFontWeight": "normal",
            "labelFontSize": 11.5,
            "titleFontSize": 12,
            "titlePadding": 8,
            "gridColor": c["line"],
            "domainColor": c["line"],
            "tickColor": c["line"],
        },
        "axisTop": {"labelAngle": 0},
        "legend": {
            **label,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "rowPadding": 4,
        },
        "range": {"category": series, "diverging": ends, "ramp": ramp, "heatmap": ramp},
        "style": {
            "pool": {"color": c["pool"], "fill": c["pool"]},
            "chosen": {"color": c["chosen"], "fill": c["chosen"]},
            "tick": {"color": c["ink"]},
            "value": {"color": c["ink"], "fill": c["ink"]},
            "marked": {"stroke": c["ink"], "strokeWidth": 0.9},
        },
    }


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart."""

    spec: Spec
    """Vega-Lite without a theme; the width is usually "container", decided by the page."""
    title: str
    says: str = ""
    """One sentence on how to read it."""
    colours: Mapping[str, Spec] = field(default_factory=dict)
    """Colour encodings that a reader may choose from, by name."""


def finished(chart: Any, rows: Records, *, height: int) -> Spec:  # noqa: ANN401  (an Altair chart)
    """Finish a chart: width decided by the page, data inline and not validated.

    Args:
        chart: Layers without data.
        rows: The data; None where a value is missing.
        height: Height of the plot in pixels.

    Returns:
        Vega-Lite.
    """
    spec: Spec = chart.properties(data={"name": "rows"}).to_dict()
    # JSON does not know numpy's numbers; infinities are refused.
    values = json.loads(json.dumps(rows, default=float, allow_nan=False))
    spec.pop("config", None)
    return {
        **spec,
        "data": {"values": values},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }


def label(text: object, *, width: int = _NAME) -> str:
    """Make a name from a pool safe as a value to group by: one line, cut, and not a member of JavaScript objects.

    Example:
        >>> label("__proto__") == "__proto__"
        False
    """
    shown = visible(text, width=width)
    return f"{shown}\u00a0" if shown in _OWN else shown


def write_figures(found: Mapping[str, Figure], folder: str | os.PathLike[str]) -> list[Path]:
    """Write charts as SVG and PNG, in the light theme.

    Args:
        found: Charts by name.
        folder: The folder; created if missing. Only figures of an earlier call, listed in `figures.json`, are
            replaced or removed.

    Returns:
        The files.

    Raises:
        MissingExtraError: vl-convert is not installed.
        OutputError: The folder is a file, or a file that is not one of our figures is in the way.
    """
    convert = optional("vl_convert", extra=EXTRA)
    place = check_figures(folder)
    place.mkdir(parents=True, exist_ok=True)
    version, files = vega_lite_version(), []
    with new_files(place, manifest=LIST) as partial:
        for name, figure in found.items():
            spec = {**figure.spec, "config": theme(dark=False), "background": "white", "width": _WIDTH}
            svg, png = f"{name}.svg", f"{name}.png"
            (partial / svg).write_text(convert.vegalite_to_svg(spec, vl_version=version), encoding="utf-8")
            (partial / png).write_bytes(convert.vegalite_to_png(spec, vl_version=version, scale=2))
            files += [place / svg, place / png]
        write_manifest(partial, {"tool": TOOL, "kind": "figures", "version": __version__}, LIST)
    return files


def check_figures(folder: str | os.PathLike[str]) -> Path:
    """Refuse an unusable folder for figures before anything is drawn.

    Raises:
        OutputError: It is a file.
    """
    place = Path(folder)
    if os.path.lexists(place) and not place.is_dir():
        raise OutputError(f"{folder}: this is a file; name a folder for the figures")
    return place


def vega_lite_version() -> str:
    """Return the version of Vega-Lite that Altair writes, in vl-convert's notation."""
    schema: str = optional("altair", extra=EXTRA).SCHEMA_VERSION
    return ".".join(schema.removeprefix("v").split(".")[:2])
