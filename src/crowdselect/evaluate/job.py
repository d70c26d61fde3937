"""The whole way of an evaluation on one page: answers, judgements, score, folder."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from crowdselect._optional import check_optional
from crowdselect.ask.ask import AskOptions, InterruptedAskError, Opener, Watch, open_client
from crowdselect.ask.budget import Estimate, estimate_requests
from crowdselect.ask.calls import make_request
from crowdselect.ask.conversations import Conversation, read_conversations
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.redact import Redactor
from crowdselect.ask.renamed import Renamed, take_over
from crowdselect.evaluate.asking import (
    Session,
    ask_answers,
    cases_of,
    judge,
    judgements_of,
    reader,
    with_filler,
)
from crowdselect.evaluate.files import ModelAnswers, from_conversations
from crowdselect.evaluate.judging import Judgements, slots_of
from crowdselect.evaluate.outcome import Evidence, result_of, write_result
from crowdselect.evaluate.protocols import EvaluateOptions
from crowdselect.evaluate.setup import Respondent, Setup, prepare
from crowdselect.writing import made_folder


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        options: What was wanted.
        result: What result.json holds; empty where the run was interrupted.
        interrupted: By Ctrl-C; everything that came is in the ledger.
        stopped: Why somebody was asked no further, per name.
        notes: Facts to tell the user.
        was_there: The folder held just this result, and was left as it is.
    """

    options: EvaluateOptions
    result: dict[str, Any]
    interrupted: bool = False
    stopped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    was_there: bool = False

    @property
    def missing(self) -> int:
        """Verdicts that are not there."""
        return int(self.result["verdicts"]["missing"]) if self.result else 0


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What an evaluation would send: estimates by what is done by whom, and facts to tell the user."""

    estimates: dict[str, Estimate]
    notes: list[str]


def plan(options: EvaluateOptions, *, opener: Opener = open_client) -> EvaluationPlan:
    """Estimate what `run` would send, and refuse what it would refuse; nothing is sent or written.

    Answers that are not there yet count with as many tokens as they may have, so the judge's tokens and money are
    the most that can come, but for verdicts that have to be asked for again.

    Args:
        options: What is wanted.
        opener: Makes the clients of servers; none is made.

    Raises:
        CrowdselectError: As `run`, for all that can be known before.
    """
    setup = prepare(options, opener=opener)
    with setup.ledger() as (ledger, renamed):
        found: dict[str, Estimate] = {}
        known: list[ModelAnswers | None] = []
        for respondent, given in ((setup.model, setup.answers), (setup.baseline, setup.baseline_answers)):
            known.append(
                given if respondent is None else _planned_answers(setup, respondent, ledger, found, renamed)
            )
        if setup.judge is not None and known[0] is not None:
            cases = cases_of(setup, known[0], known[1])
            requests = (make_request(case.chat) for case in cases)
            retry = options.limits.retry_failed
            found[f"judge {setup.judge.name}"] = estimate_requests(
                requests, renamed.before(setup.judge.endpoint), ledger, retry_failed=retry
            )
            found[f"judge {setup.judge.name}"].renamed = renamed.notes.get(setup.judge.endpoint.name)
    if any(estimate.calls for estimate in found.values()):
        _check_packages(setup)
    return EvaluationPlan(found, [*setup.notes, *renamed.notes.values(), *_retry_notes(setup)])


def _check_packages(setup: Setup) -> None:
    """Refuse to ask without the packages that it needs; none is loaded."""
    for respondent in setup.respondents:
        if respondent.endpoint.local is not None:
            check_optional("transformers", extra="local")
        elif respondent.open is open_client:
            check_optional("openai", extra="collect")


def _retry_notes(setup: Setup) -> list[str]:
    """Say that the plan counts a verdict once."""
    again = setup.options.judge_retries
    if setup.judge is None or not again:
        return []
    times = f"up to {again + 1} times as many calls and as much money if no verdict can be read"
    return [f"judge {setup.judge.name}: {times}: one that cannot is asked for again (`judge_retries`)"]


def run(
    options: EvaluateOptions,
    *,
    opener: Opener = open_client,
    watch: Watch | None = None,
    announce: "Announce | None" = None,
    tell: Callable[[str], None] | None = None,
) -> Evaluation:
    """Ask what is not known yet, score it, write the folder.

    Args:
        options: What is wanted.
        opener: Makes the clients of servers.
        watch: Shows what goes on; see `ask.display.watch`.
        announce: Told who is asked and how many requests there are at most, before the first is sent.
        tell: Given, before that, a line on everybody who has another name than before.

    Returns:
        The result, which is also on disk.

    Raises:
        CrowdselectError: Something is wrong with the files or the options; nothing was sent. Or the ledger
            could not be written, see `LedgerError`.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from crowdselect.evaluate.protocols import MT_BENCH
        >>> place = Path(mkdtemp())
        >>> questions = place / "question.jsonl"
        >>> _ = questions.write_text('{"question_id": 1, "category": "math", "turns": ["2 + 2?"]}')
        >>> said = place / "judged.jsonl"
        >>> _ = said.write_text('{"question_id": 1, "model": "m", "judge": ["j", "p"], "score": 8, "turn": 1}')
        >>> options = EvaluateOptions(protocol=MT_BENCH, questions=str(questions), judgments=str(said), output=str(place / "m"))
        >>> run(options).result["score"]
        8.0
    """
    folder = options.folder
    setup = prepare(options, opener=opener)
    with ExitStack() as stack:
        stack.enter_context(made_folder(folder))
        ledger = stack.enter_context(Ledger(options.ledger_path, force=options.force_ledger))
        redact = Redactor.of([respondent.endpoint for respondent in setup.respondents])
        session = Session(ledger, AskOptions(limits=options.limits, redact=redact, watch=watch), {})
        endpoints, present = setup.from_files()
        taken = take_over(ledger, endpoints, present=present, tell=tell)
        if announce is not None:
            announce(_announced(setup))
        try:
            answers = _answers(session, setup, setup.model, setup.answers)
            baseline = _answers(session, setup, setup.baseline, setup.baseline_answers)
            judgements = _judgements(session, setup, answers, baseline)
        except InterruptedAskError:
            return Evaluation(options, {}, interrupted=True)
        evidence = Evidence(setup, answers, baseline, judgements, ledger.spent(), ledger.noted("id"))
        result = result_of(evidence)
        written = write_result(evidence, result)
    notes = [*taken, *setup.notes]
    return Evaluation(options, result, stopped=session.stopped, notes=notes, was_there=not written)


@dataclass(frozen=True, slots=True)
class Announcement:
    """Who will be asked, how often at most if every verdict can be read at once, and if none can."""

    endpoint: Endpoint
    requests: int
    with_retries: int


Announce = Callable[[Sequence[Announcement]], None]


def _announced(setup: Setup) -> list[Announcement]:
    turns = sum(len(question.turns) for question in setup.questions)
    verdicts = sum(slots_of(question, setup.options.protocol) for question in setup.questions)
    samples = setup.options.judge_retries + 1
    return [
        Announcement(respondent.endpoint, verdicts, samples * verdicts)
        if respondent is setup.judge
        else Announcement(respondent.endpoint, turns, turns)
        for respondent in setup.respondents
    ]


def _answers(
    session: Session, setup: Setup, respondent: Respondent | None, given: ModelAnswers | None
) -> ModelAnswers | None:
    """Ask for answers, where they are not from a file."""
    if respondent is None:
        return given
    conversations = ask_answers(session, respondent, setup.requests(respondent))
    return from_conversations(respondent.name, setup.questions, conversations, setup.options.protocol)


def _planned_answers(
    setup: Setup, respondent: Respondent, ledger: Ledger | None, found: dict[str, Estimate], renamed: Renamed
) -> ModelAnswers:
    """Estimate what one who answers is asked, and put the longest answers in the place of those to come."""
    total: Estimate | None = None
    conversations: dict[str, Conversation] = {}
    for own, requests in setup.requests(respondent):
        endpoint = renamed.before(own)
        made = estimate_requests(
            requests.values(), endpoint, ledger, retry_failed=setup.options.limits.retry_failed
        )
        total = made if total is None else _sum(total, made)
        if ledger is not None:
            conversations.update(
                zip(requests, read_conversations(ledger, endpoint, list(requests.values())), strict=True)
            )
        else:
            conversations |= {id_: Conversation(one, (), len(one.then) + 1) for id_, one in requests.items()}
    found[f"answers {respondent.name}"] = total or Estimate()
    found[f"answers {respondent.name}"].renamed = renamed.notes.get(respondent.endpoint.name)
    known = from_conversations(respondent.name, setup.questions, conversations, setup.options.protocol)
    return with_filler(
        known, setup.questions, tokens=setup.options.max_tokens or setup.options.protocol.answer_tokens
    )


def _judgements(
    session: Session, setup: Setup, answers: ModelAnswers | None, baseline: ModelAnswers | None
) -> Judgements:
    """Have the answers judged, where the judgements are not from a file."""
    if setup.judgements is not None:
        return setup.judgements
    if setup.judge is None or answers is None:
        raise AssertionError("the options were checked: there is a judge and something to judge")
    cases = cases_of(setup, answers, baseline)
    read = reader(setup.options.protocol)
    judged = judge(session, setup.judge, cases, read, retries=setup.options.judge_retries)
    return judgements_of(setup, answers, baseline, cases=cases, judged=judged)


def _sum(one: Estimate, other: Estimate) -> Estimate:
    """Add estimates; what is unknown in one is unknown in both."""
    facts = other.facts()
    added: dict[str, Any] = {
        name: None if value is None or facts[name] is None else value + facts[name]
        for name, value in one.facts().items()
    }
    return Estimate(**added)
