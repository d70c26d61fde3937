"""The files of a pool that is read file by file: their texts and answers, and where each row is. All rows of an instruction stand in one file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import open_pool
from crowdselect.types import IntArray, ObjectArray, Table

BLOCK = 4096
"""Texts handed on at a time."""

_NOWHERE = -1


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

    def __contains__(self, id_: object) -> bool:
        return any(id_ == own for own in self)

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self.values), 1 << 16):
            yield from self.values[begin : begin + (1 << 16)].to_pylist()

    def as_objects(self) -> ObjectArray:
        """Make Python strings of them, shape (N,)."""
        return np.array(list(self), dtype=object)

    def __arrow_array__(self, type: Any = None) -> Any:  # noqa: ANN401, A002  (Arrow's protocol)
        return self.values if type is None else self.values.cast(type)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the rows of shards stand in id order, and the other way round."""

    order: IntArray
    """The row of each (shard, row in it), in their order; -1 = it takes no part."""
    starts: IntArray
    """Where each shard begins in `order`; one more than there are shards."""

    @classmethod
    def of(cls, shard: NDArray[np.int32], row: IntArray, *, counts: Sequence[int]) -> "Places":
        """Find them from the shard of each row and its place there, shape (N,) each; `counts` are all rows per shard."""
        starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        order = np.full(starts[-1], _NOWHERE, dtype=np.int64)
        order[starts[shard] + row] = np.arange(len(row))
        return cls(order, starts)

    def rows(self, shard: NDArray[np.int32], row: IntArray) -> IntArray:
        """Give the rows in id order of some places in shards."""
        return np.asarray(self.order[self.starts[shard] + row])

    def bits(self, wanted: NDArray[np.bool_]) -> dict[int, bytes]:
        """Tell each shard which of its rows are wanted, as bits in its own order; shards with none are left out."""
        found = {}
        for shard in range(len(self.starts) - 1):
            own = self.own(shard)
            bits = (own != _NOWHERE) & wanted[own]
            if bits.any():
                found[shard] = np.packbits(bits).tobytes()
        return found

    def own(self, shard: int) -> IntArray:
        """Give the row in id order of each row of a shard; -1 = it takes no part."""
        return self.order[self.starts[shard] : self.starts[shard + 1]]


def file_sources(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Name the shards for `Run`."""
    return [{"shard": number, "path": str(file)} for number, file in enumerate(files)]


def models_in(sources: Table, *, read: HowRead) -> Table:
    """Read the names of the models of some shards: `models` and the `students` among them, a list each."""
    import pyarrow as pa

    names: dict[str, list[list[str]]] = {"models": [], "students": []}
    for path in sources["path"].to_pylist():
        with open_pool(path, read=read) as pool:
            names["models"].append(list(pool.models))
            names["students"].append(list(pool.students))
    return pa.table({kind: pa.array(lists, pa.list_(pa.string())) for kind, lists in names.items()})


def texts_in(sources: Table, *, read: HowRead) -> Iterator[Table]:
    """Read the texts of the wanted rows of shards, `BLOCK` at a time: `shard`, `row` (in the shard, in id order) and `text`."""
    import pyarrow as pa

    for source in sources.to_pylist():
        with open_pool(source["path"], read=read) as pool:
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
    wanted = np.zeros(len(places.order), dtype=np.bool_)  # at least one place for each row
    wanted[rows] = True
    sources = []
    for shard, bits in places.bits(wanted).items():
        own = places.own(shard)
        own = own[(own != _NOWHERE) & wanted[own]]
        more = {name: each[own].tobytes() for name, each in values.items()}
        sources.append({"shard": shard, "path": str(files[shard]), "rows": bits, **more})
    return sources


def wanted_rows(source: dict[str, Any], count: int) -> NDArray[np.int64]:
    """Give the rows of a shard that its source asks for, of how many there are."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(source["rows"], dtype=np.uint8), count=count))


def answers_in(sources: Table, *, read: HowRead) -> Table:
    """Read prompts and answers of some (id, model, sample), and no others; what is in other shards is skipped.

    Returns:
        `path`, `id`, `model`, `sample`, `messages`, `response`, `exported`, `tools` and `instruction` of each that is found.
        Where no model is named, the messages are what all models were asked, and there is no answer. `columns` are the
        values of the columns that the source names, as JSON.
    """
    import pyarrow as pa

    names = ("path", "id", "model", "messages", "response", "instruction", "exported", "tools", "columns")
    found: dict[str, list[str | None]] = {name: [] for name in names}
    numbers: list[float | None] = []
    for source in sources.to_pylist():
        with open_pool(source["path"], read=read) as pool:
            ids, models = set(pool.ids).intersection(source["ids"]), {None, *pool.models}
            every = zip(source["ids"], source["models"], source["samples"], strict=True)
            wanted = [each for each in every if each[0] in ids and each[1] in models]
            own = [id_ for id_, *_ in wanted]
            pairs, samples = (
                [(id_, model) for id_, model, _ in wanted if model],
                [n for _, m, n in wanted if m],
            )
            answered = bool(pairs) and pool.has_responses
            texts: list[str | None] = [None] * len(own)
            chats = pool.prompts(pairs, samples) if pairs else pool.asked(own)
            found["path"] += [source["path"]] * len(own)
            found["id"] += own
            found["model"] += [model for _, model, _ in wanted]
            numbers += [sample for *_, sample in wanted]
            found["messages"] += [json.dumps(chat) for chat in chats]
            found["response"] += pool.responses(pairs, samples) if answered else texts
            found["exported"] += pool.exported(pairs, samples) if answered else texts
            found["tools"] += pool.tools(own)
            found["instruction"] += pool.texts_of(own)
            columns = {name: pool.values_of(name, own) for name in source["columns"] or ()}
            rows = [{name: values[at] for name, values in columns.items()} for at in range(len(own))]
            found["columns"] += [json.dumps(row) for row in rows]
    texts_found = {name: pa.array(values, pa.large_string()) for name, values in found.items()}
    return pa.table({**texts_found, "sample": pa.array(numbers, pa.float64())})
