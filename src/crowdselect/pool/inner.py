"""Values inside the objects of a row: by a path such as `data.prompt`, as columns of their own, and those that nobody named."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from crowdselect.pool.columns import Columns, Kind
from crowdselect.pool.layouts import FIRST_REWARDS, NO_MODELS
from crowdselect.pool.parts import (
    ANSWER_LISTS,
    INSTRUCTIONS,
    LISTS_OF_REWARDS,
    MODEL_LISTS,
    MODELS,
    RESPONSES,
    is_messages,
)
from crowdselect.pool.rowforms import MODEL_FIELDS, REWARD_LISTS, TEXT_FIELDS, is_number

FieldPath = tuple[str, ...]

_PROVIDER = "provider.id"
"""Where promptfoo has the model."""
_NAMED_SCORES = "namedScores"
"""Where promptfoo has the scores of its metrics."""
_FINISHES = ("finish_reason", "finishReason", "stop_reason", "stopReason")
"""What says how an answer ended, in the object that holds it."""
_DEEPEST = 3
"""Objects within objects that are looked into for what a row asks and holds."""


def within(columns: Columns) -> dict[str, FieldPath]:
    """Find values inside objects that count as columns: rewards, as in `scores` or a `judge`, and verl's right answer.

    Returns:
        What each is called → its path.

    Example:
        >>> within({"reward_model": Kind("struct", fields={"ground_truth": Kind("text"), "style": Kind("text")})})
        {'ground_truth': ('reward_model', 'ground_truth')}
    """
    found: dict[str, FieldPath] = {
        f"{name}.{field}": (name, field)
        for name, kind in columns.items()
        if kind.name == "struct"
        for field, inner in kind.fields.items()
        if inner.name in {"number", "bool"} and _is_reward(name, field)
    }
    verl = columns.get("reward_model")
    right = verl.fields.get("ground_truth") if verl is not None else None
    if right is not None and right.name in {"text", "number"} and "ground_truth" not in columns:
        found["ground_truth"] = ("reward_model", "ground_truth")
    return found


def _is_reward(name: str, field: str) -> bool:
    """Whether a number inside an object is a reward, by the name of either."""
    if LISTS_OF_REWARDS.fullmatch(name) or name == _NAMED_SCORES:
        return field != "*"
    return name not in NO_MODELS and FIRST_REWARDS.fullmatch(field) is not None


def path_to(columns: Columns, name: str) -> tuple[FieldPath, Kind] | None:
    """Find a value inside objects by the names on the way to it, joined by dots, which names may hold too.

    Returns:
        Its path and what it is; None where there is none.

    Example:
        >>> path_to({"data": Kind("struct", fields={"prompt": Kind("text")})}, "data.prompt")[0]
        ('data', 'prompt')
    """
    if name in columns:
        return (name,), columns[name]
    for outer, kind in columns.items():
        inner = path_to(kind.fields, name.removeprefix(f"{outer}.")) if name.startswith(f"{outer}.") else None
        if inner is not None:
            return (outer, *inner[0]), inner[1]
    return None


def finish_beside(columns: Columns, response: str) -> str | None:
    """Name what says how an answer ended, in the object that holds the answer; None where nothing does.

    Example:
        >>> reply = {"output": Kind("text"), "finishReason": Kind("text")}
        >>> finish_beside({"response": Kind("struct", fields=reply)}, "response.output")
        'response.finishReason'
    """
    outer = response.rpartition(".")[0]
    found = path_to(columns, outer) if outer else None
    fields = found[1].fields if found is not None else {}
    texts = (name for name in _FINISHES if name in fields and fields[name].name == "text")
    return next((f"{outer}.{name}" for name in texts), None)


def list_on_the_way(columns: Columns, name: str) -> str:
    """Name the list that a path goes into, of which it is told what makes one value; else the path itself.

    Example:
        >>> ratings = Kind("list", item=Kind("struct", fields={"value": Kind("number")}))
        >>> list_on_the_way({"said": Kind("struct", fields={"rating": ratings})}, "said.rating.value")
        'said.rating'
    """
    outer = name
    while "." in outer and path_to(columns, outer) is None:
        outer = outer.rpartition(".")[0]
    found = path_to(columns, outer)
    return outer if found is not None and found[1].name == "list" else name


def ratings_inside(columns: Columns) -> str | None:
    """Find a list of ratings inside an object, as of several annotators, by its name; None = there is none.

    Example:
        >>> ratings = Kind("list", item=Kind("struct", fields={"value": Kind("number")}))
        >>> ratings_inside({"said": Kind("struct", fields={"rating": ratings})})
        'said.rating'
    """
    judged = next((n for n, kind in columns.items() if kind.item is not None and results_in(kind.item)), None)
    places = (
        f"{outer}.{field}"
        for outer, kind in columns.items()
        for field, inner in kind.fields.items()
        if FIRST_REWARDS.fullmatch(field) and inner.item is not None
        if any(map(is_number, inner.item.fields.values()))
    )
    return next(places, judged)


def results_in(annotation: Kind) -> Kind | None:
    """What the results of an annotation hold as their values, in an export of Label Studio; None where it is none.

    Example:
        >>> value = Kind("struct", fields={"rating": Kind("number")})
        >>> result = Kind("list", item=Kind("struct", fields={"value": value, "type": Kind("text")}))
        >>> results_in(Kind("struct", fields={"result": result, "was_cancelled": Kind("bool")})) == value
        True
    """
    result = annotation.fields.get("result")
    value = result.item.fields.get("value") if result is not None and result.item is not None else None
    return value if value is not None and any(map(is_number, value.fields.values())) else None


def value_at(row: Mapping[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401  (whatever a file holds)
    """The value at a path of a row; None where there is none.

    Example:
        >>> value_at({"data": {"prompt": "Name a prime."}}, ("data", "prompt"))
        'Name a prime.'
    """
    inner: Any = row
    for step in path:
        inner = inner.get(step) if isinstance(inner, dict) else None
    return inner


def beside_named(columns: Columns, paths: Iterable[FieldPath], known: Container[FieldPath]) -> list[str]:
    """List the texts and numbers of the objects that named values lie in.

    Args:
        columns: Those of the file.
        paths: The named values'.
        known: Values that are read, and are not listed.

    Example:
        >>> fields = {"question": Kind("text"), "category": Kind("text")}
        >>> beside_named({"vars": Kind("struct", fields=fields)}, [("vars", "question")], {("vars", "question")})
        ['vars.category']
    """
    outer = dict.fromkeys(path[:-1] for path in paths if len(path) > 1)
    found = {path: path_to(columns, ".".join(path)) for path in outer}
    return [
        ".".join((*path, field))
        for path, at in found.items()
        if at is not None
        for field, kind in at[1].fields.items()
        if kind.name in {"text", "number"} and field != "*" and (*path, field) not in known
    ]


def parts_inside(columns: Columns) -> dict[str, str]:
    """Find what looks like parts of a row inside its objects, by their names.

    Returns:
        What → its path, as `columns` takes it.

    Example:
        >>> parts_inside({"data": Kind("struct", fields={"prompt": Kind("text"), "model": Kind("text")})})
        {'instruction': 'data.prompt', 'model': 'data.model'}
    """
    found: dict[str, str] = {}

    def look(fields: Mapping[str, Kind], before: FieldPath) -> None:
        for name, kind in fields.items():
            path = (*before, name)
            for what, fits in _PARTS.items():
                if fits(name, kind) and (before or what == "completions"):
                    found.setdefault(what, ".".join(path))
            if len(path) < _DEEPEST:
                look(kind.fields, path)

    look(columns, ())
    chat = chat_inside(columns)
    if chat is not None:
        found["instruction"] = (
            chat  # the texts that other columns hold are in it, and a system prompt with them
        )
    if "model" not in found and path_to(columns, _PROVIDER) is not None:
        found["model"] = _PROVIDER
    if "instruction" in found:
        found.pop("messages", None)
    return {what: found[what] for what in _PARTS if what in found}


def chat_inside(columns: Columns) -> str | None:
    """Find the texts that are whole conversations to be answered, written as JSON, by their path; None = there is none, or several.

    Example:
        >>> chat_inside({"prompt": Kind("struct", fields={"raw": Kind("text", asks=True), "label": Kind("text")})})
        'prompt.raw'
    """
    found: list[str] = []

    def look(fields: Mapping[str, Kind], before: FieldPath) -> None:
        for name, kind in fields.items():
            found.extend([".".join((*before, name))] if kind.asks else [])
            if len(before) + 1 < _DEEPEST:
                look(kind.fields, (*before, name))

    look(columns, ())
    return found[0] if len(found) == 1 else None


def _is_text(kind: Kind) -> bool:
    return kind.name == "text"


def _holds(kind: Kind, *fields: Sequence[str]) -> bool:
    """Whether it is a list of objects that have one of each of some fields."""
    own = kind.item.fields if kind.name == "list" and kind.item is not None else {}
    return bool(own) and all(set(names) & set(own) for names in fields)


_PARTS: dict[str, Callable[[str, Kind], bool]] = {
    "instruction": lambda name, kind: (
        name in {"instruction", *INSTRUCTIONS} and (_is_text(kind) or is_messages(kind))
    ),
    "messages": lambda _, kind: is_messages(kind),
    "model": lambda name, kind: name in {"model", *MODELS} and _is_text(kind),
    "response": lambda name, kind: name in {"response", *RESPONSES} and _is_text(kind),
    "completions": lambda _, kind: _holds(kind, MODEL_FIELDS, TEXT_FIELDS) and not is_messages(kind),
    "generations": lambda name, kind: (
        name in ANSWER_LISTS and kind.name == "list" and not _holds(kind, MODEL_FIELDS)
    ),
    "model_names": lambda name, kind: name in MODEL_LISTS and kind.name == "list",
    "ratings": lambda name, kind: (
        REWARD_LISTS.fullmatch(name) is not None and kind.item is not None and is_number(kind.item)
    ),
}
