"""The second protocol's design: the main cell, one thing changed at a time, and the order; as in protocol2.md."""

from collections.abc import Iterator

from proving_ground.design import MAIN, Block, Setting
from proving_ground.pools import BIASED, GRADED
from proving_ground.results import BASE_WAY, COMMITTED
from proving_ground.ways import (
    EASY,
    FAILS,
    FLOOR,
    HIGHEST,
    NO_LENGTH,
    PAPER,
    PLAIN,
    RANDOM,
    SPREAD,
    TEACHABLE,
)
from proving_ground.worlds import CHOOSING, KEPT, NEW

FOLDER = COMMITTED.with_name("results2")
OLD_WORLDS = (*CHOOSING, *KEPT)
ALL_WORLDS = (*OLD_WORLDS, *NEW)
CANDIDATES = (TEACHABLE, PLAIN)
"""Each may become the default where a student is named."""
WITHOUT_STUDENT = (HIGHEST, EASY)
"""Each may be recommended where none is; `crowd` stays the default."""
WAYS_OF_ALL = (RANDOM, SPREAD, HIGHEST, PAPER, EASY, *CANDIDATES, FAILS)

_FIRST, _FEWER = 80, 8


def _varied(**changed: object) -> Setting:
    return Setting(first_seed=_FIRST, seeds=_FEWER, **changed)  # type: ignore[arg-type]


LARGE, STRONG, MARKED, WEAK = "student large", "student strong", "reward graded", "student weak"
LIKES_LENGTH, NOISY, ASKED, QUARTER = (
    "reward biased",
    "reward noise high",
    "asked four times",
    "a quarter scored",
)

SETTINGS: dict[str, Setting] = {
    MAIN: Setting(first_seed=_FIRST, seeds=2 * _FEWER),
    LARGE: _varied(student="large"),
    STRONG: _varied(student="strong"),
    MARKED: _varied(reward=GRADED),
    WEAK: _varied(student="weak"),
    LIKES_LENGTH: _varied(reward=BIASED),
    NOISY: _varied(reward="high"),
    "no replay": _varied(replay=False),
    "budget 100": _varied(budget=100),
    "budget 1600": _varied(budget=1600),
    ASKED: _varied(asked=4),
    QUARTER: _varied(scored=0.25),
}
"""The main cell, and its variations in the order of running."""
NEEDED = (MAIN, LARGE, STRONG, WEAK, MARKED)
"""Without these the rule for the default is not applied."""
SHARED = {ASKED, QUARTER}
"""Variations that change the student's answers only: ways that do not look at them are those of the main cell."""
REMEDIES = {
    LIKES_LENGTH: tuple(name + NO_LENGTH for name in CANDIDATES),
    NOISY: tuple(name + FLOOR for name in CANDIDATES),
}
"""Variation → the remedies that are tried in it."""


def worlds_of(setting: str) -> tuple[str, ...]:
    """Return the worlds of a setting: marks are the reward of `pairs` anyway, and `lookup` keeps its own."""
    return OLD_WORLDS if setting == MARKED else ALL_WORLDS


def seeds_of(setting: str) -> range:
    """Return the seeds of a setting."""
    how = SETTINGS[setting]
    return range(how.first_seed, how.first_seed + how.seeds)


def ways_of(setting: str) -> tuple[str, ...]:
    """Return the methods that are run in a setting."""
    if setting in SHARED:
        return (*CANDIDATES, FAILS)
    return (*WAYS_OF_ALL, *REMEDIES.get(setting, ()))


def base_of(setting: str) -> tuple[str, ...]:
    """Return the base not fine-tuned, where the student is another one than in settings before."""
    students = [how.student for how in SETTINGS.values()]
    return (BASE_WAY,) if students.index(SETTINGS[setting].student) == list(SETTINGS).index(setting) else ()


def blocks() -> Iterator[tuple[Block, tuple[str, ...]]]:
    """Return all blocks and their methods in the order of running: seed by seed through the worlds.

    Variations are gone through twice: first random, the candidates and their remedies, which the rule needs, then the other
    methods.
    """
    needed = {RANDOM, BASE_WAY, *CANDIDATES, *REMEDIES[LIKES_LENGTH], *REMEDIES[NOISY]}
    for first in (True, False):
        for setting in SETTINGS:
            ways = (*base_of(setting), *ways_of(setting))
            if setting != MAIN:
                ways = tuple(way for way in ways if (way in needed) is first)
            elif not first:
                continue
            for seed in seeds_of(setting):
                for world in worlds_of(setting):
                    if ways:
                        yield Block(setting, world, seed), ways
