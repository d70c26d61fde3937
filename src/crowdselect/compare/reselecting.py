"""Make one selection again with something changed: what all its variants share, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.embed.texts import silent
from crowdselect.errors import OptionError, ShapeError
from crowdselect.numeric.clusters import group_labels, kmeans
from crowdselect.numeric.irt import items_of
from crowdselect.numeric.metrics import by_family, compute_metrics
from crowdselect.numeric.quotas import Choice
from crowdselect.pool.pool import Pool
from crowdselect.seeding import reseeded
from crowdselect.selection.clusters import Grouping, group
from crowdselect.selection.eligible import ELIGIBLE, Lists, bars, lists
from crowdselect.selection.look import look_at
from crowdselect.selection.matrix import Matrix, answers_of, checked_metrics
from crowdselect.selection.measure import Lengths, matrix_of
from crowdselect.selection.methods import Method, Seen, arranged, choice_of
from crowdselect.selection.numbers import (
    Measured,
    check_marks,
    depends_on_all,
    item_numbers,
    parted,
    rests_on_full_marks,
    rests_on_items,
)
from crowdselect.selection.options import BEST_STUDENT, Options, wants_vectors
from crowdselect.selection.own_answers import OwnAnswers
from crowdselect.selection.reaching import goods_of
from crowdselect.selection.reading import (
    Shards,
    cluster_column,
    embeddable,
    number_of_bins,
    quota_strata,
)
from crowdselect.selection.rows import Rows, check_usable, weights_without
from crowdselect.selection.student import Reach, reach_of
from crowdselect.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class Reselecting:
    """What all variants of a selection share."""

    shards: Shards
    rows: Rows
    method: Method
    options: Options
    own: OwnAnswers | None
    """The student's answers, where they are in a pool of their own."""
    listed: Lists
    eligible: BoolArray
    grouping: Grouping
    vectors: NDArray[np.float32] | None
    """Vectors of the eligible rows; None if there are none."""
    lengths: Lengths
    """How long answers are, for a number of that name."""

    @property
    def matrix(self) -> Matrix:
        """The score matrix with its targets and picks."""
        if self.rows.matrix is None:
            raise ShapeError("the rows were looked at without their matrix")
        return self.rows.matrix

    def choose(
        self, *, options: Options | None = None, rows: Rows | None = None, labels: NDArray[Any] | None = None
    ) -> BoolArray:
        """Select with some inputs replaced; return which rows are chosen, shape (N,)."""
        return self.choice(options=options, rows=rows, labels=labels).rank > 0

    def strata_of(self, choice: Choice) -> tuple[tuple[int, int], ...]:
        """Count the chosen and the eligible rows of each stratum, duplicates once; none without a quota."""
        strata = self.grouping.strata
        if strata is None:
            return ()
        own = np.flatnonzero(self.eligible & (choice.duplicate_of < 0))
        return tuple(zip(strata.sizes(np.flatnonzero(choice.rank > 0)), strata.sizes(own), strict=True))

    def choice(
        self, *, options: Options | None = None, rows: Rows | None = None, labels: NDArray[Any] | None = None
    ) -> Choice:
        """Do the same; return the whole choice."""
        options, eligible = options or self.options, self.eligible
        if rows is not None:
            reasons = bars(rows, self.listed, options, weighted=self.method.weighted)
            eligible = eligible & (reasons == ELIGIBLE)
        seen = Seen(shards=self.shards, known=rows or self.rows, options=options, eligible=eligible)
        scored = self.method.score(seen, silent)
        for left_out in scored.left_out.values():
            seen = replace(seen, eligible=seen.eligible & ~left_out)
        labels = self._bins(seen) if labels is None else labels
        grouping = self.grouping if labels is None else replace(self.grouping, labels=labels)
        score = arranged(self.method, seen, scored, grouping).score
        return choice_of(seen, score, grouping)

    def _bins(self, seen: Seen) -> NDArray[np.int64] | None:
        """Make the bins of `cluster_by` of the rows as they are now; None where clusters are no bins of a number."""
        if number_of_bins(self.options, self.shards.pool) is None:
            return None
        column = cluster_column(self.shards, seen.known, self.options, seen.eligible)
        labels = np.zeros(len(seen.eligible), dtype=np.int64)
        if column is not None:
            labels[seen.rows], _ = group_labels(column[seen.rows])
        return labels

    def of_matrix(
        self,
        matrix: Matrix,
        crowd: Crowd,
        reach: Reach | None,
        *,
        whole: Matrix,
        reward: str | None = None,
    ) -> Rows:
        """Return the rows with metrics and numbers of another matrix; numbers from a file stay as they are.

        Args:
            matrix: Its columns are the members of `crowd`.
            crowd: Models of the pool, some of them left out or repeated.
            reach: What that crowd and the student can do.
            whole: A column for each model of the whole crowd: numbers of a named model do not depend on the crowd.
            reward: Its reward column; None = the selection's own.
        """
        metrics = compute_metrics(
            matrix.scores,
            sizes=crowd.sizes,
            families=crowd.families,
            ties=self.options.ties,
            spread=matrix.spread,
        )
        rewarded = ~np.isnan(matrix.scores)
        rows = replace(
            self.rows,
            metrics={name: metrics.get(name, values) for name, values in self.rows.metrics.items()},
            n_rewards=np.asarray(rewarded.sum(axis=1), dtype=np.int64),
            per_model=np.asarray(rewarded.sum(axis=0), dtype=np.int64),
            crowd=crowd,
        )
        if self.method.weighted:
            _check_order(rows, self.options.weights)
        look, names = rows.look, tuple(crowd.names)
        answers = answers_of(
            matrix,
            hashes=rows.hashes,
            models=names,
            options=self.options,
            rewarded=look is None or look.sample_reward is not None,
        )
        if rows.joined is not None and self.options.pairs == BEST_STUDENT:
            named = reward or (None if look is None else look.reward)
            answers = rows.joined.rejected(answers, named, self.options, model=len(crowd.names))
        return self._with_numbers(replace(rows, answers=answers, reach=reach), matrix, whole=whole)

    def _with_numbers(self, rows: Rows, matrix: Matrix, *, whole: Matrix) -> Rows:
        """Return the rows with their numbers made anew; see `of_matrix`."""
        names = tuple(rows.crowd.names)
        of_crowd, of_models = (
            Measured(
                answers=rows.answers,
                scores=each.scores,
                passes=each.passes,
                lengths=lambda: self.lengths.of(rows.answers, np.arange(len(rows)), models=names),
                models=models,
                agreement=None if rows.agreement is None else rows.agreement.rows,
            )
            for each, models in ((matrix, names), (whole, tuple(self.rows.crowd.names)))
        )
        new = {
            name: (of_crowd if parted(name)[1] is None else of_models).number(name)
            for name in rows.numbers
            if not depends_on_all(name)
        }
        new |= {} if rows.reach is None else rows.reach.numbers
        if any(map(rests_on_items, rows.numbers)):
            new |= item_numbers(rows.numbers, items_of(matrix.scores))
        weighted = {name: new[name] for name in rows.metrics if name in new}
        return replace(rows, metrics={**rows.metrics, **weighted}, numbers=new)

    def reach_of(
        self,
        good: FloatArray | None,
        *,
        seed: int | None = None,
        **changed: Any,  # noqa: ANN401  (as they are)
    ) -> Reach | None:
        """Compute what another crowd can do and the student should; None where that does not count.

        Args:
            good: Share of each model's answers that are good, shape (N, M).
            seed: Of the folds; None = that of the options.
            changed: `cut`, `share` or `student_good`, if they are others.
        """
        known = self.rows.reach
        if known is None:
            return None
        given = {name: getattr(known, name) for name in ("cut", "share", "student_good")} | changed
        return reach_of(
            np.full_like(self.matrix.scores, np.nan) if good is None else good,  # all rewards are equal
            given["student_good"],
            cut=given["cut"],
            share=given["share"],
            student=known.student,
            hashes=self.rows.hashes,
            seed=self.options.seed if seed is None else seed,
        )

    def crowd_of(self, columns: Sequence[int]) -> BoolArray:
        """Select with another crowd, in which models may be left out or repeated."""
        crowd, whole = Crowd(tuple(self.rows.crowd.members[j] for j in columns)), self.matrix
        matrix = whole.columns(columns, np.asfortranarray(whole.scores[:, columns]))
        return self.choose(rows=self.of_matrix(matrix, crowd, self.reach_of(matrix.good), whole=whole))

    def cells_of(self, kept: BoolArray) -> BoolArray:
        """Select with the answers of some cells alone, shape (N, M)."""
        matrix = self.matrix.cells(kept)
        return self.choose(
            rows=self.of_matrix(matrix, self.rows.crowd, self.reach_of(matrix.good), whole=self.matrix)
        )

    def reward_of(self, column: str) -> BoolArray:
        """Select by another reward column."""
        pool, look = self.shards.pool, self.rows.look
        if look is None:
            raise ShapeError("the rows were looked at without their matrix")
        look, reach = replace(look, reward=column, sample_reward=column), self.rows.reach
        changed: dict[str, Any] = {}
        if reach is not None:
            goods = goods_of(self.shards, look, reach.student, self.own, reward=column)
            look, changed = replace(look, cut=goods.cut), {"cut": goods.cut, "share": goods.share}
        matrix = matrix_of(pool, look)
        checked_metrics(matrix.scores, self.rows.crowd, ties=look.ties, ids=pool.ids, path=pool.path)
        if reach is not None and look.cut is not None:
            if self.rows.joined is not None:
                changed["student_good"] = self.rows.joined.good(column, look.cut)
            elif reach.student.column is None:
                changed["student_good"] = matrix.student_good
        for name in filter(rests_on_full_marks, self.rows.numbers):
            check_marks(name, column, matrix.marks)
        reach = self.reach_of(matrix.good, **changed)
        return self.choose(rows=self.of_matrix(matrix, self.rows.crowd, reach, whole=matrix, reward=column))

    def weighted(self, weights: Mapping[str, float]) -> BoolArray:
        """Select by other weights; a metric that had no weight before may be undefined in some rows."""
        _check_order(self.rows, weights)
        return self.choose(options=replace(self.options, weights=weights), rows=self.rows)

    def clusters_of(self, k: int, *, seed: int) -> BoolArray:
        """Select with other clusters of the same vectors, or with none."""
        labels, rows = np.zeros(len(self.rows), dtype=np.int64), np.flatnonzero(self.eligible)
        if k and self.vectors is not None:
            if k > len(rows):
                raise OptionError(f"{k} clusters are more than the {len(rows)} eligible instructions")
            keys = reseeded(self.rows.hashes[rows], seed=seed, salt="sample")
            labels[rows] = kmeans(self.vectors, k=k, keys=keys, seed=seed)
        keep = self.options.cluster_by is not None and k > 0
        known = None
        if seed != self.options.seed and self.rows.reach is not None:  # its folds are others
            redrawn = replace(self.rows, reach=self.reach_of(self.matrix.good, seed=seed))
            known = self._with_numbers(redrawn, self.matrix, whole=self.matrix)
        return self.choose(
            options=replace(self.options, seed=seed), rows=known, labels=None if keep else labels
        )


def reselecting(
    pool: Pool, options: Options, crowd: Crowd | None, method: Method, own: OwnAnswers | None
) -> Reselecting:
    """Read the pool once, as `crowdselect.selection.run.select` does, keeping its matrix and vectors."""
    shards, rows = look_at(pool, options=options, crowd=crowd, method=method, keep=True, own=own)
    if method.weighted:
        check_usable(rows, options.weights)
    listed = lists(rows.ids, options)
    reasons = bars(rows, listed, options, weighted=method.weighted)
    eligible = np.asarray(reasons == ELIGIBLE, dtype=np.bool_)
    grouping = group(
        embeddable(shards, rows, options, eligible),
        eligible,
        rows.hashes,
        options,
        silent,
        column=cluster_column(shards, rows, options, eligible),
        strata=quota_strata(rows, options, eligible),
        vectors=wants_vectors(options),
    )
    at = np.flatnonzero(eligible)
    vectors = None if grouping.vectors is None else grouping.vectors.raw(at)
    return Reselecting(shards, rows, method, options, own, listed, eligible, grouping, vectors, Lengths(pool))


def _check_order(rows: Rows, weights: Mapping[str, float]) -> None:
    for name in () if rows.families else by_family(weights):
        raise OptionError(
            f"no model family has two sizes, so {name} is undefined; leave it out with {weights_without(name, weights)}"
        )
