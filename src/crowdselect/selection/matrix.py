"""The matrices of a pool or of one of its files, and what follows from them alone: metrics, and whose answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.errors import InputError
from crowdselect.numeric.candidates import Candidates
from crowdselect.numeric.ensembles import Agreement
from crowdselect.numeric.metrics import METRICS, Ties, compute_metrics
from crowdselect.numeric.responses import ChosenAnswers, answers_among, find_answers, fits_of
from crowdselect.pool.batches import Targets
from crowdselect.pool.shards import Ids
from crowdselect.seeding import UInt64Array, reseeded, seeded_hash
from crowdselect.selection.options import Options
from crowdselect.selection.rewards import Ends
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

_NONE = -1


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrices of a shard, which are returned only on request."""

    scores: FloatArray
    """Rewards, shape (N, M). NaN = no reward."""
    targets: Targets
    """Which answers may be trained on: with text and finished (or, in a pool without answers, with a reward)."""
    prompts: IntArray | None = None
    """From `Pool.prompt_codes`, if pairs are made."""
    texts: IntArray | None = None
    """From `Pool.text_codes`, if pairs are made, or several answers of a row."""
    candidates: Candidates | None = None
    """Every sample that may be taken, in a pool with samples."""
    spread: FloatArray | None = None
    """Variance of each model's samples, shape (N, M), NaN = fewer than two; None = the pool has no samples."""
    highest: FloatArray | None = None
    """The highest reward of each model's samples, shape (N, M), NaN = none, where only metrics are wanted; None likewise."""
    passes: FloatArray | None = None
    """Share of each model's answers with full marks, shape (N, M), NaN = no reward; None = not wanted."""
    marks: tuple[float, float] | None = None
    """The lowest and the highest reward of any answer, where pass rates are wanted and there is a reward."""
    ends: Ends = ()
    """The lowest and the highest rewards of any answer."""
    agreement: Agreement | None = None
    """How far the rewards of an ensemble agree."""
    good: FloatArray | None = None
    """Share of each model's answers that are good, shape (N, M), NaN = no reward; None = not wanted."""
    student_good: FloatArray | None = None
    """The same of the student, shape (N,), where it is a model of the pool."""
    empty: IntArray | None = None
    """From `empty_answers`, shape (N, M); None = not wanted."""

    def rows(self, rows: IntArray) -> "Matrix":
        """Take some rows, ascending."""
        found = self.candidates
        student = None if self.student_good is None else self.student_good[rows]
        taken = self._changed(lambda values: values[rows], None if found is None else found.rows_of(rows))
        return replace(taken, student_good=student)

    def columns(self, columns: Sequence[int], scores: FloatArray) -> "Matrix":
        """Take some models, possibly some of them twice, with their own `scores`."""
        found = self.candidates
        student = self.scores.shape[1]  # where pairs are made with it, it comes after the crowd
        own = None if found is None else found.columns_of([*columns, student])
        return replace(self._changed(lambda values: values[:, columns], own), scores=scores)

    def cells(self, kept: BoolArray) -> "Matrix":
        """Leave out the answers of all cells but some, shape (N, M)."""
        crowd = kept.shape[1]

        def changed(values: NDArray[Any]) -> NDArray[Any]:
            if values.dtype.kind in "iu":  # codes, which only tell answers apart
                return values
            whole = np.ones(values.shape, dtype=np.bool_)  # a student comes after the crowd
            whole[:, :crowd] = kept
            return values & whole if values.dtype == np.bool_ else np.where(whole, values, np.nan)

        return self._changed(changed, None if self.candidates is None else self.candidates.of_cells(kept))

    def _changed(
        self, change: Callable[[NDArray[Any]], NDArray[Any]], candidates: Candidates | None
    ) -> "Matrix":
        def changed(values: NDArray[Any] | None) -> Any:  # noqa: ANN401  (as it is given)
            return None if values is None else change(values)

        return Matrix(
            change(self.scores),
            replace(self.targets, usable=change(self.targets.usable), barred=changed(self.targets.barred)),
            changed(self.prompts),
            changed(self.texts),
            candidates,
            changed(self.spread),
            changed(self.highest),
            changed(self.passes),
            self.marks,
            self.ends,
            self.agreement,
            changed(self.good),
            self.student_good,
            changed(self.empty),
        )


def answers_of(
    matrix: Matrix,
    *,
    hashes: UInt64Array,
    models: Sequence[str],
    options: Options | None,
    rewarded: bool = True,
) -> ChosenAnswers:
    """Choose each instruction's answer by the options; without options, the best-rewarded one, with or without text.

    Where the whole pool is not `rewarded`, the only answer to an instruction is its best one.
    """
    names, usable = tuple(models), matrix.targets.usable
    if options is None:
        best_of = matrix.scores if matrix.highest is None else matrix.highest
        return find_answers(
            best_of, usable=usable, hashes=hashes, models=names, answer="best", pairs=False, seed=0
        )
    fits = fits_of(options.answer)  # which takes an answer later, of chosen rows alone
    answer = options.answer if fits is None else "best"
    if answer == "best" and len(names) == 1 and np.isnan(matrix.scores).all():
        answer = f"model:{names[0]}"  # the only answer is the best one, whether it has a reward or not
    alone = not rewarded and answer == "best" and options.pairs is None and options.answers_per_row == 1
    answer = "random" if alone else answer
    of_cells = options.answers_per_row == 1 and options.pairs != "within-model" and fits is None
    if matrix.candidates is None and of_cells:
        answers = find_answers(
            matrix.scores,
            usable=usable,
            hashes=hashes,
            models=names,
            answer=answer,
            pairs=options.pairs is not None,
            seed=options.seed,
            prompts=matrix.prompts,
            texts=matrix.texts,
        )
    else:
        answers = answers_among(
            matrix.candidates or _candidates(matrix, hashes=hashes, models=names, seed=options.seed),
            models=names,
            answer=answer,
            pairs=options.pairs,
            per_row=options.answers_per_row,
            good=None if fits is None else fits.share,
        )
    if alone:
        found = matrix.candidates
        count = usable.sum(axis=1) if found is None else np.bincount(found.row, minlength=found.n)
        sample = None if answers.sample is None else np.where(count == 1, answers.sample, np.nan)
        answers = replace(answers, chosen=np.where(count == 1, answers.chosen, _NONE), sample=sample)
    empty = 0 if matrix.empty is None else int(matrix.empty.sum())
    answers = replace(answers, empty=empty)
    return with_targets(
        answers, matrix.targets, matrix.scores, options=options, models=names, rewarded=not alone
    )


def _candidates(matrix: Matrix, *, hashes: UInt64Array, models: tuple[str, ...], seed: int) -> Candidates:
    """The answers of a pool without samples."""
    return Candidates.of_matrix(
        matrix.scores,
        matrix.targets.usable,
        rows=reseeded(hashes, seed=seed, salt="answer"),
        columns=seeded_hash(models, seed=seed, salt="model"),
        prompts=matrix.prompts,
        texts=matrix.texts,
    )


def with_targets(
    answers: ChosenAnswers,
    targets: Targets,
    scores: FloatArray,
    *,
    options: Options,
    models: tuple[str, ...],
    rewarded: bool = True,
) -> ChosenAnswers:
    """Add the answers that had to be left out to a choice of answers.

    Args:
        answers: From `crowdselect.numeric.responses.find_answers`, given `targets.usable`.
        targets: From `Pool.targets`.
        scores: Rewards, shape (N, M). NaN = no reward.
        options: `answer` counts here.
        models: The M models' names.
        rewarded: As for `answers_of`.
    """
    barred = targets.barred
    if barred is None:
        return answers
    wanted = barred if options.answer == "random" else barred & ~np.isnan(scores)
    if not rewarded:
        wanted = barred & ~targets.usable.any(axis=1, keepdims=True)
    if options.answer.startswith("model:"):
        wanted = barred[:, [models.index(options.answer.removeprefix("model:"))]]
    return replace(answers, unfinished=np.any(wanted, axis=1), endings=targets.endings)


def checked_metrics(
    scores: FloatArray,
    crowd: Crowd,
    *,
    ties: Ties,
    ids: Ids | ObjectArray,
    path: str,
    spread: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Compute the metrics of a score matrix.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.
        crowd: M members, in column order.
        ties: As for `crowdselect.stability`.
        spread: As for `crowdselect.numeric.metrics.compute_metrics`.
        ids: The N ids, for messages.
        path: The pool's path, for messages.

    Raises:
        InputError: A metric overflows; the id is named.
    """
    n_rewards = np.asarray((~np.isnan(scores)).sum(axis=1), dtype=np.int64)
    metrics = compute_metrics(scores, sizes=crowd.sizes, families=crowd.families, ties=ties, spread=spread)
    for name, values in metrics.items():
        metric = METRICS[name]
        # Where it may be undefined, a missing value is no overflow.
        wrong = np.isinf(values) if metric.undefined is not None else ~np.isfinite(values)
        overflowing = np.flatnonzero((n_rewards >= metric.fewest) & wrong)
        if overflowing.size:
            raise InputError(
                f"{path}: {name} of id {ids[overflowing[0]]!r} is too large for a number; its rewards are out of any "
                "sensible range, rescale them"
            )
    return metrics
