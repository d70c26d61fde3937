"""The layouts of a pool: how to recognise each, and where each of its parts is, as SQL.

A `Layout` has a function from columns to a `View` (`views.py`). Nothing is read here. A new layout is one more
record of `LAYOUTS`; messages, help and the tables of the docs come from them.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crowdselect.errors import LayoutError
from crowdselect.finish import ending_sql
from crowdselect.pool.columns import Columns, as_id, as_number, as_text, quote, without_turns
from crowdselect.pool.modelcolumns import SCORES, columns_by_model, models_in
from crowdselect.pool.views import RewardColumns, Tall, View, Wide

STUDENT = "is_student"
"""The column that is true in the rows of a student: a model to choose for, and not of the crowd."""

NOT_REWARDS = frozenset(
    {"prompt_tokens", "completion_tokens", "cost", "latency", "sample", "turn", "attempts", "truncated"}
    | {"simulated", STUDENT}
)
"""Numeric columns that are never taken for a reward, nor for a model of a `matrix`."""

REFERENCES = frozenset(
    {"answer", "reference", "target", "ground_truth", "solution", "gold", "label"}
    | {"final_answer", "expected_answer", "correct_answer", "reference_answer"}
)
"""Columns that hold right answers; where they are numbers, they are taken for a reward only when named."""

FIRST_REWARDS = re.compile(r"scores?|ratings?|rewards?|correct|is_correct|correctness(_.*)?")
"""The names of rewards that come first where there are several, if one alone is there."""

_ROW_NUMBERS = re.compile(r"index|idx|level_0|nr\.?|no\.?|row([ _]?(number|nr|no)\.?)?|#", re.IGNORECASE)
"""The names of columns that count rows, as spreadsheets and pandas have them."""

_IDS = re.compile(r"(?i:(.*[^a-z0-9])?[gu]?u?id)|.*[a-z0-9]I[dD]")
"""The names of ids; `valid` is none."""

FEWEST_COUNTED = 10
"""From so many rows on, a column of a matrix that counts them from 0 or 1 is their number, and no model."""

_COUNTS = re.compile(r".*(cost|tokens|latency|length|count|rank)", re.IGNORECASE)
_ABOUT_ROWS = re.compile(r"(is|has|was)_.*|difficulty|level", re.IGNORECASE)
"""Numbers that a row of a matrix may have beside those of its models."""
_TOTALS = re.compile(r"(total|num|n)_.*", re.IGNORECASE)
_PLACES = re.compile(
    r"(.*[^a-z])?(idx|index|num|number|by|at|version|step|epoch|iteration)"
    r"|project|overlap|(.*[^a-z])?(annotator|rater|labell?er|reviewer|grader|worker|user)(_?(id|no|number))?"
    r"|(.*[^a-z])?(annotations|predictions|comments)|allow_.*",
    re.IGNORECASE,
)
"""Numbers that say where something is or who did it, or how often: indices, versions, people, their work on it."""
_EFFORT = re.compile(
    r"(.*[^a-z])?(cost|price|tokens?|latency|len|length|chars|time|runtime|duration|elapsed|seconds"
    r"|characters|words|sentences|lines|paragraphs|bytes)([^a-z].*)?",
    re.IGNORECASE,
)
"""What an answer took, or how long it is, in any word of a name, such as `latency_s`."""
_GOOD = re.compile(
    r"overall|quality|score|rating|reward|correct|accuracy|grade|judge|(?<![a-z])(stars?|points|marks?)(?![a-z])",
    re.IGNORECASE,
)
"""What names of rewards have in them."""
_WHOLE = re.compile(r"overall|(?<![a-z])total(?![a-z])", re.IGNORECASE)
"""What is in the name of the reward that sums others up."""
_FACTS = frozenset(
    {"index", "idx", "level_0", "turns", "year", "seed", "temperature", "top_p"}
    | {"timestamp", "tstamp", "created", "toxic", "redacted", "failure_reason"}
    | {"embedding", "logprob", "order"}
)
"""Numbers that tell of the instruction or of how it was answered, not of how good an answer is."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Where a word begins in a name such as `latencyMs`."""

NUMERIC = frozenset({"number", "bool"})

ID_COLUMNS = ("id", "uuid", "prompt_id")
"""The first of these that a pool has is its id."""
RARER_IDS = ("sample_id", "question_id", "example_id", "problem_id", "doc_id", "uid")
"""Names of the id where rows hold scores alone, or no text that an id could be made of; if one alone is there."""

NO_MODELS = frozenset(
    {
        "metadata",
        "meta",
        "usage",
        "extra_info",
        "reward_model",
        "metrics",
        "stats",
        "timings",
        "config",
        "settings",
    }
    | {"sampling", "sampling_params", "params", "parameters", "generation_config", "request_counts"}
)
"""Objects that tell of a row, and are no models of a `zoo`."""

_PARTS = frozenset(
    {*ID_COLUMNS, "instruction", "messages", "model", "response"}
)  # of `long`, and never rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A form that a pool has: how to recognise it, where its parts are, and how to speak of it."""

    name: str
    fits: Callable[[Columns], bool]
    view: Callable[[Columns], View]
    nested: bool = False
    """Answers stand in lists or structs of a row."""
    needs: str
    """The columns that it must have, for messages."""
    row: str
    """What one row is."""
    columns: str
    """The columns that it may have, in Markdown."""
    example: Mapping[str, Any]
    """One row as JSON has it."""


def detect(columns: Columns) -> str | None:
    """Name the layout that some columns have, or None.

    Example:
        >>> from crowdselect.pool.columns import Kind
        >>> detect({"id": Kind("text"), "model": Kind("text"), "score": Kind("number")})
        'long'
    """
    return next((name for name, layout in LAYOUTS.items() if layout.fits(columns)), None)


def view(columns: Columns, *, path: str, layout: str | None = None) -> View:
    """Say where the parts of a pool are.

    Args:
        columns: The columns of the source.
        path: The pool, for messages.
        layout: Force this layout; None = recognise it.

    Returns:
        The view.

    Raises:
        LayoutError: The columns fit no layout, or not the forced one.
    """
    if layout is not None and layout not in LAYOUTS:
        raise LayoutError(f"`layout={layout!r}` is unknown; choose one of: {', '.join(LAYOUTS)}")
    name = layout or detect(columns)
    found = ", ".join(columns) if len(columns) <= 40 else ", ".join([*list(columns)[:40], "..."])
    if name is None:
        raise LayoutError(
            f"{path}: the columns fit no layout; found {found}; known layouts: "
            + "; ".join(f"{known.name} ({known.needs})" for known in LAYOUTS.values())
        )
    wanted = LAYOUTS[name]
    if not wanted.fits(columns):
        raise LayoutError(f"{path}: not a {name} pool; found the columns {found}; wanted {wanted.needs}")
    return wanted.view(columns)


def reward_columns(columns: Columns, *, path: str) -> RewardColumns:
    """Say where the parts of a rewards file are: id, model, perhaps sample, and numeric columns.

    Raises:
        LayoutError: There is no id or no model column.
    """
    rarer = [name for name in (*RARER_IDS, "custom_id") if name in columns]
    name = _id_column(columns) or (rarer[0] if len(rarer) == 1 else None)
    if name is None or "model" not in columns:
        raise LayoutError(
            f"{path}: not a rewards file; found the columns {', '.join(columns)}; "
            "wanted id (or uuid), model and numeric columns"
        )
    rows = _rows({other: kind for other, kind in columns.items() if other != name})
    return RewardColumns(
        id=as_id(quote(name), columns[name]),
        id_name=name,
        model=rows.model,
        sample=rows.sample,
        rewards=rows.rewards,
        fields=rows.fields,
        bools=rows.bools,
    )


def candidates(rewards: Iterable[str]) -> tuple[str, ...]:
    """Leave out the numbers that are no rewards by their name.

    Example:
        >>> candidates(["score", "latency", "Nr.", "question_id", "valid"])
        ('score', 'valid')
    """
    known = NOT_REWARDS | REFERENCES
    return tuple(name for name in rewards if name not in known and not _names_rows(name))


def no_model(name: str) -> bool:
    """Say whether a numeric column is neither a model nor its reward, by its name.

    Example:
        >>> no_model("total_cost"), no_model("latencyMs"), no_model("Nr"), no_model("llama-8b")
        (True, True, True, False)
    """
    name = _in_words(name)
    known = name in NOT_REWARDS | REFERENCES | _FACTS
    effort = _EFFORT.fullmatch(name) is not None and _GOOD.search(name) is None  # length_score is one
    return known or _names_rows(name) or _COUNTS.fullmatch(name) is not None or effort


def no_reward(name: str) -> bool:
    """Say whether a number is taken for a reward only where it is named, by its name: an index, a count, a person, an effort.

    Example:
        >>> no_reward("best_idx"), no_reward("cancelled_annotations"), no_reward("total_score"), no_reward("helpful")
        (True, True, False, False)
        >>> no_reward("latencies"), no_reward("turn_ids"), no_reward("scores")
        (True, True, False)
    """
    return any(_is_no_reward(each) for each in (name, *_singulars(name)))


def _singulars(name: str) -> list[str]:
    """What a name may be the plural of."""
    endings = {"ies": "y", "ices": "ex", "es": "", "s": ""}
    return [name.removesuffix(end) + one for end, one in endings.items() if name.endswith(end)]


def _is_no_reward(name: str) -> bool:
    name = _in_words(name)
    good = _GOOD.search(name) is not None
    counts = _PLACES.fullmatch(name) is not None or (_TOTALS.fullmatch(name) is not None and not good)
    return no_model(name) or counts


def says_reward(name: str) -> bool:
    """Say whether a number is a reward by its name.

    Example:
        >>> says_reward("stars"), says_reward("helpful"), says_reward("score_idx")
        (True, False, False)
    """
    return unlikely(name) < _UNCLEAR


def unlikely(name: str) -> int:
    """Say how unlikely a numeric column is the reward that is meant, by its name: the lowest is proposed first.

    Example:
        >>> sorted(["latency_s", "helpful", "scores.honest", "scores.overall", "score"], key=unlikely)
        ['score', 'scores.overall', 'scores.honest', 'helpful', 'latency_s']
    """
    good = _GOOD.search(name)
    found = (FIRST_REWARDS.fullmatch(name), good and _WHOLE.search(name), good)
    return (
        _UNCLEAR + 1 if no_reward(name) else next((at for at, match in enumerate(found) if match), _UNCLEAR)
    )


_UNCLEAR = 3  # of `unlikely`: its name says nothing


def _names_rows(name: str) -> bool:
    """Whether a column numbers rows, or is an id, by its name."""
    return _ROW_NUMBERS.fullmatch(name) is not None or _IDS.fullmatch(name) is not None


def _in_words(name: str) -> str:
    """A name as JavaScript writes it, such as `latencyMs`, in the form that patterns know; any other as it is."""
    return _HUMP.sub("_", name).lower() if name[:1].islower() and name.isalnum() else name


NAMED_MODELS = "a crowd file (`crowd`) that names a column of numbers makes it a model"
"""What to do where a column is no model by its name, and yet is one."""


def may_be_model(name: str, known: Collection[str] = ()) -> bool:
    """Say whether a numeric column may be a model of a wide file, by its name: no reward, nor what tells of the row.

    Args:
        name: Of the column.
        known: Models, whatever their names; the column may be called after its score, too.

    Example:
        >>> may_be_model("llama-8b"), may_be_model("reward"), may_be_model("best_idx"), may_be_model("total_votes")
        (True, False, False, False)
        >>> may_be_model("olmo-step"), may_be_model("olmo-step", ["olmo-step"]), may_be_model("n_gram score", ["n_gram"])
        (False, True, True)
    """
    if known and not {name, *models_in(name, SCORES).values()}.isdisjoint(known):
        return True
    about = any(known.fullmatch(name) for known in (_ABOUT_ROWS, _TOTALS, _PLACES, FIRST_REWARDS))
    return not (about or no_model(name))


def says_model(name: str) -> bool:
    """Say whether a numeric column that may be a model has a name as most of them: with a digit or a hyphen.

    Example:
        >>> says_model("llama-8b"), says_model("chapter"), says_model("olmo-step")
        (True, False, False)
    """
    return may_be_model(name) and re.search(r"[\d-]", name) is not None


def _id_column(columns: Columns) -> str | None:
    return next((name for name in ID_COLUMNS if name in columns), None)


def _has_text(columns: Columns) -> bool:
    return "instruction" in columns or "messages" in columns


def _is_long(columns: Columns) -> bool:
    scalar = "model" in columns and columns["model"].name in {"text", "number", "other"}
    return scalar and (_id_column(columns) is not None or _has_text(columns))


def _is_ultrafeedback(columns: Columns) -> bool:
    item = columns["completions"].item if "completions" in columns else None
    return item is not None and "model" in item.fields


def _is_distilabel(columns: Columns) -> bool:
    names = ("generations", "generation_models")
    return all(name in columns and columns[name].name == "list" for name in names)


def _is_zoo(columns: Columns) -> bool:
    return bool(zoo_models(columns)) and (_id_column(columns) is not None or _has_text(columns))


def _is_matrix(columns: Columns) -> bool:
    return _id_column(columns) is not None and "response" not in columns and bool(_matrix_models(columns))


def zoo_models(columns: Columns) -> tuple[str, ...]:
    """Structs with `content` are models, but for a single message; where none has it, several with a reward of one name.

    Where all objects have the same fields, any number that they share is one: it may be called by its reward model.
    """
    structs = {
        name: kind.fields
        for name, kind in columns.items()
        if kind.name == "struct" and name not in _PARTS | NO_MODELS
    }
    answered = [name for name, fields in structs.items() if "content" in fields]
    if answered:
        message = len(answered) == 1 and "role" in structs[answered[0]]
        return () if message else tuple(sorted(answered))
    same = len(set(map(frozenset, structs.values()))) == 1
    rewards = {
        name: {n for n, kind in fields.items() if kind.name in NUMERIC and (same or says_reward(n))}
        for name, fields in structs.items()
    }
    scored = sorted(name for name, found in rewards.items() if found)
    shared = len(scored) > 1 and set.intersection(*(rewards[name] for name in scored))
    return tuple(scored) if shared else ()


def _matrix_models(columns: Columns) -> tuple[str, ...]:
    return tuple(
        sorted(
            n for n, kind in columns.items() if kind.name in NUMERIC and n not in _PARTS and may_be_model(n)
        )
    )


def _shared(columns: Columns) -> tuple[str | None, str | None, str | None]:
    """SQL of the parts that every layout has: id, text, messages."""
    name = _id_column(columns)
    text = as_text(quote("instruction"), columns["instruction"]) if "instruction" in columns else None
    messages = as_text(quote("messages"), columns["messages"]) if "messages" in columns else None
    id_ = as_id(quote(name), columns[name]) if name is not None else None
    return id_, text, messages


def _made_id(text: str | None, messages: str | None, pairs: str | None = None) -> str:
    """SQL of an id for rows that have none: the hash of what they hold."""
    asked = f"coalesce({', '.join(part for part in (text, messages) if part is not None)}, NULL)"
    if pairs is None:
        return f"md5({asked})"
    kept = f"list_sort(list_filter({pairs}, lambda pair: pair.response IS NOT NULL))"
    return f"md5(coalesce({asked}, '') || chr(31) || CAST(to_json({kept}) AS VARCHAR))"


def _long(columns: Columns) -> View:
    id_, text, messages = _shared(columns)
    # A conversation's own answers are no part of what it is about; other conversations keep the id of their text.
    asked = messages and (
        f"CASE WHEN contains({messages}, '\"assistant\"') THEN {without_turns(messages, 'assistant')} ELSE {messages} END"
    )
    made = id_ or _made_id(text, asked)
    return View("long", made, id_ is None, text, messages, _rows(columns))


def _rows(columns: Columns) -> Tall:
    """A row per answer."""
    apart = _PARTS | {"sample"}
    rest = {name: kind for name, kind in columns.items() if name not in apart and kind.name != "bytes"}
    sample = columns.get("sample")
    response = columns.get("response")
    said = as_text(quote("response"), response) if response is not None else None
    reason = columns.get("finish_reason")
    reason = reason if reason is not None and reason.name == "text" else None
    return Tall(
        model=f"nullif({as_text(quote('model'), columns['model'])}, '')",
        sample=as_number(quote("sample"), sample) if sample is not None else None,
        response=said,
        ending=ending_sql(as_text(quote("finish_reason"), reason), said) if reason is not None else None,
        rewards={name: as_number(quote(name), kind) for name, kind in rest.items() if kind.name in NUMERIC},
        fields={name: as_text(quote(name), kind) for name, kind in rest.items()},
        bools=_bools(rest),
        reasoning=as_text(quote("reasoning"), columns["reasoning"]) if "reasoning" in columns else None,
    )


def plain_view(
    columns: Columns,
    own: frozenset[str],
    *,
    layout: str,
    id_made: bool,
    many: bool,
    side_by_side: int,
    fields: Collection[str] = (),
) -> View:
    """Say where the parts of a rewritten pool are; see `crowdselect.pool.plain`.

    Args:
        columns: Those of the pool.
        own: Those that say what was found while rewriting, as far as they hold anything.
        layout: The form that the user's files have.
        id_made: There is no id in these.
        many: A row of theirs holds all answers of an instruction.
        side_by_side: How many answers a row holds otherwise.
        fields: What answers have of their own; where a row holds several, nothing else is a reward.
    """

    def named(name: str) -> str | None:
        return quote(name) if name in own or name in columns else None

    rows, several = _rows(columns), many or side_by_side > 1
    rewards = {name: sql for name, sql in rows.rewards.items() if not several or name in fields}
    answers = replace(
        rows,
        rewards=rewards,
        not_text=named("_not_text"),
        may_lack_model=True,
        whole=many,
        side_by_side=side_by_side,
        shared=frozenset(name for name in rows.fields if several and name not in fields),
    )
    _, text, messages = _shared(columns)
    return View(
        layout,
        quote("id"),
        id_made,
        text,
        messages,
        answers,
        tools=named("tools"),
        left_out=named("_left_out"),
        needs=named("_needs"),
        row_number=quote("_row"),
    )


def _ultrafeedback(columns: Columns) -> View:
    id_, text, messages = _shared(columns)
    item = columns["completions"].item
    fields = dict(item.fields) if item is not None else {}

    def each(sql: str) -> str:
        return f"list_transform({quote('completions')}, lambda answer: {sql})"

    def inner(name: str) -> str:
        return f"answer.{quote(name)}"

    rest = {name: kind for name, kind in fields.items() if name not in _PARTS}
    model = as_text(inner("model"), fields["model"])
    response = as_text(inner("response"), fields["response"]) if "response" in fields else None
    answers = Tall(
        model=each(f"nullif({model}, '')"),
        sample=None,
        response=each(response) if response is not None else None,
        rewards={n: each(as_number(inner(n), kind)) for n, kind in rest.items() if kind.name in NUMERIC},
        fields={n: each(as_text(inner(n), kind)) for n, kind in rest.items()},
        bools=_bools(rest),
        nested=True,
    )
    pairs = each(f"{{'model': {model}, 'response': {response or 'NULL::VARCHAR'}}}")
    return View("ultrafeedback", id_ or _made_id(text, messages, pairs), id_ is None, text, messages, answers)


def _distilabel(columns: Columns) -> View:
    id_, text, messages = _shared(columns)
    models = f"CAST({quote('generation_models')} AS VARCHAR[])"
    texts = f"CAST({quote('generations')} AS VARCHAR[])"
    ratings = columns.get("ratings")
    numeric = ratings is not None and ratings.item is not None and ratings.item.name == "number"

    def whole(values: str, sql_type: str) -> str:
        """A row without the list has nulls for all its models."""
        return f"coalesce({values}, list_transform({models}, lambda name: NULL::{sql_type}))"

    answers = Tall(
        model=f"list_transform({models}, lambda name: nullif(name, ''))",
        sample=None,
        response=whole(texts, "VARCHAR"),
        rewards={"ratings": whole(f"CAST({quote('ratings')} AS DOUBLE[])", "DOUBLE")} if numeric else {},
        fields={"ratings": whole(f"CAST({quote('ratings')} AS VARCHAR[])", "VARCHAR")}
        if ratings is not None
        else {},
        nested=True,
    )
    pairs = (
        f"list_transform(list_zip({models}, {texts}), lambda pair: {{'model': pair[1], 'response': pair[2]}})"
    )
    return View("distilabel", id_ or _made_id(text, messages, pairs), id_ is None, text, messages, answers)


def _zoo(columns: Columns) -> View:
    id_, text, messages = _shared(columns)
    models = zoo_models(columns)
    rewards: dict[str, dict[str, str]] = {}
    fields: dict[str, dict[str, str]] = {}
    responses: dict[str, str] = {}
    for model in models:
        for name, kind in columns[model].fields.items():
            leaf = f"{quote(model)}.{quote(name)}"
            if name == "content":
                responses[model] = as_text(leaf, kind)
                continue
            fields.setdefault(name, {})[model] = as_text(leaf, kind)
            if kind.name in NUMERIC:
                rewards.setdefault(name, {})[model] = as_number(leaf, kind)
    leaves = {model: (model, "content") for model in responses}
    kinds = {name: [columns[m].fields[name] for m in found] for name, found in rewards.items()}
    bools = frozenset(name for name, found in kinds.items() if all(kind.name == "bool" for kind in found))
    answers = Wide(models, responses, rewards, fields, leaves, bools)
    pairs = [
        f"{{'model': {_text_literal(m)}, 'response': {responses.get(m, 'NULL::VARCHAR')}}}" for m in models
    ]
    made = id_ or _made_id(text, messages, f"[{', '.join(pairs)}]")
    return View("zoo", made, id_ is None, text, messages, answers)


def _matrix(columns: Columns) -> View:
    id_, text, messages = _shared(columns)
    models = columns_by_model(_matrix_models(columns))
    scores = {model: as_number(quote(name), columns[name]) for model, name in models.items()}
    written = {model: as_text(quote(name), columns[name]) for model, name in models.items()}
    answers = Wide(tuple(models), {}, {"score": scores}, {"score": written}, {})
    others = [name for name in columns if name not in {*models.values(), *_PARTS}]
    said = f"matrix: not models, by their name or for not being numeric: {', '.join(others)}"
    said += f"; {NAMED_MODELS}" if any(columns[name].name in NUMERIC for name in others) else ""
    return View("matrix", id_ or "NULL", False, text, messages, answers, (said,) if others else ())


def _bools(columns: Columns) -> frozenset[str]:
    return frozenset(name for name, kind in columns.items() if kind.name == "bool")


def _text_literal(text: str) -> str:
    """SQL of a text constant; only model names, which are part of the schema, are written so."""
    return "'" + text.replace("'", "''") + "'"


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="long",
            fits=_is_long,
            view=_long,
            needs="one row per answer: id, model, and instruction, response, rewards as far as there are any",
            row="one answer",
            columns="`id`, `instruction` or `messages`, `model`, optional `sample`, `response`, numeric reward columns",
            example={
                "id": "7",
                "instruction": "Name a prime.",
                "model": "qwen-1b",
                "response": "Two.",
                "score": 0.5,
            },
        ),
        Layout(
            name="ultrafeedback",
            fits=_is_ultrafeedback,
            view=_ultrafeedback,
            nested=True,
            needs="completions, a list of {model, response, ...}",
            row="one instruction",
            columns="`instruction`, `completions: [{model, response, overall_score, ...}]`",
            example={
                "instruction": "Name a prime.",
                "completions": [
                    {"model": "qwen-1b", "response": "Two.", "overall_score": 0.5},
                    {"model": "qwen-7b", "response": "Seven is one.", "overall_score": 0.9},
                ],
            },
        ),
        Layout(
            name="distilabel",
            fits=_is_distilabel,
            view=_distilabel,
            nested=True,
            needs="the lists generations, generation_models, ratings",
            row="one instruction",
            columns="`instruction`, `generations[]`, `generation_models[]`, `ratings[]`",
            example={
                "instruction": "Name a prime.",
                "generations": ["Two.", "Seven is one."],
                "generation_models": ["qwen-1b", "qwen-7b"],
                "ratings": [0.5, 0.9],
            },
        ),
        Layout(
            name="zoo",
            fits=_is_zoo,
            view=_zoo,
            nested=True,
            needs="id, instruction, a struct {content, ...} per model",
            row="one instruction",
            columns="`uuid` or `id`, `instruction`, one struct per model `{content, <reward model>: number}`",
            example={
                "uuid": "7",
                "instruction": "Name a prime.",
                "qwen-1b": {"content": "Two.", "score": 0.5},
                "qwen-7b": {"content": "Seven is one.", "score": 0.9},
            },
        ),
        Layout(
            name="matrix",
            fits=_is_matrix,
            view=_matrix,
            needs="id, a numeric column per model, no response",
            row="one instruction",
            columns="`id`, optional `instruction`, one numeric column per model",
            example={"id": "7", "instruction": "Name a prime.", "qwen-1b": 0.5, "qwen-7b": 0.9},
        ),
    )
}
"""By name, in the order of detection: the first that fits is taken."""
