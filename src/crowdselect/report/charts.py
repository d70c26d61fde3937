"""The charts of a report: metrics, their correlations, the map, lengths; the crowd, its gaps, and whose answers are used."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.numeric.metrics import by_family
from crowdselect.report.chartspec import EXTRA, PLAIN, Figure, Records, Spec, finished, label
from crowdselect.report.data import ReportData, why
from crowdselect.selection.student import bin_names
from crowdselect.terminal import counted
from crowdselect.types import BoolArray, FloatArray

_BINS = 30
_GROUPS = 10  # clusters with their own colour
_HOVER = 160  # characters of an instruction shown on hover
_MEASURED = 5_000  # most chosen answers whose length is measured
_WHOLE = (
    0.9  # share of rewards from which a model has no gaps worth a chart, and its mean is drawn as complete
)
_LINES = 9  # families with their own colour
_OTHERS = "other models"
_BARS = 25  # models in a bar chart
_FULLEST = {
    "pool": 0.9,
    "chosen": 0.6,
}  # opacity of a heat map's fullest cell, so that the number in it can be read


def distribution(
    values: FloatArray, pool: BoolArray, chosen: BoolArray, *, title: str, log: bool = False, unit: str = ""
) -> Figure | None:
    """Draw two histograms, each as shares of its own total; None if either has no values."""
    known = ~np.isnan(values)
    everything, ours = values[pool & known], values[chosen & known]
    if not len(everything) or not len(ours):
        return None
    alt = optional("altair", extra=EXTRA)

    edges = _edges(everything, log=log)
    counts = [np.histogram(part, edges)[0] / len(part) for part in (everything, ours)]
    rows = [
        {"from": edges[i], "to": edges[i + 1], "share": share[i], "of": of}
        for share, of in zip(counts, ("eligible", "chosen"), strict=True)
        for i in range(len(edges) - 1)
        if share[i] > 0
    ]
    scale = alt.Scale(type="log" if log else "linear", nice=False, domain=[edges[0], edges[-1]])
    base = alt.Chart().encode(
        x=alt.X(
            "from:Q",
            title=unit or None,
            scale=scale,
            axis=alt.Axis(grid=False, tickCount=5, format="~s" if log else ".4~g"),
        ),
        x2="to:Q",
        y=alt.Y("share:Q", title=None, axis=alt.Axis(format=".0%", tickCount=4), stack=None),
        y2=alt.datum(0),
        tooltip=[
            alt.Tooltip("of:N", title="rows"),
            alt.Tooltip("from:Q", format=".4~g"),
            alt.Tooltip("to:Q", format=".4~g"),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    back = base.mark_bar(style="pool", binSpacing=0.5).transform_filter("datum.of == 'eligible'")
    front = base.mark_bar(style="chosen", binSpacing=0.5, opacity=0.72).transform_filter(
        "datum.of == 'chosen'"
    )
    medians = [float(np.median(part)) for part in (everything, ours)]
    return Figure(
        finished(alt.layer(back, front), rows, height=190),
        title,
        f"Median {_short(medians[1])} of the chosen, {_short(medians[0])} of the eligible.",
    )


def correlations_figure(run: ReportData) -> Figure | None:
    """Draw Spearman's rho between metrics and reward over the eligible rows; None if fewer than two vary."""
    from scipy.stats import spearmanr

    columns = {**run.metrics, "reward": run.number("reward")}
    columns = {name: values[run.eligible] for name, values in columns.items()}
    names = [name for name, v in columns.items() if len(v) > 2 and np.nanmin(v) < np.nanmax(v)]
    if len(names) < 2:
        return None
    alt = optional("altair", extra=EXTRA)

    rows = []
    for one in names:
        for other in names:
            both = ~np.isnan(columns[one]) & ~np.isnan(columns[other])
            # If one is constant where both are known, the correlation is undefined.
            varies = both.sum() > 2 and all(np.ptp(columns[name][both]) > 0 for name in (one, other))
            rho = float(spearmanr(columns[one][both], columns[other][both])[0]) if varies else None
            rows.append(
                {
                    "one": label(one),
                    "other": label(other),
                    "rho": None if rho is None else round(rho, 3) + 0.0,
                }
            )
    base = alt.Chart().encode(
        x=alt.X(
            "one:N",
            sort=[label(name) for name in names],
            title=None,
            axis=alt.Axis(orient="top", **PLAIN),
        ),
        y=alt.Y("other:N", sort=[label(name) for name in names], title=None, axis=alt.Axis(**PLAIN)),
        tooltip=[
            alt.Tooltip("one:N", title="of"),
            alt.Tooltip("other:N", title="with"),
            alt.Tooltip("rho:Q", format="+.3f"),
        ],
    )
    cells = base.mark_rect(cornerRadius=3).encode(
        color=alt.Color(
            "rho:Q",
            scale=alt.Scale(domain=[-1, 1], domainMid=0, range="diverging", interpolate="rgb"),
            legend=None,
        )
    )
    words = base.mark_text(style="value", fontSize=13).encode(text=alt.Text("rho:Q", format="+.2f"))
    return Figure(
        finished(alt.layer(cells, words), rows, height=52 * len(names)),
        "Rank correlations",
        "Spearman's rho over the eligible instructions; reward is that of the answer to train on.",
    )


def map_figure(run: ReportData) -> Figure | None:
    """Draw the map, coloured by cluster or by a metric; None if it has no points."""
    points = run.map
    if not len(points.rows):
        return None
    alt = optional("altair", extra=EXTRA)

    rows, groups = _points(run)
    hidden = {"title": None, "axis": None, "scale": alt.Scale(zero=False, padding=8)}
    base = alt.Chart().encode(
        x=alt.X("x:Q", **hidden),
        y=alt.Y("y:Q", **hidden),
        tooltip=[
            alt.Tooltip("text:N"),
            alt.Tooltip("id:N"),
            alt.Tooltip("state:N"),
            *([alt.Tooltip("cluster:N")] if run.clustered else []),
            *(
                alt.Tooltip(field=run.keys[name], type="quantitative", title=label(name), format=".3~g")
                for name in run.metrics
            ),
        ],
    )
    others = base.mark_point(filled=True, size=20, opacity=0.45).transform_filter("!datum.chosen")
    ours = base.mark_point(style="marked", filled=True, size=62, opacity=1, shape="diamond")
    ours = ours.transform_filter("datum.chosen")
    chosen = run.chosen[points.rows]
    layers = [*([] if chosen.all() else [others]), *([ours] if chosen.any() else [])]
    spec = finished(alt.layer(*layers), rows, height=460)
    colours = _colours(run, groups)
    for layer in spec["layer"] if colours else []:
        layer["encoding"]["color"] = next(iter(colours.values()))
    description = points.description[0].upper() + points.description[1:]
    return Figure(
        spec,
        "Chosen rows on the map",
        f"{description}. Only distances between near points are meaningful. Click a point to read it.",
        colours,
    )


def _points(run: ReportData) -> tuple[Records, list[str]]:
    """Return the points with their hover and click texts; and the cluster names that get a colour, in order."""
    points = run.map
    sizes = Counter(run.cluster[run.eligible].tolist())
    leading = sorted(cluster for cluster, _ in sizes.most_common(_GROUPS))
    names = run.facts.get("cluster_names")
    called = {
        cluster: str(cluster) if names is None else label(names[cluster] or "-", width=24)
        for cluster in leading
    }
    rows = [
        {
            "x": round(x, 4),
            "y": round(y, 4),
            "chosen": bool(run.chosen[row]),
            "state": f"chosen, rank {run.rank[row]:.0f}" if run.chosen[row] else "not chosen",
            "cluster": called.get(int(run.cluster[row]), "others"),
            "id": label(run.ids[row]),
            "text": _hover(run, row),
            "row": row,
            "why": label(why(run, row), width=_HOVER * 2),
            **{run.keys[name]: _figure(values[row]) for name, values in run.metrics.items()},
        }
        for row, (x, y) in zip(points.rows.tolist(), points.xy.tolist(), strict=True)
    ]
    rest = ["others"] if len(sizes) > len(leading) else []
    return rows, list(dict.fromkeys([*called.values(), *rest]))


def _colours(run: ReportData, groups: list[str]) -> dict[str, Spec]:
    """Return the colour encodings that a reader may choose from."""
    colours: dict[str, Spec] = {}
    narrow = {}
    if all(len(name) < 4 for name in groups):  # numbers fit on a phone; for names the script makes room
        narrow["columns"] = len(groups) if len(groups) <= _GROUPS // 2 + 1 else -(-len(groups) // 2)
    if run.clustered:
        colours["cluster"] = {
            "field": "cluster",
            "type": "nominal",
            "title": None,
            "scale": {"domain": groups},
            "legend": {"orient": "bottom", "symbolOpacity": 1, "symbolType": "circle", **narrow},
        }
    for name in run.metrics:
        colours[run.keys[name]] = {
            "field": run.keys[name],
            "type": "quantitative",
            "title": label(name),
            "scale": {"range": "ramp"},
            "legend": {"orient": "bottom", "gradientLength": 180, "titleOrient": "left"},
        }
    return colours


def length_figures(run: ReportData) -> dict[str, Figure | None]:
    """Draw lengths of instructions and of training answers, in characters; None without text."""
    made: dict[str, Figure | None] = {}
    if run.texts is not None:
        lengths = np.array([np.nan if text is None else float(len(text)) for text in run.texts])
        made["instruction-length"] = distribution(
            lengths, run.eligible, run.chosen, title="Instructions", log=True, unit="characters"
        )
    rows = np.union1d(run.answer_sample(), np.array(run.picks(_MEASURED), dtype=np.int64))
    texts = run.answers(rows.tolist())
    lengths = np.full(len(run.ids), np.nan)
    lengths[rows] = [np.nan if text is None else float(len(text)) for text in texts]
    sampled = np.zeros(len(run.ids), dtype=bool)
    sampled[run.answer_sample()] = True
    made["answer-length"] = distribution(
        lengths, sampled, run.chosen, title="Answers to train on", log=True, unit="characters"
    )
    return made


def _edges(values: FloatArray, *, log: bool) -> FloatArray:
    low, high = float(values.min()), float(values.max())
    if log:
        low, high = max(low, 1.0), max(high, 2.0)
        return np.geomspace(low, max(high, low * 2) * 1.0001, _BINS + 1)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)


def _hover(run: ReportData, row: int) -> str:
    text = None if run.texts is None else run.texts[row]
    return "(no text)" if text is None else label(" ".join(text[: _HOVER * 4].split()), width=_HOVER)


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.4g}")


def _short(value: float) -> str:
    return (f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}").replace("-", "\u2212")


def crowd_figure(run: ReportData) -> Figure | None:
    """Draw mean reward against size, a line per family; None without rewards or sizes."""
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
    # The last colour of the series is grey: placeholders in between reserve it for the others.
    colour = alt.Color(
        "group:N",
        title=None,
        scale=alt.Scale(domain=[*leading, *(" " * (i + 1) for i in range(_LINES - len(leading))), _OTHERS]),
        legend=alt.Legend(orient="bottom", symbolType="circle", symbolOpacity=1, values=shown),
    )
    # Several models of one size are one point of the line.
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
    # A layer without rows has no extent, and Vega warns on the console.
    drawn = ((line, any(row["family"] != "-" for row in rows)), (part, not all(whole)), (full, any(whole)))
    little = " and ".join(by_family())
    says = f"A line joins the models of one family. If larger models do not score higher, {little} is not informative."
    if not all(whole):
        says += f" Hollow: fewer than {_WHOLE:.0%} of the model's rewards are present, so its mean covers fewer instructions."
    layers = [layer for layer, is_used in drawn if is_used]
    return Figure(finished(alt.layer(*layers), rows, height=360), "Mean reward against size", says)


def _members(run: ReportData) -> tuple[Records, list[str]]:
    """Return the models of known size with their mean rewards; and the families that get a colour, largest first."""
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
            "coverage": present,
            "whole": bool(present >= _WHOLE),
        }
        for member, present, mean in zip(crowd, *_columns(scores), strict=True)
        if member["size_b"] is not None and present > 0
    ]
    return rows, list(dict.fromkeys(label(family) for family in leading))


def coverage_figure(run: ReportData) -> Figure | None:
    """Draw the share of instructions that each model has a reward for; None if no model has large gaps."""
    if run.rewards is None:
        return None
    present, means = _columns(run.rewards)
    gaps = np.flatnonzero(present < 1)
    if present.min() >= _WHOLE:
        return None
    alt = optional("altair", extra=EXTRA)

    order = gaps[np.argsort(present[gaps], kind="stable")][:_BARS]
    rows = [
        {
            "model": label(run.facts["crowd"][j]["name"]),
            "share": present[j],
            "reward": None if np.isnan(means[j]) else means[j],
        }
        for j in order
    ]
    chart = alt.Chart().mark_bar(style="pool", cornerRadiusEnd=2)
    chart = chart.encode(
        x=alt.X(
            "share:Q",
            title="instructions with a reward",
            axis=alt.Axis(format="%", tickCount=5),
            scale=alt.Scale(domain=[0, 1]),
        ),
        y=_names(rows),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("share:Q", title="has a reward", format=".1%"),
            alt.Tooltip("reward:Q", title="mean reward", format=".4~g"),
        ],
    )
    shown = f"the {_BARS} models with the most gaps" if len(gaps) > _BARS else "the models with gaps"
    return Figure(
        finished(chart, rows, height=17 * len(rows)),
        "Coverage",
        f"How many of the instructions have a reward: {shown}. Their means are over the rewards present.",
    )


def coverage(scores: FloatArray) -> FloatArray:
    """Compute the share of instructions that each model has a reward for, shape (M,), in [0, 1]."""
    return _columns(scores)[0]


def teachers_figure(run: ReportData) -> Figure | None:
    """Draw each model's share of the training answers; None if none is known."""
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
            "count": ours[name],
            "share": ours[name] / ours.total(),
            "all": everyone[name] / everyone.total(),
        }
        for name in order
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
        f"The models whose answers are trained on.{rest}",
    )


def student_figures(run: ReportData) -> dict[str, Figure | None]:
    """Draw what the crowd can and the student cannot, of the pool and of the chosen; None where the student's success is unknown."""
    found = (run.facts.get("student") or {}).get("table")
    if found is None:
        return {}
    return {
        "student-pool": _success(
            found["pool"], found["edges"], style="pool", title="The pool", what="instruction"
        ),
        "student-chosen": _success(
            found["chosen"], found["edges"], style="chosen", title="The chosen", what="chosen row"
        ),
    }


def _success(
    counts: Sequence[Sequence[int]], edges: Sequence[float], *, style: str, title: str, what: str
) -> Figure | None:
    """Draw one heat map from its counts, a row per bin of the crowd's success; None if all are 0."""
    names = bin_names(edges)
    total = sum(map(sum, counts))
    if not total:
        return None
    alt = optional("altair", extra=EXTRA)

    rows = [
        {"crowd": crowd, "student": student, "rows": count, "share": count / total}
        for crowd, line in zip(names, counts, strict=True)
        for student, count in zip(names, line, strict=True)
    ]
    base = alt.Chart().encode(
        x=alt.X(
            "student:N",
            sort=[*names],
            title="the student succeeds",
            axis=alt.Axis(labelAngle=0, labelOverlap="parity", labelSeparation=6, **PLAIN),
        ),
        y=alt.Y("crowd:N", sort=[*reversed(names)], title="the crowd succeeds", axis=alt.Axis(**PLAIN)),
        tooltip=[
            alt.Tooltip("crowd:N", title="the crowd succeeds"),
            alt.Tooltip("student:N", title="the student succeeds"),
            alt.Tooltip("rows:Q", title=f"{what}s", format=","),
            alt.Tooltip("share:Q", title="of all", format=".1%"),
        ],
    )
    cells = base.mark_rect(cornerRadius=3, style=style).encode(
        opacity=alt.Opacity(
            "share:Q", legend=None, scale=alt.Scale(domainMin=0, range=[0.05, _FULLEST[style]])
        )
    )
    words = base.mark_text(style="value", fontSize=13).encode(text=alt.Text("rows:Q", format=","))
    words = words.transform_filter("datum.rows > 0")
    few = len(names) // 2
    missed = sum(sum(line[:few]) for line in counts[-few:])
    return Figure(
        finished(alt.layer(cells, words), rows, height=46 * len(names)),
        title,
        f"Upper left, where the crowd succeeds with at least {edges[-few - 1]:.0%} and the student with less than "
        f"{edges[few]:.0%}: {missed:,} of {counted(total, what)}.",
    )


def _names(rows: Records) -> Any:  # noqa: ANN401  (an Altair encoding)
    """Return the axis of models, in row order; names that are equal after cutting share a line."""
    alt = optional("altair", extra=EXTRA)

    return alt.Y(
        "model:N",
        scale=alt.Scale(domain=list(dict.fromkeys(row["model"] for row in rows))),
        title=None,
        axis=alt.Axis(labelLimit=170, **PLAIN),
    )


def _columns(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the share of rewards present, and their mean, per model, shape (M,) each; NaN mean if there is none."""
    present = ~np.isnan(scores)
    counts = present.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return counts / max(len(scores), 1), np.where(present, scores, 0.0).sum(axis=0) / np.where(
            counts, counts, np.nan
        )
