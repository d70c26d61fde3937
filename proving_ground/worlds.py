"""The worlds by name: four of the first protocol, and two more of the second."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from proving_ground import arithmetic, facts, lookup, mixed, pairs, strings
from proving_ground.items import Diet, Item, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A kind of task with an exact verifier."""

    name: str
    shape: Shape
    skills: tuple[str, ...]
    make: Callable[[random.Random, Diet | None, int], Item]
    """Draws a random instruction, given each skill's frequency (None = as in the pool) and the knowledge, 0 little to 2 all."""
    reword: Callable[[random.Random, Item], Item]
    near_duplicates: float = 0.0
    """Share of a pool's rows that reword other rows."""
    graded: bool = False
    """Its rewards are marks from 1 to 10 for answers that are right in part, as a judge gives them."""


WORLDS: dict[str, World] = {
    world.name: world
    for world in (
        World(
            name="strings",
            shape=strings.SHAPE,
            skills=strings.SKILLS,
            make=strings.make,
            reword=strings.reword,
        ),
        World(name="facts", shape=facts.SHAPE, skills=facts.SKILLS, make=facts.make, reword=facts.reword),
        World(
            name="arithmetic",
            shape=arithmetic.SHAPE,
            skills=arithmetic.SKILLS,
            make=arithmetic.make,
            reword=arithmetic.reword,
        ),
        World(
            name="mixed",
            shape=mixed.SHAPE,
            skills=mixed.SKILLS,
            make=mixed.make,
            reword=mixed.reword,
            near_duplicates=0.1,
        ),
        World(
            name="pairs",
            shape=pairs.SHAPE,
            skills=pairs.SKILLS,
            make=pairs.make,
            reword=pairs.reword,
            graded=True,
        ),
        World(
            name="lookup", shape=lookup.SHAPE, skills=lookup.SKILLS, make=lookup.make, reword=lookup.reword
        ),
    )
}
CHOOSING = ("strings", "facts")
KEPT = ("arithmetic", "mixed")
"""Of the first protocol: the first two may suggest defaults, and the other two must confirm them."""
NEW = ("pairs", "lookup")
"""Of the second protocol: worlds that no way of choosing had been tried in when it was written."""
