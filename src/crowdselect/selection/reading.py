"""What a method reads of a pool: texts that a function is given batch by batch, wherever the pool is read."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crowdselect.engine.here import Worker, unchanged
from crowdselect.errors import OptionError
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.shards import shard_sources, wanted_rows
from crowdselect.selection.rows import Rows
from crowdselect.selection.shards import Shards
from crowdselect.types import FloatArray, IntArray, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

Of = Literal["instruction", "answer", "both"]
"""What is read of a row: its text, the text of its answer to train on, or an `Answered`."""
Function = Callable[[Sequence[Any]], FloatArray]
"""A batch of n rows, each as `Of` says, → n numbers, NaN = none. It may run in another process, so it must be picklable."""

BLOCK = 2_000
"""Rows whose texts are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An instruction as chat messages, and its answer; empty where there is no text."""

    prompt: Sequence[dict[str, str]]
    answer: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads rows of a pool: one that is open in this process, or its files where they are read."""

    shards: Shards
    known: Rows

    def batches(self, rows: IntArray, *, of: Of, size: int) -> Iterator[tuple[IntArray, list[Any]]]:
        """Read some rows (ascending), at most `size` at a time; files come in any order, and no batch holds rows of two.

        Raises:
            OptionError: Answers are wanted, and the pool has no place for them.
        """
        if not self.shards.whole:
            for at, table in self._run(rows, unchanged, {}, of=of, size=size):
                yield at, [_unpacked(text, of) for text in table["text"].to_pylist()]
            return
        pool, answers, step = self.shards.pool, self.known.answers, max(BLOCK // size, 1) * size
        for begin in range(0, len(rows), step):
            block = rows[begin : begin + step]
            if of == "instruction":
                texts: list[Any] = [text or "" for text in self.shards.texts[block]]
            else:
                models = [pool.models[column] for column in answers.chosen[block].tolist()]
                samples = None if answers.sample is None else answers.sample[block].tolist()
                texts = _answered(pool, [self.known.ids[row] for row in block], models, samples, of)
            for first in range(0, len(block), size):
                yield block[first : first + size], texts[first : first + size]

    def map(
        self, function: Function, rows: IntArray, *, of: Of, size: int
    ) -> Iterator[tuple[IntArray, FloatArray]]:
        """Apply a function to some rows (ascending), at most `size` at a time, wherever they are read.

        Raises:
            OptionError: As for `batches`.
        """
        if self.shards.whole:
            for batch, texts in self.batches(rows, of=of, size=size):
                yield batch, function(texts)
            return
        for at, table in self._run(rows, applied, {"function": function, "of": of}, of=of, size=size):
            yield at, table["number"].to_numpy()

    def _run(
        self, rows: IntArray, worker: Worker, arguments: dict[str, Any], *, of: Of, size: int
    ) -> Iterator[tuple[IntArray, Table]]:
        shards, places, answers = self.shards, self.known.places, self.known.answers
        values: dict[str, NDArray[Any]] = {"chosen": answers.chosen.astype(np.int32)}
        if answers.sample is not None:
            values["samples"] = answers.sample
        sources = shard_sources(shards.files, places, rows, **values)
        read = partial(rows_of, layout=shards.pool.layout, models=shards.models, of=of, size=size)
        for table in shards.run(sources, read, worker, arguments, batch=size):
            yield places.rows(table["shard"].to_numpy(), table["row"].to_numpy()), table


def rows_of(sources: Table, *, layout: str, models: Sequence[str], of: Of, size: int) -> Iterator[Table]:
    """Read the wanted rows of shards, at most `size` at a time: `shard`, `row` (in the shard, in id order) and `text`."""
    import pyarrow as pa

    for source in sources.to_pylist():
        with open_pool(source["path"], layout=layout) as pool:
            rows = wanted_rows(source, len(pool.ids))
            chosen = np.frombuffer(source["chosen"], np.int32)
            numbers = np.frombuffer(source["samples"]) if "samples" in source else None
            said = pool.instructions()[rows] if of == "instruction" else rows[:0]
            for begin in range(0, len(rows), size):
                here = slice(begin, begin + size)
                if of == "instruction":
                    texts: list[Any] = [text or "" for text in said[here]]
                else:
                    names = [models[model] for model in chosen[here]]
                    samples = None if numbers is None else numbers[here].tolist()
                    texts = _answered(pool, pool.ids[rows[here]].tolist(), names, samples, of)
                yield pa.table(
                    {
                        "shard": np.full(len(texts), source["shard"], dtype=np.int32),
                        "row": rows[here],
                        "text": pa.array([_packed(text) for text in texts], pa.large_string()),
                    }
                )


def applied(table: Table, *, function: Function, of: Of) -> Table:
    """Apply a function to a batch of `rows_of`: `shard`, `row` and `number`."""
    import pyarrow as pa

    numbers = function([_unpacked(text, of) for text in table["text"].to_pylist()])
    return table.drop_columns(["text"]).append_column("number", pa.array(numbers, pa.float64()))


def _answered(
    pool: Pool, ids: Sequence[str], models: Sequence[str], samples: Sequence[float] | None, of: Of
) -> list[Any]:
    """The answers of some rows, or these with their prompts."""
    if not pool.has_responses:
        raise OptionError(f"{pool.path}: the pool holds no answers, so nothing can be read from them")
    pairs = list(zip(ids, models, strict=True))
    answers = [text or "" for text in pool.responses(pairs, samples)]
    if of == "answer":
        return answers
    prompts = pool.prompts(pairs, samples)
    return [Answered(prompt=prompt, answer=text) for prompt, text in zip(prompts, answers, strict=True)]


def _packed(text: str | Answered) -> str:
    return text if isinstance(text, str) else json.dumps([list(text.prompt), text.answer])


def _unpacked(text: str, of: Of) -> str | Answered:
    if of != "both":
        return text
    prompt, answer = json.loads(text)
    return Answered(prompt=prompt, answer=answer)
