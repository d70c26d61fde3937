"""The clusters of a page and its map: made for the rows that it begins with; every other row has the nearest cluster."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdselect.numeric.clusters import group_labels
from crowdselect.progress import Progress
from crowdselect.report.projection import spread_out
from crowdselect.seeding import reseeded
from crowdselect.selection.clusters import group, unit_rows, vectors_for
from crowdselect.selection.options import Options
from crowdselect.selection.reading import Shards, cluster_column, embeddable, number_of_bins
from crowdselect.selection.rows import Rows
from crowdselect.types import BoolArray, FloatArray, IntArray

NONE = 65_535
"""The label of a row that no setting can choose."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the rows of a page lie: in which cluster, and on the map."""

    labels: NDArray[np.uint16] | None
    """Shape (N,); None = there are no clusters."""
    names: list[str]
    """By label."""
    begin: BoolArray | None
    """The rows that the clusters were made for, shape (N,); None = the values of a column, whichever rows are eligible."""
    xy: NDArray[np.float32] | None
    """Shape (N, 2), NaN = not on the map; None = there is no map, as the options need no vectors."""
    words: str | None
    """How the map was made."""
    notes: tuple[str, ...] = ()


def spread_of(
    shards: Shards,
    rows: Rows,
    options: Options,
    *,
    begin: BoolArray,
    possible: BoolArray,
    progress: Progress,
) -> Spread:
    """Cluster the rows that a page begins with, as `select` does, and give each other row the nearest cluster.

    Args:
        shards: The pool.
        rows: What is known of it.
        options: Those that the page begins with.
        begin: Which rows are eligible then, shape (N,).
        possible: Which rows some setting may choose, shape (N,).
        progress: Called with the number of texts done.
    """
    labels, by = np.full(len(rows), NONE, dtype=np.uint16), options.cluster_by
    if by is None and not options.clusters:
        return Spread(None, [], None, None, None)
    bins = number_of_bins(options, shards.pool)
    if by is not None and bins is None:
        column = cluster_column(shards, rows, options, possible)
        labels[possible], names = group_labels(np.asarray(column)[possible])
        return Spread(labels, names, None, None, None)
    column = cluster_column(shards, rows, options, begin)
    found = group(
        embeddable(shards, rows, options, begin), begin, rows.hashes, options, progress, column=column
    )
    labels[begin] = found.labels[begin]
    names = found.names or [str(label) for label in range(int(found.labels[begin].max()) + 1)]
    others = np.flatnonzero(possible & ~begin)
    if bins is not None:
        labels[others] = _by_value(rows.number(bins[0]), labels, others)
        return Spread(labels, names, begin, None, None, found.notes)
    taken = np.flatnonzero(possible)
    keys = reseeded(rows.hashes[taken], seed=options.seed, salt="sample")
    opened = vectors_for(
        embeddable(shards, rows, options, possible), taken, keys, options, progress, k=options.clusters
    )
    vectors = unit_rows(opened.of(taken))
    if others.size:
        labels[others] = _by_mean(vectors, labels[taken], np.searchsorted(taken, others))
    if len(taken) < 3:
        return Spread(labels, names, begin, None, None, found.notes)
    xy = np.full((len(rows), 2), np.nan, dtype=np.float32)
    placed, how = spread_out(
        vectors, reseeded(rows.hashes[taken], seed=options.seed, salt="map"), seed=options.seed
    )
    xy[taken] = np.round(placed, 3)  # finer than a pixel
    words = (
        f"{len(taken):,} rows, by {how}, of the vectors of {found.embedder}. Only nearness means something."
    )
    return Spread(labels, names, begin, xy, words, found.notes)


def _by_value(values: FloatArray, labels: NDArray[np.uint16], others: IntArray) -> NDArray[np.uint16]:
    """Give rows the label of the labelled row whose value is nearest, of two that of the lower; without a value the lowest."""
    known = np.flatnonzero((labels != NONE) & ~np.isnan(values))
    if not known.size:
        return np.zeros(len(others), dtype=np.uint16)
    order = known[np.argsort(values[known], kind="stable")]
    wanted = np.nan_to_num(values[others], nan=-np.inf)
    above = np.minimum(np.searchsorted(values[order], wanted), len(order) - 1)
    below = np.maximum(above - 1, 0)
    lower = wanted - values[order[below]] <= values[order[above]] - wanted
    return labels[order[np.where(lower, below, above)]]


def _by_mean(vectors: NDArray[np.float32], labels: NDArray[np.uint16], others: IntArray) -> IntArray:
    """Give rows the label of the cluster whose mean vector is nearest by cosine, of two the lower."""
    own = [vectors[labels == label] for label in range(int(labels[labels != NONE].max()) + 1)]
    means = np.stack([each.mean(axis=0, dtype=np.float64) for each in own]).astype(np.float32)
    return np.asarray((vectors[others] @ unit_rows(means).T).argmax(axis=1))
