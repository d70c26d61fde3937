"""What a person sees on a terminal: tables, progress, and text from pools made harmless."""

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import StringIO
from shutil import get_terminal_size
from typing import Any

from crowdselect.progress import Progress

_KEPT = "\u200d\u200c"  # joiners belong to scripts and emoji; they move nothing
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, direction, unassigned, line ends
_WIDEST = 44  # terminal cells of a text, where every row is to keep to one line
_NARROWEST = 8  # terminal cells that are left to a text on a narrow terminal
_EVERY = 30.0  # seconds between two lines about a stage, in a pipe
_PAGE = 100  # cells of a line of text in a pipe
_NO_TERMINAL = 10_000  # columns where nobody looks at the width: in a pipe no table is folded
_wording: ContextVar[Callable[[str], str]] = ContextVar("wording", default=str)


def visible(text: object, *, width: int | None = None) -> str:
    r"""Make text from outside safe to print: one line, control and direction characters as escapes.

    Args:
        text: Any value.
        width: Cut to so many characters, with an ellipsis; None keeps all.

    Returns:
        Printable text. A terminal or a bidirectional display does nothing but show it.

    Example:
        >>> visible("red \\x1b[31m alert")
        'red \\x1b[31m alert'
    """
    shown = "".join(_escape(c) if _unsafe(c) else c for c in str(text).replace("\n", " "))
    return shown if width is None or len(shown) <= width else shown[: width - 1] + "…"


def _unsafe(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character) in _UNSAFE


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    one_line: bool = False,
) -> None:
    """Print a table; every cell and heading is shown as text, with markup off.

    Args:
        columns: Headings; one that begins with `>` is aligned to the right.
        rows: Cells; None shows as `-`.
        title: Stands above.
        one_line: Cut long cells with an ellipsis, by the width they have on a terminal; else they fold there.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wide = get_terminal_size().columns if sys.stdout.isatty() else _NO_TERMINAL
    cells = [["-" if cell is None else visible(cell) for cell in row] for row in rows]
    heads = [visible(column.removeprefix(">")) for column in columns]
    right = [column.startswith(">") for column in columns]
    # Numbers are never cut or folded; where the room is short, their headings fold and the texts give way.
    widest = [max((cell_len(row[i]) for row in cells), default=1) for i in range(len(columns))]
    natural = [max(n, cell_len(head)) for n, head in zip(widest, heads, strict=True)]
    folded = [max(n, *map(cell_len, head.split() or [""])) for n, head in zip(widest, heads, strict=True)]
    room = wide - 3 * len(columns) - 1
    kept = natural if sum(natural) <= room else folded
    texts = _shares(
        [n for n, is_number in zip(natural, right, strict=True) if not is_number],
        room=room - sum(n for n, is_number in zip(kept, right, strict=True) if is_number),
        most=_WIDEST if one_line else max(natural),
    )
    unicode = "utf" in (sys.stdout.encoding or "").lower()
    made = Table(box=box.SIMPLE_HEAD if unicode else box.ASCII)
    for head, is_number, width in zip(heads, right, kept, strict=True):
        made.add_column(
            Text(head),
            justify="right" if is_number else "left",
            overflow="ellipsis" if one_line and not is_number else "fold",
            no_wrap=one_line and not is_number,
            width=width if is_number else texts.pop(0),
        )
    for row in cells:
        made.add_row(*map(Text, row))
    if title is not None:
        say(title)
    page = StringIO()  # written by `show`, so that a full disk or a closed pipe shows in one place
    Console(file=page, width=wide, highlight=False, color_system=None).print(made)
    show("\n".join(line.rstrip() for line in page.getvalue().rstrip().split("\n")) + "\n")


def _shares(asked: list[int], *, room: int, most: int) -> list[int]:
    """How many terminal cells each text gets: what it asks for, the widest shortened until all fit."""
    widths = [min(n, most) for n in asked]
    while widths and sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def folded(text: str, *, indent: int = 0) -> list[str]:
    """Break a text into lines that fit the terminal; one that is not seen on a terminal into lines of 100 cells.

    Args:
        text: One line, made safe by `visible`.
        indent: Spaces before each line.
    """
    from rich.console import Console
    from rich.text import Text

    wide = get_terminal_size().columns if sys.stdout.isatty() else _PAGE
    console = Console(file=StringIO(), width=wide, color_system=None)
    return [
        " " * indent + line.plain.rstrip()
        for line in Text(text).wrap(console, max(wide - indent, _NARROWEST))
    ]


def lines(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair per line; None is left out."""
    wide = max(len(name) for name in pairs)
    for name, value in pairs.items():
        if value is not None:
            say(f"{name:<{wide}}  {visible(value)}")


@contextmanager
def worded(change: Callable[[str], str]) -> Iterator[None]:
    """Change what `say`, `note` and `warn` print in the block: a command writes options as its user types them."""
    before = _wording.set(change)
    try:
        yield
    finally:
        _wording.reset(before)


def say(text: str = "") -> None:
    """Print a line of our own making (parts from pools have gone through `visible`)."""
    show(_wording.get()(text))


def show(text: str) -> None:
    """Print text whose words are not ours to change: that of a pool, made harmless by `visible`."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Print a line of our own making on standard error, at once: in a pipe too."""
    sys.stderr.write(_wording.get()(text) + "\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """Print a warning on standard error."""
    note(f"warning: {visible(text)}")


@contextmanager
def stage_bar(name: str) -> Iterator[Progress]:
    """Show a stage on a terminal while it runs, once it has taken a second; in a pipe a line every half minute."""
    if not sys.stderr.isatty():
        line = _Lines(name)
        yield line
        line.end()
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
def _after_a_second(act: Callable[[], None]) -> Iterator[None]:
    from threading import Timer

    timer = Timer(1.0, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Lines:
    """A line about a stage every half minute, and one at its end; none about a shorter stage."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= _EVERY:
            self._said = now
            self._write(f"{done:,} of {total:,} in {now - self._begun:.0f} s")

    def end(self) -> None:
        """Say how long it took."""
        seconds = time.monotonic() - self._begun
        if seconds >= _EVERY:
            self._write(f"done in {seconds:.0f} s")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{self._name}: {text}\n")
        sys.stderr.flush()


def print_json(value: Any) -> None:  # noqa: ANN401  (plain values)
    """Print plain values as JSON."""
    # ASCII keeps control and direction characters as escapes, all but the last of ASCII itself.
    text = json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
