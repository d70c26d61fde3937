"""Lists of ids, as text or as a column of a table."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet

import numpy as np

from crowdselect.errors import InputError
from crowdselect.pool.source import Source, connect
from crowdselect.textfile import read_text
from crowdselect.types import BoolArray

_TABLES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_PACKED = (".gz", ".zst")


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
    """Say which ids are on a list: as they are written there, or without white space where nothing is written so.

    Args:
        listed: From `read_ids`.
        ids: The N ids of a pool.

    Returns:
        Which ids are meant, shape (N,); and how many of the list mean none.

    Example:
        >>> found_in({"a ", " c", "d"}, ["a", "a ", "b", "c"])
        (array([False,  True, False,  True]), 1)
    """
    there = np.fromiter((i in listed for i in ids), dtype=bool, count=len(ids))
    exact = {i for i, here in zip(ids, there, strict=True) if here}
    left = [entry for entry in listed if entry not in exact]
    wanted = {entry.strip() for entry in left if entry.strip() != entry}
    if not wanted:
        return there, len(left)
    stripped = np.fromiter((i in wanted for i in ids), dtype=bool, count=len(ids))
    known = {i for i, here in zip(ids, stripped, strict=True) if here}
    return there | stripped, sum(entry.strip() not in known for entry in left)


def is_table(path: str) -> bool:
    """Say whether a path is named like Parquet, JSON or CSV, rather than like plain text.

    Example:
        >>> is_table("ids.jsonl.gz"), is_table("ids.txt")
        (True, False)
    """
    name = path.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name.endswith(_TABLES)


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
        values = source.fetch('CAST("id" AS VARCHAR)').column(0).to_pylist()
    finally:
        connection.close()
    return {value for value in values if value}
