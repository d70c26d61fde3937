"""Time, size and opening of the report of a large pool: 100,000 instructions x 19 models, 1,000 chosen.

    python benchmarks/bench_report.py [--rows 100000] [--budget 1000]

Prints one JSON line per figure. Opening is measured where playwright and a chromium are installed.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.progress import Stages
from crowdselect.report.data import ReportData
from crowdselect.report.report import write_report
from crowdselect.simulate.pool import simulate

OUT = Path(__file__).parent / "out"
SECONDS, MEGABYTES, OPENING = 30.0, 10.0, 3.0
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main() -> int:
    """Measure and print; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=1_000)
    given = parser.parse_args()
    if find_spec("altair") is None or find_spec("vl_convert") is None:
        print("# report: the extra `report` is not installed", file=sys.stderr)
        return 0
    OUT.mkdir(exist_ok=True)
    pool_file = OUT / f"report-{given.rows}.parquet"
    if not pool_file.exists():
        simulate(pool_file, instructions=given.rows, crowd="paper", layout="zoo", answer_chars=1_500)
    with tempfile.TemporaryDirectory() as place, open_pool(pool_file) as pool:
        export(select(pool, Options(budget=given.budget)), pool, Path(place) / "chosen")
        with open_pool(pool_file) as again:  # nothing read before, as the command has it
            missed = measure(Path(place) / "chosen", again, given.rows, given.budget)
    return int(missed)


def measure(folder: Path, pool: object, rows: int, budget: int) -> bool:
    """Make a report, print its figures, say whether a target was missed."""
    stages = Stages()
    start = time.perf_counter()
    written, _ = write_report(ReportData(load_selection(folder), pool), folder / "report.html", stages=stages)
    whole = time.perf_counter() - start
    size = written.stat().st_size / 1e6
    figures = {
        "seconds": whole - stages.seconds["map"],
        "seconds_map": stages.seconds["map"],
        "megabytes": size,
    }
    opening = seconds_to_open(written)
    if opening is not None:
        figures["seconds_to_open"] = opening
    targets = {"seconds": SECONDS, "megabytes": MEGABYTES, "seconds_to_open": OPENING}
    for name, value in figures.items():
        line = {"bench": "report", "rows": rows, "budget": budget, "figure": name, "value": round(value, 2)}
        print(json.dumps({**line, **({"target": targets[name]} if name in targets else {})}), flush=True)
    return any(figures.get(name, 0) > target for name, target in targets.items())


def seconds_to_open(page: Path) -> float | None:
    """Seconds until every chart is drawn, the best of three; None without a browser."""
    chromium = shutil.which("chromium")
    if chromium is None or find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        took = []
        for _ in range(3):
            tab = browser.new_page()
            start = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready=yes]")
            took.append(time.perf_counter() - start)
            tab.close()
        browser.close()
    return min(took)


if __name__ == "__main__":
    sys.exit(main())
