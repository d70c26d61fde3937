"""The highest numbers of a column, or marks that a judge is asked for."""

from collections.abc import Callable, Sequence

import numpy as np

from crowdselect.methods import check_one_place
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen
from crowdselect.selection.reading import Answered
from crowdselect.types import FloatArray

Marker = Callable[[Sequence[Answered], Progress], Sequence[float | None]]
"""Instructions with answers → marks, None where there is none; see `crowdselect.reward.marks.JudgeMarker`."""


def by_column(*, column: str | None = None, marker: Marker | None = None, judge: str | None = None) -> Method:
    """The rows with the highest numbers; with the marks of a judge, AlpaGasus (Chen et al. 2023, arXiv 2307.08701).

    `score` is the number: of the answer to train on where a marker gives it or the column is a reward of the pool,
    else of the row.

    Args:
        column: A reward column, such as the judge scorer of `crowdselect reward` makes, or one number per row.
        marker: Gives the marks instead, 0 to 5.
        judge: What the marker asks, for the manifest.

    Raises:
        OptionError: Neither or both are given.
    """
    check_one_place("marks", column, marker)

    def score(seen: Seen, progress: Progress) -> Scored:
        if marker is None:
            marks = seen.numbers(str(column))
            return Scored(marks, {f"no {column}": np.isnan(marks)})
        marks = _asked(seen, marker, progress)
        return Scored(marks, {"the judge gave no mark that can be read": np.isnan(marks)})

    return Method(
        name="column",
        arguments={"column": column, "judge": judge},
        score=score,
        columns=() if column is None else (column,),
        needs=frozenset() if marker is None else frozenset({"instruction", "answer"}),
    )


def _asked(seen: Seen, marker: Marker, progress: Progress) -> FloatArray:
    marks = np.full(len(seen.eligible), np.nan)
    answered = seen.read("both")
    if answered:
        marks[seen.rows] = [np.nan if mark is None else mark for mark in marker(answered, progress)]
    return marks
