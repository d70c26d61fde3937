"""The one door to models: `ask` sends what a ledger does not know yet, and the answers are read from the ledger.

Whoever asks models makes requests, calls `ask`, and reads what was answered. Pace, retries, the budget, what a person
sees meanwhile, Ctrl-C, and why somebody was asked no further are the same for all.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crowdselect.ask.calls import Client, Request
from crowdselect.ask.endpoints import Endpoint, key
from crowdselect.ask.lane import Lane
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.ask.limits import Limits
from crowdselect.ask.redact import Redactor
from crowdselect.ask.renamed import Renamed, find_renamed
from crowdselect.ask.runner import Outcome, run

Opener = Callable[[Endpoint], Client]
"""Makes the client of an endpoint."""
Watch = Callable[[Sequence[Lane], int], AbstractContextManager[Callable[[], None]]]
"""Given the lanes and the number of requests of each, shows them; yields what is called to show them anew."""


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
    """What one endpoint is asked.

    Attributes:
        endpoint: Whom to ask.
        requests: What, lazily: no more than a few hundred are held at once.
    """

    endpoint: Endpoint
    requests: Iterable[Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """How models are asked.

    Attributes:
        limits: How far to go: money, requests, retries.
        opener: Makes the clients; called when the first request is to be sent, and not at all where nothing is.
        redact: Knows the keys that must not be stored; None = those of the endpoints that are asked.
        watch: Shows what goes on; None = nothing is shown.
    """

    limits: Limits = field(default_factory=Limits)
    opener: Opener = open_client
    redact: Redactor | None = None
    watch: Watch | None = None


class InterruptedAskError(KeyboardInterrupt):
    """Ctrl-C or SIGTERM: what was answered is in the ledger.

    Attributes:
        outcome: How the asking ended.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def ask(wanted: Sequence[Wanted], ledger: Ledger, options: AskOptions, *, total: int = 0) -> Outcome:
    """Ask every endpoint what the ledger does not know yet.

    Args:
        wanted: Whom to ask, and what.
        ledger: Where the answers go; all are on disk when this returns. `answers_to` and `read_talks` read them.
        options: How.
        total: Requests of each endpoint with all their turns, to be shown.

    Returns:
        How it ended: per endpoint that was not asked everything, why.

    Raises:
        InterruptedAskError: By Ctrl-C.
        OptionError: A cap on money with an unknown price; nothing is sent.
        LedgerError: An answer could not be written.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from crowdselect.ask.calls import make_request
        >>> from crowdselect.ask.scripted import ScriptedClient
        >>> who = Endpoint("m", base_url="http://localhost/v1", model="m")
        >>> requests = [make_request([{"role": "user", "content": "Hi"}])]
        >>> options = AskOptions(opener=lambda _: ScriptedClient(lambda request: "Hello"))
        >>> with Ledger(Path(mkdtemp()) / "ledger") as ledger:
        ...     ended = ask([Wanted(who, requests)], ledger, options)
        ...     said = answers_to(ledger, who, requests)
        >>> ended.stopped, [answer.text for answer in said]
        ({}, ['Hello'])
    """
    clients = _Clients([endpoint for endpoint, _ in wanted], options.opener)
    lanes = [
        Lane(endpoint, partial(clients.get, number), requests)
        for number, (endpoint, requests) in enumerate(wanted)
    ]
    shown = nullcontext(None) if options.watch is None else options.watch(lanes, total)
    with shown as update:
        ended = run(lanes, ledger, options.limits, redact=options.redact, watch=update)
    if ended.interrupted:
        raise InterruptedAskError(ended)
    return ended


def answers_to(ledger: Ledger, endpoint: Endpoint, requests: Sequence[Request]) -> list[Answer | None]:
    """Read what became of requests of one turn each.

    Args:
        ledger: Where the answers are.
        endpoint: Who was asked.
        requests: What; the same one may come several times.

    Returns:
        One per request; None where it was not asked, or nothing has come yet.
    """
    keys = [request.key(endpoint) for request in requests]
    rows = ledger.get(list(dict.fromkeys(keys)))
    found = [rows.get(one) for one in keys]
    return [None if answer is None or answer.status == "pending" else answer for answer in found]


@contextmanager
def looked_into(
    path: Path | None, endpoints: Sequence[Endpoint], *, present: Iterable[str], force: bool = False
) -> Iterator[tuple[Ledger | None, Renamed]]:
    """Look into a ledger to plan: none is made, and nothing is handed over.

    Args:
        path: Of the ledger; None = there is none.
        endpoints: Who would be asked.
        present: All names of the crowd file; see `find_renamed`.
        force: Open it on a network file system.

    Yields:
        The ledger, None where there is none yet; and who had another name in it.
    """
    with Ledger(path, force=force) if path is not None and path.exists() else nullcontext(None) as ledger:
        yield ledger, find_renamed(ledger, endpoints, present=set(present))


class _Clients:
    """All clients, made together when the first is needed: a run with nothing to ask loads nothing."""

    def __init__(self, endpoints: Sequence[Endpoint], make: Opener) -> None:
        self._endpoints = endpoints
        self._make = make
        self._made: list[Client] = []

    def get(self, number: int) -> Client:
        if not self._made:
            self._made = [self._make(endpoint) for endpoint in self._endpoints]
        return self._made[number]
