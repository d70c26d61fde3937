"""The forms that files of crowds have besides the tidy layouts: how each is recognised, and what answers a row holds.

A form is a record with a test of its columns and a plain function from a row to its answers; what a row asks is not
its business (see `content`). Everything that is read by a form is rewritten once into one plain form, see `plain`.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crowdselect.errors import LayoutError
from crowdselect.pool.columns import Columns, Kind
from crowdselect.pool.howread import HowRead
from crowdselect.pool.layouts import (
    FIRST_REWARDS,
    ID_COLUMNS,
    LAYOUTS,
    columns_by_model,
    no_model,
    zoo_models,
)
from crowdselect.pool.rowfiles import Row, is_index

INSTRUCTIONS = ("prompt", "question", "problem", "query")
RESPONSES = ("output", "completion", "generation")
MODELS = ("model_name", "generator", "generation_model")
CONVERSATIONS = ("conversations", "conversation")
ANSWER_LISTS = ("generations", "responses", "completions", "outputs", "answers", "candidates", "samples")
MODEL_LISTS = ("generation_models", "model_names", "models", "generation_model", "model_name")
_TEXT_FIELDS = ("response", "content", "output", "completion", "generation", "text", "answer", "message")
_MODEL_FIELDS = ("model", "model_name", "generator", "generation_model")
_REWARD_LISTS = re.compile(r"(rewards?|scores?|ratings?|correct(ness)?(_.*)?|is_correct(_.*)?)")
_FINISHES = ("finish_reasons", "finish_reason")
_LISTS_OF_MODELS = ("generation_models", "model_names", "models")
_LISTS_OF_REWARDS = re.compile(r"rewards|scores|ratings|correctness_.*")
_RATE = re.compile(r"(?:(?:pass|solve)_rate_(?P<after>.+)|(?P<before>.+?)_(?:pass|solve)_rate)")
_RESPONSE = re.compile(r"response_(?P<after>.+)|(?P<before>.+)_response")
_SCORES = ("score", "reward", "rating", "correct")
_ROUTED = "|model_response"


class MalformedError(ValueError):
    """A row does not hold together; its message says what is wrong."""


@dataclass(slots=True)
class Answer:
    """One answer of a row, as the file has it."""

    model: str | None
    response: Any = None
    sample: float | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """Rewards and other scalars of its own, by column."""
    system: Any = None
    """A system prompt of its own."""
    reasoning: Any = None
    finish_reason: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Which column of a file is which part of a row; None = there is none."""

    id: str | None = None
    instruction: str | None = None
    input: str | None = None
    system: str | None = None
    messages: str | None = None
    tools: str | None = None
    model: str | None = None
    sample: str | None = None
    response: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    notes: tuple[str, ...] = ()
    """What was taken for what, where the names are not the usual ones."""

    @property
    def asked(self) -> bool:
        """Whether there is a column of what was asked."""
        return self.instruction is not None or self.messages is not None

    @property
    def taken(self) -> set[str]:
        """The columns that are parts."""
        parts = ("id", "instruction", "input", "system", "messages", "tools", "model", "sample", "response")
        found = {getattr(self, part) for part in (*parts, "reasoning", "finish_reason")}
        return {name for name in found if name is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A form that fits a file."""

    name: str
    says: str
    """How the file was understood, for a line to the user."""
    answers: Callable[[Row], Iterable[Answer]]
    names: Names
    taken: frozenset[str] = frozenset()
    """Columns that the answers are made of, which are not carried over."""
    fields: tuple[str, ...] = ()
    """Every name that `Answer.values` may have."""
    many: bool = False
    """A row holds all answers of an instruction; otherwise several rows may be of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that a file may have."""

    name: str
    fit: Callable[[Columns, Names, HowRead], Fitted | None]
    needs: str
    """The columns that it must have, for messages."""
    example: Mapping[str, Any]
    """One row as JSON has it."""


class _Finder:
    """Finds the column of each part, and takes note of what was taken for what."""

    def __init__(self, columns: Columns, how: HowRead, path: str) -> None:
        self._wanted = how.named
        self._path = path
        for what, name in self._wanted.items():
            if name not in columns:
                raise LayoutError(
                    f"{path}: no column {name!r} for {what}; found {', '.join(columns)}; correct `columns`"
                )
        named = set(self._wanted.values())
        self.free = {name: kind for name, kind in columns.items() if name not in named and not is_index(name)}
        self.notes = [f"{name} is taken for {what}" for what, name in self._wanted.items() if name != what]

    def __call__(
        self,
        what: str,
        usual: Sequence[str],
        others: Sequence[str] = (),
        fits: Callable[[Kind], bool] | None = None,
    ) -> str | None:
        """The column of a part: the one that is named, one of the usual names, or the only one of other names."""
        if what in self._wanted:
            return self._wanted[what]
        for name in usual:
            if name in self.free:
                return name
        found = [name for name in others if name in self.free and (fits is None or fits(self.free[name]))]
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
    same_within_id: Callable[[str, str, str], bool] | None = None,
) -> Names:
    """Find which column is which part: by its usual name, else by another name if one candidate alone is there.

    Args:
        columns: Of the file.
        how: `columns` names what has other names.
        path: For messages.
        same_within_id: Says whether a column has one value for all models of an id: (id, model, column).

    Raises:
        LayoutError: A named column is not there, or there are two candidates for a part.
    """
    find = _Finder(columns, how, path)
    routed = any(name.endswith(_ROUTED) for name in columns)
    id_ = find("id", ID_COLUMNS, ("sample_id",) if routed else ())
    messages = find("messages", ("messages",), CONVERSATIONS, _is_chat)
    others = () if messages is not None else INSTRUCTIONS
    instruction = find("instruction", ("instruction",), others, _is_said)
    if messages is not None and instruction is None:
        beside = [name for name in INSTRUCTIONS if name in find.free]
        instruction = beside[0] if len(beside) == 1 else None
    model = find("model", ("model",), MODELS, _is_scalar)
    response = find("response", ("response",), () if routed or _has_lists(columns) else RESPONSES, _is_said)
    if response is None and not routed and not _has_lists(columns):
        same = model is not None and id_ is not None and same_within_id is not None
        reference = same and "answer" in find.free and same_within_id(id_, model, "answer")  # type: ignore[arg-type, misc]
        response = _rarer_response(find, {instruction, id_}, model=model, how=how, reference=bool(reference))
    input_too = instruction == "instruction" or "instruction" in how.named
    return Names(
        id=id_,
        instruction=instruction,
        messages=messages,
        input=find("input", ("input",) if input_too else ()),
        system=find("system", ("system", "system_prompt")),
        tools=find("tools", ("tools",)),
        model=model,
        sample=find("sample", ("sample",)),
        response=response,
        reasoning=find("reasoning", ("reasoning", "reasoning_content")),
        finish_reason=find("finish_reason", ("finish_reason",)),
        notes=tuple(find.notes),
    )


def _rarer_response(
    find: _Finder, taken: set[str | None], *, model: str | None, how: HowRead, reference: bool
) -> str | None:
    """The response where it has a name that means it only beside a model: `text`, `content`, or `answer` if that is none of all."""
    response = None
    if model is not None and how.model is None:
        response = find("response", (), [name for name in ("text", "content") if name not in taken], _is_said)
    known = model is not None or how.model is not None or how.model_from is not None
    if response is not None or not known or "answer" not in find.free:
        return response
    if reference:
        find.notes.append("answer is the same for all models of an id: it is taken for the reference")
        return None
    return find("response", (), ("answer",), _is_said)


def fitted(columns: Columns, names: Names, how: HowRead, *, path: str) -> Fitted:
    """Find the form of a file.

    Args:
        columns: Of the file.
        names: From `names_of`.
        how: Its `layout` forces a form.
        path: For messages.

    Raises:
        LayoutError: No form fits; the closest is named, and what it lacks.
    """
    if {"chosen", "rejected"} <= set(columns) and names.model is None and how.model is None:
        raise no_form(columns, names, how, path=path)
    if how.layout is not None and how.layout not in {*FORMS, *LAYOUTS}:
        raise LayoutError(
            f"`layout={how.layout!r}` is unknown; choose one of: {', '.join({**LAYOUTS, **FORMS})}"
        )
    for name, form in FORMS.items():
        if how.layout in {None, name}:
            found = form.fit(columns, names, how)
            if found is not None:
                return found
    raise no_form(columns, names, how, path=path)


def textless(form: Fitted, columns: Columns) -> str | None:
    """Give a column that looks like the text of instructions where a form has no place for one; None = all is well."""
    if form.names.asked:
        return None
    kinds = {"text", "list", "struct", "mixed"}
    texts = (
        _TEXT_COLUMNS - {"task"} if form.name == "matrix" else _TEXT_COLUMNS
    )  # there it names what was tested
    return next((n for n, kind in columns.items() if n.casefold() in texts and kind.name in kinds), None)


def no_form(columns: Columns, names: Names, how: HowRead, *, path: str) -> LayoutError:
    """Say what is closest, and what it lacks."""
    listed = ", ".join(list(columns)[:40]) + (", ..." if len(columns) > 40 else "")
    if {"chosen", "rejected"} <= set(columns):
        return LayoutError(
            f"{path}: these are preference pairs (chosen, rejected), not a crowd: two answers of models that are not "
            "named cannot be told apart; wanted answers of several models with their rewards"
        )
    if how.layout is not None:
        return LayoutError(
            f"{path}: not a {how.layout} pool; found the columns {listed}; wanted {(FORMS.get(how.layout) or LAYOUTS[how.layout]).needs}"
        )
    lists = [name for name in ANSWER_LISTS if name in columns]
    if names.model is None and (names.response is not None or lists):
        answers = names.response or lists[0]
        closest = "samples" if lists else "long"
        return LayoutError(
            f"{path}: closest is the layout {closest}, which lacks the model that gave the answers in {answers!r}; found "
            f"{listed}; name the model with `model='NAME'`, its column with `columns='model=COLUMN'`, or take it from "
            "the files' names with `model_from='file'`"
        )
    if names.model is not None and not names.asked and names.id is None:
        return LayoutError(
            f"{path}: closest is the layout long, which lacks an id or the instruction; found {listed}; name the column "
            "with `columns='instruction=COLUMN'`"
        )
    needs = {name: form.needs for name, form in FORMS.items()}
    needs |= {name: layout.needs for name, layout in LAYOUTS.items()}
    known = "; ".join(f"{name} ({wanted})" for name, wanted in needs.items())
    return LayoutError(
        f"{path}: the columns fit no layout; found {listed}; known layouts: {known}; columns of other names are named "
        "with `columns='instruction=COLUMN,model=COLUMN,...'`"
    )


def is_list_name(name: str) -> bool:
    """Say whether a column holds lists by its name, which CSV writes as texts.

    Example:
        >>> is_list_name("generations"), is_list_name("correctness_math_verify"), is_list_name("response")
        (True, True, False)
    """
    return (
        name in {*ANSWER_LISTS, *_LISTS_OF_MODELS, "finish_reasons"}
        or _LISTS_OF_REWARDS.fullmatch(name) is not None
    )


def _is_scalar(kind: Kind) -> bool:
    return kind.name in {"text", "number", "other", "bool"}


def _is_said(kind: Kind) -> bool:
    """A text, parts of one, or a message."""
    if kind.name == "list":
        return kind.item is None or kind.item.name in {"struct", "text"}
    return kind.name in {"text", "number"} or (
        kind.name == "struct" and bool({"content", "text"} & set(kind.fields))
    )


def _is_chat(kind: Kind) -> bool:
    if kind.name == "list" and kind.item is not None:
        return kind.item.name == "text" or bool({"role", "from"} & set(kind.item.fields))
    return kind.name == "text"


def _is_messages(kind: Kind) -> bool:
    return kind.name == "list" and kind.item is not None and bool({"role", "from"} & set(kind.item.fields))


def _has_lists(columns: Columns) -> bool:
    return any(
        name in columns and columns[name].name == "list" and not _is_messages(columns[name])
        for name in ANSWER_LISTS
        if name not in {"answers", "samples"}
    )


def _text(value: Any) -> str | None:  # noqa: ANN401  (whatever a file holds)
    """A name or an id as text; None where it is missing."""
    if value is None or value == "" or value != value:  # noqa: PLR0124  (NaN)
        return None
    return str(value)


# long: a row is an answer


def _fit_long(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    known = names.model is not None or how.model is not None or how.model_from is not None
    if not known or not (names.asked or names.id is not None):
        return None
    if names.response is None and names.model is None:
        return None
    if names.model is not None and not _is_scalar(columns[names.model]):
        return None

    def answers(row: Row) -> list[Answer]:
        model = how.model if names.model is None else _text(row.get(names.model))
        return [
            Answer(
                model,
                row.get(names.response) if names.response else None,
                sample=_sample(row, names),
                reasoning=row.get(names.reasoning) if names.reasoning else None,
                finish_reason=row.get(names.finish_reason) if names.finish_reason else None,
            )
        ]

    return Fitted(name="long", says="one answer per row", answers=answers, names=names)


def _sample(row: Row, names: Names) -> float | None:
    value = row.get(names.sample) if names.sample else None
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise MalformedError(f"sample is {str(value)[:40]!r}, not a number") from None


# samples: lists of answers of one model


def _fit_samples(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    if names.model is None and how.model is None and how.model_from is None:
        return None
    name = how.named.get("generations") or _answer_list(columns, with_models=False)
    if name is None and names.response is not None and _is_list_of_texts(columns[names.response]):
        name = names.response
    if name is None or not (names.asked or names.id is not None):
        return None
    if names.model is not None and not _is_scalar(columns[names.model]):
        return None
    lists = {
        n: kind for n, kind in columns.items() if kind.name == "list" and n != name and n not in names.taken
    }

    def answers(row: Row) -> Iterator[Answer]:
        model = how.model if names.model is None else _text(row.get(names.model))
        texts: list[Any] = row.get(name) or []
        for at, values in enumerate(_beside(row, texts, lists, named=name)):
            finish = next((values.pop(name) for name in _FINISHES if name in values), None)
            yield Answer(model, texts[at], float(at), values, finish_reason=finish)

    says = f"the answers of one model per row, in the list {name}"
    return Fitted(
        name="samples",
        says=says,
        answers=answers,
        names=names,
        taken=frozenset({name, *lists}),
        fields=tuple(name for name in lists if name not in _FINISHES),
    )


def _is_list_of_texts(kind: Kind) -> bool:
    return kind.name == "list" and kind.item is not None and kind.item.name == "text"


def _answer_list(columns: Columns, *, with_models: bool) -> str | None:
    """The list of answers: of structs that name their model, or of texts and messages."""
    for name in ANSWER_LISTS:
        kind = columns.get(name)
        if kind is None or kind.name != "list" or kind.item is None:
            continue
        named = bool(set(_MODEL_FIELDS) & set(kind.item.fields))
        if named == with_models and (with_models or kind.item.name in {"text", "list", "struct"}):
            return name
    return None


def _beside(
    row: Row,
    texts: Any,  # noqa: ANN401  (a list, or what stands for it)
    lists: Mapping[str, Kind],
    *,
    named: str,
) -> list[dict[str, Any]]:
    """The values that stand beside each answer in lists of the same length."""
    if texts is None:
        return []
    if not isinstance(texts, list):
        raise MalformedError(f"{named} is no list")
    out: list[dict[str, Any]] = [{} for _ in texts]
    for name in lists:
        values = row.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != len(texts):
            if _REWARD_LISTS.fullmatch(name):
                count = len(values) if isinstance(values, list) else "no list of"
                raise MalformedError(f"{name} has {count} values for {len(texts)} answers")
            continue
        for own, value in zip(out, values, strict=True):
            if not isinstance(value, list | dict):
                own[name] = value
    return out


# distilabel: parallel lists of answers and of their models


def _fit_distilabel(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    name = how.named.get("generations") or next(
        (n for n in ANSWER_LISTS if n in columns and columns[n].name == "list"), None
    )
    models = how.named.get("model_names") or next(
        (n for n in MODEL_LISTS if n in columns and columns[n].name == "list"), None
    )
    item = None if name is None else columns[name].item
    if name is None or models is None or item is None or "model" in item.fields:
        return None
    lists = {n: kind for n, kind in columns.items() if kind.name == "list" and n not in {name, models}}

    def answers(row: Row) -> Iterator[Answer]:
        texts, by = row.get(name) or [], row.get(models) or []
        if texts and len(by) != len(texts):
            raise MalformedError(f"{models} has {len(by)} values for {len(texts)} answers")
        count: dict[str, int] = {}
        for at, values in enumerate(_beside(row, texts, lists, named=name)):
            model = _text(by[at])
            if model is None:
                raise MalformedError(f"a name in {models} is missing")
            count[model] = count.get(model, -1) + 1
            finish = next((values.pop(name) for name in _FINISHES if name in values), None)
            yield Answer(model, texts[at], _again(count[model]), values, finish_reason=finish)

    taken = {name, models, *lists} - names.taken
    judge = {"model_name", "model"} & set(columns) - {models}
    plain = Names(**{**_fields(names), "model": None, "sample": None, "response": None})
    note = tuple(f"{judge_name} is taken for the judge" for judge_name in sorted(judge))
    return Fitted(
        name="distilabel",
        says=f"an instruction per row, answers in {name}, their models in {models}",
        answers=answers,
        names=_with_notes(plain, names, note),
        taken=frozenset(taken | judge),
        fields=tuple(name for name in lists if name not in _FINISHES),
        many=True,
    )


def _again(count: int) -> float | None:
    """The sample number of a model's answer in a row; none where it is the first, as it usually is."""
    return float(count) if count else None


def _fields(names: Names) -> dict[str, Any]:
    return {name: getattr(names, name) for name in Names.__slots__}


def _with_notes(plain: Names, before: Names, more: tuple[str, ...]) -> Names:
    """Keep the notes that are of parts which are still parts."""
    gone = {n for n in (before.model, before.response) if n is not None}
    notes = tuple(note for note in before.notes if note.split(" ", 1)[0] not in gone)
    return Names(**{**_fields(plain), "notes": (*notes, *more)})


# ultrafeedback: a list of {model, response, ...}


def _fit_ultrafeedback(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    name = how.named.get("completions") or _answer_list(columns, with_models=True)
    if name is None:
        return None
    item = columns[name].item
    fields = {} if item is None else item.fields
    by = next((n for n in _MODEL_FIELDS if n in fields), None)
    if by is None:
        return None
    text = next((n for n in _TEXT_FIELDS if n in fields), None)

    def answers(row: Row) -> Iterator[Answer]:
        found = row.get(name) or []
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise MalformedError(f"{name} is no list of objects")
        count: dict[str, int] = {}
        for each in found:
            model = _text(each.get(by))
            if model is None:
                raise MalformedError(f"a {by} in {name} is missing")
            count[model] = count.get(model, -1) + 1
            values = {
                n: v for n, v in each.items() if n not in {by, text, *_OWN} and not isinstance(v, list | dict)
            }
            yield Answer(
                model,
                each.get(text) if text else None,
                _again(count[model]),
                values,
                system=each.get("custom_system_prompt"),
                reasoning=each.get("reasoning") or each.get("reasoning_content"),
                finish_reason=each.get("finish_reason"),
            )

    plain = Names(**{**_fields(names), "model": None, "sample": None, "response": None})
    return Fitted(
        name="ultrafeedback",
        says=f"an instruction per row, answers in the list {name}",
        answers=answers,
        names=_with_notes(plain, names, ()),
        taken=frozenset({name, "models"} & set(columns)),
        fields=tuple(n for n in fields if n not in {by, text, *_OWN}),
        many=True,
    )


_OWN = frozenset(
    {"custom_system_prompt", "principle", "critique", "reasoning", "reasoning_content", "finish_reason"}
)


# wide files: columns, structs or pairs of columns per model


def _wide(  # noqa: PLR0917  (each is said at once)
    name: str,
    says: str,
    names: Names,
    answers: Callable[[Row], Iterable[Answer]],
    taken: Iterable[str],
    fields: Iterable[str],
) -> Fitted:
    plain = Names(**{**_fields(names), "model": None, "sample": None, "response": None})
    return Fitted(
        name=name,
        says=says,
        answers=answers,
        names=_with_notes(plain, names, ()),
        taken=frozenset(taken),
        fields=tuple(dict.fromkeys(fields)),
        many=True,
    )


def _fit_routed(columns: Columns, names: Names, how: HowRead) -> Fitted | None:  # noqa: ARG001  (as the others)
    models = sorted(n.removesuffix(_ROUTED) for n in columns if n.endswith(_ROUTED))
    models = [model for model in models if model in columns]
    if not models:
        return None

    def answers(row: Row) -> Iterator[Answer]:
        for model in models:
            text, score = row.get(model + _ROUTED), row.get(model)
            if text is not None or score is not None:
                yield Answer(model, text, values={"score": score, "cost": row.get(f"{model}|total_cost")})

    taken = {n for n in columns if n.partition("|")[0] in models} | {"oracle_model_to_route_to"} & set(
        columns
    )
    says = "RouterBench: columns MODEL, MODEL|model_response and MODEL|total_cost"
    return _wide("routerbench", says, names, answers, taken, ("score", "cost"))


def _scores_of(columns: Columns, models: Iterable[str]) -> dict[str, dict[str, str]]:
    """Model → score → its column, `score_MODEL` or `MODEL_score`."""
    found: dict[str, dict[str, str]] = {}
    for model in models:
        for score in _SCORES:
            for name in (f"{score}_{model}", f"{model}_{score}"):
                if name in columns and _is_number(columns[name]):
                    found.setdefault(model, {}).setdefault(score, name)
    return found


def _by_pattern(columns: Columns, pattern: re.Pattern[str], fits: Callable[[Kind], bool]) -> dict[str, str]:
    """Model → the column whose name says it before or after what the pattern wants."""
    matches = {name: pattern.fullmatch(name) for name, kind in columns.items() if fits(kind)}
    return {match["after"] or match["before"]: name for name, match in matches.items() if match is not None}


def _fit_pairs_of_columns(columns: Columns, names: Names, how: HowRead) -> Fitted | None:  # noqa: ARG001
    responses = _by_pattern(columns, _RESPONSE, _is_said)
    texts = [name for name, kind in columns.items() if kind.name == "text" and name not in names.taken]
    responses |= {name: name for name in _scores_of(columns, texts)}  # a column MODEL beside MODEL_score
    scores = _scores_of(columns, responses)
    if not scores or not (names.asked or names.id is not None):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        for model, name in sorted(responses.items()):
            values = {score: row.get(column) for score, column in scores.get(model, {}).items()}
            if row.get(name) is not None or any(value is not None for value in values.values()):
                yield Answer(model, row.get(name), values=values)

    taken = {*responses.values(), *(name for found in scores.values() for name in found.values())}
    says = "columns response_MODEL and score_MODEL"
    return _wide("column pairs", says, names, answers, taken, (s for found in scores.values() for s in found))


def _fit_structs(columns: Columns, names: Names, how: HowRead) -> Fitted | None:  # noqa: ARG001
    texts = next(
        (
            n
            for n in ("responses", "answers", "completions", "outputs", "generations")
            if _per_model(columns.get(n), _is_said)
        ),
        None,
    )
    numbers = [n for n in columns if _per_model(columns[n], _is_number) and n not in names.taken]
    numbers = [n for n in numbers if n in {"scores", "rewards", "ratings", "correct"}]
    if texts is None and not numbers:
        return None
    if not (names.asked or names.id is not None):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        said = (row.get(texts) if texts else None) or {}
        scored = {name: row.get(name) or {} for name in numbers}
        for model in sorted({*said, *(model for found in scored.values() for model in found)}):
            values = {_singular(name): found.get(model) for name, found in scored.items()}
            if said.get(model) is not None or any(value is not None for value in values.values()):
                yield Answer(model, said.get(model), values=values)

    taken = {*numbers, *([texts] if texts else [])}
    says = f"a value per model in {' and '.join(sorted(taken))}"
    return _wide("structs", says, names, answers, taken, map(_singular, numbers))


def _singular(name: str) -> str:
    return {"scores": "score", "rewards": "reward", "ratings": "rating"}.get(name, name)


def _per_model(kind: Kind | None, fits: Callable[[Kind], bool]) -> bool:
    return (
        kind is not None
        and kind.name == "struct"
        and bool(kind.fields)
        and not {"role", "content"} & set(kind.fields)
        and all(fits(inner) for inner in kind.fields.values())
    )


def _is_number(kind: Kind) -> bool:
    return kind.name in {"number", "bool"}


def _fit_pass_rates(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    columns_of = _by_pattern(columns, _RATE, _is_number)
    paths = _number_structs(columns, names)
    if any(kind.name == "struct" and "content" in kind.fields for kind in columns.values()):
        return None  # answers of models, see `zoo`
    named = names.model is not None or how.model is not None
    if not (columns_of or paths) or named or not (names.asked or names.id is not None):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        found: dict[str, dict[str, Any]] = {
            model: {"pass_rate": row.get(name)} for model, name in columns_of.items()
        }
        for path in paths:
            for model, value in _inside(row, path).items():
                found.setdefault(str(model), {})[path[-1]] = value
        for model in sorted(found):
            if any(value is not None for value in found[model].values()):
                yield Answer(model, values=found[model])

    taken = {*columns_of.values(), *(path[0] for path in paths)} - names.taken
    listed = [".".join(path) for path in paths] + sorted(columns_of.values())
    fields = [*(["pass_rate"] if columns_of else []), *(path[-1] for path in paths)]
    return _wide("pass rates", f"a number per model in {', '.join(listed)}", names, answers, taken, fields)


def _inside(row: Row, path: Sequence[str]) -> Mapping[str, Any]:
    """The object at a path of a row; empty where there is none."""
    inner: Any = row
    for step in path:
        inner = inner.get(step) if isinstance(inner, dict) else None
    return inner if isinstance(inner, dict) else {}


def _number_structs(columns: Columns, names: Names, deepest: int = 3) -> list[tuple[str, ...]]:
    """Paths to structs and maps that hold nothing but numbers, at least one, by names that are no words of a row."""
    found: list[tuple[str, ...]] = []

    def look(path: tuple[str, ...], kind: Kind) -> None:
        if kind.name != "struct" or len(path) > deepest:
            return
        if path[-1] not in _NO_RATES and _per_model(kind, _is_number):
            found.append(path)
            return
        for name, inner in kind.fields.items():
            look((*path, name), inner)

    for name, kind in columns.items():
        if name not in names.taken:
            look((name,), kind)
    return [path for path in found if len(path) > 1 or _RATES.search(path[0])]  # others are models, see `zoo`


_RATES = re.compile(r"difficult|rate|score|reward|pass|accura|correct|solve", re.IGNORECASE)
_NO_RATES = frozenset({"metadata", "meta", "usage", "extra_info", "stats", "timings"})


def _fit_matrix(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    if names.model is not None or how.model is not None or names.response is not None:
        return None
    numeric = [
        name
        for name, kind in columns.items()
        if kind.name in {"number", "bool"} and name not in names.taken and not no_model(name)
    ]
    models = columns_by_model(numeric)
    if not models or (names.id is None and (len(models) < 2 or any(map(FIRST_REWARDS.fullmatch, models)))):
        return None  # without an id a single number, or a reward, is no sign of a crowd

    def answers(row: Row) -> Iterator[Answer]:
        for model, name in models.items():
            if row.get(name) is not None:
                yield Answer(model, values={"score": row.get(name)})

    return _wide("matrix", "a number per model in columns", names, answers, numeric, ("score",))


def _fit_zoo(columns: Columns, names: Names, how: HowRead) -> Fitted | None:  # noqa: ARG001
    models = [name for name in zoo_models(columns) if name not in names.taken]
    if not models or not (names.asked or names.id is not None):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        for model in models:
            own = row.get(model)
            if isinstance(own, dict):
                values = {n: v for n, v in own.items() if n != "content" and not isinstance(v, list | dict)}
                yield Answer(model, own.get("content"), values=values)

    fields = [name for model in models for name in columns[model].fields if name != "content"]
    return _wide("zoo", "a struct per model in columns", names, answers, models, fields)


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            name="routerbench",
            fit=_fit_routed,
            needs="columns MODEL, MODEL|model_response",
            example={
                "sample_id": "7",
                "prompt": "Name a prime.",
                "qwen-1b": 0.0,
                "qwen-7b": 1.0,
                "qwen-1b|model_response": "Nine.",
                "qwen-7b|model_response": "Seven.",
                "qwen-1b|total_cost": 0.0001,
                "qwen-7b|total_cost": 0.0004,
            },
        ),
        Form(
            name="ultrafeedback",
            fit=_fit_ultrafeedback,
            needs="completions, a list of {model, response, ...}",
            example={
                "instruction": "Name a prime.",
                "completions": [
                    {
                        "model": "qwen-1b",
                        "response": "Two.",
                        "custom_system_prompt": "Be brief.",
                        "overall_score": 0.5,
                    },
                    {
                        "model": "qwen-7b",
                        "response": "Seven.",
                        "custom_system_prompt": "",
                        "overall_score": 0.9,
                    },
                ],
            },
        ),
        Form(
            name="distilabel",
            fit=_fit_distilabel,
            needs="the lists generations and generation_models or model_names",
            example={
                "instruction": "Name a prime.",
                "generations": ["Two.", "Seven."],
                "model_names": ["qwen-1b", "qwen-7b"],
                "ratings": [0.5, 0.9],
                "model_name": "gpt-4o",
            },
        ),
        Form(
            name="samples",
            fit=_fit_samples,
            needs="a list generations or responses per row, and the model in a column or by `model='NAME'`",
            example={
                "problem": "Name a prime.",
                "model": "qwen-1b",
                "generations": ["<think>2?</think> Two.", "Nine."],
                "correctness_math_verify": [True, False],
            },
        ),
        Form(
            name="long",
            fit=_fit_long,
            needs="one row per answer: id, model, and instruction, response, rewards as far as there are any",
            example={
                "id": "7",
                "prompt": "Name a prime.",
                "model_name": "qwen-1b",
                "output": "Two.",
                "score": 0.5,
            },
        ),
        Form(
            name="column pairs",
            fit=_fit_pairs_of_columns,
            needs="columns response_MODEL and score_MODEL",
            example={"prompt": "Name a prime.", "response_qwen-1b": "Two.", "score_qwen-1b": 0.5},
        ),
        Form(
            name="structs",
            fit=_fit_structs,
            needs="objects responses: {MODEL: text} and scores: {MODEL: number}",
            example={
                "prompt": "Name a prime.",
                "responses": {"qwen-1b": "Two.", "qwen-7b": "Seven."},
                "scores": {"qwen-1b": 0.5, "qwen-7b": 0.9},
            },
        ),
        Form(
            name="pass rates",
            fit=_fit_pass_rates,
            needs="a number per model in an object, or in columns MODEL_solve_rate or pass_rate_MODEL",
            example={
                "prompt": "Name a prime.",
                "extra_info": {"model_difficulty": {"qwen-1b": 12, "qwen-7b": 3}},
            },
        ),
        Form(
            name="zoo",
            fit=_fit_zoo,
            needs="id, instruction, a struct {content, ...} per model",
            example={"uuid": "7", "prompt": "Name a prime.", "qwen-1b": {"content": "Two.", "score": 0.5}},
        ),
        Form(
            name="matrix",
            fit=_fit_matrix,
            needs="id, a numeric column per model, no response",
            example={"id": "7", "prompt": "Name a prime.", "qwen-1b": 0.5, "qwen-7b": 0.9},
        ),
    )
}
"""By name, in the order in which they are tried: the first that fits is taken."""


def unlisted(text: Any) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Read a prompt that is Python's spelling of a list of one text, as RouterBench has them; others stay.

    Example:
        >>> unlisted("['Name a prime.']")
        'Name a prime.'
    """
    if not isinstance(text, str) or not (text.startswith(("['", '["')) and text.endswith(("']", '"]'))):
        return text
    try:
        found = ast.literal_eval(text)  # constants only: nothing in a text is run
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
        return text
    return "\n".join(found) if all(isinstance(part, str) for part in found) else text


_TEXT_COLUMNS = frozenset(
    {
        "instruction",
        "prompt",
        "question",
        "problem",
        "query",
        "text",
        "input",
        "messages",
        "conversations",
        "content",
    }
)
