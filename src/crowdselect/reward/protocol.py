"""The scorer protocol: conversations in, scores or reasons out."""

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
        messages: The conversation; the last message, the assistant's, is scored.
        reference: A correct answer, if the pool has one; only judges and verifiers use it.
        place: (id, model, sample), for scorers that look scores up instead of computing them.
    """

    messages: Chat
    reference: str | None = None
    place: tuple[str, str, int] = ("", "", 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one item: a finite score, higher is better, or the reason why there is none.

    Attributes:
        score: None if there is none.
        reason: None if there is a score.
        truncated: Whether the scorer saw only part of the conversation.
        passing: Whether a retry may succeed (the server was busy), so that `retry_failed=True` is worth it.
    """

    score: float | None = None
    reason: str | None = None
    truncated: bool = False
    passing: bool = False


Scored = list[tuple[int, Outcome]]
"""(position in the input sequence, outcome) of some items; recorded together."""


class Scorer(Protocol):
    """Scores items. Scores must not depend on which items are scored together."""

    @property
    def spec(self) -> str:
        """The scorer as the user named it, for messages."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that changes scores, as JSON values: part of the key of every score."""
        ...

    @property
    def paid(self) -> bool:
        """Whether scores are stored; not so if they are only looked up in a file."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Lines for the user, found while scoring."""
        ...

    def identity(self, item: Item) -> str:
        """Return everything in an item that its score depends on, as text."""
        ...

    def refusals(self, items: Sequence[Item]) -> Sequence[str | None]:
        """Say why items can have no score, whatever their answers say; None = they may have one. Costs little."""
        ...

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Score items in any order, a few at a time; every item is in exactly one of the lists.

        Raises:
            CrowdselectError: Nothing can be scored: the model or the server is unusable.
        """
        ...

    def costs(self, todo: int, characters: int) -> Mapping[str, Any]:
        """Estimate what scoring `todo` conversations of `characters` in total takes; `cost` is a readable line."""
        ...

    def close(self) -> None:
        """Free memory or connections; `notes` is complete afterwards."""
        ...


class BaseScorer:
    """Base class with what most scorers share."""

    paid = True
    """See `Scorer.paid`."""

    def __init__(self, spec: str, settings: Mapping[str, Any]) -> None:
        self.spec = spec
        self.settings = settings
        self.notes: list[str] = []

    def identity(self, item: Item) -> str:
        """Return the conversation; see `Scorer.identity`."""
        return conversation_text(item)

    def refusals(self, items: Sequence[Item]) -> Sequence[str | None]:
        """Refuse none; see `Scorer.refusals`."""
        return [None] * len(items)

    def costs(self, todo: int, characters: int) -> Mapping[str, Any]:  # noqa: ARG002  (what others need)
        """Return nothing: no request is paid for; see `Scorer.costs`."""
        return {}

    def close(self) -> None:
        """Do nothing; see `Scorer.close`."""


def outcome_of(value: float, *, truncated: bool = False) -> Outcome:
    """Make an outcome from a number; NaN and infinities are no scores.

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
    """Write a conversation as compact JSON, which most scores depend on alone."""
    return json.dumps(item.messages, ensure_ascii=False, separators=(",", ":"))


def settings_digest(scorer: Scorer) -> bytes:
    """Hash a scorer's settings: 32 bytes."""
    text = json.dumps(dict(scorer.settings), sort_keys=True, allow_nan=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def score_key(digest: bytes, identity: str) -> bytes:
    """Return a score's key in the ledger, 32 bytes; it depends on settings and content only."""
    return hashlib.sha256(
        digest + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
    ).digest()
