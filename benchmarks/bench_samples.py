"""The metrics of 100,000 instructions x 10 models x 8 samples, against DuckDB's own read of the four columns.

The pool is one Parquet file of 8 million rows, with its instructions, or all its rows, in shuffled order. What is timed is all
that `crowdselect metrics` does but writing: opening, reading, putting answers in order, means and variances of samples, metrics;
and a selection of the best samples.

Run: python benchmarks/bench_samples.py
"""

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crowdselect import Options, open_pool, select
from crowdselect.selection.look import look_at
from crowdselect.selection.rows import metrics_table

ROWS, MODELS, SAMPLES, ROUNDS = 100_000, 10, 8, 5


def write(folder: Path) -> dict[str, Path]:
    """A pool of rewards alone, right or wrong: its instructions shuffled, and all of its rows."""
    rng = np.random.default_rng(0)
    names = [f"{family}-{size}b" for family in ("oak", "elm") for size in (1, 3, 7, 14, 72)]
    order = np.repeat(rng.permutation(ROWS), MODELS * SAMPLES)
    table = pa.table(
        {
            "id": pa.array([f"q{i:06d}" for i in range(ROWS)]).take(pa.array(order)),
            "model": pa.array(names).take(pa.array(np.tile(np.repeat(np.arange(MODELS), SAMPLES), ROWS))),
            "sample": np.tile(np.arange(SAMPLES), ROWS * MODELS),
            "score": (rng.random(len(order)) < 0.5).astype(np.float64),
        }
    )
    files = {
        "as models wrote them": folder / "pool.parquet",
        "all rows shuffled": folder / "shuffled.parquet",
    }
    for file, own in zip(files.values(), (table, table.take(rng.permutation(len(table)))), strict=True):
        pq.write_table(own, file, compression="zstd")
    return files


def read(path: Path) -> None:
    """DuckDB's own read."""
    with duckdb.connect() as connection:
        connection.sql(f"SELECT id, model, sample, score FROM '{path}'").to_arrow_table()


def measure(path: Path) -> None:
    """All that `crowdselect metrics` does but writing."""
    with open_pool(path) as pool:
        table = metrics_table(look_at(pool, options=None)[1])
    if table["within"].null_count or len(table) != ROWS:
        raise RuntimeError("a metric is missing")


def choose(path: Path) -> None:
    """A selection of the best samples, without text and clusters."""
    with open_pool(path) as pool:
        chosen = select(pool, Options(budget=1000, clusters=0))
    if chosen.counts()["selected"] != 1000:
        raise RuntimeError("a row is missing")


def seconds(works: Sequence[Callable[[Path], None]], path: Path) -> list[float]:
    """The median times of a few rounds, each of which does all."""
    times: list[list[float]] = []
    for _ in range(ROUNDS):
        times.append([])
        for work in works:
            begin = time.perf_counter()
            work(path)
            times[-1].append(time.perf_counter() - begin)
    return [statistics.median(own) for own in zip(*times, strict=True)]


def main() -> None:
    """Print a JSON line per file and work."""
    with tempfile.TemporaryDirectory() as folder:
        for rows, path in write(Path(folder)).items():
            duck, *ours = seconds((read, measure, choose), path)
            for what, taken in zip(("metrics", "select"), ours, strict=True):
                print(
                    json.dumps(
                        {
                            "what": f"{what} of {ROWS} x {MODELS} x {SAMPLES} samples, {rows}",
                            "duckdb_s": round(duck, 2),
                            "ours_s": round(taken, 2),
                            "times": round(taken / duck, 2),
                            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
                        }
                    )
                )


if __name__ == "__main__":
    main()
