"""Rows nearest to a few examples of what a student should do: representation-based data selection, RDS+.

Ivison et al. 2025, "Large-Scale Data Selection for Instruction Tuning" (arXiv 2503.01807).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crowdselect.errors import InputError, ShapeError
from crowdselect.numeric.turns import in_turn, nearest_first
from crowdselect.progress import Progress
from crowdselect.seeding import seeded_hash
from crowdselect.selection.clusters import Grouping, UnitVectors
from crowdselect.selection.examples import Example
from crowdselect.selection.methods import Method, Scored, Seen, depths, first_of_groups, with_duplicates
from crowdselect.selection.reading import compared, whole
from crowdselect.types import Float32Array, FloatArray, IntArray

_AT_ONCE = 1 << 26  # cosines held at a time: 256 MB


def rds(*, examples: str) -> Method:
    """Choose the rows nearest to a few examples of what the student should do.

    The examples take rows in turn, in an order by a seeded hash of their texts: each takes the row that is nearest to it
    and not taken yet (`in_turn`), in each cluster for itself. Near is a high cosine of vectors, by the embedder of the
    options. `score` is minus the turn in which the row was taken, from 1; rows that are not taken come after all others,
    those nearest to some example first.

    The columns `example` and `similarity` of the selection name the example that took a row, and the cosine between the two;
    for a row that none took, the nearest example. With `embedder=hidden:MODEL` and examples that have answers, whole rows are
    compared, instruction and answer to train on, as in the paper; otherwise the instructions alone. A row that shares text
    with an example, by the rules of `decontaminate`, is barred.

    Args:
        examples: A file of examples; see `crowdselect.selection.examples.read_examples`.

    Example:
        >>> rds(examples="dev.jsonl").settings["examples"]
        'dev.jsonl'
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        if seen.known.blank.all():
            raise InputError(
                f"{seen.shards.pool.path}: no instruction has text, so there is nothing to compare with the examples of {examples}"
            )
        return Scored(np.zeros(len(seen.eligible)))

    def arrange(seen: Seen, _score: FloatArray, grouping: Grouping) -> Scored:
        if grouping.vectors is None:
            raise ShapeError("the rows were grouped without vectors")
        in_order = _in_order(seen.known.examples, seed=seen.options.seed)
        of = compared(seen.known, seen.options)
        texts = [
            one.text if of == "instruction" or one.answer is None else whole(one.text, one.answer)
            for one in in_order
        ]
        found = _taken(seen, grouping, grouping.vectors, texts)
        names = np.array([None, *(one.name for one in in_order)], dtype=object)
        example = with_duplicates(seen, found.example.astype(np.float64)).astype(np.int64)
        columns = {"example": names[example + 1], "similarity": with_duplicates(seen, found.cosine)}
        return Scored(
            with_duplicates(seen, found.score),
            notes=_notes(len(texts), seen.options.budget, of=of),
            columns=columns,
        )

    return Method(
        name="rds",
        arguments={"examples": examples},
        score=score,
        arrange=arrange,
        vectors=True,
        examples=examples,
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """Which example took each row, or is nearest to it; shape (N,) each."""

    score: FloatArray
    example: IntArray
    """-1 = the row represents no text."""
    cosine: FloatArray


def _in_order(examples: Sequence[Example], *, seed: int) -> list[Example]:
    """Put examples in the order of their turns, whatever the order of the file."""
    hashes = seeded_hash([whole(one.text, one.answer or "") for one in examples], seed=seed, salt="example")
    return [examples[place] for place in np.argsort(hashes, kind="stable")]


def _taken(seen: Seen, grouping: Grouping, vectors: UnitVectors, texts: Sequence[str]) -> _Taken:
    """Let examples take rows, in each cluster for itself, holding the cosines with a block of the examples at a time."""
    rows = np.flatnonzero(first_of_groups(seen))
    labels, keys, wanted = grouping.cells[rows], seen.keys[rows], depths(seen, grouping)
    members = {label: np.flatnonzero(labels == label) for label in wanted}
    nearest: dict[int, list[IntArray]] = {label: [] for label in wanted}
    near: dict[int, list[Float32Array]] = {label: [] for label in wanted}
    example, cosine = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), -np.inf)
    step = max(1, _AT_ONCE // len(rows))
    for begin in range(0, len(texts), step):
        cosines = vectors.cosines(rows, texts[begin : begin + step])
        best = cosines.argmax(axis=1)  # of equal ones the first
        better = cosines[np.arange(len(rows)), best] > cosine
        example[better], cosine[better] = begin + best[better], cosines[better, best[better]]
        for label, own in members.items():
            for of_one in cosines[own].T:
                places = nearest_first(of_one, keys[own], count=wanted[label])
                nearest[label].append(places.astype(np.int32))
                near[label].append(of_one[places])
    score = cosine - 2.0 - max(wanted.values())  # after all turns
    for label, own in members.items():
        taken, by, places = in_turn(nearest[label], rows=len(own), count=wanted[label])
        score[own[taken]], example[own[taken]] = -np.arange(1.0, len(taken) + 1), by
        cosine[own[taken]] = [near[label][one][place] for one, place in zip(by, places, strict=True)]
    n = len(seen.eligible)
    out = _Taken(np.zeros(n), np.full(n, -1), np.full(n, np.nan))
    out.score[rows], out.example[rows], out.cosine[rows] = score, example, cosine
    return out


def _notes(count: int, budget: int, *, of: str) -> tuple[str, ...]:
    """Write what was compared, for people.

    Example:
        >>> _notes(1, 10, of="prompt"), _notes(3, 10, of="prompt")
        (('rds: the instruction is compared with 1 example',), ('rds: the instruction is compared with each of 3 examples',))
    """
    what = "instruction and answer are" if of == "whole" else "the instruction is"
    notes = [f"rds: {what} compared with {'1 example' if count == 1 else f'each of {count:,} examples'}"]
    if budget < count:
        notes.append(
            f"rds: {count - budget:,} of {count:,} examples take no row, as `budget` is {budget:,}; raise it, or give fewer examples"
        )
    return tuple(notes)
