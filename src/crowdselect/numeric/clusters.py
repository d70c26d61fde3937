"""K-means clustering of vectors, whose result depends neither on row order nor on the number of threads.

If there are many rows, the centres are fitted on a seeded sample and all rows assigned to them. A bad start is
repaired rather than drawn again: as long as it makes the clusters tighter, the two clusters that lose least by
merging are merged and the one that gains most by splitting is split. That is as good as the best of twenty starts,
in about the time of one. A column of the pool can be used instead (`group_labels`).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OptionError, ShapeError
from crowdselect.seeding import UInt64Array
from crowdselect.types import Float32Array

LabelArray = NDArray[np.int32]

MISSING = "(missing)"
"""Name of the group of rows whose value is missing."""

_SAMPLE = 20_000  # rows that the centres are fitted on: with more they hardly move
_SAMPLE_PER_CLUSTER = 100  # ... unless there are very many clusters
_SEARCH = 10_000  # rows of the sample on which starts and exchanges are tried
_SEARCH_PER_CLUSTER = 20
_STARTED_ROWS = 20_000  # a small pool gets more starts for the same work
_MOST_STARTS = 10
_ROUNDS = 12  # most rounds of exchanges
_MISSES = 2  # rounds without gain before giving up: each splits clusters in other directions
_BLOCK = 8_192  # rows assigned at a time
_EXACT = 1 << 20  # products at a time when rows are assigned exactly


def kmeans(vectors: Float32Array, *, k: int, keys: UInt64Array, seed: int = 0) -> LabelArray:
    """Partition rows around k centres (Lloyd's algorithm, k-means++ starts, the best of several).

    Args:
        vectors: Shape (N, D), in id order, finite. Unit rows make it a clustering by cosine.
        k: How many clusters to make, 1 to N.
        keys: Shape (N,), `seeding.seeded_hash(ids, seed=seed, salt="sample")`. If N is above 20,000
            (or 100 k, if that is more), the centres are fitted on the rows with the smallest keys.
        seed: Seed of the starts.

    Returns:
        Shape (N,), labels 0 to k' - 1, numbered by the smallest row of each. k' < k only if a cluster
        stayed empty, as when fewer than k rows differ. Equal rows share a label. The same input yields
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
    return renumbered(nearest(vectors, fit_centres(vectors, k=k, keys=keys, seed=seed)))


def sample_size(k: int) -> int:
    """Return how many rows at most the centres are fitted on."""
    return max(_SAMPLE, _SAMPLE_PER_CLUSTER * k, _SEARCH_PER_CLUSTER * k)


def fit_centres(vectors: Float32Array, *, k: int, keys: UInt64Array, seed: int = 0) -> Float32Array:
    """Find the centres of `kmeans`.

    Args:
        vectors: Shape (n, D), in id order: all rows, or at least the `sample_size(k)` with the smallest keys.
        k: How many clusters to make, 2 to n.
        keys: Shape (n,), as for `kmeans`.
        seed: Seed of the starts.

    Returns:
        Shape (k, D).

    Example:
        >>> points = np.array([[0.0], [9.0], [0.2], [9.2]], dtype=np.float32)
        >>> sorted(fit_centres(points, k=2, keys=np.arange(4, dtype=np.uint64))[:, 0].round(1).tolist())
        [0.10000000149011612, 9.100000381469727]
    """
    import sklearn.cluster  # noqa: F401  (before the limit, which holds only for libraries already loaded)
    from threadpoolctl import threadpool_limits

    by_key = np.argsort(keys, kind="stable")
    # One thread: scikit-learn sums the centres per thread, so their last bits depend on the number of threads.
    with threadpool_limits(limits=1):
        return _fit(vectors, by_key, k=k, seed=seed)


def binned(values: NDArray[np.float64], count: int) -> NDArray[np.object_]:
    """Cut numbers into bins of equal count, lowest first.

    Args:
        values: Shape (n,). NaN = missing.
        count: B, how many bins. Equal values stay together, so there may be fewer, of unequal counts.

    Returns:
        Shape (n,): the name of each value's bin, its number and its ends, in the order of bins; None = missing.

    Example:
        >>> binned(np.array([0.0, 0.5, 1.0, 1.0]), 2).tolist()
        ['1: 0 to 0.5', '1: 0 to 0.5', '2: 1 to 1', '2: 1 to 1']
    """
    out = np.full(len(values), None, dtype=object)
    known = np.flatnonzero(~np.isnan(values))
    found, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    own = (
        count * (2 * before + counts) // (2 * max(len(known), 1))
    )  # by the middle of each run of equal values
    _, bins = np.unique(own, return_inverse=True)
    width = len(str(int(bins.max(initial=0)) + 1))
    names = [
        f"{number + 1:0{width}}: {found[bins == number].min():g} to {found[bins == number].max():g}"
        for number in range(int(bins.max(initial=-1)) + 1)
    ]
    out[known] = np.array(names, dtype=object)[bins[place]] if len(known) else None
    return out


def group_labels(values: Sequence[str | None] | NDArray[Any]) -> tuple[LabelArray, list[str]]:
    """Use the values of a column as clusters.

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
    label_of: dict[str | None, int] = {name: label for label, name in enumerate(names)}
    label_of[None] = len(names)
    labels = np.array([label_of[value] for value in values], dtype=np.int32)
    return labels, names + [MISSING] * bool((labels == len(names)).any())


def near(
    vectors: Float32Array, *, candidate: int, chosen: Sequence[int] | NDArray[np.int64]
) -> tuple[int, float]:
    """Find the chosen row most similar to a candidate.

    Args:
        vectors: Shape (N, D).
        candidate: A row.
        chosen: Rows to compare it with.

    Returns:
        The chosen row with the highest cosine (the first of `chosen` among equals), and the cosine in
        [-1, 1], higher = more similar. A zero row has cosine 0 with every other. Without chosen rows (-1, -1.0).

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


def _check(vectors: Float32Array, *, k: int, keys: UInt64Array) -> None:
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


def _fit(vectors: Float32Array, by_key: NDArray[np.int64], *, k: int, seed: int) -> Float32Array:
    """Fit centres, shape (k, D): the start and the exchanges on a part of the sample, the last steps on all of it."""
    sample = by_key[: max(_SAMPLE, _SAMPLE_PER_CLUSTER * k)]
    power = _power(vectors[sample])
    search = np.ldexp(vectors[np.sort(by_key[: max(_SEARCH, _SEARCH_PER_CLUSTER * k)])], -power)
    starts = min(_MOST_STARTS, max(1, _STARTED_ROWS // len(search)))
    centres = _lloyd(search, k=k, seed=seed, starts=starts, steps=20)
    centres = _exchange(search, centres, rng=np.random.default_rng(seed % 2**64))
    centres = _lloyd(np.ldexp(vectors[np.sort(sample)], -power), k=k, init=centres)
    return np.asarray(np.ldexp(centres, power), dtype=np.float32)


def _power(vectors: Float32Array) -> int:
    """Return the power of two by which to divide extreme numbers, so that squares fit a float32; this keeps all orders."""
    largest = float(max(vectors.max(), -vectors.min()))
    return 0 if largest == 0.0 or 1e-6 < largest < 1e6 else int(np.frexp(largest)[1])


def _lloyd(
    rows: Float32Array,
    *,
    k: int,
    init: Float32Array | None = None,
    seed: int = 0,
    starts: int = 1,
    steps: int = 300,
) -> Float32Array:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer distinct rows than k: documented, not an error
        model = KMeans(
            n_clusters=k,
            init="k-means++" if init is None else init,
            n_init=starts,
            max_iter=steps,
            random_state=seed % 2**32,
        ).fit(rows)
    return np.asarray(model.cluster_centers_, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Partition:
    centres: Float32Array  # (k, D)
    labels: NDArray[np.int64]  # (n,)
    nearest: Float32Array  # (n,), squared distance to the row's own centre
    second: Float32Array  # (n,), and to the next one
    total: float


def _exchange(rows: Float32Array, centres: Float32Array, *, rng: np.random.Generator) -> Float32Array:
    """Merge two clusters and split another as long as that lowers the total squared distance."""
    best, misses = _partition(rows, centres), 0
    for _ in range(_ROUNDS):
        changed = _merged_and_split(rows, best, rng=rng)
        if changed is not None:
            tried = _partition(rows, _lloyd(rows, k=len(centres), init=changed, steps=5))
            if tried.total < best.total:
                best, misses = tried, 0
                continue
        misses += 1
        if misses == _MISSES:
            break
    return best.centres


def _merged_and_split(
    rows: Float32Array, now: _Partition, *, rng: np.random.Generator
) -> Float32Array | None:
    """Return the centres after all worthwhile exchanges, the best first; None if there is none."""
    k = len(now.centres)
    loss = np.bincount(
        now.labels, weights=now.second - now.nearest, minlength=k
    )  # of assigning a cluster's rows to their second-nearest centres
    halves, gain = _halves(rows, now, rng=rng)
    centres, used = now.centres.copy(), set[int]()
    splits = np.argsort(-gain, kind="stable").tolist()
    for dropped in np.argsort(loss, kind="stable").tolist():
        split = next((cluster for cluster in splits if cluster not in used and cluster != dropped), None)
        if split is None or gain[split] <= loss[dropped] or len(used) >= k // 2:
            break
        if dropped not in used:
            centres[split], centres[dropped] = halves[split]
            used |= {split, dropped}
    return centres if used else None


def _halves(
    rows: Float32Array, now: _Partition, *, rng: np.random.Generator
) -> tuple[Float32Array, NDArray[np.float64]]:
    """Run 2-means inside every cluster at once: centres (k, 2, D), and the gain of splitting each cluster (k,)."""
    k = len(now.centres)
    sizes = np.bincount(now.labels, minlength=k)
    ends = np.cumsum(sizes)
    drawn = np.clip(ends - sizes + (rng.random(k) * sizes).astype(np.int64), 0, len(rows) - 1)
    # The first cut runs through the centre, towards a random row of the cluster; then a few Lloyd steps.
    along = rows[np.argsort(now.labels, kind="stable")[drawn]] - now.centres
    cut = np.einsum("kd,kd->k", now.centres, along)
    for _ in range(6):
        right = np.einsum("nd,nd->n", rows, along[now.labels]) > cut[now.labels]
        sums, counts = _sums(rows, 2 * now.labels + right, k=2 * k)
        halves = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32).reshape(k, 2, -1)
        along = halves[:, 1] - halves[:, 0]
        cut = (
            np.einsum("kd,kd->k", halves[:, 1], halves[:, 1])
            - np.einsum("kd,kd->k", halves[:, 0], halves[:, 0])
        ) / 2
    parts = counts.reshape(k, 2).astype(np.float64)
    weight = parts.prod(axis=1) / np.maximum(parts.sum(axis=1), 1)
    return halves, weight * np.einsum("kd,kd->k", along, along)


def _sums(rows: Float32Array, labels: NDArray[np.int64], *, k: int) -> tuple[Float32Array, NDArray[np.int64]]:
    from scipy.sparse import csr_matrix

    count = len(rows)
    member = csr_matrix((np.ones(count, np.float32), labels, np.arange(count + 1)), shape=(count, k))
    return np.asarray(member.T @ rows), np.bincount(labels, minlength=k)


def _partition(rows: Float32Array, centres: Float32Array) -> _Partition:
    labels = np.empty(len(rows), dtype=np.int64)
    nearest, second = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        here, each = slice(start, start + len(block)), np.arange(len(block))
        distances = np.einsum("nd,nd->n", block, block)[:, None] + _relative(block, centres)
        labels[here] = np.argmin(distances, axis=1)
        nearest[here] = distances[each, labels[here]]
        distances[each, labels[here]] = np.inf
        second[here] = distances.min(axis=1)
    return _Partition(centres, labels, nearest, second, float(nearest.sum(dtype=np.float64)))


def _relative(block: Float32Array, centres: Float32Array) -> Float32Array:
    """Compute squared distances minus the row's own square, (n, k): the same order, with one product."""
    return np.asarray(np.einsum("kd,kd->k", centres, centres) - 2.0 * (block @ centres.T), dtype=np.float32)


def nearest(vectors: Float32Array, centres: Float32Array) -> NDArray[np.int64]:
    """Find the nearest centre of each row, independently of the other rows passed with it.

    A matrix product sums in another order for another number of rows. So it only decides the clear cases; where two
    centres are about equally near, the distances are computed row by row in double precision.

    Args:
        vectors: Shape (n, D).
        centres: Shape (k, D).

    Returns:
        Shape (n,), the first among equally near centres.

    Example:
        >>> nearest(np.array([[0.0], [5.0]], np.float32), np.array([[4.0], [0.0]], np.float32)).tolist()
        [1, 0]
    """
    labels = np.zeros(len(vectors), dtype=np.int64)
    if len(centres) == 1:
        return labels
    power = _power(centres)
    scaled = np.ldexp(centres, -power)
    reach = float(np.sqrt(np.einsum("kd,kd->k", scaled, scaled).max()))
    rounding = 4.0 * vectors.shape[1] * float(np.finfo(np.float32).eps)
    for start in range(0, len(vectors), _BLOCK):
        rows = vectors[start : start + _BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):  # a row far beyond all centres is unclear
            block = np.ldexp(rows, -power) if power else rows
            distances = _relative(block, scaled)
            two = np.partition(distances, 1, axis=1)
            length = np.sqrt(np.einsum("nd,nd->n", block, block))
            clear = two[:, 1] - two[:, 0] > rounding * reach * (length + reach)
        block_labels, unclear = np.argmin(distances, axis=1), np.flatnonzero(~clear)
        block_labels[unclear] = _nearest_exactly(rows[unclear], centres)
        labels[start : start + len(rows)] = block_labels
    return labels


def _nearest_exactly(rows: Float32Array, centres: Float32Array) -> NDArray[np.int64]:
    """Do the same with one fixed order of addition, whatever the other rows, and for numbers of any size."""
    out = np.empty(len(rows), dtype=np.int64)
    wide = centres.astype(np.float64)
    norms = (wide * wide).sum(axis=1)
    step = max(1, _EXACT // wide.size)
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        products = (block[:, None, :] * wide[None, :, :]).sum(axis=2)
        out[start : start + len(block)] = np.argmin(norms - 2.0 * products, axis=1)
    return out


def renumbered(labels: NDArray[np.int64]) -> LabelArray:
    """Number clusters by the smallest row of each.

    Example:
        >>> renumbered(np.array([7, 7, 2])).tolist()
        [0, 0, 1]
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int32)
    order[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return order[inverse]
