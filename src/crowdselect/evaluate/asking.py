"""Answers and judgements through the ledger of `collect`: each is asked for once, however often a run is stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crowdselect.ask.ask import AskOptions, Wanted, answers_to, ask
from crowdselect.ask.calls import ANSWERED, Request, make_request
from crowdselect.ask.conversations import Conversation, read_conversations
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.evaluate.files import Question
from crowdselect.evaluate.parties import Party, limited
from crowdselect.evaluate.protocols import Protocol
from crowdselect.evaluate.verdicts import Reading
from crowdselect.finish import no_verdict
from crowdselect.pool.chat import Chat, user_turn


@dataclass(frozen=True, slots=True)
class Desk:
    """Where requests are handed in.

    Attributes:
        ledger: Keeps the replies.
        options: How everybody is asked; a party's own opener counts.
        stopped: Filled with why somebody was asked no further.
    """

    ledger: Ledger
    options: AskOptions
    stopped: dict[str, str]

    def ask(self, party: Party, endpoint: Endpoint, requests: Sequence[Request]) -> None:
        """Ask what the ledger does not know.

        Raises:
            InterruptedAskError: The user wants to stop.
        """
        total = sum(len(request.then) + 1 for request in requests)
        options = replace(self.options, opener=party.open)
        ended = ask([Wanted(endpoint, requests)], self.ledger, options, total=total)
        self.stopped.update(ended.stopped)


def answer_requests(
    party: Party,
    questions: Sequence[Question],
    protocol: Protocol,
    *,
    temperature: float | None = None,
    tokens: int | None = None,
) -> list[tuple[Endpoint, dict[str, Request]]]:
    """Make the requests for answers, grouped by the settings that they are asked with.

    Args:
        party: Whom to ask.
        questions: What.
        protocol: Says how.
        temperature: Instead of the protocol's; None = as it says.
        tokens: The most of an answer, instead of the protocol's; None = as it says.

    Returns:
        Per temperature an endpoint and the request for each question's id. The second turn of a conversation is
        sent after the first answer, and with it.
    """
    found: dict[bytes, tuple[Endpoint, dict[str, Request]]] = {}
    for question in questions:
        own = (
            protocol.temperature_of(question.category)
            if question.temperature is None
            else question.temperature
        )
        endpoint = limited(
            party.endpoint,
            tokens=protocol.answer_tokens if tokens is None else tokens,
            temperature=own if temperature is None else temperature,
        )
        _, requests = found.setdefault(endpoint.digest, (endpoint, {}))
        requests[question.id] = make_request(user_turn(question.turns[0]), then=question.turns[1:])
    return list(found.values())


def ask_answers(
    desk: Desk, party: Party, grouped: Sequence[tuple[Endpoint, dict[str, Request]]]
) -> dict[str, Conversation]:
    """Ask for answers; give the conversations as far as they have come, by the questions' ids."""
    talks: dict[str, Conversation] = {}
    for endpoint, requests in grouped:
        desk.ask(party, endpoint, list(requests.values()))
        said = read_conversations(desk.ledger, endpoint, list(requests.values()))
        talks.update(zip(requests, said, strict=True))
    return talks


@dataclass(frozen=True, slots=True)
class Case:
    """Something to judge: a turn of a question, or one order of two answers."""

    question: Question
    slot: int
    prompt: str
    chat: Chat


@dataclass(slots=True)
class Judged:
    """What came of a case.

    Attributes:
        reading: The verdict, or why there is none.
        reply: The judge's last reply; None where there is none.
        at: When it came, in seconds since 1970.
        asked: How many replies there are.
    """

    reading: Reading
    reply: str | None = None
    at: float = 0.0
    asked: int = 0


def judge(
    desk: Desk, party: Party, cases: Sequence[Case], read: Callable[[str], Reading], *, retries: int
) -> list[Judged]:
    """Have cases judged; a reply without a verdict is asked for again, as another sample of the same request.

    Args:
        desk: Where requests are handed in.
        party: The judge.
        cases: What to judge.
        read: Reads a reply.
        retries: How often one case is asked again.

    Returns:
        One per case.
    """
    found = [Judged(Reading(reason="not asked")) for _ in cases]
    left = list(range(len(cases)))
    for sample in range(retries + 1):
        if not left:
            break
        requests = [make_request(cases[at].chat, sample=sample) for at in left]
        desk.ask(party, party.endpoint, requests)
        rows = answers_to(desk.ledger, party.endpoint, requests)
        unread = []
        for at, row in zip(left, rows, strict=True):
            _take(found[at], row, read)
            if row is not None and row.status in ANSWERED and found[at].reading.is_missing:
                unread.append(at)
        left = unread
    return found


def _take(judged: Judged, row: Answer | None, read: Callable[[str], Reading]) -> None:
    """Note what one request came to; without a reply the former one stays to be seen."""
    if row is None:
        judged.reading = Reading(reason="not asked")
    elif row.status in ANSWERED:
        text = row.text or ""
        why = no_verdict(row.finish_reason, text)
        judged.reading = read(text) if why is None else Reading(reason=why)
        judged.reply, judged.at = text, row.at
        judged.asked += 1
    else:
        judged.reading = Reading(reason=row.error or row.status)
