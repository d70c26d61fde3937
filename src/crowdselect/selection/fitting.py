"""Answers that fit the student: with `answer='fits:MODEL'`, the good answer of each chosen row that MODEL finds most likely.

Rows are chosen as with `answer='best'`, as neither the crowd nor the format bars or scores a row by which of its good answers is
trained on. So only the good answers of the chosen rows are scored; what does depend on that answer is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crowdselect._optional import check_optional
from crowdselect.cache import folder
from crowdselect.embed.vectors import vector_kind
from crowdselect.errors import OptionError, ShapeError
from crowdselect.modelfolders import check_model_folder
from crowdselect.numeric.responses import Fits, Several, fits_of
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress
from crowdselect.selection.keep import lowest_kept
from crowdselect.selection.methods import Method
from crowdselect.selection.options import Options
from crowdselect.selection.reading import BATCH, Answered, Function, Shards, answers_mapped
from crowdselect.selection.rows import Fitted, Rows
from crowdselect.types import BoolArray, FloatArray

_OF_ANSWERS = ("length",)  # numbers of the answer to train on


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """How a model scores answers; none of it changes the choice but `max_length`."""

    max_length: int = 2048
    """Most tokens of messages and answer together; of a longer answer the beginning counts."""
    batch_tokens: int = 4096
    """Most tokens of a batch."""
    device: str = "auto"
    """"auto", "cpu", "cuda", ..."""
    parts: str | Path | None = None
    """A folder that caches fits by model, messages and answer; on a cluster, one that all machines share. None = one in the cache
    folder, or no cache if `Options.cache` is off."""


AS_USUAL = Fitting()


class Scorer(Protocol):
    """Scores answers, and knows which it has scored; see `crowdselect.methods.fits.KeptFits`."""

    def __call__(self, rows: Sequence[Answered], /) -> FloatArray:
        """Give the fit of each answer. NaN = none."""
        ...

    def are_known(self, rows: Sequence[Answered], /) -> FloatArray:
        """Tell for each answer whether its fit is in the cache: 1 or 0."""
        ...


def checked_fits(options: Options) -> Fits | None:
    """Return which model scores answers, as far as can be known without loading it; None where the options ask for none.

    Raises:
        MissingExtraError: The extra `reward` is not installed.
        InputError: There is no such folder, or it holds no model.
    """
    fits = fits_of(options.answer)
    if fits is not None:
        for module in ("torch", "transformers"):
            check_optional(module, extra="reward")
        check_model_folder(fits.model)
    return fits


def scorer_of(options: Options, fitting: Fitting) -> Scorer | None:
    """Make what scores answers; None where the options ask for none.

    Raises:
        MissingExtraError: The extra `reward` is not installed.
        InputError: There is no such model.
        OptionError: `max_length` or `batch_tokens` is below 8.
    """
    fits = checked_fits(options)
    if fits is None:
        return None
    parts = fitting.parts if fitting.parts is not None else folder() / "fits" if options.cache else None
    above = import_module("crowdselect.methods.fits")  # it stands above this package
    made: Scorer = above.KeptFits(
        None if parts is None else Path(parts),
        model=fits.model,
        max_length=fitting.max_length,
        batch_tokens=fitting.batch_tokens,
        device=fitting.device,
    )
    return made


def check_fits(options: Options, method: Method, pool: Pool, *, numbers: Mapping[str, str]) -> None:
    """Refuse what would score or bar rows by the answer to train on, which is taken after the rows.

    Args:
        options: `answer` counts here.
        method: What scores the rows.
        pool: The pool.
        numbers: The numbers that are asked for by name, each with the option that does so.

    Raises:
        OptionError: The method reads the answer to train on or its reward, or a number is of that answer; or there are no
            answers.
    """
    if fits_of(options.answer) is None:
        return
    if not pool.has_responses:
        raise OptionError(f"{pool.path}: the pool holds no answers, so none of them fits a model")
    by_reward = [name for name in method.columns if name in pool.reward_columns]
    what = [f"`method={method.name}` reads it"] if "answer" in method.needs else []
    what += [f"`method={method.name}` reads its {name}" for name in by_reward]
    if method.examples is not None and vector_kind(options.embedder).reads_answers:
        what.append(f"`embedder={options.embedder!r}` reads it with `method={method.name}`")
    what += [f"`{option}` names its {name}" for name, option in numbers.items() if name in _OF_ANSWERS]
    if what:
        raise OptionError(
            f"`answer={options.answer!r}` takes the answer of a row once the row is chosen, but {what[0]}; choose by something "
            "else, or leave `answer` out"
        )


def good_of(rows: Rows, chosen: BoolArray, options: Options) -> Several:
    """List the good answers of the chosen rows: those that a model scores.

    An answer is good if it is among the best of its row by reward (`Candidates.good_enough`), and not below the lower end of a
    band of `best_reward`.

    Args:
        rows: From `look_at`.
        chosen: Shape (N,).
        options: `keep` counts here.

    Returns:
        At least one answer of each chosen row, the best-rewarded first.
    """
    good = rows.answers.good
    if good is None:
        raise ShapeError("the rows were looked at without a list of good answers")
    low = lowest_kept(options.keep, "best_reward", rows.answers.best_reward)
    at = np.flatnonzero(chosen[good.row] & (good.reward >= low))
    return Several(
        good.row[at], good.model[at], None if good.sample is None else good.sample[at], good.reward[at]
    )


def scored_answers(
    function: Function, good: Several, *, shards: Shards, rows: Rows, progress: Progress
) -> FloatArray:
    """Apply a function to answers in batches, wherever they are read; one number each."""
    out, done = np.full(len(good.row), np.nan), 0
    for batch, numbers in answers_mapped(function, good, shards=shards, known=rows, size=BATCH):
        out[batch] = numbers
        done += len(batch)
        progress(done, len(out))
    return out


def with_fits(
    rows: Rows,
    chosen: BoolArray,
    scorer: Scorer,
    *,
    shards: Shards,
    options: Options,
    progress: Progress,
) -> Rows:
    """Take of each chosen row the good answer that fits best.

    Of equal fits the higher reward counts, then a seeded hash. An answer without a fit comes after those that have one; where
    none has, it is the best-rewarded.

    Args:
        rows: From `look_at`.
        chosen: Which rows are chosen, shape (N,).
        scorer: From `scorer_of`.
        shards: How the pool is read.
        options: As for `good_of`.
        progress: Called with the number of answers scored.

    Returns:
        The rows with other answers, and `Rows.fitted`.
    """
    good = good_of(rows, chosen, options)
    fits = scored_answers(scorer, good, shards=shards, rows=rows, progress=progress)
    # Stable: equal fits stay in their order, the best-rewarded first.
    order = np.lexsort((-np.nan_to_num(fits, nan=-np.inf), good.row))
    taken = order[np.searchsorted(good.row, np.flatnonzero(chosen))]
    answers, at = rows.answers, good.row[taken]

    def put(values: NDArray[Any], new: NDArray[Any]) -> Any:  # noqa: ANN401  (as it is given)
        out = values.copy()
        out[at] = new[taken]
        return out

    answers = replace(
        answers,
        chosen=put(answers.chosen, good.model),
        reward=put(answers.reward, good.reward),
        sample=None if answers.sample is None or good.sample is None else put(answers.sample, good.sample),
    )
    without = int(np.isnan(fits).sum())
    note = (
        f"{without:,} of {len(fits):,} good answers have no fit: the messages before them are longer than `max_length`, the chat template "
        "refuses them, or the model gives no finite number; such an answer is taken where its row has no other"
    )
    notes = (*rows.notes, note) if without else rows.notes
    return replace(rows, answers=answers, fitted=Fitted(good, fits, taken), notes=notes)
