"""What is said where a reward, or a number made of it, cannot tell what it is used for."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from crowdselect.numeric.metrics import METRICS, by_family
from crowdselect.numeric.telling import (
    ALIKE,
    share_of_commonest,
    tells_of_answers_alone,
    tells_of_rows_alone,
)
from crowdselect.pool.rewards import instead_of, same_for_all
from crowdselect.selection.options import Options
from crowdselect.selection.rows import Rows, weights_without
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

TellsOf = Literal["both", "instructions", "answers"]

_OTHER = "choose by another method, as `crowdselect select --method random`, or score the answers with `crowdselect reward`"
_SHOWN = 3  # models that a message names
_FEW_ROWS = 5
_FEW_FAMILIES = 3  # with fewer, metrics by family are mostly noise


def tells_of(scores: FloatArray) -> TellsOf:
    """Say what a reward tells of: it may be the same for all answers to each instruction, or the same set of values in each.

    Args:
        scores: Rewards, shape (N, M). NaN = none.

    Example:
        >>> tells_of(np.array([[1.0, 2.0], [2.0, 1.0]])), tells_of(np.array([[1.0, 1.0], [2.0, 2.0]]))
        ('answers', 'instructions')
    """
    if tells_of_rows_alone(scores):
        return "instructions"
    return "answers" if tells_of_answers_alone(scores) else "both"


def alone_line(reward: str, of: TellsOf) -> str:
    """Say what a reward that tells of answers alone, or of instructions alone, cannot do, and what can be done.

    Args:
        reward: Its name.
        of: From `tells_of`, not "both".
    """
    if of == "instructions":
        return f"{same_for_all(reward)}; {instead_of(reward)}"
    return (
        f"{reward} has the same values in nearly every instruction, as ranks do: it tells which answer is better and not which "
        f"instruction is harder, so difficulty and separability choose nothing; {_OTHER}"
    )


def telling_lines(
    rows: Rows, eligible: BoolArray, options: Options, weights: Mapping[str, float]
) -> list[str]:
    """Warn of a reward that is the same for all answers to each instruction, and of weights of numbers that tell hardly anything.

    These are the same in nearly all rows, or by family where few families show an order.

    Args:
        rows: From `crowdselect.selection.look.look_at`.
        eligible: Which rows may be chosen, shape (N,).
        options: The answers that are taken count here.
        weights: Those in use; empty where the method does not weigh.
    """
    all_equal = bool((rows.answers.best_reward[eligible] == rows.lowest).all())  # which is said elsewhere
    lines, flat = [], {}
    if not all_equal and _is_of_instructions(rows):
        drawn = "" if options.answer != "best" else "; which answer is trained on is drawn by lot"
        lines = [f"{same_for_all(str(rows.reward))}{drawn}; {instead_of(str(rows.reward))}"]
    weighted = [name for name, weight in weights.items() if weight and name in rows.metrics]
    if not (all_equal or lines):
        flat = _flat(rows, eligible, weighted)
    noisy = [name for name in by_family(weights) if rows.families < _FEW_FAMILIES]
    nothing_else = bool(flat) and set(weighted) == {*flat, *noisy}
    counts = rows.n_rewards[eligible & (rows.n_rewards > 0)]
    lines += drawn_lines(counts, len(rows.crowd.names), weights)
    lines += [_noisy_line(name, rows.families, None if nothing_else else weights) for name in noisy]
    return lines + ([_flat_line(flat, weights, nothing_else=nothing_else, noisy=noisy)] if flat else [])


def _is_of_instructions(rows: Rows) -> bool:
    """Whether no two models have different rewards for an instruction, in a pool of one answer of each."""
    spread, several = rows.metrics.get("separability"), rows.n_rewards > 1
    if rows.reward is None or spread is None or not several.any() or np.nan_to_num(spread).any():
        return False
    return not any(metric.of_samples and name in rows.metrics for name, metric in METRICS.items())


def drawn_lines(counts: IntArray, models: int, weights: Mapping[str, float]) -> list[str]:
    """Warn of difficulty where few of the models answered an instruction: it depends on which these were.

    Args:
        counts: Rewards of each instruction that may be chosen.
        models: Models of the crowd.
        weights: Those in use.

    Example:
        >>> drawn_lines(np.array([2, 2, 3]), 9, {"difficulty": 1.0})[0].partition(";")[0]
        'difficulty depends on which models answered: a typical instruction has rewards of 2 of the 9 models'
    """
    usual = int(np.median(counts)) if counts.size else models
    if not weights.get("difficulty") or 2 * usual > models or usual == models:
        return []
    few = f"a typical instruction has rewards of {usual} of the {models} models"
    return [
        f"difficulty depends on which models answered: {few}; {weights_without('', fair_weights(weights))} allows for it"
    ]


def fair_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Weigh the difficulty that allows for which models answered, instead of the other."""
    return {"irt_difficulty" if name == "difficulty" else name: weight for name, weight in weights.items()}


def _noisy_line(name: str, families: int, weights: Mapping[str, float] | None) -> str:
    have = "family has" if families == 1 else "families have"
    rest = "" if weights is None else f"; leave it out with {weights_without(name, weights)}"
    return f"{name} is mostly noise here: only {families} model {have} two sizes or more{rest}"


def _flat(rows: Rows, eligible: BoolArray, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The numbers that are the same in nearly all eligible rows: the share of these, and the number; of a few rows nothing is said."""
    if int(eligible.sum()) < _FEW_ROWS:
        return {}
    found = {name: share_of_commonest(rows.metrics[name][eligible]) for name in names}
    return {name: each for name, each in found.items() if each[0] >= ALIKE}


def _flat_line(
    flat: Mapping[str, tuple[float, float]],
    weights: Mapping[str, float],
    *,
    nothing_else: bool,
    noisy: Sequence[str],
) -> str:
    one = len(flat) == 1
    told = " and ".join(f"{name} ({value:.4g} in {share:.1%})" for name, (share, value) in flat.items())
    said = f"{told} {'is' if one else 'are'} the same in nearly all eligible instructions"
    if "difficulty" in flat and flat.get("separability", (0.0, 0.0))[1] > 0:
        said += ", as where rewards are ranks, which tell which answer is better and not which instruction is harder"
    if nothing_else:
        others = [name for name in noisy if name not in flat]
        return f"{said}: little but chance{''.join(f' and {name}' for name in others)} chooses among these; {_OTHER}"
    rest = weights_without("", {**weights, **dict.fromkeys(flat, 0.0)})
    return f"{said}, so {'its weight chooses' if one else 'their weights choose'} nothing; {rest} leaves {'it' if one else 'them'} out"


def unrewarded_lines(rows: Rows, reasons: ObjectArray, options: Options) -> list[str]:
    """Say that several answers to an instruction, none with a reward, leave nothing to take one by.

    Args:
        rows: From `crowdselect.selection.look.look_at`.
        reasons: Why each row is not eligible, shape (N,).
        options: `answer` and `pairs` count here.
    """
    count = int((reasons == "no_answer").sum())
    by_reward = options.pairs is not None or options.answer == "best" or options.answer.startswith("top")
    if not count or not by_reward or not np.isnan(rows.answers.best_reward).all():
        return []
    if options.pairs is not None:
        return ["no answer has a reward, so there are no pairs; score the answers with `crowdselect reward`"]
    names = ", ".join(rows.crowd.names[:_SHOWN]) + (", ..." if len(rows.crowd.names) > _SHOWN else "")
    said = "no answer has a reward, so which of several to an instruction is the best is not known"
    takes = f"`answer='random'` takes any, `answer='model:NAME'` that of one model ({names})"
    return [f"{said}; {takes}, and `crowdselect reward` scores them"]
