"""What models have said so far: conversations read back from the ledger, and counts of what is missing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from crowdselect.ask.calls import ANSWERED, Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Answer, Ledger

NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as far as it has come."""

    request: Request
    """The last turn that was asked, or the one to be asked next."""
    answers: tuple[Answer, ...]
    """One per turn that was asked."""
    turns: int
    """That it shall have."""

    @property
    def is_whole(self) -> bool:
        """Every turn is answered."""
        return len(self.answers) == self.turns and self.answers[-1].status in ANSWERED

    @property
    def missing(self) -> tuple[str, str]:
        """Why it is not whole: a status (`not_asked` too) and a reason for people."""
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
    """Look up what one endpoint said to some requests, following conversations as far as they have come."""
    found = [Conversation(request, (), len(request.then) + 1) for request in requests]
    left = list(range(len(found)))
    while left:
        keys = [found[at].request.key(endpoint) for at in left]
        answers = ledger.get(keys)
        ongoing = []
        for at, key in zip(left, keys, strict=True):
            answer, conversation = answers.get(key), found[at]
            if answer is None:
                continue
            request = conversation.request
            if answer.status in ANSWERED and request.then:
                request = request.follow(answer.text or "")
                ongoing.append(at)
            found[at] = Conversation(request, (*conversation.answers, answer), conversation.turns)
        left = ongoing
    return found


def followed(
    requests: Sequence[Request], endpoint: Endpoint, ledger: Ledger, *, retry_failed: bool
) -> Iterator[tuple[bytes, Request, bool]]:
    """Follow conversations as far as they have come, to find what has still to be asked.

    Args:
        requests: First turns.
        endpoint: Who is asked.
        ledger: What is known.
        retry_failed: What has failed before has still to be asked.

    Yields:
        For every turn that was asked or can be: its key, its request, and whether nothing has to be asked for it.
        The same key may come several times.
    """
    batch = list(requests)
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
    """What became of one model's answers. Cost and tokens are of all requests answered, each counted once."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)
    """Finish reasons that nobody knows, of answers that are kept."""
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
        """Answers that have no row."""
        return self.statuses.total() - self.rows

    def add(self, conversation: Conversation, *, shared: bool = False) -> None:
        """Count a conversation.

        Args:
            conversation: The conversation.
            shared: Other instructions have requests of it too, which were sent and paid once.
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
