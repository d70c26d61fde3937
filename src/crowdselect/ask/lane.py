"""One endpoint's part of a run: reads its requests, skips those in the ledger, sends the rest."""

import asyncio
import heapq
import itertools
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from crowdselect.ask.budget import Budget, Limits, estimated_tokens, most_prompt_tokens
from crowdselect.ask.calls import ANSWERED, Client, Reply, Request, Status
from crowdselect.ask.conversations import followed
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Answer, Ledger, now
from crowdselect.ask.pace import Pace, Sent
from crowdselect.ask.redact import Redactor
from crowdselect.ask.refused import keep_refusal, line_to_write, said, without
from crowdselect.errors import CallError, LedgerError

_BATCH = 256  # requests looked up in the ledger at once
_REFUSALS = 4  # refusals (429, 503) per counted failure: they cost nothing
_UNKNOWN_ANSWER = 512  # tokens, for a server's limit per minute, if max_tokens is not set
_LONGEST_ERROR = 500
_FIRST, _MOST_CUT = 20, 10  # replies of a judge that are looked at; as many of them cut end the run
_ROOMY = 2048  # tokens that are enough for most verdicts
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Counts:
    """What a lane has done so far in this run."""

    known: int = 0
    """Found in the ledger."""
    ended: dict[Status, int] = field(default_factory=dict)
    sent: int = 0
    in_flight: int = 0
    tokens: int = 0
    """In the answers."""
    cost: float = 0.0
    cost_unknown: int = 0

    @property
    def done(self) -> int:
        """Requests that are finished."""
        return self.known + sum(self.ended.values())

    @property
    def failed(self) -> int:
        """Requests of this run that ended without an answer."""
        return sum(n for status, n in self.ended.items() if status not in ANSWERED)


@dataclass(slots=True, eq=False)
class _Item:
    """A request until its result is recorded."""

    request: Request
    settings: bytes = b""
    """Digest of the endpoint's settings that it was last sent with."""
    attempts: int = 0
    refusals: int = 0
    uncounted: int = 0
    """Attempts not yet counted in a row of the ledger."""
    lost: float = 0.0
    error: str = ""
    row: int = 0
    """Its sequence number from `Ledger.put`; 0 = not recorded yet."""
    answer: str | None = None
    """The answer, for the conversation's next turn."""


def _same(request: Request) -> tuple[bytes, int]:
    """Identify a request within a lane, whatever settings it is sent with."""
    return request.digest, request.sample


class Lane:
    """Sends one endpoint all its requests that have no result in the ledger.

    Args:
        endpoint: The endpoint.
        client: Its client; or a function that makes it, called before the first request is sent, and never if
            there is nothing to send.
        requests: Read lazily: no more than a few hundred are in memory at once.
        opener: Makes the client that sends what is left if the server refuses a parameter; None = the same client.
        stop_if_cut: Stop if 10 of the first 20 replies under the endpoint's settings were cut; looked at before each request.
        tell: Called with a line on each parameter that is no longer sent.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client: Client | Callable[[], Client],
        requests: Iterable[Request],
        *,
        opener: Callable[[Endpoint], Client] | None = None,
        stop_if_cut: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.client = client if isinstance(client, Client) else None
        self.clients: list[Client] = [] if self.client is None else [self.client]
        """All that were used, to be closed."""
        self._make = None if isinstance(client, Client) else client
        self._opener, self._tell = opener, tell
        self._stop_if_cut = stop_if_cut
        self._first: list[Status] | None = None
        """Statuses of the first replies; None = not read yet."""
        self.is_cut = False
        """Whether it ended early because its replies are cut."""
        self.counts = Counts()
        self.stopped: str | None = None
        """Why it ended early; None = it did not."""
        self.pace: Pace | None = None
        self._source: Iterator[Request] = iter(requests)
        self._exhausted = False
        self._ready: deque[_Item] = deque()
        self._later: list[tuple[float, int, _Item]] = []
        self._numbers = itertools.count()
        self._pending: set[tuple[bytes, int]] = set()
        """Digests and samples of the requests that have no result yet: their keys change with the settings."""
        self._beside: dict[tuple[bytes, int], list[Request]] = {}
        """Other conversations that begin with a request in flight."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._crash: BaseException | None = None

    async def run(self, ledger: Ledger, budget: Budget, limits: Limits, redact: Redactor) -> None:
        """Run until everything is answered or given up, or `stop` is called; then wait for requests in flight.

        Raises:
            LedgerError: An answer could not be written.
        """
        self._ledger, self._budget, self._limits, self._redact = ledger, budget, limits, redact
        self._committed = Committed(ledger)
        endpoint = self.endpoint
        self.pace = self._pace = Pace(
            ceiling=endpoint.max_concurrency if endpoint.local is None else 2 * endpoint.batch_size,
            requests_per_minute=endpoint.requests_per_minute,
            tokens_per_minute=endpoint.tokens_per_minute,
            wait=limits.wait,
            adaptive=endpoint.local is None,
            seed=int.from_bytes(endpoint.digest[:8], "big"),
        )
        try:
            while self.stopped is None and self._crash is None and await self._step():
                pass
            while self._tasks and self._crash is None:
                await self._doze(None)
        finally:
            await self._cancel()
            self._leave_rest()
        if self._crash is not None:
            raise self._crash

    def stop(self, why: str) -> None:
        """Send nothing more."""
        if self.stopped is None:
            self.stopped = why
        self._wake.set()

    def abandon(self) -> None:
        """Cancel requests in flight."""
        for task in self._tasks:
            task.cancel()

    @property
    def waits(self) -> bool:
        """Whether sending is paused because the endpoint refuses requests or does not answer."""
        return self.pace is not None and self.pace.is_paused and self.stopped is None

    # Choosing the next request.

    async def _step(self) -> bool:
        """Send one request, or wait until something changes; False when nothing is left to do."""
        item = self._next()
        if item is None:
            return await self._idle()
        if self._is_cut_short():
            self._ready.appendleft(item)
            return False
        tokens, most = self._tokens(item.request), self._most(item)
        delay = self._pace.delay(len(self._tasks), tokens)
        if delay == 0 and not self._ledger.is_behind and await self._reserved(most):
            self._send(item, tokens, most)
            return True
        self._ready.appendleft(item)
        if delay != 0:
            self._check_patience()
            await self._doze(delay)
        elif self._ledger.is_behind:
            await asyncio.to_thread(self._ledger.flush)
        return True

    def _is_cut_short(self) -> bool:
        """Stop if so many of the first replies were cut that the next would be paid for in vain."""
        if not self._stop_if_cut:
            return False
        if self._first is None:
            self._first = self._ledger.first_statuses(self.endpoint.digest, _FIRST)
        cut, limit = self._first.count("length"), self.endpoint.most_tokens
        if cut < _MOST_CUT:
            return False
        wanted = max(_ROOMY, 4 * (limit or 0))
        self.is_cut = True
        self.stop(
            f"{cut} of its first {len(self._first)} replies were cut"
            f"{'' if limit is None else f' (max_tokens = {limit})'}, and a cut reply is no verdict: write `max_tokens = {wanted}` "
            "in its table of the crowd file, or pass `keep_going=True`"
        )
        return True

    def _next(self) -> _Item | None:
        """Return a retry that is due, else a follow-up turn, else a new request; None if there is none."""
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[2]
        if self._is_crowded:
            return None
        if not self._ready and not self._exhausted:
            self._refill()
        return self._ready.popleft() if self._ready else None

    @property
    def _is_crowded(self) -> bool:
        """Whether so many retries are waiting that no new request should start."""
        return len(self._later) >= 2 * self._pace.limit + 16

    async def _idle(self) -> bool:
        """Wait for an answer or the next retry, as nothing can be sent now; False if there is neither."""
        if not self._exhausted and not self._is_crowded:
            await asyncio.sleep(0)  # a whole batch was known; let the other lanes run
            return True
        if not self._later and not self._tasks:
            return False
        await self._doze(self._later[0][0] - time.monotonic() if self._later else None)
        return True

    def _refill(self) -> None:
        """Read some requests, skip known ones, and follow conversations to their last answered turn."""
        batch = list(itertools.islice(self._source, _BATCH))
        self._exhausted = not batch
        retry = self._limits.retry_failed
        for _, request, is_known in followed(batch, self.endpoint, self._ledger, retry_failed=retry):
            if is_known:
                self.counts.known += 1
            elif self._is_new(request):
                self._ready.append(_Item(request))

    def _is_new(self, request: Request) -> bool:
        """Return whether a request is not in flight yet; if it is, its answer also continues this conversation."""
        if _same(request) not in self._pending:
            self._pending.add(_same(request))
            return True
        self.counts.known += 1
        if request.then:
            self._beside.setdefault(_same(request), []).append(request)
        return False

    def _tokens(self, request: Request) -> float:
        """Estimate the tokens that a server counts against a limit per minute."""
        if self.endpoint.tokens_per_minute is None:
            return 0.0
        return estimated_tokens(request.prompt) + (self.endpoint.most_tokens or _UNKNOWN_ANSWER)

    def _most(self, item: _Item) -> float | None:
        """Upper bound on what a request can cost; None if unknown."""
        endpoint = self.endpoint
        if endpoint.price_in is None or endpoint.price_out is None:
            return None
        if endpoint.price_out and endpoint.most_tokens is None:
            return None
        return endpoint.cost(most_prompt_tokens(item.request, endpoint), endpoint.most_tokens or 0)

    async def _reserved(self, most: float | None) -> bool:
        verdict = self._budget.allows(most)
        if verdict == "yes":
            self._ready_client()  # if this fails, nothing is sent and nothing counts as sent
            await self._budget.reserve(most)
            if self.stopped is None:
                return True
            self._budget.settle(most, 0.0)  # stopped in the meantime
            self._budget.requests -= 1
            return False
        if verdict == "no":
            cap = (
                "`max_requests`"
                if self._budget.max_cost is None
                else "the budget (`max_cost`, `max_requests`)"
            )
            self.stop(f"{cap} is used up")
        else:
            await self._doze(0.05)
        return False

    def _check_patience(self) -> None:
        """Stop if the endpoint has returned no answer for too long."""
        silent = time.monotonic() - self._pace.well_at
        if self._pace.failures and silent > self._limits.patience and not self._tasks:
            last_error = next((item.error for item in self._waiting() if item.error), "no answer")
            self.stop(
                f"gave no answer for {silent:.0f} s (last: {last_error}); run the same command again to resume"
            )

    def _waiting(self) -> list[_Item]:
        return [*(entry[2] for entry in self._later), *self._ready]

    # Sending.

    def _send(self, item: _Item, tokens: float, most: float | None) -> None:
        client = self._ready_client()
        item.settings = self.endpoint.digest
        item.attempts += 1
        item.uncounted += 1
        self.counts.sent += 1
        self.counts.in_flight += 1
        task = asyncio.get_running_loop().create_task(
            self._ask(client, item, self._pace.send(len(self._tasks), tokens), most)
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ready_client(self) -> Client:
        """Return the client, created outside an answer's timeout, as libraries load slowly."""
        if self.client is None and self._make is not None:
            self.client = self._make()
            self.clients.append(self.client)
        if self.client is None:
            raise AssertionError("a lane has a client or what makes one")
        return self.client

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self.counts.in_flight -= 1
        if not task.cancelled() and task.exception() is not None:
            self._crash = task.exception()
        self._wake.set()

    async def _ask(self, client: Client, item: _Item, sent: Sent, most: float | None) -> None:
        started = time.perf_counter()
        limit = self.endpoint.timeout if self.endpoint.local is None else None
        try:
            async with asyncio.timeout(limit):
                reply = await client.ask(item.request)
        except TimeoutError:
            error = CallError(f"no whole answer within {self.endpoint.timeout:g} s", billed=True)
            self._fail(item, sent, error, most, slow=True)
        except CallError as error:
            self._fail(item, sent, error, most, slow=error.verdict == "refused")
        except asyncio.CancelledError:
            self._settle(item, most, lost=most or 0.0)
            self._later.append((0.0, next(self._numbers), item))
            raise
        else:
            self._answer(item, sent, reply, most, latency=time.perf_counter() - started)
        if (
            item.row
        ):  # hold its slot until it is on disk, so that a crash loses no more than the requests in flight
            await self._committed.wait(item.row)
            for request in (item.request, *self._beside.pop(_same(item.request), ())):
                if item.answer is not None and request.then:
                    self._follow(request.follow(item.answer))

    def _settle(self, item: _Item, most: float | None, *, lost: float, cost: float = 0.0) -> None:
        item.lost += lost
        self._budget.settle(most, lost + cost)

    def _answer(self, item: _Item, sent: Sent, reply: Reply, most: float | None, *, latency: float) -> None:
        cost = self.endpoint.cost(reply.prompt_tokens, reply.completion_tokens)
        self._settle(item, most, lost=(most or 0.0) if cost is None else 0.0, cost=cost or 0.0)
        self._pace.answered(sent, prompt_tokens=reply.prompt_tokens, tokens=reply.completion_tokens)
        counts = self.counts
        counts.tokens += reply.completion_tokens or 0
        counts.cost += cost or 0.0
        counts.cost_unknown += cost is None
        text = self._clean(reply.text)
        status = reply.status
        self._record(
            item,
            status,
            text=text,
            reasoning=None if reply.reasoning is None else self._clean(reply.reasoning),
            finish_reason=None if reply.finish_reason is None else self._clean(reply.finish_reason),
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost=cost,
            error=reply.error,
            latency=round(latency, 4),
        )
        item.answer = text if status in ANSWERED else None

    def _follow(self, request: Request) -> None:
        """Queue a conversation's next turn at the front, unless it is known."""
        key = request.key(self.endpoint)
        if self._ledger.known([key], retry_failed=self._limits.retry_failed):
            self.counts.known += 1
            answer = self._ledger.get([key])[key]
            if request.then and answer.status in ANSWERED:
                self._follow(request.follow(answer.text or ""))
        elif self._is_new(request):
            self._ready.appendleft(_Item(request))

    def _fail(self, item: _Item, sent: Sent, error: CallError, most: float | None, *, slow: bool) -> None:
        item.error = _SURROGATES.sub("\ufffd", self._redact.error(str(error)))[:_LONGEST_ERROR]
        self._settle(item, most, lost=(most or 0.0) if error.billed else 0.0)
        verdict, parameter = error.verdict, error.parameter
        if parameter is not None and self._adapted(item, parameter):
            return
        if parameter in self.endpoint.fields():
            verdict = "stop"
            item.error = f"{item.error}; {line_to_write(self.endpoint, str(parameter))}"
        if verdict in {"retry", "refused"}:
            self._pace.failed(sent, error, slow=slow)
            item.refusals += verdict == "refused"
            tries = item.attempts - item.refusals + item.refusals / _REFUSALS
            if tries >= self._limits.attempts:
                self._record(item, "gave_up", error=item.error)
                return
            due = time.monotonic() + self._pace.backoff(item.attempts)
            heapq.heappush(self._later, (due, next(self._numbers), item))
            if verdict == "refused" and self._pace.failures >= self._limits.attempts * _REFUSALS:
                self.stop(
                    f"refused requests {self._pace.failures} times in a row and answered none (last: {item.error}); more than that "
                    "`attempts` does not allow, as a refusal counts a quarter; run the same command again to resume"
                )
            return
        self._pace.well_at = time.monotonic()  # it responds, if only with an error
        self._record(item, "filtered" if verdict == "filtered" else "failed", error=item.error)
        if verdict == "stop":
            again = "" if parameter else "; fix that, then run again with `retry_failed=True`"
            self.stop(f"{item.error}{again}")

    def _adapted(self, item: _Item, parameter: str) -> bool:
        """Queue a request again without a parameter that the server refuses; False if it may not be left out."""
        if (
            item.settings == self.endpoint.digest
        ):  # else the answer to another request has changed them already
            changed = without(self.endpoint, parameter)
            if changed is None:
                return False
            self._change(changed, parameter)
        item.attempts -= 1  # no failure of its own; it still counts as sent
        self._ready.appendleft(item)
        return True

    def _change(self, changed: Endpoint, parameter: str) -> None:
        """Go on with other settings; what has an answer under them is not sent again."""
        self._ledger.keep_settings((changed,))
        keep_refusal(self._ledger, self.endpoint, parameter)
        if self._tell is not None:
            self._tell(said(self.endpoint, parameter))
        self.endpoint, self._first = changed, None
        if self._opener is not None:
            self.client, self._make = None, partial(self._opener, changed)
        unsent = [item.request for item in self._ready if not item.uncounted]
        self._ready = deque(item for item in self._ready if item.uncounted)
        self._pending.difference_update(map(_same, unsent))
        self._source, self._exhausted = itertools.chain(unsent, self._source), False

    def _clean(self, text: str) -> str:
        """Remove keys, and lone surrogates, which UTF-8 cannot encode."""
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                text = _SURROGATES.sub("\ufffd", text)
        return self._redact.text(text)

    def _record(self, item: _Item, status: Status, **facts: Any) -> None:  # noqa: ANN401  (fields of `Answer`)
        """Queue a row for the ledger: a request's result, and its attempts not counted in a row yet."""
        endpoint, request = self.endpoint, item.request
        item.row = self._ledger.put(
            Answer(
                key=request.key(endpoint),
                model=endpoint.name,
                settings=endpoint.digest,
                prompt=request.digest,
                sample=request.sample,
                status=status,
                lost=item.lost,
                attempts=item.uncounted,
                at=now(),
                **facts,
            )
        )
        self._pending.discard(_same(request))
        if self._first is not None and len(self._first) < _FIRST and status in ANSWERED:
            self._first.append(status)
        if status != "pending":
            self.counts.ended[status] = self.counts.ended.get(status, 0) + 1

    # Waiting and ending.

    async def _doze(self, seconds: float | None) -> None:
        """Wait until something has happened, or for `seconds`."""
        if seconds is None:
            await self._wake.wait()
        elif seconds > 0:
            timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        else:
            await asyncio.sleep(0)
        self._wake.clear()

    async def _cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _leave_rest(self) -> None:
        """Record requests that were sent but have no answer, so that their attempts count; the next run sends them again."""
        if self._crash is None:
            for item in self._waiting():
                if item.uncounted:
                    self._record(item, "pending", error=item.error or "the run ended before the answer came")


class Committed:
    """Wakes the tasks whose answers have been committed. Belongs to one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._is_listening = False

    async def wait(self, number: int) -> None:
        """Wait until an answer is on disk.

        Args:
            number: From `Ledger.put`; must not decrease between calls.

        Raises:
            LedgerError: It could not be written.
        """
        future = self._loop.create_future()
        self._waiting.append((number, future))
        self._listen()
        await future

    def _listen(self) -> None:
        if self._waiting and not self._is_listening:
            self._is_listening = True
            self._ledger.on_commit(self._wake)
        self._look()  # also for what was committed before the listener was registered

    def _wake(self) -> None:
        """Schedule a check; called from the ledger's writer thread."""
        with suppress(RuntimeError):  # the loop is closed: no task waits any more
            self._loop.call_soon_threadsafe(self._again)

    def _again(self) -> None:
        self._is_listening = False
        self._look()
        self._listen()

    def _look(self) -> None:
        try:
            while self._waiting and self._ledger.is_committed(self._waiting[0][0]):
                _end(self._waiting.popleft()[1])
        except LedgerError as error:
            while self._waiting:
                _end(self._waiting.popleft()[1], error)


def _end(future: "asyncio.Future[None]", error: LedgerError | None = None) -> None:
    if future.done():  # the waiting task was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
