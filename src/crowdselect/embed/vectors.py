"""Vectors of a pool's rows: for some rows, or block by block for all of them, never all in memory.

`open_vectors` opens them, whatever the embedder and wherever the pool is; `EMBEDDERS` lists the embedders. What is
computed from texts is cached as Parquet parts, keyed by text: nothing is embedded twice, whatever the files and
wherever it is computed, and a killed run resumes. A model's vectors stay in the cache; `lsa`'s, which belong to the
texts that it was fitted on, are cached for the last few pools in memory, and recomputed on request for all others.
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
from crowdselect.embed.reading import Advance, Embeddable, Held, Known, Named, Values
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
"""Rows up to which `lsa`'s vectors are cached: those of a million rows take 1 GB."""


class Vectors(Protocol):
    """Vectors of a pool's rows, (n, D) float32."""

    @property
    def name(self) -> str:
        """The embedder, for people to read; complete once some vectors were read."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line facts to tell the user."""
        ...

    def prepare(self, rows: IntArray) -> None:
        """Compute the vectors of all rows that will be needed, so that a model is loaded only once."""
        ...

    def of(self, rows: IntArray) -> Float32Array:
        """Return the vectors of some rows (ascending), in row order."""
        ...

    def labels(self, rows: IntArray, centres: Float32Array, progress: Progress) -> IntArray:
        """Return the nearest centre of each row (ascending), in row order, without holding the vectors."""
        ...

    def cosines(self, rows: IntArray, texts: Sequence[str]) -> Float32Array:
        """Return the cosine of each row (ascending) with each of E other texts, (n, E), without holding the rows' vectors.

        Raises:
            OptionError: The vectors are not made from texts.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorsWanted:
    """The arguments of `open_vectors`."""

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
    """The form of an embedder of this kind: `NAME:ARGUMENT`, or only its name."""
    words: str
    """What it is, for messages and help."""
    open: Callable[[VectorsWanted], Vectors]
    reads_text: bool = True
    """Vectors are computed from the texts, so there must be some; otherwise they are given, and each must be usable."""
    runs_a_model: bool = False
    """It runs a model, which takes long and reports progress, and its vectors are worth caching."""
    reads_answers: bool = False
    """Where rows are compared with examples that have answers, it reads the answers too."""


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
    """Open the vectors of a pool's rows.

    Args:
        reading: Where texts and given vectors come from.
        rows: All rows that have vectors, ascending.
        keys: One per row, `seeded_hash(ids, seed=seed, salt="sample")`.
        embedder: `lsa`, `minilm`, `file:VECTORS`, `column:NAME`, or a model; see `TextModel`.
        seed: Seed of `lsa`'s sample and draws.
        cache: Cache vectors in `cache.folder()`. `file:` and `column:` are never cached.
        trust_remote_code: Let the model's own code run. Only for models whose code you have read.
        sample: How many rows, in key order, will be needed first.
        progress: Called with (texts done, texts in all) as texts are embedded; `labels` takes its own.

    Returns:
        The vectors. Those of `lsa` and models have unit length (a text without any known word is a zero row
        under `lsa`), those of files and columns are as given. The last bits of a model's vectors may depend on
        the device and on what else was embedded in the same run.

    Raises:
        OptionError: There is no such embedder, or it cannot be loaded.
        MissingExtraError: Its package is not installed. No other embedder is used instead.
        InputError: A text is missing, or given vectors cannot be used.
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
    """Find the kind of an embedder; a name of no other form is a model."""
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
    """Open the vectors of texts in memory.

    Args:
        texts: N texts in id order. `file:` and `column:` ignore them; the other kinds need all of them.
        ids: N ids, sorted by code point.
        embedder: As for `open_vectors`.
        seed: As for `open_vectors`.
        cache: As for `open_vectors`.
        trust_remote_code: As for `open_vectors`.
        column: For `column:NAME`, its values, shape (N, D).
        progress: As for `open_vectors`.

    Returns:
        Vectors of the rows 0 to N - 1.

    Raises:
        CrowdselectError: As for `open_vectors`.
        ShapeError: `texts`, `ids` and `column` differ in length.

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


# ── given vectors ──────────────────────────────────────────────────────────────


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
        """See `Vectors`; nothing to do."""

    def of(self, rows: IntArray) -> Float32Array:
        """See `Vectors`."""
        vectors = self._each(rows, as_vector, lambda _: None)
        self._dimensions = vectors.shape[1]
        return vectors

    def labels(self, rows: IntArray, centres: Float32Array, progress: Progress) -> IntArray:
        """See `Vectors`."""
        finish = partial(as_label, centres=centres, name=self._embedder)
        return self._each(rows, finish, counting(progress, 0, len(rows))).astype(np.int64)

    def cosines(self, rows: IntArray, texts: Sequence[str]) -> Float32Array:  # noqa: ARG002  (as of `Vectors`)
        """See `Vectors`."""
        raise OptionError(
            f"`embedder={self._embedder!r}` has vectors of the pool's rows alone, and none of examples; choose one that reads "
            "text: lsa, minilm or a model"
        )

    def _each(self, rows: IntArray, finish: Finish, advance: Advance) -> NDArray[Any]:
        results = InOrder(len(rows), self._embedder)
        for batch, columns in self._source.over(rows, partial(_finished, finish=finish), advance):
            results.take(np.searchsorted(rows, batch), columns, COMPUTED)
        return results.values


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
    is_cached = wanted.cache and len(rows) <= KEPT and reading.keys(rows[:1]) is not None
    shelf = fitted.shelf if is_cached else None
    return TextVectors(reading, fitted.texts, fitted, shelf=shelf, progress=wanted.progress)


class Lsa:
    """The embedder `lsa`, fitted on the rows with the smallest keys when needed; see `open_vectors`.

    Args:
        source: The texts.
        rows: All rows that have vectors, ascending.
        keys: One per row.
        sample: How many rows will be needed first.
        seed: Seed of the fit.
    """

    notes, expensive = (), False

    def __init__(self, source: Values, rows: IntArray, keys: UInt64Array, *, sample: int, seed: int) -> None:
        by_key, self._count, self._seed = np.argsort(keys, kind="stable"), len(rows), seed
        known = np.sort(rows[by_key[: max(sample, lsa.SAMPLE)]])
        text_of: dict[int, str] = {}
        for batch, columns in source.over(known, _text, lambda _: None):
            text_of.update(zip(batch.tolist(), columns["text"], strict=True))
        self._fitted_on = [text_of[row] for row in np.sort(rows[by_key[: lsa.SAMPLE]]).tolist()]
        self.texts = Known(source, known, [text_of[row] for row in known.tolist()])

    @cached_property
    def _basis(self) -> lsa.Basis:
        return lsa.fit(self._fitted_on, seed=self._seed)

    @property
    def work(self) -> Callable[[list[str], Advance], Float32Array]:
        """See `TextEmbedder`."""
        return partial(_projected, basis=self._basis)

    @property
    def shelf(self) -> Path:
        """Cache folder of the vectors, named by everything that the fit depends on."""
        libraries = [version(name) for name in ("numpy", "scipy", "scikit-learn")]
        key = key_of("lsa", lsa.VERSION, *libraries, self._seed, *self._fitted_on)
        return folder() / "lsa" / key.hex()[:32]

    def named(self, dimensions: int) -> str:
        """See `TextEmbedder`."""
        return lsa_name(self._count, dimensions)


def lsa_name(texts: int, dimensions: int) -> str:
    """Describe what `lsa` was fitted on.

    Example:
        >>> lsa_name(25_000, 256)
        'lsa (fitted on 20000 of these 25000 texts, 256 dimensions)'
    """
    basis = f"{lsa.SAMPLE} of these {texts}" if texts > lsa.SAMPLE else f"these {texts}"
    return f"lsa (fitted on {basis} texts, {dimensions} dimensions)"


def _text(texts: list[str], advance: Advance) -> Named:  # noqa: ARG001  (as of `Work`)
    return {"text": texts}


def _finished(vectors: Float32Array, advance: Advance, *, finish: Finish) -> Named:
    advance(len(vectors))
    return finish(vectors)


def _projected(texts: list[str], advance: Advance, *, basis: lsa.Basis) -> Float32Array:
    vectors = lsa.project(texts, basis)
    advance(len(texts))
    return vectors


# ── the registry ────────────────────────────────────────────────────────────────────────


EMBEDDERS: dict[str, VectorKind] = {
    "lsa": VectorKind(form="lsa", words="words that the texts share, fitted on the pool", open=_open_lsa),
    "file": VectorKind(
        form="file:VECTORS",
        words="vectors in a file: Parquet (id, vector) or .npz (ids, vectors)",
        open=_open_given,
        reads_text=False,
    ),
    "column": VectorKind(
        form="column:NAME",
        words="vectors in a column of the pool",
        open=_open_given,
        reads_text=False,
    ),
    "hidden": VectorKind(
        form="hidden:MODEL",
        words="hidden states of a causal language model: a folder or a name on the Hub (extra: reward)",
        open=_open_model,
        runs_a_model=True,
        reads_answers=True,
    ),
    "model": VectorKind(
        form="MODEL",
        words="minilm (extra: minilm), a folder with a sentence-transformers model, or its name (OWNER/NAME; extra: embed)",
        open=_open_model,
        runs_a_model=True,
    ),
}
"""The kinds of vectors by name; a new one is a record here, and the class of its vectors."""
