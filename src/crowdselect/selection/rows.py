"""A pool's score matrix and what the three metrics make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.errors import InputError, OptionError, RewardError
from crowdselect.numeric.ensembles import Agreement, combine_rewards, reward_agreement
from crowdselect.numeric.metrics import METRICS, Ties, compute_metrics, ordered_families
from crowdselect.numeric.ranks import check_weights
from crowdselect.numeric.responses import Picks
from crowdselect.pool.numberfile import read_numbers
from crowdselect.pool.pool import Pool
from crowdselect.selection.options import Options
from crowdselect.types import FloatArray, IntArray

COLUMNS = (
    "id",
    "selected",
    "rank",
    "reason",
    "model",
    "sample",
    "reward",
    "cluster",
    "score",
    "n_rewards",
    "reward_agreement",
)
"""Names of our own, which no column of numbers may have."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What is to be known of a score matrix that is not held."""

    per_model: IntArray
    """Rewards per model, shape (M,)."""
    lowest: float
    """The lowest reward. NaN = there is none."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A pool's score matrix and what the metrics make of it; row i is instruction i in id order."""

    scores: FloatArray
    """Rewards, shape (N, M). NaN = no reward. Of no rows where there are `sums` instead."""
    n_rewards: IntArray
    """Rewards per instruction, shape (N,)."""
    metrics: dict[str, FloatArray]
    """Each metric, shape (N,). NaN = undefined."""
    crowd: Crowd
    """One member per model of the pool, in the pool's order."""
    notes: tuple[str, ...]
    """One-line facts about the crowd that the user should know."""
    reward: str | None = None
    """The reward column; of an ensemble, what it is made of."""
    agreement: Agreement | None = None
    """How far the rewards of an ensemble agree."""
    sums: Sums | None = None
    """Given where the pool was measured part by part."""

    @property
    def lowest(self) -> float:
        """The lowest reward. NaN = there is none."""
        if self.sums is not None:
            return self.sums.lowest
        return float(np.nanmin(self.scores)) if self.n_rewards.any() else float("nan")

    @property
    def per_model(self) -> IntArray:
        """Rewards per model, shape (M,)."""
        if self.sums is not None:
            return self.sums.per_model
        return np.asarray((~np.isnan(self.scores)).sum(axis=0), dtype=np.int64)

    @property
    def families(self) -> int:
        """How many model families show an order: two known sizes or more among the models with rewards."""
        sizes = np.where(self.per_model > 0, self.crowd.sizes, np.nan)
        return len(ordered_families(sizes, self.crowd.families))


def measure(
    pool: Pool,
    *,
    reward: str | Sequence[str] | None = None,
    ensemble: str | None = None,
    numbers: str | None = None,
    crowd: Crowd | None = None,
    ties: Ties = "average",
    needed: bool = True,
) -> Measured:
    """Read a pool's score matrix and compute its metrics.

    Args:
        pool: From `crowdselect.open_pool`.
        reward: The reward column, or several; None takes the only one there is.
        ensemble: How several rewards become one; see `crowdselect.numeric.ensembles.combine_rewards`.
        numbers: A file of further numbers per instruction; they stand among the metrics.
        crowd: Family and size of the models; None reads them off the names.
        ties: As for `crowdselect.stability`.
        needed: Whether a crowd must be there; otherwise a pool without rewards, or of one model, has no metrics.

    Returns:
        The matrix, the metrics and the crowd, aligned with `pool.ids` and `pool.models`.

    Raises:
        RewardError: There is no reward, or a choice between several is needed.
        InputError: A metric overflows, or the crowd matches no model of the pool.
    """
    why = None if needed else why_unmeasured(pool, reward)
    if why is not None:
        return _unmeasured(pool, crowd, why)
    scores, told, agreement = score_matrix(pool, reward, ensemble)
    n_rewards = np.asarray((~np.isnan(scores)).sum(axis=1), dtype=np.int64)
    if not n_rewards.any():
        raise RewardError(f"{pool.path}: reward {told!r} is missing in every row; score the answers first")
    aligned, notes = (crowd or Crowd.from_names(pool.models)).aligned(pool.models)
    metrics = checked_metrics(pool, scores, aligned, ties=ties)
    if numbers is not None:
        more, note = read_numbers(numbers, ids=pool.ids, taken=(*METRICS, *COLUMNS))
        metrics |= more
        notes = [*notes, *([note] if note else [])]
    return Measured(scores, n_rewards, metrics, aligned, tuple(notes), told, agreement)


def checked_metrics(pool: Pool, scores: FloatArray, crowd: Crowd, *, ties: Ties) -> dict[str, FloatArray]:
    """Compute the metrics of a pool's score matrix.

    Args:
        pool: For the messages.
        scores: Rewards, shape (N, M). NaN = no reward.
        crowd: M members, in the order of the columns.
        ties: As for `crowdselect.stability`.

    Raises:
        InputError: A metric overflows; the id is named.
    """
    n_rewards = np.asarray((~np.isnan(scores)).sum(axis=1), dtype=np.int64)
    metrics = compute_metrics(scores, sizes=crowd.sizes, families=crowd.families, ties=ties)
    for name, fewest in (("difficulty", 1), ("separability", 2)):
        beyond = np.flatnonzero((n_rewards >= fewest) & ~np.isfinite(metrics[name]))
        if beyond.size:
            raise InputError(
                f"{pool.path}: {name} of id {pool.ids[beyond[0]]!r} is too large for a number; its rewards are out of any "
                "sensible range, rescale them"
            )
    return metrics


def score_matrix(
    pool: Pool, reward: str | Sequence[str] | None, ensemble: str | None = None
) -> tuple[FloatArray, str, Agreement | None]:
    """Read a pool's score matrix, of one reward or of an ensemble.

    Args:
        pool: From `crowdselect.open_pool`.
        reward: A reward column, or several; None takes the only one there is.
        ensemble: How several become one; see `crowdselect.numeric.ensembles.combine_rewards`.

    Returns:
        Shape (N, M); what it is, in words; and how far the rewards of an ensemble agree.

    Raises:
        RewardError: There is no such reward, or a choice between several is needed.
        OptionError: Several rewards and no way to make one of them.
    """
    if reward is None or isinstance(reward, str):
        return pool.scores(reward), pool.reward_name(reward), None
    matrices = {name: pool.scores(name) for name in reward}
    agreement = reward_agreement(matrices)
    return combine_rewards(matrices, how=ensemble or ""), f"{ensemble} of {', '.join(matrices)}", agreement


def pick_samples(pool: Pool, reward: str | Sequence[str] | None, options: Options) -> Picks | None:
    """Choose the sample that stands for each model: the best-rewarded to train on, the worst to reject.

    Args:
        pool: From `crowdselect.open_pool`.
        reward: As for `measure`; a pool without rewards, or with several and none named, has its samples drawn.
        options: `ensemble` (here of the samples' own rewards), `seed` (of ties), `allow_cut` and `pairs` (which must be of
            answers to the same messages) count here.

    Returns:
        What is taken of each model; None where the pool has no samples.
    """
    if not pool.sampled:
        return None
    names = (reward,) if isinstance(reward, str) else tuple(reward or ())
    if not names and len(pool.reward_columns) == 1:
        names = pool.reward_columns
    values = {name: pool.rewards_of_answers(pool.reward_name(name)) for name in names}
    rewards = next(iter(values.values()), None)
    if len(values) > 1:
        columns = {name: one[:, None] for name, one in values.items()}
        rewards = combine_rewards(columns, how=options.ensemble or "")[:, 0]
    return pool.picked_samples(
        rewards, seed=options.seed, prompts=options.pairs is not None, allow_cut=options.allow_cut
    )


def why_unmeasured(pool: Pool, reward: str | Sequence[str] | None) -> str | None:
    """Say in one line why a pool has no metrics; None where it may have some."""
    if len(pool.models) < 2:
        return "only one model answered, so the metrics are empty"
    return (
        "the pool has no rewards, so the metrics are empty"
        if reward is None and not pool.reward_columns
        else None
    )


def _unmeasured(pool: Pool, crowd: Crowd | None, why: str) -> Measured:
    aligned, notes = (crowd or Crowd.from_names(pool.models)).aligned(pool.models)
    n = len(pool.ids)
    return Measured(
        np.full((n, len(pool.models)), np.nan, order="F"),
        np.zeros(n, dtype=np.int64),
        {name: np.full(n, np.nan) for name in METRICS},
        aligned,
        (*notes, why),
    )


def check_usable(measured: Measured, weights: Mapping[str, float]) -> None:
    """Refuse weights of metrics that the pool does not have.

    Args:
        measured: What was measured.
        weights: Per metric.

    Raises:
        OptionError: A weight is of an unknown number, or of stability where no family shows an order.
    """
    check_weights(weights, known=measured.metrics)
    if weights["stability"] != 0 and not measured.families:
        raise OptionError(
            "stability has a weight, but no model family of two known sizes is in the pool; name families and sizes "
            "in a file (crowdselect crowd POOL -o crowd.toml, edit it, then --crowd crowd.toml), or give "
            "--weights without stability"
        )
