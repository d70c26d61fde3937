"""`crowdselect view`: rows of a pool or of a selection, with every model's answer, in the terminal."""

import sys
from pathlib import Path

import click

from crowdselect.cli.options import crowd_option, reward_option
from crowdselect.manifests import MANIFEST

_SHORT = 300  # characters of an answer where several rows are shown


@click.command(epilog="Example:  crowdselect view pool.parquet --where 'difficulty > 0.5 and topic = maths'")
@click.argument("place", metavar="POOL|DIR")
@click.option(
    "--id", "ids", multiple=True, metavar="ID", help="Only this row, its texts whole; may be repeated."
)
@click.option(
    "--where",
    metavar="CONDITIONS",
    help="NAME, a comparison and a value, joined by `and`: difficulty > 0.5 and topic = maths.",
)
@click.option("--pool", "pool_path", metavar="POOL", help="DIR: where its pool is now.")
@reward_option
@crowd_option
def view(
    place: str,
    ids: tuple[str, ...],
    where: str | None,
    pool_path: str | None,
    reward: str | None,
    crowd_path: str | None,
) -> None:
    """Show rows with all models' answers and rewards, a page at a time."""
    from crowdselect.cli.choosing import read_crowd
    from crowdselect.errors import InputError
    from crowdselect.pool.pool import open_pool
    from crowdselect.selection.browse import Browser
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import reopen_pool
    from crowdselect.terminal import say, warn

    selection = load_selection(place) if (Path(place) / MANIFEST).exists() else None
    if selection is None:
        pool, problem = open_pool(place), None
    else:
        pool, problem = reopen_pool(selection, pool_path)
    if problem is not None:
        warn(problem)
    if pool is None:
        raise InputError(f"{place}: its rows cannot be shown without the pool")
    with pool:
        rows = Browser(pool, selection=selection, reward=reward, crowd=read_crowd(crowd_path))
        found = rows.find(where=where, ids=ids)
        whole = bool(ids)
        texts = (_shown(page, whole=whole) for page in rows.pages(found))
        if sys.stdout.isatty():
            click.echo_via_pager(texts)
        else:
            for text in texts:
                say(text)
        say(f"{len(found):,} of {len(pool.ids):,} rows")
