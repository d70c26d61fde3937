"""Terminal output: tables, progress, and text from pools made safe to print."""

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

_JOINERS = "\u200d\u200c"  # parts of scripts and emoji; they cannot move other text
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, direction, unassigned, line ends
_WIDEST = 44  # most terminal cells of a text column whose rows take one line each
_NARROWEST = 8  # fewest terminal cells of a text column on a narrow terminal
_EVERY = 30.0  # seconds between two progress lines of a stage, in a pipe
_PAGE = 100  # cells per line of text in a pipe
_NO_TERMINAL = 10_000  # terminal columns assumed in a pipe, so that no table is folded
_wording: ContextVar[Callable[[str], str]] = ContextVar("wording", default=str)


def visible(text: object, *, width: int | None = None) -> str:
    r"""Make untrusted text safe to print: one line, control and direction characters as escapes.

    Args:
        text: Any value.
        width: Cut to this many characters, with an ellipsis; None keeps all.

    Returns:
        Printable text, with nothing in it that a terminal or a bidirectional display would act on.

    Example:
        >>> visible("red \\x1b[31m alert")
        'red \\x1b[31m alert'
    """
    shown = "".join(_escape(c) if _unsafe(c) else c for c in str(text).replace("\n", " "))
    return shown if width is None or len(shown) <= width else shown[: width - 1] + "…"


def _unsafe(character: str) -> bool:
    return character not in _JOINERS and unicodedata.category(character) in _UNSAFE


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    one_line: bool = False,
) -> None:
    """Print a table; cells and headings are printed literally, without markup.

    Args:
        columns: Headings; a column whose heading begins with `>` is aligned to the right.
        rows: Cells; None shows as `-`.
        title: A line above the table.
        one_line: Cut long cells with an ellipsis, to fit the terminal; else they fold.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    total_width = get_terminal_size().columns if sys.stdout.isatty() else _NO_TERMINAL
    cells = [["-" if cell is None else visible(cell) for cell in row] for row in rows]
    heads = [visible(column.removeprefix(">")) for column in columns]
    right = [column.startswith(">") for column in columns]
    # Numbers are never cut or folded; if space is short, their headings fold and the texts get narrower.
    widest = [max((cell_len(row[i]) for row in cells), default=1) for i in range(len(columns))]
    natural = [max(n, cell_len(head)) for n, head in zip(widest, heads, strict=True)]
    folded = [max(n, *map(cell_len, head.split() or [""])) for n, head in zip(widest, heads, strict=True)]
    room = total_width - 3 * len(columns) - 1
    widths = natural if sum(natural) <= room else folded
    texts = _shares(
        [n for n, is_number in zip(natural, right, strict=True) if not is_number],
        room=room - sum(n for n, is_number in zip(widths, right, strict=True) if is_number),
        most=_WIDEST if one_line else max(natural),
    )
    unicode = "utf" in (sys.stdout.encoding or "").lower()
    grid = Table(box=box.SIMPLE_HEAD if unicode else box.ASCII)
    for head, is_number, width in zip(heads, right, widths, strict=True):
        grid.add_column(
            Text(head),
            justify="right" if is_number else "left",
            overflow="ellipsis" if one_line and not is_number else "fold",
            no_wrap=one_line and not is_number,
            width=width if is_number else texts.pop(0),
        )
    for row in cells:
        grid.add_row(*map(Text, row))
    if title is not None:
        say(title)
    rendered = StringIO()  # printed by `show`, so that a full disk or a closed pipe is noticed in one place
    Console(file=rendered, width=total_width, highlight=False, color_system=None).print(grid)
    show("\n".join(line.rstrip() for line in rendered.getvalue().rstrip().split("\n")) + "\n")


def _shares(natural: list[int], *, room: int, most: int) -> list[int]:
    """Return how many terminal cells each text gets: its own width, the widest shortened until all fit."""
    widths = [min(n, most) for n in natural]
    while widths and sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def folded(text: str, *, indent: int = 0) -> list[str]:
    """Break a text into lines that fit the terminal; in a pipe, into lines of 100 cells.

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
    """Print names and values, one pair per line; values of None are left out."""
    wide = max(len(name) for name in pairs)
    for name, value in pairs.items():
        if value is not None:
            say(f"{name:<{wide}}  {visible(value)}")


@contextmanager
def worded(change: Callable[[str], str]) -> Iterator[None]:
    """Reword what `say`, `note` and `warn` print in the block: a command writes options as its user types them."""
    before = _wording.set(change)
    try:
        yield
    finally:
        _wording.reset(before)


def say(text: str = "") -> None:
    """Print a line of our own wording (text from pools has gone through `visible`)."""
    show(_wording.get()(text))


def show(text: str) -> None:
    """Print text that must not be reworded: that of a pool, made safe by `visible`."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Print a line of our own wording on standard error, flushed at once, in a pipe too."""
    sys.stderr.write(_wording.get()(text) + "\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """Print a warning on standard error."""
    note(f"warning: {visible(text)}")


@contextmanager
def stage_bar(name: str) -> Iterator[Progress]:
    """Show a progress bar on a terminal once a stage has taken a second; in a pipe, a line every half minute."""
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
    """Progress lines of a stage, every half minute and at its end; none for a shorter stage."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= _EVERY:
            self._said = now
            self._write(f"{done:,} of {total:,} in {now - self._begun:.0f} s")

    def end(self) -> None:
        """Print how long the stage took, if it took half a minute."""
        seconds = time.monotonic() - self._begun
        if seconds >= _EVERY:
            self._write(f"done in {seconds:.0f} s")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{self._name}: {text}\n")
        sys.stderr.flush()


def print_json(value: Any) -> None:  # noqa: ANN401  (plain values)
    """Print plain values as JSON."""
    # ASCII output escapes control and direction characters, all but DEL, the last one of ASCII.
    text = json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
