"""Draws of a simulated pool: instructions' latent values, models' abilities, rewards; and their texts.

Every instruction has a topic, a latent difficulty and a latent discrimination, every model an
ability that grows with the logarithm of its size inside its family; the last family is nearly flat:

    reward = 10 * discrimination * f(ability - difficulty) + noise,    f(x) = x / (1 + |x|)

`f` is plain arithmetic, so that the same seed gives the same numbers on every machine. Instructions
are drawn in fixed blocks, each from its own generator, so that instruction i depends on the
seed and i alone: not on their number, nor on the batches they are written in.

Instructions and answers are frames filled with a topic's words, thousands at once. pyarrow's arrays are typed `Any`
here: pyarrow ships no types.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.simulate import words
from crowdselect.simulate.words import PARAGRAPHS, TOPICS, paragraphs_per_answer
from crowdselect.types import FloatArray, IntArray

_BLOCK = 2048  # instructions drawn from one generator; changing it changes every simulated pool
_LATENT, _REWARDS, _ANSWERS, _FAMILIES = range(4)  # independent random streams
_BATCH_CELLS = 1 << 21  # numbers in one written batch
_BATCH_CHARACTERS = 1 << 26  # characters of text in one written batch
_NOISE = 1.5
_ILL_POSED = -12.0  # every model's answer to an ill-posed instruction, before noise


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """The options of one simulation.

    Attributes:
        instructions: N, the number of instructions.
        layout: `"long"`, `"zoo"` or `"matrix"`.
        crowd: M models in code-point order.
        abilities: Shape (M,); higher = better answers.
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
class DrawnBlock:
    """Everything drawn for instructions `start` to `start + n`, before it becomes text."""

    start: int
    latent: dict[str, NDArray[Any]]
    rewards: FloatArray  # (n, M, S), NaN = missing
    paragraphs: (
        IntArray | None
    )  # (n, M, S, k), positions in the topic's paragraphs; -1 at position 0 = empty answer


def abilities_of(crowd: Crowd, *, seed: int) -> FloatArray:
    """Draw abilities, shape (M,): a base and a slope per family, the last family nearly flat."""
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


def _latent(plan: SimulationPlan, number: int) -> dict[str, NDArray[Any]]:
    """Draw the latent values of one block's instructions; always the whole block, so that N does not matter."""
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
    while np.any(copied[origin]):  # a copy of a copy repeats the original
        origin = origin[origin]
    latent = {name: values[origin] for name, values in latent.items()}
    latent["copy"] = np.where(copied, chance.integers(1, 5, _BLOCK), 0)  # 1, 2: word for word; 3, 4: nearly
    latent["repeats"] = np.where(copied, number * _BLOCK + origin, -1)
    return latent


def _draw(plan: SimulationPlan, number: int) -> DrawnBlock:
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
    return DrawnBlock(number * _BLOCK, latent, rewards, paragraphs)


def _cut(block: DrawnBlock, begin: int, end: int) -> DrawnBlock:
    rows = slice(begin - block.start, end - block.start)
    latent = {name: values[rows] for name, values in block.latent.items()}
    paragraphs = None if block.paragraphs is None else block.paragraphs[rows]
    return DrawnBlock(begin, latent, block.rewards[rows], paragraphs)


def drawn(plan: SimulationPlan, begin: int, end: int) -> DrawnBlock:
    """Draw instructions `begin` to `end`, joined from all blocks they overlap."""
    parts = [
        _cut(_draw(plan, number), max(begin, number * _BLOCK), min(end, (number + 1) * _BLOCK))
        for number in range(begin // _BLOCK, (end - 1) // _BLOCK + 1)
    ]
    if len(parts) == 1:
        return parts[0]
    paragraphs = [part.paragraphs for part in parts if part.paragraphs is not None]
    return DrawnBlock(
        begin,
        {name: np.concatenate([part.latent[name] for part in parts]) for name in parts[0].latent},
        np.concatenate([part.rewards for part in parts]),
        np.concatenate(paragraphs) if paragraphs else None,
    )


# As text


@dataclass(frozen=True, slots=True)
class _Frames:
    """Sentence frames split at their slots, so that thousands are filled in at once."""

    gaps: list[Any]  # S + 1 pyarrow arrays of F strings: the text before, between and after the slots
    order: IntArray  # (F, S): the slot at each position

    @classmethod
    def of(cls, frames: Sequence[str], slots: str) -> "_Frames":
        import pyarrow as pa

        cut = [[*Formatter().parse(frame + "{end}")] for frame in frames]
        gaps = [pa.array([pieces[gap][0] for pieces in cut], pa.string()) for gap in range(len(slots) + 1)]
        order = [[slots.index(piece[1] or "") for piece in pieces[:-1]] for pieces in cut]
        return cls(gaps, np.array(order))

    def fill(self, vocabulary: Any, frame: IntArray, slots: IntArray) -> Any:  # noqa: ANN401  (pyarrow has no types)
        """Return strings, shape (n,), from frame indices (n,) and vocabulary indices (n, S)."""
        import pyarrow.compute as pc

        placed = np.take_along_axis(slots, self.order[frame], axis=1)
        pieces = [self.gaps[0].take(frame)]
        for place, gap in enumerate(self.gaps[1:]):
            pieces += [vocabulary.take(placed[:, place]), gap.take(frame)]
        return pc.binary_join_element_wise(*pieces, "")


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[Any, dict[str, int]]:
    """Return all words for slots in one pyarrow array, and each kind's offset in it."""
    import pyarrow as pa

    kinds: dict[str, Sequence[str]] = {
        "thing": [thing for things, _ in words.VOCABULARIES.values() for thing in things],
        "place": [place for _, places in words.VOCABULARIES.values() for place in places],
        "reader": words.READERS,
        "demand": words.DEMANDS,
        "number": [str(number) for number in range(40, 405, 5)],
    }
    starts: dict[str, int] = {}
    joined: list[str] = []
    for kind, found in kinds.items():
        starts[kind] = len(joined)
        joined += found
    return pa.array(joined, pa.string()), starts


def instructions_text(block: DrawnBlock) -> Any:  # noqa: ANN401  (a pyarrow array)
    """Write the block's instructions, n strings of two or three sentences each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    vocabulary, at = _vocabulary()
    slots, topic, copy = block.latent["slots"], block.latent["topic"], block.latent["copy"]
    things, places = (len(found) for found in next(iter(words.VOCABULARIES.values())))
    first = slots[:, 1] % things
    second = (first + 1 + slots[:, 2] % (things - 1)) % things
    place = at["place"] + topic * places + slots[:, 3] % places
    subject = np.column_stack(
        (at["thing"] + topic * things + first, at["thing"] + topic * things + second, place)
    )
    task = np.where(
        block.latent["ill_posed"],
        len(words.TASKS) + slots[:, 0] % len(words.ILL_POSED_TASKS),
        slots[:, 0] % len(words.TASKS),
    )
    manner = np.column_stack(
        [
            at[kind] + slots[:, column] % size
            for kind, column, size in (
                ("reader", 5, len(words.READERS)),
                ("number", 6, len(vocabulary) - at["number"]),
                ("demand", 7, len(words.DEMANDS)),
            )
        ]
    )
    tasks = _Frames.of((*words.TASKS, *words.ILL_POSED_TASKS), "abc").fill(vocabulary, task, subject)
    manners = _Frames.of(words.MANNERS, "dne").fill(vocabulary, slots[:, 4] % len(words.MANNERS), manner)
    before = pa.array(["", "", "", "", "Please help me. "]).take(copy)
    between = pa.array([" ", " ", "  ", " ", " "]).take(copy)
    after = pa.array(["", "", "", " Thank you.", ""]).take(copy)
    return pc.binary_join_element_wise(before, tasks, between, manners, after, "")


@lru_cache(maxsize=2)
def _paragraphs(characters: int) -> Any:  # noqa: ANN401  (a pyarrow array)
    """Write `PARAGRAPHS` paragraphs per topic, topic by topic, of about `characters` characters."""
    import pyarrow as pa

    paragraphs = []
    for number, (things, places) in enumerate(words.VOCABULARIES.values()):
        chance = np.random.default_rng(number)  # the same paragraphs for every seed
        for _ in range(PARAGRAPHS):
            sentences: list[str] = []
            while sum(map(len, sentences)) + 40 < characters:
                a, b = chance.choice(len(things), 2, replace=False)
                frame = words.ANSWER_SENTENCES[chance.integers(len(words.ANSWER_SENTENCES))]
                sentences.append(
                    frame.format(a=things[a], b=things[b], c=places[chance.integers(len(places))])
                )
            paragraphs.append(" ".join(sentences))
    return pa.array(paragraphs, pa.string())


def answers_text(plan: SimulationPlan, block: DrawnBlock, model: int, sample: int) -> Any:  # noqa: ANN401  (a pyarrow array)
    """Write one model's answers to the block; "" for an empty answer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if block.paragraphs is None:
        return pa.nulls(len(block.rewards), pa.string())
    vocabulary, at = _vocabulary()
    topic = block.latent["topic"]
    things = len(next(iter(words.VOCABULARIES.values()))[0])
    subject = vocabulary.take(at["thing"] + topic * things + block.latent["slots"][:, 1] % things)
    head = f"[simulated answer of {plan.crowd.names[model]}] About "
    count = block.paragraphs.shape[-1]
    rest = max(0, plan.answer_chars - len(head) - 20)
    bank = _paragraphs(rest // count)
    chosen = np.maximum(block.paragraphs[:, model, sample], 0) + PARAGRAPHS * topic[:, None]
    body = [bank.take(chosen[:, place]) for place in range(count)]
    text = pc.binary_join_element_wise(pc.binary_join_element_wise(head, subject, ":", ""), *body, " ")
    return pc.if_else(pa.array(block.paragraphs[:, model, sample, 0] < 0), "", text)
