"""Helpers of the tests that run the real command."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-c", "from crowdselect.cli.main import main; main()"]
"""To run it as a process; the tests that need none use the fixture `run`."""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    def refuses(self, *parts: str) -> None:
        """Exit code 2, nothing printed, and one line on standard error that says all of `parts`."""
        assert self.code == 2, self
        assert self.out == ""
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1, self.err
        for part in parts:
            assert part in self.err, self.err


def tree(folder: Path = Path()) -> dict[str, bytes | None]:
    """Every file and folder below a folder, hidden ones too, with what is in the files."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def manifest(folder: str | Path) -> dict:
    """Read a result's manifest."""
    return json.loads((Path(folder) / "manifest.json").read_text())


def train(folder: str | Path) -> list[dict]:
    """Read a result's training rows."""
    return [json.loads(line) for line in (Path(folder) / "train.jsonl").read_text().splitlines()]
