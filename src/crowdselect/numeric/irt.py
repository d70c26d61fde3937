"""Difficulty and discrimination of each instruction from a matrix with gaps, by item response theory.

A mean over the models that happened to answer says as much about those models as about the instruction. Here a model has
an ability and an instruction a difficulty and a discrimination, so rows that different models answered become comparable.

Few models answer an instruction, too few to fit a curve to each row on its own. So rows share priors, whose spread is
itself fitted to the pool (empirical Bayes: the marginal likelihood, by L-BFGS), and each row gets the mean and the
standard deviation of its posterior. Assumed are one ability per model, answers that are independent given ability and
instruction, and gaps that do not depend on how good the missing answers would have been beyond that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from crowdselect.errors import ShapeError
from crowdselect.numeric.exact import rounded
from crowdselect.types import FloatArray, IntArray

_BLOCK = 8192  # rows at a time: their posteriors at all nodes stay small
_WIDTH = 4.0  # standard deviations of the prior, on each side, that the nodes cover
_SPREAD = 0.5, 0.3  # weak prior of the log standard deviation of discrimination: around log 0.5, by 0.3
_WEAK = 3.0  # weak prior of everything else: keeps a model that is always right at a finite ability


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What the model says of each instruction; arrays of shape (N,) are NaN where a row has no reward."""

    kind: Literal["logistic", "normal"]
    """Logistic: P(right) = 1 / (1 + exp(-discrimination (ability - difficulty))). Normal: reward = discrimination x ability -
    difficulty, and noise. An average model has ability 0."""
    difficulty: FloatArray
    """Higher = harder. Logistic: the ability at which half of the answers are right; normal: minus the reward of an average
    model. The mean of the posterior."""
    discrimination: FloatArray
    """Higher = the better models stand out more; 1 is usual. The mean of the posterior."""
    difficulty_se: FloatArray
    """The standard deviation of the posterior of `difficulty`."""
    discrimination_se: FloatArray
    """The same of `discrimination`."""
    ability: FloatArray
    """Of each model, shape (M,), their mean 0; NaN where a model has no reward."""
    converged: bool
    """Whether the fit of the priors came to its end."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """The different rows of a matrix, in a fixed order, so that the order of rows changes no sum."""

    values: FloatArray
    """Shape (n, M), 0 where missing."""
    there: FloatArray
    """Shape (n, M): 1 where there is a reward, else 0."""
    counts: FloatArray
    """How often each row occurs, shape (n,)."""

    def blocks(self) -> list[slice]:
        return [slice(begin, begin + _BLOCK) for begin in range(0, len(self.counts), _BLOCK)]


_Gradient = tuple[float, FloatArray]


def items_of(scores: FloatArray) -> Items:
    """Estimate difficulty and discrimination of each instruction.

    Rewards that lie within 0 and 1 and reach both are right, wrong or a pass rate: a logistic model (2PL), to which a pass rate
    is one answer that is partly right, so that standard errors are rather too large than too small. All others are
    scores: a normal model.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.

    Returns:
        The estimates, in the order of the rows. Equal rows have equal values, and neither the order of rows nor that of
        computing changes them beyond twelve digits.

    Raises:
        ShapeError: `scores` is not two-dimensional.

    Example:
        >>> right = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, np.nan, 0.0]])
        >>> bool((np.diff(items_of(right).difficulty) > 0).all())
        True
    """
    if scores.ndim != 2:
        raise ShapeError(f"scores have {scores.ndim} dimensions; wanted 2: instructions and models")
    there = ~np.isnan(scores)
    rows, models = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    known = scores[np.ix_(rows, models)]
    binary = bool(rows.size) and np.nanmin(known) == 0 and np.nanmax(known) == 1
    kind: Literal["logistic", "normal"] = "logistic" if binary else "normal"
    found = np.full((4, len(scores)), np.nan)
    ability, converged = np.full(scores.shape[1], np.nan), True
    if rows.size:
        cells, inverse = _different(known)
        estimates, ability[models], converged = (_logistic if binary else _normal)(cells)
        found[:, rows] = rounded(estimates[:, inverse])
    return Items(
        kind=kind,
        difficulty=found[0],
        discrimination=found[1],
        difficulty_se=found[2],
        discrimination_se=found[3],
        ability=ability,
        converged=converged,
    )


def _different(known: FloatArray) -> tuple[_Cells, IntArray]:
    """Find the different rows, sorted by their bytes, and which of them each row is."""
    there = ~np.isnan(known)
    plain = np.ascontiguousarray(np.where(there, known + 0.0, np.nan))  # one zero, one NaN
    packed = plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1]))).ravel()
    _, first, inverse, counts = np.unique(packed, return_index=True, return_inverse=True, return_counts=True)
    values = np.where(there, plain, 0.0)[first]
    return _Cells(values, there[first].astype(np.float64), counts.astype(np.float64)), inverse


def _fitted(objective: Callable[[FloatArray], _Gradient], start: FloatArray) -> tuple[FloatArray, bool]:
    """Find the parameters with the highest objective, which comes with its gradient."""

    def lowest(at: FloatArray) -> _Gradient:
        value, gradient = objective(at)
        return -value, -gradient

    found = minimize(
        lowest, start, jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-10, "gtol": 1e-6}
    )
    return found.x, bool(found.success)


def _weakly(at: FloatArray, *, centre: FloatArray, width: FloatArray) -> _Gradient:
    """Log density of the weak normal priors of the parameters, and its gradient."""
    away = (at - centre) / width
    return -0.5 * float(away @ away), -away / width


def _logistic(cells: _Cells) -> tuple[FloatArray, FloatArray, bool]:
    """Fit a 2PL: difficulty ~ N(0, s), log discrimination ~ N(0, t), abilities, s and t from the pool.

    The posterior of a row is computed on a grid of nodes in units of its priors; nodes are closer the more models there are.
    Parameters: M abilities, log s, log t.
    """
    models, total = cells.values.shape[1], cells.counts.sum()
    finer = int(np.ceil(np.sqrt(models)))
    hard, weight_hard = _nodes(4 * finer + 9)
    sharp, weight_sharp = _nodes(2 * finer + 1)
    b, a = (each.ravel() for each in np.meshgrid(hard, sharp, indexing="ij"))
    prior = np.log(np.outer(weight_hard, weight_sharp)).ravel()

    def curves(at: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Difficulty and discrimination of each node, shape (G,); logits of each model there, and log P(wrong), shape (G, M)."""
        difficulty, slope = np.exp(at[-2]) * b, np.exp(np.exp(at[-1]) * a)
        logits = slope[:, None] * (at[:models] - difficulty[:, None])
        return difficulty, slope, logits, -np.logaddexp(0.0, logits)

    def posterior(block: slice, logits: FloatArray, wrong: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log of the marginal likelihood of some rows, shape (n,), and their weights of the nodes, shape (n, G)."""
        found = cells.values[block] @ logits.T
        found += cells.there[block] @ wrong.T
        found += prior
        highest = found.max(axis=1, keepdims=True)
        np.exp(found - highest, out=found)
        sums = found.sum(axis=1, keepdims=True)
        found /= sums
        return (highest + np.log(sums)).ravel(), found

    centre = np.append(np.zeros(models + 1), np.log(_SPREAD[0]))
    width = np.append(np.full(models, _WEAK), [1.0, _SPREAD[1]])

    def objective(at: FloatArray) -> _Gradient:
        difficulty, slope, logits, wrong = curves(at)
        value, right, seen = 0.0, np.zeros_like(logits), np.zeros_like(logits)
        for block in cells.blocks():
            likelihood, weights = posterior(block, logits, wrong)
            counts = cells.counts[block]
            value += float(counts @ likelihood)
            weights *= counts[:, None]
            right += weights.T @ cells.values[block]
            seen += weights.T @ cells.there[block]
        more = right - seen * np.exp(logits + wrong)  # right answers beyond those expected at each node
        gradient = np.concatenate(
            (
                slope @ more,
                [-(slope * difficulty) @ more.sum(axis=1)],
                [np.exp(at[-1]) * float(a @ (more * logits).sum(axis=1))],
            )
        )
        weak, pull = _weakly(at, centre=centre, width=width)
        return (value + weak) / total, (gradient + pull) / total

    share = cells.counts @ cells.values / np.maximum(cells.counts @ cells.there, 1.0)
    share = np.clip(share, 0.02, 0.98)
    at, converged = _fitted(
        objective, np.append(1.2 * np.log(share / (1 - share)), [0.0, np.log(_SPREAD[0])])
    )
    difficulty, slope, logits, wrong = curves(at)
    found, zero = np.empty((4, len(cells.counts))), float(at[:models].mean())
    powers = np.stack((difficulty - zero, slope, (difficulty - zero) ** 2, slope**2), axis=1)
    for block in cells.blocks():
        moments = posterior(block, logits, wrong)[1] @ powers
        found[:2, block] = moments[:, :2].T
        found[2:, block] = np.sqrt(np.maximum(moments[:, 2:] - moments[:, :2] ** 2, 0.0)).T
    return found, at[:models] - zero, converged


def _nodes(count: int) -> tuple[FloatArray, FloatArray]:
    """Nodes of equal distance over a standard normal distribution, and their weights, which add up to 1."""
    nodes = np.linspace(-_WIDTH, _WIDTH, count)
    weights = np.exp(-0.5 * nodes**2)
    return nodes, weights / weights.sum()


def _normal(cells: _Cells) -> tuple[FloatArray, FloatArray, bool]:
    """Fit scores: reward = discrimination x ability - difficulty + noise, difficulty ~ N(m, s), discrimination ~ N(1, t).

    Given abilities (their mean 0), m, s, t and the noise, the posterior of a row is a normal distribution in closed form.
    Parameters, for rewards of mean 0 and variance 1: M abilities, m, log s, log t, log noise.
    """
    models, total = cells.values.shape[1], cells.counts.sum()
    many = float(cells.counts @ cells.there.sum(axis=1))
    largest = float(np.abs(cells.values).max()) or 1.0  # first divided by this, as squares may be no float
    middle = float(cells.counts @ (cells.values / largest).sum(axis=1)) / many
    away = (cells.values / largest - middle) * cells.there
    spread = float(np.sqrt(cells.counts @ (away**2).sum(axis=1) / many)) or 1.0
    x, there, counts = away / spread, cells.there, cells.counts
    middle, unit = middle * largest, spread * largest
    seen = there.sum(axis=1)

    def posterior(at: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Compute the posterior of each row.

        Returns:
            What its rewards leave unexplained, shape (n, M); the posterior of difficulty - m and discrimination - 1, two means
            and three (co)variances, shape (2, n) and (3, n); the log of its marginal likelihood, shape (n,); the abilities.
        """
        ability = at[:models] - at[:models].mean()
        m, (hard, sharp, noise) = at[models], np.exp(2 * at[models + 1 :])
        rest = x - there * (ability - m)
        sums, products = rest.sum(axis=1) / noise, rest @ ability / noise
        p, q, r = (
            1 / hard + seen / noise,
            -(there @ ability) / noise,
            1 / sharp + there @ ability**2 / noise,
        )
        det = p * r - q * q
        means = np.stack(((-r * sums - q * products) / det, (p * products + q * sums) / det))
        likelihood = -0.5 * (
            seen * np.log(2 * np.pi * noise)
            + np.log(det * hard * sharp)
            + (rest**2).sum(axis=1) / noise
            - (means[1] * products - means[0] * sums)
        )
        return rest, means, np.stack((r, -q, p)) / det, likelihood, ability

    centre = np.append(np.zeros(models + 2), [np.log(_SPREAD[0]), np.log(0.5)])
    width = np.append(np.full(models + 1, _WEAK), [_WEAK, _SPREAD[1], _WEAK])

    def objective(at: FloatArray) -> _Gradient:
        rest, means, (first, both, second), likelihood, ability = posterior(at)
        hard, sharp, noise = np.exp(2 * at[models + 1 :])
        left = rest + there * (means[0][:, None] - means[1][:, None] * ability)
        weighted = counts[:, None] * there
        slopes = (counts * (1 + means[1])) @ left + both @ weighted - ability * (second @ weighted)
        squares = (left**2).sum(axis=1) + first * seen
        squares += second * (there @ ability**2) - 2 * both * (there @ ability)
        gradient = np.concatenate(
            (
                (slopes - slopes.mean()) / noise,
                [
                    -float(counts @ left.sum(axis=1)) / noise,
                    float(counts @ ((means[0] ** 2 + first) / hard - 1)),
                    float(counts @ ((means[1] ** 2 + second) / sharp - 1)),
                    float(counts @ (squares / noise - seen)),
                ],
            )
        )
        weak, pull = _weakly(at, centre=centre, width=width)
        return (float(counts @ likelihood) + weak) / total, (gradient + pull) / total

    means = counts @ x / np.maximum(counts @ there, 1.0)
    at, converged = _fitted(
        objective, np.append(means - means.mean(), [0.0, np.log(0.7), *np.log([0.5, 0.5])])
    )
    _, found, (first, _, second), _, ability = posterior(at)
    difficulty = (found[0] + at[models]) * unit - middle
    estimates = np.stack((difficulty, found[1] + 1, np.sqrt(first) * unit, np.sqrt(second)))
    return estimates, ability * unit, converged
