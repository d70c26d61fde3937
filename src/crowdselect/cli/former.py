"""What was typed before 0.2 and is typed otherwise now: `crowdselect baseline NAME`, and its sections of recipes."""

from collections.abc import Mapping
from typing import Any

import click

from crowdselect.cli.flags import typed_line
from crowdselect.errors import OptionError
from crowdselect.methods import METHODS

_RENAMED = {"direct-score": "column"}
_MARKS = "marks"


@click.command(
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def baseline(arguments: tuple[str, ...]) -> None:
    """Say what to type instead.

    Raises:
        OptionError: Always.
    """
    raise OptionError(
        f"`crowdselect baseline` is now `crowdselect select`; type:  {translated([*arguments])}"
    )


def translated(arguments: list[str]) -> str:
    """Write the command that does what `crowdselect baseline` with these arguments did.

    Args:
        arguments: Those after `baseline`.

    Example:
        >>> translated(["length", "pool.parquet", "--of=answer", "--budget", "9", "-o", "out"])
        'crowdselect select --method length:answer pool.parquet --budget 9 -o out'
        >>> print(translated(["direct-score", "p.csv", "--judge", "c.toml#j", "-o", "d"]))
        crowdselect reward p.csv --with 'judge:c.toml#j' --name marks -o marks.parquet && crowdselect select --method column:marks --rewards marks.parquet p.csv -o d
    """
    if not arguments or arguments[0].startswith("-"):
        return f"{typed_line(['select', '--method'])} NAME POOL --budget N -o DIR"
    rest = arguments[1:]
    judge = _taken(rest, "judge")
    for name in ("ledger", "max-cost", "max-requests") if judge else ():
        _taken(rest, name)
    if judge is not None and _RENAMED.get(arguments[0]) == "column":
        pool = next((word for word in rest if not word.startswith("-")), "POOL")
        first = ["reward", pool, "--with", f"judge:{judge}", "--name", _MARKS, "-o", f"{_MARKS}.parquet"]
        then = ["select", "--method", f"column:{_MARKS}", "--rewards", f"{_MARKS}.parquet", *rest]
        return f"{typed_line(first)} && {typed_line(then)}"
    given = {name: _taken(rest, name) for name in _fills(arguments[0])}
    return typed_line(["select", "--method", method_of(arguments[0], given), *rest])


def method_of(name: str, given: Mapping[str, Any]) -> str:
    """Write `NAME[:ARG]` for a method that was a command or a section of its own.

    Args:
        name: Of that command.
        given: What it was told; its argument is among that, or is left to be filled in.

    Example:
        >>> method_of("deita", {"complexity": "evolved", "quality": "score", "budget": 3})
        'deita:evolved,score'
    """
    called = _RENAMED.get(name, name)
    values = [str(given[part]) for part in _fills(name) if given.get(part) is not None]
    argument = METHODS[called].argument if called in METHODS else None
    if not values and argument is not None and argument.required:
        values = [argument.form]
    return f"{called}:{','.join(values)}" if values else called


def former_section(tables: object) -> str:
    """Say what is written in a recipe in the place of `[baseline.NAME]`.

    Args:
        tables: What stands under `baseline`: a table, or several, by the name.

    Example:
        >>> former_section({"length": {"of": "answer", "budget": 5}})
        '[baseline.length] is now:  [[select]] with method = "length:answer"'
    """
    for name, table in tables.items() if isinstance(tables, dict) else ():
        given = table[0] if isinstance(table, list) and table else table
        if isinstance(given, dict):
            return f'[baseline.{name}] is now:  [[select]] with method = "{method_of(name, given)}"'
    return '[baseline] is now:  [[select]] with method = "NAME"'


def _fills(name: str) -> tuple[str, ...]:
    entry = METHODS.get(_RENAMED.get(name, name))
    return () if entry is None or entry.argument is None else entry.argument.fills


def _taken(arguments: list[str], name: str) -> str | None:
    """Take an option with its value out of a command line."""
    for place, word in enumerate(arguments):
        if word.startswith(f"--{name}="):
            del arguments[place]
            return word.partition("=")[2]
        if word == f"--{name}" and place + 1 < len(arguments):
            value = arguments[place + 1]
            del arguments[place : place + 2]
            return value
    return None
