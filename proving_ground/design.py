"""What is run: the main design, and one thing at a time changed. protocol.md says the same in words."""

from collections.abc import Iterator
from dataclasses import dataclass

from proving_ground.model import Size
from proving_ground.training import Recipe
from proving_ground.ways import PAPER, RANDOM, SPREAD, WAYS
from proving_ground.worlds import CHOOSING, KEPT

SEEDS = 8
STUDENTS = {"small": Size(32, 2), "large": Size(64, 2)}
BASE = Recipe(steps=1500, batch=32, rate=4e-3)
BASE_EXAMPLES, BASES = 40_000, 2
"""Rows that a base learns from; and how many bases a world has: seeds take turns."""
TUNING = Recipe(steps=150, batch=32, rate=4e-3)
"""Half of the rows are the chosen ones, half are of the base's own diet, the same for all: without them a model this small forgets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything of a run but its world, its seed and its way of choosing."""

    reward: str = "middle"
    answer: str = "best"
    student: str = "small"
    budget: int = 400
    equal: str = "steps"
    """What all ways get alike: "steps", or "tokens" of answers."""
    first_seed: int = 0


MAIN, AGAIN = "main", "again with other seeds"
SETTINGS: dict[str, Setting] = {
    MAIN: Setting(),
    "budget 100": Setting(budget=100),
    "budget 1600": Setting(budget=1600),
    "random answer": Setting(answer="random"),
    "reward biased": Setting(reward="biased"),
    "reward noise high": Setting(reward="high"),
    "reward noise low": Setting(reward="low"),
    "student large": Setting(student="large"),
    "top5-random answer": Setting(answer="top5-random"),
    "equal tokens": Setting(equal="tokens"),
    AGAIN: Setting(first_seed=SEEDS),
}
"""The main design, variations of it, most wanted first, and what was added after the main design had been seen."""

LARGEST_BUDGET = max(setting.budget for setting in SETTINGS.values())

FEW = (
    RANDOM,
    SPREAD,
    PAPER,
    "highest reward",
    "difficulty up, clusters",
    "separability up, clusters",
    "stability up, clusters",
    "separability, floor",
)
"""The ways that the variations compare."""

SUGGESTED = (RANDOM, PAPER, "highest reward", "weights -1, -1, 1.5", "difficulty down", "separability up")
"""The two controls of the exploratory part, and four ways that the main design suggested."""


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """Runs that share a pool and a base: one world, setting and seed."""

    setting: str
    world: str
    seed: int


def blocks() -> Iterator[Block]:
    """All of them in the order they are run: the main design first, all worlds evenly."""
    for setting in SETTINGS:
        for seed in seeds_of(setting):
            for world in (*CHOOSING, *KEPT):
                yield Block(setting, world, seed)


def ways_of(setting: str) -> tuple[str, ...]:
    """Which ways a setting compares."""
    return tuple(WAYS) if setting == MAIN else SUGGESTED if setting == AGAIN else FEW


def seeds_of(setting: str) -> range:
    """Which seeds a setting has."""
    first = SETTINGS[setting].first_seed
    return range(first, first + SEEDS)
