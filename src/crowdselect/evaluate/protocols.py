"""The rules of the two benchmarks, so that scores are comparable with published ones; the options of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crowdselect.ask.budget import Limits
from crowdselect.errors import OptionError


@dataclass(frozen=True, slots=True)
class Protocol:
    """A benchmark's rules.

    Attributes:
        key: Its name in commands and files.
        title: Its name for people.
        pairwise: Whether answers are compared with a baseline's, in both orders; else each is graded alone.
        turns: Number of turns graded per conversation.
        answer_tokens: Maximum tokens of an answer.
        judge_tokens: Maximum tokens of a judgement, if the judge's own settings have no limit.
        temperatures: Temperatures of answers, by the question's category.
        temperature: Temperature of answers in other categories.
        referenced: Categories judged with a reference answer.
        unit: Unit of the score.
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
        """Return the sampling temperature for answers in a category.

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
        model: `crowd.toml#NAME`, or a folder with a model; None with `answers` or `judgments`.
        answers: A file of answers made elsewhere, instead of `model`.
        judge: `crowd.toml#NAME` of a `[[judge]]`; None with `judgments`.
        judgments: A file of judgements made elsewhere, instead of `judge`.
        references: Reference answers (MT-Bench).
        baseline: `crowd.toml#NAME`, a folder or a file of answers (Arena-Hard); several as `CATEGORY=...`, and one without
            for the other categories.
        name: The model's name in the result; selects the model in a file with several.
        judge_prompt: A file of prompts in FastChat's format; None = the built-in ones.
        judge_retries: How often a verdict that cannot be read is retried.
        temperature: Temperature of the answers; None = the benchmark's.
        max_tokens: Maximum tokens of an answer; None = the benchmark's.
        keep_going: Ask the judge on although half of its first replies were cut.
        ledger: The ledger's file; None = `ledger.sqlite` in the folder.
        force_ledger: Use a ledger on a network file system.
        skip_invalid: Leave malformed rows of the files out, counted, instead of stopping at them.
        seed: Seed of the resampling.
        limits: Limits on money, requests and retries.
    """

    protocol: Protocol
    questions: str
    output: str | None = None
    model: str | None = None
    answers: str | None = None
    judge: str | None = None
    judgments: str | None = None
    references: str | None = None
    baseline: str | tuple[str, ...] | None = None
    name: str | None = None
    judge_prompt: str | None = None
    judge_retries: int = 2
    temperature: float | None = None
    max_tokens: int | None = None
    keep_going: bool = False
    ledger: str | None = None
    force_ledger: bool = False
    skip_invalid: bool = False
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.baseline == ():
            object.__setattr__(self, "baseline", None)
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
    def baselines(self) -> tuple[str, ...]:
        """All that `baseline` names."""
        return (self.baseline,) if isinstance(self.baseline, str) else self.baseline or ()

    @property
    def folder(self) -> Path:
        """The result's folder.

        Raises:
            OptionError: No folder is named.
        """
        if self.output is None:
            raise OptionError("say where the result goes with `output`")
        return Path(self.output)

    @property
    def ledger_path(self) -> Path:
        """The ledger's path.

        Raises:
            OptionError: Neither `ledger` nor `output` is set.
        """
        return Path(self.ledger) if self.ledger is not None else self.folder / "ledger.sqlite"


def _check_sources(options: EvaluateOptions) -> None:
    """Refuse options that name a source twice, or not at all."""
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
