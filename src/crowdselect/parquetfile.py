"""Read whole Parquet files as tables."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_parquet(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, *, checksums: bool = False
) -> Any:  # noqa: ANN401  (PyArrow ships no types)
    """Read a Parquet file; folder names such as `key=value` add no columns.

    Arrow opens the file itself: given a Python file object, its threads could still hold that when the interpreter
    ends, which aborts the process.

    Args:
        path: The file.
        columns: Read these only; None = all.
        checksums: Verify the checksums of the pages.

    Returns:
        A table.
    """
    import pyarrow.parquet as pq

    absolute = Path(path).absolute()  # Arrow, too, takes a leading `~` for the home folder
    wanted = None if columns is None else list(columns)
    try:
        os.fspath(absolute).encode()
    except UnicodeEncodeError:  # Arrow cannot open such a path; without threads, a Python file object is safe
        with (
            absolute.open("rb") as stream,
            pq.ParquetFile(stream, page_checksum_verification=checksums) as file,
        ):
            return file.read(columns=wanted, use_threads=False)
    with pq.ParquetFile(absolute, page_checksum_verification=checksums) as file:
        return file.read(columns=wanted)
