"""Browse the rows of a pool or a selection: instruction, numbers, every model's answer and reward."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crowdselect.crowd import Crowd, students_in
from crowdselect.errors import InputError, OptionError, RewardError, near_miss
from crowdselect.pool.index import to_numpy
from crowdselect.pool.pool import Pool
from crowdselect.selection.look import look_at
from crowdselect.selection.rows import metrics_table
from crowdselect.selection.selection import Selection
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray, Table

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_TOKEN = re.compile(rf"\s*(?:(?P<quoted>{_QUOTED})|(?P<operator><=|>=|!=|=|<|>)|(?P<word>[^\s<>=!\"']+))")
_WANTED = "wanted NAME, a comparison (= != < <= > >=), VALUE, joined by `and`, such as: difficulty > 0.5 and topic = maths"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a named value with a constant."""

    name: str
    comparison: str
    """A key of `= != < <= > >=`."""
    value: str


def parse_where(text: str) -> list[Condition]:
    """Read conditions joined by `and`.

    Args:
        text: Conditions; names and values with spaces or comparison signs are quoted.

    Returns:
        The conditions, at least one.

    Raises:
        OptionError: The text has another form; the message says where.

    Example:
        >>> [c.name for c in parse_where('difficulty > 0.5 and "my topic" != maths')]
        ['difficulty', 'my topic']
    """
    tokens, position = [], 0
    while text[position:].strip():
        token = _TOKEN.match(text, position)
        if token is None:
            raise OptionError(f"`where`: cannot be read from {text[position:].strip()[:40]!r} on; {_WANTED}")
        tokens.append(token)
        position = token.end()
    conditions = []
    while tokens:
        part, tokens = tokens[:3], tokens[3:]
        if len(part) < 3 or part[1]["operator"] is None or part[0]["operator"] or part[2]["operator"]:
            raise OptionError(f"`where`: cannot be read at {part[0].group().strip()!r}; {_WANTED}")
        conditions.append(Condition(_text(part[0]), part[1]["operator"], _text(part[2])))
        if tokens and (_joins(tokens[0]) is False or len(tokens) == 1):
            raise OptionError(f"`where`: cannot be read at {tokens[0].group().strip()!r}; {_WANTED}")
        tokens = tokens[1:]
    if not conditions:
        raise OptionError(f"`where` is empty; {_WANTED}")
    return conditions


def matching(conditions: list[Condition], column: Callable[[str], ObjectArray]) -> BoolArray:
    """Find the rows that meet all conditions.

    Args:
        conditions: From `parse_where`.
        column: Returns the values of a name, shape (N,): numbers, booleans or text; None and NaN are missing. Raises
            the error that the user is to see if there is no such name.

    Returns:
        Shape (N,). A missing value meets no condition, not even `!=`.

    Raises:
        OptionError: A column of numbers is compared with text, or text by `<`, `<=`, `>` or `>=`.

    Example:
        >>> values = {"score": np.array([1.0, None, 3.0], dtype=object)}
        >>> matching(parse_where("score >= 2"), values.__getitem__).tolist()
        [False, False, True]
    """
    met: BoolArray | None = None
    for condition in conditions:
        meets = _meets(condition, column(condition.name))
        met = meets if met is None else met & meets
    if met is None:
        raise ValueError("no condition")  # `parse_where` returns at least one
    return met


def _meets(condition: Condition, values: ObjectArray) -> BoolArray:
    compare = _OPERATORS[condition.comparison]
    present = np.array([value is not None and value == value for value in values.tolist()], dtype=np.bool_)  # noqa: PLR0124  (NaN)
    known = values[present].tolist()
    if known and all(isinstance(value, int | float) for value in known):  # booleans are 0 and 1
        wanted: Any = _number(condition)
    elif condition.comparison in {"=", "!="}:
        known, wanted = [str(value) for value in known], condition.value
    elif not known:
        return present
    else:
        raise OptionError(
            f"`where`: {condition.name} holds text, such as {str(known[0])[:40]!r}, and text is compared by = and != only"
        )
    met = np.zeros(len(values), dtype=np.bool_)
    met[present] = [bool(compare(value, wanted)) for value in known]
    return met


def _number(condition: Condition) -> float:
    word = condition.value.casefold()
    if word in {"true", "false"}:
        return float(word == "true")
    try:
        return float(condition.value)
    except ValueError:
        raise OptionError(
            f"`where`: {condition.name} holds numbers, and {condition.value!r} is not a number"
        ) from None


def _text(token: re.Match[str]) -> str:
    quoted = token["quoted"]
    return token["word"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1:-1])


def _joins(token: re.Match[str]) -> bool:
    return token["word"] is not None and token["word"].casefold() == "and"


_BATCH = 20  # rows whose answers are read at a time


@dataclass(frozen=True, slots=True)
class Answered:
    """One model's answer to an instruction."""

    model: str
    reward: float | None
    """None = no reward; the mean over samples."""
    text: str | None
    """None = no text; of several samples the first with text."""
    is_student: bool = False
    """It is the student's own, which is never an answer to train on."""


@dataclass(frozen=True, slots=True)
class Page:
    """One row to show."""

    id: str
    numbers: Mapping[str, Any]
    """What is known of the row besides its texts, by name, without missing values."""
    instruction: str | None
    answers: tuple[Answered, ...]
    """The highest reward first, answers without one last, ties by name, a student's own after the crowd's; only models
    with a text or a reward."""


class Browser:
    """The rows of a pool, with the numbers of a selection from it if one is given.

    Args:
        pool: An open pool; the caller closes it.
        selection: A selection that was made from it.
        reward: The reward to show; None = the selection's, or the one that is meant where none is named.
        crowd: Family and size of the models, for the metrics.

    Raises:
        CrowdselectError: The pool cannot be read, or has no such reward.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        selection: Selection | None = None,
        reward: str | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        self._pool = pool
        self._places = {id_: row for row, id_ in enumerate(pool.ids.tolist())}
        self._table = _table(pool, selection, reward, crowd)
        self._scores = _scores(pool, selection, reward)
        marked = pool.students if selection is None else selection.students
        self._students = students_in(pool.models, marked=marked, crowd=crowd)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that `where` may use: metrics and other numbers, then the pool's columns."""
        numbers = tuple(self._table.column_names)
        return numbers + tuple(name for name in self._pool.columns if name not in numbers)

    def find(self, *, where: str | None = None, ids: Sequence[str] = ()) -> IntArray:
        """Find rows.

        Args:
            where: Conditions, see `crowdselect.selection.browse.parse_where`; None = all rows, of a selection the
                chosen ones.
            ids: Only these, in this order; empty = all, in id order (a selection's chosen rows first, by rank).

        Returns:
            Row numbers, as `pages` takes them.

        Raises:
            OptionError: `where` cannot be read, or uses an unknown name.
            InputError: An id is not in the pool.
        """
        if ids:
            rows = np.array([self._place(id_) for id_ in ids], dtype=np.int64)
        else:
            rows = np.arange(len(self._places))
            if "rank" in self._table.column_names:
                rank = to_numpy(self._table["rank"]).astype(np.float64)
                rows = np.argsort(np.where(np.isnan(rank), np.inf, rank), kind="stable")
                rows = rows if where is not None else rows[: np.count_nonzero(~np.isnan(rank))]
        if where is None:
            return rows
        return rows[matching(parse_where(where), self._column)[rows]]

    def pages(self, rows: IntArray) -> Iterator[Page]:
        """Read rows, a few at a time; see `find`."""
        for begin in range(0, len(rows), _BATCH):
            batch = rows[begin : begin + _BATCH].tolist()
            ids = [str(self._pool.ids[row]) for row in batch]
            texts = self._pool.texts_of(ids) if self._pool.has_text else [None] * len(ids)
            numbers = self._table.take(batch).to_pylist()
            cells = [(id_, model) for id_ in ids for model in self._pool.models]
            answers = self._pool.responses(cells) if self._pool.has_responses else [None] * len(cells)
            width = len(self._pool.models)
            for i, row in enumerate(batch):
                shown = self._answers(row, answers[i * width : (i + 1) * width])
                known = {
                    name: value for name, value in numbers[i].items() if value is not None and name != "id"
                }
                yield Page(ids[i], known, texts[i], shown)

    def _answers(self, row: int, texts: Sequence[str | None]) -> tuple[Answered, ...]:
        rewards = np.full(len(texts), np.nan) if self._scores is None else self._scores[row]
        answered = [
            Answered(model, None if np.isnan(reward) else float(reward), text, model in self._students)
            for model, reward, text in zip(self._pool.models, rewards, texts, strict=True)
            if text is not None or not np.isnan(reward)
        ]
        return tuple(
            sorted(answered, key=lambda a: (a.is_student, a.reward is None, -(a.reward or 0.0), a.model))
        )

    def _place(self, id_: str) -> int:
        if id_ not in self._places:
            raise InputError(f"{self._pool.path}: no id {id_!r} in the pool{near_miss(id_, self._places)}")
        return self._places[id_]

    def _column(self, name: str) -> ObjectArray:
        if name in self._table.column_names:
            return np.array([*self._table[name].to_pylist(), None], dtype=object)[:-1]
        if name in self._pool.columns:
            return _as_numbers(self._pool.column(name))
        raise OptionError(
            f"`where`: there is no {name!r}{near_miss(name, self.names)}; found {', '.join(self.names)}"
        )


def _table(pool: Pool, selection: Selection | None, reward: str | None, crowd: Crowd | None) -> Table:
    """Build the table of numbers of every row, in the pool's order; a selection's if one is given."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array(pool.ids, pa.string())
    if selection is not None:
        places = pc.index_in(ids, selection.table["id"].combine_chunks())
        return selection.table.take(places)
    try:
        _, rows = look_at(pool, options=None, reward=reward, crowd=crowd)
    except RewardError:
        if reward is not None or len(pool.reward_columns) > 1:
            raise
        return pa.table({"id": ids})
    return metrics_table(rows)


def _scores(pool: Pool, selection: Selection | None, reward: str | None) -> FloatArray | None:
    """Read the score matrix, shape (N, M); None if there is no single reward, or the selection used an ensemble."""
    if reward is None and selection is not None:
        reward = selection.facts["reward"]
        if not isinstance(reward, str) or reward not in pool.reward_columns:
            return None
    reward = reward or pool.usual_reward
    return None if reward is None else pool.scores(reward)


def _as_numbers(values: ObjectArray) -> ObjectArray:
    """Read a column of text as numbers, if all of its values are numbers."""
    try:
        return np.array(
            [*(None if value is None else float(value) for value in values.tolist()), None], dtype=object
        )[:-1]
    except ValueError:
        return values
