"""Clusters of the eligible rows, from vectors or from a column.

A pool in memory and one that is read file by file are treated alike: centres are fitted on a sample, rows are
assigned to them block by block, and vectors are read or computed only where they are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.embed.reading import Embeddable
from crowdselect.embed.vectors import Vectors, open_vectors, vector_kind
from crowdselect.errors import OptionError
from crowdselect.numeric.clusters import fit_centres, group_labels, nearest, renumbered, sample_size
from crowdselect.numeric.quotas import ranked
from crowdselect.numeric.strata import Strata, cells
from crowdselect.progress import Progress
from crowdselect.seeding import UInt64Array, reseeded
from crowdselect.selection.options import Options
from crowdselect.types import BoolArray, FloatArray, IntArray


class UnitVectors:
    """Unit vectors of a pool's eligible rows, read or computed on request."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def __getitem__(self, rows: IntArray) -> NDArray[np.float32]:
        """Return the vectors of some rows (ascending), shape (n, D)."""
        return unit_rows(self.raw(rows))

    def cosines(self, rows: IntArray, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the cosine of each row (ascending) with each of E other texts, shape (n, E), without holding their vectors."""
        return self._vectors.cosines(rows, texts)

    def raw(self, rows: IntArray) -> NDArray[np.float32]:
        """Return the same vectors, not normalised."""
        return self._vectors.of(rows)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Clusters of the eligible rows."""

    labels: NDArray[Any]
    """Shape (N,), 0 to K - 1; the 0 of a row that is not eligible means nothing."""
    names: list[str] | None
    """The column's values in the order of the labels, with `cluster_by`."""
    vectors: UnitVectors | None
    """Unit vectors, if requested."""
    embedder: str | None
    """Which embedder was used, for people to read."""
    clustered: bool
    """Whether there are clusters at all."""
    notes: tuple[str, ...] = ()
    """One-line facts to tell the user."""
    strata: Strata | None = None
    """By `quota`: the groups that get their places before clusters do."""

    @property
    def cells(self) -> NDArray[Any]:
        """The clusters within strata, shape (N,): rows with the same number share one quota."""
        return cells(self.labels, self.strata)


def group(
    reading: Embeddable,
    eligible: BoolArray,
    hashes: UInt64Array,
    options: Options,
    progress: Progress,
    *,
    column: NDArray[Any] | None = None,
    strata: Strata | None = None,
    vectors: bool = False,
) -> Grouping:
    """Cluster the eligible rows as the options say.

    Args:
        reading: Where texts and given vectors come from.
        eligible: Which rows may be chosen, shape (N,).
        hashes: Content hash of each id, shape (N,).
        options: `clusters`, `cluster_by`, `embedder`, `near_duplicates`, `cache`, `trust_remote_code` and `seed`
            count here.
        progress: Called with the number of texts done.
        column: The values of `cluster_by`, shape (N,), if that option is set; a value of None = missing.
        strata: By `quota`, if that option is set.
        vectors: Return vectors whatever the options are.

    Returns:
        Labels, and vectors if `vectors` or near-duplicates need them.

    Raises:
        OptionError: More clusters than eligible rows, or an embedder that reads text in a pool without any.
    """
    rows = np.flatnonzero(eligible)
    labels, names = np.zeros(len(eligible), dtype=np.int64), None
    by_vectors = column is None and options.clusters > 0
    if by_vectors:
        check_clusters(options.clusters, len(rows))
    if column is not None:
        labels[rows], names = group_labels(column[rows])
    wants_vectors = vectors or options.near_duplicates is not None
    clustered = by_vectors or column is not None
    if not by_vectors and not wants_vectors:
        return Grouping(labels, names, None, None, clustered=clustered, strata=strata)
    keys = reseeded(hashes[rows], seed=options.seed, salt="sample")
    k = options.clusters if by_vectors else 0
    opened = vectors_for(reading, rows, keys, options, progress, k=k)
    if vectors:
        opened.prepare(rows)
    if k > 1:
        labels[rows] = cluster_rows(opened, rows, keys, k=k, seed=options.seed, progress=progress)
    elif not vector_kind(options.embedder).reads_text:  # all must be usable, even if few are needed
        opened.labels(rows, opened.of(rows[:1]), progress)
    else:
        opened.of(rows[:1])  # so that the embedder's name can state its dimensions
    unit = UnitVectors(opened) if wants_vectors else None
    return Grouping(labels, names, unit, opened.name, clustered=clustered, notes=opened.notes, strata=strata)


def vectors_for(
    reading: Embeddable, rows: IntArray, keys: UInt64Array, options: Options, progress: Progress, *, k: int
) -> Vectors:
    """Open the vectors of some rows, by the embedder of the options; see `crowdselect.embed.vectors.open_vectors`.

    Args:
        reading: Where texts and given vectors come from.
        rows: All rows that have vectors, ascending.
        keys: Their sampling keys, one per row.
        options: `embedder`, `seed`, `cache` and `trust_remote_code` count here.
        progress: Called with the number of texts that a model has embedded.
        k: How many clusters will be made of them.

    Raises:
        OptionError: An embedder that reads text, and the pool has none.
    """
    kind = vector_kind(options.embedder)
    if kind.reads_text and not reading.has_text:
        raise OptionError(
            f"{reading.path}: no instruction has text, so `embedder={options.embedder!r}` has nothing to read; use `clusters=0`, "
            "`cluster_by=COLUMN`, `embedder=file:VECTORS` or `embedder=column:NAME`"
        )
    return open_vectors(
        reading,
        rows,
        keys=keys,
        embedder=options.embedder,
        seed=options.seed,
        cache=options.cache,
        trust_remote_code=options.trust_remote_code,
        sample=min(sample_size(k), len(rows)) if k > 1 else 0,
        progress=progress if kind.runs_a_model else None,
    )


def cluster_rows(
    vectors: Vectors, rows: IntArray, keys: UInt64Array, *, k: int, seed: int, progress: Progress
) -> NDArray[np.int32]:
    """Cluster rows with the labels of `crowdselect.numeric.clusters.kmeans`, holding only a sample's vectors in memory.

    Args:
        vectors: The rows' vectors.
        rows: Row numbers, ascending.
        keys: One per row; the centres are fitted on the rows with the smallest keys.
        k: How many clusters to make, 2 or more.
        seed: Seed of the starts.
        progress: Called with the number of rows that have a label.

    Returns:
        Shape (n,), labels from 0, ordered by the smallest row of each cluster.
    """
    by_key = np.argsort(keys, kind="stable")
    sample, rest = np.sort(by_key[: sample_size(k)]), np.sort(by_key[sample_size(k) :])
    vectors.prepare(rows)
    sampled = vectors.of(rows[sample])
    centres = fit_centres(sampled, k=k, keys=keys[sample], seed=seed)
    labels = np.empty(len(rows), dtype=np.int64)
    labels[sample] = nearest(sampled, centres)
    if rest.size:
        more = len(sample)
        labels[rest] = vectors.labels(
            rows[rest], centres, lambda done, total: progress(more + done, more + total)
        )
    return renumbered(labels)


def check_clusters(clusters: int, eligible: int) -> None:
    """Refuse more clusters than rows.

    Raises:
        OptionError: There are.
    """
    if clusters > eligible:
        raise OptionError(
            f"`clusters={clusters}` is more than the {eligible} eligible instructions; lower it (0 = none)"
        )


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1, also those whose squares overflow float32; a zero row stays zero."""
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))[:, None]
    return np.asarray(vectors / np.where(length == 0, 1, length), dtype=np.float32)


def lookahead(
    grouping: Grouping, score: FloatArray, keys: UInt64Array, options: Options
) -> "Lookahead | None":
    """Prepare the vectors with which `crowdselect.numeric.quotas.choose` finds near-duplicates; None if it need not.

    Args:
        grouping: The clusters.
        score: Shape (N,). NaN = not eligible.
        keys: Tie-break of equal scores, shape (N,).
        options: `near_duplicates` and `budget` count here.
    """
    if options.near_duplicates is None or grouping.vectors is None:
        return None
    return Lookahead(grouping.vectors, ranked(score, keys), grouping.cells, first=options.budget)


class Lookahead:
    """Unit vectors of the rows that a choice walks down, read together with those of the next rows.

    Args:
        vectors: Vectors of any rows, ascending.
        order: The eligible rows, best first.
        labels: Cluster of each row, of each stratum, shape (N,).
        first: How many rows, over all clusters, will certainly be needed.
    """

    def __init__(self, vectors: UnitVectors, order: IntArray, labels: NDArray[Any], *, first: int) -> None:
        self._vectors, self._order = vectors, order
        clusters = labels[order].astype(np.int64)
        by_cluster, counts = np.argsort(clusters, kind="stable"), np.bincount(clusters)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        self._depth = np.empty(len(labels), dtype=np.int64)  # how many rows of its cluster are better
        self._depth[order[by_cluster]] = np.arange(len(order)) - starts
        self._reach = first // len(counts)
        self._place = np.full(len(labels), -1, dtype=np.int64)
        self._known = np.empty((0, 0), dtype=np.float32)

    def __getitem__(self, rows: IntArray) -> NDArray[np.float32]:
        """Return the vectors of some rows, shape (n, D)."""
        if (self._place[rows] < 0).any():
            self._reach = max(2 * self._reach, int(self._depth[rows].max()) + 1)
            near = np.sort(self._order[self._depth[self._order] < self._reach])
            new = near[self._place[near] < 0]
            vectors = self._vectors[new]
            self._place[new] = len(self._known) + np.arange(len(new))
            self._known = np.concatenate([self._known, vectors]) if len(self._known) else vectors
        return np.asarray(self._known[self._place[rows]])
