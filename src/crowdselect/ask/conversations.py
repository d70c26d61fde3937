"""Conversations read back from the ledger, and counts of what is missing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from crowdselect.ask.calls import ANSWERED, Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.ask.refused import accepted

NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, possibly unfinished."""

    request: Request
    """The last turn that was sent, or the next one to send."""
    answers: tuple[Answer, ...]
    """One per turn that was sent."""
    turns: int
    """Number of user turns when complete."""

    @property
    def is_whole(self) -> bool:
        """Whether every turn is answered."""
        return len(self.answers) == self.turns and self.answers[-1].status in ANSWERED

    @property
    def missing(self) -> tuple[str, str]:
        """Why it is not complete: a status (may be `not_asked`) and a readable reason."""
        last = self.answers[-1] if self.answers else None
        if last is None or last.status in ANSWERED:
            return NOT_ASKED, "not asked"
        if last.status == "pending":
            return (
                NOT_ASKED,
                f"no answer yet, the next run asks again: {last.error}" if last.error else "not asked",
            )
        return last.status, last.error or last.status


def read_conversations(ledger: Ledger, endpoint: Endpoint, requests: Sequence[Request]) -> list[Conversation]:
    """Read one endpoint's answers to some requests, following each conversation to its last answered turn."""
    conversations = [Conversation(request, (), len(request.then) + 1) for request in requests]
    unfinished = list(range(len(conversations)))
    endpoint = accepted(ledger, endpoint)
    while unfinished:
        keys = [conversations[at].request.key(endpoint) for at in unfinished]
        answers = ledger.get(keys)
        ongoing = []
        for at, key in zip(unfinished, keys, strict=True):
            answer, conversation = answers.get(key), conversations[at]
            if answer is None:
                continue
            request = conversation.request
            if answer.status in ANSWERED and request.then:
                request = request.follow(answer.text or "")
                ongoing.append(at)
            conversations[at] = Conversation(request, (*conversation.answers, answer), conversation.turns)
        unfinished = ongoing
    return conversations


def followed(
    requests: Sequence[Request], endpoint: Endpoint, ledger: Ledger, *, retry_failed: bool
) -> Iterator[tuple[bytes, Request, bool]]:
    """Follow conversations to their last answered turn, to find the requests still to send.

    Args:
        requests: First turns.
        endpoint: The endpoint they are sent to.
        ledger: Answers so far.
        retry_failed: Count requests that failed before as still to send.

    Yields:
        For every turn that was sent or can be: its key, its request, and whether it needs no further request.
        The same key may appear several times.
    """
    batch = list(requests)
    endpoint = accepted(ledger, endpoint)
    while batch:
        keyed = [(request.key(endpoint), request) for request in batch]
        known = ledger.known([key for key, _ in keyed], retry_failed=retry_failed)
        conversations = [key for key, request in keyed if request.then and key in known]
        answers = ledger.get(conversations) if conversations else {}
        batch = []
        for key, request in keyed:
            answer = answers.get(key)
            if request.then and answer is not None and answer.status in ANSWERED:
                batch.append(request.follow(answer.text or ""))
            yield key, request, key in known


@dataclass(slots=True)
class ModelTally:
    """Counts of one model's answers. Cost and tokens cover all answered requests, each counted once."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)
    """Unknown finish reasons, of answers that are in the pool."""
    cost: float = 0.0
    cost_unknown: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _counted: set[bytes] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """Rows in the pool."""
        return sum(self.statuses[status] for status in ANSWERED)

    @property
    def missing(self) -> int:
        """Answers without a row in the pool."""
        return self.statuses.total() - self.rows

    def add(self, conversation: Conversation, *, shared: bool = False) -> None:
        """Count a conversation.

        Args:
            conversation: The conversation.
            shared: Whether other instructions share its requests, which were sent and paid for once.
        """
        if conversation.is_whole:
            self.statuses[conversation.answers[-1].status] += 1
            self.odd.update(
                str(answer.finish_reason) for answer in conversation.answers if answer.status == "odd"
            )
        else:
            status, reason = conversation.missing
            self.statuses[status] += 1
            self.reasons[reason] += 1
        for answer in conversation.answers:
            if shared and answer.key in self._counted:
                continue
            if shared:
                self._counted.add(answer.key)
            self.cost += answer.cost or 0.0
            self.cost_unknown += answer.cost is None and answer.text is not None
            self.prompt_tokens += answer.prompt_tokens or 0
            self.completion_tokens += answer.completion_tokens or 0
