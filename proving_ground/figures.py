"""The figures of docs/evidence.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proving_ground.analysis import Difference
from proving_ground.design import MAIN
from proving_ground.findings import Seen, beside, main_design
from proving_ground.results import Results
from proving_ground.rule import in_step, over_worlds
from proving_ground.second import WAYS_OF_ALL
from proving_ground.ways import EVERY, RANDOM

KINDS = {
    "control": "control",
    "baseline": "baseline",
    "metric": "one metric",
    "weights": "the paper's weights",
    "own": "our own",
    "crowd": "the crowd alone",
    "student": "crowd and student",
}
_COLOURS = ["#444444", "#b07aa1", "#4e79a7", "#e15759", "#59a14f", "#76b7b2", "#f28e2b"]
_MEAN = "mean"


def draw_all(results: Results, folder: Path) -> None:
    """Draw the first protocol's results so far: a forest plot per world."""
    by_world = {world: found for world, found in main_design(results).items() if RANDOM in found.right}
    if not by_world:
        return
    folder.mkdir(parents=True, exist_ok=True)
    drawn = forest(_rows(by_world), list(by_world))
    drawn.save(folder / "evidence-forest.png", scale_factor=1)


def _rows(by_world: dict[str, Seen]) -> list[dict[str, Any]]:
    rows = []
    for world, found in by_world.items():
        compared = beside(found, RANDOM)
        assert compared is not None
        rows += [
            _row(world, way, one, star=compared.verdict(way) != "not told apart")
            for way, one in compared.differences.items()
        ]
    return rows


def _row(world: str, way: str, found: Difference, *, star: bool) -> dict[str, Any]:
    numbers = {"mean": 100 * found.mean, "low": 100 * found.low, "high": 100 * found.high}
    return {"world": world, "way": way, "kind": KINDS[EVERY[way].kind], "star": star, **numbers}


def draw_second(by_setting: Mapping[str, Mapping[str, Seen]], folder: Path) -> None:
    """Draw the second protocol's results so far: the main cell per world, and means over worlds by setting.

    Args:
        by_setting: Setting → world → its runs.
        folder: Where the figures go.
    """
    main = {world: found for world, found in by_setting[MAIN].items() if RANDOM in found.right}
    if not main:
        return
    folder.mkdir(parents=True, exist_ok=True)
    means = {setting: _means(setting, by_world) for setting, by_world in by_setting.items()}
    rows = [*({**row, "world": _MEAN} for row in means[MAIN]), *_rows(main)]
    forest(rows, [_MEAN, *main]).save(folder / "evidence-second.png", scale_factor=1)
    settings = [setting for setting, found in means.items() if found]
    if settings:
        drawn = heat([row for setting in settings for row in means[setting]], settings)
        drawn.save(folder / "evidence-settings.png", scale_factor=1)


def _means(setting: str, by_world: Mapping[str, Seen]) -> list[dict[str, Any]]:
    """Return a row for each way of the second protocol but the remedies; a star says that the interval excludes 0."""
    step = in_step(by_world)
    found = {way: over_worlds(step, way) for way in WAYS_OF_ALL if way != RANDOM}
    return [_row(setting, way, one, star=one.low > 0 or one.high < 0) for way, one in found.items() if one]


def _order(rows: list[dict[str, Any]]) -> list[str]:
    means: dict[str, list[float]] = {}
    for row in rows:
        means.setdefault(row["way"], []).append(row["mean"])
    return sorted(means, key=lambda way: -sum(means[way]) / len(means[way]))


def forest(rows: list[dict[str, Any]], worlds: Sequence[str]) -> Any:  # noqa: ANN401  (altair's charts have many types)
    """Draw each method's difference to random with its interval, one panel per world; a full dot differs from random."""
    import altair as alt

    order = _order(rows)
    kinds = [kind for kind in KINDS.values() if any(row["kind"] == kind for row in rows)]
    colours = dict(zip(KINDS.values(), _COLOURS, strict=True))
    colour = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=kinds, range=[colours[kind] for kind in kinds]),
        legend=alt.Legend(orient="top"),
    )
    reach = alt.Scale(domain=[min(row["low"] for row in rows), max(row["high"] for row in rows)])
    across = alt.X("low:Q", title="points above random", scale=reach)
    panels = []
    for place, world in enumerate(worlds):
        data = alt.Data(values=[row for row in rows if row["world"] == world])
        labels = alt.Axis(labels=place == 0, ticks=False, labelLimit=220, domain=False)
        base = alt.Chart(data, title=world, width=190, height=15 * len(order)).encode(
            y=alt.Y("way:N", sort=order, title=None, axis=labels), color=colour
        )
        zero = alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color="#999999").encode(x="at:Q")
        bars = base.mark_rule(strokeWidth=1.5).encode(x=across, x2="high:Q")
        place_of_dot = alt.X("mean:Q", scale=reach)
        apart = (
            base.transform_filter("datum.star")
            .mark_point(filled=True, size=50, opacity=1)
            .encode(x=place_of_dot)
        )
        others = (
            base.transform_filter("!datum.star")
            .mark_point(fill="white", size=35, opacity=1)
            .encode(x=place_of_dot)
        )
        panels.append(zero + bars + others + apart)
    return (
        alt.hconcat(*panels, spacing=8)
        .configure_view(stroke="#dddddd")
        .configure_axis(grid=True, gridColor="#eeeeee")
    )


def heat(rows: list[dict[str, Any]], worlds: Sequence[str]) -> Any:  # noqa: ANN401  (altair's charts have many types)
    """Draw the same differences as a heat map of methods x worlds; a star marks a difference from random."""
    import altair as alt

    order = _order(rows)
    largest = max(abs(row["mean"]) for row in rows)
    shown = [{**row, "text": f"{row['mean']:+.1f}" + ("*" if row["star"] else "")} for row in rows]
    base = alt.Chart(alt.Data(values=shown), width=95 * len(worlds), height=17 * len(order)).encode(
        x=alt.X("world:N", sort=list(worlds), title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("way:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)),
    )
    scale = alt.Scale(scheme="redblue", domain=[-largest, largest])
    cells = base.mark_rect().encode(color=alt.Color("mean:Q", title="points above random", scale=scale))
    dark = f"abs(datum.mean) > {0.6 * largest}"
    words = base.mark_text(fontSize=11).encode(
        text="text:N", color=alt.condition(dark, alt.value("white"), alt.value("#222222"))
    )
    return cells + words
