"""Merged cells of a spreadsheet: what stood once beside several rows is empty in all of them but the first."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from crowdselect.errors import InputError
from crowdselect.pool.parts import Names
from crowdselect.pool.rowfiles import Broken, Row, rows_of
from crowdselect.pool.textscores import reading

FEW_MERGED = 3
"""Where cells are merged, one of so many rows at least has an empty one."""


def merged_cells(files: Sequence[Path], kind: str, names: Names) -> InputError | None:
    """Say that an id, an instruction or a model stands only in the first row of several that it belongs to.

    Args:
        files: The files.
        kind: As of `rows_of`.
        names: Which column is which part of a row; each row is an answer.

    Returns:
        The error, with the line of pandas that fills the cells; None where they are not so.
    """
    parts = [name for name in (names.id, names.instruction, names.model) if name is not None]
    for file in files if names.model is not None and kind in {"csv", "json", "parquet", "arrow"} else ():
        empty: dict[str, list[int]] = {}
        count = 0
        for count, (at, row) in enumerate(_rows(file, kind), start=1):  # noqa: B007  (also how many there are)
            for name, value in row.items():
                if _is_empty(value):
                    empty.setdefault(name, []).append(at)
        found = [part for part in parts if part in empty and FEW_MERGED * len(empty[part]) >= count]
        found = [part for part in found if _is_merged(file, kind, part, names)]
        if found:
            rows = empty[found[0]]
            alike = [name for name in empty if name in found or empty[name] == rows]
            return InputError(
                f"{file}: row {rows[0]}: {found[0]} is empty, as in {len(rows):,} of {count:,} rows, and filled above them, "
                f"as merged cells of a spreadsheet are; pandas fills them: {_line(str(file), alike)}"
            )
    return None


def _rows(file: Path, kind: str) -> Iterator[tuple[int, Row]]:
    """The rows that hold something."""
    for at, row in rows_of(file, kind):
        if not isinstance(row, Broken) and not all(map(_is_empty, row.values())):
            yield at, row


def _is_empty(value: object) -> bool:
    return value is None or value == "" or value != value  # noqa: PLR0124  (NaN)


def _is_merged(file: Path, kind: str, part: str, names: Names) -> bool:
    """Whether the rows below a filled cell are of one thing: each has another model, or where the model is merged, instruction, which other models were asked too."""
    beside = names.model if part != names.model else names.instruction or names.id
    seen: set[str] | None = None
    every, again = set[str](), False
    told, untold = set[str](), set[str]()
    for _, row in _rows(file, kind):
        value = row.get(beside or "")
        if not _is_empty(row.get(part)):
            seen = set()
            told.add(str(row.get(names.id or "")))
        else:
            untold.add(str(row.get(names.id or "")))
        if seen is None or _is_empty(value) or str(value) in seen:
            return False
        seen.add(str(value))
        again = again or str(value) in every
        every.add(str(value))
    if part == names.model and not again:
        return False
    # An instruction may stand once beside its id, which all rows have.
    return part != names.instruction or names.id is None or not untold <= told


def _line(path: str, columns: Sequence[str]) -> str:
    """Python that fills empty cells of some columns with what stands above them, and leaves all others as they are."""
    read = reading(path)
    if read.startswith("pd.read_csv"):
        read = f"{read[:-1]}, dtype=str, keep_default_na=False)"
    return (
        f"df = {read}; c = {list(columns)!r}; df[c] = df[c].mask(df[c] == '').ffill(); "
        "df.to_parquet('pool.parquet')"
    )
