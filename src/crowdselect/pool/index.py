"""Where everything of a pool belongs, in whatever order its files have it.

The instructions in code-point order of id, and which of them each row of the source is about; the cells of the matrix
(instruction, model), which of them each answer is in, and the rewards in each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, RewardError
from crowdselect.numeric.exact import moments, over_blocks
from crowdselect.pool.columns import as_text, quote
from crowdselect.pool.layouts import NUMERIC, View
from crowdselect.pool.source import Source
from crowdselect.seeding import UInt64Array, content_hash, reseeded, seeded_hash
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

if TYPE_CHECKING:
    import pyarrow as pa


_LARGEST = 2.0**53  # whole numbers below this are told apart
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
        return _sorted_rows(column, source)
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


def coded(
    source: Source, sql: str, *, kind: type[np.signedinteger[Any]] = np.int64
) -> tuple["pa.Array", IntArray]:
    """Do what `codes_of` does for the values of an SQL expression that is cheap to evaluate, in a fraction of the time.

    The texts themselves are read once each; of the rows only their hashes, which tell the texts of a pool apart. `kind` is the
    type of the numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts, marks = (column.combine_chunks() for column in source.distinct(sql).columns)
    if len(pc.unique(marks)) < len(marks):  # two texts of one hash, once in a billion pools
        return codes_of(source.fetch(sql).column(0))
    there = texts.is_valid()
    texts, marks = texts.filter(there), marks.filter(there)
    order = pc.sort_indices(texts)
    hashes = to_numpy(source.fetch(f"hash({sql})").column(0))
    begins = starts_of(hashes)  # rows of one text often follow each other
    found = pc.fill_null(pc.index_in(pa.array(hashes[begins]), marks.take(order)), -1)
    codes = to_numpy(found).astype(kind)
    if len(begins) < len(hashes):
        codes = np.repeat(codes, np.diff(begins, append=len(hashes)))
    return texts.take(order), codes


def codes_of(values: "pa.ChunkedArray") -> tuple["pa.Array", IntArray]:
    """Number texts by their place among the distinct ones, in code-point order.

    Returns:
        The distinct texts, and the number of each value; -1 = it is missing.
    """
    import pyarrow.compute as pc

    encoded = values.combine_chunks().dictionary_encode()
    order = to_numpy(pc.sort_indices(encoded.dictionary))
    codes = to_numpy(pc.fill_null(encoded.indices, len(order)))
    return encoded.dictionary.take(order), np.append(inverse(order), -1)[codes]


def starts_of(values: NDArray[Any]) -> IntArray:
    """Find where another value begins than stands before.

    Example:
        >>> starts_of(np.array([7, 7, 3, 7])).tolist()
        [0, 2, 3]
    """
    new = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return np.flatnonzero(new)


def inverse(order: IntArray) -> IntArray:
    """Turn "who stands at place i" into "at which place stands i"."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def first_null(values: "pa.ChunkedArray") -> int | None:
    """Find the first missing value."""
    return int(np.argmax(to_numpy(values.is_null()))) if values.null_count else None


def first_missing(codes: IntArray) -> int | None:
    """Find the first value without a number, from `coded` or `codes_of`."""
    return int(np.argmax(codes < 0)) if codes.size and codes.min() < 0 else None


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


@dataclass(frozen=True)
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
    cells: IntArray
    """`row * M + model` of each cell that has answers, ascending."""
    starts: IntArray
    """Where each of these begins in `order`."""

    @cached_property
    def cell(self) -> IntArray:
        """The cell of each in `order`."""
        return np.repeat(self.cells, np.diff(self.starts, append=len(self.order)))


def sorted_keys(
    rows: IntArray, models: IntArray, samples: FloatArray, *, index: Index, names: Sequence[str], path: str
) -> AnswerKeys:
    """Put answers in the order of (instruction, model, sample), each of which may stand once.

    Raises:
        InputError: One stands twice.
    """
    keys, twice = ordered_keys(rows, models, samples, width=len(names))
    if twice.size:
        at = twice[0]
        raise InputError(
            f"{path}: duplicate answer: id {index.id(rows[at])!r}, model {names[models[at]]!r}, "
            f"sample {samples[at]:g}; wanted each once; drop one, or number them in a column `sample`"
        )
    return keys


def ordered_keys(
    rows: IntArray, models: IntArray, samples: FloatArray, *, width: int
) -> tuple[AnswerKeys, IntArray]:
    """Put answers in the order of (instruction, model, sample), equal ones as they stand.

    Args:
        rows: Instruction of each answer, shape (A,), -1 where it takes no part.
        models: Shape (A,).
        samples: Shape (A,).
        width: M, how many models there are.

    Returns:
        The order; and the answers that share all three with another, in that order.
    """
    answers = rows, models, samples
    cells, part = rows * width, None
    cells += models
    if rows.size and rows.min() < 0:
        part = np.flatnonzero(rows >= 0)
        cells, samples = cells[part], samples[part]
    found = _runs(cells, samples)
    none = np.empty(0, dtype=np.int64)
    order, cells, starts, again = (*found, none) if found is not None else _sorted(cells, samples)
    if part is not None:
        order = part[order]
    return AnswerKeys(*answers, order, cells, starts), order[again]


_Order = tuple[IntArray, IntArray, IntArray]  # the answers, the cells, where each of these begins


def _runs(cells: IntArray, samples: FloatArray) -> _Order | None:
    """Order answers by (cell, sample) where those of each cell follow each other, samples ascending; None where they do not."""
    begins = starts_of(cells)
    if len(begins) > len(cells) // 2:
        return None
    rises = samples[1:] > samples[:-1]
    rises[begins[1:] - 1] = True
    order = _distinct_order(cells[begins]) if rises.all() else None
    if order is None:
        return None
    lengths = np.diff(begins, append=len(cells))[order]
    starts = np.cumsum(lengths) - lengths
    if lengths.size and (lengths == lengths[0]).all():
        return (begins[order][:, None] + np.arange(lengths[0])).ravel(), cells[begins[order]], starts
    answers = np.repeat(begins[order] - starts, lengths)
    answers += np.arange(len(cells))
    return answers, cells[begins[order]], starts


def _sorted(cells: IntArray, samples: FloatArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Order answers by (cell, sample), equal ones as they stand; also return the places of those that share both."""
    order = _by_cell(cells, samples)
    cell, own = cells[order], samples[order]
    same = (cell[1:] == cell[:-1]) & (own[1:] == own[:-1])
    again = np.flatnonzero(np.append(same, False) | np.append(False, same)) if same.any() else order[:0]
    starts = starts_of(cell)
    return order, cell[starts], starts, again


def _by_cell(cells: IntArray, samples: FloatArray) -> IntArray:
    """Order answers by (cell, sample), equal ones as they stand; by counting where their numbers are small and whole."""
    if not samples.any():
        return np.argsort(cells, kind="stable")
    levels = int(samples.max()) + 1 if samples.min() >= 0 and (samples == np.rint(samples)).all() else 0
    if not 0 < levels < _SMALL:
        return np.lexsort((samples, cells))
    keys = cells * levels + samples.astype(np.int64)
    order = _distinct_order(keys)
    return np.argsort(keys, kind="stable") if order is None else order


def _distinct_order(keys: IntArray) -> IntArray | None:
    """Order numbers, by counting where they lie close; None where some are equal."""
    room = int(keys.max(initial=-1)) + 1
    if room > _ROOMY * len(keys):
        order = np.argsort(keys, kind="stable")
        return None if (np.diff(keys[order]) == 0).any() else order
    places, every = np.full(room, -1, dtype=np.int64), np.arange(len(keys))
    places[keys] = every
    return places[places >= 0] if np.array_equal(places[keys], every) else None


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

    def of_model(self, model: int) -> "CellRewards":
        """Those of one model alone, shape (N, 1)."""
        own = self.cells % self.shape[1] == model
        counts = self.counts[own]
        return CellRewards(
            self.values[np.repeat(own, self.counts)],
            np.cumsum(counts) - counts,
            self.cells[own] // self.shape[1],
            (self.shape[0], 1),
        )

    def share(self, marked: BoolArray) -> FloatArray:
        """The share of each cell's rewards that are marked, shape (A,); shape (N, M), column-major, NaN = none."""
        own = marked.astype(np.float64)
        return self._matrix(np.add.reduceat(own, self.starts) / self.counts if len(own) else own)

    @cached_property
    def _summed(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of each cell that has some; equal ones are the same number, whatever the order of samples."""
        mean, variance = self.values[self.starts], np.zeros(len(self.starts))  # one reward is its own mean
        counts = self.counts
        for count in np.flatnonzero(np.bincount(counts[counts > 1])):
            runs = np.flatnonzero(counts == count)
            mean[runs], variance[runs] = over_blocks(partial(self._moments, runs, int(count)), len(runs))
        return mean, variance

    def _moments(self, runs: IntArray, count: int, here: slice) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of some of the cells with the same number of rewards."""
        columns = self.values[self.starts[runs[here]] + np.arange(count)[:, None]]
        with np.errstate(over="ignore", invalid="ignore"):  # callers say it, with the place
            return moments(columns, None, np.full(columns.shape[1], float(count)))

    def _matrix(self, own: FloatArray) -> FloatArray:
        n, m = self.shape
        if len(own) == n * m:
            return np.asfortranarray(own.reshape(n, m))
        out = np.full(self.shape, np.nan, order="F")
        out[self.cells // m, self.cells % m] = own
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
    cells, starts, read = keys.cells, keys.starts, values[keys.order]
    with np.errstate(over="ignore", invalid="ignore"):
        plain = np.isfinite(read.sum())
    if not plain:  # something is missing, infinite, or large
        there = ~np.isnan(read)
        cell, read = keys.cell[there], read[there]
        starts = starts_of(cell)
        cells = cell[starts]
        refuse_infinite(read, cell, index=index, names=names, where=f"{path}: {reward}")
    found = CellRewards(read, starts, cells, (len(index.ids), len(names)))
    if len(starts) < len(read):
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


def sample_numbers(source: Source, sql: str) -> FloatArray:
    """Read the numbers of samples, shape (rows,), NaN = missing.

    Args:
        source: The rows; their column is `sample`.
        sql: It as a number.

    Raises:
        InputError: One is no number, infinite, or so large that the next one is the same number.
    """
    kind = source.columns["sample"]
    found = None
    if kind.name not in NUMERIC:
        found = first_not_number(source, None, as_text(quote("sample"), kind))
    if found is None:
        numbers = to_numpy(source.fetch(sql).column(0)).astype(np.float64, copy=False)
        if max(np.fmax.reduce(numbers, initial=0.0), -np.fmin.reduce(numbers, initial=0.0)) < _LARGEST:
            return numbers
        large = int(np.argmax(np.abs(numbers) >= _LARGEST))
        found = source.place(large), f"{numbers[large]:g}"
    raise InputError(
        f"{found[0]}: the sample is {found[1][:60]!r}; wanted a number of at most 15 digits; number the samples from 0, or "
        "rename the column: then they are numbered by their content"
    )


def not_numeric(path: str, reward: str, found: tuple[str, str] | None) -> RewardError:
    """Say what stands where a reward should."""
    if found is None:
        return RewardError(
            f"{path}: {reward} holds no number (it is empty, or numbers written as text); wanted numbers"
        )
    place, value = found
    return RewardError(
        f"{path}: {reward} is {value[:60]!r} at {place}; wanted a number (`skip_invalid=True` leaves such rows out where "
        "most are numbers)"
    )


def said_text(text: str | None) -> str | None:
    """Give a response, None where it is missing or only white space.

    Example:
        >>> said_text(" yes "), said_text(" "), said_text(None)
        (' yes ', None, None)
    """
    return text if text is not None and text.strip() else None


def draws(keys: AnswerKeys, *, ids: ObjectArray, models: Sequence[str], seed: int) -> UInt64Array:
    """Hash each answer that takes part by its id, model and sample, with a seed.

    Args:
        keys: Of the answers.
        ids: The N ids.
        models: The M models.
        seed: Any integer.

    Returns:
        Shape of `keys.order`, in that order.
    """
    levels, codes = levels_of(keys.sample[keys.order])
    numbers = seeded_hash([repr(float(level)) for level in levels], seed=seed, salt="sample number")
    row, model = np.divmod(keys.cells, max(len(models), 1))
    mixed = reseeded(content_hash(ids), seed=seed, salt="answer")[row] + content_hash(models)[model]
    cells = np.repeat(reseeded(mixed, seed=seed, salt="model"), np.diff(keys.starts, append=len(keys.order)))
    return reseeded(cells + numbers[codes], seed=seed, salt="sample")


def levels_of(numbers: FloatArray) -> tuple[FloatArray, IntArray]:
    """Find the distinct numbers of samples, ascending, and which of them each is; without sorting where they are small and whole.

    Example:
        >>> [found.tolist() for found in levels_of(np.array([3.0, 0.0, 3.0]))]
        [[0.0, 3.0], [1, 0, 1]]
    """
    whole = numbers.astype(np.int64)
    if not len(whole) or whole.min() < 0 or whole.max() >= _SMALL or (whole != numbers).any():
        return np.unique(numbers, return_inverse=True)
    there = np.bincount(whole) > 0
    return np.flatnonzero(there).astype(np.float64), (np.cumsum(there) - 1)[whole]
