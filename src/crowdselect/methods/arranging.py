"""What methods need whose next row depends on those before: one row per text, and how many rows a cluster gives."""

import numpy as np

from crowdselect.numeric.quotas import water_fill
from crowdselect.selection.clusters import Grouping
from crowdselect.selection.methods import Seen
from crowdselect.types import BoolArray, FloatArray


def first_of_groups(seen: Seen) -> BoolArray:
    """Find, of the eligible rows that say the same, the one whose key is smallest: the one that ties let through.

    Returns:
        Shape (N,).
    """
    rows = seen.rows
    order = rows[np.argsort(seen.keys[rows], kind="stable")]
    _, first = np.unique(seen.known.groups[order], return_index=True)
    out = np.zeros(len(seen.eligible), dtype=bool)
    out[order[first]] = True
    return out


def with_duplicates(seen: Seen, score: FloatArray) -> FloatArray:
    """Give every row the score of the one that stands for its text, so that this one is chosen of them.

    Args:
        seen: Says which rows have the same text.
        score: Shape (N,); those of `first_of_groups` count.

    Returns:
        Shape (N,).
    """
    out = score.copy()
    stands = np.flatnonzero(first_of_groups(seen))
    of_group = dict(zip(seen.known.groups[stands].tolist(), score[stands].tolist(), strict=True))
    for row in np.setdiff1d(seen.rows, stands):
        out[row] = of_group[int(seen.known.groups[row])]
    return out


def depths(seen: Seen, grouping: Grouping) -> dict[int, int]:
    """Say how many rows the choice may take from each cluster, by its label."""
    labels, counts = np.unique(grouping.labels[first_of_groups(seen)], return_counts=True)
    budget = min(seen.options.budget, int(counts.sum()))
    level, left = water_fill(counts.tolist(), budget)
    return {
        int(label): min(int(count), level + (left > 0)) for label, count in zip(labels, counts, strict=True)
    }
