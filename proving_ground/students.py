"""A student: a lightly trained base, fine-tuned on the selected rows, and tested."""

import dataclasses
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from proving_ground import tokens
from proving_ground.crowd import FAMILIES, KNOWN, diet, examples
from proving_ground.design import BASE_EXAMPLES, LARGEST_BUDGET, STUDENTS, TUNING, Student
from proving_ground.items import PLAIN, Item
from proving_ground.model import Transformer, answer_likelihoods, build, greedy, judged, sampled
from proving_ground.pools import test_items
from proving_ground.seeds import cache_folder, content_key, seed_of, write_whole
from proving_ground.training import train
from proving_ground.worlds import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """One student's test result."""

    right: np.ndarray
    """Shape (tests,): which test items it answers exactly."""
    loss: float
    """Mean over the answer tokens of the test set, nats."""
    steps: int
    tokens: int
    """Answer tokens of the fine-tuning, counting repetitions and the base's own rows."""


@dataclass(frozen=True, slots=True)
class Base:
    """A student before it is fine-tuned."""

    model: Transformer
    diet: tuple[tuple[str, str], ...]
    """The first rows that it was trained on: instructions and answers."""
    key: str
    """Its name in the cache, which says what it was made of."""
    rate: float
    """Learning rate of its fine-tuning."""


@cache
def base(world: World, name: str, *, number: int) -> Base:
    """Return one of a world's bases, cached or trained now; no test instruction is in what it is trained on.

    Args:
        world: The world.
        name: One of `STUDENTS`.
        number: Which of the `BASES`; twins take the families in turn.
    """
    student = STUDENTS[name]
    pairs = _taught(world, student, number)
    rows = tokens.rows(pairs, world.shape)
    chance = seed_of(world.name, "base", name, number)
    model = build(student.size, world.shape, seeds=[chance])
    facts = {
        "size": str(student.size),
        "recipe": str(student.base),
        "seed": chance,
        "shape": str(world.shape),
    }
    file = cache_folder() / f"base-{content_key(facts, rows.numpy().tobytes())}.npz"
    if not file.exists():
        train(model, rows[None], student.base, seed=chance)
        beside = file.with_name(f".{os.getpid()}-{file.name}")
        np.savez(beside, **{name: value.numpy() for name, value in model.state_dict().items()})
        beside.replace(file)
    with np.load(file, allow_pickle=False) as kept:
        model.load_state_dict({name: torch.from_numpy(kept[name]) for name in kept.files})
    return Base(model, tuple(pairs[:LARGEST_BUDGET]), file.stem, student.rate)


def _taught(world: World, student: Student, number: int) -> list[tuple[str, str]]:
    """Return a base's training rows: common instructions in plain words, or a large member's diet, drawn anew."""
    barred = frozenset(item.instruction for item in test_items(world))
    rng = random.Random(f"{world.name}/{'twin' if student.twin else 'base'}/{number}")
    likely = diet(world, FAMILIES[number]) if student.twin else None
    known = KNOWN["large"] if student.twin else PLAIN
    return examples(world, rng, count=BASE_EXAMPLES, known=known, likely=likely, barred=barred)


def own_answers(start: Base, instructions: Sequence[str], *, asked: int) -> list[list[str]]:
    """Return the base's own answers to instructions, in their order; cached.

    Args:
        start: The base.
        instructions: What it is asked.
        asked: 1 = greedy answers; more = so many answers at temperature 1.

    Returns:
        `asked` lists.
    """
    prompts = tokens.prompts(instructions, start.model.shape)
    facts = {"base": start.key, "asked": asked}
    file = cache_folder() / f"own-{content_key(facts, prompts.numpy().tobytes())}.json"
    if not file.exists():
        rounds = (
            [greedy(start.model, prompts)]
            if asked == 1
            else [sampled(start.model, prompts, seed=seed_of(start.key, "asked", i)) for i in range(asked)]
        )
        write_whole(file, json.dumps([tokens.texts(answers[0]) for answers in rounds]).encode())
    found: list[list[str]] = json.loads(file.read_bytes())
    return found


def likelihoods(start: Base, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the mean log-likelihood per token that a base gives each answer after its instruction, nats, shape (n,)."""
    return answer_likelihoods(start.model, tokens.rows(pairs, start.model.shape))[0].numpy()


def tuned(
    start: Base,
    chosen: Sequence[Sequence[tuple[str, str]]],
    test: Tensor,
    *,
    seed: int,
    replay: bool = True,
    token_budget: int | None = None,
) -> list[Readout]:
    """Fine-tune a base on each of several selections, and test the students.

    Args:
        start: The base; it is not modified.
        chosen: Instructions and answers of each selection, all of equal size.
        test: Rows of the test set.
        seed: Seed of the order of rows, which is the same for all.
        replay: Train on as many rows of the base's own training, too.
        token_budget: Number of answer tokens to train on, instead of `TUNING.steps`.
    """
    if token_budget is not None and len(chosen) > 1:
        return [
            tuned(start, [one], test, seed=seed, replay=replay, token_budget=token_budget)[0]
            for one in chosen
        ]
    if len({len(one) for one in chosen}) != 1:
        raise ValueError(f"budgets differ: {[len(one) for one in chosen]}")
    stack = start.model.repeated(len(chosen))
    recipe = dataclasses.replace(TUNING, rate=start.rate, tokens=token_budget)
    again = start.diet[: len(chosen[0])] if replay else ()
    rows = torch.stack([tokens.rows([*one, *again], stack.shape) for one in chosen])
    made = train(stack, rows, recipe, seed=seed_of("tuning", seed))
    return [
        Readout(right=right, loss=loss, steps=made.steps, tokens=learnt)
        for (right, loss), learnt in zip(_tested(stack, test), made.tokens, strict=True)
    ]


def untrained(start: Base, test: Tensor) -> Readout:
    """Test the base itself."""
    ((right, loss),) = _tested(start.model, test)
    return Readout(right=right, loss=loss, steps=0, tokens=0)


def _tested(stack: Transformer, test: Tensor) -> Iterator[tuple[np.ndarray, float]]:
    right, loss = judged(stack, test)
    return zip(right.numpy(), loss.tolist(), strict=True)


def test_rows(world: World) -> Tensor:
    """Return the test set as rows of tokens."""
    return tokens.rows([(item.instruction, item.answer or "") for item in test_items(world)], world.shape)


def token_budget(questions: Sequence[Item]) -> int:
    """Return the answer tokens for students of a world and seed with equal tokens: those of right answers to random rows."""
    lengths = [len(item.answer) + 1 for item in questions if item.answer is not None]
    return round(TUNING.steps * TUNING.batch * sum(lengths) / len(lengths))
