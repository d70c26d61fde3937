"""Which texts say the same: equal but for Unicode form, case and white space."""

import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from crowdselect.types import IntArray, ObjectArray

_LOWER = bytes(ord(chr(byte).lower()) if byte < 128 else byte for byte in range(256))
_SPACES = bytes(byte for byte in range(128) if chr(byte).isspace())
_BYTES = 16


def normalised(text: str) -> str:
    r"""Fold away what does not change an instruction: Unicode form, case and white space.

    Args:
        text: Any text.

    Returns:
        NFKC form, case-folded, runs of white space as one space, none at the ends.

    Example:
        >>> normalised("  \uff28ello\n WORLD ")
        'hello world'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


def text_key(text: str) -> bytes:
    """Stand for the normalised text, in 32 bytes: equal for texts that say the same, and for no others.

    Example:
        >>> text_key("Hi you") == text_key("hi  you"), text_key("Hi you") == text_key("hiyou")
        (True, False)
    """
    return blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=32).digest()


def digests(texts: ObjectArray) -> list[bytes | None]:
    """Digest texts, the same for texts that say the same; a few others may share one, see `duplicate_groups`.

    Args:
        texts: Shape (N,), strings or None.

    Returns:
        16 bytes each, of the normalised text without any white space; None for None.

    Example:
        >>> one, other, none = digests(np.array(["Hi you", "hiyou", None], dtype=object))
        >>> one == other, none
        (True, None)
    """
    return [None if text is None else blake2b(_squeezed(text), digest_size=_BYTES).digest() for text in texts]


def alike(packed: bytes, rows: IntArray) -> IntArray:
    """Find the rows whose digest another row has too.

    Args:
        packed: The digests of `rows`, joined.
        rows: Shape (n,), ascending.

    Returns:
        Those of `rows` that share a digest, ascending.

    Example:
        >>> alike(b"a" * 16 + b"b" * 16 + b"a" * 16, np.array([0, 2, 5])).tolist()
        [0, 5]
    """
    words = np.frombuffer(packed, dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort((words[:, 1], words[:, 0]))
    high, low = words[order, 0], words[order, 1]
    as_next = np.zeros(len(order), dtype=np.bool_)
    as_next[:-1] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    as_next[1:] |= as_next[:-1].copy()
    return np.sort(rows[order[as_next]])


def grouped(keys: Sequence[object], rows: IntArray, *, n: int) -> IntArray:
    """Number rows by the first row of the same key; every other row is alone.

    Args:
        keys: Of each of `rows`.
        rows: Shape (n,), ascending.
        n: N, how many rows there are in all.

    Returns:
        Shape (N,): rows with the same number say the same.

    Example:
        >>> grouped(["hi", "hi"], np.array([0, 2]), n=3).tolist()
        [0, 1, 0]
    """
    groups = np.arange(n, dtype=np.int64)
    first: dict[object, int] = {}
    for row, key in zip(rows.tolist(), keys, strict=True):
        groups[row] = first.setdefault(key, row)
    return groups


def duplicate_groups(texts: ObjectArray) -> IntArray:
    """Group rows that say the same.

    Args:
        texts: Shape (N,), strings or None.

    Returns:
        Shape (N,): rows with equal `normalised` text share a number, the first row's index; a row without
        text is alone.

    Example:
        >>> duplicate_groups(np.array(["Hi", None, "hi "], dtype=object)).tolist()
        [0, 1, 0]
    """
    there = np.flatnonzero(np.fromiter((text is not None for text in texts), dtype=bool, count=len(texts)))
    rows = alike(b"".join(digest for digest in digests(texts) if digest is not None), there)
    return grouped([text_key(texts[row]) for row in rows], rows, n=len(texts))


def _squeezed(text: str) -> bytes:
    """The normalised text without any white space; for ASCII in one step."""
    if text.isascii():
        return text.encode().translate(_LOWER, _SPACES)
    return normalised(text).replace(" ", "").encode("utf-8", "surrogatepass")
