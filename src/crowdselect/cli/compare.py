"""The command `crowdselect compare`: selections side by side."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.choosing import read_crowd
from crowdselect.cli.options import json_option, overwrite_option, seed_option
from crowdselect.errors import OptionError
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from crowdselect.compare.selections import Comparison


@click.command(epilog="Example:  crowdselect compare chosen random reward -o compare.html")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE.html", help="A page to write.")
@click.option(
    "--name", "names", metavar="NAME", multiple=True, help="What a DIR is called; one for each DIR."
)
@click.option("--pool", "pool", metavar="POOL", help="Where the pool is now; the manifests say where it was.")
@click.option(
    "--unit",
    metavar="UNIT",
    default="characters",
    show_default=True,
    help="Of lengths: characters, or a tokenizer.",
)
@click.option(
    "--embedder",
    metavar="NAME",
    default="lsa",
    show_default=True,
    help="Of distances and clusters, for all of them.",
)
@click.option(
    "--clusters",
    type=int,
    metavar="K",
    default=10,
    show_default=True,
    help="Clusters of all rows that coverage is counted in.",
)
@click.option(
    "--near",
    type=float,
    metavar="COSINE",
    default=0.9,
    show_default=True,
    help="Near-duplicates are above this.",
)
@click.option(
    "--mix",
    "mixes",
    metavar="COLUMN",
    multiple=True,
    help="Also show the mix of this column; may be given several times.",
)
@click.option(
    "--draws",
    type=int,
    metavar="N",
    default=20,
    show_default=True,
    help="Random choices to draw where no two DIRs are random.",
)
@click.option(
    "--crowd",
    "crowd_path",
    metavar="FILE",
    help="Family and size of the models (TOML or JSON), for all of them; else the crowd they were made with.",
)
@seed_option
@click.option("--no-cache", is_flag=True, help="Neither read nor keep vectors.")
@overwrite_option
@json_option
def compare(folders: tuple[str, ...], **given: Any) -> None:  # noqa: ANN401  (click's values)
    """Lay selections side by side, and against chance."""
    from crowdselect.compare.page import comparison_page
    from crowdselect.compare.selections import compare as run
    from crowdselect.terminal import say, stage_bar, visible
    from crowdselect.writing import check_output, new_file

    output, overwrite, as_json, crowd_path = (
        given.pop(name) for name in ("output", "overwrite", "as_json", "crowd_path")
    )
    target = None
    if output is not None:
        if Path(output).suffix not in {".html", ".htm"}:
            raise OptionError(f"{output}: the page is HTML; name a file that ends in .html")
        inputs = [Path(place) for place in (*folders, *([crowd_path] if crowd_path else []))]
        target = check_output(output, inputs=inputs, overwrite=overwrite, folder=False)
    with ExitStack() as stack:
        progress = stack.enter_context(stage_bar("comparing"))
        crowd, cache = read_crowd(crowd_path), not given.pop("no_cache")
        found = run(folders, crowd=crowd, cache=cache, progress=progress, **given)
    if target is not None:
        with new_file(target) as partial:
            partial.write_text(comparison_page(found), encoding="utf-8")
    if as_json:
        print_json(found.as_dict())
        return
    _print(found)
    if target is not None:
        say(f"written to {visible(target)}")


def _print(found: "Comparison") -> None:
    from crowdselect.compare.facts import FIGURES
    from crowdselect.compare.selections import short_names
    from crowdselect.report.page import number
    from crowdselect.terminal import say, table, warn

    marks = {1: " above", -1: " below", 0: ""}
    rows, short = [], short_names(found.names)
    for name, words in FIGURES.items():
        chance = found.chance.get(name)
        cells = []
        for side in found.sides:
            value = side.figures[name]
            beyond = 0 if chance is None or value is None else chance.beyond(value)
            cells.append(number(value) + marks[beyond])
        rows.append(
            [words, None if chance is None else f"{number(chance.mean)} +- {chance.spread:.2g}", *cells]
        )
    table(
        ["figure", ">random", *(f">{short[side.name]}" for side in found.sides)],
        rows,
        title="Figures; above and below: beyond what one more random choice would show",
    )
    names = [short[name] for name in found.names]
    table(
        ["rows shared", *(f">{name}" for name in names)],
        [[name, *map(number, found.overlap[i].tolist())] for i, name in enumerate(names)],
    )
    say(f"random: {found.random}")
    for problem in found.problems:
        warn(problem)
