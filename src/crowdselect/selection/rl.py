"""Data for reinforcement learning: prompts, what an answer is checked against, and what picks the trainer's check.

No answers are needed. A trainer that picks its reward function by a name in the data is given only names that it knows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from crowdselect.errors import InputError, OptionError, near_miss
from crowdselect.pool.prompts import Chat
from crowdselect.types import BoolArray, ObjectArray

if TYPE_CHECKING:
    import pyarrow as pa

    from crowdselect.selection.options import Options

REFERENCES = ("reference", "answer", "target", "ground_truth", "solution")
"""Columns that are looked for as the reference, in this order."""
CUSTOM = "custom"
"""The source that stands for a reward function of one's own."""
PASS_RATE = "pass_rate"  # noqa: S105  (the name of a number)
_BATCH = 1000

_NUMINA = ("aops_forum", "synthetic_math", "amc_aime", "synthetic_amc", "cn_k12", "olympiads")
_CUSTOM_LINES = (
    "or write `source='custom'`, which puts a reward.py beside the data, and tell verl: "
    "reward.custom_reward_function.path=FOLDER/reward.py reward.custom_reward_function.name=compute_score "
    "(before verl 0.7 without the first `reward.`)"
)
REWARD_FILE = "reward.py"
REWARD = '''"""A reward function for verl: 1 where Math-Verify finds the answer equal to the reference, else 0.

pip install math-verify, and tell verl:
    reward.custom_reward_function.path=FOLDER/reward.py reward.custom_reward_function.name=compute_score
"""

from math_verify import parse, verify


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **more):
    """Score an answer. Timeouts are off, as they need the main thread."""
    gold = parse("\\\\boxed{" + str(ground_truth) + "}", parsing_timeout=None)
    return float(verify(gold, parse(solution_str, parsing_timeout=None), timeout_seconds=None))
'''
"""The file that `source='custom'` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A trainer that picks its check of an answer by a name in the data."""

    title: str
    column: str
    """What it calls that name, and the column of a pool that holds it."""
    names: Mapping[str, str]
    """The names that it knows, and what each is about."""
    begins: tuple[str, ...] = ()
    """Beginnings of further names."""
    custom: str | None = None
    """What to do for a check of one's own; None = it has no place for one."""

    def knows(self, name: str) -> bool:
        """Say whether the trainer would find a check."""
        return name in self.names or name.startswith(self.begins or ("\0",))

    def listed(self) -> str:
        """Write its names."""
        return ", ".join([*self.names, *(f"{begin}..." for begin in self.begins)])


CHECKED: dict[str, Checked] = {
    "verl": Checked(
        title="verl",
        column="data_source",
        names={
            "openai/gsm8k": "math",
            "lighteval/MATH": "math",
            "DigitalLearningGmbH/MATH-lighteval": "math",
            "HuggingFaceH4/MATH-500": "math",
            "math_dapo": "math",
            "math": "math",
            "math_dapo_reasoning": "math",
            **{f"numina_{name}": "math" for name in _NUMINA},
            **dict.fromkeys(("codecontests", "apps", "codeforces", "taco"), "code"),
            "hiyouga/geometry3k": "math",
        },
        begins=("aime",),
        custom=_CUSTOM_LINES,
    ),
    "open-instruct": Checked(
        title="open-instruct",
        column="dataset",
        names={
            **dict.fromkeys(("gsm8k", "math", "strict_math"), "math"),
            **dict.fromkeys(("ifeval", "ifeval_old"), "instructions"),
            **dict.fromkeys(("flan", "string_matcher", "string_f1", "re_search", "re_search_f1"), "text"),
            **dict.fromkeys(("max_length", "up_to_max_length"), "length"),
            **dict.fromkeys(("code", "code_stdin"), "code"),
        },
        begins=("general-",),
    ),
}
"""The trainers that pick their check by a name: `default_compute_score` of verl 0.9 (but for searchR1_..., whose references
are no texts), the verifiers of open-instruct."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a pool says what an answer is checked against."""

    reference: str
    source: str | None
    """The column of what picks the check; None where there is none, or it is one's own."""
    custom: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """Those that a row has to have."""
        return (self.reference,) if self.source is None else (self.reference, self.source)


class Described(Protocol):
    """What names columns: a pool."""

    path: str

    @property
    def columns(self) -> Sequence[str]:
        """Their names."""
        ...


def columns_in(options: "Options", pool: Described) -> Columns:
    """Find the columns of a pool that an export for reinforcement learning needs.

    Args:
        options: `reference`, `source` and `trainer` count here.
        pool: From `crowdselect.open_pool`.

    Raises:
        OptionError: There is no such column, or none that says how to check an answer.
    """
    reference = options.reference or next((name for name in REFERENCES if name in pool.columns), None)
    if reference is None or reference not in pool.columns:
        sought = f"no column {reference!r}" if reference else f"none of {', '.join(REFERENCES)}"
        raise OptionError(
            f"{pool.path}: {sought} to check answers against; name it with `reference`; found {', '.join(pool.columns)}"
            + near_miss(reference or "", pool.columns)
        )
    checked = CHECKED.get(options.trainer or "")
    if options.source == CUSTOM and checked is not None and checked.custom is not None:
        return Columns(reference, None, custom=True)
    if options.source is not None and options.source not in pool.columns:
        raise OptionError(
            f"{pool.path}: no column {options.source!r} for `source`; found {', '.join(pool.columns)}"
            + near_miss(options.source, pool.columns)
        )
    usual = ("source", "data_source") if checked is None else (checked.column,)
    source = options.source or next((name for name in usual if name in pool.columns), None)
    if source is None and checked is not None:
        raise OptionError(
            f"{pool.path}: {checked.title} picks its check of an answer by {checked.column!r}, and the pool has no such "
            f"column; name one with `source`, which holds names that {checked.title} knows: {checked.listed()}"
            + (f"; {checked.custom}" if checked.custom else "")
        )
    return Columns(reference, source)


def check_sources(values: ObjectArray, *, trainer: str | None, where: str) -> None:
    """Refuse names that the trainer has no check for.

    Args:
        values: Shape (N,), of str; None = missing.
        trainer: A key of `CHECKED`; others take any name.
        where: The pool and its column, for messages.

    Raises:
        OptionError: There is one; it is named, and those that the trainer knows.
    """
    checked = CHECKED.get(trainer or "")
    if checked is None:
        return
    unknown = sorted({value for value in values.tolist() if value is not None and not checked.knows(value)})
    if unknown:
        raise OptionError(
            f"{where} says {unknown[0]!r}, for which {checked.title} has no check of a text; it knows: {checked.listed()}"
            + (f"; {checked.custom}" if checked.custom else "")
        )


def pass_rate_of(options: "Options") -> str:
    """Name the number that is written as the pass rate."""
    return PASS_RATE if options.pass_rate is None else f"{PASS_RATE}:{options.pass_rate}"


class Texts(Protocol):
    """What there is to read of chosen rows; see `crowdselect.selection.texts.Chosen`."""

    @property
    def path(self) -> str:
        """Of the pool, as it was given."""
        ...

    def asked(self, ids: Sequence[str]) -> list[Chat]:
        """See `Pool.asked`."""
        ...

    def values_of(self, name: str, ids: Sequence[str]) -> list[str | None]:
        """See `Pool.values_of`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A chosen row, before a trainer's form."""

    index: int
    """0 = the first choice."""
    id: str
    messages: Chat
    reference: str
    source: str | None
    pass_rate: float | None


def records(
    rows: Sequence[Mapping[str, Any]], pool: Texts, columns: Columns, *, rate: str, trainer: str | None
) -> Iterator[dict[str, Any]]:
    """Make the records, first choice first.

    Args:
        rows: The chosen rows of a selection, in order.
        pool: What gives their texts.
        columns: From `columns_in`.
        rate: The column of `rows` with the pass rate, where there is one.
        trainer: A key of `FORMS`; None = no trainer's own.

    Raises:
        InputError: The pool no longer holds a reference.
    """
    for begin in range(0, len(rows), _BATCH):
        batch = rows[begin : begin + _BATCH]
        ids = [row["id"] for row in batch]
        references = pool.values_of(columns.reference, ids)
        sources = [None] * len(ids) if columns.source is None else pool.values_of(columns.source, ids)
        chats = pool.asked(ids)
        for at, (row, chat, reference, source) in enumerate(
            zip(batch, chats, references, sources, strict=True)
        ):
            if reference is None or not chat:
                raise InputError(
                    f"{pool.path}: the prompt or the reference of id {row['id']!r} is gone; was the pool changed?"
                )
            yield FORMS[trainer](
                Prompt(
                    index=begin + at,
                    id=row["id"],
                    messages=chat,
                    reference=reference,
                    source=CUSTOM if columns.custom else source,
                    pass_rate=row.get(rate),
                )
            )


def _plain(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.id, "prompt": prompt.messages, "reference": prompt.reference, **_known(prompt)}


def _trl(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.id, "prompt": prompt.messages, "solution": prompt.reference, **_known(prompt)}


def _open_instruct(prompt: Prompt) -> dict[str, Any]:
    rate = {} if prompt.pass_rate is None else {PASS_RATE: prompt.pass_rate}
    checked = {"ground_truth": prompt.reference, "dataset": prompt.source}
    return {"id": prompt.id, "messages": prompt.messages, **checked, **rate}


def _verl(prompt: Prompt) -> dict[str, Any]:
    source = str(prompt.source)
    return {
        "data_source": source,
        "prompt": prompt.messages,
        "ability": CHECKED["verl"].names.get(source, "math"),
        "reward_model": {"style": "rule", "ground_truth": prompt.reference},
        "extra_info": {
            "index": prompt.index,
            "split": "train",
            "id": prompt.id,
            "pass_rate": prompt.pass_rate,
        },
    }


def _known(prompt: Prompt) -> dict[str, Any]:
    both = {PASS_RATE: prompt.pass_rate, "source": prompt.source}
    return {name: value for name, value in both.items() if value is not None}


FORMS: dict[str | None, Callable[[Prompt], dict[str, Any]]] = {
    None: _plain,
    "trl": _trl,
    "verl": _verl,
    "open-instruct": _open_instruct,
}
"""Record makers by trainer."""
HOLDS_REFERENCE = ("reference", "solution", "ground_truth", "reward_model")
"""The columns of their records of which one holds the reference."""


def schema(trainer: str | None) -> "pa.Schema":
    """The columns of a Parquet file of records; see `crowdselect.selection.formats.record_schema`."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    turns = pa.list_(pa.struct({"role": text, "content": text}))
    known = {PASS_RATE: number, "source": text}
    forms = {
        None: {"id": text, "prompt": turns, "reference": text, **known},
        "trl": {"id": text, "prompt": turns, "solution": text, **known},
        "open-instruct": {
            "id": text,
            "messages": turns,
            "ground_truth": text,
            "dataset": text,
            PASS_RATE: number,
        },
        "verl": {
            "data_source": text,
            "prompt": turns,
            "ability": text,
            "reward_model": pa.struct({"style": text, "ground_truth": text}),
            "extra_info": pa.struct({"index": pa.int64(), "split": text, "id": text, PASS_RATE: number}),
        },
    }
    return pa.schema(forms[trainer])


def lacking(columns: Columns, values: Mapping[str, ObjectArray]) -> BoolArray:
    """Say which rows lack a column that is needed, shape (N,)."""
    return np.asarray(np.any([values[name] == np.array(None) for name in columns.needed], axis=0))
