"""How fast one endpoint may be asked: it finds out, and obeys what it is told.

Concurrency starts at 4. Every answer lets one more request in (so it doubles per round) until the first
sign of trouble; from then on it grows by one per round. It halves on 429, 503 and time-outs, and where
latency has risen without more work being done: a self-hosted server queues instead of refusing.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from crowdselect.errors import CallError

_START = 4
_LONGEST = 64.0  # the longest pause between two tries of a dead endpoint, in units of `wait`
_DEAD_AFTER = 5  # failures in a row, of requests sent one after another, before an endpoint is paused
_GAIN = 1.2  # twice as many at once must get at least so much more done, or they only wait for each other
_FRESH = 120.0  # seconds for which a measured speed is compared with
_LEAST = 32  # answers to judge by, or a whole round if that is more
_CONSTANT = 32  # tokens that an answer of no length would take as long as


class Bucket:
    """A token bucket: what was not used fills up to the capacity; what is taken may overdraw it once.

    Example:
        >>> bucket = Bucket(per_minute=60, capacity=1, now=0.0)
        >>> bucket.take(1, now=0.0)
        >>> bucket.delay(1, now=0.0)
        1.0
    """

    def __init__(self, *, per_minute: float, capacity: float, now: float) -> None:
        self.rate = per_minute / 60
        self.capacity = capacity
        self.level = capacity
        self._at = now

    def delay(self, amount: float, *, now: float) -> float:
        """Seconds until so much may be taken."""
        self._fill(now)
        return max(0.0, (min(amount, self.capacity) - self.level) / self.rate)

    def take(self, amount: float, *, now: float) -> None:
        """Consume `amount`; a negative amount gives back."""
        self._fill(now)
        self.level = min(self.capacity, self.level - amount)

    def _fill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
        self._at = now


@dataclass(slots=True)
class Sent:
    """A request in flight, as the pace sees it."""

    at: float
    tokens: float
    in_flight: int


class Pace:
    """The speed of one endpoint.

    Args:
        ceiling: The most requests in flight.
        requests_per_minute: None = no limit; `tokens_per_minute` likewise.
        wait: Seconds of the first pause; later ones double.
        adaptive: False keeps the concurrency at `ceiling`.
        clock: Seconds that only grow.
        seed: Of the jitter.
    """

    def __init__(
        self,
        *,
        ceiling: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        wait: float = 1.0,
        adaptive: bool = True,
        clock: Callable[[], float] = time.monotonic,
        seed: int = 0,
    ) -> None:
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311  (jitter)
        self._wait = wait
        self._adaptive = adaptive
        self.ceiling = ceiling
        self.limit: float = min(_START, ceiling) if adaptive else ceiling
        self.paused_until = 0.0
        self.failures = 0
        """In a row; those of requests that were in flight together count once."""
        self.well_at = clock()
        """When the endpoint last did what it should."""
        self._calm_limit = math.inf
        """Up to here it doubles per round, above it grows by one per round."""
        self._cut_at = clock()
        self._full_at = -math.inf
        now = clock()
        self._requests = self._bucket(requests_per_minute, now, seconds=1.0)
        self._tokens = self._bucket(tokens_per_minute, now, seconds=60.0)
        self._window = _Window(self.limit)
        self._rates: dict[int, tuple[float, float]] = {}
        """Tokens per second when 2^n requests were in flight, as it was last measured, and when."""
        self._suspicious = False
        """The window before looked like queueing; one alone may be chance."""

    @staticmethod
    def _bucket(per_minute: float | None, now: float, *, seconds: float) -> Bucket | None:
        if per_minute is None:
            return None
        return Bucket(per_minute=per_minute, capacity=max(1.0, per_minute * seconds / 60), now=now)

    def delay(self, in_flight: int, tokens: float) -> float | None:
        """Say when the next request may be sent.

        Args:
            in_flight: Requests in flight now.
            tokens: That the next one may take.

        Returns:
            Seconds, 0 = now; None = once an answer has come.
        """
        now = self._clock()
        if now < self.paused_until:
            return self.paused_until - now
        if in_flight >= int(self.limit):
            self._full_at = now
            return None
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.delay(1, now=now))
        if self._tokens is not None:
            waits.append(self._tokens.delay(tokens, now=now))
        return max(waits)

    def send(self, in_flight: int, tokens: float) -> Sent:
        """Note that a request is sent now, beside so many others."""
        now = self._clock()
        if self._requests is not None:
            self._requests.take(1, now=now)
        if self._tokens is not None:
            self._tokens.take(tokens, now=now)
        return Sent(now, tokens, in_flight + 1)

    def answered(self, sent: Sent, *, prompt_tokens: int | None, tokens: int | None) -> None:
        """Note an answer: its latency, and the tokens it really took."""
        now = self._clock()
        self.well_at = now
        self.failures = 0
        if self._tokens is not None and prompt_tokens is not None and tokens is not None:
            self._tokens.take(prompt_tokens + tokens - sent.tokens, now=now)
        if not self._adaptive:
            return
        full = sent.at <= self._full_at  # more would have been sent at once, had it been allowed
        if full and self.limit < self.ceiling:
            self.limit = min(
                self.ceiling, self.limit + (1.0 if self.limit < self._calm_limit else 1.0 / self.limit)
            )
        if full and self._window.add(sent, now - sent.at, tokens):
            self._judge(now)

    def failed(self, sent: Sent, error: CallError, *, slow: bool) -> None:
        """Note a failure.

        Args:
            sent: The request.
            error: What came of it.
            slow: Whether it is a sign of too much at once: refused, or timed out.
        """
        now = self._clock()
        news = sent.at >= self._cut_at  # sent since the last cut: not another echo of the same trouble
        if news:
            self.failures += 1
            dead = self.failures >= _DEAD_AFTER
            if slow or dead:
                self._cut(now, to=1.0 if dead else self.limit / 2)
            if dead:
                self._pause(now, self.backoff(self.failures - _DEAD_AFTER + 1))
            elif error.verdict == "refused" and error.retry_after is None:
                self._pause(now, self.backoff(self.failures))
        if error.retry_after is not None:
            self._pause(now, error.retry_after)

    def backoff(self, attempts: int) -> float:
        """Seconds before what has failed so often is tried again, with jitter.

        Example:
            >>> 3.0 <= Pace(ceiling=8, wait=1.0).backoff(3) <= 5.0
            True
        """
        longest = min(_LONGEST, 2.0 ** min(attempts - 1, 30))
        return self._wait * longest * self._random.uniform(0.75, 1.25)

    @property
    def is_paused(self) -> bool:
        """Nothing is sent at the moment because of what the endpoint did."""
        return self._clock() < self.paused_until

    def _pause(self, now: float, seconds: float) -> None:
        self.paused_until = max(self.paused_until, now + seconds)

    def _cut(self, now: float, *, to: float) -> None:
        if self._adaptive:
            self._calm_limit = max(2.0, self.limit / 2)
            self.limit = max(1.0, to)
        self._cut_at = now
        self._window = _Window(self.limit)

    def _judge(self, now: float) -> None:
        """At the end of a window: is as much done with half as many requests at once, only faster?"""
        window, self._window = self._window, _Window(self.limit)
        level = int(math.log2(window.in_flight))
        half, measured = self._rates.get(level - 1, (math.inf, -math.inf))
        self._rates[level] = window.rate, now
        queues = now - measured < _FRESH and window.rate < _GAIN * half and self.limit > 2 * _START
        if queues and self._suspicious:
            self._cut(now, to=self.limit / 2)
        self._suspicious = queues and not self._suspicious


class _Window:
    """Some answers: how many were in flight together, and how long a token took."""

    def __init__(self, limit: float) -> None:
        self._enough = max(limit, _LEAST)
        self._answers = 0
        self._seconds = 0.0
        self._tokens = 0
        self._in_flight = 0

    def add(self, sent: Sent, seconds: float, tokens: int | None) -> bool:
        """Take an answer in; True when there are enough to judge by."""
        self._answers += 1
        self._seconds += seconds
        self._tokens += _CONSTANT + (tokens or 0)
        self._in_flight += sent.in_flight
        return self._answers >= self._enough

    @property
    def in_flight(self) -> float:
        """Requests in flight together, on average."""
        return self._in_flight / self._answers

    @property
    def rate(self) -> float:
        """Tokens per second of all that was in flight (Little's law), whenever the answers happened to come."""
        return self.in_flight * self._tokens / max(self._seconds, 1e-9)
