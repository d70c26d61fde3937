"""Decontamination, robustness and comparison of a large pool: 100,000 instructions x 19 models, 1,000 chosen.

    python benchmarks/bench_robustness.py [--rows 100000] [--budget 1000] [--questions 580]

Robustness is timed with vectors that are there already, decontamination without what else `select` does. Half of the
questions are instructions of the pool, each with words put before and after it. Prints one JSON line per figure.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crowdselect import Options, export, open_pool, select
from crowdselect.compare.robustness import robustness
from crowdselect.compare.selections import compare
from crowdselect.evaluate.files import Question
from crowdselect.methods.random_choice import random_choice
from crowdselect.selection.benchmarks import contaminated
from crowdselect.simulate.pool import simulate

OUT = Path(__file__).parent / "out"
SECONDS = {"decontaminate": 20.0, "robustness": 60.0}


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed or something planted was not found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=1_000)
    parser.add_argument("--questions", type=int, default=580)
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    pool_file = OUT / f"report-{given.rows}.parquet"
    if not pool_file.exists():
        simulate(pool_file, instructions=given.rows, crowd="paper", layout="zoo", answer_chars=1_500)
    with tempfile.TemporaryDirectory() as place:
        os.environ["CROWDSELECT_CACHE"] = place
        return int(
            not all(
                [_decontaminate(pool_file, given.questions), *_choose(pool_file, given.budget, Path(place))]
            )
        )


def _decontaminate(pool_file: Path, count: int) -> bool:
    with open_pool(pool_file) as pool:
        texts = pool.instructions()
    planted = [row * (len(texts) // count) for row in range(0, count, 2)]
    questions = [Question(f"q{row}", (f"Please note: {texts[row]} Answer briefly.",)) for row in planted] + [
        Question(f"other{n}", (" ".join(f"word{n}x{i}" for i in range(60)),))
        for n in range(count - len(planted))
    ]
    found, seconds = _timed(lambda: contaminated(texts, questions))
    long_enough = [row for row in planted if len(texts[row].split()) >= 13]
    hit = all(found[row] >= 0 for row in long_enough)
    facts = {"rows": len(texts), "questions": len(questions), "planted": len(long_enough), "all_found": hit}
    return _line("decontaminate", seconds, facts | {"barred": int((found >= 0).sum())}) and hit


def _choose(pool_file: Path, budget: int, place: Path) -> list[bool]:
    options = Options(budget=budget)
    with open_pool(pool_file) as pool:  # vectors are computed here, and kept
        export(select(pool, options), pool, place / "crowd")
        export(
            select(pool, Options(budget=budget, clusters=0), method=random_choice()), pool, place / "random"
        )
    with open_pool(pool_file) as pool:
        found, seconds = _timed(lambda: robustness(pool, options))
    made = sum(variant.kept is not None for variant in found.variants)
    facts = {
        "rows": len(pool.ids),
        "models": found.facts["models"],
        "variants": len(found.variants),
        "made": made,
    }
    ok = _line("robustness", seconds, facts)
    _, seconds = _timed(lambda: compare([str(place / "crowd"), str(place / "random")]))
    return [ok, _line("compare", seconds, {"rows": len(pool.ids), "selections": 2, "draws": 20})]


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return run(), time.perf_counter() - start


def _line(what: str, seconds: float, facts: dict[str, object]) -> bool:
    target = SECONDS.get(what)
    ok = target is None or seconds <= target
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = {
        "what": what,
        "seconds": round(seconds, 2),
        "target": target,
        "ok": ok,
        "peak_gigabytes": round(peak, 2),
    }
    print(json.dumps({**facts, **line}), flush=True)
    return ok


if __name__ == "__main__":
    sys.exit(main())
