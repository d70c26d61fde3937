"""Where everything of a pool belongs, in whatever order its files have it.

The instructions in code-point order of id, and which of them each row of the source is about; the cells of the matrix
(instruction, model), which of them each answer is in, and the rewards in each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, RewardError
from crowdselect.numeric.exact import moments
from crowdselect.pool.layouts import View
from crowdselect.pool.source import Source
from crowdselect.seeding import UInt64Array, content_hash, reseeded, seeded_hash
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

if TYPE_CHECKING:
    import pyarrow as pa


_SMALL = 1 << 20  # numbers of samples below this are put in order by counting
_ROOMY = 4  # as long as there are so many times as many places as answers at most


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
    column = source.fetch(view.id).column(0)
    if len(column) == 0:
        raise InputError(f"{source.path}: the file holds no rows; wanted at least one instruction")
    missing = first_null(column)
    if missing is not None:
        wanted = "text to make one from" if view.id_made else "one in every row"
        raise InputError(
            f"{source.place(missing)}: the id is missing; wanted {wanted}; fill it in or drop the row"
        )
    known, codes = _sorted_rows(column, source) if view.row_is_instruction else codes_of(column)
    if limit is None or limit >= len(known):
        return Index(known, known, np.arange(len(known), dtype=np.int64), codes)
    keys = seeded_hash(to_numpy(known), seed=seed, salt="limit")
    first = np.sort(np.argsort(keys, kind="stable")[:limit])
    chosen = np.full(len(known), -1, dtype=np.int64)
    chosen[first] = np.arange(limit)
    return Index(known.take(first), known, chosen, chosen[codes])


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


def one_per_id(source: Source, view: View, index: Index, sql: str, *, what: str) -> "pa.Array":
    """Evaluate SQL once per instruction.

    Args:
        source: The pool's rows.
        view: Its layout; where an id has many rows, the nulls among its values do not count.
        index: The instructions.
        sql: The expression.
        what: Its name, for messages.

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
            "wanted one value per id; give each instruction an id of its own"
        )
    return low


def _sorted_rows(column: "pa.ChunkedArray", source: Source) -> tuple["pa.Array", IntArray]:
    """Do what `codes_of` does for ids that may stand once each; a row that is equal to an earlier one takes no part (-1)."""

    def twice(id_: str, first: int, second: int) -> InputError:
        return InputError(
            f"{source.place(second)}: duplicate id {id_!r}, first in {source.place(first)}; "
            "wanted one row per instruction; drop one"
        )

    twins = _twins(column, source)
    ids = column.combine_chunks()
    stays = np.delete(np.arange(len(ids), dtype=np.int64), twins)
    if twins.size:
        source.notes.append(f"{len(twins)} rows are equal to another in all columns and count once")
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


def sorted_once(
    ids: "pa.Array", twice: Callable[[str, int, int], InputError]
) -> tuple["pa.Array", IntArray | None]:
    """Put ids in code-point order, of which each may stand once.

    Args:
        ids: N of them.
        twice: Makes the error of an id that stands twice, and of its first two places.

    Returns:
        The ids, and the place that each had, shape (N,); None = they were in order.

    Raises:
        InputError: What `twice` makes.
    """
    import pyarrow.compute as pc

    if pc.all(pc.less(ids[:-1], ids[1:])).as_py():
        return ids, None
    order = to_numpy(pc.sort_indices(ids)).astype(np.int64)
    known = ids.take(order)
    same = to_numpy(pc.equal(known[1:], known[:-1]))
    if same.any():
        at = int(np.argmax(same))
        first, second = sorted(int(row) for row in order[at : at + 2])
        raise twice(known[at].as_py(), first, second)
    return known, order


def codes_of(values: "pa.ChunkedArray") -> tuple["pa.Array", IntArray]:
    """Number texts by their place among the distinct ones, in code-point order.

    Returns:
        The distinct texts, and the number of each value.
    """
    import pyarrow.compute as pc

    encoded = values.combine_chunks().dictionary_encode()
    order = to_numpy(pc.sort_indices(encoded.dictionary))
    return encoded.dictionary.take(order), inverse(order)[to_numpy(encoded.indices)]


def inverse(order: IntArray) -> IntArray:
    """Turn "who stands at place i" into "at which place stands i"."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def first_null(values: "pa.ChunkedArray") -> int | None:
    """Find the first missing value."""
    return int(np.argmax(to_numpy(values.is_null()))) if values.null_count else None


def to_numpy(values: "pa.Array | pa.ChunkedArray") -> NDArray[Any]:
    """Give Arrow values to NumPy; missing numbers become NaN, missing texts None."""
    import pyarrow as pa

    whole = (
        values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
    )
    array: NDArray[Any] = whole
    return array


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


Cells = Sequence[tuple[int, int]]
"""(instruction, model) of each."""
Numbers = Sequence[float | None]
"""The sample of each that is meant; None = the first that has text."""


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Some answers, in the order of the file."""

    rows: IntArray
    """Instruction of each."""
    models: IntArray
    samples: FloatArray
    """Number of each among those of one model, 0 where the pool does not number them."""
    texts: list[str | None]
    """None where there is none, or only white space."""
    beside: list[str | None] | None = None
    """What else was asked for of each row."""
    endings: IntArray | None = None
    """How each ended, as its place in `crowdselect.finish.ENDINGS`; None = the pool does not say, or was not asked."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Which answers may be trained on."""

    usable: NDArray[np.bool_]
    """Shape (N, M)."""
    barred: NDArray[np.bool_] | None = None
    """Where there is text, but of no answer that came to its end, shape (N, M); None where the pool does not say how answers ended."""
    endings: Mapping[str, int] = field(default_factory=dict)
    """How many answers with text ended in another way than they should; see `crowdselect.finish`."""


@dataclass(frozen=True, slots=True)
class AnswerKeys:
    """Which cell each of A answers belongs to, and the order to go through them in."""

    row: IntArray
    """Shape (A,): instruction, -1 where the answer takes no part."""
    model: IntArray
    """Shape (A,)."""
    sample: FloatArray
    """Shape (A,)."""
    order: IntArray
    """The answers that take part, by (instruction, model, sample)."""
    cell: IntArray
    """`row * M + model` of each in `order`, ascending."""


def sorted_keys(
    rows: IntArray, models: IntArray, samples: FloatArray, *, index: Index, names: Sequence[str], path: str
) -> AnswerKeys:
    """Put answers in the order of (instruction, model, sample), each of which may stand once.

    Raises:
        InputError: One stands twice.
    """
    part = np.flatnonzero(rows >= 0)
    cells = rows[part] * len(names) + models[part]
    by_cell = _by_cell(cells, samples[part])
    order, cell = part[by_cell], cells[by_cell]
    twice = (cell[1:] == cell[:-1]) & (samples[order[1:]] == samples[order[:-1]])
    if twice.any():
        at = order[int(np.argmax(twice))]
        raise InputError(
            f"{path}: duplicate answer: id {index.id(rows[at])!r}, model {names[models[at]]!r}, "
            f"sample {samples[at]:g}; wanted each once; drop one, or number them in a column `sample`"
        )
    return AnswerKeys(rows, models, samples, order, cell)


def _by_cell(cells: IntArray, samples: FloatArray) -> IntArray:
    """Order answers by (cell, sample), equal ones as they stand; without sorting where the numbers are small and whole."""
    if not samples.any():
        return np.argsort(cells, kind="stable")
    levels = int(samples.max()) + 1 if samples.min() >= 0 and (samples == np.rint(samples)).all() else 0
    if not 0 < levels < _SMALL:
        return np.lexsort((samples, cells))
    keys = cells * levels + samples.astype(np.int64)
    room = int(keys.max()) + 1
    if room <= _ROOMY * len(keys):
        places = np.full(room, -1, dtype=np.int64)
        every = np.arange(len(keys))
        places[keys] = every
        if np.array_equal(places[keys], every):  # each stands once
            return places[places >= 0]
    return np.argsort(keys, kind="stable")


def repeated(cells: IntArray, samples: FloatArray, *, part: BoolArray) -> IntArray:
    """Find the answers that share their cell and the number of their sample with another, in their order.

    Args:
        cells: Shape (A,).
        samples: Shape (A,).
        part: Which answers take part, shape (A,).
    """
    there = np.flatnonzero(part)
    order = there[_by_cell(cells[there], samples[there])]
    same = (cells[order[1:]] == cells[order[:-1]]) & (samples[order[1:]] == samples[order[:-1]])
    if not same.any():
        return np.empty(0, dtype=np.int64)
    first, second = np.append(same, False), np.append(False, same)
    return np.sort(order[first | second])


@dataclass(frozen=True)
class CellRewards:
    """The rewards in each cell of the matrix: one, or those of several samples."""

    values: FloatArray
    """Shape (A,), those that there are, cell by cell."""
    starts: IntArray
    """Where each cell that has some begins in `values`."""
    cells: IntArray
    """`row * M + model` of each of these cells, ascending."""
    shape: tuple[int, int]
    """(N, M)."""

    @property
    def counts(self) -> IntArray:
        """Rewards of each cell that has some."""
        return np.diff(self.starts, append=len(self.values))

    @property
    def of_cells(self) -> FloatArray:
        """The mean of each cell that has some."""
        return self._summed[0]

    def means(self) -> FloatArray:
        """The mean of each cell, shape (N, M), column-major, NaN = none."""
        return self._matrix(self.of_cells)

    def variances(self) -> FloatArray:
        """The population variance of each cell, shape (N, M), column-major, NaN = fewer than two rewards."""
        return self._matrix(np.where(self.counts > 1, self._summed[1], np.nan))

    def highest(self) -> FloatArray:
        """The highest of each cell, shape (N, M), column-major, NaN = none."""
        own = np.maximum.reduceat(self.values, self.starts) if len(self.values) else self.values
        return self._matrix(own)

    def passes(self) -> FloatArray:
        """The share of each cell's rewards that are 1, shape (N, M), column-major, NaN = none."""
        full = (self.values == 1).astype(np.float64)
        own = np.add.reduceat(full, self.starts) / self.counts if len(full) else full
        return self._matrix(own)

    @cached_property
    def _summed(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of each cell that has some; equal ones are the same number, whatever the order of samples."""
        if len(self.starts) == len(self.values):
            return self.values, np.zeros(len(self.values))
        mean, variance = np.empty(len(self.starts)), np.empty(len(self.starts))
        counts = self.counts
        for count in np.unique(counts):
            runs = np.flatnonzero(counts == count)
            columns = self.values[self.starts[runs] + np.arange(count)[:, None]]
            with np.errstate(over="ignore", invalid="ignore"):  # callers say it, with the place
                mean[runs], variance[runs] = moments(columns, None, np.full(len(runs), float(count)))
        return mean, variance

    def _matrix(self, own: FloatArray) -> FloatArray:
        out = np.full(self.shape, np.nan, order="F")
        out[self.cells // self.shape[1], self.cells % self.shape[1]] = own
        return out


def cell_rewards(
    values: FloatArray, keys: AnswerKeys, *, index: Index, names: Sequence[str], path: str, reward: str
) -> CellRewards:
    """Put rewards into the cells of the matrix.

    Args:
        values: Shape (A,), NaN = none.
        keys: Where each belongs. Equal means are the same number, whatever the order of the samples.
        index: The instructions.
        names: The models.
        path: The file, for messages.
        reward: The column, for messages.

    Returns:
        The rewards that there are, cell by cell.

    Raises:
        InputError: A reward is infinite, or so large that a mean is.
    """
    read = values[keys.order]
    there = ~np.isnan(read)
    cell, read = keys.cell[there], read[there]
    refuse_infinite(read, cell, index=index, names=names, where=f"{path}: {reward}")
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    found = CellRewards(read, starts, cell[starts], (len(index.ids), len(names)))
    if len(starts) < len(cell):
        where = f"{path}: the mean of {reward} over samples"
        refuse_infinite(found.of_cells, found.cells, index=index, names=names, where=where)
    return found


def cell_means(
    values: FloatArray, keys: AnswerKeys, *, index: Index, names: Sequence[str], path: str, reward: str
) -> FloatArray:
    """Put numbers into the matrix, shape (N, M), column-major, NaN = none; of several samples their mean. See `cell_rewards`."""
    return cell_rewards(values, keys, index=index, names=names, path=path, reward=reward).means()


def refuse_infinite(
    values: FloatArray, cells: IntArray, *, index: Index, names: Sequence[str], where: str
) -> None:
    """Stop at the first infinite value.

    Raises:
        InputError: There is one; its id, its model and itself are named.
    """
    infinite = np.isinf(values)
    if infinite.any():
        at = int(np.argmax(infinite))
        row, model = divmod(int(cells[at]), len(names))
        raise InputError(
            f"{where} is {values[at]} at id {index.id(row)!r}, model {names[model]!r}; "
            "wanted a finite number, or nothing where there is no reward"
        )


def first_not_number(source: Source, index: Index | None, sql: str) -> tuple[str, str] | None:
    """Find the first text that is not a number: where it is, and itself.

    Args:
        source: The rows.
        index: Only rows of its instructions count, and the place is an id; None = any row, and its place.
        sql: The text.
    """
    values = source.fetch(f"CASE WHEN TRY_CAST({sql} AS DOUBLE) IS NULL THEN {sql} END").column(0)
    bad = to_numpy(values.is_valid())
    rows = np.flatnonzero(bad if index is None else bad & (index.row_of >= 0))
    if not rows.size:
        return None
    row = int(rows[0])
    place = source.place(row) if index is None else f"id {index.id(index.row_of[row])!r}"
    return place, values[row].as_py()


def not_numeric(path: str, reward: str, found: tuple[str, str] | None) -> RewardError:
    """Say what stands where a reward should."""
    if found is None:
        return RewardError(
            f"{path}: {reward} holds no number (it is empty, or numbers written as text); wanted numbers"
        )
    place, value = found
    return RewardError(f"{path}: {reward} is {value[:60]!r} at {place}; wanted a number")


def said_text(text: str | None) -> str | None:
    """Give a response, None where it is missing or only white space.

    Example:
        >>> said_text(" yes "), said_text(" "), said_text(None)
        (' yes ', None, None)
    """
    return text if text is not None and text.strip() else None


def draws(keys: AnswerKeys, *, ids: ObjectArray, models: Sequence[str], seed: int) -> UInt64Array:
    """Hash each answer by its id, model and sample, with a seed.

    Args:
        keys: Of the A answers.
        ids: The N ids.
        models: The M models.
        seed: Any integer.

    Returns:
        Shape (A,); what it holds for answers that take no part says nothing.
    """
    levels, codes = np.unique(keys.sample, return_inverse=True)
    numbers = seeded_hash([repr(float(level)) for level in levels], seed=seed, salt="sample number")
    rows = content_hash(ids)[keys.row] if len(ids) else np.zeros(len(keys.row), dtype=np.uint64)
    mixed = reseeded(rows, seed=seed, salt="answer") + content_hash(models)[keys.model]
    return reseeded(reseeded(mixed, seed=seed, salt="model") + numbers[codes], seed=seed, salt="sample")
