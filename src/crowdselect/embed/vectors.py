"""Vectors of a pool's rows: for some rows, or for all of them one block at a time, never held whole.

`open_vectors` is the one way to them, whatever the embedder and wherever the pool is; `EMBEDDERS` says which embedders
there are. What is computed from texts is
kept in the cache folder, as Parquet parts by text: nothing is embedded twice, whatever the files and whoever computes
it, and a run that was killed goes on. A model's vectors stay; `lsa`'s, which belong to the texts that it was fitted
on, are kept for the last few pools that are held in memory, and computed whenever they are asked for in all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import folder, key_of
from crowdselect.embed.models import TextModel
from crowdselect.embed.reading import Embeddable, Held, Known, Named, Told, Values
from crowdselect.embed.texts import (
    COMPUTED,
    Finish,
    InOrder,
    TextVectors,
    as_label,
    as_vector,
    counting,
    silent,
)
from crowdselect.errors import OptionError, ShapeError
from crowdselect.numeric import lsa
from crowdselect.progress import Progress
from crowdselect.seeding import UInt64Array, seeded_hash
from crowdselect.types import Float32Array, IntArray

KEPT = 1_000_000
"""Rows up to which `lsa`'s vectors are kept: a million rows of them are 1 GB."""


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

    def prepare(self, rows: IntArray) -> None:
        """See that a model is loaded once for all rows that will be asked for."""
        ...

    def of(self, rows: IntArray) -> Float32Array:
        """Give the vectors of some rows (ascending), in their order."""
        ...

    def labels(self, rows: IntArray, centres: Float32Array, progress: Progress) -> IntArray:
        """Give the nearest centre of each row (ascending), in their order; no vectors are held."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorsWanted:
    """What vectors are wanted for, and how; see `open_vectors`."""

    reading: Embeddable
    rows: IntArray
    keys: UInt64Array
    embedder: str
    seed: int
    cache: bool
    trust_remote_code: bool
    sample: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorKind:
    """A kind of vectors: how its embedders are written, and what opens them.

    Example:
        >>> vector_kind("column:v").reads_text, vector_kind("minilm").runs_a_model
        (False, True)
    """

    form: str
    """How an embedder of this kind is written; `NAME:` in front of what it is told, or nothing but its name."""
    words: str
    """What it is, for messages and help."""
    open: Callable[[VectorsWanted], Vectors]
    reads_text: bool = True
    """Vectors are made of the texts, so there must be some; else somebody gave them, and each must be usable."""
    runs_a_model: bool = False
    """A model is run: it takes long, tells its progress, and its vectors are worth being kept."""


def open_vectors(
    reading: Embeddable,
    rows: IntArray,
    *,
    keys: UInt64Array,
    embedder: str = "lsa",
    seed: int = 0,
    cache: bool = True,
    trust_remote_code: bool = False,
    sample: int = 0,
    progress: Progress | None = None,
) -> Vectors:
    """Find what gives rows their vectors.

    Args:
        reading: Where texts and given vectors come from.
        rows: All rows that have vectors, ascending.
        keys: Of each of these rows, `seeded_hash(ids, seed=seed, salt="sample")`.
        embedder: `lsa`, `minilm`, `file:VECTORS`, `column:NAME`, or a model; see `TextModel`.
        seed: Of what `lsa` samples and draws.
        cache: Read and keep vectors in `cache.folder()`. `file:` and `column:` are never cached.
        trust_remote_code: Let the model's own code run. Only for models whose code you have read.
        sample: How many rows, in the order of the keys, will be asked for first.
        progress: Told (texts done, texts in all) as texts are embedded; not by `labels`, which is given its own.

    Returns:
        The vectors. `lsa` and models give unit length (a text without any known word is a zero row under
        `lsa`), files and columns are kept as given. Models may differ in the last bits with the
        device and with what else was embedded in the same run.

    Raises:
        OptionError: There is no such embedder, or it could not be loaded.
        MissingExtraError: Its package is not installed. No other embedder is used instead.
        InputError: A text is missing, or the given vectors are not usable.
    """
    return vector_kind(embedder).open(
        VectorsWanted(
            reading=reading,
            rows=rows,
            keys=keys,
            embedder=embedder,
            seed=seed,
            cache=cache,
            trust_remote_code=trust_remote_code,
            sample=sample,
            progress=progress or silent,
        )
    )


def vector_kind(embedder: str) -> VectorKind:
    """Find the kind of an embedder: what is written as none of the others is a model."""
    for kind in EMBEDDERS.values():
        name, colon, _ = kind.form.partition(":")
        if embedder == name or (colon and embedder.startswith(f"{name}:")):
            return kind
    return EMBEDDERS["model"]


def vectors_of(
    texts: Sequence[str | None],
    *,
    ids: Sequence[str],
    embedder: str = "lsa",
    seed: int = 0,
    cache: bool = True,
    trust_remote_code: bool = False,
    column: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> Vectors:
    """Find what gives texts in memory their vectors.

    Args:
        texts: N texts in id order. `file:` and `column:` do not look at them; the others need all of them.
        ids: N ids, sorted by code point.
        embedder: As for `open_vectors`, and the rest.
        seed: See there.
        cache: See there.
        trust_remote_code: See there.
        column: For `column:NAME`, its values, shape (N, D).
        progress: See there.

    Returns:
        Vectors of the rows 0 to N - 1.

    Raises:
        CrowdselectError: As there.
        ShapeError: `texts`, `ids` and `column` are not of one length.

    Example:
        >>> vectors = vectors_of(["red cat", "red dog", "tax law"], ids=["a", "b", "c"], cache=False)
        >>> vectors.of(np.arange(3)).shape, vectors.name
        ((3, 3), 'lsa (fitted on these 3 texts, 3 dimensions)')
    """
    if len(texts) != len(ids):
        raise ShapeError(f"{len(texts)} texts but {len(ids)} ids")

    def values(name: str) -> NDArray[Any]:
        if column is None:
            raise OptionError(f"`embedder=column:{name}` needs the values of the column; pass `column`")
        return column

    return open_vectors(
        Held("", lambda: ids, lambda: np.array(texts, dtype=object), values),
        np.arange(len(ids)),
        keys=seeded_hash(ids, seed=seed, salt="sample"),
        embedder=embedder,
        seed=seed,
        cache=cache,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )


# ── vectors that somebody else computed ──────────────────────────────────────────────────────────────


class GivenVectors:
    """Vectors of a column of the pool (`column:NAME`), or of a file (`file:VECTORS`); see `open_vectors`."""

    def __init__(self, reading: Embeddable, rows: IntArray, embedder: str) -> None:
        kind, _, name = embedder.partition(":")
        if not name:
            wanted = {
                "file": "names no file; wanted file:VECTORS (Parquet id, vector; or .npz ids, vectors)",
                "column": "names no column; wanted column:NAME, a column with lists of numbers",
            }
            raise OptionError(f"`embedder={embedder!r}` {wanted[kind]}")
        self._embedder, self._dimensions = embedder, 0
        self._source, unused = reading.given(rows, embedder)
        self.notes = (f"{name}: {unused} vectors belong to no instruction embedded here",) if unused else ()

    @property
    def name(self) -> str:
        """See `Vectors`."""
        return f"{self._embedder} ({self._dimensions} dimensions, as given)"

    def prepare(self, rows: IntArray) -> None:
        """See `Vectors`; there is nothing to prepare."""

    def of(self, rows: IntArray) -> Float32Array:
        """See `Vectors`."""
        vectors = self._each(rows, as_vector, lambda _: None)
        self._dimensions = vectors.shape[1]
        return vectors

    def labels(self, rows: IntArray, centres: Float32Array, progress: Progress) -> IntArray:
        """See `Vectors`."""
        finish = partial(as_label, centres=centres, name=self._embedder)
        return self._each(rows, finish, counting(progress, 0, len(rows))).astype(np.int64)

    def _each(self, rows: IntArray, finish: Finish, told: Told) -> NDArray[Any]:
        found = InOrder(len(rows), self._embedder)
        for some, columns in self._source.over(rows, partial(_finished, finish=finish), told):
            found.take(np.searchsorted(rows, some), columns, COMPUTED)
        return found.values


def _open_given(wanted: VectorsWanted) -> GivenVectors:
    return GivenVectors(wanted.reading, wanted.rows, wanted.embedder)


# ── vectors of texts ─────────────────────────────────────────────────────────────────────────────────


def _open_model(wanted: VectorsWanted) -> TextVectors:
    texts = wanted.reading.texts(wanted.rows, wanted.embedder)
    model = TextModel(wanted.embedder, trust_remote_code=wanted.trust_remote_code)
    shelf = model.shelf if wanted.cache else None
    return TextVectors(wanted.reading, texts, model, shelf=shelf, progress=wanted.progress)


def _open_lsa(wanted: VectorsWanted) -> TextVectors:
    reading, rows = wanted.reading, wanted.rows
    texts = reading.texts(rows, wanted.embedder)
    fitted = Lsa(texts, rows, wanted.keys, sample=wanted.sample, seed=wanted.seed)
    kept = wanted.cache and len(rows) <= KEPT and reading.keys(rows[:1]) is not None
    shelf = fitted.shelf if kept else None
    return TextVectors(reading, fitted.texts, fitted, shelf=shelf, progress=wanted.progress)


class Lsa:
    """`lsa`, fitted on the rows with the smallest keys when it is needed; see `open_vectors`.

    Args:
        source: The texts.
        rows: All rows that have vectors, ascending.
        keys: Of each of them.
        sample: How many rows will be asked for first.
        seed: Of the fit.
    """

    notes, dear = (), False

    def __init__(self, source: Values, rows: IntArray, keys: UInt64Array, *, sample: int, seed: int) -> None:
        by_key, self._count, self._seed = np.argsort(keys, kind="stable"), len(rows), seed
        known = np.sort(rows[by_key[: max(sample, lsa.SAMPLE)]])
        found: dict[int, str] = {}
        for some, columns in source.over(known, _text, lambda _: None):
            found.update(zip(some.tolist(), columns["text"], strict=True))
        self._fitted_on = [found[row] for row in np.sort(rows[by_key[: lsa.SAMPLE]]).tolist()]
        self.texts = Known(source, known, [found[row] for row in known.tolist()])

    @cached_property
    def _basis(self) -> lsa.Basis:
        return lsa.fit(self._fitted_on, seed=self._seed)

    @property
    def work(self) -> Callable[[list[str], Told], Float32Array]:
        """See `TextEmbedder`."""
        return partial(_projected, basis=self._basis)

    @property
    def shelf(self) -> Path:
        """Where vectors are kept, by what the fit depends on."""
        libraries = [version(name) for name in ("numpy", "scipy", "scikit-learn")]
        key = key_of("lsa", lsa.VERSION, *libraries, self._seed, *self._fitted_on)
        return folder() / "lsa" / key.hex()[:32]

    def named(self, dimensions: int) -> str:
        """See `TextEmbedder`."""
        return lsa_name(self._count, dimensions)


def lsa_name(texts: int, dimensions: int) -> str:
    """Say what `lsa` was fitted on.

    Example:
        >>> lsa_name(25_000, 256)
        'lsa (fitted on 20000 of these 25000 texts, 256 dimensions)'
    """
    basis = f"{lsa.SAMPLE} of these {texts}" if texts > lsa.SAMPLE else f"these {texts}"
    return f"lsa (fitted on {basis} texts, {dimensions} dimensions)"


def _text(texts: list[str], told: Told) -> Named:  # noqa: ARG001  (as of `Work`)
    return {"text": texts}


def _finished(vectors: Float32Array, told: Told, *, finish: Finish) -> Named:
    told(len(vectors))
    return finish(vectors)


def _projected(texts: list[str], told: Told, *, basis: lsa.Basis) -> Float32Array:
    vectors = lsa.project(texts, basis)
    told(len(texts))
    return vectors


# ── which embedders there are ────────────────────────────────────────────────────────────────────────


EMBEDDERS: dict[str, VectorKind] = {
    "lsa": VectorKind(form="lsa", words="words that the texts share, fitted on the pool", open=_open_lsa),
    "file": VectorKind(
        form="file:VECTORS",
        words="vectors of a file: Parquet (id, vector) or .npz (ids, vectors)",
        open=_open_given,
        reads_text=False,
    ),
    "column": VectorKind(
        form="column:NAME",
        words="vectors of a column of the pool",
        open=_open_given,
        reads_text=False,
    ),
    "model": VectorKind(
        form="MODEL",
        words="minilm (extra: minilm), a folder with a sentence-transformers model, or its name (OWNER/NAME; extra: embed)",
        open=_open_model,
        runs_a_model=True,
    ),
}
"""The kinds of vectors by name; a new one is a record here, and the class that gives its vectors."""
