"""The command `crowdselect collect`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.entry import INTERRUPTED, MISSING
from crowdselect.cli.flags import Command
from crowdselect.cli.options import (
    dry_run_option,
    engine_options,
    instruction_options,
    json_option,
    made,
    option,
    section,
)
from crowdselect.errors import OptionError
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from crowdselect.collect.job import Report, Task

_asking = section("How models are asked")
_output = section("Output")


@click.command(
    cls=Command,
    epilog="Example:  crowdselect collect instructions.jsonl --crowd crowd.toml -o pool.parquet --dry-run",
)
@click.argument("instructions", required=False)
@option("-o", "--output", metavar="FILE", help="The pool to write (.parquet).")
@option("--crowd", metavar="FILE", help="crowd.toml: the models and how to reach them.")
@instruction_options
@option(
    "--only-verifiable",
    metavar="VERIFIER#COLUMN",
    help="Ask only instructions whose reference can be checked, such as math#answer; see `reward --with verify:`.",
)
@option("--samples", type=int, metavar="N", help="Answers per model and instruction.  [default: 1]")
@dry_run_option("Say what would be sent and what it may cost; send nothing. Needs no -o.")
@option("--seal", "seal_only", is_flag=True, help="Write the pool from the ledger; send nothing.")
@option("--max-cost", type=float, metavar="MONEY", help="Spending cap over all runs; needs known prices.")
@option("--max-requests", type=int, metavar="N", help="Limit on requests over all runs, retries included.")
@_asking("--retry-failed", is_flag=True, help="Ask again what failed before.")
@_asking(
    "--attempts",
    type=int,
    default=5,
    show_default=True,
    help="How often a request is sent at most; a refusal (429, 503) counts as a quarter.",
)
@_asking(
    "--retry-wait",
    "wait",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds before the first retry; doubled for each further one.",
)
@_asking(
    "--patience",
    type=float,
    default=600.0,
    show_default=True,
    help="Seconds without an answer after which an endpoint is given up.",
)
@_output(
    "--ledger", metavar="FILE", help="Where every answer is kept.  [default: the output's name + .ledger]"
)
@_output("--force-ledger", is_flag=True, help="Use a ledger on a network file system anyway.")
@_output("--overwrite", is_flag=True, help="Replace an existing file; never the ledger.")
@json_option
@engine_options
def collect(
    *,
    dry_run: bool,
    seal_only: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401  (the fields of `Task`)
) -> int:
    """Have a crowd of models answer every instruction; write a pool.

    Every answer is kept in a ledger when it arrives: run the same command again to continue after a stop, or with more
    instructions, models or samples; only what is missing is asked. Exits with 3 if answers are missing.
    """
    from crowdselect.collect.job import Task, last_task

    if dry_run and seal_only:
        raise OptionError("--dry-run and --seal do not go together")
    if given["output"] is None and not dry_run:
        raise OptionError("say where to write with `output`, or add `dry_run=True`")
    asked = ("instructions", "crowd")
    if seal_only and any(given[name] is None for name in asked):
        last = last_task(Path(given["ledger"] or f"{given['output']}.ledger"))
        given |= {name: given[name] or last[name] for name in (*asked, "samples")}
        given["only_verifiable"] = given["only_verifiable"] or last.get("only_verifiable")
        read = last.get("read", {})
        given |= {
            name: given[name] or read.get(name) for name in ("columns", "subset", "split", "skip_invalid")
        }
    if any(given[name] is None for name in asked):
        raise OptionError(
            "name a file of instructions and a crowd: crowdselect collect INSTRUCTIONS --crowd FILE -o FILE"
        )
    task = made(Task, given)
    return _plan(task, as_json=as_json) if dry_run else _collect(task, seal_only=seal_only, as_json=as_json)


def _plan(task: "Task", *, as_json: bool) -> int:
    from crowdselect.ask.display import print_plan
    from crowdselect.cli.following import say_next, without_dry_run
    from crowdselect.collect.job import plan

    found, notes = plan(task)
    if as_json:
        print_json({"models": {name: made.facts() for name, made in found.items()}, "notes": notes})
    else:
        print_plan(found, notes)
        say_next(without_dry_run("pool.parquet"))
    return 0


def _collect(task: "Task", *, seal_only: bool, as_json: bool) -> int:
    from crowdselect.ask.display import announce, note_of, print_tallies, watch
    from crowdselect.cli.following import say_next, scoring
    from crowdselect.collect.job import collect as run
    from crowdselect.terminal import counted, note, say, shown_path, visible

    told: set[str] = set()
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        note_of(line)

    report = run(task, seal_only=seal_only, watch=partial(watch, told=told), announce=announce, tell=tell)
    for line in report.notes:
        if line not in said:
            note_of(line)
    outcome = report.outcome
    if outcome is not None and outcome.interrupted:
        lost = outcome.abandoned
        waiting = f"; {lost:,} in flight {'was' if lost == 1 else 'were'} not waited for" if lost else ""
        note(f"stopped: every answer received is in {shown_path(task.ledger_path)}{waiting}")
        note("run the same command again to go on, or add --seal to write what is there")
        return INTERRUPTED
    for name, why in {} if outcome is None else outcome.stopped.items():
        if name not in told:
            note(f"{visible(name)}: stopped: {visible(why)}")
    if as_json:
        print_json(_facts(report))
    else:
        print_tallies(report.tallies)
        rows = sum(tally.rows for tally in report.tallies.values())
        if report.sealed is None:
            say("no answers yet, so no pool was written")
        else:
            what = "up to date: " if report.fresh else "written to "
            models = sum(tally.rows > 0 for tally in report.tallies.values())
            of = "" if models == len(report.tallies) else f"; {len(report.tallies) - models:,} gave no answer"
            size = f"{counted(rows, 'answer')} of {counted(models, 'model')}"
            say(f"{what}{shown_path(task.target)}: {size}{of}")
            say_next(scoring(str(task.target), []))
    return MISSING if any(tally.missing for tally in report.tallies.values()) else 0


def _facts(report: "Report") -> dict[str, Any]:
    return {
        "written": None if report.sealed is None else str(report.sealed),
        "up_to_date": report.fresh,
        "models": {
            name: {
                "rows": tally.rows,
                "missing": tally.missing,
                "statuses": dict(tally.statuses),
                "reasons": dict(tally.reasons),
                "cost": tally.cost,
                "cost_unknown": tally.cost_unknown,
            }
            for name, tally in report.tallies.items()
        },
        "stopped": {} if report.outcome is None else report.outcome.stopped,
        "notes": report.notes,
    }
