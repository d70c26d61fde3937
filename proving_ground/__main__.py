"""The commands: quick, run, third, tables."""

import argparse
import tempfile
import time
from pathlib import Path

from proving_ground import second, third
from proving_ground.design import MAIN, SETTINGS, Block, blocks, ways_of
from proving_ground.results import BASE_WAY, Results
from proving_ground.run import WORKERS, run
from proving_ground.ways import PAPER, RANDOM


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m proving_ground", description=__doc__)
    parser.add_argument("command", choices=tuple(COMMANDS))
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes, one thread each")
    asked = parser.parse_args()
    COMMANDS[asked.command](asked.workers)


def everything(workers: int) -> None:
    """Run all settings, worlds and seeds of all protocols; completed runs are skipped."""
    run(Results(), SETTINGS, ((block, all_ways(block.setting)) for block in blocks()), workers=workers)
    run(Results(second.FOLDER), second.SETTINGS, second.blocks(), workers=workers)
    the_third(workers)


def the_third(workers: int) -> None:
    """Run the third protocol alone; completed runs are skipped."""
    run(Results(third.FOLDER), third.SETTINGS, third.blocks(), workers=workers)
    tables(workers)


def all_ways(setting: str) -> list[str]:
    """Describe a setting: its methods, and its base if it differs from the main design's."""
    fresh = setting == MAIN or SETTINGS[setting].student != SETTINGS[MAIN].student
    return [*([BASE_WAY] if fresh else []), *ways_of(setting)]


def quick(workers: int) -> None:
    """Run one world, three methods and two seeds in a temporary folder, as a smoke test."""
    from proving_ground.tables import summary

    begin = time.monotonic()
    ways = [BASE_WAY, RANDOM, PAPER, "separability up, clusters"]
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder))
        run(results, SETTINGS, [(Block(MAIN, "facts", seed), ways) for seed in range(2)], workers=workers)
        print(summary(results, MAIN, "facts"))
    print(f"{time.monotonic() - begin:.0f} seconds; two seeds show that it works, not which is better")


def tables(_workers: int) -> None:
    """Write intervals, ranks and figures from the results."""
    from proving_ground import second_tables, third_tables
    from proving_ground.tables import write_all

    write_all(Results())
    second_tables.write_all(Results(second.FOLDER))
    third_tables.write_all(Results(third.FOLDER))


COMMANDS = {"quick": quick, "run": everything, "third": the_third, "tables": tables}

if __name__ == "__main__":
    main()
