"""Choosing from 10 million instructions with text on one machine: memory, and time per row against 1 million.

    make bench-large     (or: python benchmarks/bench_large.py [--rows 10000000] [--models 12] [--only select|ranks])

Pools are folders of Parquet shards of `simulate` (zoo layout, answers of 80 characters), written once into
benchmarks/out/ and kept. The command is the user's own, `crowdselect select`, in a process of its own. Then uniform
ranks over 100 million numbers: NumPy, which the choice uses, and DuckDB, which can spill to disk; they must be equal.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "out"
SMALL, BUDGET, CLUSTERS = 1_000_000, 10_000, 30
RANKED = 100_000_000
_MB = 1_000_000


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--models", type=int, default=12, help="a multiple of 3, at most 36")
    parser.add_argument("--only", choices=("select", "ranks"))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        return _child(*parsed.child)
    good = True
    selects = _selects(parsed.rows, parsed.models) if parsed.only != "ranks" else iter(())
    for found in chain(selects, _ranks() if parsed.only != "select" else ()):
        print(json.dumps(found), flush=True)
        good &= found["ok"]
    return 0 if good else 1


def _selects(rows: int, models: int) -> Iterator[dict[str, Any]]:
    small, large = (_select(_pool(count, models), count) for count in (SMALL, rows))
    for facts in (small, large):
        yield _figure(
            f"select {facts['rows']:,} x {models} with text, seconds", facts["seconds"], "s", **facts
        )
    yield _figure(f"select {rows:,}, peak memory", large["peak_mb"], "MB", target=8000)
    per_row, cpu = ((large[name] / rows) / (small[name] / SMALL) for name in ("seconds", "cpu_s"))
    what = f"time per row at {rows:,}, times that at {SMALL:,}"
    yield _figure(what, round(per_row, 2), "x", target=1.3, by_cpu_time=round(cpu, 2))


def _pool(rows: int, models: int) -> Path:
    """Write the pool, unless it is there."""
    folder = OUT / f"large-{rows}-{models}"
    if not folder.exists():
        OUT.mkdir(exist_ok=True)
        start = time.perf_counter()
        code = (
            "from crowdselect.simulate.pool import simulate\n"
            f"simulate({str(folder)!r}, instructions={rows}, families={models // 3}, layout='zoo', answer_chars=80, "
            f"shards={max(2, rows // 500_000)})"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        size = sum(file.stat().st_size for file in folder.iterdir()) // _MB
        print(f"# wrote {folder.name}: {size} MB in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return folder


def _select(pool: Path, rows: int) -> dict[str, Any]:
    """Run the command in a child of a child, whose peak is then that of this child's children."""
    target = OUT / f"{pool.name}-chosen"
    shutil.rmtree(target, ignore_errors=True)
    facts = _in_child("select", str(pool))
    manifest = json.loads((target / "manifest.json").read_text())
    return {"rows": rows, **facts, "stages_s": manifest["seconds"], "chosen": manifest["counts"]["selected"]}


def _in_child(what: str, where: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", what, where], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _child(what: str, where: str) -> int:
    start = time.perf_counter()
    who, facts = resource.RUSAGE_SELF, {}
    if what == "select":
        who = resource.RUSAGE_CHILDREN
        command = "from crowdselect.cli.main import main; main()"
        options = ["--budget", str(BUDGET), "--clusters", str(CLUSTERS), "-o", f"{where}-chosen"]
        run = [sys.executable, "-c", command, "select", where, *options]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    else:
        facts = _numpy_ranks() if what == "numpy" else _duckdb_ranks(Path(where))
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"seconds": seconds, **_used(who), **facts}))
    return 0


def _used(who: int = resource.RUSAGE_SELF) -> dict[str, Any]:
    used = resource.getrusage(who)
    return {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "peak_mb": used.ru_maxrss * 1024 // _MB}


def _ranks() -> Iterator[dict[str, Any]]:
    place = OUT / "ranks"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for what in ("numpy", "duckdb"):
        facts = _in_child(what, str(place))
        if "ranks_that_differ" in facts:
            differ = facts.pop("ranks_that_differ")
            yield _figure(f"uniform ranks of {RANKED:,} numbers that differ", differ, "", target=0)
        yield _figure(f"uniform ranks of {RANKED:,} numbers, {what}", facts.pop("sort_s"), "s", **facts)
    shutil.rmtree(place)


def _numbers() -> Any:  # noqa: ANN401  (an array)
    import numpy as np

    return np.round(np.random.default_rng(0).normal(size=RANKED), 6)  # a few million ties


def _numpy_ranks() -> dict[str, Any]:
    values = _numbers()
    start = time.perf_counter()
    _ranks_by_numpy(values)
    return {"sort_s": round(time.perf_counter() - start, 1), **_used()}


def _ranks_by_numpy(values: Any) -> Any:  # noqa: ANN401  (arrays)
    import numpy as np

    from crowdselect.numeric.ranks import uniform_ranks

    return uniform_ranks(values, np.ones(RANKED, dtype=bool))


def _duckdb_ranks(place: Path) -> dict[str, Any]:
    """The same ranks by DuckDB from Parquet to Parquet, in 4 GB; compared one by one once that is measured."""
    import duckdb
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"row": np.arange(RANKED), "v": _numbers()}), place / "metrics.parquet")
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(place / "spill")}) as connection:
        start = time.perf_counter()
        connection.execute(
            "COPY (WITH counted AS (SELECT v, count(*) AS n FROM read_parquet($1) GROUP BY v), "
            "placed AS (SELECT v, (2 * sum(n) OVER (ORDER BY v) - n - 1) / 2 / ($2 - 1) AS rank FROM counted) "
            "SELECT row, rank FROM read_parquet($1) JOIN placed USING (v)) TO '"
            + str(place / "ranks.parquet")
            + "'",
            [str(place / "metrics.parquet"), float(RANKED)],
        )
        seconds = round(time.perf_counter() - start, 1)
    facts, found = _used(), np.full(RANKED, np.nan)
    with pq.ParquetFile(place / "ranks.parquet") as file:
        for batch in file.iter_batches(1 << 20):
            found[batch["row"].to_numpy()] = batch["rank"].to_numpy()
    differ = int((found != _ranks_by_numpy(_numbers())).sum())
    return {"sort_s": seconds, **facts, "ranks_that_differ": differ}


def _figure(
    what: str, value: float, unit: str, *, target: float | None = None, **facts: object
) -> dict[str, Any]:
    """One measured number beside its target, which is never to be exceeded here."""
    good = target is None or value <= target
    return {"what": what, "value": value, "unit": unit, "target": target, "ok": good, **facts}


if __name__ == "__main__":
    sys.exit(main())
