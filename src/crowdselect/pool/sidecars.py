"""Files beside a pool: lists of ids, and numbers per instruction that somebody else computed."""

import re
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.pool.codes import first_null, to_numpy
from crowdselect.pool.columns import as_id, as_number, as_text, quote
from crowdselect.pool.connection import connect
from crowdselect.pool.files import is_table
from crowdselect.pool.layouts import ID_COLUMNS
from crowdselect.pool.source import Source
from crowdselect.textfile import read_text
from crowdselect.types import BoolArray, FloatArray


def read_ids(path: str) -> set[str]:
    """Read a list of ids.

    Args:
        path: A text file with one id per line, or Parquet, JSONL or CSV with a column `id`.

    Returns:
        The ids as they stand there, white space included; see `found_in`. Empty lines are passed over.

    Raises:
        InputError: There is no such file, it is not UTF-8, holds no id, or has no column `id`.

    Example:
        >>> read_ids("no-such-file.txt")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.txt: no such file; wanted one id per line, or a table with a column id
    """
    ids = _from_table(path) if is_table(path) else _from_text(path)
    if not ids:
        raise InputError(f"{path}: holds no id; wanted one id per line, or a table with a column id")
    return ids


def found_in(listed: AbstractSet[str], ids: Collection[str]) -> tuple[BoolArray, int]:
    """Say which ids are on a list: as they are written there, or 27 for 27.0 and without white space where nothing is written so.

    Args:
        listed: From `read_ids`.
        ids: The N ids of a pool.

    Returns:
        Which ids are meant, shape (N,); and how many of the list mean none.

    Example:
        >>> found_in({"a ", " c", "d", "27.0"}, ["a", "a ", "b", "c", "27"])
        (array([False,  True, False,  True,  True]), 1)
    """
    there = np.fromiter((i in listed for i in ids), dtype=bool, count=len(ids))
    exact = {i for i, here in zip(ids, there, strict=True) if here}
    left = [entry for entry in listed if entry not in exact]
    wanted = {_bare(entry) for entry in left if _bare(entry) != entry}
    if not wanted:
        return there, len(left)
    stripped = np.fromiter((i in wanted for i in ids), dtype=bool, count=len(ids))
    known = {i for i, here in zip(ids, stripped, strict=True) if here}
    return there | stripped, sum(_bare(entry) not in known for entry in left)


def _bare(id_: str) -> str:
    """An id without white space, and without the point of a whole number: 27 for 27.0."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", id_.strip())


def read_lines(path: str, *, wanted: str) -> list[str]:
    """Read the lines of a text file.

    Args:
        path: The file.
        wanted: What it should hold, for messages.

    Returns:
        Its lines in order, empty ones too.

    Raises:
        InputError: There is no such file, or it is not UTF-8.
    """
    return read_text(path, wanted=wanted).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _from_text(path: str) -> set[str]:
    lines = read_lines(path, wanted="one id per line, or a table with a column id")
    return {line for line in lines if line.strip()}


def _from_table(path: str) -> set[str]:
    connection = connect()
    try:
        source = Source(connection, path)
        if "id" not in source.columns:
            raise InputError(f"{path}: no column id; its columns are: {', '.join(source.columns)}")
        values = source.fetch(as_text(quote("id"), source.columns["id"])).column(0).to_pylist()
    finally:
        connection.close()
    return {value for value in values if value}


def number_columns(path: str) -> list[str]:
    """Name the numeric columns of a file, but for the id; see `read_numbers`.

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    with closing(connect()) as connection:
        columns = Source(connection, path).columns
    return [name for name, kind in columns.items() if kind.name == "number" and name not in ID_COLUMNS]


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
        keys, *columns = source.fetch(as_id(quote(id_), source.columns[id_]), *numbers).columns
        missing = first_null(keys)
        if missing is not None:
            raise InputError(f"{source.place(missing)}: the id is missing; wanted one in every row")
    return _aligned(path, to_numpy(keys), dict(zip(names, map(to_numpy, columns), strict=True)), ids)


def _aligned(
    path: str, keys: NDArray[np.object_], columns: dict[str, FloatArray], ids: NDArray[np.object_]
) -> tuple[dict[str, FloatArray], str | None]:
    known = set(ids.tolist())
    keys = np.array([key if key in known else _bare(key) for key in keys], dtype=object)
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
    return found, f"`metrics` {path}: {left} of {len(keys)} ids are not in the pool" if left else None
