"""Six questions about a small table that stands behind them in the prompt; more lookups are harder.

Nothing has to be known: the table is new every time, and the answer is in it or made of it.
"""

import random
from collections.abc import Callable, Iterable, Mapping

from proving_ground.items import PLAIN, Diet, Item, Shape, draw_skill
from proving_ground.wording import TABLES

SKILLS = tuple(TABLES)
SHAPE = Shape(prompt=15, answer=10)
KEYS, DIGITS = "abcd", "123456789"
LOOKUPS = (1, 3)
ORDERED = 0.5
"""Share of the tables whose rows are in alphabetical order; those of the others are in any."""
_PLAIN = 2  # of the four phrases of a skill, those that are plain
Table = Mapping[str, str]
"""Letter → its digit; the digits differ."""


def quoted(table: Table, asked: Iterable[str]) -> str:
    """Return rows as they stand in the table, one after the other."""
    return "".join(one + table[one] for one in asked)


ANSWERS: dict[str, Callable[[Table, str], str]] = {
    "value": quoted,
    "back": lambda table, asked: quoted(table, asked[::-1]),
    "after": lambda table, asked: quoted(table, [KEYS[(KEYS.index(c) + 1) % len(KEYS)] for c in asked]),
    "total": lambda table, asked: f"{quoted(table, asked)},{sum(int(table[c]) for c in asked)}",
    "largest": lambda table, asked: quoted(table, sorted(asked, key=table.__getitem__)[-1:]),
    "key": lambda table, asked: quoted({digit: letter for letter, digit in table.items()}, asked),
}
"""Skill → the answer, of the table and what is looked up in it: letters, or digits for "key"."""


def make(rng: random.Random, diet: Diet | None, known: int = 2) -> Item:
    """Draw a random question about a random table."""
    skill = draw_skill(rng, SKILLS, diet)
    keys = KEYS if rng.random() < ORDERED else rng.sample(KEYS, len(KEYS))
    table = dict(zip(keys, rng.sample(DIGITS, len(KEYS)), strict=True))
    asked = rng.sample([*(table.values() if skill == "key" else table)], rng.randint(*LOOKUPS))
    phrases = TABLES[skill][:_PLAIN] if known == PLAIN else TABLES[skill]
    return item(skill, table, "".join(asked), phrase=rng.choice(phrases))


def item(skill: str, table: Table, asked: str, *, phrase: str) -> Item:
    """One question about a table."""
    rows = " ".join(letter + digit for letter, digit in table.items())
    return Item(
        f"{phrase.format(asked)} {rows}", ANSWERS[skill](table, asked), skill, len(asked) - LOOKUPS[0]
    )


def reword(rng: random.Random, given: Item) -> Item:
    """Rephrase a question; the table stays."""
    words = given.instruction.split()
    table = {row[0]: row[1] for row in words[-len(KEYS) :]}
    asked = words[-len(KEYS) - 1]
    others = [item(given.skill, table, asked, phrase=phrase) for phrase in TABLES[given.skill]]
    return rng.choice([other for other in others if other.instruction != given.instruction])
