"""The results of promptfoo, as its `eval -o` writes them in JSON (versions 1 to 3) and JSONL: an answer of a provider per row.

    {"prompt": {"raw": ...}, "provider": {"id", "label"}, "vars": {...}, "response": {"output", "finishReason"}, "score": ...}

A row says whose answer it is in `provider.name`, which is added here. Scores that are none are told, too: promptfoo writes
`score: 0` where the call or the grader failed, and `error` is no help, since where an assertion fails fairly it holds the reason
of that. What tells is `failureReason`, the mark `graderError` of what a grader returned, and, before there was that mark, its
message.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from crowdselect.errors import InputError
from crowdselect.pool.columns import Columns
from crowdselect.pool.layouts import FIRST_REWARDS

Row = dict[str, Any]

READ_AS = "results of promptfoo: one answer per row; provider.name is the label of the provider, else its id"
SENT = "prompt.raw"
"""Where a row has what was sent."""
_PLACES = (
    ("instruction", SENT),
    ("model", "provider.id"),  # of results that others wrote, as to Parquet
    ("model", "provider.name"),
    ("response", "response.output"),
)
"""Where a row has its parts; the last place of a part that is there counts."""
SAME_SCORE = "gradingResult.score"
"""Where a row has its score once more."""
_SCALARS = frozenset({"text", "number", "bool"})
_READ = frozenset({"prompt", "provider", "vars", "response", "namedScores"})
"""Objects of a row that are read."""
_NO_PROMPT, _NO_OUTPUT = "[prompt stripped]", "[output stripped]"
"""What promptfoo writes where PROMPTFOO_STRIP_PROMPT_TEXT or PROMPTFOO_STRIP_RESPONSE_OUTPUT is set."""
_WHY = "\n---\n"
"""What a table has between the reason why an assertion failed and the answer."""
_ERROR = "2"  # of `failureReason`: 0 is none, 1 an assertion
_NO_VERDICT = ("Could not extract JSON from llm-rubric response", "llm-rubric produced malformed response")
"""How promptfoo's own messages begin where it found no verdict in what a grader said."""
_SCORES = ("score", "success", "namedScores")
_GRADED_SCORES = ("score", "pass", "namedScores")  # of `gradingResult`


# What files hold


def is_result(row: object) -> bool:
    """Say whether a row is a result of promptfoo.

    Example:
        >>> is_result({"prompt": {"raw": "Hi"}, "provider": {"id": "openai:gpt-4o"}, "score": 1, "vars": {}})
        True
    """
    return (
        isinstance(row, dict)
        and "raw" in _object(row.get("prompt"))
        and isinstance(row.get("provider"), dict | str)
        and "score" in row
    )


def results_in(value: Mapping[str, Any]) -> list[Any] | None:
    """The results in a JSON document, by their list, or by the table of those that have none; None where it holds none.

    Example:
        >>> row = {"prompt": {"raw": "Hi"}, "provider": {"id": "m"}, "score": 1}
        >>> results_in({"evalId": "e", "results": {"version": 3, "results": [row]}}) == [row]
        True
    """
    inner = _object(value.get("results"))
    for holder in (inner, value):
        rows = holder.get("results")
        if isinstance(rows, list) and any(map(is_result, rows)):
            return rows
    tables = (_object(holder.get("table")) for holder in (inner, value))
    return next((rows for rows in map(_of_table, tables) if rows), None)


def beside(value: Mapping[str, Any]) -> str | None:
    """Say what a document holds beside its results; None = nothing of note."""
    holders = (value, _object(value.get("results")))
    names = [
        name
        for holder in holders
        for name, inner in holder.items()
        if isinstance(inner, dict | list) and inner and name not in {"results", "table"}
    ]
    return f"left out, beside the results: {', '.join(dict.fromkeys(names))}" if names else None


def _of_table(table: Mapping[str, Any]) -> list[Row]:
    """The results in a table of promptfoo: a row per test, and in it an output per prompt and provider."""
    head = _object(table.get("head"))
    prompts, names = _list(head.get("prompts")), _list(head.get("vars"))
    return [
        {
            **output,
            "testIdx": line.get("testIdx", at),
            "promptIdx": column,
            "prompt": {"raw": output["prompt"]},
            "provider": output.get("provider") or _object(prompt).get("provider"),
            "vars": output.get("vars") or dict(zip(map(str, names), _list(line.get("vars")), strict=False)),
            "response": output.get("response") or {"output": _answer_in(output)},
            "success": output.get("pass"),
        }
        for at, line in enumerate(_list(table.get("body")))
        if isinstance(line, dict)
        for column, (output, prompt) in enumerate(zip(_list(line.get("outputs")), prompts, strict=False))
        if isinstance(output, dict) and isinstance(output.get("prompt"), str)
    ]


def _answer_in(output: Row) -> str | None:
    """The answer in a cell of a table, whose text may begin with why the assertion failed, or be an error."""
    text = output.get("text")
    told = (output.get("error"), _object(output.get("gradingResult")).get("reason"))
    if not isinstance(text, str) or output.get("pass") or text.partition(_WHY)[0] not in told:
        return text if isinstance(text, str) else None
    return text.partition(_WHY)[2] or None


def as_read(rows: Sequence[Any], place: str) -> list[Any]:
    """Say in each result whose answer it is, as `provider.name`; what is no result stays.

    One name has several providers where their ids differ, or where one was asked the same prompt of the same test in several
    columns, as with several configurations.

    Args:
        rows: Of one file.
        place: The file, for the message.

    Raises:
        InputError: promptfoo was told not to write the prompts.

    Example:
        >>> def row(column: int, label: str) -> Row:
        ...     provider = {"id": "openai:gpt-4o", "label": label}
        ...     return {"prompt": {"raw": "Hi"}, "provider": provider, "testIdx": 0, "promptIdx": column, "score": 1}
        >>> [each["provider"]["name"] for each in as_read([row(0, "cold"), row(1, ""), row(2, "")], "results.json")]
        ['cold', 'openai:gpt-4o (1)', 'openai:gpt-4o (2)']
    """
    results = [row for row in rows if is_result(row)]
    if results and all(row["prompt"]["raw"] == _NO_PROMPT for row in results):
        raise InputError(
            f"{place}: promptfoo was told not to write the prompts (PROMPTFOO_STRIP_PROMPT_TEXT); wanted results with them; "
            "export them again without it"
        )
    names = _names(results)
    return [_with_parts(row, names[_column(row)]) if is_result(row) else row for row in rows]


def _with_parts(row: Row, name: str) -> Row:
    provider, response = row["provider"], row.get("response")
    own = provider if isinstance(provider, dict) else {"id": provider}
    if _object(response).get("output") == _NO_OUTPUT:
        response = {**_object(response), "output": None}
    vars_ = row.get("vars") or _object(row.get("testCase")).get("vars")
    return {**row, "provider": {**own, "name": name}, "response": response, "vars": vars_}


_Column = tuple[str, str, str, int]
"""What a provider is called, its id, its configuration, and its place in the table of all results."""


def _names(results: Sequence[Row]) -> dict[_Column, str]:
    """What the provider of each column is called."""
    ids: dict[str, set[str]] = {}
    cells: dict[tuple[str, ...], set[_Column]] = {}
    together: dict[_Column, set[_Column]] = {}
    for row in results:
        label, id_, *_ = column = _column(row)
        ids.setdefault(label, set()).add(id_)
        cell = cells.setdefault((label, id_, str(row.get("testIdx")), str(row["prompt"]["raw"])), set())
        cell.add(column)
        together.setdefault(column, set())
    for cell in cells.values():
        for column in cell:
            together[column] |= cell - {column}
    several = {column[:2] for column, others in together.items() if others}
    number: dict[_Column, int] = {}
    for column in sorted(together, key=lambda each: each[::-1]):
        taken = {number.get(other) for other in together[column]}
        number[column] = next(at for at in count(1) if at not in taken)
    return {
        column: column[0]
        + (f" [{column[1]}]" if len(ids[column[0]]) > 1 else "")
        + (f" ({at})" if column[:2] in several else "")
        for column, at in number.items()
    }


def _column(row: Row) -> _Column:
    provider, place = row["provider"], row.get("promptIdx")
    own = provider if isinstance(provider, dict) else {"id": provider}
    id_ = str(own.get("id"))
    config = json.dumps(own.get("config"), sort_keys=True)
    return str(own.get("label") or id_), id_, config, place if isinstance(place, int) else -1


# What columns hold


def is_promptfoo(columns: Columns) -> bool:
    """Say whether rows are results of promptfoo, by their columns; one of its names alone may be anybody's."""
    sent = "prompt" in columns and "raw" in columns["prompt"].fields
    marks = sum(name in columns for name in ("failureReason", "gradingResult"))
    return "score" in columns and (marks + sent > 1 or (sent and "provider" in columns))


def is_named(columns: Columns) -> bool:
    """Say whether results say whose answers they are as they do in `as_read`."""
    return "provider" in columns and "name" in columns["provider"].fields


def parts_of(columns: Columns) -> dict[str, str]:
    """Say where the parts of a row are, as `columns` takes it; an id is that of a result, and none of an instruction.

    Example:
        >>> from crowdselect.pool.columns import Kind
        >>> parts_of({"prompt": Kind("struct", fields={"raw": Kind("text")})})
        {'instruction': 'prompt.raw', 'id': ''}
    """
    found = {
        what: place
        for what, place in _PLACES
        if (outer := columns.get(place.partition(".")[0])) is not None
        and place.partition(".")[2] in outer.fields
    }
    return {**found, "id": ""} if found else {}


def variables(columns: Columns, taken: set[str]) -> dict[str, tuple[str, str]]:
    """Find the variables of the tests that are texts or numbers, which count as columns.

    Args:
        columns: Of the rows.
        taken: Names of other columns; a variable of such a name, or of one that means a reward, is called `vars.NAME`, and
            where that is taken, too, `vars.NAME (2)`.

    Returns:
        What each is called → its path.
    """
    own = columns["vars"].fields if "vars" in columns else {}
    known, found = {name.casefold() for name in taken}, dict[str, tuple[str, str]]()
    for name in (name for name, kind in own.items() if kind.name in _SCALARS):
        path = f"vars.{name}"
        names = (name, path, *(f"{path} ({at})" for at in range(2, len(own) + 2)))
        free = (each for each in names if each.casefold() not in known)  # DuckDB knows no case
        called = next(each for each in free if each != name or not FIRST_REWARDS.fullmatch(name))
        known.add(called.casefold())
        found[called] = ("vars", name)
    return found


def left_out(columns: Columns) -> list[str]:
    """Name what is in the results and not read: objects and lists."""
    own = columns["vars"].fields if "vars" in columns else {}
    objects = [n for n, kind in columns.items() if kind.name in {"struct", "list"} and n not in _READ]
    return objects + [f"vars.{name}" for name, kind in own.items() if kind.name not in _SCALARS]


# Single rows


def is_yaml(sent: str) -> bool:
    r"""Say whether what was sent are messages in YAML, as promptfoo tells it.

    Example:
        >>> is_yaml("- role: user\n  content: Hi"), is_yaml("- roles: user")
        (True, False)
    """
    return sent.lstrip().startswith("- role:")


def is_ungraded(row: Row) -> bool:
    """Say whether the score of a row is none.

    Example:
        >>> is_ungraded({"score": 0, "failureReason": 2}), is_ungraded({"score": 0, "failureReason": 1, "error": "Too long"})
        (True, False)
    """
    if str(row.get("failureReason")).removesuffix(".0") == _ERROR:
        return True
    graded = row.get("gradingResult")
    told = [row.get("error"), *(result.get("reason") for result in _results(graded))]
    failed = any(_object(result.get("metadata")).get("graderError") is True for result in _results(graded))
    return failed or any(str(text).startswith(_NO_VERDICT) for text in told)


def without_scores(row: Row) -> Row:
    """A row without what its assertions gave."""
    bare = {name: value for name, value in row.items() if name not in _SCORES}
    graded = bare.get("gradingResult")
    if isinstance(graded, dict):
        bare["gradingResult"] = {n: value for n, value in graded.items() if n not in _GRADED_SCORES}
    return bare


def _results(graded: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  (whatever a file holds)
    """What a grader returned, and of what that was made."""
    if not isinstance(graded, dict):
        return
    yield graded
    for part in _list(graded.get("componentResults")):
        yield from _results(part)


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401  (whatever a file holds)
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401  (whatever a file holds)
    return value if isinstance(value, list) else []
