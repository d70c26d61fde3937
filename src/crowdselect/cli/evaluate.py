"""The commands `crowdselect evaluate ...`; everything heavy is imported when one runs."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.entry import INTERRUPTED, MISSING, check_page, say_current, show_or_write
from crowdselect.cli.flags import Group
from crowdselect.cli.options import (
    bundle,
    dry_run_option,
    json_option,
    made,
    option,
    overwrite_option,
    read_options,
    section,
    seed_option,
    skip_option,
)
from crowdselect.errors import OptionError

if TYPE_CHECKING:
    from crowdselect.evaluate.measured import Kind

_asking = section("How models are asked")
_machine = section("Machine")
_output = section("Output")
_sources = bundle(
    option("-o", "--output", metavar="DIR", help="The folder of the result."),
    option("--questions", required=True, metavar="FILE", help="The questions (.jsonl)."),
    option(
        "--model",
        metavar="crowd.toml#NAME|FOLDER",
        help="Whom to ask: an endpoint, or a model on this machine.",
    ),
    option("--answers", metavar="FILE", help="Answers made elsewhere (.jsonl), instead of --model."),
    option("--judge", metavar="crowd.toml#NAME", help="Who judges: a [[judge]] of a crowd file."),
    option("--judgments", metavar="FILE", help="Judgements made elsewhere (.jsonl), instead of --judge."),
)
_settings = bundle(
    option(
        "--name",
        metavar="NAME",
        help="The model's name in the result; if a file holds several models, the one to take.",
    ),
    dry_run_option("Say what would be sent and what it may cost; send nothing."),
    option("--max-cost", type=float, metavar="MONEY", help="Spending cap over all runs; needs known prices."),
    option(
        "--max-requests", type=int, metavar="N", help="Limit on requests over all runs, retries included."
    ),
    seed_option,
    skip_option,
    _asking("--judge-prompt", metavar="FILE", help="Prompts in the form of FastChat's judge_prompts.jsonl."),
    _asking(
        "--judge-retries",
        type=int,
        default=2,
        show_default=True,
        metavar="N",
        help="How often a verdict that cannot be read is asked for again.",
    ),
    _asking("--temperature", type=float, help="Temperature of the answers; by default the benchmark's."),
    _asking(
        "--max-tokens", type=int, metavar="N", help="Token limit of an answer; by default the benchmark's."
    ),
    _asking("--retry-failed", is_flag=True, help="Ask again what failed before."),
    _asking(
        "--keep-going", is_flag=True, help="Continue even if half of the judge's first replies were cut."
    ),
    _output(
        "--ledger", metavar="FILE", help="Where every reply is kept.  [default: ledger.sqlite in the folder]"
    ),
    _output("--force-ledger", is_flag=True, help="Use a ledger on a network file system anyway."),
    json_option,
)


@click.group(cls=Group, epilog="Example:  crowdselect evaluate mt-bench --help")
def evaluate() -> None:
    """Measure models: benchmarks, losses, comparisons."""


@evaluate.command(
    "mt-bench",
    epilog="Example:  crowdselect evaluate mt-bench --model crowd.toml#student --judge crowd.toml#gpt-4 "
    "--questions question.jsonl --references gpt-4.jsonl -o mt-student",
)
@_sources
@option("--references", metavar="FILE", help="Reference answers for math, reasoning and coding.")
@_settings
def mt_bench(*, dry_run: bool, as_json: bool, **given: Any) -> int:  # noqa: ANN401  (the fields of `EvaluateOptions`)
    """Grade answers to two-turn questions from 1 to 10.

    Every reply is kept in a ledger when it arrives: run the same command again to continue after a stop. The folder
    gets answers.jsonl and judgments.jsonl in FastChat's form, result.json and a manifest. Exits with 3 if verdicts
    are missing; they are left out of the score and counted.
    """
    return _evaluate("mt-bench", given, dry_run=dry_run, as_json=as_json)


@evaluate.command(
    "arena-hard",
    epilog="Example:  crowdselect evaluate arena-hard --model models/student --judge crowd.toml#gpt-4 "
    "--baseline gpt-4-0314.jsonl --questions question.jsonl -o ah-student",
)
@_sources
@option(
    "--baseline",
    multiple=True,
    metavar="[CATEGORY=]crowd.toml#NAME|FILE",
    help="Whose answers score 50: an endpoint, a folder or a file; may be given several times, once per category.",
)
@_settings
def arena_hard(*, dry_run: bool, as_json: bool, **given: Any) -> int:  # noqa: ANN401  (the fields of `EvaluateOptions`)
    """Measure how often answers beat a baseline's, in both orders.

    Every reply is kept in a ledger when it arrives: run the same command again to continue after a stop. The folder
    gets answers.jsonl and judgments.jsonl in arena-hard-auto's form, result.json and a manifest. Exits with 3 if
    verdicts are missing; their questions are left out of the score and counted.
    """
    return _evaluate("arena-hard", given, dry_run=dry_run, as_json=as_json)


@evaluate.command(
    epilog="Example:  crowdselect evaluate compare random=mt-r1,mt-r2 chosen=mt-c1,mt-c2 -o compare.html"
)
@click.argument("groups", metavar="[NAME=]DIR[,DIR]...", nargs=-1, required=True)
@option(
    "--against", metavar="NAME", help="Show only differences from this one; by default those of all pairs."
)
@option("-o", "--output", metavar="FILE.html", help="A page to write (extra: report).")
@seed_option
@overwrite_option
@json_option
def compare(
    groups: tuple[str, ...],
    *,
    against: str | None,
    output: str | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare results, paired over questions.

    Each argument is one method: a folder of evaluate, or several of the same method trained with other seeds,
    joined by commas. The same NAME several times is one method with as many choices of rows. Questions are resampled
    together for all methods, and within a method its choices, or where there is one its runs. A folder that
    lm-evaluation-harness wrote elsewhere for one model is read like one of evaluate harness.
    """
    from crowdselect.evaluate.comparison import ROUNDS
    from crowdselect.evaluate.comparison import compare as run
    from crowdselect.evaluate.display import print_comparison
    from crowdselect.evaluate.outcome import load_groups
    from crowdselect.evaluate.scores import LEVEL
    from crowdselect.repeats import is_current_file, made_by
    from crowdselect.writing import check_output

    if seed < 0:
        raise OptionError(f"`seed` is {seed}; wanted at least 0")
    check_page(output)
    target, made_so = None, None
    if output is not None:
        folders = [Path(place) for group in groups for place in group.rpartition("=")[2].split(",")]
        told = {"groups": groups, "against": against, "seed": seed}
        made_so = made_by("evaluate compare", told, {"results": folders})
        if not is_current_file(Path(output), made_so, overwrite=overwrite):
            target = check_output(output, inputs=[], overwrite=overwrite, folder=False)
        elif not as_json:
            say_current(output)
            return
    found = run(load_groups(groups), against=against, seed=seed)

    def page() -> str:
        from crowdselect.evaluate.comparison_page import comparison_page

        return comparison_page(found, made=made_so)

    show_or_write(
        target,
        page=page,
        facts=lambda: {**asdict(found), "level": LEVEL, "rounds": ROUNDS, "correction": "Holm"},
        show=partial(print_comparison, found),
        as_json=as_json,
    )


_measured = bundle(
    click.argument("student", metavar="MODEL"),
    option("-o", "--output", metavar="DIR", help="The folder of the result."),
)
_of_pool = bundle(
    option(
        "--not",
        "chosen",
        metavar="DIR",
        multiple=True,
        help="Leave out what this selection chose; may be given several times.",
    ),
    option("--sample", type=int, metavar="N", help="Take N instructions, by a seeded hash of their ids."),
    option("--reward", metavar="COLUMN", help="The reward column; needed if there are several."),
)
_how = bundle(
    option("--name", metavar="NAME", help="The model's name in the result."),
    dry_run_option("Show what it would be measured on; load no model."),
    seed_option,
    read_options,
    option("--rewards", metavar="FILE", help="The pool's rewards from a second file.", section="Pool"),
    _machine(
        "--max-length",
        type=int,
        default=2048,
        show_default=True,
        metavar="TOKENS",
        help="Limit for messages and answer together; a longer answer is cut at its end.",
    ),
    _machine(
        "--batch-tokens",
        type=int,
        default=4096,
        show_default=True,
        help="The most tokens of a batch, with padding.",
    ),
    _machine("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ..."),
    overwrite_option,
    json_option,
)


@evaluate.command(
    epilog="Example:  crowdselect evaluate loss models/student --on held-out.jsonl -o loss-student"
)
@_measured
@option("--on", metavar="FILE|DIR", help="A training file in any format, or a folder of select.")
@option("--pool", metavar="POOL", help="Or the best answers of a pool's instructions.")
@_of_pool
@_how
def loss(*, dry_run: bool, as_json: bool, **given: Any) -> int:  # noqa: ANN401  (the fields of `MeasureOptions`)
    """Measure a model's mean loss per token of held-out answers.

    MODEL is a folder with a model or adapters, a name on the Hub, or crowd.toml#NAME of a local one. The loss is on the
    tokens that training puts it on. The folder gets rows.jsonl, result.json and a manifest; `evaluate compare` pairs
    results over rows. Exits with 3 if rows have no loss; they are left out and counted.
    """
    return _measure("loss", given, dry_run=dry_run, as_json=as_json)


@evaluate.command(
    epilog="Example:  crowdselect evaluate prefers models/student --pool pool.parquet --not chosen -o prefers-student"
)
@_measured
@option("--pool", required=True, metavar="POOL", help="A pool with answers and rewards.")
@_of_pool
@option(
    "--min-margin",
    type=float,
    default=0.0,
    show_default=True,
    metavar="NUMBER",
    help="Take only instructions whose best and worst answers' rewards are at least this far apart.",
)
@_how
def prefers(*, dry_run: bool, as_json: bool, **given: Any) -> int:  # noqa: ANN401  (the fields of `MeasureOptions`)
    """Measure how often a model finds the better answer likelier.

    The model reads the answers with the highest and the lowest reward of each instruction; the better one wins where its
    mean log-likelihood per token is higher. Equal rewards do not count. This number can improve in small models that
    cannot solve the tasks yet. It is also given per third of the crowd's difficulty. Exits with 3 if some have no number.
    """
    return _measure("prefers", given, dry_run=dry_run, as_json=as_json)


@evaluate.command(
    epilog="Example:  crowdselect evaluate harness models/student --tasks arc_easy,hellaswag -o harness-student"
)
@_measured
@option(
    "--tasks",
    multiple=True,
    required=True,
    metavar="NAME[,NAME]...",
    help="Tasks or groups of the harness; may be given several times.",
)
@option("--include-path", metavar="DIR", help="A folder with tasks of your own (.yaml).")
@option("--chat", is_flag=True, help="Write prompts with the model's chat template; endpoints always do.")
@option(
    "--set",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another setting of `lm-eval run`, such as limit=100 or num_fewshot=5; may be given several times.",
)
@option("--name", metavar="NAME", help="The model's name in the result.")
@dry_run_option("Show what would be run and downloaded; load no model, download nothing.")
@seed_option
@overwrite_option
@json_option
def harness(*, dry_run: bool, as_json: bool, **given: Any) -> int:  # noqa: ANN401  (the fields of `HarnessOptions`)
    """Run tasks of lm-evaluation-harness (extra: harness).

    MODEL is a folder with a model or adapters, a name on the Hub, or crowd.toml#NAME; an endpoint can only do tasks
    that ask it to write, none that compare likelihoods. The harness's own samples are kept in the folder; `evaluate compare`
    pairs results over documents. Exits with 3 if documents have no number.
    """
    from crowdselect.cli.following import say_next, without_dry_run
    from crowdselect.evaluate.display import show_harness_plan, show_measured
    from crowdselect.evaluate.harness import HarnessOptions, plan_harness, run_harness
    from crowdselect.progress import Stages
    from crowdselect.terminal import stage_bar

    options = made(HarnessOptions, given)
    if dry_run:
        show_harness_plan(plan_harness(options), as_json=as_json)
        if not as_json:
            say_next(without_dry_run("harness-result"))
        return 0
    found = run_harness(options, stages=Stages(stage_bar))
    show_measured(found, as_json=as_json)
    return 0 if found.is_complete else MISSING


def _measure(kind: "Kind", given: dict[str, Any], *, dry_run: bool, as_json: bool) -> int:
    from crowdselect.cli.following import say_next, without_dry_run
    from crowdselect.evaluate.display import show_measured, show_rows
    from crowdselect.evaluate.measured import MeasureOptions, held_out, local_model, measure
    from crowdselect.hubaccess import ask_for, first_fetched
    from crowdselect.modelfolders import is_here
    from crowdselect.progress import Stages
    from crowdselect.terminal import stage_bar

    options = made(MeasureOptions, given, benchmark=kind)
    if dry_run:
        model = local_model(options.student)
        fetched = [] if is_here(model) else [f"{model}: {first_fetched(ask_for(model, extra='reward'))}"]
        show_rows(held_out(options), notes=fetched, as_json=as_json)
        if not as_json:
            say_next(without_dry_run(f"{kind}-result"))
        return 0
    found = measure(options, stages=Stages(stage_bar))
    show_measured(found, as_json=as_json)
    return 0 if found.is_complete else MISSING


def _evaluate(benchmark: str, given: dict[str, Any], *, dry_run: bool, as_json: bool) -> int:
    from crowdselect.ask.display import note_of, watch
    from crowdselect.cli.following import after_evaluation, say_next, without_dry_run
    from crowdselect.evaluate.display import announce_all, show_interrupted, show_plan, show_result
    from crowdselect.evaluate.job import plan, run
    from crowdselect.evaluate.protocols import PROTOCOLS, EvaluateOptions

    task = made(EvaluateOptions, given, protocol=PROTOCOLS[benchmark])
    if dry_run:
        show_plan(plan(task), as_json=as_json)
        if not as_json:
            say_next(without_dry_run(benchmark))
        return 0
    told: set[str] = set()
    report = run(task, watch=partial(watch, told=told), announce=announce_all, tell=note_of)
    if report.interrupted:
        show_interrupted(report)
        return INTERRUPTED
    show_result(report, reported=told, as_json=as_json)
    if not (as_json or report.was_there):
        say_next(after_evaluation(str(task.folder)))
    return MISSING if report.missing else 0
