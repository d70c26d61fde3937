"""The default embedder: TF-IDF of hashed words, reduced by a truncated SVD; nothing is downloaded.

Latent semantic analysis (Deerwester et al. 1990), fitted on the pool itself: texts that share words,
or whose words occur in the same contexts, lie close together. It knows nothing of meaning beyond that.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError

DIMENSIONS = 256
"""Most dimensions of a vector; fewer if the texts span fewer."""

SAMPLE = 20_000
"""Most rows that the model is fitted on."""

VERSION = 1
"""Increased whenever the vectors of a pool change, so that older cached ones are not used."""

_EXACT = 1_000  # texts up to which no word is left out and the decomposition is exact
_BUCKETS = 1 << 20  # words rarely share a bucket; empty columns cost nothing
_NOTHING = 1e-6  # if the basis keeps less than this of a unit row, that is rounding, not a direction

# Scripts written without spaces between words: kana, Chinese characters, Bopomofo, Yi, Thai, Lao, Tibetan,
# Burmese, Khmer, Tai, Balinese, Javanese. Korean and Indic scripts have spaces.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f"
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua000-\ua4cf\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\U00020000-\U0003ffff"
)


@dataclass(frozen=True, slots=True)
class Basis:
    """The fitted model: V columns of the hashed counts, their weights, and D directions."""

    columns: NDArray[np.int64]
    """Shape (V,), ascending."""
    idf: NDArray[np.float64]
    """Shape (V,)."""
    directions: NDArray[np.float32]
    """Shape (V, D)."""


def fit(texts: Sequence[str], *, seed: int) -> Basis:
    """Fit the weights of words and the directions on a sample of a pool.

    Words (and pairs of neighbouring characters in scripts without spaces) are counted after NFKC and
    case folding, weighted (1 + ln count) * (1 + ln((1 + n) / (1 + df))), rows brought to unit length,
    and the leading right singular vectors found. `n` and `df` are those of the sample. Above 1,000 texts,
    words that occur in a single text are left out: they cannot tell which texts belong together.

    Args:
        texts: The sample in id order: if there are more than `SAMPLE` texts, those with the smallest keys
            (`seeded_hash(ids, seed=seed, salt="sample")`).
        seed: Seed of the randomised decomposition.

    Returns:
        The basis for `project`. The same texts and seed yield the same bits on one machine, whatever its number of threads.

    Raises:
        InputError: No text holds a word.

    Example:
        >>> fit(["red cat", "tax law"], seed=0).directions.shape
        (4, 2)
    """
    with _one_thread():
        return _fit(texts, seed=seed)


def project(texts: Sequence[str], basis: Basis) -> NDArray[np.float32]:
    """Compute vectors of texts; a vector does not depend on the other texts of the call.

    Args:
        texts: Any texts, up to some thousands per call.
        basis: From `fit`.

    Returns:
        Shape (len(texts), D), D at most 256, rows of unit length; their scalar product is the cosine, higher =
        more similar. A text without any known word (blank, or symbols only) is a row of zeros.

    Example:
        >>> basis = fit(["red cat", "tax law"], seed=0)
        >>> bool((project(["cat", "law"], basis)[1] == project(["law"], basis)[0]).all())
        True
    """
    with _one_thread():
        return _project(_count(texts), basis)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: the order of a parallel sum depends on their number, and one costs seconds at most."""
    # Imported before the limit, which holds only for libraries that are already loaded.
    import scipy.sparse  # noqa: F401
    import sklearn.utils.extmath  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def words(text: str) -> list[str]:
    """Split a text into the words that are counted.

    Args:
        text: Any text.

    Returns:
        Words, case-folded; a stretch of a script without spaces yields its pairs of neighbouring characters
        instead (a lone character counts as a word). Combining marks belong to their word.

    Example:
        >>> words("GPU上で動く") == ["gpu", "上で", "で動", "動く"]
        True
    """
    if text.isascii():
        return [word.decode() for word in _ascii_words(text)]
    text = unicodedata.normalize("NFKC", text).casefold()
    word, stretch = _patterns()
    if not stretch.search(text):
        return word.findall(text)
    parts = []
    for piece in word.findall(text):
        end = 0
        for match in stretch.finditer(piece):
            parts += [piece[end : match.start()]] if match.start() > end else []
            parts += _pairs(match.group())
            end = match.end()
        parts += [piece[end:]] if end < len(piece) else []
    return parts


_ASCII = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() or code == ord("_") else 32 for code in range(128)
)
_ASCII += bytes(128)


def _ascii_words(text: str) -> list[bytes]:
    """Do the same for ASCII, as bytes, four times as fast: lower-case letters, turn the rest into spaces, split there."""
    return text.encode().translate(_ASCII).split()


def _pairs(stretch: str) -> list[str]:
    return [stretch] if len(stretch) == 1 else [left + right for left, right in pairwise(stretch)]


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    r"""Compile the patterns of a word, and of a stretch without spaces.

    Python's `\w` leaves out combining marks, which would cut Hindi and Thai words at every vowel.
    """
    marks = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(f"[\\w{marks}]+"), re.compile(f"[{_UNSPACED}]+")


def _count(texts: Sequence[str]) -> Any:  # noqa: ANN401  (a SciPy matrix; SciPy ships no types)
    """Count hashed words, CSR float32 (n, 2^20)."""
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(n_features=_BUCKETS, input_type="string", alternate_sign=False, dtype=np.float32)
    return hasher.transform(_ascii_words(text) if text.isascii() else words(text) for text in texts)


def _fit(texts: Sequence[str], *, seed: int) -> Basis:
    counts = _count(texts)
    df = np.bincount(counts.indices, minlength=_BUCKETS)
    columns = np.flatnonzero(df)
    if columns.size == 0:
        raise InputError(
            f"none of {len(texts)} texts holds a word that lsa could use; "
            "choose another embedder (minilm, file:VECTORS) or `clusters=0`"
        )
    shared = np.flatnonzero(df >= 2)
    if len(texts) > _EXACT and shared.size:
        columns = shared
    idf = 1.0 + np.log((1.0 + len(texts)) / (1.0 + df[columns]))
    weights = _weigh(counts, columns=columns, idf=idf)
    directions = _decompose_exactly(weights) if len(texts) <= _EXACT else _decompose(weights, seed=seed)
    return Basis(columns=columns, idf=idf, directions=directions)


def _weigh(counts: Any, *, columns: NDArray[np.int64], idf: NDArray[np.float64]) -> Any:  # noqa: ANN401  (SciPy)
    """Weight rows and scale them to unit length, CSR (n, V); a row without a known word stays empty."""
    weights = counts[:, columns].astype(np.float64)
    weights.data = (1.0 + np.log(weights.data)) * idf[weights.indices]
    lengths = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1)).ravel())
    weights.data /= np.repeat(lengths, np.diff(weights.indptr))
    return weights


def _decompose_exactly(weights: Any) -> NDArray[np.float32]:  # noqa: ANN401  (SciPy)
    """Compute all significant right singular vectors, through the (n, n) products of the rows."""
    values, left = np.linalg.eigh((weights @ weights.T).toarray())
    significant = np.flatnonzero(values > values[-1] * 1e-10)[::-1][:DIMENSIONS]
    left = left[:, significant] / np.sqrt(values[significant])
    right = np.asarray(weights.T @ left)
    signs = np.sign(
        right[np.abs(right).argmax(axis=0), np.arange(right.shape[1])]
    )  # LAPACK does not fix them
    return np.asarray(right * signs, dtype=np.float32)


def _decompose(weights: Any, *, seed: int) -> NDArray[np.float32]:  # noqa: ANN401  (SciPy)
    """Compute the leading right singular vectors by randomised subspace iteration (Halko et al. 2011)."""
    from sklearn.utils.extmath import randomized_svd

    _, values, right = randomized_svd(
        weights.astype(np.float32), min(DIMENSIONS, *weights.shape), n_iter=5, random_state=seed % 2**32
    )
    return np.ascontiguousarray(right[values > values[0] * 1e-4].T, dtype=np.float32)


def _project(counts: Any, basis: Basis) -> NDArray[np.float32]:  # noqa: ANN401  (SciPy)
    weights = _weigh(counts, columns=basis.columns, idf=basis.idf).astype(np.float32)
    vectors = np.asarray(weights @ basis.directions)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    known = lengths > _NOTHING
    return np.asarray(np.where(known, vectors / np.where(known, lengths, 1.0), 0.0), dtype=np.float32)
