"""Vectors of texts: computed by an embedder, and cached by text."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Protocol
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import (
    KEY,
    Keys,
    Parts,
    discard,
    folder,
    joined,
    keep_newest,
    read_part,
    read_vectors,
    reason,
    text_keys,
    write_vectors,
)
from crowdselect.embed.reading import (
    Advance,
    Embeddable,
    Held,
    Named,
    Values,
    check_dimensions,
    from_arrow,
    to_arrow,
)
from crowdselect.engine.here import as_it_is, run_here
from crowdselect.errors import InputError, OutputError
from crowdselect.numeric.clusters import nearest
from crowdselect.numeric.turns import exact_cosines
from crowdselect.progress import Progress
from crowdselect.types import BoolArray, Float32Array, IntArray, Table

COMPUTED = -2
"""Takes the place of a part's number if a row's vector was computed just now."""

_NOWHERE = -1
_POOLS_KEPT = 8  # lsa's vectors of 100,000 instructions take 100 MB
_TRIES = 3  # to read vectors that disappear

Finish = Callable[[Float32Array], Named]
"""Turns vectors, shape (n, D), into what is needed of each: the vector itself, or a label."""


class TextEmbedder(Protocol):
    """Turns texts into vectors."""

    @property
    def work(self) -> Callable[[list[str], Advance], Float32Array]:
        """A function that computes the vectors of n texts, shape (n, D); it can be pickled."""
        ...

    @property
    def expensive(self) -> bool:
        """Whether vectors are so expensive that they are stored during the run even without a cache."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line facts to tell the user."""
        ...

    def named(self, dimensions: int) -> str:
        """Return the embedder's name and dimensions for people to read."""
        ...


class TextVectors:
    """Vectors of texts; with a cache, each text's vector is stored as soon as it is computed.

    Args:
        reading: Knows the texts' keys, and how parts are read.
        source: The texts.
        embedder: Computes the vectors.
        shelf: Cache folder of the vectors; None = no cache.
        progress: Called with the number of texts embedded.
    """

    def __init__(
        self,
        reading: Embeddable,
        source: Values,
        embedder: TextEmbedder,
        *,
        shelf: Path | None,
        progress: Progress,
    ) -> None:
        self._reading, self._source, self._embedder, self._progress = reading, source, embedder, progress
        self._cache_notes, self._dimensions = list[str](), 0
        self._shelf, self._parts = shelf, Parts(shelf) if shelf is not None else self._aside()

    @property
    def name(self) -> str:
        """See `Vectors`."""
        return self._embedder.named(self._dimensions)

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Vectors`."""
        return (*self._embedder.notes, *self._cache_notes)

    def prepare(self, rows: IntArray) -> None:
        """See `Vectors`."""
        if self._embedder.expensive:
            self._each(rows, None, self._progress)

    def of(self, rows: IntArray) -> Float32Array:
        """See `Vectors`."""
        vectors = self._each(rows, as_vector, self._progress)
        self._dimensions = vectors.shape[1]
        return vectors

    def labels(self, rows: IntArray, centres: Float32Array, progress: Progress) -> IntArray:
        """See `Vectors`."""
        finish = partial(as_label, centres=centres, name=self._embedder.named(centres.shape[1]))
        return self._each(rows, finish, progress).astype(np.int64)

    def cosines(self, rows: IntArray, texts: Sequence[str]) -> Float32Array:
        """See `Vectors`."""
        held = Held.of_texts(texts)
        places = np.arange(len(texts))
        source = held.texts(places, self.name)
        others = TextVectors(held, source, self._embedder, shelf=self._shelf, progress=silent).of(places)
        finish = partial(as_cosines, others=others, name=self._embedder.named(others.shape[1]))
        return np.asarray(self._each(rows, finish, self._progress), dtype=np.float32)

    def kept(self, rows: IntArray) -> BoolArray:
        """Tell which rows have vectors in the cache."""
        if self._parts is None:
            return np.zeros(len(rows), dtype=np.bool_)
        keys = self._keys(rows)
        texts = Keys.of(keys)
        return self._holding(texts, len(rows))[1][texts.find(keys)]

    def _each(self, rows: IntArray, finish: Finish | None, progress: Progress) -> NDArray[Any]:
        """Look up or compute the vectors of rows, and return what `finish` makes of each, in row order.

        Args:
            rows: Ascending.
            finish: None = only compute and store the vectors.
            progress: Called with the number of distinct texts done, and their total.

        Raises:
            OutputError: Vectors keep disappearing, or nothing can be stored for workers on a cluster.
        """
        keys = None if self._parts is None else self._keys(rows)
        texts = None if keys is None else Keys.of(keys)
        first = np.arange(len(rows)) if texts is None else np.sort(texts.place)
        results = InOrder(len(rows), self.name)
        for _ in range(_TRIES):
            sources, kept = self._holding(texts, len(rows))
            new = results.missing(first[~kept[first]])
            if len(new):
                advance = counting(progress, len(first) - len(new), len(first))
                self._compute(rows, new, finish, results, advance)
            if finish is not None and texts is not None:
                advance = counting(progress if not len(new) else silent, 0, len(first))
                self._look_up(sources, texts, finish, results, advance)
            if not results.missing(first if finish is not None else new).size:
                return results.values if texts is None or keys is None else results.values[texts.find(keys)]
        raise OutputError(f"{folder()}: vectors disappear as they are read; does another process empty it?")

    def _compute(
        self, rows: IntArray, new: IntArray, finish: Finish | None, results: "InOrder", advance: Advance
    ) -> None:
        """Embed the texts of new rows (indices into `rows`), and store their vectors."""
        work, lost = partial(_embedded, embed=self._embedder.work, parts=self._parts, finish=finish), None
        try:
            order = self._reading.longest_first(rows[new]) if self._embedder.expensive else rows[new]
            for batch, columns in self._source.over(order, work, advance):
                if finish is None and self._parts is not None:
                    lost = next((name for name in set(columns["part"]) if not self._parts.has(name)), None)
                if lost is not None:
                    break
                results.take(np.searchsorted(rows, batch), columns, COMPUTED)
        except OutputError as error:
            self._do_without_cache(error)
        if lost is not None and self._parts is not None:
            raise OutputError(
                f"{self._parts.folder}: a worker wrote {lost}, and it is not here; on several machines "
                "the cache folder must be one that all of them share: set CROWDSELECT_CACHE to it"
            )
        if self._parts is not None and not self._embedder.expensive:
            keep_newest(self._parts.folder.parent, _POOLS_KEPT)

    def _look_up(
        self,
        sources: Sequence[dict[str, Any]],
        texts: Keys,
        finish: Finish,
        results: "InOrder",
        advance: Advance,
    ) -> None:
        """Read the vectors of texts from parts."""
        if not sources:
            return
        here = self._reading.run is run_here
        wanted = (
            texts if here or finish is as_vector else None
        )  # many keys cost more to send than many labels
        arguments = {"wanted": wanted, "finish": finish}
        for table in self._reading.run(sources, as_it_is, _of_parts, arguments, batch=1):
            positions = texts.find(joined(table[KEY]))
            wanted_rows = slice(None) if wanted is not None else np.flatnonzero(positions != _NOWHERE)
            advance(len(results.missing(positions[wanted_rows])))
            columns = {
                name: from_arrow(table[name], self.name)[wanted_rows] for name in table.column_names[2:]
            }
            results.take(positions[wanted_rows], columns, table["part"].to_numpy()[wanted_rows])
        for source in sources:
            if not Path(source["path"]).exists():
                self._refuse(Path(source["path"]), "damaged or gone")

    def _holding(self, texts: Keys | None, count: int) -> tuple[list[dict[str, Any]], BoolArray]:
        """Find the parts that hold some of the texts, and which texts (by their places) these are."""
        sources, kept = list[dict[str, Any]](), np.zeros(count, dtype=np.bool_)
        if texts is None or self._parts is None:
            return sources, kept
        for number, path in enumerate(self._parts.paths()):
            try:
                positions = texts.find(joined(read_part(path, KEY)[KEY]))
            except (InputError, FileNotFoundError, NotADirectoryError) as error:
                self._refuse(path, reason(error))
                continue
            kept[positions[positions != _NOWHERE]] = True
            if (positions != _NOWHERE).any():
                sources.append({"part": number, "path": str(path)})
        return sources, kept

    def _keys(self, rows: IntArray) -> bytes:
        keys = self._reading.keys(rows)
        assert keys is not None  # noqa: S101  (for the type checker: without keys there is no cache)
        return keys

    def _refuse(self, path: Path, why: str) -> None:
        discard(path)
        note = f"cache: {path} is not usable ({why}); its vectors are recomputed"
        self._cache_notes += [note] if note not in self._cache_notes else []

    def _do_without_cache(self, error: OutputError) -> None:
        """Continue although nothing can be stored; not on a cluster, whose workers would compute in vain."""
        where = f"{self._shelf} ({reason(error)})"
        if self._reading.run is not run_here:
            raise OutputError(
                f"cache: nothing can be stored in {where}; set CROWDSELECT_CACHE to a folder that all workers share"
            ) from error
        if self._shelf is None:
            raise error
        self._cache_notes.append(f"cache: nothing stored in {where}")
        self._shelf, self._parts = None, self._aside()

    def _aside(self) -> Parts | None:
        """Create a folder for expensive vectors that is deleted at the end of the run; None if they are cheap."""
        if not self._embedder.expensive:
            return None
        parent = None if self._reading.run is run_here else folder()
        try:
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(mkdtemp(prefix="crowdselect-once-", dir=parent))
        except OSError as error:
            raise OutputError(
                f"cache: nothing can be stored in {parent} ({error.strerror or error}); set CROWDSELECT_CACHE to a folder "
                "that all workers share"
            ) from error
        finalize(self, rmtree, temporary, ignore_errors=True)
        return Parts(temporary)


class InOrder:
    """Collects what was made of the vectors of rows, in row order."""

    def __init__(self, count: int, name: str) -> None:
        self.values: NDArray[Any] = np.empty((count, 0), np.float32)
        self._name, self._begun = name, False
        self._part = np.full(count, _NOWHERE)

    def take(self, rows: IntArray, columns: Named, part: IntArray | int) -> None:
        """Take the results for some rows; if two parts hold the same text, the one whose name sorts first counts."""
        part = np.broadcast_to(part, len(rows))
        better = (self._part[rows] == _NOWHERE) | (part < self._part[rows])
        self._part[rows[better]] = part[better]
        values = columns.get("vector", columns.get("label"))
        if values is None or not len(values):
            return
        if not self._begun:
            self.values, self._begun = np.zeros((len(self._part), *values.shape[1:]), values.dtype), True
        if values.ndim == 2:
            check_dimensions(values.shape[1], self.values.shape[1], self._name)
        self.values[rows[better]] = values if better.all() else values[better]

    def missing(self, rows: IntArray) -> IntArray:
        """Return those of some rows that have no result yet."""
        missing: IntArray = rows[self._part[rows] == _NOWHERE]
        return missing


def silent(done: int, total: int) -> None:
    """Discard a progress report."""


def counting(progress: Progress, done: int, total: int) -> Advance:
    """Return a function that counts up from `done` and reports it."""

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return advance


# ── functions of a batch ─────────────────────────────────────────────────────────────────────────────


def as_vector(vectors: Float32Array) -> Named:
    """Return the vectors unchanged."""
    return {"vector": vectors}


def as_label(vectors: Float32Array, *, centres: Float32Array, name: str) -> Named:
    """Return the nearest centre of each vector; `name` is the vectors' name in messages."""
    if len(vectors):
        check_dimensions(vectors.shape[1], centres.shape[1], name)
    return {"label": nearest(vectors, centres).astype(np.int32)}


def as_cosines(vectors: Float32Array, *, others: Float32Array, name: str) -> Named:
    """Return the cosines of each vector with others, shape (n, E); `name` is the vectors' name in messages."""
    if len(vectors):
        check_dimensions(vectors.shape[1], others.shape[1], name)
    return {"vector": exact_cosines(vectors, others)}


def _embedded(
    texts: list[str],
    advance: Advance,
    *,
    embed: Callable[[list[str], Advance], Float32Array],
    parts: Parts | None,
    finish: Finish | None,
) -> Named:
    """Embed texts, unless their part exists, as after a repeated task; without `finish`, return the part's name."""
    if parts is None:
        return {} if finish is None else finish(embed(texts, advance))
    keys = text_keys(texts)
    name = parts.name(keys)
    if not parts.has(name) or finish is not None:
        vectors = embed(texts, advance)
        write_vectors(parts, keys, vectors)
    return {"part": [name] * len(texts)} if finish is None else finish(vectors)


def _of_parts(sources: Table, *, wanted: Keys | None, finish: Finish) -> Table:
    """Read parts: their keys, `part`, and what `finish` makes of the vectors; damaged or missing parts yield nothing."""
    import pyarrow as pa

    tables = []
    for source in sources.to_pylist():
        try:
            keys, vectors = read_vectors(Path(source["path"]))
        except (InputError, FileNotFoundError):
            discard(Path(source["path"]))
            keys, vectors = b"", np.empty((0, 0), np.float32)
        if wanted is not None:
            hits = wanted.find(keys) != _NOWHERE
            if not hits.all():
                keys, vectors = np.frombuffer(keys, "V32")[hits].tobytes(), vectors[hits]
        key_column = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(vectors), [None, pa.py_buffer(keys)]
        )
        part = np.full(len(vectors), source["part"])
        tables.append(pa.table({KEY: key_column, "part": part, **to_arrow(finish(vectors))}))
    return pa.concat_tables(tables)
