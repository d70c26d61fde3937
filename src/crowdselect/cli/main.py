"""The command line: one command per step, bodies of a few lines, heavy imports inside."""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect import __version__
from crowdselect.cli.entry import run_command, say_current
from crowdselect.cli.flags import Command, Group, as_flags, named_options
from crowdselect.cli.methods import method_option, method_options
from crowdselect.cli.options import (
    answer_options,
    budget_option,
    cache_option,
    config_option,
    count_options,
    engine_options,
    folder_options,
    json_option,
    made,
    option,
    overwrite_option,
    pool_options,
    pool_place_option,
    reward_option,
    seed_option,
    spread_options,
    student_options,
    ties_option,
    weights_option,
)
from crowdselect.errors import OptionError
from crowdselect.methods import METHODS, Entry
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from crowdselect.numeric.metrics import Ties

_DEMO_FOLDER = "crowdselect-demo"
_DEMO_BUDGET = 100
_EDGES = {  # command → module:attribute; each module imports nothing heavy
    "compare": "crowdselect.cli.compare:compare",
    "completion": "crowdselect.cli.look:completion",
    "explore": "crowdselect.cli.explore:explore",
    "export": "crowdselect.cli.look:export",
    "view": "crowdselect.cli.look:view",
    "collect": "crowdselect.cli.collect:collect",
    "evaluate": "crowdselect.cli.evaluate:evaluate",
    "robustness": "crowdselect.cli.compare:robustness",
    "reward": "crowdselect.cli.reward:reward",
    "init": "crowdselect.recipe.begin:init",
    "push": "crowdselect.cli.push:push",
    "report": "crowdselect.cli.report:report",
    "run": "crowdselect.recipe.command:run",
    "status": "crowdselect.cli.status:status",
    "train": "crowdselect.cli.train:train",
}
_FORMER = {"baseline": "crowdselect.cli.former:baseline"}  # in no list; says what to type instead


def main() -> None:
    """Run the command line; errors become one line on standard error and exit code 2."""
    run_command(cli)


class _Commands(Group):
    """The commands below, and those of the edges, whose modules are loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_EDGES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = {**_EDGES, **_FORMER}.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, name = place.split(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with:  crowdselect demo",
)
@click.version_option(__version__, prog_name="crowdselect", message="%(prog)s %(version)s")
def cli() -> None:
    """Choose fine-tuning data with a crowd of models.

    Many models have answered every instruction and a reward model has scored every answer. crowdselect
    chooses the instructions to train on by what the crowd's scores say, and gives a reason for every row.
    """


@cli.command(epilog="Example:  crowdselect demo")
@option(
    "-o", "--output", default=_DEMO_FOLDER, show_default=True, help="The folder to write; replaced each time."
)
@json_option
def demo(output: str, as_json: bool) -> None:
    """Choose 100 rows of a simulated pool."""
    from crowdselect.cache import folder
    from crowdselect.cli.choosing import Writing, choose_and_write
    from crowdselect.errors import MissingExtraError
    from crowdselect.pool.pool import open_pool
    from crowdselect.report.report import check_extra
    from crowdselect.selection.options import Options
    from crowdselect.simulate.pool import simulate
    from crowdselect.terminal import note, show

    try:
        check_extra()
        lacks = None
    except MissingExtraError as error:
        lacks = error
    place = folder() / "demo"
    place.mkdir(parents=True, exist_ok=True)
    simulate(place / "pool.parquet", overwrite=True)
    with open_pool(place / "pool.parquet") as pool:
        writing = Writing(output=output, overwrite=True, as_json=as_json, report=lacks is None)
        choose_and_write(pool, Options(budget=_DEMO_BUDGET), writing)
    if lacks is not None:
        (note if as_json else show)(f"no report: {lacks}")  # it ends with a command, which is not broken


@cli.command(epilog="Example:  crowdselect inspect pool.parquet")
@pool_options
@reward_option
@json_option
def inspect(
    crowd: str | None,
    reward: str | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401  (the fields of `PoolOptions`)
) -> None:
    """Describe a pool: models, rewards, gaps."""
    from crowdselect.cli.choosing import PoolOptions, read_crowd
    from crowdselect.cli.following import after_inspect, say_next
    from crowdselect.cli.summary import print_inspection
    from crowdselect.selection.inspection import inspect_pool
    from crowdselect.terminal import stage_bar

    with (
        made(PoolOptions, {**given, "crowd": crowd}).opened() as opened,
        stage_bar("reading the pool"),
    ):
        found = inspect_pool(opened, crowd=read_crowd(crowd), reward=reward)
    if as_json:
        print_json(found)
        return
    print_inspection(found)
    say_next(after_inspect(given["pool"], found, reward=reward))


@cli.command("crowd", epilog="Example:  crowdselect crowd pool.parquet -o crowd.toml")
@pool_options
@option(
    "-o",
    "--output",
    metavar="FILE.toml",
    help="Write a crowd file to edit and pass to --crowd; an existing one keeps every line and gets the missing models.",
)
@option("--toml", "as_toml", is_flag=True, help="Print a crowd file instead.")
@json_option
def show_crowd(
    crowd: str | None,
    output: str | None,
    as_toml: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401  (the fields of `PoolOptions`)
) -> None:
    """Show the models with family and size.

    With -o, they are also written to a crowd file.
    """
    from crowdselect.cli.choosing import PoolOptions, read_crowd
    from crowdselect.cli.crowdfile import complete_file
    from crowdselect.cli.following import after_crowd, say_next
    from crowdselect.cli.summary import crowd_line, print_crowd
    from crowdselect.crowd import Crowd, students_in
    from crowdselect.terminal import counted, remark, say, shown_path, visible

    if as_toml and as_json:
        raise OptionError("--toml and --json are two forms of the same; give one of them")
    with made(PoolOptions, {**given, "crowd": crowd}).opened() as opened:
        given_crowd = read_crowd(crowd)
        students = students_in(opened.models, marked=opened.students, crowd=given_crowd)
        models = [name for name in opened.models if name not in students]
        found, notes = (given_crowd or Crowd.from_names(models)).aligned(models)
        if output is not None:
            added = complete_file(output, found, inputs=opened.files)
            written, notes = Crowd.from_file(output).aligned(models)
            pairs = zip(found.members, written.members, strict=True)
            found = Crowd(
                tuple(own if own.name in added else kept for own, kept in pairs)
            )  # what was read off names
    members = [
        {"name": m.name, "family": m.family, "size_b": m.size_b, "source": m.source} for m in found.members
    ]
    if as_toml:
        sys.stdout.write(found.to_toml())
    elif as_json:
        print_json(members)
    else:
        print_crowd(members)
        say(crowd_line(members))
        if students:
            say(f"no part of the crowd: {visible(', '.join(students))} (marked as a student)")
        if output is not None:
            what = (
                f"{counted(len(added), 'model')} added" if added else "every model was there; nothing changed"
            )
            say(f"{shown_path(output)}: {what}")
    for note in notes:
        remark(note)
    if not (as_toml or as_json):
        say_next(after_crowd(given["pool"], output))


@cli.command(epilog="Example:  crowdselect metrics pool.parquet -o metrics.parquet")
@option("-o", "--output", required=True, metavar="FILE", help="A .parquet, .csv or .jsonl file to write.")
@pool_options
@reward_option
@student_options
@option(
    "--also",
    metavar="NAME,...",
    help="Further numbers as columns, such as length,pass_rate; `inspect` lists them.",
)
@ties_option
@overwrite_option
@engine_options
def metrics(
    crowd: str | None,
    reward: str | None,
    ties: "Ties",
    overwrite: bool,
    output: str,
    also: str | None,
    student: str | None,
    student_answers: str | None,
    student_column: str | None,
    good_above: float | None,
    **given: Any,  # noqa: ANN401  (the fields of `PoolOptions` and `EngineOptions`)
) -> None:
    """Write the metrics of every instruction to a file.

    A Parquet file says what it was made by: the same command on the same inputs is up to date.
    """
    from crowdselect.cli.choosing import Measuring, checked, files_of, pool_of, read_crowd
    from crowdselect.cli.following import SCORED_POOL, STUDENT, choosing, say_next
    from crowdselect.cli.following import given as typed
    from crowdselect.engine.stream import on_cluster
    from crowdselect.repeats import as_metadata, is_current_file, made_by
    from crowdselect.selection.look import look_at
    from crowdselect.selection.rows import metrics_table
    from crowdselect.selection.student import Student
    from crowdselect.terminal import counted, remark, say, shown_path, stage_bar
    from crowdselect.writing import check_ending, write_table

    check_ending(output)
    names = [name.strip() for name in (also or "").split(",") if name.strip()]
    asked = made(Measuring, {**given, "crowd": crowd})
    learner = Student(name=student, answers=student_answers, column=student_column, good_above=good_above)
    learner.check()
    with asked.source.opened() as opened:
        told = {"read": opened.read.as_dict(), "limit": opened.limit, "reward": reward, "ties": ties}
        told |= {"also": ",".join(names)} if names else {}
        learns = {"student": student, "student_column": student_column, "good_above": good_above}
        told |= {name: str(value) for name, value in learns.items() if value is not None}
        answers = {} if student_answers is None else {"student_answers": files_of(student_answers)}
        made_so = made_by("metrics", told, {**pool_of(opened), "crowd": crowd, **answers})
        if is_current_file(Path(output), made_so, overwrite=overwrite):
            say_current(output)
            return
        target = checked(output, opened, crowd, student_answers, overwrite=overwrite, folder=False)
        with on_cluster(asked.engine) as run, stage_bar("rewards and metrics"):
            known = read_crowd(crowd)
            _, rows = look_at(
                opened,
                options=None,
                reward=reward,
                crowd=known,
                ties=ties,
                run=run,
                also=names,
                student=learner,
            )
            table = metrics_table(rows, also=names)
            metadata = (table.schema.metadata or {}) | as_metadata(made_so)
            write_table(table.replace_schema_metadata(metadata), target)
        for note in (*rows.pool_notes, *rows.notes):
            remark(note)
        sizes = f"{counted(len(rows), 'instruction')}, {counted(len(rows.crowd.members), 'model')}"
        say(f"written to {shown_path(target)}: {sizes}")
        say_next(
            choosing(
                asked.source.pool,
                typed(*SCORED_POOL, *STUDENT),
                rewards=opened.likely_rewards,
                reward=reward,
                usual=opened.usual_reward,
                for_student=learner.named,
            )
        )


class _Select(Command):
    """Its help lists the methods."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and the methods below them."""
        super().format_options(ctx, formatter)
        with formatter.section("Methods"):
            formatter.write_dl([(entry.form(name), _about(entry)) for name, entry in METHODS.items()])


def _about(entry: Entry) -> str:
    own = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in entry.options.items())
    return entry.help + (f"  [default: {own}]" if own else "")


@cli.command(cls=_Select, epilog="Example:  crowdselect select pool.parquet --budget 1000 -o chosen")
@option("-o", "--output", metavar="DIR", help="The folder to write.")
@budget_option
@method_option("How rows are scored: one of the methods below.")
@weights_option
@seed_option
@config_option
@pool_options
@count_options
@spread_options(default="10 with the method crowd, else 0")
@method_options()
@answer_options
@folder_options
@cache_option
@engine_options
def select(**given: Any) -> None:  # noqa: ANN401  (see `choose`)
    """Choose what to train on, with a reason for every row."""
    from crowdselect.cli.choosing import choose

    choose(given)


@cli.command(epilog="Example:  crowdselect why chosen 00017")
@click.argument("folder", metavar="DIR")
@click.argument("instruction_id", metavar="[ID]", required=False)
@option(
    "--reason",
    metavar="REASON",
    is_flag=False,
    flag_value="",
    help="Instead of an id: list all rows that this left out, with those it refers to; without a value, the reasons.",
)
@pool_place_option
@json_option
def why(folder: str, instruction_id: str | None, reason: str | None, pool: str | None, as_json: bool) -> None:
    """Explain why a row is in or out; list what a reason left out."""
    if reason == "" and instruction_id is None:
        _list_reasons(folder, as_json=as_json)
        return
    if reason is not None and instruction_id is None:
        _list_left_out(folder, reason, pool=pool, as_json=as_json)
        return
    if reason is not None or instruction_id is None:
        raise OptionError("give the id of a row, or a `reason`, such as `reason=duplicate_of`")
    from crowdselect.cli.following import after_why, say_next
    from crowdselect.cli.summary import print_story
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import shared_with_benchmark, texts_of
    from crowdselect.terminal import stage_bar, warn, worded

    selection = load_selection(folder)
    story = selection.explain(instruction_id)
    with stage_bar("reading the pool"):
        texts = texts_of(selection, story, pool=pool)
        shared = shared_with_benchmark(selection, story, texts.instruction)
    if as_json:
        more = {} if shared is None else {"shared_words": shared}
        known = {"instruction": texts.instruction, "answer": texts.answer, "empty_answers": texts.empty}
        print_json({**story, **known, **more})
    else:
        with worded(
            partial(as_flags, options=named_options(cli.commands["select"]))
        ):  # its advice is about choosing
            print_story(
                story,
                instruction=texts.instruction,
                answer=texts.answer,
                shared=shared,
                empty=texts.empty_line(selection),
            )
    if texts.problem is not None:
        warn(texts.problem)
    elif not as_json:
        say_next(after_why(folder, instruction_id))


def _list_reasons(folder: str, *, as_json: bool) -> None:
    from crowdselect.selection.eligible import REASONS
    from crowdselect.selection.folder import load_selection
    from crowdselect.terminal import table

    counts = load_selection(folder).counts()
    if as_json:
        print_json({"reasons": counts})
        return
    table(["reason", ">rows", "meaning"], [[name, count, REASONS[name]] for name, count in counts.items()])


def _list_left_out(folder: str, reason: str, *, pool: str | None, as_json: bool) -> None:
    from crowdselect.cli.summary import print_left_out
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import instructions_of
    from crowdselect.terminal import stage_bar, warn

    selection = load_selection(folder)
    found = selection.with_reason(reason)
    ids = [row[name] for name in ("id", "other") for row in found]
    with stage_bar("reading the pool"):
        texts, problem = instructions_of(selection, ids, pool=pool)
    own, others = texts[: len(found)], texts[len(found) :]
    told = [
        {**row, "instruction": text, "other_instruction": other}
        for row, text, other in zip(found, own, others, strict=True)
    ]
    if as_json:
        print_json({"reason": reason, "rows": told})
    else:
        print_left_out(reason, told)
    if problem is not None:
        warn(problem)


@cli.command(epilog="Example:  crowdselect simulate -o pool.parquet --instructions 5000")
@option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="A .parquet, .jsonl or .csv file; a folder with --shards.",
)
@option(
    "--instructions", type=int, default=2000, show_default=True, metavar="N", help="Number of instructions."
)
@option(
    "--crowd",
    default="demo",
    show_default=True,
    help="demo (4 families of 3 sizes) or paper (19 models in 6 families).",
)
@option("--layout", default="long", show_default=True, help="long, zoo or matrix.")
@option(
    "--answer-chars",
    type=int,
    default=400,
    show_default=True,
    help="Mean length of an answer in characters, at least 80.",
)
@option("--samples", type=int, default=1, show_default=True, help="Answers per model and instruction.")
@option("--shards", type=int, default=1, show_default=True, help="Number of files.")
@seed_option
@overwrite_option
def simulate(
    output: str,
    instructions: int,
    crowd: str,
    layout: str,
    answer_chars: int,
    samples: int,
    shards: int,
    seed: int,
    overwrite: bool,
) -> None:
    """Write a simulated pool whose ground truth is known."""
    from crowdselect.cli.following import say_next
    from crowdselect.simulate.pool import simulate as write
    from crowdselect.terminal import counted, say, shown_path

    made = write(
        output,
        instructions=instructions,
        crowd=crowd,
        layout=layout,
        answer_chars=answer_chars,
        samples=samples,
        shards=shards,
        seed=seed,
        overwrite=overwrite,
    )
    size = f"{counted(instructions, 'instruction')} x {counted(len(made.crowd.names), 'model')}"
    say(f"written to {shown_path(output)}: a simulated pool of {size}")
    say_next({"see what is in it": [["inspect", output]]})
