"""Difficulty and discrimination of 100,000 x 20 with gaps, right/wrong and scores: time in all, from a matrix in memory.

Run: python benchmarks/bench_irt.py
"""

import json
import statistics
import sys
import time

import numpy as np

from crowdselect.numeric.irt import items_of

ROWS, MODELS, FILLED, ROUNDS, MOST_SECONDS = 100_000, 20, 0.6, 3, 20.0


def main() -> int:
    """Print one line of JSON per figure; the exit code is 1 if a target is missed."""
    rng = np.random.default_rng(0)
    ability, difficulty = rng.normal(0, 1, MODELS), rng.normal(0, 1.2, (ROWS, 1))
    logits = np.exp(rng.normal(0, 0.5, (ROWS, 1))) * (ability - difficulty)
    missed = False
    for kind, scores in (
        ("right or wrong", (rng.random((ROWS, MODELS)) < 1 / (1 + np.exp(-logits))).astype(float)),
        ("scores", logits + rng.normal(0, 0.7, (ROWS, MODELS))),
    ):
        gaps = np.where(rng.random((ROWS, MODELS)) < FILLED, scores, np.nan)
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            items_of(gaps)
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times)
        missed |= seconds > MOST_SECONDS
        found = {"what": f"irt_difficulty, 100k x 20, {kind}", "value": round(seconds, 2), "unit": "s"}
        print(
            json.dumps({**found, "target": f"<= {MOST_SECONDS:g}", "ok": seconds <= MOST_SECONDS}), flush=True
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
