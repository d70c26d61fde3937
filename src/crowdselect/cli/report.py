"""`crowdselect report`: the command, and what `select --report` and `demo` do of it."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crowdselect.manifests import REPORT

if TYPE_CHECKING:
    from crowdselect.pool.pool import Pool
    from crowdselect.progress import Stages


@click.command(epilog="Example:  crowdselect report chosen")
@click.argument("folder", metavar="DIR")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write.  [default: report.html in DIR, replaced each time]",
)
@click.option(
    "--pool", "pool_path", metavar="POOL", help="Where the pool is now; the manifest says where it was."
)
@click.option(
    "--map",
    "method",
    type=click.Choice(["tsne", "pca", "none"]),
    default="tsne",
    show_default=True,
    help="How the map of the instructions is made.",
)
@click.option(
    "--figures", "figures_folder", metavar="FOLDER", help="Also write the charts there, as SVG and PNG."
)
@click.option("--overwrite", is_flag=True, help="Replace the FILE of -o, or a report.html that is not ours.")
def report(  # noqa: PLR0917  (click hands every option over by name)
    folder: str,
    output: str | None,
    pool_path: str | None,
    method: str,
    figures_folder: str | None,
    overwrite: bool,  # noqa: FBT001  (same)
) -> None:
    """Show a selection on one page of HTML."""
    from crowdselect.progress import Stages
    from crowdselect.report.chartspec import check_figures, write_figures
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import check_extra, write_report
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.reopen import reopen_pool
    from crowdselect.terminal import say, stage_bar, visible, warn
    from crowdselect.writing import claim

    selection = load_selection(folder)
    if figures_folder is not None:
        check_figures(figures_folder)
    check_extra()
    place = Path(output) if output is not None else claim(Path(folder), REPORT, overwrite=overwrite)
    pool, problem = reopen_pool(selection, pool_path)
    run = ReportData(selection, pool, problem=problem)
    try:
        written, figures = write_report(
            run,
            place,
            method=method,
            overwrite=overwrite or output is None,
            stages=Stages(show=stage_bar),
        )
    finally:
        if pool is not None:
            pool.close()
    for line in run.problems:
        warn(line)
    say(f"written to {visible(place)}: {written.stat().st_size / 1e6:.1f} MB, opens offline")
    if figures_folder is not None:
        files = write_figures(figures, figures_folder)
        say(f"{len(files)} figures in {visible(figures_folder)}")


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

    again = shlex.join(["crowdselect", "report", os.fspath(folder)])
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
