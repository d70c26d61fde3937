"""A map of the instructions: vectors of a sample, projected to two dimensions."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crowdselect.embed.vectors import vectors_of
from crowdselect.errors import CrowdselectError
from crowdselect.progress import Progress
from crowdselect.report.data import Map, ReportData
from crowdselect.seeding import UInt64Array
from crowdselect.types import FloatArray, IntArray

Method = Literal["tsne", "pca", "none"]

METHODS = ("tsne", "pca", "none")
"""Projection methods."""

POINTS = 3_000
"""Maximum number of points."""

_CHOSEN = (
    2_000  # maximum of chosen points if there are more than POINTS eligible rows, to leave room for others
)
_FEW = 30  # with fewer rows, t-SNE's neighbourhoods are the whole pool
_REDUCED = 50  # dimensions that t-SNE works on
_NEAR = 5  # placed rows among which another one lies
_AT_ONCE = 2_000  # rows placed at a time


def project(run: ReportData, *, method: str = "tsne", progress: Progress | None = None) -> Map:
    """Project a sample of the eligible rows to a map, by the vectors of the run's embedder.

    Args:
        run: The run. All chosen rows are included if there are at most 2,000.
        method: "tsne", "pca" or "none".
        progress: Called with the number of texts embedded.

    Returns:
        The map; without vectors it has no points, and its description says why.

    Example:
        >>> METHODS
        ('tsne', 'pca', 'none')
    """
    rows = sample(run)
    if method == "none":
        return _nothing("left out as asked")
    if len(rows) < 3:
        return _nothing("fewer than three rows can be chosen")
    try:
        vectors, name = _vectors(run, rows, progress)
    except CrowdselectError as error:
        return _nothing(f"there are no vectors: {error}")
    if vectors is None:
        return _nothing(name)
    if not np.ptp(vectors, axis=0).any():
        return _nothing("all vectors are the same")
    small = method == "tsne" and len(rows) < _FEW
    xy = _pca(vectors, 2) if method == "pca" or small else _tsne(vectors, run.options.get("seed", 0))
    xy = _fitted(xy)
    how = "the two leading principal components" if method == "pca" or small else "t-SNE"
    eligible, chosen = int(run.eligible.sum()), int(run.chosen.sum())
    chosen_on_map = int(run.chosen[rows].sum())
    part = (
        f"all {eligible:,} eligible instructions"
        if len(rows) == eligible
        else f"{len(rows):,} of {eligible:,} eligible instructions, drawn by seed, with "
        + (
            f"all {chosen:,} chosen ones"
            if chosen_on_map == chosen
            else f"{chosen_on_map:,} of {chosen:,} chosen ones"
        )
    )
    return Map(rows, xy, f"{part}, by {how} of the vectors of {name}")


def spread_out(vectors: NDArray[Any], keys: UInt64Array, *, seed: int) -> tuple[FloatArray, str]:
    """Place any number of rows on a map: a sample by t-SNE, every other row among its nearest sampled ones.

    Args:
        vectors: Unit vectors, shape (n, D).
        keys: One per row; the rows with the smallest are sampled.
        seed: Of t-SNE.

    Returns:
        Shape (n, 2), both axes within [-1, 1]; and how it was made.

    Example:
        >>> spread_out(np.eye(4, dtype=np.float32), np.arange(4, dtype=np.uint64), seed=0)[0].shape
        (4, 2)
    """
    taken = np.sort(np.argsort(keys, kind="stable")[:POINTS])
    sampled = vectors[taken]
    small = len(taken) < _FEW or not np.ptp(sampled, axis=0).any()
    placed = _pca(sampled, 2) if small else _tsne(sampled, seed)
    xy = np.empty((len(vectors), 2))
    xy[taken] = placed
    others = np.delete(np.arange(len(vectors)), taken)
    for block in np.array_split(others, max(1, len(others) // _AT_ONCE)) if len(others) else ():
        closeness = vectors[block] @ sampled.T
        near = np.argpartition(-closeness, _NEAR, axis=1)[:, :_NEAR]
        weight = np.maximum(np.take_along_axis(closeness, near, axis=1), 1e-6).astype(np.float64)
        xy[block] = np.einsum("nk,nkd->nd", weight / weight.sum(axis=1, keepdims=True), placed[near])
    how = "the two leading principal components" if small else "t-SNE"
    if len(others):
        how += (
            f" of {len(taken):,} of them; the others lie among the {_NEAR} of these that are most like them"
        )
    return _fitted(xy), how


def _fitted(xy: FloatArray) -> FloatArray:
    """Centre and scale to [-1, 1], both axes alike."""
    xy = (xy - xy.min(axis=0)) / max(float(np.ptp(xy, axis=0).max()), 1e-12) * 2
    return np.asarray(xy - xy.max(axis=0) / 2)


def sample(run: ReportData) -> IntArray:
    """Return the rows of the map, in row order; a seeded sample that prefers chosen rows if there are too many."""
    eligible = np.flatnonzero(run.eligible)
    if len(eligible) <= POINTS:
        return eligible
    chosen = run.sample(np.flatnonzero(run.chosen), _CHOSEN, salt="report map")
    others = run.sample(np.flatnonzero(run.eligible & ~run.chosen), POINTS - len(chosen), salt="report map")
    return np.sort(np.concatenate([chosen, others]))


def _nothing(why: str) -> Map:
    return Map(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), why)


def _vectors(run: ReportData, rows: IntArray, progress: Progress | None) -> tuple[NDArray[Any] | None, str]:
    """Return vectors of some rows and the embedder's name; or None and why there are none.

    `lsa` depends on the texts it is fitted on: with the cache, it is fitted on all eligible ones, whose vectors the run
    has stored there. Other embedders work row by row. A manifest never allows remote code.
    """
    pool, options, texts = run.pool, run.options, run.texts
    embedder = options.get("embedder", "lsa")
    kind, _, name = embedder.partition(":")
    if pool is None:
        return None, "the pool could not be read"
    given = kind in {"file", "column"}
    if texts is None and not given:
        return None, "the pool holds no instruction text"
    fitted = embedder == "lsa" and bool(options.get("cache", True)) and bool(run.facts.get("embedder"))
    embedded = np.flatnonzero(run.eligible) if fitted else rows
    column = None
    if kind == "column":
        place = {instruction: row for row, instruction in enumerate(pool.ids)}
        column = pool.vector_column(name)[[place[i] for i in run.ids[embedded]]]
    vectors = vectors_of(
        [None] * len(embedded) if texts is None else list(texts[embedded]),
        ids=list(run.ids[embedded]),
        embedder=embedder,
        seed=options.get("seed", 0),
        cache=bool(options.get("cache", True)),
        column=column,
        progress=progress,
    )
    return vectors.of(np.searchsorted(embedded, rows)), vectors.name


def _pca(vectors: NDArray[Any], dimensions: int) -> FloatArray:
    """Project to the leading principal components, shape (n, dimensions), by the exact D x D covariance."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    leading = directions[:, ::-1][:, :dimensions]
    # The sign of a direction is arbitrary: make the largest entry positive.
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    projected = np.zeros((len(vectors), dimensions))
    projected[:, : leading.shape[1]] = centred @ leading
    return projected


def _tsne(vectors: NDArray[Any], seed: int) -> FloatArray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    reduced = _pca(vectors, min(_REDUCED, vectors.shape[1]))
    start = reduced[:, :2] / max(float(reduced[:, 0].std()), 1e-12) * 1e-4
    made = TSNE(
        init=start.astype(np.float32),
        perplexity=min(20.0, (len(vectors) - 1) / 3),
        random_state=seed % 2**32,
        angle=0.8,  # half the time of the default, with neighbours preserved as well
        max_iter=400,
    )
    # One thread: threads synchronise at every step, and their sums differ in the last bits.
    with threadpool_limits(limits=1):
        return np.asarray(made.fit_transform(reduced.astype(np.float32)), dtype=np.float64)
