"""What is drawn for a simulated pool, as numbers: instructions' latent values, models' abilities, rewards.

Every instruction has a topic, a latent difficulty and a latent discrimination, every model an
ability that grows with the logarithm of its size inside its family; the last family is nearly flat:

    reward = 10 * discrimination * f(ability - difficulty) + noise,    f(x) = x / (1 + |x|)

`f` is plain arithmetic, so that the same seed gives the same numbers on every machine. Instructions
are drawn in fixed blocks, each from a generator of its own, so that instruction i depends on the
seed and i alone: not on how many there are, nor on the batches they are written in.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.simulate.words import PARAGRAPHS, TOPICS, paragraphs_per_answer
from crowdselect.types import FloatArray, IntArray

_BLOCK = 2048  # instructions drawn from one generator; changing it changes every simulated pool
_LATENT, _REWARDS, _ANSWERS, _FAMILIES = range(4)  # streams of chance, unrelated to each other
_BATCH_CELLS = 1 << 21  # numbers in one written batch
_BATCH_CHARACTERS = 1 << 26  # characters of text in one written batch
_NOISE = 1.5
_ILL_POSED = -12.0  # every model's answer to an ill-posed instruction, before noise


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of one simulation.

    Attributes:
        instructions: N.
        layout: `"long"`, `"zoo"` or `"matrix"`.
        crowd: M models in code-point order.
        abilities: Shape (M,).
        answer_chars: Mean length of an answer.
        samples: S answers per model and instruction.
        seed: Any integer.
        with_text: Whether instructions and answers are written.
        shares: `ill_posed`, `duplicates`, `missing`, `empty`: each from 0 to 1.
    """

    instructions: int
    layout: str
    crowd: Crowd
    abilities: FloatArray
    answer_chars: int
    samples: int
    seed: int
    with_text: bool
    shares: dict[str, float]

    @property
    def batch(self) -> int:
        """Instructions per written batch, a multiple of the block: memory is bounded by one batch."""
        models = len(self.crowd.members) * self.samples
        rows = _BATCH_CELLS // models
        if self.with_text and self.layout != "matrix":
            rows = min(rows, _BATCH_CHARACTERS // (models * self.answer_chars))
        return max(1, rows // _BLOCK) * _BLOCK


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions `start` to `start + n` with all that is drawn for them, before it becomes text."""

    start: int
    latent: dict[str, NDArray[Any]]
    rewards: FloatArray  # (n, M, S), NaN = missing
    paragraphs: (
        IntArray | None
    )  # (n, M, S, k), places in the topic's paragraphs; -1 in place 0 = empty answer


def abilities_of(crowd: Crowd, *, seed: int) -> FloatArray:
    """Shape (M,): a base and a slope per family, the last family nearly flat."""
    families = list(
        dict.fromkeys(family or name for family, name in zip(crowd.families, crowd.names, strict=True))
    )
    chance = _chance(seed, _FAMILIES, 0)
    base = 0.3 * chance.standard_normal(len(families))
    slope = chance.uniform(0.7, 1.3, len(families))
    slope[-1] = 0.05
    place = [families.index(family or name) for family, name in zip(crowd.families, crowd.names, strict=True)]
    decades = np.log10(np.nan_to_num(crowd.sizes, nan=7.0) / 7.0)
    return base[place] + slope[place] * decades


def _chance(seed: int, stream: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, int(seed < 0), stream, number])


def _latent(plan: Plan, number: int) -> dict[str, NDArray[Any]]:
    """What is drawn for each instruction of one block; always the whole block, so that N does not matter."""
    chance = _chance(plan.seed, _LATENT, number)
    topic = chance.integers(0, len(TOPICS), _BLOCK)
    latent: dict[str, NDArray[Any]] = {
        "topic": topic,
        "difficulty": 0.25 * (topic % 4 - 1.5) + chance.standard_normal(_BLOCK),
        "discrimination": 0.3 + 1.5 * chance.random(_BLOCK),
        "ill_posed": chance.random(_BLOCK) < plan.shares["ill_posed"],
        "slots": chance.integers(0, 1 << 30, (_BLOCK, 8)),
    }
    rows = np.arange(_BLOCK)
    copied = (chance.random(_BLOCK) < plan.shares["duplicates"]) & (rows > 0)
    origin = np.where(copied, (chance.random(_BLOCK) * rows).astype(np.int64), rows)
    while np.any(copied[origin]):  # a copy of a copy repeats the first
        origin = origin[origin]
    latent = {name: values[origin] for name, values in latent.items()}
    latent["copy"] = np.where(copied, chance.integers(1, 5, _BLOCK), 0)  # 1, 2: word for word; 3, 4: nearly
    latent["repeats"] = np.where(copied, number * _BLOCK + origin, -1)
    return latent


def _draw(plan: Plan, number: int) -> Block:
    latent = _latent(plan, number)
    shape = (_BLOCK, len(plan.abilities), plan.samples)
    chance = _chance(plan.seed, _REWARDS, number)
    ability = plan.abilities[None, :] - latent["difficulty"][:, None]
    answer = 10 * latent["discrimination"][:, None] * ability / (1 + np.abs(ability))
    answer[latent["ill_posed"]] = -12.0
    rewards = np.round(answer[:, :, None] + _NOISE * chance.standard_normal(shape), 4)
    if plan.shares["missing"] > 0:
        rewards[chance.random(shape, dtype=np.float32) < plan.shares["missing"]] = np.nan
    paragraphs = None
    if plan.with_text and plan.layout != "matrix":
        chance = _chance(plan.seed, _ANSWERS, number)
        paragraphs = chance.integers(0, PARAGRAPHS, (*shape, paragraphs_per_answer(plan.answer_chars)))
        paragraphs[chance.random(shape) < plan.shares["empty"]] = -1
    return Block(number * _BLOCK, latent, rewards, paragraphs)


def _cut(block: Block, begin: int, end: int) -> Block:
    rows = slice(begin - block.start, end - block.start)
    latent = {name: values[rows] for name, values in block.latent.items()}
    paragraphs = None if block.paragraphs is None else block.paragraphs[rows]
    return Block(begin, latent, block.rewards[rows], paragraphs)


def drawn(plan: Plan, begin: int, end: int) -> Block:
    """Instructions `begin` to `end` from as many blocks as they touch, as one."""
    parts = [
        _cut(_draw(plan, number), max(begin, number * _BLOCK), min(end, (number + 1) * _BLOCK))
        for number in range(begin // _BLOCK, (end - 1) // _BLOCK + 1)
    ]
    if len(parts) == 1:
        return parts[0]
    paragraphs = [part.paragraphs for part in parts if part.paragraphs is not None]
    return Block(
        begin,
        {name: np.concatenate([part.latent[name] for part in parts]) for name in parts[0].latent},
        np.concatenate([part.rewards for part in parts]),
        np.concatenate(paragraphs) if paragraphs else None,
    )
