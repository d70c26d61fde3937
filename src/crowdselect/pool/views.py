"""Where the parts of a pool are: SQL expressions over the rows of its source.

Two shapes cover all: `Tall` (a row, or an element of a row's list, per answer) and `Wide` (a column per model).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_DIRECTION = re.compile(r"(?P<way>up|down)(/(?P<scale>\d*\.?\d+))?")


class Directed(Mapping[str, str]):
    """SQL of rewards by name; a name may be followed by `:up`, `:down` or `:down/16`, unless it is whole itself.

    `down` reverses the sign; with a number the reward is divided by it and, with `down`, taken from 1.

    Example:
        >>> Directed({"fails": "x"})["fails:down/16"]
        '(1.0 - (x) / 16.0)'
    """

    def __init__(self, rewards: Mapping[str, str], *, nested: bool = False) -> None:
        self._rewards = dict(rewards)
        self._nested = nested

    def __getitem__(self, name: str) -> str:
        if name in self._rewards:
            return self._rewards[name]
        column, change = direction_of(name)
        if change is None or column not in self._rewards:
            raise KeyError(name)
        sql = self._rewards[column]
        return f"list_transform({sql}, lambda value: {change('value')})" if self._nested else change(sql)

    def __contains__(self, name: object) -> bool:
        return name in self._rewards or direction_of(str(name))[0] in self._rewards

    def __iter__(self) -> Iterator[str]:
        return iter(self._rewards)

    def __len__(self) -> int:
        return len(self._rewards)


def direction_of(name: str) -> tuple[str, Callable[[str], str] | None]:
    """Part the name of a reward from its direction: the column, and SQL of a value made of its SQL; None = there is none.

    Example:
        >>> direction_of("fails:down")[1]("x"), direction_of("fails")
        ('(-(x))', ('fails', None))
    """
    column, colon, rest = name.rpartition(":")
    match = _DIRECTION.fullmatch(rest)
    if not colon or match is None:
        return name, None
    scale = float(match["scale"]) if match["scale"] else None
    if match["way"] == "up":
        return column, lambda sql: f"({sql})" if scale is None else f"(({sql}) / {scale!r})"
    return column, lambda sql: f"(-({sql}))" if scale is None else f"(1.0 - ({sql}) / {scale!r})"


@dataclass(frozen=True, slots=True)
class Tall:
    """An answer is a row (`long`), or an element of lists in a row (`nested`)."""

    model: str
    sample: str | None
    response: str | None
    rewards: Mapping[str, str]
    """Numeric columns, as SQL of DOUBLE."""
    fields: Mapping[str, str]
    """Every column that could be meant as a reward, as SQL of text."""
    bools: frozenset[str] = frozenset()
    """Rewards that are true or false."""
    nested: bool = False
    ending: str | None = None
    """How an answer ended, as a place in `crowdselect.finish.ENDINGS`; None where the pool does not say."""
    reasoning: str | None = None
    """What was thought before an answer, where a column of its own says so."""
    not_text: str | None = None
    """Whether an answer is something other than text, which is then no response."""
    whole: bool = False
    """A row of the user's file held all answers of an instruction, so none stands twice unless a row does."""
    side_by_side: int = 1
    """How many answers a row of the user's file held, where other rows may be of the same instruction."""
    may_lack_model: bool = False
    """A row without a model is no answer; it tells of its instruction only."""
    shared: frozenset[str] = frozenset()
    """Fields of a row that held several answers, which say nothing of any one of them."""

    @property
    def has_texts(self) -> bool:
        """There is a place for responses, filled or not."""
        return self.response is not None


@dataclass(frozen=True, slots=True)
class RewardColumns:
    """Where the parts of a rewards file are; a row is an answer's rewards."""

    id: str
    id_name: str
    """The column of the id."""
    model: str
    sample: str | None
    rewards: Mapping[str, str]
    """Numeric columns, as SQL of DOUBLE."""
    fields: Mapping[str, str]
    """Every column that could be meant as a reward, as SQL of text."""
    bools: frozenset[str] = frozenset()
    """Rewards that are true or false."""


@dataclass(frozen=True, slots=True)
class Wide:
    """An answer is a cell: a row's instruction, a column's model."""

    models: tuple[str, ...]
    """In code-point order."""
    responses: Mapping[str, str]
    rewards: Mapping[str, Mapping[str, str]]
    """Reward, then model, then SQL of DOUBLE; a model without that reward is absent."""
    fields: Mapping[str, Mapping[str, str]]
    """Every field that could be meant as a reward, as SQL of text."""
    leaves: Mapping[str, tuple[str, ...]]
    """Model → where its response is in a Parquet schema."""
    bools: frozenset[str] = frozenset()
    """Rewards that are true or false, for all models that have them."""

    @property
    def has_texts(self) -> bool:
        """There is a place for responses, filled or not."""
        return bool(self.responses)


@dataclass(frozen=True, slots=True)
class View:
    """Where the parts of a pool are: SQL expressions over the rows of its source."""

    layout: str
    id: str
    id_made: bool
    """There is no id column: the id is a hash of the content."""
    text: str | None
    messages: str | None
    """SQL of JSON text."""
    answers: Tall | Wide
    notes: tuple[str, ...] = ()
    """What to tell the user about the columns, one line each."""
    tools: str | None = None
    """SQL of JSON text: the tools that may be called."""
    left_out: str | None = None
    """Why an instruction cannot be chosen, a reason code; null where nothing bars it."""
    needs: str | None = None
    """What an export has to hold: `turns` that do not alternate, `tools`."""
    row_number: str | None = None
    """The number of the row of the user's file that a row was made of."""

    @property
    def row_is_instruction(self) -> bool:
        """An id stands in one row only; otherwise its rows repeat the instruction."""
        return isinstance(self.answers, Wide) or self.answers.nested
