"""A page of `explore` over a stand-in engine, for tests of the page alone."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crowdselect.explore.page as pages

ENGINE = Path(__file__).with_name("explore_engine.js")
NOBODY = 65_535


def facts(ids: list[str], texts: list[str], teachers: list[str], *, saved: bool = True, seed: int = 0) -> dict[str, Any]:
    """Make what the engine tells the page of a pool; its numbers are drawn."""
    rng, n = np.random.default_rng(seed), len(ids)
    labels = np.arange(n) % 3
    values = rng.random((3, n)).round(4)
    start = {
        "method": "crowd",
        "weights": {"difficulty": 1, "separability": 1, "stability": 2},
        "budget": n // 4,
        "clusters": True,
        "keep": [],
        "answer": "best",
    }
    chosen = np.zeros(n, dtype=int)
    chosen[rng.permutation(n)[: n // 4]] = np.arange(1, n // 4 + 1)
    gaps = [None if i % 11 == 0 else value for i, value in enumerate(values[2].tolist())]
    return {
        "n": n,
        "names": {"ids": ids, "texts": texts},
        "metrics": [
            {"name": "difficulty", "words": teachers[0], "low": 0, "high": 1, "values": values[0].tolist()},
            {"name": "separability", "words": "how far rewards lie apart", "low": 0, "high": 1, "values": values[1].tolist()},
            {"name": "stability", "words": "larger models do better", "low": 0, "high": 1, "values": gaps},
        ],
        "methods": [{"name": "crowd", "words": "weighted ranks", "weighted": True}],
        "answers": ["best", "random"],
        "bands": [{"name": "difficulty", "low": 0, "high": 1}],
        "budgetMost": n,
        "clusters": [{"label": k, "name": f"{k} {teachers[k % len(teachers)]}", "rows": int((labels == k).sum())} for k in range(3)],
        "clusterOf": labels.tolist(),
        "teachers": teachers,
        "teacherOf": {rule: rng.integers(0, len(teachers), n).tolist() for rule in ("best", "random")},
        "lengths": [{"name": "instruction", "values": [len(text) for text in texts]}],
        "map": {"x": (2 * values[0] - 1).tolist(), "y": (2 * values[1] - 1).tolist(), "words": "two numbers of each row"},
        "student": {"name": teachers[-1], "crowd": values[0].tolist(), "own": values[1].round(1).tolist()},
        "saved": {"rank": chosen.tolist(), "setting": start} if saved else None,
        "reasons": ["chosen", "eligible, but others score higher", "a number lies outside its band"],
        "codes": ["selected", "below_cut", "outside:difficulty"],
        "start": start,
        "notes": [],
    }


def page(told: dict[str, Any], *, pool: str = "pool.parquet") -> str:
    """Assemble the page over the stand-in."""
    real = pages._asset
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pages, "_asset", lambda name: ENGINE.read_text("utf-8") if name == "engine.js" else real(name))
        head = {"pool": pool, "n": told["n"], "seed": 0, "simulated": False, "warnings": []}
        return pages.make_page(head, gzip.compress(json.dumps(told).encode()))
