"""Conditions of `view --where`: what they mean, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect.errors import OptionError
from crowdselect.selection.browse import Condition, matching, parse_where


def rows(text: str, **columns: list[object]) -> list[bool]:
    held = {name: np.array([*values, None], dtype=object)[:-1] for name, values in columns.items()}
    return matching(parse_where(text), held.__getitem__).tolist()


def test_comparisons_of_numbers_text_and_booleans() -> None:
    score, topic, selected = (
        [0.2, 0.5, float("nan"), None],
        ["a", "b", None, "a b"],
        [True, False, True, None],
    )
    columns = {"score": score, "topic": topic, "selected": selected}
    assert rows("score > 0.2", **columns) == [False, True, False, False]
    assert rows("score <= 0.5 and topic != b", **columns) == [True, False, False, False]
    assert rows("topic = 'a b'", **columns) == [False, False, False, True]
    assert rows("selected = true", **columns) == [True, False, True, False]
    assert rows("topic != a", **columns) == [False, True, False, True]


def test_names_and_values_in_quotes() -> None:
    assert parse_where(r'"say \"hi\"" = "x > 1"') == [Condition('say "hi"', "=", "x > 1")]
    assert parse_where("a>=-1e3 AND b=and") == [Condition("a", ">=", "-1e3"), Condition("b", "=", "and")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "a",
        "a >",
        "> 1",
        "a > 1 and",
        "a > 1 or b > 2",
        "a > 1 b > 2",
        "a = 'x",
        "a == 1",
        "and",
        "a ! 1",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="`where`"):
        parse_where(text)


def test_text_has_no_order_and_is_no_number() -> None:
    with pytest.raises(OptionError, match="= and != only"):
        rows("topic < b", topic=["a", "b"])
    with pytest.raises(OptionError, match="'high' is not a number"):
        rows("score > high", score=[1.0])


@given(st.lists(st.one_of(st.none(), st.floats()), min_size=1, max_size=20), st.floats(allow_nan=False))
def test_numbers_compare_as_python_does(values: list[float | None], bound: float) -> None:
    given_ = [None if value is None or math.isnan(value) else value for value in values]
    held = np.array([*given_, None], dtype=object)[:-1]
    found = matching([Condition("x", "<", repr(bound))], lambda name: held).tolist()
    assert found == [value is not None and value < bound for value in given_]
