"""Answers per second of a local reward model, against one at a time and fixed batches in file order; and memory.

    python benchmarks/bench_reward.py [--answers 400] [--rows 100000]

A model of random weights (6 layers, Llama's shape) on answers of very different lengths; on a GPU too where there
is one. Needs the extra `reward`. Prints one JSON line per figure.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

FIXED, ROUNDS = 16, 2
WORDS = [
    "oak",
    "river",
    "seven",
    "lamp",
    "slow",
    "green",
    "copper",
    "number",
    "and",
    "or",
    "the",
    "of",
    "in",
    "with",
    "quiet",
    "amber",
    "stone",
    "window",
    "paper",
]


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--hidden", type=int, default=128)
    parsed = parser.parse_args()
    if find_spec("torch") is None or find_spec("transformers") is None:
        print(
            "# reward: torch or transformers is not installed (extra: reward); nothing measured",
            file=sys.stderr,
        )
        return 0
    import torch

    with tempfile.TemporaryDirectory() as place:
        good = _memory(Path(place), parsed.rows)  # first: torch alone takes more than is measured here
        good &= _speed(Path(place), parsed.answers, parsed.hidden, "cpu")
        if torch.cuda.is_available():
            good &= _speed(Path(place), 10 * parsed.answers, 4 * parsed.hidden, "cuda")
    return 0 if good else 1


def _items(count: int) -> list:
    """Answers from a word to some hundred: a log-normal, as real answers have."""
    from crowdselect.reward.protocol import Item

    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.4, 1.1, size=count).astype(int), 1, 400)
    texts = [" ".join(rng.choice(WORDS, size=length)) for length in lengths]
    return [
        Item([{"role": "user", "content": "Write something."}, {"role": "assistant", "content": text}])
        for text in texts
    ]


def _speed(place: Path, count: int, hidden: int, device: str) -> bool:
    from crowdselect.reward.loading import LocalOptions
    from crowdselect.reward.local import LocalScorer, encode
    from crowdselect.reward.specs import parse_spec
    from tiny_rewards import build_reward

    folder = build_reward(place / f"model-{device}", layers=6, hidden=hidden, context=2048)
    items = _items(count)

    def scorer(tokens: int) -> LocalScorer:
        made = LocalScorer(parse_spec(f"hf:{folder}"), LocalOptions(device=device, batch_tokens=tokens))
        list(made.score(items[:8]))  # loads the weights
        return made

    ours, alone, fixed = scorer(16_384 if device == "cpu" else 65_536), scorer(8), scorer(10**9)

    def in_file_order() -> None:
        encoded = encode(items, fixed._card)  # noqa: SLF001  (the same work, in other batches)
        for begin in range(0, count, FIXED):
            fixed._tried(encoded[begin : begin + FIXED])  # noqa: SLF001

    ways = {
        "ours": lambda: list(ours.score(items)),
        "alone": lambda: list(alone.score(items)),
        "fixed": in_file_order,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):  # in turn: what else the machine does hits all of them
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    rate = {name: count / statistics.median(found) for name, found in seconds.items()}
    tokens = [len(one.ids) for one in encode(items, ours._card)]  # noqa: SLF001
    facts = {
        "device": device,
        "answers": count,
        "layers": 6,
        "hidden": hidden,
        "tokens": {"median": int(np.median(tokens)), "longest": max(tokens)},
        "cores": os.cpu_count(),
        "fixed_batch": FIXED,
        "one_at_a_time_per_s": round(rate["alone"], 1),
        "fixed_batches_per_s": round(rate["fixed"], 1),
        "padding_of_fixed_batches": round(fixed.padding, 3),
    }
    least = 1.0 if device == "cpu" else 3.0
    good = _say("reward, answers per second", rate["ours"], "1/s", None, facts)
    good &= _say("reward, times one at a time", rate["ours"] / rate["alone"], "x", f">= {least:g}", facts)
    good &= _say(
        "reward, times fixed batches in file order", rate["ours"] / rate["fixed"], "x", ">= 1.5", facts
    )
    return good & _say("reward, share of padding", ours.padding, "", "< 0.1", facts)


def _memory(place: Path, rows: int) -> bool:
    """Score many rows with a scorer that costs nothing: what is left is the way through the pool."""
    from crowdselect.ask.ledger import Ledger
    from crowdselect.pool.pool import open_pool
    from crowdselect.reward.protocol import BaseScorer, Item, Scored, outcome_of
    from crowdselect.reward.run import Column, windows
    from crowdselect.reward.scoring import WHOLE, in_this_process, score
    from crowdselect.reward.sealed import write_rewards

    class Length(BaseScorer):
        def score(self, items: list[Item]) -> Iterator[Scored]:
            yield [
                (at, outcome_of(float(len(item.messages[-1]["content"])))) for at, item in enumerate(items)
            ]

    file = place / "pool.parquet"
    code = f"from crowdselect.simulate.pool import simulate; simulate({str(file)!r}, instructions={rows // 12}, answer_chars=1500)"
    subprocess.run([sys.executable, "-c", code], check=True)  # its memory is not ours
    with open_pool(file) as pool, Ledger(place / "ledger") as ledger:
        _ = pool.models, pool.instructions()
        before, start = _peak(), time.perf_counter()
        column = Column.of("length", Length("test", {"kind": "test"}))
        done = sum(count for count, _ in score([WHOLE], in_this_process(column, pool, ledger)))
        write_rewards(windows(pool), [column], ledger, place / "rewards.parquet")
        seconds = time.perf_counter() - start
    facts = {
        "rows": rows,
        "scored": done,
        "pool_mb": round(file.stat().st_size / 1e6),
        "seconds": round(seconds, 1),
    }
    text = rows * 1500 / 1e6
    return _say(
        "reward, memory above the open pool", _peak() - before, "MB", "< 150", {**facts, "text_mb": text}
    )


def _say(what: str, value: float, unit: str, target: str | None, facts: dict) -> bool:
    sign, _, bound = (target or "").partition(" ")
    good = {"": lambda: True, ">=": lambda: value >= float(bound), "<": lambda: value < float(bound)}[sign]()
    print(
        json.dumps(
            {"what": what, "value": round(value, 3), "unit": unit, "target": target, "ok": good, **facts}
        ),
        flush=True,
    )
    return good


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    sys.exit(main())
