"""Metrics of an instruction, from its row of the score matrix: difficulty, separability, stability, within; each a record.

Arrays in, arrays out. Every metric is higher where there is more of what its name says, and depends on one row
alone, so rows may be computed in any order or on any machine. Rounding decides nothing: the order of the models does
not matter, and values that are equal mathematically are the same float (see `crowdselect.numeric.exact`).

A new metric is a record in `METRICS`, which eligibility, tables, report, comparison, robustness and help read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from crowdselect.errors import OptionError, ShapeError
from crowdselect.numeric.exact import Families, families_of, moments, over_blocks, rank_agreement
from crowdselect.types import BoolArray, FloatArray

Ties = Literal["average", "paper"]


@dataclass(frozen=True)
class RewardBlock:
    """Some rows of the score matrix, as a metric gets them; transposed, so that each model's rewards are contiguous."""

    rewards: FloatArray
    """Shape (M, n), 0 where missing."""
    missing: BoolArray | None
    """Shape (M, n); None = nothing is."""
    count: FloatArray
    """Rewards per row, shape (n,); NaN for none, so that a mean over none is NaN."""
    families: Families
    """The families with two known sizes or more; for metrics `by_family`."""
    ties: Ties
    """How equal rewards count; for metrics `by_family`."""
    spread: FloatArray | None = None
    """Variance of each model's samples, shape (M, n), NaN = fewer than two; for metrics `of_samples`."""

    @classmethod
    def of(
        cls, rows: FloatArray, families: Families, ties: Ties, spread: FloatArray | None = None
    ) -> "RewardBlock":
        """Transpose rows of the score matrix, and of the variances of samples, shape (n, M) each, NaN = none."""
        rewards, missing, count = _turned(rows)
        return cls(rewards, missing, count, families, ties, None if spread is None else spread.T)

    @cached_property
    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and population variance of each row's rewards, shape (n,); NaN where there is none."""
        return moments(self.rewards, self.missing, self.count)


def _turned(rows: FloatArray) -> tuple[FloatArray, BoolArray | None, FloatArray]:
    """Numbers of a model one after the other, 0 where missing; where that is; and how many each row has, NaN for none."""
    numbers = np.ascontiguousarray(rows.T, dtype=np.float64)
    missing = np.isnan(numbers)
    count = np.full(numbers.shape[1], float(len(numbers)) or np.nan)
    if not missing.any():
        return numbers, None, count
    count -= missing.sum(axis=0)
    count[count == 0] = np.nan
    return np.where(missing, 0.0, numbers), missing, count


def _within(block: RewardBlock) -> FloatArray:
    """The mean of the variances that there are; NaN where there is none."""
    if block.spread is None:
        return np.full(block.rewards.shape[1], np.nan)
    return moments(*_turned(block.spread.T))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undefined:
    """Why a row with enough rewards may still have no value of a metric."""

    code: str
    """The row's reason in `selection.parquet`, if the metric has a weight."""
    words: str
    """What the reason means."""
    remedy: str
    """What to do so that the row has a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Everything about one metric. Called with a score matrix, it computes the metric of each row.

    Example:
        >>> METRICS["separability"](np.array([[1.0, 3.0]]))
        array([1.])
    """

    name: str
    """Its name in columns, weights and charts."""
    compute: Callable[[RewardBlock], FloatArray]
    """Computes the value of each row of a block, shape (n,). Overflow shows as inf or NaN. The values of rows with fewer
    rewards than `fewest` mean nothing."""
    words: str
    """What it is, and what a high value means, in one line."""
    range: tuple[float, float] = (-math.inf, math.inf)
    """Its lowest and highest possible value, both included; infinite if only the rewards bound it."""
    fewest: int = 1
    """Rewards that a row needs for a value; a row with fewer has the reason `too_few_rewards`."""
    undefined: Undefined | None = None
    """Why a row with `fewest` rewards may still have no value; None = it always has one."""
    by_family: bool = False
    """It depends on families, sizes and ties: without a family of two sizes it is undefined everywhere."""
    of_samples: bool = False
    """It depends on several samples of a model: a pool without them does not have it."""
    weight: float = 0.0
    """Its default weight."""

    def __call__(
        self,
        scores: FloatArray,
        *,
        sizes: FloatArray | Sequence[float] = (),
        families: Sequence[str | None] = (),
        ties: Ties = "average",
        spread: FloatArray | None = None,
    ) -> FloatArray:
        """Compute the metric of each row.

        Args:
            scores: Rewards, shape (N, M). NaN = no reward.
            sizes: As for `stability`; only a metric `by_family` uses it.
            families: As for `stability`; likewise.
            ties: As for `stability`; likewise.
            spread: Variance of each model's samples, shape (N, M), NaN = fewer than two rewards; only a metric
                `of_samples` uses it. None = there are no samples.

        Returns:
            Shape (N,). NaN = undefined.

        Raises:
            ShapeError: `scores` is not two-dimensional, or `sizes` or `families` do not fit it.
            OptionError: `ties` is unknown.
        """
        if self.by_family:
            checked = _checked_families(scores, sizes=sizes, families=families, ties=ties)
        else:
            _two_dimensional(scores)
            checked = []
        return _computed([self], scores, checked, ties, spread)[self.name]

    def of_block(self, block: RewardBlock) -> FloatArray:
        """Compute the metric of each row of a block, shape (n,). NaN = undefined, as with fewer rewards than `fewest`."""
        values = self.compute(block)
        if block.missing is None and len(block.rewards) >= self.fewest:
            return values
        return np.where(block.count >= self.fewest, values, np.nan)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="difficulty",
            compute=lambda block: 0.0 - block.moments[0],
            words="minus the mean reward: the crowd does badly",
            weight=1.0,
        ),
        Metric(
            name="separability",
            compute=lambda block: block.moments[1],
            words="variance of the rewards: the models differ",
            range=(0.0, math.inf),
            fewest=2,
            weight=1.0,
        ),
        Metric(
            name="stability",
            compute=lambda block: rank_agreement(
                block.rewards, block.missing, block.families, ties=block.ties
            ),
            words="rank agreement of reward and size within families: larger models do better",
            range=(-1.0, 1.0),
            fewest=2,
            undefined=Undefined(
                code="no_stability",
                words="no model family of two sizes has rewards here, so stability is undefined",
                remedy="score answers of two sizes of one family, or set the weight of stability to 0",
            ),
            by_family=True,
            weight=2.0,
        ),
        Metric(
            name="within",
            compute=_within,
            words="mean variance of a model's samples: models are right now and then",
            range=(0.0, math.inf),
            undefined=Undefined(
                code="no_samples",
                words="no model has two samples with a reward here, so within is undefined",
                remedy="score several samples of a model, or set the weight of within to 0",
            ),
            of_samples=True,
        ),
    )
}
"""The metrics by name, in the order in which they are written and added. The weights are the paper's best setting;
the sign of its difficulty is in doubt: see docs/metrics.md."""


def by_family(weights: Mapping[str, float] | None = None) -> list[str]:
    """List the metrics that depend on families and sizes.

    Args:
        weights: List only those with a weight here; None = all.

    Example:
        >>> by_family(), by_family({"difficulty": 1.0})
        (['stability'], [])
    """
    return [
        name
        for name, metric in METRICS.items()
        if metric.by_family and (weights is None or weights.get(name))
    ]


def of_samples(weights: Mapping[str, float]) -> list[str]:
    """Name the metrics with a weight that rest on several samples of a model.

    Example:
        >>> of_samples({"within": 1.0, "stability": 2.0})
        ['within']
    """
    return [name for name, metric in METRICS.items() if metric.of_samples and weights.get(name)]


def difficulty(scores: FloatArray) -> FloatArray:
    """Compute minus the mean reward of the crowd: how badly it does (CrowdSelect, eq. 3).

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.

    Returns:
        Shape (N,), in the rewards' unit. Higher = the crowd does worse. The mean is over the models that
        have a reward; NaN where none has. Equal means are the same float (see `crowdselect.numeric.exact`). Not
        finite where rewards are too large to add (beyond 1e300).

    Raises:
        ShapeError: `scores` is not two-dimensional.

    Example:
        >>> difficulty(np.array([[1.0, 2.0], [0.0, np.nan]]))
        array([-1.5,  0. ])
    """
    return METRICS["difficulty"](scores)


def separability(scores: FloatArray) -> FloatArray:
    """Compute the population variance of the crowd's rewards: how much its members differ (CrowdSelect, eq. 4).

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.

    Returns:
        Shape (N,), at least 0, in the square of the rewards' unit (ddof 0). Higher = the models differ
        more; exactly 0 where all rewards are equal, and equal variances are the same float (see
        `crowdselect.numeric.exact`). NaN where fewer than two models have a reward. Not finite where rewards are
        too far apart to square (beyond 1e150).

    Raises:
        ShapeError: `scores` is not two-dimensional.

    Example:
        >>> separability(np.array([[1.0, 3.0], [0.0, np.nan]]))
        array([ 1., nan])
    """
    return METRICS["separability"](scores)


def stability(
    scores: FloatArray,
    *,
    sizes: FloatArray | Sequence[float],
    families: Sequence[str | None],
    ties: Ties = "average",
) -> FloatArray:
    """Compute the mean rank agreement between reward and model size over families (CrowdSelect, eq. 5).

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
    return METRICS["stability"](scores, sizes=sizes, families=families, ties=ties)


def within(spread: FloatArray) -> FloatArray:
    """Mean over models of the variance of a model's samples: how often models are right now and then.

    Args:
        spread: Population variance of each model's samples, shape (N, M). NaN = fewer than two have a reward.

    Returns:
        Shape (N,), at least 0, in the square of the rewards' unit. Higher = the models are less sure; 0.25 is the
        highest of right and wrong: half of the samples of every model. Equal means are the same number. NaN where no
        model has two samples. `separability`, the variance over models of their means, sees nothing of it.

    Raises:
        ShapeError: `spread` is not two-dimensional.

    Example:
        >>> within(np.array([[0.25, 0.25], [0.0, np.nan]]))
        array([0.25, 0.  ])
    """
    return METRICS["within"](spread, spread=spread)


def compute_metrics(
    scores: FloatArray,
    *,
    sizes: FloatArray,
    families: Sequence[str | None],
    ties: Ties = "average",
    spread: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Compute the metrics of `METRICS` that there are, by name: without `spread`, none that depends on samples.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.
        sizes: As for `stability`.
        families: As for `stability`.
        ties: As for `stability`.
        spread: Population variance of each model's samples, shape (N, M), NaN = fewer than two rewards; None = there
            are no samples.

    Returns:
        One array of shape (N,) per metric, in the order of `METRICS`.

    Raises:
        ShapeError: As for `stability`.
        OptionError: As for `stability`.

    Example:
        >>> sorted(compute_metrics(np.eye(2), sizes=np.array([1.0, 2.0]), families=["a", "a"]))
        ['difficulty', 'separability', 'stability']
    """
    checked = _checked_families(scores, sizes=sizes, families=families, ties=ties)
    there = [metric for metric in METRICS.values() if spread is not None or not metric.of_samples]
    return _computed(there, scores, checked, ties, spread)


def _two_dimensional(scores: FloatArray) -> None:
    if scores.ndim != 2:
        raise ShapeError(f"scores must have shape (instructions, models), not {scores.shape}")


def _checked_families(
    scores: FloatArray, *, sizes: FloatArray | Sequence[float], families: Sequence[str | None], ties: str
) -> Families:
    _two_dimensional(scores)
    size = np.asarray(sizes, dtype=np.float64)
    if size.shape != (scores.shape[1],) or len(families) != scores.shape[1]:
        raise ShapeError(
            f"scores have {scores.shape[1]} models, but there are {size.size} sizes and {len(families)} families"
        )
    if ties not in get_args(Ties):
        raise OptionError(f"`ties={ties!r}` is unknown; choose one of: {', '.join(get_args(Ties))}")
    return families_of(size, families)


def _computed(
    metrics: Sequence[Metric],
    scores: FloatArray,
    families: Families,
    ties: Ties,
    spread: FloatArray | None,
) -> dict[str, FloatArray]:
    """Compute metrics on blocks of rows, as many at a time as there are processors, and join the results."""

    def part(here: slice) -> list[FloatArray]:
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # overflow shows as inf or NaN; callers name the row
            own = None if spread is None else spread[here]
            block = RewardBlock.of(scores[here], families, ties, own)
            return [metric.of_block(block) for metric in metrics]

    columns = over_blocks(part, len(scores))
    return dict(zip((metric.name for metric in metrics), columns, strict=True))
