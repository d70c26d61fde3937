"""A pool's answers a window at a time: what can be scored, what is scored already, and what there is to do."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from crowdselect.ask.ledger import Answer, now
from crowdselect.pool.pool import Pool
from crowdselect.reward.protocol import Item, Outcome, Scorer, score_key, settings_digest

WINDOW = 2048
"""Answers in memory at a time, and sorted by length together."""
NO_ANSWER = "the answer is empty"
NO_INSTRUCTION = "the instruction has no text"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of scores to make, and by whom."""

    name: str
    scorer: Scorer
    digest: bytes

    @classmethod
    def of(cls, name: str, scorer: Scorer) -> "Column":
        """Make one; the scorer's settings are fixed from here on."""
        return cls(name, scorer, settings_digest(scorer))


@dataclass(slots=True)
class Tally:
    """What is to be done, or what was done, for one column."""

    answers: int = 0
    scored: int = 0
    truncated: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """By reason."""
    todo: int = 0
    """Different conversations without an outcome in the ledger."""
    characters: int = 0
    """Of those to do."""
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
    """Where scores are kept: a ledger, or one with parts."""

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
    """Some answers of the pool: what can be scored, and why the rest cannot.

    Attributes:
        places: (id, model, sample) of each.
        items: None where there is nothing to score.
        reasons: None where there is something.
    """

    places: list[tuple[str, str, int]]
    items: list[Item | None]
    reasons: list[str | None]


def windows(pool: Pool, *, references: str | None = None, size: int = WINDOW) -> Iterator[Window]:
    """Read a pool's answers with their prompts, a window at a time, in the order of the file.

    Args:
        pool: From `crowdselect.open_pool`.
        references: The column that holds correct answers, for judges; None = none.
        size: About so many answers at a time.

    Raises:
        InputError: The pool has no responses.
    """
    known = pool.column(references) if references is not None else None
    ids, models = pool.ids, pool.models
    for batch in pool.stream_responses(size):
        prompts = pool.prompts_of(batch)
        made = Window([], [], [])
        for row, model, sample, text, prompt in zip(
            batch.rows, batch.models, batch.samples, batch.texts, prompts, strict=True
        ):
            place = (ids[row], models[model], int(sample))
            reason = NO_ANSWER if text is None else None if prompt else NO_INSTRUCTION
            item = None
            if text is not None and prompt:
                messages = [*prompt, {"role": "assistant", "content": text}]
                item = Item(messages, None if known is None else known[row], place)
            made.places.append(place)
            made.items.append(item)
            made.reasons.append(reason)
        yield made


def items_in(found: Iterable[Window]) -> Iterator[list[Item]]:
    """Give what can be scored of some windows."""
    for window in found:
        yield [item for item in window.items if item is not None]


def survey(
    pool: Pool,
    columns: Sequence[Column],
    ledger: Scores | None,
    *,
    references: str | None,
    retry_failed: bool,
    answered: Callable[[Column, Sequence[Item]], Sequence[bool]] | None = None,
) -> dict[str, Tally]:
    """Count what there is to do, without scoring anything.

    Args:
        pool: From `crowdselect.open_pool`.
        columns: What to make.
        ledger: What is scored already; None = nothing.
        references: As for `windows`.
        retry_failed: Count what has failed before.
        answered: Says which items have no score yet and cost nothing; None = none do.
    """
    tallies = {column.name: Tally() for column in columns}
    seen: dict[str, set[bytes]] = {column.name: set() for column in columns}
    for window in windows(pool, references=references):
        for column in columns:
            tally = tallies[column.name]
            tally.answers += len(window.items)
            tally.missing.update(reason for reason in window.reasons if reason is not None)
            if not column.scorer.paid:
                continue
            waiting = _waiting(column, window, ledger, retry_failed=retry_failed)
            free = [False] * len(waiting) if answered is None else answered(column, list(waiting.values()))
            for (key, item), is_free in zip(waiting.items(), free, strict=True):
                if not is_free and key[:12] not in seen[column.name]:
                    seen[column.name].add(key[:12])  # 96 bits: enough to count, and a third of the memory
                    tally.todo += 1
                    tally.characters += sum(len(turn["content"]) for turn in item.messages)
    return tallies


def outcomes(column: Column, window: Window, ledger: Scores | None) -> list[Outcome]:
    """Give the outcome of every answer of a window: from the ledger, or looked up."""
    items = [item for item in window.items if item is not None]
    found = iter(outcomes_of(column, items, ledger))
    return [
        Outcome(reason=reason) if item is None else next(found)
        for item, reason in zip(window.items, window.reasons, strict=True)
    ]


def outcomes_of(column: Column, items: Sequence[Item], ledger: Scores | None) -> list[Outcome]:
    """Give the outcome of some conversations: from the ledger, or looked up."""
    if column.scorer.paid and ledger is not None:
        keys = [_key(column, item) for item in items]
        rows = ledger.get(keys)
        return [outcome_in(rows.get(key)) for key in keys]
    looked_up = {at: outcome for some in column.scorer.score(items) for at, outcome in some}
    return [looked_up[at] for at in range(len(items))]


def _key(column: Column, item: Item) -> bytes:
    return score_key(column.digest, column.scorer.identity(item))


def _waiting(
    column: Column, window: Window, ledger: Scores | None, *, retry_failed: bool
) -> Mapping[bytes, Item]:
    """The window's conversations that have no outcome yet, each once."""
    found = {_key(column, item): item for item in window.items if item is not None}
    known = ledger.known(list(found), retry_failed=retry_failed) if ledger is not None else set()
    return {key: item for key, item in found.items() if key not in known}


def row_of(column: Column, key: bytes, outcome: Outcome) -> Answer:
    """Write a score as a row of the ledger: the number as text that reads back as the same number."""
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
        attempts=0,  # it is no request: the budget of a judge counts those
        error=outcome.reason,
        at=now(),
    )


def outcome_in(row: Answer | None) -> Outcome:
    """Read an outcome out of a row of the ledger; None = it was never recorded."""
    if row is None:
        return Outcome(reason="not scored yet", passing=True)
    truncated = row.finish_reason == "truncated"
    if row.text is None:
        return Outcome(reason=row.error, truncated=truncated, passing=row.status == "gave_up")
    return Outcome(score=float(json.loads(row.text)), truncated=truncated)
