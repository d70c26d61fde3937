"""Lines of JSON as other tools write them: read with the place of every error, and kept as they are."""

import json
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from crowdselect.errors import InputError
from crowdselect.textfile import NESTED, read_text
from crowdselect.writing import new_file


class Row(NamedTuple):
    """A line: where it stands, its text without the line end, and the object in it."""

    where: str
    text: str
    value: dict[str, Any]


def read_rows(path: str | PathLike[str]) -> list[Row]:
    """Read a file of JSON objects, one per line; empty lines are left out.

    Raises:
        InputError: There is no such file, it is not UTF-8, a line is no JSON object, or there is none at all.

    Example:
        >>> read_rows("no-such-file.jsonl")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.jsonl: no such file; wanted lines of JSON; check the path
    """
    lines = enumerate(read_text(path, wanted="lines of JSON; check the path").split("\n"), start=1)
    found = [_row(f"{path}:{number}", line) for number, line in lines if line.strip()]
    if not found:
        raise InputError(f"{path}: the file is empty; wanted lines of JSON")
    return found


def write_lines(target: Path, lines: Iterable[str]) -> None:
    """Write lines in their place when all are there."""
    with new_file(target) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(line + "\n" for line in lines)


def dumped(value: object) -> str:
    """Write one line of JSON; halves of surrogate pairs, which UTF-8 cannot hold, as escapes.

    Example:
        >>> dumped({"id": 1, "text": "Hi"})
        '{"id": 1, "text": "Hi"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def text_at(row: Row, *names: str) -> str:
    """Give the first of some fields as text; a whole number is one too.

    Raises:
        InputError: None of them is there, or it is neither.

    Example:
        >>> text_at(Row("f:1", "", {"question_id": 81}), "uid", "question_id")
        '81'
    """
    for name in names:
        value = row.value.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None:
            raise InputError(f"{row.where}: {name} is {str(value)[:60]!r}; wanted a text or a whole number")
    raise InputError(
        f"{row.where}: there is no {' or '.join(names)}; found {', '.join(row.value) or 'nothing'}"
    )


def _row(where: str, line: str) -> Row:
    try:
        value = json.loads(line, parse_constant=_refuse)
    except RecursionError as error:
        raise InputError(f"{where}: {NESTED}") from error
    except ValueError as error:
        raise InputError(f"{where}: broken JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: wanted an object, got {line.strip()[:60]!r}")
    return Row(where, line, value)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
