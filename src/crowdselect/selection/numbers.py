"""Numbers per instruction, by name: one registry for weights, bands, clusters and columns of `metrics`.

A new number is a record in `NUMBERS`. Beside these count the metrics (`crowdselect.numeric.metrics`) and the columns of
the file of `metrics`; a name that exists whole there wins.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crowdselect.errors import InputError, OptionError, ShapeError, near_miss
from crowdselect.numeric.exact import rounded
from crowdselect.numeric.irt import Items
from crowdselect.numeric.metrics import METRICS
from crowdselect.numeric.responses import ChosenAnswers
from crowdselect.types import FloatArray, ObjectArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What numbers are made of, of n instructions of a pool."""

    answers: ChosenAnswers
    """Whose answer to train on."""
    scores: FloatArray
    """Rewards, shape (n, M). NaN = no reward; the mean over samples."""
    passes: FloatArray | None
    """Share of each model's answers with full marks, shape (n, M). NaN = no reward; None = no number of them is wanted."""
    lengths: Callable[[], FloatArray]
    """Reads the lengths of the answers to train on, shape (n,)."""
    models: tuple[str, ...]
    """M names."""
    agreement: FloatArray | None = None
    """How far the rewards of an ensemble agree on each instruction, shape (n,), NaN = not known; None = one reward."""

    def number(self, name: str) -> FloatArray:
        """Give a number by its name, shape (n,). NaN = none."""
        number, model = parted(name)
        if number.of is None:
            raise ShapeError(f"{name} depends on all instructions")
        return number.of(self, None if model is None else self.models.index(model))


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """All that is known of a number."""

    name: str
    of: Callable[[Measured, int | None], FloatArray] | None
    """Gives it for each instruction, shape (n,), NaN = none; of one model where its place is given. None = it depends on
    all instructions of the pool, see `crowdselect.selection.student.Reach`."""
    words: str
    """What it is, in one line."""
    model: Literal["no", "may", "must"] = "no"
    """Whether it is of one model, written `NAME:MODEL`."""
    full_marks: bool = False
    """It counts answers with full marks, so rewards have to lie within 0 and 1, and 1 is right."""
    pairs: bool = False
    """It is of preference pairs."""
    student: bool = False
    """It is of the student."""
    ensemble: bool = False
    """It is of several rewards."""
    item: Callable[[Items], FloatArray] | None = None
    """Gives it from a model of all answers, see `crowdselect.numeric.irt`; None = it is not of that."""


def _pass_rate(measured: Measured, model: int | None) -> FloatArray:
    """Of one model; of the crowd the mean over the models that have a reward."""
    passes = measured.scores if measured.passes is None else measured.passes
    if model is not None:
        return passes[:, model]
    there = ~np.isnan(passes)
    counts = there.sum(axis=1)
    total = np.where(there, passes, 0.0).sum(axis=1)
    return rounded(np.where(counts > 0, total / np.maximum(counts, 1), np.nan))


def _learnability(measured: Measured, model: int | None) -> FloatArray:
    rate = _pass_rate(measured, model)
    return rounded(rate * (1 - rate))


def _margin(measured: Measured, _model: int | None) -> FloatArray:
    return margin(measured.answers)


def margin(answers: ChosenAnswers) -> FloatArray:
    """By how much the better answer of each pair has more reward, shape (N,). NaN = there is no pair."""
    worse = answers.rejected_reward
    return np.full(len(answers.reward), np.nan) if worse is None else answers.reward - worse


def _agreement(measured: Measured, _model: int | None) -> FloatArray:
    none = np.full(len(measured.scores), np.nan)
    return none if measured.agreement is None else measured.agreement


NUMBERS: dict[str, Number] = {
    number.name: number
    for number in (
        Number(
            name="best_reward",
            of=lambda measured, _: measured.answers.best_reward,
            words="the highest reward of an answer that may be trained on",
        ),
        Number(
            name="rewards",
            of=lambda measured, _: (~np.isnan(measured.scores)).sum(axis=1).astype(np.float64),
            words="how many models have a reward",
        ),
        Number(
            name="length",
            of=lambda measured, _: measured.lengths(),
            words="characters of the answer to train on",
        ),
        Number(
            name="margin",
            of=_margin,
            words="the reward of a pair's better answer less that of the worse",
            pairs=True,
        ),
        Number(
            name="reward",
            of=lambda measured, model: measured.scores[:, model or 0],
            words="a model's reward, the mean over its samples",
            model="must",
        ),
        Number(
            name="ease",
            of=None,
            words="share of good answers, the mean over models",
        ),
        Number(
            name="within_reach",
            of=None,
            words="what models that do as the student does elsewhere achieve here: its predicted share of good answers",
            student=True,
        ),
        Number(
            name="student_good",
            of=None,
            words="share of the student's answers that are good",
            student=True,
        ),
        Number(
            name="pass_rate",
            of=_pass_rate,
            words="share of a model's samples with full marks; of the crowd, the mean over models",
            model="may",
            full_marks=True,
        ),
        Number(
            name="learnability",
            of=_learnability,
            words="p(1 - p) of the pass rate p: highest where half of the samples are right",
            model="may",
            full_marks=True,
        ),
        Number(
            name="reward_agreement",
            of=_agreement,
            words="how far the rewards of an ensemble rank the answers alike, from -1 to 1",
            ensemble=True,
        ),
        Number(
            name="irt_difficulty",
            of=None,
            words="difficulty, whichever models answered, by item response theory",
            item=lambda items: items.difficulty,
        ),
        Number(
            name="irt_difficulty_se",
            of=None,
            words="its standard error",
            item=lambda items: items.difficulty_se,
        ),
        Number(
            name="discrimination",
            of=None,
            words="how much the better models stand out, by item response theory: 1 is usual",
            item=lambda items: items.discrimination,
        ),
        Number(
            name="discrimination_se",
            of=None,
            words="its standard error",
            item=lambda items: items.discrimination_se,
        ),
    )
}
"""The numbers by name."""


def forms(
    *,
    samples: bool = True,
    full_marks: bool = True,
    pairs: bool = True,
    student: bool = True,
    ensemble: bool = True,
) -> list[str]:
    """Write the names that count in a pool, with `:MODEL` where a model is to be named.

    Args:
        samples: Whether a model has several answers to an instruction.
        full_marks: Whether rewards lie within 0 and 1.
        pairs: Whether pairs are made.
        student: Whether a student is named.
        ensemble: Whether there are several rewards.

    Example:
        >>> forms(samples=False, full_marks=False, pairs=False, student=False, ensemble=False)  # doctest: +NORMALIZE_WHITESPACE
        ['difficulty', 'separability', 'stability', 'best_reward', 'rewards', 'length', 'reward:MODEL', 'ease',
        'irt_difficulty', 'irt_difficulty_se', 'discrimination', 'discrimination_se']
    """
    found = [name for name, metric in METRICS.items() if samples or not metric.of_samples]
    for name, number in NUMBERS.items():
        lacks = (
            number.full_marks and not full_marks,
            number.pairs and not pairs,
            number.student and not student,
            number.ensemble and not ensemble,
        )
        if any(lacks):
            continue
        found += [name] if number.model != "must" else []
        found += [f"{name}:MODEL"] if number.model != "no" else []
    return found


def parted(name: str) -> tuple[Number, str | None]:
    """Part the name of a number of the registry from its model.

    Raises:
        KeyError: There is no such number.

    Example:
        >>> parted("pass_rate:ollama/qwen:7b")[1]
        'ollama/qwen:7b'
    """
    first, colon, model = name.partition(":")
    number = NUMBERS[first]
    if (number.model == "no" and colon) or (number.model == "must" and not model):
        raise KeyError(name)
    return number, model if colon else None


def is_number(name: str) -> bool:
    """Say whether a name has the form of a number of the registry; whether its model exists is another question.

    Example:
        >>> is_number("reward:m"), is_number("reward"), is_number("best_reward")
        (True, False, True)
    """
    try:
        parted(name)
    except KeyError:
        return False
    return True


def depends_on_all(name: str) -> bool:
    """Say whether a number of the registry depends on all instructions of the pool.

    Example:
        >>> depends_on_all("ease"), depends_on_all("length")
        (True, False)
    """
    return is_number(name) and parted(name)[0].of is None


def rests_on_items(name: str) -> bool:
    """Say whether a number of the registry comes from a model of all answers.

    Example:
        >>> rests_on_items("discrimination"), rests_on_items("ease")
        (True, False)
    """
    return is_number(name) and parted(name)[0].item is not None


def item_numbers(names: Iterable[str], items: Items) -> dict[str, FloatArray]:
    """Give those of some numbers that come from a model of all answers, by name, shape (N,) each. NaN = none."""
    found = {name: NUMBERS[name].item for name in names if rests_on_items(name)}
    return {name: of(items) for name, of in found.items() if of is not None}


def rests_on_full_marks(name: str) -> bool:
    """Say whether a number of the registry needs rewards within 0 and 1."""
    return is_number(name) and parted(name)[0].full_marks


def check_number(
    name: str,
    *,
    where: str,
    models: Sequence[str],
    more: Collection[str],
    pairs: bool,
    student: bool,
    ensemble: bool = False,
) -> None:
    """Refuse a name that is no number of a pool.

    Args:
        name: The name.
        where: The option that names it, for messages.
        models: The pool's models.
        more: Further names that count: the metrics, the columns of the file of `metrics`.
        pairs: Whether pairs are made.
        student: Whether a student is named.
        ensemble: Whether several rewards are combined.

    Raises:
        OptionError: There is no such number, no such model, no pair, no student, or only one reward.
    """
    if name in more:
        return
    if not is_number(name):
        known = [*more, *(form for form in forms() if form not in METRICS)]
        raise OptionError(
            f"`{where}`: no number {name!r}; the numbers are: {', '.join(known)}{near_miss(name, known)}"
        )
    number, model = parted(name)
    if model is not None and model not in models:
        shown = ", ".join(models[:20]) + (", ..." if len(models) > 20 else "")
        raise OptionError(
            f"`{where}`: {name} is of no model of the pool; its models are: {shown}{near_miss(model, models)}"
        )
    if number.pairs and not pairs:
        raise OptionError(f"`{where}`: {name} is of pairs, which `pairs='best-worst'` makes")
    if number.student and not student:
        raise OptionError(f"`{where}`: {name} is of the student; name it with `student`")
    if number.ensemble and not ensemble:
        raise OptionError(
            f"`{where}`: {name} is of several rewards, which `select` combines: name them with `reward`, and the `ensemble`"
        )


def as_numbers(values: ObjectArray, *, where: Callable[[int], str]) -> FloatArray:
    """Read text as numbers.

    Args:
        values: Shape (N,), of str; None where missing.
        where: Names the value of a row, for messages.

    Returns:
        Shape (N,). NaN = missing.

    Raises:
        InputError: A value is not a finite number.
    """
    out = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if value is not None:
            try:
                out[row] = float(value)
            except ValueError:
                out[row] = np.inf
            if np.isinf(out[row]):
                raise InputError(f"{where(row)} is {value[:80]!r}; wanted a finite number")
    return out


def check_marks(name: str, reward: str | None, marks: tuple[float, float] | None) -> None:
    """Refuse a number that counts full marks where rewards do not lie within 0 and 1.

    Args:
        name: The number.
        reward: The reward column, for messages.
        marks: The lowest and the highest reward of any answer; None = there is none.

    Raises:
        OptionError: They do not.
    """
    if marks is None or (marks[0] >= 0 and marks[1] <= 1):
        return
    low, high = marks
    made = (
        f"`reward={reward}:up/{high:g}`" if low >= 0 else "a column of 0 and 1, as with `crowdselect reward`,"
    )
    raise OptionError(
        f"{name} is a share of right answers, so rewards have to lie within 0 and 1, where 1 is right; {reward} goes from "
        f"{low:g} to {high:g}: {made} makes it so"
    )
