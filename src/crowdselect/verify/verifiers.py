"""The verifiers by name: what each compares by, and which references it cannot check."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from crowdselect.verify import choice, exact, mathematics
from crowdselect.verify.final import final_answer

RULES = 1
"""Version of how final answers are found and compared: with another one everything is checked again."""

_NO_ANSWERS = {"proof", "notfound", "not found"}  # what NuminaMath and its kin have where there is no answer


class Task(NamedTuple):
    """One answer to check; or, without an answer, the reference alone."""

    answer: str | None
    """The whole answer, without reasoning in `<think>`."""
    reference: str | None
    question: str = ""
    """The instruction's text; only for verifiers that read it."""


class Verdict(NamedTuple):
    """1 or 0, or the reason why there is neither."""

    score: float | None
    reason: str | None = None
    passing: bool = False
    """Whether another try may succeed: the time limit was hit, or the process died."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """How answers are compared with references."""

    words: str
    """For help and documents."""
    is_right: Callable[[str, str, str], bool | str]
    """Takes final answer, reference and question; a text says why they cannot be compared."""
    why_unreadable: Callable[[str, str], str | None]
    """Takes reference and question; says why the reference cannot be checked."""
    reads_question: bool = False
    doubts: Callable[[str, str], bool] | None = None
    """Takes reference and question; says whether answers are compared with it otherwise than `words` promise."""
    doubt: str = ""
    """What one then should know, after the number of such references."""
    needs: str | None = None
    """The optional package that it needs, which the extra `verify` installs."""


def _is_choice(answer: str, reference: str, question: str) -> bool | str:
    choices = choice.choices_in(question)
    wanted, given = (choice.letter_of(text, choices) for text in (reference, answer))
    if wanted is None:  # no choices are listed, and the reference is the text of one
        return exact.is_same_text(answer.casefold(), reference.casefold())
    if given is None and not choices:
        return "the answer names no letter, and the instruction lists no choices"
    return given == wanted


def _is_no_choice(reference: str, question: str) -> bool:
    choices = choice.choices_in(question)
    return not choices and choice.letter_of(reference, choices) is None


def _why_no_choice(reference: str, question: str) -> str | None:
    choices = choice.choices_in(question)
    letter = choice.letter_of(reference, choices)
    if not choices or letter in choices:
        return None
    return "the reference is none of the choices that the instruction lists"


VERIFIERS: dict[str, Verifier] = {
    "math": Verifier(
        "mathematics, by math-verify: LaTeX, numbers, sets, intervals, equations",
        lambda answer, reference, _: mathematics.is_right(answer, reference),
        lambda reference, _: mathematics.why_unreadable(reference),
        needs="math_verify",
    ),
    "exact": Verifier(
        "the same number, or the same text but for white space, markup and a full stop",
        lambda answer, reference, _: exact.is_right(answer, reference),
        lambda _reference, _question: None,
    ),
    "choice": Verifier(
        "the letter of a choice, or its text",
        _is_choice,
        _why_no_choice,
        reads_question=True,
        doubts=_is_no_choice,
        doubt="name no letter, and their instructions list no choices: answers are compared with them as texts",
    ),
}
"""Name → verifier."""


def check(verifier: Verifier, task: Task, extract: re.Pattern[str] | None = None) -> Verdict:
    """Check one answer, in this process and without a time limit.

    Args:
        verifier: One of `VERIFIERS`.
        task: What to check.
        extract: See `final_answer`.

    Returns:
        1 or 0; or, where the reference cannot be checked or no final answer is found, the reason. Of a task without an
        answer the reason alone.

    Example:
        >>> check(VERIFIERS["exact"], Task("I think the answer is **18 eggs**.", "18"))
        Verdict(score=1.0, reason=None, passing=False)
        >>> check(VERIFIERS["choice"], Task("(B)", "Oslo", "A. Rome" + chr(10) + "B. Bonn")).reason
        'the reference is none of the choices that the instruction lists'
    """
    reference = (task.reference or "").strip()
    reason = _why_no_reference(reference) or verifier.why_unreadable(reference, task.question)
    if reason is not None or task.answer is None:
        return Verdict(None, reason)
    final = final_answer(task.answer, extract)
    if final is None:
        return Verdict(
            None, "`extract` matches nothing in the answer" if extract else "the answer says nothing"
        )
    found = verifier.is_right(final, reference, task.question)
    return Verdict(None, found) if isinstance(found, str) else Verdict(float(found))


def is_doubtful(verifier: Verifier, reference: str | None, question: str) -> bool:
    """Tell whether answers are compared with a reference otherwise than the verifier's words promise.

    Example:
        >>> is_doubtful(VERIFIERS["choice"], "Oslo", "Capital?"), is_doubtful(VERIFIERS["choice"], "(B)", "Capital?")
        (True, False)
    """
    bare = (reference or "").strip()
    return verifier.doubts is not None and _why_no_reference(bare) is None and verifier.doubts(bare, question)


def _why_no_reference(reference: str) -> str | None:
    if not reference:
        return "the reference is empty"
    return f"the reference says {reference.lower()!r}" if reference.lower() in _NO_ANSWERS else None
