"""Losses as a picture, and as a few lines on a terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crowdselect._optional import optional
from crowdselect.report.chartspec import LIGHT, theme
from crowdselect.train.diary import Entry

_HEIGHT = 8  # lines of the small drawing
_WIDTH = 60  # columns of it
_POINTS = 1500  # of a line in the picture; more than it has pixels
_MARKS = {"loss": ("•", "."), "eval_loss": ("◆", "o")}


def drawn(log: Sequence[Entry]) -> str:
    """Draw the losses with characters, in plain ASCII where the terminal has no more.

    Args:
        log: Entries, in the order of their steps.

    Returns:
        Lines; each column is the mean of its steps. Empty where there are fewer than two losses.
    """
    series = {name: [(e["step"], e[name]) for e in log if e.get(name) is not None] for name in _MARKS}
    if len(series["loss"]) < 2:
        return ""
    last = max(step for points in series.values() for step, _ in points)
    columns = {name: _columns(points, last) for name, points in series.items()}
    values = [value for line in columns.values() for value in line.values()]
    low, high = min(values), max(values)
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    page = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for name, line in columns.items():
        for column, value in line.items():
            height = 0 if high == low else round((value - low) / (high - low) * (_HEIGHT - 1))
            page[_HEIGHT - 1 - height][column] = _MARKS[name][plain]
    ends = {0: f"{high:.4g}", _HEIGHT - 1: f"{low:.4g}"}
    wide = max(map(len, ends.values()))
    rows = [
        f"{ends.get(at, ''):>{wide}} {'|' if plain else '│'} {''.join(line).rstrip()}"
        for at, line in enumerate(page)
    ]
    held = f", {_MARKS['eval_loss'][plain]} held-out rows" if columns["eval_loss"] else ""
    return "\n".join(
        [*rows, f"{'':>{wide}} loss over {last} steps: {_MARKS['loss'][plain]} training{held}", ""]
    )


def write_curve(log: Sequence[Entry], file: Path, *, title: str) -> None:
    """Write the losses as a PNG.

    Args:
        log: Entries, in the order of their steps.
        file: The PNG.
        title: Stands above.

    Raises:
        MissingExtraError: The extra `train` is not installed.
    """
    convert = optional("vl_convert", extra="train")
    spec = {**_spec(log, title), "config": theme(dark=False), "background": "white"}
    file.write_bytes(convert.vegalite_to_png(spec, scale=2))


def _columns(points: Sequence[tuple[int, float]], last: int) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for step, value in points:
        found.setdefault(min(_WIDTH - 1, step * _WIDTH // (last + 1)), []).append(value)
    return {column: sum(values) / len(values) for column, values in found.items()}


def _spec(log: Sequence[Entry], title: str) -> dict[str, Any]:
    trained = _thinned([{"step": e["step"], "loss": e["loss"]} for e in log if e.get("loss") is not None])
    held = [{"step": e["step"], "loss": e["eval_loss"]} for e in log if e.get("eval_loss") is not None]
    rows = [{**row, "of": "training rows"} for row in trained] + [
        {**row, "of": "held-out rows"} for row in held
    ]
    colour = {
        "field": "of",
        "type": "nominal",
        "title": None,
        "scale": {"domain": ["training rows", "held-out rows"], "range": [LIGHT["pool"], LIGHT["chosen"]]},
        "legend": {"orient": "top-right"} if held else None,
    }
    line = {
        "x": {
            "field": "step",
            "type": "quantitative",
            "title": "step",
            "axis": {"grid": False, "tickMinStep": 1},
        },
        "y": {"field": "loss", "type": "quantitative", "title": "loss", "scale": {"zero": False}},
        "color": colour,
    }
    return {
        "title": {"text": title, "anchor": "start", "fontSize": 13, "fontWeight": "normal"},
        "width": 560,
        "height": 260,
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": line},
            {
                "transform": [{"filter": "datum.of == 'held-out rows'"}],
                "mark": {"type": "point", "filled": True, "size": 35, "opacity": 1},
                "encoding": line,
            },
        ],
    }


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep as many points as can be seen, each the mean of its neighbours."""
    step = -(-len(rows) // _POINTS)
    groups = [rows[at : at + step] for at in range(0, len(rows), max(1, step))]
    return [
        {"step": group[-1]["step"], "loss": sum(r["loss"] for r in group) / len(group)} for group in groups
    ]
