"""The metrics of 100,000 instructions x 10 models x 8 samples, against DuckDB's own read of the four columns.

The pool is one Parquet file of 8 million rows, in shuffled order of instructions. What is timed is all that
`crowdselect metrics` does but writing: opening, reading, putting answers in order, means and variances of samples, metrics.

Run: python benchmarks/bench_samples.py
"""

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crowdselect.pool.pool import open_pool
from crowdselect.selection.look import look_at
from crowdselect.selection.rows import metrics_table

ROWS, MODELS, SAMPLES, ROUNDS = 100_000, 10, 8, 3


def write(path: Path) -> None:
    """A pool of rewards alone: right or wrong."""
    rng = np.random.default_rng(0)
    names = [f"{family}-{size}b" for family in ("oak", "elm") for size in (1, 3, 7, 14, 72)]
    order = np.repeat(rng.permutation(ROWS), MODELS * SAMPLES)
    ids = pa.array([f"q{i:06d}" for i in range(ROWS)]).take(pa.array(order))
    models = pa.array(names).take(pa.array(np.tile(np.repeat(np.arange(MODELS), SAMPLES), ROWS)))
    table = {
        "id": ids,
        "model": models,
        "sample": np.tile(np.arange(SAMPLES), ROWS * MODELS),
        "score": (rng.random(len(ids)) < 0.5).astype(np.float64),
    }
    pq.write_table(pa.table(table), path, compression="zstd")


def seconds(work: Callable[[], Any]) -> float:
    """The median time of a few rounds."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    """Print one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.parquet"
        write(path)

        def read() -> None:
            with duckdb.connect() as connection:
                connection.sql(f"SELECT id, model, sample, score FROM '{path}'").to_arrow_table()

        def measure() -> None:
            with open_pool(path) as pool:
                table = metrics_table(look_at(pool, options=None)[1])
            if table["within"].null_count or len(table) != ROWS:
                raise RuntimeError("a metric is missing")

        duck, ours = seconds(read), seconds(measure)
    print(
        json.dumps(
            {
                "what": f"metrics of {ROWS} x {MODELS} x {SAMPLES} samples",
                "duckdb_s": round(duck, 2),
                "ours_s": round(ours, 2),
                "times": round(ours / duck, 2),
                "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
