"""The questions of a benchmark and their reference answers, from FastChat's and arena-hard-auto's files."""

from dataclasses import dataclass
from os import PathLike
from typing import Any

from crowdselect.errors import InputError
from crowdselect.evaluate.jsonl import Row, read_rows, text_at
from crowdselect.evaluate.protocols import Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """A question.

    Attributes:
        id: As text.
        written_id: As the file has it: a text or a whole number.
        category: Of the benchmark; empty where the file names none.
        turns: The user's turns that are asked.
        temperature: That the question asks for itself; None = the benchmark's.
    """

    id: str
    written_id: str | int
    category: str
    turns: tuple[str, ...]
    temperature: float | None = None


def read_bench(path: str | PathLike[str], protocol: Protocol) -> list[Question]:
    """Read the questions, in the order of the file.

    Args:
        path: Lines with `question_id` or `uid`, `turns` (texts, or objects with `content`) or `prompt`, and
            `category`.
        protocol: Of its turns, so many are asked.

    Raises:
        InputError: The file is broken, a question has no text, or an id stands there twice.

    Example:
        >>> from crowdselect.evaluate.protocols import MT_BENCH
        >>> read_bench("no-such-file.jsonl", MT_BENCH)
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.jsonl: no such file; wanted lines of JSON; check the path
    """
    found: dict[str, Question] = {}
    for row in read_rows(path):
        question = _question(row, protocol)
        if question.id in found:
            raise InputError(f"{row.where}: question {question.id!r} stands in the file twice; keep one")
        found[question.id] = question
    return list(found.values())


def read_references(path: str | PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read reference answers, one per turn, by the questions' ids; the form is that of a file of answers.

    Raises:
        InputError: The file is broken, or holds two references for a question.
    """
    found: dict[str, tuple[str, ...]] = {}
    for row in read_rows(path):
        id_ = text_at(row, "question_id", "uid")
        if id_ in found:
            raise InputError(f"{row.where}: there are two reference answers to question {id_!r}; keep one")
        found[id_] = tuple(text for text, _ in answer_turns(row))
    return found


def answer_turns(row: Row) -> list[tuple[str, int | None]]:
    """Read the texts of an answer's turns, and their tokens where the file counts them.

    The first of FastChat's `choices` counts; of arena-hard-auto's `messages` the assistant's.

    Raises:
        InputError: There is neither, or a turn holds no text.
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


def _question(row: Row, protocol: Protocol) -> Question:
    value = row.value
    id_ = text_at(row, "question_id", "uid")
    turns = value.get("turns", [value["prompt"]] if "prompt" in value else None)
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{row.where}: question {id_!r} has no turns and no prompt")
    texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns][: protocol.turns]
    said = [text for text in texts if isinstance(text, str) and text.strip()]
    if len(said) < len(texts):
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
        tuple(said),
        None if temperature is None else float(temperature),
    )
