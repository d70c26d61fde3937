"""What the two benchmarks fix, so that a score can be compared with published ones; and the options of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crowdselect.ask.budget import Limits
from crowdselect.errors import OptionError


@dataclass(frozen=True, slots=True)
class Protocol:
    """A benchmark's rules.

    Attributes:
        key: As the command and the files spell it.
        title: As people spell it.
        pairwise: Answers are compared with a baseline's, in both orders; else each is graded alone.
        turns: Of a conversation that are graded.
        answer_tokens: The most tokens of one answer.
        judge_tokens: The most tokens of a judgement, where the judge's own settings say nothing.
        temperatures: Of answers, by the question's category.
        temperature: Of answers in other categories.
        referenced: Categories that are judged with a reference answer.
        unit: What the score is in.
    """

    key: str
    title: str
    pairwise: bool
    turns: int
    answer_tokens: int
    judge_tokens: int
    temperature: float
    unit: str
    temperatures: Mapping[str, float] = field(default_factory=dict)
    referenced: frozenset[str] = frozenset()

    def temperature_of(self, category: str) -> float:
        """Give the temperature that answers to a category are sampled with.

        Example:
            >>> MT_BENCH.temperature_of("writing"), MT_BENCH.temperature_of("math")
            (0.7, 0.0)
        """
        return self.temperatures.get(category, self.temperature)


MT_BENCH = Protocol(
    key="mt-bench",
    title="MT-Bench",
    pairwise=False,
    turns=2,
    answer_tokens=1024,
    judge_tokens=2048,
    temperature=0.7,
    unit="1 to 10",
    temperatures={
        "writing": 0.7,
        "roleplay": 0.7,
        "extraction": 0.0,
        "math": 0.0,
        "coding": 0.0,
        "reasoning": 0.0,
        "stem": 0.1,
        "humanities": 0.1,
    },
    referenced=frozenset({"math", "reasoning", "coding"}),
)
"""Zheng et al. 2023; temperatures and categories with references as in FastChat's `llm_judge`."""

ARENA_HARD = Protocol(
    key="arena-hard",
    title="Arena-Hard",
    pairwise=True,
    turns=1,
    answer_tokens=4096,
    judge_tokens=4096,
    temperature=0.0,
    unit="% of wins",
)
"""Li et al. 2024; tokens and temperature as in arena-hard-auto."""

PROTOCOLS = {protocol.key: protocol for protocol in (MT_BENCH, ARENA_HARD)}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """One model on one benchmark.

    Attributes:
        protocol: `protocols.MT_BENCH` or `protocols.ARENA_HARD`.
        questions: FastChat's or arena-hard-auto's question file.
        output: The folder of the result; None: only a plan can be made.
        model: `crowd.toml#NAME`, or a folder with a model; None where `answers` or `judgments` says all.
        answers: Answers made elsewhere, instead of `model`.
        judge: `crowd.toml#NAME` of a `[[judge]]`; None where `judgments` says all.
        judgments: Judgements made elsewhere, instead of `judge`.
        references: Reference answers (MT-Bench).
        baseline: `crowd.toml#NAME`, a folder or a file of answers (Arena-Hard).
        name: What the model is called; which model is meant, where a file holds several.
        judge_prompt: A file of prompts in FastChat's form; None = ours.
        judge_retries: How often a verdict that cannot be read is asked for again.
        temperature: Of the answers; None = as the benchmark says.
        max_tokens: Of an answer; None = as the benchmark says.
        ledger: The ledger's file; None = `ledger.sqlite` in the folder.
        force_ledger: Use a ledger on a network file system.
        seed: Of the resampling.
        limits: How far to go.
    """

    protocol: Protocol
    questions: str
    output: str | None = None
    model: str | None = None
    answers: str | None = None
    judge: str | None = None
    judgments: str | None = None
    references: str | None = None
    baseline: str | None = None
    name: str | None = None
    judge_prompt: str | None = None
    judge_retries: int = 2
    temperature: float | None = None
    max_tokens: int | None = None
    ledger: str | None = None
    force_ledger: bool = False
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        _check_sources(self)
        for name, value, least in (
            ("judge_retries", self.judge_retries, 0),
            ("temperature", self.temperature, 0.0),
            ("max_tokens", self.max_tokens, 1),
            ("seed", self.seed, 0),
            ("max_cost", self.limits.max_cost, 0.0),
            ("max_requests", self.limits.max_requests, 0),
        ):
            if value is not None and not value >= least:
                raise OptionError(f"`{name}` is {value:g}; wanted at least {least:g}")

    @property
    def folder(self) -> Path:
        """Where the result is.

        Raises:
            OptionError: No folder is named.
        """
        if self.output is None:
            raise OptionError("say where the result goes with `output`")
        return Path(self.output)

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is.

        Raises:
            OptionError: Neither it nor a folder is named.
        """
        return Path(self.ledger) if self.ledger is not None else self.folder / "ledger.sqlite"


def _check_sources(options: EvaluateOptions) -> None:
    """Refuse to be given one thing twice, or not at all."""
    if options.model is not None and options.answers is not None:
        raise OptionError("`model` and `answers` both say where answers come from; give one of them")
    if options.judge is not None and options.judgments is not None:
        raise OptionError("`judge` and `judgments` both say where judgements come from; give one of them")
    if options.judge is None and options.judgments is None:
        raise OptionError(
            "name who judges (`judge`, crowd.toml#NAME), or name a file of judgements (`judgments`)"
        )
    if options.judge is not None and options.model is None and options.answers is None:
        raise OptionError(
            "name a model (`model`, crowd.toml#NAME or a folder), or a file of answers (`answers`)"
        )
    if options.model is not None and options.judgments is not None:
        raise OptionError(
            "`judgments` are of answers that are there already: give `answers` instead of `model`"
        )
    pairwise = options.protocol.pairwise
    if pairwise and options.judge is not None and options.baseline is None:
        raise OptionError("name the `baseline`: crowd.toml#NAME, a folder with a model, or a file of answers")
    for option, value, wanted in (
        ("baseline", options.baseline, pairwise),
        ("references", options.references, not pairwise),
    ):
        if value is not None and not wanted:
            raise OptionError(f"`{option}` has no place in {options.protocol.title}")
