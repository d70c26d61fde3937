"""A run's charts, as Altair draws them: for the report, and as SVG and PNG for a paper."""

import os
from collections.abc import Mapping
from pathlib import Path

from crowdselect import __version__
from crowdselect._optional import optional
from crowdselect.errors import OutputError
from crowdselect.report.charts import correlations_figure, distribution, length_figures, map_figure
from crowdselect.report.chartspec import EXTRA, Figure, theme
from crowdselect.report.crowdcharts import coverage_figure, crowd_figure, teachers_figure
from crowdselect.report.data import Run
from crowdselect.report.projection import Map
from crowdselect.writing import TOOL, new_files, write_manifest

LIST = "figures.json"
"""What is ours in a folder of figures; it may be a folder with another result."""

_WIDTH = 480  # pixels, where the page would decide


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


def write_figures(found: Mapping[str, Figure], folder: str | os.PathLike[str]) -> list[Path]:
    """Write charts as SVG and PNG, in the light theme.

    Args:
        found: From `figures`.
        folder: Where to; made if it is not there. Only figures that were written there before, which
            `figures.json` lists, are replaced or removed.

    Returns:
        The files.

    Raises:
        MissingExtraError: vl-convert is not installed.
        OutputError: The place is a file, or a file that is no figure of ours is in the way.
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
    """Refuse a place for figures before anything is drawn.

    Raises:
        OutputError: It is a file.
    """
    place = Path(folder)
    if os.path.lexists(place) and not place.is_dir():
        raise OutputError(f"{folder}: this is a file; name a folder for the figures")
    return place


def vega_lite_version() -> str:
    """The version of Vega-Lite that Altair writes, as vl-convert names it."""
    schema: str = optional("altair", extra=EXTRA).SCHEMA_VERSION
    return ".".join(schema.removeprefix("v").split(".")[:2])
