"""Forms whose columns, or fields of an object, are models: RouterBench, pairs of columns, objects, pass rates, a matrix, a zoo."""

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from crowdselect.finish import finish_in, is_finish
from crowdselect.pool.columns import Columns, Kind
from crowdselect.pool.howread import HowRead
from crowdselect.pool.inner import value_at
from crowdselect.pool.layouts import (
    FIRST_REWARDS,
    NAMED_MODELS,
    NO_MODELS,
    REFERENCES,
    may_be_model,
    zoo_models,
)
from crowdselect.pool.modelcolumns import ANSWERS, SCORES, columns_by_model, is_score, models_in, spelt
from crowdselect.pool.parts import ROUTED, Names, is_said
from crowdselect.pool.rowfiles import Row
from crowdselect.pool.rowforms import (
    TEXT_FIELDS,
    Answer,
    Fitted,
    MalformedError,
    answer_of,
    is_number,
    number_in,
    own_fields,
    response_in,
    sample_again,
    unread_numbers,
)

_RATE = re.compile(r"(?:(?:pass|solve)_rate_(?P<after>.+)|(?P<before>.+?)_(?:pass|solve)_rate)")


def _wide(  # noqa: PLR0917  (each is said at once)
    name: str,
    says: str,
    names: Names,
    answers: Callable[[Row], Iterable[Answer]],
    taken: Iterable[str],
    fields: Iterable[str],
    inside: Mapping[str, Kind] = MappingProxyType({}),
) -> Fitted:
    return Fitted(
        name=name,
        says=says,
        answers=answers,
        names=names.without_answer(*unread_numbers(inside)),
        taken=frozenset(taken),
        fields=tuple(dict.fromkeys(fields)),
        many=True,
    )


def fit_routed(columns: Columns, names: Names, how: HowRead) -> Fitted | None:  # noqa: ARG001  (as the others)
    """Recognise RouterBench."""
    models = sorted(n.removesuffix(ROUTED) for n in columns if n.endswith(ROUTED))
    models = [model for model in models if model in columns]
    if not models:
        return None

    def answers(row: Row) -> Iterator[Answer]:
        for model in models:
            text, score = row.get(model + ROUTED), row.get(model)
            text = unlisted(text) if _is_spelt_list(row.get(names.instruction or "")) else text
            if text is not None or score is not None:
                yield Answer(model, text, values={"score": score, "cost": row.get(f"{model}|total_cost")})

    taken = {n for n in columns if n.partition("|")[0] in models} | {"oracle_model_to_route_to"} & set(
        columns
    )
    says = "RouterBench: columns MODEL, MODEL|model_response and MODEL|total_cost"
    return _wide("routerbench", says, names, answers, taken, ("score", "cost"))


def _answered(columns: Columns) -> dict[str, str]:
    """Model → the column of its answers: texts `response_MODEL`, or another such as `MODEL Answer` where it has a score."""
    said = {name: models_in(name, ANSWERS) for name, kind in columns.items() if is_said(kind)}
    found = {
        model: (word, name)
        for name, models in said.items()
        for (word, _), model in models.items()
        if spelt(f"{model}_answer") not in REFERENCES
    }
    scores = _scores_of(columns, found)
    return {
        model: name
        for model, (word, name) in found.items()
        if model in scores or (word == "response" and not is_number(columns[name]))
    }


def _scores_of(columns: Columns, models: Iterable[str]) -> dict[str, dict[str, str]]:
    """Model → score → its column, `score_MODEL`, `MODEL_score` or `MODEL Score`."""
    numbers: dict[str, dict[str, str]] = {}
    for name, kind in columns.items():
        for (score, _), model in models_in(name, SCORES).items():
            if is_number(kind) or (kind.slips and score != "correct"):  # right answers are texts, too
                numbers.setdefault(spelt(model), {}).setdefault(score, name)
    return {model: numbers[spelt(model)] for model in models if spelt(model) in numbers}


def _several_scores(columns: Columns, names: Names) -> dict[str, dict[str, str]]:
    """Model → score → its column, where all columns of numbers are scores of several kinds, and all models have each kind."""
    numbers = [
        n for n, kind in columns.items() if is_number(kind) and n not in names.taken and may_be_model(n)
    ]
    for first in (False, True):
        found: dict[str, dict[str, str]] = {}
        for name in numbers:
            for (score, begins), model in models_in(name, SCORES).items():
                if begins == first:
                    found.setdefault(model, {})[score] = name
        kinds = {score for scores in found.values() for score in scores}
        if len(kinds) > 1 < len(found) and len(numbers) == len(kinds) * len(found):
            return found
    return {}


def _by_pattern(columns: Columns, pattern: re.Pattern[str], fits: Callable[[Kind], bool]) -> dict[str, str]:
    """Model → the column whose name says it before or after what the pattern wants."""
    matches = {name: pattern.fullmatch(name) for name, kind in columns.items() if fits(kind)}
    return {match["after"] or match["before"]: name for name, match in matches.items() if match is not None}


def fit_pairs_of_columns(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise a column of answers and one of scores for each model."""
    responses = _answered(columns)
    texts = [name for name, kind in columns.items() if kind.name == "text" and name not in names.taken]
    responses = {name: name for name in _scores_of(columns, texts)} | responses  # MODEL beside MODEL_score
    scores = _scores_of(columns, responses) or _several_scores(columns, names)
    if not scores or not (names.asked or names.id is not None):
        return None
    if how.model is None and numbered_responses(columns):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        count: dict[str, int] = {}
        for place in sorted({*responses, *scores}):
            name = responses.get(place)
            values = {score: number_in(row, column) for score, column in scores.get(place, {}).items()}
            text = row.get(name) if name is not None else None
            if text is None and all(value is None for value in values.values()):
                continue
            model = how.model or place
            count[model] = count.get(model, -1) + 1
            yield Answer(model, text, sample_again(count[model]), values)

    taken = {*responses.values(), *(n for found in scores.values() for n in found.values())}
    unscored = [n for n in columns if n not in taken | names.taken and models_in(n, ANSWERS)]
    says = f"columns {_shapes([responses, *_by_kind(scores)])}"
    says += f", but of no model: {', '.join(unscored)}" if unscored else ""
    return _wide("column pairs", says, names, answers, taken, (s for found in scores.values() for s in found))


def _by_kind(scores: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """Model → column, for each kind of score."""
    kinds = dict.fromkeys(kind for found in scores.values() for kind in found)
    return [{model: found[kind] for model, found in scores.items() if kind in found} for kind in kinds]


def _shapes(columns: Iterable[Mapping[str, str]]) -> str:
    """Write the names of columns as they are, with MODEL for the model; where these differ, one of each kind.

    Example:
        >>> _shapes([{"m-1b": "m-1b", "m-7b": "m-7b"}, {"m-1b": "m-1b_score", "m-7b": "m-7b_score"}])
        'MODEL and MODEL_score'
    """
    shapes = [
        next(
            re.sub(rf"(?<![^\W_]){re.escape(model)}(?![^\W_])", "MODEL", name)
            for model, name in found.items()
        )
        for found in columns
        if found
    ]
    return " and ".join(dict.fromkeys(shapes))


def numbered_responses(columns: Columns) -> list[str]:
    """The columns of responses, where numbers tell them apart, which are no names of models."""
    responses = _answered(columns)
    return sorted(responses.values()) if all(map(_PLACE.fullmatch, responses)) else []


_PLACE = re.compile(r"\d+")


def fit_structs(columns: Columns, names: Names, how: HowRead) -> Fitted | None:  # noqa: ARG001
    """Recognise objects of answers and of scores, a field for each model."""
    texts = next(
        (
            n
            for n in ("responses", "answers", "completions", "outputs", "generations")
            if _per_model(columns.get(n), _is_answered)
        ),
        None,
    )
    inside = (
        {n: k for own in columns[texts].fields.values() for n, k in _fields(own).items()} if texts else {}
    )
    text = next((n for n in TEXT_FIELDS if n in inside), None)
    numbers = [n for n in columns if _per_model(columns[n], _are_numbers) and n not in names.taken]
    numbers = [n for n in numbers if n in {"scores", "rewards", "ratings", "correct"}]
    if texts is None and (not numbers or _has_one_answer(names)):
        return None
    if not (names.asked or names.id is not None):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        said = (row.get(texts) if texts else None) or {}
        scored = {name: row.get(name) or {} for name in numbers}
        for model in sorted({*said, *(model for found in scored.values() for model in found)}):
            values = {_singular(name): found.get(model) for name, found in scored.items()}
            for answer in _each_sample(model, said.get(model), values):
                yield _unpacked(answer, text)

    taken = {*numbers, *([texts] if texts else [])}
    says = f"a value per model in {' and '.join(sorted(taken))}"
    fields = (*map(_singular, numbers), *own_fields(sorted(inside), text, but=_SPEAKERS))
    return _wide("structs", says, names, answers, taken, fields, inside)


def _is_answered(kind: Kind) -> bool:
    """Whether a value is an answer of a model, or an object that holds one, or a list of such."""
    return is_said(kind) or bool(set(TEXT_FIELDS) & set(_fields(kind)))


def _fields(kind: Kind) -> Mapping[str, Kind]:
    """The fields of an object, or of those of a list that are no turns or parts."""
    if kind.name == "list":
        return {} if kind.item is None or _is_piece(kind.item.fields) else kind.item.fields
    return kind.fields


def _is_piece(fields: Collection[str]) -> bool:
    """Whether an object of a list is a turn or a part of a text, so that the list is one answer."""
    return bool(_SPEAKERS & set(fields)) or set(fields) == {"text"}


_SPEAKERS = frozenset({"role", "from", "type"})


def _unpacked(answer: Answer, text: str | None) -> Answer:
    """An answer whose object is taken apart; what is a text stays, and so does a message beside its values."""
    given = answer.response
    if text is None or answer.model is None or not isinstance(given, dict):
        return answer
    found = answer_of(given, text, answer.model, answer.sample, but=_SPEAKERS)
    found.values |= {name: value for name, value in answer.values.items() if value is not None}
    found.response = given if _SPEAKERS & set(given) else found.response
    return found


def _has_one_answer(names: Names) -> bool:
    """Whether a row holds one answer, so that numbers in an object are its own, not of models; `answer` may be the right one."""
    return names.response not in {None, "answer"}


def _each_sample(model: str, text: Any, values: Mapping[str, Any]) -> Iterator[Answer]:  # noqa: ANN401
    """One answer of a model; one for each place where its text or its rewards stand in lists."""
    listed = {
        name: found
        for name, found in {"the text": text, **values}.items()
        if isinstance(found, list) and not any(isinstance(part, dict) and _is_piece(part) for part in found)
    }
    if not listed:
        if text is not None or any(value is not None for value in values.values()):
            yield Answer(model, text, values=dict(values))
        return
    lengths = {name: len(found) for name, found in listed.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise MalformedError(f"samples of {model} are not as many everywhere: {counted}")
    for at in range(max(lengths.values())):
        own = {name: value[at] if name in listed else value for name, value in values.items()}
        yield Answer(model, text[at] if "the text" in listed else text, float(at), own)


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


def _are_numbers(kind: Kind) -> bool:
    """A number, or a list of some."""
    return is_number(kind) or (kind.name == "list" and kind.item is not None and is_number(kind.item))


def fit_pass_rates(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise numbers per model, in an object or in columns named by a rate."""
    columns_of = _by_pattern(columns, _RATE, is_number)
    paths = _number_structs(columns, names, how.known_models)
    if any(kind.name == "struct" and "content" in kind.fields for kind in columns.values()):
        return None  # answers of models, see `zoo`
    if _has_one_answer(names):
        return None
    named = names.model is not None or how.model is not None
    if not (columns_of or paths) or named or not (names.asked or names.id is not None):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        found: dict[str, dict[str, Any]] = {
            model: {"pass_rate": row.get(name)} for model, name in columns_of.items()
        }
        for path in paths:
            for model, value in (value_at(row, path) or {}).items():
                found.setdefault(str(model), {})[path[-1]] = value
        for model in sorted(found):
            if any(value is not None for value in found[model].values()):
                yield Answer(model, values=found[model])

    taken = {*columns_of.values(), *(path[0] for path in paths)} - names.taken
    listed = [".".join(path) for path in paths] + sorted(columns_of.values())
    fields = [*(["pass_rate"] if columns_of else []), *(path[-1] for path in paths)]
    return _wide("pass rates", f"a number per model in {', '.join(listed)}", names, answers, taken, fields)


def _number_structs(
    columns: Columns, names: Names, known: Collection[str], deepest: int = 3
) -> list[tuple[str, ...]]:
    """Paths to objects that hold nothing but numbers, several, and are of rates or rewards by a name on the way; others are no models."""
    found: list[tuple[str, ...]] = []

    def look(path: tuple[str, ...], kind: Kind) -> None:
        if kind.name != "struct" or len(path) > deepest:
            return
        if path[-1] not in NO_MODELS and _per_model(kind, is_number):
            models = set(kind.fields) - {"*"}  # which stands for what else a map holds
            several = len(models) > 1 or "*" in kind.fields
            named = all(may_be_model(model, known) for model in models)
            if several and named and any(map(_RATES.search, path)):
                found.append(path)
            return
        for name, inner in kind.fields.items():
            look((*path, name), inner)

    for name, kind in columns.items():
        if name not in names.taken:
            look((name,), kind)
    return found


_RATES = re.compile(
    r"difficult|score|reward|accura|correct|solve|(?<![a-z])(pass(ed|es)?|rates?|ratings?)(?![a-z])|passrate",
    re.IGNORECASE,
)


def fit_matrix(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise a column of numbers for each model."""
    if (
        names.model is not None
        or how.model is not None
        or names.response is not None
        or numbered_responses(columns)
    ):
        return None
    numeric = [
        name
        for name, kind in columns.items()
        if (is_number(kind) or kind.nearly or (kind.slips and is_score(name))) and name not in names.taken
    ]
    if names.id is None and any(map(FIRST_REWARDS.fullmatch, numeric)):
        return None  # without an id a reward is no sign of a crowd, nor is a single number
    models = _models_among(numeric, how.known_models)
    kinds = {kind.name for name, kind in columns.items() if name not in names.taken | NO_MODELS}
    nested = how.layout is None and not kinds.isdisjoint({"list", "struct"})
    alone = names.id is not None and not nested
    alone = alone and all(is_number(columns[n]) or is_score(n) for n in models.values())
    if not models or (len(models) < 2 and not alone):
        return None  # a single number beside what is not understood is no sign of a crowd

    def answers(row: Row) -> Iterator[Answer]:
        for model, name in models.items():
            if row.get(name) is not None:
                yield Answer(model, values={"score": number_in(row, name, may_be_none=True)})

    others = {
        name: kind
        for name, kind in columns.items()
        if name not in {*models.values(), *names.taken}
        and (name in numeric or kind.slips or (kind.name == "text" and is_score(name)))
    }
    slips = [name for name in models.values() if columns[name].slips]
    says = "a number per model in columns"
    says += f" (some values of {', '.join(slips)} are texts)" if slips else ""
    told = ", ".join(name if is_number(kind) else f"{name} ({_texts(kind)})" for name, kind in others.items())
    says += f", but no model: {told}" if others else ""
    says += f"; {NAMED_MODELS}" if any(map(is_number, others.values())) else ""
    return _wide("matrix", says, names, answers, models.values(), ("score",))


def _models_among(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Model → its column, of columns of numbers."""
    found = [name for name in names if may_be_model(name, known)]
    models = columns_by_model(found)
    return models | {name: name for name in found if name in known and name not in models.values()}


def _texts(kind: Kind) -> str:
    """How many values of a column are texts."""
    return f"{'some of ' if kind.nearly else 'many of ' if kind.slips else ''}its values are texts"


def fit_zoo(columns: Columns, names: Names, how: HowRead) -> Fitted | None:  # noqa: ARG001
    """Recognise an object for each model."""
    models = [name for name in zoo_models(columns) if name not in names.taken]
    if not models or not (names.asked or names.id is not None):
        return None
    if _has_one_answer(names) and not any("content" in columns[model].fields for model in models):
        return None

    def answers(row: Row) -> Iterator[Answer]:
        for model in models:
            own = row.get(model)
            if isinstance(own, dict):
                values = {n: v for n, v in own.items() if n in fields and not isinstance(v, list | dict)}
                said = response_in(own, "content")
                yield Answer(model, said, values=values, finish_reason=finish_in(own))

    inside = {name: kind for model in models for name, kind in columns[model].fields.items()}
    fields = [name for name in inside if name != "content" and not is_finish(name)]
    return _wide("zoo", "a struct per model in columns", names, answers, models, fields, inside)


def _is_spelt_list(text: Any) -> bool:  # noqa: ANN401  (whatever a file holds)
    return isinstance(text, str) and text.startswith(("['", '["')) and text.endswith(("']", '"]'))


def unlisted(text: Any) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Read a prompt that is Python's spelling of a list of one text, as RouterBench has them; others stay.

    Example:
        >>> unlisted("['Name a prime.']")
        'Name a prime.'
    """
    if not _is_spelt_list(text):
        return text
    try:
        found = ast.literal_eval(text)  # constants only: nothing in a text is run
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
        return text
    return "\n".join(found) if all(isinstance(part, str) for part in found) else text
