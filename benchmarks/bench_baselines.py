"""deita's walk and facility location on 100,000 x 256 vectors, beside a naive computation and apricot-select.

    python benchmarks/bench_baselines.py [--rows 100000] [--budget 1000] [--small 4000]

The others hold all pairs of rows, so they run on `--small` rows; apricot only where it is installed (pip install
apricot-select). Prints one JSON line per figure; each of ours runs in a process of its own, for its peak memory.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crowdselect.methods.facility_location import NearGraph, gains, near_graph, parts, recall
from crowdselect.numeric.quotas import choose
from crowdselect.seeding import seeded_hash

DIMENSIONS, COSINE, NEIGHBOURS = 256, 0.9, 50
SECONDS, GIGABYTES = 60.0, 2.0

Vectors = NDArray[np.float32]
Keys = NDArray[np.uint64]


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--small", type=int, default=4000)
    parser.add_argument("--one", choices=sorted(OURS))
    asked = parser.parse_args()
    if asked.one:
        _one(asked.one, asked.rows, asked.budget)
        return 0
    few = min(asked.budget, asked.small // 160)  # half of what deita's walk can keep of so few rows
    ok = True
    for name in OURS:
        for rows, budget in ((asked.small, few), (asked.rows, asked.budget)):
            command = [
                sys.executable,
                __file__,
                "--one",
                name,
                "--rows",
                str(rows),
                "--budget",
                str(budget),
            ]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for what, unit, target in (("seconds", "s", SECONDS), ("gigabytes", "GB", GIGABYTES)):
                ok &= _line(
                    f"{name}, {what}",
                    found[what],
                    unit,
                    target,
                    found | {"rows": rows, "budget": budget},
                )
    keys, vectors = _keys(asked.small), _vectors(asked.small)
    for name, run in OTHERS.items():
        seconds, same = run(vectors, keys, few)
        _line(name, seconds, "s", None, {"rows": asked.small, "budget": few, "same_choice": same})
        ok &= same
    return 0 if ok else 1


def _line(what: str, value: float, unit: str, target: float | None, facts: dict[str, object]) -> bool:
    ok = target is None or value <= target
    line = {
        "what": what,
        "value": round(value, 3),
        "unit": unit,
        "target": None if target is None else f"<= {target:g}",
        "ok": ok,
        "cores": os.cpu_count(),
    }
    print(json.dumps({**facts, **line}), flush=True)
    return ok


def _one(name: str, rows: int, budget: int) -> None:
    keys, vectors = _keys(rows), _vectors(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    _, facts = OURS[name](vectors, keys, budget)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"seconds": seconds, "gigabytes": peak / 1e6, "with_vectors_alone": before / 1e6, **facts})
    )


def _keys(rows: int) -> Keys:
    return seeded_hash([f"id{row:08d}" for row in range(rows)], seed=0, salt="tie")


def _vectors(rows: int) -> Vectors:
    """40 topics, and in each families of 80 rows that say nearly the same: the walk has much to pass over."""
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(40, DIMENSIONS)).astype(np.float32)
    families = topics[rng.integers(0, 40, -(-rows // 80))] + rng.normal(
        size=(-(-rows // 80), DIMENSIONS)
    ).astype(np.float32)
    made = np.repeat(families, 80, axis=0)[:rows]
    made += np.float32(0.4) * rng.normal(size=made.shape).astype(np.float32)
    rng.shuffle(made)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def _score(rows: int) -> NDArray[np.float64]:
    """Complexity x quality, each of 1 to 6: many ties."""
    rng = np.random.default_rng(1)
    return rng.integers(1, 7, rows).astype(np.float64) * rng.integers(1, 7, rows)


def _deita(vectors: Vectors, keys: Keys, budget: int) -> tuple[list[int], dict[str, object]]:
    n = len(vectors)
    choice = choose(
        _score(n),
        labels=np.zeros(n, dtype=np.int64),
        keys=keys,
        groups=np.arange(n),
        budget=budget,
        vectors=vectors,
        near_duplicates=COSINE,
    )
    chosen = np.argsort(np.where(choice.rank > 0, choice.rank, n + 1))[:budget].tolist()
    return chosen, {"passed_over": int((choice.near_duplicate_of >= 0).sum())}


def _graph(vectors: Vectors, keys: Keys) -> NearGraph:
    labels = parts(vectors, labels=np.zeros(len(vectors), dtype=np.int64), keys=keys)
    return near_graph(vectors, labels=labels, neighbours=NEIGHBOURS)


def _facility(vectors: Vectors, keys: Keys, budget: int) -> tuple[list[int], dict[str, object]]:
    n = len(vectors)
    start = time.perf_counter()
    graph = _graph(vectors, keys)
    of_graph = time.perf_counter() - start
    score = gains(
        graph,
        weights=np.ones(n),
        candidates=np.ones(n, dtype=bool),
        labels=np.zeros(n, dtype=np.int64),
        keys=keys,
        depths={0: budget},
    )
    facts: dict[str, object] = {
        "seconds_of_graph": round(of_graph, 3),
        "seconds_of_greedy": round(time.perf_counter() - start - of_graph, 3),
        "recall_of_neighbours": round(recall(graph, vectors, keys=keys, neighbours=NEIGHBOURS), 3),
    }
    return np.lexsort((keys, -score))[:budget].tolist(), facts


def _naive_deita(vectors: Vectors, keys: Keys, budget: int) -> tuple[float, bool]:
    """Compare all pairs first, as the filters do that need N x N memory; then walk."""
    start = time.perf_counter()
    cosines = vectors @ vectors.T
    kept: list[int] = []
    for row in np.lexsort((keys, -_score(len(vectors)))):
        if len(kept) == budget:
            break
        if not kept or cosines[row, kept].max() <= COSINE:
            kept.append(int(row))
    return time.perf_counter() - start, kept == _deita(vectors, keys, budget)[0]


def _dense(graph: NearGraph) -> NDArray[np.float64]:
    n = len(graph.starts) - 1
    matrix = np.zeros((n, n))
    matrix[np.repeat(np.arange(n), np.diff(graph.starts)), graph.near] = graph.likeness
    return matrix


def _naive_facility(vectors: Vectors, keys: Keys, budget: int) -> tuple[float, bool]:
    """Every gain anew for every row chosen, 100 at most: the rest would take as long again each time. On our graph."""
    matrix = _dense(_graph(vectors, keys))
    start = time.perf_counter()
    cover, chosen = np.zeros(len(matrix)), []
    for _ in range(min(budget, 100)):
        gain = np.maximum(matrix - cover, 0.0).sum(axis=1)
        gain[chosen] = -1.0
        chosen.append(int(np.lexsort((keys, -gain))[0]))
        cover = np.maximum(cover, matrix[chosen[-1]])
    return time.perf_counter() - start, chosen == _facility(vectors, keys, budget)[0][: len(chosen)]


def _apricot(vectors: Vectors, keys: Keys, budget: int) -> tuple[float, bool]:
    """Its lazy greedy on our graph; the second fit counts, as the first compiles."""
    import apricot

    matrix = _dense(_graph(vectors, keys))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            start = time.perf_counter()
            model = apricot.FacilityLocationSelection(budget, metric="precomputed", optimizer="lazy")
            model.fit(matrix)
            seconds = time.perf_counter() - start
    ours = _facility(vectors, keys, budget)[0]
    # Rows of equal gain may come in another order: what both choices are worth is the same.
    worth = [float(matrix[rows].max(axis=0).sum()) for rows in (ours, model.ranking.tolist())]
    return seconds, bool(abs(worth[0] - worth[1]) <= 1e-3 * worth[1])


OURS: dict[str, Callable[[Vectors, Keys, int], tuple[list[int], dict[str, object]]]] = {
    "deita": _deita,
    "facility-location": _facility,
}
OTHERS: dict[str, Callable[[Vectors, Keys, int], tuple[float, bool]]] = {
    "deita, all pairs first (naive)": _naive_deita,
    "facility-location, 100 rows, every gain anew (naive)": _naive_facility,
}
if importlib.util.find_spec("apricot") is not None:
    OTHERS["facility-location, apricot-select"] = _apricot

if __name__ == "__main__":
    sys.exit(main())
