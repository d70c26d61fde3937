"""Charts of the instructions: metrics, their correlations, the map, lengths."""

from collections import Counter

import numpy as np

from crowdselect._optional import optional
from crowdselect.report.chartspec import EXTRA, PLAIN, Figure, Records, Spec, finished, label
from crowdselect.report.data import Run
from crowdselect.report.projection import Map
from crowdselect.types import BoolArray, FloatArray

_BINS = 30
_GROUPS = 10  # clusters with a colour of their own
_HOVER = 160  # characters of an instruction shown on hover
_MEASURED = 5_000  # chosen answers whose length is read


def distribution(
    values: FloatArray, pool: BoolArray, chosen: BoolArray, *, title: str, log: bool = False, unit: str = ""
) -> Figure | None:
    """Two histograms, each of its own total: shares can be compared, counts cannot."""
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


def correlations_figure(run: Run) -> Figure | None:
    """Spearman's rho between metrics and reward over the eligible rows; None where fewer than two vary."""
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
            # Constant where both are known: no correlation exists, and none is made up.
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
            axis=alt.Axis(labelAngle=0, orient="top", **PLAIN),
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


def map_figure(run: Run, points: Map) -> Figure | None:
    """The map, coloured by cluster or by a metric; None where it has no points."""
    if not len(points.rows):
        return None
    alt = optional("altair", extra=EXTRA)

    rows, groups = _points(run, points)
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
    said = points.said[0].upper() + points.said[1:]
    return Figure(
        spec, "Where the chosen lie", f"{said}. Diamonds are chosen. Only nearness means something.", colours
    )


def _points(run: Run, points: Map) -> tuple[Records, list[str]]:
    """Points with what is told on hover; and the clusters that get a colour, in their order."""
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
            **{run.keys[name]: _figure(values[row]) for name, values in run.metrics.items()},
        }
        for row, (x, y) in zip(points.rows.tolist(), points.xy.tolist(), strict=True)
    ]
    rest = ["others"] if len(sizes) > len(leading) else []
    return rows, list(dict.fromkeys([*called.values(), *rest]))


def _colours(run: Run, groups: list[str]) -> dict[str, Spec]:
    """The encodings that a reader may choose between."""
    colours: dict[str, Spec] = {}
    if run.clustered:
        colours["cluster"] = {
            "field": "cluster",
            "type": "nominal",
            "title": None,
            "scale": {"domain": groups},
            "legend": {"orient": "bottom", "symbolOpacity": 1, "symbolType": "circle"},
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


def length_figures(run: Run) -> dict[str, Figure | None]:
    """Lengths of instructions and of answers to train on, in characters; None for what has no text."""
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


def _hover(run: Run, row: int) -> str:
    text = None if run.texts is None else run.texts[row]
    return "(no text)" if text is None else label(" ".join(text[: _HOVER * 4].split()), width=_HOVER)


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.4g}")


def _short(value: float) -> str:
    return (f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}").replace("-", "\u2212")
