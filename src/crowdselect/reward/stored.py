"""Stored scores: those of judges and servers in the ledger, computed ones as parts.

Parts are the same whether this process or the workers of a Ray cluster computed them. Computed scores in a ledger,
where crowdselect 0.1.0 stored them, are copied into parts and not computed again.
"""

import json
import time
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.cache import KEY, Keys, Parts, joined
from crowdselect.reward.protocol import Outcome
from crowdselect.reward.run import outcome_in

_COLUMNS = (KEY, "score", "reason", "truncated", "passing")
_SHORTEST, _LONGEST = 0.05, 30.0  # seconds between two parts
_SHARE = (
    0.01  # of the time since the first score between two parts: the share of the work that a crash may lose
)
_MOST = 8192  # scores in a part
_FRESH = 500_000  # keys of this run held in a dict before the sorted index is rebuilt


class Stored:
    """Looks scores up in a ledger and in parts; computed ones go into new parts, all others into the ledger.

    Args:
        ledger: None if no judge or server is asked, and on workers, which open no ledger.
        parts: Where computed scores are written.
        others: More parts to look scores up in.
        computed: Digests of the scorers whose scores are computed, not asked for.
    """

    def __init__(
        self, ledger: Ledger | None, parts: Parts, *others: Parts, computed: Collection[bytes] = ()
    ) -> None:
        self._ledger = ledger
        self._parts, self._others = parts, others
        self._computed = frozenset(computed)
        self._fresh: dict[bytes, bool] = {}
        """Keys put since the parts were read → whether there is a score."""
        self._waiting: dict[bytes, Outcome] = {}
        """Outcomes that are in no part yet."""
        self._began = self._wrote = 0.0

    def known(self, keys: Sequence[bytes], *, retry_failed: bool = False) -> set[bytes]:
        """Return the keys that need not be scored; see `Ledger.known`."""
        found = (
            set() if self._ledger is None else set(self._ledger.known(list(keys), retry_failed=retry_failed))
        )
        found.update(key for key in keys if key in self._fresh and (self._fresh[key] or not retry_failed))
        if self._table is not None:
            at = self._places.find(list(keys))
            done = at >= 0
            if retry_failed:
                done[done] = self._scored[at[done]]
            found.update(key for key, is_done in zip(keys, done.tolist(), strict=True) if is_done)
        return found

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Read some results; a score takes precedence over a reason why there is none."""
        found = {} if self._ledger is None else self._ledger.get(list(keys))
        if self._fresh:
            self.read_again()
        if self._table is None:
            return found
        at = self._places.find(list(keys))
        rows = self._table.take(at[at >= 0]).to_pylist()
        for key, row in zip(np.asarray(keys, dtype=object)[at >= 0], rows, strict=True):
            if key not in found or found[key].text is None:
                found[key] = _answer(key, row)
        return found

    def put(self, answer: Answer) -> None:
        """Store a score; computed ones are written often enough that a crash loses at most a hundredth of the run.

        Raises:
            OutputError: A part cannot be written.
        """
        if answer.settings not in self._computed:
            if self._ledger is not None:  # without one, workers write parts and nobody else scores
                self._ledger.put(answer)
            return
        outcome = outcome_in(answer)
        self._waiting[answer.key] = outcome
        self._fresh[answer.key] = outcome.score is not None
        now = time.monotonic()
        if not self._began:
            self._began = self._wrote = now
        pause = min(max(_SHARE * (now - self._began), _SHORTEST), _LONGEST)
        if now - self._wrote >= pause or len(self._waiting) >= _MOST:
            self._write()

    def flush(self) -> None:
        """Write everything put so far to disk."""
        if self._ledger is not None:
            self._ledger.flush()
        self._write()
        if len(self._fresh) >= _FRESH:
            self.read_again()

    def take_from_ledger(self) -> None:
        """Write computed scores that only the ledger has, from 0.1.0, as parts."""
        if self._ledger is None:
            return
        for settings in self._computed:
            keys = self._ledger.keys_of(settings)
            if keys and self._table is not None:
                keys = [key for key, at in zip(keys, self._places.find(keys).tolist(), strict=True) if at < 0]
            for begin in range(0, len(keys), _MOST):
                rows = self._ledger.get(keys[begin : begin + _MOST])
                self._waiting = {key: outcome_in(row) for key, row in rows.items()}
                self._fresh.update((key, outcome.score is not None) for key, outcome in self._waiting.items())
                self._write()

    def done(self, settings: bytes, *, retry_failed: bool) -> Keys:
        """Return the keys that need not be scored, for workers to look up.

        Args:
            settings: The digest of the scorer's settings; only its keys are read from the ledger.
            retry_failed: Leave out scores that failed before.
        """
        mine = [] if self._ledger is None else self._ledger.keys_of(settings, retry_failed=retry_failed)
        found = b"".join(mine)
        if self._table is not None:
            keys = self._table[KEY]
            found += joined(keys.filter(self._table["score"].is_valid()) if retry_failed else keys)
        return Keys.of(found)

    @cached_property
    def _table(self) -> Any:  # noqa: ANN401  (an Arrow table, or None where there is no part)
        import pyarrow as pa

        tables = [parts.read(*_COLUMNS) for parts in (self._parts, *self._others)]
        there = [table for table in tables if table is not None]
        return pa.concat_tables(there).combine_chunks() if there else None

    @cached_property
    def _scored(self) -> Any:  # noqa: ANN401  (an array of bool)
        return np.asarray(self._table["score"].is_valid())

    @cached_property
    def _places(self) -> Keys:
        return Keys.of(joined(self._table[KEY]), prefer=self._scored)

    def _write(self) -> None:
        """Write waiting outcomes as a part."""
        if self._waiting:
            keys = list(self._waiting)
            self._parts.write(self._parts.name(keys), columns_of(keys, list(self._waiting.values())))
            self._waiting = {}
            self._wrote = time.monotonic()

    def read_again(self) -> None:
        """Read the parts again, to find what was put or written by workers since."""
        self._write()
        self._fresh = {}
        for name in ("_table", "_scored", "_places"):
            self.__dict__.pop(name, None)


def _answer(key: bytes, row: dict[str, Any]) -> Answer:
    """Return a row of a part as a ledger row."""
    score = row["score"]
    return Answer(
        key=key,
        model="",
        settings=b"",
        prompt=key,
        sample=0,
        status="ok" if score is not None else "gave_up" if row["passing"] else "failed",
        text=None if score is None else json.dumps(score),
        finish_reason="truncated" if row["truncated"] else "score",
        error=row["reason"],
    )


def columns_of(keys: Sequence[bytes], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return outcomes as the columns of a part."""
    import pyarrow as pa

    return {
        KEY: pa.array(keys, pa.binary(32)),
        "score": pa.array([outcome.score for outcome in outcomes], pa.float64()),
        "reason": pa.array([outcome.reason for outcome in outcomes], pa.string()),
        "truncated": pa.array([outcome.truncated for outcome in outcomes], pa.bool_()),
        "passing": pa.array([outcome.passing for outcome in outcomes], pa.bool_()),
    }
