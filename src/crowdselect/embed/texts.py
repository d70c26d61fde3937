"""Vectors of texts: computed by an embedder, and found again by their text where they are kept."""

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
    Embeddable,
    Named,
    Told,
    Values,
    check_dimensions,
    from_arrow,
    to_arrow,
)
from crowdselect.engine.here import as_it_is, run_here
from crowdselect.errors import InputError, OutputError
from crowdselect.numeric.clusters import nearest
from crowdselect.progress import Progress
from crowdselect.types import BoolArray, Float32Array, IntArray, Table

COMPUTED = -2
"""Instead of the number of the part that a row's vector is from."""

_NOWHERE = -1
_POOLS_KEPT = 8  # at 100,000 instructions lsa's vectors are 100 MB
_TRIES = 3  # at vectors that disappear

Finish = Callable[[Float32Array], Named]
"""Makes of vectors, shape (n, D), what is wanted of each."""


class TextEmbedder(Protocol):
    """Turns texts into vectors."""

    @property
    def work(self) -> Callable[[list[str], Told], Float32Array]:
        """Gives n texts their vectors, shape (n, D); can be pickled."""
        ...

    @property
    def dear(self) -> bool:
        """Whether vectors that are not to be kept between runs are put aside in this one."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line facts to tell the user."""
        ...

    def named(self, dimensions: int) -> str:
        """Say what it is."""
        ...


class TextVectors:
    """Vectors of texts; where they are kept, each text's are as soon as they are computed.

    Args:
        reading: Knows the texts' keys, and who reads parts.
        source: The texts.
        embedder: Computes.
        shelf: Where vectors are kept; None = nowhere.
        progress: Told how many texts are embedded.
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
        self._said, self._dimensions = list[str](), 0
        self._shelf, self._parts = shelf, Parts(shelf) if shelf is not None else self._aside()

    @property
    def name(self) -> str:
        """See `Vectors`."""
        return self._embedder.named(self._dimensions)

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Vectors`."""
        return (*self._embedder.notes, *self._said)

    def prepare(self, rows: IntArray) -> None:
        """See `Vectors`."""
        if self._embedder.dear:
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

    def kept(self, rows: IntArray) -> BoolArray:
        """Say of which rows there are vectors in the cache."""
        if self._parts is None:
            return np.zeros(len(rows), dtype=np.bool_)
        given = self._keys(rows)
        texts = Keys.of(given)
        return self._holding(texts, len(rows))[1][texts.find(given)]

    def _each(self, rows: IntArray, finish: Finish | None, progress: Progress) -> NDArray[Any]:
        """Find the vectors of rows, or compute and keep them, and give what `finish` makes of each, in their order.

        Args:
            rows: Ascending.
            finish: None = they are only to be kept.
            progress: Told how many different texts are done, and how many there are.

        Raises:
            OutputError: Vectors disappear as often as they are computed, or nothing can be kept for many files.
        """
        given = None if self._parts is None else self._keys(rows)
        texts = None if given is None else Keys.of(given)
        first = np.arange(len(rows)) if texts is None else np.sort(texts.place)
        found = InOrder(len(rows), self.name)
        for _ in range(_TRIES):
            sources, kept = self._holding(texts, len(rows))
            new = found.missing(first[~kept[first]])
            if len(new):
                told = counting(progress, len(first) - len(new), len(first))
                self._compute(rows, new, finish, found, told)
            if finish is not None and texts is not None:
                told = counting(progress if not len(new) else silent, 0, len(first))
                self._look_up(sources, texts, finish, found, told)
            if not found.missing(first if finish is not None else new).size:
                return found.values if texts is None or given is None else found.values[texts.find(given)]
        raise OutputError(f"{folder()}: vectors disappear as they are read; does another process empty it?")

    def _compute(
        self, rows: IntArray, new: IntArray, finish: Finish | None, found: "InOrder", told: Told
    ) -> None:
        """Embed the texts of new rows (places in `rows`), and keep their vectors."""
        work, lost = partial(_embedded, embed=self._embedder.work, parts=self._parts, finish=finish), None
        try:
            order = self._reading.longest_first(rows[new]) if self._embedder.dear else rows[new]
            for some, columns in self._source.over(order, work, told):
                if finish is None and self._parts is not None:
                    lost = next((name for name in set(columns["part"]) if not self._parts.has(name)), None)
                if lost is not None:
                    break
                found.take(np.searchsorted(rows, some), columns, COMPUTED)
        except OutputError as error:
            self._do_without(error)
        if lost is not None and self._parts is not None:
            raise OutputError(
                f"{self._parts.folder}: a worker wrote {lost}, and it is not here; on several machines "
                "the cache folder must be one that all of them share: set CROWDSELECT_CACHE to it"
            )
        if self._parts is not None and not self._embedder.dear:
            keep_newest(self._parts.folder.parent, _POOLS_KEPT)

    def _look_up(
        self, sources: Sequence[dict[str, Any]], texts: Keys, finish: Finish, found: "InOrder", told: Told
    ) -> None:
        """Read the vectors of texts from parts."""
        if not sources:
            return
        here = self._reading.run is run_here
        wanted = (
            texts if here or finish is as_vector else None
        )  # many keys are dearer to send than many labels
        arguments = {"wanted": wanted, "finish": finish}
        for table in self._reading.run(sources, as_it_is, _of_parts, arguments, batch=1):
            at = texts.find(joined(table[KEY]))
            ours = slice(None) if wanted is not None else np.flatnonzero(at != _NOWHERE)
            told(len(found.missing(at[ours])))
            columns = {name: from_arrow(table[name], self.name)[ours] for name in table.column_names[2:]}
            found.take(at[ours], columns, table["part"].to_numpy()[ours])
        for source in sources:
            if not Path(source["path"]).exists():
                self._refuse(Path(source["path"]), "damaged or gone")

    def _holding(self, texts: Keys | None, count: int) -> tuple[list[dict[str, Any]], BoolArray]:
        """Find the parts that hold some texts, and which of these (by their places) are on one."""
        sources, kept = list[dict[str, Any]](), np.zeros(count, dtype=np.bool_)
        if texts is None or self._parts is None:
            return sources, kept
        for number, path in enumerate(self._parts.paths()):
            try:
                at = texts.find(joined(read_part(path, KEY)[KEY]))
            except (InputError, FileNotFoundError, NotADirectoryError) as error:
                self._refuse(path, reason(error))
                continue
            kept[at[at != _NOWHERE]] = True
            if (at != _NOWHERE).any():
                sources.append({"part": number, "path": str(path)})
        return sources, kept

    def _keys(self, rows: IntArray) -> bytes:
        keys = self._reading.keys(rows)
        assert keys is not None  # noqa: S101  (for the type checker: else nothing is kept)
        return keys

    def _refuse(self, path: Path, why: str) -> None:
        discard(path)
        note = f"cache: {path} is not usable ({why}); its vectors are computed again"
        self._said += [note] if note not in self._said else []

    def _do_without(self, error: OutputError) -> None:
        """Go on although nothing can be kept; not on a cluster, whose workers would go on for nothing."""
        why = f"{self._shelf} ({reason(error)})"
        if self._reading.run is not run_here:
            raise OutputError(
                f"cache: nothing can be kept in {why}; set CROWDSELECT_CACHE to a folder that all workers share"
            ) from error
        if self._shelf is None:
            raise error
        self._said.append(f"cache: nothing kept in {why}")
        self._shelf, self._parts = None, self._aside()

    def _aside(self) -> Parts | None:
        """Where dear vectors are put for this run only: a folder that is deleted in the end."""
        if not self._embedder.dear:
            return None
        place = None if self._reading.run is run_here else folder()
        try:
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
            once = Path(mkdtemp(prefix="crowdselect-once-", dir=place))
        except OSError as error:
            raise OutputError(
                f"cache: nothing can be kept in {place} ({error.strerror or error}); set CROWDSELECT_CACHE to a folder "
                "that all workers share"
            ) from error
        finalize(self, rmtree, once, ignore_errors=True)
        return Parts(once)


class InOrder:
    """What was made of the vectors of rows, put in their order."""

    def __init__(self, count: int, name: str) -> None:
        self.values: NDArray[Any] = np.empty((count, 0), np.float32)
        self._name, self._begun = name, False
        self._part = np.full(count, _NOWHERE)

    def take(self, at: IntArray, columns: Named, part: IntArray | int) -> None:
        """Take what one function made for some places; of equal texts in two parts, the part whose name is first counts."""
        part = np.broadcast_to(part, len(at))
        better = (self._part[at] == _NOWHERE) | (part < self._part[at])
        self._part[at[better]] = part[better]
        values = columns.get("vector", columns.get("label"))
        if values is None or not len(values):
            return
        if not self._begun:
            self.values, self._begun = np.zeros((len(self._part), *values.shape[1:]), values.dtype), True
        if values.ndim == 2:
            check_dimensions(values.shape[1], self.values.shape[1], self._name)
        self.values[at[better]] = values if better.all() else values[better]

    def missing(self, places: IntArray) -> IntArray:
        """Give those of some places that nothing was taken for."""
        missing: IntArray = places[self._part[places] == _NOWHERE]
        return missing


def silent(done: int, total: int) -> None:
    """Report progress to nobody."""


def counting(progress: Progress, done: int, total: int) -> Told:
    """Count up from `done`, and tell how far it is."""

    def told(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return told


# ── functions of a batch ─────────────────────────────────────────────────────────────────────────────


def as_vector(vectors: Float32Array) -> Named:
    """Give the vectors as they are."""
    return {"vector": vectors}


def as_label(vectors: Float32Array, *, centres: Float32Array, name: str) -> Named:
    """Give the nearest centre of each vector; `name` is what messages call the vectors."""
    if len(vectors):
        check_dimensions(vectors.shape[1], centres.shape[1], name)
    return {"label": nearest(vectors, centres).astype(np.int32)}


def _embedded(
    texts: list[str],
    told: Told,
    *,
    embed: Callable[[list[str], Told], Float32Array],
    parts: Parts | None,
    finish: Finish | None,
) -> Named:
    """Embed texts, unless their part is there: they were handed out a second time. Without `finish` name the part."""
    if parts is None:
        return {} if finish is None else finish(embed(texts, told))
    keys = text_keys(texts)
    name = parts.name(keys)
    if not parts.has(name) or finish is not None:
        vectors = embed(texts, told)
        write_vectors(parts, keys, vectors)
    return {"part": [name] * len(texts)} if finish is None else finish(vectors)


def _of_parts(sources: Table, *, wanted: Keys | None, finish: Finish) -> Table:
    """Read parts: their keys, `part`, and what `finish` makes of the vectors. Nothing of a part that is damaged or gone."""
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
        own = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(vectors), [None, pa.py_buffer(keys)])
        part = np.full(len(vectors), source["part"])
        tables.append(pa.table({KEY: own, "part": part, **to_arrow(finish(vectors))}))
    return pa.concat_tables(tables)
