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
    """Choose rows with many tags first, each adding a new one: InsTag's complexity-first diverse sampling.

    Lu et al. 2023 (arXiv 2308.07074), algorithm 1: rows in descending order of their number of tags; a row is taken
    if it adds a tag that none taken in this round has; when no row adds one, a new round begins. `score` is the
    number of tags, minus (most tags + 1) for every round before the row's own. With clusters, each has its own
    rounds.

    Args:
        column: A column of the pool: lists of tags (or of objects with `tag`), or tags separated by commas.
    """
    tags_of_rows: list[frozenset[str]] = []

    def score(seen: Seen, _progress: Progress) -> Scored:
        tags_of_rows[:] = [
            read_tags(value, where=seen.where(row, column)) for row, value in enumerate(seen.column(column))
        ]
        counts = np.array([len(tags) for tags in tags_of_rows], dtype=np.float64)
        return Scored(counts, {"no tags": counts == 0})

    def arrange(seen: Seen, counts: FloatArray, grouping: Grouping) -> Scored:
        out, cells = counts.copy(), grouping.cells
        for label, depth in depths(seen, grouping).items():
            rows = np.flatnonzero(first_of_groups(seen) & (cells == label))
            order = rows[np.lexsort((seen.keys[rows], -counts[rows]))]
            row_rounds = rounds([tags_of_rows[row] for row in order], depth=depth)
            out[order] -= row_rounds * (counts[rows].max(initial=0.0) + 1)
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
        value: A JSON list of texts, or of objects with `tag` (InsTag's own format); or texts separated by commas.
        where: The row and column, for messages.

    Returns:
        The distinct tags, case-folded; none if the value is missing.

    Raises:
        InputError: A list is not valid JSON, or holds something else.

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
    """Normalise tags: case and surrounding white space do not distinguish them.

    Example:
        >>> folded([" Maths", "maths", ""])
        frozenset({'maths'})
    """
    return frozenset(tag.strip().casefold() for tag in tags) - {""}


def rounds(tags: Sequence[frozenset[str]], *, depth: int) -> NDArray[np.float64]:
    """Go down the rows, taking those that add a tag; when no more do, begin a new round.

    Args:
        tags: The tags of each of n rows, in order; none is empty.
        depth: Stop at the end of the round in which this many have been taken.

    Returns:
        Shape (n,): the round, from 0, in which each row is taken; the one after the last for those not reached.

    Example:
        >>> rounds([frozenset("ab"), frozenset("a"), frozenset("c")], depth=3).tolist()
        [0.0, 1.0, 0.0]
    """
    out = np.full(len(tags), -1.0)
    left, current, taken = list(range(len(tags))), 0, 0
    while left and taken < depth:
        covered: set[str] = set()
        skipped = []
        for row in left:
            if tags[row] <= covered:
                skipped.append(row)
            else:
                covered |= tags[row]
                out[row] = current
                taken += 1
        left, current = skipped, current + 1
    out[out < 0] = current
    return out
