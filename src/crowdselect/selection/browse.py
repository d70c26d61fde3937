"""Browse the rows of a pool or a selection: instruction, numbers, every model's answer and reward."""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from crowdselect.crowd import Crowd, students_in
from crowdselect.errors import InputError, OptionError, RewardError, near_miss
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.pool import Pool
from crowdselect.pool.views import direction_of
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
Use = Literal["to train on", "rejected", ""]
"""What a selection takes an answer for."""


@dataclass(frozen=True, slots=True)
class ShownSample:
    """One of several answers of a model to an instruction."""

    number: float
    """Its number among the model's."""
    reward: float | None
    """Its own; None = no reward."""
    text: str | None
    """None = no text."""
    use: Use = ""
    """What the selection takes it for; empty = nothing, or no selection is given."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One model's answer to an instruction, or its several samples."""

    model: str
    reward: float | None
    """None = no reward; the mean over samples."""
    text: str | None
    """None = no text, or there are samples."""
    samples: tuple[ShownSample, ...] = ()
    """By number, in a pool that has samples; only those with a text or a reward."""
    is_student: bool = False
    """Its answers are the student's own, which are never trained on."""

    @property
    def shown(self) -> tuple[ShownSample, ...]:
        """The samples that stand for all: those that the selection takes, else the best-rewarded one that has text.

        Example:
            >>> one, other = ShownSample(0.0, 0.5, "no"), ShownSample(1.0, 1.0, "yes")
            >>> [sample.text for sample in Answered("m", 0.75, None, (one, other)).shown]
            ['yes']
        """
        taken = tuple(sample for sample in self.samples if sample.use)
        best_first = sorted(
            self.samples,
            key=lambda sample: (sample.text is None, sample.reward is None, -(sample.reward or 0.0)),
        )
        return taken or tuple(best_first[:1])


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
        self._reward = _reward(pool, selection, reward)
        self._scores = None if self._reward is None else pool.scores_of_part(pool.reward_name(self._reward))
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
            shown = self._answers(batch, ids) if self._pool.samples is None else self._samples(batch, numbers)
            for i, answers in enumerate(shown):
                known = {
                    name: value
                    for name, value in numbers[i].items()
                    if value is not None and name not in {"id", "answers"}
                }
                yield Page(ids[i], known, texts[i], answers)

    def _answers(self, rows: Sequence[int], ids: Sequence[str]) -> Iterator[tuple[Answered, ...]]:
        """Yield each row's answers, one of each model."""
        models = self._pool.models
        cells = [(id_, model) for id_ in ids for model in models]
        texts = self._pool.responses(cells) if self._pool.has_responses else [None] * len(cells)
        for i, row in enumerate(rows):
            own = texts[i * len(models) : (i + 1) * len(models)]
            yield self._ordered(map(Answered, models, self._rewards_of(row), own))

    def _samples(
        self, rows: Sequence[int], numbers: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[Answered, ...]]:
        """Yield each row's answers, all samples of each model; `numbers` says which of them the selection takes."""
        pool, samples = self._pool, self._pool.samples
        if samples is None:
            raise ValueError("no samples")  # `pages` asks
        found = samples.of_rows(np.array(rows, dtype=np.int64), self._sample_rewards)
        models = [pool.models[model] for model in found.model]
        pairs = [(str(pool.ids[row]), model) for row, model in zip(found.row, models, strict=True)]
        texts = pool.responses(pairs, found.number.tolist()) if pool.has_responses else [None] * len(pairs)
        known = list(zip(found.row.tolist(), models, found.number.tolist(), found.reward, texts, strict=True))
        for row, own in zip(rows, numbers, strict=True):
            uses: dict[tuple[Any, Any], Use] = {
                (own.get("rejected_model"), own.get("rejected_sample")): "rejected"
            }
            for taken in own.get("answers") or [own]:
                uses[taken.get("model"), taken.get("sample")] = "to train on"
            shown: dict[str, list[ShownSample]] = {model: [] for model in pool.models}
            for _, model, number, reward, text in (one for one in known if one[0] == row):
                if text is not None or not np.isnan(reward):
                    use = uses.get((model, number), "")
                    shown[model].append(ShownSample(number, _known(reward), text, use))
            rewards = zip(pool.models, self._rewards_of(row), strict=True)
            yield self._ordered(Answered(model, mean, None, tuple(shown[model])) for model, mean in rewards)

    def _ordered(self, answers: Iterable[Answered]) -> tuple[Answered, ...]:
        """Those with a text or a reward, in the order of `Page.answers`; a student's are marked."""
        marked = (replace(answer, is_student=answer.model in self._students) for answer in answers)
        there = [each for each in marked if each.text is not None or each.reward is not None or each.samples]
        return tuple(
            sorted(there, key=lambda a: (a.is_student, a.reward is None, -(a.reward or 0.0), a.model))
        )

    def _rewards_of(self, row: int) -> list[float | None]:
        """Each model's reward of a row; None = none."""
        rewards = np.full(len(self._pool.models), np.nan) if self._scores is None else self._scores[row]
        return [_known(reward) for reward in rewards]

    @cached_property
    def _sample_rewards(self) -> FloatArray | None:
        """The reward of every sample, as the pool orders them; None where there is no single reward."""
        if self._reward is None or self._pool.samples is None:
            return None
        return self._pool.samples.rewards(self._pool.reward_name(self._reward))

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
    if len(pool.models) < 2:  # then there are no metrics
        return pa.table({"id": ids})
    try:
        _, rows = look_at(pool, options=None, reward=reward, crowd=crowd)
    except RewardError:
        if reward is not None or len(pool.reward_columns) > 1:
            raise
        return pa.table({"id": ids})
    return metrics_table(rows)


def _reward(pool: Pool, selection: Selection | None, reward: str | None) -> str | None:
    """Find which reward to show; None if there is no single one, or the selection used an ensemble."""
    if reward is None and selection is not None:
        used = selection.facts["reward"]
        return used if isinstance(used, str) and direction_of(used)[0] in pool.reward_columns else None
    return reward or pool.usual_reward


def _known(reward: float) -> float | None:
    return None if np.isnan(reward) else float(reward)


def _as_numbers(values: ObjectArray) -> ObjectArray:
    """Read a column of text as numbers, if all of its values are numbers."""
    try:
        return np.array(
            [*(None if value is None else float(value) for value in values.tolist()), None], dtype=object
        )[:-1]
    except ValueError:
        return values
