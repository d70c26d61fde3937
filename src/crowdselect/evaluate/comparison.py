"""Compares results: differences paired over questions, with choices or training runs as a second level of resampling."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OptionError, ShapeError
from crowdselect.evaluate.measures import MEASURES
from crowdselect.evaluate.outcome import Loaded, MethodRuns
from crowdselect.evaluate.scores import LEVEL, interval
from crowdselect.types import BoolArray, FloatArray

ROUNDS = 10_000
"""Resampling rounds: the smallest p-value is about 2 / ROUNDS."""
_CHUNK = 1000
_SIGNIFICANT = 1 - LEVEL
_SAME = 1e-9  # scores that differ by less are equal up to rounding
_FEW = 5  # runs
_LISTED = 5  # names
HIGHER, LOWER, UNCLEAR, CORRECTED = (
    "higher",
    "lower",
    "not shown to differ",
    "different only before correction",
)


@dataclass(frozen=True, slots=True)
class MethodScore:
    """One method's score on the questions that all its runs share, with an interval.

    Attributes:
        name: The method.
        runs: Number of runs.
        questions: Number of questions with verdicts in every run.
        score: From 1 to 10, or 0 to 100, where higher is better; or a loss, where lower is. None if there is no such question.
        interval: 95 % interval, over questions and, if there are several, choices, or else runs; None if there is one
            question.
        lowest: The lowest of the runs' own scores; `highest` likewise.
        choices: Number of choices of rows that the runs' models were trained on; 1 where that is not said.
    """

    name: str
    runs: int
    questions: int
    score: float | None
    interval: tuple[float, float] | None
    lowest: float | None
    highest: float | None
    choices: int = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """One method's score minus another's, on the questions with verdicts in all runs of both.

    Attributes:
        one: The first method; `other` the second.
        questions: Number of questions compared.
        differing: Number of questions on which the two scores (means over runs) differ.
        left_out: Number of questions that one of the two lacks.
        difference: Positive: the first scores higher. None if they share no question.
        interval: 95 % interval, over questions and choices or runs; None, like `p`, if there is one question, as every draw is equal.
        p: Two-sided, from the same resampling; at least 2 / (rounds + 1).
        p_holm: `p` corrected for the number of differences shown (Holm 1979).
        verdict: `HIGHER`, `LOWER`: the interval excludes 0, also after Holm's correction; `CORRECTED`: only before
            the correction; `UNCLEAR`: the interval includes 0.
    """

    one: str
    other: str
    questions: int
    differing: int
    left_out: int
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None = None
    verdict: str = UNCLEAR


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """Methods and their differences; `notes` are caveats for the reader."""

    benchmark: str
    judge: str | None
    baseline: str | None
    unit: str
    seed: int
    standings: list[MethodScore]
    differences: list[Difference]
    notes: list[str] = field(default_factory=list)


def compare(groups: Sequence[MethodRuns], *, against: str | None = None, seed: int = 0) -> MethodComparison:
    """Compare methods on one benchmark.

    Args:
        groups: At least two methods, each of one or more runs.
        against: The method that all others are compared with; None = every pair.
        seed: Seed of the resampling.

    Returns:
        Scores, differences with 95 % intervals, and the numbers of questions they are based on.

    Raises:
        InputError: The results are from different benchmarks, judges or baselines, or score the same task differently.
        OptionError: There are fewer than two methods, or `against` is not one of them.

    Example:
        >>> from crowdselect.evaluate.outcome import Loaded
        >>> from crowdselect.evaluate.scores import Cells
        >>> def made(name, grades):
        ...     sums = np.array([[grade] for grade in grades], float)
        ...     cells = Cells(tuple("abc"), ("",) * 3, sums, np.ones_like(sums))
        ...     return MethodRuns(name, (Loaded(name, "mt-bench", name, "j", None, {}, "1 to 10", cells),))
        >>> found = compare([made("one", [5, 6, 7]), made("other", [5, 5, 8])])
        >>> found.differences[0].difference, found.differences[0].verdict
        (0.0, 'not shown to differ')
    """
    _check_groups(groups, against)
    runs = [run for group in groups for run in group.runs]
    first = runs[0]
    scale = MEASURES[first.benchmark].scale
    ids = sorted({id_ for run in runs for id_ in run.cells.ids})
    turns = max(run.cells.sums.shape[1] for run in runs)
    aligned = {group.name: _laid(group, ids, turns) for group in groups}
    standings = [_standing(group, aligned[group.name], scale=scale, seed=seed) for group in groups]
    names = [group.name for group in groups]
    pairs = [(one, other) for at, one in enumerate(names) for other in names[at + 1 :]]
    if against is not None:
        pairs = [(name, against) for name in names if name != against]
    differences = [
        _difference(one, other, aligned[one], aligned[other], scale=scale, seed=seed) for one, other in pairs
    ]
    return MethodComparison(
        first.benchmark,
        first.judge,
        first.baseline,
        first.unit,
        seed,
        standings,
        _corrected(differences),
        _notes(groups, differences),
    )


def hierarchical(
    sums: FloatArray, weights: FloatArray, questions: NDArray[np.int64], generator: np.random.Generator
) -> FloatArray:
    """Resample runs (or choices, each the sum of its runs), and score them on questions already resampled.

    Args:
        sums: Shape (R, Q): weighted score per run and question.
        weights: Shape (R, Q): weight per run and question.
        questions: Shape (B, Q): how often each question was drawn.
        generator: Draws the runs.

    Returns:
        Shape (B,): the weighted mean over the drawn runs and questions.
    """
    if sums.shape != weights.shape or sums.shape[1] != questions.shape[1]:
        raise ShapeError(f"sums {sums.shape}, weights {weights.shape}, questions {questions.shape}")
    count = len(sums)
    runs = generator.multinomial(count, np.full(count, 1 / count), size=len(questions))
    totals = np.einsum("br,rq,bq->b", runs, sums, questions, optimize=True)
    shares = np.einsum("br,rq,bq->b", runs, weights, questions, optimize=True)
    scores: FloatArray = totals / shares
    return scores


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple testing (Holm 1979); valid under any dependence.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1)
    raised = np.minimum(np.maximum.accumulate(np.asarray(values, float)[order] * steps), 1.0)
    corrected = np.empty(len(values))
    corrected[order] = raised
    return [float(value) for value in corrected]


def _check_groups(groups: Sequence[MethodRuns], against: str | None) -> None:
    if len(groups) < 2:
        raise OptionError("name at least two results to compare")
    names = [group.name for group in groups]
    if against is not None and against not in names:
        raise OptionError(f"`against` is {against!r}: there is no such method; found {', '.join(names)}")
    first = groups[0].runs[0]
    for run in (run for group in groups for run in group.runs):
        for what in ("benchmark", "judge", "baseline"):
            if getattr(run, what) != getattr(first, what):
                raise InputError(
                    f"{run.folder}: its {what} is {getattr(run, what)!r}, that of {first.folder} is "
                    f"{getattr(first, what)!r}; such scores cannot be compared"
                )
    _check_tasks([run for group in groups for run in group.runs])


def _check_tasks(runs: Sequence[Loaded]) -> None:
    """Refuse results of lm-evaluation-harness that score a task differently, or have none in common."""
    seen: dict[str, Loaded] = {}
    for run in runs:
        if seen and run.tasks and seen.keys().isdisjoint(run.tasks):
            raise InputError(
                f"{run.folder}: its tasks are {listed(run.tasks)}, those of {runs[0].folder} are {listed(runs[0].tasks)}; "
                "wanted a task in common"
            )
        for name, task in run.tasks.items():
            other = seen.setdefault(name, run)
            if other.tasks[name].scored_by != task.scored_by:
                raise InputError(
                    f"{run.folder}: the task {name} is scored by {task.scored_by or 'nothing'}, in {other.folder} by "
                    f"{other.tasks[name].scored_by or 'nothing'}; such scores cannot be compared"
                )


def _task_notes(runs: Sequence[Loaded]) -> list[str]:
    """Say which tasks only some results have, and which were not asked in the same way."""
    every = dict.fromkeys(name for run in runs for name in run.tasks)
    partly = [name for name in every if any(name not in run.tasks for run in runs)]
    asked = {name: [run.tasks[name].asked for run in runs if name in run.tasks] for name in every}
    changed = [name for name, some in asked.items() if any(one != some[0] for one in some)]
    differing = dict.fromkeys(
        key for name in changed for one in asked[name] for key in one if one[key] != asked[name][0].get(key)
    )
    unscored = [
        name for name in every if all(run.tasks[name].scored_by is None for run in runs if name in run.tasks)
    ]
    notes = []
    if unscored:
        notes.append(f"left out: {listed(unscored)}; the metric is of all documents together")
    if partly:
        notes.append(f"not in all results: {listed(partly)}; a difference is of what both have")
    if changed:
        notes.append(
            f"not asked in the same way ({', '.join(differing)}): {listed(changed)}; compare with care"
        )
    return notes


def listed(names: Iterable[str]) -> str:
    """List names; of many, the first.

    Example:
        >>> listed("ab"), listed("abcdefg")
        ('a, b', 'a, b, c, d, e and 2 more')
    """
    every = list(names)
    more = len(every) - _LISTED
    return ", ".join(every[:_LISTED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class _Laid:
    """A method's verdicts on all questions.

    Attributes:
        sums: Shape (R, Q, T).
        weights: Shape (R, Q, T); 0 = missing.
        drawn: Shape (D, R), 0 or 1: the runs of what is resampled. With several choices that is a choice with all its
            runs: runs of one choice share its luck, and are no evidence of how much choices vary.
    """

    sums: FloatArray
    weights: FloatArray
    drawn: FloatArray

    def kept(self, cells: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Sum the given cells, shape (Q, T), of each question that has any; sums and weights of shape (R, Q')."""
        sums, weights = (
            (values * cells).sum(axis=2)[:, cells.any(axis=1)] for values in (self.sums, self.weights)
        )
        return sums, weights


def _laid(group: MethodRuns, ids: Sequence[str], turns: int) -> _Laid:
    """Align a method's verdicts with all questions."""
    places = {id_: at for at, id_ in enumerate(ids)}
    sums = np.zeros((len(group.runs), len(ids), turns))
    weights = np.zeros_like(sums)
    for number, run in enumerate(group.runs):
        at = [places[id_] for id_ in run.cells.ids]
        sums[number, at, : run.cells.sums.shape[1]] = run.cells.sums
        weights[number, at, : run.cells.sums.shape[1]] = run.cells.weights
    several = len(set(group.choices)) > 1
    drawn = np.eye(len(group.runs)) if not several else np.eye(max(group.choices) + 1)[:, list(group.choices)]
    return _Laid(sums, weights, drawn)


def _common(*weights: FloatArray) -> BoolArray:
    """Return which cells have verdicts in every run; shape (Q, T)."""
    common: BoolArray = np.logical_and.reduce([(one > 0).all(axis=0) for one in weights])
    return common


def _standing(group: MethodRuns, laid: _Laid, *, scale: float, seed: int) -> MethodScore:
    total, weight = laid.kept(_common(laid.weights))
    runs, choices, count = len(group.runs), len(set(group.choices)) or 1, total.shape[1]
    if not count:
        return MethodScore(group.name, runs, 0, None, None, None, None, choices)
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            hierarchical(laid.drawn @ total, laid.drawn @ weight, questions, generator)
            for questions in _drawn_questions(count, generator)
        ]
    )
    run_scores = scale * total.sum(axis=1) / weight.sum(axis=1)
    score = scale * float(total.sum() / weight.sum())
    return MethodScore(
        group.name,
        runs,
        count,
        score,
        interval(scale * drawn) if count > 1 else None,
        float(run_scores.min()),
        float(run_scores.max()),
        choices,
    )


def _difference(one: str, other: str, first: _Laid, second: _Laid, *, scale: float, seed: int) -> Difference:
    cells = _common(first.weights, second.weights)
    count = int(cells.any(axis=1).sum())
    scored = [(laid.weights > 0).any(axis=(0, 2)) for laid in (first, second)]
    left_out = int((scored[0] | scored[1]).sum()) - count
    if not count:
        return Difference(one, other, 0, 0, left_out, None, None, None)
    (sums, weights), (others, other_weights) = first.kept(cells), second.kept(cells)
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            hierarchical(first.drawn @ sums, first.drawn @ weights, questions, generator)
            - hierarchical(second.drawn @ others, second.drawn @ other_weights, questions, generator)
            for questions in _drawn_questions(count, generator)
        ]
    )
    each = sums.sum(axis=0) / weights.sum(axis=0) - others.sum(axis=0) / other_weights.sum(axis=0)
    value = float(sums.sum() / weights.sum() - others.sum() / other_weights.sum())
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Difference(
        one,
        other,
        count,
        int((np.abs(each) > _SAME).sum()),
        left_out,
        scale * value,
        interval(scale * drawn) if count > 1 else None,
        min(1.0, 2 * (1 + beyond) / (ROUNDS + 1)) if count > 1 else None,
    )


def _drawn_questions(count: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Draw bootstrap samples of the questions, some rounds at a time; counts of shape (B, Q)."""
    for begin in range(0, ROUNDS, _CHUNK):
        yield generator.multinomial(count, np.full(count, 1 / count), size=min(_CHUNK, ROUNDS - begin))


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    """Correct p-values for the number of differences, and set the verdicts."""
    known = [at for at, one in enumerate(found) if one.p is not None]
    raised = dict(zip(known, holm([found[at].p or 0.0 for at in known]), strict=True))
    return [
        one if at not in raised else replace(one, p_holm=raised[at], verdict=_verdict(one, raised[at]))
        for at, one in enumerate(found)
    ]


def _verdict(one: Difference, p_holm: float) -> str:
    if one.interval is None or one.interval[0] <= 0 <= one.interval[1]:
        return UNCLEAR
    if p_holm > _SIGNIFICANT:
        return CORRECTED
    return HIGHER if one.interval[0] > 0 else LOWER


def _notes(groups: Sequence[MethodRuns], found: Sequence[Difference]) -> list[str]:
    notes = []
    runs = [run for group in groups for run in group.runs]
    others = [name for name in runs[0].conditions if len({run.conditions.get(name) for run in runs}) > 1]
    if others:
        notes.append(f"the results are not of the same {', '.join(others)}: compare with care")
    notes += _task_notes(runs)
    of = MEASURES[runs[0].benchmark].of
    single = [group.name for group in groups if len(group.runs) == 1]
    if single:
        notes.append(
            f"one training run each: {', '.join(single)}; their intervals do not hold what another seed would change"
        )
    for what, counts in (
        ("choices", {group.name: len(set(group.choices)) for group in groups}),
        ("training runs", {group.name: len(group.runs) for group in groups if len(set(group.choices)) < 2}),
    ):
        few = [f"{name} ({count})" for name, count in counts.items() if 1 < count < _FEW]
        if few:
            notes.append(f"few {what}: {', '.join(few)}; resampling so few understates how much they vary")
    return notes + [
        f"{one.one} and {one.other} share {one.questions:,} {of}; {one.left_out:,} that only one of them has "
        f"{'is' if one.left_out == 1 else 'are'} left out of their difference"
        for one in found
        if one.left_out
    ]
