"""What is in a pool: layout, counts, models, rewards, gaps, duplicates. Plain values, for people and for JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.errors import RewardError
from crowdselect.numeric.duplicates import duplicate_groups
from crowdselect.numeric.ensembles import reward_agreement
from crowdselect.pool.pool import Pool
from crowdselect.types import FloatArray

_MOST_REWARDS = 6  # reward columns described when none is named
_SAFE = 1e290  # rewards below this can be summed over any pool


def inspect_pool(pool: Pool, *, crowd: Crowd | None = None, reward: str | None = None) -> dict[str, Any]:
    """Describe a pool.

    Args:
        pool: From `crowdselect.open_pool`.
        crowd: Family and size of the models; None reads them off the names.
        reward: Describe this reward column only; None describes all candidates (the first few of many).

    Returns:
        Plain values by name: `layout`, `instructions`, `models`, `rewards` (one entry per reward column with
        its filled share, range and gaps), `crowd` (one entry per model with family, size, mean reward and
        coverage per reward column), `length_bias` (see there; None where the pool has no responses), `duplicates`, `empty_answers` (answers with a reward but without text), `notes`. Means are over the answers that
        have a reward: models that answered different instructions are not comparable by them.

    Raises:
        CrowdselectError: The pool cannot be read, or has no such reward.

    Example:
        >>> inspect_pool.__name__
        'inspect_pool'
    """
    matrices, missing = _matrices(pool, reward)
    aligned, notes = (crowd or Crowd.from_names(pool.models)).aligned(pool.models)
    texts = pool.instructions()
    with_text = np.array([text is not None for text in texts], dtype=bool)
    repeated = np.count_nonzero(duplicate_groups(texts) != np.arange(len(texts)))
    return {
        "pool": pool.path,
        "layout": pool.layout,
        "read_as": pool.read_as,
        "malformed": pool.malformed,
        "simulated": "simulated" in pool.columns,
        "columns": list(pool.columns),
        "instructions": len(pool.ids),
        "without_text": int((~with_text).sum()),
        "duplicates": int(repeated),
        "models": len(pool.models),
        "reward_columns": list(pool.reward_columns),
        "rewards": {name: _describe(matrix) for name, matrix in matrices.items()},
        "length_bias": length_bias(pool.response_lengths(), matrices) if pool.has_responses else None,
        "empty_answers": _empty(pool, list(matrices.values())) if pool.has_responses else None,
        "crowd": [
            {
                "name": member.name,
                "family": member.family,
                "size_b": member.size_b,
                "source": member.source,
                "coverage": {
                    name: float((~np.isnan(matrix[:, j])).mean()) for name, matrix in matrices.items()
                },
                "mean_reward": {name: _mean(matrix[:, j]) for name, matrix in matrices.items()},
            }
            for j, member in enumerate(aligned.members)
        ],
        "notes": [*pool.notes, *notes, *missing],
    }


def length_bias(
    lengths: FloatArray, matrices: Mapping[str, FloatArray]
) -> dict[str, dict[str, float | None]]:
    """Say how far rewards go with the length of answers.

    Args:
        lengths: Characters, shape (N, M). NaN = no text.
        matrices: Reward → scores, shape (N, M) each. NaN = no reward.

    Returns:
        For each reward, `overall`: Spearman's rho of reward and length over all answers; `within`: the mean
        over instructions of rho among an instruction's answers, which harder questions with longer answers
        do not disturb; from -1 to 1. Higher = longer answers get higher rewards. None where undefined.

    Example:
        >>> length_bias(np.array([[1.0, 2.0, 3.0]]), {"a": np.array([[1.0, 2.0, 4.0]])})
        {'a': {'overall': 1.0, 'within': 1.0}}
    """
    found = {}
    for name, matrix in matrices.items():
        agreement = reward_agreement({"length": lengths, name: matrix})
        pair = ("length", name)
        found[name] = {
            "overall": _defined(agreement.overall[pair]),
            "within": _defined(agreement.within[pair]),
        }
    return found


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def _matrices(pool: Pool, reward: str | None) -> tuple[dict[str, FloatArray], list[str]]:
    """The score matrices to describe; and the candidates that hold no number, which is worth knowing too."""
    if reward is not None:
        return {pool.reward_name(reward): pool.scores(reward)}, []
    matrices, missing = {}, []
    for name in pool.reward_columns[:_MOST_REWARDS]:
        try:
            matrices[name] = pool.scores(name)
        except RewardError as error:
            missing.append(str(error))
    if len(pool.reward_columns) > _MOST_REWARDS:
        missing.append(
            f"only the first {_MOST_REWARDS} of {len(pool.reward_columns)} reward columns are described; "
            "`reward` names another"
        )
    return matrices, missing


def _empty(pool: Pool, matrices: list[FloatArray]) -> int:
    """Count the answers that have a reward but no text: cells without a row are gaps, not empty answers."""
    if not matrices:
        return 0
    rewarded = np.any([~np.isnan(matrix) for matrix in matrices], axis=0)
    return int((rewarded & ~pool.answered()).sum())


def _describe(matrix: FloatArray) -> dict[str, Any]:
    known = ~np.isnan(matrix)
    per_row = known.sum(axis=1)
    return {
        "filled": float(known.mean()),
        "lowest": float(np.nanmin(matrix)),
        "mean": _mean(matrix),
        "highest": float(np.nanmax(matrix)),
        "without_reward": int((per_row == 0).sum()),
        "with_one_reward": int((per_row == 1).sum()),
        "complete": int((per_row == matrix.shape[1]).sum()),
    }


def _mean(values: FloatArray) -> float | None:
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    scale = max(float(np.abs(known).max()) / _SAFE, 1.0)  # a sum of rewards near the largest number overflows
    return float((known / scale).mean() * scale)
