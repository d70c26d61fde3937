"""The instructions of a pool in code-point order of id, and which of them each row of the source is about."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.pool.codes import coded, codes_of, first_missing, first_null, inverse, sorted_once, to_numpy
from crowdselect.pool.source import Source
from crowdselect.pool.views import View
from crowdselect.seeding import seeded_hash
from crowdselect.terminal import counted
from crowdselect.types import BoolArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Index:
    """Which instructions there are, and which of them each source row is about."""

    ids: "pa.Array"
    """Shape (N,), the instructions that `limit` lets in, in code-point order."""
    known: "pa.Array"
    """All ids of the pool, also those beyond `limit`."""
    chosen: IntArray
    """Place in `ids` of each known id, -1 beyond `limit`."""
    row_of: IntArray
    """Instruction of each source row, -1 beyond `limit`."""

    def id(self, row: int) -> str:
        """Give the id of an instruction."""
        return str(self.ids[int(row)].as_py())

    def find(self, ids: "pa.Array | pa.ChunkedArray") -> tuple[IntArray, BoolArray]:
        """Give the instruction of each id (-1: none), and whether the pool knows the id at all."""
        import pyarrow.compute as pc

        known = to_numpy(pc.fill_null(pc.index_in(ids, self.known), -1)).astype(np.int64)
        return np.where(known >= 0, self.chosen[known], -1), known >= 0

    def sources(self) -> IntArray:
        """Shape (N,): the source row of each instruction, where a row is an instruction."""
        rows = np.flatnonzero(self.row_of >= 0)
        at = np.empty(len(self.ids), dtype=np.int64)
        at[self.row_of[rows]] = rows
        return at


def build_index(source: Source, view: View, *, limit: int | None, seed: int) -> Index:
    """Read the ids of a pool and put them in code-point order.

    Args:
        source: The pool's rows.
        view: Where its id is.
        limit: Let only this many instructions in; None = all.
        seed: Of the hash that says which come first.

    Raises:
        InputError: There is no row, an id is missing, or one stands twice where a row is an instruction.
    """
    known, codes = _known(source, view)
    if limit is None or limit >= len(known):
        return Index(known, known, np.arange(len(known), dtype=np.int64), codes)
    keys = seeded_hash(to_numpy(known), seed=seed, salt="limit")
    first = np.sort(np.argsort(keys, kind="stable")[:limit])
    chosen = np.full(len(known), -1, dtype=np.int64)
    chosen[first] = np.arange(limit)
    return Index(known.take(first), known, chosen, chosen[codes])


def _known(source: Source, view: View) -> tuple["pa.Array", IntArray]:
    """The ids of a pool in code-point order, and which of them each row has."""

    def check(rows: int, missing: int | None) -> None:
        if not rows:
            raise InputError(f"{source.path}: the file holds no rows; wanted at least one instruction")
        if missing is not None:
            wanted = "text to make one from" if view.id_made else "one in every row"
            raise InputError(
                f"{source.place(missing)}: the id is missing; wanted {wanted}; fill it in or drop the row"
            )

    if view.row_is_instruction:
        column = source.fetch(view.id).column(0)
        check(len(column), first_null(column))
        return _sorted_rows(column, source, view)
    known, codes = codes_of(source.fetch(view.id).column(0)) if view.id_made else coded(source, view.id)
    check(len(codes), first_missing(codes))
    return known, codes


def values_per_id(source: Source, view: View, index: Index, sql: str) -> "tuple[pa.Array, pa.Array]":
    """Evaluate SQL for every instruction, whose rows may disagree.

    Args:
        source: The pool's rows.
        view: Its layout; where an id has many rows, the nulls among its values do not count.
        index: The instructions.
        sql: The expression.

    Returns:
        Both (N,): the smallest value, and the largest as text where that is another.
    """
    import pyarrow as pa

    if view.row_is_instruction:
        values = source.fetch(sql).column(0).combine_chunks().take(index.sources())
        return values, pa.nulls(len(values))
    keys, low, high = source.grouped(view.id, sql).columns
    rows, _ = index.find(keys)
    places = np.flatnonzero(rows >= 0)
    order = places[np.argsort(rows[places])]
    return low.combine_chunks().take(order), high.combine_chunks().take(order)


def one_per_id(
    source: Source, view: View, index: Index, sql: str, *, what: str, asked: bool = False
) -> "pa.Array":
    """Evaluate SQL once per instruction.

    Args:
        source: The pool's rows.
        view: Its layout; where an id has many rows, the nulls among its values do not count.
        index: The instructions.
        sql: The expression.
        what: Its name, for messages.
        asked: Whether it is what was asked, of which an id can be made.

    Returns:
        Shape (N,).

    Raises:
        InputError: The values differ within an id.
    """
    low, high = values_per_id(source, view, index, sql)
    differ = np.flatnonzero(to_numpy(high.is_valid()))
    if differ.size:
        row = int(differ[0])
        one, other = (str(value[row].as_py())[:60] for value in (low, high))
        raise InputError(
            f"{source.path}: {what} differs within id {index.id(row)!r}: {one!r} and {other!r}; "
            f"wanted one value per id; give each instruction an id of its own{_or_made(view) if asked else ''}"
        )
    return low


def _or_made(view: View) -> str:
    """The way out where ids clash, for the end of a message."""
    return "" if view.id_made else "; `columns='id='` makes the id of the text"


def _sorted_rows(column: "pa.ChunkedArray", source: Source, view: View) -> tuple["pa.Array", IntArray]:
    """Do what `codes_of` does for ids that may stand once each; a row that is equal to an earlier one takes no part (-1)."""

    def twice(id_: str, first: int, second: int) -> InputError:
        return InputError(
            f"{source.place(second)}: duplicate id {id_!r}, first in {source.place(first)}; "
            f"wanted one row per instruction; drop one{_or_made(view)}"
        )

    twins = _twins(column, source)
    ids = column.combine_chunks()
    stays = np.delete(np.arange(len(ids), dtype=np.int64), twins)
    if twins.size:
        source.notes.append(f"counted once: {counted(len(twins), 'row')} equal to another in all columns")
        ids = ids.take(stays)
    known, order = sorted_once(ids, twice)
    out = np.full(len(column), -1, dtype=np.int64)
    out[stays] = np.arange(len(known), dtype=np.int64) if order is None else inverse(order)
    return known, out


def _twins(ids: "pa.ChunkedArray", source: Source) -> IntArray:
    """The rows of a repeated id that are equal in all columns to an earlier row of it."""
    codes = codes_of(ids)[1] if len(ids.unique()) < len(ids) else None
    if codes is None:
        return np.empty(0, dtype=np.int64)
    again = np.flatnonzero(np.bincount(codes)[codes] > 1)
    known: set[tuple[int, str]] = set()
    gone = []
    for row, content in zip(again.tolist(), source.contents(again), strict=True):
        if (int(codes[row]), content) in known:
            gone.append(row)
        known.add((int(codes[row]), content))
    return np.array(gone, dtype=np.int64)


def vectors(values: "pa.Array", index: Index, *, what: str) -> NDArray[np.float32]:
    """Put lists of numbers under each other.

    Args:
        values: Shape (N,), a list per instruction.
        index: The instructions.
        what: File and column, for messages.

    Returns:
        Shape (N, D).

    Raises:
        InputError: A list is missing, of another length, or has a missing or infinite number.
    """
    import pyarrow.compute as pc

    lengths = to_numpy(pc.fill_null(pc.list_value_length(values), 0))
    wanted = int(lengths.max())
    odd = np.flatnonzero((lengths != wanted) | (lengths == 0))
    if odd.size:
        i = int(odd[0])
        raise InputError(
            f"{what} has {lengths[i]} numbers at id {index.id(i)!r}; "
            f"wanted {f'{wanted}, as in other rows' if wanted else 'a list of them'}"
        )
    flat: NDArray[np.float32] = to_numpy(pc.list_flatten(values)).reshape(len(lengths), wanted)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        id_ = index.id(int(np.argmin(finite)))
        raise InputError(f"{what} has a missing or infinite number at id {id_!r}; wanted finite ones")
    return flat
