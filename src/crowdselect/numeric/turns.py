"""Rows near to examples: cosines that are the same in any block, and examples that take rows in turn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.seeding import UInt64Array
from crowdselect.types import Float32Array, IntArray

_GRID = float(1 << 20)  # vectors are rounded to this fraction: their products are whole numbers below 2^53


def exact_cosines(vectors: Float32Array, others: Float32Array) -> Float32Array:
    """Compute cosines that do not depend on which rows are computed together.

    Args:
        vectors: Shape (n, D), unit length or zero.
        others: Shape (E, D), likewise.

    Returns:
        Shape (n, E), in [-1, 1], multiples of 2^-20; 0 for a zero row. Every sum is one of whole numbers, hence exact.

    Example:
        >>> exact_cosines(np.eye(2, dtype=np.float32), np.array([[0.6, 0.8]], dtype=np.float32)).round(4).tolist()
        [[0.6000000238418579], [0.800000011920929]]
    """
    products = np.rint(vectors * np.float64(_GRID)) @ np.rint(others * np.float64(_GRID)).T
    return np.asarray(np.clip(np.rint(products / _GRID) / _GRID, -1, 1), dtype=np.float32)


def nearest_first(cosines: Float32Array, keys: UInt64Array, *, count: int) -> IntArray:
    """Sort the rows that are nearest to one example.

    Args:
        cosines: Shape (n,).
        keys: Shape (n,): of equal cosines, the smaller key goes first.
        count: How many rows are wanted.

    Returns:
        The places of the `count` nearest rows, or of all n, the nearest first.

    Example:
        >>> nearest_first(np.array([0.1, 0.9, 0.9], dtype=np.float32), np.array([0, 2, 1], np.uint64), count=2).tolist()
        [2, 1]
    """
    rows = np.arange(len(cosines))
    if 0 < count < len(rows):
        least = np.partition(cosines, len(rows) - count)[len(rows) - count]
        rows = np.flatnonzero(cosines >= least)  # with all that tie for the last place
    return rows[np.lexsort((keys[rows], -cosines[rows]))[:count]]


def in_turn(
    nearest: Sequence[NDArray[np.integer[Any]]], *, rows: int, count: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Let examples take rows in turn: each takes the nearest row that is not taken yet.

    Args:
        nearest: Per example, at least the `count` rows nearest to it, the nearest first; in the order of the turns.
        rows: How many rows there are.
        count: How many rows are taken, at most `rows`.

    Returns:
        The rows in the order in which they are taken, the number of the example that took each, and the row's place in that
        example's list; shape (count,) each.

    Example:
        >>> [each.tolist() for each in in_turn([np.array([2, 1, 0]), np.array([2, 0, 1])], rows=3, count=3)]
        [[2, 0, 1], [0, 1, 0], [0, 1, 1]]
    """
    is_taken, at = bytearray(rows), [0] * len(nearest)
    lists = [np.ascontiguousarray(own).data for own in nearest]  # whose items are Python's own numbers
    taken, places = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    for turn in range(count):
        example = turn % len(lists)
        own, place = lists[example], at[example]
        while is_taken[own[place]]:
            place += 1
        is_taken[own[place]] = 1
        taken[turn], places[turn], at[example] = own[place], place, place + 1
    return taken, np.arange(count) % len(lists), places
