"""The commands `crowdselect compare` and `robustness`: selections side by side, and how much of one stays."""

from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.entry import check_page, say_current, show_or_write
from crowdselect.cli.flags import Command
from crowdselect.cli.methods import method_option
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
    from crowdselect.cli.following import training
    from crowdselect.compare.selections import compare as run
    from crowdselect.compare.selections import comparison_page
    from crowdselect.repeats import is_current_file
    from crowdselect.terminal import stage_bar
    from crowdselect.writing import check_output

    asked = made(_Comparing, given)
    check_page(asked.output)
    target, made_so = None, None
    if asked.output is not None:
        made_so = _compared_by(asked)
        if is_current_file(Path(asked.output), made_so, overwrite=asked.overwrite):
            if not asked.as_json:
                say_current(asked.output)
                return
        else:
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
        page=partial(comparison_page, found, made=made_so),
        facts=found.as_dict,
        show=partial(_print_comparison, found),
        following=training(asked.folders[0]),
        as_json=asked.as_json,
    )


def _compared_by(asked: _Comparing) -> dict[str, Any]:
    """Describe what a comparison is made by."""
    from crowdselect.repeats import made_by

    told = asdict(asked) | {"names": asked.names or asked.folders}
    for name in ("folders", "pool", "crowd", "cache", "output", "overwrite", "as_json"):
        del told[name]
    folders = [Path(folder) for folder in asked.folders]
    return made_by(
        "compare",
        told,
        {"folders": folders, "pool": _pool_files(folders[0], asked.pool), "crowd": asked.crowd},
    )


def _pool_files(folder: Path, pool: str | None) -> list[Path] | None:
    """Find the files of the pool that a selection, or the draws in a folder, were made from; None = not here."""
    from crowdselect.manifests import read_manifest
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import reopen_pool

    draws = [] if read_manifest(folder) is not None else sorted(folder.glob("seed-*"))
    opened, _ = reopen_pool(load_selection(draws[0] if draws else folder), pool)
    if opened is None:
        return None
    with opened:
        return list(opened.files)


def _print_comparison(found: "SelectionComparison") -> None:
    from crowdselect.cli.summary import spread
    from crowdselect.compare.facts import figure_words
    from crowdselect.compare.selections import short_names
    from crowdselect.report.page import number
    from crowdselect.terminal import say, table, warn

    marks = {1: " ▲", -1: " ▼", 0: ""}
    rows, short = [], short_names(found.names)
    for name, words in figure_words(found.numbers).items():
        chance = found.chance.get(name)
        if chance is None and all(side.figures[name] is None for side in found.sides):
            continue
        cells = []
        for side in found.sides:
            value = side.figures[name]
            beyond = 0 if chance is None or value is None else chance.beyond(value)
            cells.append(number(value) + marks[beyond])
        rows.append(
            [
                words.replace(", mean", ""),
                None if chance is None else f"{number(chance.mean)} ± {spread(chance.spread)}",
                *cells,
            ]
        )
    table(
        ["figure", ">random", *(f">{short[side.name]}" for side in found.sides)],
        rows,
        title="Figures, means of rows (▲ above, ▼ below the range of 95% of random ones)",
    )
    names = [short[name] for name in found.names]
    table(
        ["rows shared", *(f">{name}" for name in names)],
        [[name, *map(number, found.overlap[i].tolist())] for i, name in enumerate(names)],
    )
    for side in found.sides:
        if side.keep:
            say(f"{short[side.name]}: only rows with {', '.join(side.keep)}")
        if side.quota is not None:
            say(f"{short[side.name]}: quota {side.quota}")
    say(f"random: {found.random}")
    for problem in found.problems:
        warn(problem)


@click.command(
    cls=Command, epilog="Example:  crowdselect robustness pool.parquet --budget 1000 -o robustness.html"
)
@option("-o", "--output", metavar="FILE.html", help="A page to write.")
@budget_option
@method_option("How rows are scored, as for select; not by texts.")
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
@option(
    "--crowd-sizes",
    is_flag=True,
    help="Also try fewer models: how large a crowd has to be; the cheapest too, where the crowd file has prices.",
)
@seed_option
@config_option
@pool_options
@count_options
@spread_options(default="10 with the method crowd, else 0")
@answer_options
@overwrite_option
@json_option
@cache_option
def robustness(**given: Any) -> None:  # noqa: ANN401  (the fields of `Trying`)
    """Measure how stable a selection is."""
    from crowdselect.cli.choosing import (
        Trying,
        checked,
        counted,
        inputs_of,
        options_of,
        read_crowd,
        with_method,
    )
    from crowdselect.cli.following import after_robustness
    from crowdselect.compare.robustness import robustness as run
    from crowdselect.compare.robustness import robustness_page
    from crowdselect.methods import method_named
    from crowdselect.repeats import is_current_file, made_by
    from crowdselect.terminal import stage_bar

    asked = made(Trying, counted(with_method(given)))
    options, method = asked.options, method_named(asked.method)
    check_page(asked.output)
    tried = _numbers(asked.try_clusters)
    with asked.source.opened(seed=options.seed) as pool:
        target, made_so = None, None
        if asked.output is not None:
            told = {"bootstraps": asked.bootstraps, "seeds": asked.seeds, "try_clusters": tried}
            told |= {"crowd_sizes": True} if asked.crowd_sizes else {}
            told |= options_of(pool, options) | method.settings
            made_so = made_by("robustness", told, inputs_of(pool, options, crowd=asked.crowd))
            if not is_current_file(Path(asked.output), made_so, overwrite=asked.overwrite):
                lists = (options.include, options.exclude, options.metrics, options.student_answers)
                own = (asked.config, asked.crowd, *lists)
                target = checked(
                    asked.output, pool, *own, *options.decontaminate, overwrite=asked.overwrite, folder=False
                )
            elif not asked.as_json:
                say_current(asked.output)
                return
        with stage_bar("choosing again") as progress:
            found = run(
                pool,
                options,
                crowd=read_crowd(asked.crowd),
                method=method,
                progress=progress,
                bootstraps=asked.bootstraps,
                seeds=asked.seeds,
                clusters=tried,
                crowd_sizes=asked.crowd_sizes,
            )
    show_or_write(
        target,
        page=partial(robustness_page, found, made=made_so),
        facts=found.as_dict,
        show=partial(_print_robustness, found),
        following=after_robustness(),
        as_json=asked.as_json,
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise OptionError(f"`try_clusters={text!r}` is not a list of whole numbers, as in 0,10,30") from None


def _print_robustness(found: "Robustness") -> None:
    from crowdselect.compare.variants import AXES, CHEAPEST, SIZE_AXES
    from crowdselect.terminal import counted, say, table, warn

    rows = [
        [AXES[row["axis"]], row["variants"], f"{row['kept']:.0%}", f"{row['lowest']:.0%}", row["lowest_name"]]
        for row in found.summary()
    ]
    table(
        ["changed", ">variants", ">kept (mean)", ">kept (lowest)", "lowest with"],
        rows,
        title=f"Share of the {counted(len(found.chosen), 'chosen row')} that is kept, what matters most first",
    )
    say(
        f"a random choice would keep {found.chance:.1%} ({counted(found.eligible, 'eligible instruction')})\n"
    )
    sizes = found.sizes()
    if sizes:
        table(
            [">models", *(f">{words.removeprefix('fewer models, ')}" for words in SIZE_AXES.values())],
            [[row["models"], *(_range(row[axis]) for axis in SIZE_AXES)] for row in sizes],
            title="Share of the chosen rows that is kept with fewer models, drawn at random: mean (lowest to highest of the "
            f"draws); all {found.facts['models']} models keep 100%",
        )
    cheapest = found.cheapest()
    if cheapest:
        table(
            [">models", ">kept", ">cost of all answers", "added"],
            [
                [
                    row["models"],
                    "-" if row["kept"] is None else f"{row['kept']:.0%}",
                    None if row["cost"] is None else f"{row['cost']:.4g}",
                    ", ".join(row["added"]),
                ]
                for row in cheapest
            ],
            title="Share of the chosen rows that is kept with the cheapest models, by the prices of the crowd file; cost in their "
            "currency",
        )
    for why in dict.fromkeys(variant.why for variant in found.variants if variant.kept is None):
        failed = [variant for variant in found.variants if variant.kept is None and variant.why == why]
        words = AXES | SIZE_AXES | {CHEAPEST: "the cheapest models"}
        counts = Counter(words[variant.axis].partition(":")[0] for variant in failed)
        where = ", ".join(f"{axis}: {count}" for axis, count in counts.items())
        warn(f"{len(failed)} of {len(found.variants)} variants cannot be made ({where}): {why}")


def _range(drawn: dict[str, Any]) -> str:
    """Show the mean of some draws and their range; a dash where none could be made."""
    if drawn["kept"] is None:
        return "-"
    return f"{drawn['kept']:.0%} ({drawn['lowest']:.0%} to {drawn['highest']:.0%})"
