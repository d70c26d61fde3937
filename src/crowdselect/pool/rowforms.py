"""Forms whose rows hold one answer, or lists of answers: a record of a form, and a function from a row to its answers."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from crowdselect.finish import finish_in, is_finish
from crowdselect.pool.columns import Columns, Kind
from crowdselect.pool.content import written
from crowdselect.pool.howread import PARTS, HowRead
from crowdselect.pool.layouts import NO_MODELS, no_reward, says_reward
from crowdselect.pool.parts import ANSWER_LISTS, MODEL_LISTS, Names, is_scalar
from crowdselect.pool.rowfiles import Row, number_of
from crowdselect.pool.textscores import wants_number

TEXT_FIELDS = ("response", "content", "output", "completion", "generation", "text", "answer", "message")
MODEL_FIELDS = ("model", "model_name", "generator", "generation_model")
REWARD_LISTS = re.compile(r"(.+_)?(rewards?|scores?|ratings?)|(is_)?correct(_.*)?|correctness(_.*)?")
CALLS = "tool_calls"
"""Where calls of tools stand beside a response."""
_FINISHES = ("finish_reasons", "finish_reason")
_CHOICES = "choices"  # that a server returned


class MalformedError(ValueError):
    """A row does not hold together; its message says what is wrong."""


@dataclass(slots=True)
class Answer:
    """One answer of a row, as the file has it."""

    model: str | None
    """None = the row does not say; then `unnamed` tells what it lacks."""
    response: Any = None
    sample: float | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """Rewards and other scalars of its own, by column."""
    system: Any = None
    """A system prompt of its own."""
    reasoning: Any = None
    finish_reason: Any = None
    unnamed: str = "the model is missing; wanted its name"


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
    parted: Callable[[Row], Iterable[Row]] | None = None
    """Makes the rows that are read of each row of the file; None = they are these."""
    unfit: Callable[[Row], Iterable[str]] = lambda _: ()
    """Which lists beside the answers of a row are shorter or longer than theirs, so that their values are missing."""
    side_by_side: int = 1
    """How many answers of a row stand beside each other, where other rows may be of the same instruction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that a file may have."""

    name: str
    fit: Callable[[Columns, Names, HowRead], Fitted | None]
    needs: str
    """The columns that it must have, for messages."""
    example: Mapping[str, Any]
    """One row as JSON has it."""


def text_of(value: Any) -> str | None:  # noqa: ANN401  (whatever a file holds)
    """A name or an id as text; None where it is missing."""
    if value is None or value == "" or value != value:  # noqa: PLR0124  (NaN)
        return None
    return str(value)


def fit_long(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise a row per answer."""
    known = names.model is not None or how.model is not None or how.model_from is not None
    if not known or not (names.asked or names.id is not None):
        return None
    if names.response is None and names.messages is None and names.model is None:
        return None  # messages may end with the answer
    if names.model is not None and not is_scalar(columns[names.model]):
        return None

    def answers(row: Row) -> list[Answer]:
        model = how.model if names.model is None else text_of(row.get(names.model))
        return [
            Answer(
                model,
                response_in(row, names.response),
                sample=_sample(row, names),
                reasoning=row.get(names.reasoning) if names.reasoning else None,
                finish_reason=row.get(names.finish_reason) if names.finish_reason else None,
            )
        ]

    taken = frozenset({CALLS} & set(columns))
    return Fitted(name="long", says="one answer per row", answers=answers, names=names, taken=taken)


def response_in(row: Mapping[str, Any], name: str | None) -> Any:  # noqa: ANN401  (whatever a file holds)
    """A response by the name of its column or field, as a message where calls of tools stand beside it."""
    response, calls = row.get(name) if name else None, written(row.get(CALLS))
    is_calling = isinstance(calls, list | dict) and bool(calls)
    return {"role": "assistant", "content": response, CALLS: calls} if is_calling else response


def _sample(row: Row, names: Names) -> float | None:
    value = row.get(names.sample) if names.sample else None
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise MalformedError(f"sample is {str(value)[:40]!r}, not a number") from None


def fit_samples(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise lists of answers of one model."""
    if names.model is None and how.model is None and how.model_from is None:
        return None
    name = how.named.get("generations") or _answer_list(columns, with_models=False)
    if name is None and names.response is not None and _is_list_of_texts(columns[names.response]):
        name = names.response
    if name is None or not (names.asked or names.id is not None):
        return None
    if names.model is not None and not is_scalar(columns[names.model]):
        return None
    lists = {
        n: kind
        for n, kind in columns.items()
        if kind.name == "list" and n != name and (n not in names.taken or n == names.finish_reason)
    }
    read = _read_beside(lists, how) if name == list_of_answers(columns, how) else lists
    ends = (*([] if names.finish_reason is None else [names.finish_reason]), *_FINISHES)
    whole = None if names.finish_reason in lists else names.finish_reason
    item = columns[name].item
    inner = [n for n, kind in (item.fields if item else {}).items() if is_number(kind)]

    def answers(row: Row) -> Iterator[Answer]:
        model = how.model if names.model is None else text_of(row.get(names.model))
        texts: list[Any] = row.get(name) or []
        for at, values in enumerate(_beside(row, name, read, how)):
            if isinstance(texts[at], dict):
                values |= {n: texts[at].get(n) for n in inner}
            finish = next((values.pop(name) for name in ends if name in values), row.get(whole or ""))
            yield Answer(model, texts[at], float(at), values, finish_reason=finish)

    says = f"the answers of one model per row, in the list {name}"
    unread = unread_numbers({**_items(lists), **(item.fields if item else {})})
    return Fitted(
        name="samples",
        says=says,
        answers=answers,
        names=replace(names, notes=(*names.notes, *unread)),
        taken=frozenset({name, *lists}),
        fields=tuple(dict.fromkeys(n for n in (*_called(read, how).values(), *inner) if n not in ends)),
        unfit=_unfit(name, lists),
    )


def _items(lists: Mapping[str, Kind]) -> dict[str, Kind]:
    """What each list is of."""
    return {name: kind.item for name, kind in lists.items() if kind.item is not None}


def _is_list_of_texts(kind: Kind) -> bool:
    return kind.name == "list" and kind.item is not None and kind.item.name == "text"


def _answer_list(columns: Columns, *, with_models: bool) -> str | None:
    """The list of answers: of structs that name their model, or of texts and messages."""
    for name in (*ANSWER_LISTS, _CHOICES):
        kind = columns.get(name)
        if kind is None or kind.name != "list" or kind.item is None:
            continue
        if name == _CHOICES and not any(map(is_finish, kind.item.fields)):
            continue  # those of a question with several
        named = bool(set(MODEL_FIELDS) & set(kind.item.fields))
        if named == with_models and (with_models or kind.item.name in {"text", "list", "struct"}):
            return name
    return None


def _beside(row: Row, answers: str, lists: Mapping[str, Kind], how: HowRead) -> list[dict[str, Any]]:
    """The values that stand beside each answer in lists of the same length."""
    called = _called(lists, how)
    texts = row.get(answers)
    if texts is None:
        return []
    if not isinstance(texts, list):
        raise MalformedError(f"{answers} is no list")
    out: list[dict[str, Any]] = [{} for _ in texts]
    for name in lists:
        values = row.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != len(texts):
            if must_fit(name, how):
                count = len(values) if isinstance(values, list) else "no list of"
                raise MalformedError(f"{name} has {count} values for {len(texts)} answers")
            continue
        for own, value in zip(out, values, strict=True):
            if not isinstance(value, list | dict):
                own[called[name]] = value
    return out


def _called(lists: Iterable[str], how: HowRead) -> dict[str, str]:
    """What the values of each list are called: as `columns` names it, or as it is."""
    rewards = {name: what for what, name in how.named.items() if what not in PARTS}
    return {name: rewards.get(name, name) for name in lists}


def _unfit(answers: str, lists: Mapping[str, Kind]) -> Callable[[Row], list[str]]:
    """Make what names the lists of a row that were as long as the answers in the first rows, and are not in it."""
    beside = [name for name, kind in lists.items() if kind.beside]

    def unfit(row: Row) -> list[str]:
        texts = row.get(answers) or []
        return [n for n in beside if isinstance(row.get(n), list) and len(row[n]) != len(texts)]

    return unfit


def must_fit(name: str, how: HowRead) -> bool:
    """Say whether a list beside the answers has to be as long as theirs: one of rewards by its name, or that is named as one.

    Example:
        >>> must_fit("scores", HowRead()), must_fit("rm", HowRead()), must_fit("rm", HowRead(columns={"reward": "rm"}))
        (True, False, True)
    """
    return REWARD_LISTS.fullmatch(name) is not None or name in _rewards_named(how)


def _read_beside(lists: Mapping[str, Kind], how: HowRead) -> dict[str, Kind]:
    """The lists whose values are those of the answers: but for numbers that are not as many, all."""
    return {
        name: kind
        for name, kind in lists.items()
        if kind.beside or not are_numbers(kind) or must_fit(name, how)
    }


def _rewards_named(how: HowRead) -> set[str]:
    """The columns that `columns` names as rewards."""
    return {name for what, name in how.named.items() if what not in PARTS}


def are_numbers(kind: Kind) -> bool:
    """Say whether a value is a list of numbers.

    Example:
        >>> are_numbers(Kind("list", item=Kind("number"))), are_numbers(Kind("list", item=Kind("text")))
        (True, False)
    """
    return kind.name == "list" and kind.item is not None and is_number(kind.item)


def list_of_answers(columns: Columns, how: HowRead) -> str | None:
    """Find the list that holds the answers of a row; None = there is none."""
    named = how.named.get("completions") or how.named.get("generations")
    if named is not None:
        return named
    lists = (name for name in ANSWER_LISTS if name in columns and columns[name].name == "list")
    return _answer_list(columns, with_models=True) or next(lists, None)


def fit_distilabel(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise parallel lists of answers and of the models that gave them."""
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
    read = _read_beside(lists, how)

    def answers(row: Row) -> Iterator[Answer]:
        texts, by = row.get(name) or [], row.get(models) or []
        if texts and len(by) != len(texts):
            raise MalformedError(f"{models} has {len(by)} values for {len(texts)} answers")
        count: dict[str, int] = {}
        for at, values in enumerate(_beside(row, name, read, how)):
            model = text_of(by[at])
            if model is None:
                yield Answer(None, unnamed=f"a name in {models} is missing")
                continue
            count[model] = count.get(model, -1) + 1
            finish = next((values.pop(name) for name in _FINISHES if name in values), None)
            yield Answer(model, texts[at], sample_again(count[model]), values, finish_reason=finish)

    scored = _rewards_in(read, how)
    taken = {name, models, *lists} - names.taken
    judge = {"model_name", "model"} & set(columns) - {models}
    note = tuple(f"{judge_name} is taken for the judge" for judge_name in sorted(judge))
    return Fitted(
        name="distilabel",
        says=f"an instruction per row, answers in {name}, their models in {models}{scored}",
        answers=answers,
        names=names.without_answer(*note, *unread_numbers(_items(lists))),
        taken=frozenset(taken | judge),
        fields=tuple(called for name, called in _called(read, how).items() if name not in _FINISHES),
        unfit=_unfit(name, read),
        many=True,
    )


def _rewards_in(lists: Mapping[str, Kind], how: HowRead, own: Iterable[str] = ()) -> str:
    """Name the lists of rewards beside the answers, for a line to the user; where nothing else is one by its name, all that may be."""
    rewards = [name for name in lists if must_fit(name, how)]
    if not rewards and not any(map(says_reward, own)):
        rewards = [name for name, kind in lists.items() if kind.beside and not no_reward(name)]
    return f", rewards in {', '.join(rewards)}" if rewards else ""


def sample_again(count: int) -> float | None:
    """The sample number of a model's answer in a row; none where it is the first, as it usually is."""
    return float(count) if count else None


def fit_ultrafeedback(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise a list of objects that name their model."""
    name = how.named.get("completions") or _answer_list(columns, with_models=True)
    if name is None:
        return None
    item = columns[name].item
    fields = {} if item is None else item.fields
    by = next((n for n in MODEL_FIELDS if n in fields), None)
    if by is None:
        return None
    text = next((n for n in TEXT_FIELDS if n in fields), None)
    own = own_fields(fields, text, but=(by,))
    lists = _scores_beside(columns, {name, *names.taken}, how)
    lists = {n: kind for n, kind in lists.items() if n not in own or n in _rewards_named(how)}
    twice = {n for n in own if is_number(fields[n]) and not is_number(columns.get(n, fields[n]))}
    twice -= {*lists, *names.taken}
    told = [
        f"not read: the column {n}, since answers in {name} have a {n} of their own" for n in sorted(twice)
    ]

    def answers(row: Row) -> Iterator[Answer]:
        found = row.get(name) or []
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise MalformedError(f"{name} is no list of objects")
        count: dict[str, int] = {}
        for each, scores in zip(found, _beside(row, name, lists, how), strict=True):
            model = text_of(each.get(by))
            if model is None:
                yield Answer(None, unnamed=f"a {by} in {name} is missing")
                continue
            count[model] = count.get(model, -1) + 1
            answer = answer_of(each, text, model, sample_again(count[model]), but=(by,))
            answer.values |= scores
            yield answer

    return Fitted(
        name="ultrafeedback",
        says=f"an instruction per row, answers in the list {name}{_rewards_in(lists, how, own)}",
        answers=answers,
        names=names.without_answer(*unread_numbers(fields), *told),
        taken=frozenset({name, "models", *lists, *twice} & set(columns)),
        unfit=_unfit(name, lists),
        fields=tuple(dict.fromkeys((*own, *_called(lists, how).values()))),
        many=True,
    )


def _scores_beside(columns: Columns, but: Collection[str], how: HowRead) -> dict[str, Kind]:
    """The lists of numbers that are of the answers, in order: by their lengths, or since they must be."""
    return {
        name: kind
        for name, kind in columns.items()
        if name not in but and are_numbers(kind) and (kind.beside or must_fit(name, how))
    }


def unread_numbers(fields: Mapping[str, Kind]) -> tuple[str, ...]:
    """Say which objects beside the text of an answer hold numbers that may be rewards, which are not read; one note, or none.

    Example:
        >>> unread_numbers({"response": Kind("text"), "scores": Kind("struct", fields={"honest": Kind("number")})})
        ('not read: scores.honest, inside an object of each answer; a reward stands beside the text',)
    """
    found = [
        f"{name}.{inner}"
        for name, kind in fields.items()
        for inner, value in kind.fields.items()
        if is_number(value) and name not in NO_MODELS and not no_reward(inner)
    ]
    if not found:
        return ()
    return (
        f"not read: {', '.join(found)}, inside an object of each answer; a reward stands beside the text",
    )


_OWN = frozenset({"custom_system_prompt", "principle", "critique", "reasoning", "reasoning_content"})


def own_fields(fields: Iterable[str], text: str | None, *, but: Collection[str] = ()) -> tuple[str, ...]:
    """The fields of objects with answers that are their rewards and other values: all but the text and what belongs to it."""
    return tuple(n for n in fields if n not in {text, *but, *_OWN} and not is_finish(n))


def answer_of(
    said: Mapping[str, Any], text: str | None, model: str, sample: float | None, *, but: Collection[str] = ()
) -> Answer:
    """Take the answer that an object holds, with the values beside its text.

    Args:
        said: The object.
        text: The field of its text; None = it has none.
        model: Whose it is.
        sample: Its number.
        but: Fields that are no values of the answer.
    """
    own = {n: said[n] for n in own_fields(said, text, but=but) if not isinstance(said[n], list | dict)}
    return Answer(
        model,
        response_in(said, text),
        sample,
        own,
        system=said.get("custom_system_prompt"),
        reasoning=said.get("reasoning") or said.get("reasoning_content"),
        finish_reason=finish_in(said),
    )


def is_number(kind: Kind) -> bool:
    """Say whether a value is a number, or true or false."""
    return kind.name in {"number", "bool"}


def may_hold_numbers(kind: Kind) -> bool:
    """Say whether values are numbers, but perhaps for some that are texts."""
    return is_number(kind) or kind.slips


def number_in(row: Row, name: str, *, may_be_none: bool = False) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Take a number from a column of a row; `may_be_none` where nothing but the numbers says that it is of a model.

    Raises:
        MalformedError: Something else stands there.
    """
    value = row.get(name)
    try:
        number_of(value)
    except ValueError:
        point = wants_number(str(value), [], "")
        wanted = f"; {point}" if point else ", not a number; leave it empty where there is none"
        wanted += f", or delete the column if {name} is no model" if may_be_none else ""
        raise MalformedError(f"{name} is {str(value)[:60]!r}{wanted}") from None
    return value
