"""The command `crowdselect reward`; everything heavy is imported when it runs."""

from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.options import LAYOUT_NAMES, engine_options, json_option, taken
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crowdselect.reward.job import Job, JobOptions, Result
    from crowdselect.reward.run import Tally

_MISSING = 3  # the exit code that says that some answers have no score


@click.command(
    epilog="Example:  crowdselect reward pool.parquet --with hf:Skywork/Skywork-Reward-Llama-3.1-8B -o rewards.parquet"
)
@click.argument("pool_path", metavar="POOL")
@click.option("--layout", metavar="NAME", help=f"{LAYOUT_NAMES}; else recognised.")
@click.option("--limit", type=int, metavar="N", help="Only the first N instructions, in a seeded order.")
@click.option(
    "--with",
    "specs",
    multiple=True,
    metavar="SPEC",
    help="hf:NAME_OR_PATH, http:URL, judge:crowd.toml#NAME, python:MODULE:FUNCTION or import:FILE; may be repeated.",
)
@click.option(
    "--name", "names", multiple=True, metavar="COLUMN", help="The column to make; one for each --with."
)
@click.option("-o", "--output", required=True, metavar="FILE", help="The .parquet file to write.")
@click.option("--plan", is_flag=True, help="Say what would be done and end.")
@click.option(
    "--ledger",
    metavar="FILE",
    help="Where every score is kept, computed ones beside it in .parts.  [default: the output's name + .ledger]",
)
@click.option("--retry-failed", is_flag=True, help="Score again what has failed before.")
@click.option(
    "--no-self-test",
    is_flag=True,
    help="Do not try each scorer on built-in answers first; a judge that fails there is asked no further.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a former rewards file; what was scored before is kept."
)
@json_option
@click.option("--device", default="auto", show_default=True, help="hf: cpu, cuda, cuda:1, ...")
@click.option(
    "--dtype",
    default="auto",
    show_default=True,
    help="hf: float32, bfloat16, float16; auto: float32 on a CPU.",
)
@click.option(
    "--max-length",
    type=int,
    metavar="TOKENS",
    help="hf, http: cut longer conversations; else at the model's own.",
)
@click.option(
    "--truncation-side",
    default="auto",
    show_default=True,
    help="hf: left, right; auto: as the tokenizer says.",
)
@click.option(
    "--batch-tokens",
    type=int,
    default=8192,
    show_default=True,
    help="hf: the most tokens of a batch, with padding.",
)
@click.option(
    "--chat-template",
    metavar="FILE|pair",
    help="hf: instead of the model's own; pair: question and answer apart.",
)
@click.option(
    "--trust-remote-code", is_flag=True, help="hf: let the model's own code run; only if you have read it."
)
@click.option(
    "--api", default="auto", show_default=True, help="http: classify, pooling, score (vLLM) or predict (TEI)."
)
@click.option(
    "--tokenizer", metavar="NAME", help="http: write conversations with this tokenizer's chat template."
)
@click.option("--concurrency", type=int, default=16, show_default=True, help="http: requests at once.")
@click.option(
    "--timeout", type=float, default=600.0, show_default=True, help="http: seconds one whole answer may take."
)
@click.option(
    "--api-key-env", metavar="NAME", help="http: the environment variable that holds the server's key."
)
@click.option(
    "--samples", type=int, default=1, show_default=True, help="judge: how often each answer is judged."
)
@click.option("--prompt", metavar="FILE", help="judge: your own prompt, with {instruction} and {response}.")
@click.option(
    "--reference", metavar="COLUMN", help="judge: correct answers; else the column `reference`, if any."
)
@click.option(
    "--logprobs/--no-logprobs", default=True, help="judge: ask for the score tokens' log-probabilities."
)
@click.option(
    "--max-cost", type=float, metavar="MONEY", help="judge: stop before this is passed, over all runs."
)
@click.option("--max-requests", type=int, metavar="N", help="judge: stop after so many, over all runs.")
@engine_options
def reward(  # noqa: PLR0917  (click hands every option over by name)
    pool_path: str,
    layout: str | None,
    limit: int | None,
    specs: tuple[str, ...],
    names: tuple[str, ...],
    output: str,
    plan: bool,  # noqa: FBT001  (as above)
    as_json: bool,  # noqa: FBT001  (as above)
    **chosen: Any,  # noqa: ANN401  (the options of the scorers, by their names)
) -> int:
    """Score every answer of a pool with reward models or judges."""
    from crowdselect.pool.pool import open_pool
    from crowdselect.reward.job import Job
    from crowdselect.reward.specs import parse_specs

    wanted, options = parse_specs(specs, names), _options(chosen)
    with (
        open_pool(pool_path, layout=layout, limit=limit) as pool,
        Job(pool, wanted, output, options) as job,
    ):
        # On a cluster nobody counts first: reading everything once more would take longer than it tells.
        tallies = {} if options.engine.on_ray and not plan else job.plan()
        if plan:
            _print_plan(job, tallies, as_json=as_json)
            return 0
        result = job.run(tallies)
    _print_result(result, as_json=as_json)
    return 0 if result.is_complete else _MISSING


def _options(chosen: "dict[str, Any]") -> "JobOptions":
    from dataclasses import fields

    from crowdselect.reward.job import JobOptions
    from crowdselect.reward.judge import JudgeOptions
    from crowdselect.reward.loading import LocalOptions
    from crowdselect.reward.served import ServedOptions

    def part(kind: Any) -> Any:  # noqa: ANN401  (one of the three classes)
        return kind(**{entry.name: chosen[entry.name] for entry in fields(kind)})

    return JobOptions(
        local=part(LocalOptions),
        served=part(ServedOptions),
        judge=part(JudgeOptions),
        references=chosen["reference"],
        ledger=chosen["ledger"],
        self_test=not chosen["no_self_test"],
        retry_failed=chosen["retry_failed"],
        overwrite=chosen["overwrite"],
        engine=taken(chosen),
    )


def _print_plan(job: "Job", tallies: "Mapping[str, Tally]", *, as_json: bool) -> None:
    from crowdselect.ask.display import note_of
    from crowdselect.terminal import say, table, visible

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
    if as_json:
        found = {"output": str(job.target), "plan": rows, "notes": [*job.notes.values()]}
        print_json(found)
        return
    headings = ["column", ">answers", ">empty", ">to score", ">tokens, about", "requests and money"]
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
        title="To be scored (equal conversations count once; what was scored before is left out)",
    )
    say(f"would be written to {visible(job.target)}; nothing was scored")
    for line in job.notes.values():
        note_of(line)


def _print_result(result: "Result", *, as_json: bool) -> None:
    from crowdselect.terminal import say, table, visible, warn

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
    reasons = [
        (n, name, reason) for name, t in result.tallies.items() for reason, n in t.missing.most_common(8)
    ]
    if reasons:
        table([">missing", "column", "why"], reasons)
    for line in result.warnings:
        if not line.startswith("SELF-TEST"):  # said before the run
            warn(line)
    scored, answers = (
        sum(getattr(t, what) for t in result.tallies.values()) for what in ("scored", "answers")
    )
    say(
        f"written to {visible(result.target)}: {scored:,} of {answers:,} scores, {result.computed:,} conversations "
        f"given to the scorers in this run{'; use it with --rewards' if scored else '; there is nothing to select by'}"
    )


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
