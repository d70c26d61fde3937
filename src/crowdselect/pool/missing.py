"""Values and answers that stand for no reward, as the option `missing` names them: SQL that makes their rewards null."""

from dataclasses import replace

from crowdselect.pool.columns import answer_alone, blank, without_failed
from crowdselect.pool.howread import HowRead
from crowdselect.pool.views import RewardColumns, Tall, View, Wide

_USELESS = "`missing='empty'` changes nothing: the pool holds no texts of answers"


def without_missing(found: View, how: HowRead) -> View:
    """Make the rewards of a pool null that `missing` says are none."""
    answers = found.answers
    if not how.missing:
        return found
    texts = answers.has_texts
    notes = (*found.notes, _USELESS) if how.not_empty and not texts else found.notes
    how = how if texts else replace(how, missing=how.no_rewards)
    return replace(
        found, answers=_wide(answers, how) if isinstance(answers, Wide) else _tall(answers, how), notes=notes
    )


def without_values(columns: RewardColumns, how: HowRead) -> RewardColumns:
    """Make the rewards of a second file null whose values `missing` names; which answers are empty, the pool says."""
    return replace(columns, rewards={name: _given(sql, how) for name, sql in columns.rewards.items()})


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
        return _given(sql, how, answers.responses.get(model, "NULL::VARCHAR"))

    rewards = {
        name: {model: given(model, sql) for model, sql in per.items()}
        for name, per in answers.rewards.items()
    }
    return replace(answers, rewards=rewards)


def _tall(answers: Tall, how: HowRead) -> Tall:
    response = answers.response

    def given(sql: str) -> str:
        if not answers.nested:
            return _given(sql, how, response, answers.not_text)
        own = None if response is None else f"({response})[place]"
        return f"list_transform({sql}, lambda value, place: {_given('value', how, own)})"

    return replace(answers, rewards={name: given(sql) for name, sql in answers.rewards.items()})


def _given(sql: str, how: HowRead, response: str | None = None, not_text: str | None = None) -> str:
    tests = [f"({sql}) IN ({', '.join(map(repr, how.no_rewards))})"] if how.no_rewards else []
    if how.not_empty and response is not None:
        tests.append(is_empty(response, not_text))
    return f"CASE WHEN {' OR '.join(tests)} THEN NULL ELSE ({sql}) END" if tests else sql
