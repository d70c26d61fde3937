"""The design: the ways, their order and the sizes; as in protocol.md."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"

REWARD = "score"
HELD_OUT = 300
"""Questions that no way may choose; the students are measured on them."""
STEPS = 25
"""Optimiser steps of every run."""
ROW_TOKENS = 300
"""Most tokens of a row, trained on or measured, messages and answer together."""
PROMPT_TOKENS = 200
"""Most tokens of a question; longer ones are in neither part of the pool."""
ANSWER_TOKENS = 30_000
"""Tokens of answers that every run trains on: 200 random rows have about 32,000."""
LEARNING_RATE = 1e-4

RANDOM, HIGHEST, STUDENT = "random", "highest reward", "teachable"
COLUMN = "student"
"""The student's success on each question, in the file of numbers."""
PAPER, EASY, SPREAD, SHORTEST = "weights 1, 1, 2", "easy", "cluster + random", "shortest answer"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to choose, as `crowdselect select` names it."""

    method: str
    options: Mapping[str, Any] = field(default_factory=lambda: {"clusters": 0})
    """Options of the selection that differ from crowdselect's defaults."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own, likewise."""


WAYS: Mapping[str, Way] = {
    RANDOM: Way("random"),
    HIGHEST: Way("reward"),
    STUDENT: Way("teachable", {"clusters": 0, "student_column": COLUMN}),
    PAPER: Way("crowd", {"weights": {"difficulty": 1.0, "separability": 1.0, "stability": 2.0}}),
    EASY: Way("easy"),
    SPREAD: Way("random", {}),
    SHORTEST: Way("length:answer", settings={"direction": "down"}),
}
"""The ways by name, in the order of running."""
FIRST = (RANDOM, HIGHEST, STUDENT)


def order() -> Iterator[tuple[str, int]]:
    """Return all runs, way and seed, in the order of running."""
    yield from ((way, seed) for seed in (0, 1) for way in FIRST)
    yield from ((way, seed) for way in WAYS if way not in FIRST for seed in (0, 1))
    yield from ((way, seed) for seed in (2, 3) for way in WAYS)
