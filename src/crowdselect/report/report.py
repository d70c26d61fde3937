"""The report of a finished run: one HTML page to help decide whether to train on it. It only reads the run.

A section is one record of `SECTIONS` and a template, `templates/sections/KEY.html`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.numeric.metrics import METRICS, by_family
from crowdselect.progress import Stages
from crowdselect.report.charts import (
    correlations_figure,
    coverage,
    coverage_figure,
    crowd_figure,
    distribution,
    length_figures,
    map_figure,
    student_figures,
    teachers_figure,
)
from crowdselect.report.chartspec import EXTRA, Figure, theme, vega_lite_version
from crowdselect.report.data import ReportData, row_data
from crowdselect.report.page import asset, render, vega_bundle
from crowdselect.report.projection import project
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.methods import CROWD, is_weighted, method_of
from crowdselect.selection.selection import random_control
from crowdselect.writing import check_output, new_file

LISTED = 5_000
"""Maximum number of chosen rows on the page; all of them are in selection.parquet."""

_MISSED = 20
_EXTREMES = 5
_CLUSTERS = 60  # clusters, or strata, in the table
_WORDS = 5
_DASH = "\u2013"
_COPIES = {
    "duplicate_of": "duplicates",
    "near_duplicate_of": "near-duplicates",
}  # reason code → plural in a sentence


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a section."""

    figures: Mapping[str, Figure | None] = field(default_factory=dict)
    """Charts by name; None = nothing to draw. The template places them."""
    lists: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """List name in the template → rows of the run, listed by the page's script."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Values for the template, as `v`."""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page below the head."""

    key: str
    """Its anchor and the name of its template."""
    title: str
    gather: Callable[[ReportData], Content | None]
    """Returns its content for a run; None = leave the section out."""


@dataclass(frozen=True, slots=True)
class _Filled:
    """A section of one page, as `report.html` reads it."""

    key: str
    title: str
    figures: Mapping[str, Figure]
    told: Mapping[str, Any]


def write_report(
    run: ReportData,
    path: str | os.PathLike[str],
    *,
    method: str = "tsne",
    overwrite: bool = False,
    stages: Stages | None = None,
    made: Mapping[str, Any] | None = None,
) -> tuple[Path, dict[str, Figure]]:
    """Write the report of a run.

    Args:
        run: The run.
        path: The file to write.
        method: The map's projection, one of `crowdselect.report.projection.METHODS`.
        overwrite: Replace an existing file.
        stages: Times the stages and shows progress.
        made: As for `crowdselect.report.page.render`.

    Returns:
        The file and its charts, by name, in the order of the page.

    Raises:
        MissingExtraError: The extra `report` is not installed.
        OutputError: The file cannot be written or is refused.

    Example:
        >>> write_report.__name__
        'write_report'
    """
    check_extra()
    inputs = [] if run.pool is None else run.pool.files
    target = check_output(path, inputs=inputs, overwrite=overwrite, folder=False)
    stage = stages or Stages()
    with stage("map") as progress:
        run.map = project(run, method=method, progress=progress)
    with stage("figures"):
        contents = [(section, section.gather(run)) for section in SECTIONS]
    with stage("page"):
        shown = [(section, found) for section, found in contents if found is not None]
        page, figures = make_page(run, shown, made=made)
        with new_file(target) as partial:
            partial.write_text(page, encoding="utf-8", newline="\n")
    return target, figures


def check_extra() -> None:
    """Check that the extra is installed, before a page is announced.

    Raises:
        MissingExtraError: It is not installed.
    """
    for package in ("altair", "vl_convert", "budoux"):
        optional(package, extra=EXTRA)


def make_page(
    run: ReportData, contents: Sequence[tuple[Section, Content]], *, made: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, Figure]]:
    """Put the sections of a run into one page.

    Args:
        run: The run.
        contents: The sections, with what they show.
        made: As for `crowdselect.report.page.render`.

    Returns:
        HTML; and the charts by name.
    """
    filled = [
        _Filled(
            section.key,
            section.title,
            {name: figure for name, figure in content.figures.items() if figure is not None},
            content.values,
        )
        for section, content in contents
    ]
    figures = {name: figure for section in filled for name, figure in section.figures.items()}
    lists = {name: rows for _, content in contents for name, rows in content.lists.items()}
    rows, places = row_data(run, lists)
    weights = run.options["weights"] if is_weighted(run.options) else {}
    data = {
        **rows,
        "lists": places,
        "metrics": list(run.metrics),
        "keys": list(run.keys.values()),
        "weights": [weights.get(name) for name in run.metrics],
        "charts": {name: {"spec": f.spec, "colours": f.colours} for name, f in figures.items()},
        "themes": {"light": theme(dark=False), "dark": theme(dark=True)},
    }
    vega = [vega_bundle(vega_lite_version())] if figures else []
    page = render(
        "report.html",
        scripts=[*vega, asset("parts.js") + asset("report.js")],
        data=data,
        made=made,
        title=f"{_pool_name(run)}: what was chosen",
        kind="report",
        simulated=bool(run.facts.get("simulated")),
        # Problems are complete only now that all content is gathered.
        warnings=list(dict.fromkeys([*run.selection.warnings, *run.facts.get("notes", []), *run.problems])),
        sections=filled,
        **_head(run),
    )
    return page, figures


# The head


def _head(run: ReportData) -> dict[str, Any]:
    """Return the values of the summary at the top."""
    facts, options = run.facts, run.options
    method = method_of(options)
    weights = {name: w for name, w in (options.get("weights") or {}).items() if w}
    answer = options.get("answer", "best")
    best = "each instruction's highest-scoring answer"
    rewards = run.number("reward")[run.chosen]
    counts = run.selection.counts()
    return {
        "pool": _pool_name(run),
        "n": len(run.ids),
        "models": facts["models"],
        "reward": facts["reward"],
        "filled": facts.get("filled", 1),
        "chosen": int(run.chosen.sum()),
        "eligible": int(run.eligible.sum()),
        "baseline": None if method == CROWD.name else method,
        "formula": " + ".join(f"{w:g} \u00d7 {name}" for name, w in weights.items()),
        "clusters": _quotas(run),
        "target": best if answer == "best" else f"the answer by the rule {answer}",
        "teachers": len({name for name in run.models[run.chosen] if name is not None}),
        "mean_reward": None if np.isnan(rewards).all() else float(np.nanmean(rewards)),
        "copies": _COPIES,
        "barred": {code: k for code, k in counts.items() if code not in {"selected", "below_cut"}},
    }


def _quotas(run: ReportData) -> dict[str, Any] | None:
    """Return the number of clusters, how they were made, and their quotas; None if there are none."""
    quotas = [int(quota) for quota in (run.facts.get("quotas") or {}).values()]
    if not quotas:
        return None
    by = run.options.get("cluster_by")
    return {
        "number": len(quotas),
        "how": f"the column {by}" if by else f"k-means on the vectors of {run.facts.get('embedder')}",
        "gave": f"{min(quotas):,}" if min(quotas) == max(quotas) else f"{min(quotas):,} to {max(quotas):,}",
    }


def _pool_name(run: ReportData) -> str:
    return Path(str(run.facts.get("pool", "the pool"))).name


# The sections


def _done(run: ReportData) -> Content:
    """Gather the comparison with random selections, the reasons of all rows, the options."""
    control = [
        {
            "name": "reward of the answer" if name == "reward" else name,
            "chosen": c.chosen,
            "random": c.random,
            "spread": c.spread,
            "apart": (c.chosen - c.random) / c.spread if c.spread > 0 else None,
        }
        for name, c in random_control(run.selection).items()
    ]
    reasons = [(code, count, REASONS[code]) for code, count in run.selection.counts().items()]
    shown = {"pool": run.facts.get("pool"), "fingerprint": run.facts.get("fingerprint"), **run.options}
    options = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in shown.items()
        if value is not None
    }
    return Content(values={"control": control, "reasons": reasons, "options": options})


def _crowd(run: ReportData) -> Content:
    """Gather the crowd: reward against size, and coverage."""
    crowd = run.facts.get("crowd", [])
    coverages = None if run.rewards is None else coverage(run.rewards)
    figures = {"crowd": crowd_figure(run), "coverage": coverage_figure(run)}
    values = {
        "models": len(crowd),
        "families": len({m["family"] for m in crowd if m["family"] is not None}),
        "unknown": sum(m["size_b"] is None or m["family"] is None for m in crowd),
        "guessed": sum(m["source"] == "name" for m in crowd),
        "by_family": by_family(),
        "lowest": None if coverages is None or figures["coverage"] is not None else float(coverages.min()),
    }
    return Content(figures=figures, values=values)


def _student(run: ReportData) -> Content | None:
    """Gather what the crowd can and the student cannot; nothing without a student."""
    student, good = run.facts.get("student"), run.facts.get("good")
    if student is None or good is None:
        return None
    column = None if student["column"] is None else f"the column {student['column']}"
    values = {
        "name": student["name"] or column or student["answers"],
        "above": good["above"],
        "share": good["share"],
        "already": student["already"],
        "chosen": int(run.chosen.sum()),
        "missing": student["missing"],
    }
    return Content(figures=student_figures(run), values=values)


def _metrics(run: ReportData) -> Content:
    """Gather the metrics: descriptions, distributions, correlations."""
    figures = {
        run.keys[name]: distribution(values, run.eligible, run.chosen, title=name)
        for name, values in run.metrics.items()
    }
    figures["correlations"] = correlations_figure(run)
    words = {
        name: METRICS[name].words if name in METRICS else "a column of `metrics`" for name in run.metrics
    }
    return Content(figures=figures, values={"words": words, "charts": list(run.keys.values())})


def _map(run: ReportData) -> Content:
    """Gather the map, or why there is none."""
    figure = map_figure(run)
    colours = {} if figure is None else {k: c["title"] or k for k, c in figure.colours.items()}
    return Content(figures={"map": figure}, values={"description": run.map.description, "colours": colours})


def _quota(run: ReportData) -> Content | None:
    """Gather what each stratum was to have and got; nothing without a quota."""
    quota = run.facts.get("quota")
    if quota is None:
        return None
    strata = sorted(quota["strata"], key=lambda one: (-one["asked"], one["name"]))
    values = {
        "column": quota["column"],
        "rule": run.options["quota"],
        "total": len(strata),
        "rows": strata[:_CLUSTERS],
    }
    return Content(values=values)


def _clusters(run: ReportData) -> Content:
    """Gather the clusters: size, quota, typical words, mean metrics."""
    if not run.clustered:
        return Content(values={"rows": []})
    labels, sizes = np.unique(run.cluster[run.eligible & (run.cluster >= 0)], return_counts=True)
    taken = np.array([int(run.chosen[run.cluster == label].sum()) for label in labels])
    words, names = run.typical_words(_WORDS), run.facts.get("cluster_names")
    largest = np.argsort(-sizes, kind="stable")[:_CLUSTERS]
    shown = largest if len(labels) > _CLUSTERS else np.arange(len(labels))
    shares = np.stack([sizes / sizes.sum(), taken / max(taken.sum(), 1)])
    shares = shares / shares.max()
    rows = []
    for at in shown.tolist():
        label = int(labels[at])
        here = run.eligible & (run.cluster == label)
        rows.append(
            {
                "name": label if names is None else names[label] or _DASH,
                "eligible": int(sizes[at]),
                "chosen": int(taken[at]),
                "share_eligible": shares[0, at],
                "share_chosen": shares[1, at],
                "words": words.get(label, []),
                "means": [_mean(values[here]) for values in run.metrics.values()],
            }
        )
    return Content(values={"rows": rows, "total": len(labels), "metrics": list(run.metrics)})


def _mean(values: Any) -> float | None:  # noqa: ANN401  (an array)
    return None if np.isnan(values).all() else float(f"{np.nanmean(values):.3g}")


def _rows(run: ReportData) -> Content:
    """Gather the chosen rows, which the script lists with search, filter and order."""
    labels = [int(label) for label in np.unique(run.cluster[run.chosen])] if run.clustered else []
    names = run.facts.get("cluster_names")
    orders = {
        "rank": "by rank",
        "reward": "by reward",
        "length": "longest instruction",
        "answer": "longest answer",
    }
    rows = run.picks(LISTED)
    values = {
        "chosen": int(run.chosen.sum()),
        "shown": len(rows),
        "metrics": list(run.metrics),
        "clusters": [label if names is None else names[label] or _DASH for label in labels],
        "orders": orders | {key: f"highest {name}" for name, key in run.keys.items()},
    }
    return Content(lists={"chosen": rows}, values=values)


def _extremes(run: ReportData) -> Content | None:
    """Gather the highest and lowest rows of each metric."""
    if not run.metrics:
        return None
    lists: dict[str, list[int]] = {}
    for name, key in run.keys.items():
        lists[f"high-{key}"], lists[f"low-{key}"] = run.extremes(name, _EXTREMES)
    return Content(lists=lists, values={"metrics": run.keys})


def _missed(run: ReportData) -> Content:
    """Gather the rows that were nearest to being chosen."""
    rows = run.missed(_MISSED)
    return Content(lists={"missed": rows}, values={"rows": len(rows)})


def _teachers(run: ReportData) -> Content | None:
    """Gather the models whose answers are trained on."""
    figure = teachers_figure(run)
    return None if figure is None else Content(figures={"teachers": figure})


def _lengths(run: ReportData) -> Content:
    """Gather lengths of instructions and answers."""
    return Content(figures=length_figures(run))


SECTIONS: tuple[Section, ...] = (
    Section("done", "What was done", _done),
    Section("crowd", "The crowd", _crowd),
    Section("student", "The student", _student),
    Section("metrics", "Metrics", _metrics),
    Section("map", "The map", _map),
    Section("quota", "The quota", _quota),
    Section("clusters", "Clusters", _clusters),
    Section("rows", "Chosen rows", _rows),
    Section("extremes", "Best and worst", _extremes),
    Section("missed", "Just missed", _missed),
    Section("teachers", "Teachers", _teachers),
    Section("lengths", "Lengths", _lengths),
)
"""The page's sections, from top to bottom."""
