"""Rows to tokens as the trainers see them: how long, how much of it is answer, what the limit cuts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import InputError
from crowdselect.progress import Progress
from crowdselect.train.rows import Messages, Row
from crowdselect.train.student import EXTRA, Student, one_line


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of one row; of a pair's two conversations the sums, `longest` the longer one's."""

    kept: int
    """Tokens that go through the model, once cut."""
    answer: int
    """Of them, those of the answer, which the loss is on."""
    longest: int
    """Before the cut."""
    is_cut: bool
    """Longer than the limit."""
    is_lost: bool
    """The limit leaves nothing of an answer."""
    is_bent: bool
    """The template writes the prompt differently when an answer follows."""


def lengths(
    rows: Sequence[Row], student: Student, *, limit: int, objective: str, progress: Progress | None = None
) -> list[Length]:
    """Count the tokens of rows.

    Args:
        rows: Any.
        student: With its tokenizer and template.
        limit: Tokens of a conversation.
        objective: What is minimised: `simpo` and `orpo` end an answer with one more token where it has none.
        progress: Told how far it is.

    Returns:
        One per row.

    Raises:
        InputError: The template refuses a row; the message names its id.
    """
    found = []
    for at, row in enumerate(rows):
        answers = [row.answer] if objective == "sft" or row.rejected is None else [row.answer, row.rejected]
        prompt = _ids(row, row.prompt, student, ask=True)
        parts = [_part(row, prompt, answer, student, limit=limit, objective=objective) for answer in answers]
        found.append(
            Length(
                kept=sum(part.kept for part in parts),
                answer=sum(part.answer for part in parts),
                longest=max(part.longest for part in parts),
                is_cut=any(part.is_cut for part in parts),
                is_lost=any(part.is_lost for part in parts),
                is_bent=any(part.is_bent for part in parts),
            )
        )
        if progress is not None:
            progress(at + 1, len(rows))
    return found


def _part(
    row: Row, prompt: list[int], answer: str, student: Student, *, limit: int, objective: str
) -> Length:
    whole = _ids(row, [*row.prompt, {"role": "assistant", "content": answer}], student, ask=False)
    begin = next(
        (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b),
        min(len(prompt), len(whole)),
    )
    if objective in {"simpo", "orpo"} and whole[-1] != student.tokenizer.eos_token_id:
        whole = [*whole, student.tokenizer.eos_token_id]
    kept = min(len(whole), limit)
    return Length(
        kept, max(0, kept - begin), len(whole), len(whole) > limit, begin >= kept, begin < len(prompt)
    )


def _ids(row: Row, messages: Messages, student: Student, *, ask: bool) -> list[int]:
    jinja: Any = optional("jinja2", extra=EXTRA)
    try:
        made = student.tokenizer.apply_chat_template(
            messages, add_generation_prompt=ask, tokenize=True, return_dict=True
        )
    except jinja.TemplateError as error:
        raise InputError(
            f"id {row.id!r}: the chat template refuses it: {one_line(error)}; leave the row out, or give another "
            "template with --chat-template"
        ) from error
    ids: list[int] = made["input_ids"]
    return ids
