"""The command `crowdselect run`; everything heavy is imported when it runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crowdselect.cli.flags import Command
from crowdselect.cli.options import dry_run_option, json_option, option
from crowdselect.errors import OptionError
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from crowdselect.recipe.running import Line

EXAMPLE = """\
# A recipe: the whole chain in one file.   crowdselect run recipe.toml --dry-run   says what it would do.
#
# Every table is one command; its keys are the options of that command (crowdselect select --help, ...), without
# dashes in front. Paths begin at this file's folder. A list makes a sweep: one step per value. Leave out any
# table that you do not need.

[collect]                            # or [pool] path = "pool.parquet", for answers that are there already
instructions = "instructions.jsonl"
crowd = "crowd.toml"                 # the models and the judge: docs/collect.md
max-cost = 20                        # stops before more than this is spent, over all runs

[reward]                             # leave it out if the pool has rewards
with = ["hf:Skywork/Skywork-Reward-Llama-3.1-8B"]

[[select]]
budget = [500, 1000]                 # two selections
clusters = 10
weights = { difficulty = 1, separability = 1, stability = 2 }

[[select]]
method = "random"                    # what every result is held against
budget = [500, 1000]
seed = [0, 1, 2]                     # three random choices of each size

[[select]]
method = "reward"
budget = [500, 1000]

[compare]                            # a page with all selections side by side

[train]                              # one student per selection and seed
base = "Qwen/Qwen2.5-3B"
preset = "paper"
lora = true
eval-share = 0.05
seed = [0, 1]

[evaluate.mt-bench]
questions = "mt_bench_question.jsonl"
references = "mt_bench_reference_gpt-4.jsonl"
judge = "crowd.toml#judge"
max-cost = 50                        # of all judgements together

[evaluate.loss]                      # without a judge: on rows of the pool that no student was trained on
sample = 500

# [evaluate.harness]                 # tasks of lm-evaluation-harness (extra: harness)
# tasks = ["arc_easy", "hellaswag"]

[evaluate.arena-hard]
questions = "arena_hard_question.jsonl"
baseline = "crowd.toml#anchor"       # whose answers count 50
judge = "crowd.toml#judge"
max-cost = 50
"""


class _Run(Command):
    """Its advice is for a recipe, which holds the options of `select` by their names."""

    advises_select = False


@click.command(
    cls=_Run,
    epilog="Example:  crowdselect run --example > recipe.toml; crowdselect run recipe.toml --dry-run",
)
@click.argument("recipe", required=False, metavar="RECIPE.toml")
@option("-o", "--output", metavar="DIR", help="Folder for all results.  [default: the recipe without .toml]")
@dry_run_option("Show what is done, what is left and its cost; send nothing.")
@option("--example", is_flag=True, help="Print a commented example recipe.")
@option("--keep-going", is_flag=True, help="After a failed step, run those that do not need it.")
@option("--strict", is_flag=True, help="Stop at a step with something missing (answers, scores, verdicts).")
@json_option
def run(
    recipe: str | None,
    *,
    output: str | None,
    dry_run: bool,
    example: bool,
    keep_going: bool,
    strict: bool,
    as_json: bool,
) -> int:
    """Run a chain of commands from one file: collect to comparison.

    Completed steps are kept, keyed by content: run the same recipe again after a stop, a failure or a change, and only
    the missing steps are run. Exits with 3 if something is missing, with 2 if a step failed.
    """
    if example:
        sys.stdout.write(EXAMPLE)
        return 0
    if recipe is None:
        raise OptionError("name a recipe: crowdselect run recipe.toml; --example prints one to begin with")
    folder = Path(output) if output is not None else Path(recipe).with_suffix("")
    if output is None and folder == Path(recipe):
        raise OptionError(
            f"{recipe}: has no ending to leave out for the name of a folder; name one with `output`"
        )
    return _run(recipe, folder, dry_run=dry_run, keep_going=keep_going, strict=strict, as_json=as_json)


def _run(recipe: str, output: Path, *, dry_run: bool, keep_going: bool, strict: bool, as_json: bool) -> int:
    from crowdselect.cli.following import say_next
    from crowdselect.recipe.graph import build, unused_students
    from crowdselect.recipe.needs import Needs, check_machine, check_prices
    from crowdselect.recipe.reading import read_recipe
    from crowdselect.recipe.results import gather, print_results, write_results
    from crowdselect.recipe.running import make_plan, run_steps
    from crowdselect.recipe.store import Digests, Store, check_place, meaning, opened
    from crowdselect.running import kept
    from crowdselect.terminal import counted, say, shown_path, stage_bar, warn

    graph = build(read_recipe(recipe))
    folder = output.absolute()
    check_place(folder)
    digests = Digests(graph.recipe.folder)
    for step in graph.steps:
        meaning(step, digests)  # reports missing files now, not after hours
        check_prices(step, graph.recipe.folder)
    store = Store(folder, digests)
    Needs(graph, store).check()
    check_machine(store.todo(graph.steps), graph.recipe.folder)
    for line in unused_students(graph):
        warn(line)
    if dry_run:
        with stage_bar("asking what each step would do") as progress:
            lines = make_plan(graph, store, all_priced=True, progress=progress)
        _print_plan(lines, folder, as_json=as_json)
        return 0
    with opened(folder) as lock, kept(folder, "run"):
        if not as_json:
            with stage_bar("asking what the next steps would do") as progress:
                lines = make_plan(graph, store, all_priced=False, progress=progress)
            _print_plan(lines, folder, as_json=False)
        try:
            summary = run_steps(graph, store, lock=lock, strict=strict, keep_going=keep_going)
            found = gather(graph, store, summary)
            page = write_results(found, folder)
        except KeyboardInterrupt:
            warn("stopped; completed steps are kept: run the same recipe again to resume")
            raise
    if as_json:
        print_json(found)
        return summary.code
    print_results(found)
    if summary.skipped:
        skipped = len(summary.skipped)
        was = "was" if skipped == 1 else "were"
        warn(f"{counted(skipped, 'step')} {was} skipped because of what failed")
    say(f"written to {shown_path(page)}" if summary.made else f"up to date: {shown_path(folder)}")
    chosen = [store.done(step) for step in graph.steps if step.section == "select"]
    made = next((done for done in chosen if done is not None), None)
    if summary.made and made is not None:
        say_next({"look at what was chosen": [["view", shown_path(made.path)]]})
    return summary.code


def _print_plan(lines: "list[Line]", folder: Path, *, as_json: bool) -> None:
    from crowdselect.ask.budget import UNPRICED
    from crowdselect.recipe.running import total
    from crowdselect.terminal import say, shown_path, table

    if as_json:
        steps = [
            {
                "step": one.step.title,
                "section": one.step.section,
                "state": one.state,
                "amount": one.amount,
                "cost": one.cost,
                "plan": one.facts,
            }
            for one in lines
        ]
        print_json({"output": str(folder), "steps": steps})
        return
    table(
        ["step", "state", "rows or requests", "cost"],
        [[one.step.title, one.state, one.amount, one.cost] for one in lines],
        title="Steps (cost in the currency of the prices)",
    )
    say(f"{total(lines)}; in {shown_path(folder)}")
    if any("money unknown" in one.cost for one in lines):
        say(UNPRICED)
