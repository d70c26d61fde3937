"""What decides who is chosen: a method gives every eligible row a score. CrowdSelect is one, each baseline another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from crowdselect.numeric.quotas import check_budget
from crowdselect.numeric.ranks import combine, uniform_ranks
from crowdselect.numeric.responses import Answers
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress
from crowdselect.seeding import UInt64Array
from crowdselect.selection.clusters import Grouping
from crowdselect.selection.eligibility import ELIGIBLE, tally
from crowdselect.selection.eligible import left_out
from crowdselect.selection.options import Options
from crowdselect.selection.rows import Measured
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a method may look at; row i of every array is instruction i."""

    pool: Pool
    options: Options
    measured: Measured
    answers: Answers
    texts: ObjectArray
    """The instructions, shape (N,); None = no text. Empty where the pool is read file by file."""
    eligible: BoolArray
    """Which rows may be chosen, shape (N,)."""
    hashes: UInt64Array
    """Shape (N,): content hash of each id."""
    keys: UInt64Array
    """Shape (N,): orders equal scores."""
    groups: IntArray
    """Shape (N,): rows with the same number have the same text."""
    ranks: Mapping[str, FloatArray] = field(init=False)
    """Uniform ranks of the metrics over the eligible rows, shape (N,) each."""

    def __post_init__(self) -> None:
        ranks = {name: uniform_ranks(values, self.eligible) for name, values in self.measured.metrics.items()}
        object.__setattr__(self, "ranks", ranks)


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
    by_file: bool = False
    """It needs neither texts nor columns of the whole pool, so a large one may be read file by file."""


def _weighted_ranks(seen: Seen, _progress: Progress) -> Scored:
    return Scored(combine(seen.ranks, seen.options.weights))


CROWD = Method(settings={"method": "crowdselect"}, score=_weighted_ranks, weighted=True, by_file=True)
"""The method of the paper: weighted uniform ranks of the metrics."""


def score_rows(
    method: Method, seen: Seen, reasons: ObjectArray, progress: Progress
) -> tuple[Scored, Seen, ObjectArray]:
    """Have a method score the eligible rows; those that it has no score for are not eligible any more.

    Args:
        method: What gives the score.
        seen: What it may look at.
        reasons: Why each row is not eligible, shape (N,); `ELIGIBLE` for the others.
        progress: Told how far it is.

    Returns:
        The score, and `seen` and `reasons` as they are then.

    Raises:
        BudgetError: Too few rows are left.
    """
    scored = method.score(seen, progress)
    if scored.left_out:
        reasons = left_out(reasons, scored.left_out)
        check_rows(seen.options, reasons, seen.groups)
        seen = replace(seen, eligible=reasons == ELIGIBLE)
    return scored, seen, reasons


def check_rows(options: Options, reasons: ObjectArray, groups: IntArray) -> None:
    """Refuse a budget that the eligible rows cannot fill; see `crowdselect.numeric.quotas.check_budget`."""
    eligible = reasons == ELIGIBLE
    barred = tally(reasons) if eligible.sum() < options.budget else ""
    check_budget(options.budget, eligible=eligible, groups=groups, barred=barred)
