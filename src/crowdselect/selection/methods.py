"""Methods score every eligible row, which decides what is chosen: CrowdSelect is one, each baseline another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

import numpy as np

from crowdselect.numeric.metrics import METRICS
from crowdselect.numeric.quotas import Choice, check_budget, choose, levels, owners_of
from crowdselect.numeric.ranks import combine, uniform_ranks
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress
from crowdselect.seeding import UInt64Array, reseeded
from crowdselect.selection.clusters import Grouping, group, lookahead
from crowdselect.selection.eligible import ELIGIBLE, format_lines, id_doubt, left_out, tally
from crowdselect.selection.numbers import as_numbers
from crowdselect.selection.options import Options
from crowdselect.selection.reading import (
    AT_ONCE,
    Function,
    Of,
    Shards,
    cluster_column,
    embeddable,
    mapped,
    quota_strata,
)
from crowdselect.selection.rows import Rows
from crowdselect.selection.telling import unrewarded_lines
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

Need = Literal["instruction", "answer"]
"""The texts that a method may need of the eligible rows: the instruction, the answer to train on."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a method can see; row i of every array is instruction i. It reads the pool through the methods below."""

    shards: Shards
    """How the pool is read; methods do not use it themselves."""
    known: Rows
    """What is known of every row: metrics, answers, hashes, groups."""
    options: Options
    eligible: BoolArray
    """Which rows may be chosen, shape (N,)."""

    @cached_property
    def keys(self) -> UInt64Array:
        """Tie-break of equal scores, shape (N,); lower = earlier."""
        return reseeded(self.known.hashes, seed=self.options.seed, salt="tie")

    @cached_property
    def ranks(self) -> Mapping[str, FloatArray]:
        """Uniform ranks of the metrics over the eligible rows, shape (N,) each."""
        return {name: uniform_ranks(values, self.eligible) for name, values in self.known.metrics.items()}

    @property
    def rows(self) -> IntArray:
        """The eligible rows, ascending."""
        return np.flatnonzero(self.eligible)

    def column(self, name: str) -> ObjectArray:
        """Read one value per row, as text.

        Args:
            name: A column of the pool.

        Returns:
            Shape (N,), of str; None where missing.

        Raises:
            InputError: There is no such column, or its values differ within an id.
        """
        return self.known.column(name, self.shards.pool)

    def numbers(self, name: str) -> FloatArray:
        """Read one number per row: from the file of `Options.metrics`, else a reward of the answer to train on, else a column.

        Args:
            name: A column of the `metrics` file, a reward column, or a column of the pool.

        Returns:
            Shape (N,). NaN = missing.

        Raises:
            InputError: There is no such column, or a value is not a finite number.
        """
        if name in self.known.metrics and name not in METRICS:
            return self.known.metrics[name]
        if name in self.known.rewards:
            return self.known.rewards[name]
        return as_numbers(self.column(name), where=lambda row: self.where(row, name))

    def where(self, row: int, name: str) -> str:
        """Name a value of a column in messages: pool, column and id."""
        return f"{self.shards.pool.path}: {name} of id {self.known.ids[row]!r}"

    def map(self, function: Function, *, of: Of, progress: Progress, size: int = AT_ONCE) -> FloatArray:
        """Apply a function to the eligible rows in batches, wherever they are read.

        Args:
            function: Takes at most `size` items of the kind `of`, returns a number for each; see `Function`.
            of: "instruction" or "answer", texts; "both", `Answered`.
            progress: Called with the number of rows done.
            size: Rows per batch.

        Returns:
            Shape (N,). NaN for rows that are not eligible, or where the function returns it.

        Raises:
            OptionError: Answers are needed, and the pool has no column for them.
        """
        rows, done = self.rows, 0
        out = np.full(len(self.eligible), np.nan)
        read = mapped(function, rows, shards=self.shards, known=self.known, of=of, size=size)
        for batch, numbers in read:
            out[batch] = numbers
            done += len(batch)
            progress(done, len(rows))
        return out


@dataclass(frozen=True, slots=True)
class Scored:
    """A method's score of every row."""

    score: FloatArray
    """Shape (N,). Higher = chosen earlier; the values of rows that are not eligible mean nothing."""
    left_out: Mapping[str, BoolArray] = field(default_factory=dict)
    """Rows that the method has no score for, by the reason in words."""
    chance: FloatArray | None = None
    """The weight of each row in a draw, shape (N,), at least 0; None = rows are not drawn by weights."""
    notes: tuple[str, ...] = ()
    """One-line facts to tell the user."""
    columns: Mapping[str, ObjectArray] = field(default_factory=dict)
    """Further columns of `selection.parquet`, shape (N,) each: numbers, NaN = none, or texts, None = none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to score rows; everything else of a selection is the same for all of them.

    Example:
        >>> Method(name="last", score=lambda seen, progress: Scored(seen.numbers("place"))).settings["method"]
        'last'
    """

    name: str
    score: Callable[[Seen, Progress], Scored]
    """Scores the rows, before clustering."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments, plain values for the manifest."""
    arrange: Callable[[Seen, FloatArray, Grouping], Scored] | None = None
    """Turns that score into one that uses clusters and vectors, for methods whose next row depends on those before."""
    weighted: bool = False
    """The score is made of the metrics: rows that lack one with a weight are not eligible."""
    vectors: bool = False
    """`arrange` needs vectors."""
    examples: str | None = None
    """A file of examples that `arrange` compares rows with, by their vectors; rows that share text with one are barred."""
    needs: frozenset[Need] = frozenset()
    """Texts that `score` reads of the eligible rows."""
    known: Callable[[Seen, Progress], int | None] | None = None
    """Counts the eligible rows whose score needs no model any more, without loading it (None: it is not on this machine); None = no model is run."""
    rewards: bool = False
    """`score` reads rewards, so a pool without any is refused."""
    good: bool = False
    """`score` reads what is good of the crowd's answers, see `Rows.reach`."""
    student: bool = False
    """It needs a student: `score` reads what the student should be able to do, and what it does."""
    columns: tuple[str, ...] = ()
    """What `score` reads of every row by name: columns of the pool, rewards, or columns of the `metrics` file."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the manifest holds besides the options: `method`, its arguments, and weights of 0 if it has no weights."""
        unweighted = {} if self.weighted else {"weights": dict.fromkeys(METRICS, 0.0)}
        return {"method": self.name, **self.arguments, **unweighted}

    @property
    def needs_the_whole(self) -> str | None:
        """Why a pool cannot be read file by file for this method; None if it can."""
        compares = self.examples is not None  # with a few vectors, which needs no others
        return f"{self.name} needs the vectors of all rows" if self.vectors and not compares else None


def _weighted_ranks(seen: Seen, _progress: Progress) -> Scored:
    return Scored(combine(seen.ranks, seen.options.weights))


CROWD = Method(name="crowdselect", score=_weighted_ranks, weighted=True)
"""The method of the paper: weighted uniform ranks of the metrics."""


OF_STUDENT = "teachable"
"""The method where a student is named and no method: the rule that was written before the runs chose it (docs/evidence.md)."""


def default_method(options: Options) -> Method:
    """Return the method where none is named."""
    if not options.the_student.named:
        return CROWD
    registry = import_module("crowdselect.methods")  # it stands above this package
    method: Method = registry.method_named(OF_STUDENT)
    return method


def method_of(options: Mapping[str, Any]) -> str:
    """Return the name of a selection's method; older folders do not state it, as there was only one.

    Example:
        >>> method_of({}), method_of({"method": "random"})
        ('crowdselect', 'random')
    """
    return str(options.get("method", CROWD.name))


def is_weighted(options: Mapping[str, Any]) -> bool:
    """Tell whether the score of a selection was made of the metrics: then some weight is not 0.

    Example:
        >>> is_weighted({"weights": {"stability": 2.0}}), is_weighted({"method": "random", "weights": {"stability": 0.0}})
        (True, False)
    """
    return any((options.get("weights") or {}).values())


def scored_rows(
    method: Method, seen: Seen, reasons: ObjectArray, progress: Progress
) -> tuple[Scored, Seen, ObjectArray]:
    """Score the eligible rows with a method; rows without a score are no longer eligible.

    Args:
        method: The method.
        seen: What it can see.
        reasons: Why each row is not eligible, shape (N,); `ELIGIBLE` for the others.
        progress: Called with the number of rows done.

    Returns:
        The score, and the updated `seen` and `reasons`.

    Raises:
        BudgetError: Too few rows are left.
    """
    scored = method.score(seen, progress)
    if scored.left_out:
        reasons = left_out(reasons, scored.left_out)
        check_rows(seen.options, reasons, seen.known, seen.shards.pool)
        seen = replace(seen, eligible=reasons == ELIGIBLE)
    return scored, seen, reasons


def grouped(method: Method, seen: Seen, progress: Progress) -> Grouping:
    """Cluster the eligible rows as the options say; see `crowdselect.selection.clusters.group`."""
    shards, rows, options, eligible = seen.shards, seen.known, seen.options, seen.eligible
    return group(
        embeddable(shards, rows, options, eligible),
        eligible,
        rows.hashes,
        options,
        progress,
        column=cluster_column(shards, rows, options, eligible),
        strata=quota_strata(rows, options, eligible),
        vectors=method.vectors,
    )


def arranged(method: Method, seen: Seen, scored: Scored, grouping: Grouping) -> Scored:
    """Compute a method's final score, which may use the clusters; NaN for rows that are not eligible."""
    final = method.arrange(seen, scored.score, grouping) if method.arrange else Scored(scored.score)
    return replace(final, score=np.where(seen.eligible, final.score, np.nan))


def choice_of(seen: Seen, score: FloatArray, grouping: Grouping) -> Choice:
    """Choose rows by a score; see `crowdselect.numeric.quotas.choose`."""
    options = seen.options
    return choose(
        score,
        labels=grouping.cells,
        keys=seen.keys,
        groups=seen.known.groups,
        budget=options.budget,
        strata=grouping.strata,
        vectors=lookahead(grouping, score, seen.keys, options),
        near_duplicates=options.near_duplicates,
    )


def check_rows(options: Options, reasons: ObjectArray, rows: Rows, pool: Pool) -> None:
    """Refuse a budget that the eligible rows cannot fill; see `crowdselect.numeric.quotas.check_budget`."""
    eligible = reasons == ELIGIBLE
    barred = tally(reasons) if eligible.sum() < options.budget else ""
    if barred:
        repeated = len(rows) - len(np.unique(rows.groups))
        doubt = id_doubt(pool, most=int(rows.n_rewards.max(initial=0)), repeated=repeated)
        lines = (*unrewarded_lines(rows, reasons, options), *format_lines(reasons, rows, options), doubt)
        barred += "".join(f"; {line}" for line in lines if line)
    check_budget(options.budget, eligible=eligible, groups=rows.groups, barred=barred)


def first_of_groups(seen: Seen) -> BoolArray:
    """Mark, among eligible rows with the same text, the one with the smallest key: the one that wins ties.

    Returns:
        Shape (N,).
    """
    rows = seen.rows
    order = rows[np.argsort(seen.keys[rows], kind="stable")]
    _, first = np.unique(seen.known.groups[order], return_index=True)
    out = np.zeros(len(seen.eligible), dtype=bool)
    out[order[first]] = True
    return out


def with_duplicates(seen: Seen, score: FloatArray) -> FloatArray:
    """Copy to every duplicate the score of the row that represents its text, which then wins the tie.

    Args:
        seen: Knows which rows have the same text.
        score: Shape (N,); the scores of `first_of_groups` count.

    Returns:
        Shape (N,).
    """
    out = score.copy()
    firsts = np.flatnonzero(first_of_groups(seen))
    of_group = dict(zip(seen.known.groups[firsts].tolist(), score[firsts].tolist(), strict=True))
    for row in np.setdiff1d(seen.rows, firsts):
        out[row] = of_group[int(seen.known.groups[row])]
    return out


def depths(seen: Seen, grouping: Grouping) -> dict[int, int]:
    """Compute how many rows the choice may take from each cluster, of each stratum, by its number in `Grouping.cells`."""
    rows = np.flatnonzero(first_of_groups(seen))
    numbers, first, counts = np.unique(grouping.cells[rows], return_index=True, return_counts=True)
    capacities = counts.tolist()
    owners, weights = owners_of(rows[first].tolist(), capacities, grouping.strata)
    found = levels(capacities, owners, min(seen.options.budget, len(rows)), weights)
    return {
        int(number): min(capacity, level + (left > 0))
        for number, capacity, (level, left) in zip(numbers, capacities, found, strict=True)
    }
