"""A finished run → one HTML page for the person who decides whether to train on it. Nothing is decided anew here."""

import os
from collections.abc import Sequence
from pathlib import Path

from crowdselect._optional import optional
from crowdselect.progress import Stages
from crowdselect.report.charts import correlations_figure, distribution, length_figures, map_figure
from crowdselect.report.chartspec import EXTRA, Figure, theme, vega_lite_version
from crowdselect.report.crowdcharts import coverage_figure, crowd_figure, teachers_figure
from crowdselect.report.data import Run, row_data
from crowdselect.report.page import Markup, html, joined, page, vega_bundle
from crowdselect.report.projection import Map, project
from crowdselect.report.sections import (
    clusters_section,
    crowd_section,
    done,
    extremes_section,
    head,
    lengths_section,
    map_section,
    metrics_section,
    missed_section,
    pool_name,
    rows_section,
    teachers_section,
)
from crowdselect.selection.methods import is_weighted
from crowdselect.writing import check_output, new_file

LISTED = 5_000
"""Chosen rows in the page; all of them are in selection.parquet."""

_MISSED = 20
_EXTREMES = 5


def write_report(
    run: Run,
    path: str | os.PathLike[str],
    *,
    method: str = "tsne",
    overwrite: bool = False,
    stages: Stages | None = None,
) -> tuple[Path, dict[str, Figure]]:
    """Write the report of a run.

    Args:
        run: The run.
        path: The file to write.
        method: Of the map, one of `crowdselect.report.projection.METHODS`.
        overwrite: Replace a file that is there.
        stages: Times the stages and shows progress.

    Returns:
        The file and its charts.

    Raises:
        MissingExtraError: The extra `report` is not installed.
        OutputError: The place is refused.

    Example:
        >>> write_report.__name__
        'write_report'
    """
    check_extra()
    inputs = [] if run.pool is None else run.pool.files
    target = check_output(path, inputs=inputs, overwrite=overwrite, folder=False)
    stage = stages or Stages()
    with stage("map") as progress:
        points = project(run, method=method, progress=progress)
    with stage("figures"):
        found = figures(run, points)
    with stage("page"):
        made = make_page(run, points, found)
        with new_file(target) as partial:
            partial.write_text(made, encoding="utf-8", newline="\n")
    return target, found


def check_extra() -> None:
    """See that the extra is there, before a page is listed anywhere.

    Raises:
        MissingExtraError: It is not installed.
    """
    for package in ("altair", "vl_convert"):
        optional(package, extra=EXTRA)


def make_page(run: Run, points: Map, found: dict[str, Figure]) -> str:
    """Put the charts and tables of a run into one page.

    Args:
        run: The run.
        points: Its map, or why there is none.
        found: Its charts, from `figures`.

    Returns:
        HTML.
    """
    lists: dict[str, list[int]] = {"chosen": run.picks(LISTED), "missed": run.missed(_MISSED)}
    for name in run.metrics:
        key = run.keys[name]
        lists[f"high-{key}"], lists[f"low-{key}"] = run.extremes(name, _EXTREMES)
    rows, places = row_data(run, lists)
    sections: list[tuple[str, str, Markup]] = [
        ("done", "What was done", Markup()),
        ("crowd", "The crowd", crowd_section(run, found)),
        ("metrics", "Metrics", metrics_section(run, found)),
        ("map", "The map", map_section(points, found)),
        ("clusters", "Clusters", clusters_section(run)),
        ("rows", "Chosen rows", rows_section(run, len(lists["chosen"]))),
        ("extremes", "Best and worst", extremes_section(run)),
        ("missed", "Just missed", missed_section(lists["missed"])),
        ("teachers", "Teachers", teachers_section(found)),
        ("lengths", "Lengths", lengths_section(found)),
    ]
    # Last: what was not at hand is known only now.
    top = head(run)
    parts = joined(
        html('<section id="{}"><h2>{}</h2>{}</section>', key, title, content)
        for key, title, content in sections
        if content
    )
    body = html("{}{}<main>{}{}</main>{}", top, _nav(sections), done(run), parts, _foot(run))
    weights = run.options["weights"] if is_weighted(run.options) else {}
    data = {
        **rows,
        "lists": places,
        "metrics": list(run.metrics),
        "keys": list(run.keys.values()),
        "weights": [weights.get(name) for name in run.metrics],
        "charts": {name: {"spec": f.spec, "colours": f.colours} for name, f in found.items()},
        "themes": {"light": theme(dark=False), "dark": theme(dark=True)},
    }
    vega = vega_bundle(vega_lite_version()) if found else None
    return page(
        title=f"{pool_name(run)}: what was chosen",
        body=body,
        data=data,
        vega=vega,
    )


def figures(run: Run, points: Map) -> dict[str, Figure]:
    """Draw everything that this run has data for.

    Args:
        run: The run.
        points: Its map.

    Returns:
        Figures by name, in the order in which the report shows them.

    Raises:
        MissingExtraError: Altair is not installed.

    Example:
        >>> figures.__name__
        'figures'
    """
    optional("altair", extra=EXTRA)
    made: dict[str, Figure | None] = {"crowd": crowd_figure(run), "coverage": coverage_figure(run)}
    for name, values in run.metrics.items():
        made[run.keys[name]] = distribution(values, run.eligible, run.chosen, title=name)
    made["correlations"] = correlations_figure(run)
    made["map"] = map_figure(run, points)
    made["teachers"] = teachers_figure(run)
    made |= length_figures(run)
    return {name: figure for name, figure in made.items() if figure is not None}


def _nav(sections: Sequence[tuple[str, str, Markup]]) -> Markup:
    links = joined(
        html('<li><a href="#{}">{}</a></li>', key, title)
        for key, title, content in sections
        if content or key == "done"
    )
    return html('<nav aria-label="Sections"><ul>{}</ul></nav>', links)


def _foot(run: Run) -> Markup:
    return html(
        "<footer>Made by crowdselect {} from selection.parquet and the manifest. The page holds all it shows "
        "and asks nobody for anything. <noscript>Charts and rows need JavaScript.</noscript></footer>",
        run.facts.get("version", ""),
    )
