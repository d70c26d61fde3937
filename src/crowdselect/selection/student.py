"""The student: the model to be trained; what the crowd can do on each instruction, and what the student can.

`reach_of` makes four numbers of every instruction; `crosstab` is the table "what the crowd can and the student cannot",
which `Selection.facts["student"]["table"]` holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crowdselect.errors import OptionError, near_miss
from crowdselect.numeric.exact import rounded
from crowdselect.numeric.good import ease, surely
from crowdselect.numeric.teachable import folds, within_reach
from crowdselect.seeding import UInt64Array
from crowdselect.types import BoolArray, FloatArray

REACH = ("ease", "student_good", "within_reach")
"""The numbers that `Reach` holds, by the names of the registry."""
BINS = 5
"""Bins of equal width of each side of the table."""
_ROWS_PER_MODEL = 10  # good rows, and rows that are not, that a fit needs for each model of the crowd
_FEW, _MANY = 0.05, 0.95  # shares of good rewards beyond which the cut is doubtful


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """Who the student is, as the options say it, and what counts as good."""

    name: str | None = None
    """A model of the pool, or of `answers`."""
    answers: str | None = None
    """A second pool, which holds its answers."""
    column: str | None = None
    """A column of its success, 0 to 1, instead of answers."""
    good_above: float | None = None
    """An answer is good above this reward; None = above the cut."""
    marked: bool = False
    """Only the pool or the crowd file marks it, and nothing asks for it: it is shown as far as it is known."""

    @property
    def answers_here(self) -> bool:
        """Whether its answers are here: in the pool or in one of their own."""
        return self.name is not None or self.answers is not None

    @property
    def named(self) -> bool:
        """Whether there is a student at all."""
        return self.answers_here or self.column is not None

    @property
    def of_pool(self) -> str | None:
        """The student, where it is a model of the pool itself."""
        return self.name if self.answers is None else None

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            OptionError: It does.
        """
        if self.column is not None and self.answers_here:
            other = "student" if self.name is not None else "student_answers"
            raise OptionError(
                f"`student_column` and `{other}` both say what the student does; give one of them"
            )
        if self.good_above is not None and not np.isfinite(self.good_above):
            raise OptionError(f"`good_above` is {self.good_above}; wanted a finite number")

    @property
    def words(self) -> str | None:
        """Who it is, for people; None = there is none."""
        return self.name or self.answers or (None if self.column is None else f"column {self.column}")


def unknown_student(name: str, models: Sequence[str], *, path: str) -> str:
    """Say that a pool has no model of the student's name."""
    shown = ", ".join(models[:20]) + (", ..." if len(models) > 20 else "")
    return f"{path}: no answers of the student {name!r}; its models are: {shown}{near_miss(name, models)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the crowd and the student can do on each instruction; row i of every array is instruction i."""

    cut: float | None
    """An answer is good if its reward is above this; None = all rewards are equal."""
    share: float
    """Share of all rewards that are good."""
    ease: FloatArray
    """Mean over the crowd of the share of good answers, shape (N,). NaN = no reward."""
    sure: BoolArray
    """Where some answer of the crowd is good, shape (N,)."""
    student: Student
    student_good: FloatArray | None = None
    """Share of the student's answers that are good, shape (N,). NaN = none has a reward; None = there is no student."""
    within_reach: FloatArray | None = None
    """What the student should be able to do, shape (N,), 0 to 1, NaN = no reward of the crowd; None = there is no student."""
    notes: tuple[str, ...] = ()
    """One-line facts to tell the user."""

    @property
    def numbers(self) -> dict[str, FloatArray]:
        """What there is, by the names of the registry."""
        found: dict[str, FloatArray | None] = {name: getattr(self, name) for name in REACH}
        return {name: values for name, values in found.items() if values is not None}

    @property
    def good_everywhere(self) -> bool:
        """Whether all of the student's answers are good."""
        good = self.student_good
        return good is not None and not (good < 1).any() and not np.isnan(good).all()


def reach_of(
    good: FloatArray,
    student_good: FloatArray | None,
    *,
    cut: float | None,
    share: float,
    student: Student,
    hashes: UInt64Array,
    seed: int,
) -> Reach:
    """Compute what crowd and student can do.

    Args:
        good: Share of each crowd model's answers that are good, shape (N, M). NaN = no reward.
        student_good: Share of the student's, shape (N,), NaN = missing; None = there is no student.
        cut: What is good.
        share: How many rewards are.
        student: Who the student is.
        hashes: Content hash of each id, shape (N,).
        seed: Of the folds.

    Returns:
        The numbers. Where the student is good, or not good, in fewer than ten rows per model of the crowd, ease stands for
        `within_reach`.
    """
    easy, notes = ease(good), _doubts(cut, share, student)
    if student_good is None:
        return Reach(cut=cut, share=share, ease=easy, sure=surely(good), student=student, notes=tuple(notes))
    known = student_good[~np.isnan(student_good)]
    if not known.size and student.marked:
        return reach_of(good, None, cut=cut, share=share, student=student, hashes=hashes, seed=seed)
    if not known.size and cut is not None:
        raise OptionError(f"the student {student.words} has no reward on any instruction of the pool")
    if cut is None:
        return Reach(
            cut=cut,
            share=share,
            ease=easy,
            sure=surely(good),
            student=student,
            student_good=student_good,
            within_reach=easy,
        )
    least = _ROWS_PER_MODEL * good.shape[1]
    rows = known.sum(), (1 - known).sum()
    enough = min(rows) >= least
    if not enough and not student.marked:
        few, what = (rows[0], "good") if rows[0] <= rows[1] else (rows[1], "not good")
        if few:
            why = (
                f"{what} on {few:,.4g} rows; to learn what is within its reach {least:,} are needed (10 per model of the "
                "crowd)"
            )
        else:
            why = f"good on {'every' if rows[0] else 'no'} row; what is within its reach cannot be learnt from that"
        notes.append(f"the student is {why}, so the crowd's ease stands for it")
    missing = len(student_good) - len(known)
    if missing and not student.marked:
        notes.append(
            f"{missing:,} of {len(student_good):,} instructions have no reward of the student; what is within its reach there "
            "counts as what it does"
        )
    return Reach(
        cut=cut,
        share=share,
        ease=easy,
        sure=surely(good),
        student=student,
        student_good=student_good,
        within_reach=within_reach(good, student_good, folds(hashes, seed=seed)) if enough else easy,
        notes=tuple(notes),
    )


def _doubts(cut: float | None, share: float, student: Student) -> list[str]:
    """Say that the cut may not be one."""
    if cut is None or _FEW <= share <= _MANY:
        return []
    why = (
        "this is what `good_above` says"
        if student.good_above is not None
        else "outliers, or a pile at one value; say with `good_above` from which reward on an answer is good"
    )
    return [f"{share:.1%} of rewards are good (above {cut:g}): {why}"]


def bins(values: FloatArray) -> FloatArray:
    """Number the bin of each share, 0 to 4; the lower end of a bin belongs to it, and 1 to the last. NaN = none.

    Example:
        >>> bins(np.array([0.0, 0.2, 0.59, 0.6, 1.0])).tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    return np.minimum(np.floor(rounded(values * BINS)), BINS - 1)


def crosstab(ease: FloatArray, student_good: FloatArray, rows: BoolArray) -> list[list[int]]:
    """Count rows by what the crowd can and what the student can.

    Args:
        ease: Shape (N,), 0 to 1. NaN = not counted.
        student_good: Shape (N,), 0 to 1. NaN = not counted.
        rows: Which rows to count, shape (N,).

    Returns:
        5 lists, one per bin of ease, the hardest first, of 5 counts, one per bin of the student's success, the lowest first.

    Example:
        >>> crosstab(np.array([0.9, 0.9, 0.1]), np.array([0.0, 0.0, 1.0]), np.array([True, True, True]))[4]
        [2, 0, 0, 0, 0]
    """
    known = rows & ~np.isnan(ease) & ~np.isnan(student_good)
    counts = np.zeros((BINS, BINS), dtype=np.int64)
    np.add.at(counts, (bins(ease[known]).astype(int), bins(student_good[known]).astype(int)), 1)
    return [[int(count) for count in row] for row in counts]


def student_facts(reach: Reach | None, chosen: BoolArray) -> dict[str, Any]:
    """Describe for the manifest what is good, and what the student can; empty where nothing of that was asked for.

    Args:
        reach: From `reach_of`.
        chosen: Which rows were chosen, shape (N,).

    Returns:
        `good`: `above` (the cut) and `share` (of all rewards); with a student, `student`: `name`, `answers`, `column`,
        `missing` (instructions without a reward of it; with `answers` also their `fingerprint`), `already` (chosen rows where all its answers are good) and `table`:
        `edges` of the bins, and the counts of `pool` and `chosen`, see `crosstab`.
    """
    if reach is None:
        return {}
    share = None if reach.cut is None else reach.share  # JSON has no NaN
    found: dict[str, Any] = {"good": {"above": reach.cut, "share": share}}
    good, student = reach.student_good, reach.student
    if good is not None:
        found["student"] = {
            "name": student.name,
            "answers": student.answers,
            "column": student.column,
            "missing": int(np.isnan(good).sum()),
            "already": int((good[chosen] == 1).sum()),
            "table": {
                "edges": [step / BINS for step in range(BINS + 1)],
                "pool": crosstab(reach.ease, good, np.ones(len(good), dtype=np.bool_)),
                "chosen": crosstab(reach.ease, good, chosen),
            },
        }
    return found


def bin_names(edges: Sequence[float]) -> list[str]:
    """Name the bins of the table by their edges, the lowest first.

    Example:
        >>> bin_names([0.0, 0.5, 1.0])
        ['0-50%', '50-100%']
    """
    return [f"{100 * low:.0f}-{high:.0%}" for low, high in pairwise(edges)]


def already_line(facts: Mapping[str, Any], budget: int) -> str | None:
    """Say on how many of the chosen rows the student does as well already; None without a student.

    Example:
        >>> already_line({"student": {"already": 214}}, 1000)
        'the student already does as well on 214 of the 1,000 chosen'
    """
    student = facts.get("student")
    return (
        None
        if student is None
        else f"the student already does as well on {student['already']:,} of the {budget:,} chosen"
    )
