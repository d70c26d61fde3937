"""Everything an evaluation needs, found and checked before anything is sent or written."""

from dataclasses import dataclass
from pathlib import Path

from crowdselect.ask.ask import Opener, looked_into, open_client
from crowdselect.ask.budget import check_cost_cap
from crowdselect.ask.calls import Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.renamed import former_names, names_in
from crowdselect.errors import OutputError
from crowdselect.evaluate.asking import answer_requests
from crowdselect.evaluate.files import Answers, Question, read_answers, read_bench, read_references
from crowdselect.evaluate.parties import Party, answering, is_named, is_party, judging, limited
from crowdselect.evaluate.prompts import Prompts
from crowdselect.evaluate.protocols import Task
from crowdselect.evaluate.verdicts import Judgements, read_judgements
from crowdselect.manifests import MANIFEST, in_the_way, is_ours, read_manifest

_WRITES = ("answers.jsonl", "baseline_answers.jsonl", "judgments.jsonl", "result.json")


@dataclass(frozen=True, slots=True)
class Setup:
    """What is asked of whom, and what is known from files.

    Attributes:
        task: What was wanted.
        questions: In the order of their file.
        references: Reference answers by the questions' ids.
        prompts: Of the judge.
        model: Who answers; None where `answers` are from a file, or nothing needs them. `baseline` likewise.
        judge: Who judges; None where `judgements` are from a file.
        answers: From a file. `baseline_answers` and `judgements` likewise.
        notes: Facts to tell the user.
    """

    task: Task
    questions: list[Question]
    references: dict[str, tuple[str, ...]]
    prompts: Prompts
    model: Party | None
    baseline: Party | None
    judge: Party | None
    answers: Answers | None
    baseline_answers: Answers | None
    judgements: Judgements | None
    notes: list[str]

    @property
    def parties(self) -> list[Party]:
        """All who are asked."""
        return [party for party in (self.model, self.baseline, self.judge) if party is not None]

    def requests(self, party: Party) -> list[tuple[Endpoint, dict[str, Request]]]:
        """Give what one who answers is asked, by the settings that it is asked with."""
        task = self.task
        return answer_requests(
            party, self.questions, task.protocol, temperature=task.temperature, tokens=task.max_tokens
        )

    def from_files(self) -> tuple[list[Endpoint], set[str]]:
        """Give those who are asked as a crowd file says, in every way that they are, and all names of the files."""
        parties = [party for party in self.parties if is_named(party.source)]
        asked = [
            endpoint
            for party in parties
            for endpoint in (
                [party.endpoint] if party is self.judge else [one for one, _ in self.requests(party)]
            )
        ]
        return asked, names_in(*(party.source.rpartition("#")[0] for party in parties))

    @property
    def model_name(self) -> str:
        """What the model is called."""
        known = self.answers or self.judgements
        found = self.model.name if self.model is not None else "" if known is None else known.model
        return self.task.name or found

    @property
    def judge_name(self) -> str:
        """What the judge is called."""
        if self.judge is not None:
            return self.judge.name
        return "" if self.judgements is None else self.judgements.judge

    @property
    def baseline_name(self) -> str | None:
        """What the baseline is called; None where there is none."""
        if self.baseline is not None:
            return self.baseline.name
        if self.baseline_answers is not None:
            return self.baseline_answers.model
        return None if self.judgements is None else self.judgements.baseline


def prepare(task: Task, *, opener: Opener = open_client) -> Setup:
    """Read the files, find the endpoints, refuse what cannot work.

    Args:
        task: What is wanted.
        opener: Makes the clients of servers.

    Raises:
        CrowdselectError: A file, an option or the folder is not what it should be; nothing was sent.
    """
    protocol = task.protocol
    questions = read_bench(task.questions, protocol)
    references = {} if task.references is None else read_references(task.references)
    judge, notes = (None, []) if task.judge is None else judging(task.judge, protocol, opener=opener)
    model = None
    if task.model is not None:
        model = answering(task.model, option="--model", name=task.name, opener=opener)
    answers = None if task.answers is None else read_answers(task.answers, questions, name=task.name)
    judgements = None
    if task.judgments is not None:
        own = task.name if answers is None else answers.model
        judgements = read_judgements(task.judgments, questions, protocol, name=own)
    baseline, baseline_answers = _baseline(task, questions, opener)
    setup = Setup(
        task,
        questions,
        references,
        Prompts(pairwise=protocol.pairwise, file=task.judge_prompt),
        model,
        baseline,
        judge,
        answers,
        baseline_answers,
        judgements,
        notes,
    )
    for part in (answers, baseline_answers, judgements):
        notes += [] if part is None else part.notes
    notes += _reference_notes(setup)
    _check_costs(setup)
    _check_folder(setup)
    return setup


def _baseline(task: Task, questions: list[Question], opener: Opener) -> tuple[Party | None, Answers | None]:
    if task.baseline is None:
        return None, None
    if is_party(task.baseline):
        found = answering(task.baseline, option="--baseline", opener=opener)
        return (found, None) if task.judgments is None else (None, None)
    return None, read_answers(task.baseline, questions)


def _reference_notes(setup: Setup) -> list[str]:
    """Say which questions should be judged with a reference answer and have none."""
    if setup.judge is None:
        return []
    referenced = setup.task.protocol.referenced
    bare = [
        question.category
        for question in setup.questions
        if question.category in referenced
        and len(setup.references.get(question.id, ())) < len(question.turns)
    ]
    if not bare:
        return []
    listed = ", ".join(sorted(set(bare)))
    return [f"{len(bare)} questions ({listed}) are judged without a reference answer: give --references FILE"]


def _check_costs(setup: Setup) -> None:
    """Refuse a cap on money that could not be kept, for the settings that are sent."""
    task = setup.task
    tokens = task.max_tokens or task.protocol.answer_tokens
    for party in setup.parties:
        answers = party is not setup.judge
        endpoint = limited(party.endpoint, tokens=tokens, temperature=0.0) if answers else party.endpoint
        check_cost_cap((endpoint,), task.limits.max_cost)


def _check_folder(setup: Setup) -> None:
    """Refuse a folder that holds something else than this evaluation, finished or not."""
    task = setup.task
    folder = task.folder
    if not folder.parent.is_dir():
        raise OutputError(f"{folder}: there is no folder {folder.parent}; make it first")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: this is a file; name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    manifest = read_manifest(folder)
    if is_ours(folder) or (task.ledger_path.exists() and not (folder / MANIFEST).exists()):
        blocked = in_the_way(folder, _WRITES)
        if blocked is not None:
            raise OutputError(
                f"{folder / blocked}: was not written by crowdselect and is in the way; move it, or choose another place"
            )
    if manifest is None:
        if (task.ledger_path.exists() or is_ours(folder)) and not (folder / MANIFEST).exists():
            return  # a run that was stopped
        raise OutputError(
            f"{folder}: the folder is not empty and holds no evaluation of ours; choose another place"
        )
    mine = {
        "kind": "evaluation",
        "benchmark": task.protocol.key,
        "model": setup.model_name,
        "judge": setup.judge_name,
        "baseline": setup.baseline_name,
    }
    for name, value in mine.items():
        if manifest.get(name) != value and manifest.get(name) not in _former_names(setup, value):
            raise OutputError(
                f"{folder}: holds another result ({name} {manifest.get(name)!r}, not {value!r}); choose another place"
            )


def _former_names(setup: Setup, name: str | None) -> set[str]:
    """Give the names that somebody had in the ledger before: a result under one of them is the same evaluation."""
    task = setup.task
    if name is None:
        return set()
    asked, present = setup.from_files()
    with looked_into(task.ledger_path, asked, present=present, force=task.force_ledger) as (ledger, renamed):
        return set() if ledger is None else former_names(ledger, renamed, name)


def input_files(task: Task) -> dict[str, Path]:
    """Give the files that an evaluation reads, by the options that name them."""
    named = {
        "questions": task.questions,
        "answers": task.answers,
        "judgments": task.judgments,
        "references": task.references,
        "judge_prompt": task.judge_prompt,
        "baseline": None if task.baseline is None or is_party(task.baseline) else task.baseline,
    }
    return {name: Path(path) for name, path in named.items() if path is not None}
