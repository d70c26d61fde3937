"""Threads that ask several at once, a deadline for each exchange, and an end within seconds after Ctrl-C.

The threads do not keep the process alive: whatever a server does, nobody waits for them longer than is said here.
"""

import http.client
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, Self, TypeVar

from crowdselect.ask.http_client import CONNECT
from crowdselect.ask.runner import SAME_STOP

GRACE = 1.5
"""Seconds that answers under way are waited for after Ctrl-C, or after an error that ends the run."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_local = threading.local()

Job = TypeVar("Job")
Made = TypeVar("Made")


class Crew(Generic[Job, Made]):
    """Does jobs in threads; use it once.

    Args:
        count: How many threads.
        work: Does one job.
        ending: Set when no job is to be begun, and no pause to be waited for, any more.
    """

    def __init__(self, count: int, work: Callable[[Job], Made], *, ending: threading.Event) -> None:
        self._count, self._work, self._ending = count, work, ending
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._told: SimpleQueue[tuple[Job, Made] | BaseException | None] = SimpleQueue()
        self._at_work = 0

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Made]]:
        """Give what was made of each job, as it comes.

        After the first Ctrl-C, and after the first error, what is under way is waited for a little and given; then
        the exception is raised. A second Ctrl-C is raised at once.
        """
        for job in jobs:
            self._jobs.put(job)
        with _signals_to(lambda: self._told.put(KeyboardInterrupt())):
            try:
                for _ in range(min(self._count, len(jobs))):
                    self._at_work += 1
                    threading.Thread(target=self._labour, daemon=True, name="crowdselect-reward").start()
                while self._at_work:
                    told = self._told.get()
                    if isinstance(told, BaseException):
                        yield from self._rest()
                        raise told
                    if told is None:
                        self._at_work -= 1
                    else:
                        yield told
            finally:
                self._ending.set()

    def _labour(self) -> None:
        try:
            while not self._ending.is_set():
                job = self._jobs.get_nowait()
                self._told.put((job, self._work(job)))
        except Empty:
            pass
        except BaseException as error:  # noqa: BLE001  (raised where the results are taken)
            self._told.put(error)
        finally:
            self._told.put(None)

    def _rest(self) -> Iterator[tuple[Job, Made]]:
        """Begin nothing more, and give what still comes within the time of grace."""
        self._ending.set()
        until = time.monotonic() + GRACE
        while self._at_work:
            try:
                told = self._told.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                return
            if told is None:
                self._at_work -= 1
            elif not isinstance(told, BaseException):
                yield told


@contextmanager
def _signals_to(first: Callable[[], None]) -> Iterator[None]:
    """Have the first signal to stop call a function, and each later one raise KeyboardInterrupt."""
    came: float | None = None

    def stop(*_: object) -> None:
        nonlocal came
        if came is None:
            came = time.monotonic()
            first()
        elif time.monotonic() - came >= SAME_STOP:
            raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Deadline:
    """Ends an exchange by breaking its connection: a server that sends a byte now and then fools any other limit.

    `within(seconds)` holds for what the calling thread opens with the handlers.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _local.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _local.deadline = None

    @property
    def left(self) -> float:
        """Seconds to go, for a limit that must be above 0."""
        return max(0.001, self._until - time.monotonic())

    def watch(self, connected: socket.socket) -> None:
        """Break this connection when the time is up."""
        self._socket = connected
        if self.passed:
            self._end()

    def _end(self) -> None:
        self.passed = True
        if self._socket is not None:
            with suppress(OSError, ValueError):
                self._socket.shutdown(socket.SHUT_RDWR)


class _Watched:
    """A connection that tells the thread's deadline of its socket."""

    timeout: float | None
    sock: Any

    def connect(self) -> None:
        deadline: Deadline | None = getattr(_local, "deadline", None)
        if deadline is not None:
            self.timeout = min(CONNECT, deadline.left)
        super().connect()  # type: ignore[misc]  # of http.client, which is mixed in below
        if deadline is not None:
            self.sock.settimeout(deadline.left)
            deadline.watch(self.sock)


class _Http(_Watched, http.client.HTTPConnection):
    """Over plain HTTP."""


class _Https(_Watched, http.client.HTTPSConnection):
    """Over TLS."""


class PlainHandler(urllib.request.HTTPHandler):
    """Opens http: addresses within a deadline."""

    def http_open(self, request: urllib.request.Request) -> Any:  # noqa: ANN401  (as urllib has it)
        """Open one."""
        return self.do_open(_Http, request)


class SecureHandler(urllib.request.HTTPSHandler):
    """Opens https: addresses within a deadline."""

    def https_open(self, request: urllib.request.Request) -> Any:  # noqa: ANN401  (as urllib has it)
        """Open one; certificates and names are checked, as urllib does by default."""
        return self.do_open(_Https, request)
