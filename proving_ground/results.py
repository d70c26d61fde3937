"""Results of runs: JSON that is reproducible byte for byte from the seeds; timings are in a separate file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proving_ground.design import Block
from proving_ground.seeds import write_whole
from proving_ground.students import Readout

COMMITTED = Path(__file__).parent / "results"
BASE_WAY = "base, not fine-tuned"
Record = dict[str, Any]


def packed(readout: Readout, *, right_chosen: float | None) -> Record:
    """Return a run as written: one bit per test item, in order, as hexadecimal digits."""
    return {
        "right": np.packbits(readout.right).tobytes().hex(),
        "loss": round(readout.loss, 5),
        "steps": readout.steps,
        "tokens": readout.tokens,
        **({} if right_chosen is None else {"right_chosen": round(right_chosen, 5)}),
    }


def unpacked(record: Record, *, tests: int) -> np.ndarray:
    """Return which test items were right, shape (tests,)."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(record["right"]), dtype=np.uint8))
    return bits[:tests].astype(bool)


@dataclass(slots=True)
class Results:
    """The runs of all settings and worlds, one file for each pair."""

    folder: Path = COMMITTED
    _open: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def of(self, setting: str, world: str) -> dict[str, Any]:
        """`runs`: method → seed → record; `failed`: method → seed → why."""
        key = (setting, world)
        if key not in self._open:
            file = self._file(*key)
            self._open[key] = json.loads(file.read_bytes()) if file.exists() else {"runs": {}, "failed": {}}
        return self._open[key]

    def has(self, block: Block, way: str) -> bool:
        """Return whether this run is done, or known to fail."""
        found = self.of(block.setting, block.world)
        return any(str(block.seed) in found[kind].get(way, {}) for kind in ("runs", "failed"))

    def add(
        self, block: Block, runs: Mapping[str, Record], failed: Mapping[str, str], *, seconds: float
    ) -> None:
        """Write a block's results at once."""
        found = self.of(block.setting, block.world)
        for kind, given in (("runs", runs), ("failed", failed)):
            for way, one in given.items():
                found[kind].setdefault(way, {})[str(block.seed)] = one
        file = self._file(block.setting, block.world)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, _compact(found))
        self._time(f"{block.setting} / {block.world} / {block.seed}", seconds)

    def write(self, name: str, content: object) -> None:
        """Write a separate table."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / name, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    def read(self, name: str) -> Any:  # noqa: ANN401  (whatever was written)
        """Read a table."""
        return json.loads((self.folder / name).read_bytes())

    def _file(self, setting: str, world: str) -> Path:
        return self.folder / setting.replace(" ", "-") / f"{world}.json"

    def _time(self, key: str, seconds: float) -> None:
        file = self.folder / "seconds.json"
        times = json.loads(file.read_bytes()) if file.exists() else {}
        times[key] = round(times.get(key, 0.0) + seconds, 1)
        self.write("seconds.json", times)


def _compact(found: Mapping[str, Any]) -> bytes:
    """One run per line, sorted, so that a difference shows which run changed."""
    return ("\n".join(_lines(found)) + "\n").encode()


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield "{"
    for kind in ("failed", "runs"):
        ways = sorted(found[kind])
        yield f' "{kind}": {{'
        for way in ways:
            seeds = sorted(found[kind][way], key=int)
            yield f"  {json.dumps(way)}: {{"
            for seed in seeds:
                one = json.dumps(found[kind][way][seed], sort_keys=True)
                yield f'   "{seed}": {one}' + ("," if seed != seeds[-1] else "")
            yield "  }" + ("," if way != ways[-1] else "")
        yield " }" + ("," if kind == "failed" else "")
    yield "}"
