"""Values and answers that stand for no reward, as the option `missing` names them: SQL that makes their rewards null.

And a look at what it might name: rewards beside errors, as of calls of a judge that failed.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from crowdselect.pool.columns import MISSING_SQL, Kind, answer_alone, blank, without_failed
from crowdselect.pool.howread import ERROR, HowRead
from crowdselect.pool.layouts import candidates, no_reward, unlikely
from crowdselect.pool.source import Source
from crowdselect.pool.views import RewardColumns, Tall, View, Wide
from crowdselect.terminal import counted

_USELESS = "`missing='empty'` changes nothing: the pool holds no texts of answers"
_ERRORLESS = "`missing='error'` changes nothing: beside the answers there is no column of errors"
_ERROR = re.compile(
    r"(?!(std|rms|mean|avg|average|median|min|max|sum|total|num|number|count|n|no)_)"  # of a measure or a count, or the opposite
    r"(.*_)?(errors?|exceptions?)(_?(message|msg|text|reason))?",
    re.IGNORECASE,
)
"""The names of columns that say why a call failed."""
_OF_ERRORS = re.compile(r"(.*[_./ -])?(errors?|exceptions?)([_./ -].*)?", re.IGNORECASE)
"""The names of columns that may say so, of whatever."""
_NO_ERROR = f"{MISSING_SQL}, 'false', '0', 'no', 'ok'"
_NOTHING = r"""'[\[{]("[^"]*"\s*:|null|"?(false|0(\.0)?)?"?|[,\s])*[\]}]'"""  # JSON of a list or an object without a value
_ALIKE = 0.95  # of the rewards beside errors
_FEWEST = 2
_SHOWN = 60  # characters of an error
_LISTED = 5  # columns
_ENDS = 4  # of a reward and an error; see `_ends`


def are_errors(name: str, kind: Kind) -> bool:
    """Say whether a column of rows with several answers has a list of errors, by its name: one for each answer."""
    return kind.name == "list" and _ERROR.fullmatch(name) is not None


def without_missing(found: View, how: HowRead) -> View:
    """Make the rewards of a pool null that `missing` says are none."""
    answers = found.answers
    if not how.missing:
        return found
    texts = answers.has_texts
    notes = (*found.notes, _USELESS) if how.not_empty and not texts else found.notes
    how = how if texts else replace(how, missing=(*how.no_rewards, *([ERROR] if how.not_failed else [])))
    return replace(
        found, answers=_wide(answers, how) if isinstance(answers, Wide) else _tall(answers, how), notes=notes
    )


def without_values(columns: RewardColumns, how: HowRead) -> RewardColumns:
    """Make the rewards of a second file null whose values `missing` names; which answers are empty, the pool says."""
    errors = [columns.fields[name] for name in _errors(columns)]
    return replace(
        columns, rewards={name: _given(sql, how, errors=errors) for name, sql in columns.rewards.items()}
    )


def beside_errors(source: Source, answers: Tall | Wide, how: HowRead) -> str | None:
    """Ask whether the rewards of answers beside which there is an error are none, as of a judge whose call failed; or count what is left out.

    They may be where nearly all are the lowest that there is. Where they differ, the errors may say why an answer got no more; and
    of a reward with two values, the lower of which always has an error, they do.

    Returns:
        A line for the user; None = there is nothing to ask.
    """
    errors = _errors(answers)
    if how.not_failed and not errors:
        return _changes_nothing(source, answers)
    if not isinstance(answers, Tall) or answers.nested or not errors:
        return None
    if how.not_failed:
        filled = " OR ".join(_filled(answers.fields[name]) for name in errors)
        count = source.fetch(f"count(*) FILTER ({filled})").column(0)[0].as_py()
        return f"{counted(count, 'answer')} beside a filled {' or '.join(errors)}: no rewards of theirs count, whatever they are (`missing='error'`)"
    likely = sorted((n for n in candidates(answers.rewards) if not no_reward(n)), key=unlikely)
    pairs = [
        ((reward, answers.rewards[reward]), (error, answers.fields[error]))
        for error in errors
        for reward in likely
    ]
    ends = [sql for (_, value), (_, told) in pairs for sql in _ends(value, told)]
    found = [column[0].as_py() for column in source.fetch(*ends).columns] if ends else []
    each = (found[at : at + _ENDS] for at in range(0, len(found), _ENDS))
    lines = (_beside_error(source, *pair, own) for pair, own in zip(pairs, each, strict=True))
    return next((line for line in lines if line is not None), None)


def _changes_nothing(source: Source, answers: Tall | Wide) -> str:
    """Say that no column of errors is read, and which columns may be meant."""
    named = {name: kind for name, kind in source.columns.items() if _OF_ERRORS.fullmatch(name)}
    numbers = [name for name, kind in named.items() if kind.name == "number"]
    rows = {*named} if isinstance(answers, Wide) or answers.nested else answers.shared
    others = [name for name in named if name in rows and name not in numbers]
    unread = [f"numbers are measures, and no errors: {_listed(numbers)}"] if numbers else []
    unread += [f"not read, beside several answers (write one per row): {_listed(others)}"] if others else []
    return "; ".join((_ERRORLESS, *unread))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _here(value: str, told: str) -> str:
    """SQL that is true where there is a reward beside an error."""
    return f"({_filled(told)} AND {value} IS NOT NULL)"


def _ends(value: str, told: str) -> tuple[str, ...]:
    """SQL of the lowest reward, the highest, the lowest beside an error, and how many are beside errors."""
    here = _here(value, told)
    return (
        f"min({value})",
        f"max({value})",
        f"min({value}) FILTER ({here})",
        f"count(*) FILTER ({here})",
    )


def _beside_error(
    source: Source, reward: tuple[str, str], error: tuple[str, str], ends: Sequence[Any]
) -> str | None:
    (name, value), (told_in, told) = reward, error
    here = _here(value, told)
    lowest, highest, own, count = ends
    if count < _FEWEST or own > lowest or lowest == highest or not math.isfinite(lowest):
        return None  # a reward that is infinite is refused where it is read
    low = f"{value} = {lowest!r}"
    alike, others, distinct, text = (
        column[0].as_py()
        for column in source.fetch(
            f"count(*) FILTER ({here} AND {low})",
            f"count(*) FILTER (NOT {here} AND {low})",
            f"count(DISTINCT {value})",
            f"mode({told}) FILTER ({here} AND {low})",
        ).columns
    )
    explained = distinct == 2 and not others
    if explained or alike < _ALIKE * count:
        return None
    shown = " ".join(text.split())
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    many = f"all {count:,}" if alike == count else f"{alike:,} of {count:,}"
    return (
        f"{name}: {many} rewards beside a filled {told_in} (such as {shown!r}) are {lowest:g}, the "
        "lowest there is; if calls failed there, they are no judgments: leave them out with `missing='error'`"
    )


def is_empty(response: str, not_text: str | None) -> str:
    """SQL that is true where an answer has no text, and is nothing else either.

    Args:
        response: SQL of it.
        not_text: SQL of whether it is something other than text, such as a call of tools; None = it never is.
    """
    empty = blank(answer_alone(without_failed(response)))
    return empty if not_text is None else f"({empty} AND NOT coalesce({not_text}, false))"


def _wide(answers: Wide, how: HowRead) -> Wide:
    def given(model: str, sql: str) -> str:
        errors = [answers.fields[n][model] for n in _errors(answers) if model in answers.fields[n]]
        return _given(sql, how, answers.responses.get(model, "NULL::VARCHAR"), errors=errors)

    rewards = {
        name: {model: given(model, sql) for model, sql in per.items()}
        for name, per in answers.rewards.items()
    }
    return replace(answers, rewards=rewards)


def _tall(answers: Tall, how: HowRead) -> Tall:
    response, errors = answers.response, [answers.fields[name] for name in _errors(answers)]

    def given(sql: str) -> str:
        if not answers.nested:
            return _given(sql, how, response, answers.not_text, errors=errors)
        own = None if response is None else f"({response})[place]"
        beside = [f"({error})[place]" for error in errors]
        return f"list_transform({sql}, lambda value, place: {_given('value', how, own, errors=beside)})"

    return replace(answers, rewards={name: given(sql) for name, sql in answers.rewards.items()})


def _given(
    sql: str,
    how: HowRead,
    response: str | None = None,
    not_text: str | None = None,
    *,
    errors: Sequence[str] = (),
) -> str:
    tests = [f"({sql}) IN ({', '.join(map(repr, how.no_rewards))})"] if how.no_rewards else []
    if how.not_empty and response is not None:
        tests.append(is_empty(response, not_text))
    tests += map(_filled, errors) if how.not_failed else ()
    return f"CASE WHEN {' OR '.join(tests)} THEN NULL ELSE ({sql}) END" if tests else sql


def _errors(answers: Tall | Wide | RewardColumns) -> list[str]:
    """The columns that say why a call failed, by their names; a number is a measure."""
    shared = answers.shared if isinstance(answers, Tall) else frozenset[str]()
    others = shared | (set(answers.rewards) - answers.bools)
    return [name for name in answers.fields if _ERROR.fullmatch(name) and name not in others]


def _filled(error: str) -> str:
    """SQL that is true where an error is told."""
    told = f"lower(trim({error}))"
    return f"coalesce({told} NOT IN ({_NO_ERROR}) AND NOT regexp_full_match({told}, {_NOTHING}), false)"
