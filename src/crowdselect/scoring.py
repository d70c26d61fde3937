"""What decides who is chosen: a method gives every eligible row a score. CrowdSelect is one, each baseline another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.combine import combine
from crowdselect.grouping import Grouping
from crowdselect.measure import Measured
from crowdselect.options import Options
from crowdselect.ordering import UInt64Array
from crowdselect.pool import Pool
from crowdselect.responses import Answers
from crowdselect.stages import Progress

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
ObjectArray = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a method may look at; row i of every array is instruction i."""

    pool: Pool
    options: Options
    measured: Measured
    answers: Answers
    texts: ObjectArray
    """The instructions, shape (N,); None = no text."""
    eligible: BoolArray
    """Which rows may be chosen, shape (N,)."""
    ranks: Mapping[str, FloatArray]
    """Uniform ranks of the metrics over the eligible rows, shape (N,) each."""
    keys: UInt64Array
    """Shape (N,): orders equal scores."""
    groups: IntArray
    """Shape (N,): rows with the same number have the same text."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A method's score of every row."""

    score: FloatArray
    """Shape (N,). Higher = chosen earlier; what it holds for rows that are not eligible says nothing."""
    left_out: Mapping[str, BoolArray] = field(default_factory=dict)
    """Rows that the method has no score for, by the reason in words."""
    notes: tuple[str, ...] = ()
    """One-line facts to tell the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to score rows; everything else of a selection is the same for all of them."""

    settings: Mapping[str, Any]
    """`method`, its name, and what it was told; stands in the manifest beside the options."""
    score: Callable[[Seen, Progress], Scored]
    """Scores the rows before there are clusters."""
    arrange: Callable[[Seen, FloatArray, Grouping], Scored] | None = None
    """Makes of that score one that knows clusters and vectors, for methods whose next row depends on those before."""
    weighted: bool = False
    """The score is of the metrics: rows that lack one with a weight are not eligible."""
    vectors: bool = False
    """`arrange` needs vectors."""


def _weighted_ranks(seen: Seen, _progress: Progress) -> Scored:
    return Scored(combine(seen.ranks, seen.options.weights))


CROWD = Method(settings={"method": "crowdselect"}, score=_weighted_ranks, weighted=True)
"""The method of the paper: weighted uniform ranks of the metrics."""
