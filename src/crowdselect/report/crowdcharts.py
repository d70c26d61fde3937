"""Charts of the crowd: reward against size, coverage, and whose answers are trained on."""

from collections import Counter
from typing import Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.numeric.metrics import by_family
from crowdselect.report.chartspec import EXTRA, PLAIN, Figure, Records, finished, label
from crowdselect.report.data import Run
from crowdselect.types import FloatArray

_WHOLE = 0.9  # share of rewards from which a model's mean is drawn as complete
_LINES = 9  # families with a colour of their own
_OTHERS = "other models"
_BARS = 25  # models in a bar chart


def crowd_figure(run: Run) -> Figure | None:
    """Mean reward against size, a line per family; None without rewards or sizes."""
    rows, leading = _members(run)
    if not rows:
        return None
    alt = optional("altair", extra=EXTRA)

    x = alt.X(
        "size:Q",
        title="billions of parameters",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(tickCount=5, format=".4~g", grid=False),
    )
    y = {"title": "mean reward", "scale": alt.Scale(zero=False, nice=True)}
    shown = [*leading, *([_OTHERS] if any(row["group"] == _OTHERS for row in rows) else [])]
    # The last colour of the series is grey: places in between keep it for the others.
    colour = alt.Color(
        "group:N",
        title=None,
        scale=alt.Scale(domain=[*leading, *(" " * (i + 1) for i in range(_LINES - len(leading))), _OTHERS]),
        legend=alt.Legend(orient="bottom", symbolType="circle", symbolOpacity=1, values=shown),
    )
    # Several models of one size are one place of the line.
    line = alt.Chart().mark_line(strokeWidth=1.8, opacity=0.75).transform_filter("datum.family != '-'")
    line = line.encode(x=x, y=alt.Y("mean(reward):Q", **y), color=colour, detail="family:N")
    base = alt.Chart().encode(
        x=x,
        y=alt.Y("reward:Q", **y),
        color=colour,
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("family:N"),
            alt.Tooltip("size:Q", title="size (B)"),
            alt.Tooltip("reward:Q", title="mean reward", format=".4~g"),
            alt.Tooltip("coverage:Q", title="has a reward", format=".1%"),
        ],
    )
    full = base.mark_point(filled=True, size=70, opacity=1).transform_filter("datum.whole")
    part = base.mark_point(filled=False, size=60, strokeWidth=1.8).transform_filter("!datum.whole")
    whole = [row["whole"] for row in rows]
    # A layer without rows has no extent, and Vega says so on the console.
    drawn = ((line, any(row["family"] != "-" for row in rows)), (part, not all(whole)), (full, any(whole)))
    little = " and ".join(by_family())
    says = f"A line joins the models of one family. Where larger models do not stand higher, {little} says little."
    if not all(whole):
        says += f" Hollow: fewer than {_WHOLE:.0%} of its rewards are there, so its mean is over other instructions."
    layers = [layer for layer, there in drawn if there]
    return Figure(finished(alt.layer(*layers), rows, height=360), "Mean reward against size", says)


def _members(run: Run) -> tuple[Records, list[str]]:
    """Models of known size with their mean rewards; and the families that get a colour, largest first."""
    scores = run.rewards
    if scores is None:
        return [], []
    crowd = run.facts["crowd"]
    families = Counter(m["family"] for m in crowd if m["size_b"] is not None and m["family"] is not None)
    leading = [family for family, count in families.most_common(_LINES) if count > 1]
    rows = [
        {
            "model": label(member["name"]),
            "family": label(member["family"] or "-"),
            "group": label(member["family"]) if member["family"] in leading else _OTHERS,
            "size": member["size_b"],
            "reward": mean,
            "coverage": there,
            "whole": bool(there >= _WHOLE),
        }
        for member, there, mean in zip(crowd, *_columns(scores), strict=True)
        if member["size_b"] is not None and there > 0
    ]
    return rows, list(dict.fromkeys(label(family) for family in leading))


def coverage_figure(run: Run) -> Figure | None:
    """The share of instructions that each model has a reward for; None where no reward is missing."""
    scores = run.rewards
    if scores is None:
        return None
    alt = optional("altair", extra=EXTRA)

    there, means = _columns(scores)
    if there.min() == 1:
        return None
    order = np.argsort(there, kind="stable")[:_BARS]
    rows = [
        {
            "model": label(run.facts["crowd"][j]["name"]),
            "place": place,
            "share": there[j],
            "reward": None if np.isnan(means[j]) else means[j],
        }
        for place, j in enumerate(order)
    ]
    chart = alt.Chart().mark_bar(style="pool", cornerRadiusEnd=2)
    chart = chart.encode(
        x=alt.X(
            "share:Q",
            title="instructions with a reward",
            axis=alt.Axis(format="%"),
            scale=alt.Scale(domain=[0, 1]),
        ),
        y=_names(rows),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("share:Q", title="has a reward", format=".1%"),
            alt.Tooltip("reward:Q", title="mean reward", format=".4~g"),
        ],
    )
    shown = f"the {_BARS} models with the most gaps" if len(there) > _BARS else "all models"
    return Figure(
        finished(chart, rows, height=17 * len(rows)),
        "Coverage",
        f"How many of the instructions each model has a reward for: {shown}. Means of models with gaps are over what they have.",
    )


def teachers_figure(run: Run) -> Figure | None:
    """Each model's share of the answers to train on; None where none is known."""
    ours = Counter(name for name in run.models[run.chosen] if name is not None)
    if not ours:
        return None
    alt = optional("altair", extra=EXTRA)

    everyone = Counter(name for name in run.models[run.eligible] if name is not None)
    families = {member["name"]: member["family"] for member in run.facts["crowd"]}
    order = sorted(ours, key=lambda name: (-ours[name], name))[:_BARS]
    rows = [
        {
            "model": label(name),
            "family": label(families.get(name) or "-"),
            "place": place,
            "count": ours[name],
            "share": ours[name] / ours.total(),
            "all": everyone[name] / everyone.total(),
        }
        for place, name in enumerate(order)
    ]
    base = alt.Chart().encode(
        y=_names(rows),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("family:N"),
            alt.Tooltip("count:Q", title="chosen answers"),
            alt.Tooltip("share:Q", title="of the chosen", format=".1%"),
            alt.Tooltip("all:Q", title="of all eligible", format=".1%"),
        ],
    )
    bars = base.mark_bar(style="chosen", cornerRadiusEnd=2).encode(
        x=alt.X("share:Q", title="share of the answers", axis=alt.Axis(format=".0%", tickCount=5))
    )
    ticks = base.mark_tick(style="tick", thickness=2, size=13).encode(x="all:Q")
    rest = f" The {_BARS} most frequent of {len(ours)}." if len(ours) > _BARS else ""
    return Figure(
        finished(alt.layer(bars, ticks), rows, height=19 * len(rows)),
        "Which models teach",
        f"Whose answers are trained on; the tick is the model's share if every eligible row were taken.{rest}",
    )


def _names(rows: Records) -> Any:  # noqa: ANN401  (an Altair encoding)
    """Models down the side, in the order of the rows; names cut alike share a line."""
    alt = optional("altair", extra=EXTRA)

    return alt.Y(
        "model:N",
        scale=alt.Scale(domain=list(dict.fromkeys(row["model"] for row in rows))),
        title=None,
        axis=alt.Axis(labelLimit=170, **PLAIN),
    )


def _columns(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of rewards there, and their mean, per model."""
    there = ~np.isnan(scores)
    counts = there.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return counts / max(len(scores), 1), np.where(there, scores, 0.0).sum(axis=0) / np.where(
            counts, counts, np.nan
        )
