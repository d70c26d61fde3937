"""What a running command is at: a small file beside its output, which `crowdselect status` reads.

A command that takes longer than a second writes it once a second at most, whole or not at all, and removes it when it
ends; a killed one leaves it, with the number of a process that is gone.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Self

EVERY = 1.0
"""Seconds between two writings."""


def progress_path(output: str | os.PathLike[str]) -> Path:
    """Return where the progress of a command is kept, by its output.

    Example:
        >>> progress_path("/data/pool.parquet").as_posix(), progress_path("/data/chosen/").as_posix()
        ('/data/.pool.parquet.progress.json', '/data/.chosen.progress.json')
    """
    place = Path(os.path.abspath(output))  # noqa: PTH100  (".." is resolved, symbolic links stay)
    return place.parent / f".{place.name}.progress.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(slots=True)
class _Stage:
    """The stage that a command is in, and how fast it goes."""

    name: str
    began: float
    first: int = 0
    done: int | None = None
    of: int | None = None
    cost: float | None = None

    def facts(self, now: float) -> dict[str, Any]:
        rate = left = None
        if self.done is not None and self.done > self.first and now > self.began:
            rate = (self.done - self.first) / (now - self.began)
            left = None if self.of is None else max(self.of - self.done, 0) / rate
        return {
            "stage": self.name,
            "done": self.done,
            "of": self.of,
            "per_second": rate,
            "seconds_left": left,
            "cost": self.cost,
        }


class Running:
    """Keeps the file of one command; in a `with`. Nothing is written before the first `tell`.

    Args:
        output: What the command writes; None = nothing is kept.
        command: Its name.
        every: Seconds between two writings.
    """

    def __init__(self, output: str | os.PathLike[str] | None, command: str, *, every: float = EVERY) -> None:
        self._path = None if output is None else progress_path(output)
        self._about = {"command": command, "process": os.getpid(), "host": platform.node()}
        self._began, self._every = _now(), every
        self._lock, self._ended = Lock(), Event()
        self._stage: _Stage | None = None
        self._writer: Thread | None = None
        self._written = False
        self.problem: OSError | None = None
        """Why the file could not be written."""

    def tell(
        self, stage: str, done: int | None = None, of: int | None = None, *, cost: float | None = None
    ) -> None:
        """Say what the command is at.

        Args:
            stage: In words.
            done: Units that are done; None = not counted.
            of: Units in all; None = not known.
            cost: Money spent so far; None = it costs none, or that is not known.
        """
        if self._path is None:
            return
        with self._lock:
            if self._stage is None or self._stage.name != stage:
                self._stage = _Stage(stage, time.monotonic(), first=done or 0)
            self._stage.done, self._stage.of, self._stage.cost = done, of, cost
            if self._writer is None:
                self._writer = Thread(target=self._write_on, daemon=True)
                self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._writer is not None:
            self._writer.join()
        if self._written and self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write_on(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self._write()
            except OSError as error:
                self.problem = error
                return

    def _write(self) -> None:
        assert self._path is not None  # noqa: S101  (`tell` has looked)
        with self._lock:
            stage = {} if self._stage is None else self._stage.facts(time.monotonic())
        facts = {**self._about, "began": self._began, "at": _now(), **stage}
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            beside.replace(self._path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        self._written = True


_running: ContextVar[Running] = ContextVar("running", default=Running(None, ""))  # noqa: B039  (keeps nothing)


def running() -> Running:
    """Return what keeps the progress of the command that runs; outside of one nothing is kept."""
    return _running.get()


@contextmanager
def kept(output: str | os.PathLike[str] | None, command: str) -> Iterator[Running]:
    """Keep the progress of a command while the block runs.

    Args:
        output: What it writes; None = nothing is kept.
        command: Its name.
    """
    with Running(output, command) as found:
        token = _running.set(found)
        try:
            yield found
        finally:
            _running.reset(token)


def read_progress(path: Path) -> dict[str, Any] | None:
    """Read what a command is at; None if there is no such file.

    Returns:
        What `Running` wrote, and `alive`: whether its process is there; None = not known, as on another machine.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    here = (
        facts["host"] == platform.node() and os.name == "posix"
    )  # elsewhere signal 0 is one that ends a process
    return {**facts, "alive": _is_alive(facts["process"]) if here else None}


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
