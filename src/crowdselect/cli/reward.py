"""The command `crowdselect reward`; everything heavy is imported when it runs."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.entry import MISSING
from crowdselect.cli.flags import Command
from crowdselect.cli.options import (
    dry_run_option,
    engine_options,
    json_option,
    limit_option,
    made,
    option,
    pool_argument,
    read_options,
    section,
)
from crowdselect.errors import LayoutError, OptionError
from crowdselect.pool.howread import READ_OPTIONS
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crowdselect.cli.choosing import PoolOptions
    from crowdselect.reward.job import Job, Result
    from crowdselect.reward.run import Tally
    from crowdselect.reward.specs import Spec

_local = section("Local models (hf:)")
_served = section("Served models (http:)")
_judge = section("Judges (judge:)")
_verifiers = section("Verifiers (verify:)")
_output = section("Output")


@click.command(
    cls=Command,
    epilog="Example:  crowdselect reward pool.parquet --with hf:Skywork/Skywork-Reward-Llama-3.1-8B -o rewards.parquet",
)
@option(
    "--with",
    "specs",
    multiple=True,
    metavar="SPEC",
    help="hf:NAME_OR_PATH, http:URL, judge:crowd.toml#NAME, verify:math|exact|choice#COLUMN, python:MODULE_OR_FILE:FUNCTION "
    "or import:FILE; may be repeated.",
)
@option("--name", "names", multiple=True, metavar="COLUMN", help="The column to make; one for each --with.")
@option("-o", "--output", metavar="FILE", help="The .parquet file to write.")
@dry_run_option("Say what would be scored and what it may cost; score nothing. Needs no -o.")
@option(
    "--ledger",
    metavar="FILE",
    help="Where every score is kept; computed ones are in .parts beside it.  [default: the output's name + .ledger]",
)
@option("--retry-failed", is_flag=True, help="Score again what failed before.")
@option(
    "--no-self-test",
    is_flag=True,
    help="Skip the test of each scorer on built-in answers, which stops a judge that fails it.",
)
@option(
    "--keep-going",
    is_flag=True,
    help="Continue even if the first 20 answers all get the same score, or half of a judge's first replies were cut.",
)
@pool_argument
@read_options
@limit_option
@_local("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@_local(
    "--dtype",
    default="auto",
    show_default=True,
    help="float32, bfloat16 or float16; auto: float32 on a CPU.",
)
@_local(
    "--max-length",
    type=int,
    metavar="TOKENS",
    help="hf, http: cut longer conversations.  [default: the model's own limit]",
)
@_local(
    "--truncation-side",
    default="auto",
    show_default=True,
    help="left or right; auto: as the tokenizer says.",
)
@_local(
    "--batch-tokens",
    type=int,
    default=8192,
    show_default=True,
    help="The most tokens of a batch, with padding.",
)
@_local(
    "--chat-template",
    metavar="FILE|pair",
    help="Replaces the model's own; pair: question and answer as two texts.",
)
@_local("--trust-remote-code", is_flag=True, help="Run code that comes with the model; only if you trust it.")
@_served(
    "--api",
    default="auto",
    show_default=True,
    help="classify, pooling, score (vLLM), sglang or predict (TEI).",
)
@_served("--tokenizer", metavar="NAME", help="Write conversations with this tokenizer's chat template.")
@_served("--concurrency", type=int, default=16, show_default=True, help="Number of requests at a time.")
@_served(
    "--timeout", type=float, default=600.0, show_default=True, help="Seconds that one whole answer may take."
)
@_served("--api-key-env", metavar="NAME", help="The environment variable that holds the server's key.")
@_judge("--samples", type=int, default=1, show_default=True, help="How often each answer is judged.")
@_judge("--prompt", metavar="FILE", help="Your own prompt, with {instruction} and {response}.")
@_judge(
    "--reference",
    "references",
    metavar="COLUMN",
    help="The column with correct answers; by default `reference`, if there is one.",
)
@_judge("--logprobs/--no-logprobs", default=True, help="Ask for the score tokens' log-probabilities.")
@_judge("--max-cost", type=float, metavar="MONEY", help="Spending cap over all runs.")
@_judge("--max-requests", type=int, metavar="N", help="Limit on requests over all runs.")
@_verifiers(
    "--extract",
    metavar="PATTERN",
    help="A regular expression that finds the final answer: its last match, or the group in it.",
)
@_output("--overwrite", is_flag=True, help="Replace an existing file; never the ledger.")
@json_option
@engine_options
def reward(
    specs: tuple[str, ...],
    names: tuple[str, ...],
    output: str | None,
    dry_run: bool,  # noqa: FBT001  (as above)
    as_json: bool,  # noqa: FBT001  (as above)
    **given: Any,  # noqa: ANN401  (the fields of `PoolOptions` and `JobOptions`)
) -> int:
    """Score answers with reward models, judges and verifiers.

    Every score is kept when it is made: run the same command again to continue after a stop, or with more rows, models or
    samples; only what is missing is scored. Exits with 3 if scores are missing.
    """
    from crowdselect.cli.choosing import PoolOptions
    from crowdselect.cli.following import POOL, choosing, say_next, without_dry_run
    from crowdselect.cli.following import given as typed
    from crowdselect.reward.job import Job, JobOptions
    from crowdselect.reward.specs import parse_specs

    if output is None and not dry_run:
        raise OptionError("say where to write with `output`, or add `dry_run=True`")
    known = {*READ_OPTIONS, "pool", "limit"}
    source = made(PoolOptions, {name: given.pop(name) for name in known})
    wanted, options = parse_specs(specs, names), made(JobOptions, given)
    if dry_run and all(spec.kind == "verify" for spec in wanted):
        references = _references(source, wanted)
        if references is not None:
            _print_references(references, as_json=as_json)
            return 0
    with (
        source.opened() as opened,
        Job(opened, wanted, output, options) as job,
    ):
        # On a cluster nobody counts first: reading everything once more would take longer than it tells.
        count = dry_run or not (options.engine.on_ray or job.is_current)
        tallies = job.plan() if count else {}
        if dry_run:
            _print_plan(job, tallies, output, as_json=as_json)
            if not as_json:
                say_next(without_dry_run("rewards.parquet"))
            return 0
        alone = len(opened.models) == 1
        result = job.former() if job.is_current else job.run(tallies)
    _print_result(result, as_json=as_json)
    scored = [name for name, tally in result.tallies.items() if tally.scored]
    if scored and not as_json:
        columns = [*scored, *opened.reward_columns]
        by = [*typed(*POOL), "--rewards", str(output)]
        first = scored[0] if len(columns) > 1 else None
        say_next(choosing(source.pool, by, rewards=columns, reward=first, alone=alone))
    return 0 if result.is_complete else MISSING


def _print_plan(job: "Job", tallies: "Mapping[str, Tally]", output: str | None, *, as_json: bool) -> None:
    from crowdselect.ask.budget import UNPRICED
    from crowdselect.ask.display import note_of
    from crowdselect.terminal import say, shown_path, table

    rows = [
        {
            "column": column.name,
            "with": column.scorer.spec,
            "answers": tally.answers,
            "cannot_be_scored": sum(tally.missing.values()),
            "to_score": tally.todo if column.scorer.paid else 0,
            "estimated_tokens": tally.characters // 4,
            **column.scorer.costs(tally.todo, tally.characters),
        }
        for column, tally in ((column, tallies[column.name]) for column in job.columns)
    ]
    reasons = {name: tally.missing for name, tally in tallies.items() if tally.missing}
    if as_json:
        found = {
            "output": None if output is None else str(job.target),
            "plan": [{**row, "reasons": dict(reasons.get(row["column"], {}))} for row in rows],
            "notes": [*job.notes.values()],
        }
        print_json(found)
        return
    headings = ["column", ">answers", ">no score", ">to score", ">tokens (about)", "requests and cost"]
    table(
        headings,
        [
            [
                row["column"],
                row["answers"],
                row["cannot_be_scored"],
                row["to_score"],
                row["estimated_tokens"],
                row.get("cost", "none"),
            ]
            for row in rows
        ],
        title="To score (equal conversations count once, scores already known are left out)",
    )
    _print_reasons(reasons)
    where = "" if output is None else f"; the rewards would go to {shown_path(output)}"
    say(f"nothing was scored{where}")
    if any(row.get("money", 0.0) is None for row in rows):
        say(UNPRICED)
    for line in job.notes.values():
        note_of(line)


def _print_result(result: "Result", *, as_json: bool) -> None:
    from crowdselect.terminal import counted, say, shown_path, table, warn

    if as_json:
        columns = {
            name: {
                "answers": tally.answers,
                "scored": tally.scored,
                "truncated": tally.truncated,
                "missing": dict(tally.missing),
                "lowest": tally.lowest,
                "highest": tally.highest,
            }
            for name, tally in result.tallies.items()
        }
        found = {
            "written": str(result.target),
            "up_to_date": result.was_there,
            "computed": result.computed,
            "columns": columns,
            "warnings": [*result.warnings],
        }
        print_json(found)
        return
    table(
        ["column", ">answers", ">scored", ">cut", ">missing", ">lowest", ">highest"],
        [
            [name, t.answers, t.scored, t.truncated, t.missing.total(), _number(t.lowest), _number(t.highest)]
            for name, t in result.tallies.items()
        ],
    )
    _print_reasons({name: tally.missing for name, tally in result.tallies.items()})
    for line in result.warnings:
        if not line.startswith("SELF-TEST"):  # said before the run
            warn(line)
    scored, answers = (
        sum(getattr(t, what) for t in result.tallies.values()) for what in ("scored", "answers")
    )
    if result.was_there:
        say(f"up to date: {shown_path(result.target)}: {scored:,} of {counted(answers, 'score')}")
        return
    now = f"{counted(result.computed, 'conversation')} sent to the scorers in this run"
    nothing = "" if scored else "; there is nothing to choose by"
    say(f"written to {shown_path(result.target)}: {scored:,} of {counted(answers, 'score')}; {now}{nothing}")


def _print_reasons(missing: "Mapping[str, Counter[str]]") -> None:
    from crowdselect.terminal import table

    rows = [(n, name, reason) for name, found in missing.items() for reason, n in found.most_common(8)]
    if rows:
        table([">missing", "column", "why"], rows)


def _references(
    source: "PoolOptions", specs: "Sequence[Spec]"
) -> "Mapping[str, Sequence[str | None]] | None":
    """Say of a file of instructions, which has no answers yet, which references cannot be checked; None = it is a pool."""
    from crowdselect.collect.instructions import open_instructions
    from crowdselect.collect.verifiable import unverifiable

    try:
        source.opened().close()
    except LayoutError:
        with open_instructions(source.pool, read=source.read) as instructions:
            return {
                str(spec.column): unverifiable(instructions, spec.target, str(spec.part)) for spec in specs
            }
    return None


def _print_references(found: "Mapping[str, Sequence[str | None]]", *, as_json: bool) -> None:
    from crowdselect.terminal import say, table

    reasons = {name: Counter(reason for reason in why if reason is not None) for name, why in found.items()}
    rows = [
        {
            "column": name,
            "instructions": len(why),
            "can_be_checked": len(why) - reasons[name].total(),
            "cannot_be_checked": reasons[name].total(),
        }
        for name, why in found.items()
    ]
    if as_json:
        plan = [{**row, "reasons": dict(reasons[str(row["column"])])} for row in rows]
        print_json({"output": None, "plan": plan, "notes": []})
        return
    headings = ["column", ">instructions", ">can be checked", ">cannot"]
    table(
        headings,
        [list(row.values()) for row in rows],
        title="References of instructions, which have no answers yet",
    )
    _print_reasons(reasons)
    say("nothing was scored")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
