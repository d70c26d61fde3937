"""Means and variances that are equal wherever they are equal mathematically, whatever order the numbers come in.

Most rewards are decimals, or means of a few decimals: whole numbers of some small step. Counted in steps they are added
and squared without any rounding, and a constant added to all of them, or a factor, changes the count of steps and
nothing else. Rounding to twelve digits alone would not do: 1000.3 added to a reward leaves it wrong in the thirteenth
digit, so every tenth pair of equal variances would still be told apart. Other numbers are sorted, added and rounded.
"""

import numpy as np
from numpy.typing import NDArray

from crowdselect.types import BoolArray, FloatArray

_STEPS = (1e4, 1e5, 1e6, 252_000.0)  # per unit: decimals; means of up to 10 (not 8), 12 or 14 decimals
_NOISE = 2.0**-40  # of the largest number: what is nearer to a whole number of steps than this is one
_MOST = 2.0**33  # steps; beyond, the noise would be a part of a step that says something
_EXACT = 2.0**53  # whole numbers below this have no rounding
_DIGITS = 40  # binary ones; about twelve decimal ones


def moments(
    numbers: FloatArray, missing: BoolArray | None, count: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The mean and the population variance of each column.

    Args:
        numbers: Shape (M, n), 0 where missing.
        missing: Shape (M, n); None = nothing is.
        count: Shape (n,), numbers per column; NaN for none.

    Returns:
        Two arrays of shape (n,). Equal means, and equal variances, are the same number in whichever order and
        from whichever other numbers they come; of numbers that are not decimals, up to twelve digits. The
        variance is exactly 0 where all numbers are equal, or differ by rounding only. NaN where there is no number.

    Example:
        >>> mean, variance = moments(np.array([[0.1, 1000.4], [0.3, 1000.6]]), None, np.array([2.0, 2.0]))
        >>> mean.tolist(), variance.tolist()
        ([0.2, 1000.5], [0.01, 0.01])
    """
    mean, variance = np.full(len(count), np.nan), np.full(len(count), np.nan)
    largest = np.maximum(numbers.max(axis=0, initial=0.0), -numbers.min(axis=0, initial=0.0))
    rest = np.arange(len(count))
    for steps in _STEPS:
        near = _near_whole(numbers[:1, rest] * steps, largest[rest] * steps)[1]
        tried = rest[near & (largest[rest] * steps < _MOST)]
        whole, fits = _near_whole(_columns(numbers, tried) * steps, largest[tried] * steps)
        done = tried[fits]
        mean[done], variance[done] = _of_whole(
            whole if fits.all() else whole[:, fits], _part(missing, done), count[done], steps=steps
        )
        rest = np.setdiff1d(rest, done, assume_unique=True) if len(done) < len(rest) else rest[:0]
        if not rest.size:
            return mean, variance
    mean[rest], variance[rest] = _of_any(_columns(numbers, rest), _part(missing, rest), count[rest])
    return mean, variance


def rounded(values: FloatArray) -> FloatArray:
    """Round each number to twelve digits of itself, so that what differs by the rounding of sums is equal.

    Args:
        values: Any shape; NaN and infinity stay.

    Returns:
        The same shape, each rounded to 40 binary digits: a number keeps its sign and scales by powers of 2.

    Example:
        >>> 0.1 + 0.2 == 0.3, *map(bool, rounded(np.array([0.1 + 0.2])) == rounded(np.array([0.3])))
        (False, True)
    """
    part, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(np.ldexp(part, _DIGITS)), exponent - _DIGITS))


def _near_whole(steps: FloatArray, largest: FloatArray) -> tuple[FloatArray, BoolArray]:
    """The nearest whole numbers, and the columns that consist of them but for noise."""
    whole = np.rint(steps)
    np.subtract(steps, whole, out=steps)
    np.abs(steps, out=steps)
    return whole, steps.max(axis=0, initial=0.0) <= largest * _NOISE


def _of_whole(
    whole: FloatArray, missing: BoolArray | None, count: FloatArray, *, steps: float
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of whole numbers of steps: whole numbers too, up to one division."""
    total = whole.sum(axis=0)
    middle = np.rint(total / count)
    apart = whole - middle
    if missing is not None:
        apart[missing] = 0.0
    squares = count * np.einsum("ij,ij->j", apart, apart)
    left = total - count * middle
    variance = (squares - left * left) / (count * steps) ** 2
    large = np.flatnonzero(squares >= _EXACT)
    if large.size:
        variance[large] = _of_any(apart[:, large], _part(missing, large), count[large])[1] / steps**2
    return total / (count * steps), variance


def _of_any(
    numbers: FloatArray, missing: BoolArray | None, count: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of any numbers: less the middle one, in ascending order, rounded at the end."""
    rows = np.array(numbers.T, order="C")  # a copy
    if missing is not None:
        rows[missing.T] = np.nan
    rows.sort(axis=1)  # missing ones last
    at = np.where(count > 0, (count - 1) // 2, 0).astype(np.int64)
    middle = np.take_along_axis(rows, at[:, None], axis=1)[:, 0] if rows.shape[1] else count
    apart = np.ascontiguousarray(rows.T) - middle
    gone = np.isnan(apart)
    apart[gone] = 0.0
    shift = _added(apart) / count
    same = ~apart.any(axis=0)
    mean = np.where(same, middle, rounded(middle + shift))
    largest = np.nanmax(np.abs(rows), axis=1, initial=0.0)
    mean[np.abs(mean) < _NOISE * largest] = 0.0
    apart -= shift
    apart[gone] = 0.0
    return mean, rounded(_added(apart * apart) / count)


def _added(columns: FloatArray) -> FloatArray:
    """Add rows one after the other; NumPy would take another order for another number of columns."""
    total = np.zeros(columns.shape[1])
    for column in columns:
        total += column
    return total


def _columns(numbers: FloatArray, which: NDArray[np.intp]) -> FloatArray:
    return numbers if len(which) == numbers.shape[1] else numbers[:, which]


def _part(missing: BoolArray | None, which: NDArray[np.intp]) -> BoolArray | None:
    if missing is None or len(which) == missing.shape[1]:
        return missing
    return missing[:, which]
