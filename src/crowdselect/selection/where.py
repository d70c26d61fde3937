"""Which rows a person wants to see: `difficulty > 0.5 and topic = maths`, a language of comparisons joined by `and`.

What a user writes is parsed here and compared with NumPy; none of it reaches the database.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crowdselect.errors import OptionError
from crowdselect.types import BoolArray, ObjectArray

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_TOKEN = re.compile(rf"\s*(?:(?P<quoted>{_QUOTED})|(?P<operator><=|>=|!=|=|<|>)|(?P<word>[^\s<>=!\"']+))")
_WANTED = "wanted NAME, a comparison (= != < <= > >=), VALUE, joined by `and`, such as: difficulty > 0.5 and topic = maths"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a named value with a constant."""

    name: str
    comparison: str
    """A key of `= != < <= > >=`."""
    value: str


def parse_where(text: str) -> list[Condition]:
    """Read conditions joined by `and`.

    Args:
        text: Names and values with spaces or signs in them stand in quotes.

    Returns:
        The conditions, at least one.

    Raises:
        OptionError: It is not of that form; the message says where.

    Example:
        >>> [c.name for c in parse_where('difficulty > 0.5 and "my topic" != maths')]
        ['difficulty', 'my topic']
    """
    tokens, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise OptionError(f"`where`: cannot be read from {text[at:].strip()[:40]!r} on; {_WANTED}")
        tokens.append(found)
        at = found.end()
    conditions = []
    while tokens:
        part, tokens = tokens[:3], tokens[3:]
        if len(part) < 3 or part[1]["operator"] is None or part[0]["operator"] or part[2]["operator"]:
            raise OptionError(f"`where`: cannot be read at {part[0].group().strip()!r}; {_WANTED}")
        conditions.append(Condition(_text(part[0]), part[1]["operator"], _text(part[2])))
        if tokens and (_joins(tokens[0]) is False or len(tokens) == 1):
            raise OptionError(f"`where`: cannot be read at {tokens[0].group().strip()!r}; {_WANTED}")
        tokens = tokens[1:]
    if not conditions:
        raise OptionError(f"`where` is empty; {_WANTED}")
    return conditions


def matching(conditions: list[Condition], column: Callable[[str], ObjectArray]) -> BoolArray:
    """Say which rows meet all conditions.

    Args:
        conditions: From `parse_where`.
        column: Gives the values of a name, shape (N,): numbers, booleans or text; None and NaN are missing. Raises
            what the user is to see where there is no such name.

    Returns:
        Shape (N,). A missing value meets no condition, not even `!=`.

    Raises:
        OptionError: A column of numbers is compared with text, or text by `<`, `<=`, `>` or `>=`.

    Example:
        >>> values = {"score": np.array([1.0, None, 3.0], dtype=object)}
        >>> matching(parse_where("score >= 2"), values.__getitem__).tolist()
        [False, False, True]
    """
    met: BoolArray | None = None
    for condition in conditions:
        found = _meets(condition, column(condition.name))
        met = found if met is None else met & found
    if met is None:
        raise ValueError("no condition")  # `parse_where` gives at least one
    return met


def _meets(condition: Condition, values: ObjectArray) -> BoolArray:
    compare = _OPERATORS[condition.comparison]
    present = np.array([value is not None and value == value for value in values.tolist()], dtype=np.bool_)  # noqa: PLR0124  (NaN)
    held = values[present].tolist()
    if held and all(isinstance(value, int | float) for value in held):  # booleans are 0 and 1
        wanted: Any = _number(condition)
    elif condition.comparison in {"=", "!="}:
        held, wanted = [str(value) for value in held], condition.value
    elif not held:
        return present
    else:
        raise OptionError(
            f"`where`: {condition.name} holds text, such as {str(held[0])[:40]!r}, and text is compared by = and != only"
        )
    met = np.zeros(len(values), dtype=np.bool_)
    met[present] = [bool(compare(value, wanted)) for value in held]
    return met


def _number(condition: Condition) -> float:
    word = condition.value.casefold()
    if word in {"true", "false"}:
        return float(word == "true")
    try:
        return float(condition.value)
    except ValueError:
        raise OptionError(
            f"`where`: {condition.name} holds numbers, and {condition.value!r} is none"
        ) from None


def _text(token: re.Match[str]) -> str:
    quoted = token["quoted"]
    return token["word"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1:-1])


def _joins(token: re.Match[str]) -> bool:
    return token["word"] is not None and token["word"].casefold() == "and"
