"""The pool that a selection was made from, found again through its manifest."""

from collections.abc import Mapping
from typing import Any

from crowdselect.errors import InputError
from crowdselect.pool import Pool, open_pool
from crowdselect.selection import Selection


def reopen_pool(selection: Selection, path: str | None = None) -> tuple[Pool | None, str | None]:
    """Open the pool of a selection.

    Args:
        selection: From `crowdselect.load_selection`.
        path: Where the pool is now; None takes the place that the manifest names.

    Returns:
        The pool, or None where the manifest's place no longer holds it; and what the user should know: that
        it is not there, or that its content has changed since.

    Raises:
        InputError: `path` is given and cannot be opened.
    """
    facts = selection.facts
    try:
        pool = open_pool(path or facts["pool"], layout=facts["layout"], rewards=facts["rewards"])
    except InputError as error:
        if path is not None:
            raise
        return None, f"the pool's texts are not shown: {error}; name its place with --pool"
    if pool.fingerprint() != facts["fingerprint"]:
        return (
            pool,
            f"{pool.path}: its content is not what it was when this selection was made; texts may differ",
        )
    return pool, None


def texts_of(pool: Pool | None, row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The text of a row's instruction and of its answer to train on, where the pool has them.

    Args:
        pool: From `reopen_pool`.
        row: A row of a selection.

    Returns:
        Instruction and answer; None for what is not there.
    """
    if pool is None:
        return None, None
    instruction = answer = None
    if pool.has_text:
        place = dict(zip(pool.ids, pool.instructions(), strict=True))
        instruction = place.get(row["id"])
    if pool.has_responses and row["model"] is not None:
        answer = pool.responses([(row["id"], row["model"])])[0]
    return instruction, answer
