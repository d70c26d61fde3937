"""Values and answers that stand for no reward, as the option `missing` names them: SQL that makes their rewards null.

And a look at what it might name: rewards beside errors, as of calls of a judge that failed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from crowdselect.pool.columns import MISSING_SQL, answer_alone, blank, without_failed
from crowdselect.pool.howread import ERROR, HowRead
from crowdselect.pool.layouts import candidates, no_reward, unlikely
from crowdselect.pool.source import Source
from crowdselect.pool.views import RewardColumns, Tall, View, Wide
from crowdselect.terminal import counted

_USELESS = "`missing='empty'` changes nothing: the pool holds no texts of answers"
_ERRORLESS = "`missing='error'` changes nothing: beside the answers there is no column of errors"
_ERROR = re.compile(r"(.*_)?(errors?|exceptions?)(_?(message|msg|text|reason))?", re.IGNORECASE)
"""The names of columns that say why a call failed."""
_ALIKE = 0.95  # of the rewards beside errors
_FEWEST = 2
_SHOWN = 60  # characters of an error


def without_missing(found: View, how: HowRead) -> View:
    """Make the rewards of a pool null that `missing` says are none."""
    answers = found.answers
    if not how.missing:
        return found
    texts = answers.has_texts
    notes = (*found.notes, _USELESS) if how.not_empty and not texts else found.notes
    if how.not_failed and not _errors(answers.fields):
        notes = (*notes, _ERRORLESS)
    how = how if texts else replace(how, missing=(*how.no_rewards, *([ERROR] if how.not_failed else [])))
    return replace(
        found, answers=_wide(answers, how) if isinstance(answers, Wide) else _tall(answers, how), notes=notes
    )


def without_values(columns: RewardColumns, how: HowRead) -> RewardColumns:
    """Make the rewards of a second file null whose values `missing` names; which answers are empty, the pool says."""
    errors = [columns.fields[name] for name in _errors(columns.fields)]
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
    if not isinstance(answers, Tall) or answers.nested:
        return None
    errors = _errors(answers.fields)
    if how.not_failed and errors:
        filled = " OR ".join(_filled(answers.fields[name]) for name in errors)
        count = source.fetch(f"count(*) FILTER ({filled})").column(0)[0].as_py()
        return f"{counted(count, 'answer')} beside a filled {' or '.join(errors)}: no rewards of theirs count, whatever they are (`missing='error'`)"
    likely = sorted((n for n in candidates(answers.rewards) if not no_reward(n)), key=unlikely)
    lines = (
        _beside_error(source, (reward, answers.rewards[reward]), (error, answers.fields[error]))
        for error in errors
        for reward in likely
    )
    return next((line for line in lines if line is not None), None)


def _beside_error(source: Source, reward: tuple[str, str], error: tuple[str, str]) -> str | None:
    (name, value), (told_in, told) = reward, error
    here = f"({_filled(told)} AND {value} IS NOT NULL)"
    ends = (
        f"min({value})",
        f"min({value}) FILTER ({here})",
        f"count(DISTINCT {value})",
        f"count(*) FILTER ({here})",
    )
    lowest, own, distinct, count = (column[0].as_py() for column in source.fetch(*ends).columns)
    if count < _FEWEST or own > lowest or distinct < 2:
        return None
    low = f"{value} = {lowest!r}"
    alike, others, text = (
        column[0].as_py()
        for column in source.fetch(
            f"count(*) FILTER ({here} AND {low})",
            f"count(*) FILTER (NOT {here} AND {low})",
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
        errors = [answers.fields[n][model] for n in _errors(answers.fields) if model in answers.fields[n]]
        return _given(sql, how, answers.responses.get(model, "NULL::VARCHAR"), errors=errors)

    rewards = {
        name: {model: given(model, sql) for model, sql in per.items()}
        for name, per in answers.rewards.items()
    }
    return replace(answers, rewards=rewards)


def _tall(answers: Tall, how: HowRead) -> Tall:
    response, errors = answers.response, [answers.fields[name] for name in _errors(answers.fields)]

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


def _errors(columns: Iterable[str]) -> list[str]:
    """The columns that say why a call failed, by their names."""
    return list(filter(_ERROR.fullmatch, columns))


def _filled(error: str) -> str:
    """SQL that is true where an error is told."""
    return f"coalesce(lower(trim({error})) NOT IN ({MISSING_SQL}, 'false'), false)"
