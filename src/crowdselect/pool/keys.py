"""Which cell (instruction, model) each answer belongs to, and in which order answers are gone through."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from crowdselect.errors import InputError
from crowdselect.pool.codes import starts_of, to_numpy
from crowdselect.pool.columns import as_text, quote
from crowdselect.pool.index import Index
from crowdselect.pool.layouts import NUMERIC
from crowdselect.pool.source import NUMBER, Source
from crowdselect.seeding import UInt64Array, content_hash, reseeded, seeded_hash
from crowdselect.types import FloatArray, IntArray, ObjectArray

DROP_ONE = "drop one, or number them in a column `sample`"
"""What to do where an answer stands twice."""
_LARGEST = 2.0**53  # whole numbers below this are told apart
_SMALL = 1 << 20  # numbers of samples below this are put in order by counting
_ROOMY = 4  # as long as there are so many times as many places as answers at most


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
    rows: IntArray,
    models: IntArray,
    samples: FloatArray,
    *,
    index: Index,
    names: Sequence[str],
    path: str,
    way_out: str = DROP_ONE,
    places: Callable[[IntArray], Sequence[tuple[Path, str]]] | None = None,
) -> AnswerKeys:
    """Put answers in the order of (instruction, model, sample), each of which may stand once; else `way_out` says what to do.

    `places` gives the file and the place of answers, for the message.

    Raises:
        InputError: One stands twice.
    """
    keys, twice = ordered_keys(rows, models, samples, width=len(names))
    if twice.size:
        at = twice[0]
        name, where = names[models[at]], ""
        if places is not None:
            (file, one), (beside, other) = places(twice[:2])
            where = f" ({one}; {other})"
            if file != beside and all(_names_model(each, name) for each in (file, beside)):
                way_out = f"if these files are of two models, let `model_from` name another folder or the file; else {way_out}"
        raise InputError(
            f"{path}: duplicate answer: id {index.id(rows[at])!r}, model {name!r}, sample {samples[at]:g}{where}; wanted each "
            f"once; {way_out}"
        )
    return keys


def _names_model(file: Path, model: str) -> bool:
    """Whether the path of a file may be what the model's name was taken from."""
    return model in file.parts or file.name.startswith(f"{model}.")


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


def first_not_number(source: Source, index: Index | None, sql: str) -> tuple[str, str] | None:
    """Find the first text that is not a number: where it is, and itself.

    Args:
        source: The rows.
        index: Only rows of its instructions count, and the place is an id with its row; None = any row, and its place.
        sql: The text.
    """
    values = source.fetch(f"CASE WHEN NOT regexp_full_match({sql}, {NUMBER}) THEN {sql} END").column(0)
    bad = to_numpy(values.is_valid())
    rows = np.flatnonzero(bad if index is None else bad & (index.row_of >= 0))
    if not rows.size:
        return None
    row = int(rows[0])
    place = source.place(row)
    return place if index is None else f"id {index.id(index.row_of[row])!r} ({place})", values[row].as_py()


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
