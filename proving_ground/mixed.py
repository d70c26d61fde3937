"""The other three worlds together, with what real pools have too: questions that cannot be answered.

A twentieth is unanswerable (something that the question needs is missing; the right answer says `?`), and of a pool
another twentieth is ill-posed (it asks for two things at once; nothing is right, so the verifier fails every answer and
the test set has none). A tenth of a pool are rewordings of other rows; see `pools.questions`.
"""

import random

from proving_ground import arithmetic, facts, strings
from proving_ground.items import PLAIN, Diet, Item, Shape
from proving_ground.wording import BLANK, FACTS, FIRST, LETTERS, STRANGERS, STRINGS

_SHARES = {"strings": 0.40, "arithmetic": 0.25, "facts": 0.25, "unanswerable": 0.05, "ill-posed": 0.05}
SKILLS = tuple(_SHARES)
_PLAIN = 2  # of the phrases of a skill, those that are plain
SHAPE = Shape(prompt=14, answer=9)
_MAKERS = {"strings": strings, "arithmetic": arithmetic, "facts": facts}


def make(rng: random.Random, diet: Diet | None, known: int = 2) -> Item:
    """Draw a random instruction of one of the kinds."""
    diet = _SHARES if diet is None else {name: share * diet[name] for name, share in _SHARES.items()}
    kind = rng.choices(SKILLS, weights=[diet[name] for name in SKILLS])[0]
    if kind == "unanswerable":
        return _unanswerable(rng, known)
    if kind == "ill-posed":
        return _ill_posed(rng)
    made = _MAKERS[kind].make(rng, None, known)
    return Item(made.instruction, made.answer, kind, made.band)


def reword(rng: random.Random, given: Item) -> Item:
    """Rephrase a task; one without another phrase is returned unchanged."""
    if given.skill == "strings":
        found = next(
            (skill, phrase)
            for skill, phrases in STRINGS.items()
            for phrase in phrases
            if _fits(phrase, given.instruction)
        )
        inner = strings.reword(rng, Item(given.instruction, given.answer, found[0], given.band))
    elif given.skill in _MAKERS:
        inner = _MAKERS[given.skill].reword(rng, given)
    else:
        return given
    return Item(inner.instruction, inner.answer, given.skill, given.band)


def _fits(phrase: str, text: str) -> bool:
    wanted, words = phrase.split(), text.split()
    return len(wanted) == len(words) and all(a in {b, "{}"} for a, b in zip(wanted, words, strict=True))


def _unanswerable(rng: random.Random, known: int) -> Item:
    phrases = slice(_PLAIN if known == PLAIN else None)
    kind = rng.choice(("strings", "arithmetic", "facts"))
    if kind == "strings":
        text = rng.choice(rng.choice(tuple(STRINGS.values()))[phrases]).format(BLANK * rng.randint(1, 4))
    elif kind == "arithmetic":
        words = arithmetic.make(rng, None, known).instruction.split()
        numbers = [i for i, word in enumerate(words) if word.isdigit()]
        words[rng.choice(numbers)] = BLANK
        text = " ".join(words)
    else:
        name = f"{rng.choice(FIRST)} {rng.choice(STRANGERS)}"
        text = rng.choice(rng.choice(tuple(FACTS.values()))[phrases]).format(name)
    return Item(text, "?", "unanswerable", 1)


def _ill_posed(rng: random.Random) -> Item:
    operand = "".join(rng.choices(LETTERS, k=rng.randint(*strings.LENGTHS)))
    one, other = rng.sample(strings.SKILLS, 2)
    text = rng.choice(STRINGS[one]).format(f"or {STRINGS[other][0].format(operand)}")
    return Item(text, None, "ill-posed", 2)
