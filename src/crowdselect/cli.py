"""The command line: one command per step, bodies of a few lines, heavy imports inside."""

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect import __version__
from crowdselect.errors import CrowdselectError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crowdselect.crowd import Crowd
    from crowdselect.options import Options
    from crowdselect.pool import Pool

_DEMO_FOLDER = "crowdselect-demo"
_DEMO_BUDGET = 100


def main() -> None:
    """Run the command line; errors become one line on standard error and exit code 2."""
    try:
        code = cli.main(standalone_mode=False)
    except CrowdselectError as error:
        _fail(str(error))
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        _fail(error.format_message() + hint)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the pipe has gone; nothing is left to say
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    from crowdselect.show import visible

    sys.stderr.write(f"error: {visible(message)}\n")
    sys.exit(2)


class _Weights(click.ParamType[dict[str, float]]):
    """`difficulty=1,separability=1,stability=2`, or a table in a configuration file."""

    name = "NAME=NUMBER,..."

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a table from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> dict[str, float]:
        pairs = (
            value.items() if isinstance(value, dict) else [part.split("=", 1) for part in value.split(",")]
        )
        weights: dict[str, float] = {}
        for pair in pairs:
            try:
                name, number = pair
                weight = float(number)
            except (TypeError, ValueError):
                self.fail(f"{value!r} is not of the form difficulty=1,separability=1,stability=2", param, ctx)
            if name.strip() in weights:
                self.fail(f"{name.strip()!r} is named twice in {value!r}", param, ctx)
            weights[name.strip()] = weight
        return weights


def _read_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Make a TOML file's values the defaults of this command; flags win."""
    if value is None:
        return
    try:
        settings = tomllib.loads(Path(value).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OptionError(f"{value}: no such file; wanted a TOML file of options") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, IsADirectoryError) as error:
        raise OptionError(f"{value}: not a TOML file of options: {error}") from error
    known = {param.name: param for param in ctx.command.params if isinstance(param, click.Option)}
    found = {name.replace("-", "_"): setting for name, setting in settings.items()}
    for alias, name in {"format": "format_name", "license": "license_name", "for": "trainer"}.items():
        if alias in found and name in known:
            found[name] = found.pop(alias)
    unknown = sorted(set(found) - set(known))
    if unknown:
        options = ", ".join(sorted(o.opts[-1].removeprefix("--") for o in known.values()))
        raise OptionError(f"{value}: unknown option {unknown[0]!r}; the options are: {options}")
    ctx.default_map = {**(ctx.default_map or {}), **found}


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
        "--layout", help="long, zoo, ultrafeedback, distilabel or matrix; found from the columns otherwise."
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
_reward_option = click.option("--reward", metavar="COLUMN", help="The reward column; the only one otherwise.")
_ties_option = click.option(
    "--ties",
    default="average",
    show_default=True,
    help="average, or paper: equal rewards favour the larger model.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace a former result.")
_seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Decides ties, draws and samples."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="crowdselect", message="%(prog)s %(version)s")
def cli() -> None:
    r"""Choose fine-tuning data with a crowd of models.

    Many models have answered every instruction and a reward model has scored every answer. crowdselect
    chooses the instructions to train on by what the crowd's scores say, and gives a reason for every row.

    \b
    Start with:  crowdselect demo
    """


@cli.command()
@click.option(
    "-o", "--output", default=_DEMO_FOLDER, show_default=True, help="The folder to write; replaced each time."
)
@_json_option
def demo(output: str, as_json: bool) -> None:
    r"""Choose 100 rows of a simulated pool and say what was done.

    \b
    Example:  crowdselect demo
    """
    from crowdselect.cache import folder
    from crowdselect.options import Options
    from crowdselect.pool import open_pool
    from crowdselect.simulate import simulate

    place = folder() / "demo"
    place.mkdir(parents=True, exist_ok=True)
    simulate(place / "pool.parquet", overwrite=True)
    with open_pool(place / "pool.parquet") as pool:
        _choose(pool, Options(budget=_DEMO_BUDGET), output=output, overwrite=True, as_json=as_json)


@cli.command()
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
    r"""Say what is in a pool: layout, models, rewards, gaps, duplicates.

    \b
    Example:  crowdselect inspect pool.parquet
    """
    from crowdselect.inspection import inspect_pool
    from crowdselect.pool import open_pool
    from crowdselect.summary import print_inspection

    with open_pool(pool_path, layout=layout, rewards=rewards, limit=limit) as pool:
        found = inspect_pool(pool, crowd=_crowd(crowd_path), reward=reward)
    _print_json(found) if as_json else print_inspection(found)


@cli.command()
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
    r"""Show the models of a pool with family and size, and how each is known.

    \b
    Example:  crowdselect crowd pool.parquet --toml > crowd.toml
    """
    from crowdselect.crowd import Crowd
    from crowdselect.pool import open_pool
    from crowdselect.show import say, warn
    from crowdselect.summary import crowd_line, print_crowd

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


@cli.command()
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
    r"""Write the metrics of every instruction to a file.

    \b
    Example:  crowdselect metrics pool.parquet -o metrics.parquet
    """
    from crowdselect.measure import measure
    from crowdselect.outputs import check_output
    from crowdselect.pool import open_pool
    from crowdselect.show import say, visible, warn
    from crowdselect.tables import metrics_table, write_table

    with open_pool(pool_path, layout=layout, rewards=rewards, limit=limit) as pool:
        inputs = [*pool.files, *([Path(crowd_path)] if crowd_path else [])]
        target = check_output(output, inputs=inputs, overwrite=overwrite, folder=False)
        measured = measure(pool, reward=reward, crowd=_crowd(crowd_path), ties=ties)  # type: ignore[arg-type]  # checked there
        write_table(metrics_table(pool, measured), target)
    for note in (*pool.notes, *measured.notes):
        warn(note)
    say(f"written to {visible(target)}: {len(pool.ids)} instructions, {len(pool.models)} models")


@cli.command()
@_pool_options
@click.option(
    "--config",
    metavar="FILE.toml",
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="Options from a TOML file; flags win.",
)
@click.option("--budget", type=int, required=True, metavar="N", help="How many instructions to choose.")
@_reward_option
@_crowd_option
@click.option(
    "--weights",
    type=_Weights(),
    help="[default: difficulty=1,separability=1,stability=2]; negative turns round.",
)
@_ties_option
@click.option(
    "--clusters", type=int, default=10, show_default=True, metavar="K", help="Number of clusters; 0 = none."
)
@click.option("--cluster-by", metavar="COLUMN", help="Use a column of the pool as clusters.")
@click.option(
    "--embedder",
    default="lsa",
    show_default=True,
    help="lsa, minilm, file:VECTORS, column:NAME or a sentence-transformers model.",
)
@click.option(
    "--trust-remote-code", is_flag=True, help="Let the embedder's own code run; only if you have read it."
)
@click.option("--answer", default="best", show_default=True, help="best, random, topN-random or model:NAME.")
@click.option("--pairs", metavar="best-worst", help="Make preference pairs of the best and the worst answer.")
@click.option("--format", "format_name", help="messages (default), prompt-completion, sharegpt, alpaca, dpo.")
@click.option("--file-type", default="jsonl", show_default=True, help="jsonl or parquet.")
@click.option("--for", "trainer", help="trl or llamafactory: also write what that trainer needs.")
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
@click.option("--include", metavar="FILE", help="Choose only among these ids.")
@click.option("--exclude", metavar="FILE", help="Never choose these ids.")
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
    r"""Choose the instructions to train on, with the reason for every row.

    \b
    Example:  crowdselect select pool.parquet --budget 1000 -o chosen
    """
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
            output=None if dry_run else output,
            overwrite=overwrite,
            as_json=as_json,
            crowd_path=crowd_path,
            format_name=format_name,
            file_type=file_type,
            trainer=trainer,
            license_name=license_name,
        )


@cli.command()
@click.argument("folder", metavar="DIR")
@click.argument("instruction_id", metavar="ID")
@click.option(
    "--pool", "pool_path", metavar="POOL", help="Where the pool is now; the manifest says where it was."
)
@_json_option
def why(folder: str, instruction_id: str, pool_path: str | None, as_json: bool) -> None:
    r"""Tell why one row is in or out.

    \b
    Example:  crowdselect why chosen 00017
    """
    from crowdselect.exporter import load_selection
    from crowdselect.reopen import reopen_pool, texts_of
    from crowdselect.show import warn
    from crowdselect.summary import print_story

    selection = load_selection(folder)
    story = selection.explain(instruction_id)
    pool, problem = reopen_pool(selection, pool_path)
    instruction, answer = texts_of(pool, story)
    if as_json:
        _print_json({**story, "instruction": instruction, "answer": answer})
    else:
        print_story(story, instruction=instruction, answer=answer)
    if problem is not None:
        warn(problem)


@cli.command()
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
    r"""Write a pool of a simulated crowd whose truth is known.

    \b
    Example:  crowdselect simulate -o pool.parquet --instructions 5000
    """
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
    crowd_path: str | None = None,
    format_name: str | None = None,
    file_type: str = "jsonl",
    trainer: str | None = None,
    license_name: str | None = None,
) -> None:
    """Check where to write, choose, write, say what was done."""
    from crowdselect.exporter import check_export, export
    from crowdselect.outputs import check_output
    from crowdselect.run import select as run_select
    from crowdselect.show import stage_bar
    from crowdselect.stages import Stages
    from crowdselect.summary import print_selection

    check_export(format_name, file_type=file_type, pairs=options.pairs, trainer=trainer)
    inputs = [*pool.files, *(Path(p) for p in (crowd_path, options.include, options.exclude) if p)]
    if output is not None:
        check_output(output, inputs=inputs, overwrite=overwrite, folder=True)
    stages = Stages(show=stage_bar)
    selection = run_select(pool, options, crowd=_crowd(crowd_path), stages=stages)
    written = None
    if output is not None:
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
        print_selection(
            selection,
            pool,
            folder=None if written is None else Path(str(output)),
            train_rows=pool.has_text and pool.has_responses,
        )


def _crowd(path: str | None) -> "Crowd | None":
    from crowdselect.crowd import Crowd

    return None if path is None else Crowd.from_file(path)


def _print_json(value: Any) -> None:  # noqa: ANN401  (plain values)
    # ASCII keeps control and direction characters as escapes.
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False, default=list) + "\n")
