"""What the commands that write an output are at, from any process of this machine: for terminals and notebooks."""

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from crowdselect.errors import InputError
from crowdselect.running import progress_path, read_progress
from crowdselect.terminal import counted, shown_path, visible


@dataclass(frozen=True, slots=True, repr=False)
class Status:
    """What commands are at. Printed it is a line per command; a notebook shows bars.

    Attributes:
        output: What they write, an absolute path.
        exists: Whether it is there.
        running: What each command wrote of itself; see `crowdselect.running`.
    """

    output: Path
    exists: bool
    running: tuple[dict[str, Any], ...]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        bars = [_bar(one) for one in self.running] or [""]
        return "".join(f"<p>{bar}{escape(line)}</p>" for bar, line in zip(bars, self.lines(), strict=True))

    def lines(self) -> list[str]:
        """Return a line for each command, or one that says that there is none."""
        none = f"no command is writing {shown_path(self.output)}, which is there"
        return [_line(one) for one in self.running] or [none]


def status(output: str | os.PathLike[str]) -> Status:
    """Look what the command that writes an output is at.

    Args:
        output: The file or folder that it was told to write; of a recipe, the folder of its results, whose step is
            shown too. Any command that takes longer than a second can be looked at.

    Raises:
        InputError: Nothing is there, and no command says that it is writing it.

    Example:
        >>> status("no-such-output")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-output: nothing is there, and no command says that it is writing it
    """
    place = Path(os.path.abspath(output))  # noqa: PTH100  (".." is resolved, symbolic links stay)
    paths = [progress_path(place), *sorted(place.glob("steps/*/.*.progress.json"))]
    found = tuple(one for one in map(read_progress, paths) if one is not None)
    if not found and not place.exists():
        raise InputError(f"{output}: nothing is there, and no command says that it is writing it")
    return Status(place, place.exists(), found)


def _bar(one: dict[str, Any]) -> str:
    """Draw how far a command is, where that is known."""
    if one["done"] is None or not one["of"]:
        return ""
    return f'<progress value="{one["done"]:d}" max="{one["of"]:d}"></progress> '


def _line(one: dict[str, Any]) -> str:
    """What one command is at, in a line."""
    at = visible(one["stage"])
    if one["done"] is not None:
        of = "" if one["of"] is None else f" of {one['of']:,}{' steps' * (one['command'] == 'run')}"
        at += f", {one['done']:,}{of} done"
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
