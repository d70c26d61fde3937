"""What passes between the runner and a scorer: conversations in, scores or reasons out."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from crowdselect.pool.prompts import Chat

NOT_A_NUMBER = "the scorer gave NaN"
INFINITE = "the scorer gave an infinite number"


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to score.

    Attributes:
        messages: The conversation; the last message is the assistant's, and it is what is scored.
        reference: A correct answer, where the pool has one; only judges look at it.
        place: (id, model, sample), for scorers that look scores up instead of computing them.
    """

    messages: Chat
    reference: str | None = None
    place: tuple[str, str, int] = ("", "", 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item: a finite score, higher is better, or the reason why there is none.

    Attributes:
        score: None where there is none.
        reason: None where there is a score.
        truncated: The scorer saw a part of the conversation only.
        passing: Asking again may give a score (a busy server), so `retry_failed=True` is worth it.
    """

    score: float | None = None
    reason: str | None = None
    truncated: bool = False
    passing: bool = False


Scored = list[tuple[int, Outcome]]
"""(place in the sequence that was given, outcome) of some items; recorded together."""


class Scorer(Protocol):
    """Gives scores. Which items are scored together must not change a score."""

    @property
    def spec(self) -> str:
        """What the user asked for, for messages."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that changes scores, as JSON can hold it: part of the key of every score."""
        ...

    @property
    def paid(self) -> bool:
        """Scores are worth keeping in the ledger; not so where they are only looked up in a file."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know, found while scoring."""
        ...

    def identity(self, item: Item) -> str:
        """Everything of an item that its score depends on, as text."""
        ...

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Score items in any order, a few at a time; every item is in exactly one of the lists.

        Raises:
            CrowdselectError: Nothing can be scored: the model or the server is not what it should be.
        """
        ...

    def costs(self, todo: int, characters: int) -> Mapping[str, Any]:
        """Say what scoring so many conversations of so many characters takes; `cost` is for people."""
        ...

    def close(self) -> None:
        """Let go of memory or connections; the last notes are there afterwards."""
        ...


class BaseScorer:
    """What most scorers have in common."""

    paid = True
    """See `Scorer.paid`."""

    def __init__(self, spec: str, settings: Mapping[str, Any]) -> None:
        self.spec = spec
        self.settings = settings
        self.notes: list[str] = []

    def identity(self, item: Item) -> str:
        """Give the conversation; see `Scorer.identity`."""
        return conversation_text(item)

    def costs(self, todo: int, characters: int) -> Mapping[str, Any]:  # noqa: ARG002  (what others need)
        """Nothing is sent to anybody who counts; see `Scorer.costs`."""
        return {}

    def close(self) -> None:
        """There is nothing to let go of; see `Scorer.close`."""


def outcome_of(value: float, *, truncated: bool = False) -> Outcome:
    """Make an outcome of a number as it came; NaN and infinities are no scores.

    Example:
        >>> outcome_of(1.5).score, outcome_of(float("nan")).reason
        (1.5, 'the scorer gave NaN')
    """
    if math.isnan(value):
        return Outcome(reason=NOT_A_NUMBER, truncated=truncated)
    if math.isinf(value):
        return Outcome(reason=INFINITE, truncated=truncated)
    return Outcome(score=float(value), truncated=truncated)


def conversation_text(item: Item) -> str:
    """Write a conversation as compact JSON: what most scores depend on."""
    return json.dumps(item.messages, ensure_ascii=False, separators=(",", ":"))


def settings_digest(scorer: Scorer) -> bytes:
    """Hash a scorer's settings: 32 bytes."""
    text = json.dumps(dict(scorer.settings), sort_keys=True, allow_nan=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def score_key(digest: bytes, identity: str) -> bytes:
    """Give the 32 bytes that the ledger knows a score by, wherever and whenever it is computed."""
    return hashlib.sha256(
        digest + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
    ).digest()
