"""Which column of a file is which part of a row: by its usual name, or by another if one candidate alone is there."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from crowdselect.errors import LayoutError
from crowdselect.pool.columns import Columns, Kind
from crowdselect.pool.howread import HowRead
from crowdselect.pool.layouts import ID_COLUMNS, RARER_IDS
from crowdselect.pool.rowfiles import is_index

INSTRUCTIONS = ("prompt", "question", "problem", "query")
RESPONSES = ("output", "completion", "generation")
MODELS = ("model_name", "model_id", "generator", "generation_model")
POLICIES = ("policy", "policy_model")
"""Names of the model where there are answers, nothing else says whose they are, and they tell apart those to a prompt, of which
each may have several, or are names of models with their sizes."""
SAMPLES = ("sample_idx", "sample_index")
CONVERSATIONS = ("conversations", "conversation")
ANSWER_LISTS = ("generations", "responses", "completions", "outputs", "answers", "candidates", "samples")
_LISTS_OF_MODELS = ("generation_models", "model_names", "models", "generators")
MODEL_LISTS = (*_LISTS_OF_MODELS, "generation_model", "model_name")
LISTS_OF_REWARDS = re.compile(r"rewards|scores|ratings|correctness_.*")
ANSWER = "answer"
"""A response beside a model, unless it is the right answer; see `goldanswers`."""
ROUTED = "|model_response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Which column of a file is which part of a row; None = there is none."""

    id: str | None = None
    instruction: str | None = None
    input: str | None = None
    system: str | None = None
    messages: str | None = None
    history: str | None = None
    tools: str | None = None
    model: str | None = None
    sample: str | None = None
    response: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    id_of_answer: bool = False
    """Whether prompts inside objects repeat, and no id does."""
    notes: tuple[str, ...] = ()
    """What was taken for what, where the names are not the usual ones."""

    @property
    def asked(self) -> bool:
        """Whether there is a column of what was asked."""
        return self.instruction is not None or self.messages is not None

    @property
    def taken(self) -> set[str]:
        """The columns that are parts."""
        parts = ("id", "instruction", "input", "system", "messages", "history", "tools", "model", "sample")
        found = {getattr(self, part) for part in (*parts, "response", "reasoning", "finish_reason")}
        return {name for name in found if name is not None}

    def without_answer(self, *notes: str) -> "Names":
        """The same without model, sample and response, which stand elsewhere in a row; with some notes more."""
        gone = {name for name in (self.model, self.response) if name is not None}
        kept = [note for note in self.notes if note.split(" ", 1)[0] not in gone]
        return replace(self, model=None, sample=None, response=None, notes=(*kept, *notes))


class _Finder:
    """Finds the column of each part, and takes note of what was taken for what."""

    def __init__(self, columns: Columns, how: HowRead, path: str) -> None:
        self._wanted = how.named
        self._path = path
        for what, name in self._wanted.items():
            if name and name not in columns:
                raise LayoutError(
                    f"{path}: no column {name!r} for {what}; found {', '.join(columns)}; correct `columns`"
                )
        named = set(self._wanted.values())
        self.free = {name: kind for name, kind in columns.items() if name not in named and not is_index(name)}
        self.notes = [
            f"{name} is taken for {what}" for what, name in self._wanted.items() if name not in {what, ""}
        ]

    def __call__(
        self,
        what: str,
        usual: Sequence[str],
        others: Sequence[str] = (),
        fits: Callable[[Kind], bool] | None = None,
    ) -> str | None:
        """The column of a part: the one that is named, one of the usual names, or the only one of other names."""
        if what in self._wanted:
            return self._wanted[what] or None
        for name in usual:
            if name in self.free:
                return name
        known = {*usual, *others}
        found = [
            name
            for name, kind in self.free.items()
            if (name in others or (name not in usual and name.strip().casefold() in known))
            and (fits is None or fits(kind))
        ]
        if len(found) > 1:
            raise LayoutError(
                f"{self._path}: {' and '.join(found)} could both be the {what}; "
                f"say which with `columns={what}={found[0]}`"
            )
        if found:
            self.notes.append(f"{found[0]} is taken for the {what}")
        return found[0] if found else None


def names_of(
    columns: Columns,
    how: HowRead,
    *,
    path: str,
    why_gold: Callable[[Sequence[str], str | None], str] | None = None,
    tells_apart: Callable[[str, str], bool] | None = None,
) -> Names:
    """Find which column is which part: by its usual name, else by another name if one candidate alone is there.

    Args:
        columns: Of the file.
        how: `columns` names what has other names.
        path: For messages.
        why_gold: Says why `answer` is the right answer, empty where it is not known to be; given columns that tell instructions
            apart, and that of the model.
        tells_apart: Says whether a column tells apart the rows that share a key: (key, column).

    Raises:
        LayoutError: A named column is not there, or there are two candidates for a part.
    """
    if how.model is not None and how.model in columns and how.model not in how.named.values():
        raise LayoutError(
            f"{path}: `model={how.model}` says that one model of this name gave all answers, but {how.model} is a column; if it "
            f"holds the models, name it with `columns='model={how.model}'`"
        )
    find = _Finder(columns, how, path)
    routed = any(name.endswith(ROUTED) for name in columns)
    messages = find("messages", ("messages",), CONVERSATIONS, _is_chat)
    others = () if messages is not None else INSTRUCTIONS
    instruction = find("instruction", ("instruction",), others, is_said)
    if messages is not None and instruction is None:
        beside = [name for name in INSTRUCTIONS if name in find.free]
        instruction = beside[0] if len(beside) == 1 else None
    model = find("model", ("model",), MODELS, is_scalar)
    response = find("response", ("response",), () if routed or has_lists(columns) else RESPONSES, is_said)
    answered = response is not None or has_lists(columns)
    asked = messages is not None or instruction is not None
    scores_alone = model is None and response is None and not has_lists(columns)
    rarer = [name for name in RARER_IDS if name in find.free] if scores_alone or not asked else []
    id_ = find("id", ID_COLUMNS, rarer if len(rarer) == 1 else (), is_scalar)
    if model is None and answered and how.model is None and how.model_from is None:
        keys = [name for name in (instruction, id_, messages) if name is not None]
        model = find("model", (), _policies(find, keys, tells_apart))
    if response is None and not routed and not has_lists(columns):
        keys = [name for name in (id_, instruction, messages) if name is not None]
        gold = None if why_gold is None else partial(why_gold, keys, model)
        response = _rarer_response(find, {instruction, id_}, model=model, how=how, why_gold=gold)
    input_too = (instruction or "").casefold() == "instruction" or "instruction" in how.named
    return Names(
        id=id_,
        instruction=instruction,
        messages=messages,
        input=find("input", ("input",) if input_too else ()),
        history=find("history", (), ("history",) if input_too and messages is None else (), _are_pairs),
        system=find("system", ("system", "system_prompt")),
        tools=find("tools", ("tools",)),
        model=model,
        sample=find("sample", ("sample",), SAMPLES, is_scalar),
        response=response,
        reasoning=find("reasoning", ("reasoning", "reasoning_content")),
        finish_reason=find("finish_reason", ("finish_reason",)),
        notes=tuple(find.notes),
    )


def _policies(
    find: _Finder, keys: Sequence[str], tells_apart: Callable[[str, str], bool] | None
) -> list[str]:
    """The policies that tell apart the answers to a prompt, as models do; others may be labels, such as `safe`."""
    found = [n for n, kind in find.free.items() if kind.name == "text" and n.strip().casefold() in POLICIES]
    return [n for n in found if tells_apart is None or any(tells_apart(key, n) for key in keys)]


def _rarer_response(
    find: _Finder,
    taken: set[str | None],
    *,
    model: str | None,
    how: HowRead,
    why_gold: Callable[[], str] | None,
) -> str | None:
    """The response where it has a name that means it only beside a model: `text`, `content`, or `answer` if that is not the right one."""
    response = None
    if model is not None and how.model is None:
        response = find("response", (), [name for name in ("text", "content") if name not in taken], is_said)
    known = model is not None or how.model is not None or how.model_from is not None
    if response is not None or not known or ANSWER not in find.free:
        return response
    why = "" if why_gold is None else why_gold()
    if why:
        find.notes.append(f"{why}: it is taken for the reference")
        return None
    return find("response", (), (ANSWER,), is_said)


def is_list_name(name: str) -> bool:
    """Say whether a column holds lists by its name, which CSV writes as texts.

    Example:
        >>> is_list_name("generations"), is_list_name("correctness_math_verify"), is_list_name("response")
        (True, True, False)
    """
    return (
        name in {*ANSWER_LISTS, *_LISTS_OF_MODELS, "finish_reasons"}
        or LISTS_OF_REWARDS.fullmatch(name) is not None
    )


def may_be_nested(name: str) -> bool:
    """Say whether a column may hold lists or objects by its name, which some files write as texts.

    Example:
        >>> may_be_nested("completions"), may_be_nested("pass_rate"), may_be_nested("response")
        (True, True, False)
    """
    named = is_list_name(name) or name in {"messages", *CONVERSATIONS, "history", "extra_info"}
    return named or _SPELT_RATES.fullmatch(name) is not None


def is_scalar(kind: Kind) -> bool:
    """Say whether a column holds single values."""
    return kind.name in {"text", "number", "other", "bool"}


def is_said(kind: Kind) -> bool:
    """Say whether a column holds texts, parts of texts, or messages."""
    if kind.name == "list":
        return kind.item is None or kind.item.name in {"struct", "text"}
    return kind.name in {"text", "number"} or (
        kind.name == "struct" and bool({"content", "text"} & set(kind.fields))
    )


def _is_chat(kind: Kind) -> bool:
    if kind.name == "list" and kind.item is not None:
        return kind.item.name == "text" or bool({"role", "from"} & set(kind.item.fields))
    return kind.name == "text"


def _are_pairs(kind: Kind) -> bool:
    return kind.name == "list" and kind.item is not None and kind.item.name in {"list", "text"}


def is_messages(kind: Kind) -> bool:
    """Say whether a column holds lists of messages."""
    return kind.name == "list" and kind.item is not None and bool({"role", "from"} & set(kind.item.fields))


def has_lists(columns: Columns) -> bool:
    """Say whether some column holds lists of answers, by its name."""
    return any(
        name in columns and columns[name].name == "list" and not is_messages(columns[name])
        for name in ANSWER_LISTS
        if name not in {"answers", "samples"}
    )


_SPELT_RATES = re.compile(r".*(difficulty|rates?|scores?|rewards?|accurac(y|ies))", re.IGNORECASE)
