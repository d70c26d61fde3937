"""Who may be chosen, and if not, why: one reason code per instruction, from a closed list."""

import unicodedata
from collections import Counter
from collections.abc import Mapping

import numpy as np

from crowdselect.types import BoolArray, IntArray, ObjectArray

REASONS: dict[str, str] = {
    "selected": "chosen",
    "below_cut": "eligible, but others score higher",
    "excluded": "listed in --exclude",
    "not_included": "not listed in --include",
    "no_instruction": "it has no text",
    "too_few_rewards": "fewer answers with a reward than --min-rewards",
    "no_stability": "no model family of two sizes has rewards here, so stability is undefined",
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

_LOWER = bytes(ord(chr(byte).lower()) if byte < 128 else byte for byte in range(256))
_SPACES = bytes(byte for byte in range(128) if chr(byte).isspace())


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


def normalised(text: str) -> str:
    r"""Fold away what does not change an instruction: Unicode form, case and white space.

    Args:
        text: Any text.

    Returns:
        NFKC form, case-folded, runs of white space as one space, none at the ends.

    Example:
        >>> normalised("  \uff28ello\n WORLD ")
        'hello world'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


def duplicate_groups(texts: ObjectArray) -> IntArray:
    """Group rows that say the same.

    Args:
        texts: Shape (N,), strings or None.

    Returns:
        Shape (N,): rows with equal `normalised` text share a number, the first row's index; a row without
        text is alone.

    Example:
        >>> duplicate_groups(np.array(["Hi", None, "hi "], dtype=object)).tolist()
        [0, 1, 0]
    """
    groups = np.arange(len(texts), dtype=np.int64)
    first: dict[str, int] = {}
    for row in _alike(texts):
        groups[row] = first.setdefault(normalised(texts[row]), row)
    return groups


def _alike(texts: ObjectArray) -> list[int]:
    """The rows that may say the same as another: equal but for case and white space, or by chance.

    Few rows pass, so few have to be normalised. A hash of 64 bits stands for each text, to save memory.
    """
    hashes = np.fromiter(
        (0 if text is None else hash(_squeezed(text)) for text in texts), dtype=np.int64, count=len(texts)
    )
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return [int(row) for row in np.flatnonzero(counts[inverse] > 1) if texts[row] is not None]


def _squeezed(text: str) -> bytes:
    """The normalised text without any white space; for ASCII in one step."""
    if text.isascii():
        return text.encode().translate(_LOWER, _SPACES)
    return normalised(text).replace(" ", "").encode()
