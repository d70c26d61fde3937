"""The pool in two parts: questions to choose from, and others that the students are measured on."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crowdselect.seeding import seeded_hash
from crowdselect.train import TrainSettings
from crowdselect.train.rows import TrainRow, lengths
from crowdselect.train.student import read_student
from proving_ground.real.design import HELD_OUT, PROMPT_TOKENS, REWARD

ENDLESS = 1 << 30  # tokens


@dataclass(frozen=True, slots=True)
class Parts:
    """The two parts as pools of their own."""

    choose: Path
    held_out: Path

    def tasks(self) -> dict[str, str]:
        """Return id → task of all their questions."""
        tables = [pq.read_table(file, columns=["id", "task"]) for file in (self.choose, self.held_out)]
        table = pa.concat_tables(tables)
        return dict(zip(table["id"].to_pylist(), table["task"].to_pylist(), strict=True))


def divide(pool: Path, folder: Path, *, student: Path) -> Parts:
    """Write the two parts; questions that are too long are in neither.

    Args:
        pool: One Parquet file in the long layout, with `task`.
        folder: Where to write.
        student: Whose tokens count.
    """
    table = pq.read_table(pool)
    short = _short(table, student)
    table = table.filter(pc.is_in(table["id"], pa.array(sorted(short))))
    chosen = pa.array(held_out(_answered(table), count=HELD_OUT))
    parts = Parts(folder / "choose.parquet", folder / "held-out.parquet")
    inside = pc.is_in(table["id"], chosen)
    pq.write_table(table.filter(pc.invert(inside)), parts.choose)
    pq.write_table(table.filter(inside), parts.held_out)
    return parts


def held_out(tasks: dict[str, str], *, count: int) -> list[str]:
    """Draw questions by a hash of their ids, as many of each task as its share of all, rounded.

    Args:
        tasks: Id → task of all questions.
        count: How many.

    Returns:
        Their ids, in code-point order.

    Example:
        >>> held_out({"a": "x", "b": "x", "c": "y", "d": "y"}, count=2)
        ['b', 'c']
    """
    by_task: defaultdict[str, list[str]] = defaultdict(list)
    for id_, task in tasks.items():
        by_task[task].append(id_)
    drawn: list[str] = []
    for ids in by_task.values():
        hashes = seeded_hash(ids, seed=0, salt="held out").tolist()
        order = sorted(zip(hashes, ids, strict=True))
        drawn += [id_ for _, id_ in order[: round(count * len(ids) / len(tasks))]]
    return sorted(drawn)


def _short(table: pa.Table, student: Path) -> set[str]:
    """Return the ids of questions that leave room for an answer."""
    questions = table.group_by(["id", "instruction"]).aggregate([])
    rows = [
        TrainRow(id_, [{"role": "user", "content": text}], "An answer.")
        for id_, text in zip(questions["id"].to_pylist(), questions["instruction"].to_pylist(), strict=True)
    ]
    found = lengths(rows, read_student(str(student), TrainSettings()), limit=ENDLESS, objective="sft")
    return {
        row.id
        for row, length in zip(rows, found, strict=True)
        if length.longest - length.answer <= PROMPT_TOKENS
    }


def _answered(table: pa.Table) -> dict[str, str]:
    """Return id → task of the questions that some model answered rightly."""
    right = table.filter(
        pc.and_(pc.equal(table[REWARD], 1.0), pc.greater(pc.utf8_length(table["response"]), 0))
    )
    found = right.group_by(["id", "task"]).aggregate([])
    return dict(zip(found["id"].to_pylist(), found["task"].to_pylist(), strict=True))
