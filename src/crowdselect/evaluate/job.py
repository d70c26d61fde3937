"""One run of an evaluation: answers, judgements, score, result folder."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from crowdselect._optional import check_optional
from crowdselect.ask.ask import AskOptions, InterruptedAskError, Opener, Watch, open_client
from crowdselect.ask.budget import Estimate, estimate_requests
from crowdselect.ask.calls import make_request
from crowdselect.ask.conversations import Conversation, read_conversations
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.redact import Redactor
from crowdselect.ask.refused import accepted
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
from crowdselect.evaluate.files import ModelAnswers, from_conversations, joined
from crowdselect.evaluate.judging import Judgements, slots_of
from crowdselect.evaluate.outcome import Evidence, result_of, write_result
from crowdselect.evaluate.protocols import EvaluateOptions
from crowdselect.evaluate.setup import Respondent, Setup, prepare
from crowdselect.writing import made_folder


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation run.

    Attributes:
        options: The options of the run.
        result: The content of result.json; empty if the run was interrupted.
        interrupted: Whether Ctrl-C ended it; all replies so far are in the ledger.
        stopped: Endpoint name → why it was stopped early.
        notes: Lines for the user.
        was_there: Whether the folder already had this result and was left unchanged.
    """

    options: EvaluateOptions
    result: dict[str, Any]
    interrupted: bool = False
    stopped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    was_there: bool = False

    @property
    def missing(self) -> int:
        """Number of missing verdicts."""
        return int(self.result["verdicts"]["missing"]) if self.result else 0


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What an evaluation would send: estimates by task and model, and lines for the user."""

    estimates: dict[str, Estimate]
    notes: list[str]


def plan(options: EvaluateOptions, *, opener: Opener = open_client) -> EvaluationPlan:
    """Estimate what `run` would send, and refuse what it would refuse; nothing is sent or written.

    Missing answers count with their maximum number of tokens, so the judge's tokens and cost are upper bounds, except
    for verdicts that have to be retried.

    Args:
        options: The options of the run.
        opener: Makes the clients of servers; none is made.

    Raises:
        CrowdselectError: As `run`, as far as it can be known in advance.
    """
    setup = prepare(options, opener=opener)
    with setup.ledger() as (ledger, renamed):
        estimates: dict[str, Estimate] = {}

        def answers_of(respondent: Respondent | None, given: ModelAnswers | None) -> ModelAnswers | None:
            if respondent is None:
                return given
            return _planned_answers(setup, respondent, ledger, estimates, renamed)

        answers = answers_of(setup.model, setup.answers)
        baseline = _of_baselines(setup, answers_of)
        if setup.judge is not None and answers is not None:
            cases = cases_of(setup, answers, baseline)
            requests = (make_request(case.chat) for case in cases)
            retry = options.limits.retry_failed
            estimates[f"judge {setup.judge.name}"] = estimate_requests(
                requests, renamed.before(setup.judge.endpoint), ledger, retry_failed=retry
            )
            estimates[f"judge {setup.judge.name}"].renamed = renamed.notes.get(setup.judge.endpoint.name)
    if any(estimate.calls for estimate in estimates.values()):
        _check_packages(setup)
    return EvaluationPlan(estimates, [*setup.notes, *renamed.notes.values(), *_retry_notes(setup)])


def _check_packages(setup: Setup) -> None:
    """Check that the packages for the models are installed, without loading them."""
    for respondent in setup.respondents:
        if respondent.endpoint.local is not None:
            check_optional("transformers", extra="local")
        elif respondent.open is open_client:
            check_optional("openai", extra="collect")


def _retry_notes(setup: Setup) -> list[str]:
    """Note that the plan counts each verdict once, without retries."""
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
    """Request missing answers and judgements, score them, write the folder.

    Args:
        options: The options of the run.
        opener: Makes the clients of servers.
        watch: Shows progress; see `ask.display.watch`.
        announce: Called before the first request with the models to ask and their maximum numbers of requests.
        tell: Called before that with a line on each renamed model, and later on each parameter that a server refuses.

    Returns:
        The result, which is also on disk.

    Raises:
        CrowdselectError: A file or an option is invalid; nothing was sent. Or the ledger could not be written,
            see `LedgerError`.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from crowdselect.evaluate.protocols import MT_BENCH
        >>> place = Path(mkdtemp())
        >>> questions = place / "question.jsonl"
        >>> _ = questions.write_text('{"question_id": 1, "category": "math", "turns": ["2 + 2?"]}')
        >>> judged = place / "judged.jsonl"
        >>> _ = judged.write_text('{"question_id": 1, "model": "m", "judge": ["j", "p"], "score": 8, "turn": 1}')
        >>> options = EvaluateOptions(protocol=MT_BENCH, questions=str(questions), judgments=str(judged), output=str(place / "m"))
        >>> run(options).result["score"]
        8.0
    """
    folder = options.folder
    setup = prepare(options, opener=opener)
    with ExitStack() as stack:
        stack.enter_context(made_folder(folder))
        ledger = stack.enter_context(Ledger(options.ledger_path, force=options.force_ledger))
        redact = Redactor.of([respondent.endpoint for respondent in setup.respondents])
        session = Session(
            ledger, AskOptions(limits=options.limits, redact=redact, watch=watch, tell=tell), {}
        )
        endpoints, present = setup.from_files()
        taken = take_over(ledger, endpoints, present=present, tell=tell)
        if announce is not None:
            announce(_announced(setup))
        try:
            answers = _answers(session, setup, setup.model, setup.answers)
            baseline = _of_baselines(setup, partial(_answers, session, setup))
            judgements = _judgements(session, setup, answers, baseline)
        except InterruptedAskError:
            return Evaluation(options, {}, interrupted=True)
        evidence = Evidence(
            setup, answers, baseline, judgements, _sent(setup, ledger), ledger.spent(), ledger.noted("id")
        )
        result = result_of(evidence)
        written = write_result(evidence, result)
    notes = [*taken, *setup.notes]
    return Evaluation(options, result, stopped=session.stopped, notes=notes, was_there=not written)


def _sent(setup: Setup, ledger: Ledger) -> dict[str, list[Endpoint]]:
    """Return the settings that each role was asked with, without what its server refused."""
    asked = {
        "model": [] if setup.model is None else [endpoint for endpoint, _ in setup.requests(setup.model)],
        "baseline": [
            endpoint
            for baseline in setup.baselines
            if baseline.respondent is not None
            for endpoint, _ in setup.requests(baseline.respondent)
        ],
        "judge": [] if setup.judge is None else [setup.judge.endpoint],
    }
    return {
        role: [accepted(ledger, each) for each in endpoints] for role, endpoints in asked.items() if endpoints
    }


@dataclass(frozen=True, slots=True)
class Announcement:
    """A model to ask, and its maximum number of requests if every verdict can be read at once, and if none can."""

    endpoint: Endpoint
    requests: int
    with_retries: int


Announce = Callable[[Sequence[Announcement]], None]


def _announced(setup: Setup) -> list[Announcement]:
    def turns_of(respondent: Respondent) -> int:
        return sum(len(question.turns) for question in setup.questions_of(respondent))

    verdicts = sum(slots_of(question, setup.options.protocol) for question in setup.questions)
    samples = setup.options.judge_retries + 1
    return [
        Announcement(respondent.endpoint, verdicts, samples * verdicts)
        if respondent is setup.judge
        else Announcement(respondent.endpoint, turns_of(respondent), turns_of(respondent))
        for respondent in setup.respondents
    ]


def _answers(
    session: Session, setup: Setup, respondent: Respondent | None, given: ModelAnswers | None
) -> ModelAnswers | None:
    """Return the answers: from a file, or requested."""
    if respondent is None:
        return given
    conversations = ask_answers(session, respondent, setup.requests(respondent))
    questions = setup.questions_of(respondent)
    return from_conversations(respondent.name, questions, conversations, setup.options.protocol)


def _of_baselines(
    setup: Setup, answers_of: Callable[[Respondent | None, ModelAnswers | None], ModelAnswers | None]
) -> ModelAnswers | None:
    """Return the baselines' answers, each to the questions of its categories; None if there are none."""
    found = [(answers_of(each.respondent, each.answers), each.categories) for each in setup.baselines]
    parts = [(answers, categories) for answers, categories in found if answers is not None]
    return joined(parts, setup.questions) if parts else None


def _planned_answers(
    setup: Setup,
    respondent: Respondent,
    ledger: Ledger | None,
    estimates: dict[str, Estimate],
    renamed: Renamed,
) -> ModelAnswers:
    """Estimate the requests to one respondent, and fill in missing answers with ones of maximum length."""
    total: Estimate | None = None
    conversations: dict[str, Conversation] = {}
    for current, requests in setup.requests(respondent):
        endpoint = renamed.before(current)
        estimate = estimate_requests(
            requests.values(), endpoint, ledger, retry_failed=setup.options.limits.retry_failed
        )
        total = estimate if total is None else _sum(total, estimate)
        if ledger is not None:
            conversations.update(
                zip(requests, read_conversations(ledger, endpoint, list(requests.values())), strict=True)
            )
        else:
            conversations |= {id_: Conversation(one, (), len(one.then) + 1) for id_, one in requests.items()}
    estimates[f"answers {respondent.name}"] = total or Estimate()
    estimates[f"answers {respondent.name}"].renamed = renamed.notes.get(respondent.endpoint.name)
    questions = setup.questions_of(respondent)
    known = from_conversations(respondent.name, questions, conversations, setup.options.protocol)
    return with_filler(
        known, questions, tokens=setup.options.max_tokens or setup.options.protocol.answer_tokens
    )


def _judgements(
    session: Session, setup: Setup, answers: ModelAnswers | None, baseline: ModelAnswers | None
) -> Judgements:
    """Return the judgements: from a file, or requested."""
    if setup.judgements is not None:
        return setup.judgements
    if setup.judge is None or answers is None:
        raise AssertionError("the options were checked: there is a judge and something to judge")
    cases = cases_of(setup, answers, baseline)
    read = reader(setup.options.protocol)
    options = setup.options
    judged = judge(
        session, setup.judge, cases, read, retries=options.judge_retries, keep_going=options.keep_going
    )
    return judgements_of(setup, answers, baseline, cases=cases, judged=judged)


def _sum(one: Estimate, other: Estimate) -> Estimate:
    """Add estimates; a value unknown in one is unknown in the sum."""
    facts = other.facts()
    added: dict[str, Any] = {
        name: None if value is None or facts[name] is None else value + facts[name]
        for name, value in one.facts().items()
    }
    return Estimate(**added)
