"""Scores and their intervals: arrays in, numbers out. Questions are resampled, each with all its verdicts.

Also measures of the judge's position and length bias, and the Bradley-Terry model: strengths fitted to wins by
maximum likelihood.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import ShapeError
from crowdselect.evaluate.files import Question
from crowdselect.evaluate.judging import GAMES, Verdicts, weighed
from crowdselect.types import FloatArray, IntArray

ROUNDS = 2000
"""Resampling rounds for an interval."""
LEVEL = 0.95
PUBLISHED_ROUNDS = 100
"""Resampling rounds, as in arena-hard-auto."""
_CHUNK = 256  # rounds at a time: bounds memory

_FEWEST = 3  # pairs of numbers needed for a correlation

_STEPS = 100
_CLOSE = 1e-12


@dataclass(frozen=True, slots=True)
class Cells:
    """Verdicts as numbers, per question and turn.

    Attributes:
        ids: Q ids, in code-point order, so that the order of a file changes nothing.
        categories: Q categories.
        sums: Shape (Q, T): grades (T = turns), or shares of wins times their weights (T = 1).
        weights: Shape (Q, T): 1 for a grade, the verdicts' weights for a pair; 0 = missing.
    """

    ids: tuple[str, ...]
    categories: tuple[str, ...]
    sums: FloatArray
    weights: FloatArray

    def mean(self) -> float | None:
        """Return the weighted mean of all cells; None if all weights are 0.

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
    """Arrange grades by question and turn; a missing one has weight 0.

    Args:
        questions: Q questions.
        verdicts: By id and turn.
        turns: T, the number of columns.

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
    """Compute the model's share of the win per question; a question counts with both its verdicts or not at all.

    Returns:
        Cells with one column; shares are from 0 to 1, a strong verdict has weight 3.
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
    """Return the model's share and the weight of both verdicts on a question; empty if one is missing."""
    labels = [verdicts[id_, game].label for game in range(GAMES)]
    if labels[0] is None or labels[1] is None:
        return []
    (first, weight), second = weighed(labels[0]), weighed(labels[1])
    return [(1.0 - first, weight), second]  # in the first game the baseline is A


def resampled(cells: Cells, *, seed: int, rounds: int = ROUNDS) -> FloatArray:
    """Compute bootstrap means, resampling questions with replacement.

    Args:
        cells: Q questions; those without any weight are left out.
        seed: From 0.
        rounds: B, the number of samples.

    Returns:
        Shape (B,): the mean of each sample. Empty if there are fewer than two questions: every sample would be equal.
    """
    sums, weights = cells.sums.sum(axis=1), cells.weights.sum(axis=1)
    used = weights > 0
    sums, weights = sums[used], weights[used]
    if len(sums) < 2:
        return np.empty(0)
    generator = np.random.default_rng(seed)
    means = []
    for begin in range(0, rounds, _CHUNK):
        drawn = generator.integers(0, len(sums), size=(min(_CHUNK, rounds - begin), len(sums)))
        means.append(sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    return np.concatenate(means)


def interval(values: FloatArray, *, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the percentile interval of resampled values; None if there are none.

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
    question, are treated as independent.

    Returns:
        Mean, 5th and 95th percentile in per cent; None if there is no verdict.
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


def position_bias(questions: Sequence[Question], verdicts: Verdicts) -> dict[str, Any]:
    """Compare the two verdicts on each pair of answers.

    Returns:
        `pairs`: questions with both verdicts; `flipped`: share of them where the two name opposite winners;
        `changed`: share where the two differ, ties included; `first_wins`: mean share of the win that goes to the
        answer shown first (0.5 = order does not matter). None without pairs.

    Example:
        >>> from crowdselect.evaluate.judging import Verdict
        >>> questions = [Question("q", "q", "", ("Hi",))]
        >>> verdicts = {("q", 0): Verdict(label="A>B"), ("q", 1): Verdict(label="A>B")}
        >>> position_bias(questions, verdicts)
        {'pairs': 1, 'flipped': 1.0, 'changed': 1.0, 'first_wins': 1.0}
    """
    first, second, shown_first = [], [], []
    for question in questions:
        battles = battles_of(question.id, verdicts)
        if battles:
            first.append(battles[0][0])
            second.append(battles[1][0])
            shown_first += [1.0 - battles[0][0], battles[1][0]]
    if not first:
        return {"pairs": 0, "flipped": None, "changed": None, "first_wins": None}
    one, two = np.array(first), np.array(second)
    return {
        "pairs": len(one),
        "flipped": float((np.abs(one - two) == 1).mean()),
        "changed": float((one != two).mean()),
        "first_wins": float(np.mean(shown_first)),
    }


def length_bias(values: Sequence[float], lengths: Sequence[float]) -> dict[str, Any]:
    """Compute the rank correlation of verdicts and lengths.

    Args:
        values: Grades, or shares of the win.
        lengths: As many: characters of the answer, or how many more than the baseline's.

    Returns:
        `pairs`: their number; `spearman`: from -1 to 1, None if there are fewer than 3 or one side is constant.
        A correlation does not prove bias: longer answers may be better.

    Example:
        >>> length_bias([1, 5, 9], [10, 20, 70])
        {'pairs': 3, 'spearman': 1.0}
    """
    known = len(values)
    if known < _FEWEST or len(set(values)) == 1 or len(set(lengths)) == 1:
        return {"pairs": known, "spearman": None}
    from scipy.stats import spearmanr

    rho = float(spearmanr(values, lengths).statistic)
    return {"pairs": known, "spearman": None if math.isnan(rho) else round(rho, 12)}


def graded_lengths(
    questions: Sequence[Question], verdicts: Verdicts, turns: Mapping[str, tuple[str, ...]]
) -> tuple[list[float], list[float]]:
    """Return the grades, and the characters of the graded answers."""
    values, lengths = [], []
    for question in questions:
        for turn, text in enumerate(turns.get(question.id, ())[: len(question.turns)]):
            rating = verdicts[question.id, turn].rating
            if rating is not None:
                values.append(rating)
                lengths.append(float(len(text)))
    return values, lengths


def won_lengths(
    questions: Sequence[Question],
    verdicts: Verdicts,
    turns: Mapping[str, tuple[str, ...]],
    baseline: Mapping[str, tuple[str, ...]],
) -> tuple[list[float], list[float]]:
    """Return the model's share of each question, and how many characters longer its answer is."""
    values, lengths = [], []
    for question in questions:
        battles = battles_of(question.id, verdicts)
        own, other = turns.get(question.id), baseline.get(question.id)
        if battles and own and other:
            values.append(sum(s * w for s, w in battles) / sum(w for _, w in battles))
            lengths.append(float(len(own[0]) - len(other[0])))
    return values, lengths


def bradley_terry(
    first: IntArray, second: IntArray, share: FloatArray, weight: FloatArray, *, players: int
) -> FloatArray:
    """Fit Bradley-Terry strengths to games.

    Args:
        first: Shape (G,): a player's number, from 0.
        second: Shape (G,): its opponent's.
        share: Shape (G,): the first's share of the win, 0 to 1; 0.5 is a tie.
        weight: Shape (G,): the game's weight, at least 0.
        players: P, the number of players.

    Returns:
        Shape (P,): log-odds against player 0, whose strength is 0; higher is stronger. NaN if the games determine
        no finite strength: the player won all, lost all, or is not linked to player 0.

    Raises:
        ShapeError: The arrays do not fit together.

    Source:
        Bradley and Terry 1952; Zermelo 1929 for when a finite solution exists. Solved by Newton's method.

    Example:
        >>> wins = bradley_terry(np.array([1]), np.array([0]), np.array([0.75]), np.array([8.0]), players=2)
        >>> float(np.round(1 / (1 + np.exp(-wins[1])), 6))
        0.75
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not first.shape == second.shape == share.shape == weight.shape:
        raise ShapeError(f"games of shapes {first.shape}, {second.shape}, {share.shape} and {weight.shape}")
    wins = np.zeros((players, players))
    np.add.at(wins, (first, second), share * weight)
    np.add.at(wins, (second, first), (1 - share) * weight)
    np.fill_diagonal(wins, 0.0)
    # Finite strengths exist among players who are linked by wins in both directions.
    _, groups = connected_components(coo_matrix(wins > 0), directed=True, connection="strong")
    inside = np.flatnonzero(groups == groups[0])
    strengths = np.full(players, np.nan)
    strengths[0] = 0.0
    if len(inside) > 1:
        strengths[inside] = _fit(wins[np.ix_(inside, inside)])
    return strengths


def _fit(wins: FloatArray) -> FloatArray:
    """Maximise the likelihood; `wins` has shape (P, P), row beats column, and links all players."""
    games = wins + wins.T
    strengths = np.zeros(len(wins))
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
        slope = (wins - games * chance).sum(axis=1)
        curve = games * chance * (1 - chance)
        hessian = np.diag(curve.sum(axis=1)) - curve
        step = np.linalg.solve(hessian[1:, 1:], slope[1:])
        strengths[1:] += np.clip(step, -2.0, 2.0)  # a full step may overshoot far from the solution
        if float(np.abs(step).max()) < _CLOSE:
            break
    return strengths
