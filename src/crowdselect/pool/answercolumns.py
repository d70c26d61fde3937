"""Columns that hold the answers of a model each, under names that do not say so: `antwoord_MODEL` beside `score_MODEL`."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from crowdselect.pool.columns import Columns, Kind
from crowdselect.pool.modelcolumns import ANSWERS, SCORES, models_in, spelt

_RESPONSE = ANSWERS[0]
_NO_ANSWERS = frozenset(
    {
        "prompt",
        "prompts",
        "instruction",
        "question",
        "query",
        "system",
        "reference",
        "gold",
        "target",
        "model",
    }
    | {"reasoning", "thinking", "thought", "thoughts", "rationale", "explanation", "cot", "plan"}
    | {
        "critique",
        "comment",
        "comments",
        "feedback",
        "note",
        "notes",
        "review",
        "judge",
        "judgment",
        "judgement",
    }
    | {"verdict", "label", "tag", "tags", "category", "type", "lang", "language", "finish", "stop", "reason"}
    | {"status", "error", "errors", "date", "time", "id", "version", "extracted", "parsed"}
)
"""Words in the names of texts about an answer, or about what was asked."""
_FEWEST, _FEW_DIFFERENT = 10, 0.2
"""From so many texts on, answers are more different than this share of them."""


def named_columns(columns: Columns, named: Mapping[str, str]) -> dict[str, str]:
    """Find what `columns` names as the answers of a model, and the scores that it names beside these.

    Args:
        columns: Of the file.
        named: What → the column.

    Returns:
        `response_MODEL`, or `score_MODEL` → the column.

    Example:
        >>> columns = {"a": Kind("text"), "b": Kind("number"), "c": Kind("number")}
        >>> named_columns(columns, {"response_oak": "a", "score_oak": "b", "score_all": "c"})
        {'response_oak': 'a', 'score_oak': 'b'}
    """
    kinds = {
        what: columns[name].name for what, name in named.items() if name in columns and what not in columns
    }
    scored = set(_scored({**columns, **{what: columns[named[what]] for what in kinds}}))
    said = {
        what: models
        for what, kind in kinds.items()
        if kind == "text" and (models := _models_of(what, ANSWERS) & (scored | _models_of(what, [_RESPONSE])))
    }
    own = {model for models in said.values() for model in models}
    scores = [
        what for what, kind in kinds.items() if kind in {"number", "bool"} and _models_of(what, SCORES) & own
    ]
    return {what: named[what] for what in (*said, *scores)}


def texts_by_model(columns: Columns, taken: Collection[str]) -> dict[str, dict[str, str]]:
    """Find texts of models that others columns name as the models of scores; nothing where some are known as answers.

    Args:
        columns: Of the file.
        taken: Those that are parts of a row.

    Returns:
        What the columns are called, `antwoord_MODEL` → model → column; those first that each model with a score has.

    Example:
        >>> numbers = {"score_oak": Kind("number"), "score_elm": Kind("number")}
        >>> texts_by_model(numbers | {"antwoord_oak": Kind("text"), "antwoord_elm": Kind("text"), "prompt_oak": Kind("text")}, [])
        {'antwoord_MODEL': {'oak': 'antwoord_oak', 'elm': 'antwoord_elm'}}
        >>> texts_by_model(numbers | {"oak": Kind("text"), "elm": Kind("text")}, [])
        {}
        >>> texts_by_model(numbers | dict.fromkeys(["model_oak", "model_elm", "talk_oak", "talk_elm"], Kind("text")), [])
        {}
    """
    scored = {model: name for model, name in _scored(columns).items() if name not in taken}
    texts = [name for name, kind in columns.items() if kind.name == "text" and name not in taken]
    if any(f"model_{model}" in columns for model in scored):  # the two sides of a battle
        return {}
    known = any(spelt(name) in scored or _models_of(name, ANSWERS) & set(scored) for name in texts)
    found: dict[str, dict[str, str]] = {}
    for name in [] if known else texts:
        for shape, model in _shapes(name, scored):
            found.setdefault(shape, {})[model] = name
    several = {shape: own for shape, own in found.items() if len(own) > 1}
    return dict(sorted(several.items(), key=lambda item: -len(item[1])))


def is_whole(columns: Columns, texts: Mapping[str, str]) -> bool:
    """Say whether texts are of exactly the models that have a score.

    Args:
        columns: Of the file.
        texts: Model → column, from `texts_by_model`.
    """
    return {*map(spelt, texts)} == set(_scored(columns))


def are_answers(texts: Sequence[str]) -> bool:
    """Say whether the texts of a column may be answers: as good as none recurs as labels do.

    Example:
        >>> are_answers(["stop", "length"] * 50), are_answers([f"It is {n}." for n in range(100)])
        (False, True)
    """
    return len(texts) < _FEWEST or len(set(texts)) > _FEW_DIFFERENT * len(texts)


def response_of(model: str) -> str:
    """What a column of the answers of a model is called where its name says so."""
    return f"{_RESPONSE}_{model}"


def naming(texts: Mapping[str, str]) -> str:
    """Write the option that names the answers of models.

    Example:
        >>> naming({"oak": "antwoord_oak", "elm": "antwoord_elm"})
        "`columns='response_oak=antwoord_oak,response_elm=antwoord_elm'`"
    """
    return f"`columns='{','.join(f'{response_of(model)}={name}' for model, name in texts.items())}'`"


def _scored(columns: Columns) -> dict[str, str]:
    """Model, as `spelt` → the column of its score, of those that are called alike."""
    forms: dict[tuple[str, bool], dict[str, str]] = {}
    for name, kind in columns.items():
        for form, model in models_in(name, SCORES).items() if _is_score(kind) else ():
            forms.setdefault(form, {})[spelt(model)] = name
    return max(forms.values(), key=len, default={})


def _is_score(kind: Kind) -> bool:
    return kind.name in {"number", "bool"} or kind.slips


def _models_of(name: str, words: Sequence[str]) -> set[str]:
    return {*map(spelt, models_in(name, words).values())}


def _shapes(name: str, models: Collection[str]) -> Iterator[tuple[str, str]]:
    """What a column may be called with MODEL for the model, and the model as it is written there."""
    for model in models:
        written = re.escape(model).replace("_", "[_ ]")
        match = re.fullmatch(
            rf"(?:(?P<before>.*[^\W_].*?[\s_.:-]+[(\[]?)(?P<last>{written})[)\]]?|(?P<first>{written})(?P<after>[\s_.:-]+[(\[]?.*[^\W_].*))",
            name,
            re.IGNORECASE,
        )
        if match is None:
            continue
        own = match["last"] or match["first"]
        shape = f"{match['before']}MODEL" if match["last"] else f"MODEL{match['after']}"
        if _NO_ANSWERS.isdisjoint(re.split(r"[\W_]+", shape.replace("MODEL", "").casefold())):
            yield shape, own
