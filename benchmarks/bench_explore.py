"""The page of `explore` at 100,000 rows, 3 metrics and 30 clusters: its size, how long it takes to open, and to answer.

A weight is changed as a reader does it, in Debian's chromium on the machine's own cores; a change is drawn when the browser
has painted the frame after it. The pool and its page are made once and kept in benchmarks/out/.

Run: python benchmarks/bench_explore.py     (needs playwright and chromium)
"""

import json
import random
import shutil
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "out"
ROWS, MODELS, CLUSTERS, BUDGET = (
    100_000,
    ("oak-1b", "oak-7b", "elm-3b", "elm-14b", "ash-8b", "ash-70b"),
    30,
    10_000,
)
CHANGES = 60
DRAWN = """
async () => {
  const slider = document.querySelector("#weights input[type=range]"), root = document.documentElement, found = [];
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  for (let change = 0; change < CHANGES; change += 1) {
    await painted();
    const began = performance.now();
    slider.value = (change % 16) / 4 + 0.25;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    while (root.dataset.ready !== "yes") await new Promise((done) => setTimeout(done));
    await painted();
    found.push(performance.now() - began);
  }
  return found;
}
"""


def main() -> None:
    """Print one line of JSON per figure."""
    OUT.mkdir(exist_ok=True)
    page = OUT / f"explore-{ROWS}.html"
    for line in (*made(page), *measured(page)):
        print(json.dumps(line), flush=True)


def made(page: Path) -> Iterator[dict[str, Any]]:
    """Make the pool and the page."""
    from crowdselect import Options, explore, open_pool

    pool_file = OUT / f"explore-{ROWS}.parquet"
    if not pool_file.exists():
        write_pool(pool_file)
    began = time.perf_counter()
    with open_pool(pool_file) as pool:
        explore(pool, Options(budget=BUDGET, clusters=CLUSTERS, cache=False)).write(page, overwrite=True)
    yield figure("make the page", time.perf_counter() - began, unit="s")
    yield figure("size of the page", page.stat().st_size / 1e6, unit="MB", target=12)


def write_pool(path: Path) -> None:
    """Write a pool with ids of 36 and texts of about 60 characters."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = [
        f"{first}{last}"
        for first in ("ka", "lo", "mi", "ne", "pu", "ra", "so", "te")
        for last in ("bar", "dun", "fel", "gim", "hos", "jat", "kel", "lum")
    ]
    draw, rng = random.Random(0), np.random.default_rng(0)
    ids = [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(ROWS)]
    texts = [" ".join(draw.choices(words, k=9)) + f" {i}" for i in range(ROWS)]
    count = len(MODELS)
    rows = {
        "id": np.repeat(ids, count),
        "instruction": np.repeat(texts, count),
        "model": np.tile(MODELS, ROWS),
        "response": [f"answer {'x' * draw.randrange(400)}" for _ in range(ROWS * count)],
        "reward": rng.normal(size=ROWS * count).round(4),
    }
    pq.write_table(pa.table(rows), path)


def measured(page: Path) -> Iterator[dict[str, Any]]:
    """Open the page and change a weight."""
    from playwright.sync_api import sync_playwright

    chromium = next(path for name in ("chromium", "chromium-browser") if (path := shutil.which(name)))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page()
        began = time.perf_counter()
        shown.goto(page.as_uri())
        shown.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        yield figure("open the page", time.perf_counter() - began, unit="s", target=3)
        drawn = sorted(shown.evaluate(DRAWN.replace("CHANGES", str(CHANGES))))
        yield figure("a changed weight is drawn, median", statistics.median(drawn), unit="ms", target=100)
        yield figure(
            "a changed weight is drawn, 95th percentile", drawn[int(0.95 * len(drawn))], unit="ms", target=200
        )
        browser.close()


def figure(name: str, value: float, *, unit: str, target: float | None = None) -> dict[str, Any]:
    """One line of output."""
    return {
        "figure": f"explore, {ROWS:,} rows: {name}",
        "value": round(value, 2),
        "unit": unit,
        "target": target,
    }


if __name__ == "__main__":
    sys.exit(main())
