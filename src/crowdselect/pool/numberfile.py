"""Numbers per instruction that somebody else computed: a file with `id` and numeric columns."""

from collections.abc import Iterable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.pool.index import first_null, to_numpy
from crowdselect.pool.layouts import ID_COLUMNS, as_number, as_text, quote
from crowdselect.pool.source import Source, connect
from crowdselect.types import FloatArray


def read_numbers(
    path: str, *, ids: NDArray[np.object_], taken: Iterable[str]
) -> tuple[dict[str, FloatArray], str | None]:
    """Read every numeric column of a file, in the order of the pool's ids.

    Args:
        path: Parquet, JSONL or CSV with a column `id` (or `uuid`), and numbers.
        ids: The N ids wanted.
        taken: Names that no column may have.

    Returns:
        Column → shape (N,), NaN where the file has no number for an id; and a line about ids of the file
        that are not wanted, None where there are none.

    Raises:
        InputError: There is no such file, no id, no number, an id stands twice or is missing, a number is
            infinite, or a name is taken.
    """
    with closing(connect()) as connection:
        source = Source(connection, path)
        id_ = next((name for name in ID_COLUMNS if name in source.columns), None)
        names = [name for name, kind in source.columns.items() if kind.name == "number" and name != id_]
        if id_ is None or not names:
            raise InputError(
                f"{path}: no numbers per instruction; found the columns {', '.join(source.columns)}; wanted id and numeric columns"
            )
        clash = sorted(set(names) & set(taken))
        if clash:
            raise InputError(f"{path}: the column {clash[0]!r} has the name of one of our own; rename it")
        numbers = [as_number(quote(name), source.columns[name]) for name in names]
        keys, *columns = source.fetch(
            f"nullif({as_text(quote(id_), source.columns[id_])}, '')", *numbers
        ).columns
        missing = first_null(keys)
        if missing is not None:
            raise InputError(f"{source.place(missing)}: the id is missing; wanted one in every row")
    return _aligned(path, to_numpy(keys), dict(zip(names, map(to_numpy, columns), strict=True)), ids)


def _aligned(
    path: str, keys: NDArray[np.object_], columns: dict[str, FloatArray], ids: NDArray[np.object_]
) -> tuple[dict[str, FloatArray], str | None]:
    rows = {key: row for row, key in enumerate(keys)}
    if len(rows) < len(keys):
        seen: set[str] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"{path}: id {twice!r} stands twice; wanted one row per instruction")
    at = np.array([rows.get(id_, -1) for id_ in ids], dtype=np.int64)
    found = {}
    for name, values in columns.items():
        infinite = np.flatnonzero(np.isinf(values))
        if infinite.size:
            raise InputError(
                f"{path}: {name} is {values[infinite[0]]} at id {keys[infinite[0]]!r}; wanted a finite number"
            )
        found[name] = np.where(at >= 0, np.asarray(values, dtype=np.float64)[at], np.nan)
    left = len(keys) - int((at >= 0).sum())
    return found, f"--metrics {path}: {left} of {len(keys)} ids are not in the pool" if left else None
