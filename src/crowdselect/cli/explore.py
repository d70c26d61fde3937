"""`crowdselect explore`: a pool, or a selection, as a page on which options are changed and the choice is made anew."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from crowdselect.cli.entry import check_page, say_current
from crowdselect.cli.flags import Command
from crowdselect.cli.methods import method_option
from crowdselect.cli.options import (
    answer_options,
    cache_option,
    count_options,
    made,
    option,
    overwrite_option,
    pool_place_option,
    pool_source_options,
    seed_option,
    spread_options,
    weights_option,
)
from crowdselect.cli.values import Budget
from crowdselect.errors import OptionError

_BESIDE_A_FOLDER = {"source", "output", "pool", "crowd", "overwrite", "no_cache"}
"""Options that count with a selection, which has its own of the others."""


@click.command(cls=Command, epilog="Example:  crowdselect explore pool.parquet -o explore.html")
@click.argument("source", metavar="POOL|DIR")
@option("-o", "--output", required=True, metavar="FILE.html", help="The page to write.")
@option(
    "--budget",
    type=Budget(),
    default="10%",
    show_default=True,
    help="How many instructions the page begins with, or a share of the pool's.",
)
@method_option("What the page begins with: crowd, random, easy, teachable or teachable:plain.")
@weights_option
@seed_option
@pool_source_options
@pool_place_option
@count_options
@spread_options(default="10 with the method crowd, else 0")
@answer_options
@overwrite_option
@cache_option
def explore(
    source: str,
    output: str,
    pool: str | None,
    overwrite: bool,  # noqa: FBT001  (click hands every option over by name)
    **given: Any,  # noqa: ANN401  (same)
) -> None:
    """Make a page that chooses anew in the browser for any options.

    The page begins with the options given here, or with those of the selection in a folder. It needs nothing else: it computes
    in the browser what `select` would choose, and shows the command. The same command on the same inputs is up to date and
    writes nothing.
    """
    from crowdselect.cli.choosing import (
        Exploring,
        checked,
        counted,
        inputs_of,
        read_crowd,
        with_method,
    )
    from crowdselect.cli.choosing import (
        options_of as told_of,
    )
    from crowdselect.explorer.explore import explore as explored
    from crowdselect.explorer.explore import options_of, reopened
    from crowdselect.manifests import read_manifest
    from crowdselect.progress import Stages
    from crowdselect.repeats import is_current_file, made_by
    from crowdselect.selection.folder import load_selection
    from crowdselect.terminal import say, shown_path, stage_bar

    check_page(output)
    if given["near_duplicates"] is not None:
        raise OptionError("`near_duplicates` needs vectors, which a page does not hold; leave it out")
    crowd_file, saved = given["crowd"], None
    crowd = read_crowd(crowd_file)
    if (read_manifest(Path(source)) or {}).get("kind") == "selection":
        _refuse_options(source)
        saved = load_selection(source)
        options, method = options_of(saved)
        opened = reopened(saved, pool, crowd=crowd)
    else:
        if pool is not None:
            raise OptionError(
                f"`pool={pool!r}` says where the pool of a selection is, and {source} is no selection"
            )
        asked = made(Exploring, counted(with_method({**given, "pool": source})))
        options, method = asked.options, asked.method
        opened = asked.source.opened(seed=options.seed)
    with opened:
        files = {**inputs_of(opened, options, crowd=crowd_file), "folder": None if saved is None else source}
        made_so = made_by("explore", {**told_of(opened, options), "method": method}, files)
        if is_current_file(Path(output), made_so, overwrite=overwrite):
            say_current(output)
            return
        checked(
            output,
            opened,
            crowd_file,
            options.metrics,
            options.student_answers,
            overwrite=overwrite,
            folder=False,
        )
        page = explored(
            opened,
            options,
            method=method,
            crowd=crowd,
            crowd_file=crowd_file,
            saved=saved,
            stages=Stages(show=stage_bar),
        )
        written = page.write(output, overwrite=overwrite, made=made_so)
    say(f"written to {shown_path(output)}: {written.stat().st_size / 1e6:.1f} MB, opens offline")


def _refuse_options(folder: str) -> None:
    """Refuse options of a pool beside a selection, which has its own."""
    context = click.get_current_context()
    for name in context.params:
        if name not in _BESIDE_A_FOLDER and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise OptionError(
                f"`{name}` is that of the selection in {folder}; leave it out, or explore the selection's pool"
            )
