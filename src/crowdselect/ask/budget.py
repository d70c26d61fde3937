"""What asking may cost: the limits of a run, an estimate before it, and hard stops while it runs.

Hard stops count over resumes and over runs that were killed.
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crowdselect.ask.calls import AGAIN, ANSWERED, Request
from crowdselect.ask.conversations import read_conversations
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.errors import OptionError

_MESSAGE_TOKENS = 16  # that a chat template may add per message
_TEMPLATE_TOKENS = 256  # and around all of them, system texts of its own included
_LEAST_HOLD = 16
_BATCH = 256  # requests looked up in the ledger at once


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a run goes.

    Attributes:
        max_cost: Money, over all runs on the ledger; None = no cap.
        max_requests: Requests sent, retries included, over all runs on the ledger; None = no cap.
        attempts: How often one request is sent before it is given up; refusals (429, 503) count a quarter.
        wait: Seconds before the first retry; later ones wait twice as long each time, up to 64 times.
        patience: Seconds that an endpoint may give no answer at all before the run goes on without it.
        grace: Seconds that answers in flight are waited for after Ctrl-C.
        retry_failed: Ask again what has failed before.
    """

    max_cost: float | None = None
    max_requests: int | None = None
    attempts: int = 5
    wait: float = 1.0
    patience: float = 600.0
    grace: float = 1.5
    retry_failed: bool = False


def estimated_tokens(text: str) -> float:
    """Guess how many tokens a text has: a token per four bytes, as is usual for English.

    Example:
        >>> estimated_tokens("Hello you!!!")
        3.0
    """
    return len(text.encode("utf-8", "surrogatepass")) / 4


def most_prompt_tokens(request: Request, endpoint: Endpoint) -> int:
    """Bound the tokens of a prompt: never more than it has bytes, and what a chat template adds."""
    size = len(request.prompt.encode("utf-8", "surrogatepass")) + len((endpoint.system or "").encode())
    turns = 1 + request.prompt.count('"role"')  # at least as many as there are messages
    return size + _MESSAGE_TOKENS * turns + _TEMPLATE_TOKENS


def check_cost_cap(endpoints: tuple[Endpoint, ...], max_cost: float | None) -> None:
    """Refuse a cap on money that could not be kept.

    Raises:
        OptionError: A price or the most tokens of an answer is unknown.
    """
    if max_cost is None:
        return
    for endpoint in endpoints:
        missing = [name for name in ("price_in", "price_out") if getattr(endpoint, name) is None]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise OptionError(
                f"`max_cost`: {' and '.join(missing)} of {endpoint.name!r} {verb} unknown, and unknown is not 0; "
                "put the prices per million tokens into the crowd file, or leave `max_cost` out"
            )
        if endpoint.most_tokens is None and endpoint.price_out:
            raise OptionError(
                f"`max_cost`: {endpoint.name!r} has no max_tokens, so an answer may cost anything; set it in the crowd file"
            )


@dataclass(slots=True)
class Estimate:
    """What one model has still to be asked. None = unknown.

    Attributes:
        calls: Requests to send, if none has to be sent twice.
        done: Requests that the ledger knows already.
        failed: Of these, those that failed and are not asked again.
        prompt_tokens: About: a token per four bytes. In a conversation the answers to earlier turns count as
            long as `max_tokens`.
        answer_tokens: At most: `max_tokens` each.
        likely_tokens: If answers are as long as this model's latest were.
        cost: At most.
        likely_cost: With `likely_tokens`.
        minutes: At least, at the given limits per minute.
        renamed: What the model takes over from the name that it had before, or why nothing; None = it had none.
    """

    calls: int = 0
    done: int = 0
    failed: int = 0
    prompt_tokens: float | None = 0.0
    answer_tokens: float | None = 0.0
    likely_tokens: float | None = None
    cost: float | None = None
    likely_cost: float | None = None
    minutes: float | None = None
    renamed: str | None = None

    def facts(self) -> dict[str, Any]:
        """Give the estimate as plain values."""
        return asdict(self)


def estimate_requests(
    requests: Iterable[Request], endpoint: Endpoint, ledger: Ledger | None, *, retry_failed: bool = False
) -> Estimate:
    """Estimate what asking one endpoint comes to.

    Args:
        requests: What it would be asked, read once.
        endpoint: Who would be asked; where it was renamed, as the ledger knows it.
        ledger: What is known already; None = nothing.
        retry_failed: What failed before would be asked again.
    """
    made = Estimate()
    left = iter(requests)
    while batch := list(itertools.islice(left, _BATCH)):
        _add(made, endpoint, ledger, batch, retry_failed=retry_failed)
    _price(made, endpoint, ledger)
    return made


def _add(
    made: Estimate, endpoint: Endpoint, ledger: Ledger | None, batch: Sequence[Request], *, retry_failed: bool
) -> None:
    if ledger is None:
        for request in batch:
            _ask(made, endpoint, request)
        return
    for conversation in read_conversations(ledger, endpoint, batch):
        ended = [answer for answer in conversation.answers if answer.status != "pending"]
        failed = bool(ended) and ended[-1].status not in ANSWERED
        again = bool(ended) and retry_failed and ended[-1].status in AGAIN
        made.done += len(ended) - again
        made.failed += failed and not retry_failed
        if again or not (conversation.is_whole or failed):
            _ask(made, endpoint, conversation.request)


def _ask(made: Estimate, endpoint: Endpoint, request: Request) -> None:
    """Count a request and the turns that follow it."""
    size = estimated_tokens(request.prompt) + estimated_tokens(endpoint.system or "")
    for number, turn in enumerate(("", *request.then)):
        size += estimated_tokens(turn)
        made.calls += 1
        if number and endpoint.most_tokens is None:
            made.prompt_tokens = None
        elif made.prompt_tokens is not None:
            made.prompt_tokens += size + number * (endpoint.most_tokens or 0)


def _price(made: Estimate, endpoint: Endpoint, ledger: Ledger | None) -> None:
    most = endpoint.most_tokens
    made.answer_tokens = None if most is None and made.calls else float(made.calls * (most or 0))
    mean = None if ledger is None else ledger.mean_tokens(endpoint)
    made.likely_tokens = None if mean is None else made.calls * mean
    made.cost = endpoint.cost(made.prompt_tokens, made.answer_tokens)
    made.likely_cost = (
        None if made.likely_tokens is None else endpoint.cost(made.prompt_tokens, made.likely_tokens)
    )
    times = []
    if endpoint.requests_per_minute is not None:
        times.append(made.calls / endpoint.requests_per_minute)
    if endpoint.tokens_per_minute is not None and made.prompt_tokens is not None:
        answers = made.likely_tokens if made.likely_tokens is not None else made.answer_tokens
        if answers is not None:
            times.append((made.prompt_tokens + answers) / endpoint.tokens_per_minute)
    made.minutes = max(times) if times else None


class Budget:
    """What may still be sent.

    Every request is counted when it is sent. Money is reserved for the most that a request can cost and
    settled when its answer is there. What is sent and not yet in a row of the ledger (in flight, answered a
    moment ago, or waiting for another try) is on disk as a sum before it is sent, rounded up, so that the next
    run can count what a killed one may have paid.
    """

    def __init__(self, ledger: Ledger, *, max_cost: float | None, max_requests: int | None) -> None:
        self._ledger = ledger
        self.max_cost = max_cost
        self.max_requests = max_requests
        self._recorded = self.requests, self.cost = _recorded(ledger)
        self._open_requests = 0
        self._open_cost = 0.0
        self._held_requests = 0
        self._held_cost = 0.0
        self._holding = asyncio.Lock()

    def allows(self, cost: float | None) -> Literal["yes", "later", "no"]:
        """Say whether one more request fits.

        Args:
            cost: The most it can cost; None = unknown (then there is no cap on money).

        Returns:
            `"later"`: it may, once answers in flight turn out cheaper than reserved.
        """
        if self.max_requests is not None and self.requests + 1 > self.max_requests:
            return "no"
        if self.max_cost is None or self.cost + self._open_cost + (cost or 0.0) <= self.max_cost:
            return "yes"
        return "later" if self._open_requests else "no"

    async def reserve(self, cost: float | None) -> None:
        """Take what `allows` has allowed; the reservation is on disk when this returns."""
        self.requests += 1
        self._open_requests += 1
        self._open_cost += cost or 0.0
        if self._is_held():
            return
        async with self._holding:
            if self._is_held():
                return
            self._recorded = _recorded(self._ledger)
            if not self._is_held():
                requests, money = self._unrecorded()
                await self._hold(max(_LEAST_HOLD, 2 * requests), 2 * money)

    def settle(self, reserved: float | None, spent: float) -> None:
        """Give a reservation back, and count what the request cost or may have cost."""
        self._open_requests -= 1
        self._open_cost = self._open_cost - (reserved or 0.0) if self._open_requests else 0.0
        self.cost += spent

    async def close(self) -> None:
        """Nothing is in flight any more."""
        await self._hold(0, 0.0)

    def _unrecorded(self) -> tuple[int, float]:
        """Bound what a kill at this moment would leave out of the ledger's rows: requests and money."""
        requests, money = self._recorded
        return self.requests - requests, self.cost + self._open_cost - money

    def _is_held(self) -> bool:
        requests, money = self._unrecorded()
        return requests <= self._held_requests and money <= self._held_cost

    async def _hold(self, requests: int, money: float) -> None:
        """Put on disk what rows do not count yet, rounded up where the caps leave room for it."""
        least_requests, least_money = self._unrecorded()
        if self.max_requests is not None:
            requests = min(requests, max(self.max_requests - self._recorded[0], least_requests))
        if self.max_cost is not None:
            money = min(money, max(self.max_cost - self._recorded[1], least_money))
        self._ledger.note("hold", [requests, money])
        await asyncio.to_thread(self._ledger.flush)
        self._held_requests, self._held_cost = requests, money


def _recorded(ledger: Ledger) -> tuple[int, float]:
    """Sum up what the ledger's rows and the holds of killed runs count: requests and money."""
    spent = ledger.spent().values()
    return sum(entry.attempts for entry in spent), sum(entry.cost + entry.lost for entry in spent)
