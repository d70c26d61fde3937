"""Choose the answer to train on, and the answer to reject in a preference pair.

Every draw is a seeded hash of the id and the model, so other rows and their order never change it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from crowdselect.errors import OptionError
from crowdselect.numeric.candidates import Candidates
from crowdselect.seeding import UInt64Array, mixed_hash, reseeded, seeded_hash
from crowdselect.types import BoolArray, FloatArray, IntArray

_NONE = -1
_BLOCK = 1 << 16  # rows at a time: bounds the (rows, M) table of hashes
_FITS = re.compile(r"fits:(.*?)(?:,([-+]?\d*\.?\d+))?")
_BEST_THIRD = 1 / 3
_TOP = re.compile(r"top([1-9]\d*)-random")


@dataclass(frozen=True, slots=True)
class Several:
    """The answers of each instruction, best first, where it may have several."""

    row: IntArray
    """Shape (B,): instruction, ascending."""
    model: IntArray
    """Shape (B,)."""
    sample: FloatArray | None
    """The number of the sample, shape (B,); None where the pool has no samples."""
    reward: FloatArray
    """The answer's own, shape (B,). NaN = none."""


@dataclass(frozen=True, slots=True)
class ChosenAnswers:
    """The chosen answer of each instruction, and what is known of the others."""

    chosen: IntArray
    """The chosen answer's column, shape (N,); -1 = none."""
    rejected: IntArray | None
    """The rejected answer's column, for pairs; -1 = none."""
    best_reward: FloatArray
    """The highest reward of a usable answer, shape (N,). NaN = none."""
    reward: FloatArray
    """The chosen answer's reward, shape (N,). NaN = none."""
    rejected_reward: FloatArray | None
    """The rejected answer's, for pairs."""
    sample: FloatArray | None = None
    """The number of the chosen answer's sample, shape (N,), NaN = none; None where the pool has no samples."""
    rejected_sample: FloatArray | None = None
    """The rejected answer's, for pairs."""
    unfinished: BoolArray | None = None
    """Rows where an answer that could have been taken was cut, withheld or broken off, shape (N,); None = nowhere."""
    empty: int = 0
    """How many answers have a reward and no text."""
    endings: Mapping[str, int] = field(default_factory=dict)
    """How many answers with text ended in each way; see `crowdselect.finish`."""
    text: IntArray | None = None
    """A number of the chosen answer's text, shape (N,), for a pair with an answer from elsewhere; -1 = there is none, or it
    was given to messages that other models were not."""
    several: Several | None = None
    """All answers of each instruction, where it may have more than one."""
    good: Several | None = None
    """The answers of each instruction that are good enough, of which a model's likelihood takes one; None = it takes none."""


@dataclass(frozen=True, slots=True)
class Fits:
    """What follows `fits:`: the model whose likelihood takes one of the good answers."""

    model: str
    """A causal language model: a folder, or a name on the Hub."""
    share: float
    """The best share of an instruction's answers counts as good enough."""


def fits_of(answer: str) -> Fits | None:
    """Read "fits:MODEL" or "fits:MODEL,SHARE"; None for another strategy.

    Raises:
        OptionError: The model is missing, or the share is not above 0 and at most 1.

    Example:
        >>> fits_of("fits:owner/name,0.5"), fits_of("best")
        (Fits(model='owner/name', share=0.5), None)
    """
    match = _FITS.fullmatch(answer)
    if match is None:
        return None
    model, share = match[1], _BEST_THIRD if match[2] is None else float(match[2])
    if not model:
        raise OptionError(f"`answer={answer!r}` names no model; write fits:MODEL, or fits:MODEL,SHARE")
    if not 0 < share <= 1:
        raise OptionError(f"`answer={answer!r}`: the share is {match[2]}; wanted above 0 and at most 1")
    return Fits(model, share)


def check_answer(answer: str, *, models: tuple[str, ...]) -> None:
    """Refuse an unknown answer strategy, or a teacher that is not in the pool.

    Args:
        answer: "best", "random", "topN-random" (N a whole number), "model:NAME", or as for `fits_of`.
        models: The pool's models.

    Raises:
        OptionError: The strategy is unknown, or no model has that name; or as for `fits_of`.

    Example:
        >>> check_answer("top5-random", models=("a", "b"))
    """
    if answer in {"best", "random"} or _TOP.fullmatch(answer) or fits_of(answer) is not None:
        return
    if not answer.startswith("model:"):
        raise OptionError(
            f"`answer={answer!r}` is unknown; use best, random, topN-random, model:NAME or fits:MODEL"
        )
    name = answer.removeprefix("model:")
    if name not in models:
        shown = ", ".join(models[:20]) + (", ..." if len(models) > 20 else "")
        raise OptionError(f"no model {name!r} in the pool to teach; its models are: {shown}")


def find_answers(
    scores: FloatArray,
    *,
    usable: BoolArray,
    hashes: UInt64Array,
    models: tuple[str, ...],
    answer: str,
    pairs: bool,
    seed: int,
    prompts: IntArray | None = None,
    texts: IntArray | None = None,
) -> ChosenAnswers:
    """Choose each instruction's answer, and for pairs the one to reject.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.
        usable: Which answers have text, shape (N, M).
        hashes: Content hash of each id, shape (N,).
        models: The M models' names.
        answer: As for `choose_answers`.
        pairs: Whether to choose an answer to reject, too.
        seed: Seed of ties and draws.
        prompts: From `Pool.prompt_codes`: only an answer to the same messages as the chosen one can be rejected;
            None = all answers of an id reply to the same messages.
        texts: From `Pool.text_codes`: only an answer of another text than the chosen one's can be rejected; None = texts
            are not compared.

    Returns:
        The answers.

    Raises:
        OptionError: As for `check_answer`.

    Example:
        >>> h = np.zeros(1, dtype=np.uint64)
        >>> find_answers(np.array([[1.0, 2.0]]), usable=np.array([[True, False]]), hashes=h, models=("m", "n"),
        ...              answer="best", pairs=False, seed=0).chosen.tolist()
        [0]
    """
    rows, columns = reseeded(hashes, seed=seed, salt="answer"), seeded_hash(models, seed=seed, salt="model")
    chosen = choose_answers(scores, usable=usable, rows=rows, columns=columns, models=models, answer=answer)
    rejected = None
    if pairs:
        paired = usable
        for told, same in ((prompts, True), (texts, False)):
            if told is not None:
                paired = paired & ((told == np.take_along_axis(told, chosen[:, None], axis=1)) == same)
        rejected = worst_answers(scores, usable=paired, best=chosen, rows=rows, columns=columns)
    best = np.max(scores, axis=1, where=usable & ~np.isnan(scores), initial=-np.inf)
    best[best == -np.inf] = np.nan
    return ChosenAnswers(
        chosen,
        rejected,
        best,
        reward=_taken(scores, chosen),
        rejected_reward=None if rejected is None else _taken(scores, rejected),
    )


def answers_among(
    candidates: Candidates,
    *,
    models: tuple[str, ...],
    answer: str,
    pairs: str | None,
    per_row: int,
    good: float | None = None,
) -> ChosenAnswers:
    """Choose each instruction's answer among all samples, and for pairs the one to reject.

    Args:
        candidates: The answers that may be taken.
        models: The M models' names.
        answer: As for `check_answer`; see `Candidates.taken`.
        pairs: "best-worst", "within-model" (the widest pair of one model's samples), "best-student" (the student comes after
            the M models among the candidates; where it has none there, nothing is rejected), or None.
        per_row: How many answers an instruction may have.
        good: Also list the good answers, see `Candidates.good_enough`: the share of the best ones; None = do not.

    Returns:
        The answers.

    Raises:
        OptionError: As for `check_answer`.
    """
    check_answer(answer, models=models)
    of_one = models.index(answer.removeprefix("model:")) if answer.startswith("model:") else None
    rejected, student = None, len(models) if pairs == "best-student" else None
    if pairs == "within-model":
        chosen, rejected = candidates.widest_pairs(model=of_one)
    elif student is not None:
        chosen = candidates.taken(answer, models=models, but=student)
        rejected = candidates.rejected(chosen, of=student)
    else:
        chosen = candidates.taken(answer, models=models)
        rejected = candidates.rejected(chosen) if pairs is not None else None
    return ChosenAnswers(
        candidates.models_of(chosen),
        None if rejected is None else candidates.models_of(rejected),
        candidates.best_reward(but=student),
        reward=candidates.rewards_of(chosen),
        rejected_reward=None if rejected is None else candidates.rewards_of(rejected),
        sample=candidates.numbers_of(chosen),
        rejected_sample=None if rejected is None else candidates.numbers_of(rejected),
        text=None if student is None else _texts_of(candidates, chosen),
        several=_several(candidates, candidates.several(per_row, model=of_one)) if per_row > 1 else None,
        good=None if good is None else _several(candidates, candidates.good_enough(good)),
    )


def _several(candidates: Candidates, at: IntArray) -> Several:
    number = candidates.number
    return Several(
        candidates.row[at],
        candidates.model[at],
        None if number is None else number[at],
        candidates.reward[at],
    )


def _texts_of(candidates: Candidates, chosen: IntArray) -> IntArray:
    """A number of each chosen answer's text: see `ChosenAnswers.text`."""
    texts = np.zeros(len(candidates.row), dtype=np.int64) if candidates.text is None else candidates.text
    if candidates.prompt is not None:
        texts = np.where(candidates.prompt == 0, texts, _NONE)
    out = np.full(len(chosen), _NONE, dtype=np.int64)
    out[chosen != _NONE] = texts[chosen[chosen != _NONE]]
    return out


def _taken(scores: FloatArray, columns: IntArray) -> FloatArray:
    """Take one number per row; NaN where the column is -1."""
    rewards = np.take_along_axis(scores, np.maximum(columns, 0)[:, None], axis=1)[:, 0]
    return np.where(columns != _NONE, rewards, np.nan)


def choose_answers(
    scores: FloatArray,
    *,
    usable: BoolArray,
    rows: UInt64Array,
    columns: UInt64Array,
    models: tuple[str, ...],
    answer: str = "best",
) -> IntArray:
    """Choose one model's answer per instruction.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward; such an answer is never best nor among the top N.
        usable: Which answers have text, shape (N, M).
        rows: Seeded hash of each id, shape (N,).
        columns: Seeded hash of each model, shape (M,).
        models: The M models' names.
        answer: "best" takes the highest reward; "random" any answer with text, each as likely;
            "topN-random" one of the N highest rewards; "model:NAME" that model's. Equal rewards are
            ordered by the hash of (id, model), never by the alphabet.

    Returns:
        Shape (N,), the chosen model's column; -1 where there is no answer to take.

    Raises:
        OptionError: As for `check_answer`.

    Example:
        >>> h = np.arange(2, dtype=np.uint64)
        >>> choose_answers(np.array([[1.0, 2.0], [3.0, np.nan]]), usable=np.ones((2, 2), bool),
        ...                rows=h, columns=h, models=("a", "b")).tolist()
        [1, 0]
    """
    check_answer(answer, models=models)
    out = np.empty(len(scores), dtype=np.int64)
    for begin in range(0, len(scores), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        out[block] = _choose(scores[block], usable[block], rows[block], columns, answer=answer, models=models)
    return out


def worst_answers(
    scores: FloatArray, *, usable: BoolArray, best: IntArray, rows: UInt64Array, columns: UInt64Array
) -> IntArray:
    """Choose the answer to reject in a preference pair: the lowest reward, below the best one.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.
        usable: Which answers have text, shape (N, M).
        best: The chosen answers, shape (N,), from `choose_answers`; -1 for none.
        rows: As for `choose_answers`.
        columns: As for `choose_answers`.

    Returns:
        Shape (N,), the rejected model's column; -1 where no answer has a reward below the chosen one's.

    Example:
        >>> h = np.arange(2, dtype=np.uint64)
        >>> worst_answers(np.array([[1.0, 2.0], [3.0, 3.0]]), usable=np.ones((2, 2), bool),
        ...               best=np.array([1, 0]), rows=h, columns=h).tolist()
        [0, -1]
    """
    out = choose_answers(-scores, usable=usable, rows=rows, columns=columns, models=())
    both = np.flatnonzero((out != _NONE) & (best != _NONE))
    lower = scores[both, out[both]] < scores[both, best[both]]
    rejected = np.full(len(out), _NONE, dtype=np.int64)
    rejected[both[lower]] = out[both[lower]]
    return rejected


def _choose(
    scores: FloatArray,
    usable: BoolArray,
    rows: UInt64Array,
    columns: UInt64Array,
    *,
    answer: str,
    models: tuple[str, ...],
) -> IntArray:
    if answer.startswith("model:"):
        column = models.index(answer.removeprefix("model:"))
        return np.where(usable[:, column], column, _NONE)
    if answer == "random":
        return _lowest_draw(mixed_hash(rows, columns), usable)
    rewarded = np.where(usable & ~np.isnan(scores), scores, -np.inf)
    match = _TOP.fullmatch(answer)
    if match is not None:
        return _among_top(rewarded, mixed_hash(rows, columns), top=int(match[1]))
    best = rewarded.argmax(axis=1)
    highest = rewarded[np.arange(len(best)), best]
    at_top = rewarded == highest[:, None]
    tied = np.flatnonzero(at_top.sum(axis=1) > 1)
    best[tied] = _lowest_draw(mixed_hash(rows[tied], columns), at_top[tied])
    return np.where(highest > -np.inf, best, _NONE)


def _among_top(rewarded: FloatArray, draw: UInt64Array, *, top: int) -> IntArray:
    order = np.lexsort((draw, -rewarded), axis=1)[:, :top]
    among = np.zeros(rewarded.shape, dtype=bool)
    np.put_along_axis(among, order, values=True, axis=1)
    # Mixed once more, so that the draw is independent of the order among equal rewards.
    draw_again = mixed_hash(draw.ravel(), np.zeros(1, dtype=np.uint64)).reshape(draw.shape)
    return _lowest_draw(draw_again, among & (rewarded > -np.inf))


def _lowest_draw(draw: UInt64Array, allowed: BoolArray) -> IntArray:
    taken = np.where(allowed, draw, np.iinfo(np.uint64).max).argmin(axis=1)
    return np.where(allowed.any(axis=1), taken, _NONE)
