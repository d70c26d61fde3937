"""Facts about 480 people, some of whom are asked about much more often than others.

The knowledge base is random and fixed. Pool and test ask for the same facts in different words: no test instruction is
in a pool, but the fact it asks for may be.
"""

import random
from bisect import bisect
from functools import cache
from itertools import accumulate

from proving_ground.items import PLAIN, Diet, Item, Shape, draw_skill
from proving_ground.wording import FACTS, FIRST, LAST, OPENINGS

SKILLS = tuple(FACTS)
SHAPE = Shape(prompt=8, answer=7)
PEOPLE = len(FIRST) * len(LAST)
RANKS = (40, 160)
"""Ranks where the head and the middle of the distribution end; the rest is its tail."""
KNOWN = (120, 280, PEOPLE)
"""Number of people known to a small, a middle and a large model."""
ZIPF = 0.8
VALUES = 24
_PLAIN = 2  # of the five phrases of a relation, those that are plain; without an opening
_SYLLABLES = ("bo", "ki", "ru", "sa", "te", "no", "lu", "mi", "vo", "pe")


def make(rng: random.Random, diet: Diet | None, known: int = 2) -> Item:
    """Draw a question about a random known person, in one of thirty wordings."""
    skill = draw_skill(rng, SKILLS, diet)
    shares = _shares(KNOWN[max(known, 0)])
    rank = bisect(shares, rng.random() * shares[-1])
    if known == PLAIN:
        return item(skill, rank, phrase=rng.choice(FACTS[skill][:_PLAIN]))
    return item(skill, rank, phrase=rng.choice(FACTS[skill]), opening=rng.choice(OPENINGS))


def item(skill: str, rank: int, *, phrase: str, opening: str = "") -> Item:
    """One question; rank 0 is the person most asked about."""
    names, values = _base()
    text = f"{opening} {phrase.format(names[rank])}".strip()
    return Item(text, values[skill][rank], skill, sum(rank >= end for end in RANKS))


def reword(rng: random.Random, given: Item) -> Item:
    """Rephrase a question with another opening."""
    first, _, rest = given.instruction.partition(" ")
    bare = rest if first in OPENINGS else given.instruction
    others = [text for opening in OPENINGS if (text := f"{opening} {bare}".strip()) != given.instruction]
    return Item(rng.choice(others), given.answer, given.skill, given.band)


@cache
def _base() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return names by rank, and every person's value for each relation."""
    rng = random.Random("knowledge base")
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    rng.shuffle(names)
    values = {}
    for skill in SKILLS:
        words = {"".join(rng.choices(_SYLLABLES, k=rng.choice((2, 3)))) for _ in range(4 * VALUES)}
        kept = sorted(words)
        rng.shuffle(kept)
        values[skill] = tuple(rng.choices(kept[:VALUES], k=len(names)))
    return tuple(names), values


@cache
def _shares(people: int) -> tuple[float, ...]:
    return tuple(accumulate((rank + 1) ** -ZIPF for rank in range(people)))
