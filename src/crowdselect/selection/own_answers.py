"""The student's own answers, where they are in a pool of their own: joined by id, with the same reward column."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from crowdselect.errors import InputError, LayoutError, OptionError
from crowdselect.pool.howread import HowRead
from crowdselect.pool.index import to_numpy
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.shards import Ids
from crowdselect.selection.measure import RewardsIn, rewards_in
from crowdselect.selection.student import Student, unknown_student
from crowdselect.types import FloatArray, IntArray, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswers:
    """A pool with the student's answers."""

    pool: Pool
    model: str
    """The student's name there."""

    def rewards(self, reward: str | tuple[str, ...] | None) -> RewardsIn:
        """Read the rewards of the student alone.

        Args:
            reward: As the crowd's pool calls it.

        Raises:
            RewardError: This pool has no such reward.
            OptionError: It is an ensemble, which ranks the answers of one pool.
        """
        if not isinstance(reward, str):
            raise OptionError(
                "`student_answers` needs one reward column, the same in both pools; leave `ensemble` out"
            )
        found = rewards_in(self.pool, self.pool.reward_name(reward), None)
        return found.of_model(self.pool.models.index(self.model))

    def tally(self, reward: str | tuple[str, ...] | None) -> tuple[FloatArray, IntArray]:
        """Its rewards, each with how often it occurs."""
        return self.rewards(reward).tally(
            np.ones(len(self.pool.id_array), dtype=np.bool_), np.ones(1, dtype=np.bool_)
        )

    def rows(self, ids: Ids) -> IntArray:
        """Find the row of each id of the crowd's pool here, shape (N,); -1 = none.

        Raises:
            InputError: No id is the same.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        own: Table = self.pool.id_array.cast(pa.large_string())
        rows = to_numpy(pc.fill_null(pc.index_in(ids.values, own), -1)).astype(np.int64)
        if (rows < 0).all():
            raise InputError(
                f"{self.pool.path}: none of its {len(own):,} ids is one of the crowd's pool; it says {own[0].as_py()!r}, the "
                f"crowd's pool {ids[0]!r}; write the ids alike"
            )
        return rows

    def good(self, reward: str | tuple[str, ...] | None, cut: float, rows: IntArray) -> FloatArray:
        """Say what share of its answers is good, shape (N,), by the rows that `rows` found. NaN = no reward."""
        share = self.rewards(reward).good(cut)[:, 0]
        return np.where(rows >= 0, share[np.maximum(rows, 0)], np.nan)


@contextmanager
def own_answers(student: Student, read: HowRead) -> Iterator[OwnAnswers | None]:
    """Open the pool of the student's answers; None where it has none of its own.

    Args:
        student: Who it is.
        read: How the crowd's pool is read: what is no reward, and what reasoning is, holds here too.

    Raises:
        OptionError: It holds several models and none is named, or not the one that is.
    """
    if student.answers is None:
        yield None
        return
    with opened(student, read) as pool:
        yield OwnAnswers(pool=pool, model=_named(pool, student.name))


def opened(student: Student, read: HowRead) -> Pool:
    """Open the pool of the student's answers; the caller closes it."""
    how = HowRead(missing=read.missing, reasoning=read.reasoning, skip_invalid=read.skip_invalid)
    path = str(student.answers)
    try:
        return open_pool(path, read=how)
    except LayoutError:
        return open_pool(path, read=replace(how, model=student.name or "student"))


def _named(pool: Pool, name: str | None) -> str:
    if name is None and len(pool.models) == 1:
        return pool.models[0]
    if name is None:
        shown = ", ".join(pool.models[:20]) + (", ..." if len(pool.models) > 20 else "")
        raise OptionError(
            f"{pool.path}: answers of several models ({shown}); name the student with `student`"
        )
    if name not in pool.models:
        raise OptionError(unknown_student(name, pool.models, path=pool.path))
    return name
