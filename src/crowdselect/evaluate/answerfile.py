"""Answers of a model to a benchmark: read from files made elsewhere, or written in their form."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike

from crowdselect.ask.calls import ANSWERED
from crowdselect.ask.conversations import Talk
from crowdselect.errors import InputError
from crowdselect.evaluate.jsonl import dumped, read_rows, text_at
from crowdselect.evaluate.protocols import Protocol
from crowdselect.evaluate.questions import Question, answer_turns

NO_ANSWER = "no answer in the file"


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered.

    Attributes:
        model: Its name.
        turns: Per question the texts of its turns, as far as there are any.
        tokens: Per question the tokens of these turns; None = not counted.
        missing: Per question and turn (from 0) why there is no text.
        lines: What a file of these answers holds.
        notes: Facts to tell the user.
    """

    model: str
    turns: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, tuple[int | None, ...]]
    missing: Mapping[tuple[str, int], str]
    lines: Sequence[str]
    notes: list[str] = field(default_factory=list)


def read_answers(
    path: str | PathLike[str], questions: Sequence[Question], *, name: str | None = None
) -> Answers:
    """Read a model's answers.

    Args:
        path: As of FastChat (`question_id`, `model_id`, `choices`) or arena-hard-auto (`uid`, `model`, `messages`).
        questions: What was asked; answers to others are kept in `lines`, but count for nothing.
        name: The model, where the file holds several.

    Returns:
        Its answers; the lines as they stand in the file.

    Raises:
        InputError: The file is broken, holds several models and none is named, or answers a question twice.
    """
    rows = [(text_at(row, "model_id", "model"), row) for row in read_rows(path)]
    model = chosen_model(path, [model for model, _ in rows], name)
    turns: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, tuple[int | None, ...]] = {}
    lines = []
    for found, row in rows:
        if found != model:
            continue
        id_ = text_at(row, "question_id", "uid")
        if id_ in turns:
            raise InputError(f"{row.where}: {model!r} answers question {id_!r} twice; keep one")
        said = answer_turns(row)
        turns[id_], tokens[id_] = tuple(text for text, _ in said), tuple(count for _, count in said)
        lines.append(row.text)
    missing = {
        (question.id, turn): NO_ANSWER
        for question in questions
        for turn in range(len(turns.get(question.id, ())), len(question.turns))
    }
    others = len(turns.keys() - {question.id for question in questions})
    notes = [f"{path}: {others} answers to questions that are not asked here"] if others else []
    return Answers(model, turns, tokens, missing, lines, notes)


def chosen_model(path: str | PathLike[str], models: Sequence[str], name: str | None) -> str:
    """Say which model of a file is meant.

    Raises:
        InputError: Several are there and none is named, or the named one is not there.

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
        raise InputError(f"{path}: there are {len(found)} models; name one with --name: {listed}")
    return found[0]


def from_talks(
    model: str, questions: Sequence[Question], talks: Mapping[str, Talk], protocol: Protocol
) -> Answers:
    """Make answers of conversations in the ledger."""
    turns: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, tuple[int | None, ...]] = {}
    missing: dict[tuple[str, int], str] = {}
    lines = []
    for question in questions:
        talk = talks[question.id]
        said = [answer for answer in talk.answers if answer.status in ANSWERED]
        if said:
            turns[question.id] = tuple(answer.text or "" for answer in said)
            tokens[question.id] = tuple(answer.completion_tokens for answer in said)
        for turn in range(len(said), len(question.turns)):
            missing[question.id, turn] = (
                talk.missing[1] if turn == len(said) else "the turn before has no answer"
            )
        if talk.is_whole:
            lines.append(_line(model, question, talk, protocol))
    return Answers(model, turns, tokens, missing, lines)


def _line(model: str, question: Question, talk: Talk, protocol: Protocol) -> str:
    """Write one answer as the benchmark's own tools do; its number and time come from the ledger."""
    texts = [answer.text or "" for answer in talk.answers]
    number = hashlib.sha256(talk.answers[0].key).hexdigest()[:22]
    at = talk.answers[-1].at
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
    count = talk.answers[-1].completion_tokens
    messages = [
        {"role": "user", "content": question.turns[0]},
        {"role": "assistant", "content": {"answer": texts[0]}},
    ]
    row = {"uid": question.written_id, "ans_id": number, "model": model, "messages": messages, "tstamp": at}
    return dumped(row if count is None else {**row, "metadata": {"token_len": count}})
