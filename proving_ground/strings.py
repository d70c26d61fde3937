"""Ten operations on short strings; longer is harder."""

import random
from collections.abc import Callable

from proving_ground.items import PLAIN, Diet, Item, Shape, draw_skill
from proving_ground.wording import LETTERS, STRINGS

SKILLS = tuple(STRINGS)
SHAPE = Shape(prompt=12, answer=9)
LENGTHS = (3, 8)
_PLAIN = 2  # of the four phrases of a skill, those that are plain

OPERATIONS: dict[str, Callable[[str], str]] = {
    "reverse": lambda s: s[::-1],
    "sort": lambda s: "".join(sorted(s)),
    "rotate": lambda s: s[1:] + s[0],
    "next": lambda s: "".join(LETTERS[(LETTERS.index(c) + 1) % len(LETTERS)] for c in s),
    "once": lambda s: "".join(dict.fromkeys(s)),
    "swap": lambda s: s[-1] + s[1:-1] + s[0],
    "second": lambda s: s[::2],
    "consonants": lambda s: "".join(c for c in s if c not in "ae") or "?",
    "outer": lambda s: s[:2] + s[-2:],
    "count": lambda s: str(len(s)),
}


def make(rng: random.Random, diet: Diet | None, known: int = 2) -> Item:
    """Draw a random operation on a random string."""
    skill = draw_skill(rng, SKILLS, diet)
    operand = "".join(rng.choices(LETTERS, k=rng.randint(*LENGTHS)))
    return item(
        skill, operand, phrase=rng.choice(STRINGS[skill][:_PLAIN] if known == PLAIN else STRINGS[skill])
    )


def item(skill: str, operand: str, *, phrase: str) -> Item:
    """One operation on one string; "outer" of three letters counts the middle one twice."""
    return Item(phrase.format(operand), OPERATIONS[skill](operand), skill, (len(operand) - LENGTHS[0]) // 2)


def reword(rng: random.Random, given: Item) -> Item:
    """Rephrase a task."""
    operand = given.instruction.split()[-1]
    phrases = [phrase for phrase in STRINGS[given.skill] if phrase.format(operand) != given.instruction]
    return item(given.skill, operand, phrase=rng.choice(phrases))
