"""Clusters of a pool that is read file by file: fitted on a sample, assigned text by text, no vectors held."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.embed.models import embedder_kind
from crowdselect.embed.vectors import GivenVectors, LsaVectors, ModelVectors, Reading, Vectors
from crowdselect.engine.here import Run
from crowdselect.numeric.clusters import fit_centres, group_labels, nearest, renumbered, sample_size
from crowdselect.pool.shards import Places
from crowdselect.progress import Progress
from crowdselect.seeding import UInt64Array, reseeded
from crowdselect.selection.clusters import Grouping, check_clusters, nothing_to_read, unit_rows
from crowdselect.selection.look import TEXT_KEY
from crowdselect.selection.merged import Merged
from crowdselect.selection.options import Options
from crowdselect.types import BoolArray, IntArray


def wants_model(options: Options) -> bool:
    """Say whether a model is to embed texts."""
    return wants_vectors(options) and embedder_kind(options.embedder) == "model"


def wants_vectors(options: Options) -> bool:
    """Say whether clusters or near-duplicates need vectors."""
    by_vectors = options.clusters > 0 and options.cluster_by is None
    return by_vectors or options.near_duplicates is not None


def group_shards(
    path: str,
    files: Sequence[Path],
    layout: str,
    merged: Merged,
    *,
    eligible: BoolArray,
    hashes: UInt64Array,
    options: Options,
    run: Run,
    progress: Progress,
) -> tuple[Grouping, Vectors | None]:
    """Do what `crowdselect.selection.clusters.group` does, with the same labels, and no vectors held.

    Args:
        path: Of the pool.
        files: The shards.
        layout: Of the pool.
        merged: What was found in them.
        eligible: Which rows may be chosen, shape (N,).
        hashes: Content hash of each id, shape (N,).
        options: `clusters`, `cluster_by`, `embedder`, `near_duplicates`, `cache` and `seed` count here.
        run: Has the texts read and worked on.
        progress: Told how many texts are done.

    Returns:
        The clusters; and what gives vectors of eligible rows, where the options need some.

    Raises:
        OptionError: More clusters than eligible rows, or an embedder that reads text where there is none.
    """
    rows = np.flatnonzero(eligible)
    labels, names = np.zeros(len(eligible), dtype=np.int64), None
    by_vectors = options.clusters > 0 and options.cluster_by is None
    if by_vectors:
        check_clusters(options.clusters, len(rows))
    if options.cluster_by is not None:
        labels[rows], names = group_labels(merged.numbers("group")[rows])
    clustered = by_vectors or options.cluster_by is not None
    if not wants_vectors(options):
        return Grouping(labels, names, None, None, clustered=clustered), None
    kind = embedder_kind(options.embedder)
    if kind in {"lsa", "model"} and not merged.table["digest"].is_valid().to_numpy().any():
        raise nothing_to_read(path, options.embedder)
    fitted = by_vectors and options.clusters > 1
    keys = reseeded(hashes[rows], seed=options.seed, salt="sample")
    by_key = np.argsort(keys, kind="stable")
    sample = np.sort(by_key[: sample_size(options.clusters)])
    reading = Reading(files, layout, Places.of(merged.shard, merged.row, shards=len(merged.facts)), run)
    vectors: Vectors
    if kind == "lsa":
        vectors = LsaVectors(reading, rows, by_key, sample=len(sample), seed=options.seed)
    elif kind == "model":
        vectors = ModelVectors(
            reading,
            merged.table[TEXT_KEY],
            options.embedder,
            trust_remote_code=options.trust_remote_code,
            cache=options.cache,
            progress=progress,
        )
        if fitted:
            vectors.embed(rows)
    else:
        vectors = GivenVectors(reading, merged.table["id"].take(rows).combine_chunks(), options.embedder)
        if not fitted:  # all of them have to be usable, also where few are needed
            vectors.labels(rows, vectors.of(rows[:1]), progress)
    if fitted:
        ready = vectors.of(rows[sample])
        centres = fit_centres(ready, k=options.clusters, keys=keys[sample], seed=options.seed)
        whole = len(sample) == len(rows)  # a small pool need not be read once more
        raw = nearest(ready, centres) if whole else vectors.labels(rows, centres, progress)
        labels[rows] = renumbered(raw)
    else:
        vectors.of(rows[:1])  # the name says how many dimensions there are
    return Grouping(labels, names, None, vectors.name, clustered=clustered, notes=vectors.notes), vectors


class Lookahead:
    """Gives `crowdselect.numeric.quotas.choose` vectors of length 1 of the rows it walks along, and of the next ones, at once.

    Args:
        vectors: Of any rows.
        order: The eligible rows, best first.
        labels: Cluster of each row, shape (N,).
        first: How many rows, of all clusters together, are sure to be asked for.
    """

    def __init__(self, vectors: Vectors, order: IntArray, labels: NDArray[Any], *, first: int) -> None:
        self._vectors, self._order = vectors, order
        clusters = labels[order].astype(np.int64)
        by_cluster, counts = np.argsort(clusters, kind="stable"), np.bincount(clusters)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        self._depth = np.empty(len(labels), dtype=np.int64)  # how many of its cluster are better than a row
        self._depth[order[by_cluster]] = np.arange(len(order)) - starts
        self._reach = first // len(counts)
        self._place = np.full(len(labels), -1, dtype=np.int64)
        self._known = np.empty((0, 0), dtype=np.float32)

    def __getitem__(self, rows: IntArray) -> NDArray[np.float32]:
        """Give the vectors of some rows, shape (n, D)."""
        if (self._place[rows] < 0).any():
            self._reach = max(2 * self._reach, int(self._depth[rows].max()) + 1)
            near = np.sort(self._order[self._depth[self._order] < self._reach])
            new = near[self._place[near] < 0]
            found = unit_rows(self._vectors.of(new))
            self._place[new] = len(self._known) + np.arange(len(new))
            self._known = np.concatenate([self._known, found]) if len(self._known) else found
        return np.asarray(self._known[self._place[rows]])
