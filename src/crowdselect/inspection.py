"""What is in a pool: layout, counts, models, rewards, gaps, duplicates. Plain values, for people and for JSON."""

from typing import Any

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.eligibility import duplicate_groups
from crowdselect.pool import Pool

_MOST_REWARDS = 6  # reward columns described when none is named


def inspect_pool(pool: Pool, *, crowd: Crowd | None = None, reward: str | None = None) -> dict[str, Any]:
    """Describe a pool.

    Args:
        pool: From `crowdselect.open_pool`.
        crowd: Family and size of the models; None reads them off the names.
        reward: Describe this reward column only; None describes all candidates (the first few of many).

    Returns:
        Plain values by name: `layout`, `instructions`, `models`, `rewards` (one entry per reward column with
        its filled share, range and gaps), `crowd` (one entry per model with family, size, mean reward and
        coverage per reward column), `duplicates`, `empty_answers`, `notes`. Means are over the answers that
        have a reward: models that answered different instructions are not comparable by them.

    Raises:
        CrowdselectError: The pool cannot be read, or has no such reward.

    Example:
        >>> inspect_pool.__name__
        'inspect_pool'
    """
    names = [pool.reward_name(reward)] if reward is not None else list(pool.reward_columns[:_MOST_REWARDS])
    matrices = {name: pool.scores(name) for name in names}
    aligned, notes = (crowd or Crowd.from_names(pool.models)).aligned(pool.models)
    texts = pool.instructions()
    with_text = np.array([text is not None for text in texts], dtype=bool)
    repeated = np.count_nonzero(duplicate_groups(texts) != np.arange(len(texts)))
    return {
        "pool": pool.path,
        "layout": pool.layout,
        "simulated": "simulated" in pool.columns,
        "columns": list(pool.columns),
        "instructions": len(pool.ids),
        "without_text": int((~with_text).sum()),
        "duplicates": int(repeated),
        "models": len(pool.models),
        "reward_columns": list(pool.reward_columns),
        "rewards": {name: _describe(matrix) for name, matrix in matrices.items()},
        "empty_answers": int((~pool.answered()).sum()) if pool.has_responses else None,
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
        "notes": [*pool.notes, *notes],
    }


def _describe(matrix: Any) -> dict[str, Any]:  # noqa: ANN401  (a float matrix)
    known = ~np.isnan(matrix)
    per_row = known.sum(axis=1)
    return {
        "filled": float(known.mean()),
        "lowest": float(matrix[known].min()) if known.any() else None,
        "mean": _mean(matrix),
        "highest": float(matrix[known].max()) if known.any() else None,
        "without_reward": int((per_row == 0).sum()),
        "with_one_reward": int((per_row == 1).sum()),
        "complete": int((per_row == matrix.shape[1]).sum()),
    }


def _mean(values: Any) -> float | None:  # noqa: ANN401  (a float array)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
