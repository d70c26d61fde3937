"""The command line: one command per step, bodies of a few lines, heavy imports inside."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect import __version__
from crowdselect.config import Weights, read_config
from crowdselect.entry import run_command
from crowdselect.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crowdselect.crowd import Crowd
    from crowdselect.options import Options
    from crowdselect.pool import Pool

_DEMO_FOLDER = "crowdselect-demo"
_DEMO_BUDGET = 100


def main() -> None:
    """Run the command line; errors become one line on standard error and exit code 2."""
    run_command(cli)


def _options(*decorators: "Callable[[Any], Any]") -> "Callable[[Any], Any]":
    """Bundle options that several commands share."""

    def apply(command: Any) -> Any:  # noqa: ANN401  (a function or a click command)
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


_pool_options = _options(
    click.argument("pool_path", metavar="POOL"),
    click.option(
        "--layout",
        metavar="NAME",
        help="long, zoo, ultrafeedback, distilabel or matrix; else recognised from the columns.",
    ),
    click.option("--rewards", metavar="FILE", help="Rewards from a second file: id, model, reward columns."),
    click.option("--limit", type=int, metavar="N", help="Only the first N instructions, in a seeded order."),
)
_crowd_option = click.option(
    "--crowd",
    "crowd_path",
    metavar="FILE",
    help="Family and size of the models (TOML or JSON); else read off the names.",
)
_reward_option = click.option(
    "--reward", metavar="COLUMN", help="The reward column; needed where there are several."
)
_ties_option = click.option(
    "--ties",
    metavar="average|paper",
    default="average",
    show_default=True,
    help="How equal rewards count in stability; paper: in favour of the larger model.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
_overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a former result, once the new one is complete."
)
_seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Decides ties, draws and samples."
)


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with:  crowdselect demo",
)
@click.version_option(__version__, prog_name="crowdselect", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Choose fine-tuning data with a crowd of models.

    Many models have answered every instruction and a reward model has scored every answer. crowdselect
    chooses the instructions to train on by what the crowd's scores say, and gives a reason for every row.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command(epilog="Example:  crowdselect demo")
@click.option(
    "-o", "--output", default=_DEMO_FOLDER, show_default=True, help="The folder to write; replaced each time."
)
@_json_option
def demo(output: str, as_json: bool) -> None:
    """Choose 100 rows of a simulated pool."""
    from crowdselect.cache import folder
    from crowdselect.options import Options
    from crowdselect.pool import open_pool
    from crowdselect.simulate import simulate

    place = folder() / "demo"
    place.mkdir(parents=True, exist_ok=True)
    simulate(place / "pool.parquet", overwrite=True)
    with open_pool(place / "pool.parquet") as pool:
        _choose(pool, Options(budget=_DEMO_BUDGET), output=output, overwrite=True, as_json=as_json)


@cli.command(epilog="Example:  crowdselect inspect pool.parquet")
@_pool_options
@_reward_option
@_crowd_option
@_json_option
def inspect(
    pool_path: str,
    layout: str | None,
    rewards: str | None,
    limit: int | None,
    reward: str | None,
    crowd_path: str | None,
    as_json: bool,
) -> None:
    """Say what is in a pool: models, rewards, gaps."""
    from crowdselect.inspection import inspect_pool
    from crowdselect.pool import open_pool
    from crowdselect.show import stage_bar
    from crowdselect.summary import print_inspection

    with (
        open_pool(pool_path, layout=layout, rewards=rewards, limit=limit) as pool,
        stage_bar("reading the pool"),
    ):
        found = inspect_pool(pool, crowd=_crowd(crowd_path), reward=reward)
    _print_json(found) if as_json else print_inspection(found)


@cli.command(epilog="Example:  crowdselect crowd pool.parquet --toml > crowd.toml")
@_pool_options
@_crowd_option
@click.option("--toml", "as_toml", is_flag=True, help="Print a crowd file, to edit and to give to --crowd.")
@_json_option
def crowd(
    pool_path: str,
    layout: str | None,
    rewards: str | None,
    limit: int | None,
    crowd_path: str | None,
    as_toml: bool,
    as_json: bool,
) -> None:
    """Show the models with family and size."""
    from crowdselect.crowd import Crowd
    from crowdselect.pool import open_pool
    from crowdselect.show import say, warn
    from crowdselect.summary import crowd_line, print_crowd

    if as_toml and as_json:
        raise OptionError("--toml and --json are two forms of the same; give one of them")
    with open_pool(pool_path, layout=layout, rewards=rewards, limit=limit) as pool:
        found, notes = (_crowd(crowd_path) or Crowd.from_names(pool.models)).aligned(pool.models)
    members = [
        {"name": m.name, "family": m.family, "size_b": m.size_b, "source": m.source} for m in found.members
    ]
    if as_toml:
        sys.stdout.write(found.to_toml())
    elif as_json:
        _print_json(members)
    else:
        print_crowd(members)
        say(crowd_line(members))
    for note in notes:
        warn(note)


@cli.command(epilog="Example:  crowdselect metrics pool.parquet -o metrics.parquet")
@_pool_options
@_reward_option
@_crowd_option
@_ties_option
@_overwrite_option
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="A .parquet, .csv or .jsonl file to write."
)
def metrics(
    pool_path: str,
    layout: str | None,
    rewards: str | None,
    limit: int | None,
    reward: str | None,
    crowd_path: str | None,
    ties: str,
    overwrite: bool,
    output: str,
) -> None:
    """Write the metrics of every instruction to a file."""
    from crowdselect.measure import measure
    from crowdselect.pool import open_pool
    from crowdselect.show import say, stage_bar, visible, warn
    from crowdselect.tables import check_ending, metrics_table, write_table

    check_ending(output)
    with open_pool(pool_path, layout=layout, rewards=rewards, limit=limit) as pool:
        target = _checked(output, pool, crowd_path, overwrite=overwrite, folder=False)
        crowd = _crowd(crowd_path)
        with stage_bar("rewards and metrics"):
            measured = measure(pool, reward=reward, crowd=crowd, ties=ties)  # type: ignore[arg-type]  # checked there
            write_table(metrics_table(pool, measured), target)
    for note in (*pool.notes, *measured.notes):
        warn(note)
    say(f"written to {visible(target)}: {len(pool.ids)} instructions, {len(pool.models)} models")


@cli.command(epilog="Example:  crowdselect select pool.parquet --budget 1000 -o chosen")
@_pool_options
@click.option(
    "--config",
    metavar="FILE.toml",
    is_eager=True,
    callback=read_config,
    help="Options from a TOML file; flags win.",
)
@click.option("--budget", type=int, required=True, metavar="N", help="How many instructions to choose.")
@_reward_option
@_crowd_option
@click.option(
    "--weights",
    type=Weights(),
    help="What counts how much; a negative number turns a metric round.  [default: difficulty=1,separability=1,"
    "stability=2]",
)
@_ties_option
@click.option(
    "--clusters", type=int, default=10, show_default=True, metavar="K", help="Number of clusters; 0 = none."
)
@click.option("--cluster-by", metavar="COLUMN", help="Use a column of the pool as clusters.")
@click.option(
    "--embedder",
    metavar="NAME",
    default="lsa",
    show_default=True,
    help="lsa, minilm, file:VECTORS, column:NAME or a sentence-transformers model.",
)
@click.option(
    "--trust-remote-code", is_flag=True, help="Let the embedder's own code run; only if you have read it."
)
@click.option(
    "--answer",
    metavar="HOW",
    default="best",
    show_default=True,
    help="best, random, topN-random or model:NAME.",
)
@click.option("--pairs", metavar="best-worst", help="Make preference pairs of the best and the worst answer.")
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="messages (default), prompt-completion, sharegpt, alpaca, dpo.",
)
@click.option(
    "--file-type", metavar="jsonl|parquet", default="jsonl", show_default=True, help="Of the training file."
)
@click.option("--for", "trainer", metavar="trl|llamafactory", help="Also write what that trainer needs.")
@click.option(
    "--license", "license_name", metavar="NAME", help="The data's licence, for the card.  [default: unknown]"
)
@_seed_option
@click.option(
    "--min-rewards", type=int, default=2, show_default=True, help="Fewest rewards an instruction needs."
)
@click.option("--min-best-reward", type=float, help="Floor: the best answer's reward must be at least this.")
@click.option("--min-best-quantile", type=float, help="Floor as a share of the pool, 0 to 1.")
@click.option(
    "--near-duplicates", type=float, metavar="COSINE", help="Pass over rows closer than this to a chosen one."
)
@click.option(
    "--include",
    metavar="FILE",
    help="Choose only among these ids: one per line, or a table with a column id.",
)
@click.option("--exclude", metavar="FILE", help="Never choose these ids; a file likewise.")
@click.option(
    "--decontaminate",
    metavar="FILE",
    multiple=True,
    help="Never choose what shares text with these benchmark questions; may be given several times.",
)
@click.option("--no-cache", is_flag=True, help="Neither read nor keep vectors.")
@click.option("--dry-run", is_flag=True, help="Choose and say what came out, but write nothing.")
@_overwrite_option
@_json_option
@click.option("-o", "--output", metavar="DIR", help="The folder to write.")
def select(
    pool_path: str,
    layout: str | None,
    rewards: str | None,
    limit: int | None,
    config: str | None,
    crowd_path: str | None,
    format_name: str | None,
    file_type: str,
    trainer: str | None,
    license_name: str | None,
    no_cache: bool,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
    output: str | None,
    weights: dict[str, float] | None,
    seed: int,
    **chosen: Any,  # noqa: ANN401  (the fields of `Options`, by their names)
) -> None:
    """Choose what to train on, with a reason for every row."""
    from crowdselect.options import Options
    from crowdselect.pool import open_pool

    if output is None and not dry_run:
        raise OptionError("say where to write with -o DIR, or add --dry-run")
    if weights is not None:
        chosen["weights"] = weights
    options = Options(seed=seed, cache=not no_cache, **chosen)
    with open_pool(pool_path, layout=layout, rewards=rewards, limit=limit, seed=seed) as pool:
        _choose(
            pool,
            options,
            output=output,
            dry_run=dry_run,
            overwrite=overwrite,
            as_json=as_json,
            config=config,
            crowd_path=crowd_path,
            format_name=format_name,
            file_type=file_type,
            trainer=trainer,
            license_name=license_name,
        )


@cli.command(epilog="Example:  crowdselect why chosen 00017")
@click.argument("folder", metavar="DIR")
@click.argument("instruction_id", metavar="ID")
@click.option(
    "--pool", "pool_path", metavar="POOL", help="Where the pool is now; the manifest says where it was."
)
@_json_option
def why(folder: str, instruction_id: str, pool_path: str | None, as_json: bool) -> None:
    """Tell why one row is in or out."""
    from crowdselect.exporter import load_selection
    from crowdselect.reopen import texts_of
    from crowdselect.show import stage_bar, warn
    from crowdselect.summary import print_story

    selection = load_selection(folder)
    story = selection.explain(instruction_id)
    with stage_bar("reading the pool"):
        texts = texts_of(selection, story, pool=pool_path)
    if as_json:
        _print_json({**story, "instruction": texts.instruction, "answer": texts.answer})
    else:
        print_story(story, instruction=texts.instruction, answer=texts.answer)
    if texts.problem is not None:
        warn(texts.problem)


@cli.command(epilog="Example:  crowdselect simulate -o pool.parquet --instructions 5000")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="A .parquet, .jsonl or .csv file; a folder with --shards.",
)
@click.option(
    "--instructions", type=int, default=2000, show_default=True, metavar="N", help="Number of instructions."
)
@click.option(
    "--crowd",
    "crowd_name",
    default="demo",
    show_default=True,
    help="demo (4 families of 3 sizes) or paper (19 models in 6 families).",
)
@click.option("--layout", default="long", show_default=True, help="long, zoo or matrix.")
@click.option("--answer-chars", type=int, default=400, show_default=True, help="Mean length of an answer.")
@click.option("--samples", type=int, default=1, show_default=True, help="Answers per model and instruction.")
@click.option("--shards", type=int, default=1, show_default=True, help="Number of files.")
@_seed_option
@_overwrite_option
def simulate(
    output: str,
    instructions: int,
    crowd_name: str,
    layout: str,
    answer_chars: int,
    samples: int,
    shards: int,
    seed: int,
    overwrite: bool,
) -> None:
    """Write a pool of a simulated crowd whose truth is known."""
    from crowdselect.show import say, visible
    from crowdselect.simulate import simulate as write

    made = write(
        output,
        instructions=instructions,
        crowd=crowd_name,
        layout=layout,
        answer_chars=answer_chars,
        samples=samples,
        shards=shards,
        seed=seed,
        overwrite=overwrite,
    )
    say(
        f"written to {visible(output)}: a simulated pool of {instructions} instructions x {len(made.crowd.names)} models"
    )


def _choose(
    pool: "Pool",
    options: "Options",
    *,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    dry_run: bool = False,
    config: str | None = None,
    crowd_path: str | None = None,
    format_name: str | None = None,
    file_type: str = "jsonl",
    trainer: str | None = None,
    license_name: str | None = None,
) -> None:
    """Check where to write, choose, write, say what was done."""
    from crowdselect.exporter import check_export, export
    from crowdselect.run import select as run_select
    from crowdselect.show import stage_bar
    from crowdselect.stages import Stages
    from crowdselect.summary import print_selection

    check_export(format_name, file_type=file_type, pairs=options.pairs, trainer=trainer)
    if output is not None:
        own = (
            config,
            crowd_path,
            options.include,
            options.exclude,
            *options.decontaminate,
            options.embedder.removeprefix("file:"),
        )
        _checked(output, pool, *own, overwrite=overwrite, folder=True)
    stages = Stages(show=stage_bar)
    selection = run_select(pool, options, crowd=_crowd(crowd_path), stages=stages)
    written = None
    if output is not None and not dry_run:
        with stages("writing"):
            written = export(
                selection,
                pool,
                output,
                format=format_name,
                file_type=file_type,
                trainer=trainer,
                license=license_name,
                overwrite=overwrite,
            )
    if as_json:
        _print_json(
            {
                "written": None if written is None else str(written),
                "options": selection.options,
                "facts": selection.facts,
                "counts": selection.counts(),
                "warnings": selection.warnings,
                "seconds": selection.seconds,
                "chosen": selection.rows(),
            }
        )
    else:
        print_selection(selection, pool, folder=None if written is None else Path(str(output)))


def _checked(output: str, pool: "Pool", *inputs: str | None, overwrite: bool, folder: bool) -> Path:
    """Refuse a place to write to that is, contains or would join an input; gives the absolute path."""
    from crowdselect.outputs import check_beside, check_output

    files = [*pool.files, *(Path(file) for file in inputs if file and Path(file).exists())]
    check_beside(output, pool=pool.path, files=pool.files, folder=folder)
    return check_output(output, inputs=files, overwrite=overwrite, folder=folder)


def _crowd(path: str | None) -> "Crowd | None":
    from crowdselect.crowd import Crowd

    return None if path is None else Crowd.from_file(path)


def _print_json(value: Any) -> None:  # noqa: ANN401  (plain values)
    # ASCII keeps control and direction characters as escapes, all but the last of ASCII itself.
    text = json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
