"""Easy rows, for a weak student: what most of the crowd manages, drawn at random."""

import numpy as np

from crowdselect.numeric.exact import rounded
from crowdselect.numeric.teachable import drawn
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen
from crowdselect.selection.student import Reach
from crowdselect.types import FloatArray


def easy() -> Method:
    """Draw rows with a chance in proportion to ease^2, where some answer of the crowd is good, else 0.

    Ease is the share of good answers, the mean over models. `score` is the draw, higher = chosen earlier. It needs no
    student, and bets on a weak one.

    Example:
        >>> easy().settings["method"]
        'easy'
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        return drawn_by(seen, easy_weights(seen.known.reached), "have a good answer")

    return Method(name="easy", score=score, good=True)


def easy_weights(reach: Reach) -> FloatArray:
    """Compute ease^2 where some answer of the crowd is good, else 0, shape (N,)."""
    return rounded(np.where(reach.sure, reach.ease**2, 0.0))


def drawn_by(seen: Seen, weight: FloatArray, words: str, *notes: str) -> Scored:
    """Draw eligible rows by their weights, those of weight 0 last; where all rewards are equal, at random.

    Args:
        seen: The rows.
        weight: Shape (N,), at least 0.
        words: What a row of weight above 0 is, for the note that says how many there are.
        notes: Further notes.
    """
    reach, seed = seen.known.reached, seen.options.seed
    if reach.cut is None:
        note = "all rewards are equal, so no answer is better than another, and rows are drawn at random"
        even = np.ones(len(weight))
        return Scored(drawn(even, even, seen.known.hashes, seed=seed), chance=even, notes=(note,))
    possible, budget = int((weight[seen.eligible] > 0).sum()), seen.options.budget
    if possible < budget:
        notes += (
            f"only {possible:,} rows {words}; the other {budget - possible:,} of {budget:,} are the easiest of the rest",
        )
    score = drawn(weight, easy_weights(reach), seen.known.hashes, seed=seed)
    return Scored(score, chance=weight, notes=notes)
