"""The whole way of an evaluation on one page: answers, judgements, score, folder."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from crowdselect.ask.ask import AskOptions, InterruptedAskError, Opener, Watch, looked_into, open_client
from crowdselect.ask.budget import Estimate, estimate_requests
from crowdselect.ask.calls import make_request
from crowdselect.ask.conversations import Conversation, read_conversations
from crowdselect.ask.endpoints import Endpoint, check_reachable
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.redact import Redactor
from crowdselect.ask.renamed import Renamed, take_over
from crowdselect.evaluate.asking import Desk, ask_answers, judge
from crowdselect.evaluate.files import Answers, from_talks
from crowdselect.evaluate.judging import cases_of, judgements_of, reader, with_filler
from crowdselect.evaluate.outcome import Evidence, result_of, write_result
from crowdselect.evaluate.parties import Party
from crowdselect.evaluate.protocols import Task
from crowdselect.evaluate.setup import Setup, prepare
from crowdselect.evaluate.verdicts import Judgements, slots_of
from crowdselect.writing import made_folder


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an evaluation.

    Attributes:
        task: What was wanted.
        result: What result.json holds; empty where the run was interrupted.
        interrupted: By Ctrl-C; everything that came is in the ledger.
        stopped: Why somebody was asked no further, per name.
        notes: Facts to tell the user.
    """

    task: Task
    result: dict[str, Any]
    interrupted: bool = False
    stopped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Verdicts that are not there."""
        return int(self.result["verdicts"]["missing"]) if self.result else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What an evaluation would send: estimates by what is done by whom, and facts to tell the user."""

    estimates: dict[str, Estimate]
    notes: list[str]


def plan(task: Task, *, opener: Opener = open_client) -> Plan:
    """Estimate what `run` would send; nothing is sent or written.

    Answers that are not there yet count with as many tokens as they may have, so the judge's tokens and money are
    the most that can come, but for verdicts that have to be asked for again.

    Args:
        task: What is wanted.
        opener: Makes the clients of servers; none is made.

    Raises:
        CrowdselectError: Something is wrong with the files or the options.
    """
    setup = prepare(task, opener=opener)
    asked, present = setup.from_files()
    with looked_into(task.ledger_path, asked, present=present, force=task.force_ledger) as (ledger, renamed):
        found: dict[str, Estimate] = {}
        known: list[Answers | None] = []
        for party, given in ((setup.model, setup.answers), (setup.baseline, setup.baseline_answers)):
            known.append(given if party is None else _planned_answers(setup, party, ledger, found, renamed))
        if setup.judge is not None and known[0] is not None:
            cases = cases_of(setup, known[0], known[1])
            requests = (make_request(case.chat) for case in cases)
            retry = task.limits.retry_failed
            found[f"judge {setup.judge.name}"] = estimate_requests(
                requests, renamed.before(setup.judge.endpoint), ledger, retry_failed=retry
            )
            found[f"judge {setup.judge.name}"].renamed = renamed.notes.get(setup.judge.endpoint.name)
    return Plan(found, [*setup.notes, *renamed.notes.values(), *_retry_notes(setup)])


def _retry_notes(setup: Setup) -> list[str]:
    """Say that the plan counts a verdict once."""
    again = setup.task.judge_retries
    if setup.judge is None or not again:
        return []
    times = f"up to {again + 1} times as many calls and as much money if no verdict can be read"
    return [f"judge {setup.judge.name}: {times}: one that cannot is asked for again (--judge-retries)"]


def run(
    task: Task,
    *,
    opener: Opener = open_client,
    watch: Watch | None = None,
    announce: "Announce | None" = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Ask what is not known yet, score it, write the folder.

    Args:
        task: What is wanted.
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
        >>> asked = place / "question.jsonl"
        >>> _ = asked.write_text('{"question_id": 1, "category": "math", "turns": ["2 + 2?"]}')
        >>> said = place / "judged.jsonl"
        >>> _ = said.write_text('{"question_id": 1, "model": "m", "judge": ["j", "p"], "score": 8, "turn": 1}')
        >>> task = Task(protocol=MT_BENCH, questions=str(asked), judgments=str(said), output=str(place / "m"))
        >>> run(task).result["score"]
        8.0
    """
    setup = prepare(task, opener=opener)
    for party in setup.parties:
        check_reachable((party.endpoint,), path=party.source)
    with ExitStack() as stack:
        stack.enter_context(made_folder(task.folder))
        ledger = stack.enter_context(Ledger(task.ledger_path, force=task.force_ledger))
        redact = Redactor.of([party.endpoint for party in setup.parties])
        desk = Desk(ledger, AskOptions(limits=task.limits, redact=redact, watch=watch), {})
        asked, present = setup.from_files()
        taken = take_over(ledger, asked, present=present, tell=tell)
        if announce is not None:
            announce(_announced(setup))
        try:
            answers = _answers(desk, setup, setup.model, setup.answers)
            baseline = _answers(desk, setup, setup.baseline, setup.baseline_answers)
            judgements = _judgements(desk, setup, answers, baseline)
        except InterruptedAskError:
            return Report(task, {}, interrupted=True)
        evidence = Evidence(setup, answers, baseline, judgements, ledger.spent(), ledger.noted("id"))
        result = result_of(evidence)
        write_result(evidence, result)
    return Report(task, result, stopped=desk.stopped, notes=[*taken, *setup.notes])


@dataclass(frozen=True, slots=True)
class Asked:
    """Who will be asked, how often at most if every verdict can be read at once, and if none can."""

    endpoint: Endpoint
    requests: int
    with_retries: int


Announce = Callable[[Sequence[Asked]], None]


def _announced(setup: Setup) -> list[Asked]:
    turns = sum(len(question.turns) for question in setup.questions)
    verdicts = sum(slots_of(question, setup.task.protocol) for question in setup.questions)
    samples = setup.task.judge_retries + 1
    return [
        Asked(party.endpoint, verdicts, samples * verdicts)
        if party is setup.judge
        else Asked(party.endpoint, turns, turns)
        for party in setup.parties
    ]


def _answers(desk: Desk, setup: Setup, party: Party | None, given: Answers | None) -> Answers | None:
    """Ask for answers, where they are not from a file."""
    if party is None:
        return given
    talks = ask_answers(desk, party, setup.requests(party))
    return from_talks(party.name, setup.questions, talks, setup.task.protocol)


def _planned_answers(
    setup: Setup, party: Party, ledger: Ledger | None, found: dict[str, Estimate], renamed: Renamed
) -> Answers:
    """Estimate what one who answers is asked, and put the longest answers in the place of those to come."""
    total: Estimate | None = None
    talks: dict[str, Conversation] = {}
    for own, requests in setup.requests(party):
        endpoint = renamed.before(own)
        made = estimate_requests(
            requests.values(), endpoint, ledger, retry_failed=setup.task.limits.retry_failed
        )
        total = made if total is None else _sum(total, made)
        if ledger is not None:
            talks.update(
                zip(requests, read_conversations(ledger, endpoint, list(requests.values())), strict=True)
            )
        else:
            talks |= {id_: Conversation(one, (), len(one.then) + 1) for id_, one in requests.items()}
    found[f"answers {party.name}"] = total or Estimate()
    found[f"answers {party.name}"].renamed = renamed.notes.get(party.endpoint.name)
    known = from_talks(party.name, setup.questions, talks, setup.task.protocol)
    return with_filler(
        known, setup.questions, tokens=setup.task.max_tokens or setup.task.protocol.answer_tokens
    )


def _judgements(desk: Desk, setup: Setup, answers: Answers | None, baseline: Answers | None) -> Judgements:
    """Have the answers judged, where the judgements are not from a file."""
    if setup.judgements is not None:
        return setup.judgements
    if setup.judge is None or answers is None:
        raise AssertionError("the task was checked: there is a judge and something to judge")
    cases = cases_of(setup, answers, baseline)
    read = reader(setup.task.protocol)
    judged = judge(desk, setup.judge, cases, read, retries=setup.task.judge_retries)
    return judgements_of(setup, answers, baseline, cases=cases, judged=judged)


def _sum(one: Estimate, other: Estimate) -> Estimate:
    """Add estimates; what is unknown in one is unknown in both."""
    facts = other.facts()
    added: dict[str, Any] = {
        name: None if value is None or facts[name] is None else value + facts[name]
        for name, value in one.facts().items()
    }
    return Estimate(**added)
