"""Ratios of losses (`crowdselect.ifd`) computed on a Ray cluster, each kept as soon as its batch is done."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import folder
from crowdselect.engine.options import EngineOptions
from crowdselect.engine.stream import streamed
from crowdselect.files import fingerprint
from crowdselect.ifd import Answered, IfdModel
from crowdselect.parts import KEY, Parts
from crowdselect.stages import Progress

FloatArray = NDArray[np.float64]
Table = Any
"""An Arrow table; pyarrow ships no types."""

BATCH = 256
"""Rows that a worker is given at a time and writes as a part: what a crash loses at most."""
_FILE = 4096  # rows in a file that a task reads


class ShardedIfd:
    """Computes ratios as `crowdselect.ifd.ifd_ratios` does, on workers.

    Args:
        engine: How many workers, and on what.
        output: What is to be written: the parts are beside it; None = they are in the cache folder.
    """

    def __init__(self, engine: EngineOptions, *, output: str | None) -> None:
        self._engine = engine
        self._parts = Parts(folder() / "ifd" if output is None else Path(f"{output.rstrip('/')}.parts"))

    def __call__(
        self,
        rows: Sequence[Answered],
        *,
        model: str,
        max_length: int,
        batch_tokens: int,
        device: str,
        progress: Progress | None = None,
    ) -> FloatArray:
        """Give one ratio per row; see `ifd_ratios`."""
        where = device if device != "auto" else "cuda" if self._engine.gpus_per_worker else "cpu"
        settings = f"{_identity(model)} {max_length} {where.partition(':')[0]}"
        keys = [_key(settings, row) for row in rows]
        known = self._parts.keys().find(keys).tolist()
        left = {key: row for key, row, at in zip(keys, rows, known, strict=True) if at < 0}
        arguments = {
            "folder": self._parts.folder,
            "model": model,
            "max_length": max_length,
            "batch_tokens": batch_tokens,
            "device": where,
        }
        self._parts.folder.mkdir(parents=True, exist_ok=True)
        done = len(rows) - len(left)
        with tempfile.TemporaryDirectory(prefix=".rows-", dir=self._parts.folder) as place:
            sources = _written(left, Path(place))
            found = streamed(sources, ReadRows(), IfdWorker, arguments, batch=BATCH, options=self._engine)
            for table in found:
                done += sum(table["done"].to_pylist())
                if progress is not None:
                    progress(done, len(rows))
        values = self._parts.read("ratio")
        return np.array([]) if values is None else np.asarray(values["ratio"])[self._parts.keys().find(keys)]


class ReadRows:
    """Reads the files that the driver wrote; runs in a task."""

    def __call__(self, sources: Table) -> Iterator[Table]:
        """Yield each file's rows."""
        import pyarrow.parquet as pq

        for path in sources["path"].to_pylist():
            yield from (pq.read_table(path).slice(begin, BATCH) for begin in range(0, _FILE, BATCH))


class IfdWorker:
    """Holds a model and writes the ratios of batches as parts; runs in an actor."""

    def __init__(self, folder: Path, **arguments: Any) -> None:  # noqa: ANN401  (those of `IfdModel`)
        self._parts, self._model = Parts(folder), IfdModel(**arguments)

    def __call__(self, table: Table) -> Table:
        """Compute a batch, unless its part is there: it was handed out a second time."""
        import pyarrow as pa

        keys = table[KEY].to_pylist()
        name = self._parts.name(keys)
        if keys and not self._parts.has(name):
            rows = [
                Answered(prompt=json.loads(row["prompt"]), answer=row["answer"]) for row in table.to_pylist()
            ]
            columns = {KEY: table[KEY], "ratio": pa.array(self._model.ratios(rows))}
            self._parts.write(name, columns)
        return pa.table({"done": [len(keys)]})


def _written(left: dict[bytes, Answered], place: Path) -> list[dict[str, Any]]:
    """Write rows for workers to read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    items, sources = list(left.items()), []
    for begin in range(0, len(items), _FILE):
        some = items[begin : begin + _FILE]
        path = place / f"{begin}.parquet"
        columns = {
            KEY: pa.array([key for key, _ in some], pa.binary()),
            "prompt": pa.array([json.dumps(list(row.prompt)) for _, row in some], pa.large_string()),
            "answer": pa.array([row.answer for _, row in some], pa.large_string()),
        }
        pq.write_table(pa.table(columns), path)
        sources.append({"path": str(path)})
    return sources


def _identity(model: str) -> str:
    """Say which model it is: what is in its folder, or its name on the Hub."""
    place = Path(model)
    if not place.is_dir():
        return model
    return fingerprint(sorted(file for file in place.rglob("*") if file.is_file()))


def _key(settings: str, row: Answered) -> bytes:
    text = json.dumps([settings, list(row.prompt), row.answer])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
