"""A pool's answers a window at a time: which can be scored, which are scored, and which are left."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from crowdselect.ask.ledger import Answer, now
from crowdselect.finish import ENDINGS
from crowdselect.pool.batches import AnswerBatch
from crowdselect.pool.pool import Pool
from crowdselect.reward.protocol import Item, Outcome, Scorer, score_key, settings_digest

WINDOW = 2048
"""Answers in memory at a time, and sorted by length together."""
NO_ANSWER = "the answer is empty"
NO_INSTRUCTION = "the instruction has no text"
UNFINISHED: Mapping[str, str] = {
    "cut": "the answer was cut off",
    "filtered": "the answer was withheld by a content filter",
    "failed": "the answer was broken off by an error",
}
"""How an answer ended, where it did not come to its end → the reason why a scorer of whole answers gives it no score."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What of the pool a scorer reads besides conversations.

    Attributes:
        references: The column of right answers; None = none is read.
        whole_only: An answer that did not come to its end, as far as the pool says so, has no score.
    """

    references: str | None = None
    whole_only: bool = False


CONVERSATIONS = Reading()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of scores to compute, its scorer, and what that reads."""

    name: str
    scorer: Scorer
    digest: bytes
    reading: Reading = CONVERSATIONS

    @classmethod
    def of(cls, name: str, scorer: Scorer, reading: Reading = CONVERSATIONS) -> "Column":
        """Make a column; the scorer's settings must not change afterwards."""
        return cls(name, scorer, settings_digest(scorer), reading)


@dataclass(slots=True)
class Tally:
    """Counts for one column, of scores to compute or computed."""

    answers: int = 0
    scored: int = 0
    truncated: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """Answers without a score, by reason."""
    todo: int = 0
    """Different conversations without an outcome in the ledger."""
    characters: int = 0
    """Total length of the conversations to score."""
    lowest: float | None = None
    highest: float | None = None

    def add(self, outcome: Outcome) -> None:
        """Count one answer's outcome."""
        self.answers += 1
        self.truncated += outcome.truncated
        if outcome.score is None:
            self.missing[outcome.reason or "unknown"] += 1
            return
        self.scored += 1
        self.lowest = outcome.score if self.lowest is None else min(self.lowest, outcome.score)
        self.highest = outcome.score if self.highest is None else max(self.highest, outcome.score)


class Scores(Protocol):
    """A store of scores: a ledger, or a ledger with parts."""

    def known(self, keys: Sequence[bytes], *, retry_failed: bool = False) -> set[bytes]:
        """See `Ledger.known`."""
        ...

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, Answer]:
        """See `Ledger.get`."""
        ...

    def put(self, answer: Answer) -> None:
        """See `Ledger.put`."""
        ...

    def flush(self) -> None:
        """See `Ledger.flush`."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """Some answers of the pool: the items to score, and why the rest cannot be scored.

    Attributes:
        places: (id, model, sample) of each answer.
        items: Without references; None for an answer that cannot be scored.
        reasons: None for an answer that can be scored.
        unfinished: Why an answer did not come to its end; None = it did, or that is not known or not asked for.
        references: Column of right answers → the one of each item.
    """

    places: list[tuple[str, str, int]]
    items: list[Item | None]
    reasons: list[str | None]
    unfinished: list[str | None]
    references: Mapping[str, list[str | None]]

    def items_for(self, reading: Reading) -> list[Item | None]:
        """Give the items as a scorer reads them; None for what it cannot score."""
        items = self.items
        if reading.references is not None:
            known = self.references[reading.references]
            items = [
                None if item is None else replace(item, reference=reference)
                for item, reference in zip(items, known, strict=True)
            ]
        if not reading.whole_only:
            return items
        return [item if why is None else None for item, why in zip(items, self.unfinished, strict=True)]

    def reasons_for(self, reading: Reading) -> list[str | None]:
        """Say why a scorer cannot score answers; None for those that it can."""
        if not reading.whole_only:
            return self.reasons
        return [why or reason for why, reason in zip(self.unfinished, self.reasons, strict=True)]


def windows(
    pool: Pool, readings: Iterable[Reading] = (CONVERSATIONS,), *, size: int = WINDOW
) -> Iterator[Window]:
    """Yield a pool's answers with their prompts, a window at a time, in file order.

    Args:
        pool: From `crowdselect.open_pool`.
        readings: What is read besides, of all columns.
        size: Approximate number of answers per window.

    Raises:
        InputError: The pool has no responses, or not such a column.
    """
    readings = list(readings)
    references = {
        one.references: pool.column(one.references) for one in readings if one.references is not None
    }
    ids, models = pool.ids, pool.models
    for batch in pool.stream_responses(size, endings=any(one.whole_only for one in readings)):
        prompts = pool.prompts_of(batch)
        known = {name: values[batch.rows].tolist() for name, values in references.items()}
        window = Window([], [], [], _unfinished(batch), known)
        for row, model, sample, text, prompt in zip(
            batch.rows, batch.models, batch.samples, batch.texts, prompts, strict=True
        ):
            place = (ids[row], models[model], int(sample))
            reason = NO_ANSWER if text is None else None if prompt else NO_INSTRUCTION
            item = None
            if text is not None and prompt:
                item = Item([*prompt, {"role": "assistant", "content": text}], None, place)
            window.places.append(place)
            window.items.append(item)
            window.reasons.append(reason)
        yield window


def _unfinished(batch: AnswerBatch) -> list[str | None]:
    if batch.endings is None:
        return [None] * len(batch.texts)
    return [UNFINISHED.get(ENDINGS[code]) for code in batch.endings]


def items_in(found: Iterable[Window], reading: Reading = CONVERSATIONS) -> Iterator[list[Item]]:
    """Yield the items of each window that a scorer can score."""
    for window in found:
        yield [item for item in window.items_for(reading) if item is not None]


def survey(
    pool: Pool,
    columns: Sequence[Column],
    ledger: Scores | None,
    *,
    retry_failed: bool,
    answered: Callable[[Column, Sequence[Item]], Sequence[bool]] | None = None,
) -> dict[str, Tally]:
    """Count the scores to compute, without scoring anything.

    Args:
        pool: From `crowdselect.open_pool`.
        columns: The columns to compute.
        ledger: Scores so far; None = none.
        retry_failed: Count scores that failed before.
        answered: Returns which items need no request though they have no score yet; None = all need one.
    """
    tallies = {column.name: Tally() for column in columns}
    seen: dict[str, set[bytes]] = {column.name: set() for column in columns}
    for window in windows(pool, [column.reading for column in columns]):
        for column in columns:
            tally = tallies[column.name]
            tally.answers += len(window.items)
            tally.missing.update(why for why in window.reasons_for(column.reading) if why is not None)
            if not column.scorer.paid:
                continue
            items = [item for item in window.items_for(column.reading) if item is not None]
            refusals = column.scorer.refusals(items)
            tally.missing.update(why for why in refusals if why is not None)
            wanted = [item for item, why in zip(items, refusals, strict=True) if why is None]
            waiting = _waiting(column, wanted, ledger, retry_failed=retry_failed)
            free = [False] * len(waiting) if answered is None else answered(column, list(waiting.values()))
            for (key, item), is_free in zip(waiting.items(), free, strict=True):
                if not is_free and key[:12] not in seen[column.name]:
                    seen[column.name].add(key[:12])  # 96 bits: enough to count, and a third of the memory
                    tally.todo += 1
                    tally.characters += sum(len(turn["content"]) for turn in item.messages)
    return tallies


def outcomes(column: Column, window: Window, ledger: Scores | None) -> list[Outcome]:
    """Return the outcome of every answer of a window, from the ledger or looked up."""
    items = window.items_for(column.reading)
    found = iter(outcomes_of(column, [item for item in items if item is not None], ledger))
    return [
        Outcome(reason=reason) if item is None else next(found)
        for item, reason in zip(items, window.reasons_for(column.reading), strict=True)
    ]


def outcomes_of(column: Column, items: Sequence[Item], ledger: Scores | None) -> list[Outcome]:
    """Return the outcomes of some items, from the ledger or looked up."""
    if column.scorer.paid and ledger is not None:
        keys = [_key(column, item) for item in items]
        rows = ledger.get(keys)
        return [outcome_in(rows.get(key)) for key in keys]
    looked_up = {at: outcome for some in column.scorer.score(items) for at, outcome in some}
    return [looked_up[at] for at in range(len(items))]


def _key(column: Column, item: Item) -> bytes:
    return score_key(column.digest, column.scorer.identity(item))


def _waiting(
    column: Column, items: Iterable[Item], ledger: Scores | None, *, retry_failed: bool
) -> Mapping[bytes, Item]:
    """Return the conversations without an outcome, each once."""
    found = {_key(column, item): item for item in items}
    known = ledger.known(list(found), retry_failed=retry_failed) if ledger is not None else set()
    return {key: item for key, item in found.items() if key not in known}


def row_of(column: Column, key: bytes, outcome: Outcome) -> Answer:
    """Make a ledger row from an outcome; the score is stored as text that reads back exactly."""
    return Answer(
        key=key,
        model=column.name,
        settings=column.digest,
        prompt=key,
        sample=0,
        status="ok" if outcome.score is not None else "gave_up" if outcome.passing else "failed",
        text=json.dumps(outcome.score) if outcome.score is not None else None,
        finish_reason="truncated" if outcome.truncated else "score",
        cost=0.0,
        attempts=0,  # not a request: a judge's budget counts requests
        error=outcome.reason,
        at=now(),
    )


def outcome_in(row: Answer | None) -> Outcome:
    """Read an outcome from a ledger row; None = it was never recorded."""
    if row is None:
        return Outcome(reason="not scored yet", passing=True)
    truncated = row.finish_reason == "truncated"
    if row.text is None:
        return Outcome(reason=row.error, truncated=truncated, passing=row.status == "gave_up")
    return Outcome(score=float(json.loads(row.text)), truncated=truncated)
