"""Scores that are filed by a key of each answer, as reward scripts write them, and not by instruction and model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from crowdselect.errors import InputError, LayoutError
from crowdselect.pool.columns import Columns
from crowdselect.pool.connection import connect
from crowdselect.pool.idlike import id_columns
from crowdselect.pool.layouts import ID_COLUMNS, NUMERIC, no_reward
from crowdselect.pool.parts import Names
from crowdselect.pool.rowfiles import Broken, Row, rows_of
from crowdselect.pool.source import Source
from crowdselect.pool.textscores import kind_by_name, reading
from crowdselect.terminal import counted


def filed_by_answer(files: Sequence[Path], second: Source, named: Mapping[str, str]) -> LayoutError | None:
    """Say that a file of scores names no model, since it is filed by a key that each answer of the pool has.

    Args:
        files: Those of the pool.
        second: The file of scores.
        named: What `columns` names.

    Returns:
        The error, with the line of pandas that puts the scores beside the answers; None where it is not so.
    """
    scores = _scores(second.columns)
    if "model" in second.columns or not scores:
        return None
    kinds = {kind_by_name(str(file)) for file in files}
    kind = kinds.pop()
    found = None if kinds or kind is None else _key(files, kind, second)
    if found is None:
        return None
    line, target = _line(files, second.path, found, scores)
    id_ = named.get("id")
    how = f" with `columns='id={id_}'`" if id_ not in {None, "", found.ours} else ""
    return LayoutError(
        f"{second.path}: its rows name no model; {counted(found.shared, 'value')} of its {found.theirs} are those of {found.ours} in "
        f"{_told(files)}, which is another one for each answer; pandas puts its scores beside the answers: {line}; "
        f"then open {target} alone{how}"
    )


def scores_beside(
    files: Sequence[Path], kind: str, names: Names, named: Mapping[str, str], *, path: str
) -> InputError | None:
    """Say that of several files some hold scores alone, without a model or a text, and the others the answers.

    Args:
        files: The files.
        kind: As of `rows_of`.
        names: Which column is which part of a row; each row is an answer.
        named: What `columns` names.
        path: What was opened, for the message.

    Returns:
        The error, with what to do; None where it is not so.
    """
    parts = [
        part for part in (names.model, names.response, names.instruction, names.messages) if part is not None
    ]
    if names.model is None or kind not in {"csv", "json", "parquet", "arrow"} or len(files) < 2:
        return None
    bare = [file for file in files if not _holds(file, kind, parts)]
    answers = [file for file in files if file not in bare]
    if not bare or not answers or any(isinstance(row, Broken) for _, row in rows_of(bare[0], kind)):
        return None
    with closing(connect()) as connection:
        second = Source(connection, str(bare[0]))
        columns = ", ".join(second.columns)
        filed = filed_by_answer(answers, second, named)
    told = (
        f"{path}: two kinds of files are here: answers ({_told(answers)}), and what has neither a model nor a text "
        f"({_told(bare)}: {columns})"
    )
    way_out = str(filed) if filed is not None else f"open the answers alone: {_told(answers)}"
    return InputError(f"{told}; {way_out}")


def stray_file(file: Path, wrong: str, rows: int, others: Sequence[Path]) -> InputError:
    """Say that a file holds nothing that is as in the other files, so that it is no matter of malformed rows.

    Args:
        file: It.
        wrong: What is wrong with its first row, with its place, as with all of them.
        rows: How many it has.
        others: The other files.
    """
    alone = str(others[0]) if len(others) == 1 else "the others alone, by a glob or from a folder without it"
    every = f"so it is with all {rows:,} rows of {file.name}" if rows > 1 else f"{file.name} has no other row"
    return InputError(f"{wrong}; {every}: it seems to be of another kind than the other files; open {alone}")


def _told(files: Sequence[Path]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0].name}{more}"


def _holds(file: Path, kind: str, parts: Iterable[str]) -> bool:
    """Whether a row of a file has one of some parts."""
    return any(row.get(part) not in (None, "") for row in _rows(file, kind) for part in parts)


def _rows(file: Path, kind: str) -> Iterator[Row]:
    return (row for _, row in rows_of(file, kind) if not isinstance(row, Broken))


def _scores(columns: Columns) -> list[str]:
    """The numbers that may be scores; all, where none is by its name."""
    ids = {*ID_COLUMNS, *id_columns(columns)}
    numbers = [name for name, kind in columns.items() if kind.name in NUMERIC and name not in ids]
    return [name for name in numbers if not no_reward(name)] or numbers


class _Found(NamedTuple):
    """The columns of the pool and of the file that name an answer."""

    ours: str
    theirs: str
    shared: int
    """How many values they have in common."""
    texts: bool
    """Whether all values are texts as they are."""


def _key(files: Sequence[Path], kind: str, second: Source) -> _Found | None:
    rows, ours = _ids(files, kind)
    _, theirs = _ids(second.files, second.type)
    single = {name: values for name, values in ours.items() if len(set(map(str, values))) == rows}
    pairs = [
        _Found(
            name,
            beside,
            len(set(map(str, own)) & set(map(str, other))),
            all(isinstance(value, str) for value in (*own, *other)),
        )
        for name, own in single.items()
        for beside, other in theirs.items()
    ]
    best = max(pairs, default=None, key=lambda pair: (pair.shared, pair.ours == pair.theirs))
    return best if best is not None and best.shared else None


def _ids(files: Sequence[Path], kind: str) -> tuple[int, dict[str, list[object]]]:
    """How many rows files have, and what stands in the columns that are ids by their names."""
    found: dict[str, list[object]] = {}
    count = 0
    for file in files:
        for row in _rows(file, kind):
            count += 1
            for name in id_columns(row):
                found.setdefault(name, []).append(row[name])
    return count, found


def _line(files: Sequence[Path], second: str, key: _Found, scores: Sequence[str]) -> tuple[str, str]:
    """Python that joins the scores to the answers, and the file that it writes."""
    ours, theirs = key.ours, key.theirs
    reads = [_read(str(file), ours, texts=key.texts) for file in files]
    answers = reads[0] if len(reads) == 1 else f"pd.concat([{', '.join(reads)}])"
    numbers = f"{_read(second, theirs, texts=key.texts)}[{[theirs, *scores]!r}]"
    numbers += "" if ours == theirs else f".rename(columns={{{theirs!r}: {ours!r}}})"
    kept = f".rename(columns={{{ours!r}: 'answer_{ours}'}})" if ours in ID_COLUMNS else ""
    target, write = "scored.parquet", "to_parquet('scored.parquet')"
    if reads[0].startswith("pd.read_json"):
        target = "scored.jsonl"
        write = "to_json('scored.jsonl', orient='records', lines=True, double_precision=15)"
    return f"{answers}.merge({numbers}, on={ours!r}, how='left'){kept}.{write}", target


def _read(path: str, key: str, *, texts: bool) -> str:
    """How pandas reads a file, its key as a text."""
    read = reading(path)
    if read.startswith("pd.read_csv"):
        return f"{read[:-1]}, dtype={{{key!r}: str}})"
    return read if texts else f"{read}.astype({{{key!r}: str}})"
