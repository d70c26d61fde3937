"""What a judge's verdicts say about the judge: does the order of two answers decide, does length?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crowdselect.evaluate.judgmentfile import Verdicts
from crowdselect.evaluate.questions import Question
from crowdselect.evaluate.scores import battles_of

_FEWEST = 3  # pairs of numbers that a correlation is worth anything for


def position_bias(questions: Sequence[Question], verdicts: Verdicts) -> dict[str, Any]:
    """Compare the two verdicts on each pair of answers.

    Returns:
        `pairs`: questions with both verdicts; `flipped`: share of them where the two name opposite winners;
        `changed`: share where they do not name the same one, ties among them; `first_wins`: mean share of the
        win that goes to whichever answer is shown first (0.5 = order does not matter). None without pairs.

    Example:
        >>> from crowdselect.evaluate.verdicts import Reading
        >>> asked = [Question("q", "q", "", ("Hi",))]
        >>> said = {("q", 0): Reading(label="A>B"), ("q", 1): Reading(label="A>B")}
        >>> position_bias(asked, said)
        {'pairs': 1, 'flipped': 1.0, 'changed': 1.0, 'first_wins': 1.0}
    """
    first, second, shown_first = [], [], []
    for question in questions:
        battles = battles_of(question.id, verdicts)
        if battles:
            first.append(battles[0][0])
            second.append(battles[1][0])
            shown_first += [1.0 - battles[0][0], battles[1][0]]
    if not first:
        return {"pairs": 0, "flipped": None, "changed": None, "first_wins": None}
    one, two = np.array(first), np.array(second)
    return {
        "pairs": len(one),
        "flipped": float((np.abs(one - two) == 1).mean()),
        "changed": float((one != two).mean()),
        "first_wins": float(np.mean(shown_first)),
    }


def length_bias(values: Sequence[float], lengths: Sequence[float]) -> dict[str, Any]:
    """Correlate verdicts with lengths by their ranks.

    Args:
        values: Grades, or shares of the win.
        lengths: As many: characters of the answer, or by how many it is longer than the baseline's.

    Returns:
        `pairs`: how many; `spearman`: from -1 to 1, None where there are fewer than 3 or one side does not vary.
        A correlation is no proof: longer answers may be better ones.

    Example:
        >>> length_bias([1, 5, 9], [10, 20, 70])
        {'pairs': 3, 'spearman': 1.0}
    """
    known = len(values)
    if known < _FEWEST or len(set(values)) == 1 or len(set(lengths)) == 1:
        return {"pairs": known, "spearman": None}
    from scipy.stats import spearmanr

    rho = float(spearmanr(values, lengths).statistic)
    return {"pairs": known, "spearman": None if math.isnan(rho) else round(rho, 12)}


def graded_lengths(
    questions: Sequence[Question], verdicts: Verdicts, turns: Mapping[str, tuple[str, ...]]
) -> tuple[list[float], list[float]]:
    """Give the grades and the characters of the answers that they are for."""
    values, lengths = [], []
    for question in questions:
        for turn, text in enumerate(turns.get(question.id, ())[: len(question.turns)]):
            rating = verdicts[question.id, turn].rating
            if rating is not None:
                values.append(rating)
                lengths.append(float(len(text)))
    return values, lengths


def won_lengths(
    questions: Sequence[Question],
    verdicts: Verdicts,
    turns: Mapping[str, tuple[str, ...]],
    baseline: Mapping[str, tuple[str, ...]],
) -> tuple[list[float], list[float]]:
    """Give the model's share of each question, and by how many characters its answer is longer."""
    values, lengths = [], []
    for question in questions:
        battles = battles_of(question.id, verdicts)
        own, other = turns.get(question.id), baseline.get(question.id)
        if battles and own and other:
            values.append(sum(s * w for s, w in battles) / sum(w for _, w in battles))
            lengths.append(float(len(own[0]) - len(other[0])))
    return values, lengths
