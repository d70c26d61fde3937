"""Three numbers per instruction, from its row of the score matrix: difficulty, separability, stability.

Arrays in, arrays out. Every metric is higher where there is more of what its name says, and depends on
one row alone, so rows may be computed in any order or on any machine. Sums are compensated: the order of
the models changes nothing, and rewards that tie give metrics that tie.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import OptionError, ShapeError

FloatArray = NDArray[np.float64]
Ties = Literal["average", "paper"]

_IntArray = NDArray[np.signedinteger[Any]]
_Groups = list[tuple[NDArray[np.intp], FloatArray]]  # per family: its columns and their sizes

_BLOCK = 16384  # rows at a time: a block stays in the processor's cache
_SPLIT = 134217729.0  # 2^27 + 1: cuts a double into two halves of 26 bits


def difficulty(scores: FloatArray) -> FloatArray:
    """Minus the mean reward of the crowd: how badly it does (CrowdSelect, eq. 3).

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.

    Returns:
        Shape (N,), in the rewards' unit. Higher = the crowd does worse. The mean is over the models that
        have a reward; NaN where none has.

    Raises:
        ShapeError: `scores` is not two-dimensional.

    Example:
        >>> difficulty(np.array([[1.0, 2.0], [0.0, np.nan]]))
        array([-1.5, -0. ])
    """
    _two_dimensional(scores)
    return _by_block(scores, lambda block: (-_mean(block),))[0]


def separability(scores: FloatArray) -> FloatArray:
    """Population variance of the crowd's rewards: how much its members differ (CrowdSelect, eq. 4).

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.

    Returns:
        Shape (N,), at least 0, in the square of the rewards' unit (ddof 0). Higher = the models differ
        more; exactly 0 where all rewards are equal. NaN where fewer than two models have a reward.

    Raises:
        ShapeError: `scores` is not two-dimensional.

    Example:
        >>> separability(np.array([[1.0, 3.0], [0.0, np.nan]]))
        array([ 1., nan])
    """
    _two_dimensional(scores)
    return _by_block(scores, lambda block: (_variance(block, _mean(block)),))[0]


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
        mean = _mean(block)
        return -mean, _variance(block, mean), _rank_agreement(block, groups, ties=ties)

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
        count = np.full(rewards.shape[1], float(len(rewards)))
        missing = np.isnan(rewards)
        if not missing.any():
            return cls(rewards, None, count)
        count -= missing.sum(axis=0)
        count[count == 0] = np.nan
        return cls(np.where(missing, 0.0, rewards), missing, count)


def _by_block(scores: FloatArray, compute: Callable[[_Block], tuple[FloatArray, ...]]) -> list[FloatArray]:
    """Run `compute` on blocks of rows, as many at a time as there are processors, and join what it returns."""
    begins = range(0, max(len(scores), 1), _BLOCK)
    with ThreadPoolExecutor(
        max_workers=min(len(begins), os.cpu_count() or 1)
    ) as pool:  # NumPy lets go of the GIL
        parts = pool.map(lambda begin: compute(_Block.of(scores[begin : begin + _BLOCK])), begins)
        return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _mean(block: _Block) -> FloatArray:
    return _sum(block.rewards) / block.count


def _variance(block: _Block, mean: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):  # overflow shows as inf or NaN; callers name the row
        apart = block.rewards - mean
        if block.missing is not None:
            apart[block.missing] = 0.0
        # The second term takes back what rounding put into the mean (Chan, Golub and LeVeque 1983).
        rest = apart.sum(axis=0) / block.count
        np.multiply(apart, apart, out=apart)
        variance = _sum(apart) / block.count - rest * rest
        return np.where(block.count >= 2, np.maximum(variance, 0.0), np.nan)


def _sum(columns: FloatArray) -> FloatArray:
    """Add the rows of an (M, n) array with Knuth's two-sum, so that their order does not matter."""
    total = columns[0].copy() if len(columns) else np.zeros(columns.shape[1])
    error, after, back = np.zeros_like(total), np.empty_like(total), np.empty_like(total)
    with np.errstate(over="ignore", invalid="ignore"):
        for column in columns[1:]:
            np.add(total, column, out=after)
            np.subtract(after, total, out=back)
            error += np.subtract(column, back)
            error += np.subtract(total, np.subtract(after, back, out=back), out=back)  # what rounding lost
            total, after = after, total
        # An infinite total has a NaN error: the overflow itself is what the caller must see.
        return np.where(np.isfinite(total), total + error, total)


def _rank_agreement(block: _Block, groups: _Groups, *, ties: str) -> FloatArray:
    """Mean over families of Spearman's rho; NaN where no family shows an order."""
    shown = np.zeros(len(block.count))
    parts = [np.zeros_like(shown)]
    for group, sizes in groups:
        present = None if block.missing is None else ~block.missing[group]
        high, low, ordered = _family_rho(block.rewards[group], sizes=sizes, present=present, ties=ties)
        parts += [high, low]
        shown += ordered
    shown[shown == 0] = np.nan
    return _sum(np.array(parts)) / shown


def _family_rho(
    columns: FloatArray, *, sizes: FloatArray, present: NDArray[np.bool_] | None, ties: str
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Spearman's rho within one family as a high and a low part, 0 where the family is left out; and whether.

    The low part carries the digits that a double has no room for, so that families which come to the same
    mean in different ways (0.3 and 0.5, or 0.8 and 0) tie exactly.
    """
    by_reward, by_size = _signs(columns, sizes=sizes, present=present, ties=ties)
    whole = np.int16 if len(columns) <= 30 else np.int64  # the sums of products must fit
    product, reward_norm, size_norm = (
        np.asarray(sum(np.multiply(a, b, dtype=whole) for a, b in zip(left, right, strict=True)))
        for left, right in ((by_reward, by_size), (by_reward, by_reward), (by_size, by_size))
    )
    square = np.maximum(
        reward_norm.astype(np.float64) * size_norm, 1.0
    )  # 0 where nothing is ordered: rho is 0
    root = np.sqrt(square)
    high = product / root
    front = high * _SPLIT - (high * _SPLIT - high)  # Dekker: the upper half of the digits
    low = ((product - front * root) - (high - front) * root) / root
    low[root * root != square] = 0.0  # an irrational rho has no exact partner to tie with
    return high, low, size_norm > 0


def _signs(
    columns: FloatArray, *, sizes: FloatArray, present: NDArray[np.bool_] | None, ties: str
) -> tuple[_IntArray, _IntArray]:
    """Per model of a family, how many others it beats less how many beat it: in reward, and in size.

    Half of that is the model's average rank, centred: whole numbers, so perfect agreement is exactly 1.
    """
    m, n = columns.shape
    whole = np.int8 if m <= 127 else np.int64
    by_reward = np.zeros((m, n), dtype=whole)
    by_size = np.zeros((m, 1 if present is None else n), dtype=whole)
    for j in range(m):
        for k in range(j):
            order = whole(sizes[j] > sizes[k]) - whole(sizes[j] < sizes[k])
            sign = (columns[j] > columns[k]).view(np.int8) - (columns[j] < columns[k]).view(np.int8)
            if ties == "paper":
                sign = np.where(sign == 0, order, sign)
            both = True if present is None else present[j] & present[k]
            sign = sign if present is None else sign * both
            by_reward[j] += sign
            by_reward[k] -= sign
            by_size[j] += order * both
            by_size[k] -= order * both
    return by_reward, by_size
