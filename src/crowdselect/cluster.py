"""Vectors to clusters: k-means that neither row order nor the number of threads can change.

Fitted on a seeded sample where there are many rows, then all rows are assigned. Columns of the pool
can stand in for it (`group_labels`).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OptionError, ShapeError
from crowdselect.ordering import UInt64Array

LabelArray = NDArray[np.int32]

MISSING = "(missing)"
"""Name of the group of rows whose value is missing."""

_SAMPLE = 20_000  # rows fitted on; more bring the centres no closer than the choice of starts does
_SAMPLE_PER_CLUSTER = 100  # ... unless there are very many clusters
_STARTS = 5
_BLOCK = 8_192  # rows assigned at a time


def kmeans(vectors: NDArray[np.float32], *, k: int, keys: UInt64Array, seed: int = 0) -> LabelArray:
    """Partition rows around k centres (Lloyd's algorithm, k-means++ starts, the best of several).

    Args:
        vectors: Shape (N, D), in id order, finite. Unit rows make it a clustering by cosine.
        k: How many clusters are wanted, 1 to N.
        keys: Shape (N,), `ordering.seeded_hash(ids, seed=seed, salt="sample")`. Where N is above 20,000
            (or 100 k, if that is more), the rows with the smallest keys are what the centres are fitted on.
        seed: Of the starts.

    Returns:
        Shape (N,), labels 0 to k' - 1, numbered by the smallest row of each. k' < k only where a cluster
        stayed empty, as when fewer than k rows differ. Equal rows share a label. The same input gives
        the same labels on one machine, whatever its number of threads.

    Raises:
        OptionError: k is below 1 or above N.
        InputError: A number is NaN or infinite.
        ShapeError: `vectors` is not two-dimensional, has no columns, or `keys` is not of length N.

    Example:
        >>> points = np.array([[0.0], [9.0], [0.1], [9.1]], dtype=np.float32)
        >>> kmeans(points, k=2, keys=np.arange(4, dtype=np.uint64))
        array([0, 1, 0, 1], dtype=int32)
    """
    _check(vectors, k=k, keys=keys)
    if k == 1:
        return np.zeros(len(vectors), dtype=np.int32)
    import sklearn.cluster  # noqa: F401  (before the limit: it holds only for the libraries already loaded)
    from threadpoolctl import threadpool_limits

    scaled = _scaled(vectors)
    size = min(len(scaled), max(_SAMPLE, _SAMPLE_PER_CLUSTER * k))
    rows = np.sort(np.argsort(keys, kind="stable")[:size])
    # One thread: scikit-learn adds up the centres per thread, so their last bits depend on how many there are.
    with threadpool_limits(limits=1):
        centres = _fit(scaled[rows], k=k, seed=seed)
        labels = _assign(scaled, centres)
    return _renumber(labels)


def group_labels(values: Sequence[str | None] | NDArray[Any]) -> tuple[LabelArray, list[str]]:
    """Clusters given by a column.

    Args:
        values: N values in id order; None = missing.

    Returns:
        Labels, shape (N,), in code-point order of the value; and the value of each label. Missing values are
        a group of their own, the last, named "(missing)".

    Example:
        >>> group_labels(["maths", None, "code", "maths"])
        (array([1, 2, 0, 1], dtype=int32), ['code', 'maths', '(missing)'])
    """
    names = sorted({value for value in values if value is not None})
    place: dict[str | None, int] = {name: label for label, name in enumerate(names)}
    place[None] = len(names)
    labels = np.array([place[value] for value in values], dtype=np.int32)
    return labels, names + [MISSING] * bool((labels == len(names)).any())


def near(
    vectors: NDArray[np.float32], *, candidate: int, chosen: Sequence[int] | NDArray[np.int64]
) -> tuple[int, float]:
    """Find the chosen row most like a candidate.

    Args:
        vectors: Shape (N, D).
        candidate: A row.
        chosen: Rows to compare it with.

    Returns:
        The chosen row with the highest cosine (the first of `chosen` among equals), and the cosine in
        [-1, 1], higher = more alike. A zero row has cosine 0 with every other. Without chosen rows (-1, -1.0).

    Example:
        >>> near(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], dtype=np.float32), candidate=0, chosen=[1, 2])
        (2, 1.0)
    """
    if not len(chosen):
        return -1, -1.0
    rows, row = vectors[chosen].astype(np.float64), vectors[candidate].astype(np.float64)
    # einsum, not a BLAS product: its sums do not depend on how many rows are compared or how many threads run.
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows) * np.einsum("d,d->", row, row))
    cosines = np.einsum("nd,d->n", rows, row) / np.where(lengths > 0, lengths, 1.0)
    best = int(np.argmax(cosines))
    return int(chosen[best]), float(np.clip(cosines[best], -1.0, 1.0))


def _check(vectors: NDArray[np.float32], *, k: int, keys: UInt64Array) -> None:
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ShapeError(f"vectors must have shape (N, D) with D of at least 1, not {vectors.shape}")
    if keys.shape != (len(vectors),):
        raise ShapeError(f"keys must have shape ({len(vectors)},), one per row of vectors, not {keys.shape}")
    if not 1 <= k <= len(vectors):
        raise OptionError(
            f"{k} clusters of {len(vectors)} instructions; wanted 1 to {len(vectors)} (0 = no clustering)"
        )
    for start in range(0, len(vectors), _BLOCK):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + _BLOCK]).all(axis=1))
        if bad.size:
            raise InputError(
                f"the vector of row {start + bad[0]} holds NaN or infinity; every number must be finite"
            )


def _scaled(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring extreme numbers to where their squares fit a float32; an exact power of two changes no distance order."""
    largest = float(max(vectors.max(), -vectors.min()))
    if largest == 0.0 or 1e-6 < largest < 1e6:
        return np.ascontiguousarray(vectors, dtype=np.float32)
    return np.ldexp(vectors, -int(np.frexp(largest)[1])).astype(np.float32)


def _fit(sample: NDArray[np.float32], *, k: int, seed: int) -> NDArray[np.float32]:
    """Centres, shape (k, D)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer different rows than k: documented, not a fault
        model = KMeans(n_clusters=k, init="k-means++", n_init=_STARTS, random_state=seed % 2**32).fit(sample)
    return np.asarray(model.cluster_centers_, dtype=np.float32)


def _assign(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest centre of each row, the first among equals; blocks are fixed, so that memory is bounded."""
    labels = np.empty(len(vectors), dtype=np.int64)
    squares = np.einsum("kd,kd->k", centres, centres)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        labels[start : start + len(block)] = np.argmin(squares - 2.0 * (block @ centres.T), axis=1)
    return labels


def _renumber(labels: NDArray[np.int64]) -> LabelArray:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int32)
    order[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return order[inverse]
