"""`ask` sends the requests that are not yet in a ledger; the answers are read from the ledger.

All requests to models go through here, so rate limits, retries, the budget, progress, Ctrl-C and the reasons why an
endpoint stopped early work the same way everywhere.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crowdselect.ask.budget import Budget, Limits, check_cost_cap
from crowdselect.ask.calls import Client, Request
from crowdselect.ask.endpoints import Endpoint, key
from crowdselect.ask.lane import Lane
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.ask.redact import Redactor
from crowdselect.ask.refused import accepted
from crowdselect.ask.renamed import Renamed, find_renamed
from crowdselect.errors import CallError
from crowdselect.stops import kept_handlers

Opener = Callable[[Endpoint], Client]
"""Makes the client of an endpoint."""
Watch = Callable[[Sequence[Lane], int], AbstractContextManager[Callable[[], None]]]
"""Takes the lanes and the number of requests per lane, and shows progress; yields a function that refreshes it."""

SAME_STOP = 0.1
"""Seconds within which two signals are one stop: a recipe run forwards a signal that its process group may have received too."""
_LOOK = 0.25  # seconds between two checks of the lanes


def open_client(endpoint: Endpoint) -> Client:
    """Make the client for an endpoint: HTTP for a `base_url`, transformers for a `local` model.

    Raises:
        OptionError: The endpoint's key is not in the environment.
        MissingExtraError: The client's library is not installed.
    """
    if endpoint.local is not None:
        from crowdselect.ask.local_client import LocalClient

        return LocalClient(endpoint)
    from crowdselect.ask.http_client import HttpClient

    return HttpClient(endpoint, key=key(endpoint))


class Wanted(NamedTuple):
    """The requests for one endpoint.

    Attributes:
        endpoint: The endpoint to ask.
        requests: Read lazily: no more than a few hundred are in memory at once.
    """

    endpoint: Endpoint
    requests: Iterable[Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """How models are asked.

    Attributes:
        limits: Limits on money, requests and retries.
        opener: Makes the clients; called before the first request is sent, and never if there is nothing to send.
        redact: Removes the keys that must not be stored; None = the keys of the endpoints that are asked.
        watch: Shows progress; None = nothing is shown.
        stop_if_cut: Stop an endpoint, a judge, of whose first 20 replies 10 were cut.
        tell: Called with a line on each parameter that a server refuses and that is no longer sent; None = no one is told.
    """

    limits: Limits = field(default_factory=Limits)
    opener: Opener = open_client
    redact: Redactor | None = None
    watch: Watch | None = None
    stop_if_cut: bool = False
    tell: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class AskResult:
    """How a run ended.

    Attributes:
        interrupted: Whether Ctrl-C (or SIGTERM) ended it.
        abandoned: Number of requests in flight whose answers were not waited for.
        stopped: Endpoint name → why its lane ended early.
    """

    interrupted: bool
    abandoned: int
    stopped: dict[str, str]


class InterruptedAskError(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the run; all answers so far are in the ledger.

    Attributes:
        outcome: How the run ended.
    """

    def __init__(self, outcome: AskResult) -> None:
        super().__init__()
        self.outcome = outcome


def ask(wanted: Sequence[Wanted], ledger: Ledger, options: AskOptions, *, total: int = 0) -> AskResult:
    """Send every endpoint the requests that the ledger has no answer to.

    Args:
        wanted: The endpoints and their requests.
        ledger: Where the answers go; all are on disk when this returns. `answers_to` and `read_conversations` read them.
        options: Limits, clients, progress.
        total: Requests per endpoint, counting every turn; for progress only.

    Returns:
        How the run ended, and why, for each endpoint that was stopped early.

    Raises:
        InterruptedAskError: Ctrl-C ended the run.
        OptionError: A cap on money with an unknown price; nothing is sent.
        LedgerError: An answer could not be written.
        CallError: An endpoint was stopped because its replies are cut (`stop_if_cut`); the message says what to write.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from crowdselect.ask.calls import ScriptedClient, make_request
        >>> endpoint = Endpoint("m", base_url="http://localhost/v1", model="m")
        >>> requests = [make_request([{"role": "user", "content": "Hi"}])]
        >>> options = AskOptions(opener=lambda _: ScriptedClient(lambda request: "Hello"))
        >>> with Ledger(Path(mkdtemp()) / "ledger") as ledger:
        ...     ended = ask([Wanted(endpoint, requests)], ledger, options)
        ...     answers = answers_to(ledger, endpoint, requests)
        >>> ended.stopped, [answer.text for answer in answers]
        ({}, ['Hello'])
    """
    endpoints = [accepted(ledger, endpoint) for endpoint, _ in wanted]
    clients = _Clients(endpoints, options.opener)
    lanes = [
        Lane(
            endpoint,
            partial(clients.get, number),
            wanted[number].requests,
            opener=options.opener,
            stop_if_cut=options.stop_if_cut,
            tell=options.tell,
        )
        for number, endpoint in enumerate(endpoints)
    ]
    shown = nullcontext(None) if options.watch is None else options.watch(lanes, total)
    with shown as update:
        ended = run(lanes, ledger, options.limits, redact=options.redact, watch=update)
    if ended.interrupted:
        raise InterruptedAskError(ended)
    for lane in lanes:
        if lane.is_cut:
            raise CallError(f"{lane.endpoint.name}: {lane.stopped}", verdict="stop")
    return ended


def answers_to(ledger: Ledger, endpoint: Endpoint, requests: Sequence[Request]) -> list[Answer | None]:
    """Read the answers to single-turn requests from a ledger.

    Args:
        ledger: Where the answers are.
        endpoint: The endpoint that was asked.
        requests: Its requests; duplicates are allowed.

    Returns:
        One per request, in order; None if it was not sent or has no answer yet.
    """
    endpoint = accepted(ledger, endpoint)
    keys = [request.key(endpoint) for request in requests]
    rows = ledger.get(list(dict.fromkeys(keys)))
    answers = [rows.get(key) for key in keys]
    return [None if answer is None or answer.status == "pending" else answer for answer in answers]


@contextmanager
def looked_into(
    path: Path | None, endpoints: Sequence[Endpoint], *, present: Iterable[str], force: bool = False
) -> Iterator[tuple[Ledger | None, Renamed]]:
    """Open an existing ledger for planning: none is created, and no answers are taken over by a new name.

    Args:
        path: The ledger's file; None = there is none.
        endpoints: The endpoints that would be asked.
        present: All names in the crowd file; see `find_renamed`.
        force: Open it even on a network file system.

    Yields:
        The ledger, None if there is none yet; and the endpoints that have another name in it.
    """
    with Ledger(path, force=force) if path is not None and path.exists() else nullcontext(None) as ledger:
        yield ledger, find_renamed(ledger, endpoints, present=set(present))


def run(
    lanes: Sequence[Lane],
    ledger: Ledger,
    limits: Limits,
    *,
    redact: Redactor | None = None,
    watch: Callable[[], None] | None = None,
) -> AskResult:
    """Run all lanes: send the requests that the ledger has no answer to.

    Args:
        lanes: One per endpoint.
        ledger: Where the answers go; all are on disk when this returns.
        limits: Limits on money, requests and retries.
        redact: Removes the keys that must not be stored; None = the keys of the lanes' endpoints.
        watch: Called four times per second.

    Returns:
        How it ended; the answers are in the ledger, the counts in `Lane.counts`.

    Raises:
        OptionError: A cap on money with an unknown price; nothing is sent.
        LedgerError: An answer could not be written.
    """
    endpoints = tuple(lane.endpoint for lane in lanes)
    check_cost_cap(endpoints, limits.max_cost)
    ledger.keep_settings(endpoints)
    known = Redactor.of(endpoints) if redact is None else redact
    with kept_handlers(signal.SIGINT, signal.SIGTERM):  # asyncio would leave the default handlers behind
        return asyncio.run(_LaneRunner(lanes, ledger, limits, known, watch).go())


class _Clients:
    """All clients, created together when the first is needed: a run with nothing to send loads nothing."""

    def __init__(self, endpoints: Sequence[Endpoint], make: Opener) -> None:
        self._endpoints = endpoints
        self._make = make
        self._made: list[Client] = []

    def get(self, number: int) -> Client:
        if not self._made:
            self._made = [self._make(endpoint) for endpoint in self._endpoints]
        return self._made[number]


class _LaneRunner:
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

    async def go(self) -> AskResult:
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
                for client in {
                    id(client): client for lane in self._lanes for client in lane.clients
                }.values():
                    await client.close()
            await budget.close()
        stopped = {lane.endpoint.name: lane.stopped for lane in self._lanes if lane.stopped is not None}
        return AskResult(self._signals > 0, self._abandoned, {} if self._signals else stopped)

    async def _until_done(self, tasks: "Sequence[asyncio.Future[None]]") -> None:
        """Wait for the lanes; the first error in one ends all."""
        unfinished: set[asyncio.Future[None]] = set(tasks)
        while unfinished:
            done, unfinished = await asyncio.wait(
                unfinished, timeout=_LOOK, return_when=asyncio.FIRST_EXCEPTION
            )
            if self._watch is not None:
                self._watch()
            for task in done:
                task.result()

    # The first Ctrl-C stops sending and waits briefly for answers in flight; the second ends at once.

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
        """Handle SIGINT and SIGTERM if the event loop can and this is the main thread."""
        loop = asyncio.get_running_loop()
        listened = []
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._interrupt)
                listened.append(number)
        except (NotImplementedError, ValueError, RuntimeError):
            # raised on Windows and outside the main thread: Ctrl-C then raises KeyboardInterrupt instead
            pass
        try:
            yield
        finally:
            for number in listened:
                loop.remove_signal_handler(number)
