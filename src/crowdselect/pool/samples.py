"""Of several samples of a model, which one stands for it: the best-rewarded to train on, the worst to reject."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crowdselect.pool.cells import Keys
from crowdselect.seeding import UInt64Array, content_hash, reseeded, seeded_hash
from crowdselect.types import BoolArray, FloatArray, IntArray

ObjectArray = NDArray[np.object_]

_NONE = -1


def draws(keys: Keys, *, ids: ObjectArray, models: Sequence[str], seed: int) -> UInt64Array:
    """Hash each answer by its id, model and sample, with a seed.

    Args:
        keys: Of the A answers.
        ids: The N ids.
        models: The M models.
        seed: Any integer.

    Returns:
        Shape (A,); what it holds for answers that take no part says nothing.
    """
    levels, codes = np.unique(keys.sample, return_inverse=True)
    numbers = seeded_hash([repr(float(level)) for level in levels], seed=seed, salt="sample number")
    rows = content_hash(ids)[keys.row] if len(ids) else np.zeros(len(keys.row), dtype=np.uint64)
    mixed = reseeded(rows, seed=seed, salt="answer") + content_hash(models)[keys.model]
    return reseeded(reseeded(mixed, seed=seed, salt="model") + numbers[codes], seed=seed, salt="sample")


def pick(
    keys: Keys, rewards: FloatArray, said: BoolArray, draw: UInt64Array, *, lowest: bool = False
) -> IntArray:
    """Choose one answer per cell.

    Args:
        keys: Which cell each of A answers belongs to.
        rewards: Shape (A,). NaN = none.
        said: Which answers may be taken, shape (A,).
        draw: From `draws`: orders equal rewards.
        lowest: Whether the lowest reward is wanted instead of the highest.

    Returns:
        Answers, at most one per cell, in the order of the cells; one without a reward only where no other of
        its cell has one.
    """
    may = said[keys.order]
    answers, cells = keys.order[may], keys.cell[may]
    own = rewards[answers]
    order = np.lexsort((draw[answers], own if lowest else -own, np.isnan(own), cells))
    ordered = cells[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return np.asarray(answers[order[first]])
