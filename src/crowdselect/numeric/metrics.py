"""Three numbers per instruction, from its row of the score matrix: difficulty, separability, stability.

Arrays in, arrays out. Every metric is higher where there is more of what its name says, and depends on
one row alone, so rows may be computed in any order or on any machine. Nothing is decided by rounding: the
order of the models changes nothing, and what is equal mathematically is the same number (see `crowdselect.numeric.moments`).
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import OptionError, ShapeError
from crowdselect.numeric.moments import moments
from crowdselect.types import FloatArray

Ties = Literal["average", "paper"]

_IntArray = NDArray[np.signedinteger[Any]]
_Groups = list[tuple[NDArray[np.intp], FloatArray]]  # per family: its columns and their sizes
_Pair = tuple[FloatArray, FloatArray]  # a number as the sum of a high and a low part: twice the digits

_BLOCK = 16384  # rows at a time: a block stays in the processor's cache
_SPLIT = 134217729.0  # 2^27 + 1: cuts a double into two halves of 26 bits
_LARGEST_COMMON = 1 << 40  # a common denominator up to this leaves room to add
_NOTHING = 2.0**-90  # far below any mean of rank correlations, far above what their rounding adds up to


def difficulty(scores: FloatArray) -> FloatArray:
    """Minus the mean reward of the crowd: how badly it does (CrowdSelect, eq. 3).

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.

    Returns:
        Shape (N,), in the rewards' unit. Higher = the crowd does worse. The mean is over the models that
        have a reward; NaN where none has. Equal means are the same number (see `crowdselect.numeric.moments`). Not
        finite where rewards are too far apart to add (beyond 1e300).

    Raises:
        ShapeError: `scores` is not two-dimensional.

    Example:
        >>> difficulty(np.array([[1.0, 2.0], [0.0, np.nan]]))
        array([-1.5,  0. ])
    """
    _two_dimensional(scores)
    return _by_block(scores, lambda block: (0.0 - _mean_and_variance(block)[0],))[0]


def separability(scores: FloatArray) -> FloatArray:
    """Population variance of the crowd's rewards: how much its members differ (CrowdSelect, eq. 4).

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.

    Returns:
        Shape (N,), at least 0, in the square of the rewards' unit (ddof 0). Higher = the models differ
        more; exactly 0 where all rewards are equal, and equal variances are the same number (see
        `crowdselect.numeric.moments`). NaN where fewer than two models have a reward. Not finite where rewards are
        too far apart to square (beyond 1e150).

    Raises:
        ShapeError: `scores` is not two-dimensional.

    Example:
        >>> separability(np.array([[1.0, 3.0], [0.0, np.nan]]))
        array([ 1., nan])
    """
    _two_dimensional(scores)
    return _by_block(scores, lambda block: (_mean_and_variance(block)[1],))[0]


def stability(
    scores: FloatArray,
    *,
    sizes: FloatArray | Sequence[float],
    families: Sequence[str | None],
    ties: Ties = "average",
) -> FloatArray:
    """Mean rank agreement between reward and model size, over model families (CrowdSelect, eq. 5).

    For each family, Spearman's rho between the sizes and the rewards of its models that have a reward;
    the metric is the plain mean over families, whatever their number of models.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward. Only the order within a row matters.
        sizes: Billions of parameters, length M. NaN = unknown; such a model takes no part.
        families: Family of each model, length M. None = unknown; such a model takes no part.
        ties: "average" gives equal rewards their average rank, and a family whose rewards are all tied
            shows no order and counts 0. "paper" is the authors' rule: equal rewards count in favour of
            the larger model, so a family that is all tied counts 1.

    Returns:
        Shape (N,), in [-1, 1]. Higher = larger models answer better, more consistently. A family with
        fewer than two rewards, or whose models present are all of one size, is left out; NaN where none
        is left.

    Raises:
        ShapeError: `scores` is not two-dimensional, or `sizes` or `families` is not of length M.
        OptionError: `ties` is neither "average" nor "paper".

    Example:
        >>> stability(np.array([[1.0, 2.0], [2.0, 1.0]]), sizes=[3.0, 7.0], families=["Q", "Q"])
        array([ 1., -1.])
    """
    groups = _checked_groups(scores, sizes=sizes, families=families, ties=ties)
    return _by_block(scores, lambda block: (_rank_agreement(block, groups, ties=ties),))[0]


METRICS: dict[str, Callable[..., FloatArray]] = {
    "difficulty": difficulty,
    "separability": separability,
    "stability": stability,
}
"""The metrics by name, in the order in which they are written and added up."""


def compute_metrics(
    scores: FloatArray, *, sizes: FloatArray, families: Sequence[str | None], ties: Ties = "average"
) -> dict[str, FloatArray]:
    """All metrics of `METRICS`, by name.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.
        sizes: As for `stability`.
        families: As for `stability`.
        ties: As for `stability`.

    Returns:
        One array of shape (N,) per metric, in the order of `METRICS`.

    Raises:
        ShapeError: As for `stability`.
        OptionError: As for `stability`.

    Example:
        >>> sorted(compute_metrics(np.eye(2), sizes=np.array([1.0, 2.0]), families=["a", "a"]))
        ['difficulty', 'separability', 'stability']
    """
    groups = _checked_groups(scores, sizes=sizes, families=families, ties=ties)

    def one_block(block: _Block) -> tuple[FloatArray, ...]:
        mean, variance = _mean_and_variance(block)
        return 0.0 - mean, variance, _rank_agreement(block, groups, ties=ties)

    return dict(zip(METRICS, _by_block(scores, one_block), strict=True))


def ordered_families(sizes: FloatArray, families: Sequence[str | None]) -> list[NDArray[np.intp]]:
    """The families that can show an order: the columns of each that has two known sizes.

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


def _two_dimensional(scores: FloatArray) -> None:
    if scores.ndim != 2:
        raise ShapeError(f"scores must have shape (instructions, models), not {scores.shape}")


def _checked_groups(
    scores: FloatArray, *, sizes: FloatArray | Sequence[float], families: Sequence[str | None], ties: str
) -> _Groups:
    _two_dimensional(scores)
    size = np.asarray(sizes, dtype=np.float64)
    if size.shape != (scores.shape[1],) or len(families) != scores.shape[1]:
        raise ShapeError(
            f"scores have {scores.shape[1]} models, but there are {size.size} sizes and {len(families)} families"
        )
    if ties not in get_args(Ties):
        raise OptionError(f"ties={ties!r} is unknown; choose one of: {', '.join(get_args(Ties))}")
    return [(group, size[group]) for group in ordered_families(size, families)]


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of the score matrix, turned so that each model's rewards are contiguous."""

    rewards: FloatArray  # (M, n), 0 where missing
    missing: NDArray[np.bool_] | None  # (M, n), or None when every reward is there
    count: FloatArray  # (n,), rewards per row; NaN for none, as a mean of nothing is missing

    @classmethod
    def of(cls, rows: FloatArray) -> "_Block":
        rewards = np.ascontiguousarray(rows.T, dtype=np.float64)
        missing = np.isnan(rewards)
        count = np.full(rewards.shape[1], float(len(rewards)) or np.nan)
        if not missing.any():
            return cls(rewards, None, count)
        count -= missing.sum(axis=0)
        count[count == 0] = np.nan
        return cls(np.where(missing, 0.0, rewards), missing, count)


def _by_block(scores: FloatArray, compute: Callable[[_Block], tuple[FloatArray, ...]]) -> list[FloatArray]:
    """Run `compute` on blocks of rows, as many at a time as there are processors, and join what it returns."""
    begins = range(0, max(len(scores), 1), _BLOCK)

    def part(begin: int) -> tuple[FloatArray, ...]:
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # overflow shows as inf or NaN; callers name the row
            return compute(_Block.of(scores[begin : begin + _BLOCK]))

    with ThreadPoolExecutor(
        max_workers=min(len(begins), os.cpu_count() or 1)
    ) as pool:  # NumPy lets go of the GIL
        return [np.concatenate(column) for column in zip(*pool.map(part, begins), strict=True)]


def _mean_and_variance(block: _Block) -> tuple[FloatArray, FloatArray]:
    mean, variance = moments(block.rewards, block.missing, block.count)
    return mean, np.where(block.count >= 2, variance, np.nan)


def _divide(number: _Pair, count: FloatArray) -> _Pair:
    high = number[0] / count
    low = (_less_multiple(number[0], high, count) + number[1]) / count
    total = high + low
    return total, low - (total - high)


def _two_sum(a: FloatArray, b: FloatArray) -> _Pair:
    """Add two numbers; the low part is what rounding lost (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _less_multiple(value: NDArray[Any], a: FloatArray, whole: FloatArray) -> FloatArray:
    """Take `a` times a whole number below 2^26 from a number close to that, without rounding (Dekker)."""
    front, back = _halves(a)
    return value - front * whole - back * whole


def _less_product(value: NDArray[Any], a: FloatArray, b: FloatArray) -> FloatArray:
    """Take a product from a number close to it, without rounding."""
    front, back = _halves(b)
    return _less_multiple(_less_multiple(value, a, front), a, back)


def _halves(value: FloatArray) -> _Pair:
    """Cut a double into the upper 26 bits and the rest."""
    scaled = value * _SPLIT
    front = scaled - (scaled - value)
    return front, value - front


def _rank_agreement(block: _Block, groups: _Groups, *, ties: str) -> FloatArray:
    """Mean over families of Spearman's rho; NaN where no family shows an order."""
    products, reward_norms, size_norms = [], [], []
    for group, sizes in groups:
        columns = [block.rewards[j] for j in group]
        present = None if block.missing is None else ~block.missing[group]
        product, reward_norm, size_norm = _family_sums(columns, sizes=sizes, present=present, ties=ties)
        products.append(product)
        reward_norms.append(reward_norm)
        size_norms.append(size_norm)
    out, plain = _mean_of_plain(products, reward_norms, groups, n=len(block.count))
    rest = np.flatnonzero(~plain)
    if rest.size:
        families = zip(products, reward_norms, size_norms, strict=True)
        sums = [tuple(values[rest if len(values) > 1 else [0]] for values in family) for family in families]
        out[rest] = _mean_of_rhos(sums, n=len(rest))
    return out


def _mean_of_plain(
    products: list[_IntArray], reward_norms: list[_IntArray], groups: _Groups, *, n: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The mean for rows in which nothing is tied or missing, in whole numbers up to one division; and which."""
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
    """The mean over families for any rows.

    In twice the digits of a double, so that families which come to the same mean in different ways
    (0.3 and 0.5, or 0.8 and 0) tie exactly.
    """
    shown, high, low = (np.zeros(n) for _ in range(3))
    for product, reward_norm, size_norm in families:
        # The root of 1 where nothing is ordered: rho is 0.
        square = np.maximum(reward_norm.astype(np.float64) * size_norm, 1.0)
        root = np.sqrt(square)
        rho = product / root
        rest = _less_multiple(product, rho, root) / root
        tied = np.flatnonzero(root * root != square)  # rewards that tie may make the root irrational
        if tied.size:
            rest[tied] = _rest_of_quotient(product[tied], rho[tied], square[tied])
        high, lost = _two_sum(high, rho)
        low += lost + rest
        shown += size_norm > 0
    shown[shown == 0] = np.nan
    counts = np.abs(high + low) > _NOTHING  # families that cancel out do so exactly
    return _divide((high * counts, low * counts), shown)[0]


def _family_sums(
    columns: list[FloatArray], *, sizes: FloatArray, present: NDArray[np.bool_] | None, ties: str
) -> tuple[_IntArray, ...]:
    """What rho within one family is made of: product over the root of both norms, all whole numbers.

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
    """What rounding took from product / sqrt(square)."""
    root = np.sqrt(square)
    root_rest = _less_product(square, root, root) / (2.0 * root)
    return (_less_product(product, quotient, root) - quotient * root_rest) / root


def _signs(
    columns: list[FloatArray], *, sizes: FloatArray, present: NDArray[np.bool_] | None, ties: str
) -> tuple[_IntArray, _IntArray]:
    """Per model of a family, how many others it beats less how many beat it: in reward, and in size.

    Half of that is the model's average rank, centred: whole numbers, so perfect agreement is exactly 1.
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
