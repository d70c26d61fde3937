"""Reading a zoo-shaped pool's rewards against DuckDB's own scan, and whole selections from large pools.

The pools are simulated once and kept in benchmarks/out/. Every figure is measured in a child process of
its own, so that peak memory is that of the figure alone; this process imports nothing large.

Run: python benchmarks/bench_pool.py
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "out"
ZOO = OUT / "zoo-100000x19-1500.parquet"
ZOO_GAPS = OUT / "zoo-100000x19-1500-gaps.parquet"
MATRIX = OUT / "matrix-10000000x19.parquet"
ROUNDS = 5
BUDGET = 1000


def main() -> None:
    """Print one line of JSON per figure."""
    OUT.mkdir(exist_ok=True)
    pools = (simulated(ZOO, target=90), simulated(ZOO_GAPS, target=90), simulated(MATRIX, target=60))
    for figures in (*pools, read_scores(), select_zoo(), select_matrix()):
        for line in figures:
            print(json.dumps(line), flush=True)


def simulated(file: Path, *, target: float) -> Iterator[dict[str, Any]]:
    """Make the pool if it is not there; a pool that is there tells what it took."""
    kept = file.with_suffix(".json")
    if not (file.exists() and kept.exists()):
        kept.write_text(json.dumps(child("simulate", file)), encoding="utf-8")
    facts = json.loads(kept.read_text(encoding="utf-8"))
    yield figure(f"simulate {file.stem}", facts.pop("seconds"), unit="s", target=target, **facts)


def read_scores() -> Iterator[dict[str, Any]]:
    """Pool.scores() against DuckDB's own time for the same columns, in turn in one process."""
    facts = child("scan", ZOO)
    yield figure(
        "score columns of a zoo-shaped Parquet, times DuckDB's own scan",
        round(facts["scores_s"] / facts["duckdb_s"], 2),
        unit="x",
        target=1.5,
        **facts,
        peak_mb_scores=child("scores", ZOO)["peak_mb"],
    )


def select_zoo() -> Iterator[dict[str, Any]]:
    """The whole selection without embedding and clustering, in scans of the score columns plus the fetch.

    Twice: where every answer has text, which Parquet's statistics prove, and where one in 200 is empty, so
    that all answers have to be looked at.
    """
    for file, answers in ((ZOO, "no empty answer"), (ZOO_GAPS, "0.5 % empty answers")):
        facts = child("select_zoo", file)
        ratio = (facts["seconds"] - facts["fetch_s"]) / facts["duckdb_s"]
        what = f"whole select on the zoo-shaped Parquet, {answers}"
        yield figure(
            f"{what}, without its fetch, times DuckDB's own scan",
            round(ratio, 2),
            unit="x",
            target=3,
            **facts,
        )
        yield figure(f"{what}, peak memory", facts["peak_mb"], unit="MB", target=1500)


def select_matrix() -> Iterator[dict[str, Any]]:
    """Metrics, combination and choice by category from ten million rows."""
    facts = child("select_matrix", MATRIX)
    yield figure(
        "matrix 10 million x 19, select by category", facts.pop("seconds"), unit="s", target=90, **facts
    )
    yield figure("matrix 10 million x 19, peak memory", facts["peak_mb"], unit="MB", target=8000)


def figure(what: str, value: float, *, unit: str, target: float, **facts: object) -> dict[str, Any]:
    """One measured number beside its target, which is never to be exceeded here."""
    return {"what": what, "value": value, "unit": unit, "target": target, "ok": value <= target, **facts}


def child(name: str, file: Path) -> dict[str, Any]:
    """Run one of `CHILDREN` in a process of its own; its facts and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, __file__, name, str(file)], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def child_simulate(file: Path) -> dict[str, Any]:
    """Write one of the two pools."""
    from crowdselect.simulate.pool import simulate

    start = time.perf_counter()
    if file == MATRIX:
        simulate(
            file, instructions=10_000_000, crowd="paper", layout="matrix", with_text=False, overwrite=True
        )
    else:
        options = {"empty": 0.0} if file == ZOO else {}
        simulate(
            file,
            instructions=100_000,
            crowd="paper",
            layout="zoo",
            answer_chars=1500,
            overwrite=True,
            **options,
        )
    return {"seconds": round(time.perf_counter() - start, 1), "file_mb": file.stat().st_size // 1_000_000}


def child_scan(file: Path) -> dict[str, Any]:
    """Median seconds of DuckDB's read of ids and rewards, and of opening the pool and taking its scores."""
    from crowdselect.pool.pool import open_pool

    def scores() -> None:
        with open_pool(file) as pool:
            pool.scores()

    floor, sums = duckdb_scan(file), duckdb_scan(file, sums=True)
    floors, summed, ours = [], [], []
    for _ in range(ROUNDS):
        floors.append(seconds(floor))
        summed.append(seconds(sums))
        ours.append(seconds(scores))
    return {
        "duckdb_s": round(statistics.median(floors), 4),
        "duckdb_sums_s": round(statistics.median(summed), 4),
        "scores_s": round(statistics.median(ours), 4),
    }


def duckdb_scan(file: Path, *, sums: bool = False) -> Callable[[], None]:
    """DuckDB's own read of ids and rewards into Arrow (or, with `sums`, its sums over them: nothing handed over).

    Connecting is included; run once, so that the file is in memory.
    """
    import duckdb
    import pyarrow.parquet as pq

    models = [name for name in pq.read_schema(file).names if name.startswith("sim-")]
    leaves = [f'"{model}".simulated_reward' for model in models]
    wanted = ["sum(strlen(uuid))", *(f"sum({leaf})" for leaf in leaves)] if sums else ["uuid", *leaves]

    def scan() -> None:
        with duckdb.connect() as connection:
            connection.sql(f"SELECT {', '.join(wanted)} FROM read_parquet('{file}')").to_arrow_table()

    scan()
    return scan


def child_scores(file: Path) -> dict[str, Any]:
    """Take the scores once, for their peak memory."""
    from crowdselect.pool.pool import open_pool

    with open_pool(file) as pool:
        return {"rows": len(pool.scores())}


def child_select_zoo(file: Path) -> dict[str, Any]:
    """Select without clusters and fetch the chosen answers; the median run, and DuckDB's scan in between."""
    scan, sums = duckdb_scan(file), duckdb_scan(file, sums=True)
    floors, summed, runs = [], [], []
    for _ in range(ROUNDS):
        floors.append(seconds(scan))
        summed.append(seconds(sums))
        runs.append(select_from(file, clusters=0))
    middle = sorted(runs, key=lambda run: run["seconds"] - run["fetch_s"])[ROUNDS // 2]
    return {
        **middle,
        "duckdb_s": round(statistics.median(floors), 4),
        "duckdb_sums_s": round(statistics.median(summed), 4),
    }


def child_select_matrix(file: Path) -> dict[str, Any]:
    """Select by the topic column; there is no answer to fetch."""
    return select_from(file, cluster_by="topic")


def select_from(file: Path, **options: Any) -> dict[str, Any]:  # noqa: ANN401  (fields of Options, which checks them)
    """Seconds of the whole selection, from opening the pool, and of the fetch of the chosen answers in it."""
    from crowdselect import Options, open_pool, select

    start = time.perf_counter()
    with open_pool(file) as pool:
        selection = select(pool, Options(budget=BUDGET, **options))
        chosen = selection.rows()
        fetch = time.perf_counter()
        if pool.has_responses:
            pool.responses([(row["id"], row["model"]) for row in chosen])
        end = time.perf_counter()
    return {
        "seconds": round(end - start, 3),
        "fetch_s": round(end - fetch, 3),
        "rows": len(chosen),
        "stages_s": {name: round(value, 3) for name, value in selection.seconds.items()},
    }


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


CHILDREN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "simulate": child_simulate,
    "scan": child_scan,
    "scores": child_scores,
    "select_zoo": child_select_zoo,
    "select_matrix": child_select_matrix,
}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        facts = CHILDREN[sys.argv[1]](Path(sys.argv[2]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000
        print(json.dumps({**facts, "peak_mb": peak}))
    else:
        main()
