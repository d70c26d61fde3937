"""From answers in any order to the cells of the matrix, with the same result for every order.

Of several samples of a model the best-rewarded stands for it to train on, the worst to reject.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, RewardError
from crowdselect.numeric.moments import moments
from crowdselect.pool.index import Index, to_numpy
from crowdselect.pool.source import Source
from crowdselect.seeding import UInt64Array, content_hash, reseeded, seeded_hash
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

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
class Keys:
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
) -> Keys:
    """Put answers in the order of (instruction, model, sample), each of which may stand once.

    Raises:
        InputError: One stands twice.
    """
    part = np.flatnonzero(rows >= 0)
    cells = rows[part] * len(names) + models[part]
    by_cell = np.lexsort((samples[part], cells)) if samples.any() else np.argsort(cells, kind="stable")
    order, cell = part[by_cell], cells[by_cell]
    twice = (cell[1:] == cell[:-1]) & (samples[order[1:]] == samples[order[:-1]])
    if twice.any():
        at = order[int(np.argmax(twice))]
        raise InputError(
            f"{path}: duplicate answer: id {index.id(rows[at])!r}, model {names[models[at]]!r}, "
            f"sample {samples[at]:g}; wanted each once; drop one, or number them in a column `sample`"
        )
    return Keys(rows, models, samples, order, cell)


def cell_means(
    values: FloatArray, keys: Keys, *, index: Index, names: Sequence[str], path: str, reward: str
) -> FloatArray:
    """Put rewards into the matrix; where an answer was sampled several times, their mean.

    Args:
        values: Shape (A,), NaN = none.
        keys: Where each belongs. Equal means are the same number, whatever the order of the samples.
        index: The instructions.
        names: The models.
        path: The file, for messages.
        reward: The column, for messages.

    Returns:
        Shape (N, M), column-major, NaN = none.

    Raises:
        InputError: A reward is infinite, or so large that a mean is.
    """
    read = values[keys.order]
    there = ~np.isnan(read)
    cell, read = keys.cell[there], read[there]
    refuse_infinite(read, cell, index=index, names=names, where=f"{path}: {reward}")
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    if len(starts) < len(cell):
        read, cell = _means(read, starts), cell[starts]
        refuse_infinite(
            read, cell, index=index, names=names, where=f"{path}: the mean of {reward} over samples"
        )
    out = np.full((len(index.ids), len(names)), np.nan, order="F")
    out[cell // len(names), cell % len(names)] = read
    return out


def _means(values: FloatArray, starts: IntArray) -> FloatArray:
    """The mean of each run of values; the runs begin at `starts`."""
    out, counts = np.empty(len(starts)), np.diff(starts, append=len(values))
    for count in np.unique(counts):
        runs = np.flatnonzero(counts == count)
        columns = values[starts[runs] + np.arange(count)[:, None]]
        with np.errstate(over="ignore", invalid="ignore"):  # callers say it, with the place
            out[runs] = moments(columns, None, np.full(len(runs), float(count)))[0]
    return out


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


def draws(keys: Keys, *, ids: ObjectArray, models: Sequence[str], seed: int) -> UInt64Array:
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


def pick(
    keys: Keys, rewards: FloatArray, said: BoolArray, draw: UInt64Array, *, lowest: bool = False
) -> IntArray:
    """Choose one answer per cell.

    Args:
        keys: Which cell each of A answers belongs to.
        rewards: Shape (A,). NaN = none.
        said: Which answers may be taken, shape (A,).
        draw: From `draws`: orders equal rewards.
        lowest: Whether the lowest reward is wanted instead of the highest.

    Returns:
        Answers, at most one per cell, in the order of the cells; one without a reward only where no other of
        its cell has one.
    """
    may = said[keys.order]
    answers, cells = keys.order[may], keys.cell[may]
    own = rewards[answers]
    order = np.lexsort((draw[answers], own if lowest else -own, np.isnan(own), cells))
    ordered = cells[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return np.asarray(answers[order[first]])
