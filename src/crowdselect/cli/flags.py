"""Commands as users meet them: help in sections, near misses, and messages that name options as they are typed.

The library speaks of an option by its Python name in backticks (`max_cost`, `overwrite=True`). Whatever a command
raises or says goes through here, so that its user reads `--max-cost` and `--overwrite`.
"""

import ast
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from textwrap import wrap
from typing import Any

import click

from crowdselect.errors import CrowdselectError, near_miss
from crowdselect.running import kept
from crowdselect.terminal import note, visible, worded

ESSENTIAL = "Options"
"""The first section of help."""

_OF_RUNNING = {"Output", "Where it runs"}
"""Sections of the options of `select` that say nothing of what is chosen."""

_GLUE = "\N{NO-BREAK SPACE}"
_NAMED = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]+))?`")


class Option(click.Option):
    """An option that knows the section of help that it stands in."""

    def __init__(self, *args: Any, section: str = ESSENTIAL, **settings: Any) -> None:  # noqa: ANN401  (click's)
        super().__init__(*args, **settings)
        self.section = section

    @property
    def flag(self) -> str:
        """How it is typed, and how help and messages name it.

        Example:
            >>> Option(["-o", "--output"]).flag
            '--output'
        """
        return max(self.opts, key=len)


class _WithExample(click.Command):
    """A command whose epilog is an example."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's)
        """Write the example so that it can be copied: too long a line goes on after a backslash."""
        if self.epilog:
            glued = re.sub(
                " (?!-)", _GLUE, self.epilog
            )  # an option stays with its value, and a quoted text whole
            lines = wrap(
                glued,
                formatter.width - 4,
                subsequent_indent="    ",
                break_on_hyphens=False,
                break_long_words=False,
            )
            formatter.write_paragraph()
            formatter.write("  " + " \\\n  ".join(lines).replace(_GLUE, " ") + "\n")


class Command(_WithExample):
    """A command whose messages name its options by their flags, and which keeps what it is at beside its output."""

    advises_select = True
    """Whether an option that it lacks and by which `select` chooses is told as the line of `select` to type."""

    def spoken(self, ctx: click.Context) -> Callable[[str], str]:
        """What writes the options in a message as they are typed."""
        root = ctx.find_root().command
        select = root.get_command(ctx, "select") if isinstance(root, Group) and self.advises_select else None
        others = {} if select is None else named_options(select)
        choosing = {n: one for n, one in others.items() if getattr(one, "section", None) not in _OF_RUNNING}
        return partial(as_flags, options=named_options(self), of_select=choosing)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (what the command returns)
        """Run it; errors of ours and lines through `terminal` say flags for Python's names."""
        change = self.spoken(ctx)
        output = None if ctx.params.get("dry_run") else ctx.params.get("output")
        with worded(change), kept(output, ctx.command_path.partition(" ")[2]) as at:
            try:
                return super().invoke(ctx)
            except CrowdselectError as error:
                error.reword(change)
                raise
            finally:
                if at.problem is not None:
                    note(f"what this command is at could not be kept for `crowdselect status`: {at.problem}")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; an option that does not exist is told with the one that is meant."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [name for param in self.params for name in (*param.opts, *param.secondary_opts)]
            raise click.UsageError(
                f"there is no option {error.option_name}{near_miss(error.option_name, known)}", ctx=ctx
            ) from None
        except CrowdselectError as error:
            error.reword(self.spoken(ctx))
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section, in the order of the command; the essential ones first."""
        sections: dict[str, list[tuple[str, str]]] = {ESSENTIAL: []}
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "section", ESSENTIAL), []).append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


class Group(_WithExample, click.Group):
    """Commands under one name; without one of them, help and an error."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments.

        Raises:
            UsageError: There are none; help was printed.
        """
        if not args:
            click.echo(ctx.get_help())
            known = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"which command? One of: {known}")
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; one that does not exist is told with the one that is meant."""
        name, known = args[0], self.list_commands(ctx)
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(f"there is no command {name!r}{near_miss(name, known)}", ctx=ctx)
        return super().resolve_command(ctx, args)


def named_options(command: click.Command) -> dict[str, Option | click.Argument]:
    """Give the options and arguments of a command by the names that Python has for them: the field's, and the flag's own."""
    found: dict[str, Option | click.Argument] = {}
    for param in command.params:
        if isinstance(param, click.Argument):
            found[str(param.name)] = param
        if isinstance(param, Option):
            own = param.flag.removeprefix("--").replace("-", "_")
            for name in (own.removeprefix("no_"), own, str(param.name)):
                found.setdefault(name, param)
    return found


def as_flags(
    text: str,
    *,
    options: Mapping[str, Option | click.Argument],
    of_select: Mapping[str, Option | click.Argument] | None = None,
) -> str:
    """Write the options of a command as they are typed.

    Args:
        text: A message; an option stands in it as `name` or `name=value`, in backticks.
        options: By their Python names; what else stands in backticks is left as it is.
        of_select: Those of `select`, for advice on what to choose by that another command gives: an option with a value
            that the command lacks becomes a line of `select`.

    Example:
        >>> options = named_options(Command("x", params=[Option(["--max-cost"]), Option(["--no-cache"], is_flag=True)]))
        >>> as_flags("`max_cost=3` and `cache=False`; `budget`", options=options)
        '--max-cost 3 and --no-cache; `budget`'
        >>> as_flags("`weights={'difficulty': 1}`", options=named_options(Command("x", params=[Option(["--weights"])])))
        '--weights difficulty=1'
        >>> as_flags("`pairs='best-worst'`", options={}, of_select=named_options(Command("x", params=[Option(["--pairs"])])))
        '`crowdselect select ... --pairs best-worst`'
    """

    def flag(found: re.Match[str]) -> str:
        option = options.get(found[1])
        if option is not None:
            return _typed(option, found[2]) or found[0]
        other = None if found[2] is None else (of_select or {}).get(found[1])
        typed = None if other is None else _typed(other, found[2])
        return found[0] if typed is None else f"`crowdselect select ... {typed}`"

    return _NAMED.sub(flag, text)


def _typed(option: Option | click.Argument, value: str | None) -> str | None:
    """Write one option, with its value where there is one; None where no flag says that. An argument has a word in capitals."""
    if isinstance(option, click.Argument):
        return option.metavar if value is None else None
    if option.is_flag:
        off = option.flag if option.flag.startswith("--no-") else next(iter(option.secondary_opts), None)
        on = None if option.flag.startswith("--no-") else option.flag
        return {None: option.flag, "True": on, "False": off}.get(value)
    return option.flag if value is None else f"{option.flag} {shlex.quote(_plain(value))}"


def _plain(value: str) -> str:
    """A value as it is typed: a text without Python's quotes, a dict as NAME=VALUE,..."""
    try:
        read = ast.literal_eval(value)  # constants only: nothing in a message is run
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
        return value
    if isinstance(read, dict):
        return ",".join(f"{name}={one}" for name, one in read.items())
    return read if isinstance(read, str) else value


def typed_line(arguments: Sequence[str]) -> str:
    """Write a command that can be copied as it stands: a shell reads nothing in its arguments, which may be data."""
    return shlex.join(["crowdselect", *map(visible, arguments)])
