"""Questions, and pools built from them, written as Parquet for crowdselect."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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

NOISE = {"low": 0.1, "middle": 0.3, "high": 0.7}
"""Reward column → standard deviation of the noise added to the verifier's 0 or 1."""
BIASED = "biased"
"""As "middle", plus this much per standard deviation of an answer's length, and for one family."""
LENGTH_BIAS, FAMILY_BIAS = 0.3, 0.3


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


def drawn(asked: Sequence[Question], *, seed: int) -> list[Question]:
    """Draw the pool of one seed: a random part of the answered questions, rewordings together with their originals."""
    origins = sorted({question.origin for question in asked})
    random.Random(f"draw/{seed}").shuffle(origins)
    place = {origin: i for i, origin in enumerate(origins)}
    return sorted(asked, key=lambda question: (place[question.origin], question.id))[:DRAWN]


def rewards(
    right: NDArray[np.bool_], lengths: NDArray[np.float64], members: Sequence[Member], *, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Compute the answers' reward columns, shape (N, M) each.

    Args:
        right: The verifier's result, shape (N, M).
        lengths: Characters of the answers, shape (N, M).
        members: The M models.
        seed: Seed of the noise.

    Returns:
        One per level of noise, and the biased one; and `quality`, the middle one as a judge's positive grade, for deita.
    """
    noise = {name: np.random.default_rng(seed_of("noise", name, seed)) for name in (*NOISE, BIASED)}
    out = {name: right + sd * noise[name].standard_normal(right.shape) for name, sd in NOISE.items()}
    tall = (lengths - lengths.mean()) / max(float(lengths.std()), 1e-9)
    favoured = np.array([member.family == FAVOURED for member in members])
    middling = NOISE["middle"] * noise[BIASED].standard_normal(right.shape)
    out[BIASED] = right + middling + LENGTH_BIAS * tall + FAMILY_BIAS * favoured
    return {**out, "quality": np.clip(3 + 2 * out["middle"], 0.1, None)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFiles:
    """A pool as crowdselect gets it, and its ground truth."""

    pool: Path
    crowd: Path
    right: Mapping[tuple[str, str], bool]
    """(id, model) → whether that answer is right."""
    answers: Mapping[tuple[str, str], str]
    questions: Mapping[str, Question]


def write_pool(
    folder: Path,
    asked: Sequence[Question],
    answers: Mapping[str, Mapping[str, str]],
    members: Sequence[Member],
    *,
    seed: int,
) -> PoolFiles:
    """Write the pool of one seed and its crowd file.

    Args:
        folder: Where to write.
        asked: All questions that were answered.
        answers: Model → id → answer.
        members: The models.
        seed: Seed of the draw and of the noise.
    """
    pool = drawn(asked, seed=seed)
    names = [member.name for member in members]
    texts = [[answers[name][question.id] for name in names] for question in pool]
    right = np.array([[q.item.right(text) for text in row] for q, row in zip(pool, texts, strict=True)])
    lengths = np.array([[float(len(text)) for text in row] for row in texts])
    columns = rewards(right, lengths, members, seed=seed)
    ids = [q.id for q in pool]
    table = pa.table(
        {
            "id": [id_ for id_ in ids for _ in names],
            "instruction": [q.item.instruction for q in pool for _ in names],
            "model": names * len(pool),
            "response": [text for row in texts for text in row],
            **{name: values.ravel() for name, values in columns.items()},
        }
    )
    files = folder / "pool.parquet", folder / "crowd.toml"
    pq.write_table(table, files[0])
    files[1].write_text(crowd_toml(members), encoding="utf-8")
    cells = [(id_, name) for id_ in ids for name in names]
    return PoolFiles(
        pool=files[0],
        crowd=files[1],
        right=dict(zip(cells, right.ravel().tolist(), strict=True)),
        answers=dict(zip(cells, (text for row in texts for text in row), strict=True)),
        questions={q.id: q for q in pool},
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
