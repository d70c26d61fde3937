"""Chance that does not depend on order: a seeded 64-bit hash of each id.

Every tie, draw and sample of crowdselect is decided by these numbers, so that the same pool gives
the same result in any row order, file type or layout, and adding a row changes no other row's draw.
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
_BLOCK = 1 << 18  # ids hashed at a time: bounds the padded copy of their bytes


def seeded_hash(ids: Sequence[str] | NDArray[Any], *, seed: int, salt: str = "") -> UInt64Array:
    """Hash each id with a seed.

    Args:
        ids: N strings.
        seed: Any integer; another seed gives an unrelated order.
        salt: Names the use ("tie", "sample", ...), so that two uses of one seed are unrelated.

    Returns:
        Shape (N,), uniform over 64 bits. Each number depends on its id, the seed and the salt alone,
        not on the other ids nor on the machine. Two different ids collide with probability 2^-64.

    Example:
        >>> a, b = seeded_hash(["x", "y"], seed=0), seeded_hash(["y", "z", "x"], seed=0)
        >>> bool(a[0] == b[2]), bool(a[0] == seeded_hash(["x"], seed=1)[0])
        (True, False)
    """
    start = _start(seed, salt)
    out = np.empty(len(ids), dtype=np.uint64)
    for begin in range(0, len(ids), _BLOCK):
        block = ids[begin : begin + _BLOCK]
        out[begin : begin + len(block)] = _hash_block([text.encode("utf-8", "surrogatepass") for text in block], start)
    return out


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
    state = np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
    for word in [seed >> 64 & 0xFFFFFFFFFFFFFFFF, *salt.encode()]:
        state = _mix(state + np.uint64(_WEYL) + np.uint64(word))
    return np.uint64(state[0])


def _hash_block(texts: list[bytes], start: np.uint64) -> UInt64Array:
    """Mix the ids eight bytes at a time; the ids still unfinished get shorter with each step."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    state = _mix(lengths.astype(np.uint64) + start)
    words = (lengths + 7) // 8
    starts = np.concatenate(([0], np.cumsum(words)))
    joined = b"".join(text + b"\0" * (-len(text) % 8) for text in texts)
    data = np.frombuffer(joined, dtype="<u8")
    live = np.flatnonzero(words > 0)
    step = 0
    while live.size:
        state[live] = _mix((state[live] ^ data[starts[live] + step]) + np.uint64(_WEYL))
        step += 1
        live = live[words[live] > step]
    return state


def _mix(state: UInt64Array) -> UInt64Array:
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))
