"""Who may be chosen, and if not, why: one reason code per instruction, from a closed list."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.ordering import content_hash

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
ObjectArray = NDArray[Any]

REASONS: dict[str, str] = {
    "selected": "chosen",
    "below_cut": "eligible, but others of its cluster score higher",
    "excluded": "listed in --exclude",
    "not_included": "not listed in --include",
    "no_instruction": "it has no text",
    "too_few_rewards": "fewer answers with a reward than --min-rewards",
    "no_stability": "no model family of two sizes has rewards here, so stability is undefined",
    "no_answer": "no answer with text that --answer could take",
    "no_pair": "no two answers with different rewards",
    "below_floor": "its best reward is below the quality floor",
    "contaminated": "it shares text with a benchmark question (named after the colon)",
    "duplicate_of": "the same text as a better-scoring instruction (named after the colon)",
    "near_duplicate_of": "too close to an instruction already chosen in its cluster (named after the colon)",
}
"""Every reason that `selection.parquet` may hold, and what it says; a few carry an id after a colon."""

ELIGIBLE = ""

_BLOCK = 1 << 11  # texts added up at a time: their letters stay in the processor's cache
_LETTERS = np.where(  # what each byte adds; white space adds nothing, both cases of a letter the same
    [chr(byte).isspace() and byte < 128 for byte in range(256)],
    np.uint64(0),
    content_hash([chr(byte).lower() if byte < 128 else chr(byte) for byte in range(256)]),
)


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
    """The rows that may say the same as another: those whose letters, in any order, add up to the same.

    Few rows pass, so few have to be normalised. Case and white space add nothing; text beyond ASCII is
    normalised before it is added up.
    """
    sums = np.empty(len(texts), dtype=np.uint64)
    for begin in range(0, len(texts), _BLOCK):
        block = ["" if text is None else text for text in texts[begin : begin + _BLOCK]]
        joined = "".join(block)
        if joined.isascii():
            encoded, lengths = joined.encode(), [len(text) for text in block]
        else:
            folded = [text.encode() if text.isascii() else normalised(text).encode() for text in block]
            encoded, lengths = b"".join(folded), [len(text) for text in folded]
        running = np.zeros(len(encoded) + 1, dtype=np.uint64)
        np.cumsum(
            _LETTERS.take(np.frombuffer(encoded, dtype=np.uint8)), out=running[1:]
        )  # may wrap round: no harm
        sums[begin : begin + len(block)] = np.diff(running[np.concatenate(([0], np.cumsum(lengths)))])
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    return [int(row) for row in np.flatnonzero(counts[inverse] > 1) if texts[row] is not None]
