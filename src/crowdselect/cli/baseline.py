"""The command `crowdselect baseline`: a method of another paper, with everything else as in `select`."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.choosing import choose_from
from crowdselect.cli.options import bundle, choice_options, engine_options, pool_options, taken
from crowdselect.errors import OptionError
from crowdselect.methods import METHODS
from crowdselect.terminal import visible
from crowdselect.writing import made_folder

if TYPE_CHECKING:
    from crowdselect.reward.judging import Judging
    from crowdselect.selection.methods import Method

_direction = click.option(
    "--direction",
    metavar="up|down",
    default="up",
    show_default=True,
    help="up: the highest first; down: the lowest.",
)


@click.group(
    invoke_without_command=True,
    epilog="Example:  crowdselect baseline random pool.parquet --budget 1000 --seeds 5 -o random",
)
@click.pass_context
def baseline(context: click.Context) -> None:
    """Choose by another method, to compare with."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_judge_options = bundle(
    click.option(
        "--judge",
        metavar="FILE.toml#NAME",
        help="Instead of --column, ask this [[judge]] of a crowd file (extra: collect).",
    ),
    click.option(
        "--ledger",
        metavar="FILE",
        help="Where the judge's answers are kept; none is asked for twice.  [default: DIR.ledger]",
    ),
    click.option(
        "--max-cost", type=float, metavar="MONEY", help="The judge's: stop before it, over all runs."
    ),
    click.option(
        "--max-requests", type=int, metavar="N", help="To the judge: stop after so many, over all runs."
    ),
    click.option("--retry-failed", is_flag=True, help="Ask the judge again what has failed before."),
    click.option("--plan", is_flag=True, help="Say what the judge would be asked, and end."),
)


def _door(
    name: str, *options: Callable[[Any], Any]
) -> Callable[[Callable[[dict[str, Any]], None]], click.Command]:
    """Make a subcommand of a method: the options of `select`, and those of the method.

    Args:
        name: A key of `METHODS`, or of `_KEYS`.
        options: What it has besides.
    """

    def apply(choose: Callable[[dict[str, Any]], None]) -> click.Command:
        def run(**given: Any) -> None:  # noqa: ANN401  (click's values)
            choose(given)

        example = f"Example:  crowdselect baseline {name} pool.parquet --budget 1000 -o {name}"
        made = bundle(pool_options, *options, choice_options(clusters=0))(run)
        return baseline.command(
            name, help=METHODS[_KEYS.get(name, name)].help, epilog=example + _MORE.get(name, "")
        )(made)

    return apply


def _made(name: str, given: dict[str, Any], *arguments: str) -> "Method":
    """Make a method of the values of its own options, which are taken out of a command's."""
    return METHODS[name](**{argument: given.pop(argument) for argument in arguments})


def _judging(given: dict[str, Any]) -> "Judging | None":
    """Take the values of `_judge_options` out of a command's; None where no judge is to be asked."""
    from crowdselect.reward.judging import Judging

    names = ("judge", "ledger", "max_cost", "max_requests", "retry_failed", "plan")
    spec, ledger, max_cost, max_requests, retry_failed, plan = (given.pop(name) for name in names)
    if spec is None:
        if ledger or max_cost is not None or max_requests is not None or retry_failed or plan:
            raise OptionError(
                "the options of a judge are given, and none is named; add --judge FILE.toml#NAME"
            )
        return None
    if ledger is None and given["output"] is None:
        raise OptionError("say where the judge's answers are kept: -o DIR or --ledger FILE")

    def tell(line: str) -> None:
        sys.stderr.write(visible(line) + "\n")
        if plan:
            raise click.exceptions.Exit(0)

    return Judging(
        spec=spec,
        ledger=Path(ledger or f"{given['output'].rstrip('/')}.ledger"),
        max_cost=max_cost,
        max_requests=max_requests,
        retry_failed=retry_failed,
        tell=tell,
    )


_KEYS = {"direct-score": "column"}

_MORE = {
    "tags": " --column tags",
    "direct-score": " --column score_gpt4o",
    "ifd": " --model Qwen/Qwen2.5-0.5B",
    "deita": " --complexity evolved --quality score",
}


@_door(
    "random",
    click.option(
        "--seeds",
        type=int,
        metavar="N",
        help="Make DIR/seed-S for N seeds S, from --seed on; the first is shown.",
    ),
)
def _random(given: dict[str, Any]) -> None:
    seeds, method = given.pop("seeds"), _made("random", given)
    if seeds is None:
        choose_from(given, method=method)
        return
    if seeds < 1:
        raise OptionError(f"seeds={seeds} is not positive; wanted at least 1")
    if given["as_json"] or given["output"] is None:
        raise OptionError("--seeds writes folders DIR/seed-S: give -o DIR, and leave out --json")
    with nullcontext() if given["dry_run"] else made_folder(Path(given["output"])):
        for seed in range(given["seed"], given["seed"] + seeds):
            output = str(Path(given["output"]) / f"seed-{seed}")
            choose_from({**given, "seed": seed, "output": output}, method=method, brief=seed > given["seed"])


@_door(
    "length",
    click.option(
        "--of",
        metavar="instruction|answer",
        default="instruction",
        show_default=True,
        help="What is measured.",
    ),
    click.option(
        "--unit",
        metavar="UNIT",
        default="characters",
        show_default=True,
        help="characters, or a tokenizer: a tokenizer.json, a folder with one, a name on the Hub.",
    ),
    _direction,
)
def _length(given: dict[str, Any]) -> None:
    choose_from(given, method=_made("length", given, "of", "unit", "direction"))


@_door("reward", _direction)
def _reward(given: dict[str, Any]) -> None:
    choose_from(given, method=_made("reward", given, "direction"))


@_door(
    "tags",
    click.option("--column", metavar="COLUMN", help="Tags: a list, or text separated by commas."),
    _judge_options,
)
def _tags(given: dict[str, Any]) -> None:
    column, judging = given.pop("column"), _judging(given)
    told: dict[str, Any] = {}
    if judging is not None:
        from crowdselect.reward.tags import JudgeTagger

        told = {"tagger": JudgeTagger(judging), "judge": judging.spec}
    choose_from(given, method=METHODS["tags"](column=column, **told))


@_door(
    "direct-score",
    click.option(
        "--column", metavar="COLUMN", help="A judge's marks: a reward column, or one number per row."
    ),
    _judge_options,
)
def _direct_score(given: dict[str, Any]) -> None:
    column, judging = given.pop("column"), _judging(given)
    told: dict[str, Any] = {}
    if judging is not None:
        from crowdselect.reward.marks import JudgeMarker

        told = {"marker": JudgeMarker(judging), "judge": judging.spec}
    choose_from(given, method=METHODS["column"](column=column, **told))


@_door(
    "ifd",
    click.option(
        "--model",
        required=True,
        metavar="NAME",
        help="A causal language model: a folder, or a name on the Hub.",
    ),
    click.option(
        "--max-length",
        type=int,
        default=2048,
        show_default=True,
        help="The most tokens of instruction and answer.",
    ),
    click.option(
        "--batch-tokens", type=int, default=4096, show_default=True, help="The most tokens of a batch."
    ),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, ..."),
    engine_options,
)
def _ifd(given: dict[str, Any]) -> None:
    from crowdselect.engine.stream import on_cluster

    told = {option: given.pop(option) for option in ("model", "max_length", "batch_tokens", "device")}
    engine = taken(given)
    if engine.on_ray:
        if given["output"] is not None:  # where all machines find it
            told["parts"] = f"{given['output'].rstrip('/')}.parts"
        if told["device"] == "auto":
            told["device"] = "cuda" if engine.gpus_per_worker else "cpu"
    with on_cluster(engine) as run:
        choose_from(given, method=METHODS["ifd"](**told), run=run)


@_door(
    "deita",
    click.option(
        "--complexity", required=True, metavar="COLUMN", help="A reward column, or one number per row."
    ),
    click.option("--quality", required=True, metavar="COLUMN", help="Another."),
)
def _deita(given: dict[str, Any]) -> None:
    method = _made("deita", given, "complexity", "quality")
    for name, value in METHODS["deita"].options.items():
        given[name] = value if given[name] is None else given[name]
    choose_from(given, method=method)


@_door(
    "facility-location",
    click.option(
        "--neighbours",
        type=int,
        default=50,
        show_default=True,
        help="How many nearest rows each is linked to.",
    ),
    click.option(
        "--weight-by",
        metavar="NAME",
        help="What counts more: crowdselect, reward or a column.  [default: nothing]",
    ),
)
def _facility_location(given: dict[str, Any]) -> None:
    choose_from(given, method=_made("facility-location", given, "neighbours", "weight_by"))
