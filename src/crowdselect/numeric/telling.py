"""What a reward can tell: which answer to an instruction is better, or which instruction is harder; some tell one of the two alone."""

import numpy as np

from crowdselect.types import BoolArray, FloatArray

ALIKE = 0.95
"""A number that is the same for this share of the rows tells hardly any of them from another."""
_DIGITS = 9  # sums of the same numbers in another order differ in later ones


def differs_within(scores: FloatArray) -> BoolArray:
    """Say of each row whether two of its scores differ.

    Args:
        scores: Rewards, shape (N, M). NaN = none.

    Example:
        >>> differs_within(np.array([[1.0, 1.0], [1.0, 2.0], [1.0, np.nan]])).tolist()
        [False, True, False]
    """
    low = np.where(np.isnan(scores), np.inf, scores).min(axis=1, initial=np.inf)
    high = np.where(np.isnan(scores), -np.inf, scores).max(axis=1, initial=-np.inf)
    return np.asarray(low < high)


def tells_of_rows_alone(scores: FloatArray) -> bool:
    """Say whether a reward is the same for all answers of each row that has two, and not the same in all rows.

    Example:
        >>> tells_of_rows_alone(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, np.nan]]))
        True
        >>> tells_of_rows_alone(np.array([[1.0, np.nan], [np.nan, 2.0]]))
        False
    """
    there = ~np.isnan(scores)
    if not (there.sum(axis=1) > 1).any() or differs_within(scores).any():
        return False
    known = scores[there]
    return bool(known.min() < known.max())


def tells_of_answers_alone(scores: FloatArray) -> bool:
    """Say whether nearly all rows with two scores or more have the same mean and the same variance, as where scores are ranks.

    Example:
        >>> tells_of_answers_alone(np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]]))
        True
        >>> tells_of_answers_alone(np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 1.0]]))
        False
    """
    there = ~np.isnan(scores)
    count = there.sum(axis=1)
    rows = (count > 1) & differs_within(scores)
    if rows.sum() < 2 or rows.sum() < ALIKE * (count > 1).sum():
        return False
    own, count = np.where(there, scores, 0.0)[rows], count[rows]
    largest = max(float(np.abs(own).max()), np.finfo(np.float64).tiny)
    own /= largest  # squares of large rewards overflow
    moments = np.stack([own.sum(axis=1) / count, (own * own).sum(axis=1) / count], axis=1)
    _, found = np.unique(moments.round(_DIGITS), axis=0, return_counts=True)
    return bool(found.max() >= ALIKE * (there.sum(axis=1) > 1).sum())


def share_of_commonest(values: FloatArray) -> tuple[float, float]:
    """Find the commonest of some numbers.

    Args:
        values: Shape (n,), at least one. NaN = none.

    Returns:
        The share of the n that have it, and the number; NaN where it is missing in all.

    Example:
        >>> share_of_commonest(np.array([1.0, 2.0, 2.0, np.nan]))
        (0.5, 2.0)
    """
    known, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if not known.size:
        return 0.0, float("nan")
    at = int(counts.argmax())
    return float(counts[at] / len(values)), float(known[at])
