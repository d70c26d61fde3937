"""Run the console blocks of README.md and write what they print into them: `python docs/make_readme.py`.

A block holds `$ command` lines, each followed by what it printed. All blocks run in one new folder, in their order, at
80 columns. A test compares the README with a run.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = re.compile(r"(?ms)^```console\n(.*?)^```")


def refreshed(text: str, folder: Path) -> str:
    """Give the README with its console blocks as they come out now.

    Args:
        text: The README.
        folder: Where the commands run.

    Raises:
        subprocess.CalledProcessError: A command fails.
    """
    return _BLOCK.sub(lambda block: f"```console\n{_run(block[1], folder)}```", text)


def _run(block: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    lines = []
    for command in (line for line in block.splitlines() if line.startswith("$ ")):
        done = subprocess.run(  # noqa: S603  (the README's own commands)
            ["bash", "-o", "pipefail", "-c", command.removeprefix("$ ")],  # noqa: S607
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        lines += [command, *(line.rstrip() for line in done.stdout.splitlines())]
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Rewrite README.md."""
    with tempfile.TemporaryDirectory() as folder:
        README.write_text(refreshed(README.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
