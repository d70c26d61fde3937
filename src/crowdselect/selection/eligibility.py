"""Who may be chosen, and if not, why: one reason code per instruction, from a closed list."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from crowdselect.numeric.metrics import METRICS
from crowdselect.types import BoolArray, ObjectArray

UNDEFINED = {
    metric.undefined.code: metric.undefined for metric in METRICS.values() if metric.undefined is not None
}
"""The metrics' own reasons, by code."""

REASONS: dict[str, str] = {
    "selected": "chosen",
    "below_cut": "eligible, but others score higher",
    "excluded": "listed in --exclude",
    "not_included": "not listed in --include",
    "no_instruction": "it has no text",
    "too_few_rewards": "fewer answers with a reward than --min-rewards",
    **{code: undefined.words for code, undefined in UNDEFINED.items()},
    "no_number": "--metrics has no number for it, and that number has a weight",
    "unfinished": "every answer that --answer could take was cut, filtered or failed (--allow-cut takes those that were cut)",
    "no_answer": "no answer with text that --answer could take",
    "no_pair": "no two answers to one prompt with different rewards",
    "below_floor": "its best reward is below the quality floor",
    "contaminated": "it shares text with a benchmark question (named after the colon)",
    "no_score": "the method leaves it out (why stands after the colon)",
    "duplicate_of": "the same text as a better-scoring instruction (named after the colon)",
    "near_duplicate_of": "too close to an instruction already chosen in its cluster (named after the colon)",
}
"""Every reason that `selection.parquet` may hold, and what it says; a few carry an id after a colon."""

ELIGIBLE = ""


def eligibility(n: int, barred: Mapping[str, BoolArray]) -> ObjectArray:
    """Give each row the first reason that bars it.

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
    """Count what bars rows, in words.

    Args:
        reasons: From `eligibility`, shape (N,).

    Returns:
        The commonest reason first, ids after a colon left off, a method's words not; empty where nothing bars a row.

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
