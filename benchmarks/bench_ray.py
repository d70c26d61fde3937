"""Answers per second of a small reward model on Ray workers of this machine, against the local engine.

    make bench-ray     (or: python benchmarks/bench_ray.py [--answers 20000] [--workers 1 2])

One thread per worker and for the local engine; start-up is told apart: it ends when the first batch is scored. Needs
the extras `reward` and `ray`. Prints one JSON line per figure.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ[name] = "1" if name.endswith("THREADS") else "false"
MODELS = 12  # of the simulated crowd


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parsed = parser.parse_args()
    if any(find_spec(name) is None for name in ("ray", "torch", "transformers")):
        print("# ray: the extras reward and ray are not installed; nothing measured", file=sys.stderr)
        return 0
    from crowdselect.simulate.pool import simulate
    from tiny_rewards import build_reward

    with tempfile.TemporaryDirectory() as place:
        model = build_reward(Path(place) / "model", layers=parsed.layers, hidden=parsed.hidden, context=2048)
        pool = Path(place) / "pool"
        simulate(pool, instructions=-(-parsed.answers // MODELS), shards=4)
        facts = {"layers": parsed.layers, "hidden": parsed.hidden, "cores": os.cpu_count()}
        local = _local(pool, model)
        _say("local engine, answers per second", local["rate"], "1/s", **local, **facts)
        rates = {}
        for workers in parsed.workers:
            found = _on_ray(pool, model, Path(place), workers)
            rates[workers] = found["rate"]
            _say(f"Ray, workers: {workers}, answers per second", found["rate"], "1/s", **found, **facts)
    good = True
    if 1 in rates:
        _say(
            "Ray's overhead on one worker, share of the local engine's speed",
            1 - rates[1] / local["rate"],
            "",
        )
    if {1, 2} <= set(rates):
        good = _say("two workers, times one", rates[2] / rates[1], "x", least=1.5)
        _say("two workers, times the local engine", rates[2] / local["rate"], "x")
    return 0 if good else 1


def _local(pool: Path, model: Path) -> dict[str, Any]:
    """What the local engine does, window by window; scores go nowhere."""
    import torch

    from crowdselect.pool.pool import open_pool
    from crowdselect.reward.loading import LocalOptions
    from crowdselect.reward.local import LocalScorer
    from crowdselect.reward.run import windows
    from crowdselect.reward.specs import parse_spec

    torch.set_num_threads(1)
    start, done = time.time(), []
    scorer = LocalScorer(parse_spec(f"hf:{model}"), LocalOptions(device="cpu"))
    with open_pool(pool) as opened:
        for window in windows(opened, size=512):
            items = [item for item in window.items if item is not None]
            done.append((sum(len(some) for some in scorer.score(items)), time.time()))
    return _rate(start, done)


def _on_ray(pool: Path, model: Path, place: Path, workers: int) -> dict[str, Any]:
    """What the command does with `--engine ray`, from the files to the parts; a part says when it was written."""
    import pyarrow.parquet as pq

    from crowdselect.cache import Parts
    from crowdselect.engine.here import EngineOptions
    from crowdselect.pool.pool import open_pool
    from crowdselect.reward.alike import Alike
    from crowdselect.reward.loading import LocalOptions
    from crowdselect.reward.local import LocalScorer
    from crowdselect.reward.run import Column
    from crowdselect.reward.scoring import ScorerSetup, files_of, on_workers, score
    from crowdselect.reward.specs import parse_spec
    from crowdselect.reward.stored import Stored

    start = time.time()
    spec, options = parse_spec(f"hf:{model}"), LocalOptions(device="cpu")
    column = Column.of("score", LocalScorer(spec, options))
    setup = ScorerSetup(spec, options, column.digest)
    engine = EngineOptions(engine="ray", workers=workers)
    parts = Parts(place / f"parts-{workers}")
    with open_pool(pool) as opened:
        sources = files_of(opened)
    alike = Alike("score", 0, stops=False)  # a model of random weights may give one score
    way = on_workers(column, setup, Stored(None, parts), parts, alike=alike, engine=engine)
    for _ in score(sources, way):
        pass
    return _rate(start, [(pq.read_metadata(path).num_rows, path.stat().st_mtime) for path in parts.paths()])


def _rate(start: float, done: list[tuple[int, float]]) -> dict[str, Any]:
    """Answers per second after the first batch, which ends the start-up."""
    done.sort(key=lambda one: one[1])
    (_, first), (_, last) = done[0], done[-1]
    rate = sum(count for count, _ in done[1:]) / (last - first)
    answers = sum(count for count, _ in done)
    return {"rate": round(rate, 1), "answers": answers, "start_up_s": round(first - start, 1)}


def _say(what: str, value: float, unit: str, *, least: float | None = None, **facts: object) -> bool:
    good = least is None or value >= least
    line = {"what": what, "value": round(value, 3), "unit": unit, "target": least, "ok": good, **facts}
    print(json.dumps(line), flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
