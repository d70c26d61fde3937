"""Terminal output: tables, progress, and text from pools made safe to print."""

import json
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from shutil import get_terminal_size
from typing import Any, TextIO

from crowdselect.progress import Progress
from crowdselect.running import running

_JOINERS = "\u200d\u200c"  # parts of scripts and emoji; they cannot move other text
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, direction, unassigned, line ends
_CUT, _FOLDED = 22, 30  # fewest terminal cells of a text, cut or folded, for which other columns are left out
_DIVIDED = 14  # fewest terminal cells of a folded text; below, a table is divided into several
_NARROWEST = 8  # fewest terminal cells of a text column on a narrow terminal
_SHARED = 8  # fewest characters of a shared beginning that is left out
_EVERY = 30.0  # seconds between two progress lines of a stage, in a pipe
_BAR = 20  # terminal cells of a bar, so that name, counts and time stand beside it in 80
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
    short: Mapping[str, str] | None = None,
    optional: Sequence[str] = (),
) -> None:
    """Print a table; cells and headings are printed literally, without markup.

    It is as wide as the terminal at most; in a pipe as `COLUMNS` says, else 80 columns. Numbers are never cut or folded. Where
    there is too little room, headings become short and fold, then columns are left out (a line below names them), then texts
    give way; if the numbers alone are too wide, the table is divided.

    Args:
        columns: Headings; a column whose heading begins with `>` is aligned to the right and holds numbers.
        rows: Cells; None shows as `-`.
        title: Above the table.
        one_line: Cut long texts to fit the terminal: first a beginning that they share with another text of the
            column, then their end; an ellipsis replaces either. Else they fold.
        short: Shorter headings by heading, for a narrow terminal.
        optional: Headings of the columns that may be left out, in the order in which they go.
    """
    wide = get_terminal_size().columns
    text, left_out = laid_out(columns, rows, wide=wide, one_line=one_line, short=short, optional=optional)
    if title is not None:
        show("\n".join(_broken(_wording.get()(title), 0)))
    show(text)
    if left_out:
        more = "" if sys.stdout.isatty() else f" (set COLUMNS={2 * wide})"
        say(f"not shown in {wide} columns: {', '.join(left_out)}{more}\n")


def laid_out(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    wide: int,
    one_line: bool = False,
    short: Mapping[str, str] | None = None,
    optional: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """Lay out a table as `table` prints it.

    Args:
        columns: As for `table`, like what follows.
        rows: Likewise.
        wide: Terminal cells per line.
        one_line: Likewise.
        short: Likewise.
        optional: Likewise.

    Returns:
        The table's lines; and the headings of the columns that were left out.
    """
    cells = [["-" if cell is None else visible(cell) for cell in row] for row in rows]
    made = [
        _Column(
            visible(head.removeprefix(">")),
            tuple(row[i] for row in cells),
            number=head.startswith(">"),
            short=(short or {}).get(head.removeprefix(">")),
        )
        for i, head in enumerate(columns)
    ]
    left_out = []
    if not _fits(made, wide, least=wide):
        made = [column.narrowed() for column in made]
        for head in map(visible, optional):
            if _fits(made, wide, least=_CUT if one_line else _FOLDED):
                break
            left_out += [head for column in made if column.long == head]
            made = [column for column in made if column.long != head]
    blocks = _blocks(made, wide, least=_NARROWEST if one_line else _DIVIDED)
    return "\n".join(_drawn(block, wide, one_line=one_line) for block in blocks), left_out


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table; its texts are safe to print."""

    head: str
    cells: tuple[str, ...]
    number: bool
    short: str | None = None
    narrow: bool = False
    """Whether the heading may fold."""
    long: str = ""
    """The heading before it was shortened."""

    def narrowed(self) -> "_Column":
        """Return the same column with the short heading, which may fold."""
        return _Column(self.short or self.head, self.cells, self.number, narrow=True, long=self.head)

    @property
    def width(self) -> int:
        """Terminal cells that it takes if nothing is cut."""
        from rich.cells import cell_len

        head = max(map(cell_len, self.head.split()), default=0) if self.narrow else cell_len(self.head)
        return max(head, *map(cell_len, self.cells)) if self.cells else head


def _room(columns: Sequence[_Column], wide: int) -> int:
    """Return the terminal cells left for the contents of the columns."""
    return wide - 3 * len(columns) - 1


def _fits(columns: Sequence[_Column], wide: int, *, least: int) -> bool:
    """Return whether all numbers fit, and of each text `least` cells or all of it."""
    widths = [column.width if column.number else min(column.width, least) for column in columns]
    return sum(widths) <= _room(columns, wide)


def _blocks(columns: Sequence[_Column], wide: int, *, least: int) -> list[list[_Column]]:
    """Divide columns into tables that fit, one below the other; each begins with the first column."""
    first, *rest = columns
    blocks = [[first]]
    for column in rest:
        block = blocks[-1]
        if len(block) > 1 and not _fits([*block, column], wide, least=least):
            block = [first]
            blocks.append(block)
        block.append(column)
    return blocks


def _drawn(columns: Sequence[_Column], wide: int, *, one_line: bool) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    numbers = sum(column.width for column in columns if column.number)
    texts = _shares(
        [column.width for column in columns if not column.number], room=_room(columns, wide) - numbers
    )
    stdout = getattr(
        sys.stdout, "rich_proxied_file", sys.stdout
    )  # the real stream while a live display is on
    unicode = "utf" in (stdout.encoding or "").lower()
    made = Table(box=box.SIMPLE_HEAD if unicode else box.ASCII)
    shown = []
    for column in columns:
        width = column.width if column.number else texts.pop(0)
        made.add_column(
            Text(column.head),
            justify="right" if column.number else "left",
            overflow="ellipsis" if one_line and not column.number else "fold",
            no_wrap=one_line and not column.number,
            width=width,
        )
        cut = one_line and not column.number
        shown.append(without_shared(column.cells, width=width) if cut else column.cells)
    for row in zip(*shown, strict=True):
        made.add_row(*map(Text, row))
    page = StringIO()  # not standard output: a full disk or a closed pipe shows in one place, `show`
    Console(file=page, width=wide, highlight=False, color_system=None).print(made)
    return "\n".join(line.rstrip() for line in page.getvalue().rstrip().split("\n")) + "\n"


def _shares(natural: list[int], *, room: int) -> list[int]:
    """Return how many terminal cells each text gets: its own width, the widest shortened until all fit."""
    widths = list(natural)
    while widths and sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def without_shared(texts: Sequence[str], *, width: int) -> list[str]:
    """Leave out the beginning that a text shares with another, if the text is too wide.

    Args:
        texts: The texts of one column.
        width: Terminal cells for each.

    Returns:
        The texts; an ellipsis replaces the words left out. If the rest can fit, no more is left out than necessary.

    Example:
        >>> without_shared(["lab/models/elm-7b", "lab/models/elm-72b", "oak"], width=9)
        ['…elm-7b', '…elm-72b', 'oak']
    """
    shared = dict.fromkeys(texts, 0)
    for one, other in pairwise(sorted(shared)):
        differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        same = next(differ, min(len(one), len(other)))
        shared[one], shared[other] = max(shared[one], same), same
    return [_from_word(text, shared[text], width=width) for text in texts]


def _from_word(text: str, shared: int, *, width: int) -> str:
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    begin = text[:shared]
    parts = str.isspace if " " in begin else lambda character: not character.isalnum()
    words = [i for i in range(_SHARED, min(shared + 1, len(text))) if parts(text[i - 1])]
    if not words:
        return text
    return "…" + text[next((i for i in words if cell_len(text[i:]) < width), words[-1]) :]


def folded(text: str, *, indent: int = 0) -> list[str]:
    """Break a text into lines that fit the terminal; in a pipe as `table` does.

    Args:
        text: One line, made safe by `visible`.
        indent: Spaces before each line.
    """
    wide = get_terminal_size().columns
    return [" " * indent + line for line in _wrapped(text, wide - indent)]


def lines(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair per line; values of None are left out."""
    wide = max(len(name) for name in pairs)
    for name, value in pairs.items():
        if value is not None:
            say(f"{name:<{wide}}  {visible(value)}", hang=wide + 2)


@contextmanager
def worded(change: Callable[[str], str]) -> Iterator[None]:
    """Reword what `say`, `note` and `warn` print in the block: a command writes options as its user types them."""
    before = _wording.set(change)
    try:
        yield
    finally:
        _wording.reset(before)


def reworded(text: str) -> str:
    """Return a line of our own wording as `say` would print it, for a page that a command writes."""
    return _wording.get()(text)


def say(text: str = "", *, hang: int = 0) -> None:
    """Print a line of our own wording (text from pools has gone through `visible`).

    Args:
        text: The line; on a terminal it is broken between words where it does not fit.
        hang: Indent of its further lines.
    """
    show(fitted(_wording.get()(text), hang=hang))


def show(text: str) -> None:
    """Print text that must not be reworded: that of a pool, made safe by `visible`."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Print a line of our own wording on standard error, flushed at once, in a pipe too."""
    sys.stderr.write(fitted(_wording.get()(text), sys.stderr) + "\n")
    sys.stderr.flush()


def remark(text: str) -> None:
    """Print on standard error what the user may want to know, and need not act on."""
    note(f"note: {visible(text)}")


def warn(text: str) -> None:
    """Print a warning on standard error."""
    note(f"warning: {visible(text)}")


def fitted(text: str, stream: TextIO | None = None, *, hang: int = 0) -> str:
    """Break lines between words where they do not fit the terminal; in a pipe they stay as they are.

    Args:
        text: Made safe by `visible`.
        stream: Where it will be written; None = standard output.
        hang: Indent of the further lines of a broken line.
    """
    stream = stream or sys.stdout
    return "\n".join(
        part for line in text.split("\n") for part in (_broken(line, hang) if stream.isatty() else [line])
    )


def _broken(line: str, hang: int) -> list[str]:
    wide = get_terminal_size().columns
    if len(line) * 2 <= wide:  # a character takes two cells at most
        return [line]
    first, *rest = _wrapped(line, wide)
    return [
        first,
        *(" " * hang + part for part in _wrapped(line[len(first) :].lstrip(), wide - hang) if rest),
    ]


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` terminal cells, between words if possible."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=StringIO(), width=width, color_system=None)
    return [line.plain.rstrip() for line in Text(text).wrap(console, max(width, _NARROWEST))]


def shown_path(path: str | os.PathLike[str]) -> str:
    """Return a path for a message: as it was typed, or relative to the working folder where that is shorter.

    Args:
        path: Of a file or folder, or an address.

    Example:
        >>> shown_path("chosen/report.html"), shown_path(os.path.abspath("chosen"))
        ('chosen/report.html', 'chosen')
    """
    typed = os.fspath(path)
    if "://" not in typed:
        with suppress(OSError, ValueError):  # the working folder is gone; another drive
            typed = min(typed, os.path.relpath(typed), key=len)
    return visible(typed)


def thousands(value: object) -> str:
    """Format a whole number with commas; return anything else, as a manifest may hold it, as text.

    Example:
        >>> thousands(1234), thousands("many")
        ('1,234', 'many')
    """
    return f"{value:,}" if isinstance(value, int) else str(value)


def counted(value: object, noun: str, plural: str | None = None) -> str:
    """Format a count with its noun in the right number.

    Example:
        >>> counted(1, "row"), counted(1234, "row"), counted(2, "family", "families")
        ('1 row', '1,234 rows', '2 families')
    """
    return f"{thousands(value)} {noun if value == 1 else plural or f'{noun}s'}"


@contextmanager
def stage_bar(name: str) -> Iterator[Progress]:
    """Show a progress bar on a terminal once a stage has taken a second; in a pipe, a line every half minute.

    What the command is at is kept beside its output, too; see `crowdselect.running`.
    """
    at = running()
    at.tell(name)
    with _shown_bar(name) as report:

        def told(done: int, total: int) -> None:
            at.tell(name, done, total)
            report(done, total)

        yield told


@contextmanager
def _shown_bar(name: str) -> Iterator[Progress]:
    if not sys.stderr.isatty():
        line = _Lines(name)
        yield line
        line.end()
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=_BAR),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None, visible=False, count="")

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, count=f"{done:,}/{total:,}")

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
