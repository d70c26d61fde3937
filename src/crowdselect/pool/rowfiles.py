"""Files as Python rows, some at a time, for what SQL cannot read as it stands: mixed types, other orients, Arrow, odd CSV.

A row keeps the number that it has in its file, from 1, and what is wrong with a row is said of it, not of the file.
"""

import ast
import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any

from crowdselect.errors import InputError
from crowdselect.pool.columns import MISSING_TEXTS, Columns, Kind
from crowdselect.pool.documents import (
    inner_rows,
    is_asking,
    is_named_row,
    list_read,
    one_after_the_other,
    said_of_lists,
    table_rows,
)
from crowdselect.pool.headings import is_nameless, is_title, nameless, refuse_levels, refuse_titles
from crowdselect.pool.inspectlogs import inspect_rows, is_inspect_log
from crowdselect.pool.promptfoo import as_read, beside, is_result, results_in
from crowdselect.textfile import DEEPEST, MARK, NESTED, broken_archive, iconv, is_deep, open_text, too_deep

Row = dict[str, Any]
BATCH = 1000
"""Rows of a Parquet file that are Python objects at once."""

_SNIFFED = 1 << 20  # bytes of a CSV file by which its delimiter and escapes are found
_DELIMITERS = (",", ";", "\t", "|")
_LONGEST_FIELD = 1 << 28
_TITLES = 50  # lines of a CSV file by which headings are told from titles above them
_CHATS = 20  # texts of a column by which it is known to hold conversations
_FEW = 10  # times so many texts as there are values may stand among numbers of a model
_SHORT = 40  # characters of such a text
_DIGITS = "[0-9０-９]"  # noqa: RUF001
NUMBER = re.compile(
    rf"\s*[+＋－-]?(({_DIGITS}+([.．]{_DIGITS}*)?|[.．]{_DIGITS}+)(e[+-]?[0-9]+)?|inf|infinity)\s*",  # noqa: RUF001
    re.IGNORECASE,
)
"""Texts that are numbers."""
_BOOLS = frozenset({"true", "false"})
_ESCAPED = re.compile(r'((?:^|[^\\])(?:\\\\)*)\\"')
INDEX = re.compile(r"(Unnamed: \d+(\.\d+)?|__index_level_\d+__)?")
"""Names of the index that pandas writes as a column; one without a name is one too."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read."""

    what: str


def is_index(name: str) -> bool:
    """Say whether a column is an index that pandas wrote.

    Example:
        >>> is_index("Unnamed: 0"), is_index(""), is_index("id")
        (True, True, False)
    """
    return INDEX.fullmatch(name) is not None


def rows_of(
    file: Path,
    kind: str,
    columns: Sequence[str] | None = None,
    *,
    nested: Callable[[str], bool] | None = None,
    asked: Collection[str] = (),
) -> Iterator[tuple[int, Row | Broken]]:
    """Read a file's rows.

    Args:
        file: The file.
        kind: "parquet", "arrow", "json" or "csv".
        columns: Of Parquet and Arrow, read these only; None = all.
        nested: Says of a name whether its texts may be lists or objects that are written as texts.
        asked: What is named as the prompt of a row, by which the rows of a JSON document are known.

    Yields:
        The number of each row in its file, from 1 (of JSON lines, that of the line), and the row.

    Raises:
        InputError: The file is not what its name says, or in another encoding than UTF-8.
    """
    try:
        for number, row in _raw_rows(file, kind, columns, asked):
            if not isinstance(row, Broken) and nested is not None:
                row |= {name: listed(v) for name, v in row.items() if _is_spelt(v) and nested(name)}
            yield number, row
    except InputError:
        raise
    except (OSError, EOFError) as error:
        raise broken_archive(file, error) from error


def _raw_rows(
    file: Path, kind: str, columns: Sequence[str] | None, asked: Collection[str]
) -> Iterable[tuple[int, Row | Broken]]:
    if kind in {"parquet", "arrow"}:
        return enumerate(_table_rows(file, kind, columns), start=1)
    return _json_rows(file, asked) if kind == "json" else _csv_rows(file)


def columns_of(
    files: Sequence[Path], kind: str, *, nested: Callable[[str], bool], asked: Collection[str] = ()
) -> Columns:
    """Say what the columns of some files hold, by all their rows; of Parquet and Arrow by their schemas.

    Args:
        files: The files.
        kind: As of `rows_of`.
        nested: As of `rows_of`.
        asked: As of `rows_of`.

    Returns:
        The columns that hold anything.

    Raises:
        InputError: A file cannot be read.
    """
    seen = Seen()
    for file in files:
        if kind in {"parquet", "arrow"}:
            _see_schema(seen, file, kind, nested)
        else:
            for _, row in rows_of(file, kind, nested=nested, asked=asked):
                if not isinstance(row, Broken):
                    seen.add(row)
    return {name: inner.kind() for name, inner in seen.fields.items() if not inner.empty}


def _see_schema(seen: "Seen", file: Path, kind: str, nested: Callable[[str], bool]) -> None:
    """Take note of a schema; columns of texts that may be numbers, lists or nothing at all are read."""
    texts = []
    for name, column in zip(*_schema(file, kind), strict=True):
        seen.fields.setdefault(name, Seen()).add_type(column)
        if _is_text(column):
            texts.append(name)
    open_ = set(texts)
    for number, row in enumerate(_table_rows(file, kind, texts) if texts else ()):
        if number % BATCH == 0 and number:
            open_ = {n for n in open_ if seen.fields[n].empty or seen.fields[n].kind().name != "text"}
            if not open_:
                break
        for name in open_:
            value = row.get(name)
            seen.fields[name].add(listed(value) if _is_spelt(value) and nested(name) else value)


class Seen:
    """What values of a column, or of a part of one, were seen."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.fields: dict[str, Seen] = {}
        self.item: Seen | None = None
        self.longest = 0
        self.asks = 0
        """Texts that are conversations, among the first ones, less those that are none."""

    def add(self, value: Any) -> None:  # noqa: ANN401  (whatever a file holds)
        """Take note of a value."""
        name = _name_of(value)
        self.names[name] = self.names.get(name, 0) + 1
        if name == "text":
            self.longest = max(self.longest, len(value))
            if self.names[name] <= _CHATS:
                self.asks += 1 if is_asking(value) else -_CHATS
        elif name == "struct":
            for key, inner in value.items():
                self.fields.setdefault(str(key), Seen()).add(inner)
        elif name == "list":
            self.item = self.item or Seen()
            for inner in value:
                self.item.add(inner)

    def add_type(self, column: Any) -> None:  # noqa: ANN401  (an Arrow type)
        """Take note of an Arrow type."""
        import pyarrow.types as pt

        if pt.is_dictionary(column):
            column = column.value_type
        name = "other"
        if pt.is_boolean(column):
            name = "bool"
        elif pt.is_integer(column) or pt.is_floating(column) or pt.is_decimal(column):
            name = "number"
        elif _is_text(column):
            name = "schema text"
        elif pt.is_null(column):
            name = "null"
        elif pt.is_struct(column):
            name = "struct"
            for index in range(column.num_fields):
                inner = column.field(index)
                self.fields.setdefault(inner.name, Seen()).add_type(inner.type)
        elif pt.is_map(column):
            name = "map"
            self.item = self.item or Seen()
            self.item.add_type(column.item_type)
        elif pt.is_list(column) or pt.is_large_list(column) or pt.is_fixed_size_list(column):
            name = "list"
            self.item = self.item or Seen()
            self.item.add_type(column.value_type)
        self.names[name] = self.names.get(name, 0) + 1

    @property
    def empty(self) -> bool:
        """Whether nothing was seen but what is missing."""
        return set(self.names) <= {"null", "schema text"}

    def kind(self) -> Kind:
        """What they are: a number where all that is not missing is one, a list or a struct where nothing else is."""
        names = set(self.names) - {"null", "missing"}
        if names & {"list", "struct"}:
            names -= {"schema text"}  # as which they were written
        if "map" in names and names <= {"map", "struct"}:
            inner = self.item.kind() if self.item else Kind("text")
            return Kind("struct", fields={"*": inner} | {n: s.kind() for n, s in self.fields.items()})
        if names == {"struct"}:
            return Kind("struct", fields={name: inner.kind() for name, inner in self.fields.items()})
        if names == {"list"}:
            return Kind("list", item=self.item.kind() if self.item else Kind("text"))
        if names == {"bool"}:
            return Kind("bool")
        if names and names <= {"number", "bool", "spelt number", "schema text"} and names != {"schema text"}:
            return Kind("number", written="spelt number" in names)
        return Kind(
            "other" if names == {"other"} else "text",
            slips=self.slips,
            nearly=self._nearly,
            asks=self.asks > 0,
        )

    @property
    def slips(self) -> bool:
        """Whether some values are texts, and more are numbers."""
        return 0 < self.names.get("text", 0) < self._numbers

    @property
    def _nearly(self) -> bool:
        texts = self.names.get("text", 0)
        few = texts == 1 or _FEW * texts <= self._numbers + texts
        return self.slips and few and self.longest <= _SHORT

    @property
    def _numbers(self) -> int:
        return sum(self.names.get(name, 0) for name in ("number", "spelt number", "bool"))


def _name_of(value: Any) -> str:  # noqa: ANN401, PLR0911  (whatever a file holds)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        if value.strip().lower() in MISSING_TEXTS:
            return "missing"
        is_number = NUMBER.fullmatch(value) or value.strip().lower() in _BOOLS
        return "spelt number" if is_number else "text"
    if isinstance(value, Mapping):
        return "struct"
    return "list" if isinstance(value, list) else "other"


def number_of(value: Any) -> float | None:  # noqa: ANN401  (whatever a file holds)
    """Read a reward: true is 1, a number written as text is one, and what stands for nothing is None.

    Raises:
        ValueError: It is none of these.

    Example:
        >>> number_of(True), number_of("0.5"), number_of("N/A")
        (1.0, 0.5, None)
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING_TEXTS):
        return None
    if isinstance(value, str) and value.strip().lower() in _BOOLS:
        return float(value.strip().lower() == "true")
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        raise ValueError(value)
    if isinstance(value, list | dict):
        raise ValueError(str(value))  # noqa: TRY004  (one kind of error)
    number = float(unicodedata.normalize("NFKC", value) if isinstance(value, str) else value)
    return None if number != number else number  # noqa: PLR0124  (NaN)


# Parquet and Arrow


def arrow_reader(file: Path) -> Any:  # noqa: ANN401  (a reader of Arrow)
    """Open an Arrow file, of either of its two formats.

    Raises:
        InputError: It is neither.
    """
    import pyarrow as pa

    source = pa.memory_map(str(file.absolute()))
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        pass
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid as error:
        raise InputError(f"{file}: is not an Arrow file ({' '.join(str(error).split())[:120]})") from error


def arrow_batches(file: Path) -> Iterator[Any]:
    """Read an Arrow file, a batch at a time."""
    with arrow_reader(file) as reader:
        if hasattr(reader, "num_record_batches"):
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
        else:
            yield from reader


def _schema(file: Path, kind: str) -> tuple[list[str], list[Any]]:
    import pyarrow.parquet as pq

    if kind == "parquet":
        schema = pq.read_schema(file.absolute())
    else:
        with arrow_reader(file) as reader:
            schema = reader.schema
    return schema.names, schema.types


def _table_rows(file: Path, kind: str, columns: Sequence[str] | None) -> Iterator[Row]:
    import pyarrow.parquet as pq

    if kind == "arrow":
        for batch in arrow_batches(file):
            own = batch if columns is None else batch.select([n for n in columns if n in batch.schema.names])
            for begin in range(0, len(own), BATCH):
                yield from map(_pythonic, own.slice(begin, BATCH).to_pylist())
        return
    with pq.ParquetFile(file.absolute()) as table:
        names = table.schema_arrow.names
        wanted = names if columns is None else [name for name in names if name in set(columns)]
        for batch in table.iter_batches(BATCH, columns=wanted):
            yield from map(_pythonic, batch.to_pylist())


def _pythonic(value: Any) -> Any:  # noqa: ANN401  (of Arrow)
    """Make what JSON has of Arrow's values: maps are objects, decimals numbers, times texts."""
    if isinstance(value, dict):
        return {key: _pythonic(inner) for key, inner in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(inner, tuple) and len(inner) == 2 for inner in value):
            return {str(key): _pythonic(inner) for key, inner in value}  # a map
        return [_pythonic(inner) for inner in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value


def _is_text(column: Any) -> bool:  # noqa: ANN401  (an Arrow type)
    import pyarrow.types as pt

    if pt.is_dictionary(column):
        column = column.value_type
    return bool(pt.is_string(column) or pt.is_large_string(column))


# JSON


def _json_rows(file: Path, asked: Collection[str]) -> Iterator[tuple[int, Row | Broken]]:
    document = document_rows(file, asked)
    if document is not None:
        yield from enumerate(document, start=1)
        return
    lines = _json_lines(file)
    first = list(islice(lines, 1))
    if not any(is_result(row) for _, row in first):
        yield from chain(first, lines)
        return
    every = [*first, *lines]  # only all of them say whose answer each is
    rows = as_read([row for _, row in every], str(file))
    yield from ((number, row) for (number, _), row in zip(every, rows, strict=True))


def _json_lines(file: Path) -> Iterator[tuple[int, Row | Broken]]:
    with open_text(file) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.removeprefix(MARK) if number == 1 else line
            if text.strip():
                yield number, _json_line(file, number, text)


def _json_line(file: Path, number: int, line: bytes) -> Row | Broken:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: line {number} {other_encoding(line, error, file)}") from error
    if line.count(b"[") + line.count(b"{") > DEEPEST and is_deep(line):
        return Broken(f"is not read: {NESTED}")
    try:
        value = json.loads(text)
    except RecursionError:
        return Broken(f"is not read: {NESTED}")
    except ValueError as error:
        return Broken(f"is not JSON ({' '.join(str(error).split())[:100]})")
    return value if isinstance(value, dict) else Broken(f"is a JSON {type(value).__name__}, not an object")


def document_rows(file: Path, asked: Collection[str] = ()) -> list[Row | Broken] | None:
    """Read a JSON file that is one document: an array of rows, or an object that holds them; None = it is lines.

    Args:
        file: The file.
        asked: As of `rows_of`.

    Objects are tables as pandas and others write them, logs of inspect_ai, results of promptfoo, objects with the rows in a list inside
    (see `documents`), rows themselves, and several of these one after the other, each over several lines.

    Raises:
        InputError: It is an array or a document, and broken, or several lists in it may be the rows.
    """
    with open_text(file) as stream:
        first = next((line for line in _unmarked(stream) if line.strip()), b"")
        if not first or _are_lines(first, stream):
            return None
        whole = first + stream.read()
    array = first.lstrip().startswith(b"[")
    if whole.count(b"[") + whole.count(b"{") > DEEPEST:
        deep = too_deep(file)
        if deep is not None:
            raise deep
    try:
        text = whole.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: {other_encoding(whole, error, file)}") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        several = None if array else one_after_the_other(text)
        if several is not None:
            return [*several]
        if not array and first.strip() != b"{":
            return None
        wanted = (
            "an array of objects, or one object per line"
            if array
            else "one JSON object; it may have been cut"
        )
        raise InputError(
            f"{file}: not JSON ({' '.join(str(error).split())[:200]}); wanted {wanted}"
        ) from error
    if array:
        rows = as_read(value, str(file)) if any(map(is_result, value[:1])) else value
    else:
        rows = _rows_of_object(file, value, asked, alone=first.strip() == whole.strip())
    return rows and [row if isinstance(row, dict) else Broken("is not an object") for row in rows]


def _rows_of_object(file: Path, value: Row, asked: Collection[str], *, alone: bool) -> list[Any] | None:
    """The rows of a document that is one object; None where it is a row in a line of its own."""
    if is_inspect_log(value):
        return inspect_rows(value)
    results = results_in(value)
    if results is not None:
        return as_read(results, str(file))
    if is_named_row(value, asked):
        return None if alone else [value]
    rows = table_rows(value)
    if rows is not None or (alone and ".json" not in Path(file.name.lower()).suffixes):
        return rows
    return inner_rows(value, path=str(file), asked=asked) or (None if alone else [value])


def _unmarked(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file, the first without a byte order mark."""
    for number, line in enumerate(stream):
        yield line.removeprefix(MARK) if number == 0 else line


def _are_lines(first: bytes, rest: Iterable[bytes]) -> bool:
    """Whether a JSON file is an object per line, by its first line; what follows is read only where that is an object alone."""
    if first.lstrip().startswith(b"["):
        return False
    try:
        value = json.loads(first)
    except RecursionError:
        return True
    except ValueError:
        return not first.lstrip().startswith(b"{") or first.rstrip().endswith(b"}")
    return not isinstance(value, dict) or any(line.strip() for line in rest)


def said_of_document(file: Path, asked: Collection[str] = ()) -> str | None:
    """Say which list of a JSON document is read, and what else it holds; None = there is nothing to say."""
    value = _object_in(file)
    if value is None or is_inspect_log(value):
        return None
    return said_of_lists(value, asked) if results_in(value) is None else beside(value)


def holds_results(file: Path) -> bool:
    """Say whether a file is JSON with results of promptfoo, by its first row."""
    if not {".json", ".jsonl"} & set(Path(file.name.lower()).suffixes) or not file.is_file():
        return False
    return is_result(next((row for _, row in rows_of(file, "json")), None))


def list_in(file: Path) -> tuple[str, ...] | None:
    """Say which list of a JSON document is read; None = its rows lie in none."""
    value = _object_in(file)
    return None if value is None else list_read(value)


def _object_in(file: Path) -> Row | None:
    """The object that a JSON file is; None where it is anything else."""
    with open_text(file) as stream:
        first = next((line for line in _unmarked(stream) if line.strip()), b"")
        if not first.lstrip().startswith(b"{") or _are_lines(first, stream):
            return None
        try:
            value: Row = json.loads(first + stream.read())
        except (ValueError, RecursionError):
            return None  # no document, see `document_rows`
    return value


def is_document(file: Path) -> bool:
    """Say whether a JSON file is one object that holds a table, rather than a row per line."""
    try:
        with open_text(file) as stream:
            head = stream.peek(64).removeprefix(MARK).lstrip()
        return not head.startswith(b"[") and document_rows(file) is not None
    except (OSError, EOFError) as error:
        raise broken_archive(file, error) from error


# CSV


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written."""

    delimiter: str
    backslash: bool
    """A quotation mark within quotes is written `\\"`, not doubled."""
    header: tuple[str, ...] = field(default=())


def dialect_of(file: Path, *, usual: str = ",") -> Dialect:
    """Find how a CSV file is written, by its beginning.

    Args:
        file: The file.
        usual: The delimiter that its name promises.

    Raises:
        InputError: It is not UTF-8, or not CSV, or titles stand above its headings, or these are several lines.
    """
    with open_text(file) as stream:
        head = stream.read(_SNIFFED).removeprefix(MARK)
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _SNIFFED or error.start < len(head) - 4:
            raise InputError(f"{file}: {other_encoding(head, error, file)}") from error
        text = head[: error.start].decode("utf-8")
    found = {sign: _first_row(text, sign) for sign in dict.fromkeys((usual, *_DELIMITERS))}
    delimiter = usual if len(found[usual]) > 1 else max(found, key=lambda sign: len(found[sign]))
    if len(found[delimiter]) <= 1:
        delimiter = usual
    title = next((s for s, row in found.items() if len(row) > len(found[delimiter]) and is_title(row)), None)
    delimiter = title or delimiter  # there may be a comma in a title
    rows = _first_rows(text, delimiter)
    refuse_levels(file, rows, delimiter)
    refuse_titles(file, rows, delimiter)
    doubled = re.search(r'[^,;\t|\n"]""|""[^,;\t|\r\n"]', text) is not None
    return Dialect(delimiter, _ESCAPED.search(text) is not None and not doubled, tuple(found[delimiter]))


def _first_row(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _first_rows(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The first rows that are not blank, each with the number of its line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[int, list[str]]] = []
    with suppress(csv.Error):  # said where all rows are read
        rows.extend((reader.line_num, row) for row in islice(reader, _TITLES) if row)
    return rows


def _csv_rows(file: Path) -> Iterator[tuple[int, Row | Broken]]:
    dialect = dialect_of(file, usual="\t" if ".tsv" in file.name.lower() else ",")
    csv.field_size_limit(_LONGEST_FIELD)
    with open_text(file) as stream:
        lines: Iterable[str] = io.TextIOWrapper(stream, "utf-8-sig", newline="")
        if dialect.backslash:
            lines = (_ESCAPED.sub(r'\1""', _ESCAPED.sub(r'\1""', line)) for line in lines)
        reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
        try:
            header = next(reader)
            unnamed = [at for at, name in enumerate(header) if is_nameless(at, name)]
            rows = (values for values in _csv_values(reader) if values)
            for number, values in enumerate(rows, start=1):
                if isinstance(values, Broken):
                    yield number, values
                    continue
                held = [at for at in unnamed if values[at:] and values[at].strip()]
                if held:
                    raise nameless(file, held[0], number, values[held[0]])
                yield number, _csv_row(header, values)
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: {other_encoding(error.object, error, file)}") from error
        except csv.Error as error:
            raise InputError(f"{file}: line {reader.line_num}: cannot be read as CSV: {error}") from error


def _csv_values(reader: Iterator[list[str]]) -> Iterator[list[str] | Broken]:
    """The rows of a reader, which goes on after one that it cannot read."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Broken(f"cannot be read as CSV: {error}")


def listed(text: Any) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Parse a list or an object that is written as a text, as JSON, Python or NumPy writes it; anything else stays.

    Example:
        >>> listed('["a", "b"]'), listed("['a', None]"), listed("['a' 'b']"), listed('{"a": 1}'), listed("a")
        (['a', 'b'], ['a', None], ['a', 'b'], {'a': 1}, 'a')
    """
    if not _is_spelt(text):
        return text
    if _UNSEPARATED.fullmatch(text):  # Python would join the texts
        return [_constant(part) for part in _CONSTANT.findall(text)]
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list | dict) else text
    return text


_ONE = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?[\d.]+(?:e[+-]?\d+)?|True|False|None|nan)"""
_CONSTANT = re.compile(_ONE, re.DOTALL)
_UNSEPARATED = re.compile(rf"\s*\[\s*{_ONE}(\s+{_ONE})+\s*\]\s*", re.DOTALL)
"""A list as NumPy prints it, with nothing but white space between its parts."""


def _is_spelt(value: Any) -> bool:  # noqa: ANN401  (whatever a file holds)
    return isinstance(value, str) and value.lstrip().startswith(("[", "{"))


def _constant(text: str) -> Any:  # noqa: ANN401  (a text, a number, ...)
    try:
        return ast.literal_eval(text)  # constants only: nothing in a text is run
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
        return None if text == "nan" else text


def _csv_row(header: Sequence[str], values: Sequence[str]) -> Row | Broken:
    if len(values) != len(header) and (len(values) < len(header) or any(values[len(header) :])):
        return Broken(f"has {len(values)} fields; wanted {len(header)}, as in the header")
    return {name: value or None for name, value in zip(header, values, strict=False)}


def raise_other_encoding(files: Sequence[Path]) -> None:
    """Name the line and the encoding of the first text among some files that is not UTF-8; nothing where all are.

    Raises:
        InputError: There is one.
    """
    for file in files:
        with open_text(file) as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(f"{file}: line {number} {other_encoding(line, error, file)}") from error


def other_encoding(data: bytes, error: UnicodeDecodeError, file: Path) -> str:
    """Name the encoding that a text which is not UTF-8 is likely in, and how to change it.

    Example:
        >>> data = "café".encode("latin-1")
        >>> try:
        ...     data.decode("utf-8")
        ... except UnicodeDecodeError as error:
        ...     print(other_encoding(data, error, Path("a.csv")))
        holds byte 0xe9, which is not UTF-8; the file seems to be in Windows-1252 (Latin-1); save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8 a.csv > utf8-a.csv)
    """
    byte = data[error.start]
    near = data[max(error.start - 1, 0) : error.start + 2]
    alone = sum(value >= 0x80 for value in near) == 1
    name, short = (
        ("Windows-1252 (Latin-1)", "WINDOWS-1252")
        if alone
        else ("another encoding, as GB18030 or Shift_JIS", "ENCODING")
    )
    return f"holds byte 0x{byte:02x}, which is not UTF-8; the file seems to be in {name}; save it as UTF-8 ({iconv(short, file)})"
