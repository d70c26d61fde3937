"""JSON documents that hold a table: as pandas and others write it, or as a list of rows inside an object that says more.

Evaluation tools write one object per run, with the rows in a list somewhere in it. Which list that is has to be certain;
the texts around it, such as the model of the run, become columns, by the names on the way to them.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from crowdselect.errors import InputError

Row = dict[str, Any]
ListPath = tuple[str, ...]

_LISTS = ("data", "rows", "train", "examples", "instances", "items")
_PROMPTS = frozenset({"instruction", "prompt", "question", "problem", "query"})
_TURNS = frozenset({"messages", "conversations", "conversation"})
_USUAL = frozenset({"instruction", "prompt", "question", "problem", "messages", "model", "response"})
"""Names of columns, by which a table by rows is told from one by columns."""
_OF_ROWS = _PROMPTS | {
    "response",
    "output",
    "completion",
    "generation",
    "text",
    "content",
    "answer",
    "input",
    "name",
}
"""What differs from row to row: beside a list it is something else, such as a template."""
_MODELS = frozenset(
    {"model", "model_name", "model_id", "generator", "generation_model", "policy", "provider", "by"}
)
"""What says whose an answer is."""
_ID = re.compile(r"(?i:(.*[^a-z])?(id|uuid|uid))|.*[a-z0-9]I[dD]")
_NUMBER = re.compile(r"\s*[+-]?[\d.]+(e[+-]?\d+)?\s*|true|false", re.IGNORECASE)
_DEEPEST = 3
"""Objects within objects that are looked into."""
_SEEN = 20  # rows by which a list is known
_LONGEST = 1000  # characters of a text around a list that is a column
_NAMED = 6  # columns that a note names


def one_after_the_other(text: str) -> list[Row] | None:
    """Read objects that stand one after the other, each over several lines; None where there is anything else.

    Example:
        >>> one_after_the_other('{"a": 1} {"a": 2}'), one_after_the_other('{"a": 1} 2')
        ([{'a': 1}, {'a': 2}], None)
    """
    read, at, found = json.JSONDecoder().raw_decode, 0, []
    text = text.strip()
    while at < len(text):
        try:
            value, end = read(text, at)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        found.append(value)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def table_rows(value: Mapping[str, Any]) -> list[Any] | None:
    """The rows of a table in one object: `{"data": [...]}`, and the orients of pandas; None where it is none.

    Example:
        >>> table_rows({"id": {"0": 7, "1": 8}, "score": {"0": 0.5, "1": 1.0}})
        [{'id': 7, 'score': 0.5}, {'id': 8, 'score': 1.0}]
    """
    if isinstance(value.get("schema"), dict) and isinstance(value.get("data"), list):
        key = value["schema"].get("primaryKey")  # pandas' own index has no other name
        made = "index" if key == ["index"] else None
        return [{n: v for n, v in row.items() if n != made} for row in value["data"] if isinstance(row, dict)]
    if _are_split(value):
        return [dict(zip(value["columns"], row, strict=False)) for row in value["data"]]
    for name in _LISTS:
        if _is_rows(value.get(name)):
            return _with_facts(value, value[name])
    inner = list(value.values())
    if inner and all(isinstance(column, dict) for column in inner) and _is_table(value):
        return _by_index(value)
    lists = inner and all(isinstance(column, list) for column in inner) and len({len(c) for c in inner}) == 1
    if lists and not any(_is_turn(one) for column in inner for one in column):  # turns are no rows
        return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]
    return None


def _are_split(value: Mapping[str, Any]) -> bool:
    """Whether it is pandas' orient `split`: the names of the columns, and a list for each row."""
    names, rows = value.get("columns"), value.get("data")
    return (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(rows, list)
        and all(isinstance(row, list) for row in rows)
    )


def inner_rows(value: Row, *, path: str, asked: Collection[str] = ()) -> list[Row] | None:
    """The rows of the list inside an object that is certain to hold them, with what is said around it; None = it is a row itself.

    Args:
        value: The document.
        path: The file, for the message.
        asked: What holds the prompts of the rows, by the names on the way; none = it has a usual name.

    Raises:
        InputError: Several lists may be the rows.

    Example:
        >>> inner_rows({"run": {"model": "qwen-1b"}, "results": [{"prompt": "Hi"}]}, path="run.json")
        [{'prompt': 'Hi', 'run': {'model': 'qwen-1b'}}]
    """
    lists = dict(_lists(value))
    taken = _taken(value, lists, asked)
    if not lists or (taken is None and _asks(value)):
        return None
    if taken is None:
        named = [".".join(at) for at in lists]
        first = max(lists, key=lambda at: len(lists[at]))
        raise InputError(
            f"{path}: several lists in this JSON document may be the rows: {', '.join(named)}; pandas writes one of them, "
            f"here {'.'.join(first)}, to be read from pool.jsonl: {pandas_of(path, first)}"
            ".to_json('pool.jsonl', orient='records', lines=True, double_precision=15)"
        )
    return _with_facts(value, lists[taken])


def list_read(value: Mapping[str, Any], asked: Collection[str] = ()) -> ListPath | None:
    """Say which list of a document holds its rows, by the names on the way to it; None = none does.

    Args:
        value: The document.
        asked: As of `inner_rows`.

    Example:
        >>> list_read({"run": {"rows": [{"prompt": "Hi"}]}})
        ('run', 'rows')
    """
    if is_named_row(value, asked):
        return None
    lists = dict(_lists(value))
    plain = next(((name,) for name in _LISTS if (name,) in lists), None)
    return _taken(value, lists, asked) if plain is None and table_rows(value) is None else plain


def is_named_row(value: Mapping[str, Any], asked: Collection[str]) -> bool:
    """Say whether an object is a row, by what is named as the prompt of one, and not a document with rows inside.

    Example:
        >>> row = {"task": {"text": "Hi"}, "answers": [{"model": "qwen-1b"}]}
        >>> is_named_row(row, ["task.text"]), is_named_row({"run": "Hi", "rows": [{"run": "Ho"}]}, ["run"])
        (True, False)
    """
    return _holds(value, asked) and not any(_holds(row, asked) for _, rows in _lists(value) for row in rows)


def _holds(value: object, asked: Collection[str]) -> bool:
    """Whether an object holds a text or a conversation by one of some names, with dots on the way to what is inside."""
    return isinstance(value, dict) and any(
        (name == key and (isinstance(inner, str) or (isinstance(inner, list) and any(map(_is_turn, inner)))))
        or (name.startswith(f"{key}.") and _holds(inner, [name.removeprefix(f"{key}.")]))
        for key, inner in value.items()
        for name in asked
    )


def said_of_lists(value: Mapping[str, Any], asked: Collection[str] = ()) -> str | None:
    """Say which list of a document is read, and what else it holds; None = there is nothing to say.

    Args:
        value: The document.
        asked: As of `inner_rows`.

    Example:
        >>> said_of_lists({"data": [{"prompt": "Hi"}], "test": [{"prompt": "Ho"}]})
        "the rows of 'data' are read; left out: test"
    """
    lists, taken = dict(_lists(value)), list_read(value, asked)
    if taken is None:
        return None
    inside = taken[0] not in _LISTS or len(taken) > 1
    others = [".".join(at) for at in lists if at != taken and (inside or len(at) == 1)]
    names = list(
        _names(
            {name: said for name, said in _facts(value, lists[taken]).items() if name not in lists[taken][0]}
        )
    )
    named = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    told = [f"left out: {', '.join(others)}"] if others else []
    told += [f"what stands around them is in every row: {named}"] if names else []
    return "; ".join((f"the rows of {'.'.join(taken)!r} are read", *told)) if inside or told else None


def pandas_of(path: str, at: ListPath) -> str:
    """How pandas reads a list in a document.

    Example:
        >>> print(pandas_of("run.json", ("run", "rows")))
        pd.DataFrame(pd.read_json('run.json', typ='series', dtype=False)['run']['rows'])
    """
    steps = "".join(f"[{step!r}]" for step in at)
    return f"pd.DataFrame(pd.read_json({path!r}, typ='series', dtype=False){steps})"


def is_asking(text: str) -> bool:
    """Say whether a text is the JSON of a conversation that ends with what a user says, as a prompt does.

    Example:
        >>> is_asking('[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]'), is_asking("[Hi]")
        (True, False)
    """
    if not text.lstrip().startswith("[") or '"role"' not in text:
        return False
    try:
        turns = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return bool(turns) and all(map(_is_turn, turns)) and turns[-1].get("role") == "user"


def _taken(
    value: Mapping[str, Any], lists: Mapping[ListPath, list[Row]], asked: Collection[str]
) -> ListPath | None:
    """The only list whose rows ask something, or the only one of a document that asks nothing; None = there is none."""
    named = [at for at, rows in lists.items() if any(_holds(row, asked) for row in rows[:_SEEN])]
    asking = named or [at for at, rows in lists.items() if any(map(_asks, rows[:_SEEN]))]
    if len(asking) == 1:
        return asking[0]
    return next(iter(lists)) if len(lists) == 1 and not _asks(value) else None


def _lists(value: Mapping[str, Any], before: ListPath = ()) -> Iterator[tuple[ListPath, list[Row]]]:
    """The lists of rows in a document, that are in no list themselves."""
    for name, inner in value.items():
        if _is_rows(inner) and not any(map(_is_turn, inner)):
            yield (*before, name), inner
        elif isinstance(inner, dict) and len(before) + 1 < _DEEPEST:
            yield from _lists(inner, (*before, name))


def _asks(value: Mapping[str, Any], depth: int = 1) -> bool:
    """Whether an object asks something, itself or in an object inside, by the names in it."""
    return any(
        (name in _PROMPTS and (isinstance(inner, str) or _has_text(inner)))
        or (name in _TURNS and isinstance(inner, list) and any(map(_is_turn, inner)))
        or (isinstance(inner, dict) and depth < _DEEPEST and _asks(inner, depth + 1))
        for name, inner in value.items()
    )


def _has_text(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_is_turn, value))
    return isinstance(value, dict) and any(isinstance(inner, str) for inner in value.values())


def _is_rows(value: Any) -> bool:  # noqa: ANN401  (parsed JSON)
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _with_facts(value: Mapping[str, Any], rows: list[Row]) -> list[Row]:
    """The rows of a list, each with what is said around it; what a row says itself stays."""
    facts = _facts(value, rows)
    return [{**row, **{name: said for name, said in facts.items() if name not in row}} for row in rows]


def _facts(value: Mapping[str, Any], rows: list[Row]) -> Row:
    """The texts in the objects around a list. A number there is one of the whole list, and no row's."""
    barred = _OF_ROWS | (_MODELS if any(map(_names_model, rows[:_SEEN])) else frozenset())
    return _texts({n: inner for n, inner in value.items() if n not in barred and not _ID.fullmatch(n)}, 1)


def _names_model(row: Mapping[str, Any], depth: int = 1) -> bool:
    """Whether a row says itself whose answer it holds, so that a model beside the list is another, such as a judge."""
    return any(
        name in _MODELS or (isinstance(inner, dict) and depth < _DEEPEST and _names_model(inner, depth + 1))
        for name, inner in row.items()
    )


def _texts(value: Mapping[str, Any], depth: int) -> Row:
    found: Row = {}
    for name, inner in value.items():
        if isinstance(inner, str) and 0 < len(inner) <= _LONGEST and not _NUMBER.fullmatch(inner):
            found[name] = inner
        elif isinstance(inner, dict) and depth < _DEEPEST and (deeper := _texts(inner, depth + 1)):
            found[name] = deeper
    return found


def _names(facts: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, inner in facts.items():
        if isinstance(inner, dict):
            yield from _names(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _is_table(value: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether objects are the columns or rows of a table, which share their keys, rather than objects with lists in them."""
    if not any(_lists(value)):
        return True
    return len(value) > 1 and bool(set.intersection(*(set(inner) for inner in value.values())))


def _by_index(value: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The orients `columns` (column → index → value) and `index` (index → column → value); an index of names is the id."""
    inner = {key: None for column in value.values() for key in column}
    turned = not all(key.isdigit() for key in inner) and (
        all(key.isdigit() for key in value) or bool(_USUAL & set(inner))
    )
    table = value if turned else {key: {n: c.get(key) for n, c in value.items()} for key in inner}
    named = "id" not in next(iter(table.values()), {}) and not all(key.isdigit() for key in table)
    return [{**({"id": key} if named else {}), **row} for key, row in table.items()]
