"""The student's own answers, where they are in a pool of their own: joined by id, with the same reward column."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crowdselect.errors import InputError, LayoutError, OptionError
from crowdselect.numeric.duplicates import digests
from crowdselect.numeric.responses import ChosenAnswers
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.shards import Ids
from crowdselect.selection.options import Options
from crowdselect.selection.rewards import RewardsIn, candidates_among, rewards_in
from crowdselect.selection.student import Student, unknown_student
from crowdselect.types import BoolArray, FloatArray, IntArray, Table

_NONE = -1


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

    def tally(
        self,
        reward: str | tuple[str, ...] | None,
        ids: Sequence[Any],  # Arrow arrays
    ) -> tuple[FloatArray, IntArray]:
        """Its rewards for some instructions, each with how often it occurs."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.concat_arrays([some.cast(pa.large_string()) for some in ids])
        rows = to_numpy(pc.is_in(self.pool.id_array.cast(pa.large_string()), wanted))
        return self.rewards(reward).tally(rows, np.ones(1, dtype=np.bool_))

    def joined(self, ids: Ids, digest: Table) -> tuple["JoinedAnswers", list[str]]:
        """Find the row of each instruction of the crowd's pool here; also return a note where some differ.

        Args:
            ids: Of the crowd's pool, shape (N,).
            digest: Of their texts, an Arrow array; null where there is none.

        Raises:
            InputError: No id is the same, or none with the same text.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        own, texts, path = self.pool.id_array.cast(pa.large_string()), self.pool.text_array, self.pool.path
        rows = to_numpy(pc.fill_null(pc.index_in(ids.values, own), _NONE)).astype(np.int64)
        there = rows != _NONE
        if not there.any():
            raise InputError(
                f"{path}: none of its {len(own):,} ids is one of the crowd's pool; it says {own[0].as_py()!r}, the crowd's pool "
                f"{ids[0]!r}; write the ids alike"
            )
        both = there & to_numpy(digest.is_valid()) & to_numpy(texts.is_valid())[rows]
        other: BoolArray = both & (digests(texts)[rows] != to_numpy(pc.fill_null(digest, 0)))
        if (other == there).all():
            raise InputError(
                f"{path}: its ids are those of the crowd's pool, but no instruction is; is it the answers to another pool?"
            )
        count = int(other.sum())
        note = (
            f"{count:,} of {int(there.sum()):,} instructions of {path} have another text than in the crowd's pool; the student's "
            "answers to them do not count"
        )
        return JoinedAnswers(self, np.where(other, _NONE, rows)), [note] * (count > 0)


@dataclass(frozen=True, slots=True)
class JoinedAnswers:
    """The student's answers to the instructions of the crowd's pool."""

    own: OwnAnswers
    rows: IntArray
    """The row of each instruction in the student's pool, shape (N,); -1 = none."""

    def good(self, reward: str | tuple[str, ...] | None, cut: float) -> FloatArray:
        """Say what share of the student's answers is good, shape (N,). NaN = no reward."""
        share = self.own.rewards(reward).good(cut)[:, 0]
        return np.where(self.rows != _NONE, share[self.rows], np.nan)

    def rejected(
        self,
        answers: ChosenAnswers,
        reward: str | tuple[str, ...] | None,
        options: Options,
        *,
        model: int,
    ) -> ChosenAnswers:
        """Reject the student's answer to each instruction: the lowest-rewarded below the chosen one, of another text.

        Args:
            answers: What is chosen, with `text`.
            reward: The reward.
            options: As for `crowdselect.selection.rewards.candidates_of`.
            model: The number that stands for the student.

        Raises:
            OptionError: The student's pool holds rewards and no answers.
        """
        pool, rows = self.own.pool, self.rows
        if not pool.has_responses or answers.text is None:
            raise OptionError(
                f"{pool.path}: it holds no answers, only rewards, so `pairs={options.pairs!r}` has none to reject"
            )
        found = candidates_among(pool, (self.own.model,), reward, options)
        place = np.full(len(pool.id_array), _NONE, dtype=np.int64)
        place[rows[rows != _NONE]] = np.flatnonzero(rows != _NONE)
        at = place[found.row]
        text = answers.text[at]
        lower = (at != _NONE) & (text != _NONE) & (found.reward < answers.reward[at])
        lowest = found.lowest(lower & (True if found.text is None else found.text != text))
        taken = np.where(rows != _NONE, lowest[rows], _NONE)
        return replace(
            answers,
            rejected=np.where(taken != _NONE, model, _NONE),
            rejected_reward=found.rewards_of(taken),
            rejected_sample=found.numbers_of(taken),
        )


@contextmanager
def own_answers(student: Student, crowds: Pool) -> Iterator[OwnAnswers | None]:
    """Open the pool of the student's answers; None where it has none of its own.

    Args:
        student: Who it is.
        crowds: The crowd's pool: what is no reward there, and what reasoning is, holds here too; and its second file of rewards
            is that of the student as well, whose own pool has none.

    Raises:
        OptionError: It holds several models and none is named, or not the one that is.
    """
    if student.answers is None:
        yield None
        return
    with opened(student, crowds.read) as pool:
        rewards = crowds.rewards_path
        if pool.reward_columns or rewards is None:
            yield OwnAnswers(pool=pool, model=_named(pool, student.name))
            return
    with opened(student, crowds.read, rewards=rewards) as pool:
        yield OwnAnswers(pool=pool, model=_named(pool, student.name))


def opened(student: Student, read: HowRead, *, rewards: str | None = None) -> Pool:
    """Open the pool of the student's answers; the caller closes it."""
    how = HowRead(
        missing=read.missing,
        reasoning=read.reasoning,
        skip_invalid=read.skip_invalid,
        aliases=read.aliases,
    )
    path = str(student.answers)
    try:
        return open_pool(path, read=how, rewards=rewards)
    except LayoutError:  # nothing says whose answers they are
        return open_pool(path, read=replace(how, model=student.name or "student"), rewards=rewards)


def _named(pool: Pool, name: str | None) -> str:
    alone = pool.models if len(pool.models) == 1 else pool.students
    if name is None and len(alone) == 1:
        return alone[0]
    if name is None:
        shown = ", ".join(pool.models[:20]) + (", ..." if len(pool.models) > 20 else "")
        raise OptionError(
            f"{pool.path}: answers of several models ({shown}); name the student with `student`"
        )
    if name not in pool.models:
        raise OptionError(unknown_student(name, pool.models, path=pool.path))
    return name
