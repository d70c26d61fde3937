"""Tags of instructions, and InsTag's selection loop: each row taken must add a new tag."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.progress import Progress
from crowdselect.selection.clusters import Grouping
from crowdselect.selection.methods import Method, Scored, Seen, depths, first_of_groups, with_duplicates
from crowdselect.types import FloatArray


def by_tags(*, column: str) -> Method:
    """Many tags first, and each next row must add one: InsTag's complexity-first diverse sampling.

    Lu et al. 2023 (arXiv 2308.07074), algorithm 1: rows in order of their number of tags; a row is taken if it
    adds a tag that none taken in this round has; when none adds any more, a new round begins. `score` is the
    number of tags, less (most tags + 1) for every round before the row's own. With clusters, each has
    rounds of its own.

    Args:
        column: A column of the pool: lists of tags (or of objects with `tag`), or tags separated by commas.
    """
    found: list[frozenset[str]] = []

    def score(seen: Seen, _progress: Progress) -> Scored:
        found[:] = [
            read_tags(value, where=seen.where(row, column)) for row, value in enumerate(seen.column(column))
        ]
        counts = np.array([len(tags) for tags in found], dtype=np.float64)
        return Scored(counts, {"no tags": counts == 0})

    def arrange(seen: Seen, counts: FloatArray, grouping: Grouping) -> Scored:
        out = counts.copy()
        for label, depth in depths(seen, grouping).items():
            rows = np.flatnonzero(first_of_groups(seen) & (grouping.labels == label))
            order = rows[np.lexsort((seen.keys[rows], -counts[rows]))]
            own = rounds([found[row] for row in order], depth=depth)
            out[order] -= own * (counts[rows].max(initial=0.0) + 1)
        return Scored(with_duplicates(seen, out))

    return Method(
        name="tags",
        arguments={"column": column},
        score=score,
        arrange=arrange,
        columns=(column,),
    )


def read_tags(value: str | None, *, where: str) -> frozenset[str]:
    """Read the tags of one row.

    Args:
        value: A JSON list of texts, or of objects with `tag` (InsTag's own form); or texts separated by commas.
        where: What the row is, for messages.

    Returns:
        The different tags, without case; none where the value is missing.

    Raises:
        InputError: A list that is no JSON, or holds something else.

    Example:
        >>> sorted(read_tags("Maths, maths,code", where="row 1"))
        ['code', 'maths']
    """
    if value is None:
        return frozenset()
    if not value.lstrip().startswith("["):
        return folded(value.split(","))
    try:
        listed: list[Any] = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is {value[:80]!r}; wanted a list of tags") from error
    tags = [tag.get("tag") if isinstance(tag, dict) else tag for tag in listed]
    if not all(isinstance(tag, str) for tag in tags):
        raise InputError(
            f"{where} is {value[:80]!r}; wanted a list of texts, or of objects with a text `tag`"
        )
    return folded(str(tag) for tag in tags)


def folded(tags: Iterable[str]) -> frozenset[str]:
    """Fold away what does not make another tag: case and white space around it.

    Example:
        >>> folded([" Maths", "maths", ""])
        frozenset({'maths'})
    """
    return frozenset(tag.strip().casefold() for tag in tags) - {""}


def rounds(tags: Sequence[frozenset[str]], *, depth: int) -> NDArray[np.float64]:
    """Walk down rows, taking those that add a tag; where none does any more, begin a new round.

    Args:
        tags: Of each of n rows, in the order of the walk; none is empty.
        depth: Stop when so many are taken, at the end of the round.

    Returns:
        Shape (n,): the round, from 0, in which each row is taken; the one after the last for those not reached.

    Example:
        >>> rounds([frozenset("ab"), frozenset("a"), frozenset("c")], depth=3).tolist()
        [0.0, 1.0, 0.0]
    """
    out = np.full(len(tags), -1.0)
    left, now, taken = list(range(len(tags))), 0, 0
    while left and taken < depth:
        covered: set[str] = set()
        passed = []
        for place in left:
            if tags[place] <= covered:
                passed.append(place)
            else:
                covered |= tags[place]
                out[place] = now
                taken += 1
        left, now = passed, now + 1
    out[out < 0] = now
    return out
