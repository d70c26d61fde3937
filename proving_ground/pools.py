"""Questions, and pools built from them, written as Parquet for crowdselect."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from proving_ground.crowd import FAVOURED, Member
from proving_ground.items import Item
from proving_ground.seeds import seed_of
from proving_ground.worlds import World

ANSWERED, TESTED, DRAWN = 8000, 480, 4000
"""Numbers of instructions: answered by the crowd; in the test set; in the pool of one seed."""

EXAMPLES = 40
"""Of what the student is tested on, for ways that choose towards a target."""

NOISE = {"low": 0.1, "middle": 0.3, "high": 0.7}
"""Reward column → standard deviation of the noise added to the verifier's 0 or 1."""
BIASED = "biased"
"""As "middle", plus this much per standard deviation of an answer's length, and for one family."""
LENGTH_BIAS, FAMILY_BIAS = 0.3, 0.3
CORRECTED = "biased_length_out"
"""As "biased", less its slope on the length of an answer, which is measured within rows."""
GRADED = "graded"
"""In worlds that are right or wrong: marks in their place, with noise of its own."""
MARKS = 1, 10
MARKS_APART = 5.0
"""Marks that stand for 1 of noise and bias: about so many lie between a right answer and a wrong one."""
STUDENT = "student"
"""The name of the student, whose answers are a pool of their own."""


@dataclass(frozen=True, slots=True)
class Question:
    """An instruction of a pool."""

    id: str
    item: Item
    origin: str
    """Its own id, or that of the question it rewords: the two are drawn together."""


def test_items(world: World) -> list[Item]:
    """Build the test set: distinct instructions that have a right answer."""
    rng = random.Random(f"{world.name}/test")
    found: dict[str, Item] = {}
    while len(found) < TESTED:
        item = world.make(rng, None, 2)
        if item.answer is not None:
            found.setdefault(item.instruction, item)
    return list(found.values())


def questions(world: World) -> list[Question]:
    """Build the crowd's questions: distinct instructions, none of them in the test set."""
    rng = random.Random(f"{world.name}/pool")
    taken = {item.instruction for item in test_items(world)}
    found: list[Question] = []

    def add(item: Item, origin: str | None) -> str | None:
        if item.instruction in taken or len(found) == ANSWERED:
            return None
        taken.add(item.instruction)
        own = f"{world.name}-{len(found):05d}"
        found.append(Question(own, item, origin or own))
        return own

    while len(found) < ANSWERED:
        item = world.make(rng, None, 2)
        own = add(item, None)
        if own and rng.random() < world.near_duplicates / (1 - world.near_duplicates):
            add(world.reword(rng, item), own)
    return found


def examples(world: World, asked: Sequence[Question], *, seed: int) -> list[str]:
    """Draw instructions as the test set is drawn: none of them in it, or among the questions."""
    rng = random.Random(f"{world.name}/examples/{seed}")
    taken = {item.instruction for item in test_items(world)} | {q.item.instruction for q in asked}
    found: dict[str, None] = {}
    while len(found) < EXAMPLES:
        item = world.make(rng, None, 2)
        if item.answer is not None and item.instruction not in taken:
            found[item.instruction] = None
    return list(found)


def drawn(asked: Sequence[Question], *, seed: int) -> list[Question]:
    """Draw the pool of one seed: a random part of the answered questions, rewordings together with their originals."""
    origins = sorted({question.origin for question in asked})
    random.Random(f"draw/{seed}").shuffle(origins)
    place = {origin: i for i, origin in enumerate(origins)}
    return sorted(asked, key=lambda question: (place[question.origin], question.id))[:DRAWN]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewarder:
    """Makes the reward columns of a pool, those of the student's answers in the same way as the crowd's."""

    graded: bool
    """Whether the world's rewards are marks for answers that are right in part."""
    length: tuple[float, float]
    """Mean and standard deviation of the crowd's answers' lengths, characters."""
    seed: int

    def columns(
        self,
        credit: NDArray[np.float64],
        lengths: NDArray[np.float64],
        favoured: NDArray[np.bool_],
        *,
        of: str | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Compute the reward columns.

        Args:
            credit: Share of each answer that is right, shape (N, M); 1 = the verifier's yes.
            lengths: Characters of the answers, shape (N, M).
            favoured: Whether the biased reward favours each model, shape (M,).
            of: Whose answers, if not the crowd's: they have noise of their own.

        Returns:
            Shape (N, M) each: one per level of noise, the biased one, `GRADED`; and `quality`, the middle one as a judge's
            positive grade, for deita.
        """

        def noise(name: str, sd: float) -> NDArray[np.float64]:
            own = () if of is None else (of,)
            return sd * np.random.default_rng(seed_of("noise", name, self.seed, *own)).standard_normal(
                credit.shape
            )

        mean, spread = self.length
        tall = (lengths - mean) / max(spread, 1e-9)
        errors = {name: noise(name, sd) for name, sd in NOISE.items()}
        errors[BIASED] = noise(BIASED, NOISE["middle"]) + LENGTH_BIAS * tall + FAMILY_BIAS * favoured
        made = marks if self.graded else _right_or_wrong
        out = {name: made(credit, error) for name, error in errors.items()}
        out[GRADED] = marks(credit, noise(GRADED, NOISE["middle"]))
        out["quality"] = out["middle"] if self.graded else np.clip(3 + 2 * out["middle"], 0.1, None)
        return out


def _right_or_wrong(credit: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    return (credit == 1) + error


def marks(credit: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Grade answers as a judge does: whole marks from 1, nothing right, to 10, all right.

    Args:
        credit: Share of each answer that is right.
        error: Noise and bias, in units of `MARKS_APART`; the same shape.
    """
    low, high = MARKS
    return np.clip(np.rint(low + (high - low) * credit + MARKS_APART * error), low, high)


def slope_within_rows(rewards: NDArray[np.float64], lengths: NDArray[np.float64]) -> float:
    """Fit by least squares how much the reward rises with an answer's length among the answers of a row.

    Args:
        rewards: Shape (N, M).
        lengths: Shape (N, M).

    Returns:
        Reward per character; 0 where no two lengths of a row differ.
    """
    tall = lengths - lengths.mean(axis=1, keepdims=True)
    spread = float((tall**2).sum())
    return float((tall * rewards).sum()) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFiles:
    """A pool as crowdselect gets it, and its ground truth."""

    pool: Path
    crowd: Path
    right: Mapping[tuple[str, str], bool]
    """(id, model) → whether that answer is right."""
    answers: Mapping[tuple[str, str], str]
    questions: Mapping[str, Question]
    rewarder: Rewarder
    slope: float
    """Of the biased reward on length, within rows."""


def write_pool(
    folder: Path,
    world: World,
    asked: Sequence[Question],
    answers: Mapping[str, Mapping[str, str]],
    members: Sequence[Member],
    *,
    seed: int,
) -> PoolFiles:
    """Write the pool of one seed and its crowd file.

    Args:
        folder: Where to write.
        world: The world of the questions.
        asked: All questions that were answered.
        answers: Model → id → answer.
        members: The models.
        seed: Seed of the draw and of the noise.
    """
    pool = drawn(asked, seed=seed)
    names = [member.name for member in members]
    texts = [[answers[name][question.id] for name in names] for question in pool]
    credit, lengths = _credit(pool, texts), _lengths(texts)
    scale = float(lengths.mean()), float(lengths.std())
    rewarder = Rewarder(graded=world.graded, length=scale, seed=seed)
    favoured = np.array([member.family == FAVOURED for member in members])
    columns = rewarder.columns(credit, lengths, favoured)
    slope = slope_within_rows(columns[BIASED], lengths)
    columns[CORRECTED] = columns[BIASED] - slope * lengths
    ids = [q.id for q in pool]
    files = folder / "pool.parquet", folder / "crowd.toml"
    pq.write_table(_table(pool, names, texts, columns), files[0])
    files[1].write_text(crowd_toml(members), encoding="utf-8")
    cells = [(id_, name) for id_ in ids for name in names]
    return PoolFiles(
        pool=files[0],
        crowd=files[1],
        right=dict(zip(cells, (credit == 1).ravel().tolist(), strict=True)),
        answers=dict(zip(cells, (text for row in texts for text in row), strict=True)),
        questions={q.id: q for q in pool},
        rewarder=rewarder,
        slope=slope,
    )


def write_student(files: PoolFiles, answers: Sequence[Mapping[str, str]], *, scored: float) -> Path:
    """Write the student's own answers to a pool's instructions, with rewards made as the crowd's.

    Args:
        files: The pool.
        answers: Id → answer, for each time that the student was asked.
        scored: Share of the instructions on which its answers have a reward; the others' are null.
    """
    pool = list(files.questions.values())
    texts = [[once[question.id] for once in answers] for question in pool]
    lengths = _lengths(texts)
    favoured = np.zeros(len(answers), dtype=bool)
    columns = files.rewarder.columns(_credit(pool, texts), lengths, favoured, of=STUDENT)
    columns[CORRECTED] = columns[BIASED] - files.slope * lengths
    unscored = random.Random(f"unscored/{files.rewarder.seed}").sample(
        range(len(pool)), len(pool) - round(scored * len(pool))
    )
    for values in columns.values():
        values[unscored] = np.nan
    table = _table(pool, [STUDENT] * len(answers), texts, columns)
    table = table.append_column("sample", pa.array(list(range(len(answers))) * len(pool)))
    file = files.pool.with_name("student.parquet")
    pq.write_table(table, file)
    return file


def _credit(pool: Sequence[Question], texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return the share of each answer that is right, shape (N, M)."""
    return np.array([[q.item.credit(text) for text in row] for q, row in zip(pool, texts, strict=True)])


def _lengths(texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    return np.array([[float(len(text)) for text in row] for row in texts])


def _table(
    pool: Sequence[Question],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    columns: Mapping[str, NDArray[np.float64]],
) -> Any:  # noqa: ANN401  (an Arrow table)
    """Return answers and rewards in the long layout; NaN is written as null."""
    return pa.table(
        {
            "id": [q.id for q in pool for _ in names],
            "instruction": [q.item.instruction for q in pool for _ in names],
            "skill": [q.item.skill for q in pool for _ in names],
            "model": list(names) * len(pool),
            "response": [text for row in texts for text in row],
            **{name: pa.array(values.ravel(), from_pandas=True) for name, values in columns.items()},
        }
    )


def add_clusters(files: PoolFiles, clusters: Mapping[str, str]) -> None:
    """Rewrite the pool with a column `cluster`."""
    table = pq.read_table(files.pool)
    column = pa.array([clusters[id_] for id_ in table["id"].to_pylist()])
    pq.write_table(table.append_column("cluster", column), files.pool)


def crowd_toml(members: Sequence[Member]) -> str:
    """Write the crowd as `crowdselect --crowd` reads it; sizes in billions, though tiny."""
    tables = (
        f'[[model]]\nname = "{m.name}"\nfamily = "{m.family}"\nsize_b = {m.parameters / 1e9:.9f}\n'
        for m in members
    )
    return "\n".join(tables)
