"""The command `crowdselect train`; everything heavy is imported when it runs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.options import bundle, config_option, json_option, overwrite_option
from crowdselect.errors import OptionError
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from crowdselect.train.job import Trained
    from crowdselect.train.planning import TrainPlan
    from crowdselect.train.settings import TrainSettings


def _number(*names: str, help: str, kind: type = int, metavar: str = "N") -> Any:  # noqa: A002, ANN401  (click's word; a decorator)
    return click.option(*names, type=kind, metavar=metavar, help=help)


_schedule = bundle(
    click.option(
        "--objective",
        metavar="NAME",
        help="sft, dpo, simpo or orpo; the last three need preference pairs.  [default: sft, for pairs dpo]",
    ),
    click.option("--preset", metavar="paper", help="The paper's settings; what is given beside it wins."),
    config_option,
    _number("--epochs", kind=float, help="How often every row is seen.  [default: 3]"),
    _number("--max-steps", help="Stop after so many steps, whatever the epochs."),
    _number(
        "--learning-rate",
        kind=float,
        metavar="RATE",
        help="[default: 1e-5 for sft, 1e-6 for pairs; ten times that with --lora]",
    ),
    _number("--batch-size", help="Rows per device and pass.  [default: 1]"),
    _number("--accumulation", help="Passes per step.  [default: 2]"),
    click.option(
        "--scheduler",
        metavar="NAME",
        help="cosine, linear, constant, constant_with_warmup, inverse_sqrt, polynomial.  [default: cosine]",
    ),
    _number("--warmup-steps", kind=float, help="Steps; below 1 a share of all.  [default: 0.1]"),
    _number("--weight-decay", kind=float, metavar="X", help="Of AdamW.  [default: 0]"),
    _number("--max-length", metavar="TOKENS", help="Longer rows lose their end.  [default: 2048]"),
    _number("--beta", kind=float, metavar="X", help="Preferences.  [default: 0.1; simpo 2.0]"),
    _number("--gamma", kind=float, metavar="X", help="simpo: the margin.  [default: 1.0]"),
)
_adapters = bundle(
    click.option("--lora", is_flag=True, help="Train low-rank adapters in place of all weights."),
    _number("--lora-rank", help="[default: 16]"),
    _number("--lora-alpha", kind=float, metavar="X", help="[default: 32]"),
    _number("--lora-dropout", kind=float, metavar="SHARE", help="[default: 0]"),
    click.option("--lora-targets", metavar="NAMES", help="Layers, with commas.  [default: all-linear]"),
    click.option("--merge", is_flag=True, help="Write the base model with its adapters added."),
)
_machine = bundle(
    click.option(
        "--dtype", metavar="NAME", help="float32 or bfloat16.  [default: bfloat16 on a GPU that has it]"
    ),
    click.option("--device", metavar="auto|cpu", help="cpu: use no GPU.  [default: auto]"),
    click.option(
        "--gradient-checkpointing/--no-gradient-checkpointing",
        default=None,
        help="Compute activations twice rather than keep them.  [default: on]",
    ),
    click.option("--chat-template", metavar="FILE", help="A Jinja template instead of the base model's own."),
    click.option("--revision", metavar="NAME", help="Commit, tag or branch of a base model on the hub."),
    click.option(
        "--trust-remote-code",
        is_flag=True,
        help="Let the base model's own code run; only if you have read it.",
    ),
)
_course = bundle(
    _number(
        "--eval-share", kind=float, metavar="SHARE", help="Hold out this share of the rows.  [default: 0]"
    ),
    _number("--eval-steps", help="Evaluate every N steps.  [default: ten times in all]"),
    _number("--save-steps", help="Keep a checkpoint every N steps.  [default: after each epoch]"),
    _number("--log-steps", help="Log the loss every N steps.  [default: 1]"),
    _number("--seed", help="Order of the rows, held-out share, adapters' start.  [default: 0]"),
    click.option(
        "--set",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other setting of TRL's trainer; may be repeated.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Say steps, tokens and memory; load no weights, train nothing."
    ),
    click.option("--resume", is_flag=True, hidden=True),  # of 0.1.0: going on is what it does anyway
    click.option("--keep-checkpoints", is_flag=True, help="Keep the folder of checkpoints when all is done."),
)


@click.command(
    epilog="Example:  crowdselect train chosen --base Qwen/Qwen2.5-3B --preset paper --lora -o student"
)
@click.argument("data", metavar="DIR|FILE")
@click.option("--base", required=True, metavar="NAME_OR_PATH", help="The model to start from.")
@_schedule
@_adapters
@_machine
@_course
@overwrite_option
@json_option
@click.option("-o", "--output", metavar="MODEL", help="The folder to write.")
def train(**given: Any) -> None:  # noqa: ANN401  (the fields of `TrainSettings` and those of `_run`)
    """Fine-tune a model on chosen rows (extra: train).

    DIR is a folder that `select` or `baseline` wrote; a training file in one of its formats will do. A run that
    is stopped or killed keeps its checkpoints in MODEL.training; the same command goes on from the last one.
    Several GPUs: accelerate launch -m crowdselect train ...
    """
    from crowdselect.train.settings import with_preset

    given.pop("resume")
    run = {name: given.pop(name) for name in ("data", "base", "output", "overwrite", "keep_checkpoints")}
    dry_run, as_json = given.pop("dry_run"), given.pop("as_json")
    given.pop("config")
    settings = with_preset(given)
    if dry_run:
        _dry_run(run, settings, as_json=as_json)
        return
    if run["output"] is None:
        raise OptionError("say where to write with `output`, or add `dry_run=True`")
    _train(run, settings, as_json=as_json)


def _dry_run(run: dict[str, Any], settings: "TrainSettings", *, as_json: bool) -> None:
    from crowdselect.terminal import say, stage_bar, visible, warn
    from crowdselect.train.job import plan

    with stage_bar("reading the rows as tokens"):
        place = {name: run[name] for name in ("base", "output", "overwrite")}
        found = plan(run["data"], settings=settings, **place)
    if as_json:
        print_json(found.facts())
        return
    _print_plan(found)
    for line in found.warnings:
        warn(line)
    where = "" if run["output"] is None else f"would be written to {visible(run['output'])}; "
    say(f"{where}nothing was trained")


def _train(run: dict[str, Any], settings: "TrainSettings", *, as_json: bool) -> None:
    from crowdselect.progress import Stages
    from crowdselect.terminal import stage_bar, visible
    from crowdselect.train.job import is_main, train
    from crowdselect.train.workplace import workplace

    def announce(found: "TrainPlan") -> None:
        from crowdselect.terminal import warn

        if not as_json:
            _print_plan(found)
        for line in found.warnings:
            warn(line)
        place = Path(os.path.abspath(output))  # noqa: PTH100  (symbolic links stay)
        step = workplace(place).step(processes=found.processes)
        if step:
            sys.stderr.write(f"resuming after step {step} of {found.steps}\n")

    data, output = run.pop("data"), run.pop("output")
    try:
        made = train(data, output, settings=settings, announce=announce, stages=Stages(stage_bar), **run)
    except KeyboardInterrupt:
        sys.stderr.write(
            f"checkpoints, if there are any, are in {visible(output)}.training; the same command goes on from there\n"
        )
        raise
    if not is_main():  # another process of `accelerate launch` speaks
        return
    if as_json:
        print_json(made.facts())
    else:
        _print_result(made, output)


def _print_plan(plan: "TrainPlan") -> None:
    from crowdselect.terminal import lines, say

    lines(plan.lines())
    say()


def _print_result(made: "Trained", output: str) -> None:
    from crowdselect.terminal import lines, say, visible
    from crowdselect.train.diary import drawn

    say(drawn(made.log))
    lines(made.lines())
    what = "up to date" if made.was_there else "written"
    say(f"{visible(output)}: {what}")
