"""Sources of texts and given vectors: a pool in memory, or files that are read when needed.

A `Values` passes them by row to a function of a batch, and yields what that returns. The functions are the same for
both; files are read, and the functions applied to them, by `Run` (in this process or on a cluster).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import joined, text_keys
from crowdselect.embed.given import (
    check_finite,
    check_vector_ids,
    read_given_vectors,
    read_some_vectors,
    to_float32,
)
from crowdselect.engine.here import Read, Run, run_here
from crowdselect.errors import InputError, ShapeError
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.shards import BLOCK, Places, shard_sources, texts_in, wanted_rows
from crowdselect.types import Float32Array, IntArray, ObjectArray, Table

BATCH = 4096
"""Values per call of a function and, if a model embeds them, per stored part: the most that a crash loses."""

Advance = Callable[[int], None]
"""Called with the number of values done since the last call."""
Named = Mapping[str, Any]
"""Arrays or lists by name, with one entry per value."""
Work = Callable[[Any, Advance], Named]
"""A function of a batch: a list of texts, or vectors of shape (n, D). For files it must be picklable."""


class Values(Protocol):
    """Texts or vectors by row."""

    def over(self, rows: IntArray, work: Work, advance: Advance) -> Iterator[tuple[IntArray, Named]]:
        """Call a function with some values, `BATCH` at a time; yield rows and what it returned for them, in any order."""
        ...


class Embeddable(Protocol):
    """A pool as embedders see it; rows are in id order."""

    @property
    def path(self) -> str:
        """The pool's path, for messages."""
        ...

    @property
    def run(self) -> Run:
        """What reads files and calls functions."""
        ...

    @property
    def has_text(self) -> bool:
        """Whether some row has text."""
        ...

    def texts(self, rows: IntArray, embedder: str) -> Values:
        """Return the texts; `rows` are all rows that the embedder will need."""
        ...

    def keys(self, rows: IntArray) -> bytes | None:
        """Return `key_of` the text of each row, joined; None if the keys are not known."""
        ...

    def longest_first(self, rows: IntArray) -> IntArray:
        """Sort rows by the length of their texts, if these are in memory: a model pads the texts of a batch."""
        ...

    def given(self, rows: IntArray, embedder: str) -> tuple[Values, int]:
        """Return given vectors, and how many of them belong to none of the rows.

        Args:
            rows: All rows that need a vector, ascending.
            embedder: `file:VECTORS` or `column:NAME`.

        Raises:
            InputError: Some row has no vector, as far as the ids tell.
        """
        ...


# ── in memory ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class HeldValues:
    """A `Values` in memory."""

    values: Callable[[IntArray], Any]
    """Returns the values of some rows."""
    batches: int = 1
    """How many batches a function gets per call."""

    def over(self, rows: IntArray, work: Work, advance: Advance) -> Iterator[tuple[IntArray, Named]]:
        """See `Values`; in the order of the rows."""
        step = self.batches * BATCH
        for begin in range(0, len(rows), step):
            block = rows[begin : begin + step]
            yield block, work(self.values(block), advance)


@dataclass(frozen=True)
class Held:
    """An `Embeddable` of a pool in memory."""

    path: str
    read_ids: Callable[[], Sequence[str] | NDArray[Any]]
    """Returns the N ids, in code-point order."""
    read_texts: Callable[[], ObjectArray]
    """Returns the N texts; None = no text."""
    column: Callable[[str], NDArray[Any]]
    """Returns the vectors in a column, shape (N, D)."""
    has_text: bool = True

    @property
    def run(self) -> Run:
        """See `Embeddable`."""
        return run_here

    @classmethod
    def of(cls, pool: Pool, texts: Callable[[], ObjectArray]) -> "Held":
        """Wrap an open pool and a function that returns its texts, shape (N,), which is called only if needed."""
        return cls(pool.path, lambda: pool.ids, texts, pool.vector_column, pool.has_text)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "Held":
        """Wrap texts that are in no pool."""
        held = np.array(texts, dtype=object)
        return cls("", lambda: [str(row) for row in range(len(texts))], lambda: held, lambda _: held[:0])

    @cached_property
    def all_ids(self) -> Sequence[str] | NDArray[Any]:
        """The N ids."""
        return self.read_ids()

    @cached_property
    def all_texts(self) -> ObjectArray:
        """The N texts."""
        return self.read_texts()

    def texts(self, rows: IntArray, embedder: str) -> Values:
        """See `Embeddable`.

        Raises:
            InputError: A row has no text, or there is no row.
        """
        missing = [
            row
            for row, text in zip(rows.tolist(), self.all_texts[rows].tolist(), strict=True)
            if text is None
        ]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(rows)} instructions have no text (the first: id "
                f"{str(self.all_ids[missing[0]])!r}), which `embedder={embedder!r}` needs; use `embedder=file:VECTORS`, `embedder=column:NAME` or `clusters=0`"
            )
        if not len(rows):
            raise InputError(f"there are no instructions to embed with {embedder}")
        return HeldValues(self._texts, batches=4 if embedder == "lsa" else 1)

    def keys(self, rows: IntArray) -> bytes:
        """See `Embeddable`."""
        return self._keys[rows].tobytes()

    def longest_first(self, rows: IntArray) -> IntArray:
        """See `Embeddable`; texts of one length by code point."""
        texts = self._texts(rows)
        order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), texts[i]))
        return rows[order]

    def given(self, rows: IntArray, embedder: str) -> tuple[Values, int]:
        """See `Embeddable`; all vectors of the rows are read, and checked to be finite.

        Raises:
            InputError: A vector cannot be used.
            ShapeError: The column does not have one vector per row.
        """
        kind, _, name = embedder.partition(":")
        ids, unused = [str(self.all_ids[row]) for row in rows.tolist()], 0
        if kind == "file":
            vectors, unused = read_given_vectors(name, ids=ids)
        else:
            column = self.column(name)
            if column.ndim != 2 or len(column) != len(self.all_ids) or column.shape[1] == 0:
                raise ShapeError(f"column {name} has shape {column.shape}; wanted ({len(self.all_ids)}, D)")
            vectors = to_float32(column[rows])
            check_finite(vectors, ids=ids, where=f"column {name}")
        return HeldValues(lambda some: vectors[np.searchsorted(rows, some)]), unused

    @cached_property
    def _keys(self) -> NDArray[np.uint8]:
        keys = text_keys(
            [text or "" for text in self.all_texts.tolist()]
        )  # keys of missing texts are never used
        return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)

    def _texts(self, rows: IntArray) -> list[str]:
        texts: list[str] = self.all_texts[rows].tolist()
        return texts


# ── in files ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class FiledValues:
    """A `Values` in files."""

    files: Sequence[Path]
    places: Places
    run: Run
    read: Read
    """Yields tables with `shard`, `row` and one more column, of texts or of vectors packed by `sent`."""
    name: str
    """Their name in messages."""
    beside: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """What reading needs to know of each row, shape (N,); see `shard_sources`."""

    def over(self, rows: IntArray, work: Work, advance: Advance) -> Iterator[tuple[IntArray, Named]]:
        """See `Values`."""
        sources = shard_sources(self.files, self.places, rows, **self.beside)
        arguments = {"work": work, "name": self.name}
        for table in self.run(sources, self.read, _on_table, arguments, batch=BATCH):
            advance(len(table))
            columns = {name: from_arrow(table[name], self.name) for name in table.column_names[2:]}
            yield self.places.rows(table["shard"].to_numpy(), table["row"].to_numpy()), columns


@dataclass(frozen=True, slots=True)
class Filed:
    """An `Embeddable` of a pool that is read file by file."""

    path: str
    files: Sequence[Path]
    read: HowRead
    places: Places
    run: Run
    all_ids: Any
    """The N ids, an Arrow column."""
    text_keys: Any = None
    """`key_of` each text, an Arrow column; None = not known."""
    has_text: bool = True
    read_texts: Read | None = None
    """Reads other texts than the instructions; see `FiledValues`."""
    beside: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """What it needs to know of each row."""

    def texts(self, rows: IntArray, embedder: str) -> Values:  # noqa: ARG002  (as of `Embeddable`)
        """See `Embeddable`."""
        read = self.read_texts or partial(texts_in, read=self.read)
        return FiledValues(self.files, self.places, self.run, read, embedder, self.beside)

    def keys(self, rows: IntArray) -> bytes | None:
        """See `Embeddable`."""
        return None if self.text_keys is None else joined(self.text_keys.take(rows))

    def longest_first(self, rows: IntArray) -> IntArray:
        """See `Embeddable`; the lengths are not known, and each batch is sorted where it is embedded."""
        return rows

    def _values(self, read: Read, name: str) -> FiledValues:
        return FiledValues(self.files, self.places, self.run, read, name)

    def given(self, rows: IntArray, embedder: str) -> tuple[Values, int]:
        """See `Embeddable`; only ids are read at this point."""
        kind, _, name = embedder.partition(":")
        ids = self.all_ids.take(rows).combine_chunks()
        unused = check_vector_ids(name, ids) if kind == "file" else 0
        return self._values(partial(_given, read=self.read, embedder=embedder), embedder), unused


def _given(sources: Table, *, read: HowRead, embedder: str) -> Iterator[Table]:
    """Read the vectors of some rows of a shard, `BLOCK` at a time: `shard`, `row` (in the shard, in id order), `vector`."""
    import pyarrow as pa

    kind, _, name = embedder.partition(":")
    for source in sources.to_pylist():
        with open_pool(source["path"], read=read) as pool:
            rows = wanted_rows(source, len(pool.ids))
            if kind == "column":
                vectors = pool.vector_column(name)[rows]
            else:
                vectors = read_some_vectors(name, ids=pool.ids[rows].tolist())
        for begin in range(0, len(rows), BLOCK):
            block = rows[begin : begin + BLOCK]
            shard = np.full(len(block), source["shard"], dtype=np.int32)
            vector = sent(vectors[begin : begin + BLOCK])
            yield pa.table({"shard": shard, "row": block, "vector": vector})


@dataclass(frozen=True, slots=True)
class Known:
    """A `Values` of which some texts are in memory already and are not read again."""

    source: Values
    rows: IntArray
    """The rows whose texts are in memory, ascending."""
    texts: Sequence[str]
    """Their texts."""

    def over(self, rows: IntArray, work: Work, advance: Advance) -> Iterator[tuple[IntArray, Named]]:
        """See `Values`."""
        known = np.isin(rows, self.rows)
        yield from HeldValues(self._texts, batches=4).over(rows[known], work, advance)
        if not known.all():
            yield from self.source.over(rows[~known], work, advance)

    def _texts(self, rows: IntArray) -> list[str]:
        return [self.texts[i] for i in np.searchsorted(self.rows, rows).tolist()]


def _on_table(table: Table, *, work: Work, name: str) -> Table:
    """Call a function with the texts or vectors of a table, and replace them by what it returns."""
    import pyarrow as pa

    columns = work(from_arrow(table[table.column_names[2]], name), lambda _: None)
    return pa.table({"shard": table["shard"], "row": table["row"], **to_arrow(columns)})


def to_arrow(columns: Named) -> dict[str, Any]:
    """Convert what a function of a batch returns into Arrow arrays."""
    import pyarrow as pa

    return {
        name: sent(values) if isinstance(values, np.ndarray) and values.ndim == 2 else pa.array(values)
        for name, values in columns.items()
    }


def from_arrow(column: Any, name: str) -> Any:  # noqa: ANN401  (an Arrow column to an array, or a list of texts)
    """Read the values of a table's column; `name` is their name in messages."""
    import pyarrow as pa

    if pa.types.is_large_binary(column.type):
        return received(column, name)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column.to_pylist() if is_text else column.to_numpy()


def sent(vectors: Float32Array) -> Any:  # noqa: ANN401  (an Arrow array)
    """Pack rows into an Arrow array to be passed on, of the same type whatever their length."""
    import pyarrow as pa

    ends = np.arange(len(vectors) + 1, dtype=np.int64) * (4 * vectors.shape[1])
    body = np.ascontiguousarray(vectors, dtype="<f4")
    return pa.Array.from_buffers(
        pa.large_binary(), len(vectors), [None, pa.py_buffer(ends), pa.py_buffer(body)]
    )


def received(column: Any, name: str) -> Float32Array:  # noqa: ANN401  (an Arrow column)
    """Unpack the rows that `sent` packed, shape (n, D); D = 0 if there are none.

    Args:
        column: A table's column.
        name: The vectors' name in messages.

    Raises:
        InputError: The vectors differ in length.

    Example:
        >>> import pyarrow as pa
        >>> received(pa.chunked_array([sent(np.eye(2, dtype=np.float32))]), "these").tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    blocks: list[Float32Array] = []
    for chunk in column.chunks:
        _, ends, body = chunk.buffers()
        ends = np.frombuffer(ends, np.int64)[chunk.offset :][: len(chunk) + 1] // 4
        for width in np.unique(np.diff(ends)).tolist():  # one, unless files differ
            check_dimensions(width, blocks[0].shape[1] if blocks else int(ends[1] - ends[0]), name)
        if len(chunk):
            flat = np.frombuffer(body, "<f4")[ends[0] : ends[-1]]
            blocks.append(flat.reshape(len(chunk), -1))
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)


def check_dimensions(found: int, wanted: int, name: str) -> None:
    """Refuse a vector length that differs from the others'.

    Raises:
        InputError: It differs.
    """
    if found != wanted:
        raise InputError(
            f"{name}: some vectors have {found} numbers, others {wanted}; all must have the same length"
        )
