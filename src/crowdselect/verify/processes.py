"""Checks answers in processes of their own, several at once, each answer within a time limit.

A process that hits the limit or dies costs the answer that it had in hand: that one has a reason instead of a verdict,
and a new process goes on with the rest.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import IO, Any, Self, cast

from crowdselect._optional import check_optional
from crowdselect.errors import CrowdselectError, OptionError, near_miss
from crowdselect.verify.verifiers import VERIFIERS, Task, Verdict
from crowdselect.verify.worker import READY, TIMED_OUT

SECONDS = 10.0
"""The time limit of one answer, of the time of the process that checks it."""
_TOGETHER = 32  # tasks that a process is handed at a time
_COMMAND = ("-P", "-m", "crowdselect.verify.worker")


class Checkers:
    """Processes that check answers; they start when they are needed and end with `close`, or with this process.

    Args:
        verifier: A name in `VERIFIERS`.
        extract: Where the final answer is, see `final_answer`; None = the usual places.
        processes: The most processes; None = one per processor.
        seconds: The time limit of one answer.

    Raises:
        OptionError: There is no such verifier, or `extract` is no pattern.
        MissingExtraError: The verifier needs a package that is not installed.

    Example:
        >>> with Checkers("exact") as checkers:
        ...     for place, verdict in checkers.verdicts([Task("It is 7.", "7"), Task("8", "")]):
        ...         print(place, verdict.score, verdict.reason)
        0 1.0 None
        1 None the reference is empty
    """

    def __init__(
        self,
        verifier: str,
        extract: str | None = None,
        *,
        processes: int | None = None,
        seconds: float = SECONDS,
    ) -> None:
        _check(verifier, extract)
        self._settings = {"verifier": verifier, "extract": extract, "seconds": seconds}
        self._threads = ThreadPoolExecutor(processes or _processors())
        self._own = threading.local()
        """Each thread has a process of its own."""
        self._alive: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they do; nothing is checked afterwards."""
        self._closed = True
        for process in list(self._alive):
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._alive:
            process.wait()
        self._alive.clear()

    def verdicts(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Verdict]]:
        """Check tasks.

        Args:
            tasks: What to check.

        Yields:
            (position among the tasks, verdict), each task once, a batch after the other in the order in which they end.

        Raises:
            CrowdselectError: A process cannot be started.
        """
        begins = range(0, len(tasks), _TOGETHER)
        waiting = {
            self._threads.submit(self._checked, tasks[begin : begin + _TOGETHER]): begin for begin in begins
        }
        for done in as_completed(waiting):
            yield from enumerate(done.result(), start=waiting[done])

    def _checked(self, tasks: Sequence[Task]) -> list[Verdict]:
        """Check some tasks, with a new process after each one that ended; runs in a thread."""
        found: list[Verdict] = []
        while len(found) < len(tasks) and not self._closed:
            process = getattr(self._own, "process", None)
            if process is None:
                process = self._own.process = _Process(self._settings)
                self._alive.add(process)
                self._kill_if_closed(process)
            found += process.verdicts(tasks[len(found) :])
            if len(found) < len(tasks):
                found.append(process.end())
                self._alive.discard(process)
                self._own.process = None
        return found

    def _kill_if_closed(self, process: "_Process") -> None:
        """End a process that was started while `close` ended the others."""
        if self._closed:
            process.kill()


class _Process:
    """One process that checks.

    Args:
        settings: As `worker` reads them.

    Raises:
        CrowdselectError: It cannot be started.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._seconds = settings["seconds"]
        paths = os.pathsep.join(path for path in sys.path if path)
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(  # noqa: S603  (our own command; no shell)
                [sys.executable, *_COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": paths},
                encoding="utf-8",
            )
            self._input = cast("IO[str]", self._process.stdin)
            self._output = cast("IO[str]", self._process.stdout)
            self._send(settings)
            if self._line() != READY:
                self.wait()
                errors.seek(0)
                why = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise CrowdselectError(
                    f"a process that checks answers cannot be started: {why or 'it ended'}"
                )

    def verdicts(self, tasks: Sequence[Task]) -> Iterator[Verdict]:
        """Check tasks in order, as far as the process lives."""
        self._send(tasks)
        for _ in tasks:
            line = self._line()
            if line is None:
                return
            yield Verdict(*json.loads(line))

    def end(self) -> Verdict:
        """Wait for a process that ended by itself; return what to say of the task that it had in hand."""
        code = self.wait()
        if code in TIMED_OUT:
            return Verdict(None, f"it could not be checked within {self._seconds:g} seconds", passing=True)
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return Verdict(None, f"the process that checked it ended ({how})", passing=True)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def wait(self) -> int:
        """Wait for its end, close its pipes and return its exit code."""
        code = self._process.wait()
        self._output.close()
        with suppress(BrokenPipeError):  # what it has not read
            self._input.close()
        return code

    def _send(self, value: object) -> None:
        with suppress(BrokenPipeError):  # it ended, so that nothing is read from it, either
            self._input.write(json.dumps(value) + "\n")
            self._input.flush()

    def _line(self) -> str | None:
        """Read a line without its end; None = the process ended before one was complete."""
        line = self._output.readline()
        return line[:-1] if line.endswith("\n") else None


def _check(verifier: str, extract: str | None) -> None:
    """Refuse what cannot be used, before a process is started."""
    if verifier not in VERIFIERS:
        raise OptionError(
            f"there is no verifier {verifier!r}; choose one of: {', '.join(VERIFIERS)}{near_miss(verifier, VERIFIERS)}"
        )
    try:
        re.compile(extract or "")
    except re.error as error:
        raise OptionError(f"`extract` {extract!r} is no regular expression: {error}") from error
    package = VERIFIERS[verifier].needs
    if package is not None:
        check_optional(package, extra="verify")


def _processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
