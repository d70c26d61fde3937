"""Results: one small file for each run, written when it ends."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proving_ground.real.design import FOLDER
from proving_ground.seeds import write_whole

BASE, READING = "base", "reading"
"""The student before training; and the reading of the pool by which the student's way chooses."""
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Results:
    """Records by name; `run_name` makes the name of a run."""

    folder: Path = FOLDER

    def __contains__(self, name: str) -> bool:
        """Whether it is done."""
        return self._file(name).exists()

    def __getitem__(self, name: str) -> Record:
        """Read a record."""
        found: Record = json.loads(self._file(name).read_bytes())
        return found

    def add(self, name: str, record: Record) -> None:
        """Write a record, one value a line."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f" {json.dumps(key)}: {json.dumps(record[key])}" for key in sorted(record)]
        write_whole(self._file(name), ("{\n" + ",\n".join(lines) + "\n}\n").encode())

    def cpu_seconds(self) -> float:
        """Sum what all records took."""
        return float(sum(self[file.stem]["cpu_seconds"] for file in self.folder.glob("*.json")))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def run_name(way: str, seed: int) -> str:
    """Name a run.

    Example:
        >>> run_name("weights 1, 1, 2", 0)
        'weights-1-1-2-seed-0'
    """
    return f"{re.sub('[^a-z0-9]+', '-', way)}-seed-{seed}"
