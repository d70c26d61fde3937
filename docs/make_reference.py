"""Write `cli.md`, the reference of the command line, and the table of `methods.md`, from the commands and methods themselves.

    python docs/make_reference.py

A command's sections and their order are those of its `--help`; a test compares the committed pages with what this makes.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from crowdselect.cli.main import cli
from crowdselect.methods import METHODS

PAGE = Path(__file__).with_name("cli.md")
METHODS_PAGE = Path(__file__).with_name("methods.md")
_TABLE = re.compile(r"(?s)(<!-- Made by docs/make_reference.py[^\n]*-->\n\n).*?(\n<!-- end -->)")

_BEGINNING = """# Command line

<!-- Made by docs/make_reference.py from the commands; edit their help, not this page. -->

Every command and option, as `crowdselect COMMAND --help` shows them. The options of a command may also stand in a
[recipe](recipe.md), by the same names without the dashes.
"""


class _Sections(click.HelpFormatter):
    """Takes what a command writes for its help as lists of terms and their meaning, by heading."""

    def __init__(self) -> None:
        super().__init__(width=1000)  # short help of commands is cut to the width
        self.found: list[tuple[str, list[tuple[str, str]]]] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.found.append((name, []))
        yield

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:  # noqa: ARG002  (click's signature)
        self.found[-1][1].extend(rows)


def reference(command: click.Command = cli, name: str = "crowdselect") -> str:
    """Make the page: one part per command, those of a group below it.

    Args:
        command: The command to begin at.
        name: How it is called.

    Returns:
        Markdown that ends with a line break. The same for the same commands, on every machine.
    """
    return "\n".join([_BEGINNING, *_parts(command, click.Context(command, info_name=name))])


def _parts(command: click.Command, ctx: click.Context) -> Iterator[str]:
    path = ctx.command_path
    yield f"## {path}\n"
    usage = " ".join([path, *command.collect_usage_pieces(ctx)])
    about = (command.help or "").split("\f")[0]
    yield f"{_prose(about)}\n\n```text\n{usage}\n```\n"
    sections = _Sections()
    command.format_options(ctx, sections)
    for heading, rows in sections.found:
        yield f"**{heading}**\n\n| | |\n|---|---|\n" + "".join(
            _row(heading, path, *row) for row in rows if not row[0].endswith("--help")
        )
    if command.epilog:
        yield f"```text\n{command.epilog.split(':', 1)[-1].strip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            if below is not None and not below.hidden:
                yield from _parts(below, click.Context(below, info_name=name, parent=ctx))


def with_methods(page: str) -> str:
    """Make the table of a page anew: one row per method, from its record.

    Args:
        page: Markdown with the two comments that the table stands between.
    """
    head = (
        "method",
        "what it is for",
        "what it assumes",
        "to be run for 100,000 rows",
        "in the proving ground",
        "source",
    )
    rows = [
        (f"`{e.form(name)}`", e.purpose, e.assumes, e.cost, _found(e.evidence), e.source)
        for name, e in METHODS.items()
    ]
    lines = [head, ("---",) * len(head), *rows]
    table = "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)
    return _TABLE.sub(lambda match: match[1] + table + match[2], page)


def _found(evidence: str) -> str:
    """What the proving ground found, without where to read it, as the page says that once."""
    words = evidence.replace(" (docs/evidence.md)", "").replace("in the proving ground ", "")
    return words.replace("it has not been tried in the proving ground", "not tried")


def _row(heading: str, path: str, term: str, meaning: str) -> str:
    shown = f"`{_cell(term)}`"
    if heading == "Commands":
        shown = f"[{shown}](#{path.replace(' ', '-')}-{term})"
    return f"| {shown} | {_cell(_prose(meaning))} |\n"


def _prose(text: str) -> str:
    """Write help as Markdown: options as code, nothing of it as markup."""
    outside = re.split(r"(`[^`]*`)", inspect.cleandoc(text))
    for place in range(0, len(outside), 2):
        plain = re.sub(r"([\\*<_\[\]])", r"\\\1", outside[place])
        outside[place] = re.sub(r"(?<![\w-])(--?[a-z][\w-]*)", r"`\1`", plain)
    return "".join(outside)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    METHODS_PAGE.write_text(with_methods(METHODS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
