"""From a path to a relation and its view: a tidy pool as its files lie, any other rewritten first, and what was understood.

A pool is tidy where its columns have a layout's own names and its rows hold nothing but what SQL reads as it stands.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from crowdselect.cache import folder
from crowdselect.errors import InputError, LayoutError
from crowdselect.finish import is_finish
from crowdselect.pool.answercolumns import texts_by_model
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.columns import Columns, Kind, as_number, as_text, quote
from crowdselect.pool.connection import connect
from crowdselect.pool.content import TIDY_ROLES
from crowdselect.pool.files import FileType, FoundFiles, find_files, fingerprint
from crowdselect.pool.forms import FORMS, fitted, no_instruction, textless
from crowdselect.pool.howread import HowRead
from crowdselect.pool.inner import within
from crowdselect.pool.layouts import (
    FEWEST_COUNTED,
    ID_COLUMNS,
    LAYOUTS,
    detect,
    may_be_model,
    no_reward,
    plain_view,
    view,
)
from crowdselect.pool.looking import look_into
from crowdselect.pool.mergedcells import FEW_MERGED
from crowdselect.pool.missing import are_errors, beside_errors, without_missing
from crowdselect.pool.modelcolumns import is_score
from crowdselect.pool.parts import is_list_name, names_of
from crowdselect.pool.plain import Plain, facts_of, rewritten
from crowdselect.pool.plainrows import OWN
from crowdselect.pool.promptfoo import is_promptfoo
from crowdselect.pool.rendered import DECODED_BEGINNINGS
from crowdselect.pool.rowfiles import arrow_batches, arrow_reader, dialect_of, is_document
from crowdselect.pool.rowforms import CALLS, are_numbers, must_fit
from crowdselect.pool.source import FINITE, NUMBER, TEXT_PARTS, BrokenRowError, Source
from crowdselect.pool.textscores import written_scores
from crowdselect.pool.views import Tall, View

if TYPE_CHECKING:
    import duckdb

_SPELT = '^\\s*(\\[\\s*)?\\{"(role|content|type|from)"'  # parts or messages, written as JSON
_FEWEST_WORDS = 3  # of an instruction, on average
_FOOTERS = (
    "average",
    "avg",
    "mean",
    "median",
    "sum",
    "total",
    "durchschnitt",
    "mittelwert",
    "summe",
    "gesamt",
)
_FIRST_PROMPTS, _FIRST_ROWS = 20, 1000  # by which a pool is seen to be an unusual one
_LISTS = ("ultrafeedback", "distilabel")
"""Layouts whose rows hold lists of what answers have."""
_UNUSUAL = ("system", "system_prompt", "tools", CALLS, "reasoning_content")


@dataclass(frozen=True, slots=True)
class Opened:
    """A pool's relation, where its parts are, and what there is to say about how it was read."""

    connection: "duckdb.DuckDBPyConnection"
    """Of DuckDB, to be closed by who takes this."""
    source: Source
    view: View
    files: tuple[Path, ...]
    """The user's own."""
    notes: tuple[str, ...]
    read_as: str | None
    """How it was understood, in one line; None = it is tidy."""
    part: HowRead
    """How one of `source.files` is opened by itself."""
    malformed: int = 0
    """Rows that were left out."""
    evaluations: tuple[str, ...] = ()
    """The benchmarks whose questions the rows are, where their form says so."""


def opened(path: str, how: HowRead) -> Opened:
    """Open the files of a pool.

    Args:
        path: What was named.
        how: How it is to be read.

    Raises:
        LayoutError: Its columns fit no layout and no form.
        InputError: It is missing, empty or broken, or a row is malformed.
    """
    found = find_files(path, how)
    facts = facts_of(found.files[0])
    if facts is None and not (how.rewrites or found.models or found.kind == "lm-eval"):
        tidy = _connected(lambda connection: _tidy(connection, found, how))
        if tidy is not None:
            return _noted(_with_its_text(tidy), found, how)
    plain = Plain(found.files, facts) if facts is not None else rewritten(found, how)
    made = _connected(lambda connection: _plain(connection, path, plain, how))
    assert made is not None  # noqa: S101  (a plain pool is always one)
    return _noted(_with_its_text(made), found, how)


def _noted(made: Opened, found: FoundFiles, how: HowRead) -> Opened:
    """Take note of what in the rows may be no instruction, or no reward."""
    noted = _with_footers(made, found)
    asks = beside_errors(made.source, made.view.answers, how)
    return noted if asks is None else replace(noted, notes=(*noted.notes, asks))


def _with_footers(made: Opened, found: FoundFiles) -> Opened:
    """Take note of a row of a CSV file that seems to sum up the others, as at the end of a spreadsheet."""
    asked = [sql for sql in (made.view.text, made.view.id) if sql is not None and found.kind == "csv"]
    tests = [f"lower(trim({sql}, ' :')) IN ({', '.join(map(repr, _FOOTERS))})" for sql in asked]
    marked = (
        made.source.fetch(f"coalesce({' OR '.join(tests)}, false)").column(0).to_pylist() if tests else []
    )
    if True not in marked:
        return made
    place = made.source.place(marked.index(True))
    note = f"{place} seems to sum up the others; delete it if it does: here it is an instruction"
    return replace(made, notes=(*made.notes, note))


def _with_its_text(made: Opened) -> Opened:
    """Give a pool back, unless it has no instruction and a column that must be one.

    Raises:
        LayoutError: There is such a column.
    """
    if made.view.text is not None or made.view.messages is not None:
        return made
    try:
        unread = _unread_text(made.source, made.view.id)
    except BaseException:
        made.connection.close()
        raise
    if unread is not None:
        made.connection.close()
        raise no_instruction(made.source.path, unread)
    return made


def _unread_text(source: Source, id_: str) -> str | None:
    """The first column of texts of several words, one for each id and hardly two the same; None where there is none."""
    texts = [n for n, kind in source.columns.items() if kind.name == "text" and n not in TEXT_PARTS]
    counts = [f"count(DISTINCT {id_})"]
    for name in map(quote, texts):
        words = f"avg(len(regexp_extract_all({name}, '\\p{{L}}{{2,}}')))"
        counts += [f"count(DISTINCT {name})", f"count(DISTINCT ({id_}, {name}))", f"count({name})", words]
    ids, *found = (column[0].as_py() for column in source.fetch(*counts).columns)
    for at, name in enumerate(texts):
        different, pairs, given, words = found[4 * at : 4 * at + 4]
        if ids > 1 and given >= pairs == ids and different > 0.9 * ids and words >= _FEWEST_WORDS:
            return name
    return None


@dataclass(frozen=True, slots=True)
class OpenedInstructions:
    """A file of instructions as a relation: `id`, `instruction`, `messages`, `turns`, `tools`, and what else it has."""

    source: Source
    id: str | None
    """The column of the id; None = there is none."""
    left_out: str | None
    """SQL of why a row cannot be asked; None = all can."""
    notes: tuple[str, ...]


def opened_instructions(
    connection: "duckdb.DuckDBPyConnection", path: str, how: HowRead
) -> OpenedInstructions:
    """Open a file of instructions, which need no answers: as it lies where it is tidy, else rewritten.

    Args:
        connection: From `connect`.
        path: What was named.
        how: How it is to be read.

    Raises:
        LayoutError: There is nothing to ask in it.
        InputError: It is missing, empty or broken, or a row is malformed.
    """
    found = find_files(path, how)
    usual = not (how.rewrites or found.models) and found.kind not in {"lm-eval", "arrow"}
    if usual and not (found.kind == "json" and any(is_document(file) for file in found.files)):
        source = Source(connection, path, files=found.files, kind=_file_type(found))
        if _usual_instructions(source) and not _begins_decoded(source):
            name = next((name for name in ID_COLUMNS if name in source.columns), None)
            return OpenedInstructions(source, name, None, (*found.notes, *source.notes))
    plain = rewritten(found, how, answers=False)
    made = _plain(connection, path, plain, how)
    source, facts = made.source, plain.facts
    hidden = {"model", *(["id"] if facts["id_made"] else [])}
    source.columns = {name: kind for name, kind in source.columns.items() if name not in hidden}
    notes = (f"read as {facts['read_as']}", *made.notes)
    return OpenedInstructions(source, None if facts["id_made"] else "id", made.view.left_out, notes)


def _usual_instructions(source: Source) -> bool:
    columns = source.columns
    parts = [name for name in ("instruction", "messages") if name in columns]
    if not parts and "turns" not in columns:
        return False
    if any(name in columns for name in _UNUSUAL) or ("input" in columns and "instruction" in columns):
        return False
    if "instruction" in columns and columns["instruction"].name not in {"text", "number"}:
        return False
    if "messages" not in columns:
        return True
    kind = columns["messages"]
    messages = as_text(quote("messages"), kind)
    odd = f"NOT coalesce(regexp_full_match({_roles(messages)}, '{TIDY_ROLES}'), {messages} IS NULL)"
    return _usual_messages(kind) and not any(
        source.any(f"{odd} AND trim({messages}) NOT IN ('', '[]', 'null')")
    )


def _file_type(found: FoundFiles) -> FileType:
    if found.kind == "lm-eval":
        raise InputError(f"{found.path}: is a results folder of lm-evaluation-harness; wanted a file")
    return found.kind


def _connected(make: "Callable[[duckdb.DuckDBPyConnection], Opened | None]") -> Opened | None:
    """Open something with a connection of its own, which is closed where nothing comes of it: DuckDB's errors may break it."""
    connection = connect()
    try:
        made = make(connection)
    except BaseException:
        connection.close()
        raise
    if made is None:
        connection.close()
    return made


def _plain(
    connection: "duckdb.DuckDBPyConnection",
    path: str,
    plain: Plain,
    how: HowRead,
) -> Opened:
    files, facts = plain.files, plain.facts
    mine = [facts["sources"][facts["parts"].index(file.name)] for file in files]
    originals = tuple(Path(file) for file in mine)
    source = Source(connection, path, files=files, kind="parquet", originals=originals, row="_row")
    numbers = facts["numbers"]
    shown: Columns = {
        name: Kind(numbers[name], written=True) if name in numbers else kind
        for name, kind in source.columns.items()
        if name not in {*facts["unused"], *OWN}
    }
    own = frozenset(set(OWN) - set(facts["unused"]))
    source.columns = shown
    found = plain_view(
        shown,
        own,
        layout=facts["form"],
        id_made=facts["id_made"],
        many=facts["many"],
        side_by_side=facts["side_by_side"],
        fields=facts["fields"],
    )
    return Opened(
        connection,
        source,
        without_missing(found, how),
        originals,
        tuple(facts["notes"]),
        facts["read_as"],
        part=how.of_part(None),
        malformed=facts["malformed"],
        evaluations=tuple(facts["evaluations"]),
    )


def _tidy(connection: "duckdb.DuckDBPyConnection", found: FoundFiles, how: HowRead) -> Opened | None:
    """Open a pool as its files lie; None where it is not tidy."""
    try:
        source = _as_they_lie(connection, found)
        seen = None if source is None else _usual_view(source, how)
    except BrokenRowError:
        return None  # the others are read row by row
    except LayoutError:
        raise
    except InputError:
        if found.kind == "json":
            return None  # half a surrogate pair, a broken line: read row by row, it is repaired or counted
        raise
    if source is None or seen is None:
        return None
    notes = (*found.notes, *source.notes)
    view_, part = without_missing(seen, how), how.of_part(seen.layout)
    return Opened(connection, source, view_, found.files, notes, read_as=None, part=part)


def _as_they_lie(connection: "duckdb.DuckDBPyConnection", found: FoundFiles) -> Source | None:
    """The rows of files that SQL reads; None where it does not."""
    files, kind = found.files, found.kind
    if kind == "lm-eval" or (kind == "json" and any(map(is_document, files))):
        return None
    if kind == "csv" and any(dialect_of(file).backslash for file in files):
        return None
    if kind == "arrow":
        files, kind = tuple(map(_as_parquet, files)), "parquet"
    return Source(connection, found.path, files=files, kind=kind, originals=found.files)


def _usual_view(source: Source, how: HowRead) -> View | None:
    """Where the parts of a tidy pool are; None where it is none."""
    _leave_out_counters(source, how)
    columns = source.columns
    name = how.layout or detect(columns)
    if name not in LAYOUTS or is_promptfoo(columns):
        return None
    if how.not_failed and name in _LISTS and any(are_errors(n, kind) for n, kind in columns.items()):
        return None  # which only the reader of rows lays beside the answers
    if name in FORMS and not _is_usual(columns, name, how, source.path, source_kind=source.type):
        return None
    if name in _LISTED and _has_scores_beside(source, _LISTED[name], how):
        return None
    texts = [n for n, kind in columns.items() if kind.name in {"text", "mixed"} and n not in TEXT_PARTS]
    if name == "matrix" and (
        any(may_be_model(n, how.known_models) and not may_be_model(n) for n in columns)
        or any(map(is_score, texts))
        or texts_by_model(columns, ())
        or _mostly_numbers(source, texts)
        or (source.type == "csv" and any(written_scores(f, "csv", texts, every=False) for f in source.files))
    ):
        return None  # refused where it is rewritten
    seen = view(columns, path=source.path, layout=name)
    return (
        None if _unusual_rows(source, seen) or (seen.messages is None and _begins_decoded(source)) else seen
    )


def _mostly_numbers(source: Source, names: Sequence[str]) -> bool:
    """Whether a column of texts holds more numbers than others, so that it may be a model's."""
    tests = [
        f"count(*) FILTER (regexp_full_match({c}, {FINITE})) > count(*) FILTER (NOT regexp_full_match({c}, {NUMBER}))"
        for c in map(quote, names)
    ]
    return bool(tests) and any(column[0].as_py() for column in source.fetch(*tests).columns)


def _leave_out_counters(source: Source, how: HowRead) -> None:
    """Leave out the columns of a matrix that count its rows, from 0 or 1: they are no models."""
    if (how.layout or detect(source.columns)) != "matrix" or source.row_count < FEWEST_COUNTED:
        return
    names = [
        name for name, kind in source.columns.items() if kind.name == "number" and name not in ID_COLUMNS
    ]
    numbers = {name: as_number(quote(name), source.columns[name]) for name in names}

    def counting(names: list[str], columns: list[Any]) -> list[str]:
        counts = np.arange(len(columns[0]) if columns else 0, dtype=np.float64)
        return [
            n
            for n, column in zip(names, map(to_numpy, columns), strict=True)
            if np.array_equal(column, counts) or np.array_equal(column, counts + 1)
        ]

    with closing(source.batches(*numbers.values(), rows=FEWEST_COUNTED)) as batches:
        begun = counting(names, next(batches).columns)  # the others need not be read
    counters = counting(begun, source.fetch(*(numbers[n] for n in begun)).columns) if begun else []
    if counters and len(counters) < len(names):
        source.notes.append(f"left out, a number of the row: {', '.join(counters)}")
        source.columns = {name: kind for name, kind in source.columns.items() if name not in counters}


def _as_parquet(file: Path) -> Path:
    """Copy an Arrow file to a Parquet file in the cache folder, a batch at a time."""
    import pyarrow.parquet as pq

    home = folder() / "arrow"
    home.mkdir(parents=True, exist_ok=True)
    target = home / f"{fingerprint([file])[:32]}-{file.stat().st_mtime_ns}.parquet"
    if not target.exists():
        beside = home / f".{uuid4().hex}.tmp"
        with arrow_reader(file) as reader:
            schema = reader.schema
        with pq.ParquetWriter(beside, schema.remove_metadata(), compression="zstd") as writer:
            for batch in arrow_batches(file):
                writer.write_batch(batch.replace_schema_metadata(None))
        beside.replace(target)
    return target


def _is_usual(columns: Columns, name: str, how: HowRead, path: str, *, source_kind: str) -> bool:
    """Whether the columns have the usual names and kinds of a layout, and no part that SQL does not read."""
    try:
        names = names_of(columns, how, path=path)
        form = fitted(columns, names, replace(how, layout=None), path=path)
    except LayoutError:
        return False
    spelt = source_kind == "csv" and any(map(is_list_name, columns))  # a list is a text there
    inner = bool(within(columns)) and name == "long"  # a row of other layouts is no answer
    unusual = (
        spelt or inner or any(part in columns for part in _UNUSUAL) or textless(form, columns) is not None
    )
    if form.name != name or form.names.notes or unusual:
        return False
    if names.input is not None and names.instruction is not None:
        return False
    text = {"text", "number"}
    parts = {
        part: columns[column].name in text
        for part in ("id", "instruction", "model", "response", "finish_reason")
        if (column := getattr(form.names, part)) is not None
    }
    if names.messages is not None and not _usual_messages(columns[names.messages]):
        return False
    return all(parts.values()) and _KINDS.get(name, _any)(columns)


def _usual_messages(kind: Kind) -> bool:
    """Whether messages are JSON, or objects whose content is a text in all rows."""
    if kind.name == "text":
        return True
    fields = kind.item.fields if kind.name == "list" and kind.item is not None else {}
    return all(name in fields and fields[name].name == "text" for name in ("role", "content"))


def _any(_: Columns) -> bool:
    return True


def _usual_ultrafeedback(columns: Columns) -> bool:
    item = columns["completions"].item if "completions" in columns else None
    if item is None or not {"model", "response"} <= set(item.fields):
        return False
    apart = {"custom_system_prompt", "reasoning", "reasoning_content", CALLS}
    unusual = apart & set(item.fields) or any(map(is_finish, item.fields))
    texts = all(item.fields[name].name == "text" for name in ("model", "response"))
    numbers = any(kind.name == "number" for kind in item.fields.values())
    return not unusual and texts and numbers


def _usual_distilabel(columns: Columns) -> bool:
    lists = {
        name: columns[name].item
        for name in ("generations", "generation_models", "ratings")
        if name in columns
    }
    kinds = {name: "" if item is None else item.name for name, item in lists.items()}
    usual = {"generations": {"text"}, "generation_models": {"text"}, "ratings": {"number"}}
    return all(kind in usual[name] for name, kind in kinds.items()) and "ratings" in kinds


_LISTED = {"ultrafeedback": ("completions",), "distilabel": ("generations", "ratings")}
"""Layouts whose answers are lists: that of the answers, and those of their numbers that SQL reads."""


def _has_scores_beside(source: Source, read: tuple[str, ...], how: HowRead) -> bool:
    """Whether another list of numbers may be of the answers: by its name, or as long as theirs in most of the first rows."""
    answers, *_ = read
    lists = [name for name, kind in source.columns.items() if are_numbers(kind) and name not in read]
    if any(must_fit(name, how) for name in lists):
        return True
    tests = [f"len({quote(name)}) = len({quote(answers)})" for name in lists if not no_reward(name)]
    if not tests or not source.row_count:
        return False
    with closing(source.batches(*tests, rows=_FIRST_ROWS)) as batches:
        fits = next(batches).columns
    return any(2 * each.true_count > len(each) - each.null_count for each in fits)


def _usual_zoo(columns: Columns) -> bool:
    structs = [kind.fields for kind in columns.values() if kind.name == "struct" and "content" in kind.fields]
    texts = all(
        fields["content"].name == "text" and CALLS not in fields and not any(map(is_finish, fields))
        for fields in structs
    )
    return texts and (
        not structs or any(kind.name == "number" for fields in structs for kind in fields.values())
    )


_KINDS: dict[str, Callable[[Columns], bool]] = {
    "ultrafeedback": _usual_ultrafeedback,
    "distilabel": _usual_distilabel,
    "zoo": _usual_zoo,
}


def _unusual_rows(source: Source, seen: View) -> bool:
    """Whether some row holds what SQL does not read: one look at the columns that may."""
    answers, tests = seen.answers, []
    if not seen.id_made and source.type == "csv" and _is_spelt_twice(source, seen.id):
        return True
    if not seen.id_made and not source.never_null(_id_leaf(source)):
        tests.append(f"({seen.id}) IS NULL")
    if isinstance(answers, Tall) and answers.nested:
        lists = [sql for sql in (answers.response, *answers.rewards.values()) if sql is not None]
        tests += [
            f"({answers.model}) IS NULL",
            f"len(list_filter({answers.model}, lambda name: name IS NULL)) > 0",
        ]
        tests += [f"len({sql}) IS DISTINCT FROM len({answers.model})" for sql in lists]
    elif isinstance(answers, Tall) and not source.never_null("model"):
        tests.append(f"({answers.model}) IS NULL")
    if isinstance(answers, Tall) and not answers.nested and _lacks_texts(source, seen):
        return True
    if seen.messages is not None:
        tests.append(
            f"NOT coalesce(regexp_full_match({_roles(seen.messages)}, '{TIDY_ROLES}'), {seen.messages} IS NULL)"
        )
    if source.type in {"csv", "json"}:
        texts = [seen.text, answers.response if isinstance(answers, Tall) and not answers.nested else None]
        tests += [f"regexp_matches({sql}, '{_SPELT}')" for sql in texts if sql is not None]
        if any(seen.broken for seen in look_into(source, *(sql for sql in texts if sql is not None))):
            return True
    return bool(tests) and any(source.any(*tests))


def _is_spelt_twice(source: Source, id_: str) -> bool:
    """Whether an id is a number that is written in two ways, such as 1 and 1.0."""
    written = quote(_id_leaf(source))
    if not any(source.any(f"({id_}) <> {written}")):
        return False
    *_, other = source.grouped(id_, written).columns
    return bool(other.null_count < len(other))


def _begins_decoded(source: Source) -> bool:
    """Whether one of the first prompts may have been decoded without its special tokens, so that nearly all may be so."""
    kind = source.columns.get("instruction")
    if kind is None or kind.name != "text" or not source.row_count:
        return False
    begins = (f"starts_with({quote('instruction')}, '{begin}')" for begin in DECODED_BEGINNINGS)
    with closing(source.batches(" OR ".join(begins), rows=_FIRST_PROMPTS)) as batches:
        return True in next(batches).column(0).to_pylist()


def _lacks_texts(source: Source, seen: View) -> bool:
    """Whether many rows have no instruction, nor has another row of their id: the cells may have been merged."""
    if seen.text is None or seen.messages is not None or not source.row_count:
        return False
    given = f"nullif({seen.text}, '') IS NOT NULL"
    with closing(source.batches(given, rows=_FIRST_ROWS)) as batches:
        first = next(batches).column(0)
    if not first.true_count or FEW_MERGED * (len(first) - first.true_count) < len(first):
        return False
    if seen.id_made:
        return True
    ids = f"count(DISTINCT {seen.id})"
    every, those = source.fetch(ids, f"{ids} FILTER ({given})").columns
    return bool(every[0].as_py() > those[0].as_py())


def _id_leaf(source: Source) -> str:
    return next((name for name in ID_COLUMNS if name in source.columns), "")


def _roles(messages: str) -> str:
    """SQL of the roles of a conversation, with a mark where a message holds anything but a text."""
    plain = "json_type(turn, '$.content') = 'VARCHAR' AND trim(turn ->> 'content') <> ''"
    calls = "json_type(turn, '$.tool_calls') NOT IN ('NULL')"
    turn = (
        f"coalesce(turn ->> 'role', '?') || CASE WHEN coalesce({plain}, false) AND NOT coalesce({calls}, false) "
        "THEN '' ELSE '!' END"
    )
    return f"array_to_string(list_transform(TRY_CAST({messages} AS JSON[]), lambda turn: {turn}), ',')"
