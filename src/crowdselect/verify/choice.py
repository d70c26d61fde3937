"""Compare an answer with a reference as choices of a question: by letter, or by the text of a choice."""

import re
from collections.abc import Mapping

from crowdselect.verify.exact import is_same_text, plain_number

_MARK = re.compile(r"(?:(?<=\s)|(?<=^))[*_]{0,2}\(?([A-Z])[).:][*_]{0,2}(?=\s)")
_LETTER = r"[\s\"'*_`$({\[]*([A-Za-z])"
_ALONE = re.compile(rf"(?:\\text\s*)?{_LETTER}[\s\"'*_`$)}}\].:]*")
_LED = re.compile(rf"{_LETTER}[*_]*[).:\]}}](?=[\s*_$.]|$)")
_NAMED = re.compile(r"(?i:\b(?:option|choice|answer)\b(?:\s+is\b)?)[\s:*_`$(\[]*([A-Za-z])(?![A-Za-z])")


def choices_in(question: str) -> dict[str, str]:
    """Find the choices that a question lists: `A. ...`, `(B) ...`, `C: ...`, in the order of the alphabet from A on.

    Args:
        question: The text of an instruction.

    Returns:
        Letter → text, of the last such list; empty = there is none.

    Example:
        >>> choices_in("Which is largest? (A) a cat (B) a whale")
        {'A': 'a cat', 'B': 'a whale'}
        >>> choices_in("Largest?" + chr(10) + "A. cat" + chr(10) + "B. whale" + chr(10) + "Reply with a letter.")
        {'A': 'cat', 'B': 'whale'}
    """
    marks = list(_MARK.finditer(question))
    begins = [at for at, mark in enumerate(marks) if mark[1] == "A"]
    for begin in reversed(begins):
        run = [marks[begin]]
        for mark in marks[begin + 1 :]:
            if ord(mark[1]) == ord(run[-1][1]) + 1:
                run.append(mark)
        if len(run) > 1:
            ends = [mark.start() for mark in run[1:]] + [len(question)]
            texts = (question[mark.end() : end].strip() for mark, end in zip(run, ends, strict=True))
            return {mark[1]: text.partition("\n")[0].strip() for mark, text in zip(run, texts, strict=True)}
    return {}


def letter_of(text: str, choices: Mapping[str, str]) -> str | None:
    """Find the choice that a text names.

    Args:
        text: A final answer, or a reference.
        choices: From `choices_in`.

    Returns:
        Its letter, a capital; None = the text names none, or several.

    Example:
        >>> choices = {"A": "a cat", "B": "a whale"}
        >>> letter_of("(b)", choices), letter_of("a whale.", choices), letter_of("**B**: a whale", {}), letter_of("A whale", choices)
        ('B', 'B', 'B', 'B')
        >>> letter_of("It is a whale", choices), letter_of("a cat or a whale", choices)
        ('B', None)
    """
    same = [letter for letter, own in choices.items() if _is_same(text, own)]
    if len(same) == 1:
        return same[0]
    alone = _ALONE.fullmatch(text)
    named = {match[1].upper() for match in _NAMED.finditer(text)}
    letter = alone or _LED.match(text)
    found = {letter[1].upper()} if letter else named
    if not found:
        inside = (letter for letter, own in choices.items() if _holds(text, own))
        found = set(inside)
    return next(iter(found)) if len(found) == 1 else None


def _is_same(text: str, own: str) -> bool:
    number, wanted = plain_number(text), plain_number(own)
    if number is not None and wanted is not None:
        return number.equals(wanted)
    return bool(own) and is_same_text(text.casefold(), own.casefold())


def _holds(text: str, own: str) -> bool:
    bare = own.casefold().rstrip(".")
    return bool(bare) and re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", text.casefold()) is not None
