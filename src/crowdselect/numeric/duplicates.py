"""Find duplicate texts: equal up to Unicode form, case and white space."""

import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from crowdselect.types import IntArray, ObjectArray

_LOWER = bytes(ord(chr(byte).lower()) if byte < 128 else byte for byte in range(256))
_SPACES = bytes(byte for byte in range(128) if chr(byte).isspace())
_BLOCK = 1 << 16  # texts whose bytes are copied at a time


def normalised(text: str) -> str:
    r"""Normalise what does not distinguish instructions: Unicode form, case and white space.

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
    """Hash the normalised text to 32 bytes, the same for duplicates and for no other texts.

    Example:
        >>> text_key("Hi you") == text_key("hi  you"), text_key("Hi you") == text_key("hiyou")
        (True, False)
    """
    return blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=32).digest()


def digests(texts: Any) -> NDArray[np.int64]:  # noqa: ANN401  (an Arrow array; pyarrow ships no types)
    """Digest texts, duplicates to the same number; a few other texts may share one, see `duplicate_groups`.

    Args:
        texts: N strings or nulls, an Arrow array: ASCII texts are digested without making Python strings.

    Returns:
        Shape (N,), of the normalised text without any white space; the numbers of nulls mean nothing.

    Example:
        >>> import pyarrow as pa
        >>> one, other = digests(pa.array(["Hi you", "hiyou"]))
        >>> bool(one == other)
        True
    """
    out = np.zeros(len(texts), dtype=np.int64)
    for begin in range(0, len(texts), _BLOCK):
        block = texts[begin : begin + _BLOCK]
        out[begin : begin + len(block)] = np.fromiter(
            map(_digest, _squeezed_all(block)), np.int64, count=len(block)
        )
    return out


def _squeezed_all(texts: Any) -> Iterator[bytes]:  # noqa: ANN401  (same)
    _, offsets, buffer = texts.buffers()
    kind = np.int64 if str(texts.type).startswith("large") else np.int32
    ends = np.frombuffer(offsets, kind)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = b"" if buffer is None else buffer[int(ends[0]) : int(ends[-1])].to_pybytes()
    for start, end in pairwise((ends - ends[0]).tolist()):
        raw = data[start:end]
        yield raw.translate(_LOWER, _SPACES) if raw.isascii() else _squeezed(raw.decode())


def _digest(squeezed: bytes) -> int:
    """Combine checksum and length: fast, and the same in every process. Rows that share a digest are compared anyway."""
    return crc32(squeezed) | (len(squeezed) & 0x7FFFFFFF) << 32


def alike(found: NDArray[np.int64], rows: IntArray) -> IntArray:
    """Find the rows that share their digest with another row.

    Args:
        found: The digests of `rows`, shape (n,).
        rows: Shape (n,), ascending.

    Returns:
        Those of `rows` that share a digest, ascending.

    Example:
        >>> alike(np.array([7, 8, 7]), np.array([0, 2, 5])).tolist()
        [0, 5]
    """
    order = np.argsort(found, kind="stable")
    same = found[order][1:] == found[order][:-1]
    shared = np.zeros(len(order), dtype=np.bool_)
    shared[:-1] = same
    shared[1:] |= same
    return np.sort(rows[order[shared]])


def grouped(keys: Sequence[object], rows: IntArray, *, n: int) -> IntArray:
    """Group rows by key; every row without a key is a group of its own.

    Args:
        keys: The key of each of `rows`.
        rows: Shape (n,), ascending.
        n: N, the number of all rows.

    Returns:
        Shape (N,): the first row of each row's group.

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
    """Group duplicate rows.

    Args:
        texts: Shape (N,), strings or None.

    Returns:
        Shape (N,): rows with equal `normalised` text share a number, the first row's index; a row without
        text is a group of its own.

    Example:
        >>> duplicate_groups(np.array(["Hi", None, "hi "], dtype=object)).tolist()
        [0, 1, 0]
    """
    present = np.flatnonzero(np.fromiter((text is not None for text in texts), dtype=bool, count=len(texts)))
    row_digests = np.fromiter(
        (_digest(_squeezed(texts[row])) for row in present), np.int64, count=len(present)
    )
    rows = alike(row_digests, present)
    return grouped([text_key(texts[row]) for row in rows], rows, n=len(texts))


def _squeezed(text: str) -> bytes:
    """Return the normalised text without any white space; for ASCII in one step."""
    if text.isascii():
        return text.encode().translate(_LOWER, _SPACES)
    return normalised(text).replace(" ", "").encode("utf-8", "surrogatepass")
