"""The choice for a student beside the crowd's own, on the zoo-shaped pool of 100,000 x 19: time, memory, and the fit alone.

The pool is simulated once and kept in benchmarks/out/ (that of bench_pool.py). Both choices are made without clusters, in
turn, each in a process of its own, so that peak memory is that of the choice alone.

Run: python benchmarks/bench_student.py
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "out"
ZOO = OUT / "zoo-100000x19-1500.parquet"
METHODS = ("crowd", "teachable")
ROUNDS, BUDGET = 5, 1000
MORE_SECONDS, TIMES_MEMORY = 3.0, 2.0


def main() -> int:
    """Print one line of JSON per figure; the exit code is 1 if a target is missed."""
    OUT.mkdir(exist_ok=True)
    if not ZOO.exists():
        child("simulate")
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for _ in range(ROUNDS):
        for method in METHODS:
            runs[method].append(child(method))
    crowd, teachable = (
        {what: statistics.median(run[what] for run in runs[method]) for what in ("seconds", "peak_mb")}
        for method in METHODS
    )
    more = teachable["seconds"] - crowd["seconds"]
    times = teachable["peak_mb"] / crowd["peak_mb"]
    lines = (
        ("teachable, 100k x 19, seconds more than crowd", more, "s", MORE_SECONDS),
        ("teachable, 100k x 19, peak memory, times that of crowd", times, "x", TIMES_MEMORY),
    )
    for what, value, unit, target in lines:
        found = {"what": what, "value": round(value, 2), "unit": unit, "target": f"<= {target:g}"}
        print(
            json.dumps({**found, "ok": value <= target, "crowd": crowd, "teachable": teachable}), flush=True
        )
    fit = child("fit")
    print(json.dumps({"what": "its cut and five-fold fit alone", "value": fit["seconds"], "unit": "s"}))
    return 0 if more <= MORE_SECONDS and times <= TIMES_MEMORY else 1


def child(name: str) -> dict[str, Any]:
    """Do one thing in a process of its own; its facts and its peak memory in MB."""
    done = subprocess.run([sys.executable, __file__, name], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def simulate_zoo() -> dict[str, Any]:
    """Write the pool."""
    from crowdselect.simulate.pool import simulate

    simulate(
        ZOO, instructions=100_000, crowd="paper", layout="zoo", answer_chars=1500, empty=0.0, overwrite=True
    )
    return {}


def chosen_by(method: str) -> dict[str, Any]:
    """Choose a thousand rows, from opening the pool; the student is one of the smaller models."""
    from crowdselect import Options, open_pool, select
    from crowdselect.methods import method_named

    start = time.perf_counter()
    with open_pool(ZOO) as pool:
        student = {} if method == "crowd" else {"student": pool.models[0]}
        select(pool, Options(budget=BUDGET, clusters=0, **student), method=method_named(method))
        return {"seconds": round(time.perf_counter() - start, 3), "student": student.get("student")}


def fitted() -> dict[str, Any]:
    """Find the cut and fit what is within reach, from the score matrix."""
    import numpy as np

    from crowdselect import open_pool
    from crowdselect.numeric.good import good_cut, is_good
    from crowdselect.numeric.teachable import folds, within_reach
    from crowdselect.seeding import content_hash

    with open_pool(ZOO) as pool:
        scores, hashes = pool.scores(), content_hash(pool.id_array)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        cut = good_cut(scores[~np.isnan(scores)])
        good = is_good(scores, 0.0 if cut is None else cut)
        within_reach(good[:, 1:], good[:, 0], folds(hashes, seed=0))
        times.append(time.perf_counter() - start)
    return {"seconds": round(statistics.median(times), 3)}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        named = {"simulate": simulate_zoo, "fit": fitted}
        facts = named[sys.argv[1]]() if sys.argv[1] in named else chosen_by(sys.argv[1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000
        print(json.dumps({**facts, "peak_mb": peak}))
    else:
        sys.exit(main())
