"""Strata: the rows that share a value of a column, and how many places each of them gets, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

import numpy as np
from numpy.typing import NDArray

from crowdselect.types import IntArray


@dataclass(frozen=True, slots=True)
class Strata:
    """Which stratum each row is in, and how places are shared out between strata."""

    of: IntArray
    """Shape (N,): 0 to S - 1; the 0 of a row that is not eligible means nothing."""
    names: tuple[str, ...]
    """Length S; of equal claims to a place, the earlier one has it."""
    weights: tuple[int, ...] | None
    """Length S, above 0: places are shared out in proportion to these; None = to the rows that can be chosen."""

    def weighing(self, sizes: Sequence[int]) -> Sequence[int]:
        """Return the weights, of strata in which so many rows can be chosen."""
        return sizes if self.weights is None else self.weights

    def sizes(self, rows: IntArray) -> list[int]:
        """Count how many of some rows each stratum has."""
        counts: list[int] = np.bincount(self.of[rows], minlength=len(self.names)).tolist()
        return counts


def cells(labels: NDArray[np.int64], strata: Strata | None) -> NDArray[np.int64]:
    """Number the clusters of every stratum apart.

    Args:
        labels: Cluster of each row, shape (N,), from 0.
        strata: None = there are none, and the clusters stay as they are.

    Returns:
        Shape (N,): rows with the same number are in the same stratum and the same cluster.

    Example:
        >>> two = Strata(np.array([0, 1, 1]), ("a", "b"), (1, 1))
        >>> cells(np.array([0, 0, 3]), two).tolist()
        [0, 1, 2]
    """
    if strata is None:
        return labels
    pairs = strata.of * (int(labels.max(initial=0)) + 1) + labels
    _, numbers = np.unique(pairs, return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)


def shared_out(places: int, weights: Sequence[int]) -> list[int]:
    """Share out places in proportion to weights, by the largest remainders.

    Args:
        places: How many, at least 0.
        weights: At least 0, not all 0.

    Returns:
        As many numbers, which add up to `places`, each the exact share rounded down or up; of equal remainders the earlier
        one is rounded up.

    Example:
        >>> shared_out(10, [1, 1, 1]), shared_out(10, [50, 30, 21])
        ([4, 3, 3], [5, 3, 2])
    """
    whole = sum(weights)
    shares = [divmod(places * weight, whole) for weight in weights]
    out = [down for down, _ in shares]
    by_remainder = sorted(range(len(weights)), key=lambda at: (-shares[at][1], at))
    for at in by_remainder[: places - sum(out)]:
        out[at] += 1
    return out


def allotted(places: int, weights: Sequence[int], capacities: Sequence[int]) -> list[int]:
    """Share out places where some cannot take all of theirs: what they leave goes to the others.

    Args:
        places: How many, at most the sum of `capacities`.
        weights: As for `shared_out`; 0 only where the capacity is 0.
        capacities: How many places each can take.

    Returns:
        As many numbers, which add up to `places`, none above its capacity. Without one that falls short, those of
        `shared_out`. Every place that is left goes to whoever then has the fewest places for its weight and can take
        one more; of equals, to the earlier. With equal weights this is filling up to one level.

    Example:
        >>> allotted(10, [1, 1, 1], [1, 9, 9]), allotted(10, [5, 3, 2], [2, 9, 9])
        ([1, 5, 4], [2, 5, 3])
    """
    out = [min(pair) for pair in zip(shared_out(places, weights), capacities, strict=True)]
    left = places - sum(out)
    # A quotient of whole numbers is rounded correctly everywhere, and equal quotients are rounded alike.
    line = [(out[at] / weights[at], at) for at in range(len(out)) if out[at] < capacities[at]] if left else []
    heapify(line)
    for _ in range(left):
        at = line[0][1]
        out[at] += 1
        if out[at] < capacities[at]:
            heapreplace(line, (out[at] / weights[at], at))
        else:
            heappop(line)
    return out
