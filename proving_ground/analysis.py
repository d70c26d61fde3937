"""Paired differences between ways, their intervals, Holm's correction, ranks. Arrays in, numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from proving_ground.seeds import seed_of

DRAWS = 10_000
LEVEL = 0.05
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one method is than another."""

    mean: float
    """Difference in exact match, -1 to 1; above 0 = the first method is better."""
    low: float
    high: float
    """95 % interval."""
    p: float
    """Two-sided p-value."""
    seeds: int


def difference(one: FloatArray, other: FloatArray, *, draws: int = DRAWS) -> Difference:
    """Compare two methods on the same seeds and test items by a hierarchical bootstrap.

    Seeds are drawn with replacement, and items are drawn with replacement, one draw of items for all seeds of a replicate,
    because all seeds are tested with the same items. Deviations of seed means are widened by sqrt(S / (S - 1)).

    Args:
        one: Whether right, shape (S, I): a row per seed, a column per test item.
        other: The same for the other method.
        draws: Number of replicates.

    Returns:
        The mean over all, its percentile interval and p = twice the smaller share of replicates on one side of 0.
    """
    gap = one.astype(np.float64) - other.astype(np.float64)
    return _summed(float(gap.mean()), _replicates(gap, draws, salt=0), seeds=len(gap))


def pooled(pairs: Sequence[tuple[FloatArray, FloatArray]], *, draws: int = DRAWS) -> Difference:
    """Compute the mean difference over several worlds, each resampled separately; the worlds are fixed.

    Args:
        pairs: Per world, what `difference` takes.
        draws: Number of replicates.
    """
    gaps = [one.astype(np.float64) - other.astype(np.float64) for one, other in pairs]
    mean = float(np.mean([gap.mean() for gap in gaps]))
    replicates = np.mean([_replicates(gap, draws, salt=i) for i, gap in enumerate(gaps)], axis=0)
    return _summed(mean, replicates, seeds=min(len(gap) for gap in gaps))


def _replicates(gap: FloatArray, draws: int, *, salt: int) -> FloatArray:
    """Return resampled means of gaps (S, I), shape (draws,)."""
    seeds, items = gap.shape
    if seeds > 1:
        own = gap.mean(axis=1, keepdims=True) - gap.mean()
        gap = gap + (np.sqrt(seeds / (seeds - 1)) - 1) * own
    by_seed, by_item = _counts(seeds, items, draws, salt)
    means: FloatArray = (by_seed * (gap @ by_item).T).sum(axis=1) / (seeds * items)
    return means


def _summed(mean: float, replicates: FloatArray, *, seeds: int) -> Difference:
    low, high = np.percentile(replicates, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    tail = float(min((replicates <= 0).sum(), (replicates >= 0).sum()))
    return Difference(mean, float(low), float(high), min(1.0, 2 * (tail + 1) / (len(replicates) + 1)), seeds)


@cache
def _counts(seeds: int, items: int, draws: int, salt: int) -> tuple[FloatArray, FloatArray]:
    """Return how often each seed (draws, S) and item (I, draws) is drawn per replicate; the same for all comparisons."""
    rng = np.random.default_rng(seed_of("bootstrap", seeds, items, draws, salt))
    return (
        rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(np.float64),
        np.ascontiguousarray(
            rng.multinomial(items, np.full(items, 1 / items), size=draws).T, dtype=np.float64
        ),
    )


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: name → adjusted p, never below the given one."""
    adjusted, least = {}, 0.0
    for place, name in enumerate(sorted(p, key=lambda name: (p[name], name))):
        least = max(least, min(1.0, (len(p) - place) * p[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p}


def verdict(found: Difference, adjusted: float) -> str:
    """The protocol's verdict: better, worse, or not told apart."""
    if adjusted >= LEVEL or found.mean == 0:
        return "not told apart"
    return "better" if found.mean > 0 else "worse"


@dataclass(frozen=True, slots=True)
class Compared:
    """Every method compared with one of them, in one world."""

    differences: Mapping[str, Difference]
    adjusted: Mapping[str, float]

    def verdict(self, way: str) -> str:
        """Better, worse, or not told apart."""
        return verdict(self.differences[way], self.adjusted[way])


def compare(
    right: Mapping[str, Mapping[int, FloatArray]], reference: str, *, among: Sequence[str] | None = None
) -> Compared:
    """Compare methods with one of them on the seeds that both have.

    Args:
        right: Method → seed → whether right, per test item.
        reference: The method to compare with.
        among: The methods; None = all others.
    """
    found = {}
    for way in right if among is None else among:
        one, other = paired(right[way], right[reference])
        if way != reference and len(one):
            found[way] = difference(one, other)
    return Compared(found, holm({way: one.p for way, one in found.items()}))


def paired(one: Mapping[int, FloatArray], other: Mapping[int, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return the runs of two methods on the seeds that both have, shape (S, I) each."""
    seeds = sorted(one.keys() & other.keys())
    return np.array([one[seed] for seed in seeds]), np.array([other[seed] for seed in seeds])


@dataclass(frozen=True, slots=True)
class Agreement:
    """Rank correlation of the methods in two worlds, -1 to 1."""

    kendall: float
    spearman: float
    ways: int


def agreement(one: Mapping[str, float], other: Mapping[str, float]) -> Agreement:
    """Compare two worlds' means over the methods that both have."""
    ways = sorted(one.keys() & other.keys())
    values = [one[way] for way in ways], [other[way] for way in ways]
    return Agreement(float(kendalltau(*values).statistic), float(spearmanr(*values).statistic), len(ways))
