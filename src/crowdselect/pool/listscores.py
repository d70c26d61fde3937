"""Scores that lie in lists: those of several annotators, with the line that makes a number of each list; or those of answers in a list."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crowdselect.pool.columns import Kind
from crowdselect.pool.layouts import FIRST_REWARDS, no_reward
from crowdselect.pool.rowforms import is_number
from crowdselect.pool.textscores import reading

_GIVEN = "submitted"  # the status of a response that counts, in exports of Argilla


def wants_mean(path: str, steps: Sequence[str], kind: Kind, *, column: str, lists: Iterable[Any]) -> str:
    """Say what a list holds, and the line of pandas that writes the mean of its numbers beside it.

    Args:
        path: The file.
        steps: The names on the way to the list.
        kind: What the list is.
        column: What the mean is to be called.
        lists: The values, read as far as it takes to see whether some objects have the status of what counts.

    Example:
        >>> kind = Kind("list", item=Kind("struct", fields={"value": Kind("number"), "by": Kind("text")}))
        >>> print(wants_mean("r.jsonl", ["said", "rating"], kind, column="reward", lists=[]))
        a list (of objects with by, value), wanted a number; pandas makes the mean of value, to be read from pool.jsonl with reward=reward in `columns`: df = pd.read_json('r.jsonl', lines=True, dtype=False); x = df['said'].str['rating'].explode(); x = x.str['value']; df['reward'] = x.astype(float).groupby(level=0).mean(); df.to_json('pool.jsonl', orient='records', lines=True, double_precision=15)
    """
    item = kind.item or Kind("other")
    fields = item.fields
    what = f"objects with {', '.join(sorted(fields))}" if fields else f"{item.name} values"
    told = f"a list (of {what}), wanted a number"
    field, read = _field(item), reading(path)
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
    name = "pool.parquet" if "read_parquet" in read else "pool.jsonl"
    write = "to_json('pool.jsonl', orient='records', lines=True, double_precision=15)"
    line += [
        f"df[{column!r}] = x.astype(float).groupby(level=0).mean()",
        f"df.{write}" if name == "pool.jsonl" else f"df.to_parquet({name!r})",
    ]
    of = f" of {field}" if field is not None else ""
    which = f" where status is {_GIVEN!r}" if given else ""
    return (
        f"{told}; pandas makes the mean{of}{which}, to be read from {name} with {column}={column} in `columns`: "
        + "; ".join(line)
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
