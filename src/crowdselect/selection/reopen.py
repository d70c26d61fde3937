"""The pool that a selection was made from, found again through its manifest."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from crowdselect.errors import InputError, MissingExtraError
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.selection.selection import Selection


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts behind a row of a selection."""

    instruction: str | None = None
    """None where the pool has none, or is not at hand."""
    answer: str | None = None
    """The answer to train on; None likewise."""
    problem: str | None = None
    """What the user should know: that the pool is gone, or has changed since."""


def texts_of(selection: Selection, row: Mapping[str, Any], *, pool: str | None = None) -> Texts:
    """Read the texts of a row from its pool.

    Args:
        selection: From `crowdselect.load_selection`.
        row: One of its rows.
        pool: Where the pool is now; None takes the place that the manifest names.

    Returns:
        The texts, or what stands in their way.

    Raises:
        InputError: `pool` is given and cannot be opened.

    Example:
        >>> facts = {"pool": "gone.parquet", "layout": "long", "rewards": None}
        >>> gone = texts_of(Selection(table=None, options={}, facts=facts), {})
        >>> gone.problem.endswith("name its place with --pool")
        True
    """
    opened, problem = _reopened(selection, pool, gone="the texts are not shown", unsure="texts")
    if opened is None:
        return Texts(problem=problem)
    with closing(opened):
        try:
            instruction, answer = _read(opened, row)
        except InputError as error:
            return Texts(problem=f"the texts are not shown: {error}")
    return Texts(instruction, answer, problem)


def reopen_pool(selection: Selection, path: str | None = None) -> tuple[Pool | None, str | None]:
    """Open the pool of a selection, with its rewards; the caller closes it.

    Args:
        selection: From `crowdselect.load_selection`.
        path: Where the pool is now; None takes the place that the manifest names.

    Returns:
        The pool, or None where the manifest's place no longer holds it; and what the user should know: that
        it is not there, or that its content has changed since.

    Raises:
        InputError: `path` is given and cannot be opened.

    Example:
        >>> gone = Selection(table=None, options={}, facts={"pool": "gone.csv", "layout": "long", "rewards": None})
        >>> reopen_pool(gone)[0] is None
        True
    """
    return _reopened(selection, path, gone="the pool is not at hand", unsure="texts and rewards")


def _reopened(
    selection: Selection, path: str | None, *, gone: str, unsure: str
) -> tuple[Pool | None, str | None]:
    """Do what `reopen_pool` does; `gone` says what a missing pool means, `unsure` what a change puts in doubt."""
    facts = selection.facts
    try:
        pool, problem = _open(path or facts["pool"], facts)
    except (InputError, MissingExtraError, OSError) as error:
        if path is not None:
            raise
        return None, f"{gone}: {error}; name its place with --pool"
    if problem is None and pool.fingerprint() != facts["fingerprint"]:
        problem = f"{pool.path}: its content is not what this selection was made from; {unsure} may differ"
    return pool, problem


def _open(path: str, facts: Mapping[str, Any]) -> tuple[Pool, str | None]:
    """Open the pool, with its second file of rewards where that is still there: the texts do not need it."""
    try:
        return open_pool(path, layout=facts["layout"], rewards=facts["rewards"]), None
    except InputError as error:
        if facts["rewards"] is None:
            raise
        problem = f"the rewards are not at hand ({error}), so it is not known whether the texts have changed"
        return open_pool(path, layout=facts["layout"]), problem


def _read(pool: Pool, row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    instruction = answer = None
    if pool.has_text:
        instruction = dict(zip(pool.ids, pool.instructions(), strict=True)).get(row["id"])
    if pool.has_responses and row["model"] is not None:
        answer = pool.responses([(row["id"], row["model"])], [row.get("sample")])[0]
    return instruction, answer
