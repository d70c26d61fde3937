"""Time and memory of the default embedder: 100,000 instructions of 30 words, nothing cached.

    python benchmarks/bench_lsa.py [--rows 100000]

Prints one JSON line per figure.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from crowdselect.embed.vectors import vectors_of

sys.path.insert(0, str(Path(__file__).parent))
from _texts import topic_texts

SECONDS, GIGABYTES = 40.0, 2.0


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    texts, _ = topic_texts(rows, words=30, topics=40, seed=0)
    ids = [f"id{row:08d}" for row in range(rows)]
    before = _peak()
    start = time.perf_counter()
    vectors = vectors_of(texts, ids=ids, cache=False).of(np.arange(rows))
    seconds = time.perf_counter() - start
    facts = {
        "rows": rows,
        "words_per_text": 30,
        "dimensions": vectors.shape[1],
        "different_words": len(set(" ".join(texts[:20_000]).split())),
        "cores": os.cpu_count(),
        "zero_rows": int((np.abs(vectors).sum(axis=1) == 0).sum()),
        "peak_before_gb": round(before, 2),
    }
    good = True
    for what, value, unit, target in (
        ("lsa, seconds", seconds, "s", SECONDS),
        ("lsa, peak memory of the process (texts included)", _peak(), "GB", GIGABYTES),
    ):
        ok = value <= target
        good = good and ok
        print(
            json.dumps(
                {
                    "what": what,
                    "value": round(value, 2),
                    "unit": unit,
                    "target": f"<= {target:g}",
                    "ok": ok,
                    **facts,
                }
            )
        )
    return 0 if good else 1


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    sys.exit(main())
