"""k-means against scikit-learn's `KMeans(n_init=20)` (the paper's setting) at its default threads, in one run.

    python benchmarks/bench_cluster.py [--rows 100000] [--seeds 3] [--vectors simulated topics random]

100,000 x 256, K = 30, on `lsa` vectors of the texts of `simulate`, on those of a looser mixture of topics, and
on random directions. Prints one JSON line per figure.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from crowdselect.embed.vectors import vectors_of
from crowdselect.numeric.clusters import kmeans
from crowdselect.seeding import seeded_hash
from crowdselect.simulate.pool import simulate

sys.path.insert(0, str(Path(__file__).parent))
from _texts import topic_texts

K, DIMENSIONS = 30, 256
FASTER, INERTIA = 20.0, 1.01


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", nargs="+", choices=sorted(VECTORS), default=["simulated", "random"])
    asked = parser.parse_args()
    ids = [f"id{row:08d}" for row in range(asked.rows)]
    results = []
    for seed in range(asked.seeds):
        for name in asked.vectors:
            results += _compare(name, VECTORS[name](asked.rows, seed), ids=ids, seed=seed)
    return 0 if all(results) else 1


def _compare(name: str, vectors: NDArray[np.float32], *, ids: list[str], seed: int) -> list[bool]:
    keys = seeded_hash(ids, seed=seed, salt="sample")
    start = time.perf_counter()
    labels = kmeans(vectors, k=K, keys=keys, seed=seed)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    theirs_model = KMeans(n_clusters=K, n_init=20, random_state=seed).fit(vectors)
    theirs = time.perf_counter() - start
    ratio = _inertia(vectors, labels) / _inertia(vectors, theirs_model.labels_)
    facts = {
        "vectors": name,
        "seed": seed,
        "shape": list(vectors.shape),
        "k": K,
        "seconds": round(ours, 2),
        "sklearn_seconds": round(theirs, 2),
        "cores": os.cpu_count(),
    }
    lines = (
        (
            "k-means, times faster than KMeans(n_init=20)",
            theirs / ours,
            "x",
            f">= {FASTER:g}",
            theirs / ours >= FASTER,
        ),
        ("k-means, inertia against KMeans(n_init=20)", ratio, "x", f"<= {INERTIA:g}", ratio <= INERTIA),
    )
    for what, value, unit, target, ok in lines:
        line = {
            "what": what,
            "value": round(float(value), 4),
            "unit": unit,
            "target": target,
            "ok": bool(ok),
            **facts,
        }
        print(json.dumps(line), flush=True)
    return [bool(line[-1]) for line in lines]


def _inertia(vectors: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """Sum of squared distances to the mean of the own cluster, in float64, the same rule for both."""
    total = 0.0
    for label in np.unique(labels):
        members = vectors[labels == label].astype(np.float64)
        total += float(((members - members.mean(axis=0)) ** 2).sum())
    return total


def _simulated_vectors(rows: int, seed: int) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "pool.parquet"
        simulate(file, instructions=rows, families=1, layout="matrix", seed=seed)
        table = pq.read_table(file, columns=["id", "instruction"]).sort_by("id")
    texts, ids = table["instruction"].to_pylist(), table["id"].to_pylist()
    return vectors_of(texts, ids=ids, seed=seed, cache=False).of(np.arange(rows))


def _topic_vectors(rows: int, seed: int) -> NDArray[np.float32]:
    texts, _ = topic_texts(rows, words=30, topics=40, seed=seed)
    ids = [f"id{row:08d}" for row in range(rows)]
    return vectors_of(texts, ids=ids, seed=seed, cache=False).of(np.arange(rows))


def _random_vectors(rows: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, DIMENSIONS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = {"simulated": _simulated_vectors, "topics": _topic_vectors, "random": _random_vectors}

if __name__ == "__main__":
    sys.exit(main())
