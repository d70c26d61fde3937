"""The files of a pool that is read file by file: their texts and answers, and where each row is. All rows of an instruction stand in one file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.pool.pool import open_pool
from crowdselect.types import IntArray, Table

BLOCK = 4096
"""Texts handed on at a time."""


class Ids:
    """The ids of a pool in Arrow's buffers: a fifth of the memory of as many Python strings.

    Example:
        >>> import pyarrow as pa
        >>> ids = Ids(pa.array(["a", "b"]))
        >>> len(ids), ids[1], list(ids)
        (2, 'b', ['a', 'b'])
    """

    def __init__(self, values: Any) -> None:  # noqa: ANN401  (an Arrow array)
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> str:
        return str(self.values[int(row)].as_py())

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self.values), 1 << 16):
            yield from self.values[begin : begin + (1 << 16)].to_pylist()

    def __arrow_array__(self, type: Any = None) -> Any:  # noqa: ANN401, A002  (Arrow's protocol)
        return self.values if type is None else self.values.cast(type)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the rows of shards stand in id order, and the other way round."""

    order: IntArray
    """Shape (N,): the row of each (shard, row in it), in their order."""
    starts: IntArray
    """Where each shard begins in `order`; one more than there are shards."""

    @classmethod
    def of(cls, shard: NDArray[np.int32], row: IntArray, *, shards: int) -> "Places":
        """Find them from the shard of each row and its place there, shape (N,) each."""
        counts = np.bincount(shard, minlength=shards)
        return cls(np.lexsort((row, shard)), np.concatenate(([0], np.cumsum(counts))))

    def rows(self, shard: NDArray[np.int32], row: IntArray) -> IntArray:
        """Give the rows in id order of some places in shards."""
        return np.asarray(self.order[self.starts[shard] + row])

    def bits(self, wanted: NDArray[np.bool_]) -> dict[int, bytes]:
        """Tell each shard which of its rows are wanted, as bits in its own order; shards with none are left out."""
        found = {}
        for shard in range(len(self.starts) - 1):
            own = wanted[self.order[self.starts[shard] : self.starts[shard + 1]]]
            if own.any():
                found[shard] = np.packbits(own).tobytes()
        return found


def sources_of(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Name the shards for `Run`."""
    return [{"shard": number, "path": str(file)} for number, file in enumerate(files)]


class Models:
    """A worker that reads the names of the models."""

    def __init__(self, layout: str) -> None:
        self._layout = layout

    def __call__(self, sources: Table) -> Table:
        """Give each shard's models."""
        import pyarrow as pa

        found: list[list[str]] = []
        for path in sources["path"].to_pylist():
            with open_pool(path, layout=self._layout) as pool:
                found.append(list(pool.models))
        return pa.table({"models": found})


class Texts:
    """A `Read` that gives the texts of some rows of a shard, `BLOCK` at a time."""

    def __init__(self, layout: str) -> None:
        self._layout = layout

    def __call__(self, sources: Table) -> Iterator[Table]:
        """Yield `shard`, `row` (in the shard, in id order) and `text`."""
        import pyarrow as pa

        for source in sources.to_pylist():
            with open_pool(source["path"], layout=self._layout) as pool:
                texts = pool.instructions()
            rows = wanted_rows(source, len(texts))
            for begin in range(0, len(rows), BLOCK):
                block = rows[begin : begin + BLOCK]
                yield pa.table(
                    {
                        "shard": np.full(len(block), source["shard"], dtype=np.int32),
                        "row": block,
                        "text": pa.array(texts[block], pa.large_string()),
                    }
                )


def shard_sources(
    files: Sequence[Path], places: Places, rows: NDArray[np.int64], **values: NDArray[Any]
) -> list[dict[str, Any]]:
    """Tell each shard which of its rows are wanted, and what goes with each.

    Args:
        files: The shards.
        places: Where their rows stand.
        rows: Rows in id order.
        values: Shape (N,) each; a shard gets those of its own wanted rows, as bytes in the order of its rows.

    Returns:
        A source per shard that has some; see `wanted_rows`.
    """
    wanted = np.zeros(len(places.order), dtype=np.bool_)
    wanted[rows] = True
    sources = []
    for shard, bits in places.bits(wanted).items():
        own = places.order[places.starts[shard] : places.starts[shard + 1]]
        own = own[wanted[own]]
        more = {name: each[own].tobytes() for name, each in values.items()}
        sources.append({"shard": shard, "path": str(files[shard]), "rows": bits, **more})
    return sources


def wanted_rows(source: dict[str, Any], count: int) -> NDArray[np.int64]:
    """Give the rows of a shard that its source asks for, of how many there are."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(source["rows"], dtype=np.uint8), count=count))


class Fetcher:
    """A worker that reads prompts and answers of chosen rows, and no others; what is in other shards is passed over."""

    def __init__(self, layout: str) -> None:
        self._layout = layout

    def __call__(self, sources: Table) -> Table:
        """Give `path`, `id`, `model`, `messages`, `response` and `instruction` of each answer that is asked for."""
        import json

        import pyarrow as pa

        found: dict[str, list[str | None]] = {
            name: [] for name in ("path", "id", "model", "messages", "response", "instruction")
        }
        for source in sources.to_pylist():
            with open_pool(source["path"], layout=self._layout) as pool:
                ids, models = set(pool.ids).intersection(source["ids"]), set(pool.models)
                wanted = [
                    ((id_, model), sample)
                    for id_, model, sample in zip(
                        source["ids"], source["models"], source["samples"], strict=True
                    )
                    if id_ in ids and model in models
                ]
                pairs, samples = [pair for pair, _ in wanted], [sample for _, sample in wanted]
                found["path"] += [source["path"]] * len(pairs)
                found["id"] += [id_ for id_, _ in pairs]
                found["model"] += [model for _, model in pairs]
                found["messages"] += [json.dumps(chat) for chat in pool.prompts(pairs, samples)]
                found["response"] += (
                    pool.responses(pairs, samples) if pool.has_responses else [None] * len(pairs)
                )
                found["instruction"] += pool.texts_of([id_ for id_, _ in pairs])
        return pa.table({name: pa.array(values, pa.large_string()) for name, values in found.items()})
