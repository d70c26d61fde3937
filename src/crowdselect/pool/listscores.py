"""Scores that lie in lists, as those of several annotators or of answers in a list, or are letters: what makes a number of each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crowdselect.pool.columns import Kind
from crowdselect.pool.inner import results_in
from crowdselect.pool.inspectlogs import LETTERS
from crowdselect.pool.layouts import FIRST_REWARDS, no_reward
from crowdselect.pool.rowforms import is_number
from crowdselect.pool.textscores import reading_all

_GIVEN = "submitted"  # the status of a response that counts, in exports of Argilla


def wants_mean(
    paths: Sequence[str], steps: Sequence[str], kind: Kind, *, column: str, lists: Iterable[Any]
) -> str:
    """Say what a list holds, and the line of pandas that writes the mean of its numbers beside it.

    Args:
        paths: The files.
        steps: The names on the way to the list.
        kind: What the list is.
        column: What the mean is to be called.
        lists: The values, read as far as it takes to see whether some objects have the status of what counts.

    Example:
        >>> kind = Kind("list", item=Kind("struct", fields={"value": Kind("number"), "by": Kind("text")}))
        >>> print(wants_mean(["r.jsonl"], ["said", "rating"], kind, column="reward", lists=[]))
        a list (of objects with by, value), wanted a number; pandas makes the mean of value, to be read from pool.jsonl with reward=reward in `columns`: df = pd.read_json('r.jsonl', lines=True, dtype=False); x = df['said'].str['rating'].explode(); x = x.str['value']; df['reward'] = x.astype(float).groupby(level=0).mean(); df.to_json('pool.jsonl', orient='records', lines=True, double_precision=15)
    """
    item = kind.item or Kind("other")
    if (value := results_in(item)) is not None:
        return _wants_mean_of_results(paths, steps, item, value, column=column, lists=lists)
    fields = item.fields
    told = f"{_what(item)}, wanted a number"
    field, read = _field(item), reading_all(paths)
    if (fields and field is None) or not (fields or is_number(item)) or "read_csv" in read:
        return f"{told}: make one of each list"
    given = (
        "status" in fields
        and field is not None
        and any(isinstance(one, dict) and one.get("status") == _GIVEN for each in lists for one in each or ())
    )
    inner = "".join(f".str[{step!r}]" for step in steps[1:])
    line = [f"df = {read}", f"x = df[{steps[0]!r}]{inner}.explode()"]
    line += [f"x = x[x.str['status'] == {_GIVEN!r}]"] if given else []
    line += [f"x = x.str[{field!r}]"] if field is not None else []
    name, write = _writing(read)
    line += [f"df[{column!r}] = x.astype(float).groupby(level=0).mean()", write]
    of = f" of {field}" if field is not None else ""
    which = f" where status is {_GIVEN!r}" if given else ""
    return (
        f"{told}; pandas makes the mean{of}{which}, to be read from {name} with {column}={column} in `columns`: "
        + "; ".join(line)
    )


def _what(item: Kind) -> str:
    """What a list is."""
    what = f"objects with {', '.join(sorted(item.fields))}" if item.fields else f"{item.name} values"
    return f"a list (of {what})"


def wants_one_each(kind: Kind) -> str:
    """Say that a list is no number of each answer where a row holds several.

    Example:
        >>> print(wants_one_each(Kind("list", item=Kind("text"))))
        a list (of text values), and a row holds several answers; wanted a number for each: a list of numbers in the order of a list of answers, or columns such as score_MODEL
    """
    return (
        f"{_what(kind.item or Kind('other'))}, and a row holds several answers; wanted a number for each: a list of numbers in "
        "the order of a list of answers, or columns such as score_MODEL"
    )


def _writing(read: str) -> tuple[str, str]:
    """Where pandas writes what it read, and how."""
    if "read_parquet" in read:
        return "pool.parquet", "df.to_parquet('pool.parquet')"
    return "pool.jsonl", "df.to_json('pool.jsonl', orient='records', lines=True, double_precision=15)"


def _wants_mean_of_results(
    paths: Sequence[str], steps: Sequence[str], item: Kind, value: Kind, *, column: str, lists: Iterable[Any]
) -> str:
    """Say what makes the mean of the ratings in annotations, as Label Studio exports them: in one of the results of each."""
    told = "a list of annotations, wanted a number"
    field, read = _field(Kind("list", fields=value.fields)), reading_all(paths)
    if field is None or "read_csv" in read:
        return f"{told}: make one of each list"
    asked = dict.fromkeys(
        str(result.get("from_name"))
        for annotations in lists
        for one in annotations
        for result in (one.get("result") or ())
        if isinstance(result.get("value"), dict) and field in result["value"]
    )
    inner = "".join(f".str[{step!r}]" for step in steps[1:])
    line = [f"df = {read}", f"x = df[{steps[0]!r}]{inner}.explode()"]
    line += ["x = x[x.str['was_cancelled'] != True]"] if "was_cancelled" in item.fields else []
    line += ["x = x.str['result'].explode()"]
    first = next(iter(asked), "")
    line += [f"x = x[x.str['from_name'] == {first!r}]"] if len(asked) > 1 else []
    name, write = _writing(read)
    line += [
        f"x = x.str['value'].str[{field!r}]",
        f"df[{column!r}] = x.astype(float).groupby(level=0).mean()",
        write,
    ]
    which = f" of {first!r} (not of {', '.join(list(asked)[1:])})" if len(asked) > 1 else ""
    which += " in the annotations that were not cancelled" if "was_cancelled" in item.fields else ""
    return (
        f"{told}; pandas makes the mean {field}{which}, to be read from {name} with {column}={column} in `columns`: "
        + "; ".join(line)
    )


_LETTERS = {"C": 1, "P": 0.5, "I": 0, "N": 0}


def wants_letters(
    paths: Sequence[str], steps: Sequence[str], texts: Iterable[Any], *, column: str
) -> str | None:
    """Say what makes numbers of the letters that scorers of inspect_ai write; None where texts are others.

    Args:
        paths: The files.
        steps: The names on the way to the letters.
        texts: The values.
        column: What the numbers are to be called.

    Example:
        >>> wants_letters(["s.jsonl"], ["score"], ["A", "B"], column="reward")
        >>> print(wants_letters(["s.jsonl"], ["scores", "math"], ["C", "I", None], column="reward"))
        the letters of a scorer of inspect_ai, whose JSON logs are read as they are (C = 1, P = 0.5, I and N = 0); pandas makes numbers of them, to be read from pool.jsonl with reward=reward in `columns`: df = pd.read_json('s.jsonl', lines=True, dtype=False); df['reward'] = df['scores'].str['math'].map({'C': 1, 'P': 0.5, 'I': 0, 'N': 0}); df.to_json('pool.jsonl', orient='records', lines=True, double_precision=15)
    """
    seen = {str(text) for text in texts if text is not None}
    if not seen <= set(_LETTERS) or "I" not in seen:  # C alone may be a grade
        return None
    read = reading_all(paths)
    name, write = _writing(read)
    inner = "".join(f".str[{step!r}]" for step in steps[1:])
    line = (f"df = {read}", f"df[{column!r}] = df[{steps[0]!r}]{inner}.map({_LETTERS!r})", write)
    return (
        f"the letters of a scorer of inspect_ai, whose JSON logs are read as they are ({LETTERS}); pandas makes numbers of "
        f"them, to be read from {name} with {column}={column} in `columns`: {'; '.join(line)}"
    )


def answer_lists(scores: Sequence[str | None], others: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Find the columns whose lists hold texts, one for each value of the list of scores in the same row; the longest texts first.

    Args:
        scores: Of each row, JSON.
        others: Column → of each row, what may be JSON.

    Example:
        >>> answer_lists(["[true]", "[false]"], {"pred": ['["4"]', '["9"]'], "code": ['["It is 4."]', '["9?"]'], "unit": ["m", "m"]})
        ['code', 'pred']
    """
    counts = [None if own is None else len(own) for own in map(_listed, scores)]
    found: dict[str, int] = {}
    for name, texts in others.items():
        lists = [_listed(text) for text in texts]
        alike = all(
            own is not None and len(own) == count and all(isinstance(one, str) for one in own)
            for own, count in zip(lists, counts, strict=True)
            if count is not None
        )
        if alike and any(counts):
            found[name] = sum(len(text or "") for text in texts)
    return sorted(found, key=lambda name: (-found[name], name))


def _listed(text: str | None) -> list[Any] | None:
    """The list that a text is as JSON; None where it is none."""
    try:
        value = json.loads(text) if text is not None and text.startswith("[") else None
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _field(item: Kind) -> str | None:
    """The number of an object that is its score."""
    numbers = [name for name, kind in item.fields.items() if is_number(kind) or kind.slips]
    first = [name for name in numbers if name == "value"] or [
        n for n in numbers if FIRST_REWARDS.fullmatch(n)
    ]
    found = first or [name for name in numbers if not no_reward(name)]
    return found[0] if len(found) == 1 else None
