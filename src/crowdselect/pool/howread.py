"""How a pool is read: every option that says so in one object, which goes wherever the pool is opened again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from crowdselect.errors import OptionError
from crowdselect.pool.layouts import says_model
from crowdselect.pool.pathmodels import MODEL_FROM

ReasoningUse = Literal["keep", "drop"]
EMPTY: Literal["empty"] = "empty"
"""Of `missing`: the rewards of answers without a text."""
ERROR: Literal["error"] = "error"
"""Of `missing`: the rewards of answers beside which a column of errors says something."""
MISSING_WORDS = (EMPTY, ERROR)

LISTS = ("generations", "completions", "model_names")
"""What `columns` may name that is a list in each row."""

PARTS = (
    *(
        "id",
        "instruction",
        "input",
        "system",
        "messages",
        "tools",
        "model",
        "sample",
        "response",
        "reasoning",
    ),
    *("finish_reason", *LISTS, "reference"),
)
"""What `columns` may name besides rewards and columns of texts, which may have any other name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HowRead:
    """How a pool is read. Every field has the name of an argument of `crowdselect.open_pool` and of an option.

    Raises:
        OptionError: A value makes no sense.

    Example:
        >>> HowRead(columns={"instruction": "task"}).columns
        (('instruction', 'task'),)
    """

    layout: str | None = None
    """One of the layouts or forms; None = recognised."""
    columns: tuple[tuple[str, str], ...] | Mapping[str, str] = ()
    """(what, column of the file) for columns that have other names, `data.prompt` for what is inside an object; ("id", "") = the id
    is made of the text, whatever there is."""
    model: str | None = None
    """The model that gave all answers, where no column says so."""
    model_from: str | None = None
    """The model is the name of the file (`file`) or of a folder on the way to it: of the one level that differs between files
    (`folder`), or of a level below the path (`folder:2`)."""
    subset: str | None = None
    """Which configuration of a data set."""
    split: str | None = None
    """Which split of it; None = train."""
    filter: str | None = None
    """Which filter of lm-evaluation-harness."""
    missing: tuple[float | str, ...] | float | str = ()
    """Values that stand for no reward; `empty` for the rewards of answers without a text, `error` for those beside a filled
    column of errors."""
    skip_invalid: bool = False
    """Leave malformed rows out, with a reason, instead of stopping at them."""
    reasoning: ReasoningUse = "keep"
    """Whether exports put the reasoning back before the answer."""
    aliases: tuple[tuple[str, str], ...] | Mapping[str, str] = ()
    """(other name, name) of models, under which a second file may file their rewards; from a crowd file."""
    known_models: tuple[str, ...] = ()
    """Columns of numbers that are models whatever their names; from a crowd file. Those whose names say so are left out."""

    def __post_init__(self) -> None:
        pairs = self.columns.items() if isinstance(self.columns, Mapping) else self.columns
        object.__setattr__(self, "columns", tuple((str(what), str(name)) for what, name in pairs))
        unnamed = [what for what, name in self.named.items() if not name and what != "id"]
        if unnamed:
            raise OptionError(
                f"`columns` names no column for {unnamed[0]}; only the id may have none: `columns='id='`"
            )
        others = self.aliases.items() if isinstance(self.aliases, Mapping) else self.aliases
        object.__setattr__(self, "aliases", tuple((str(other), str(name)) for other, name in others))
        odd = sorted({name for name in self.known_models if not says_model(name)})
        object.__setattr__(self, "known_models", tuple(odd))
        given = (self.missing,) if isinstance(self.missing, int | float | str) else self.missing
        object.__setattr__(self, "missing", tuple(map(_missing, given)))
        if self.model_from is not None and not MODEL_FROM.fullmatch(self.model_from):
            raise OptionError(
                f"`model_from={self.model_from}` is unknown; choose file, folder, or a level of folders such as folder:2"
            )
        if self.model is not None and self.model_from is not None:
            raise OptionError("`model` and `model_from` both say whose answers they are; give one of them")
        if self.reasoning not in get_args(ReasoningUse):
            raise OptionError(f"`reasoning={self.reasoning}` is unknown; choose keep or drop")

    @property
    def no_rewards(self) -> tuple[float, ...]:
        """The values of `missing`."""
        given = self.missing if isinstance(self.missing, tuple) else ()  # which it always is
        return tuple(one for one in given if not isinstance(one, str))

    @property
    def not_empty(self) -> bool:
        """Whether an answer without a text has no reward."""
        return isinstance(self.missing, tuple) and EMPTY in self.missing

    @property
    def not_failed(self) -> bool:
        """Whether an answer beside which a column of errors says something has no reward."""
        return isinstance(self.missing, tuple) and ERROR in self.missing

    @property
    def named(self) -> dict[str, str]:
        """What → the column of the file."""
        return dict(self.columns)

    @property
    def rewrites(self) -> bool:
        """Whether it asks for more than a tidy pool has."""
        return bool(self.columns or self.model or self.model_from or self.filter or self.skip_invalid)

    def of_part(self, layout: str | None) -> "HowRead":
        """How a pool of this layout is read whose files were found, and rewritten where that was needed."""
        return HowRead(layout=layout, missing=self.missing, reasoning=self.reasoning, aliases=self.aliases)

    def as_dict(self) -> dict[str, Any]:
        """The options that are not as usual, as plain values for a manifest; see `from_dict`."""
        usual = asdict(HowRead())
        found = {name: value for name, value in asdict(self).items() if value != usual[name]}
        found |= {name: dict(found[name]) for name in ("columns", "aliases") if name in found}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HowRead":
        """Read what `as_dict` gave.

        Example:
            >>> HowRead.from_dict(HowRead(missing=(-1, "empty")).as_dict()).missing
            (-1.0, 'empty')
        """
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**given)


def _missing(value: float | str) -> float | str:
    if isinstance(value, str) and value in MISSING_WORDS:
        return value
    try:
        return float(value)
    except ValueError:
        raise OptionError(f"`missing={value!r}` is neither a number nor `empty` nor `error`") from None


OF_CROWD_FILE = ("aliases", "known_models")
"""The fields that a crowd file sets."""
READ_OPTIONS = tuple(part.name for part in fields(HowRead) if part.name not in OF_CROWD_FILE)
"""The fields that a user sets by an option of the same name."""
