"""What a run would do, before anything is sent: calls, tokens, money and time per model, as far as known."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crowdselect.ask.budget import estimated_tokens
from crowdselect.ask.calls import AGAIN, ANSWERED, Request
from crowdselect.ask.conversations import read_talks
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger

_BATCH = 256


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
    for talk in read_talks(ledger, endpoint, batch):
        ended = [answer for answer in talk.answers if answer.status != "pending"]
        failed = bool(ended) and ended[-1].status not in ANSWERED
        again = bool(ended) and retry_failed and ended[-1].status in AGAIN
        made.done += len(ended) - again
        made.failed += failed and not retry_failed
        if again or not (talk.is_whole or failed):
            _ask(made, endpoint, talk.request)


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
