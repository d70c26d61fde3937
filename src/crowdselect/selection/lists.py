"""Columns of lists in Arrow, laid out and read back: a matrix, the answers of each row, what texts share with questions."""

from typing import Any

import numpy as np

from crowdselect.numeric.responses import Several
from crowdselect.pool.codes import to_numpy
from crowdselect.selection.overlap import Overlaps
from crowdselect.types import FloatArray, IntArray


def listed_rows(matrix: FloatArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """Lay out a matrix, shape (N, M): a list of M numbers per row; see `matrix_in`."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def matrix_in(lists: Any) -> FloatArray:  # noqa: ANN401  (an Arrow array)
    """Read back what `listed_rows` laid out, shape (N, M)."""
    return to_numpy(lists.flatten()).reshape(len(lists), lists.type.list_size)


def listed_answers(found: Several, n: int) -> Any:  # noqa: ANN401  (an Arrow array)
    """Lay out the answers of n rows: a list per row of `model` (its number), `sample` and `reward`; see `several_in`."""
    import pyarrow as pa

    offsets = np.searchsorted(found.row, np.arange(n + 1)).astype(np.int32)
    samples = np.full(len(found.row), np.nan) if found.sample is None else found.sample
    parts = [pa.array(each) for each in (found.model, samples, found.reward)]
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays(parts, ["model", "sample", "reward"])
    )


def several_in(lists: Any, *, sampled: bool) -> Several:  # noqa: ANN401  (an Arrow array)
    """Read back what `listed_answers` laid out."""
    import pyarrow.compute as pc

    counts = to_numpy(pc.list_value_length(lists)).astype(np.int64)
    flat = pc.list_flatten(lists)
    model, sample, reward = (to_numpy(pc.struct_field(flat, name)) for name in ("model", "sample", "reward"))
    return Several(
        np.repeat(np.arange(len(counts)), counts), model.astype(np.int64), sample if sampled else None, reward
    )


def listed_runs(found: Overlaps, n: int) -> Any:  # noqa: ANN401  (an Arrow array)
    """The runs that each of n texts shares, a list per text; see `runs_in`."""
    import pyarrow as pa

    order = np.argsort(found.texts, kind="stable")
    offsets = np.searchsorted(found.texts[order], np.arange(n + 1))
    return pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32)), pa.array(found.runs[order].astype(np.int32))
    )


def runs_in(whole: IntArray, lists: Any) -> Overlaps:  # noqa: ANN401  (an Arrow array)
    """Put together what shards found: see `crowdselect.selection.overlap`."""
    import pyarrow.compute as pc

    counts = to_numpy(pc.list_value_length(lists)).astype(np.int64)
    runs = to_numpy(pc.list_flatten(lists)).astype(np.int64)
    return Overlaps(whole.astype(np.int64), np.repeat(np.arange(len(counts)), counts), runs)
