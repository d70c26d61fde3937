"""Rows of any of the field's shapes: one line and exit 2, or a selection whose counts add up and that invents nothing."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crowdselect import Options, open_pool, select
from crowdselect.errors import CrowdselectError
from crowdselect.selection.folder import training_records

PIECES = [*"ab .,\n", "é", "語", "\0", "\ud83d", "</s>", "<think>", "</think>", '"', "[", "{"]
WORDS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.just({"url": "x"})}),
    WORDS,
    st.none(),
)
VALUE = st.one_of(
    WORDS,
    WORDS,
    st.none(),
    st.integers(-2, 9),
    st.booleans(),
    st.lists(PART, max_size=3),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": WORDS}),
    st.dictionaries(st.sampled_from(["a", "content", "text"]), WORDS, max_size=2),
)
TURN = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": VALUE}
    ),
    st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "odd"]), "value": VALUE}),
)
CHAT = st.one_of(st.lists(TURN, max_size=4), st.none(), WORDS)
NUMBER = st.one_of(st.floats(0, 1), st.integers(-1, 10), st.booleans())
REWARD = st.one_of(NUMBER, NUMBER, NUMBER, NUMBER, st.sampled_from(["1", "NA", "", None]))
MODEL = st.sampled_from(["m-1b", "m-7b", "m-1b", "m-7b", "m-1b", "m-7b", None])
TWO = st.sampled_from([["m-1b", "m-7b"], ["m-1b", "m-7b"], ["m-1b", "m-7b"], ["m-7b"], ["m-1b", None], []])
LONG = st.fixed_dictionaries(
    {"model": MODEL, "response": VALUE, "score": REWARD},
    optional={
        "id": st.sampled_from(["a", "b", 3, None]),
        "instruction": VALUE,
        "input": WORDS,
        "system": WORDS,
        "messages": CHAT,
        "tools": st.just([{"type": "function"}]),
        "finish_reason": st.sampled_from(["stop", "length", None]),
        "reasoning": WORDS,
    },
)
ANSWER = st.fixed_dictionaries({"model": MODEL, "response": VALUE, "score": REWARD})
LISTED = st.fixed_dictionaries(
    {
        "instruction": VALUE,
        "completions": st.one_of(st.none(), *[st.lists(ANSWER, min_size=1, max_size=3)] * 4),
    }
)
PARALLEL = st.fixed_dictionaries(
    {
        "prompt": VALUE,
        "generations": st.lists(VALUE, min_size=2, max_size=2),
        "model_names": TWO,
        "ratings": st.one_of(st.none(), *[st.lists(REWARD, min_size=2, max_size=2)] * 4),
    }
)
SAMPLES = st.fixed_dictionaries(
    {
        "problem": VALUE,
        "model": MODEL,
        "responses": st.lists(VALUE, min_size=2, max_size=2),
        "rewards": st.lists(REWARD, min_size=2, max_size=2),
    }
)
ROWS = st.one_of(*(st.lists(kind, min_size=1, max_size=8) for kind in (LONG, LISTED, PARALLEL, SAMPLES)))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [] if value is None else [json.dumps(value), str(value)]


def _letters(text: str) -> str:
    """What is left of a text when what is repaired, cut and put between parts is gone."""
    for gone in ("\ufffd", "\0", "\ud83d", "</s>", "<think>", "</think>"):
        text = text.replace(gone, "")
    return "".join(text.split())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, skip=st.booleans(), name=st.sampled_from(["messages", "alpaca", "sharegpt"]))
def test_rows_of_any_shape(rows: list[dict[str, Any]], skip: bool, name: str) -> None:  # noqa: FBT001  (of Hypothesis)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pool.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        try:
            with open_pool(path, skip_invalid=skip) as pool:
                _check(pool, rows, name)
        except CrowdselectError as error:
            said = str(error)
            assert said
            assert "\n" not in said


def _check(pool: Any, rows: list[dict[str, Any]], name: str) -> None:
    options = Options(budget=1, clusters=0, weights={"difficulty": 1}, keep=("rewards=1..",), format=name)
    found = select(pool, options)
    reasons = found.table["reason"].to_pylist()
    assert reasons.count("selected") == 1
    assert len(reasons) == len(pool.ids)
    assert sum(found.counts().values()) == len(pool.ids)
    if not (pool.has_text and pool.has_responses):
        return
    said = [_letters(text) for text in _texts(rows)]
    whole = "".join(said)
    for record in training_records(found, pool, format=name):
        if name != "messages":
            continue
        turns = record["messages"]
        roles = [turn["role"] for turn in turns]
        assert roles[-1] == "assistant"
        assert "user" in roles
        assert ("assistant", "assistant") not in set(pairwise(roles))
        for turn in turns:
            text = _letters(turn["content"] or "")
            assert turn["content"] or turn.get("tool_calls")
            assert set(text) <= set(whole), (turn, rows)
