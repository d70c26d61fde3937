"""The three metrics on 100,000 x 19 rewards, against the per-row algorithm of the paper's authors.

Their algorithm is written out here from its description in the paper and its code: a dictionary of rewards
per instruction, one instruction at a time, ranks from a reversed argsort (so that equal rewards count in
favour of the larger model), SciPy's `spearmanr` for each of the six families. It is timed on 2,000 rows.

Run: python benchmarks/bench_metrics.py
"""

import json
import statistics
import time

import numpy as np
from scipy.stats import spearmanr

from crowdselect.numeric.metrics import compute_metrics

FAMILIES = {
    "gemma-2": [2, 9, 27],
    "llama-3": [8, 70],
    "llama-3.1": [8, 70, 405],
    "phi-3": [3.8, 7, 14],
    "qwen2": [1.5, 7, 72],
    "qwen2.5": [3, 7, 14, 32, 72],
}
ROWS, TIMED_ROWS, ROUNDS = 100_000, 2_000, 7


def authors_row(rewards: dict[str, float]) -> tuple[float, float, float]:
    """One instruction, as the authors do it."""
    values = list(rewards.values())
    hard = -(sum(values) / len(values))
    apart = float(np.var(values))
    rhos, start = [], 0
    for sizes in FAMILIES.values():
        part = values[start : start + len(sizes)]
        start += len(sizes)
        base = np.arange(len(sizes), 0, -1)  # 1 = the largest
        order = np.argsort(part, kind="stable")[
            ::-1
        ]  # numpy's default leaves the order of ties to the processor
        rank = np.empty(len(part))
        rank[order] = np.arange(1, len(part) + 1)
        rhos.append(spearmanr(rank, base).statistic)
    return hard, apart, float(np.mean(rhos))


def main() -> None:
    """Time both in turn, compare their values, print one line of JSON."""
    rng = np.random.default_rng(0)
    scores = np.asfortranarray(np.round(rng.normal(size=(ROWS, 19)), 1))  # one decimal: ties are common
    sizes = np.array([size for family in FAMILIES.values() for size in family])
    families = [name for name, family in FAMILIES.items() for _ in family]
    rows = [{str(j): float(value) for j, value in enumerate(row)} for row in scores[:TIMED_ROWS]]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        metrics = compute_metrics(scores, sizes=sizes, families=families, ties="paper")
        ours.append(time.perf_counter() - start)
    for _ in range(3):
        start = time.perf_counter()
        expected = np.array([authors_row(row) for row in rows])
        theirs.append((time.perf_counter() - start) * ROWS / TIMED_ROWS)
    for name, column in zip(metrics, expected.T, strict=True):
        np.testing.assert_allclose(metrics[name][:TIMED_ROWS], column, rtol=1e-9, atol=1e-12)
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(
        json.dumps(
            {
                "what": "three metrics, 100k x 19, times faster than the authors' per-row algorithm",
                "value": round(ratio),
                "unit": "x",
                "target": 5000,
                "ok": ratio >= 5000,
                "ours_ms": round(statistics.median(ours) * 1e3, 1),
                "theirs_s": round(statistics.median(theirs), 1),
                "same_values": True,
            }
        )
    )


if __name__ == "__main__":
    main()
