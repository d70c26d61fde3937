"""Eight operations on two strings of equal length; longer is harder, and an answer can be right in part."""

import random
from collections.abc import Callable

from proving_ground.items import PLAIN, Diet, Item, Shape, draw_skill
from proving_ground.wording import LETTERS, PAIRS

SKILLS = tuple(PAIRS)
SHAPE = Shape(prompt=13, answer=9)
LENGTHS = (2, 4)
_PLAIN = 2  # of the four phrases of a skill, those that are plain

OPERATIONS: dict[str, Callable[[str, str], str]] = {
    "joined": lambda a, b: a + b,
    "twined": lambda a, b: "".join(x + y for x, y in zip(a, b, strict=True)),
    "common": lambda a, b: "".join(c for c in a if c in b) or "?",
    "without": lambda a, b: "".join(c for c in a if c not in b) or "?",
    "either": lambda a, b: "".join(dict.fromkeys(a + b)),
    "sorted": lambda a, b: "".join(sorted(a + b)),
    "raised": lambda a, b: "".join(
        LETTERS[(LETTERS.index(x) + LETTERS.index(y)) % len(LETTERS)] for x, y in zip(a, b, strict=True)
    ),
    "later": lambda a, b: "".join(map(max, a, b)),
}


def make(rng: random.Random, diet: Diet | None, known: int = 2) -> Item:
    """Draw a random operation on two random strings."""
    skill = draw_skill(rng, SKILLS, diet)
    length = rng.randint(*LENGTHS)
    one, other = ("".join(rng.choices(LETTERS, k=length)) for _ in range(2))
    phrases = PAIRS[skill][:_PLAIN] if known == PLAIN else PAIRS[skill]
    return item(skill, one, other, phrase=rng.choice(phrases))


def item(skill: str, one: str, other: str, *, phrase: str) -> Item:
    """One operation on two strings."""
    return Item(phrase.format(one, other), OPERATIONS[skill](one, other), skill, len(one) - LENGTHS[0])


def reword(rng: random.Random, given: Item) -> Item:
    """Rephrase a task."""
    one, other = (word for word in given.instruction.split() if set(word) <= set(LETTERS))
    others = [
        text for phrase in PAIRS[given.skill] if (text := phrase.format(one, other)) != given.instruction
    ]
    return Item(rng.choice(others), given.answer, given.skill, given.band)
