"""The command `crowdselect train`; everything heavy is imported when it runs."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crowdselect.cli.flags import Command
from crowdselect.cli.options import (
    bundle,
    config_option,
    json_option,
    option,
    overwrite_option,
    section,
    skip_option,
)
from crowdselect.errors import OptionError
from crowdselect.terminal import print_json

if TYPE_CHECKING:
    from crowdselect.train.job import Trained
    from crowdselect.train.planning import TrainPlan
    from crowdselect.train.settings import TrainSettings


_rates = section("Schedule")
_adapters = section("Adapters")
_preferences = section("Preferences")
_machine = section("Model and machine")
_course = section("On the way")
_output = section("Output")
_schedule_options = bundle(
    _rates("--epochs", type=float, metavar="N", help="How often every row is seen.  [default: 3]"),
    _rates("--max-steps", type=int, metavar="N", help="Stop after so many steps, whatever the epochs."),
    _rates(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="[default: 1e-5 for sft, 1e-6 for pairs; ten times that with --lora]",
    ),
    _rates("--batch-size", type=int, metavar="N", help="Rows per device and pass.  [default: 1]"),
    _rates("--accumulation", type=int, metavar="N", help="Passes per step.  [default: 2]"),
    _rates(
        "--scheduler",
        metavar="NAME",
        help="cosine, linear, constant, constant_with_warmup, inverse_sqrt, polynomial.  [default: cosine]",
    ),
    _rates("--warmup-steps", type=float, metavar="N", help="Steps; below 1 a share of all.  [default: 0.1]"),
    _rates("--weight-decay", type=float, metavar="X", help="Of AdamW.  [default: 0]"),
    _rates("--max-length", type=int, metavar="TOKENS", help="Longer rows lose their end.  [default: 2048]"),
    _rates(
        "--set",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other setting of TRL's trainer; may be repeated.",
    ),
)
_adapter_options = bundle(
    _adapters("--lora", is_flag=True, help="Train low-rank adapters in place of all weights."),
    _adapters("--lora-rank", type=int, metavar="N", help="[default: 16]"),
    _adapters("--lora-alpha", type=float, metavar="X", help="[default: 32]"),
    _adapters("--lora-dropout", type=float, metavar="SHARE", help="[default: 0]"),
    _adapters("--lora-targets", metavar="NAMES", help="Layers, with commas.  [default: all-linear]"),
    _adapters("--merge", is_flag=True, help="Write the base model with its adapters added."),
)
_preference_options = bundle(
    _preferences("--beta", type=float, metavar="X", help="[default: 0.1; simpo 2.0]"),
    _preferences("--gamma", type=float, metavar="X", help="simpo: the margin.  [default: 1.0]"),
)
_machine_options = bundle(
    _machine(
        "--dtype", metavar="NAME", help="float32 or bfloat16.  [default: bfloat16 on a GPU that has it]"
    ),
    _machine("--device", metavar="auto|cpu", help="cpu: use no GPU.  [default: auto]"),
    _machine(
        "--gradient-checkpointing/--no-gradient-checkpointing",
        default=None,
        help="Compute activations twice rather than keep them.  [default: on]",
    ),
    _machine("--chat-template", metavar="FILE", help="A Jinja template instead of the base model's own."),
    _machine("--revision", metavar="NAME", help="Commit, tag or branch of a base model on the hub."),
    _machine(
        "--trust-remote-code",
        is_flag=True,
        help="Let the base model's own code run; only if you have read it.",
    ),
)
_course_options = bundle(
    _course(
        "--eval-share", type=float, metavar="SHARE", help="Hold out this share of the rows.  [default: 0]"
    ),
    _course(
        "--eval-steps", type=int, metavar="N", help="Evaluate every N steps.  [default: ten times in all]"
    ),
    _course(
        "--save-steps",
        type=int,
        metavar="N",
        help="Keep a checkpoint every N steps.  [default: after each epoch]",
    ),
    _course("--log-steps", type=int, metavar="N", help="Log the loss every N steps.  [default: 1]"),
    _course("--resume", is_flag=True, hidden=True),  # of 0.1.0: going on is what it does anyway
    _course("--keep-checkpoints", is_flag=True, help="Keep the folder of checkpoints when all is done."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What `crowdselect train` is told beside `TrainSettings`."""

    data: str
    base: str
    output: str | None
    keep_checkpoints: bool
    overwrite: bool
    dry_run: bool
    skip_invalid: bool
    as_json: bool


@click.command(
    cls=Command,
    epilog="Example:  crowdselect train chosen --base Qwen/Qwen2.5-3B --preset paper --lora -o student",
)
@click.argument("data", metavar="DIR|FILE")
@option("--base", required=True, metavar="NAME_OR_PATH", help="The model to start from.")
@option("-o", "--output", metavar="MODEL", help="The folder to write.")
@option(
    "--objective",
    metavar="NAME",
    help="sft, dpo, simpo or orpo; the last three need preference pairs.  [default: sft, for pairs dpo]",
)
@option("--preset", metavar="paper", help="The paper's settings; what is given beside it wins.")
@option(
    "--seed",
    type=int,
    metavar="N",
    help="Order of the rows, held-out share, adapters' start.  [default: 0]",
)
@config_option
@skip_option
@option("--dry-run", is_flag=True, help="Say steps, tokens and memory; load no weights, train nothing.")
@_schedule_options
@_adapter_options
@_preference_options
@_machine_options
@_course_options
@overwrite_option
@json_option
def train(**given: Any) -> None:  # noqa: ANN401  (the fields of `_Asked` and of `TrainSettings`)
    """Fine-tune a model on chosen rows (extra: train).

    DIR is a folder that `select` wrote; a training file in one of its formats will do. A run that
    is stopped or killed keeps its checkpoints in MODEL.training; the same command goes on from the last one.
    Several GPUs: accelerate launch -m crowdselect train ...
    """
    from crowdselect.train.settings import with_preset

    del given["config"], given["resume"]
    asked = _Asked(**{part.name: given.pop(part.name) for part in fields(_Asked)})
    settings = with_preset(given)
    if asked.dry_run:
        _dry_run(asked, settings)
        return
    if asked.output is None:
        raise OptionError("say where to write with `output`, or add `dry_run=True`")
    _train(asked, asked.output, settings)


def _dry_run(asked: _Asked, settings: "TrainSettings") -> None:
    from crowdselect.cli.following import say_next, without_dry_run
    from crowdselect.terminal import say, shown_path, stage_bar, warn
    from crowdselect.train.job import plan

    with stage_bar("reading the rows as tokens"):
        found = plan(
            asked.data,
            base=asked.base,
            settings=settings,
            output=asked.output,
            overwrite=asked.overwrite,
            skip_invalid=asked.skip_invalid,
        )
    if asked.as_json:
        print_json(found.facts())
        return
    _print_plan(found)
    for line in found.warnings:
        warn(line)
    where = "" if asked.output is None else f"; the model would go to {shown_path(asked.output)}"
    say(f"nothing was trained{where}")
    say_next(without_dry_run("student"))


def _train(asked: _Asked, output: str, settings: "TrainSettings") -> None:
    from crowdselect.progress import Stages
    from crowdselect.terminal import note, shown_path, stage_bar, warn
    from crowdselect.train.job import is_main, train
    from crowdselect.train.workplace import workplace

    def announce(found: "TrainPlan") -> None:
        if not asked.as_json:
            _print_plan(found)
        for line in found.warnings:
            warn(line)
        place = Path(os.path.abspath(output))  # noqa: PTH100  (symbolic links stay)
        step = workplace(place).step(processes=found.processes)
        if step:
            note(f"resuming after step {step} of {found.steps}")

    try:
        done = train(
            asked.data,
            output,
            base=asked.base,
            settings=settings,
            overwrite=asked.overwrite,
            keep_checkpoints=asked.keep_checkpoints,
            skip_invalid=asked.skip_invalid,
            announce=announce,
            stages=Stages(stage_bar),
        )
    except KeyboardInterrupt:
        note(f"any checkpoints are in {shown_path(output)}.training; run the same command again to go on")
        raise
    if not is_main():  # another process of `accelerate launch` speaks
        return
    if asked.as_json:
        print_json(done.facts())
    else:
        _print_result(done, output)


def _print_plan(plan: "TrainPlan") -> None:
    from crowdselect.terminal import lines, say

    lines(plan.lines())
    say()


def _print_result(done: "Trained", output: str) -> None:
    from crowdselect.cli.following import after_train, say_next
    from crowdselect.terminal import lines, say, shown_path
    from crowdselect.train.diary import drawn

    say(drawn(done.log))
    lines(done.lines())
    say(f"{'up to date:' if done.was_there else 'written to'} {shown_path(output)}")
    say_next(after_train(output))
