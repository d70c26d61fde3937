"""Style control: a model's strength against its baseline with length and markdown accounted for, as arena-hard-auto does."""

import math
import re
from typing import Any

import numpy as np

from crowdselect.evaluate.scores import PUBLISHED_ROUNDS
from crowdselect.types import FloatArray, IntArray

STYLES = ("length", "headers", "lists", "bold")
"""What style control accounts for; lists, headers and bold text as densities."""
_HEADERS = re.compile(r"^#{1,6}\s", re.MULTILINE)
_ITEMS = re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_CODE = re.compile(r"```[^`]*```")

_STEPS = 100
_NEAR = 1e-9
_LARGEST = 50.0  # log-odds per deviation: beyond, style tells every winner and the fit grows without end


def style_counts(text: str) -> tuple[int, int, int]:
    r"""Count the headers, items of lists and bold passages of an answer, outside blocks of code.

    Example:
        >>> style_counts("# Title\n- one\n- two is **bold**\n```\n# no header\n```")
        (1, 2, 1)
    """
    prose = _CODE.sub("", text)
    return len(_HEADERS.findall(prose)), len(_ITEMS.findall(prose)), len(_BOLD.findall(prose))


def style_differences(own: FloatArray, other: FloatArray) -> FloatArray:
    """Compute how two answers differ in style, for each of G pairs.

    Args:
        own: Shape (G, 4): length, headers, items of lists and bold passages of the model's answer.
        other: The same of the baseline's.

    Returns:
        Shape (G, 4): (a - b) / (a + b) of the lengths, from -1 to 1, and (a - b) / (a + b + 1) of the densities (counts by
        length); 0 where both are 0. Positive: the model has more.

    Source:
        arena-hard-auto, `show_result.py` of version 2.

    Example:
        >>> style_differences(np.array([[30.0, 3, 0, 0]]), np.array([[10.0, 0, 0, 0]])).round(4).tolist()
        [[0.5, 0.0909, 0.0, 0.0]]
    """
    total = own[:, :1] + other[:, :1]
    length = np.divide(own[:, :1] - other[:, :1], total, out=np.zeros_like(total), where=total > 0)
    a, b = (
        np.divide(counts[:, 1:], counts[:, :1], out=np.zeros_like(counts[:, 1:]), where=counts[:, :1] > 0)
        for counts in (own, other)
    )
    return np.hstack([length, (a - b) / (a + b + 1)])


def style_controlled(
    differences: FloatArray, share: FloatArray, weight: IntArray, *, seed: int
) -> dict[str, Any] | None:
    """Fit a Bradley-Terry model of one model and its baseline that also has the differences of style.

    The differences are standardised over the battles, and a strong verdict counts as three battles; so the strength is
    that at the battles' mean style, as arena-hard-auto has it. `equal_style` is the same fit where neither answer
    has more of anything.

    Args:
        differences: Shape (G, F): as from `style_differences`.
        share: Shape (G,): the model's share of the win: 0, 0.5 or 1.
        weight: Shape (G,): the verdicts' weights.
        seed: Of the resampling.

    Returns:
        `score`, `low`, `high`: median, 5th and 95th percentile in per cent of wins, of `rounds` of 100 bootstraps over battles
        (those without a finite fit are left out); `log_odds`: the strength of the fit to all battles;
        `coefficients`: shape (F,), of the standardised differences, 0 where a difference never varies; `equal_style`:
        per cent of wins at equal style. None if the battles determine no finite fit.
    """
    rows = np.repeat(np.arange(len(share)), weight)
    share, differences = share[rows], differences[rows]
    if len(rows) < 2:
        return None
    mean, spread = differences.mean(axis=0), differences.std(axis=0, ddof=1)
    varies = spread > 1e-12
    scale = np.where(varies, spread, 1.0)
    design = np.hstack([np.ones((len(rows), 1)), ((differences - mean) / scale)[:, varies]])
    fitted = _logistic(design, share)
    if fitted is None:
        return None
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(rows), size=(PUBLISHED_ROUNDS, len(rows)))
    rounds = [found for at in drawn if (found := _logistic(design[at], share[at])) is not None]
    values = np.array([_per_cent(found[0]) for found in rounds])
    coefficients = np.zeros(differences.shape[1])
    coefficients[varies] = fitted[1:]
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95]) if rounds else (None, None, None)
    return {
        "score": None if middle is None else float(middle),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "rounds": len(rounds),
        "log_odds": float(fitted[0]),
        "coefficients": coefficients.tolist(),
        "equal_style": _per_cent(float(fitted[0]) - float((coefficients * mean / scale).sum())),
    }


def _per_cent(log_odds: float) -> float:
    return 50.0 * (1.0 + math.tanh(log_odds / 2))


def _logistic(design: FloatArray, share: FloatArray) -> FloatArray | None:
    """Fit a logistic regression by Newton's method; None if the likelihood has no finite maximum."""
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-design @ weights))
        curve = (design * (chance * (1 - chance))[:, None]).T @ design
        try:
            step = np.linalg.solve(curve, design.T @ (share - chance))
        except np.linalg.LinAlgError:
            return None
        weights += np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < _NEAR:
            return weights
        if float(np.abs(weights).max()) > _LARGEST:
            return None
    return None
