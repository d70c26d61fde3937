"""Adaptive concurrency and rate limits for one endpoint.

Concurrency starts at 4. Every answer raises it by one (so it doubles per round) until the first sign of
overload; from then on it grows by one per round. It halves on 429, 503 and timeouts, and when latency has
risen without more throughput: a self-hosted server queues instead of refusing.
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
_GAIN = 1.2  # doubling the concurrency must raise throughput by this factor, or requests are queueing
_FRESH = 120.0  # seconds for which a measured rate stays comparable
_LEAST = 32  # answers per measurement, or a whole round if that is more
_CONSTANT = 32  # fixed cost of an answer, in tokens


class Bucket:
    """A token bucket: it refills up to its capacity, and one request may overdraw it.

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
        """Return the seconds until `amount` may be taken."""
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
    """A request in flight: when it was sent, its estimated tokens, and how many were in flight with it."""

    at: float
    tokens: float
    in_flight: int


class Pace:
    """Limits requests to one endpoint.

    Args:
        ceiling: Maximum number of requests in flight.
        requests_per_minute: None = no limit; `tokens_per_minute` likewise.
        wait: Seconds of the first pause; later ones double.
        adaptive: False keeps the concurrency at `ceiling`.
        clock: A monotonic clock in seconds.
        seed: Seed of the jitter.
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
        """Failures in a row; those of requests in flight together count once."""
        self.well_at = clock()
        """When the endpoint last responded normally."""
        self._calm_limit = math.inf
        """Up to here concurrency doubles per round, above it grows by one per round."""
        self._cut_at = clock()
        self._full_at = -math.inf
        now = clock()
        self._requests = self._bucket(requests_per_minute, now, seconds=1.0)
        self._tokens = self._bucket(tokens_per_minute, now, seconds=60.0)
        self._window = _Window(self.limit)
        self._rates: dict[int, tuple[float, float]] = {}
        """n → latest tokens per second with 2^n requests in flight, and when it was measured."""
        self._suspicious = False
        """Whether the previous window looked like queueing; one alone may be chance."""

    @staticmethod
    def _bucket(per_minute: float | None, now: float, *, seconds: float) -> Bucket | None:
        if per_minute is None:
            return None
        return Bucket(per_minute=per_minute, capacity=max(1.0, per_minute * seconds / 60), now=now)

    def delay(self, in_flight: int, tokens: float) -> float | None:
        """Return when the next request may be sent.

        Args:
            in_flight: Number of requests in flight now.
            tokens: Estimated tokens of the next one.

        Returns:
            Seconds to wait, 0 = now; None = until an answer has arrived.
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
        """Record that a request is sent now, with `in_flight` others in flight."""
        now = self._clock()
        if self._requests is not None:
            self._requests.take(1, now=now)
        if self._tokens is not None:
            self._tokens.take(tokens, now=now)
        return Sent(now, tokens, in_flight + 1)

    def answered(self, sent: Sent, *, prompt_tokens: int | None, tokens: int | None) -> None:
        """Record an answer: its latency, and the tokens it actually used."""
        now = self._clock()
        self.well_at = now
        self.failures = 0
        if self._tokens is not None and prompt_tokens is not None and tokens is not None:
            self._tokens.take(prompt_tokens + tokens - sent.tokens, now=now)
        if not self._adaptive:
            return
        full = sent.at <= self._full_at  # more would have been in flight, had it been allowed
        if full and self.limit < self.ceiling:
            self.limit = min(
                self.ceiling, self.limit + (1.0 if self.limit < self._calm_limit else 1.0 / self.limit)
            )
        if full and self._window.add(sent, now - sent.at, tokens):
            self._judge(now)

    def failed(self, sent: Sent, error: CallError, *, slow: bool) -> None:
        """Record a failure.

        Args:
            sent: The request.
            error: Its error.
            slow: Whether it is a sign of overload: refused, or timed out.
        """
        now = self._clock()
        is_new = sent.at >= self._cut_at  # sent since the last cut: not a consequence of the same overload
        if is_new:
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
        """Return the seconds before the next retry after `attempts` failures, with jitter.

        Example:
            >>> 3.0 <= Pace(ceiling=8, wait=1.0).backoff(3) <= 5.0
            True
        """
        longest = min(_LONGEST, 2.0 ** min(attempts - 1, 30))
        return self._wait * longest * self._random.uniform(0.75, 1.25)

    @property
    def is_paused(self) -> bool:
        """Whether sending is paused because of the endpoint's responses."""
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
        """At the end of a window, halve the concurrency if half as many requests in flight had the same throughput."""
        window, self._window = self._window, _Window(self.limit)
        level = int(math.log2(window.in_flight))
        half, measured = self._rates.get(level - 1, (math.inf, -math.inf))
        self._rates[level] = window.rate, now
        queues = now - measured < _FRESH and window.rate < _GAIN * half and self.limit > 2 * _START
        if queues and self._suspicious:
            self._cut(now, to=self.limit / 2)
        self._suspicious = queues and not self._suspicious


class _Window:
    """Averages over some answers: requests in flight, and time per token."""

    def __init__(self, limit: float) -> None:
        self._enough = max(limit, _LEAST)
        self._answers = 0
        self._seconds = 0.0
        self._tokens = 0
        self._in_flight = 0

    def add(self, sent: Sent, seconds: float, tokens: int | None) -> bool:
        """Add an answer; True when there are enough for a measurement."""
        self._answers += 1
        self._seconds += seconds
        self._tokens += _CONSTANT + (tokens or 0)
        self._in_flight += sent.in_flight
        return self._answers >= self._enough

    @property
    def in_flight(self) -> float:
        """Mean number of requests in flight."""
        return self._in_flight / self._answers

    @property
    def rate(self) -> float:
        """Tokens per second over all requests in flight, by Little's law."""
        return self.in_flight * self._tokens / max(self._seconds, 1e-9)
