"""The forms that files of crowds have besides the tidy layouts: which one a file has, and which is closest where it has none.

A form is a record with a test of its columns and a plain function from a row to its answers; what a row asks is not
its business (see `content`). Everything that is read by a form is rewritten once into one plain form, see `plain`.
"""

from crowdselect.errors import LayoutError
from crowdselect.pool.batchservice import fit_batch, refuse_batch
from crowdselect.pool.battles import PAIR, fit_battles, pair_of, sides_of
from crowdselect.pool.columns import Columns
from crowdselect.pool.fastchat import refuse_fastchat
from crowdselect.pool.howread import HowRead
from crowdselect.pool.idlike import id_columns
from crowdselect.pool.inner import parts_inside, ratings_inside
from crowdselect.pool.layouts import LAYOUTS, NAMED_MODELS, says_reward
from crowdselect.pool.parts import ANSWER_LISTS, POLICIES, Names, has_lists
from crowdselect.pool.pathmodels import FILES, Named
from crowdselect.pool.rowforms import (
    Fitted,
    Form,
    fit_distilabel,
    fit_long,
    fit_samples,
    fit_ultrafeedback,
    is_number,
)
from crowdselect.pool.wideforms import (
    fit_matrix,
    fit_pairs_of_columns,
    fit_pass_rates,
    fit_routed,
    fit_structs,
    fit_zoo,
    numbered_responses,
)


def fitted(columns: Columns, names: Names, how: HowRead, *, path: str, named_in: Named = FILES) -> Fitted:
    """Find the form of a file.

    Args:
        columns: Of the file.
        names: From `names_of`.
        how: Its `layout` forces a form.
        path: For messages.
        named_in: What may be named as the models are: each file, or its folder.

    Raises:
        LayoutError: No form fits; the closest is named, and what it lacks.
    """
    refuse_fastchat(columns, names, how, path=path)
    refuse_batch(columns, names, how, path=path)
    named = names.model is not None or how.model is not None or has_lists(columns)
    apart = sides_of(columns) or pair_of(columns)
    if apart and not named and fit_battles(columns, names, how) is None:
        raise no_form(columns, names, how, path=path, named_in=named_in)
    if how.layout is not None and how.layout not in {*FORMS, *LAYOUTS}:
        raise LayoutError(
            f"`layout={how.layout!r}` is unknown; choose one of: {', '.join({**LAYOUTS, **FORMS})}"
        )
    for name, form in FORMS.items():
        if how.layout in {None, name}:
            found = form.fit(columns, names, how)
            if found is not None and (how.layout is not None or not _unread(columns, names, name)):
                return found
    raise no_form(columns, names, how, path=path, named_in=named_in)


def _unread(columns: Columns, names: Names, form: str) -> dict[str, str]:
    """The parts of a row that lie inside its objects, if a form leaves one of them out that matters: what → its path."""
    found = parts_inside(columns)
    matters = set() if names.asked else {"instruction", "messages"}
    matters |= {"completions"} if form == "matrix" else set()
    return found if form in _OF_NUMBERS and matters & set(found) else {}


def textless(form: Fitted, columns: Columns) -> str | None:
    """Give a column that looks like the text of instructions where a form has no place for one; None = all is well."""
    if form.names.asked:
        return None
    texts = (
        _TEXT_COLUMNS - {"task"} if form.name == "matrix" else _TEXT_COLUMNS
    )  # there it names what was tested
    return next((n for n, kind in columns.items() if n.casefold() in texts and kind.name in _WORDY), None)


def no_instruction(path: str, name: str) -> LayoutError:
    """Say that a column was not understood which may be what was asked."""
    return LayoutError(
        f"{path}: no column is the instruction, and {name!r} may be one; name it with `columns='instruction={name}'`"
    )


def no_form(
    columns: Columns, names: Names, how: HowRead, *, path: str, named_in: Named = FILES
) -> LayoutError:
    """Say what is closest, and what it lacks."""
    listed = ", ".join(list(columns)[:40]) + (", ..." if len(columns) > 40 else "")
    pair = pair_of(columns)
    unnamed = [side for side in PAIR if pair is not None and pair[side].model is None]
    if unnamed:
        return LayoutError(
            f"{path}: these are preference pairs (chosen, rejected), and no column says which model gave {' and '.join(unnamed)}; "
            "wanted columns chosen_model and rejected_model, and if there are scores chosen_score and rejected_score"
        )
    sides = sides_of(columns)
    if sides and (names.asked or names.id is not None) and pair is None:
        models = ", ".join(str(side.model) for side in sides.values())
        return LayoutError(
            f"{path}: these are battles ({models}), and who won says nothing of how good both are; wanted a number for "
            f"each answer, as in columns {' and '.join(f'score_{place}' for place in sides)}"
        )
    if how.layout is not None:
        return LayoutError(
            f"{path}: not a {how.layout} pool; found the columns {listed}; wanted {(FORMS.get(how.layout) or LAYOUTS[how.layout]).needs}"
        )
    closest = _closest(columns, names, how, named_in)
    if closest is not None:
        lacks, remedy = closest
        return LayoutError(f"{path}: closest is the layout {lacks}; found {listed}; {remedy}")
    needs = {name: form.needs for name, form in FORMS.items()}
    needs |= {name: layout.needs for name, layout in LAYOUTS.items()}
    known = "; ".join(f"{name} ({wanted})" for name, wanted in needs.items())
    objects = ((name, field) for name, kind in columns.items() for field in kind.fields)
    first = next((f" (or what is inside one, as {name}.{field})" for name, field in objects), "")
    return LayoutError(
        f"{path}: the columns fit no layout; found {listed}; say which is which with "
        f"`columns='instruction=COLUMN,model=COLUMN,response=COLUMN'`{first}; known layouts: {known}"
    )


def _closest(columns: Columns, names: Names, how: HowRead, named_in: Named) -> tuple[str, str] | None:
    """The closest layout and what it lacks, and what to do; None where nothing is close."""
    if sides_of(columns) and not names.asked and names.id is None:
        return "battles, which lacks the instruction", "name the column with `columns='instruction=COLUMN'`"
    inside = _unread(columns, names, "matrix")
    if inside:
        return _with_parts_inside(inside, columns, names, how)
    lists = [name for name in ANSWER_LISTS if name in columns]
    numbered = numbered_responses(columns)
    answers = [n for n in (names.response, *lists, *numbered, names.messages) if n is not None]
    if names.model is None and answers:
        remedy = (
            f"name the model with `model='NAME'`, its column with `columns='model=COLUMN'`, or take it from the {named_in.what}s' "
            f"names with `model_from='{named_in.what}'`{named_in.examples}"
        )
        policies = [name for name in columns if name.strip().casefold() in POLICIES]
        untaken = "is not taken for it, since it does not tell apart the answers to a prompt"
        remedy += f"; {policies[0]} {untaken}" if policies else ""
        closest = "samples" if lists else "long"
        return f"{closest}, which lacks the model that gave the answers in {answers[0]!r}", remedy
    if names.model is None and names.asked:
        remedy = (
            f"name their columns with `columns='response=COLUMN,model=COLUMN'`; `model_from='{named_in.what}'` takes the model from "
            f"names of {named_in.what}s{named_in.examples}"
        )
        numbers = [name for name, kind in columns.items() if is_number(kind) and name not in names.taken]
        remedy += f"; {NAMED_MODELS}" if len(numbers) > 1 else ""
        return "long, which lacks the answers and the models that gave them", remedy
    if names.model is not None and not names.asked and names.id is None:
        return "long, which lacks an id or the instruction", _without_prompts(columns, names)
    return None


def _with_parts_inside(
    inside: dict[str, str], columns: Columns, names: Names, how: HowRead
) -> tuple[str, str]:
    """What is closest where parts of a row lie inside its objects, and what to do: first to read the numbers where they may be models'."""
    numbers = FORMS["matrix"].fit(columns, names, how) if names.asked else None
    telling = {"completions": "ultrafeedback", "model_names": "distilabel", "generations": "samples"}
    closest = next((form for what, form in telling.items() if what in inside), "long")
    has_reward = any(says_reward(name) and is_number(kind) for name, kind in columns.items())
    ratings = None if has_reward else ratings_inside(columns)
    inside |= {} if ratings is None or "response" not in inside else {"reward": ratings}
    listed = ", ".join(inside.values())
    inside |= {"id": ""} if names.id_of_answer and closest == "long" else {}
    named = f"`columns='{','.join(f'{what}={at}' for what, at in inside.items())}'`"
    if numbers is None:
        made = (
            "; `id=` makes the id of the text, since each answer has one of its own" if "id" in inside else ""
        )
        return f"{closest}, with its parts inside other columns ({listed})", f"name them with {named}{made}"
    models = ", ".join(sorted(numbers.taken)[:_NAMED])
    remedy = f"if the scores of models are in {models}, open it with `layout='matrix'`; if their answers are in {listed}, with "
    return f"matrix, with what may be answers inside other columns ({listed})", remedy + named


def _without_prompts(columns: Columns, names: Names) -> str:
    """What to do where no column is known to hold the prompts."""
    ids = [name for name in id_columns(columns) if name not in names.taken]
    others = [n for n, kind in columns.items() if kind.name in _WORDY and n not in {*names.taken, *ids}]
    named = "name the column with `columns='instruction=COLUMN'`"
    if not ids:
        return named
    told = (
        f"no column is known to hold the prompts; if they are in another file, join the two by {ids[0]} (pandas: "
        f"pd.merge(ANSWERS, PROMPTS, on={ids[0]!r})), or read the rewards without texts with `columns='id={ids[0]}'`"
    )
    return f"{told}; if one of {', '.join(others[:_NAMED])} holds them, {named}" if others else told


_NAMED = 10  # columns that a message names
_WORDY = frozenset({"text", "list", "struct", "mixed"})


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            name="routerbench",
            fit=fit_routed,
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
            name="batch",
            fit=fit_batch,
            needs="the output of a batch service with its requests: in its rows, or in files beside it",
            example={
                "custom_id": "7-qwen-1b",
                "request": {"messages": [{"role": "user", "content": "Name a prime."}]},
                "response": {"body": {"model": "qwen-1b", "choices": [{"message": {"content": "Two."}}]}},
                "judge": {"score": 0.5},
            },
        ),
        Form(
            name="ultrafeedback",
            fit=fit_ultrafeedback,
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
            fit=fit_distilabel,
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
            fit=fit_samples,
            needs="a list generations or responses per row, and the model in a column or by `model='NAME'`",
            example={
                "problem": "Name a prime.",
                "model": "qwen-1b",
                "generations": ["<think>2?</think> Two.", "Nine."],
                "correctness_math_verify": [True, False],
            },
        ),
        Form(
            name="battles",
            fit=fit_battles,
            needs="columns model_X, response_X and score_X, X being A and B, 1 and 2, ..., or chosen and rejected",
            example={
                "prompt": "Name a prime.",
                "model_a": "qwen-1b",
                "response_a": "Two.",
                "score_a": 0.5,
                "model_b": "qwen-7b",
                "response_b": "Seven.",
                "score_b": 0.9,
            },
        ),
        Form(
            name="long",
            fit=fit_long,
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
            fit=fit_pairs_of_columns,
            needs="columns response_MODEL and score_MODEL",
            example={"prompt": "Name a prime.", "response_qwen-1b": "Two.", "score_qwen-1b": 0.5},
        ),
        Form(
            name="structs",
            fit=fit_structs,
            needs="objects responses: {MODEL: text} and scores: {MODEL: number}",
            example={
                "prompt": "Name a prime.",
                "responses": {"qwen-1b": "Two.", "qwen-7b": "Seven."},
                "scores": {"qwen-1b": 0.5, "qwen-7b": 0.9},
            },
        ),
        Form(
            name="pass rates",
            fit=fit_pass_rates,
            needs="a number per model in an object, or in columns MODEL_solve_rate or pass_rate_MODEL",
            example={
                "prompt": "Name a prime.",
                "extra_info": {"model_difficulty": {"qwen-1b": 12, "qwen-7b": 3}},
            },
        ),
        Form(
            name="zoo",
            fit=fit_zoo,
            needs="id, instruction, a struct {content, ...} per model",
            example={"uuid": "7", "prompt": "Name a prime.", "qwen-1b": {"content": "Two.", "score": 0.5}},
        ),
        Form(
            name="matrix",
            fit=fit_matrix,
            needs="id, a numeric column per model, no response",
            example={"id": "7", "prompt": "Name a prime.", "qwen-1b": 0.5, "qwen-7b": 0.9},
        ),
    )
}
"""By name, in the order in which they are tried: the first that fits is taken."""
_OF_NUMBERS = frozenset({"matrix", "pass rates", "structs", "zoo"})
"""Forms that need no text."""
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
