"""What a student can learn next: what models like it do elsewhere tells what it should be able to do here.

`within_reach` predicts the student's success from that of the crowd; `chance` weighs what is within reach and missed;
`drawn` draws by such weights. Arrays in, arrays out.
"""

import numpy as np

from crowdselect.numeric.exact import rounded
from crowdselect.seeding import UInt64Array, reseeded
from crowdselect.types import BoolArray, FloatArray, IntArray

FOLDS = 5
"""A row is predicted from the rows of the other folds."""
_PENALTY = 1.0
_LEAST = 1e-12  # the smallest weight of a draw
_LAST = -64.0  # below any draw; a row of weight 0 scores at most 1 more


def folds(hashes: UInt64Array, *, seed: int) -> IntArray:
    """Assign each row to one of five folds by the seeded hash of its id, shape (N,)."""
    return (reseeded(hashes, seed=seed, salt="fold") % np.uint64(FOLDS)).astype(np.int64)


def within_reach(good: FloatArray, student: FloatArray, fold: IntArray) -> FloatArray:
    """Predict the student's success on each row from the crowd's success on it: ridge regression, cross-fitted.

    The crowd's columns are standardised, the penalty is 1 and the intercept free; a missing cell is its column's mean.
    Each row is predicted from the rows of the other folds where the student has a value, so no row predicts itself.

    Args:
        good: Share of each crowd model's answers that are good, shape (N, M), 0 to 1. NaN = no reward.
        student: Share of the student's, shape (N,). NaN = missing: the row is predicted, and not learnt from.
        fold: Shape (N,), from `folds`.

    Returns:
        Shape (N,), 0 to 1, higher = models that do as the student does elsewhere succeed here. NaN where no crowd model has
        a reward.

    Example:
        >>> good = np.tile([[1.0, 0.0], [0.0, 1.0]], (50, 1))
        >>> within_reach(good, good[:, 0], np.arange(100) % 5)[:2].round(3).tolist()
        [0.997, 0.003]
    """
    known = ~np.isnan(student)
    grams = [_gram(good[part], student[part]) for part in (known & (fold == k) for k in range(FOLDS))]
    out = np.full(len(good), np.nan)
    for k in range(FOLDS):
        rows = (fold == k) & ~np.isnan(good).all(axis=1)
        others = np.sum([gram for j, gram in enumerate(grams) if j != k], axis=0)
        means, slopes, level = _ridge(others)
        deviations = good[rows] - means
        deviations[np.isnan(deviations)] = 0.0
        out[rows] = rounded(np.clip(level + deviations @ slopes, 0.0, 1.0))
    return out


def _gram(good: FloatArray, student: FloatArray) -> FloatArray:
    """All sums of products that the regression needs of some rows: of the crowd's columns, where they are, the student, and 1."""
    there = ~np.isnan(good)
    columns = np.column_stack([np.where(there, good, 0.0), there, student, np.ones(len(good))])
    return np.asarray(columns.T @ columns)


def _ridge(gram: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Fit student = level + (good - means) @ slopes; see `_gram`."""
    models = (len(gram) - 2) // 2
    values, there, student, one = slice(0, models), slice(models, 2 * models), -2, -1
    rows, counts = max(gram[one, one], 1.0), np.maximum(gram[there, one], 1.0)
    means, level = gram[values, one] / counts, gram[student, one] / rows
    cross = gram[values, there] * means  # a missing cell is at the mean, and adds nothing
    squares = gram[values, values] - cross - cross.T + np.outer(means, means) * gram[there, there]
    products = gram[values, student] - means * gram[there, student]
    spread = np.sqrt(np.maximum(np.diag(squares), 0.0) / rows)
    scale = np.where(spread > 1e-9, spread, np.inf)  # a column of one value says nothing
    system = squares / np.outer(scale, scale) + _PENALTY * np.eye(models)
    return means, np.linalg.solve(system, products / scale) / scale, float(level)


def chance(reach: FloatArray, student: FloatArray, sure: BoolArray) -> FloatArray:
    """Weigh each row for the draw: reach^2 (1 - student) where some answer of the crowd is good, else 0.

    Args:
        reach: What the student should be able to do, shape (N,), 0 to 1. NaN = no reward, weight 0.
        student: What it does, shape (N,), 0 to 1. NaN = missing: as much as it should.
        sure: Shape (N,), from `crowdselect.numeric.good.surely`.

    Returns:
        Shape (N,), 0 to 1.

    Example:
        >>> chance(np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([True, True]))
        array([0.25, 0.  ])
    """
    missed = 1.0 - np.where(np.isnan(student), reach, student)
    return rounded(np.where(sure, np.nan_to_num(reach**2 * missed), 0.0))


def drawn(weight: FloatArray, last: FloatArray, hashes: UInt64Array, *, seed: int) -> FloatArray:
    """Draw rows without replacement, each with a chance in proportion to its weight: the highest scores are drawn.

    The score is log weight + Gumbel noise from the seeded hash of the id (Efraimidis and Spirakis 2006), so the draw of a
    row does not depend on other rows.

    Args:
        weight: Shape (N,), at least 0.
        last: Orders the rows of weight 0, which come after all others, shape (N,), 0 to 1. Higher = earlier.
        hashes: Content hash of each id, shape (N,).
        seed: Another seed is another draw.

    Returns:
        Shape (N,), between -32 and 40; of rows of weight 0, `last` - 64.

    Example:
        >>> from crowdselect.seeding import content_hash
        >>> bool(drawn(np.array([0.5, 0.0]), np.array([0.0, 0.25]), content_hash(["a", "b"]), seed=0)[1] == -63.75)
        True
    """
    uniform = ((reseeded(hashes, seed=seed, salt="draw") >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    score = np.log(np.maximum(weight, _LEAST)) - np.log(-np.log(uniform))
    return rounded(np.where(weight > 0, score, _LAST + last))
