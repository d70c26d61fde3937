"""Facility location: the rows that represent all others best. A graph of near rows, then a lazy greedy choice.

The objective of a choice S is the sum over rows i of w_i max(s_ij, j in S), s the cosine between near rows and
0 between others: how well every row is represented. It is submodular, so the greedy choice reaches at least
1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978), and a gain only falls as the choice grows, so few have
to be computed again (Minoux 1978). As a way to choose training data: apricot (Schreiber, Bilmes and Noble 2020).
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import OptionError
from crowdselect.numeric.clusters import kmeans
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS, combine, uniform_ranks
from crowdselect.progress import Progress
from crowdselect.selection.clusters import Grouping
from crowdselect.selection.methods import (
    CROWD,
    Method,
    Scored,
    Seen,
    depths,
    first_of_groups,
    with_duplicates,
)
from crowdselect.types import Float32Array, FloatArray, IntArray

_BLOCK = 1024  # rows compared at a time
_GRID = np.float32(1 << 20)  # cosines are rounded to this fraction: their sums are exact, so equal gains tie
_WEIGHT_GRID = 1 << 16  # and weights to this fraction
_PART = 4_096  # rows among which a row's neighbours are searched
_SAMPLE = 200  # rows whose true neighbours are looked up to state the recall


def facility_location(*, neighbours: int = 50, weight_by: str | None = None) -> Method:
    """Choose the rows that represent all others best: greedy facility location on a graph of near rows.

    `score` is a row's gain in the objective when it was chosen, or the gain it would still bring. Neighbours are
    searched within the clusters of the selection, large ones split further; the share of true neighbours found
    is a note of the selection.

    Args:
        neighbours: How many nearest rows each row is linked to.
        weight_by: How much a row counts as one to be represented: "crowdselect" (its score with the default
            weights), "reward" (its best reward) or a column; each as a uniform rank, 0 where it is
            missing. None = all count the same.

    Raises:
        OptionError: `neighbours` is not positive.
    """
    if neighbours < 1:
        raise OptionError(f"`neighbours` is {neighbours}; wanted at least 1")

    def score(seen: Seen, _progress: Progress) -> Scored:
        return Scored(np.ones(len(seen.eligible)) if weight_by is None else _weights(seen, weight_by))

    def arrange(seen: Seen, weights: FloatArray, grouping: Grouping) -> Scored:
        if grouping.vectors is None:
            raise OptionError("facility location needs vectors; choose an embedder")
        rows = seen.rows
        vectors, labels, keys = grouping.vectors[rows], grouping.cells[rows], seen.keys[rows]
        graph = near_graph(vectors, labels=parts(vectors, labels=labels, keys=keys), neighbours=neighbours)
        recalled = recall(graph, vectors, keys=keys, neighbours=neighbours)
        out = np.zeros(len(seen.eligible))
        out[rows] = gains(
            graph,
            weights=weights[rows],
            candidates=first_of_groups(seen)[rows],
            labels=labels,
            keys=keys,
            depths=depths(seen, grouping),
        )
        note = (
            f"facility location: {recalled:.1%} of a sample's true {neighbours} nearest rows are in the graph"
        )
        return Scored(with_duplicates(seen, out), notes=(note,))

    return Method(
        name="facility-location",
        arguments={"neighbours": neighbours, "weight_by": weight_by},
        score=score,
        arrange=arrange,
        vectors=True,
        columns=() if weight_by in {None, *_OWN_WEIGHTS} else (str(weight_by),),
    )


def _weights(seen: Seen, by: str) -> FloatArray:
    own = _OWN_WEIGHTS.get(by)
    return np.nan_to_num(uniform_ranks(own(seen) if own else seen.numbers(by), seen.eligible), nan=0.0)


_OWN_WEIGHTS: dict[str, Callable[[Seen], FloatArray]] = {
    CROWD.name: lambda seen: combine(seen.ranks, DEFAULT_WEIGHTS),
    "reward": lambda seen: seen.known.answers.best_reward,
}
"""What rows can be weighted by without a column."""


def parts(vectors: Float32Array, *, labels: NDArray[Any], keys: NDArray[np.uint64]) -> IntArray:
    """Split clusters that are too large for comparing all their rows, by k-means.

    Args:
        vectors: Shape (N, D), unit length.
        labels: Shape (N,).
        keys: Shape (N,), seeded hashes: k-means is fitted on the rows with the smallest.

    Returns:
        Shape (N,): labels of parts, each within one cluster, most of them of at most 4,096 rows.
    """
    part_labels, count = np.zeros(len(labels), dtype=np.int64), 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        inner = np.zeros(len(rows), dtype=np.int64)
        if len(rows) > _PART:
            inner = kmeans(vectors[rows], k=2 * -(-len(rows) // _PART), keys=keys[rows]).astype(np.int64)
        part_labels[rows] = count + inner
        count += int(inner.max()) + 1
    return part_labels


@dataclass(frozen=True, slots=True)
class NearGraph:
    """Which rows are near each other: row i's neighbours are `near[starts[i]:starts[i + 1]]`, itself among them."""

    starts: IntArray  # (N + 1,)
    near: NDArray[np.int32]  # (E,)
    likeness: NDArray[np.float32]  # (E,), cosines above 0

    def of(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the neighbours of a row, and their cosines to it."""
        here = slice(self.starts[row], self.starts[row + 1])
        return self.near[here], self.likeness[here]


def near_graph(vectors: Float32Array, *, labels: NDArray[Any], neighbours: int) -> NearGraph:
    """Link every row to its nearest rows within its own part.

    Args:
        vectors: Shape (N, D), unit length.
        labels: Shape (N,): rows are compared only with rows of the same label.
        neighbours: How many nearest rows each row is linked to; two rows are near if either is among the other's
            nearest.

    Returns:
        A symmetric graph of cosines above 0. Every row is near itself with its own cosine, 1, or 0 for a zero row.

    Example:
        >>> v = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
        >>> near_graph(v, labels=np.zeros(3), neighbours=1).of(0)[0].tolist()
        [0, 1]
    """
    from scipy.sparse import coo_matrix, eye_array

    n, parts = len(vectors), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        own_vectors = vectors[members]
        for begin in range(0, len(members), _BLOCK):
            rows = members[begin : begin + _BLOCK]
            cosines = vectors[rows] @ own_vectors.T
            cosines[np.arange(len(rows)), begin + np.arange(len(rows))] = -1.0
            count = min(neighbours, len(members) - 1)
            columns = (
                np.argpartition(-cosines, count - 1, axis=1)[:, :count]
                if count
                else np.empty((len(rows), 0), int)
            )
            found = np.take_along_axis(cosines, columns, axis=1)
            positive = found > 0
            parts.append((np.repeat(rows, positive.sum(axis=1)), members[columns[positive]], found[positive]))
    first, second, cosine = (np.concatenate(column) for column in zip(*parts, strict=True))
    cosine = np.round(np.minimum(cosine, np.float32(1.0)) * _GRID) / _GRID
    links = coo_matrix((cosine, (first, second)), shape=(n, n)).tocsr()
    # A zero row represents nothing, not even itself.
    own_cosine = (
        eye_array(n, format="csr", dtype=np.float32).multiply((vectors != 0).any(axis=1)[:, None]).tocsr()
    )
    graph = links.maximum(links.T).maximum(own_cosine).tocsr()
    graph.sort_indices()
    return NearGraph(
        graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data.astype(np.float32)
    )


def recall(graph: NearGraph, vectors: Float32Array, *, keys: NDArray[np.uint64], neighbours: int) -> float:
    """Compute the share of the true nearest rows that a graph of parts contains, on a seeded sample of rows.

    Args:
        graph: From `near_graph`.
        vectors: Shape (N, D), unit length.
        keys: Shape (N,); the rows with the smallest keys are the sample.
        neighbours: How many nearest rows of each are searched, among all N.

    Returns:
        Between 0 and 1, higher is better; 1.0 where there are no neighbours above cosine 0 to find.
    """
    sample = np.argsort(keys, kind="stable")[:_SAMPLE]
    hits = total = 0
    for row in sample:
        cosines = vectors @ vectors[row]
        cosines[row] = -1.0
        count = min(neighbours, len(vectors) - 1)
        if count == 0:
            continue
        true = np.argpartition(-cosines, count - 1)[:count]
        true = true[cosines[true] > 0]
        hits += int(np.isin(true, graph.of(int(row))[0]).sum())
        total += len(true)
    return hits / total if total else 1.0


def gains(
    graph: NearGraph,
    *,
    weights: FloatArray,
    candidates: NDArray[np.bool_],
    labels: NDArray[Any],
    keys: NDArray[np.uint64],
    depths: dict[int, int],
) -> FloatArray:
    """Choose greedily within every label, and return each row's gain.

    Args:
        graph: From `near_graph`; no link may cross two labels.
        weights: How much each row counts as one to be represented, shape (N,), at least 0.
        candidates: Which rows may be chosen, shape (N,).
        labels: Shape (N,): the greedy choice is made separately within each label.
        keys: Shape (N,): of equal gains, the smaller key goes first.
        depths: How many rows to choose from each label.

    Returns:
        Shape (N,). For a chosen row its gain when it was chosen, for any other row the gain it would still
        bring, so that sorting by it, ties by key, yields each label's greedy order. Higher = earlier.
    """
    order = np.empty(len(keys), dtype=np.int64)
    order[np.argsort(keys, kind="stable")] = np.arange(len(keys))
    whole = np.round(weights * _WEIGHT_GRID) / _WEIGHT_GRID
    cover = np.zeros(len(keys))
    first = _all_gains(graph, whole, cover)
    chosen, added = [], []
    for label, depth in depths.items():
        heap = [
            (-float(first[row]), int(order[row]), int(row), 0)
            for row in np.flatnonzero((labels == label) & candidates)
        ]
        for row, gain in _greedy(graph, whole, cover, heap, depth=depth):
            chosen.append(row)
            added.append(gain)
    out = _all_gains(graph, whole, cover)
    out[chosen] = added
    return out


def _greedy(
    graph: NearGraph,
    weights: FloatArray,
    cover: FloatArray,
    heap: list[tuple[float, int, int, int]],
    *,
    depth: int,
) -> Iterator[tuple[int, float]]:
    """Choose up to `depth` rows and update `cover`; `heap` holds (-gain, order, row, number chosen when computed)."""
    heapq.heapify(heap)
    taken = 0
    while heap and taken < depth:
        bound, place, row, seen = heapq.heappop(heap)
        near, likeness = graph.of(row)
        if seen == taken:
            cover[near] = np.maximum(cover[near], likeness)
            taken += 1
            yield row, -bound
        else:
            gain = float((weights[near] * np.maximum(likeness - cover[near], 0.0)).sum())
            heapq.heappush(heap, (-gain, place, row, taken))


def _all_gains(graph: NearGraph, weights: FloatArray, cover: FloatArray) -> FloatArray:
    n = len(cover)
    rows = np.repeat(np.arange(n), np.diff(graph.starts))
    added = weights[graph.near] * np.maximum(graph.likeness - cover[graph.near], 0.0)
    return np.asarray(np.bincount(rows, weights=added, minlength=n), dtype=np.float64)
