"""Combine several rewards into one, and measure how far they agree: arrays in, arrays out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from crowdselect.errors import OptionError, ShapeError
from crowdselect.numeric.exact import rounded
from crowdselect.numeric.ranks import uniform_ranks
from crowdselect.types import BoolArray, FloatArray

_BLOCK = 1 << 22  # comparisons at a time: 4 MB of booleans


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far several rewards rank the answers alike; rho is Spearman's, with average ranks for ties.

    Attributes:
        overall: For each pair of rewards, rho over all answers that every reward has scored.
        within: For each pair, the mean over instructions of rho over the instruction's answers.
        rows: Shape (N,): the mean over pairs of an instruction's rho, from -1 to 1. Higher = they agree more.
            NaN where fewer than two answers have all rewards, or one reward is the same for all of them.
    """

    overall: Mapping[tuple[str, str], float]
    within: Mapping[tuple[str, str], float]
    rows: FloatArray


def combine_rewards(matrices: Mapping[str, FloatArray], *, how: str) -> FloatArray:
    """Combine several score matrices into one.

    Args:
        matrices: Reward → scores, shape (N, M) each. NaN = no reward. Higher is better in all of them.
        how: One of `ENSEMBLES`. `"mean-rank"`: each reward's uniform ranks over the whole pool, from 0 (the
            worst answer of all) to 1 (the best), then the plain mean over rewards; `"min"`: the lowest of these ranks;
            `"lcb"`: their mean less its standard error over the rewards (their standard deviation, with R - 1, over
            the root of R), from 0 to 1, too; `"mean-z"`: the mean of z-scores over the whole pool.

    Returns:
        Shape (N, M), column-major. Higher is better. NaN where any of the rewards is missing: a mean over
        fewer rewards would be on another scale. Ranks and z-scores are over the answers that have all.

    Raises:
        OptionError: `how` is unknown or needs more rewards, or one is the same everywhere, so it has no z-scores.
        ShapeError: The matrices differ in shape, or there are none.

    Example:
        >>> a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 10.0], [np.nan, 100.0]])
        >>> combine_rewards({"a": a, "b": b}, how="mean-rank").tolist()
        [[0.0, 0.5], [nan, 1.0]]
        >>> combine_rewards({"a": a, "b": b}, how="min").tolist()
        [[0.0, 0.5], [nan, 1.0]]
    """
    shared = _shared(matrices)
    check_ensemble(how, len(matrices))
    out = np.full(shared.shape, np.nan, order="F")
    out.T[shared.T] = ENSEMBLES[how].combined(
        [(matrix.T[shared.T], name) for name, matrix in matrices.items()]
    )
    return out


def check_ensemble(how: str, rewards: int) -> None:
    """Refuse a way to combine rewards that is unknown, or that so many rewards do not suffice for.

    Raises:
        OptionError: It is.

    Example:
        >>> check_ensemble("lcb", 2)
        Traceback (most recent call last):
        ...
        crowdselect.errors.OptionError: `ensemble='lcb'` needs at least 3 rewards, got 2; name more with `reward`, or take 'min'
    """
    if how not in ENSEMBLES:
        raise OptionError(f"`ensemble={how!r}` is unknown; choose one of: {', '.join(ENSEMBLES)}")
    fewest = ENSEMBLES[how].fewest
    if rewards < fewest:
        raise OptionError(
            f"`ensemble={how!r}` needs at least {fewest} rewards, got {rewards}; name more with `reward`, or take 'min'"
        )


def reward_agreement(matrices: Mapping[str, FloatArray]) -> Agreement:
    """Measure how far rewards agree.

    Args:
        matrices: Reward → scores, shape (N, M) each. NaN = no reward.

    Returns:
        The agreement of each pair, overall and within instructions, and of all rewards per instruction.

    Raises:
        ShapeError: As for `combine_rewards`.

    Example:
        >>> a = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
        >>> b = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        >>> reward_agreement({"a": a, "b": b}).rows.tolist()
        [1.0, -1.0]
    """
    shared = _shared(matrices)
    ranks = {name: centred_row_ranks(np.where(shared, matrix, np.nan)) for name, matrix in matrices.items()}
    overall, within, rows = {}, {}, []
    for pair in combinations(matrices, 2):
        flat = [
            uniform_ranks(matrices[name][shared], np.ones(int(shared.sum()), dtype=bool)) for name in pair
        ]
        overall[pair] = _correlation(flat[0] - 0.5, flat[1] - 0.5)
        rho = row_correlation(ranks[pair[0]], ranks[pair[1]])
        known = rho[~np.isnan(rho)]
        within[pair] = float(known.mean()) if known.size else float("nan")
        rows.append(rho)
    return Agreement(
        overall, within, rounded(np.mean(rows, axis=0)) if rows else np.full(len(shared), np.nan)
    )


def centred_row_ranks(values: FloatArray) -> FloatArray:
    """Rank each row's values, centred to mean 0.

    Args:
        values: Shape (N, M). NaN = missing.

    Returns:
        Shape (N, M): the rank minus the row's mean rank; ties share their average rank. 0 where missing.

    Example:
        >>> centred_row_ranks(np.array([[5.0, 1.0, np.nan, 1.0]])).tolist()
        [[1.0, -0.5, 0.0, -0.5]]
    """
    out = np.empty(values.shape)
    step = max(1, _BLOCK // max(values.shape[1] ** 2, 1))
    for begin in range(0, len(values), step):
        block = values[begin : begin + step]
        one, other = block[:, :, None], block[:, None, :]
        out[begin : begin + step] = (
            (one > other).sum(axis=2) - (one < other).sum(axis=2, dtype=np.int64)
        ) / 2
    return out


def row_correlation(one: FloatArray, other: FloatArray) -> FloatArray:
    """Correlate each row of two arrays whose rows have mean 0.

    Args:
        one: Shape (N, M).
        other: The same shape.

    Returns:
        Shape (N,), from -1 to 1; NaN where a row is all 0.
    """
    norm = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip((one * other).sum(axis=1) / norm, -1.0, 1.0))


def _correlation(one: FloatArray, other: FloatArray) -> float:
    return float(row_correlation(one[None, :], other[None, :])[0])


def _shared(matrices: Mapping[str, FloatArray]) -> BoolArray:
    shapes = {matrix.shape for matrix in matrices.values()}
    if len(shapes) != 1:
        raise ShapeError(f"rewards of the shapes {sorted(shapes)}; wanted one shape for all")
    return np.asarray(~np.any([np.isnan(matrix) for matrix in matrices.values()], axis=0))


def _ranks(values: FloatArray, _name: str) -> FloatArray:
    """Compute uniform ranks in half steps, whole numbers: equal sums tie exactly, in any order of addition."""
    ranks = uniform_ranks(values, np.ones(len(values), dtype=bool))
    return np.asarray(np.rint(ranks * 2 * max(len(values) - 1, 1)))


def _z_scores(values: FloatArray, name: str) -> FloatArray:
    ordered = np.sort(values)  # so that mean and spread do not depend on the order of rows and models
    differ = len(values) > 0 and ordered[0] < ordered[-1]
    spread = ordered.std() if differ else 0.0
    if not spread > 0:
        raise OptionError(
            f"`ensemble='mean-z'`: the reward {name!r} is the same everywhere, so it has no z-scores; leave it out"
        )
    return rounded(np.asarray((values - ordered.mean()) / spread))


Rewards = Sequence[tuple[FloatArray, str]]
"""The scores of n answers by each of R rewards, and the reward's name."""


def _steps(values: FloatArray) -> int:
    """Half steps from the lowest rank to the highest."""
    return 2 * max(len(values) - 1, 1)


def _mean_rank(rewards: Rewards) -> FloatArray:
    total = sum(
        (_ranks(*reward) for reward in rewards), np.zeros(len(rewards[0][0]))
    )  # sums of ranks are exact
    return np.asarray(total / (len(rewards) * _steps(total)))


def _mean_z(rewards: Rewards) -> FloatArray:
    total = sum((_z_scores(*reward) for reward in rewards), np.zeros(len(rewards[0][0])))
    return rounded(np.asarray(total / len(rewards)))


def _lowest(rewards: Rewards) -> FloatArray:
    low = _ranks(*rewards[0])
    for reward in rewards[1:]:
        np.minimum(low, _ranks(*reward), out=low)
    return np.asarray(low / _steps(low))


def _lower_bound(rewards: Rewards) -> FloatArray:
    """Compute mean - deviation / sqrt(R) of the ranks, from their sums and sums of squares."""
    count, n = len(rewards), len(rewards[0][0])
    total, squares = np.zeros(n), np.zeros(n)
    for reward in rewards:
        ranks = _ranks(*reward)
        total += ranks
        squares += ranks * ranks
    spread = np.sqrt(np.maximum(count * squares - total * total, 0.0) / (count - 1))
    return rounded(np.asarray((total - spread) / (count * _steps(total))))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A way to combine rewards."""

    combined: Callable[[Rewards], FloatArray]
    """Makes one number per answer, shape (n,)."""
    fewest: int = 1
    """The fewest rewards it takes."""


ENSEMBLES: dict[str, Ensemble] = {
    "mean-rank": Ensemble(_mean_rank),
    "mean-z": Ensemble(_mean_z),
    "min": Ensemble(_lowest),
    "lcb": Ensemble(_lower_bound, fewest=3),
}
"""The ways to combine rewards, by name."""
