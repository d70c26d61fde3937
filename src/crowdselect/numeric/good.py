"""Good or not: the cut that splits all rewards of a pool in two, and what each model's answers are by it."""

import numpy as np

from crowdselect.numeric.metrics import difficulty
from crowdselect.types import BoolArray, FloatArray, IntArray

_GRID = 2.0**32  # steps of the range: in whole numbers of them sums are exact, whatever the order


def good_cut(values: FloatArray, counts: IntArray | None = None) -> float | None:
    """Find the cut that splits rewards in two: an answer is good if its reward lies above it.

    Of all splits between two different neighbours, the one whose halves lie closest to their medians, that is with the
    least sum of |value - median of its half|; the cut is the midpoint of the two neighbours. Of splits that are equally
    good (to 2^-31 of the range per value), the lowest. A shift of all values, and a positive factor, move the cut in the
    same way and change nothing else.

    Args:
        values: Rewards in any order, shape (n,), finite.
        counts: How often each occurs, shape (n,), at least 1; None = once. At most 2^30 in all.

    Returns:
        The cut; None where no two values differ.

    Example:
        >>> good_cut(np.array([1.0, 2.0, 2.0, 7.0, 9.0])), good_cut(np.array([3.0, 3.0]))
        (4.5, None)
    """
    distinct, number = tallied(values, counts)
    if len(distinct) < 2:
        return None
    low, high = distinct[0] / 2, distinct[-1] / 2  # halved, as the range may be no float
    steps = np.rint((distinct / 2 - low) / (high - low) * _GRID).astype(np.int64)
    up_to = np.concatenate(([0], np.cumsum(number)))
    sums = np.concatenate(([0], np.cumsum(number * steps)))

    def apart(begin: IntArray, end: IntArray) -> IntArray:
        """Sum of distances to the median of the values from place `begin` to `end` of `up_to`: the upper half less the lower."""
        middle = (up_to[begin] + up_to[end]) // 2
        at = np.searchsorted(up_to, middle, side="right") - 1
        below = sums[at] + (middle - up_to[at]) * steps[at]
        odd = (up_to[begin] + up_to[end]) % 2
        return np.asarray(sums[end] + sums[begin] - 2 * below - odd * steps[at])

    split = np.arange(1, len(distinct))
    cost = apart(np.zeros_like(split), split) + apart(split, np.full_like(split, len(distinct)))
    best = int(np.argmax(cost <= cost.min() + 2 * up_to[-1]))  # each distance is rounded to a step
    lower, upper = float(distinct[best]), float(distinct[best + 1])
    middle = lower / 2 + upper / 2
    return middle if lower <= middle < upper else lower


def tallied(values: FloatArray, counts: IntArray | None = None) -> tuple[FloatArray, IntArray]:
    """Count equal values.

    Args:
        values: Shape (n,), no NaN.
        counts: How often each occurs, shape (n,); None = once.

    Returns:
        The different ones, ascending, and how often each occurs.

    Example:
        >>> tallied(np.array([2.0, 1.0, 2.0]), np.array([1, 1, 5]))
        (array([1., 2.]), array([1, 6]))
    """
    order = None if counts is None else np.argsort(values)
    ascending = np.sort(values) if order is None else values[order]
    new = np.ones(len(ascending), dtype=np.bool_)
    new[1:] = ascending[1:] != ascending[:-1]
    first = np.flatnonzero(new)
    if order is None or counts is None:
        return ascending[first], np.diff(first, append=len(values))
    return ascending[first], np.add.reduceat(counts[order], first) if len(first) else counts[:0]


def is_good(scores: FloatArray, cut: float) -> FloatArray:
    """Say of each answer whether it is good.

    Args:
        scores: Rewards, any shape. NaN = none.
        cut: From `good_cut`.

    Returns:
        The same shape: 1 = above the cut, 0 = not. NaN = no reward.

    Example:
        >>> is_good(np.array([1.0, 2.0, np.nan]), 1.5)
        array([ 0.,  1., nan])
    """
    return np.where(np.isnan(scores), np.nan, scores > cut)


def ease(good: FloatArray) -> FloatArray:
    """Mean over models of the share of good answers: how easy the crowd finds an instruction.

    Args:
        good: Share of each model's answers that are good, shape (N, M). NaN = no reward.

    Returns:
        Shape (N,), 0 to 1, higher = more models succeed. NaN = no reward. Equal means are the same number.

    Example:
        >>> ease(np.array([[1.0, 0.0, 1.0, np.nan], [0.0, 0.0, 0.5, 0.5]]))
        array([0.66666667, 0.25      ])
    """
    return 0.0 - difficulty(good)


def surely(good: FloatArray) -> BoolArray:
    """Say where some answer of the crowd is good.

    Args:
        good: As for `ease`.

    Returns:
        Shape (N,).

    Example:
        >>> surely(np.array([[0.0, 0.25], [0.0, np.nan]]))
        array([ True, False])
    """
    return np.asarray((good > 0).any(axis=1))
