"""The first protocol's design: the main design, and variations of one factor at a time; as in protocol.md."""

from collections.abc import Iterator
from dataclasses import dataclass

from proving_ground.crowd import RECIPES, SIZES
from proving_ground.model import Size
from proving_ground.training import Recipe
from proving_ground.ways import PAPER, RANDOM, SPREAD, WAYS
from proving_ground.worlds import CHOOSING, KEPT

SEEDS = 8
BASE_EXAMPLES, BASES = 40_000, 2
"""Training rows of a base; and the number of bases per world, which seeds use in turn."""

TUNING = Recipe(steps=150, batch=32, rate=4e-3)
"""Half of the rows are chosen ones, half are from the base's own training mix, the same for all: without them a model this small forgets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A student before it is fine-tuned."""

    size: Size
    base: Recipe
    twin: bool = False
    """Trained on what a large member of the crowd is trained on, from another seed, not on common instructions in plain words."""
    rate: float = TUNING.rate
    """Learning rate of fine-tuning."""


STUDENTS = {
    "small": Student(size=Size(32, 2), base=Recipe(steps=1500, batch=32, rate=4e-3)),
    "large": Student(size=Size(64, 2), base=Recipe(steps=1500, batch=32, rate=4e-3)),
    "weak": Student(size=Size(32, 2), base=Recipe(steps=250, batch=32, rate=4e-3)),
    "strong": Student(size=SIZES["large"], base=RECIPES["large"], twin=True, rate=1e-3),
}
"""The strong one is fine-tuned more gently: at the others' rate, a random choice makes it worse than its base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """All settings of a run except its world, seed and method."""

    reward: str = "middle"
    answer: str = "best"
    student: str = "small"
    budget: int = 400
    equal: str = "steps"
    """What is held equal for all methods: "steps", or "tokens" of answers."""
    replay: bool = True
    """Fine-tune on as many rows of the base's own training as are chosen, too."""
    asked: int = 1
    """How often the student answers an instruction: once greedily, or several times at temperature 1."""
    scored: float = 1.0
    """Share of the student's answers that have a reward."""
    first_seed: int = 0
    seeds: int = SEEDS


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
"""The main design, its variations, most important first, and those added after seeing the main results."""

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
"""The methods that the variations compare."""

SUGGESTED = (RANDOM, PAPER, "highest reward", "weights -1, -1, 1.5", "difficulty down", "separability up")
"""The two controls of the exploratory part, and four methods that the main results suggested."""


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """Runs that share a pool and a base: one world, setting and seed."""

    setting: str
    world: str
    seed: int


def blocks() -> Iterator[Block]:
    """Return all blocks in the order they are run: the main design first, worlds alternating."""
    for setting in SETTINGS:
        for seed in seeds_of(setting):
            for world in (*CHOOSING, *KEPT):
                yield Block(setting, world, seed)


def ways_of(setting: str) -> tuple[str, ...]:
    """Return the methods that a setting compares."""
    return tuple(WAYS) if setting == MAIN else SUGGESTED if setting == AGAIN else FEW


def seeds_of(setting: str) -> range:
    """Return the seeds of a setting."""
    how = SETTINGS[setting]
    return range(how.first_seed, how.first_seed + how.seeds)
