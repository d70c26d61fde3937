"""The commands: run, tables."""

import argparse
import math
from pathlib import Path

from proving_ground.real.results import Results
from proving_ground.seeds import cache_folder


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m proving_ground.real")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run what is not done yet")
    running.add_argument("pool", type=Path, help="the pool: zeroeval.parquet")
    running.add_argument("--crowd", type=Path, required=True, help="its models' families and sizes")
    running.add_argument(
        "--folder",
        type=Path,
        default=cache_folder() / "real",
        help="where models go, which can be made again",
    )
    running.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    running.add_argument(
        "--cpu-seconds", type=float, default=math.inf, help="begin no run once all took so much"
    )
    commands.add_parser("tables", help="write the tables from the results")
    asked = parser.parse_args()
    if asked.command == "run":
        from proving_ground.real.run import run

        run(
            Results(),
            asked.pool,
            asked.crowd,
            asked.folder,
            workers=asked.workers,
            cpu_seconds=asked.cpu_seconds,
        )
    from proving_ground.real.tables import write

    write(Results())


if __name__ == "__main__":
    main()
