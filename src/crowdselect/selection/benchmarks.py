"""Benchmark questions, from files of any usual form; see `overlap` for what shares text with them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crowdselect.errors import InputError
from crowdselect.pool.columns import as_text, quote
from crowdselect.pool.connection import connect
from crowdselect.pool.files import is_remote, is_table
from crowdselect.pool.inspectlogs import runs_in
from crowdselect.pool.layouts import ID_COLUMNS, detect
from crowdselect.pool.lmeval import logs_in, questions_in
from crowdselect.pool.pool import open_pool
from crowdselect.pool.prompts import chat_text, parse_chat, user_turn
from crowdselect.pool.rendered import messages_in
from crowdselect.pool.rowfiles import holds_results
from crowdselect.pool.sidecars import read_lines
from crowdselect.pool.source import Source

_IDS = ("question_id", "uid", *ID_COLUMNS)
_TEXTS = ("turns", "prompt", "instruction", "question")
_WANTED = {
    "benchmark question": "wanted turns (FastChat), prompt (arena-hard), instruction or question, or the columns of a pool",
    "example": "wanted a column instruction, prompt or question, the columns of a training file or of a pool, or plain text",
}
"""What the texts are to the user → what a file of them holds."""
_NAMED = 5  # benchmarks that a line names


@dataclass(frozen=True, slots=True)
class BenchmarkQuestion:
    """A benchmark question: its id, and the texts of its turns."""

    id: str
    texts: tuple[str, ...]
    file: str = field(default="", compare=False)
    """Where it is from."""


def read_questions(path: str, *, what: str = "benchmark question") -> list[BenchmarkQuestion]:
    """Read the questions of a benchmark.

    Args:
        path: JSONL as of FastChat (`question_id`, `turns`) or arena-hard (`uid` or `question_id`, `prompt` or
            `turns`), any table with a column `instruction`, `prompt` or `question`, any pool, or plain text
            with one question per line; or what lm-evaluation-harness or inspect_ai logged, or results of promptfoo.
        what: What they are to the user: "benchmark question", or "example".

    Returns:
        The questions in file order; those of a pool in id order. One without an id is
        named after its line, `FILE:LINE`. All turns count.

    Raises:
        InputError: There is no such file, it is broken, or holds no question.

    Example:
        >>> read_questions("no-such-file.jsonl")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.jsonl: no such file or folder; wanted a file, a folder or a glob; check the path
    """
    place = Path(path)
    logs = [] if is_remote(path) else logs_in(place)
    if logs:
        questions = [BenchmarkQuestion(id_, (text,)) for id_, text in questions_in(logs).items()]
    elif (not is_remote(path) and runs_in(sorted(place.glob("*.json")) if place.is_dir() else [place])) or (
        not is_remote(path) and holds_results(place)
    ):
        questions = _of_pool(path)
    elif not (is_table(path) or is_pool_place(path)):
        lines = read_lines(path, wanted=f"one {what} per line")
        questions = [
            BenchmarkQuestion(f"{Path(path).name}:{number}", (line.strip(),))
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    else:
        questions = _from_table(path, what)
    if not questions:
        raise InputError(f"{path}: holds no {what}; {_WANTED[what]}")
    return [replace(question, file=path) for question in questions]


def evaluation_lines(tasks: Sequence[str]) -> list[str]:
    """Warn of rows that are a benchmark's own questions.

    Args:
        tasks: `Pool.evaluations`.

    Returns:
        One line; none where there are no tasks.

    Example:
        >>> evaluation_lines(["arc_easy", "gsm8k"])[0].partition(", which")[0]
        'these rows are questions of an evaluation (arc_easy, gsm8k)'
    """
    if not tasks:
        return []
    named = ", ".join(tasks[:_NAMED]) + (f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else "")
    line = (
        f"these rows are questions of an evaluation ({named}), which cannot measure a model that was trained on them; "
        "choose from other rows, such as a train split, and bar there what shares text with this pool (`decontaminate`)"
    )
    return [line]


def is_pool_place(path: str) -> bool:
    """Tell whether a path is a folder or a data set of the Hub.

    Example:
        >>> is_pool_place("hf://datasets/owner/name")
        True
    """
    return Path(path).is_dir() or is_remote(path)


def _from_table(path: str, what: str) -> list[BenchmarkQuestion]:
    connection = connect()
    try:
        source = Source(connection, path)
        columns = source.columns
        if detect(columns) is None or "turns" in columns:
            text = next((name for name in _TEXTS if name in columns), None)
            if text is None:
                raise InputError(f"{path}: no {what} in the columns {', '.join(columns)}; {_WANTED[what]}")
            names = [name for name in (*_IDS, text) if name in columns]
            rows = source.fetch(*(as_text(quote(name), columns[name]) for name in names))
            return _questions_of(
                path, [dict(zip(names, row.values(), strict=True)) for row in rows.to_pylist()], text=text
            )
    finally:
        connection.close()
    return _of_pool(path)


def _of_pool(path: str) -> list[BenchmarkQuestion]:
    with open_pool(path) as pool:
        return [
            BenchmarkQuestion(id_, (text,))
            for id_, text in zip(pool.ids, pool.instructions(), strict=True)
            if text is not None
        ]


def _questions_of(path: str, rows: list[Mapping[str, Any]], *, text: str) -> list[BenchmarkQuestion]:
    questions = []
    for number, row in enumerate(rows, 1):
        id_ = next((row[name] for name in _IDS if row.get(name)), None) or f"{Path(path).name}:{number}"
        value = row[text]
        texts = _turns(value, where=f"{path}: {text} of {id_!r}") if text == "turns" else [_said(value)]
        turns = tuple(turn for turn in texts if turn is not None and turn.strip())
        if turns:
            questions.append(BenchmarkQuestion(id_, turns))
    return questions


def _said(value: str | None) -> str | None:
    """What a question asks: its text, or that of its messages."""
    if value is None:
        return None
    try:
        chat = parse_chat(value) if value.lstrip().startswith("[") else user_turn(value)
    except ValueError:  # a text that begins with a bracket
        chat = user_turn(value)
    return chat_text(messages_in(chat)[0])


def _turns(value: str | None, *, where: str) -> list[str | None]:
    """Read the texts of a JSON list of turns: strings, or objects with `content`."""
    try:
        turns = json.loads(value or "[]")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}); wanted a list of texts") from error
    listed: list[Any] = turns if isinstance(turns, list) else [turns]
    texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in listed]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise InputError(
            f"{where} is {str(value)[:80]!r}; wanted a list of texts, or of objects with content"
        )
    return texts
