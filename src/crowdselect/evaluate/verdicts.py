"""Verdicts: how a judge's reply is read, one verdict or none and a reason; judgements in files, made elsewhere or ours."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import NamedTuple

from crowdselect.errors import InputError
from crowdselect.evaluate.files import Question, Row, chosen_model, read_rows, text_at
from crowdselect.evaluate.protocols import Protocol
from crowdselect.finish import spoken

LOWEST, HIGHEST = 1, 10
STRONG = 3
"""Verdicts that a strong one counts as."""
LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
"""From `A` far better to `B` far better."""

_RATING = re.compile(r"\[\[\s*(-?\d+(?:\.\d+)?)\s*\]\]")
_SAID = re.compile(r"\brating\b[\s\"'*_`]*[:=][\s\"'*_`]*\[?\s*(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_LABEL = re.compile(r"\[\[\s*([AB][<>=]{1,2}[AB]|[ABC])\s*\]\]")
_SPELT = {"B=A": "A=B", "A<B": "B>A", "A<<B": "B>>A", "B<A": "A>B", "B<<A": "A>>B"}
_LETTERS = {"A": "A>B", "B": "B>A", "C": "A=B"}  # of FastChat's prompts for pairs
_SHOWN = 60

GAMES = 2
"""Verdicts on a pair: first the baseline's answer is shown as A, then the model's."""

NO_JUDGEMENT = "no judgement in the file"


class Reading(NamedTuple):
    """What a reply says: a rating or a label, or why there is none."""

    rating: float | None = None
    label: str | None = None
    reason: str | None = None

    @property
    def is_missing(self) -> bool:
        """No verdict can be read."""
        return self.rating is None and self.label is None


def read_rating(text: str) -> Reading:
    """Read a rating from 1 to 10 off a reply.

    Args:
        text: What the judge wrote: `[[N]]` somewhere in it, or else `Rating: N`. Several that agree are one.

    Example:
        >>> read_rating("Good, but short. Rating: [[7]]").rating
        7.0
        >>> read_rating("[[2]] or rather [[9]]").reason
        'the judge gives 2 verdicts: 2, 9'
        >>> read_rating("[[11]]").reason
        'the judge says 11, which is outside 1 to 10'
    """
    said = spoken(text)
    found = sorted({float(value) for value in _RATING.findall(said) or _SAID.findall(said)})
    if len(found) != 1:
        return Reading(reason=_unclear([f"{value:g}" for value in found], text))
    if not LOWEST <= found[0] <= HIGHEST:
        return Reading(reason=f"the judge says {found[0]:g}, which is outside {LOWEST} to {HIGHEST}")
    return Reading(rating=found[0])


def read_label(text: str) -> Reading:
    """Read which of two answers is better off a reply.

    Args:
        text: What the judge wrote: one of `[[A>>B]]`, `[[A>B]]`, `[[A=B]]`, `[[B>A]]`, `[[B>>A]]`, or FastChat's
            `[[A]]`, `[[B]]`, `[[C]]`. Several that agree are one.

    Example:
        >>> read_label("My final verdict is: [[A>>B]]").label, read_label("[[C]]").label
        ('A>>B', 'A=B')
        >>> read_label("I like both.").reason
        "no verdict can be read in 'I like both.'"
    """
    known = {label for written in _LABEL.findall(spoken(text)) if (label := canonical(written)) is not None}
    found = [label for label in LABELS if label in known]
    return Reading(label=found[0]) if len(found) == 1 else Reading(reason=_unclear(found, text))


def canonical(written: str) -> str | None:
    """Give a label as one of `LABELS`; None where it is none.

    Example:
        >>> canonical("A<<B"), canonical("A>A")
        ('B>>A', None)
    """
    label = _SPELT.get(written, _LETTERS.get(written, written))
    return label if label in LABELS else None


def weighed(label: str) -> tuple[float, int]:
    """Give what a label means for A: its share of the win (0, 0.5 or 1), and how much the verdict counts.

    Example:
        >>> weighed("A>>B"), weighed("A=B"), weighed("B>A")
        ((1.0, 3), (0.5, 1), (0.0, 1))
    """
    place = LABELS.index(label)
    return (1.0, 1.0, 0.5, 0.0, 0.0)[place], STRONG if place in {0, 4} else 1


def _unclear(found: list[str], text: str) -> str:
    if found:
        return f"the judge gives {len(found)} verdicts: {', '.join(found[:5])}"
    shown = " ".join((spoken(text) or text)[: 20 * _SHOWN].split())
    return f"no verdict can be read in {shown[:_SHOWN]!r}" if shown else "the judge's reply is empty"


_UNREAD = Reading(reason="the file has no verdict that can be used")

Verdicts = Mapping[tuple[str, int], Reading]
"""By question and turn (MT-Bench) or game (Arena-Hard), both from 0."""


@dataclass(frozen=True, slots=True)
class Judgements:
    """What one judge said about one model.

    Attributes:
        model: Whose answers were judged.
        judge: Who judged.
        baseline: Whom they were laid beside; None where they were graded alone.
        verdicts: Per question and turn or game; with a reason where there is none.
        lines: What a file of these judgements holds.
        notes: Facts to tell the user.
    """

    model: str
    judge: str
    baseline: str | None
    verdicts: Verdicts
    lines: Sequence[str]
    notes: list[str] = field(default_factory=list)


def slots_of(question: Question, protocol: Protocol) -> int:
    """Say how many verdicts a question gets."""
    return GAMES if protocol.pairwise else len(question.turns)


def read_judgements(
    path: str | PathLike[str], questions: Sequence[Question], protocol: Protocol, *, name: str | None = None
) -> Judgements:
    """Read the judgements of one model.

    Args:
        path: As of FastChat's single-answer grading (`question_id`, `model`, `score`, `turn`) or of arena-hard-auto
            (`uid` or `question_id`, `model`, `games`).
        questions: What was asked.
        protocol: The benchmark.
        name: The model, where the file holds several.

    Returns:
        Its judgements; the lines as they stand in the file. Where a turn was judged twice, the later line counts.

    Raises:
        InputError: The file is broken, holds several models and none is named, or several judges or baselines.
    """
    rows = [(text_at(row, "model"), row) for row in read_rows(path)]
    model = chosen_model(path, [found for found, _ in rows], name)
    own = [row for found, row in rows if found == model]
    read = _games if protocol.pairwise else _grade
    verdicts: dict[tuple[str, int], Reading] = {}
    twice = 0
    for row in own:
        found = read(row)
        twice += any(place in verdicts for place in found)
        verdicts.update(found)
    wanted = [(q.id, slot) for q in questions for slot in range(slots_of(q, protocol))]
    kept = {place: verdicts.get(place, Reading(reason=NO_JUDGEMENT)) for place in wanted}
    notes = (
        [f"{path}: {twice} lines judge what an earlier line judged; the later ones count"] if twice else []
    )
    others = len({id_ for id_, _ in verdicts} - {question.id for question in questions})
    notes += [f"{path}: judgements of {others} questions that are not asked here"] if others else []
    return Judgements(
        model,
        _only(path, own, _judge) or "unknown",
        _only(path, own, lambda row: row.value.get("baseline")) if protocol.pairwise else None,
        kept,
        [row.text for row in own],
        notes,
    )


def _only(path: str | PathLike[str], rows: Sequence[Row], read: Callable[[Row], object]) -> str | None:
    """Give what all rows name; a file that mixes judges or baselines mixes measurements."""
    found = list(dict.fromkeys(str(value) for row in rows if (value := read(row)) is not None))
    if len(found) > 1:
        raise InputError(
            f"{path}: the judgements are by or against several: {', '.join(found[:5])}; keep one"
        )
    return found[0] if found else None


def _judge(row: Row) -> object:
    judge = row.value.get("judge")
    return judge[0] if isinstance(judge, list) and judge else judge


def _grade(row: Row) -> dict[tuple[str, int], Reading]:
    turn, score = row.value.get("turn", 1), row.value.get("score")
    if not isinstance(turn, int) or turn < 1:
        raise InputError(f"{row.where}: turn is {str(turn)[:60]!r}; wanted 1 or 2")
    usable = isinstance(score, int | float) and not isinstance(score, bool) and LOWEST <= score <= HIGHEST
    reading = Reading(rating=float(score)) if usable else _UNREAD  # type: ignore[arg-type]  # a number where usable
    return {(text_at(row, "question_id", "uid"), turn - 1): reading}


def _games(row: Row) -> dict[tuple[str, int], Reading]:
    games = row.value.get("games")
    if not isinstance(games, list) or len(games) != GAMES:
        raise InputError(f"{row.where}: wanted {GAMES} games, one for each order of the answers")
    id_ = text_at(row, "uid", "question_id")
    found = {}
    for slot, game in enumerate(games):
        score = game.get("score") if isinstance(game, dict) else None
        label = canonical(score) if isinstance(score, str) else None
        found[id_, slot] = _UNREAD if label is None else Reading(label=label)
    return found
