"""Eligibility: which instructions may be chosen, and for the others one reason code each, from a closed list.

What can bar an instruction: the lists of ids, its text, benchmarks, rewards, answers, the quality floor.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.numeric.metrics import METRICS
from crowdselect.pool.files import find_files, fingerprint
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool
from crowdselect.pool.sidecars import found_in, read_ids
from crowdselect.selection.formats import holds_of, no_room
from crowdselect.selection.keep import bands_of
from crowdselect.selection.options import RL, Options
from crowdselect.selection.quota import read_quota, without_quota
from crowdselect.selection.rl import lacking
from crowdselect.selection.rows import Rows
from crowdselect.terminal import counted
from crowdselect.types import BoolArray, ObjectArray

UNDEFINED = {
    metric.undefined.code: metric.undefined for metric in METRICS.values() if metric.undefined is not None
}
"""The metrics' own reasons, by code."""

NEEDS_TOOLS = "it needs tools, which the {} does not hold"
"""What is said of a row where a format, or a chat template, has no place for them."""

REASONS: dict[str, str] = {
    "selected": "chosen",
    "below_cut": "eligible, but others score higher",
    "excluded": "listed in `exclude`",
    "not_included": "not listed in `include`",
    "malformed": "its row is malformed (what is wrong follows the colon)",
    "not_text": "it holds something other than text, such as an image, or all its answers do, such as calls of tools",
    "bad_turns": "its messages are not turns that an answer may follow, or that the format holds",
    "no_tools": NEEDS_TOOLS.format("format"),
    "no_instruction": "it has no text",
    "too_few_rewards": "fewer models with a reward than two, or than a metric with a weight needs",
    **{code: undefined.words for code, undefined in UNDEFINED.items()},
    "no_number": "it has no value of a number that has a weight or a band (named after the colon)",
    "unfinished": "every answer that `answer` could take was cut, filtered or failed (`allow_cut=True` allows those that were cut)",
    "no_answer": "no answer with text, which a call of tools has not, that `answer` could take",
    "no_pair": "no two answers to one prompt with different rewards",
    "no_reference": "it has nothing to check an answer against",
    "outside": "a number lies outside its band of `keep` (named after the colon)",
    "no_quota": "its value of the column of `quota` has no share",
    "below_floor": "its best reward is below the quality floor (of a selection made before bands)",
    "contaminated": "it shares text with a benchmark question or an example (named after the colon)",
    "no_score": "the method leaves it out (for the reason after the colon)",
    "duplicate_of": "the same text as a better-scoring instruction (named after the colon)",
    "near_duplicate_of": "too close to an instruction already chosen in its cluster (named after the colon)",
}
"""Every reason that `selection.parquet` may hold, and what it means; a few carry an id after a colon."""

ELIGIBLE = ""

_LACKING = {
    "tools": ("no_tools", "needs tools", "need tools"),
    "turns": ("bad_turns", "has turns that do not alternate", "have turns that do not alternate"),
}
"""What a row may need of a format; the reason where the format does not hold it, and words for one row and for more. The first counts."""
_NONE = -1
_FEWEST = 2  # models with a reward that an instruction needs, unless a band says otherwise


def eligibility(n: int, barred: Mapping[str, BoolArray]) -> ObjectArray:
    """Assign each row the first reason that bars it.

    Args:
        n: N, the number of rows.
        barred: Rows that a reason bars, shape (N,) each; the order of the mapping decides which reason
            a row with several gets. Keys are codes of `REASONS`.

    Returns:
        Shape (N,), strings: a reason code, or `ELIGIBLE` (the empty string).

    Example:
        >>> eligibility(2, {"no_answer": np.array([False, True])}).tolist()
        ['', 'no_answer']
    """
    reasons = np.full(n, ELIGIBLE, dtype=object)
    for reason, rows in barred.items():
        reasons[rows & (reasons == ELIGIBLE)] = reason
    return reasons


def tally(reasons: ObjectArray) -> str:
    """Summarise how many rows each reason bars.

    Args:
        reasons: From `eligibility`, shape (N,).

    Returns:
        Text, the commonest reason first. Ids after a colon are left off, a method's own words are not. Empty if
        nothing bars a row.

    Example:
        >>> tally(np.array(["", "no_answer", "contaminated:q1", "no_answer"], dtype=object))
        '2 no_answer, 1 contaminated'
    """
    counts = Counter(
        reason if reason.startswith("no_score:") else reason.partition(":")[0]
        for reason in reasons
        if reason != ELIGIBLE
    )
    return ", ".join(f"{n} {reason}" for reason, n in counts.most_common())


def id_doubt(pool: Pool, *, most: int, repeated: int) -> str | None:
    """Doubt the ids of a pool where no instruction has more rewards than a row, and texts repeat; None = no doubt.

    Args:
        pool: Answers of one model, and answers that are not rows with ids, are not doubted.
        most: The most rewards that an instruction has.
        repeated: Instructions that repeat the text of another.
    """
    own = pool.answers_per_id
    if not own or most > own or not repeated or len(pool.models) <= own:
        return None
    models, each = ("two", "answer") if own == 1 else (f"more than {own}", "row")
    return (
        f"no instruction has rewards of {models} models, but {repeated} repeat the text of another: the id seems to differ "
        f"from {each} to {each}; `columns='id='` makes it of the text"
    )


@dataclass(frozen=True, slots=True)
class Lists:
    """The user's own lists of ids, matched with the rows."""

    bars: Mapping[str, BoolArray]
    """Reason → the rows that it bars, shape (N,)."""
    notes: tuple[str, ...]
    """One-line facts to tell the user."""


def lists(ids: Collection[str], options: Options) -> Lists:
    """Find the rows that `include` and `exclude` bar.

    Args:
        ids: The N rows' ids.
        options: `include` and `exclude` count here.

    Raises:
        InputError: A list cannot be read.
    """
    bars, notes = {}, []
    for reason, option, path in (
        ("excluded", "exclude", options.exclude),
        ("not_included", "include", options.include),
    ):
        if path is not None:
            wanted = read_ids(path)
            listed, unknown = found_in(wanted, ids)
            bars[reason] = listed if reason == "excluded" else ~listed
            if unknown:
                notes.append(f"`{option}` {path}: {unknown} of {len(wanted)} ids are not in the pool")
    return Lists(bars, tuple(notes))


def bars(rows: Rows, found: Lists, options: Options, *, weighted: bool) -> ObjectArray:
    """Assign each row the first reason that bars it.

    Args:
        rows: What is known of the pool.
        found: From `lists`.
        options: The bands, the weights, the quota and the format count here.
        weighted: Whether the score is made of the metrics: then a row needs every metric that has a weight.

    Returns:
        Shape (N,): a reason, or `ELIGIBLE`.

    Raises:
        OptionError: A value that has a share of the quota is in no row.
    """
    return _in_full(eligibility(len(rows), barred(rows, found, options, weighted=weighted)), rows)


def barred(rows: Rows, found: Lists, options: Options, *, weighted: bool) -> dict[str, BoolArray]:
    """Find the rows that each reason bars, shape (N,) each, in the order in which reasons count; arguments as for `bars`."""
    barred = dict(found.bars) | _by_what_they_are(rows, options)
    if not rows.blank.all():
        barred["no_instruction"] = rows.blank
    if rows.owner is not None:
        barred["contaminated"] = rows.owner != _NONE
    bands = bands_of(options.keep)
    bounded = "rewards" in {band.name for band in bands}
    if rows.n_rewards.any() and not bounded:  # without any reward, methods that need none can choose
        alone = len(rows.crowd.members) == 1  # then there is one reward at most
        barred["too_few_rewards"] = rows.n_rewards < (1 if alone else _FEWEST)
    none = np.zeros(len(rows), dtype=np.bool_)
    if weighted:
        barred |= _undefined(rows, options, too_few=barred.get("too_few_rewards", none))
    barred |= (
        _without_answer(rows)
        if rows.checked is None
        else {"no_reference": lacking(rows.checked, rows.columns)}
    )
    for band in bands:
        values, outside = rows.number(band.name), f"outside:{band.name}"
        barred[f"no_number:{band.name}"] = np.isnan(values)
        barred[outside] = barred.get(outside, none) | band.outside(values)  # a number may have several bands
    quota = read_quota(options.quota)
    if quota is not None:
        barred["no_quota"] = without_quota(quota, rows.columns[quota.column])
    return barred


def _in_full(reasons: ObjectArray, rows: Rows) -> ObjectArray:
    """Add to reasons what stands after their colon."""
    if rows.left_out is not None:
        for row in np.flatnonzero(reasons == "malformed"):
            reasons[row] = rows.left_out[row]
    if rows.owner is not None:
        names = [question.id for _, questions in rows.questions for question in questions]
        for row in np.flatnonzero(reasons == "contaminated"):
            reasons[row] = f"contaminated:{names[rows.owner[row]]}"
    return reasons


def _without_answer(rows: Rows) -> dict[str, BoolArray]:
    """The rows without an answer to train on, or without a pair."""
    answers, barred = rows.answers, {}
    if answers.unfinished is not None:
        barred["unfinished"] = (answers.chosen == _NONE) & answers.unfinished
    barred["no_answer"] = answers.chosen == _NONE
    if answers.rejected is not None:
        barred["no_pair"] = answers.rejected == _NONE
    return barred


def _by_what_they_are(rows: Rows, options: Options) -> dict[str, BoolArray]:
    """The rows that cannot be chosen whatever their rewards, and those that the format to write does not hold."""
    if rows.left_out is None or rows.needs is None:
        return {}
    kinds = ("malformed", "not_text", "bad_turns", *(("no_answer",) if options.format != RL else ()))
    holds = holds_of(_format_of(options), trainer=options.trainer, file_type=options.file_type)
    lacks = {need: code for need, (code, *_) in _LACKING.items() if need not in holds}
    barred: dict[str, BoolArray] = {}
    # Of millions of rows few are odd, most often none.
    for row in np.flatnonzero(rows.left_out != np.array(None)):
        code = rows.left_out[row].partition(":")[0]
        if code in kinds:
            barred.setdefault(code, np.zeros(len(rows.left_out), dtype=np.bool_))[row] = True
    for row in np.flatnonzero(rows.needs != "") if lacks else ():
        # Where turns do not alternate either, the tools are the reason.
        code = next((lacks[need] for need in lacks if need in rows.needs[row].split()), None)
        if code is not None:
            barred.setdefault(code, np.zeros(len(rows.needs), dtype=np.bool_))[row] = True
    order = (*kinds, "no_tools")
    return {code: barred[code] for code in order if code in barred}


def format_lines(reasons: ObjectArray, rows: Rows, options: Options) -> list[str]:
    """Say how many rows the format or the trainer bars, and which others would hold them.

    Args:
        reasons: From `bars`, shape (N,).
        rows: What is known of the pool.
        options: `format`, `trainer`, `file_type` and `pairs` count here.
    """
    if rows.needs is None or rows.left_out is None:
        return []
    lines = []
    for need, (code, *words) in _LACKING.items():
        count = int(((reasons == code) & (rows.left_out != np.array(code))).sum())
        if count:
            who, others = no_room(
                need, _format_of(options), trainer=options.trainer, file_type=options.file_type
            )
            would = f"; {others} would" if others else ""
            lines.append(
                f"{counted(count, 'instruction')} {words[count > 1]}, which {who} does not hold{would}"
            )
    return lines


def _format_of(options: Options) -> str | None:
    return options.format or ("dpo" if options.pairs else None)


def _undefined(rows: Rows, options: Options, *, too_few: BoolArray) -> dict[str, BoolArray]:
    """Find the rows that lack a number that has a weight."""
    metrics, weights = rows.metrics, options.weights
    barred = {"too_few_rewards": too_few}
    for name, metric in METRICS.items():
        if weights[name] != 0:
            reason = "too_few_rewards" if metric.undefined is None else metric.undefined.code
            undefined = np.isnan(metrics[name])
            barred[reason] = barred[reason] | undefined if reason in barred else undefined
    more = [np.isnan(metrics[name]) for name in weights if name not in METRICS and weights[name] != 0]
    if more:
        barred["no_number"] = np.any(more, axis=0)
    return barred


def left_out(reasons: ObjectArray, why: Mapping[str, BoolArray]) -> ObjectArray:
    """Bar the eligible rows that a method has no score for.

    Args:
        reasons: From `bars`.
        why: The method's own words → the rows that it leaves out.

    Returns:
        Shape (N,): the reasons, `no_score:WHY` where a method left an eligible row out.

    Example:
        >>> left_out(np.array(["", "no_answer"], dtype=object), {"no tags": np.array([True, True])}).tolist()
        ['no_score:no tags', 'no_answer']
    """
    marked = reasons.copy()
    for words, rows in why.items():
        marked[rows & (marked == ELIGIBLE)] = f"no_score:{words}"
    return marked


def not_scored(reasons: ObjectArray) -> list[str]:
    """Summarise how many rows a method left out, and why: a line per reason, the commonest first.

    Example:
        >>> not_scored(np.array(["", "no_score:no tags", "no_answer"], dtype=object))
        ['1 of 3 instructions cannot be chosen: no tags']
    """
    counts = Counter(reason for reason in reasons if reason.startswith("no_score:"))
    return [
        f"{n} of {len(reasons)} instructions cannot be chosen: {reason.partition(':')[2]}"
        for reason, n in counts.most_common()
    ]


def benchmark_facts(rows: Rows) -> list[dict[str, Any]]:
    """Describe each file of `decontaminate`, and of the method's examples: path, fingerprint, number of questions, and how many rows they bar."""
    facts, begin = [], 0
    for path, questions in rows.questions:
        end = begin + len(questions)
        files = (Path(path),) if Path(path).is_file() else find_files(path, HowRead()).files
        barred = 0 if rows.owner is None else int(((rows.owner >= begin) & (rows.owner < end)).sum())
        facts.append(
            {
                "file": path,
                "fingerprint": fingerprint(files),
                "questions": len(questions),
                "contaminated": barred,
            }
        )
        begin = end
    return facts
