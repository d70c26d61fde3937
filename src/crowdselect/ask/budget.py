"""Hard stops: what may still be sent, counted over resumes and over runs that were killed."""

import asyncio
from typing import Literal

from crowdselect.ask.calls import Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.errors import OptionError

_MESSAGE_TOKENS = 16  # that a chat template may add per message
_TEMPLATE_TOKENS = 256  # and around all of them, system texts of its own included
_LEAST_HOLD = 16


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
                f"--max-cost: {' and '.join(missing)} of {endpoint.name!r} {verb} unknown, and unknown is not 0; "
                "put the prices per million tokens into the crowd file, or leave --max-cost out"
            )
        if endpoint.most_tokens is None and endpoint.price_out:
            raise OptionError(
                f"--max-cost: {endpoint.name!r} has no max_tokens, so an answer may cost anything; set it in the crowd file"
            )


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
