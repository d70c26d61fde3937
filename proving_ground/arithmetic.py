"""Sums of one to three steps from left to right; the answer shows the number after every step."""

import random
from collections.abc import Sequence

from proving_ground.items import PLAIN, Diet, Item, Shape, draw_skill
from proving_ground.wording import OPERATORS, SUMS

_KINDS = {
    "plus": "+",
    "minus": "-",
    "times": "*",
    "mod": "%",
    "plus-minus": "+-",
    "plus-times": "+*",
    "minus-mod": "-%",
    "any": "+-*%",
}
SKILLS = tuple(_KINDS)
SHAPE = Shape(prompt=10, answer=9)
LARGEST = 49
STEPS = 3


def make(rng: random.Random, diet: Diet | None, known: int = 2) -> Item:
    """Draw a random sum that stays between 0 and `LARGEST`."""
    skill = draw_skill(rng, SKILLS, diet)
    start, steps = _walk(rng, _KINDS[skill])
    words = [OPERATORS[operator][0 if known == PLAIN else rng.randrange(2)] for operator, _ in steps]
    return item(skill, start, steps, words=words, phrase=rng.choice(SUMS))


def item(
    skill: str, start: int, steps: Sequence[tuple[str, int]], *, words: Sequence[str], phrase: str
) -> Item:
    """One sum; its answer is the number after each step, the last one the result."""
    value, shown = start, []
    for operator, number in steps:
        value = apply(value, operator, number)
        shown.append(str(value))
    written = " ".join(
        [str(start), *(f"{word} {number}" for word, (_, number) in zip(words, steps, strict=True))]
    )
    return Item(phrase.format(written), ",".join(shown), skill, len(steps) - 1)


def apply(value: int, operator: str, number: int) -> int:
    """One step."""
    match operator:
        case "+":
            return value + number
        case "-":
            return value - number
        case "*":
            return value * number
        case _:
            return value % number


def reword(rng: random.Random, given: Item) -> Item:
    """Rephrase a sum."""
    words = given.instruction.split()
    start = next(i for i, word in enumerate(words) if word.isdigit())
    written = " ".join(words[start:])
    others = [phrase for phrase in SUMS if phrase.format(written) != given.instruction]
    return Item(rng.choice(others).format(written), given.answer, given.skill, given.band)


def _walk(rng: random.Random, operators: str) -> tuple[int, list[tuple[str, int]]]:
    start = value = rng.randint(1, 20)
    steps = []
    for _ in range(rng.randint(1, STEPS)):
        operator = rng.choice(operators)
        numbers = [n for n in range(2, 10) if 0 <= apply(value, operator, n) <= LARGEST]
        if not numbers:
            operator, numbers = ("-", [2]) if value > LARGEST // 2 else ("+", [2])
        number = rng.choice(numbers)
        value = apply(value, operator, number)
        steps.append((operator, number))
    return start, steps
