"""Randomness that does not depend on order: a seeded 64-bit hash of each id.

These numbers decide every tie, draw and sample of crowdselect, so that the same pool gives the same
result in any row order, file type or layout, and adding a row changes no other row's draw.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UInt64Array = NDArray[np.uint64]
"""Shape (N,), one hash per id."""

_WEYL = 0x9E3779B97F4A7C15  # the increment and the two multipliers of SplitMix64 (Steele et al. 2014)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)  # the first n bytes of a word
_BLOCK = 1 << 18  # ids hashed at a time: bounds the copy of their bytes


def content_hash(ids: Sequence[str] | NDArray[Any]) -> UInt64Array:
    """Hash each id by its bytes alone.

    Args:
        ids: N strings; an Arrow array of them is hashed without making Python strings.

    Returns:
        Shape (N,), uniform over 64 bits. Each number depends on its own id only, not on the other ids nor
        on the machine. Two different ids collide with probability 2^-64.

    Example:
        >>> bool(content_hash(["x", "y"])[1] == content_hash(["y"])[0])
        True
    """
    out, hash_block = (
        np.empty(len(ids), dtype=np.uint64),
        _hash_arrow if hasattr(ids, "buffers") else _hash_block,
    )
    for begin in range(0, len(ids), _BLOCK):
        block = ids[begin : begin + _BLOCK]
        out[begin : begin + len(block)] = hash_block(block)
    return out


def reseeded(hashes: UInt64Array, *, seed: int, salt: str = "") -> UInt64Array:
    """Derive new hashes, and so a new order, for one seed and one use.

    Args:
        hashes: Shape (N,), from `content_hash`.
        seed: Any integer; another seed gives an unrelated order.
        salt: Names the use ("tie", "sample", ...), so that two uses of one seed are unrelated.

    Returns:
        Shape (N,); different hashes stay different.

    Example:
        >>> hashes = content_hash(["x", "y"])
        >>> bool(reseeded(hashes, seed=0)[0] == reseeded(hashes, seed=1)[0])
        False
    """
    return _mix(_mix(hashes ^ _start(seed, salt)) + np.uint64(_WEYL))


def seeded_hash(ids: Sequence[str] | NDArray[Any], *, seed: int, salt: str = "") -> UInt64Array:
    """Hash each id with a seed: `reseeded(content_hash(ids))`.

    Args:
        ids: N strings.
        seed: As for `reseeded`.
        salt: As for `reseeded`.

    Returns:
        Shape (N,), uniform over 64 bits.

    Example:
        >>> a, b = seeded_hash(["x", "y"], seed=0), seeded_hash(["y", "z", "x"], seed=0)
        >>> bool(a[0] == b[2]), bool(a[0] == seeded_hash(["x"], seed=1)[0])
        (True, False)
    """
    return reseeded(content_hash(ids), seed=seed, salt=salt)


def mixed_hash(rows: UInt64Array, columns: UInt64Array) -> UInt64Array:
    """Hash every pair of a row hash and a column hash.

    Args:
        rows: Shape (N,), from `seeded_hash`.
        columns: Shape (M,), from `seeded_hash`.

    Returns:
        Shape (N, M); each number depends on its own pair alone.

    Example:
        >>> mixed_hash(seeded_hash(["a"], seed=0), seeded_hash(["m", "n"], seed=0)).shape
        (1, 2)
    """
    return _mix(_mix(rows)[:, None] + columns[None, :])


def _start(seed: int, salt: str) -> np.uint64:
    low, high = (np.array([part & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) for part in (seed, seed >> 64))
    state = low + _mix(high)  # mixed, so that 1 and 2^64 differ
    for word in [0, *salt.encode()]:
        state = _mix(state + np.uint64(_WEYL) + np.uint64(word))
    return np.uint64(state[0])


def _hash_block(ids: Sequence[str] | NDArray[Any]) -> UInt64Array:
    """Mix the ids' UTF-8 bytes eight at a time; each step has fewer unfinished ids left."""
    joined = "".join(ids)
    if joined.isascii():
        data, lengths = joined.encode(), np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    else:
        encoded = [text.encode("utf-8", "surrogatepass") for text in ids]
        data, lengths = b"".join(encoded), np.fromiter(map(len, encoded), dtype=np.int64, count=len(ids))
    return _hash_bytes(data, np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)


def _hash_arrow(ids: Any) -> UInt64Array:  # noqa: ANN401  (an Arrow array of strings)
    """Do the same as `_hash_block`, from the buffers of an Arrow array without nulls."""
    _, offsets, data = ids.buffers()
    kind = np.int64 if str(ids.type).startswith("large") else np.int32
    ends = np.frombuffer(offsets, kind)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    body = b"" if data is None else data[int(ends[0]) : int(ends[-1])].to_pybytes()
    return _hash_bytes(body, ends[:-1] - ends[0], np.diff(ends))


def _hash_bytes(data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> UInt64Array:
    padded = data + bytes(8)
    # A word may begin at any byte, so the view's words overlap: its stride is one byte.
    words = np.ndarray(shape=(len(data) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    state = _mix(lengths.astype(np.uint64) + np.uint64(_WEYL))
    live = np.flatnonzero(lengths > 0)
    step = 0
    while live.size:
        left = np.minimum(lengths[live] - step, 8)
        word = words[starts[live] + step] & _MASKS[left]  # what follows belongs to the next id
        state[live] = _mix((state[live] ^ word) + np.uint64(_WEYL))
        step += 8
        live = live[lengths[live] > step]
    return state


def _mix(state: UInt64Array) -> UInt64Array:
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))
