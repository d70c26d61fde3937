"""Which instructions are alike: clusters of the eligible rows, from vectors or from a column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.embed.models import Embedding, embed, lsa_name
from crowdselect.errors import OptionError
from crowdselect.numeric import lsa
from crowdselect.numeric.clusters import fit_centres, group_labels, kmeans, nearest, renumbered, sample_size
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress
from crowdselect.seeding import seeded_hash
from crowdselect.selection.options import Options
from crowdselect.types import BoolArray, IntArray

LARGE = 1_000_000
"""Rows from which on vectors that only clusters need are not held: a million rows of them are 1 GB."""

_BLOCK = 8_192  # rows embedded and assigned at a time


@dataclass(frozen=True, slots=True)
class Grouping:
    """Clusters of the eligible rows."""

    labels: NDArray[Any]
    """Shape (N,), 0 to K - 1; rows that are not eligible have 0, and it says nothing."""
    names: list[str] | None
    """The column's values in the order of the labels, with `cluster_by`."""
    vectors: NDArray[np.float32] | None
    """Shape (N, D), unit length, where they were asked for."""
    embedder: str | None
    """Which embedder was used, in words."""
    clustered: bool
    """Whether there are clusters at all."""
    notes: tuple[str, ...] = ()
    """One-line facts to tell the user."""


def group(
    pool: Pool,
    texts: NDArray[Any],
    eligible: BoolArray,
    options: Options,
    progress: Progress,
    *,
    vectors: bool = False,
) -> Grouping:
    """Cluster the eligible rows as the options say.

    Args:
        pool: For the columns that the options name.
        texts: The instructions, shape (N,), None = no text.
        eligible: Which rows may be chosen, shape (N,).
        options: `clusters`, `cluster_by`, `embedder`, `near_duplicates` and `seed` count here.
        progress: Told how many texts are embedded.
        vectors: Give vectors whatever the options are.

    Returns:
        Labels, and vectors where `vectors` or near-duplicates ask for them.

    Raises:
        OptionError: More clusters than eligible rows, or an embedder that reads text where there is none.
    """
    rows = np.flatnonzero(eligible)
    labels = np.zeros(len(eligible), dtype=np.int64)
    by_column = options.cluster_by is not None
    by_vectors = not by_column and options.clusters > 0
    if by_vectors:
        check_clusters(options.clusters, len(rows))
    names = None
    if options.cluster_by is not None:
        labels[rows], names = group_labels(pool.column(options.cluster_by)[rows])
    kept = vectors or options.near_duplicates is not None
    if not by_vectors and not kept:
        return Grouping(labels, names, None, None, clustered=by_column)
    if by_vectors and not kept and options.embedder == "lsa" and len(rows) > LARGE:
        labels[rows], name = _lsa_clusters(pool, texts, rows, options, progress)
        return Grouping(labels, None, None, name, clustered=True)
    embedding = embed_rows(pool, texts, rows, options, progress)
    if by_vectors:
        labels[rows] = cluster_rows(pool, embedding, rows, k=options.clusters, seed=options.seed)
    unit = unit_vectors(embedding, rows, n=len(eligible)) if kept else None
    return Grouping(
        labels, names, unit, embedding.name, clustered=by_vectors or by_column, notes=embedding.notes
    )


def _lsa_clusters(
    pool: Pool, texts: NDArray[Any], rows: IntArray, options: Options, progress: Progress
) -> tuple[NDArray[np.int32], str]:
    """Do what `embed_rows` and `cluster_rows` do by `lsa`, without ever holding all vectors."""
    _embeddable(pool, texts[:0], "lsa")
    keys, k = seeded_hash(pool.ids[rows], seed=options.seed, salt="sample"), options.clusters
    by_key = np.argsort(keys, kind="stable")
    basis = lsa.fit([texts[row] for row in rows[np.sort(by_key[: lsa.SAMPLE])]], seed=options.seed)
    name = lsa_name(len(rows), basis.directions.shape[1])
    if k == 1:
        return np.zeros(len(rows), dtype=np.int32), name
    chosen = np.sort(by_key[: sample_size(k)])
    sample = lsa.project([texts[row] for row in rows[chosen]], basis)
    centres = fit_centres(sample, k=k, keys=keys[chosen], seed=options.seed)
    labels = np.empty(len(rows), dtype=np.int64)
    for begin in range(0, len(rows), _BLOCK):
        block = rows[begin : begin + _BLOCK]
        labels[begin : begin + len(block)] = nearest(lsa.project(list(texts[block]), basis), centres)
        progress(begin + len(block), len(rows))
    return renumbered(labels), name


def check_clusters(clusters: int, eligible: int) -> None:
    """Refuse more clusters than rows.

    Raises:
        OptionError: There are.
    """
    if clusters > eligible:
        raise OptionError(
            f"clusters={clusters} is more than the {eligible} eligible instructions; lower --clusters (0 = none)"
        )


def embed_rows(
    pool: Pool, texts: NDArray[Any], rows: IntArray, options: Options, progress: Progress
) -> Embedding:
    """Give some rows vectors, by the embedder of the options.

    Args:
        pool: The pool.
        texts: All its instructions, shape (N,).
        rows: Which of them.
        options: `embedder`, `seed`, `cache` and `trust_remote_code` count here.
        progress: Told how many texts are embedded.

    Returns:
        Vectors of the rows, in their order.

    Raises:
        OptionError: An embedder that reads text where there is none.
    """
    return embed(
        _embeddable(pool, texts[rows], options.embedder),
        ids=pool.ids[rows],  # type: ignore[arg-type]  # an array of str
        embedder=options.embedder,
        seed=options.seed,
        cache=options.cache,
        trust_remote_code=options.trust_remote_code,
        column=_vector_column(pool, options.embedder, rows),
        progress=progress,
    )


def cluster_rows(pool: Pool, embedding: Embedding, rows: IntArray, *, k: int, seed: int) -> NDArray[np.int32]:
    """Cut rows into k clusters by their vectors; see `crowdselect.numeric.clusters.kmeans`."""
    keys = seeded_hash(pool.ids[rows], seed=seed, salt="sample")
    return kmeans(embedding.vectors, k=k, keys=keys, seed=seed)


def unit_vectors(embedding: Embedding, rows: IntArray, *, n: int) -> NDArray[np.float32]:
    """Bring the vectors of some of N rows to length 1, shape (N, D); zero for the other rows."""
    unit = np.zeros((n, embedding.vectors.shape[1]), dtype=np.float32)
    unit[rows] = unit_rows(embedding.vectors)
    return unit


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring rows to length 1, also those whose squares do not fit a float32; a zero row stays."""
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))[:, None]
    return np.asarray(vectors / np.where(length == 0, 1, length), dtype=np.float32)


def _embeddable(pool: Pool, texts: NDArray[Any], embedder: str) -> Sequence[str | None]:
    given = embedder.startswith(("file:", "column:"))
    if not given and not pool.has_text:
        raise nothing_to_read(pool.path, embedder)
    return list(texts)


def nothing_to_read(path: str, embedder: str) -> OptionError:
    """Say that a pool has no text to embed."""
    return OptionError(
        f"{path}: no instruction has text, so embedder {embedder} has nothing to read; use --clusters 0, "
        "--cluster-by COLUMN, --embedder file:VECTORS or --embedder column:NAME"
    )


def _vector_column(pool: Pool, embedder: str, rows: IntArray) -> NDArray[Any] | None:
    kind, _, name = embedder.partition(":")
    return pool.vector_column(name)[rows] if kind == "column" else None
