"""One file, or many of one type, as a relation: its columns, and SQL expressions read over its rows.

Rows always come in the order of the files, so that a row's number names it. Parquet is read where it
lies; JSON and CSV are parsed once, every top-level value kept as the text that stands in the file, into
a table of DuckDB's that spills to disk.
"""

import json
import re
import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from crowdselect.errors import InputError
from crowdselect.pool.columns import MISSING_TEXTS, Columns, Kind, kind_in_json, kind_of, quote, stored_type
from crowdselect.pool.files import FileType, broken_line, delimiter, json_format, literal, resolve
from crowdselect.pool.headings import is_nameless, nameless
from crowdselect.pool.rowfiles import Dialect, dialect_of, is_index, raise_other_encoding
from crowdselect.pool.statistics import proves_text, proves_values
from crowdselect.textfile import NESTED, check_text, packing, too_deep, without_mark
from crowdselect.types import IntArray

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_LONGEST = 1 << 28  # bytes of one JSON object or CSV row; tried only where the usual limit is too small
_ROWS_COMPARED = 200_000  # of a file, about, where some are enough
_FEWEST_COMPARED = 10  # keys with several numbers from which on it is no chance that these are the same
_AT_ONCE = 100  # expressions in a query: the time that DuckDB takes to plan one grows with their square
_DIGITS = r"([0-9０-９]+([.．][0-9０-９]*)?|[.．][0-9０-９]+)(e[+-]?[0-9]+)?"  # noqa: RUF001
_SIGN, _SPACE = "[+＋－-]?", r"[\s\v\x1c-\x1f\x{85}\p{Z}]*"  # noqa: RUF001
FINITE = rf"'(?i){_SPACE}({_SIGN}{_DIGITS}|true|false){_SPACE}'"
NUMBER = rf"'(?i){_SPACE}({_SIGN}({_DIGITS}|inf|infinity)|true|false|{'|'.join(sorted(MISSING_TEXTS))})?{_SPACE}'"  # also missing or infinite
_MARKED = f"'(?i)\\s*({'|'.join(sorted(filter(None, MISSING_TEXTS)))})\\s*'"
_NAMELESS = "\0"  # begins what a column without a name is called while it is looked at
_LOOKED_AT = 1000  # rows by which a column of texts is seen to hold no numbers

TEXT_PARTS = frozenset(
    {
        "id",
        "uuid",
        "prompt_id",
        "instruction",
        "messages",
        "model",
        "response",
        "input",
        "system",
        "finish_reason",
        "reasoning",
    }
    | {"answer", "reference", "target", "ground_truth", "solution", "label"}
)
"""Columns whose texts are no numbers even where all look so."""


class BrokenRowError(InputError):
    """A row of a text file cannot be read, others can."""


class Source:
    """The rows of some files of one type."""

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        path: str,
        *,
        files: Sequence[Path] = (),
        kind: FileType | None = None,
        originals: Sequence[Path] = (),
        row: str | None = None,
    ) -> None:
        """Find the files and read their columns.

        Args:
            connection: From `connect`.
            path: See `files.resolve` for what it may be.
            files: Its files, where they are known; with their `kind`.
            kind: See there.
            originals: What the files were made of, for messages; none = they are the user's own.
            row: The column with the number of a row in those.
        """
        self.path = path
        self.files: tuple[Path, ...] = tuple(files)
        if kind is None:
            self.files, kind = resolve(path)
        self.type: FileType = kind
        self.originals = tuple(originals) or self.files
        self.notes: list[str] = []
        self._row = row
        self._connection = connection
        self._name = f"source_{uuid4().hex}"
        self._set("files", [literal(file) for file in self.files])
        self._copies: dict[Path, Path] = {}
        self.columns: Columns = self._without_index(_READERS[self.type](self))
        _refuse_twins(self.path, list(self.columns))
        self.columns = {n: Kind("bytes") if n in self._binary else k for n, k in self.columns.items()}
        self.columns = self._with_spelt_numbers(self.columns)

    def _without_index(self, columns: Columns) -> Columns:
        """Leave out the index that pandas writes as a column."""
        index = [name for name in columns if is_index(name)]
        if index:
            self.notes.append(f"left out, an index that pandas wrote: {', '.join(index)}")
        return {name: kind for name, kind in columns.items() if name not in index}

    def _with_spelt_numbers(self, columns: Columns) -> Columns:
        """Make columns of texts that are all numbers columns of numbers; CSV has no others."""
        texts = [n for n, kind in columns.items() if kind.name in {"text", "mixed"} and n not in TEXT_PARTS]
        if self.type == "csv" or not texts or self._row is not None:
            return columns
        numbers = self._numeric(texts, f" LIMIT {_LOOKED_AT}")
        numbers = self._numeric(numbers, "") if numbers else []
        self._note_marked(numbers)
        return {name: Kind("number", written=True) if name in numbers else k for name, k in columns.items()}

    def _numeric(self, names: Sequence[str], some: str) -> list[str]:
        """Which columns of text hold numbers, or what stands for none, and nothing else."""
        tests = ", ".join(
            f"coalesce(bool_and(regexp_full_match({c}, {NUMBER})) AND bool_or(regexp_full_match({c}, {FINITE})), false)"
            for c in map(quote, names)
        )
        listed = ", ".join(map(quote, names))
        with self._reading():
            found = self._connection.sql(
                f"SELECT {tests} FROM (SELECT {listed} FROM {self._relation}{some})"
            ).fetchall()[0]
        return [name for name, numeric in zip(names, found, strict=True) if numeric]

    def _note_marked(self, names: Sequence[str]) -> None:
        """Count what stands for no number in columns of numbers."""
        if names:
            counts = self.fetch(
                *(f"count(*) FILTER (regexp_full_match({quote(n)}, {_MARKED}))" for n in names)
            )
            marked = {
                name: c[0].as_py() for name, c in zip(names, counts.columns, strict=True) if c[0].as_py()
            }
            self.notes += [f"{name}: {n} values such as NA are missing" for name, n in marked.items()]

    def any(self, *conditions: str) -> list[bool]:
        """Say of each SQL condition whether it is true of any row."""
        found = self.fetch(*(f"coalesce(bool_or({condition}), false)" for condition in conditions))
        return [bool(column[0].as_py()) for column in found.columns]

    def fetch(self, *expressions: str) -> "pa.Table":
        """Evaluate SQL expressions on every row; columns in their order, rows in the order of the files."""
        import pyarrow as pa

        with self._reading():
            parts = [
                self._connection.sql(self._select(expressions[begin : begin + _AT_ONCE])).to_arrow_table()
                for begin in range(0, len(expressions), _AT_ONCE)
            ]
        if len(parts) == 1:
            return parts[0]
        columns = [column for part in parts for column in part.columns]
        return pa.table(columns, names=[f"c{index}" for index in range(len(columns))])

    def batches(self, *expressions: str, rows: int) -> "Generator[pa.RecordBatch, None, None]":
        """Evaluate SQL expressions on every row, some rows at a time; few are in memory at once."""
        with self._reading():
            yield from self._connection.sql(self._select(expressions)).to_arrow_reader(rows)

    def grouped(self, key: str, values: str) -> "pa.Table":
        """For every distinct key its one value; nulls do not count.

        Returns:
            Key, smallest value, and the largest as text where that is another.
        """
        inner = f"SELECT {key} AS k, {values} AS v FROM {self._relation}"
        another = "CASE WHEN min(v) IS DISTINCT FROM max(v) THEN CAST(max(v) AS VARCHAR) END"
        with self._reading():
            sql = f"SELECT k, min(v) AS low, {another} AS high FROM ({inner}) GROUP BY k"
            return self._connection.sql(sql).to_arrow_table()

    def same_for_each(self, key: str | None, values: Sequence[str]) -> list[bool]:
        """Say of SQL numbers whether each is the same in all rows of a key, in files of many rows by a part of them.

        Args:
            key: SQL; None = a row is a key, and `values` are lists.
            values: What is compared.

        Returns:
            One each; true only if enough keys have two numbers.
        """
        part = max(self.row_count // _ROWS_COMPARED, 1)
        numbers = ", ".join(f"{sql} AS v{at}" for at, sql in enumerate(values))
        some = f"SELECT {key or 'NULL'} AS k, {numbers} FROM {self._relation}"
        if part > 1:
            some += f" WHERE hash({key or values[0]}) % {part} = 0"
        low, high, count = ("min", "max", "count") if key else ("list_min", "list_max", "list_count")
        ends = ", ".join(
            f"{low}(v{at}) < {high}(v{at}) AS d{at}, {count}(v{at}) > 1 AS s{at}" for at in range(len(values))
        )
        same = ", ".join(
            f"count_if(s{at}) >= {_FEWEST_COMPARED} AND NOT bool_or(d{at})" for at in range(len(values))
        )
        with self._reading():
            sql = f"SELECT {same} FROM (SELECT {ends} FROM ({some}){' GROUP BY k' if key else ''})"
            return [bool(found) for found in self._connection.sql(sql).fetchall()[0]]

    def distinct(self, expression: str) -> "pa.Table":
        """Give the distinct values of an SQL expression, in no order, and the hash that DuckDB's `hash` has for each."""
        inner = f"SELECT DISTINCT {expression} AS v FROM {self._relation}"
        with self._reading():
            return self._connection.sql(f"SELECT v, hash(v) AS h FROM ({inner})").to_arrow_table()

    def take(self, expression: str, rows: IntArray) -> "pa.ChunkedArray":
        """Evaluate an SQL expression on some rows only, given by number; the result is in their order."""
        if self._has_row_number_clash:
            return self.fetch(expression).column(0).take(rows)
        here = self._pin(rows)
        names = {name: quote(f"{self._name}_{name}") for name in ("place", "row", "file")}  # like no column's
        wanted = ", ".join(f"unnest(getvariable('{self._name}_{name}')) AS {names[name]}" for name in names)
        on = f"{names['row']} = {here}" + (
            f" AND {names['file']} = filename" if self.type == "parquet" else ""
        )
        sql = f"SELECT {names['place']}, {expression} FROM {self._relation} JOIN (SELECT {wanted}) ON {on}"
        with self._reading():
            found = self._connection.sql(sql).to_arrow_table()
        return found.sort_by(found.column_names[0]).column(1)

    @property
    def _binary(self) -> frozenset[str]:
        """The columns of Parquet that hold bytes, or have them somewhere within, and are no parts of a row: never read."""
        leaves = [
            leaf
            for metadata in (self._metadata if self.type == "parquet" else ())
            for leaf in map(metadata.schema.column, range(metadata.num_columns))
        ]
        return frozenset(
            name
            for leaf in leaves
            if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
            if (name := leaf.path.split(".")[0]) not in TEXT_PARTS
        )

    def contents(self, rows: IntArray) -> list[str]:
        """Give a digest of all that some rows hold, but for bytes."""
        names = [name for name, kind in self.columns.items() if kind.name != "bytes"]
        columns = ", ".join(f"coalesce(CAST({quote(name)} AS VARCHAR), chr(0))" for name in names)
        return [str(text) for text in self.take(f"md5(concat_ws(chr(31), {columns}))", rows).to_pylist()]

    def keep(self, key: str, values: "pa.Array", target: Path) -> int:
        """Write the rows whose key is one of some values to a Parquet file.

        Args:
            key: An SQL expression.
            values: What it may be.
            target: The file.

        Returns:
            How many rows they are.
        """
        import pyarrow as pa

        wanted = f"{self._name}_wanted"
        self._connection.register(wanted, pa.table({"value": values}))
        with self._reading():
            sql = f"SELECT * FROM {self._relation} WHERE {key} IN (SELECT value FROM {quote(wanted)})"
            place = str(target.absolute()).replace("'", "''")
            copied = self._connection.execute(f"COPY ({sql}) TO '{place}' (FORMAT parquet)").fetchall()
        self._connection.unregister(wanted)
        return int(copied[0][0])

    @property
    def row_count(self) -> int:
        """Rows of all files; of Parquet without reading them."""
        return int(self._counts.sum())

    @property
    def filled(self) -> tuple[Path, ...]:
        """The files that have rows."""
        return tuple(file for file, count in zip(self.files, self._counts, strict=True) if count)

    def odd_file(self) -> str | None:
        """Say which of several Parquet files has other columns than the first, and which; None where they agree."""
        first: dict[str, tuple[str, str]] = {}
        for file, metadata in zip(self.files, self._metadata, strict=True):
            leaves = (metadata.schema.column(at) for at in range(metadata.num_columns))
            found = {leaf.path: (leaf.physical_type, str(leaf.logical_type)) for leaf in leaves}
            if metadata.num_rows == 0:
                continue
            first = first or found
            for name in first | found:
                if name not in found:
                    return f"{file}: no column {name!r}, which other files have"
                if name not in first:
                    return f"{file}: column {name!r}, which other files do not have"
                if first[name] != found[name]:
                    return f"{file}: column {name!r} is of another type than in other files"
        return None

    def _pin(self, rows: IntArray) -> str:
        """Tell DuckDB which rows are wanted; gives its name for the row number that they are pinned by."""
        which = np.searchsorted(self._ends, rows, side="right")
        starts = self._ends - self._counts
        in_file = self.type == "parquet"
        self._set("place", list(range(len(rows))))
        self._set("row", (rows - starts[which] if in_file else rows).tolist())
        self._set("file", [str(self.files[index].absolute()) for index in which])
        return "file_row_number" if in_file else "rowid"

    def never_blank(self, leaf: tuple[str, ...] | None) -> bool:
        """Say whether Parquet's statistics prove that a column of text has neither nulls nor blank texts.

        No value below `!` (the first visible character) and none from U+0085 on means that every text begins
        with a visible ASCII character: white space lies on either side of that range.
        """
        if leaf is None or self.type != "parquet":
            return False
        path = ".".join(leaf)
        found = zip(self._metadata, self._leaves, strict=True)
        return all(len(at[path]) == 1 and proves_text(metadata, at[path][0]) for metadata, at in found)

    def never_null(self, column: str) -> bool:
        """Say whether Parquet's statistics prove that a column has neither nulls nor empty texts."""
        if self.type != "parquet":
            return False
        found = zip(self._metadata, self._leaves, strict=True)
        return all(len(at[column]) == 1 and proves_values(metadata, at[column][0]) for metadata, at in found)

    def file_of(self, row: int) -> Path:
        """The user's file that a row is of."""
        return self.originals[int(np.searchsorted(self._ends, row, side="right"))]

    def place(self, row: int) -> str:
        """Name a row for a message: the file it is in, and its number there, from 1."""
        which = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[which] - self._counts[which])
        number = row - start + 1
        if self._row is not None:
            number = self.take(quote(self._row), np.array([row], dtype=np.int64))[0].as_py()
        return f"{self.originals[which]}: row {number}"

    @cached_property
    def _counts(self) -> IntArray:
        """Rows per file."""
        if self.type == "parquet":
            return np.array([metadata.num_rows for metadata in self._metadata], dtype=np.int64)
        if self.type == "json":
            _ = self._relation  # reads the rows, and counts them
        return np.array(self._text_counts, dtype=np.int64)

    @cached_property
    def _metadata(self) -> list[Any]:
        import pyarrow.parquet as pq

        with self._reading():
            return [pq.read_metadata(file.absolute()) for file in self.files]

    @cached_property
    def _leaves(self) -> list[dict[str, list[int]]]:
        """Of each Parquet file: the numbers of the columns of each path."""
        found: list[dict[str, list[int]]] = []
        for metadata in self._metadata:
            found.append(defaultdict(list))
            for index in range(metadata.num_columns):
                found[-1][metadata.schema.column(index).path].append(index)
        return found

    @cached_property
    def _ends(self) -> IntArray:
        return np.cumsum(self._counts)

    @cached_property
    def _has_row_number_clash(self) -> bool:
        return bool({"filename", "file_row_number", "rowid"} & {name.casefold() for name in self.columns})

    @cached_property
    def _relation(self) -> str:
        if self.type == "parquet":
            return self._parquet
        return self._load_json() if self.type == "json" else self._table

    @property
    def _parquet(self) -> str:
        files = f"getvariable('{self._name}_files')"  # a folder's name, as PART=3, is not a column
        return f"read_parquet({files}, union_by_name=true, binary_as_string=true, hive_partitioning=false)"

    @property
    def _table(self) -> str:
        return quote(self._name)

    def _select(self, expressions: Sequence[str]) -> str:
        named = ", ".join(f"{sql} AS c{index}" for index, sql in enumerate(expressions))
        return f"SELECT {named} FROM {self._relation}"

    def _set(self, name: str, value: object) -> None:
        self._connection.execute(f"SET VARIABLE {self._name}_{name} = ?", [value])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what DuckDB says about a file into one line that names it."""
        import duckdb
        import pyarrow as pa

        try:
            yield
        except (duckdb.InterruptException, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "interrupt" not in str(error).casefold():
                raise
            raise KeyboardInterrupt from error  # what DuckDB makes of Ctrl-C
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> InputError:
        if self.type == "json":
            found = broken_line(self.files)
            if found is not None:
                return found
            if "recursion depth" in str(error):
                return next(filter(None, map(too_deep, self.files)), InputError(f"{self.path}: {NESTED}"))
        text = " ".join(str(error).split())
        uneven = re.search(r"CSV Error on Line: (\d+).*Expected Number of Columns: (\d+) Found: (\d+)", text)
        named = next((file for file in self.files if str(file) in text), None)
        where = str(named) if named is not None else self.path
        if self.type == "csv" and "utf-8" in text.casefold():
            raise_other_encoding(self.files)
        if uneven:
            line, wanted, came = uneven.groups()
            return BrokenRowError(
                f"{where}: line {line} has {came} fields; wanted {wanted}, as in the header"
            )
        unlike = self._not_converted(error)
        if unlike is not None:
            return unlike
        kind = BrokenRowError if self.type == "csv" else InputError
        return kind(f"{where}: cannot be read: {str(error).splitlines()[0][:300]}")

    def _not_converted(self, error: Exception) -> InputError | None:
        """Name the place of a text that looked like a number and is none; None where an error does not speak of one."""
        found = re.search(r"Could not convert string '(.*)' to ", str(error), re.DOTALL)
        if found is None:
            return None
        text = found[1].replace("'", "''")
        for name in (name for name, kind in self.columns.items() if kind.name == "number" and kind.written):
            at = self.fetch(f"contains({quote(name)}, '{text}')").column(0).to_pylist()
            if True in at:
                wanted = "wanted a number, or nothing where there is none"
                return InputError(f"{self.place(at.index(True))}: {name} is {found[1][:60]!r}; {wanted}")
        return None

    def _read_parquet_columns(self) -> Columns:
        with self._reading():
            empty = self._connection.sql(f"SELECT * FROM {self._parquet} LIMIT 0")
            columns = {name: kind_of(kind) for name, kind in zip(empty.columns, empty.types, strict=True)}
        if any(re.search(r"_\d+$", name) for name in columns):  # so DuckDB renames what it cannot tell apart
            for metadata in self._metadata:
                _refuse_twins(self.path, metadata.schema.to_arrow_schema().names)
        return columns

    # JSON: one pass finds every key of the whole file and what stands behind it, one reads the values.

    def _read_json_columns(self) -> Columns:
        def structure_of(rows: str) -> str:
            return f"SELECT json_group_structure(json) FROM {rows}"

        found = self._read_json(structure_of, "read_json_objects", self.files)
        structure = json.loads(found[0][0] or "{}")
        if not isinstance(structure, dict):
            raise broken_line(self.files) or InputError(
                f"{self.path}: holds no JSON objects; wanted one per line"
            )
        if not structure:
            raise InputError(f"{self.path}: the file is empty (no JSON object); wanted one object per line")
        return {name: kind_in_json(inner, top=True) for name, inner in structure.items()}

    def _load_json(self) -> str:
        stored = {
            name: stored_type(kind) if kind.name in {"list", "struct"} else "VARCHAR"
            for name, kind in self.columns.items()
        }
        self._create_table(stored)
        # A JSON value that is no list or object goes into the table as the text it is written with.
        values = ", ".join(quote(n) + (" ->> '$'" if kind == "VARCHAR" else "") for n, kind in stored.items())
        read = {name: "JSON" if kind == "VARCHAR" else kind for name, kind in stored.items()}

        def insertion(rows: str) -> str:
            return f"INSERT INTO {self._table} SELECT {values} FROM {rows}"

        counts = (self._read_json(insertion, "read_json", [file], columns=read) for file in self.files)
        self._text_counts = [int(count[0][0]) for count in counts]
        return self._table

    def _read_json(
        self, sql: Callable[[str], str], reader: str, files: Sequence[Path], **values: object
    ) -> list[tuple[Any, ...]]:
        """Run SQL over the rows of of some files; those packed alike are read by one call."""
        unmarked = [self._unmarked(file) for file in files]
        packed = [packing(file) or "uncompressed" for file in unmarked]
        options = "format=$format, maximum_object_size=$longest, hive_partitioning=false"
        options += ", columns=$columns" if "columns" in values else ""
        parts = []
        for kind in sorted(set(packed)):
            values[kind] = [literal(file) for file, its in zip(unmarked, packed, strict=True) if its == kind]
            parts.append(f"SELECT * FROM {reader}(${kind}, compression='{kind}', {options})")
        values["format"] = json_format(files)
        return self._roomy(sql(f"({' UNION ALL '.join(parts)})"), values, usual=1 << 24)

    def _unmarked(self, file: Path) -> Path:
        """Give a JSON file as DuckDB reads it: a copy where it begins with a byte order mark."""
        if file not in self._copies:
            self._copies[file] = self._copied(file) if check_text(file) else file
        return self._copies[file]

    def _copied(self, file: Path) -> Path:
        folder = tempfile.mkdtemp(prefix="crowdselect-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        copy = Path(folder) / f"unmarked{'.json' if json_format([file]) == 'auto' else '.jsonl'}"
        without_mark(file, copy)
        return copy

    # CSV: every cell is text; the whole file decides which columns are numbers.

    def _read_csv_columns(self) -> Columns:
        self._dialects = {file: _dialect(file) for file in self.files}
        names = list(dict.fromkeys(name for found in self._dialects.values() for name in found.header))
        _refuse_twins(self.path, names)
        self._create_table(dict.fromkeys(names, "VARCHAR"))
        self._text_counts = [self._load_csv(file, found) for file, found in self._dialects.items()]
        names = [name for name in names if not name.startswith(_NAMELESS) or self._refuse_nameless(name)]
        numbers = self._numeric(names, "")
        self._note_marked(numbers)
        return {name: Kind("number" if name in numbers else "text", written=True) for name in names}

    def _refuse_nameless(self, name: str) -> bool:
        """Stop where a column without a name holds something; others are none.

        Raises:
            InputError: It does.
        """
        values = self.fetch(f"nullif(trim({quote(name)}), '')").column(0).to_pylist()
        at = next((at for at, value in enumerate(values) if value is not None), None)
        if at is None:
            return False
        file, _, row = self.place(at).rpartition(": row ")
        raise nameless(Path(file), int(name.removeprefix(_NAMELESS)), int(row), values[at])

    def _load_csv(self, file: Path, dialect: Dialect) -> int:
        options = "header=true, auto_detect=false, delim=$delim, quote='\"', escape='\"', columns=$columns"
        source = f"read_csv($file, {options}, compression=$packing, max_line_size=$longest, hive_partitioning=false)"
        values: dict[str, object] = {
            "file": literal(file),
            "packing": packing(file) or "uncompressed",
            "delim": dialect.delimiter,
            "columns": dict.fromkeys(dialect.header, "VARCHAR"),
        }
        sql = f"INSERT INTO {self._table} BY NAME SELECT * FROM {source}"
        return int(self._roomy(sql, values, usual=1 << 21)[0][0])

    def _create_table(self, types: dict[str, str]) -> None:
        columns = ", ".join(f"{quote(name)} {sql_type}" for name, sql_type in types.items())
        self._connection.execute(f"CREATE TEMP TABLE {self._table} ({columns})")

    def _roomy(self, sql: str, values: dict[str, object], *, usual: int) -> list[tuple[Any, ...]]:
        """Run SQL with the usual room for one row; with far more only where a row needs it: room costs memory."""
        import duckdb

        with self._reading():
            try:
                return self._connection.execute(sql, {**values, "longest": usual}).fetchall()
            except duckdb.Error as error:
                if not re.search(r"maximum_object_size|max_line_size|Maximum line size", str(error)):
                    raise
                return self._connection.execute(sql, {**values, "longest": _LONGEST}).fetchall()


_READERS = {
    "parquet": Source._read_parquet_columns,  # noqa: SLF001  (its own methods)
    "json": Source._read_json_columns,  # noqa: SLF001
    "csv": Source._read_csv_columns,  # noqa: SLF001
}


def _dialect(file: Path) -> Dialect:
    """Find how a CSV file is written; a first column without a name is pandas' index."""
    try:
        found = dialect_of(file, usual=delimiter(file))
    except (OSError, EOFError) as error:
        raise InputError(f"{file}: cannot be read as CSV: {str(error)[:200]}") from error
    header = [
        f"{_NAMELESS}{at}" if is_nameless(at, name) else name or f"Unnamed: {at}"
        for at, name in enumerate(found.header)
    ]
    _refuse_twins(str(file), header)
    if not header:
        raise InputError(f"{file}: the header is empty; wanted the names of the columns in line 1")
    return replace(found, header=tuple(header))


def _refuse_twins(path: str, names: Sequence[str]) -> None:
    """SQL does not tell names apart that differ only in case, so such columns would be mixed up."""
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.get(name.casefold())
        if twin is not None:
            raise InputError(f"{path}: the columns {twin!r} and {name!r} differ at most in case; rename one")
        seen[name.casefold()] = name
