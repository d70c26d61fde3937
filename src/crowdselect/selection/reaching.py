"""What is good in a pool, and what crowd and student can do: between the look at its shards and its rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crowdselect.errors import InputError, OptionError
from crowdselect.numeric.good import good_cut, tallied
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.shards import Ids
from crowdselect.selection.lists import matrix_in
from crowdselect.selection.measure import GOOD, STUDENT_GOOD, Look, rewards_in_shards, rewards_of
from crowdselect.selection.numbers import as_numbers
from crowdselect.selection.own_answers import JoinedAnswers, OwnAnswers
from crowdselect.selection.reading import Shards
from crowdselect.selection.student import Reach, Student, reach_of, unknown_student
from crowdselect.types import FloatArray, IntArray, ObjectArray, Table


@dataclass(frozen=True, slots=True)
class Goods:
    """What is good."""

    look: Look
    """By which the pool is read."""
    cut: float | None
    """A reward above this; None = all rewards are equal."""
    share: float
    """Of all rewards that are. NaN = all are equal."""


def goods_of(
    shards: Shards,
    look: Look,
    student: Student,
    own: OwnAnswers | None,
    *,
    reward: str | tuple[str, ...] | None,
) -> Goods:
    """Find what is good, among all rewards of crowd and student.

    Args:
        shards: How the pool is read.
        look: What is read of it.
        student: Who the student is, and what is good if that is said.
        own: The student's answers, where they are in a pool of their own.
        reward: The reward that was named.

    Raises:
        RewardError: There is no reward.
        OptionError: The pool has no model of the student's name.
    """
    if student.of_pool is not None and student.of_pool not in shards.all_models:
        raise OptionError(unknown_student(student.of_pool, shards.all_models, path=shards.pool.path))
    if look.reward is None:
        shards.pool.reward_name(reward if isinstance(reward, str) else None)
    tallies, ids = [], []
    for value, count, some in [rewards_of(shards.pool, look)] if shards.whole else _of_shards(shards, look):
        tallies.append((value, count))
        ids.append(some)
    if own is not None:  # of other instructions its rewards do not count
        tallies.append(own.tally(look.reward, ids))
    values, counts = tallied(*(np.concatenate(each) for each in zip(*tallies, strict=True)))
    cut = good_cut(values, counts) if student.good_above is None else student.good_above
    share = float("nan") if cut is None else float(counts[values > cut].sum() / max(counts.sum(), 1))
    return Goods(look, cut, share)


def _of_shards(shards: Shards, look: Look) -> Iterator[tuple[FloatArray, IntArray, Any]]:
    """Tally the rewards of each shard; see `crowdselect.selection.measure.rewards_of`."""
    for table in shards.over(rewards_in_shards, look=look):
        value, count, ids = (table[name].combine_chunks().flatten() for name in ("value", "count", "id"))
        yield to_numpy(value), to_numpy(count), ids


def reach_in(
    table: Table,
    goods: Goods,
    student: Student,
    joined: JoinedAnswers | None,
    *,
    ids: Ids,
    numbers: Mapping[str, FloatArray],
    columns: Mapping[str, ObjectArray],
    seed: int,
) -> Reach:
    """Compute what crowd and student can do.

    Args:
        table: Of all shards, in id order; see `crowdselect.selection.measure.known_of`.
        goods: What is good.
        student: Who the student is.
        joined: Its answers, where they are in a pool of their own.
        ids: N ids.
        numbers: Those of the file of `metrics`, shape (N,) each.
        columns: Those of the pool that were asked for, shape (N,) each.
        seed: Of the folds.

    Raises:
        OptionError: There is no such column of the student, or no reward of it.
        InputError: A number of its column is not within 0 and 1.
    """
    if goods.cut is None:
        good = np.full((len(ids), len(goods.look.models)), np.nan)
        student_good = np.full(len(ids), np.nan) if student.named else None
    else:
        good = matrix_in(table[GOOD].combine_chunks())
        if joined is not None:
            student_good = joined.good(goods.look.reward, goods.cut)
        elif student.column is not None:
            student_good = _column(student.column, ids, numbers, columns)
        else:
            student_good = to_numpy(table[STUDENT_GOOD]) if student.named else None
    return reach_of(
        good,
        student_good,
        cut=goods.cut,
        share=goods.share,
        student=student,
        hashes=to_numpy(table["hash"]),
        seed=seed,
    )


def _column(
    name: str, ids: Ids, numbers: Mapping[str, FloatArray], columns: Mapping[str, ObjectArray]
) -> FloatArray:
    """The success of the student as a column says it, shape (N,). NaN = missing."""
    if name not in numbers and name not in columns:
        raise OptionError(
            f"`student_column={name!r}` is a column neither of the pool nor of the file of `metrics`"
        )
    values = (
        numbers[name]
        if name in numbers
        else as_numbers(columns[name], where=lambda row: f"{name} of id {ids[row]!r}")
    )
    wrong = np.flatnonzero((values < 0) | (values > 1))
    if wrong.size:
        raise InputError(
            f"{name} of id {ids[int(wrong[0])]!r} is {values[wrong[0]]:g}; `student_column` is a share, from 0 (never right) "
            "to 1 (always)"
        )
    return values
