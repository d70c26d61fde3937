"""Files of crowds as people have them: each kind with an input of its own, in every file type that can hold it."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowds import ALL, MODELS, TYPED, Row, answered, crowd, is_plain, user, write
from crowdselect import Options, open_pool, select
from crowdselect.errors import InputError, LayoutError, OptionError, RewardError
from crowdselect.pool.connection import connect
from crowdselect.pool.content import prompt_of, without_markers
from crowdselect.pool.forms import FORMS
from crowdselect.pool.lmeval import logs_in
from crowdselect.pool.rowforms import Form
from crowdselect.pool.sidecars import found_in, read_ids
from crowdselect.pool.wideforms import unlisted
from crowdselect.selection.folder import training_records
from crowdselect.selection.inspection import inspect_pool

ROOT = Path(__file__).resolve().parent.parent
# What a row says


@ALL
def test_parts_are_a_text(kind: str, tmp_path: Path) -> None:
    parts = crowd(response=lambda i, j: [{"type": "text", "text": f"a{i}"}, {"type": "text", "text": str(j)}])
    with open_pool(write(tmp_path, parts, kind)) as pool:
        is_plain(pool)


@ALL
def test_a_message_is_its_content(kind: str, tmp_path: Path) -> None:
    with open_pool(
        write(tmp_path, crowd(response=lambda i, j: {"role": "assistant", "content": f"a{i}{j}"}), kind)
    ) as pool:
        is_plain(pool)


@ALL
@pytest.mark.parametrize("name", ["prompt", "messages"])
def test_a_prompt_in_parts(kind: str, name: str, tmp_path: Path) -> None:
    rows = crowd(
        instruction=None,
        **{name: lambda i, j: [{"role": "user", "content": [{"type": "text", "text": f"Do {i}"}]}]},
    )
    with open_pool(write(tmp_path, rows, kind)) as pool:
        is_plain(pool)


@ALL
@pytest.mark.parametrize("odd", [0, 2, None])
def test_what_is_no_text_is_left_out(kind: str, odd: int | None, tmp_path: Path) -> None:
    """One row, in any place, or all of them."""

    def messages(i: int, j: int) -> list[Row]:
        picture = {"type": "image_url", "image_url": {"url": "x"}}
        return (
            [user(f"Do {i}")]
            if odd not in {i, None}
            else [{"role": "user", "content": [picture, {"type": "text", "text": "t"}]}]
        )

    if kind == "parquet" and odd is not None:
        pytest.skip("Parquet has one type per column")
    with open_pool(write(tmp_path, crowd(instruction=None, messages=messages), kind)) as pool:
        assert [why == "not_text" for why in pool.left_out()] == [odd in {i, None} for i in range(3)]


def test_an_answer_that_is_no_text_has_none(tmp_path: Path) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]
    rows = crowd(response=lambda i, j: picture if (i == 0 and j == 0) or i == 1 else f"a{i}{j}")
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert answered(pool)[:4] == [None, "a01", None, None]
        assert list(pool.left_out()) == [None, "not_text", None]
        notes = inspect_pool(pool)["notes"]
    words = "what is asked, or every answer, holds something other than text, such as an image"
    assert f"1 instruction cannot be chosen: {words}" in notes


def test_ratings_of_people_inside_an_object_are_proposed(tmp_path: Path) -> None:
    """As Argilla exports them: the error names where they are, and the next one what makes a number of them."""
    rows = [
        {
            "fields": {"prompt": f"Do {i}", "response": f"a{i}{j}"},
            "metadata": {"model": f"m{j}"},
            "responses": {"rating": [{"value": i + j, "status": "submitted"}]},
        }
        for i in range(3)
        for j in range(2)
    ]
    line = "instruction=fields.prompt,model=metadata.model,response=fields.response,reward=responses.rating'"
    with pytest.raises(LayoutError, match=re.escape(line)):
        open_pool(write(tmp_path, rows, "jsonl"))


@ALL
@pytest.mark.parametrize("there", [True, False], ids=["response", "no response"])
def test_messages_that_end_with_the_answer(kind: str, there: bool, tmp_path: Path) -> None:  # noqa: FBT001  (of pytest)
    more: Row = {} if there else {"response": None}
    rows = crowd(
        instruction=None,
        messages=lambda i, j: [user(f"Do {i}"), {"role": "assistant", "content": f"a{i}{j}"}],
        **more,
    )
    with open_pool(write(tmp_path, rows, kind)) as pool:
        is_plain(pool)


@ALL
def test_messages_that_end_with_another_answer(kind: str, tmp_path: Path) -> None:
    rows = crowd(
        instruction=None, messages=lambda i, j: [user(f"Do {i}"), {"role": "assistant", "content": "other"}]
    )
    with pytest.raises(InputError, match=r"row 1: messages end with another answer \('other'\).*6 of 6 rows"):
        open_pool(write(tmp_path, rows, kind))


@ALL
def test_sharegpt(kind: str, tmp_path: Path) -> None:
    turns = crowd(
        instruction=None, response=None,
        conversations=lambda i, j: [{"from": "human", "value": f"Do {i}"}, {"from": "gpt", "value": f"a{i}{j}"}],
    )  # fmt: skip
    with open_pool(write(tmp_path, turns, kind)) as pool:
        is_plain(pool)
        assert "conversations is taken for the messages" in str(pool.read_as)


@ALL
def test_the_input_and_the_system_prompt_are_asked_too(kind: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(input=lambda i, j: f"in {i}"), kind)) as pool:
        is_plain(pool, prompt="Do 0\nin 0")
        assert list(pool.instructions()) == ["Do 0\nin 0", "Do 1\nin 1", "Do 2\nin 2"]
    with open_pool(write(tmp_path, crowd(system="Be brief."), kind)) as pool:
        assert pool.prompts([("q0", "m-1b")]) == [[{"role": "system", "content": "Be brief."}, user("Do 0")]]


def test_calls_of_tools_are_kept(tmp_path: Path) -> None:
    call = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    turns = [
        user("Do 0"),
        {"role": "assistant", "content": None, "tool_calls": call},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]
    rows = crowd(instruction=None, messages=lambda i, j: turns if i == 0 else [user(f"Do {i}")])
    for kind in ("jsonl", "csv"):
        with open_pool(write(tmp_path, rows, kind)) as pool:
            assert pool.prompts([("q0", "m-1b")]) == [turns]
            assert [words.split() for words in pool.needs()] == [["tools"], [], []]
            for name, held in (("messages", True), ("alpaca", False), ("sharegpt", False)):
                chosen = select(pool, Options(budget=2, clusters=0, weights={"difficulty": 1}, format=name))
                reasons = dict(
                    zip(chosen.table["id"].to_pylist(), chosen.table["reason"].to_pylist(), strict=True)
                )
                assert (reasons["q0"] in {"no_tools", "bad_turns"}) is not held


def _sharegpt(*turns: tuple[str, Any]) -> list[Row]:
    return [{"from": who, "value": value} for who, value in turns]


def _call(name: str, arguments: str) -> Row:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@ALL
@pytest.mark.parametrize(
    ("value", "content", "calls"),
    [
        ('{"name": "f", "arguments": {"x": null}}', None, [_call("f", '{"x": null}')]),
        ('{"name": "f", "arguments": "{}"}', None, [_call("f", "{}")]),
        ('[{"name": "f", "arguments": {"x": "ü </think>"}}, {"name": "g"}]', None,
         [_call("f", '{"x": "ü </think>"}'), _call("g", "{}")]),
        ('<think>Hm.</think>{"name": "f"}', "<think>\nHm.\n</think>\n\n", [_call("f", "{}")]),
        ('<tool_call>{"name": "f"}</tool_call>', '<tool_call>{"name": "f"}</tool_call>', None),
    ],
)  # fmt: skip
def test_calls_of_sharegpt_are_calls(
    kind: str, value: str, content: str | None, calls: list[Row] | None, tmp_path: Path
) -> None:
    rows = crowd(
        instruction=None, response=None, tools='[{"name": "f"}]',
        conversations=lambda i, j: _sharegpt(
            ("human", f"Do {i}"), ("function_call", value), ("observation", "4"), ("gpt", f"a{i}{j}")
        ),
    )  # fmt: skip
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert answered(pool)[0] == "a00"
        called = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
        assert pool.prompts([("q0", "m-1b")]) == [[user("Do 0"), called, {"role": "tool", "content": "4"}]]
        assert all("tools" in words for words in pool.needs())


def test_a_call_of_sharegpt_may_be_an_object(tmp_path: Path) -> None:
    turns = _sharegpt(
        ("human", "Do"), ("function_call", {"name": "f", "arguments": {"x": 1}}), ("observation", "4")
    )
    with open_pool(write(tmp_path, crowd(instruction=None, conversations=turns), "jsonl")) as pool:
        assert pool.prompts([("q0", "m-1b")])[0][1]["tool_calls"] == [_call("f", '{"x": 1}')]


@ALL
@pytest.mark.parametrize("thought", ["", "<think>Hm.</think>"])
def test_an_answer_that_is_a_call_of_sharegpt_has_no_text(kind: str, thought: str, tmp_path: Path) -> None:
    rows = crowd(
        instruction=None, response=None,
        conversations=lambda i, j: _sharegpt(
            ("human", f"Do {i}"), ("function_call", thought + '{"name": "f"}') if j else ("gpt", f"a{i}")
        ),
    )  # fmt: skip
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert answered(pool)[:2] == ["a0", None]
        assert any("3 answers are calls of tools without a text" in note for note in pool.notes)


@ALL
@pytest.mark.parametrize("value", ["f(2)", '{"arguments": {}}', "[]", '[{"name": "f"}, 3]'])
def test_a_call_of_sharegpt_that_is_none_is_told(kind: str, value: str, tmp_path: Path) -> None:
    rows = crowd(
        instruction=None, response=None,
        conversations=lambda i, j: _sharegpt(
            ("human", f"Do {i}"), ("function_call", '{"name": "f"}' if i else value), ("observation", "4"),
            ("gpt", f"a{i}{j}"),
        ),
    )  # fmt: skip
    path = write(tmp_path, rows, kind)
    with pytest.raises(
        InputError, match=r"row 1: messages: a turn of function_call is .*wanted a call as JSON"
    ):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert pool.malformed == 2


@ALL
def test_turns_that_no_answer_may_follow(kind: str, tmp_path: Path) -> None:
    bad = [[{"role": "system", "content": "S"}], [user(" "), user("x")], [user("x")]]
    with open_pool(write(tmp_path, crowd(instruction=None, messages=lambda i, j: bad[i]), kind)) as pool:
        assert list(pool.left_out()) == ["bad_turns", "bad_turns", None]


@ALL
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Yes."),
        ("Hm.</think>Yes.", "Yes."),
        ("Write <think> and </think>.", "Write <think> and </think>."),
        ("It ends with `</think>`.", "It ends with `</think>`."),
    ],
)
def test_reasoning_stands_apart(kind: str, text: str, answer: str, tmp_path: Path) -> None:
    path = write(tmp_path, crowd(response=lambda i, j: text), kind)
    with open_pool(path) as pool:
        assert set(answered(pool)) == {answer}
        assert set(pool.response_lengths().ravel()) == {len(answer)}
        assert pool.exported([("q0", "m-1b")]) == [text]
    with open_pool(path, reasoning="drop") as pool:
        assert pool.exported([("q0", "m-1b")]) == [answer]


@ALL
@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_in_a_column(kind: str, name: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(**{name: "Hm."}), kind)) as pool:
        assert answered(pool)[0] == "a00"
        assert pool.exported([("q0", "m-1b")]) == ["<think>\nHm.\n</think>\n\na00"]


@ALL
def test_unfinished_reasoning_is_no_target(kind: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(response=lambda i, j: "<think>Hm" if j else f"a{i}"), kind)) as pool:
        assert pool.targets().usable.tolist() == [[True, False]] * 3


@pytest.mark.parametrize(
    ("odd", "kind"),
    [("a\ud83d", "jsonl"), ("a\0", "jsonl"), ("a\x1b", "jsonl"), ("a\x1b", "parquet"), ("a\x1b", "csv")],
)
def test_broken_texts_are_repaired(odd: str, kind: str, tmp_path: Path) -> None:
    with open_pool(
        write(tmp_path, crowd(response=lambda i, j: odd, instruction=lambda i, j: f"Do {i}{odd}"), kind)
    ) as pool:
        assert set(answered(pool)) == {"a\ufffd"}
        assert list(pool.instructions()) == [f"Do {i}a\ufffd" for i in range(3)]
        assert any("U+FFFD" in note for note in pool.notes)


# Names


@ALL
@pytest.mark.parametrize("instruction", ["prompt", "question", "problem", "query"])
@pytest.mark.parametrize(
    ("model", "response"),
    [
        ("model_name", "output"),
        ("generator", "completion"),
        ("generation_model", "generation"),
        ("model", "text"),
        ("model", "content"),
        ("model", "answer"),
    ],
)
def test_other_names(kind: str, instruction: str, model: str, response: str, tmp_path: Path) -> None:
    names = {"instruction": instruction, "model": model, "response": response}
    rows = [{names.get(name, name): value for name, value in row.items()} for row in crowd()]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        is_plain(pool)
        assert f"{instruction} is taken for the instruction" in str(pool.read_as)


@ALL
def test_columns_are_named(kind: str, tmp_path: Path) -> None:
    names = {"id": "k", "instruction": "task", "model": "by", "response": "said", "score": "grade"}
    rows = [{names[name]: value for name, value in row.items()} for row in crowd()]
    path = write(tmp_path, rows, kind)
    with open_pool(
        path, columns={"id": "k", "instruction": "task", "model": "by", "response": "said"}
    ) as pool:
        is_plain(pool)
    with pytest.raises(LayoutError, match="no column 'tusk' for instruction; found k, task"):
        open_pool(path, columns={"instruction": "tusk"})


@ALL
def test_two_candidates_are_an_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        LayoutError, match=r"prompt and question could both be the instruction; .*columns=instruction=prompt"
    ):
        open_pool(write(tmp_path, crowd(instruction=None, prompt="x", question="y"), kind))


@ALL
def test_an_answer_that_all_models_share_is_a_reference(kind: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(response=None, answer=lambda i, j: str(i)), kind)) as pool:
        assert not pool.has_responses
        assert list(pool.column("answer")) == ["0", "1", "2"]
        assert pool.reward_name(None) == "score"


@ALL
def test_pairs_are_no_crowd(kind: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="these are preference pairs"):
        open_pool(write(tmp_path, [{"prompt": "p", "chosen": "x", "rejected": "y"}], kind))


@ALL
def test_scores_of_pairs_are_no_models(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "prompt_id": str(i),
            "prompt": "p",
            "chosen": "x",
            "rejected": "y",
            "score_chosen": 1.0,
            "score_rejected": 0.0,
        }
        for i in range(2)
    ]
    with pytest.raises(LayoutError, match="these are preference pairs"):
        open_pool(write(tmp_path, rows, kind))


@ALL
def test_a_text_that_is_not_understood_is_told(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": str(i), "text": f"Do {i}", "a": 1.0, "b": 2.0} for i in range(2)], kind)
    with pytest.raises(LayoutError, match=r"'text' may be one; name it with `columns='instruction=text'`"):
        open_pool(path)
    with open_pool(path, columns={"instruction": "text"}) as pool:
        assert list(pool.instructions()) == ["Do 0", "Do 1"]


@ALL
def test_the_closest_layout_is_told(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        LayoutError, match=r"closest is the layout long, which lacks the model .*`model='NAME'`"
    ):
        open_pool(write(tmp_path, crowd(model=None), kind))
    with open_pool(write(tmp_path, crowd(model=None)[::2], kind), model="m") as pool:
        assert pool.models == ("m",)


# Layouts


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_the_example_of_a_form_is_of_it(form: Form, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, [dict(form.example)], "jsonl"), skip_invalid=True) as pool:
        assert pool.layout == form.name
        assert set(pool.models) <= {"qwen-1b", "qwen-7b"}
        assert pool.instructions().tolist() == ["Name a prime."]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no docs beside the tests")
def test_the_docs_show_each_form() -> None:
    docs = (ROOT / "docs" / "pools.md").read_text(encoding="utf-8")
    for form in FORMS.values():
        assert f"`{form.name}`: {form.needs}\n\n```json\n{json.dumps(form.example)}\n```\n" in docs


@ALL
def test_several_answers_in_a_row(kind: str, tmp_path: Path) -> None:
    rows = [
        {"problem": f"P{i}", "model": m, "generations": ["x", "y"], "scores": [0.0, 1.0]}
        for i in range(2)
        for m in MODELS
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models, pool.sampled) == ("samples", MODELS, True)
        assert pool.scores().tolist() == [[0.5, 0.5]] * 2
        assert pool.responses([(pool.ids[0], "m-1b")], [1.0]) == ["y"]
    with pytest.raises(InputError, match="row 1: scores has 1 values for 2 answers"):
        open_pool(write(tmp_path, [{**row, "scores": [0.0]} for row in rows], kind))


@TYPED
def test_pass_rates(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [user(f"P{i}")],
            "extra_info": {"index": i, "model_difficulty": {"a-1b": i, "a-7b": 16 - i}},
        }
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == ("a-1b", "a-7b")
        with pytest.raises(
            RewardError,
            match=r"model_difficulty goes from 0 to 16, .*model_difficulty:down/16` makes it 0 to 1",
        ):
            pool.reward_name(None)
        by_text = dict(zip(pool.instructions(), pool.scores("model_difficulty:down/16"), strict=True))
        assert by_text["P2"].tolist() == [1 - 2 / 16, 2 / 16]
        assert (pool.scores("model_difficulty:down") == -pool.scores("model_difficulty:up")).all()


@ALL
def test_pass_rates_in_columns(kind: str, tmp_path: Path) -> None:
    rows = [{"id": str(i), "problem": f"P{i}", "a_solve_rate": 0.5, "pass_rate_b": i / 4} for i in range(3)]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == ("a", "b")
        assert pool.scores("pass_rate").tolist() == [[0.5, 0], [0.5, 0.25], [0.5, 0.5]]


@ALL
def test_columns_per_model(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": "P", "response_a": "x", "score_a": 1, "b_response": "y", "b_score": 2}]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.models, pool.scores().tolist(), answered(pool)) == (("a", "b"), [[1, 2]], ["x", "y"])


@TYPED
def test_objects_per_model(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": "P", "responses": {"a": "x", "b": "y"}, "scores": {"a": 1.0, "b": 2.0}}]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.models, pool.scores().tolist(), answered(pool)) == (("a", "b"), [[1, 2]], ["x", "y"])


@TYPED
@pytest.mark.parametrize(
    ("field", "role"),
    [("text", {}), ("content", {}), ("response", {}), ("content", {"role": "assistant"})],
)
def test_an_object_per_model_with_numbers_beside_its_answer(
    field: str, role: dict[str, str], kind: str, tmp_path: Path
) -> None:
    rows = [
        {
            "id": f"P{i}",
            "prompt": f"Do {i}",
            "answers": {
                "a": {**role, field: f"x{i}", "helpfulness": 3, "verbosity": i, "finish_reason": "length"},
                "b": {**role, field: f"y{i}", "helpfulness": 1, "verbosity": 2, "finish_reason": "stop"},
            },
        }
        for i in range(2)
    ]
    rows.append({"id": "P2", "prompt": "Do 2", "answers": {"a": None, "b": rows[0]["answers"]["b"]}})
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models) == ("structs", ("a", "b"))
        assert pool.reward_columns == ("helpfulness", "verbosity")
        assert str(pool.scores("helpfulness").tolist()) == "[[3.0, 1.0], [3.0, 1.0], [nan, 1.0]]"
        assert str(pool.scores("verbosity").tolist()) == "[[0.0, 2.0], [1.0, 2.0], [nan, 2.0]]"
        cells = [("P0", "a"), ("P1", "b"), ("P2", "a")]
        assert pool.responses(cells) == ["x0", "y1", None]
        assert [found.get("cut", 0) for found in pool.endings()] == [2, 0]


@TYPED
def test_samples_that_are_objects_of_each_model(kind: str, tmp_path: Path) -> None:
    said = [{"text": "x", "helpfulness": 1}, {"text": "y", "helpfulness": 3}]
    rows = [{"id": "q0", "prompt": "P", "answers": dict.fromkeys(MODELS, said)}]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.scores("helpfulness").tolist() == [[2.0] * len(MODELS)]
        assert pool.responses([("q0", "m-1b")] * 2, [0.0, 1.0]) == ["x", "y"]
    rows = [{"id": "q0", "prompt": "P", "answers": {m: [{"text": "x"}, {"text": "y"}] for m in MODELS}}]
    with open_pool(write(tmp_path, rows, kind)) as pool:  # parts of one answer
        assert pool.responses([("q0", "m-1b")]) == ["xy"]


@TYPED
def test_a_row_without_answers_stays(kind: str, tmp_path: Path) -> None:
    answers = [{"model": m, "response": m, "score": 1.0} for m in MODELS]
    rows = [{"instruction": f"I{i}", "completions": each} for i, each in enumerate((answers, [], None))]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert sorted(why or "" for why in pool.left_out()) == ["", "no_answer", "no_answer"]


@TYPED
def test_malformed_rows_are_counted_or_skipped(kind: str, tmp_path: Path) -> None:
    lists = {"generations": ["x", "y"], "model_names": list(MODELS), "ratings": [1, 2]}
    rows = [{"instruction": f"I{i}", **lists, "model_name": "judge"} for i in range(4)]
    rows[1] = {**rows[1], "ratings": [1]}
    rows[3] = {**rows[3], "model_names": [MODELS[0], None]}
    path = write(tmp_path, rows, kind)
    with pytest.raises(
        InputError,
        match=r"row 2: ratings has 1 values for 2 answers; 2 of 4 rows are malformed: .*`skip_invalid=True`",
    ):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert pool.malformed == 1
        assert pool.models == MODELS
        assert "1 answer without a model is left out; others of its row have one" in pool.notes
        assert np.isnan(pool.scores()).sum() == 3
        chosen = select(pool, Options(budget=2, clusters=0, weights={"difficulty": 1}))
        reasons = sorted(reason.partition(":")[0] for reason in chosen.table["reason"].to_pylist())
        assert reasons == ["malformed", "selected", "selected", "too_few_rewards"]


@ALL
def test_broken_rows_are_skipped_when_asked(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, crowd(), kind)
    if kind == "parquet":
        path = write(
            tmp_path, crowd(model=lambda i, j: None if i == 1 else MODELS[j], id=lambda i, j: f"q{i}"), kind
        )
    else:
        with path.open("a") as file:
            file.write("{broken\n")
    with pytest.raises(InputError, match="malformed"):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert any(str(why).startswith("malformed:") for why in pool.left_out())


LM_EVAL = Path(__file__).parent / "stored" / "lm-eval-0.4.13" / "results"
"""What the harness itself wrote; see the README there."""


def test_the_samples_of_lm_evaluation_harness() -> None:
    with pytest.raises(InputError, match="strict-match, flexible-extract; name one with `filter=flexible-"):
        open_pool(LM_EVAL)
    with open_pool(LM_EVAL, filter="flexible-extract") as pool:
        models = ("example/lol-1b", "example/lol-7b")
        tasks = {"capitals": 3, "endings": 4, "passages": 3, "sums": 4}
        assert pool.models == models
        assert pool.ids.tolist() == [f"{task}:{n}" for task, count in tasks.items() for n in range(count)]
        sums = [f"sums:{n}" for n in range(4)]
        assert pool.texts_of(sums)[0] == "Question: Ann has 2 cups and buys 3. How many has she?\nAnswer:"
        assert (
            pool.responses([("sums:0", model) for model in models for _ in "ab"], [0.0, 1.0] * 2)
            == ["lol"] * 4
        )
        assert pool.values_of("target", sums) == ["lol", "#### 3", "LOL", "#### 1"]
        written = [id_ for id_ in pool.ids if pool.responses([(id_, models[0])])[0] is not None]
        assert written == sums
        of_sums, of_capitals = slice(-4, None), slice(3)
        assert pool.scores("score")[of_sums].tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]
        assert pool.scores("exact_match")[of_sums].tolist() == pool.scores("score")[of_sums].tolist()
        assert set(pool.scores("acc")[of_capitals].ravel()) == {
            0.0,
            1.0,
        }  # the first metric has no number per document
        assert np.array_equal(pool.scores("score")[of_capitals], pool.scores("acc")[of_capitals])
        assert np.isnan(pool.scores("score")[7:10]).all()  # texts whose likelihood alone is measured


def test_the_bare_question_of_a_document_of_lm_evaluation_harness(tmp_path: Path) -> None:
    prompt, turns = "Q: 1+1?\nA: 2\n\nQ: 2+2?\nA:", json.dumps([user("Q: 1+1? A: 2. Q: 2+2? A:")])
    for task, doc, sent in (
        ("sums", {"question": "2+2?", "score": 3, "answer": "4"}, prompt),
        ("chat", {"question": "3+3?", "score": 4}, turns),
        ("other", {"text": "x", "score": 5}, prompt),
    ):
        row = {
            "doc_id": 0,
            "doc": doc,
            "target": "4",
            "filter": "none",
            "metrics": ["exact_match"],
            "exact_match": 1.0,
        }
        row |= {"resps": [["4"]], "arguments": {"gen_args_0": {"arg_0": sent, "arg_1": {}}}}
        (tmp_path / f"samples_{task}_2026-01-02T00-00-00.0.jsonl").write_text(json.dumps(row) + "\n")
    with open_pool(tmp_path) as pool:
        assert pool.texts_of(["sums:0"]) == [prompt]
        assert pool.read_as is not None
        assert pool.read_as.endswith(
            "with the solved examples of a few-shot task (the question alone: `columns='instruction=doc.question'`)"
        )
        assert pool.rewards.names == (
            "exact_match",
        )  # neither the same again as `score`, nor numbers of the documents
    with open_pool(tmp_path, columns={"instruction": "doc.question"}) as pool:
        assert pool.ids.tolist() == ["chat:0", "other:0", "sums:0"]
        assert pool.texts_of(pool.ids) == ["3+3?", None, "2+2?"]
        assert pool.prompts([("chat:0", tmp_path.name)]) == [[user("3+3?")]]
        assert pool.read_as is not None
        assert "few-shot" not in pool.read_as
        assert pool.read_as.endswith("; doc.question is taken for instruction")
    with pytest.raises(LayoutError, match=r"no column 'doc\.problem' for instruction"):
        open_pool(tmp_path, columns={"instruction": "doc.problem"})


def test_logs_of_evaluations_say_of_which(tmp_path: Path) -> None:
    tasks = ("capitals", "endings", "passages", "sums")
    with open_pool(LM_EVAL, filter="strict-match") as pool:
        assert pool.evaluations == tasks
    # A task over the split for training, or over the one for validation where there is no test.
    shutil.copytree(LM_EVAL, tmp_path / "own")
    for file in (tmp_path / "own").glob("*/results_*.json"):
        told = json.loads(file.read_text())
        told["configs"]["sums"]["test_split"] = "train[:50%]"
        told["configs"]["endings"] |= {"test_split": None, "validation_split": "train"}
        told["configs"]["capitals"] |= {"test_split": None, "validation_split": "dev"}
        del told["configs"]["passages"]
        file.write_text(json.dumps(told))
    with open_pool(tmp_path / "own", filter="strict-match") as pool:
        assert pool.evaluations == ("capitals", "passages")
    rows = [
        {"id": str(i), "instruction": f"q{i}", "model": "m-7b", "response": "a", "score": i} for i in range(3)
    ]
    (tmp_path / "gsm8k_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_pool(tmp_path / "gsm8k_test.jsonl") as pool:
        assert pool.evaluations == ()  # a name alone says nothing


def test_metrics_of_lm_evaluation_harness_of_which_lower_is_better() -> None:
    with open_pool(LM_EVAL, filter="strict-match") as pool:
        assert pool.scores("extra_letters")[-4:].tolist() == [[-6, -6], [-3, -3], [-6, -6], [-3, -3]]
        likelihoods = pool.scores("perplexity")[3:7]  # of a document it is a log-likelihood
        assert (likelihoods < 0).all()
        assert np.array_equal(pool.scores("score")[3:7], likelihoods)


def test_the_newest_run_of_lm_evaluation_harness_counts(tmp_path: Path) -> None:
    old, new = sorted(LM_EVAL.glob("example__lol-1b/samples_capitals_*"))

    def likelihoods(place: Path) -> list[str]:
        return [row["filtered_resps"][0][0] for row in map(json.loads, place.read_text().splitlines())]

    assert likelihoods(old) != likelihoods(new)
    found = {log.task: log.file for log in logs_in(LM_EVAL) if log.model == "example/lol-1b"}
    assert found["capitals"] == new
    with open_pool(old) as pool:
        assert (pool.models, len(pool.ids)) == (("example/lol-1b",), 3)
    for name in ("one", "two"):
        shutil.copytree(LM_EVAL / "example__lol-7b", tmp_path / name)
    with pytest.raises(InputError, match=r"one and .*two both hold the task capitals of example/lol-7b"):
        open_pool(tmp_path, filter="strict-match")


def test_lm_evaluation_harness_with_all_models_in_one_folder(tmp_path: Path) -> None:
    """As `--output_path results/NAME.json` lays them out."""
    for file in LM_EVAL.glob("*/*"):
        name = file.name.replace("results", file.parent.name.partition("__")[2])
        shutil.copy(file, tmp_path / name)
    with open_pool(tmp_path, filter="strict-match") as pool:
        assert pool.models == ("example/lol-1b", "example/lol-7b")
        scores = pool.scores("extra_letters")
    with open_pool(LM_EVAL, filter="strict-match") as pool:
        assert np.array_equal(pool.scores("extra_letters"), scores, equal_nan=True)


def test_prompts_of_lm_evaluation_harness_that_are_conversations(tmp_path: Path) -> None:
    """As it sends them to servers (`JsonChatStr`): the JSON of the messages, alone in a list or not."""
    turns = json.dumps([user("Say 7")])
    row = {"doc_id": 0, "target": 7, "filter": "none", "metrics": ["f1"], "f1": "0.5", "resps": [["x"]]}
    for number, prompt in enumerate((turns, [turns])):
        own = row | {"doc_id": number, "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {}}}}
        file = tmp_path / f"samples_t{number}_2026-01-02T00-00-00.0.jsonl"
        file.write_text(json.dumps(own) + "\n")
    with open_pool(tmp_path) as pool:
        model = tmp_path.name  # there is no results file that says
        assert pool.models == (model,)
        assert pool.prompts([("t0:0", model), ("t1:1", model)]) == [[user("Say 7")]] * 2
        assert pool.scores_of_part("f1").tolist() == [[0.5], [0.5]]


# Files


ORIENTS: dict[str, Callable[[list[Row]], Any]] = {
    "columns": lambda rows: {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]},
    "index": lambda rows: {str(i): row for i, row in enumerate(rows)},
    "split": lambda rows: {
        "columns": list(rows[0]),
        "index": [*range(6)],
        "data": [list(row.values()) for row in rows],
    },
    "table": lambda rows: {"schema": {"fields": []}, "data": rows},
    "records": lambda rows: rows,
    "data": lambda rows: {"version": "1", "data": rows},
    "lists": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("orient", ORIENTS)
def test_json_documents(orient: str, indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(ORIENTS[orient](crowd()), indent=indent))
    with open_pool(path) as pool:
        is_plain(pool)


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_other_delimiters(sign: str, tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    lines = [sign.join(map(str, row.values())) for row in crowd()]
    path.write_text("\n".join([sign.join(crowd()[0]), *lines]))
    with open_pool(path) as pool:
        is_plain(pool)


@pytest.mark.parametrize(
    ("encoding", "said"), [("latin-1", r"Latin-1\)"), ("gb18030", "another encoding"), ("utf-16", "UTF-16")]
)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_other_encodings_are_named(encoding: str, said: str, kind: str, tmp_path: Path) -> None:
    text = "é" if encoding == "latin-1" else "你好世界"
    path = write(tmp_path, crowd(), kind)
    path.write_bytes(path.read_text().replace("Do 0", f"Do {text} 0").encode(encoding))
    with pytest.raises(InputError, match=f"{said}.*UTF-8") as told:
        open_pool(path)
    command = re.search(r"\((iconv .*)\)$", str(told.value))
    assert command is not None
    if shutil.which("iconv") is not None:
        subprocess.run(command[1].replace("ENCODING", encoding), shell=True, check=True, cwd=tmp_path)
        assert f"Do {text} 0" in (tmp_path / f"utf8-{path.name}").read_text(encoding="utf-8")


@ALL
def test_a_folder_per_model(kind: str, tmp_path: Path) -> None:
    for model in MODELS:
        (tmp_path / f"model={model}").mkdir()
        rows = [{k: v for k, v in row.items() if k != "model"} for row in crowd() if row["model"] == model]
        write(tmp_path / f"model={model}", rows, kind, "part")
    with open_pool(tmp_path) as pool:
        is_plain(pool)


@ALL
def test_a_file_per_model(kind: str, tmp_path: Path) -> None:
    for model in MODELS:
        rows = [{k: v for k, v in row.items() if k != "model"} for row in crowd() if row["model"] == model]
        write(tmp_path, rows, kind, model)
    with open_pool(tmp_path, model_from="file") as pool:
        is_plain(pool)
    with pytest.raises(OptionError, match="`model_from=name` is unknown"):
        open_pool(tmp_path, model_from="name")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    ("said", "more"),
    [
        *((said, {}) for said in ("response", "completion", "messages")),
        *((said, {"scores": {"overall": 0.5, "helpful": 0.25}}) for said in ("response", "completion")),
    ],
)
def test_a_folder_of_files_without_a_model_names_the_way_out(tmp_path, ending, said, more):
    """Also where an object holds the rewards of the one answer: what it names are no models."""
    for model in ("a-1b", "a-3b"):
        rows = []
        for i in range(3):
            asked = {"role": "user", "content": f"Q {i}?"}
            text = f"A {i} {model}"
            answer = {"prompt": f"Q {i}?", said: text}
            if said == "messages":
                answer = {said: [asked, {"role": "assistant", "content": text}]}
            rows.append({"id": f"q{i}", **answer, "score": i / 2, **more})
        file = tmp_path / f"{model}.{ending}"
        if ending == "jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        elif ending == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
        else:
            with file.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                spelt = [
                    {k: v if isinstance(v, str | float) else json.dumps(v) for k, v in row.items()}
                    for row in rows
                ]
                writer.writerows(spelt)
    with pytest.raises(LayoutError, match=r"lacks the model that gave the answers .*`model_from='?file'?`"):
        open_pool(tmp_path)
    with open_pool(tmp_path, model_from="file") as pool:
        assert pool.models == ("a-1b", "a-3b")
        assert set(pool.reward_columns) >= {
            "score",
            *(["scores.overall"] if more and ending != "csv" else []),
        }


@ALL
def test_a_test_split_is_never_read_unasked(kind: str, tmp_path: Path) -> None:
    for split in ("train", "test", "validation"):
        write(tmp_path, crowd(id=lambda i, j, split=split: f"{split}{i}"), kind, split)
    with open_pool(tmp_path) as pool:
        assert pool.ids[0] == "train0"
        assert "only the split train is read, not test, validation" in pool.notes
    with open_pool(tmp_path, split="validation") as pool:
        assert pool.ids[0] == "validation0"
    (tmp_path / f"train.{kind}").unlink()
    with pytest.raises(InputError, match="files of test and validation only, which are not read unasked"):
        open_pool(tmp_path)


def test_the_configurations_of_a_data_set(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write(tmp_path / name, crowd(id=lambda i, j, name=name: f"{name}{i}"), "parquet", "train-0")
    readme = "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: a/train-*\n- config_name: b\n  data_files: b/*\n---\n"
    (tmp_path / "README.md").write_text(readme)
    with pytest.raises(InputError, match="several subsets: a, b; name one with `subset=a`"):
        open_pool(tmp_path)
    with open_pool(tmp_path, subset="b") as pool:
        assert pool.ids[0] == "b0"
    (tmp_path / "README.md").write_text(
        readme.replace("config_name: a\n", "config_name: a\n  default: true\n")
    )
    with open_pool(tmp_path) as pool:
        assert pool.ids[0] == "a0"


@pytest.mark.parametrize("stream", [True, False])
def test_saved_to_disk(stream: bool, tmp_path: Path) -> None:  # noqa: FBT001  (of pytest)
    table = pa.Table.from_pylist(crowd())
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        make = pa.ipc.new_stream if stream else pa.ipc.new_file
        with make(str(tmp_path / split / "data.arrow"), table.schema) as writer:
            writer.write_table(table)
        (tmp_path / split / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": "data.arrow"}]})
        )
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with open_pool(tmp_path) as pool:
        is_plain(pool)
        assert "only the split train is read, not test" in pool.notes
    with open_pool(tmp_path / "test") as pool:
        is_plain(pool)


# Values


@ALL
def test_missing_values(kind: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(score=lambda i, j: -1 if i == j else i), kind), missing=-1) as pool:
        assert np.isnan(pool.scores()).tolist() == [[True, False], [False, True], [False, False]]


def test_rows_are_left_out_of_a_matrix_by_what_they_count(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "row": i, "a": i % 3, "b": i % 2, "total_cost": 0.5, "b_rank": 1} for i in range(12)
    ]
    for kind in ("jsonl", "parquet", "csv"):
        with open_pool(write(tmp_path, rows, kind)) as pool:
            assert pool.models == ("a", "b")
            assert any("total_cost" in note for note in pool.notes)


@ALL
def test_a_text_among_numbers_is_a_malformed_row_where_those_are_left_out(kind: str, tmp_path: Path) -> None:
    rows = crowd(
        score=lambda i, j: i + j if kind == "jsonl" else str(i + j),
        target=lambda i, j: "x" if i == 2 else "7",
    )
    rows[0] |= {"score": "failed"}
    path = write(tmp_path, rows, kind)
    with (
        open_pool(path) as pool,
        pytest.raises(
            RewardError,
            match=r"score is 'failed' .*`skip_invalid=True` leaves such rows out where most are numbers\), or an empty cell; pandas",
        ),
    ):
        pool.scores("score")
    with open_pool(path, skip_invalid=True) as pool:
        scores = pool.scores("score").tolist()
        assert len(scores) == 3
        assert sum(np.isnan(row).sum() for row in scores) == 1
        assert pool.malformed == 1
        assert any(
            "1 of 6 rows is malformed" in n and "score is 'failed', not a number" in n for n in pool.notes
        )
        assert list(pool.column("target")) == ["7", "7", "x"]  # no reward by its name: texts are its values


@ALL
def test_columns_that_are_called_model_and_reward_are_of_the_model(kind: str, tmp_path: Path) -> None:
    for columns in (("a_reward", "b_reward"), ("reward_a", "reward_b"), ("b_score", "a_score")):
        rows = [{"id": f"q{i}", "instruction": f"Do {i}", columns[0]: i, columns[1]: 2 * i} for i in range(3)]
        with open_pool(write(tmp_path, rows, kind)) as pool:
            assert pool.models == ("a", "b")
            own = {
                name.strip("_").replace("reward", "").replace("score", "").strip("_"): name
                for name in columns
            }
            assert pool.scores()[2].tolist() == [rows[2][own["a"]], rows[2][own["b"]]]
    rows = [{"id": "1", "a": "Yes.", "a_score": 0.5, "b": "No.", "b_score": 1}]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models) == ("column pairs", ("a", "b"))
        assert pool.responses([("1", "a"), ("1", "b")]) == ["Yes.", "No."]
        assert pool.scores().tolist() == [[0.5, 1.0]]


@ALL
def test_rows_of_a_matrix_without_an_id_are_numbered(kind: str, tmp_path: Path) -> None:
    rows = [{"row": i, "a": i % 3, "b": i % 2, "total_cost": 0.5} for i in range(12)]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == ("a", "b")
        assert sorted(pool.ids, key=int) == [str(number) for number in range(1, 13)]
        assert pool.scores()[pool.ids.tolist().index("3")].tolist() == [2, 0]
        assert any("the rows are numbered from 1" in note for note in pool.notes)
        assert any("a number of the row: row" in note for note in pool.notes)
    with open_pool(write(tmp_path, [{"prompt": f"Do {i}", "a": i, "b": 1} for i in range(3)], kind)) as pool:
        assert pool.models == ("a", "b")
        assert sorted(pool.instructions()) == ["Do 0", "Do 1", "Do 2"]
        assert not any("numbered" in note for note in pool.notes)


@pytest.mark.parametrize("row", [{"a": 1.0}, {"score": 1.0, "b": 2.0}, {"instruction": "Hi", "score": 0.5}])
def test_a_number_or_a_reward_alone_is_no_matrix_without_an_id(row: Row, tmp_path: Path) -> None:
    with pytest.raises(LayoutError):
        open_pool(write(tmp_path, [row], "jsonl"))


def test_ids_that_are_spelt_otherwise_are_joined(tmp_path: Path) -> None:
    rows = crowd(id=lambda i, j: str(i), score=None)
    rewards = [{"id": f"{i}.0", "model": model, "grade": i} for i in range(3) for model in MODELS]
    second = write(tmp_path, rewards, "jsonl", "rewards")
    with open_pool(write(tmp_path, rows, "jsonl"), rewards=second) as pool:
        assert pool.scores().tolist() == [[0, 0], [1, 1], [2, 2]]
        assert any("only as 3 and 3.0 do" in note for note in pool.notes)


def test_rewards_of_two_turns_are_refused(tmp_path: Path) -> None:
    rows = crowd(id=lambda i, j: i, score=None)
    judged = [
        {"question_id": i, "model": model, "judge": ["gpt-4", "single-v1"], "score": turn, "turn": turn}
        for i in range(3)
        for model in MODELS
        for turn in (1, 2)
    ]
    path = write(tmp_path, rows, "jsonl")
    with (
        open_pool(path, rewards=write(tmp_path, judged, "jsonl", "judged")) as pool,
        pytest.raises(
            InputError, match=r"judged.jsonl: duplicate answer: id '0', .*; keep the rows of one `turn`"
        ),
    ):
        pool.scores("score")
    first = [row for row in judged if row["turn"] == 1]
    with open_pool(path, rewards=write(tmp_path, first, "jsonl", "judged")) as pool:
        assert pool.scores("score").tolist() == [[1, 1]] * 3


@pytest.mark.parametrize("tidy", [True, False])
def test_ids_that_are_one_number_in_two_spellings(tmp_path: Path, *, tidy: bool) -> None:
    """In CSV nobody can tell whether they are two texts; where there are types, texts stay as they are."""
    names = {} if tidy else {"prompt": lambda i, j: f"Do {i % 2}", "instruction": None}
    rows = crowd(id=lambda i, j: ("1", "2", "1.0")[i], **{"instruction": lambda i, j: f"Do {i % 2}", **names})
    path = write(tmp_path, rows, "csv")
    told = r"pool.csv: row 5: the id is 1.0, and 1 in another row, which is one number; write it alike"
    with pytest.raises(InputError, match=told):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert [why is None for why in pool.left_out()] == [False, True]
    for kind in ("jsonl", "parquet"):
        with open_pool(write(tmp_path, rows, kind)) as pool:
            assert pool.ids.tolist() == ["1", "1.0", "2"]


@ALL
def test_numbers_as_ids_are_one_however_they_are_written(kind: str, tmp_path: Path) -> None:
    """Another model's rows lie in another file, whose ids another program wrote."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for j, number in enumerate((int, float)):
        rows = [{**row, "id": number(i // 2)} for i, row in enumerate(crowd()) if i % 2 == j]
        write(folder, rows, kind, f"part{j}")
    with open_pool(folder) as pool:
        assert pool.ids.tolist() == ["0", "1", "2"]
        assert pool.scores().tolist() == [[0, 1], [1, 2], [2, 3]]


def test_a_list_of_ids_in_a_table_means_what_it_says(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": "1.0"}], "csv", "ids")
    assert found_in(read_ids(str(path)), ["1", "1.0"])[0].tolist() == [False, True]
    assert found_in(read_ids(str(path)), ["1", "2"])[0].tolist() == [True, False]


@TYPED
def test_a_column_with_the_name_of_a_value_inside_an_object_stays(kind: str, tmp_path: Path) -> None:
    judge = {"judge": lambda i, j: {"score": 9.0, "rating": float(j)}}
    rows = crowd(score=None, **{"judge.score": lambda i, j: float(i + j)}, **judge)
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.scores("judge.score")[2].tolist() == [2, 3]
        assert pool.scores("judge.rating")[2].tolist() == [0, 1]
        told = "not read: score inside the object judge, since a column is called judge.score"
        assert [note.partition(";")[0] for note in pool.notes if "not read" in note] == [told]


CALLS = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]


def _calling(place: str) -> dict[str, Any]:
    """Columns of answers of which the first model's say something and call a tool, as files have them."""

    def message(i: int, j: int) -> Row:
        return {"role": "assistant", "content": f"a{i}{j}", "tool_calls": None if j else CALLS}

    if place == "message":
        return {"response": message}
    if place == "column":
        return {"tool_calls": lambda i, j: None if j else CALLS}
    columns = {"instruction": None, "messages": lambda i, j: [user(f"Do {i}"), message(i, j)]}
    return columns if place == "both" else {**columns, "response": None}


@ALL
@pytest.mark.parametrize("place", ["message", "messages", "both", "column"])
def test_calls_beside_a_text_are_not_lost(kind: str, place: str, tmp_path: Path) -> None:
    """Nothing here holds both, and the text alone would be another answer."""
    with open_pool(write(tmp_path, crowd(**_calling(place)), kind)) as pool:
        assert answered(pool) == [None, "a01", None, "a11", None, "a21"]
        assert pool.scores()[2].tolist() == [2, 3]
        assert any("3 answers are texts with calls of tools: their rewards count" in n for n in pool.notes)


@pytest.mark.parametrize("calls", [None, [], "", "null"])
def test_no_calls_beside_a_text(calls: Any, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(tool_calls=lambda i, j: calls), "jsonl")) as pool:
        assert answered(pool)[:2] == ["a00", "a01"]


@TYPED
@pytest.mark.parametrize("form", ["ultrafeedback", "zoo", "structs"])
def test_calls_beside_one_of_several_answers(kind: str, form: str, tmp_path: Path) -> None:
    def said(model: str, name: str) -> Row:
        return {"model": model, name: "Hm", "tool_calls": CALLS if model == MODELS[0] else None, "score": 1.0}

    made: dict[str, Row] = {
        "ultrafeedback": {"completions": [said(model, "response") for model in MODELS]},
        "zoo": {model: said(model, "content") for model in MODELS},
        "structs": {"responses": {model: said(model, "text") for model in MODELS}},
    }
    rows = [{"id": f"q{i}", "instruction": f"Do {i}", **made[form]} for i in range(3)]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert answered(pool)[:2] == [None, "Hm"]


@TYPED
@pytest.mark.parametrize("form", ["ultrafeedback", "zoo", "structs", "distilabel", "samples"])
def test_numbers_deeper_inside_answers_are_told(kind: str, form: str, tmp_path: Path) -> None:
    scores, used = {"honest": 1.0}, {"tokens": 3}
    said = {"model": MODELS[0], "score": 1.0, "scores": scores, "usage": used}
    made: dict[str, Row] = {
        "ultrafeedback": {"completions": [{"response": "a", **said}]},
        "zoo": {model: {"content": "a", **said} for model in MODELS},
        "structs": {"responses": {model: {"text": "a", **said} for model in MODELS}},
        "distilabel": {
            "generations": ["a", "b"],
            "generation_models": MODELS,
            "ratings": [1.0, 2.0],
            "scores": [scores] * 2,
        },
        "samples": {
            "model": MODELS[0],
            "generations": ["a", "b"],
            "scores": [scores] * 2,
            "rating": [1.0, 0],
        },
    }
    rows = [{"id": f"q{i}", "instruction": f"Do {i}", **made[form]} for i in range(3)]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert "; not read: scores.honest, inside an object of each answer; a reward" in str(pool.read_as)


def test_chat_markers_are_cut(tmp_path: Path) -> None:
    assert without_markers("Hi <|im_end|>\n</s>") == "Hi"
    assert without_markers("Hi ") == "Hi "
    with open_pool(write(tmp_path, crowd(response="Hi<|eot_id|>"), "jsonl")) as pool:
        chosen = select(pool, Options(budget=2, clusters=0, weights={"difficulty": 1}))
        records = list(training_records(chosen, pool, format="messages"))
        assert {record["messages"][-1]["content"] for record in records} == {"Hi"}


def test_a_prompt_is_made_in_one_place() -> None:
    assert prompt_of(instruction="a", input=" ").instruction == "a"
    assert prompt_of(instruction=" ", input="b").instruction == "b"
    assert prompt_of(system="s").problem == "bad_turns"
    assert prompt_of().instruction is None


def test_one_pool_in_all_forms_gives_one_selection(tmp_path: Path) -> None:
    """The same crowd as rows, lists, objects and columns, in every file type: the same choice and the same training file."""
    n = 12
    text = [[f"a{i}{j}" for j in range(2)] for i in range(n)]
    score = [[float((3 * i + 5 * j) % 7) for j in range(2)] for i in range(n)]
    asked = [f"Do {i}" for i in range(n)]
    forms: dict[str, list[Row]] = {
        "long": [{"id": f"q{i}", "instruction": asked[i], "model": m, "response": text[i][j], "score": score[i][j]} for i in range(n) for j, m in enumerate(MODELS)],
        "names": [{"id": f"q{i}", "prompt": asked[i], "model_name": m, "output": text[i][j], "score": score[i][j]} for i in range(n) for j, m in enumerate(MODELS)],
        "sharegpt": [{"id": f"q{i}", "conversations": [{"from": "human", "value": asked[i]}, {"from": "gpt", "value": text[i][j]}], "model": m, "score": score[i][j]} for i in range(n) for j, m in enumerate(MODELS)],
        "ultrafeedback": [{"id": f"q{i}", "instruction": asked[i], "completions": [{"model": m, "response": text[i][j], "score": score[i][j]} for j, m in enumerate(MODELS)]} for i in range(n)],
        "distilabel": [{"id": f"q{i}", "instruction": asked[i], "generations": text[i], "model_names": list(MODELS), "score": None, "scores": score[i]} for i in range(n)],
        "zoo": [{"id": f"q{i}", "instruction": asked[i], **{m: {"content": text[i][j], "score": score[i][j]} for j, m in enumerate(MODELS)}} for i in range(n)],
        "structs": [{"id": f"q{i}", "question": asked[i], "responses": dict(zip(MODELS, text[i], strict=True)), "scores": dict(zip(MODELS, score[i], strict=True))} for i in range(n)],
        "pairs": [{"id": f"q{i}", "query": asked[i], **{f"response_{m}": text[i][j] for j, m in enumerate(MODELS)}, **{f"score_{m}": score[i][j] for j, m in enumerate(MODELS)}} for i in range(n)],
    }  # fmt: skip
    found = []
    for name, rows in forms.items():
        for kind in ("jsonl", "parquet", "csv"):
            if kind == "csv" and name in {"ultrafeedback", "zoo", "structs"}:
                continue
            with open_pool(write(tmp_path, rows, kind, f"{name}-pool")) as pool:
                chosen = select(
                    pool, Options(budget=4, clusters=2, weights={"difficulty": 1, "separability": 1})
                )
                records = list(training_records(chosen, pool, format="messages"))
                found.append((name, kind, chosen.table.to_pylist(), records))
    for name, kind, rows, records in found[1:]:
        assert (rows, records) == found[0][2:], (name, kind)


def test_rows_keep_their_order_whatever_is_asked_of_them() -> None:
    listed = ", ".join(f"'{n}'" for n in range(20))
    with connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT n::VARCHAR AS x FROM range(9) AS r(n)")
        ((_, plan),) = connection.execute(
            f"EXPLAIN SELECT CASE WHEN x IN ({listed}) THEN 1 END FROM t"
        ).fetchall()
    assert "join" not in plan.casefold()


@pytest.mark.parametrize(
    "text", ["['a', " + "[" * 100_000 + "1, 'b']", "['a', " + "-" * 100_000 + "1, 'b']", "['a'] + ['b']"]
)
def test_a_prompt_that_only_looks_like_a_list_stays_as_it_is(text):
    assert unlisted(text) == text
    assert unlisted("['a', 'b']") == "a\nb"


def test_answers_without_prompts_are_told_where_these_are_missing(tmp_path: Path) -> None:
    rows = [
        {"session_id": f"{i:016x}", "turn": 1, "generator": m, "output": "x", "score": i, "strengths": "s"}
        for i in range(3)
        for m in MODELS
    ]
    joined = (
        "no column is known to hold the prompts; if they are in another file, join the two by session_id (pandas: "
        "pd.merge(ANSWERS, PROMPTS, on='session_id')), or read the rewards without texts with `columns='id=session_id'`"
    )
    path = write(tmp_path, rows, "parquet")
    with pytest.raises(LayoutError) as caught:
        open_pool(path)
    other = "; if one of strengths holds them, name the column with `columns='instruction=COLUMN'`"
    assert str(caught.value).endswith(joined + other)
    with open_pool(path, columns={"id": "session_id"}) as pool:
        assert (len(pool.ids), pool.scores().tolist()) == (3, [[i] * len(MODELS) for i in range(3)])
    bare = [{name: value for name, value in row.items() if name != "strengths"} for row in rows]
    with pytest.raises(LayoutError) as caught:
        open_pool(write(tmp_path, bare, "parquet"))
    assert str(caught.value).endswith(joined)
    nameless = [{name: value for name, value in row.items() if name != "session_id"} for row in rows]
    with pytest.raises(LayoutError, match=r"; name the column with `columns='instruction=COLUMN'`$"):
        open_pool(write(tmp_path, nameless, "parquet"))


ID_TEXTS = {
    "hex": lambda i: f"{i:04x}39103a10b54043",
    "uuid": lambda i: f"6739103A-10b5-4043-8c1e-00000000{i:04d}",
    "numbers": lambda i: str(1000 + i),
}


@pytest.mark.parametrize("texts", ID_TEXTS)
def test_instructions_that_are_ids_are_warned_of(run: Any, texts: str, tmp_path: Path) -> None:
    from crowdselect.engine.here import run_here

    rows = [
        {"session_id": ID_TEXTS[texts](i), "generator": m, "output": f"x{i} {m}", "score": i + j}
        for i in range(4)
        for j, m in enumerate(MODELS)
    ]
    folder = tmp_path / "pool"
    folder.mkdir()
    for part in (0, 1):
        write(folder, rows[part * len(rows) // 2 : (part + 1) * len(rows) // 2], "parquet", f"part-{part}")
    named = ("--columns", "instruction=session_id")
    chosen = ("--budget", 2, "--clusters", 0, "--weights", "difficulty=1", "-o", tmp_path / "out")
    told = "4 of the 4 instructions look like ids"
    for ran in (run("inspect", folder, *named), run("select", folder, *named, *chosen)):
        assert " ".join((ran.out + ran.err).split()).count(told) == 1
    options = Options(budget=2, clusters=0, weights={"difficulty": 1})
    with open_pool(folder, columns={"instruction": "session_id"}) as pool:
        assert [told in line for line in select(pool, options, run=run_here).warnings].count(True) == 1


@pytest.mark.parametrize(
    "texts",
    [
        ("猫", "日本の首都は", "写一首诗"),
        ("Hello", "hi", "deface"),
        ("12 + 7", "x=3", "1/7"),
        ("7", "a b", "8"),
    ],
)
def test_short_prompts_are_no_ids(texts: tuple[str, ...], tmp_path: Path) -> None:
    rows = crowd(instruction=lambda i, _: texts[i])
    with open_pool(write(tmp_path, rows, "parquet")) as pool:
        assert not any("look like ids" in line for line in inspect_pool(pool)["warnings"])
