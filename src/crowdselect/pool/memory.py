"""Data in memory as a pool: written once to a file in the cache folder, and from there read like any other.

So a table in memory gives the same selection as the same table in a file, and a selection that was written to a
folder finds the texts of its pool again. The file is named by a hash of its content: the same data is kept once.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from crowdselect.cache import folder
from crowdselect.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowTable(Protocol):
    """Whatever hands out its rows as Arrow does: a table of PyArrow, polars, pandas or DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow's own protocol, by which libraries pass tables on without a copy."""


Data = ArrowTable | Sequence[Mapping[str, Any]]
"""A table, or a list of dicts; a `datasets.Dataset` too."""

_WANTED = "wanted a path, a datasets.Dataset, a table of pandas, polars or PyArrow, or a list of dicts"


def on_disk(data: str | os.PathLike[str] | Data) -> str:
    """Give the path of some data; what lies in memory is written to the folder `memory` of the cache first.

    Args:
        data: A path, which is given back; a table, which becomes a Parquet file; or dicts, which become a JSONL file
            and may differ in their keys. Columns and rows stay in their order. The index of a pandas table is left
            out unless it has a name; then it is a column.

    Returns:
        The path.

    Raises:
        InputError: It is nothing of these, or a value in it has no place in such a file.

    Example:
        >>> on_disk("pool.parquet")
        'pool.parquet'
        >>> Path(on_disk([{"id": "1", "instruction": "Hi", "model": "a", "response": "Hello"}])).suffix
        '.jsonl'
    """
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    if isinstance(data, Mapping):  # a datasets.DatasetDict
        raise InputError(
            f"a {type(data).__name__} is no table; give one of its parts: {', '.join(map(repr, data))}"
        )
    if isinstance(data, Sequence):
        return _kept(".jsonl", lambda file: _write_rows(file, data))
    return _kept(".parquet", lambda file: _write_table(file, data))


def _is(package: str, name: str, value: object) -> bool:
    """Whether a value is of a class of a package; a package that is not loaded made none, and is not loaded for that."""
    kind = getattr(sys.modules.get(package), name, None)
    return kind is not None and isinstance(value, kind)


def _kept(ending: str, write: Callable[[Path], None]) -> str:
    """Write a file of the cache folder, named by a hash of its content; what is there already stays."""
    home = folder() / "memory"
    home.mkdir(parents=True, exist_ok=True)
    beside = home / f".{uuid4().hex}.tmp"
    try:
        write(beside)
        with beside.open("rb") as stream:
            target = home / f"{file_digest(stream, 'sha256').hexdigest()[:32]}{ending}"
        if not target.exists():
            beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return str(target)


def _write_rows(file: Path, rows: Sequence[Any]) -> None:
    if not rows:
        raise InputError("the list is empty; wanted at least one dict")
    with file.open("w", encoding="utf-8") as stream:
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise InputError(f"row {number} of the list is of type {type(row).__name__}; wanted a dict")
            try:
                stream.write(json.dumps(dict(row), default=_plain) + "\n")
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(f"row {number} of the list cannot be written as JSON ({error})") from error


def _plain(value: object) -> object:
    """A value of NumPy or PyArrow as Python has it."""
    for name in ("tolist", "as_py"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise TypeError(f"no JSON value: {type(value).__name__}")


def _write_table(file: Path, data: object) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = _as_arrow(data).replace_schema_metadata(None)
        pq.write_table(table, file, compression="zstd")
    except pa.ArrowException as error:
        raise InputError(
            f"the table cannot be written as Parquet ({' '.join(str(error).split())})"
        ) from error


def _as_arrow(data: Any) -> "pa.Table":  # noqa: ANN401  (a table of any library)
    """Give a table as Arrow has it; nothing is copied where its library keeps it so."""
    import pyarrow as pa

    if _is("datasets", "Dataset", data):
        return data.with_format("arrow")[:]
    if _is("pandas", "DataFrame", data):
        named = [name for name in data.index.names if name is not None]
        return pa.Table.from_pandas(data.reset_index(level=named), preserve_index=False)
    if not hasattr(data, "__arrow_c_stream__"):
        raise InputError(f"a pool cannot be read from the type {type(data).__name__}; {_WANTED}")
    return pa.RecordBatchReader.from_stream(data).read_all()
