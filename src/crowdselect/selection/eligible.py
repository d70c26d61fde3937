"""Who may not be chosen, for a pool and its options: lists, text, benchmarks, rewards, answers, the floor."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.numeric.metrics import METRICS
from crowdselect.numeric.responses import Answers
from crowdselect.pool.files import fingerprint, resolve
from crowdselect.pool.idlist import found_in, read_ids
from crowdselect.pool.pool import Pool
from crowdselect.selection.benchmarks import contaminated
from crowdselect.selection.eligibility import ELIGIBLE, eligibility
from crowdselect.selection.options import Options
from crowdselect.selection.questions import Question, read_questions
from crowdselect.selection.rows import Measured
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

_NONE = -1


@dataclass(frozen=True, slots=True)
class FixedBars:
    """What bars rows whatever their rewards are."""

    rows: Mapping[str, BoolArray]
    """Reason → the rows that it bars, shape (N,)."""
    question_ids: ObjectArray
    """Shape (N,): the benchmark question that a row gives away; None for none."""
    notes: tuple[str, ...]
    """One-line facts to tell the user."""
    benchmarks: tuple[Mapping[str, Any], ...]
    """Per file of `decontaminate`: its path, fingerprint and number of questions, and how many rows they bar."""


def fixed_bars(pool: Pool, texts: ObjectArray, options: Options) -> FixedBars:
    """Find the rows that lists, missing text and benchmark questions bar.

    Args:
        pool: The pool.
        texts: Its instructions, shape (N,); None = no text.
        options: `include`, `exclude` and `decontaminate` count here.

    Returns:
        The rows by reason.

    Raises:
        InputError: A list or a benchmark cannot be read.
    """
    blank = np.fromiter((text is None for text in texts), dtype=bool, count=len(texts))
    asked = asked_questions(options)
    owner = contaminated(texts, [question for _, found in asked for question in found]) if asked else None
    return bars(pool, options, blank=blank, asked=asked, owner=owner)


Asked = list[tuple[str, list[Question]]]
"""Files of benchmark questions, and what is in them."""


def asked_questions(options: Options) -> Asked:
    """Read the files of `decontaminate`.

    Raises:
        InputError: One cannot be read.
    """
    return [(path, read_questions(path)) for path in options.decontaminate]


def bars(
    pool: Pool, options: Options, *, blank: BoolArray, asked: Asked, owner: IntArray | None
) -> FixedBars:
    """Do what `fixed_bars` does from what is known of the texts.

    Args:
        pool: The pool.
        options: `include` and `exclude` count here.
        blank: Which instructions have no text, shape (N,).
        asked: From `asked_questions`.
        owner: From `crowdselect.selection.benchmarks.contaminated`, shape (N,); None where nothing was asked.
    """
    barred, notes = _lists(pool, options)
    if not blank.all():
        barred["no_instruction"] = blank
    questions: list[Question] = [question for _, found in asked for question in found]
    names = np.array([*(question.id for question in questions), None], dtype=object)
    if owner is None:
        owner = np.full(len(blank), _NONE, dtype=np.int64)
    if asked:
        barred["contaminated"] = owner != _NONE
    return FixedBars(barred, names[owner], tuple(notes), tuple(_benchmarks(asked, owner)))


def row_reasons(
    n: int, fixed: FixedBars, measured: Measured, answers: Answers, options: Options, *, weighted: bool
) -> ObjectArray:
    """Give each row the first reason that bars it.

    Args:
        n: N, the number of rows.
        fixed: From `fixed_bars`.
        measured: From `crowdselect.selection.rows.measure`.
        answers: From `crowdselect.numeric.responses.find_answers`.
        options: The floor, `min_rewards` and the weights count here.
        weighted: Whether the score is of the metrics: then a row needs those that have a weight.

    Returns:
        Shape (N,): a reason, or `ELIGIBLE`.
    """
    barred = dict(fixed.rows)
    metrics, weights = measured.metrics, options.weights
    if measured.n_rewards.any():  # a pool without rewards has its own way to be chosen from
        barred["too_few_rewards"] = measured.n_rewards < options.min_rewards
    if weighted:
        barred["too_few_rewards"] |= np.any(
            [np.isnan(metrics[name]) & (weights[name] != 0) for name in METRICS if name != "stability"],
            axis=0,
        )
        if weights["stability"] != 0:
            barred["no_stability"] = np.isnan(metrics["stability"])
        more = [np.isnan(metrics[name]) for name in weights if name not in METRICS and weights[name] != 0]
        if more:
            barred["no_number"] = np.any(more, axis=0)
    if answers.unfinished is not None:
        barred["unfinished"] = (answers.chosen == _NONE) & answers.unfinished
    barred["no_answer"] = answers.chosen == _NONE
    if answers.rejected is not None:
        barred["no_pair"] = answers.rejected == _NONE
    floor = _floor(answers.best_reward, options)
    if floor is not None:
        barred["below_floor"] = ~(answers.best_reward >= floor)
    reasons = eligibility(n, barred)
    for row in np.flatnonzero(reasons == "contaminated"):
        reasons[row] = f"contaminated:{fixed.question_ids[row]}"
    return reasons


def left_out(reasons: ObjectArray, why: Mapping[str, BoolArray]) -> ObjectArray:
    """Bar the eligible rows that a method has no score for.

    Args:
        reasons: From `row_reasons`.
        why: The method's own words → the rows that it leaves out.

    Returns:
        Shape (N,): the reasons, `no_score:WHY` where a method left an eligible row out.

    Example:
        >>> left_out(np.array(["", "no_answer"], dtype=object), {"no tags": np.array([True, True])}).tolist()
        ['no_score:no tags', 'no_answer']
    """
    out = reasons.copy()
    for words, rows in why.items():
        out[rows & (out == ELIGIBLE)] = f"no_score:{words}"
    return out


def not_scored(reasons: ObjectArray) -> list[str]:
    """Say how many rows a method left out, and why: a line per reason, the commonest first.

    Example:
        >>> not_scored(np.array(["", "no_score:no tags", "no_answer"], dtype=object))
        ['1 of 3 instructions cannot be chosen: no tags']
    """
    counts = Counter(reason for reason in reasons if reason.startswith("no_score:"))
    return [
        f"{n} of {len(reasons)} instructions cannot be chosen: {reason.partition(':')[2]}"
        for reason, n in counts.most_common()
    ]


def _floor(best_reward: FloatArray, options: Options) -> float | None:
    if options.min_best_quantile is not None:
        known = np.sort(best_reward[~np.isnan(best_reward)])
        # A fraction: 0.07 x 100 is a little above 7 in floating point, and would bar the row at the quantile itself.
        at = math.ceil(Fraction(repr(options.min_best_quantile)) * (known.size - 1)) if known.size else 0
        return float(known[at]) if known.size else None
    return options.min_best_reward


def _lists(pool: Pool, options: Options) -> tuple[dict[str, BoolArray], list[str]]:
    """The rows that the user's own lists bar, by reason; and how many of the lists' ids are unknown."""
    barred, notes = {}, []
    for reason, option, path in (
        ("excluded", "--exclude", options.exclude),
        ("not_included", "--include", options.include),
    ):
        if path is not None:
            wanted = read_ids(path)
            there, unknown = found_in(wanted, pool.ids)
            barred[reason] = there if reason == "excluded" else ~there
            if unknown:
                notes.append(f"{option} {path}: {unknown} of {len(wanted)} ids are not in the pool")
    return barred, notes


def _benchmarks(asked: list[tuple[str, list[Question]]], owner: IntArray) -> list[dict[str, Any]]:
    found, begin = [], 0
    for path, questions in asked:
        end = begin + len(questions)
        files = (Path(path),) if Path(path).is_file() else resolve(path)[0]
        rows = int(((owner >= begin) & (owner < end)).sum())
        found.append(
            {
                "file": path,
                "fingerprint": fingerprint(files),
                "questions": len(questions),
                "contaminated": rows,
            }
        )
        begin = end
    return found
