"""The crowd of a world: three families, each with its own training mix, three sizes each, trained from scratch."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proving_ground import tokens
from proving_ground.items import Diet
from proving_ground.model import Size, Transformer, build, greedy
from proving_ground.seeds import cache_folder, content_key, seed_of, write_whole
from proving_ground.training import Recipe, train
from proving_ground.worlds import World

FAMILIES = ("north", "south", "west")
FAVOURED = "south"
"""The family that the biased reward favours."""
SIZES = {"small": Size(32, 1), "middle": Size(48, 2), "large": Size(96, 2)}
RECIPES = {
    "small": Recipe(steps=1000, batch=32, rate=4e-3),
    "middle": Recipe(steps=1300, batch=32, rate=4e-3),
    "large": Recipe(steps=1700, batch=32, rate=3e-3),
}
KNOWN = {"small": 0, "middle": 1, "large": 2}
"""How much of the world's knowledge is in the training mix, by size."""
DIET, EXAMPLES = (3.0, 0.4, 1.0), 40_000
"""Shares of the three thirds of the skills, rotated from family to family; and the number of training rows."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model of the crowd."""

    name: str
    family: str
    size: str
    parameters: int


def diet(world: World, family: str) -> Diet:
    """Return each skill's relative frequency in a family's training."""
    turn = FAMILIES.index(family)
    return {skill: DIET[(i + turn) % len(DIET)] for i, skill in enumerate(world.skills)}


def examples(
    world: World, rng: random.Random, *, count: int, known: int, likely: Diet | None, barred: frozenset[str]
) -> list[tuple[str, str]]:
    """Draw training rows: instructions with their right answer; none of the barred ones."""
    out: list[tuple[str, str]] = []
    while len(out) < count:
        item = world.make(rng, likely, known)
        if item.answer is not None and item.instruction not in barred:
            out.append((item.instruction, item.answer))
    return out


def answered(
    world: World, size: str, prompts: Sequence[str], barred: frozenset[str]
) -> tuple[dict[str, list[str]], float]:
    """Return the answers of the members of one size: cached, or from training them now.

    Args:
        world: The world of the instructions.
        size: One of `SIZES`.
        prompts: The instructions to answer.
        barred: Instructions that must not be trained on: the test set.

    Returns:
        Family → its answers in the order of the prompts; and the seconds it took to compute them.
    """
    rows = torch.stack([diet_rows(world, family, size, barred) for family in FAMILIES])
    asked = tokens.prompts(prompts, world.shape)
    seeds = [seed_of(world.name, "member", family, size) for family in FAMILIES]
    facts = {
        "size": str(SIZES[size]),
        "recipe": str(RECIPES[size]),
        "seeds": seeds,
        "shape": str(world.shape),
    }
    file = (
        cache_folder() / f"answers-{content_key(facts, rows.numpy().tobytes(), asked.numpy().tobytes())}.json"
    )
    if not file.exists():
        begin = time.monotonic()
        model = build(SIZES[size], world.shape, seeds=seeds)
        train(model, rows, RECIPES[size], seed=seed_of(world.name, "crowd", size))
        found = [tokens.texts(own) for own in greedy(model, asked)]
        kept = {"answers": dict(zip(FAMILIES, found, strict=True)), "seconds": time.monotonic() - begin}
        write_whole(file, json.dumps(kept).encode())
    kept = json.loads(file.read_bytes())
    return kept["answers"], kept["seconds"]


def diet_rows(world: World, family: str, size: str, barred: frozenset[str]) -> Tensor:
    """Return one member's training rows, (EXAMPLES, total)."""
    rng = random.Random(f"{world.name}/diet/{family}-{size}")
    pairs = examples(world, rng, count=EXAMPLES, known=KNOWN[size], likely=diet(world, family), barred=barred)
    return tokens.rows(pairs, world.shape)


def members(world: World) -> list[Member]:
    """Return the nine members."""
    return [
        Member(
            f"{family}-{size}", family, size, Transformer(SIZES[size], world.shape, copies=1).parameters_each
        )
        for size in SIZES
        for family in FAMILIES
    ]
