"""How an answer ended is read from the object that holds it, in every form in which an answer is one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowds import Row
from crowdselect import Options, open_pool, select
from crowdselect.methods.reward import by_reward
from crowdselect.selection.folder import training_records
from crowdselect.selection.inspection import inspect_pool

N = 6
CUT, WHOLE = "b", "a"
"""Whose answers were cut and have the better reward, and whose were not."""


def held(i: int, who: str, text: str = "text", ends: str = "finish_reason", **more: Any) -> Row:
    reason = "length" if who == CUT else "stop"
    return {text: f"{who} says {i}", ends: reason, "reward": i % 3 + 10.0 * (who == CUT), **more}


def both(i: int, **shape: Any) -> list[Row]:
    return [held(i, WHOLE, **shape), held(i, CUT, **shape)]


def each_model(i: int, **shape: Any) -> dict[str, Row]:
    return {who: held(i, who, **shape) for who in (WHOLE, CUT)}


def asked(i: int) -> Row:
    return {"prompt": f"Question number {i}?"}


def of_one_model(name: str, **shape: Any) -> Callable[[int], Iterator[Row]]:
    return lambda i: iter([{**asked(i), "model": "m", name: both(i, **shape)}])


def choices(i: int) -> Iterator[Row]:
    found = [{"message": {"role": "assistant", "content": each.pop("text")}, **each} for each in both(i)]
    yield {**asked(i), "model": "m", "choices": found}


def of_two(value: Callable[[int, str], Row], **columns: str) -> Callable[[int], Iterator[Row]]:
    """A row per answer."""
    return lambda i: iter([{**asked(i), "model": who, **value(i, who), **columns} for who in (WHOLE, CUT)])


def scores() -> Row:
    return {"score_a": 1.0, "score_b": 9.0}


def turns(i: int, who: str) -> Row:
    said = held(i, who, text="content", role="assistant")
    return {"messages": [{"role": "user", "content": asked(i)["prompt"]}, said], "reward": said["reward"]}


def batch(i: int) -> Iterator[Row]:
    for who, said in each_model(i, text="content").items():
        choice = {"message": {"role": "assistant", "content": said["content"]}}
        body = {"model": who, "choices": [{**choice, "finish_reason": said["finish_reason"]}]}
        sent = {"model": who, "messages": [{"role": "user", "content": asked(i)["prompt"]}]}
        came = {"status_code": 200, "body": body}
        yield {"custom_id": f"{i}-{who}", "body": sent, "response": came, "reward": said["reward"]}


FORMS: dict[str, tuple[str, Callable[[int], Iterator[Row]]]] = {
    **{name: ("samples", of_one_model(name)) for name in ("outputs", "completions", "responses", "samples")},
    "in capitals": ("samples", of_one_model("outputs", ends="Finish_Reason")),
    "messages": ("samples", of_one_model("generations", text="content", role="assistant")),
    "choices": ("samples", choices),
    "lists": (
        "distilabel",
        lambda i: iter(
            [{**asked(i), "generations": both(i), "model_names": [WHOLE, CUT], "ratings": [1.0, 9.0]}]
        ),
    ),
    "ultrafeedback": (
        "ultrafeedback",
        lambda i: iter(
            [
                {
                    "instruction": f"Do {i}",
                    "completions": [held(i, who, "response", model=who) for who in (WHOLE, CUT)],
                }
            ]
        ),
    ),
    "ultrafeedback in capitals": (
        "ultrafeedback",
        lambda i: iter(
            [
                {
                    "instruction": f"Do {i}",
                    "completions": [
                        held(i, who, "response", "Finish_Reason", model=who) for who in (WHOLE, CUT)
                    ],
                }
            ]
        ),
    ),
    "objects": ("structs", lambda i: iter([{**asked(i), "responses": each_model(i)}])),
    "lists of objects": (
        "structs",
        lambda i: iter([{**asked(i), "responses": {who: [said] for who, said in each_model(i).items()}}]),
    ),
    "zoo": (
        "zoo",
        lambda i: iter([{"id": str(i), "instruction": f"Do {i}", **each_model(i, text="content")}]),
    ),
    "pairs of columns": (
        "column pairs",
        lambda i: iter(
            [
                {
                    **asked(i),
                    **{f"response_{who}": said for who, said in each_model(i, text="content").items()},
                    **scores(),
                }
            ]
        ),
    ),
    "battles": (
        "battles",
        lambda i: iter(
            [
                {
                    **asked(i),
                    **{f"response_{who}": said for who, said in each_model(i, text="content").items()},
                    **{f"model_{who}": who for who in (WHOLE, CUT)},
                    **scores(),
                }
            ]
        ),
    ),
    "a message": (
        "long",
        of_two(
            lambda i, who: {
                "response": held(i, who, "content", role="assistant"),
                "score": 9.0 * (who == CUT),
            }
        ),
    ),
    "a list of one": (
        "long",
        of_two(lambda i, who: {"response": [held(i, who)], "score": 9.0 * (who == CUT)}),
    ),
    "the last turn": ("long", lambda i: iter([{"model": who, **turns(i, who)} for who in (WHOLE, CUT)])),
    "batch": ("batch", batch),
}


def write(folder: Path, rows: list[Row], kind: str) -> str:
    file = folder / f"pool.{kind}"
    if kind == "jsonl":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    return str(file)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_a_cut_answer_in_an_object_is_told_and_not_trained_on(form: str, kind: str, tmp_path: Path) -> None:
    layout, rows_of = FORMS[form]
    file = write(tmp_path, [row for i in range(N) for row in rows_of(i)], kind)
    with open_pool(file) as pool:
        assert pool.layout == layout
        found = [(kind, count) for ends in pool.endings() for kind, count in ends.items()]
        assert sorted(found) == [("cut", N), ("finished", N)]
        assert sum(model["endings"].get("cut", 0) for model in inspect_pool(pool)["crowd"]) == N
        reward = pool.usual_reward
        for allow_cut, who in ((False, WHOLE), (True, CUT)):
            options = Options(budget=2, clusters=0, reward=reward, allow_cut=allow_cut)
            made = select(pool, options, method=by_reward())
            taught = [record["messages"][-1] for record in training_records(made, pool, format="messages")]
            assert [said["content"][0] for said in taught] == [who] * 2


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["finish_reason", "finish_reasons"])
def test_a_list_of_endings_beside_the_answers(name: str, kind: str, tmp_path: Path) -> None:
    rows = [
        {**asked(i), "model": "m", "outputs": ["x", "y"], name: ["stop", "length"], "rewards": [1.0, 2.0]}
        for i in range(N)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.endings() == [{"finished": N, "cut": N}]


def test_one_ending_beside_a_list_is_that_of_all_its_answers(tmp_path: Path) -> None:
    rows = [
        {
            **asked(i),
            "model": who,
            "outputs": ["x"],
            "finish_reason": held(i, who)["finish_reason"],
            "rewards": [1.0],
        }
        for i in range(N)
        for who in (WHOLE, CUT)
    ]
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert pool.endings() == [{"finished": N}, {"cut": N}]


def test_the_choices_of_a_question_are_no_answers(tmp_path: Path) -> None:
    rows = [
        {**asked(i), "model": who, "response": who, "choices": ["x", "y"], "score": 1.0}
        for i in range(N)
        for who in "ab"
    ]
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert (pool.layout, pool.models) == ("long", ("a", "b"))
