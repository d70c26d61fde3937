"""The cost of requests: the limits of a run, an estimate before it, and hard caps while it runs.

Hard caps hold across resumed runs and count runs that were killed.
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
from crowdselect.ask.refused import accepted
from crowdselect.errors import OptionError

UNPRICED = "a cost is unknown where the crowd file lacks price_in or price_out (money per million tokens) or max_tokens"
"""What to write where a plan has no cost."""

_MESSAGE_TOKENS = 16  # that a chat template may add per message
_TEMPLATE_TOKENS = 256  # and around all of them, system texts of its own included
_LEAST_HOLD = 16
_BATCH = 256  # requests looked up in the ledger at once


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a run.

    Attributes:
        max_cost: Money, over all runs on the ledger; None = no cap.
        max_requests: Requests sent, retries included, over all runs on the ledger; None = no cap.
        attempts: How often one request is sent before giving up; a refusal (429, 503) counts as a quarter.
        wait: Seconds before the first retry; later ones wait twice as long each time, up to 64 times.
        patience: Seconds that an endpoint may return no answer at all before the run continues without it.
        grace: Seconds to wait for answers in flight after Ctrl-C.
        retry_failed: Send requests again that failed before.
    """

    max_cost: float | None = None
    max_requests: int | None = None
    attempts: int = 5
    wait: float = 1.0
    patience: float = 600.0
    grace: float = 1.5
    retry_failed: bool = False


def estimated_tokens(text: str) -> float:
    """Estimate the number of tokens of a text: one per four bytes, typical for English.

    Example:
        >>> estimated_tokens("Hello you!!!")
        3.0
    """
    return len(text.encode("utf-8", "surrogatepass")) / 4


def most_prompt_tokens(request: Request, endpoint: Endpoint) -> int:
    """Upper bound on the tokens of a prompt: its length in bytes, plus what a chat template adds."""
    size = len(request.prompt.encode("utf-8", "surrogatepass")) + len((endpoint.system or "").encode())
    turns = 1 + request.prompt.count('"role"')  # at least as many as there are messages
    return size + _MESSAGE_TOKENS * turns + _TEMPLATE_TOKENS


def check_cost_cap(endpoints: tuple[Endpoint, ...], max_cost: float | None) -> None:
    """Refuse a cost cap that could not be enforced.

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
    """What is still to be sent to one model, and what it may cost. None = unknown.

    Attributes:
        calls: Requests to send, without retries.
        done: Requests with a result in the ledger.
        failed: Those of `done` that failed and are not sent again.
        prompt_tokens: Estimated at one token per four bytes. In a conversation each earlier answer counts as
            `max_tokens` long.
        answer_tokens: Upper bound: `max_tokens` each.
        likely_tokens: Estimate if answers are as long as this model's latest ones.
        cost: Upper bound.
        likely_cost: Cost with `likely_tokens`.
        minutes: Lower bound from the limits per minute.
        renamed: Which answers the model takes over from its former name, or why none; None = it had no other name.
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
        """Return the estimate as plain values."""
        return asdict(self)


def estimate_requests(
    requests: Iterable[Request], endpoint: Endpoint, ledger: Ledger | None, *, retry_failed: bool = False
) -> Estimate:
    """Estimate the requests, tokens, cost and time for one endpoint.

    Args:
        requests: The requests it would get, read once.
        endpoint: The endpoint; if it was renamed, under its name in the ledger.
        ledger: Answers so far; None = none.
        retry_failed: Count requests that failed before as to be sent again.
    """
    estimate = Estimate()
    remaining = iter(requests)
    while batch := list(itertools.islice(remaining, _BATCH)):
        _add(estimate, endpoint, ledger, batch, retry_failed=retry_failed)
    _price(estimate, endpoint, ledger)
    return estimate


def _add(
    estimate: Estimate,
    endpoint: Endpoint,
    ledger: Ledger | None,
    batch: Sequence[Request],
    *,
    retry_failed: bool,
) -> None:
    if ledger is None:
        for request in batch:
            _ask(estimate, endpoint, request)
        return
    for conversation in read_conversations(ledger, endpoint, batch):
        ended = [answer for answer in conversation.answers if answer.status != "pending"]
        failed = bool(ended) and ended[-1].status not in ANSWERED
        again = bool(ended) and retry_failed and ended[-1].status in AGAIN
        estimate.done += len(ended) - again
        estimate.failed += failed and not retry_failed
        if again or not (conversation.is_whole or failed):
            _ask(estimate, endpoint, conversation.request)


def _ask(estimate: Estimate, endpoint: Endpoint, request: Request) -> None:
    """Count a request and the turns that follow it."""
    size = estimated_tokens(request.prompt) + estimated_tokens(endpoint.system or "")
    for number, turn in enumerate(("", *request.then)):
        size += estimated_tokens(turn)
        estimate.calls += 1
        if number and endpoint.most_tokens is None:
            estimate.prompt_tokens = None
        elif estimate.prompt_tokens is not None:
            estimate.prompt_tokens += size + number * (endpoint.most_tokens or 0)


def _price(estimate: Estimate, endpoint: Endpoint, ledger: Ledger | None) -> None:
    most = endpoint.most_tokens
    estimate.answer_tokens = None if most is None and estimate.calls else float(estimate.calls * (most or 0))
    mean = None if ledger is None else ledger.mean_tokens(accepted(ledger, endpoint))
    estimate.likely_tokens = None if mean is None else estimate.calls * mean
    estimate.cost = endpoint.cost(estimate.prompt_tokens, estimate.answer_tokens)
    estimate.likely_cost = (
        None
        if estimate.likely_tokens is None
        else endpoint.cost(estimate.prompt_tokens, estimate.likely_tokens)
    )
    times = []
    if endpoint.requests_per_minute is not None:
        times.append(estimate.calls / endpoint.requests_per_minute)
    if endpoint.tokens_per_minute is not None and estimate.prompt_tokens is not None:
        answers = estimate.likely_tokens if estimate.likely_tokens is not None else estimate.answer_tokens
        if answers is not None:
            times.append((estimate.prompt_tokens + answers) / endpoint.tokens_per_minute)
    estimate.minutes = max(times) if times else None


class Budget:
    """Tracks what may still be sent.

    Every request is counted when it is sent. The most that it can cost is reserved then and settled when its
    answer arrives. The total of requests that are not yet in a row of the ledger (in flight, just answered,
    or waiting for a retry) is written to disk, rounded up, before they are sent, so that the next run can count
    what a killed run may have paid.
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
        """Return whether one more request fits.

        Args:
            cost: The most it can cost; None = unknown (then there is no cap on money).

        Returns:
            `"yes"`, `"no"`, or `"later"`: it may fit once answers in flight turn out cheaper than reserved.
        """
        if self.max_requests is not None and self.requests + 1 > self.max_requests:
            return "no"
        if self.max_cost is None or self.cost + self._open_cost + (cost or 0.0) <= self.max_cost:
            return "yes"
        return "later" if self._open_requests else "no"

    async def reserve(self, cost: float | None) -> None:
        """Reserve what `allows` has allowed; the reservation is on disk when this returns."""
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
        """Release a reservation, and count what the request cost or may have cost."""
        self._open_requests -= 1
        self._open_cost = self._open_cost - (reserved or 0.0) if self._open_requests else 0.0
        self.cost += spent

    async def close(self) -> None:
        """Clear the reservation on disk: nothing is in flight any more."""
        await self._hold(0, 0.0)

    def _unrecorded(self) -> tuple[int, float]:
        """Upper bound on what the ledger's rows would miss if the process were killed now: requests and money."""
        requests, money = self._recorded
        return self.requests - requests, self.cost + self._open_cost - money

    def _is_held(self) -> bool:
        requests, money = self._unrecorded()
        return requests <= self._held_requests and money <= self._held_cost

    async def _hold(self, requests: int, money: float) -> None:
        """Write to disk what rows do not count yet, rounded up if the caps leave room."""
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
