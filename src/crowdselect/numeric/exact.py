"""Exact means, variances and rank correlations: results that are equal mathematically are equal as floats.

Metrics that are equal must tie, however they were computed, so the computation uses whole numbers as far as possible.

Most rewards are decimals, or means of a few decimals: multiples of some small step. Counted in steps they are added
and squared without any rounding, and adding a constant to all of them, or scaling them, only changes the count of
steps. Rounding to twelve digits alone would not suffice: 1000.3 added to a reward leaves an error in the thirteenth
digit, so every tenth pair of equal variances would still differ. Other numbers are sorted, added and rounded.

Spearman's rho of rewards and sizes within a family is also a ratio of whole numbers; its mean over families is one
division.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.types import BoolArray, FloatArray

_STEPS = (1e4, 1e5, 1e6, 252_000.0)  # per unit: decimals; means of up to 10 (not 8), 12 or 14 decimals
_NOISE = 2.0**-40  # of the largest number: anything nearer than this to a whole number of steps counts as one
_MOST = 2.0**33  # steps; beyond, the noise would be a meaningful fraction of a step
_EXACT = 2.0**53  # whole numbers below this are exact
_DIGITS = 40  # binary digits; about twelve decimal ones
_BLOCK = 16384  # rows at a time: a block stays in the processor's cache


def moments(
    numbers: FloatArray, missing: BoolArray | None, count: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Compute the mean and the population variance of each column.

    Args:
        numbers: Shape (M, n), 0 where missing.
        missing: Shape (M, n); None = nothing is.
        count: Shape (n,), numbers per column; NaN for none.

    Returns:
        Two arrays of shape (n,). Equal means, and equal variances, are the same float whatever the order and the
        numbers they were computed from; for numbers that are not decimals, up to twelve digits. The variance is
        exactly 0 where all numbers are equal, or differ by rounding only. NaN where there is no number.

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


def over_blocks(
    part: Callable[[slice], Sequence[FloatArray]], rows: int, *, block: int = _BLOCK
) -> list[FloatArray]:
    """Compute columns of rows that do not depend on each other: block by block, as many at a time as there are processors.

    Args:
        part: Computes the columns of some rows; it should spend its time in NumPy, which lets threads run.
        rows: How many there are.
        block: Rows at a time.

    Returns:
        The columns, joined.

    Example:
        >>> [column.tolist() for column in over_blocks(lambda here: [np.arange(5.0)[here]], 5, block=2)]
        [[0.0, 1.0, 2.0, 3.0, 4.0]]
    """
    begins = range(0, max(rows, 1), block)
    workers = min(len(begins), os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        found = list(pool.map(lambda begin: part(slice(begin, min(begin + block, rows))), begins))
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def rounded(values: FloatArray) -> FloatArray:
    """Round each number to about twelve significant digits, so that results that differ by rounding errors are equal.

    Args:
        values: Any shape; NaN and infinity stay.

    Returns:
        The same shape, each number rounded to 40 binary digits; it keeps its sign and scales by powers of 2.

    Example:
        >>> 0.1 + 0.2 == 0.3, *map(bool, rounded(np.array([0.1 + 0.2])) == rounded(np.array([0.3])))
        (False, True)
    """
    part, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(np.ldexp(part, _DIGITS)), exponent - _DIGITS))


def _near_whole(steps: FloatArray, largest: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the nearest whole numbers, and the columns that consist of whole numbers up to noise."""
    whole = np.rint(steps)
    np.subtract(steps, whole, out=steps)
    np.abs(steps, out=steps)
    return whole, steps.max(axis=0, initial=0.0) <= largest * _NOISE


def _of_whole(
    whole: FloatArray, missing: BoolArray | None, count: FloatArray, *, steps: float
) -> tuple[FloatArray, FloatArray]:
    """Compute mean and variance of whole numbers of steps, in whole numbers up to one division."""
    total = whole.sum(axis=0)
    middle = np.rint(total / count)
    deviations = whole - middle
    if missing is not None:
        deviations[missing] = 0.0
    squares = count * np.einsum("ij,ij->j", deviations, deviations)
    remainder = total - count * middle
    variance = (squares - remainder * remainder) / (count * steps) ** 2
    large = np.flatnonzero(squares >= _EXACT)
    if large.size:
        variance[large] = _of_any(deviations[:, large], _part(missing, large), count[large])[1] / steps**2
    return total / (count * steps), variance


def _of_any(
    numbers: FloatArray, missing: BoolArray | None, count: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Compute mean and variance of any numbers: minus the middle one, summed in ascending order, rounded at the end."""
    rows = np.array(numbers.T, order="C")  # a copy
    if missing is not None:
        rows[missing.T] = np.nan
    rows.sort(axis=1)  # missing ones last
    middle_index = np.where(count > 0, (count - 1) // 2, 0).astype(np.int64)
    middle = np.take_along_axis(rows, middle_index[:, None], axis=1)[:, 0] if rows.shape[1] else count
    deviations = np.ascontiguousarray(rows.T) - middle
    absent = np.isnan(deviations)
    deviations[absent] = 0.0
    shift = _added(deviations) / count
    same = ~deviations.any(axis=0)
    mean = np.where(same, middle, rounded(middle + shift))
    largest = np.nanmax(np.abs(rows), axis=1, initial=0.0)
    mean[np.abs(mean) < _NOISE * largest] = 0.0
    deviations -= shift
    deviations[absent] = 0.0
    return mean, rounded(_added(deviations * deviations) / count)


def _added(columns: FloatArray) -> FloatArray:
    """Add rows one after the other; NumPy's order of addition depends on the number of columns."""
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


Families = list[tuple[NDArray[np.intp], FloatArray]]
"""Per family with two known sizes or more: its columns of the score matrix, and their sizes."""

_IntArray = NDArray[np.signedinteger[Any]]
_Pair = tuple[FloatArray, FloatArray]  # a number as the sum of a high and a low part: twice the digits

_SPLIT = 134217729.0  # 2^27 + 1: splits a double into two halves of 26 bits
_LARGEST_COMMON = 1 << 40  # a common denominator up to this leaves room to add
_NOTHING = 2.0**-90  # far below any mean of rank correlations, far above their accumulated rounding error


def ordered_families(sizes: FloatArray, families: Sequence[str | None]) -> list[NDArray[np.intp]]:
    """Find the families with two known sizes or more, and the columns of each.

    Args:
        sizes: Billions of parameters, shape (M,). NaN = unknown.
        families: Length M. None = unknown.

    Returns:
        Column numbers per family, families in code-point order of their names.

    Example:
        >>> [list(map(int, g)) for g in ordered_families(np.array([1.0, 2.0, 2.0]), ["a", "a", "b"])]
        [[0, 1]]
    """
    known = [j for j, family in enumerate(families) if family is not None and not np.isnan(sizes[j])]
    groups = []
    for name in sorted({str(families[j]) for j in known}):
        members = np.array([j for j in known if families[j] == name], dtype=np.intp)
        if len(set(sizes[members])) > 1:
            groups.append(members)
    return groups


def families_of(sizes: FloatArray, families: Sequence[str | None]) -> Families:
    """Find the families with two known sizes or more, with their models' sizes; see `ordered_families`.

    Example:
        >>> [(list(map(int, group)), own.tolist()) for group, own in families_of(np.array([1.0, 2.0]), ["a", "a"])]
        [([0, 1], [1.0, 2.0])]
    """
    return [(group, sizes[group]) for group in ordered_families(sizes, families)]


def rank_agreement(
    rewards: FloatArray, missing: BoolArray | None, families: Families, *, ties: str
) -> FloatArray:
    """Compute the mean over families of Spearman's rho between rewards and sizes.

    Args:
        rewards: Shape (M, n), 0 where missing.
        missing: Shape (M, n); None = nothing is.
        families: From `families_of`.
        ties: As for `crowdselect.stability`.

    Returns:
        Shape (n,), in [-1, 1], higher = larger models get higher rewards; equal means are the same float, however
        computed. NaN where no family has rewards of two sizes.

    Example:
        >>> families = families_of(np.array([3.0, 7.0]), ["Q", "Q"])
        >>> rank_agreement(np.array([[1.0, 2.0], [2.0, 1.0]]), None, families, ties="average").tolist()
        [1.0, -1.0]
    """
    products, reward_norms, size_norms = [], [], []
    for group, sizes in families:
        columns = [rewards[j] for j in group]
        present = None if missing is None else ~missing[group]
        product, reward_norm, size_norm = _family_sums(columns, sizes=sizes, present=present, ties=ties)
        products.append(product)
        reward_norms.append(reward_norm)
        size_norms.append(size_norm)
    out, plain = _mean_of_plain(products, reward_norms, families, n=rewards.shape[1])
    rest = np.flatnonzero(~plain)
    if rest.size:
        parts = zip(products, reward_norms, size_norms, strict=True)
        sums = [tuple(values[rest if len(values) > 1 else [0]] for values in part) for part in parts]
        out[rest] = _mean_of_rhos(sums, n=len(rest))
    return out


def _mean_of_plain(
    products: list[_IntArray], reward_norms: list[_IntArray], groups: Families, *, n: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Compute the mean for rows without ties or missing values, in whole numbers up to one division; and which rows."""
    full = [len(group) * (len(group) ** 2 - 1) // 3 for group, _ in groups]  # the norm of untied ranks
    plain = np.full(n, bool(groups) and all(len(set(sizes)) == len(sizes) for _, sizes in groups))
    common = math.lcm(*full)
    if common > _LARGEST_COMMON or not plain.any():
        return np.full(n, np.nan), np.zeros(n, dtype=bool)
    total = np.zeros(n, dtype=np.int64)
    for product, reward_norm, norm in zip(products, reward_norms, full, strict=True):
        plain &= reward_norm == norm
        total += np.multiply(product, common // norm, dtype=np.int64)
    return total / (common * len(groups)), plain


def _mean_of_rhos(families: list[tuple[_IntArray, ...]], *, n: int) -> FloatArray:
    """Compute the mean over families for any rows.

    It uses twice the digits of a double, so that equal means of different families' values
    (0.3 and 0.5, or 0.8 and 0) tie exactly.
    """
    count, high, low = (np.zeros(n) for _ in range(3))
    for product, reward_norm, size_norm in families:
        # The root of 1 where all are tied, so that rho is 0.
        square = np.maximum(reward_norm.astype(np.float64) * size_norm, 1.0)
        root = np.sqrt(square)
        rho = product / root
        rest = _less_multiple(product, rho, root) / root
        tied = np.flatnonzero(root * root != square)  # rewards that tie may make the root irrational
        if tied.size:
            rest[tied] = _rest_of_quotient(product[tied], rho[tied], square[tied])
        high, lost = _two_sum(high, rho)
        low += lost + rest
        count += size_norm > 0
    count[count == 0] = np.nan
    nonzero = np.abs(high + low) > _NOTHING  # families that cancel out do so exactly
    return _divide((high * nonzero, low * nonzero), count)[0]


def _family_sums(
    columns: list[FloatArray], *, sizes: FloatArray, present: NDArray[np.bool_] | None, ties: str
) -> tuple[_IntArray, ...]:
    """Compute the whole numbers of which rho within one family is made: product / sqrt(norm * norm).

    The sums over models of reward rank times size rank, of reward rank squared, and of size rank squared;
    the last has length 1 where it is the same in all rows.
    """
    by_reward, by_size = _signs(columns, sizes=sizes, present=present, ties=ties)
    whole = np.int16 if len(columns) <= 30 else np.int64  # the sums of products must fit
    return tuple(
        np.asarray(sum(np.multiply(a, b, dtype=whole) for a, b in zip(left, right, strict=True)))
        for left, right in ((by_reward, by_size), (by_reward, by_reward), (by_size, by_size))
    )


def _rest_of_quotient(product: _IntArray, quotient: FloatArray, square: FloatArray) -> FloatArray:
    """Compute the rounding error of product / sqrt(square)."""
    root = np.sqrt(square)
    root_rest = _less_product(square, root, root) / (2.0 * root)
    return (_less_product(product, quotient, root) - quotient * root_rest) / root


def _signs(
    columns: list[FloatArray], *, sizes: FloatArray, present: NDArray[np.bool_] | None, ties: str
) -> tuple[_IntArray, _IntArray]:
    """Count per model of a family how many others it beats minus how many beat it: in reward, and in size.

    Half of that is the model's average rank, centred; as whole numbers, so that perfect agreement is exactly 1.
    """
    m, n = len(columns), len(columns[0])
    whole = np.int8 if m <= 127 else np.int64
    by_reward = np.zeros((m, n), dtype=whole)
    by_size = np.zeros((m, 1 if present is None else n), dtype=whole)
    for j in range(m):
        for k in range(j):
            order = whole(sizes[j] > sizes[k]) - whole(sizes[j] < sizes[k])
            above = np.greater_equal if ties == "paper" and order > 0 else np.greater
            below = np.less_equal if ties == "paper" and order < 0 else np.less
            sign = above(columns[j], columns[k]).view(np.int8) - below(columns[j], columns[k]).view(np.int8)
            both = True if present is None else present[j] & present[k]
            sign = sign if present is None else sign * both
            by_reward[j] += sign
            by_reward[k] -= sign
            by_size[j] += order * both
            by_size[k] -= order * both
    return by_reward, by_size


def _divide(number: _Pair, count: FloatArray) -> _Pair:
    high = number[0] / count
    low = (_less_multiple(number[0], high, count) + number[1]) / count
    total = high + low
    return total, low - (total - high)


def _two_sum(a: FloatArray, b: FloatArray) -> _Pair:
    """Add two numbers; the low part is the rounding error (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _less_multiple(value: NDArray[Any], a: FloatArray, whole: FloatArray) -> FloatArray:
    """Subtract `a` times a whole number below 2^26 from a number close to it, without rounding (Dekker)."""
    front, back = _halves(a)
    return value - front * whole - back * whole


def _less_product(value: NDArray[Any], a: FloatArray, b: FloatArray) -> FloatArray:
    """Subtract a product from a number close to it, without rounding."""
    front, back = _halves(b)
    return _less_multiple(_less_multiple(value, a, front), a, back)


def _halves(value: FloatArray) -> _Pair:
    """Split a double into the upper 26 bits and the rest."""
    scaled = value * _SPLIT
    front = scaled - (scaled - value)
    return front, value - front
