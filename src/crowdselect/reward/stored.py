"""Scores that are kept: those of the ledger, and those that the workers of a Ray cluster wrote as parts."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.cache import KEY, Keys, Parts, joined
from crowdselect.reward.protocol import Outcome

_COLUMNS = (KEY, "score", "reason", "truncated", "passing")


class Stored:
    """Looks scores up in a ledger and in parts; what is new goes into the ledger.

    Args:
        ledger: None where all work is done by workers, which open no ledger.
        parts: What workers wrote, up to now.
    """

    def __init__(self, ledger: Ledger | None, parts: Parts) -> None:
        self._ledger = ledger
        self._parts = parts

    def known(self, keys: Sequence[bytes], *, retry_failed: bool = False) -> set[bytes]:
        """Say which need not be scored; see `Ledger.known`."""
        found = (
            set() if self._ledger is None else set(self._ledger.known(list(keys), retry_failed=retry_failed))
        )
        if self._table is not None:
            at = self._places.find(list(keys))
            done = at >= 0
            if retry_failed:
                done[done] = self._scored[at[done]]
            found.update(key for key, is_done in zip(keys, done.tolist(), strict=True) if is_done)
        return found

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Read what became of some; a score before a reason why there is none."""
        found = {} if self._ledger is None else self._ledger.get(list(keys))
        if self._table is None:
            return found
        at = self._places.find(list(keys))
        for key, place in zip(keys, at.tolist(), strict=True):
            if place >= 0 and (key not in found or found[key].text is None):
                found[key] = self._row(key, place)
        return found

    def put(self, answer: Answer) -> None:
        """Keep a score."""
        if self._ledger is not None:  # without one, workers write parts and nobody else scores
            self._ledger.put(answer)

    def flush(self) -> None:
        """Wait until all that was put is on disk."""
        if self._ledger is not None:
            self._ledger.flush()

    def done(self, settings: bytes, *, retry_failed: bool) -> Keys:
        """Give the keys that need not be scored, for workers to look up.

        Args:
            settings: Digest of the scorer's: of the ledger only its keys count.
            retry_failed: What has failed before is scored again.
        """
        mine = [] if self._ledger is None else self._ledger.keys_of(settings, retry_failed=retry_failed)
        found = b"".join(mine)
        if self._table is not None:
            keys = self._table[KEY]
            found += joined(keys.filter(self._table["score"].is_valid()) if retry_failed else keys)
        return Keys.of(found)

    @cached_property
    def _table(self) -> Any:  # noqa: ANN401  (an Arrow table, or None where there is no part)
        return self._parts.read(*_COLUMNS)

    @cached_property
    def _scored(self) -> Any:  # noqa: ANN401  (an array of bool)
        return np.asarray(self._table["score"].is_valid())

    @cached_property
    def _places(self) -> Keys:
        return Keys.of(joined(self._table[KEY]), prefer=self._scored)

    def _row(self, key: bytes, place: int) -> Answer:
        score, reason, truncated, passing = (self._table[name][place].as_py() for name in _COLUMNS[1:])
        return Answer(
            key=key,
            model="",
            settings=b"",
            prompt=key,
            sample=0,
            status="ok" if score is not None else "gave_up" if passing else "failed",
            text=None if score is None else json.dumps(score),
            finish_reason="truncated" if truncated else "score",
            error=reason,
        )


def columns_of(keys: Sequence[bytes], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Lay out outcomes as a part."""
    import pyarrow as pa

    return {
        KEY: pa.array(keys, pa.binary(32)),
        "score": pa.array([outcome.score for outcome in outcomes], pa.float64()),
        "reason": pa.array([outcome.reason for outcome in outcomes], pa.string()),
        "truncated": pa.array([outcome.truncated for outcome in outcomes], pa.bool_()),
        "passing": pa.array([outcome.passing for outcome in outcomes], pa.bool_()),
    }
