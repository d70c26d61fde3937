"""Answers and judgements through the ledger: each request is sent once, however often a run is stopped.

Also the cases to judge, and the judgements from the judge's replies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from crowdselect.ask.ask import AskOptions, Wanted, answers_to, ask
from crowdselect.ask.calls import ANSWERED, Request, make_request
from crowdselect.ask.conversations import Conversation, read_conversations
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.evaluate.files import ModelAnswers, Question, dumped
from crowdselect.evaluate.judging import GAMES, Judgements, Verdict, read_comparison, read_rating, slots_of
from crowdselect.evaluate.protocols import Protocol
from crowdselect.evaluate.setup import Respondent, Setup
from crowdselect.finish import no_verdict
from crowdselect.pool.prompts import Chat

_FILLER = "word"  # as long as an average token; a placeholder for a token of a future answer
_UNREAD = -1  # FastChat's score for a judgement without a verdict


@dataclass(frozen=True, slots=True)
class Session:
    """Sends one run's requests to the models and stores the replies.

    Attributes:
        ledger: Stores the replies.
        options: Options for all requests, except that each respondent has its own opener.
        stopped: Filled with endpoint name → why it was stopped early.
    """

    ledger: Ledger
    options: AskOptions
    stopped: dict[str, str]

    def ask(
        self,
        respondent: Respondent,
        endpoint: Endpoint,
        requests: Sequence[Request],
        *,
        stop_if_cut: bool = False,
    ) -> None:
        """Send the requests that the ledger has no answer to; see `ask.ask` for `stop_if_cut`.

        Raises:
            InterruptedAskError: Ctrl-C ended the run.
        """
        total = sum(len(request.then) + 1 for request in requests)
        options = replace(self.options, opener=respondent.open, stop_if_cut=stop_if_cut)
        ended = ask([Wanted(endpoint, requests)], self.ledger, options, total=total)
        self.stopped.update(ended.stopped)


def ask_answers(
    session: Session, respondent: Respondent, grouped: Sequence[tuple[Endpoint, dict[str, Request]]]
) -> dict[str, Conversation]:
    """Request answers; return the conversations, possibly unfinished, by question id."""
    conversations: dict[str, Conversation] = {}
    for endpoint, requests in grouped:
        session.ask(respondent, endpoint, list(requests.values()))
        answered = read_conversations(session.ledger, endpoint, list(requests.values()))
        conversations.update(zip(requests, answered, strict=True))
    return conversations


@dataclass(frozen=True, slots=True)
class Case:
    """Something to judge: a turn of a question, or one order of two answers."""

    question: Question
    slot: int
    prompt: str
    chat: Chat


@dataclass(slots=True)
class Judged:
    """The result for a case.

    Attributes:
        verdict: The verdict in the last reply, or why there is none.
        reply: The judge's last reply; None if there is none.
        at: When the reply was recorded, in seconds since 1970.
        replies: Number of replies.
    """

    verdict: Verdict
    reply: str | None = None
    at: float = 0.0
    replies: int = 0


def judge(
    session: Session,
    respondent: Respondent,
    cases: Sequence[Case],
    read: Callable[[str], Verdict],
    *,
    retries: int,
    keep_going: bool = False,
) -> list[Judged]:
    """Have cases judged; a reply without a verdict is retried, as another sample of the same request.

    Args:
        session: Sends the requests and stores the replies.
        respondent: The judge.
        cases: The cases.
        read: Reads the verdict in a reply.
        retries: Maximum number of retries per case.
        keep_going: Ask on although half of the first replies were cut.

    Returns:
        One per case.

    Raises:
        CallError: Half of the judge's first replies were cut.
    """
    results = [Judged(Verdict(reason="not asked")) for _ in cases]
    pending = list(range(len(cases)))
    for sample in range(retries + 1):
        if not pending:
            break
        requests = [make_request(cases[at].chat, sample=sample) for at in pending]
        session.ask(respondent, respondent.endpoint, requests, stop_if_cut=not keep_going)
        rows = answers_to(session.ledger, respondent.endpoint, requests)
        unread = []
        for at, row in zip(pending, rows, strict=True):
            _take(results[at], row, read)
            if row is not None and row.status in ANSWERED and results[at].verdict.is_missing:
                unread.append(at)
        pending = unread
    return results


def _take(judged: Judged, row: Answer | None, read: Callable[[str], Verdict]) -> None:
    """Update a case with the result of one request; without a reply the earlier one is kept."""
    if row is None:
        judged.verdict = Verdict(reason="not asked")
    elif row.status in ANSWERED:
        text = row.text or ""
        why = no_verdict(row.finish_reason, text)
        judged.verdict = read(text) if why is None else Verdict(reason=why)
        judged.reply, judged.at = text, row.at
        judged.replies += 1
    else:
        judged.verdict = Verdict(reason=row.error or row.status)


def reader(protocol: Protocol) -> Callable[[str], Verdict]:
    """Return the function that reads a judge's replies."""
    return read_comparison if protocol.pairwise else read_rating


def cases_of(setup: Setup, answers: ModelAnswers, baseline: ModelAnswers | None) -> list[Case]:
    """Return the cases to judge: answered turns, or pairs of answers in both orders."""
    if setup.options.protocol.pairwise:
        return [] if baseline is None else _pairs(setup, answers, baseline)
    cases = []
    for question in setup.questions:
        answered = answers.turns.get(question.id, ())
        for turn in range(min(len(answered), len(question.turns))):
            references = setup.references.get(question.id, ())[: turn + 1]
            fits = question.category in setup.options.protocol.referenced and len(references) == turn + 1
            name, chat = setup.prompts.single(
                question.turns[: turn + 1], answered[: turn + 1], references if fits else None
            )
            cases.append(Case(question, turn, name, chat))
    return cases


def with_filler(answers: ModelAnswers, questions: Sequence[Question], *, tokens: int) -> ModelAnswers:
    """Fill in every missing answer with a text of maximum length, for an estimate."""
    turns = {
        question.id: (*said, *(_FILLER * tokens for _ in question.turns[len(said) :]))
        for question in questions
        for said in [answers.turns.get(question.id, ())]
    }
    return ModelAnswers(answers.model, turns, {}, {}, ())


def judgements_of(
    setup: Setup,
    answers: ModelAnswers,
    baseline: ModelAnswers | None,
    *,
    cases: Sequence[Case],
    judged: Sequence[Judged],
) -> Judgements:
    """Build the verdicts, and the lines of their file; a case that could not be judged has a reason."""
    protocol = setup.options.protocol
    results = {(case.question.id, case.slot): one for case, one in zip(cases, judged, strict=True)}
    verdicts: dict[tuple[str, int], Verdict] = {}
    for question in setup.questions:
        for slot in range(slots_of(question, protocol)):
            one = results.get((question.id, slot))
            verdicts[question.id, slot] = (
                Verdict(reason=_why(setup, question, slot, answers, baseline)) if one is None else one.verdict
            )
    lines = _pair_lines if protocol.pairwise else _single_lines
    again = sum(max(one.replies - 1, 0) for one in judged)
    notes = [f"{again} replies of the judge had no verdict and were asked for again"] if again else []
    by_case = {(case.question.id, case.slot): case for case in cases}
    return Judgements(
        setup.model_name,
        setup.judge_name,
        setup.baseline_names,
        verdicts,
        lines(setup, by_case, results),
        notes,
    )


def _pairs(setup: Setup, answers: ModelAnswers, baseline: ModelAnswers) -> list[Case]:
    cases = []
    for question in setup.questions:
        own, other = answers.turns.get(question.id), baseline.turns.get(question.id)
        if own and other:
            # The order of arena-hard-auto: the baseline is A in the first game.
            for game, (first, second) in enumerate(((other[0], own[0]), (own[0], other[0]))):
                chat = setup.prompts.pair(question.turns[0], first, second)
                cases.append(Case(question, game, "pair", chat))
    return cases


def _why(
    setup: Setup, question: Question, slot: int, answers: ModelAnswers, baseline: ModelAnswers | None
) -> str:
    """Return why a case could not be judged."""
    turn = slot if baseline is None else 0
    own = answers.missing.get((question.id, turn))
    if own is not None:
        return f"{answers.model} has no answer: {own}"
    other = None if baseline is None else baseline.missing.get((question.id, 0))
    name = setup.baseline_names.get(question.category)
    return "not judged" if other is None else f"{name} has no answer: {other}"


def _single_lines(
    setup: Setup, cases: Mapping[tuple[str, int], Case], found: Mapping[tuple[str, int], Judged]
) -> list[str]:
    """Write grades as FastChat does; -1 marks a reply without a verdict."""
    lines = []
    for place, case in cases.items():
        one = found[place]
        if one.reply is None:
            continue
        row = {
            "question_id": case.question.written_id,
            "model": setup.model_name,
            "judge": [setup.judge_name, case.prompt],
            "user_prompt": case.chat[-1]["content"],
            "judgment": one.reply,
            "score": _UNREAD if one.verdict.rating is None else _short(one.verdict.rating),
            "turn": case.slot + 1,
            "tstamp": one.at,
        }
        lines.append(dumped(row))
    return lines


def _short(value: float) -> float:
    """Return a whole number as an int, as FastChat writes it."""
    return int(value) if value.is_integer() else value


def _pair_lines(
    setup: Setup, cases: Mapping[tuple[str, int], Case], found: Mapping[tuple[str, int], Judged]
) -> list[str]:
    """Write both games of a question as arena-hard-auto does; null means a game without a reply."""
    lines = []
    for question in setup.questions:
        places = [(question.id, game) for game in range(GAMES)]
        if not any(place in found and found[place].reply is not None for place in places):
            continue
        games = []
        for place in places:
            one = found[place]
            game = {
                "score": one.verdict.label,
                "judgment": {"answer": one.reply},
                "prompt": cases[place].chat,
            }
            games.append(None if one.reply is None else game)
        row = {
            "uid": question.written_id,
            "category": question.category,
            "judge": setup.judge_name,
            "model": setup.model_name,
            "baseline": setup.baseline_names.get(question.category),
            "games": games,
        }
        lines.append(dumped(row))
    return lines
