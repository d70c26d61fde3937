"""What the two benchmarks fix, so that a score can be laid beside published ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Protocol:
    """A benchmark's rules.

    Attributes:
        key: As the command and the files spell it.
        title: As people spell it.
        pairwise: Answers are laid beside a baseline's, in both orders; else each is graded alone.
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
