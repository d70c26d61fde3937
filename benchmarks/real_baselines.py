"""Every baseline that needs no model, five random seeds, CrowdSelect with and without clusters, on real pools.

    python benchmarks/real_baselines.py FOLDER OUT [zeroeval shaberi]

FOLDER holds NAME.parquet and NAME.models.json (see docs/real-pools.md). Makes, per pool, OUT/NAME/ with a folder per selection,
compare.html and robustness.html, and prints the tables of docs/baselines.md as Markdown. Runs the command line, as a user does.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BUDGETS = {"zeroeval": 300, "shaberi": 50}
SELECTIONS = {
    "crowd": (),
    "crowd-0": ("--clusters", "0"),
    "random": ("--method", "random", "--seeds", "5"),
    "cluster-random": ("--method", "random", "--clusters", "10", "--seeds", "5"),
    "longest": ("--method", "length"),
    "shortest": ("--method", "length", "--direction", "down"),
    "longest-answer": ("--method", "length:answer"),
    "reward": ("--method", "reward"),
    "lowest-reward": ("--method", "reward:down"),
    "facility": ("--method", "facility-location"),
}
FIGURES = (
    "best_reward",
    "difficulty",
    "separability",
    "stability",
    "instruction_length",
    "answer_length",
    "clusters",
    "entropy",
    "neighbour_distance",
    "near_duplicates",
    "models",
)


def main() -> int:
    """Choose, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("pools", nargs="*", default=[*BUDGETS])
    given = parser.parse_args()
    for name in given.pools:
        print(f"\n## {name}\n")
        _pool(given.folder / f"{name}.parquet", given.out / name, BUDGETS[name])
    return 0


def _pool(pool: Path, out: Path, budget: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    common = ["--crowd", str(pool.with_suffix(".models.json")), "--reward", "score", "--budget", str(budget)]
    for name, method in SELECTIONS.items():
        _run("select", str(pool), *common, *method, "--overwrite", "-o", str(out / name))
    page = ("--overwrite", "--json", "-o")
    folders = [str(out / name) for name in SELECTIONS]
    _figures(json.loads(_run("compare", *folders, *page, str(out / "compare.html"))))
    _kept(json.loads(_run("robustness", str(pool), *common, *page, str(out / "robustness.html"))))


def _run(*arguments: str) -> str:
    command = [sys.executable, "-c", "from crowdselect.cli.main import main; main()", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _figures(found: dict[str, Any]) -> None:
    sides = found["selections"]
    _row(["", "random", *(Path(side["name"].split(" (")[0]).name for side in sides)])
    _row(["---"] * (len(sides) + 2))
    for figure in FIGURES:
        chance = found["chance"].get(figure)
        usual = "" if chance is None else f"{chance['mean']:.3g} ± {chance['spread']:.2g}"
        _row([found["figures"][figure], usual, *(_cell(side, figure) for side in sides)])
    names, overlap = found["overlap"]["names"], found["overlap"]
    place = next(i for i, name in enumerate(names) if Path(name).name == "crowd")
    print("\nrows that `crowd` shares with")
    for j, name in enumerate(names):
        shared, chance = overlap["rows"][place][j], overlap["expected_by_chance"][place][j]
        print(f"- {name}: {shared:.3g} (by chance {chance:.3g})")


def _cell(side: dict[str, Any], figure: str) -> str:
    value = side["figures"][figure]
    if value is None:
        return ""
    return f"**{value:.3g}**" if side["beyond_random"].get(figure) else f"{value:.3g}"


def _kept(found: dict[str, Any]) -> None:
    print()
    _row(["what was changed", "variants", "kept, mean", "kept, lowest", "where"])
    _row(["---"] * 5)
    for row in found["summary"]:
        _row([row["axis"], row["variants"], f"{row['kept']:.0%}", f"{row['lowest']:.0%}", row["lowest_name"]])
    print(f"\na random choice would keep {found['chance']:.1%} of {found['eligible']}")


def _row(cells: list[Any]) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    sys.exit(main())
