"""Whole Parquet files as tables, by their paths alone."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_parquet(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, *, checksums: bool = False
) -> Any:  # noqa: ANN401  (PyArrow ships no types)
    """Read a Parquet file; the names of its folders are no columns.

    Arrow opens the file itself: were it given a file of Python's, threads of its own could still hold that when
    the interpreter ends, which aborts the process.

    Args:
        path: The file.
        columns: Read these only; None = all.
        checksums: Check those of the pages.

    Returns:
        A table.
    """
    import pyarrow.parquet as pq

    place = Path(path).absolute()  # Arrow, too, takes a leading `~` for the home folder
    wanted = None if columns is None else list(columns)
    try:
        os.fspath(place).encode()
    except UnicodeEncodeError:  # Arrow opens no such path; without threads, a file of Python's does no harm
        with place.open("rb") as stream, pq.ParquetFile(stream, page_checksum_verification=checksums) as file:
            return file.read(columns=wanted, use_threads=False)
    with pq.ParquetFile(place, page_checksum_verification=checksums) as file:
        return file.read(columns=wanted)
