"""Arrow values as numbers: places among the distinct ones, orders, the first that is missing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.pool.source import Source
from crowdselect.types import IntArray

if TYPE_CHECKING:
    import pyarrow as pa


def sorted_once(
    ids: "pa.Array", twice: Callable[[str, int, int], InputError]
) -> tuple["pa.Array", IntArray | None]:
    """Put ids in code-point order, of which each may stand once.

    Args:
        ids: N of them.
        twice: Makes the error of an id that stands twice, and of its first two places.

    Returns:
        The ids, and the place that each had, shape (N,); None = they were in order.

    Raises:
        InputError: What `twice` makes.
    """
    import pyarrow.compute as pc

    if pc.all(pc.less(ids[:-1], ids[1:])).as_py():
        return ids, None
    order = to_numpy(pc.sort_indices(ids)).astype(np.int64)
    known = ids.take(order)
    same = to_numpy(pc.equal(known[1:], known[:-1]))
    if same.any():
        at = int(np.argmax(same))
        first, second = sorted(int(row) for row in order[at : at + 2])
        raise twice(known[at].as_py(), first, second)
    return known, order


def coded(
    source: Source, sql: str, *, kind: type[np.signedinteger[Any]] = np.int64
) -> tuple["pa.Array", IntArray]:
    """Do what `codes_of` does for the values of an SQL expression that is cheap to evaluate, in a fraction of the time.

    The texts themselves are read once each; of the rows only their hashes, which tell the texts of a pool apart. `kind` is the
    type of the numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts, marks = (column.combine_chunks() for column in source.distinct(sql).columns)
    if len(pc.unique(marks)) < len(marks):  # two texts of one hash, once in a billion pools
        return codes_of(source.fetch(sql).column(0))
    there = texts.is_valid()
    texts, marks = texts.filter(there), marks.filter(there)
    order = pc.sort_indices(texts)
    hashes = to_numpy(source.fetch(f"hash({sql})").column(0))
    begins = starts_of(hashes)  # rows of one text often follow each other
    found = pc.fill_null(pc.index_in(pa.array(hashes[begins]), marks.take(order)), -1)
    codes = to_numpy(found).astype(kind)
    if len(begins) < len(hashes):
        codes = np.repeat(codes, np.diff(begins, append=len(hashes)))
    return texts.take(order), codes


def codes_of(values: "pa.ChunkedArray") -> tuple["pa.Array", IntArray]:
    """Number texts by their place among the distinct ones, in code-point order.

    Returns:
        The distinct texts, and the number of each value; -1 = it is missing.
    """
    import pyarrow.compute as pc

    encoded = values.combine_chunks().dictionary_encode()
    order = to_numpy(pc.sort_indices(encoded.dictionary))
    codes = to_numpy(pc.fill_null(encoded.indices, len(order)))
    return encoded.dictionary.take(order), np.append(inverse(order), -1)[codes]


def starts_of(values: NDArray[Any]) -> IntArray:
    """Find where another value begins than stands before.

    Example:
        >>> starts_of(np.array([7, 7, 3, 7])).tolist()
        [0, 2, 3]
    """
    new = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return np.flatnonzero(new)


def inverse(order: IntArray) -> IntArray:
    """Turn "who stands at place i" into "at which place stands i"."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def first_null(values: "pa.ChunkedArray") -> int | None:
    """Find the first missing value."""
    return int(np.argmax(to_numpy(values.is_null()))) if values.null_count else None


def first_missing(codes: IntArray) -> int | None:
    """Find the first value without a number, from `coded` or `codes_of`."""
    return int(np.argmax(codes < 0)) if codes.size and codes.min() < 0 else None


def to_numpy(values: "pa.Array | pa.ChunkedArray") -> NDArray[Any]:
    """Give Arrow values to NumPy; missing numbers become NaN, missing texts None."""
    import pyarrow as pa

    whole = (
        values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
    )
    array: NDArray[Any] = whole
    return array
