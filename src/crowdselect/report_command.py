"""`crowdselect report`: the command, and what `select --report` and `demo` do of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from crowdselect.pool import Pool
    from crowdselect.stages import Stages


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
@click.option("--overwrite", is_flag=True, help="Replace the FILE of -o.")
def report(  # noqa: PLR0917  (click hands every option over by name)
    folder: str,
    output: str | None,
    pool_path: str | None,
    method: str,
    figures_folder: str | None,
    overwrite: bool,  # noqa: FBT001  (same)
) -> None:
    """Show a selection on one page of HTML."""
    from crowdselect.exporter import load_selection
    from crowdselect.figures import write_figures
    from crowdselect.reopen import reopen_pool
    from crowdselect.report import REPORT, write_report
    from crowdselect.rundata import Run
    from crowdselect.show import say, stage_bar, visible, warn
    from crowdselect.stages import Stages

    selection = load_selection(folder)
    pool, problem = reopen_pool(selection, pool_path)
    run = Run(selection, pool, problem=problem)
    try:
        written, figures = write_report(
            run,
            output or Path(folder) / REPORT,
            method=method,
            overwrite=overwrite or output is None,
            stages=Stages(show=stage_bar),
        )
    finally:
        if pool is not None:
            pool.close()
    for line in run.problems:
        warn(line)
    if figures_folder is not None:
        files = write_figures(figures, figures_folder)
        say(f"{len(files)} figures in {visible(figures_folder)}")
    say(
        f"written to {visible(output or Path(folder) / REPORT)}: {written.stat().st_size / 1e6:.1f} MB, opens offline"
    )


def report_beside(folder: str | os.PathLike[str], pool: "Pool", *, stages: "Stages") -> str:
    """Write the report of a selection that was just written, where its extra is installed.

    Args:
        folder: What `export` wrote.
        pool: The open pool.
        stages: Times the stages.

    Returns:
        One line: where the report is, or how to get it.
    """
    from crowdselect.errors import MissingExtraError
    from crowdselect.exporter import load_selection
    from crowdselect.report import REPORT, write_report
    from crowdselect.rundata import Run
    from crowdselect.show import visible

    place = Path(folder) / REPORT
    try:
        write_report(Run(load_selection(folder), pool), place, stages=stages)
    except MissingExtraError as error:
        return f"no report: {error}, then: crowdselect report {visible(folder)}"
    return f"report: {visible(place)} (open it in a browser)"
