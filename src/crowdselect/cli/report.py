"""`crowdselect report`: the command, and what `select --report` and `demo` do of it."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.entry import check_page, say_current
from crowdselect.cli.flags import Command, typed_line
from crowdselect.cli.options import option, pool_place_option
from crowdselect.errors import OutputError
from crowdselect.manifests import REPORT

if TYPE_CHECKING:
    from crowdselect.pool.pool import Pool
    from crowdselect.progress import Stages


_MAP = "tsne"


@click.command(cls=Command, epilog="Example:  crowdselect report chosen")
@click.argument("folder", metavar="DIR")
@option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write.  [default: report.html in DIR]",
)
@pool_place_option
@option(
    "--map",
    "method",
    type=click.Choice(["tsne", "pca", "none"]),
    default=_MAP,
    show_default=True,
    help="How the map of the instructions is made.",
)
@option("--figures", metavar="FOLDER", help="Also write the charts there, as SVG and PNG.")
@option("--overwrite", is_flag=True, help="Replace a page that is there.")
def report(  # noqa: PLR0917  (click hands every option over by name)
    folder: str,
    output: str | None,
    pool: str | None,
    method: str,
    figures: str | None,
    overwrite: bool,  # noqa: FBT001  (same)
) -> None:
    """Write a report on a selection, one page of HTML.

    The same command on the same selection and pool is up to date and writes nothing.
    """
    from crowdselect.cli.following import say_next, training
    from crowdselect.progress import Stages
    from crowdselect.repeats import is_current_file, made_in
    from crowdselect.report.chartspec import check_figures, write_figures
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import check_extra, write_report
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import reopen_pool
    from crowdselect.terminal import counted, say, shown_path, stage_bar, warn
    from crowdselect.writing import claim

    check_page(output)
    selection = load_selection(folder)
    if figures is not None:
        check_figures(figures)
    opened, problem = reopen_pool(selection, pool)
    with nullcontext() if opened is None else opened:
        place = Path(folder) / REPORT if output is None else Path(output)
        made = _made_by(folder, opened, method=method)
        before = {} if overwrite else made_in(place) or {}
        if opened is None and before.get("inputs", {}).get("pool") is not None:
            raise OutputError(
                f"{place}: was made with the pool, which cannot be opened now ({problem}); say where it is with `pool`, or "
                "replace the page by one without the pool's texts with `overwrite=True`"
            )
        current = is_current_file(place, made, overwrite=overwrite)
        if current and figures is None:
            say_current(str(place))
            return
        check_extra()
        if output is None:
            claim(Path(folder), REPORT, overwrite=overwrite)
        run = ReportData(selection, opened, problem=problem)
        written, drawn = write_report(
            run,
            place,
            method=method,
            overwrite=overwrite or current or output is None,
            stages=Stages(show=stage_bar),
            made=made,
        )
    for line in run.problems:
        warn(line)
    say(f"written to {shown_path(place)}: {written.stat().st_size / 1e6:.1f} MB, opens offline")
    if figures is not None:
        files = write_figures(drawn, figures)
        say(f"{counted(len(files), 'figure')} in {shown_path(figures)}")
    say_next(training(folder))


def _made_by(folder: str | os.PathLike[str], pool: "Pool | None", *, method: str) -> dict[str, Any]:
    """Describe what a page is made by; charts are drawn of the same."""
    from crowdselect.repeats import made_by

    files = None if pool is None else pool.files
    return made_by("report", {"map": method}, {"folder": folder, "pool": files})


def report_beside(folder: str | os.PathLike[str], pool: "Pool", *, stages: "Stages") -> str:
    """Write the report of a selection that was just written.

    Args:
        folder: What `export` wrote.
        pool: The open pool.
        stages: Times the stages.

    Returns:
        One line: where the report is.

    Raises:
        CrowdselectError: It cannot be made. The selection stays, and a line says how to make its page.
    """
    from crowdselect.errors import CrowdselectError
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import write_report
    from crowdselect.selection.folder import load_selection
    from crowdselect.terminal import shown_path, warn
    from crowdselect.writing import claim

    try:
        place = claim(Path(folder), REPORT, overwrite=False)
        made = _made_by(folder, pool, method=_MAP)
        write_report(
            ReportData(load_selection(folder), pool), place, overwrite=True, stages=stages, made=made
        )
    except (KeyboardInterrupt, CrowdselectError, OSError):
        again = typed_line(["report", os.fspath(folder)])
        warn(f"the selection in {shown_path(folder)} is complete; only its page is missing: {again}")
        raise
    return f"report: {shown_path(place)} (open it in a browser)"
