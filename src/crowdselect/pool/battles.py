"""Rows with the answers of several models whose names stand beside them: battles, and preference pairs of named models.

Other rows may be about the same instruction. So a row is parted into one for each of its sides (A and B, 1 and 2, chosen and
rejected), which are then read like rows with one answer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from crowdselect.pool.columns import Columns
from crowdselect.pool.content import ROLES, written
from crowdselect.pool.howread import HowRead
from crowdselect.pool.layouts import FIRST_REWARDS, no_model
from crowdselect.pool.parts import Names, has_lists, is_said
from crowdselect.pool.rowfiles import Row
from crowdselect.pool.rowforms import (
    Answer,
    Fitted,
    is_number,
    may_hold_numbers,
    number_in,
    text_of,
)

PAIR = ("chosen", "rejected")
"""The sides of a preference pair, and usually the columns of its answers."""

_SIDE, _SAID = "_side", "_said"  # what is put into a parted row: its side, and the answer
_KINDS = tuple(map(re.compile, (r"[a-z]", r"\d+", "|".join(PAIR))))
_ANY = re.compile(r"\w+")
_CHATS = ("conversation", "messages")
_ANSWERS = (*_CHATS, "response", "answer", "output", "completion", "generation", "text", "message")
_MODELS = frozenset({"model", "generator"})
_NAMES = frozenset({*_MODELS, "name", "id"})
_WON = frozenset({"winner", "win", "won", "preferred", "preference", "vote", "votes", "label"})
"""Words of numbers that say which answer is better, and not how good each is."""


@dataclass(slots=True)
class Side:
    """The columns of one side."""

    model: str | None = None
    answer: str | None = None
    numbers: dict[str, str] = field(default_factory=dict)
    """What each of its numbers is called → its column."""


def sides_of(columns: Columns) -> dict[str, Side]:
    """Find the sides of a row whose models are named.

    Returns:
        Side → its columns; those of the first kind of sides of which two are named, else none.

    Example:
        >>> from crowdselect.pool.columns import Kind
        >>> kinds = {"model_a": Kind("text"), "model_b": Kind("text"), "b_score": Kind("number")}
        >>> sides_of(kinds)
        {'a': Side(model='model_a', answer=None, numbers={}), 'b': Side(model='model_b', answer=None, numbers={'score': 'b_score'})}
    """
    for kind in (*_KINDS, _ANY):
        named = {place: side for place, side in _sides(columns, kind).items() if side.model is not None}
        if kind is _ANY:  # `judge_model` alone makes no side
            named = {place: side for place, side in named.items() if side.answer is not None}
        if len(named) > 1:
            return named
    return {}


def pair_of(columns: Columns) -> dict[str, Side] | None:
    """Find the sides of a preference pair, whether its models are named or not; None where there is none."""
    sides = _sides(columns, _KINDS[-1])
    return sides if len(sides) == len(PAIR) and all(side.answer for side in sides.values()) else None


def unread_answers(columns: Columns, names: Names) -> list[str]:
    """Find the answers that are not read where the model or the response is that of one side of a row.

    Example:
        >>> from crowdselect.pool.columns import Kind
        >>> kinds = {"prompt": Kind("text"), "chosen": Kind("text"), "rejected": Kind("text")}
        >>> unread_answers(kinds, Names(instruction="prompt", response="chosen"))
        ['rejected']
    """
    for kind in _KINDS:
        sides = _sides(columns, kind).values()
        if any(
            (name is not None) and name in {names.model, names.response}
            for side in sides
            for name in (side.model, side.answer)
        ):
            return [side.answer for side in sides if side.answer not in {None, names.response}]
    return []


def _sides(columns: Columns, kind: re.Pattern[str]) -> dict[str, Side]:
    """The sides of one kind, whether their names stand before or after what a column holds."""
    found: dict[str, Side] = {}
    for name, held in columns.items():
        words = _words(name)
        for place in filter(kind.fullmatch, dict.fromkeys(words)):
            rest = [word for word in words if word != place]
            what = [word for word in rest if word not in _MODELS]
            side = found.get(place, Side())
            if held.name == "text" and set(rest) & _MODELS and set(rest) <= _NAMES:
                side.model = side.model or name
            elif is_said(held) and (what in [[word] for word in _ANSWERS] or (not rest and place in PAIR)):
                side.answer = name if side.answer is None else min(side.answer, name, key=_completeness)
            elif may_hold_numbers(held) and what and not set(what) & _WON:
                side.numbers["_".join(what)] = name
            else:
                continue
            found[place] = side
    return found


def _words(name: str) -> list[str]:
    """The words of a column's name, in small letters: `score_a`, `Score A`, `a-score` and `scoreA` have the same."""
    return [
        word.casefold() for word in re.findall(r"\d+|[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    ]


def _completeness(name: str) -> int:
    """A rank of columns of answers: conversations, which hold what was asked, come first."""
    return next((at for at, word in enumerate(_ANSWERS) if word in _words(name)), len(_ANSWERS))


def _asks(value: Any) -> bool:  # noqa: ANN401  (whatever a file holds)
    """Whether an answer is a conversation that holds what was asked, too."""
    turns = value if isinstance(value, list) and all(isinstance(turn, dict) for turn in value) else []
    roles = [str(turn.get("role") or turn.get("from")).strip().lower() for turn in turns]
    return any(ROLES.get(role, "assistant") != "assistant" for role in roles)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Reads the rows of a file by its sides."""

    sides: dict[str, Side]
    shared: list[str]
    """What the numbers are called that all sides have."""
    messages: str

    def parted(self, row: Row) -> Iterator[Row]:
        """A row for each side that holds something; the row itself where none does."""
        empty = True
        for place, side in self.sides.items():
            said = row.get(side.answer or "")
            if said in (None, "", []) and all(row.get(side.numbers[name]) is None for name in self.shared):
                continue
            empty = False
            chat = written(said)
            yield {**row, _SIDE: place, **({self.messages: chat} if _asks(chat) else {_SAID: said})}
        if empty:
            yield row

    def answers(self, row: Row) -> Iterator[Answer]:
        """The answer of a parted row."""
        if _SIDE not in row:
            return
        side = self.sides[row[_SIDE]]
        model = text_of(row.get(side.model or ""))
        values = {name: number_in(row, side.numbers[name]) for name in self.shared}
        unnamed = f"{side.model} is missing; wanted the name of a model"
        yield Answer(model, row.get(_SAID), values=values, unnamed=unnamed)


def _complete(columns: Columns) -> tuple[dict[str, Side], list[str]]:
    """The sides with a model and an answer, or where none has an answer with a number; and the rewards that all have."""
    sides = {place: side for place, side in sides_of(columns).items() if side.answer or side.numbers}
    if any(side.answer for side in sides.values()):
        sides = {place: side for place, side in sides.items() if side.answer}
    names = dict.fromkeys(name for side in sides.values() for name in side.numbers)
    every = [name for name in names if all(name in side.numbers for side in sides.values())]
    return sides, [name for name in every if not no_model(name)]


def fit_battles(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise a row with the answers or the scores of two models or more, and a column with the name of each."""
    sides, shared = _complete(columns)
    if len(sides) < 2 or has_lists(columns) or {"model", "response"} & set(how.named):
        return None
    scored = any(FIRST_REWARDS.fullmatch(name) and is_number(kind) for name, kind in columns.items())
    own = names.model is not None and names.response is not None and (names.response == "response" or scored)
    if own and how.layout != "battles":
        return None  # the row is an answer itself
    if set(sides) != set(PAIR) and not shared:
        return None  # who won says nothing of how good both are
    chats = any(
        side.answer and (columns[side.answer].name == "list" or _completeness(side.answer) < len(_CHATS))
        for side in sides.values()
    )
    if not (names.asked or names.id is not None or chats):
        return None
    rows = _Rows(sides, shared, names.messages or "messages")
    apart = [name for name in ("model", "response", "sample", *shared) if name in columns]
    notes = [f"not read: {', '.join(apart)}"] if apart else []
    parts = [(side.model, side.answer, *map(side.numbers.get, shared)) for side in sides.values()]
    taken = frozenset(name for part in (apart, *parts) for name in part if name is not None)
    return Fitted(
        name="battles",
        says=f"the answers of {', '.join(str(side.model) for side in sides.values())}",
        answers=rows.answers,
        names=replace(names.without_answer(*notes), response=_SAID, messages=rows.messages),
        taken=taken,
        fields=tuple(shared),
        parted=rows.parted,
        side_by_side=len(sides),
    )
