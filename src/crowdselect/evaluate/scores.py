"""Scores and their intervals: arrays in, numbers out. Questions are what is resampled; their verdicts stay together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdselect.evaluate.judgmentfile import GAMES, Verdicts
from crowdselect.evaluate.questions import Question
from crowdselect.evaluate.verdicts import weighed
from crowdselect.types import FloatArray

ROUNDS = 2000
"""Of resampling, for an interval."""
LEVEL = 0.95
PUBLISHED_ROUNDS = 100
"""Of resampling, as arena-hard-auto does it."""
_CHUNK = 256  # rounds at a time: bounds memory


@dataclass(frozen=True, slots=True)
class Cells:
    """What counts, per question and turn.

    Attributes:
        ids: Q ids, in code-point order, so that the order of a file changes nothing.
        categories: Q.
        sums: Shape (Q, T): grades (T = turns), or shares of wins times their weights (T = 1).
        weights: Shape (Q, T): 1 for a grade, the verdicts' weights for a pair; 0 = missing.
    """

    ids: tuple[str, ...]
    categories: tuple[str, ...]
    sums: FloatArray
    weights: FloatArray

    def mean(self) -> float | None:
        """Give the weighted mean of all cells; None where there is none.

        Example:
            >>> Cells(("a",), ("",), np.array([[8.0, 6.0]]), np.array([[1.0, 1.0]])).mean()
            7.0
        """
        total = float(self.weights.sum())
        return float(self.sums.sum()) / total if total else None

    def only(self, keep: NDArray[np.bool_]) -> "Cells":
        """Keep some questions; `keep` has shape (Q,)."""
        kept = np.flatnonzero(keep)
        return Cells(
            tuple(self.ids[at] for at in kept),
            tuple(self.categories[at] for at in kept),
            self.sums[kept],
            self.weights[kept],
        )


def graded(questions: Sequence[Question], verdicts: Verdicts, *, turns: int) -> Cells:
    """Lay grades out by question and turn; a missing one weighs nothing.

    Args:
        questions: Q of them.
        verdicts: By id and turn.
        turns: T, the columns.

    Returns:
        Cells with grades from 1 to 10.
    """
    ordered = sorted(questions, key=lambda question: question.id)
    sums = np.zeros((len(ordered), turns))
    weights = np.zeros((len(ordered), turns))
    for row, question in enumerate(ordered):
        for turn in range(len(question.turns)):
            rating = verdicts[question.id, turn].rating
            if rating is not None:
                sums[row, turn], weights[row, turn] = rating, 1.0
    return Cells(tuple(q.id for q in ordered), tuple(q.category for q in ordered), sums, weights)


def won(questions: Sequence[Question], verdicts: Verdicts) -> Cells:
    """Lay out how much of each question the model won; a question counts with both of its verdicts or not at all.

    Returns:
        Cells with one column; shares are from 0 to 1, a strong verdict weighs 3.
    """
    ordered = sorted(questions, key=lambda question: question.id)
    sums = np.zeros((len(ordered), 1))
    weights = np.zeros((len(ordered), 1))
    for row, question in enumerate(ordered):
        battles = battles_of(question.id, verdicts)
        sums[row] = sum(share * weight for share, weight in battles)
        weights[row] = sum(weight for _, weight in battles)
    return Cells(tuple(q.id for q in ordered), tuple(q.category for q in ordered), sums, weights)


def battles_of(id_: str, verdicts: Verdicts) -> list[tuple[float, int]]:
    """Give the model's share and the weight of both verdicts on a question; nothing where one is missing."""
    labels = [verdicts[id_, game].label for game in range(GAMES)]
    if labels[0] is None or labels[1] is None:
        return []
    (first, weight), second = weighed(labels[0]), weighed(labels[1])
    return [(1.0 - first, weight), second]  # in the first game the baseline is A


def resampled(cells: Cells, *, seed: int, rounds: int = ROUNDS) -> FloatArray:
    """Draw as many questions with replacement as there are, again and again.

    Args:
        cells: Q questions; those without any weight are left out.
        seed: From 0.
        rounds: B.

    Returns:
        Shape (B,): the mean of each draw. Empty where there is no question, or a single one, of which every draw is the same.
    """
    sums, weights = cells.sums.sum(axis=1), cells.weights.sum(axis=1)
    used = weights > 0
    sums, weights = sums[used], weights[used]
    if len(sums) < 2:
        return np.empty(0)
    generator = np.random.default_rng(seed)
    found = []
    for begin in range(0, rounds, _CHUNK):
        drawn = generator.integers(0, len(sums), size=(min(_CHUNK, rounds - begin), len(sums)))
        found.append(sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    return np.concatenate(found)


def interval(values: FloatArray, *, level: float = LEVEL) -> tuple[float, float] | None:
    """Give the percentile interval of resampled values; None where there are none.

    Example:
        >>> interval(np.arange(101.0), level=0.5)
        (25.0, 75.0)
    """
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def published(questions: Sequence[Question], verdicts: Verdicts, *, seed: int) -> Mapping[str, float] | None:
    """Score as arena-hard-auto prints it: resample verdicts (a strong one is three), 100 times.

    Its interval is narrower than one over questions: three copies of one verdict, and the two orders of one
    question, are counted as if they were independent.

    Returns:
        Mean, 5th and 95th percentile in per cent; None where there is no verdict.
    """
    battles = [
        share
        for question in sorted(questions, key=lambda question: question.id)
        for share, weight in battles_of(question.id, verdicts)
        for _ in range(weight)
    ]
    if not battles:
        return None
    values = np.array(battles)
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(PUBLISHED_ROUNDS, len(values)))
    means = 100 * values[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    return {"score": float(means.mean()), "low": float(low), "high": float(high)}
