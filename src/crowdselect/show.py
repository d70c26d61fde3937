"""What a person sees on a terminal: tables, progress, and text from pools made harmless."""

import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from crowdselect.stages import Progress

_KEPT = "\u200d\u200c"  # joiners belong to scripts and emoji; they move nothing
_WIDE = 120  # columns when the output is no terminal


def visible(text: object, *, width: int | None = None) -> str:
    r"""Make text from outside safe to print: one line, control and direction characters as escapes.

    Args:
        text: Any value.
        width: Cut to so many characters, with an ellipsis; None keeps all.

    Returns:
        Printable text. A terminal or a bidirectional display does nothing but show it.

    Example:
        >>> visible("red \\x1b[31m alert")
        'red \\\\x1b[31m alert'
    """
    joined = " ".join(str(text).split(" "))
    shown = "".join(_escape(c) if _unsafe(c) else c for c in joined.replace("\n", " "))
    return shown if width is None or len(shown) <= width else shown[: width - 1] + "…"


def _unsafe(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character) in {
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
        "Zl",
        "Zp",
    }


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; every cell is shown as text, with markup off.

    Args:
        columns: Headings; one that begins with `>` is aligned to the right.
        rows: Cells; None shows as `-`.
        title: Stands above.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=None if title is None else Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(
            Text(column.removeprefix(">")),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=right,
        )
    for row in rows:
        made.add_row(*(Text("-" if cell is None else visible(cell)) for cell in row))
    _console().print(made)


def lines(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair per line; None is left out."""
    wide = max(len(name) for name in pairs)
    for name, value in pairs.items():
        if value is not None:
            say(f"{name:<{wide}}  {visible(value)}")


def say(text: str = "") -> None:
    """Print a line of our own making (parts from pools have gone through `visible`)."""
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    """Print a warning on standard error."""
    sys.stderr.write(f"warning: {visible(text)}\n")


@contextmanager
def stage_bar(name: str) -> Iterator[Progress]:
    """Show a stage on a terminal while it runs, once it has taken a second; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None, visible=False)

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        with _after_a_second(lambda: bars.update(task, visible=True)):
            yield report


@contextmanager
def _after_a_second(act: Any) -> Iterator[None]:  # noqa: ANN401  (any callable)
    from threading import Timer

    timer = Timer(1.0, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ignore(done: int, total: int) -> None:
    """Report progress to nobody."""


def _console() -> Any:  # noqa: ANN401  (rich stays unloaded until something is printed)
    from rich.console import Console

    wide = None if sys.stdout.isatty() else _WIDE
    return Console(file=sys.stdout, width=wide, highlight=False, markup=False, emoji=False, soft_wrap=False)
