"""Vectors of a pool that is read file by file: for some rows, or for all of them, one block at a time, never held whole.

`lsa` is fitted on a sample and computed whenever a row is asked for; given vectors are read where they are. What a model computes is kept in the cache folder
as Parquet parts, by the text that it was computed from: nothing is embedded twice, whatever the files and whoever
computes it, and a run that was killed goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryFile, mkdtemp
from typing import Any, Protocol
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import discard, folder, key_of, read_vectors, write_vectors
from crowdselect.embed.given import check_vector_ids, read_some_vectors
from crowdselect.embed.models import given_name, lsa_name, text_model, unused_note
from crowdselect.engine.here import Read, Run, Unchanged, as_it_is, run_here
from crowdselect.errors import InputError, OutputError
from crowdselect.numeric import lsa
from crowdselect.numeric.clusters import nearest
from crowdselect.parts import KEY, Keys, Parts, joined, read_part
from crowdselect.pool.pool import open_pool
from crowdselect.pool.shards import BLOCK, Places, Texts, shard_sources, wanted_rows
from crowdselect.progress import Progress
from crowdselect.types import IntArray, Table

FloatArray = NDArray[np.float32]

BATCH = 4096
"""Texts that a worker is given at a time and, where a model embeds them, writes as a part: what a crash loses at most."""

_NOWHERE = -1
_TRIES = 3  # at vectors that disappear


class Vectors(Protocol):
    """Gives vectors of a pool's rows, (n, D) float32."""

    @property
    def name(self) -> str:
        """The embedder with what the reader needs to know; known once some were given."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line facts to tell the user."""
        ...

    def of(self, rows: IntArray) -> FloatArray:
        """Give the vectors of a few rows (ascending), in their order."""
        ...

    def labels(self, rows: IntArray, centres: FloatArray, progress: Progress) -> IntArray:
        """Give the nearest centre of each row (ascending), in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """The texts of a pool: where they are, and who reads them."""

    files: Sequence[Path]
    layout: str
    places: Places
    run: Run

    def over(
        self, rows: IntArray, worker: type, arguments: dict[str, Any], *, read: Read | None = None
    ) -> Any:  # noqa: ANN401  (tables)
        """Have workers given the texts of some rows, or what else `read` gives; what they return has `shard` and `row`."""
        sources = shard_sources(self.files, self.places, rows)
        return self.run(sources, read or Texts(self.layout), worker, arguments, batch=BATCH)

    def at(self, table: Table) -> IntArray:
        """Give the rows of what came back."""
        return self.places.rows(table["shard"].to_numpy(), table["row"].to_numpy())


# ── lsa ──────────────────────────────────────────────────────────────────────────────────────────────


class LsaVectors:
    """Vectors by `lsa`.

    Args:
        reading: Where texts are.
        rows: All rows that have vectors, ascending.
        by_key: Places in `rows`, in the order of the sample's keys: the first are what is fitted on.
        sample: How many of these will be asked for first.
        seed: Of the fit.
    """

    notes = ()

    def __init__(self, reading: Reading, rows: IntArray, by_key: IntArray, *, sample: int, seed: int) -> None:
        self._reading, self._count = reading, len(rows)
        self._known = self._read(np.sort(rows[by_key[: max(sample, lsa.SAMPLE)]]))
        first = np.sort(rows[by_key[: lsa.SAMPLE]])
        self._basis = lsa.fit([self._known[row] for row in first.tolist()], seed=seed)

    @property
    def name(self) -> str:
        """See `Vectors`."""
        return lsa_name(self._count, self._basis.directions.shape[1])

    def of(self, rows: IntArray) -> FloatArray:
        """See `Vectors`."""
        new = [row for row in rows.tolist() if row not in self._known]
        known = self._known | (self._read(np.array(new)) if new else {})
        texts = [known[row] for row in rows.tolist()]
        blocks = [
            lsa.project(texts[begin : begin + BATCH], self._basis) for begin in range(0, len(texts), BATCH)
        ]
        return np.concatenate(blocks)

    def labels(self, rows: IntArray, centres: FloatArray, progress: Progress) -> IntArray:
        """See `Vectors`."""
        done, labels = 0, np.empty(len(self._reading.places.order), dtype=np.int64)
        for table in self._reading.over(rows, LsaLabels, {"basis": self._basis, "centres": centres}):
            labels[self._reading.at(table)] = table["label"].to_numpy()
            done += len(table)
            progress(done, len(rows))
        return labels[rows]

    def _read(self, rows: IntArray) -> dict[int, str]:
        found: dict[int, str] = {}
        for table in self._reading.over(rows, Unchanged, {}):
            found.update(zip(self._reading.at(table).tolist(), table["text"].to_pylist(), strict=True))
        return found


class LsaLabels:
    """A worker that puts texts into clusters by `lsa`."""

    def __init__(self, basis: lsa.Basis, centres: FloatArray) -> None:
        self._basis, self._centres = basis, centres

    def __call__(self, table: Table) -> Table:
        """Give `shard`, `row` and `label`."""
        vectors = lsa.project(table["text"].to_pylist(), self._basis)
        return _labelled(table, "text", nearest(vectors, self._centres))


def _labelled(table: Table, column: str, labels: IntArray) -> Table:
    import pyarrow as pa

    return table.drop_columns([column]).append_column("label", pa.array(labels.astype(np.int32)))


# ── vectors that somebody else computed ──────────────────────────────────────────────────────────────


class GivenVectors:
    """Vectors of a column of the pool (`column:NAME`), or of a Parquet file (`file:VECTORS`).

    Args:
        reading: Where the pool is.
        ids: Of the rows that are to have vectors, an Arrow array.
        embedder: What was asked for.

    Raises:
        InputError: The file does not have one vector for each.
    """

    def __init__(self, reading: Reading, ids: Any, embedder: str) -> None:  # noqa: ANN401
        self._reading, self._embedder, self._dimensions = reading, embedder, 0
        self._read, path = Given(reading.layout, embedder), embedder.removeprefix("file:")
        self.notes = () if path == embedder else unused_note(path, check_vector_ids(path, ids))

    @property
    def name(self) -> str:
        """See `Vectors`."""
        return given_name(self._embedder, self._dimensions)

    def of(self, rows: IntArray) -> FloatArray:
        """See `Vectors`."""
        found, vectors = [], []
        for table in self._reading.over(rows, Unchanged, {}, read=self._read):
            found.append(self._reading.at(table))
            vectors.append(received(table["vector"], self._embedder))
            self._dimensions = self._dimensions or vectors[-1].shape[1]
            check_dimensions(vectors[-1], self._dimensions, self._embedder)
        return np.concatenate(vectors)[np.argsort(np.concatenate(found))]

    def labels(self, rows: IntArray, centres: FloatArray, progress: Progress) -> IntArray:
        """See `Vectors`."""
        done, labels = 0, np.empty(len(self._reading.places.order), dtype=np.int64)
        arguments = {"centres": centres, "embedder": self._embedder}
        for table in self._reading.over(rows, GivenLabels, arguments, read=self._read):
            labels[self._reading.at(table)] = table["label"].to_numpy()
            done += len(table)
            progress(done, len(rows))
        return labels[rows]


class Given:
    """A `Read` that gives the vectors of some rows of a shard, `BLOCK` at a time."""

    def __init__(self, layout: str, embedder: str) -> None:
        self._layout, (self._kind, _, self._rest) = layout, embedder.partition(":")

    def __call__(self, sources: Table) -> Iterator[Table]:
        """Yield `shard`, `row` (in the shard, in id order) and `vector`."""
        import pyarrow as pa

        for source in sources.to_pylist():
            with open_pool(source["path"], layout=self._layout) as pool:
                rows = wanted_rows(source, len(pool.ids))
                if self._kind == "column":
                    vectors = pool.vector_column(self._rest)[rows]
                else:
                    vectors = read_some_vectors(self._rest, ids=pool.ids[rows].tolist())
            for begin in range(0, len(rows), BLOCK):
                block = rows[begin : begin + BLOCK]
                yield pa.table(
                    {
                        "shard": np.full(len(block), source["shard"], dtype=np.int32),
                        "row": block,
                        "vector": sent(vectors[begin : begin + BLOCK]),
                    }
                )


class GivenLabels:
    """A worker that puts given vectors into clusters."""

    def __init__(self, centres: FloatArray, embedder: str) -> None:
        self._centres, self._embedder = centres, embedder

    def __call__(self, table: Table) -> Table:
        """Give `shard`, `row` and `label`."""
        vectors = received(table["vector"], self._embedder)
        check_dimensions(vectors, self._centres.shape[1], self._embedder)
        return _labelled(table, "vector", nearest(vectors, self._centres))


def check_dimensions(vectors: FloatArray, wanted: int, embedder: str) -> None:
    """Refuse vectors of several lengths.

    Raises:
        InputError: They are not of the length of the others.
    """
    if vectors.shape[1] != wanted:
        raise InputError(
            f"{embedder}: some vectors have {vectors.shape[1]} numbers, others {wanted}; all must have the same length"
        )


def sent(vectors: FloatArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """Put rows into an Arrow array to be handed on; of one type, whatever their length."""
    import pyarrow as pa

    ends = np.arange(len(vectors) + 1, dtype=np.int64) * (4 * vectors.shape[1])
    body = np.ascontiguousarray(vectors, dtype="<f4")
    return pa.Array.from_buffers(
        pa.large_binary(), len(vectors), [None, pa.py_buffer(ends), pa.py_buffer(body)]
    )


def received(column: Any, embedder: str) -> FloatArray:  # noqa: ANN401  (an Arrow column)
    """Give the rows of what `sent` made, shape (n, D).

    Raises:
        InputError: They are not of one length.
    """
    rows = [np.frombuffer(row, "<f4") for row in column.to_pylist()]
    for row in rows:
        check_dimensions(row[None], len(rows[0]), embedder)
    return np.array(rows, dtype=np.float32)


# ── a model ──────────────────────────────────────────────────────────────────────────────────────────


class ModelVectors:
    """Vectors by a model, of which each text's are on a shelf as soon as they are computed.

    Args:
        reading: Where texts are.
        keys: Of each row's text, shape (N,), 32 bytes each.
        embedder: What was asked for.
        trust_remote_code: As for `text_model`.
        cache: Whether vectors are kept.
        progress: Told how many rows are embedded.
    """

    def __init__(
        self,
        reading: Reading,
        keys: Table,
        embedder: str,
        *,
        trust_remote_code: bool,
        cache: bool,
        progress: Progress,
    ) -> None:
        self._reading, self._keys, self._progress = reading, keys, progress
        self._embedder, self._trust, self._cache = embedder, trust_remote_code, cache
        self._model = text_model(embedder, trust_remote_code=trust_remote_code)
        self._dimensions, self._said = 0, list[str]()
        self._parts = Parts(self._shelf())

    def _shelf(self) -> Path:
        """Where parts are kept; if they are not to be, or cannot be, a folder that is deleted in the end."""
        kept, here = (self._model.shelf if self._cache else None), self._reading.run is run_here
        try:
            (kept or folder()).mkdir(parents=True, exist_ok=True)
            if kept is not None:
                TemporaryFile(dir=kept).close()
                return kept
        except OSError as error:
            why = f"{kept or folder()} ({error.strerror or error})"
            if not here:
                raise OutputError(
                    f"cache: nothing can be kept in {why}; set CROWDSELECT_CACHE to a folder that all workers share"
                ) from error
            self._said += [f"cache: nothing kept in {why}"] if kept is not None else []
        once = Path(mkdtemp(prefix="crowdselect-once-", dir=None if here else folder()))
        finalize(self, rmtree, once, ignore_errors=True)
        return once

    @property
    def name(self) -> str:
        """See `Vectors`."""
        return self._model.named(self._dimensions)

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Vectors`."""
        return (*self._model.notes, *self._said)

    def of(self, rows: IntArray) -> FloatArray:
        """See `Vectors`."""
        vectors = np.empty((0, 0), np.float32)

        def take(table: Table, source: IntArray, texts: Keys) -> None:  # noqa: ARG001  (as for `labels`)
            nonlocal vectors
            at, part = table["at"].to_numpy(), table["part"].to_numpy()
            found = received(table["vector"], str(self._parts.folder))
            if found.size and not vectors.size:
                vectors = np.zeros((len(rows), found.shape[1]), np.float32)
            if found.size:
                check_dimensions(found, vectors.shape[1], str(self._parts.folder))
            better = _better(source[at], part)
            vectors[at[better]], source[at[better]] = found[better], part[better]

        places = self._through(rows, lambda texts: (Shelved, {"texts": texts}), take)
        self._dimensions = vectors.shape[1]
        return vectors[places]

    def labels(self, rows: IntArray, centres: FloatArray, progress: Progress) -> IntArray:
        """See `Vectors`."""
        labels = np.zeros(len(rows), np.int64)

        def take(table: Table, source: IntArray, texts: Keys) -> None:
            at, part = texts.find(joined(table[KEY])), table["part"].to_numpy()
            ours = np.flatnonzero(at != _NOWHERE)
            ours = ours[_better(source[at[ours]], part[ours])]
            labels[at[ours]], source[at[ours]] = table["label"].to_numpy()[ours], part[ours]
            progress(int((source != _NOWHERE).sum()), len(texts.place))

        places = self._through(rows, lambda _: (ShelfLabels, {"centres": centres}), take)
        return labels[places]

    def embed(self, rows: IntArray) -> None:
        """See that the texts of some rows are on the shelf."""
        self._fill(rows, Keys.of(joined(self._keys.take(rows))))

    def _through(
        self,
        rows: IntArray,
        work: Callable[[Keys], tuple[type, dict[str, Any]]],
        take: Callable[[Table, IntArray, Keys], None],
    ) -> IntArray:
        """Embed what is missing, and have workers go through the parts that hold the texts of some rows.

        Args:
            rows: The rows.
            work: Given the texts, says what the workers are.
            take: Given what a worker returned, the part that each row's vector is from (-1 = none yet), and the texts.

        Returns:
            Where in `rows` the first one with the text of each stands.

        Raises:
            OutputError: Vectors disappear as often as they are computed.
        """
        given = joined(self._keys.take(rows))
        texts = Keys.of(given)
        for _ in range(_TRIES):
            sources = self._fill(rows, texts)
            source = np.full(len(rows), _NOWHERE)
            worker, arguments = work(texts)
            for table in self._reading.run(sources, as_it_is, worker, arguments, batch=1):
                take(table, source, texts)
            if (source[texts.place] != _NOWHERE).all():
                return texts.find(given)
            gone = [one["path"] for one in sources if not Path(one["path"]).exists()]
            self._said += [f"cache: {path} was not usable; its vectors were computed again" for path in gone]
        raise OutputError(
            f"{self._parts.folder}: vectors disappear as they are read; does another process empty it?"
        )

    def _fill(self, rows: IntArray, texts: Keys) -> list[dict[str, Any]]:
        """Embed the texts that are on no part; give the parts that hold some of them."""
        sources, known = self._holding(texts, len(rows))
        first = np.sort(texts.place)
        new = rows[first[~known[first]]]
        if not len(new):
            return sources
        done = len(first) - len(new)
        arguments = {
            "folder": self._parts.folder,
            "embedder": self._embedder,
            "trust_remote_code": self._trust,
        }
        for table in self._reading.over(new, EmbedWorker, arguments):
            for row in table.to_pylist():
                if row["count"] and not self._parts.has(row["part"]):
                    raise OutputError(
                        f"{self._parts.folder}: a worker wrote {row['part']}, and it is not here; on several machines "
                        "the cache folder must be one that all of them share: set CROWDSELECT_CACHE to it"
                    )
                done += row["count"]
                self._progress(done, len(first))
        return self._holding(texts, len(rows))[0]

    def _holding(self, texts: Keys, count: int) -> tuple[list[dict[str, Any]], NDArray[np.bool_]]:
        """Find the parts that hold some texts, and which of these are on one."""
        known, sources = np.zeros(count, dtype=np.bool_), []
        for number, path in enumerate(self._parts.paths()):
            try:
                at = texts.find(joined(read_part(path, KEY)[KEY]))
            except (InputError, FileNotFoundError):
                discard(path)
                self._said.append(f"cache: {path} was not usable; its vectors were computed again")
                continue
            known[at[at != _NOWHERE]] = True
            if (at != _NOWHERE).any():
                sources.append({"part": number, "path": str(path)})
        return sources, known


def _better(source: IntArray, part: IntArray) -> NDArray[np.bool_]:
    """Of equal texts in two parts, the part whose name is first counts, as for `VectorCache`."""
    return np.asarray((source == _NOWHERE) | (part < source))


class EmbedWorker:
    """A worker that embeds texts by a model, loaded once, and writes them as a part."""

    def __init__(self, folder: Path, embedder: str, *, trust_remote_code: bool) -> None:
        self._parts = Parts(folder)
        self._model = text_model(embedder, trust_remote_code=trust_remote_code)

    def __call__(self, table: Table) -> Table:
        """Embed a batch, unless its part is there: it was handed out a second time."""
        import pyarrow as pa

        texts = table["text"].to_pylist()
        keys = [key_of(text) for text in texts]
        name = self._parts.name(keys)
        if texts and not self._parts.has(name):
            write_vectors(self._parts, keys, self._model(texts))
        return pa.table({"part": [name], "count": [len(texts)]})


class Shelved:
    """A worker that reads the vectors of some texts from parts."""

    def __init__(self, texts: Keys) -> None:
        self._texts = texts

    def __call__(self, sources: Table) -> Table:
        """Give `at` (in `texts`), `part` and `vector`; nothing of a part that cannot be used."""
        import pyarrow as pa

        tables = []
        for source in sources.to_pylist():
            keys, vectors = _usable(source["path"])
            at = self._texts.find(keys)
            hits = np.flatnonzero(at != _NOWHERE)
            columns = {
                "at": at[hits],
                "part": np.full(len(hits), source["part"]),
                "vector": sent(vectors[hits]),
            }
            tables.append(pa.table(columns))
        return pa.concat_tables(tables)


class ShelfLabels:
    """A worker that puts the texts of parts into clusters."""

    def __init__(self, centres: FloatArray) -> None:
        self._centres = centres

    def __call__(self, sources: Table) -> Table:
        """Give the parts' keys, `part` and `label`; nothing of a part that cannot be used."""
        import pyarrow as pa

        tables = []
        for source in sources.to_pylist():
            keys, vectors = _usable(source["path"])
            if len(vectors):
                check_dimensions(vectors, self._centres.shape[1], source["path"])
            body = [None, pa.py_buffer(keys)]
            columns = {
                KEY: pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(vectors), body),
                "part": np.full(len(vectors), source["part"]),
                "label": nearest(vectors, self._centres).astype(np.int32),
            }
            tables.append(pa.table(columns))
        return pa.concat_tables(tables)


def _usable(path: str) -> tuple[bytes, FloatArray]:
    """Read a part; one that is damaged or gone is thrown away and has no rows."""
    try:
        return read_vectors(Path(path))
    except (InputError, FileNotFoundError):
        discard(Path(path))
        return b"", np.empty((0, 0), np.float32)
