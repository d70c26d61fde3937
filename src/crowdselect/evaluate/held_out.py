"""Rows to measure a model on: of a training file, or of the instructions of a pool that a selection left out."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from crowdselect.errors import InputError, OptionError
from crowdselect.numeric.ranks import uniform_ranks
from crowdselect.numeric.responses import ChosenAnswers
from crowdselect.pool.pool import Pool
from crowdselect.pool.prompts import Chat
from crowdselect.seeding import seeded_hash
from crowdselect.selection.folder import load_selection
from crowdselect.selection.look import look_at
from crowdselect.selection.options import Options
from crowdselect.terminal import counted
from crowdselect.train.rows import read_rows
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

BANDS = ("easy", "medium", "hard")
"""Thirds of a pool's instructions by the crowd's difficulty."""


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction with the answer that is measured."""

    id: str
    category: str
    """A band of difficulty; empty for rows of a file."""
    prompt: Chat
    answer: str
    other: str | None = None
    """The crowd's worse answer, where two are compared."""
    tools: str | None = None
    """Those that may be called, as JSON; None if there are none."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows in the order of their ids, and lines for the user."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """Hash the rows: 64 hexadecimal digits."""
        lines = [
            json.dumps([row.id, row.prompt, row.answer, row.other, *([row.tools] if row.tools else [])])
            for row in self.rows
        ]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def rows_of_file(path: str, *, skip_invalid: bool = False) -> HeldOut:
    """Read the rows of a training file, or of a folder that `select` wrote.

    Args:
        path: As for `crowdselect.train.rows.read_rows`. Of preference pairs the preferred answer counts.
        skip_invalid: Leave malformed rows out, counted.

    Returns:
        The rows; of several with the same id, the ids are numbered by the rows' content.

    Raises:
        InputError: As for `read_rows`.
    """
    found = read_rows(path, skip_invalid=skip_invalid)
    ordered = sorted(found.rows, key=lambda row: (row.id, json.dumps(row.prompt), row.answer))
    seen: Counter[str] = Counter()
    rows = []
    for row in ordered:
        seen[row.id] += 1
        number = seen[row.id]
        id_ = row.id if number == 1 else f"{row.id} ({number})"
        rows.append(Row(id_, "", list(row.prompt), row.answer, tools=row.tools))
    return HeldOut(tuple(rows), found.notes)


def rows_of_pool(
    pool: Pool,
    *,
    reward: str | None = None,
    chosen: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
    pairs: bool = False,
    min_margin: float = 0.0,
) -> HeldOut:
    """Take instructions of a pool with the crowd's best answer.

    Args:
        pool: From `crowdselect.open_pool`.
        reward: The reward column; None = the pool's only one.
        chosen: Folders of selections, whose instructions are left out.
        sample: Take so many, by a seeded hash of their ids; None = all.
        seed: Decides equal rewards and the sample.
        pairs: With the crowd's worst answer, another one to the same messages.
        min_margin: With `pairs`: take only instructions whose two answers' rewards are at least so far apart; equal
            ones are never taken.

    Returns:
        The rows; the notes count what was left out.

    Raises:
        InputError: No row is left, or a selection is of another pool.
        RewardError: The pool has no reward, or several and none was named.
        OptionError: `sample` or `min_margin` makes no sense.
    """
    if sample is not None and sample < 1:
        raise OptionError(f"`sample` is {sample}; wanted at least 1")
    if not min_margin >= 0:
        raise OptionError(f"`min_margin` is {min_margin:g}; wanted at least 0")
    options = Options(budget=1, reward=reward, clusters=0, pairs="best-worst" if pairs else None, seed=seed)
    _, known = look_at(pool, options=options)
    ids = np.asarray(list(known.ids), dtype=object)
    barred = known.blank if known.left_out is None else known.blank | (known.left_out != np.array(None))
    reasons = _reasons(known.answers, barred, pairs=pairs, min_margin=min_margin)
    bands = _bands(known.metrics["difficulty"], np.array([reason is None for reason in reasons]))
    trained_on = _ids_of(chosen, set(ids.tolist()))
    reasons = [
        "chosen" if reason is None and id_ in trained_on else reason
        for id_, reason in zip(ids, reasons, strict=True)
    ]
    rows = np.flatnonzero([reason is None for reason in reasons])
    if sample is not None:
        hashes = seeded_hash(ids[rows].tolist(), seed=seed, salt="held out")
        rows = np.sort(rows[np.lexsort((ids[rows], hashes))[:sample]])
    if not len(rows):
        raise InputError(f"{pool.path}: no instruction to measure on is left: {_counted(reasons)}")
    notes = [*known.pool_notes, *([_counted(reasons)] if any(reasons) else [])]
    if sample is not None and len(rows) < sample:
        notes.append(f"`sample` is {sample:,}, but only {counted(len(rows), 'instruction')} can be taken")
    return HeldOut(tuple(_read(pool, ids, bands, rows, known.answers, pairs=pairs)), tuple(notes))


def _reasons(
    answers: ChosenAnswers, barred: BoolArray, *, pairs: bool, min_margin: float
) -> list[str | None]:
    """Say of each instruction why it cannot be measured on; None = it can."""
    margin = answers.reward if answers.rejected_reward is None else answers.reward - answers.rejected_reward
    reasons: list[str | None] = []
    for at, column in enumerate(answers.chosen.tolist()):
        reason = None
        if barred[at]:
            reason = "without text, or not of plain text"
        elif column < 0:
            reason = "without a finished answer with a reward"
        elif pairs and (answers.rejected is None or answers.rejected[at] < 0):
            reason = "without a second answer to compare"
        elif pairs and not margin[at] > 0:
            reason = "with equal rewards alone"
        elif pairs and margin[at] < min_margin:
            reason = "with rewards nearer than `min_margin`"
        reasons.append(reason)
    return reasons


def _bands(difficulty: FloatArray, eligible: BoolArray) -> list[str]:
    """Give each instruction its band of difficulty among the eligible; equal ones are in the same."""
    known = eligible & np.isfinite(difficulty)
    ranks = uniform_ranks(difficulty, known)
    places = np.minimum(np.nan_to_num(ranks) * len(BANDS), len(BANDS) - 1).astype(int)
    return [BANDS[place] if is_known else "" for place, is_known in zip(places, known, strict=True)]


def _ids_of(chosen: Sequence[str], known: Collection[str]) -> set[str]:
    """Read the ids that selections chose.

    Raises:
        InputError: A folder holds no selection, or one whose ids are not in the pool.
    """
    found: set[str] = set()
    for folder in chosen:
        table = load_selection(folder).table
        own = set(table.filter(table["selected"])["id"].to_pylist())
        if own.isdisjoint(known):
            raise InputError(
                f"{folder}: none of the instructions that it chose is in the pool; wanted a selection of it"
            )
        found |= own
    return found


def _counted(reasons: Sequence[str | None]) -> str:
    counts = Counter(reason for reason in reasons if reason is not None)
    return "left out: " + "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common())


def _read(
    pool: Pool, ids: ObjectArray, bands: Sequence[str], rows: IntArray, answers: ChosenAnswers, *, pairs: bool
) -> list[Row]:
    """Read the texts of rows."""
    models = pool.models

    def texts(columns: IntArray, samples: FloatArray | None) -> tuple[list[Chat], list[str | None]]:
        cells = [(ids[row], models[columns[row]]) for row in rows]
        numbers = (
            None if samples is None else [None if np.isnan(samples[row]) else samples[row] for row in rows]
        )
        return pool.prompts(cells, numbers), pool.responses(cells, numbers)

    prompts, best = texts(answers.chosen, answers.sample)
    worst: list[str | None] = [None] * len(rows)
    if pairs and answers.rejected is not None:
        worst = texts(answers.rejected, answers.rejected_sample)[1]
    tools = pool.tools([ids[row] for row in rows])
    return [
        Row(ids[row], bands[row], prompt, answer or "", other, own)
        for row, prompt, answer, other, own in zip(rows, prompts, best, worst, tools, strict=True)
    ]
