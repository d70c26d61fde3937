"""The inputs of an evaluation, read and checked before anything is sent or written.

Respondents are endpoints from a crowd file, or models in local folders; each with its requests.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdselect._optional import optional
from crowdselect.ask.ask import Opener, looked_into, open_client
from crowdselect.ask.budget import check_cost_cap
from crowdselect.ask.calls import Client, Request, make_request
from crowdselect.ask.endpoints import Endpoint, check_reachable, load_endpoints
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.renamed import Renamed, former_names, names_in
from crowdselect.errors import InputError, OptionError, OutputError
from crowdselect.evaluate.files import ModelAnswers, Question, read_answers, read_bench, read_references
from crowdselect.evaluate.judging import Judgements, JudgePrompts, read_judgements
from crowdselect.evaluate.protocols import EvaluateOptions, Protocol
from crowdselect.malformed import Malformed
from crowdselect.manifests import MANIFEST, in_the_way, is_ours, read_manifest
from crowdselect.pool.files import fingerprint
from crowdselect.pool.prompts import user_turn

_LARGE = 2 << 20  # bytes: the fingerprint reads only both ends of larger files, so their time counts too
_ADAPTER = "adapter_config.json"
_WRITES = ("answers.jsonl", "baseline_answers.jsonl", "judgments.jsonl", "result.json")


@dataclass(frozen=True, slots=True)
class Respondent:
    """A model or judge to ask: its name, endpoint and opener, and the option text it came from."""

    name: str
    endpoint: Endpoint
    open: Opener
    source: str


def is_respondent(text: str) -> bool:
    """Return whether a text is `crowd.toml#NAME` or a folder, and not a file of answers.

    Example:
        >>> is_respondent("crowd.toml#gpt-4"), is_respondent("gpt-4.jsonl")
        (True, False)
    """
    return is_named(text) or Path(text).is_dir()


def is_named(text: str) -> bool:
    """Return whether a text is `crowd.toml#NAME`, and not a folder.

    Example:
        >>> is_named("crowd.toml#gpt-4"), is_named("models/student")
        (True, False)
    """
    return ".toml#" in text


def find_model(
    text: str, *, option: str, name: str | None = None, opener: Opener = open_client
) -> Respondent:
    """Find a model to evaluate.

    Args:
        text: `crowd.toml#NAME`, or a folder with a model or a LoRA adapter.
        option: The option's name, for errors.
        name: Its name in the result; None = its own name.
        opener: Makes the client of a server.

    Raises:
        InputError: There is no such folder or file.
        OptionError: The file has no such model.
        MissingExtraError: An adapter needs peft.
    """
    if is_named(text):
        endpoint = _from_file(text, "model", option)
    elif Path(text).is_dir():
        endpoint = Endpoint(_folder_name(text), local=text, model=text)
    else:
        raise InputError(
            f"`{option}` is {text!r}: there is no such folder; wanted a folder with a model, or crowd.toml#NAME "
            '(a model of the hub is written there as local = "NAME")'
        )
    if endpoint.local is None:
        return Respondent(name or endpoint.name, endpoint, opener, text)
    if Path(endpoint.local).is_dir():
        # The model is identified by content, not by path: another model in the same folder is asked again.
        endpoint = replace(
            endpoint, model=f"{_folder_name(endpoint.local)}@{_content(Path(endpoint.local))[:24]}"
        )
    return Respondent(name or endpoint.name, endpoint, _local_opener(), text)


def find_judge(
    text: str, protocol: Protocol, *, opener: Opener = open_client
) -> tuple[Respondent, list[str]]:
    """Find a judge; temperature 0 and the protocol's token limit, unless the file sets them.

    Returns:
        The judge, and lines for the user.
    """
    if not is_named(text):
        raise OptionError(
            f"`judge` is {text!r}: wanted crowd.toml#NAME, where NAME is a [[judge]] of that file"
        )
    judge = _from_file(text, "judge", "judge")
    endpoint = replace(judge, system=None)
    if judge.temperature is None and not judge.default_temperature:
        endpoint = replace(endpoint, temperature=0.0, waived=frozenset({"temperature"}))
    if endpoint.most_tokens is None:
        endpoint = replace(endpoint, max_tokens=protocol.judge_tokens)
    notes = [f"judge {judge.name}: its system text is left out"] if judge.system is not None else []
    return Respondent(judge.name, endpoint, opener if judge.local is None else _local_opener(), text), notes


def limited(endpoint: Endpoint, *, tokens: int, temperature: float | None) -> Endpoint:
    """Set the maximum length of answers and the temperature; a limit in `extra_body` is replaced there."""
    extra = {
        name: tokens if name in {"max_tokens", "max_completion_tokens"} else value
        for name, value in endpoint.extra_body.items()
    }
    max_tokens = None if extra != dict(endpoint.extra_body) or "max_completion_tokens" in extra else tokens
    return replace(endpoint, max_tokens=max_tokens, extra_body=extra, temperature=temperature)


def answer_requests(
    respondent: Respondent,
    questions: Sequence[Question],
    protocol: Protocol,
    *,
    temperature: float | None = None,
    tokens: int | None = None,
) -> list[tuple[Endpoint, dict[str, Request]]]:
    """Build the requests for answers, grouped by settings.

    Args:
        respondent: The model to ask.
        questions: The questions.
        protocol: The benchmark's rules.
        temperature: Overrides the protocol's; None = the protocol's.
        tokens: Maximum tokens of an answer, overrides the protocol's; None = the protocol's.

    Returns:
        Per temperature an endpoint, and question id → request. The second turn of a conversation is sent with and
        after the first answer.
    """
    groups: dict[bytes, tuple[Endpoint, dict[str, Request]]] = {}
    for question in questions:
        own: float | None = question.temperature
        if respondent.endpoint.default_temperature:
            own = None
        elif own is None:
            own = protocol.temperature_of(question.category)
        endpoint = limited(
            respondent.endpoint,
            tokens=protocol.answer_tokens if tokens is None else tokens,
            temperature=own if temperature is None else temperature,
        )
        _, requests = groups.setdefault(endpoint.digest, (endpoint, {}))
        requests[question.id] = make_request(user_turn(question.turns[0]), then=question.turns[1:])
    return list(groups.values())


def _from_file(text: str, role: str, option: str) -> Endpoint:
    path, _, name = text.rpartition("#")
    endpoints = load_endpoints(path)
    known = endpoints.answering if role == "model" else endpoints.judges
    found = next((endpoint for endpoint in known if endpoint.name == name), None)
    if found is None:
        listed = ", ".join(endpoint.name for endpoint in known) or "none"
        raise OptionError(f"`{option}` is {text!r}: there is no [[{role}]] named {name!r}; found {listed}")
    return found


def _folder_name(folder: str) -> str:
    return Path(folder).resolve().name


def _content(folder: Path) -> str:
    """Hash the files of a model's folder, and those of an adapter's base model."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    # Checkpoints that training leaves are not part of the model.
    kept = [file for file in files if not any(part.startswith("checkpoint-") for part in file.parts[-2:-1])]
    names = "\n".join(
        f"{file.relative_to(folder)} {file.stat().st_mtime_ns if file.stat().st_size > _LARGE else ''}"
        for file in kept
    )
    base = _base_of(folder)
    base_content = _content(base) if base is not None else ""
    return hashlib.sha256(f"{names}\n{fingerprint(kept)}\n{base_content}".encode()).hexdigest()


def _base_of(folder: Path) -> Path | None:
    """Return the folder of an adapter's base model; None if it is not an adapter, or its base is on the hub."""
    place = folder / _ADAPTER
    if not place.is_file():
        return None
    optional("peft", extra="train")
    try:
        named = json.loads(place.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{place}: broken: {' '.join(str(error).split())[:200]}") from error
    base = Path(str(named))
    return base if base.is_dir() and base.resolve() != folder.resolve() else None


def _local_opener() -> Opener:
    """Return an opener whose clients share one local model's weights, whatever their sampling settings."""
    shared: list[tuple[Any, Any]] = []

    def opened(endpoint: Endpoint) -> Client:
        from crowdselect.ask.local_client import LocalClient

        return LocalClient(endpoint, shared=shared)

    return opened


@dataclass(frozen=True, slots=True)
class Baseline:
    """Whose answers are compared with, in some categories of questions.

    Attributes:
        name: Its name.
        categories: The categories.
        respondent: The model to ask; None if `answers` are from a file.
        answers: Answers from a file; None = requested.
    """

    name: str
    categories: frozenset[str]
    respondent: Respondent | None
    answers: ModelAnswers | None


@dataclass(frozen=True, slots=True)
class Setup:
    """The models to ask, and the inputs read from files.

    Attributes:
        options: The options of the run.
        questions: In file order.
        references: Question id → reference answers.
        prompts: The judge's prompts.
        model: The model to ask; None if `answers` are from a file, or not needed.
        baselines: Whose answers are compared with; together they have every category, or there is none.
        judge: The judge to ask; None if `judgements` are from a file.
        answers: Answers from a file; None = requested. `judgements` likewise.
        notes: Lines for the user.
        malformed: How many rows of the files were left out because they are malformed.
    """

    options: EvaluateOptions
    questions: list[Question]
    references: dict[str, tuple[str, ...]]
    prompts: JudgePrompts
    model: Respondent | None
    baselines: tuple[Baseline, ...]
    judge: Respondent | None
    answers: ModelAnswers | None
    judgements: Judgements | None
    notes: list[str]
    malformed: int = 0

    @property
    def respondents(self) -> list[Respondent]:
        """All models and judges to ask."""
        found = (self.model, *(baseline.respondent for baseline in self.baselines), self.judge)
        return [respondent for respondent in found if respondent is not None]

    def questions_of(self, respondent: Respondent) -> list[Question]:
        """Return the questions that a respondent is asked: a baseline those of its categories."""
        for baseline in self.baselines:
            if baseline.respondent is respondent:
                return [question for question in self.questions if question.category in baseline.categories]
        return self.questions

    def requests(self, respondent: Respondent) -> list[tuple[Endpoint, dict[str, Request]]]:
        """Build the requests for one respondent, grouped by settings."""
        options = self.options
        return answer_requests(
            respondent,
            self.questions_of(respondent),
            options.protocol,
            temperature=options.temperature,
            tokens=options.max_tokens,
        )

    def from_files(self) -> tuple[list[Endpoint], set[str]]:
        """Return the endpoints from crowd files, one per setting used, and all names in those files."""
        respondents = [respondent for respondent in self.respondents if is_named(respondent.source)]
        endpoints = [
            endpoint
            for respondent in respondents
            for endpoint in (
                [respondent.endpoint]
                if respondent is self.judge
                else [one for one, _ in self.requests(respondent)]
            )
        ]
        return endpoints, names_in(*(respondent.source.rpartition("#")[0] for respondent in respondents))

    @contextmanager
    def ledger(self) -> Iterator[tuple[Ledger | None, Renamed]]:
        """Open the ledger for planning; see `ask.looked_into`. None if neither `ledger` nor `output` is set."""
        options = self.options
        path = None if options.output is None and options.ledger is None else options.ledger_path
        endpoints, present = self.from_files()
        with looked_into(path, endpoints, present=present, force=options.force_ledger) as found:
            yield found

    @property
    def model_name(self) -> str:
        """The model's name."""
        known = self.answers or self.judgements
        found = self.model.name if self.model is not None else "" if known is None else known.model
        return self.options.name or found

    @property
    def judge_name(self) -> str:
        """The judge's name."""
        if self.judge is not None:
            return self.judge.name
        return "" if self.judgements is None else self.judgements.judge

    @property
    def baseline_names(self) -> dict[str, str]:
        """Category → the baseline's name."""
        if not self.baselines:
            return {} if self.judgements is None else dict(self.judgements.baselines)
        return {category: baseline.name for baseline in self.baselines for category in baseline.categories}

    @property
    def baseline_name(self) -> str | None:
        """The baseline's name; with several, each after its category; None if there is none."""
        names = self.baseline_names
        if len(set(names.values())) < 2:
            return next(iter(names.values()), None)
        return ", ".join(f"{category}: {name}" for category, name in sorted(names.items()))


def prepare(options: EvaluateOptions, *, opener: Opener = open_client) -> Setup:
    """Read the files, find the endpoints, and refuse what cannot work.

    Args:
        options: The options of the run.
        opener: Makes the clients of servers.

    Raises:
        CrowdselectError: A file, an option, a key or the folder is invalid; nothing was sent.
    """
    protocol = options.protocol
    malformed = Malformed(skip=options.skip_invalid)
    questions = read_bench(options.questions, protocol, malformed)
    references = {} if options.references is None else read_references(options.references, malformed)
    judge, notes = (None, []) if options.judge is None else find_judge(options.judge, protocol, opener=opener)
    model = None
    if options.model is not None:
        model = find_model(options.model, option="model", name=options.name, opener=opener)
    answers = None
    if options.answers is not None:
        answers = read_answers(options.answers, questions, name=options.name, malformed=malformed)
    judgements = None
    if options.judgments is not None:
        own = options.name if answers is None else answers.model
        judgements = read_judgements(options.judgments, questions, protocol, name=own, malformed=malformed)
    baselines = _baselines(options, questions, malformed, opener, judgements)
    notes += malformed.notes
    setup = Setup(
        options,
        questions,
        references,
        JudgePrompts(pairwise=protocol.pairwise, file=options.judge_prompt),
        model,
        baselines,
        judge,
        answers,
        judgements,
        notes,
        malformed.count,
    )
    for part in (answers, *(baseline.answers for baseline in baselines), judgements):
        notes += [] if part is None else part.notes
    notes += _reference_notes(setup)
    for respondent in setup.respondents:
        check_reachable((respondent.endpoint,), path=respondent.source)
    _check_costs(setup)
    if options.output is not None:
        _check_folder(setup)
    return setup


def _baselines(
    options: EvaluateOptions,
    questions: list[Question],
    malformed: Malformed,
    opener: Opener,
    judgements: Judgements | None,
) -> tuple[Baseline, ...]:
    """Find the baselines; with judgements from a file, nobody is asked for more answers."""
    found = []
    for source, categories in _sources(options.baselines, sorted({q.category for q in questions})).items():
        if is_respondent(source):
            if judgements is None:
                respondent = find_model(source, option="baseline", opener=opener)
                found.append(Baseline(respondent.name, categories, respondent, None))
            continue
        names = set() if judgements is None else {judgements.baselines.get(each) for each in categories}
        name = names.pop() if len(names) == 1 else None
        answers = read_answers(source, questions, name=name, malformed=malformed)
        found.append(Baseline(answers.model, categories, None, answers))
    return tuple(found)


def _sources(baselines: Sequence[str], categories: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the categories that each baseline is for.

    Raises:
        OptionError: A category is unknown, named twice, or has no baseline.
    """
    listed = ", ".join(repr(category) for category in categories)
    sources: dict[str, str] = {}
    others: str | None = None
    for text in baselines:
        category, equals, source = text.partition("=")
        is_path = Path(text).exists() or (is_named(text) and Path(text.rpartition("#")[0]).exists())
        if equals and category in categories and not is_path:
            if category in sources:
                raise OptionError(f"`baseline` names the category {category!r} twice; keep one")
            sources[category] = source
        elif equals and not is_path:
            raise OptionError(
                f"`baseline` is {text!r}: the questions have no category {category!r}; they have {listed}"
            )
        elif others is not None:
            raise OptionError(
                f"`baseline` is given twice without a category; write CATEGORY=..., the questions have {listed}"
            )
        else:
            others = text
    bare = [category for category in categories if category not in sources]
    if others is not None:
        sources |= dict.fromkeys(bare, others)
    elif bare and sources:
        raise OptionError(
            f"`baseline`: the category {bare[0]!r} has none; name one, or one without a category for the rest"
        )
    return {
        source: frozenset(category for category in sources if sources[category] == source)
        for source in dict.fromkeys(sources.values())
    }


def _reference_notes(setup: Setup) -> list[str]:
    """Return a note on questions that should be judged with a reference answer but have none."""
    if setup.judge is None:
        return []
    referenced = setup.options.protocol.referenced
    bare = [
        question.category
        for question in setup.questions
        if question.category in referenced
        and len(setup.references.get(question.id, ())) < len(question.turns)
    ]
    if not bare:
        return []
    listed = ", ".join(sorted(set(bare)))
    return [f"{len(bare)} questions ({listed}) are judged without a reference answer: give `references`"]


def _check_costs(setup: Setup) -> None:
    """Refuse a cost cap that could not be enforced with the settings that are sent."""
    options = setup.options
    tokens = options.max_tokens or options.protocol.answer_tokens
    for respondent in setup.respondents:
        answers = respondent is not setup.judge
        endpoint = (
            limited(respondent.endpoint, tokens=tokens, temperature=0.0) if answers else respondent.endpoint
        )
        check_cost_cap((endpoint,), options.limits.max_cost)


def _check_folder(setup: Setup) -> None:
    """Refuse a folder with anything but this evaluation, finished or not."""
    options = setup.options
    folder = options.folder
    if not folder.parent.is_dir():
        raise OutputError(f"{folder}: there is no folder {folder.parent}; make it first")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: this is a file; name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    manifest = read_manifest(folder)
    if is_ours(folder) or (options.ledger_path.exists() and not (folder / MANIFEST).exists()):
        blocked = in_the_way(folder, _WRITES)
        if blocked is not None:
            raise OutputError(
                f"{folder / blocked}: was not written by crowdselect and is in the way; move it, or choose another place"
            )
    if manifest is None:
        if (options.ledger_path.exists() or is_ours(folder)) and not (folder / MANIFEST).exists():
            return  # a run that was stopped
        raise OutputError(
            f"{folder}: the folder is not empty and holds no evaluation of ours; choose another place"
        )
    mine = {
        "kind": "evaluation",
        "benchmark": options.protocol.key,
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
    """Return a name's former names in the ledger: a result under one of them is the same evaluation."""
    if name is None:
        return set()
    with setup.ledger() as (ledger, renamed):
        return set() if ledger is None else former_names(ledger, renamed, name)


def input_files(options: EvaluateOptions) -> dict[str, Path]:
    """Return the files that an evaluation reads, by option name."""
    named = {
        "questions": options.questions,
        "answers": options.answers,
        "judgments": options.judgments,
        "references": options.references,
        "judge_prompt": options.judge_prompt,
    }
    for text in options.baselines:
        category, equals, source = text.partition("=")
        is_plain = not equals or Path(text).exists()
        if not is_respondent(text if is_plain else source):
            named["baseline" if is_plain else f"baseline {category}"] = text if is_plain else source
    return {name: Path(path) for name, path in named.items() if path is not None}
