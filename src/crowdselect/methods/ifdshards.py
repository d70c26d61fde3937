"""Ratios of losses (`crowdselect.methods.ifd`) computed on a Ray cluster, each kept as soon as its batch is done."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.cache import folder
from crowdselect.errors import InputError, OptionError, OutputError
from crowdselect.methods.ifd import Answered, IfdModel
from crowdselect.parts import KEY, Keys, Parts, joined
from crowdselect.pool.files import fingerprint
from crowdselect.pool.pool import open_pool
from crowdselect.pool.shards import shard_sources, wanted_rows
from crowdselect.progress import Progress
from crowdselect.selection.methods import Seen
from crowdselect.selection.sharded import ShardedPool
from crowdselect.types import FloatArray, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 256
"""Rows that a worker is given at a time and writes as a part: what a crash loses at most."""


class ShardedIfd:
    """Computes ratios as `crowdselect.methods.ifd.ifd_ratios` does, on the workers that read a pool's files.

    Args:
        output: What is to be written: the parts are beside it; None = they are in the cache folder.
        on_gpus: Whether the workers have GPUs.
    """

    def __init__(self, *, output: str | None, on_gpus: bool) -> None:
        self._on_gpus = on_gpus
        self._parts = Parts(folder() / "ifd" if output is None else Path(f"{output.rstrip('/')}.parts"))

    def __call__(
        self, seen: Seen, *, model: str, max_length: int, batch_tokens: int, device: str, progress: Progress
    ) -> FloatArray:
        """Give one ratio per row, NaN where there is none; see `ifd_ratios`.

        Raises:
            OptionError: The pool is not read file by file.
        """
        pool, rows = seen.pool, np.flatnonzero(seen.eligible)
        if not isinstance(pool, ShardedPool) or pool.places is None:
            raise OptionError(f"{pool.path}: is not read file by file")
        where = device if device != "auto" else "cuda" if self._on_gpus else "cpu"
        settings = f"{_identity(model)} {max_length} {where.partition(':')[0]}"
        answers: dict[str, NDArray[Any]] = {"columns": seen.answers.chosen.astype(np.int32)}
        if seen.answers.sample is not None:
            answers["samples"] = seen.answers.sample
        found = pool.run(
            shard_sources(pool.shards, pool.places, rows, **answers),
            ReadAnswers(pool.layout, pool.models, settings, self._parts.keys()),
            IfdWorker,
            {
                "folder": self._parts.folder,
                "model": model,
                "max_length": max_length,
                "batch_tokens": batch_tokens,
                "device": where,
            },
            batch=BATCH,
        )
        keys, done = np.zeros((len(seen.eligible), 32), dtype=np.uint8), 0
        for table in found:
            at = pool.places.rows(table["shard"].to_numpy(), table["row"].to_numpy())
            keys[at] = np.frombuffer(joined(table[KEY]), np.uint8).reshape(-1, 32)
            done += len(at)
            progress(done, len(rows))
        ratios = np.full(len(seen.eligible), np.nan)
        if len(rows):
            ratios[rows] = self._kept(keys[rows].tobytes())
        return ratios

    def _kept(self, keys: bytes) -> FloatArray:
        """Read the ratios of some keys from the parts."""
        table = self._parts.read(KEY, "ratio")
        at = np.full(1, -1) if table is None else Keys.of(joined(table[KEY])).find(keys)
        if (at < 0).any():
            raise OutputError(
                f"{self._parts.folder}: a worker wrote parts that are not here; on several machines the output's folder must "
                "be one that all of them share"
            )
        return np.asarray(table["ratio"])[at]


class ReadAnswers:
    """Reads the instructions and answers of a shard; runs in a task.

    Args:
        layout: Of the pool.
        models: Of the whole pool.
        settings: What a ratio depends on besides.
        done: Keys of what need not be computed.
    """

    def __init__(self, layout: str, models: Sequence[str], settings: str, done: Keys) -> None:
        self._layout, self._models, self._settings, self._done = layout, models, settings, done

    def __call__(self, sources: Table) -> Iterator[Table]:
        """Yield `shard`, `row` (in the shard, in id order), key, and what is to be computed: null where it is done."""
        import pyarrow as pa

        for source in sources.to_pylist():
            with open_pool(source["path"], layout=self._layout) as pool:
                rows = wanted_rows(source, len(pool.ids))
                names = [self._models[column] for column in np.frombuffer(source["columns"], np.int32)]
                pairs = list(zip(pool.ids[rows].tolist(), names, strict=True))
                numbers = np.frombuffer(source["samples"]).tolist() if "samples" in source else None
                for begin in range(0, len(rows), BATCH):
                    some = pairs[begin : begin + BATCH]
                    samples = None if numbers is None else numbers[begin : begin + BATCH]
                    answered = [
                        Answered(prompt=prompt, answer=answer or "")
                        for prompt, answer in zip(
                            pool.prompts(some, samples), pool.responses(some, samples), strict=True
                        )
                    ]
                    keys = [_key(self._settings, each) for each in answered]
                    left = self._done.find(keys) < 0
                    yield pa.table(
                        {
                            "shard": np.full(len(some), source["shard"], dtype=np.int32),
                            "row": rows[begin : begin + BATCH],
                            KEY: pa.array(keys, pa.binary()),
                            "prompt": pa.array(
                                [json.dumps(list(each.prompt)) for each in answered],
                                pa.large_string(),
                                mask=~left,
                            ),
                            "answer": pa.array(
                                [each.answer for each in answered], pa.large_string(), mask=~left
                            ),
                        }
                    )


class IfdWorker:
    """Holds a model and writes the ratios of batches as parts; runs in an actor."""

    def __init__(self, folder: Path, **arguments: Any) -> None:  # noqa: ANN401  (those of `IfdModel`)
        self._parts, self._model = Parts(folder), IfdModel(**arguments)

    def __call__(self, table: Table) -> Table:
        """Compute a batch, unless its part is there: it was handed out a second time. Give `shard`, `row` and key."""
        import pyarrow as pa

        left = {row[KEY]: row for row in table.to_pylist() if row["prompt"] is not None}
        name = self._parts.name(list(left))
        if left and not self._parts.has(name):
            rows = [Answered(prompt=json.loads(row["prompt"]), answer=row["answer"]) for row in left.values()]
            columns = {KEY: pa.array(list(left), pa.binary()), "ratio": pa.array(self._model.ratios(rows))}
            self._parts.write(name, columns)
        return table.drop_columns(["prompt", "answer"])


def _identity(model: str) -> str:
    """Say which model it is: what is in its folder, or its name and commit on the Hub.

    Raises:
        InputError: There is no such model.
    """
    place = Path(model)
    if not place.is_dir():
        try:
            config = optional("transformers", extra="reward").AutoConfig.from_pretrained(model)
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise InputError(
                f"{model}: this model cannot be loaded as a causal language model: {said}"
            ) from error
        return f"{model} {getattr(config, '_commit_hash', None)}"
    return fingerprint(sorted(file for file in place.rglob("*") if file.is_file()))


def _key(settings: str, row: Answered) -> bytes:
    text = json.dumps([settings, list(row.prompt), row.answer])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
