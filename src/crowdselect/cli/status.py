"""The command `crowdselect status`: what a running command is at, by its output."""

from pathlib import Path
from typing import Any

import click

from crowdselect.cli.flags import Command
from crowdselect.cli.options import json_option
from crowdselect.errors import InputError
from crowdselect.terminal import counted, print_json, say, shown_path, visible


@click.command(cls=Command, epilog="Example:  crowdselect status pool.parquet")
@click.argument("output", metavar="OUTPUT")
@json_option
def status(output: str, *, as_json: bool) -> None:
    """Say what the command that writes OUTPUT is at.

    OUTPUT is the file or the folder that the command was told to write; for `run`, the folder of its results. Any
    command that takes longer than a second can be looked at, from any terminal of this machine.
    """
    from crowdselect.running import progress_path, read_progress

    place = Path(output).absolute()
    paths = [progress_path(place), *sorted(place.glob("steps/*/.*.progress.json"))]
    found = [one for one in map(read_progress, paths) if one is not None]
    if not found and not place.exists():
        raise InputError(f"{output}: nothing is there, and no command says that it is writing it")
    if as_json:
        print_json({"output": str(place), "exists": place.exists(), "running": found})
        return
    for one in found:
        say(_line(one), hang=2)
    if not found:
        say(f"no command is writing {shown_path(output)}, which is there")


def _line(one: dict[str, Any]) -> str:
    """What one command is at, in a line."""
    at = visible(one["stage"])
    if one["done"] is not None:
        of = "" if one["of"] is None else f" of {one['of']:,}"
        at += f", {one['done']:,}{of}"
    command, process = visible(one["command"]), f"process {one['process']}"
    if one["alive"] is False:
        return f"stopped: {command} ({process} is gone) was at: {at}; the same command goes on"
    if one["per_second"] is not None:
        at += f", {one['per_second']:,.3g} per second"
    if one["seconds_left"] is not None:
        at += f", about {_clock(one['seconds_left'])} left"
    if one["cost"]:
        at += f", {one['cost']:.4f} spent"
    where = "" if one["alive"] else f" on {visible(one['host'])}"
    return f"running: {command} ({process}{where}, since {one['began']}): {at}, as of {one['at']}"


def _clock(seconds: float) -> str:
    """A duration as people say it, in whole minutes from two minutes on.

    Example:
        >>> _clock(75), _clock(7300)
        ('75 s', '2 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else counted(minutes, "minute")
