"""The commands `crowdselect compare` and `robustness`: selections side by side, and how much of one stays."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.entry import check_page, show_or_write
from crowdselect.cli.flags import Command
from crowdselect.cli.options import (
    answer_options,
    budget_option,
    cache_option,
    config_option,
    count_options,
    json_option,
    made,
    option,
    overwrite_option,
    pool_options,
    pool_place_option,
    seed_option,
    spread_options,
    weights_option,
)
from crowdselect.errors import OptionError

if TYPE_CHECKING:
    from crowdselect.compare.robustness import Robustness
    from crowdselect.compare.selections import SelectionComparison


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparing:
    """All that `crowdselect compare` is told; see `crowdselect.compare.selections.compare`."""

    folders: tuple[str, ...]
    names: tuple[str, ...]
    pool: str | None
    unit: str
    embedder: str
    clusters: int
    near: float
    mixes: tuple[str, ...]
    draws: int
    crowd: str | None
    seed: int
    cache: bool
    output: str | None
    overwrite: bool
    as_json: bool


@click.command(cls=Command, epilog="Example:  crowdselect compare chosen random reward -o compare.html")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True)
@option("-o", "--output", metavar="FILE.html", help="A page to write.")
@option("--name", "names", metavar="NAME", multiple=True, help="What a DIR is called; one for each DIR.")
@pool_place_option
@option(
    "--unit",
    metavar="UNIT",
    default="characters",
    show_default=True,
    help="Of lengths: characters, or a tokenizer.",
)
@option(
    "--embedder",
    metavar="NAME",
    default="lsa",
    show_default=True,
    help="Of distances and clusters, for all of them.",
)
@option(
    "--clusters",
    type=int,
    metavar="K",
    default=10,
    show_default=True,
    help="Clusters of all rows that coverage is counted in.",
)
@option(
    "--near",
    type=float,
    metavar="COSINE",
    default=0.9,
    show_default=True,
    help="Near-duplicates are above this.",
)
@option(
    "--mix",
    "mixes",
    metavar="COLUMN",
    multiple=True,
    help="Also show the mix of this column; may be given several times.",
)
@option(
    "--draws",
    type=int,
    metavar="N",
    default=20,
    show_default=True,
    help="Random choices to draw where no two DIRs are random.",
)
@option(
    "--crowd",
    metavar="FILE",
    help="Family and size of the models (TOML or JSON), for all of them; else the crowd they were made with.",
)
@seed_option
@overwrite_option
@json_option
@cache_option
def compare(**given: Any) -> None:  # noqa: ANN401  (the fields of `_Comparing`)
    """Compare selections with each other and with random ones."""
    from crowdselect.cli.choosing import read_crowd
    from crowdselect.compare.selections import compare as run
    from crowdselect.compare.selections import comparison_page
    from crowdselect.terminal import stage_bar
    from crowdselect.writing import check_output

    asked = made(_Comparing, given)
    check_page(asked.output)
    target = None
    if asked.output is not None:
        inputs = [Path(place) for place in (*asked.folders, *([asked.crowd] if asked.crowd else []))]
        target = check_output(asked.output, inputs=inputs, overwrite=asked.overwrite, folder=False)
    with stage_bar("comparing") as progress:
        found = run(
            asked.folders,
            names=asked.names,
            pool=asked.pool,
            crowd=read_crowd(asked.crowd),
            unit=asked.unit,
            embedder=asked.embedder,
            clusters=asked.clusters,
            near=asked.near,
            mixes=asked.mixes,
            draws=asked.draws,
            seed=asked.seed,
            cache=asked.cache,
            progress=progress,
        )
    show_or_write(
        target,
        page=partial(comparison_page, found),
        facts=found.as_dict,
        show=partial(_print_comparison, found),
        as_json=asked.as_json,
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


@click.command(
    cls=Command, epilog="Example:  crowdselect robustness pool.parquet --budget 1000 -o robustness.html"
)
@option("-o", "--output", metavar="FILE.html", help="A page to write.")
@budget_option
@weights_option
@option(
    "--bootstraps",
    type=int,
    metavar="N",
    default=20,
    show_default=True,
    help="Crowds to draw with replacement.",
)
@option("--seeds", type=int, metavar="N", default=5, show_default=True, help="Other seeds to try.")
@option(
    "--try-clusters",
    metavar="K,...",
    default="0,5,10,20,30",
    show_default=True,
    help="Numbers of clusters to try; 0 = none.",
)
@seed_option
@config_option
@pool_options
@count_options
@spread_options()
@answer_options
@overwrite_option
@json_option
@cache_option
def robustness(**given: Any) -> None:  # noqa: ANN401  (the fields of `Trying`)
    """Measure how stable a selection is."""
    from crowdselect.cli.choosing import Trying, checked, counted, read_crowd
    from crowdselect.compare.robustness import robustness as run
    from crowdselect.compare.robustness import robustness_page
    from crowdselect.terminal import stage_bar

    asked = made(Trying, counted(given))
    options = asked.options
    check_page(asked.output)
    tried = _numbers(asked.try_clusters)
    with asked.source.opened(seed=options.seed) as pool:
        target = None
        if asked.output is not None:
            own = (asked.config, asked.crowd, options.include, options.exclude, options.metrics)
            target = checked(
                asked.output, pool, *own, *options.decontaminate, overwrite=asked.overwrite, folder=False
            )
        with stage_bar("choosing again") as progress:
            found = run(
                pool,
                options,
                crowd=read_crowd(asked.crowd),
                progress=progress,
                bootstraps=asked.bootstraps,
                seeds=asked.seeds,
                clusters=tried,
            )
    show_or_write(
        target,
        page=partial(robustness_page, found),
        facts=found.as_dict,
        show=partial(_print_robustness, found),
        as_json=asked.as_json,
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise OptionError(f"`try_clusters={text!r}` is not a list of whole numbers, as in 0,10,30") from None


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
