"""`crowdselect report`: the command, and what `select --report` and `demo` do of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crowdselect.cli.flags import Command, typed_line
from crowdselect.cli.options import option, pool_place_option
from crowdselect.manifests import REPORT

if TYPE_CHECKING:
    from crowdselect.pool.pool import Pool
    from crowdselect.progress import Stages


@click.command(cls=Command, epilog="Example:  crowdselect report chosen")
@click.argument("folder", metavar="DIR")
@option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write.  [default: report.html in DIR, replaced each time]",
)
@pool_place_option
@option(
    "--map",
    "method",
    type=click.Choice(["tsne", "pca", "none"]),
    default="tsne",
    show_default=True,
    help="How the map of the instructions is made.",
)
@option("--figures", metavar="FOLDER", help="Also write the charts there, as SVG and PNG.")
@option("--overwrite", is_flag=True, help="Replace the FILE of -o, or a report.html that is not ours.")
def report(  # noqa: PLR0917  (click hands every option over by name)
    folder: str,
    output: str | None,
    pool: str | None,
    method: str,
    figures: str | None,
    overwrite: bool,  # noqa: FBT001  (same)
) -> None:
    """Show a selection on one page of HTML."""
    from crowdselect.progress import Stages
    from crowdselect.report.chartspec import check_figures, write_figures
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import check_extra, write_report
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import reopen_pool
    from crowdselect.terminal import say, stage_bar, visible, warn
    from crowdselect.writing import claim

    selection = load_selection(folder)
    if figures is not None:
        check_figures(figures)
    check_extra()
    place = Path(output) if output is not None else claim(Path(folder), REPORT, overwrite=overwrite)
    opened, problem = reopen_pool(selection, pool)
    run = ReportData(selection, opened, problem=problem)
    try:
        written, drawn = write_report(
            run,
            place,
            method=method,
            overwrite=overwrite or output is None,
            stages=Stages(show=stage_bar),
        )
    finally:
        if opened is not None:
            opened.close()
    for line in run.problems:
        warn(line)
    say(f"written to {visible(place)}: {written.stat().st_size / 1e6:.1f} MB, opens offline")
    if figures is not None:
        files = write_figures(drawn, figures)
        say(f"{len(files)} figures in {visible(figures)}")


def report_beside(folder: str | os.PathLike[str], pool: "Pool", *, stages: "Stages") -> str:
    """Write the report of a selection that was just written, where its extra is installed.

    Args:
        folder: What `export` wrote.
        pool: The open pool.
        stages: Times the stages.

    Returns:
        One line: where the report is, or how to get it.
    """
    from crowdselect.errors import CrowdselectError, MissingExtraError
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import check_extra, write_report
    from crowdselect.selection.folder import load_selection
    from crowdselect.terminal import visible, warn
    from crowdselect.writing import claim

    again = typed_line(["report", os.fspath(folder)])
    try:
        check_extra()
        place = claim(Path(folder), REPORT, overwrite=False)
        write_report(ReportData(load_selection(folder), pool), place, overwrite=True, stages=stages)
    except MissingExtraError as error:
        return f"no report: {error}, then: {visible(again)}"
    except (KeyboardInterrupt, CrowdselectError, OSError):
        warn(
            f"the selection in {os.fspath(folder)} is complete, only its page is missing; make it with: {again}"
        )
        raise
    return f"report: {visible(place)} (open it in a browser)"
