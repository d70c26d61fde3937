"""A benchmark's files in FastChat's and arena-hard-auto's forms: questions, reference answers, a model's answers.

The files are JSON lines as other tools write them; errors name file and line, and lines are kept unchanged.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from crowdselect.ask.calls import ANSWERED
from crowdselect.ask.conversations import Conversation
from crowdselect.errors import InputError
from crowdselect.evaluate.protocols import Protocol
from crowdselect.malformed import Malformed
from crowdselect.terminal import counted
from crowdselect.textfile import NESTED, read_text
from crowdselect.writing import new_file

NO_ANSWER = "no answer in the file"
FAILED_ANSWER = "the file has an error of the tool that asked, such as $ERROR$, instead of an answer"
# What FastChat, arena-hard-auto and similar tools write where no answer came, in lower case.
_ERRORS = ("$error$", "**api request error**", "**network error due to high traffic")


class JsonLine(NamedTuple):
    """A line: its file and number, its text without the line end, and the object in it."""

    where: str
    text: str
    value: dict[str, Any]


def read_rows(path: str | PathLike[str], malformed: Malformed | None = None) -> list[JsonLine]:
    """Read a file of JSON objects, one per line; empty lines are skipped.

    Args:
        path: The file.
        malformed: What to do with lines that are no JSON object; None = they are errors. So in all readers here.

    Raises:
        InputError: There is no such file, it is not UTF-8, a line is not a JSON object, or the file is empty.

    Example:
        >>> read_rows("no-such-file.jsonl")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.jsonl: no such file; wanted lines of JSON; check the path
    """
    lines = enumerate(read_text(path, wanted="lines of JSON; check the path").split("\n"), start=1)
    numbered = [(f"{path}:{number}", line) for number, line in lines if line.strip()]
    if not numbered:
        raise InputError(f"{path}: the file is empty; wanted lines of JSON")
    rows = (malformed or Malformed()).parsed(_row, numbered)
    if not rows:
        raise InputError(f"{path}: all {len(numbered):,} lines are malformed; wanted lines of JSON")
    return rows


def write_lines(target: Path, lines: Iterable[str]) -> None:
    """Write lines to a file; it is replaced when all are written."""
    with new_file(target) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(line + "\n" for line in lines)


def dumped(value: object) -> str:
    """Write one line of JSON; lone surrogates, which UTF-8 cannot encode, become escapes.

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


def text_at(row: JsonLine, *names: str) -> str:
    """Return the first of some fields that is present, as text; whole numbers are accepted too.

    Raises:
        InputError: None is present, or the first one is neither text nor a whole number.

    Example:
        >>> text_at(JsonLine("f:1", "", {"question_id": 81}), "uid", "question_id")
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


def _row(placed: tuple[str, str]) -> JsonLine:
    where, line = placed
    try:
        value = json.loads(line, parse_constant=_refuse)
    except RecursionError as error:
        raise InputError(f"{where}: {NESTED}") from error
    except ValueError as error:
        raise InputError(f"{where}: broken JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: wanted an object, got {line.strip()[:60]!r}")
    return JsonLine(where, line, value)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


@dataclass(frozen=True, slots=True)
class Question:
    """A question.

    Attributes:
        id: As text.
        written_id: As in the file: a text or a whole number.
        category: The benchmark's category; empty if the file has none.
        turns: The user's turns.
        temperature: The question's own temperature; None = the benchmark's.
    """

    id: str
    written_id: str | int
    category: str
    turns: tuple[str, ...]
    temperature: float | None = None


def read_bench(
    path: str | PathLike[str], protocol: Protocol, malformed: Malformed | None = None
) -> list[Question]:
    """Read the questions, in the order of the file.

    Args:
        path: Lines with `question_id` or `uid`, `turns` (texts, or objects with `content`) or `prompt`, and
            `category`.
        protocol: Gives the number of turns to use.
        malformed: What to do with malformed lines.

    Raises:
        InputError: The file is broken, a question has no text, or an id appears twice; or no question is left.

    Example:
        >>> from crowdselect.evaluate.protocols import MT_BENCH
        >>> read_bench("no-such-file.jsonl", MT_BENCH)
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.jsonl: no such file; wanted lines of JSON; check the path
    """
    malformed = malformed or Malformed()
    questions: dict[str, Question] = {}

    def question_of(row: JsonLine) -> tuple[str, Question]:
        return row.where, _question(row, protocol)

    for where, question in malformed.parsed(question_of, read_rows(path, malformed)):
        if question.id in questions:
            raise InputError(f"{where}: question {question.id!r} appears twice; keep one")
        questions[question.id] = question
    if not questions:
        raise InputError(f"{path}: no question is left; {malformed.notes[-1]}")
    return list(questions.values())


def read_references(
    path: str | PathLike[str], malformed: Malformed | None = None
) -> dict[str, tuple[str, ...]]:
    """Read reference answers, one per turn, by question id; the format is that of an answers file.

    Args:
        path: The file.
        malformed: What to do with malformed lines.

    Raises:
        InputError: The file is broken, or has two references for a question.
    """
    malformed = malformed or Malformed()
    references: dict[str, tuple[str, ...]] = {}
    for where, id_, turns in malformed.parsed(_answered, read_rows(path, malformed)):
        if id_ in references:
            raise InputError(f"{where}: there are two reference answers to question {id_!r}; keep one")
        references[id_] = tuple(text for text, _ in _answers_in(turns))
    return references


def _answered(row: JsonLine) -> tuple[str, str, list[tuple[str, int | None]]]:
    return row.where, text_at(row, "question_id", "uid"), answer_turns(row)


def answer_turns(row: JsonLine) -> list[tuple[str, int | None]]:
    """Read the texts of an answer's turns, and their token counts if the file has them.

    Uses the first of FastChat's `choices`, or the assistant's messages of arena-hard-auto's `messages`.

    Raises:
        InputError: There is neither, or a turn has no text.
    """
    value = row.value
    turns: Any
    if isinstance(value.get("messages"), list):
        turns = [one.get("content") for one in value["messages"] if _role(one) == "assistant"]
        meta = value.get("metadata")
        counted = meta.get("token_len") if isinstance(meta, dict) and len(turns) == 1 else None
    elif isinstance(value.get("choices"), list) and value["choices"]:
        first = value["choices"][0]
        turns = first.get("turns") if isinstance(first, dict) else None
        counted = None
    else:
        raise InputError(
            f"{row.where}: there are no answers: wanted choices (FastChat) or messages (arena-hard)"
        )
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{row.where}: the answer has no turns")
    return [_answer(turn, counted, row.where) for turn in turns]


def _answers_in(turns: Sequence[tuple[str, int | None]]) -> list[tuple[str, int | None]]:
    """Return the turns before the first that is an error of the tool that asked: no later one has its context."""
    return list(itertools.takewhile(lambda turn: not turn[0].strip().casefold().startswith(_ERRORS), turns))


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _answer(turn: object, counted: object, where: str) -> tuple[str, int | None]:
    tokens = counted
    if isinstance(turn, dict):
        tokens = turn.get("token_len", counted)
        turn = turn.get("answer", turn.get("content"))
    if not isinstance(turn, str):
        raise InputError(f"{where}: a turn of the answer is {str(turn)[:60]!r}; wanted a text")
    known = isinstance(tokens, int) and not isinstance(tokens, bool)
    return turn, tokens if known else None  # type: ignore[return-value]  # whole where known


def _question(row: JsonLine, protocol: Protocol) -> Question:
    value = row.value
    id_ = text_at(row, "question_id", "uid")
    turns = value.get("turns", [value["prompt"]] if "prompt" in value else None)
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{row.where}: question {id_!r} has no turns and no prompt")
    texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns][: protocol.turns]
    nonblank = [text for text in texts if isinstance(text, str) and text.strip()]
    if len(nonblank) < len(texts):
        raise InputError(f"{row.where}: a turn of question {id_!r} has no text")
    category = value.get("category", "")
    temperature = value.get("required_temperature")
    if temperature is not None and not (isinstance(temperature, int | float) and temperature >= 0):
        raise InputError(f"{row.where}: required_temperature is {temperature!r}; wanted a number from 0")
    written = value.get("question_id", value.get("uid"))
    return Question(
        id_,
        written if isinstance(written, int) else id_,
        category if isinstance(category, str) else str(category),
        tuple(nonblank),
        None if temperature is None else float(temperature),
    )


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """One model's answers.

    Attributes:
        model: Its name.
        turns: Question id → texts of its answered turns.
        tokens: Question id → token counts of these turns; None = not counted.
        missing: Question id and turn (from 0) → why there is no text.
        lines: The lines of a file of these answers.
        notes: Lines for the user.
    """

    model: str
    turns: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, tuple[int | None, ...]]
    missing: Mapping[tuple[str, int], str]
    lines: Sequence[str]
    notes: list[str] = field(default_factory=list)


def read_answers(
    path: str | PathLike[str],
    questions: Sequence[Question],
    *,
    name: str | None = None,
    malformed: Malformed | None = None,
) -> ModelAnswers:
    """Read a model's answers.

    Args:
        path: In the format of FastChat (`question_id`, `model_id`, `choices`) or arena-hard-auto (`uid`, `model`,
            `messages`).
        questions: The benchmark's questions; answers to others are kept in `lines` but not scored.
        name: The model, if the file has several.
        malformed: What to do with malformed lines.

    Returns:
        Its answers; the lines unchanged.

    Raises:
        InputError: The file is broken, has several models and none is named, or answers a question twice.
    """
    malformed = malformed or Malformed()
    model, rows = rows_of_model(path, ("model_id", "model"), name, malformed)
    turns: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, tuple[int | None, ...]] = {}
    failed: dict[str, bool] = {}
    lines = []

    def with_text(row: JsonLine) -> tuple[str, str, str, list[tuple[str, int | None]]]:
        return row.text, *_answered(row)

    for text, where, id_, answered in malformed.parsed(with_text, rows):
        if id_ in turns:
            raise InputError(f"{where}: {model!r} answers question {id_!r} twice; keep one")
        whole = _answers_in(answered)
        failed[id_] = len(answered) > len(whole)
        turns[id_], tokens[id_] = tuple(said for said, _ in whole), tuple(count for _, count in whole)
        lines.append(text)
    missing = {
        (question.id, turn): FAILED_ANSWER if failed.get(question.id) else NO_ANSWER
        for question in questions
        for turn in range(len(turns.get(question.id, ())), len(question.turns))
    }
    others = len(turns.keys() - {question.id for question in questions})
    notes = [f"{path}: {counted(others, 'answer')} to questions that are not asked here"] if others else []
    count = sum(failed.values())
    notes += (
        [f"{path}: missing: {counted(count, 'answer')} of {model} with an error such as $ERROR$"]
        if count
        else []
    )
    return ModelAnswers(model, turns, tokens, missing, lines, notes)


def joined(
    parts: Sequence[tuple[ModelAnswers, frozenset[str]]], questions: Sequence[Question]
) -> ModelAnswers:
    """Join the answers of several models, each to the questions of its own categories.

    Args:
        parts: The answers and the categories; each category is in exactly one part.
        questions: The benchmark's questions.
    """
    if len(parts) == 1:
        return parts[0][0]
    by_question = {
        question.id: answers
        for question in questions
        for answers, categories in parts
        if question.category in categories
    }
    return ModelAnswers(
        ", ".join(sorted({answers.model for answers, _ in parts})),
        {id_: own.turns[id_] for id_, own in by_question.items() if id_ in own.turns},
        {id_: own.tokens[id_] for id_, own in by_question.items() if id_ in own.tokens},
        {
            place: why
            for answers, _ in parts
            for place, why in answers.missing.items()
            if by_question[place[0]] is answers
        },
        [line for answers, _ in parts for line in answers.lines],
        [note for answers, _ in parts for note in answers.notes],
    )


def rows_of_model(
    path: str | PathLike[str], fields: Sequence[str], name: str | None, malformed: Malformed
) -> tuple[str, list[JsonLine]]:
    """Read the lines of one model, and its name.

    Args:
        path: The file.
        fields: Where a line may name its model.
        name: The model, if the file has several.
        malformed: What to do with lines that are no JSON object, or name no model.

    Raises:
        InputError: The file is broken, has no line that names a model, or several models and none is named.
    """

    def with_model(row: JsonLine) -> tuple[str, JsonLine]:
        return text_at(row, *fields), row

    rows = malformed.parsed(with_model, read_rows(path, malformed))
    if not rows:
        raise InputError(f"{path}: no line is left; {malformed.notes[-1]}")
    model = chosen_model(path, [named for named, _ in rows], name)
    return model, [row for named, row in rows if named == model]


def chosen_model(path: str | PathLike[str], models: Sequence[str], name: str | None) -> str:
    """Choose a model of a file.

    Raises:
        InputError: There are several and none is named, or the named one is missing.

    Example:
        >>> chosen_model("f.jsonl", ["a", "a"], None), chosen_model("f.jsonl", ["a", "b"], "b")
        ('a', 'b')
    """
    found = list(dict.fromkeys(models))
    if name in found:
        return str(name)
    listed = ", ".join(found[:10])
    if name is not None and len(found) > 1:
        raise InputError(f"{path}: there is no model {name!r}; found {listed}")
    if len(found) > 1:
        raise InputError(f"{path}: there are {len(found)} models; say which by `name`: {listed}")
    return found[0]


def from_conversations(
    model: str, questions: Sequence[Question], conversations: Mapping[str, Conversation], protocol: Protocol
) -> ModelAnswers:
    """Build answers from conversations in the ledger."""
    turns: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, tuple[int | None, ...]] = {}
    missing: dict[tuple[str, int], str] = {}
    lines = []
    for question in questions:
        conversation = conversations[question.id]
        answered = [answer for answer in conversation.answers if answer.status in ANSWERED]
        if answered:
            turns[question.id] = tuple(answer.text or "" for answer in answered)
            tokens[question.id] = tuple(answer.completion_tokens for answer in answered)
        for turn in range(len(answered), len(question.turns)):
            missing[question.id, turn] = (
                conversation.missing[1] if turn == len(answered) else "the turn before has no answer"
            )
        if conversation.is_whole:
            lines.append(_line(model, question, conversation, protocol))
    return ModelAnswers(model, turns, tokens, missing, lines)


def _line(model: str, question: Question, conversation: Conversation, protocol: Protocol) -> str:
    """Write one answer as the benchmark's own tools do; its id and time come from the ledger."""
    texts = [answer.text or "" for answer in conversation.answers]
    number = hashlib.sha256(conversation.answers[0].key).hexdigest()[:22]
    at = conversation.answers[-1].at
    if not protocol.pairwise:
        return dumped(
            {
                "question_id": question.written_id,
                "answer_id": number,
                "model_id": model,
                "choices": [{"index": 0, "turns": texts}],
                "tstamp": at,
            }
        )
    count = conversation.answers[-1].completion_tokens
    messages = [
        {"role": "user", "content": question.turns[0]},
        {"role": "assistant", "content": {"answer": texts[0]}},
    ]
    row = {"uid": question.written_id, "ans_id": number, "model": model, "messages": messages, "tstamp": at}
    return dumped(row if count is None else {**row, "metadata": {"token_len": count}})
