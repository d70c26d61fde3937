"""Ask many endpoints at once, each at its own pace, and record every answer: `run(lanes, ledger, limits)`."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from crowdselect.ask.budget import Budget, check_cost_cap
from crowdselect.ask.lane import Lane
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.limits import Limits
from crowdselect.ask.redact import Redactor
from crowdselect.stops import kept_handlers

SAME_STOP = 0.1
"""Seconds within which two signals are one stop: `run` hands on what a whole group of processes may have got."""
_LOOK = 0.25  # seconds between two looks at the lanes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        interrupted: By Ctrl-C (or SIGTERM).
        abandoned: Requests whose answers were not waited for.
        stopped: Why an endpoint's lane ended early, per name.
    """

    interrupted: bool
    abandoned: int
    stopped: dict[str, str]


def run(
    lanes: Sequence[Lane],
    ledger: Ledger,
    limits: Limits,
    *,
    redact: Redactor | None = None,
    watch: Callable[[], None] | None = None,
) -> Outcome:
    """Ask every lane's endpoint what the ledger does not know yet.

    Args:
        lanes: One per endpoint.
        ledger: Where the answers go; all are on disk when this returns.
        limits: How far to go.
        redact: Knows the keys that must not be stored; None = those of the lanes' endpoints.
        watch: Called four times per second.

    Returns:
        How it ended; what was answered is in the ledger and in `Lane.counts`.

    Raises:
        OptionError: A cap on money with an unknown price; nothing is sent.
        LedgerError: An answer could not be written.
    """
    endpoints = tuple(lane.endpoint for lane in lanes)
    check_cost_cap(endpoints, limits.max_cost)
    ledger.keep_settings(endpoints)
    known = Redactor.of(endpoints) if redact is None else redact
    with kept_handlers(signal.SIGINT, signal.SIGTERM):  # asyncio would leave the system's own behind
        return asyncio.run(_Run(lanes, ledger, limits, known, watch).go())


class _Run:
    def __init__(
        self,
        lanes: Sequence[Lane],
        ledger: Ledger,
        limits: Limits,
        redact: Redactor,
        watch: Callable[[], None] | None,
    ) -> None:
        self._lanes = lanes
        self._ledger = ledger
        self._limits = limits
        self._redact = redact
        self._watch = watch
        self._signals = 0
        self._signalled = 0.0
        self._abandoned = 0

    async def go(self) -> Outcome:
        budget = Budget(self._ledger, max_cost=self._limits.max_cost, max_requests=self._limits.max_requests)
        with self._listening():
            tasks = [
                asyncio.ensure_future(lane.run(self._ledger, budget, self._limits, self._redact))
                for lane in self._lanes
            ]
            try:
                await self._until_done(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for client in {id(lane.client): lane.client for lane in self._lanes}.values():
                    if client is not None:
                        await client.close()
            await budget.close()
        stopped = {lane.endpoint.name: lane.stopped for lane in self._lanes if lane.stopped is not None}
        return Outcome(self._signals > 0, self._abandoned, {} if self._signals else stopped)

    async def _until_done(self, tasks: "Sequence[asyncio.Future[None]]") -> None:
        """Wait for the lanes; the first error of one ends all."""
        left: set[asyncio.Future[None]] = set(tasks)
        while left:
            done, left = await asyncio.wait(left, timeout=_LOOK, return_when=asyncio.FIRST_EXCEPTION)
            if self._watch is not None:
                self._watch()
            for task in done:
                task.result()

    # Ctrl-C: the first stops sending and waits a little for answers, the second ends at once.

    def _interrupt(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._signals and now - self._signalled < SAME_STOP:
            return
        self._signalled = now
        self._signals += 1
        for lane in self._lanes:
            lane.stop("interrupted")
        if self._signals == 1:
            asyncio.get_running_loop().call_later(self._limits.grace, self._abandon)
        else:
            self._abandon()

    def _abandon(self) -> None:
        self._abandoned += sum(lane.counts.in_flight for lane in self._lanes)
        for lane in self._lanes:
            lane.abandon()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM, where the event loop can and this is the main thread."""
        loop = asyncio.get_running_loop()
        listened = []
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._interrupt)
                listened.append(number)
        except (NotImplementedError, ValueError, RuntimeError):
            # asyncio says so on Windows and outside the main thread: Ctrl-C then raises KeyboardInterrupt instead
            pass
        try:
            yield
        finally:
            for number in listened:
                loop.remove_signal_handler(number)
