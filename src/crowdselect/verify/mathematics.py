r"""Compare an answer with a reference as mathematics, by the package math-verify (extra `verify`).

Two plain numbers are compared as in `exact`. Everything else is read as LaTeX and compared by math-verify; where the
reference is a plain number, the number among the answer's words counts, too. math-verify's own time limits need signals
and are off: a process that checks has a limit of its own, see `processes`.
"""

import logging
import re
from functools import lru_cache
from typing import Any

from crowdselect._optional import optional
from crowdselect.verify.exact import number_in, plain_number

_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed|\\begin\{(?:equation|align)")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FEW_WORDS, _MANY_WORDS = 3, 6


def is_right(answer: str, reference: str) -> bool:
    r"""Compare an answer with a reference.

    Args:
        answer: A final answer, with or without `$`.
        reference: The right one, likewise; one that `why_unreadable` passes.

    Raises:
        MissingExtraError: The extra `verify` is not installed.
    """
    wanted, given = plain_number(reference), plain_number(answer)
    if wanted is not None and given is not None:
        return given.equals(wanted)
    math_verify = _package()
    if math_verify.verify(list(_parsed(reference)), list(_parsed(answer)), timeout_seconds=None):
        return True
    given = None if wanted is None else number_in(answer)
    return wanted is not None and given is not None and given.equals(wanted)


def why_unreadable(reference: str) -> str | None:
    """Say why a reference is nothing to compare with; None = it is.

    Args:
        reference: Not empty.

    Raises:
        MissingExtraError: The extra `verify` is not installed.
    """
    if plain_number(reference) is not None:
        return None
    words = len(_WORD.findall(_COMMAND.sub(" ", reference)))
    if words >= (_FEW_WORDS if reference.strip()[0].isalpha() else _MANY_WORDS):
        return "the reference is a sentence, not an expression"
    if all(isinstance(part, str) for part in _parsed(reference)):
        return "the reference cannot be read as mathematics"
    return None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[Any, ...]:
    """Read a text as LaTeX; nothing where it is none."""
    latex = text if _DELIMITED.search(text) else f"${text}$"
    return tuple(_package().parse(latex, parsing_timeout=None))


@lru_cache(maxsize=1)
def _package() -> Any:  # noqa: ANN401  (a module)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # that its time limits are off is meant so
    return optional("math_verify", extra="verify")
