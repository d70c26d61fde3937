"""Choose rows, in order, by score, clusters and budget: equal quotas, exactly filled, ties by hash."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import BudgetError
from crowdselect.numeric.strata import Strata, allotted
from crowdselect.seeding import UInt64Array
from crowdselect.types import FloatArray, IntArray

_NONE = -1
_BLOCK = 256  # rows whose vectors are read at a time


class VectorLookup(Protocol):
    """Unit vectors by row: an array of shape (N, D), or an object that returns some of its rows."""

    def __getitem__(self, rows: IntArray) -> NDArray[np.float32]:
        """Return the rows' vectors, shape (n, D)."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and which rows were skipped as duplicates of which."""

    rank: IntArray
    """Shape (N,): 1 = chosen first, 0 = not chosen."""
    duplicate_of: IntArray
    """Shape (N,): the better-scoring row with the same text; -1 for none."""
    near_duplicate_of: IntArray
    """Shape (N,): the chosen row of the cluster that this one was too close to; -1 for none."""
    quotas: dict[int, int]
    """How many rows were taken from each label."""


@dataclass(slots=True)
class _Queue:
    """One cluster's rows, best first, and how many have been visited."""

    rows: IntArray
    vectors: VectorLookup | None  # None accepts every row
    near: float
    kept: list[int] = field(default_factory=list)
    skipped: list[tuple[int, int, int]] = field(
        default_factory=list
    )  # (index in `rows`, row, the kept row it is close to)
    places: list[int] = field(default_factory=list)  # index in `rows` of each kept row
    walked: int = 0
    ahead: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    ahead_from: int = 0  # index in `rows` where the vectors in `ahead` begin
    kept_vectors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def reach(self, count: int) -> int:
        """Go down the rows until `count` are kept or none is left; return how many are kept, at most `count`."""
        if self.vectors is None:
            self.walked = max(self.walked, min(count, len(self.rows)))
            self.kept = self.rows[: self.walked].tolist()
            self.places = list(range(self.walked))
            return min(count, len(self.kept))
        while len(self.kept) < count and self.walked < len(self.rows):
            if self.walked >= self.ahead_from + len(self.ahead):
                self.ahead_from = self.walked
                self.ahead = self.vectors[self.rows[self.walked : self.walked + _BLOCK]]
            row, vector = int(self.rows[self.walked]), self.ahead[self.walked - self.ahead_from]
            close = self.kept_vectors[: len(self.kept)] @ vector if self.kept else np.zeros(0)
            # Rounding may push a cosine above 1, but nothing is closer than 1.
            if close.size and min(close.max(), 1.0) > self.near:
                self.skipped.append((self.walked, row, self.kept[int(close.argmax())]))
            else:
                self._keep(row, vector)
            self.walked += 1
        return min(count, len(self.kept))

    def _keep(self, row: int, vector: NDArray[np.float32]) -> None:
        """Keep the current row, and its vector with those of the other kept rows."""
        if len(self.kept) == len(self.kept_vectors):
            grown = np.empty((2 * len(self.kept) + 8, len(vector)), np.float32)
            if self.kept:
                grown[: len(self.kept)] = self.kept_vectors
            self.kept_vectors = grown
        self.kept_vectors[len(self.kept)] = vector
        self.kept.append(row)
        self.places.append(self.walked)

    def skipped_for(self, quota: int) -> list[tuple[int, int]]:
        """List the rows skipped before `quota` rows were kept, each with the kept row it is close to.

        If the quota is all that the cluster has, these are all skipped rows.
        """
        ran_out = self.walked == len(self.rows) and quota == len(self.kept)
        end = len(self.rows) if ran_out else self.places[quota - 1] if quota else 0
        return [(row, kept) for place, row, kept in self.skipped if place < end]


def check_budget(budget: int, *, eligible: NDArray[np.bool_], groups: IntArray, barred: str = "") -> None:
    """Refuse a budget that cannot be filled, before any costly work.

    Args:
        budget: How many rows to choose.
        eligible: Which rows may be chosen, shape (N,).
        groups: As for `choose`.
        barred: What bars the other rows, in words, for the message.

    Raises:
        BudgetError: `budget` is not positive, or above what can be chosen.

    Example:
        >>> check_budget(2, eligible=np.array([True, True, True]), groups=np.array([0, 1, 0]))
    """
    if budget < 1:
        raise BudgetError(f"`budget` is {budget}; wanted at least 1")
    numbers = np.sort(groups[eligible])
    total, distinct = len(numbers), int(np.count_nonzero(np.diff(numbers))) + (len(numbers) > 0)
    if budget > distinct:
        duplicates = f", {total - distinct} of them duplicates of others; {distinct} is the most" * (
            distinct < total
        )
        raise BudgetError(
            f"`budget={budget}` is more than can be chosen: {total} instructions are eligible{duplicates}"
            + (f"; not eligible: {barred}" if barred else "")
        )


def choose(
    score: FloatArray,
    *,
    labels: NDArray[Any],
    keys: UInt64Array,
    groups: IntArray,
    budget: int,
    strata: Strata | None = None,
    vectors: VectorLookup | None = None,
    near_duplicates: float | None = None,
) -> Choice:
    """Choose exactly `budget` rows: equally many per cluster, the best-scoring of each.

    What a small cluster cannot fill is spread over the others; the last few places go one each to the
    clusters whose next row scores highest. Of duplicate rows, only the best-scoring can be chosen. With strata, each gets
    its places first, see `crowdselect.numeric.strata.allotted`, and gives them to its own clusters in this way.

    Args:
        score: Shape (N,), higher = earlier. NaN = not eligible.
        labels: Cluster of each row, shape (N,), whole numbers; ignored where `score` is NaN.
        keys: Seeded hash of each id, shape (N,): of equal scores, the smaller key goes first.
        groups: Shape (N,): rows with the same number are duplicates of each other.
        budget: How many rows to choose.
        strata: Of the rows; each label is in one of them. None = all rows are one.
        vectors: Unit vectors, shape (N, D); needed for `near_duplicates`.
        near_duplicates: Skip a row whose cosine to one already chosen in its cluster is above this.

    Returns:
        The choice; exactly `budget` rows have a rank.

    Raises:
        BudgetError: `budget` is not positive, or above what can be chosen.

    Example:
        >>> c = choose(np.array([3.0, 2.0, 1.0]), labels=np.array([0, 0, 1]),
        ...            keys=np.zeros(3, np.uint64), groups=np.arange(3), budget=2)
        >>> c.rank.tolist()
        [1, 0, 2]
    """
    check_budget(budget, eligible=~np.isnan(score), groups=groups)
    order = ranked(score, keys)
    duplicate_of = _duplicates(order, groups, n=len(score))
    candidates = order[duplicate_of[order] == _NONE]
    queues = _queues(
        candidates, labels, vectors if near_duplicates is not None else None, near_duplicates or 0.0
    )
    quotas = _fill(queues, score, keys, budget=budget, strata=strata)
    rank = np.zeros(len(score), dtype=np.int64)
    near_of = np.full(len(score), _NONE, dtype=np.int64)
    taken = [queue.kept[:quota] for queue, quota in zip(queues.values(), quotas, strict=True)]
    for queue, quota in zip(queues.values(), quotas, strict=True):
        for row, kept in queue.skipped_for(quota):
            near_of[row] = kept
    chosen = np.concatenate([np.array(rows, dtype=np.int64) for rows in taken])
    best_first = chosen[np.lexsort((chosen, keys[chosen], -score[chosen]))]
    rank[best_first] = np.arange(1, budget + 1)
    return Choice(rank, duplicate_of, near_of, dict(zip(queues, quotas, strict=True)))


def ranked(score: FloatArray, keys: UInt64Array) -> IntArray:
    """Sort the eligible rows, best first; equal scores by key, equal keys by row.

    Args:
        score: Shape (N,). NaN = not eligible.
        keys: Shape (N,).

    Returns:
        Row numbers, as many as `score` has values.

    Example:
        >>> ranked(np.array([1.0, np.nan, 2.0]), np.zeros(3, np.uint64)).tolist()
        [2, 0]
    """
    rows = np.flatnonzero(~np.isnan(score))
    falling = -score[rows]
    order = np.argsort(falling)
    same = falling[order[1:]] == falling[order[:-1]]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    among = order[tied]  # usually few rows: only these are sorted by key
    order[tied] = among[np.lexsort((among, keys[rows[among]], falling[among]))]
    return rows[order]


def water_fill(capacities: Sequence[int], budget: int) -> tuple[int, int]:
    """Find the level up to which every cluster is filled, and how many places are left then.

    Args:
        capacities: How many rows each cluster has.
        budget: At most their sum.

    Returns:
        The largest whole level L with sum(min(capacity, L)) <= budget, and what remains of the budget.

    Example:
        >>> water_fill([1, 5, 9], 8)
        (3, 1)
    """
    level, left, open_clusters = 0, budget, sorted(capacities)
    for filled, capacity in enumerate(open_clusters):
        step = min(capacity - level, left // (len(open_clusters) - filled))
        left -= step * (len(open_clusters) - filled)
        level += step
        if level < capacity:
            break
    return level, left


def levels(
    capacities: Sequence[int], owners: Sequence[int], budget: int, weights: Sequence[int]
) -> list[tuple[int, int]]:
    """Find up to which level each cluster is filled, in strata that share out the budget.

    Args:
        capacities: How many rows each cluster has.
        owners: The stratum of each cluster.
        budget: At most the sum of `capacities`.
        weights: Of the strata; see `crowdselect.numeric.strata.allotted`.

    Returns:
        For each cluster what `water_fill` finds for its stratum.

    Example:
        >>> levels([1, 9, 9], [0, 0, 1], 8, [3, 1])
        [(5, 0), (5, 0), (2, 0)]
    """
    members: list[list[int]] = [[] for _ in weights]
    for cluster, owner in enumerate(owners):
        members[owner].append(cluster)
    places = allotted(budget, weights, [sum(capacities[cluster] for cluster in own) for own in members])
    found = [
        water_fill([capacities[cluster] for cluster in own], count)
        for own, count in zip(members, places, strict=True)
    ]
    return [found[owner] for owner in owners]


def owners_of(
    first: Sequence[int], capacities: Sequence[int], strata: Strata | None
) -> tuple[list[int], Sequence[int]]:
    """Return the stratum of each cluster, and the weights of the strata; without strata all clusters are in one.

    Args:
        first: A row of each cluster.
        capacities: How many rows each has.
        strata: Of the rows.
    """
    if strata is None:
        return [0] * len(first), [1]
    owners = strata.of[np.asarray(first, dtype=np.int64)]
    sizes = np.bincount(owners, weights=capacities, minlength=len(strata.names)).astype(np.int64)
    return owners.tolist(), strata.weighing(sizes.tolist())


def _fill(
    queues: dict[int, _Queue], score: FloatArray, keys: UInt64Array, *, budget: int, strata: Strata | None
) -> list[int]:
    """Compute the quota per cluster; if near-duplicates make a cluster smaller than it looked, start over."""
    in_order = list(queues.values())
    capacities = [len(queue.rows) for queue in in_order]
    owners, weights = owners_of([int(queue.rows[0]) for queue in in_order], capacities, strata)
    while True:
        if sum(capacities) < budget:
            most = sum(queue.reach(len(queue.rows)) for queue in in_order)
            raise BudgetError(
                f"`budget={budget}` cannot be filled: only {most} rows are left without near-duplicates; "
                "lower `budget` or raise `near_duplicates`"
            )
        found = levels(capacities, owners, budget, weights)
        wanted = [
            min(capacity, level + (left > 0))
            for capacity, (level, left) in zip(capacities, found, strict=True)
        ]
        reached = [queue.reach(want) for queue, want in zip(in_order, wanted, strict=True)]
        if reached == wanted:
            break
        capacities = [
            have if have < want else capacity
            for have, want, capacity in zip(reached, wanted, capacities, strict=True)
        ]
    quotas = [min(capacity, level) for capacity, (level, _) in zip(capacities, found, strict=True)]
    over = {owner: left for owner, (_, left) in zip(owners, found, strict=True)}
    following = {
        c: queue.kept[found[c][0]]
        for c, queue in enumerate(in_order)
        if over[owners[c]] and capacities[c] > found[c][0]
    }
    for c in sorted(following, key=lambda c: (-score[following[c]], keys[following[c]], following[c])):
        if over[owners[c]]:
            over[owners[c]] -= 1
            quotas[c] += 1
    return quotas


def _queues(
    candidates: IntArray, labels: NDArray[Any], vectors: VectorLookup | None, near: float
) -> dict[int, _Queue]:
    """Split the candidates by cluster, keeping their order."""
    by_cluster = candidates[np.argsort(labels[candidates], kind="stable")]
    names, starts = np.unique(labels[by_cluster], return_index=True)
    return {
        int(name): _Queue(rows, vectors, near)
        for name, rows in zip(names, np.split(by_cluster, starts[1:]), strict=True)
    }


def _duplicates(order: IntArray, groups: IntArray, *, n: int) -> IntArray:
    """Find for each ranked row the best-ranked row of its group, if that is another one."""
    out = np.full(n, _NONE, dtype=np.int64)
    if len(order) == 0:
        return out
    group_of = groups[order]
    best = np.empty(group_of.max() + 1, dtype=np.int64)
    best[group_of[::-1]] = order[::-1]  # the best-ranked is written last
    representative = best[group_of]
    out[order] = np.where(representative == order, _NONE, representative)
    return out
