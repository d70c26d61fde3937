"""Lists of ids, as text or as a column of a table."""

from pathlib import Path

from crowdselect.errors import InputError
from crowdselect.sources import Source, connect

_TABLES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_PACKED = (".gz", ".zst")


def read_ids(path: str) -> set[str]:
    """Read a list of ids.

    Args:
        path: A text file with one id per line, or Parquet, JSONL or CSV with a column `id`.

    Returns:
        The ids; empty lines are passed over.

    Raises:
        InputError: There is no such file, it is not UTF-8, holds no id, or has no column `id`.

    Example:
        >>> read_ids("no-such-file.txt")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.txt: no such file; wanted one id per line, or a table with a column id
    """
    name = path.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    ids = _from_table(path) if name.endswith(_TABLES) else _from_text(path)
    if not ids:
        raise InputError(f"{path}: holds no id; wanted one id per line, or a table with a column id")
    return ids


def _from_text(path: str) -> set[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; wanted one id per line, or a table with a column id"
        ) from None
    except IsADirectoryError:
        raise InputError(
            f"{path}: is a folder; wanted one id per line, or a table with a column id"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; wanted one id per line") from error
    return {line.strip() for line in text.split("\n") if line.strip()}


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
