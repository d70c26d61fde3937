"""The ledger: every answer on disk once, keyed by request content, written by one thread in small groups."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from crowdselect.ask.calls import AGAIN, ANSWERED, MISSING, Status, status_of
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger_file import holds_nothing, open_database, open_reader, remove_database
from crowdselect.errors import LedgerError
from crowdselect.finish import whole_sql, why_ended

_GROUP = 0.01  # seconds to gather answers before a commit, when many arrive
_MANY = 2  # answers in a commit that count as many
_ASKED = 500  # keys looked up at once
_BACKLOG = 64 << 20  # characters waiting to be written, above which lanes wait


class Answer(NamedTuple):
    """A row of the ledger: the result of one request.

    Attributes:
        key: 32 bytes, see `Request.key`.
        model: The endpoint's name.
        settings: The endpoint's digest.
        prompt: The request's digest.
        sample: Number of the answer.
        status: See `calls.Status`.
        text: The answer; None if there is none.
        reasoning: The model's reasoning, if the server returns it separately.
        finish_reason: As reported by the server.
        prompt_tokens: As counted by the server. None = not reported. `completion_tokens` likewise.
        cost: Cost of this answer. None = unknown.
        lost: The most that attempts without a usable answer may have cost.
        attempts: How often the request was sent.
        error: Why there is no answer.
        latency: Seconds from sending to the whole answer.
        at: When it was recorded, in seconds since 1970.
    """

    key: bytes
    model: str
    settings: bytes
    prompt: bytes
    sample: int
    status: Status
    text: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    lost: float = 0.0
    attempts: int = 1
    error: str | None = None
    latency: float | None = None
    at: float = 0.0


_COLUMNS = Answer._fields
_UPSERT = (
    f"INSERT INTO answers ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (key) DO UPDATE SET lost = lost + coalesce(cost, 0) + excluded.lost, "
    "attempts = attempts + excluded.attempts, "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in {"key", "lost", "attempts"})
)
_SPEND = (
    "INSERT INTO spent (model, attempts, cost, lost, unknown) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (model) DO UPDATE SET attempts = attempts + excluded.attempts, cost = cost + excluded.cost, "
    "lost = lost + excluded.lost, unknown = unknown + excluded.unknown"
)
_WHOLE = f"status NOT IN {AGAIN} AND (prompt = key OR {whole_sql('finish_reason')})"
"""Rows that `retry_failed=True` does not send again. A score, whose key is its prompt, has no server's finish reason."""
SAVE_SETTINGS = "INSERT OR IGNORE INTO settings (digest, json) VALUES (?, ?)"
SAVE_NOTE = (
    "INSERT INTO notes (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums over a ledger's requests.

    Attributes:
        attempts: Requests sent, retries included, and those in flight when a run was killed.
        cost: Total of all answers with a known cost.
        lost: The most that attempts without a usable answer may have cost.
        unknown: Number of answers with unknown cost; they are not in `cost`.
    """

    attempts: int
    cost: float
    lost: float
    unknown: int


class Ledger:
    """Answers on disk. Close it, or use it in a `with`."""

    def __init__(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Open or create a ledger and lock it; see `ledger_file.open_database` for what is refused."""
        self.path = Path(path)
        self._is_new = not self.path.exists()
        self._writer, self._lock = open_database(self.path, force=force)
        self._writing = threading.Lock()
        try:
            self._reader = open_reader(self.path)
            self._settle_holds()
            self._open = {bytes(key) for (key,) in self._reader.execute(_keys_with(("pending",)))}
        except (sqlite3.Error, LedgerError) as error:
            self._writer.close()
            self._lock.close()
            if isinstance(error, LedgerError):
                raise
            raise LedgerError(f"{self.path}: cannot be used as a ledger: {error}") from error
        self._state = threading.Condition()
        self._queue: list[Answer] = []
        self._notes: dict[str, str] = {}
        self._unsaved: dict[bytes, Answer] = {}
        self._backlog = 0
        self._asked_for = self._saved = 0  # numbers of flushes
        self._put = self._committed = 0  # answers put, answers on disk
        self._waiting: list[Callable[[], None]] = []
        self._error: LedgerError | None = None
        self._closing = False
        self._hurry = threading.Event()
        self._is_busy = False
        self._thread = threading.Thread(target=self._write, name="crowdselect-ledger", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing.

    def put(self, answer: Answer) -> int:
        """Queue an answer for writing; it is on disk within a tenth of a second.

        Returns:
            Its sequence number among all answers put.

        Raises:
            LedgerError: Writing has failed before.
        """
        with self._state:
            if self._error is not None:
                raise self._error
            self._queue.append(answer)
            self._unsaved[answer.key] = answer
            self._backlog += len(answer.text or "") + len(answer.reasoning or "")
            if answer.status == "pending":
                self._open.add(answer.key)
            else:
                self._open.discard(answer.key)
            self._put += 1
            self._state.notify_all()
            return self._put

    def is_committed(self, number: int) -> bool:
        """Return whether the answer with this number from `put` is on disk.

        Raises:
            LedgerError: It is not, and writing has failed.
        """
        if self._committed < number and self._error is not None:
            raise self._error
        return self._committed >= number

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` once, from the writer's thread, after the next commit or failure."""
        with self._state:
            self._waiting.append(listener)

    def note(self, name: str, value: Any) -> None:  # noqa: ANN401  (anything JSON can hold)
        """Queue a named value for writing, such as the inputs of the last run."""
        with self._state:
            if self._error is not None:
                raise self._error
            self._notes[name] = json.dumps(value)
            self._state.notify_all()

    def flush(self) -> None:
        """Wait until everything queued is on disk.

        Raises:
            LedgerError: It cannot be written; earlier rows are intact.
        """
        with self._state:
            self._asked_for += 1
            mine = self._asked_for
            self._state.notify_all()
            self._hurry.set()
            self._state.wait_for(lambda: self._saved >= mine or self._error is not None)
            if self._error is not None:
                raise self._error

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that nothing should be sent before a `flush`."""
        return self._backlog > _BACKLOG

    def close(self) -> None:
        """Write what is queued, and close the file.

        Raises:
            LedgerError: Some answers could not be written; the message says how many.
        """
        with self._state:
            if self._closing:
                return
            self._closing = True
            self._hurry.set()
            self._state.notify_all()
        self._thread.join()
        unwritten: LedgerError | None = None
        if self._error is not None and self._queue:
            unwritten = self._last_try()
        self._reader.close()
        empty = self._is_new and unwritten is None and self._asked_nothing()
        self._writer.close()
        if empty:  # of a command that was refused: leave no file behind
            remove_database(self.path)
        self._lock.close()
        if unwritten is not None:
            raise unwritten

    def _asked_nothing(self) -> bool:
        try:
            return holds_nothing(self._writer)
        except sqlite3.Error:
            return False

    # Reading.

    def known(self, keys: Sequence[bytes], *, retry_failed: bool = False) -> set[bytes]:
        """Return the keys of requests that need not be sent.

        Args:
            keys: Keys of requests.
            retry_failed: Exclude requests without an answer or with an unknown finish reason.

        Returns:
            The keys with a final result.
        """
        again = AGAIN if retry_failed else ()
        with self._state:  # before the file is read: what is written in between is found there
            waiting = {key: self._unsaved[key].status for key in keys if key in self._unsaved}
        found = {key for key, status in waiting.items() if status not in again}
        skipped = f" AND {_WHOLE}" if retry_failed else ""
        for some in _slices(sorted(keys)):  # neighbours in the index
            marks = ", ".join("?" * len(some))
            rows = self._select(f"SELECT key FROM answers WHERE key IN ({marks}){skipped}", some)
            found.update(key for (key,) in rows)
        return found - self._open

    def keys_of(self, settings: bytes, *, retry_failed: bool = False) -> list[bytes]:
        """Return the keys on disk with a final result, of one endpoint or scorer.

        Args:
            settings: Its digest.
            retry_failed: Exclude requests without an answer or with an unknown finish reason.
        """
        skipped = f" AND {_WHOLE}" if retry_failed else ""
        sql = f"SELECT key FROM answers WHERE settings = ? AND status <> 'pending'{skipped}"
        return [bytes(key) for (key,) in self._select(sql, (settings,))]

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Read the results of some requests, with statuses by today's rules; keys without a row are omitted."""
        found: dict[bytes, Answer] = {}
        columns = ", ".join(_COLUMNS)
        with self._state:
            waiting = {key: self._unsaved[key] for key in keys if key in self._unsaved}
        for some in _slices(keys):
            marks = ", ".join("?" * len(some))
            rows = self._select(f"SELECT {columns} FROM answers WHERE key IN ({marks})", some)
            found.update((row[0], _as_now(Answer._make(row))) for row in rows)
        return found | waiting

    def first_statuses(self, settings: bytes, count: int) -> list[Status]:
        """Return the statuses of the first replies on disk under some settings, by their digest, at most `count`."""
        sql = (
            f"SELECT status FROM answers WHERE settings = ? AND status IN {ANSWERED} ORDER BY number LIMIT ?"
        )
        return [status for (status,) in self._select(sql, (settings, count))]

    def spent(self) -> dict[str, Spent]:
        """Return the sums on disk per endpoint; `""` holds requests in flight when a run was killed."""
        rows = self._select("SELECT model, attempts, cost, lost, unknown FROM spent ORDER BY model")
        return {model: Spent(*values) for model, *values in rows}

    def mean_tokens(self, endpoint: Endpoint) -> float | None:
        """Return the mean length in tokens of an endpoint's latest 1,000 answers; None if none is known."""
        sql = (
            "SELECT avg(completion_tokens) FROM (SELECT completion_tokens FROM answers WHERE settings = ? "
            "AND completion_tokens IS NOT NULL ORDER BY number DESC LIMIT 1000)"
        )
        value = self._select(sql, (endpoint.digest,))[0][0]
        return None if value is None else float(value)

    def noted(self, name: str) -> Any:  # noqa: ANN401  (what `note` was given)
        """Read a value written by `note`; None if there is none on disk."""
        rows = self._select("SELECT value FROM notes WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def _select(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self.path}: cannot be read ({error}); keep a copy, and rebuild it with: sqlite3 FILE .recover"
            ) from error

    def keep_settings(self, endpoints: Iterable[Endpoint]) -> None:
        """Record the endpoints' settings, so that old rows can be understood."""
        rows = [(endpoint.digest, endpoint.settings()) for endpoint in endpoints]
        self._now(lambda: self._writer.executemany(SAVE_SETTINGS, rows))

    def settings(self) -> dict[bytes, dict[str, Any]]:
        """Return the settings of every endpoint that was asked, by digest; its name is one of them."""
        rows = self._select("SELECT digest, json FROM settings")
        return {bytes(digest): json.loads(text) for digest, text in rows}

    def count(self, settings: bytes) -> int:
        """Count one endpoint's answers on disk, by its digest."""
        sql = f"SELECT count(*) FROM answers WHERE settings = ? AND status IN {ANSWERED}"
        return int(self._select(sql, (settings,))[0][0])

    def rewrite(self, act: Callable[[sqlite3.Connection, sqlite3.Connection], None]) -> None:
        """Change what is on disk in one transaction.

        Args:
            act: Called with a connection for the changes, and another that sees the rows as they were before.

        Raises:
            LedgerError: It cannot be written; nothing was changed.
        """
        self.flush()
        self._now(lambda: act(self._writer, self._reader))
        with self._state:
            self._open = {bytes(key) for (key,) in self._select(_keys_with(("pending",)))}

    # The writer.

    def _write(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(self._has_work)
                if self._closing and not (self._queue or self._notes):
                    self._saved = self._asked_for
                    self._state.notify_all()
                    return
            if self._is_busy:
                self._hurry.wait(_GROUP)
            if not self._commit():
                return

    def _has_work(self) -> bool:
        return bool(self._queue or self._notes or self._closing or self._saved < self._asked_for)

    def _commit(self) -> bool:
        """Write everything queued in one transaction; False if that failed."""
        with self._state:
            answers, self._queue = self._queue, []
            notes, self._notes = self._notes, {}
            asked_for = self._asked_for
            self._is_busy = len(answers) >= _MANY
            if not self._closing:
                self._hurry.clear()
        try:
            self._now(lambda: self._insert(answers, notes))
        except LedgerError as error:
            with self._state:
                self._queue = answers + self._queue
                self._notes = notes | self._notes
                self._error = error
                self._state.notify_all()
            self._notify()
            return False
        with self._state:
            for answer in answers:
                if self._unsaved.get(answer.key) is answer:
                    del self._unsaved[answer.key]
                self._backlog -= len(answer.text or "") + len(answer.reasoning or "")
            self._saved = asked_for
            self._committed += len(answers)
            self._state.notify_all()
        self._notify()
        return True

    def _notify(self) -> None:
        with self._state:
            waiting, self._waiting = self._waiting, []
        for listener in waiting:
            listener()

    def _insert(self, answers: Sequence[Answer], notes: dict[str, str]) -> None:
        self._writer.executemany(_UPSERT, answers)
        sums: dict[str, list[float]] = {}
        for answer in answers:
            sum_ = sums.setdefault(answer.model, [0, 0.0, 0.0, 0])
            sum_[0] += answer.attempts
            sum_[1] += answer.cost or 0.0
            sum_[2] += answer.lost
            sum_[3] += answer.cost is None and answer.text is not None
        self._writer.executemany(_SPEND, ((model, *values) for model, values in sums.items()))
        self._writer.executemany(SAVE_NOTE, notes.items())

    def _now(self, act: Callable[[], object]) -> None:
        """Run statements as one transaction."""
        with self._writing:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                act()
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                raise LedgerError(_explained(self.path, error)) from error
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    def _last_try(self) -> LedgerError | None:
        """Try once more to write what could not be written; the disk may have room by now."""
        try:
            self._now(lambda: self._insert(self._queue, self._notes))
        except LedgerError as error:
            return LedgerError(f"{error}; the last {len(self._queue)} answers are not in it")
        self._queue = []
        return None

    def _settle_holds(self) -> None:
        """Count what was in flight when a run was killed: it may have been paid for."""
        row = self._writer.execute("SELECT value FROM notes WHERE name = 'hold'").fetchone()
        requests, cost = json.loads(row[0]) if row is not None else (0, 0.0)
        if requests:

            def settle() -> None:
                self._writer.execute(_SPEND, ("", requests, 0.0, cost, 0))
                self._writer.execute(SAVE_NOTE, ("hold", "[0, 0.0]"))

            self._now(settle)


def _keys_with(statuses: Sequence[Status]) -> str:
    listed = ", ".join(f"'{status}'" for status in statuses)
    return f"SELECT key FROM answers WHERE status IN ({listed}) AND status NOT IN ('ok', 'length', 'empty')"


def _as_now(answer: Answer) -> Answer:
    """Set an answer's status by today's table of finish reasons: an earlier version may have taken it for complete."""
    if answer.prompt == answer.key or answer.text is None or answer.status not in ANSWERED:
        return answer  # a score, or no answer
    status = status_of(answer.finish_reason, answer.text)
    error = why_ended(answer.finish_reason, answer.text) if status in MISSING else answer.error
    return answer._replace(status=status, error=error)


def _slices(keys: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (keys[at : at + _ASKED] for at in range(0, len(keys), _ASKED))


def _explained(path: Path, error: Exception) -> str:
    """Explain an SQLite error; a full disk and a file-size limit look alike to it."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return (
            f"{path}: cannot be written ({text}): the disk is full or the file may grow no further; make room and "
            "run the same command again; what was recorded before is intact"
        )
    return f"{path}: cannot be written ({text})"


def now() -> float:
    """Return the time for `Answer.at`."""
    return round(time.time(), 3)
