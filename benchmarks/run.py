"""Run every benchmark in turn; one line of JSON per figure on standard output.

Run: make bench     (or: python benchmarks/run.py metrics pool)
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "metrics",
    "irt",
    "samples",
    "pool",
    "student",
    "cluster",
    "lsa",
    "baselines",
    "robustness",
    "report",
    "reward",
    "collect",
)


def main() -> int:
    """Run the named benchmarks, or all; fail when one of them fails."""
    names = sys.argv[1:] or NAMES
    failed = 0
    for name in names:
        print(f"# {name}", file=sys.stderr, flush=True)
        failed |= subprocess.run([sys.executable, str(HERE / f"bench_{name}.py")], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
