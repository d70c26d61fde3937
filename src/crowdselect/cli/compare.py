"""The commands `crowdselect compare` and `robustness`: selections side by side, and how much of one stays."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.choosing import checked, read_crowd
from crowdselect.cli.entry import check_page, show_or_write
from crowdselect.cli.options import (
    json_option,
    overwrite_option,
    pool_options,
    rule_options,
    seed_option,
    weights_option,
)
from crowdselect.errors import OptionError

if TYPE_CHECKING:
    from crowdselect.compare.robustness import Robustness
    from crowdselect.compare.selections import SelectionComparison


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
    from crowdselect.compare.selections import compare as run
    from crowdselect.compare.selections import comparison_page
    from crowdselect.terminal import stage_bar
    from crowdselect.writing import check_output

    output, overwrite, as_json, crowd_path = (
        given.pop(name) for name in ("output", "overwrite", "as_json", "crowd_path")
    )
    check_page(output)
    target = None
    if output is not None:
        inputs = [Path(place) for place in (*folders, *([crowd_path] if crowd_path else []))]
        target = check_output(output, inputs=inputs, overwrite=overwrite, folder=False)
    with ExitStack() as stack:
        progress = stack.enter_context(stage_bar("comparing"))
        crowd, cache = read_crowd(crowd_path), not given.pop("no_cache")
        found = run(folders, crowd=crowd, cache=cache, progress=progress, **given)
    show_or_write(
        target,
        page=partial(comparison_page, found),
        facts=found.as_dict,
        show=partial(_print_comparison, found),
        as_json=as_json,
    )


def _print_comparison(found: "SelectionComparison") -> None:
    from crowdselect.compare.facts import figure_words
    from crowdselect.compare.selections import short_names
    from crowdselect.report.page import number
    from crowdselect.terminal import say, table, warn

    marks = {1: " above", -1: " below", 0: ""}
    rows, short = [], short_names(found.names)
    for name, words in figure_words().items():
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


@click.command(epilog="Example:  crowdselect robustness pool.parquet --budget 1000 -o robustness.html")
@pool_options
@click.option(
    "--bootstraps",
    type=int,
    metavar="N",
    default=20,
    show_default=True,
    help="Crowds to draw with replacement.",
)
@click.option("--seeds", type=int, metavar="N", default=5, show_default=True, help="Other seeds to try.")
@click.option(
    "--try-clusters",
    metavar="K,...",
    default="0,5,10,20,30",
    show_default=True,
    help="Numbers of clusters to try; 0 = none.",
)
@weights_option
@rule_options(clusters=10)
@overwrite_option
@json_option
@click.option("-o", "--output", metavar="FILE.html", help="A page to write.")
def robustness(**given: Any) -> None:  # noqa: ANN401  (click's values)
    """Say how much of a selection stays."""
    from crowdselect.compare.robustness import robustness as run
    from crowdselect.compare.robustness import robustness_page
    from crowdselect.pool.pool import open_pool
    from crowdselect.selection.options import Options
    from crowdselect.terminal import stage_bar

    output, overwrite, as_json, config, crowd_path = (
        given.pop(name) for name in ("output", "overwrite", "as_json", "config", "crowd_path")
    )
    check_page(output)
    tried = {name: given.pop(name) for name in ("bootstraps", "seeds")}
    tried["clusters"] = _numbers(given.pop("try_clusters"))
    path, place = given.pop("pool_path"), {name: given.pop(name) for name in ("layout", "rewards", "limit")}
    if given["weights"] is None:
        del given["weights"]
    options = Options(cache=not given.pop("no_cache"), **given)
    with open_pool(path, seed=options.seed, **place) as pool:
        target = None
        if output is not None:
            own = (
                config,
                crowd_path,
                options.include,
                options.exclude,
                options.metrics,
                *options.decontaminate,
            )
            target = checked(output, pool, *own, overwrite=overwrite, folder=False)
        with stage_bar("choosing again") as progress:
            found = run(pool, options, crowd=read_crowd(crowd_path), progress=progress, **tried)
    show_or_write(
        target,
        page=partial(robustness_page, found),
        facts=found.as_dict,
        show=partial(_print_robustness, found),
        as_json=as_json,
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise OptionError(f"try-clusters {text!r} is not a list of whole numbers, as in 0,10,30") from None


def _print_robustness(found: "Robustness") -> None:
    from crowdselect.compare.robustness import AXES
    from crowdselect.terminal import say, table, warn

    rows = [
        [AXES[row["axis"]], row["variants"], f"{row['kept']:.0%}", f"{row['lowest']:.0%}", row["lowest_name"]]
        for row in found.summary()
    ]
    table(
        ["what was changed", ">variants", ">kept, mean", ">kept, lowest", "where"],
        rows,
        title=f"How much of the selection of {len(found.chosen)} stays; the choice that matters most first",
    )
    say(f"a random choice would keep {found.chance:.1%}; {found.eligible} instructions could be chosen")
    for variant in found.variants:
        if variant.kept is None:
            warn(f"{AXES[variant.axis]} ({variant.name}): {variant.why}")
