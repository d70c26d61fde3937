"""One instruction with its right answer."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BANDS = ("easy", "middle", "hard")
Diet = Mapping[str, float]
PLAIN = -1
"""How much a student's base has seen: a small model's knowledge, in plain words only. 0 to 2: a small to a large one's, in all words."""


@dataclass(frozen=True, slots=True)
class Item:
    """An instruction of known skill and difficulty."""

    instruction: str
    answer: str | None
    """The one right answer; None = nothing is right."""
    skill: str
    band: int
    """0 easy to 2 hard."""

    def right(self, answer: str) -> bool:
        """The verifier: is this answer the right one?"""
        return answer == self.answer

    def credit(self, answer: str) -> float:
        """Return the share of the answer's places that are right, 0 to 1; 1 = `right`, 0 where nothing is right.

        Example:
            >>> Item("sort cba", "abc", "sort", 0).credit("abd")
            0.6666666666666666
        """
        if self.answer is None:
            return 0.0
        same = sum(a == b for a, b in zip(answer, self.answer, strict=False))
        return same / max(len(answer), len(self.answer))


def draw_skill(rng: random.Random, skills: Sequence[str], diet: Diet | None) -> str:
    """One skill, each as likely as the diet says; equally likely without one."""
    if diet is None:
        return rng.choice(skills)
    return rng.choices(skills, weights=[diet[skill] for skill in skills])[0]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many tokens the prompts and the answers of a world get; the answer's END included."""

    prompt: int
    answer: int

    @property
    def total(self) -> int:
        """Length of a row."""
        return self.prompt + self.answer
