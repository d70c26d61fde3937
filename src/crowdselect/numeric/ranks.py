"""Turn metrics into one score: uniform ranks over the eligible rows, weighted and added.

The paper's chain of z-score, min-max and quantile transform is affine up to its last step, so the
uniform rank alone is the same number, exactly and without a fitted model.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from crowdselect.errors import OptionError, near_miss
from crowdselect.numeric.exact import rounded
from crowdselect.numeric.metrics import METRICS
from crowdselect.types import BoolArray, FloatArray

DEFAULT_WEIGHTS: dict[str, float] = {metric.name: metric.weight for metric in METRICS.values()}
"""The paper's best setting, from the metrics' records."""

_LARGEST = 1e100  # weighted ranks must add up without overflow
_DIGITS = 1 << 20  # weights are multiplied by at most this to make them whole numbers


def check_weights(weights: Mapping[str, float], *, known: Mapping[str, Any]) -> dict[str, float]:
    """Check weights and put them into the order of `known`, absent ones as 0.

    Args:
        weights: Weight per metric; a negative one reverses the metric, 0 leaves it out.
        known: The metrics that exist; only the keys are used.

    Returns:
        One weight per known metric.

    Raises:
        OptionError: A metric is unknown, a weight is not finite or beyond 1e100, or all weights are 0.

    Example:
        >>> check_weights({"stability": 2}, known={"difficulty": 0, "stability": 0})
        {'difficulty': 0.0, 'stability': 2.0}
    """
    for name, weight in weights.items():
        if name not in known:
            raise OptionError(
                f"`weights` names an unknown metric, {name!r}; the metrics are: {', '.join(known)}{near_miss(name, known)}"
            )
        if not np.isfinite(weight):
            raise OptionError(f"`weights`: {name}={weight} is not a finite number")
        if abs(weight) > _LARGEST:
            raise OptionError(
                f"`weights`: {name}={weight} is beyond {_LARGEST:g}; only the weights' ratios matter"
            )
    if not any(weights.values()):
        raise OptionError(
            f"all weights are 0; give at least one of {', '.join(known)} a weight, as in stability=2"
        )
    return {name: float(weights.get(name, 0.0)) for name in known}


def uniform_ranks(values: FloatArray, eligible: BoolArray) -> FloatArray:
    """Rank the eligible rows by value, from 0 (lowest value) to 1 (highest).

    Args:
        values: One metric, shape (N,). NaN = undefined.
        eligible: Which rows take part, shape (N,).

    Returns:
        Shape (N,): (average rank - 1) / (n - 1) over the n eligible rows with a value; 0.5 when n = 1.
        Ties share their average rank. NaN for rows that are not eligible or have no value.

    Example:
        >>> uniform_ranks(np.array([3.0, 1.0, 1.0, 9.0]), np.array([True, True, True, False]))
        array([1.  , 0.25, 0.25,  nan])
    """
    out = np.full(len(values), np.nan)
    rows = np.flatnonzero(eligible & ~np.isnan(values))
    if len(rows) == 0:
        return out
    if len(rows) == 1:
        out[rows] = 0.5
        return out
    known = values[rows]
    order = np.argsort(known)  # the order of ties does not matter: they share a rank
    ordered = known[order]
    first = np.flatnonzero(
        np.concatenate(([True], ordered[1:] != ordered[:-1]))
    )  # where each group of ties begins
    after = np.append(first[1:], len(rows))
    shared = (first + after - 1) / 2  # the average 0-based rank of each group
    out[rows[order]] = np.repeat(shared / (len(rows) - 1), after - first)
    return out


def combine(ranks: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
    """Add the weighted uniform ranks.

    Args:
        ranks: Uniform ranks per metric, each of shape (N,), from `uniform_ranks`.
        weights: Weight per metric; 0 leaves a metric out, even where it is NaN.

    Returns:
        Shape (N,). Higher = chosen earlier. Lies between the sum of the negative weights and the sum of
        the positive ones. NaN where a weighted metric is NaN. Ranks over the same rows are added as whole
        numbers of half steps, so equal scores tie exactly, however they are composed; with weights of
        more than six digits, the score is rounded to twelve digits for the same purpose.

    Example:
        >>> combine({"a": np.array([0.0, 1.0]), "b": np.array([1.0, np.nan])}, {"a": 2.0, "b": 0.0})
        array([0., 2.])
        >>> thirds = {"a": np.array([0.0, 1 / 3, 2 / 3, 1.0]), "b": np.array([1.0, 2 / 3, 1 / 3, 0.0])}
        >>> combine(thirds, {"a": 0.1, "b": 0.1}).tolist()
        [0.1, 0.1, 0.1, 0.1]
    """
    used = {name: rank for name, rank in ranks.items() if weights.get(name, 0.0) != 0}
    shares = {name: Fraction(repr(float(weights[name]))) for name in used}
    factor = math.lcm(*(share.denominator for share in shares.values()))
    exact = factor <= _DIGITS
    factor = factor if exact else 1
    counts = {int(np.count_nonzero(~np.isnan(rank))) for rank in used.values()}
    if len(counts) > 1:
        return rounded(np.asarray(sum(weights[name] * rank for name, rank in used.items()), dtype=np.float64))
    steps = max(2 * max(counts, default=0) - 2, 2)  # ranks over n rows are k / (2n - 2), k whole
    whole = [float(shares[name] * factor) * np.rint(rank * steps) for name, rank in used.items()]
    score = np.asarray(sum(whole), dtype=np.float64) / (factor * steps)
    return score if exact else rounded(score)
