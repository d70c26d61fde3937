"""What texts hold, looked for in their bytes: reasoning, control characters, marks of failed calls and of chat templates."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdselect.pool.columns import FAILED, OPENINGS, begins, broken, is_failed, is_opened, is_wrapped
from crowdselect.pool.source import Source
from crowdselect.terminal import counted

if TYPE_CHECKING:
    import pyarrow as pa

_LOOKED_INTO = 2_048  # rows whose texts are looked into at a time: as many as DuckDB makes at once
_THINK = b"think>"
_LONGEST_MARK = max(map(len, FAILED))
_ERROR = r"^\s*(?i:\[?(api |request )?error( code)?\]?:)"
_ERROR_READ = 60  # characters of an answer that begins as an error does
_ALIKE_ERRORS = 3  # of one beginning, at least
_ERRORS_TOLD = 3
_PIECE = 1 << 18  # bytes looked into at a time: they stay in the processor's cache


class Looked(NamedTuple):
    """What some text of a column holds."""

    thinks: bool
    """Reasoning, perhaps."""
    broken: bool
    """Control characters, which servers and other files refuse."""
    failed: tuple[str, ...]
    """The marks of `FAILED` that are whole texts."""
    opened: bool
    """It begins as a chat template begins a turn of the assistant."""
    errors: Mapping[str, int] = MappingProxyType({})
    """How texts begin that begin as an error does, such as `ERROR: Request timed out.` → how many do."""
    texts: int = 0
    """How many there are."""


def together(found: Iterable[Looked]) -> Looked:
    """What any of several columns holds."""
    thinks, broken, failed, opened, errors, texts = zip(*found, strict=True)
    marks = tuple(sorted(set(chain(*failed))))
    return Looked(
        any(thinks), any(broken), marks, any(opened), sum(map(Counter, errors), Counter()), sum(texts)
    )


_SAYS: tuple[tuple[str, Callable[[str], str], str], ...] = (
    ("broken", broken, "control characters in the answers of {} are now U+FFFD"),
    (
        "failed",
        is_failed,
        "answers of {} are {}, which a failed call or formula leaves: they count as no text",
    ),
    (
        "opened",
        is_wrapped,
        "answers of {} are written as a chat template writes the assistant's turn; its markers are taken off",
    ),
    (
        "opened",
        lambda text: f"{is_opened(text)} AND NOT {is_wrapped(text)}",
        "answers of {} begin with a chat template's marker and hold others; they stay, and a trainer adds its own template",
    ),
)
"""What there may be, how SQL says it of a text, and what the user is told."""


def notes_of(source: Source, found: Looked, of_row: Callable[[Callable[[str], str]], str]) -> list[str]:
    """Say what was found in answers, and in how many rows.

    Args:
        source: The rows.
        found: What their answers hold.
        of_row: Makes SQL of a row, true where it is true of one of its answers, of SQL of a text.
    """
    notes = []
    for what, holds, says in _SAYS:
        if getattr(found, what):
            count = source.fetch(f"count(*) FILTER ({of_row(holds)})").column(0)[0].as_py()
            notes += [says.format(counted(count, "row"), " or ".join(found.failed))] if count else []
    for begin in _alike_errors(found):
        count = source.fetch(f"count(*) FILTER ({of_row(partial(begins, begin=begin))})").column(0)[0].as_py()
        notes.append(
            f"answers of {counted(count, 'row')} begin with {begin!r}; if calls failed there, they are no answers: empty these texts, "
            "since an answer without a text is not trained on"
        )
    return notes


def look_into(source: Source, *texts: str) -> list[Looked]:
    """Say of some texts, or lists of texts, what any of them holds; some rows are in memory at a time."""
    import pyarrow.compute as pc

    found = [[False, False, False] for _ in texts]
    failed = [set[str]() for _ in texts]
    errors, counts = [Counter[str]() for _ in texts], [0 for _ in texts]
    for batch in source.batches(*texts, rows=_LOOKED_INTO) if texts else ():
        for at, (own, marks, column) in enumerate(zip(found, failed, batch.columns, strict=True)):
            flat = _flat(column)
            counts[at] += len(flat) - flat.null_count
            errors[at].update(_errors_in(flat))
            short = flat.filter(pc.less_equal(pc.binary_length(flat), _LONGEST_MARK))
            marks.update(set(FAILED).intersection(short.unique().to_pylist()))
            own[2] = own[2] or any(pc.any(pc.starts_with(flat, each)).as_py() for each in OPENINGS)
            data = _bytes_of(flat)
            # Reasoning is looked for until some is found; the piece before lends the bytes it may begin in.
            for begin in range(0, len(data), _PIECE):
                piece = data[max(begin - len(_THINK), 0) : begin + _PIECE]
                own[0] = own[0] or _thinks(piece)
                own[1] = own[1] or _is_broken(piece)
    return [
        Looked(thinks, broken, tuple(sorted(marks)), opened, own, count)
        for (thinks, broken, opened), marks, own, count in zip(found, failed, errors, counts, strict=True)
    ]


def _errors_in(texts: "pa.Array") -> list[str]:
    """How the texts begin that begin as an error does."""
    import pyarrow.compute as pc

    those = texts.filter(pc.match_substring_regex(texts, _ERROR))
    found = pc.utf8_slice_codeunits(pc.utf8_ltrim_whitespace(those), 0, _ERROR_READ).to_pylist()
    return [text.split("\n")[0].rstrip() for text in found]


def _alike_errors(found: Looked) -> list[str]:
    """The beginnings of errors that several texts share, where most begin otherwise."""
    errors = Counter(found.errors)
    few = 2 * errors.total() < found.texts
    return [begin for begin, times in errors.most_common(_ERRORS_TOLD) if few and times >= _ALIKE_ERRORS]


def _thinks(data: NDArray[np.uint8]) -> bool:
    """Say whether `think>` stands in some bytes: its last two letters are rare, and NumPy finds them fast."""
    last = (data[1:] == _THINK[-1]) & (data[:-1] == _THINK[-2])
    return bool(last.any()) and _THINK in data.tobytes()


def _is_broken(data: NDArray[np.uint8]) -> bool:
    """Say whether control characters stand in some bytes: below 9, or from 14 to 31 (what is below 14 wraps around)."""
    return bool(data.min() < 9 or (data - np.uint8(14)).min() < 18)


def _flat(column: "pa.Array") -> "pa.Array":
    """An array of texts, those of lists of texts one after the other; an empty one where all is null."""
    import pyarrow as pa

    while not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        if pa.types.is_null(column.type):
            return pa.array([], type=pa.string())
        column = column.flatten()
    return column


def _bytes_of(texts: "pa.Array") -> NDArray[np.uint8]:
    """The bytes of an array of texts, one text after the other."""
    import pyarrow as pa

    if not len(texts) or texts.buffers()[2] is None:
        return np.empty(0, dtype=np.uint8)
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(texts.buffers()[1], dtype=width)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(texts.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
