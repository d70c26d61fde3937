"""The command `crowdselect robustness`: how much of a selection stays when one choice is another."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.choosing import checked, read_crowd
from crowdselect.cli.options import json_option, overwrite_option, pool_options, rule_options, weights_option
from crowdselect.errors import OptionError
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from crowdselect.compare.robustness import Robustness


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
    from crowdselect.compare.robustness_page import robustness_page
    from crowdselect.pool.pool import open_pool
    from crowdselect.selection.options import Options
    from crowdselect.terminal import say, stage_bar, visible
    from crowdselect.writing import new_file

    output, overwrite, as_json, config, crowd_path = (
        given.pop(name) for name in ("output", "overwrite", "as_json", "config", "crowd_path")
    )
    if output is not None and Path(output).suffix not in {".html", ".htm"}:
        raise OptionError(f"{output}: the page is HTML; name a file that ends in .html")
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
    if target is not None:
        with new_file(target) as partial:
            partial.write_text(robustness_page(found), encoding="utf-8")
    if as_json:
        print_json(found.as_dict())
        return
    _print(found)
    if target is not None:
        say(f"written to {visible(target)}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise OptionError(f"try-clusters {text!r} is not a list of whole numbers, as in 0,10,30") from None


def _print(found: "Robustness") -> None:
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
