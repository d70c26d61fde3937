"""Files that almost fit: names in other cases, spelt lists, numbers that are no models, folders of splits; each with the right value."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowds import ALL, MODELS, TYPED, Row, answered, crowd, is_plain, user, write
from crowdselect import open_pool
from crowdselect.errors import InputError, LayoutError, OptionError, RewardError
from crowdselect.pool.rowfiles import listed

# Names


@ALL
def test_names_in_another_case(kind: str, tmp_path: Path) -> None:
    names = {"id": "ID", "instruction": "Prompt", "model": "Model", "response": " Response", "score": "Score"}
    rows = [{names[name]: value for name, value in row.items()} for row in crowd()]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        is_plain(pool)
        assert "Prompt is taken for the instruction" in str(pool.read_as)


@ALL
def test_a_reward_of_another_name_beside_numbers(kind: str, tmp_path: Path) -> None:
    rows = crowd(
        score=None,
        n=lambda i, j: float(i + j),
        other=lambda i, j: float(i * j),
        more=lambda i, j: float(i - j),
    )
    with pytest.raises(RewardError, match="several reward columns: n, other, more"):
        open_pool(write(tmp_path, rows, kind)).scores()
    with open_pool(write(tmp_path, rows, kind), columns={"score": "n"}) as pool:
        assert pool.reward_name(None) == "score"
        is_plain(pool)


@ALL
def test_a_sample_index_is_the_number_of_a_sample(kind: str, tmp_path: Path) -> None:
    rows = [{**row, "sample_idx": s, "response": f"{row['response']}{s}"} for row in crowd() for s in (1, 0)]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.reward_columns == ("score",)
        assert pool.responses([("q0", "m-1b")] * 2, [0.0, 1.0]) == ["a000", "a001"]


@ALL
def test_scores_alone_have_other_ids(kind: str, tmp_path: Path) -> None:
    rows = [
        {"question_id": i, "prompt": f"Do {i}", "m-1b": 0.5, "m-7b": i / 4, "m-7b_cost": 3.0}
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.ids.tolist(), pool.models) == (["0", "1", "2"], MODELS)
        assert pool.scores().tolist() == [[0.5, 0], [0.5, 0.25], [0.5, 0.5]]


@ALL
@pytest.mark.parametrize("name", ["id", "ID", "uuid"])
def test_an_id_of_each_answer_is_not_that_of_the_instruction(
    name: str, kind: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    others = {name: lambda i, j: f"conversation {i}-{j}", **({"id": None} if name != "id" else {})}
    path = write(tmp_path, crowd(**others), kind)
    choice = (
        "select",
        path,
        "--budget",
        2,
        "--clusters",
        0,
        "--weights",
        "difficulty=1",
        "-o",
        tmp_path / "out",
    )
    said = "but 3 repeat the text of another: the id seems to differ from answer to answer; --columns id= makes it of the text"
    assert said in run("inspect", path).err
    run(*choice).refuses("6 too_few_rewards; no instruction has rewards of two models, " + said)
    assert "--columns id=" not in run("inspect", path, "--columns", "id=").err
    assert run(*choice, "--columns", "id=").code == 0
    made = write(tmp_path, crowd(id=None), kind, "made")
    with open_pool(path, columns={"id": ""}) as pool, open_pool(made) as usual:
        assert pool.ids.tolist() == usual.ids.tolist()
        assert pool.scores().tolist() == usual.scores().tolist()
        assert answered(pool) == answered(usual)
        assert "an id is the hash (md5) of the instruction" in pool.notes
    with pytest.raises(OptionError, match="names no column for model; only the id may have none"):
        open_pool(path, columns={"model": ""})


@ALL
@pytest.mark.parametrize("name", ["instruction", "prompt"])
def test_ids_of_whole_numbers_are_written_so(
    name: str, kind: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    """However the file is read, and in files beside it."""
    other = {name: lambda i, j: f"Do {i}", "instruction": None} if name != "instruction" else {}
    path = write(tmp_path, crowd(id=lambda i, j: float(i + 9), **other), kind)
    with open_pool(path) as pool:
        assert (pool.ids.tolist(), list(pool.instructions())) == (["10", "11", "9"], ["Do 1", "Do 2", "Do 0"])
    beside = write(tmp_path, [{"id": i + 9.0, "mine": float(i)} for i in range(3)], kind, "beside")
    weights = ("--weights", "mine=1", "--metrics", beside, "--budget", 1, "--clusters", 0)
    assert run("select", path, *weights, "--exclude", beside, "-o", tmp_path / "none").code != 0
    listed = tmp_path / "ids.txt"
    listed.write_text("11.0\n")
    ran = run("select", path, *weights, "--exclude", listed, "-o", tmp_path / "out")
    assert (ran.code, "not in the pool" in ran.err) == (0, False)
    assert json.loads((tmp_path / "out" / "train.jsonl").read_text().splitlines()[0])["id"] == "10"


@ALL
def test_ids_that_are_other_numbers_or_texts_stay(kind: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(id=lambda i, j: i + 0.5), kind)) as pool:
        assert pool.ids.tolist() == ["0.5", "1.5", "2.5"]
    with open_pool(write(tmp_path, crowd(id=lambda i, j: ("1.0", "v1.0", "20")[i]), kind)) as pool:
        assert pool.ids.tolist() == ["1.0", "20", "v1.0"]


@TYPED
def test_an_id_that_no_row_has_is_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"p.{kind}"
    if kind == "parquet":
        text = pa.schema(
            [(n, pa.string()) for n in ("id", "question", "model", "output")] + [("score", pa.float64())]
        )
        rows = [{**row, "id": None} for row in _renamed()]
        pq.write_table(pa.Table.from_pylist(rows, text), path)
    else:
        write(tmp_path, [{**row, "id": None} for row in _renamed()], kind, "p")
    with open_pool(path) as pool:
        assert sorted(pool.instructions()) == ["Do 0", "Do 1", "Do 2"]
        assert all(len(id_) == 32 for id_ in pool.ids)


def _renamed() -> list[Row]:
    names = {"instruction": "question", "response": "output"}
    return [{names.get(name, name): value for name, value in row.items()} for row in crowd()]


# Answers and prompts


@ALL
def test_messages_hold_the_answers_of_a_named_model(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"Do {i}"},
                {"from": "gpt", "value": f"<think>t</think>a{i}"},
            ]
        }
        for i in range(3)
    ]
    path = write(tmp_path, rows, kind)
    with pytest.raises(LayoutError, match="lacks the model that gave the answers in 'conversations'"):
        open_pool(path)
    with open_pool(path, model="m-1b") as pool:
        assert sorted(zip(pool.instructions(), answered(pool), strict=True)) == [
            (f"Do {i}", f"a{i}") for i in range(3)
        ]


@ALL
def test_samples_in_objects_keep_their_rewards(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{i}",
            "question": f"Do {i}",
            "model": m,
            "outputs": [{"text": "x", "score": 0.0}, {"text": "y", "score": 1.0}],
        }
        for i in range(2)
        for m in MODELS
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.scores().tolist() == [[0.5, 0.5]] * 2
        assert pool.responses([("q0", "m-1b")] * 2, [0.0, 1.0]) == ["x", "y"]


@TYPED
def test_samples_of_each_model_in_an_object(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"Do {i}",
            "responses": {m: ["x", "y"] for m in MODELS},
            "scores": {m: [0, 1] for m in MODELS},
        }
        for i in range(2)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.sampled
        assert pool.scores().tolist() == [[0.5, 0.5]] * 2
        assert pool.responses([("q0", "m-7b")] * 2, [0.0, 1.0]) == ["x", "y"]
    rows[1]["scores"]["m-7b"] = [1]
    with pytest.raises(
        InputError, match="row 2: samples of m-7b are not as many everywhere: the text 2, score 1"
    ):
        open_pool(write(tmp_path, rows, kind))


@ALL
def test_models_named_beside_their_answers(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{i}",
            "prompt": "P",
            "model_a": MODELS[i],
            "model_b": MODELS[1 - i],
            "response_a": "x",
            "response_b": "y",
            "score_a": 1,
            "score_b": 2,
        }
        for i in range(2)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == MODELS
        assert pool.scores().tolist() == [[1, 2], [2, 1]]
        assert answered(pool) == ["x", "y", "y", "x"]


@ALL
def test_numbers_are_no_names_of_models(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": "P", "response_1": "x", "score_1": 1, "response_2": "y", "score_2": 2}]
    with pytest.raises(LayoutError, match="lacks the model that gave the answers in 'response_1'"):
        open_pool(write(tmp_path, rows, kind))
    with open_pool(write(tmp_path, rows, kind), model="m") as pool:
        assert pool.responses([(pool.ids[0], "m")] * 2, [0.0, 1.0]) == ["x", "y"]


@ALL
def test_a_system_prompt_of_one_row_of_an_id(kind: str, tmp_path: Path) -> None:
    rows = crowd(system=lambda i, j: "Be brief." if j else "")
    with open_pool(write(tmp_path, rows, kind)) as pool:
        system = {"role": "system", "content": "Be brief."}
        assert pool.prompts([("q0", "m-1b"), ("q0", "m-7b")]) == [[user("Do 0")], [system, user("Do 0")]]


def test_answers_of_routerbench_are_spelt_as_its_prompts(tmp_path: Path) -> None:
    def row(prompt: str) -> Row:
        answers = {f"{m}|model_response": "['x']" for m in MODELS}
        return {"sample_id": prompt, "prompt": prompt, **dict.fromkeys(MODELS, 1.0), **answers}

    with open_pool(write(tmp_path, [row("['P']"), row("Write a list.")], "csv")) as pool:
        found = dict(zip(pool.instructions(), [answered(pool)[0], answered(pool)[2]], strict=True))
    assert found == {"P": "x", "Write a list.": "['x']"}


def test_an_answer_in_an_object_of_arena_hard(tmp_path: Path) -> None:
    rows = [
        {
            "uid": str(i),
            "model": m,
            "messages": [user(f"Do {i}"), {"role": "assistant", "content": {"answer": "x"}}],
        }
        for i in range(2)
        for m in MODELS
    ]
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert (len(pool.ids), answered(pool)) == (2, ["x"] * 4)


@ALL
@pytest.mark.parametrize("id_", [True, False])
def test_lists_of_answers_models_and_rewards_of_other_names(kind: str, id_: bool, tmp_path: Path) -> None:  # noqa: FBT001  (of pytest)
    rows = [
        {
            **({"id": f"q{i}"} if id_ else {}),
            "prompt": f"Do {i}",
            "completions": ["x", "y"],
            "generators": [*MODELS],
            "rm_scores": [0.5, 1.5],
            "best_idx": 1,
        }
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models, answered(pool)) == ("distilabel", MODELS, ["x", "y"] * 3)
        assert pool.scores().tolist() == [[0.5, 1.5]] * 3
        assert "completions, their models in generators, rewards in rm_scores;" in str(pool.read_as)


@ALL
@pytest.mark.parametrize("columns", [{}, {"generations": "said", "model_names": "by", "marks": "given"}])
def test_rewards_fewer_than_the_answers(kind: str, columns: dict[str, str], tmp_path: Path) -> None:
    """However the list of rewards got its name."""
    names = ("said", "by", "given") if columns else ("generations", "model_names", "rm_scores")
    rows = [
        {"instruction": f"Do {i}", **dict(zip(names, (["x", "y"], [*MODELS], [0.5] * (2 - i)), strict=True))}
        for i in range(2)
    ]
    path = write(tmp_path, rows, kind)
    with pytest.raises(InputError, match=f"row 2: {names[2]} has 1 values for 2 answers; 1 of 2 rows"):
        open_pool(path, columns=columns)
    with open_pool(path, columns=columns, skip_invalid=True) as pool:
        assert pool.malformed == 1
        assert np.nan_to_num(pool.scores(), nan=-1).tolist() in (
            [[0.5, 0.5], [-1, -1]],
            [[-1, -1], [0.5, 0.5]],
        )


# Lists and objects that are written as texts


def test_lists_as_numpy_prints_them() -> None:
    texts = ["a b", "it's", "q\"x'\n"]
    assert listed(str(np.array(texts, dtype=object))) == texts
    assert listed(str(np.array([0.5, np.nan, 2]))) == [0.5, None, 2.0]
    assert listed(str(np.array([True, False]))) == [True, False]
    assert listed("[sic erat]") == "[sic erat]"


@ALL
def test_lists_that_are_written_as_texts(kind: str, tmp_path: Path) -> None:
    """As JSON, Python and NumPy write them."""
    rows = [
        {
            "instruction": f"Do {i}",
            "generations": (json.dumps, str, lambda x: str(np.array(x, dtype=object)))[i](["x y", "z"]),
            "model_names": str(list(MODELS)),
            "ratings": "[0.5 1.5]",
        }
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models, answered(pool)) == ("distilabel", MODELS, ["x y", "z"] * 3)
        assert pool.scores().tolist() == [[0.5, 1.5]] * 3


@ALL
def test_objects_that_are_written_as_texts(kind: str, tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "prompt": "P", "pass_rate": json.dumps({"a-1b": 0.5, "a-7b": i / 4})}
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models) == ("pass rates", ("a-1b", "a-7b"))
        assert pool.scores().tolist() == [[0.5, 0], [0.5, 0.25], [0.5, 0.5]]


@ALL
@pytest.mark.parametrize("name", ["messages", "prompt"])
def test_messages_as_python_writes_them(name: str, kind: str, tmp_path: Path) -> None:
    rows = crowd(instruction=None, **{name: lambda i, j: str([user(f"Do {i}")])})
    with open_pool(write(tmp_path, rows, kind)) as pool:
        is_plain(pool)


# What is no model, and no reward


@ALL
@pytest.mark.parametrize("text", ["instruction", "prompt"])
def test_a_number_of_the_row_is_no_model(text: str, kind: str, tmp_path: Path) -> None:
    rows = [{"id": f"q{i:02}", text: f"Do {i}", "row": i, "m-1b": 0.5, "m-7b": i / 16} for i in range(12)]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == MODELS
        assert "left out, a number of the row: row" in pool.notes


@ALL
def test_a_second_index_of_pandas_is_no_model(kind: str, tmp_path: Path) -> None:
    rows = [
        {"Unnamed: 0.1": i * 2, "Unnamed: 0": i, "id": f"q{i}", "instruction": "P", "m-1b": 0.5, "m-7b": 1.5}
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == MODELS


@ALL
def test_a_reward_is_no_model(kind: str, tmp_path: Path) -> None:
    """One conversation per row and what it is worth, whoever led it."""
    rows = [{"id": f"q{i}", "conversations": [user("Hi")], "reward": 0.5, "difficulty": 3} for i in range(3)]
    with pytest.raises(LayoutError, match="closest is the layout long, which lacks the model"):
        open_pool(write(tmp_path, rows, kind))


@TYPED
def test_an_object_about_the_row_is_no_model(kind: str, tmp_path: Path) -> None:
    """A row of verl's files."""
    rows = [{"data_source": "d", "prompt": [user("P")], "extra_info": {"index": i, "n": 3}} for i in range(3)]
    with pytest.raises(
        LayoutError, match="closest is the layout long, which lacks the answers and the models"
    ):
        open_pool(write(tmp_path, rows, kind))


def _exported(form: str) -> list[Row]:
    """What Label Studio exports: the row that was annotated, and counters about it."""
    answers = {
        "answers": [{"model": m, "text": f"{m} says", "rating": j + 0.5} for j, m in enumerate(MODELS)]
    }
    one = {"model": MODELS[0], "response": f"{MODELS[0]} says"}
    return [
        {
            "id": 100 + i,
            "data": {"prompt": f"Do {i}", **(answers if form == "ultrafeedback" else one)},
            "annotations": [{"id": i, "result": [{"value": {"rating": 3}}], "lead_time": 1.5}],
            "project": 3,
            "total_annotations": 2 + i,
            "updated_by": 1,
            "is_labeled": True,
        }
        for i in range(3)
    ]


@TYPED
@pytest.mark.parametrize(
    ("form", "named"),
    [
        ("ultrafeedback", "instruction=data.prompt,completions=data.answers"),
        ("long", "instruction=data.prompt,model=data.model,response=data.response"),
    ],
)
def test_counters_beside_what_lies_in_objects_are_no_models(
    form: str, named: str, kind: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = write(tmp_path, _exported(form), kind)
    run("inspect", path).refuses(
        f"closest is the layout {form}, with its parts inside other columns (data.prompt, data.",
        f"; name them with --columns {named}",
    )
    assert run("inspect", path, "--columns", named).code == 0


@TYPED
def test_lists_inside_objects_are_told(kind: str, tmp_path: Path) -> None:
    lists = {"responses": ["x", "y"], "models": [*MODELS], "scores": [1, 2]}
    rows = [
        {"id": i, "data": {**lists, "talk": [user(f"Do {i}")]}, "votes": 1, "queue": i * 2} for i in range(3)
    ]
    path = write(tmp_path, rows, kind)
    named = "messages=data.talk,generations=data.responses,model_names=data.models,ratings=data.scores"
    with pytest.raises(
        LayoutError, match=f"closest is the layout distilabel, .*; name them with `columns='{named}'"
    ):
        open_pool(path)
    with open_pool(path, columns=dict(part.split("=") for part in named.split(","))) as pool:
        assert (pool.instructions()[0], pool.models, answered(pool)) == ("Do 0", MODELS, ["x", "y"] * 3)
        assert pool.scores().tolist() == [[1, 2]] * 3


@TYPED
def test_objects_of_unknown_names_are_told(kind: str, tmp_path: Path) -> None:
    rows = [{"id": i, "project": 3, "data": {"ask": f"Do {i}", "a": "x", "b": "y"}} for i in range(3)]
    with pytest.raises(
        LayoutError, match=r"response=COLUMN'` \(or what is inside one, as data\.ask\); known"
    ):
        open_pool(write(tmp_path, rows, kind))


@ALL
def test_parts_inside_objects_are_named_by_their_path(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, _exported("ultrafeedback"), kind)
    columns = {"instruction": "data.prompt", "completions": "data.answers", "id": "data.prompt"}
    with open_pool(path, columns=columns) as pool:
        assert (pool.layout, pool.models, pool.reward_columns) == ("ultrafeedback", MODELS, ("rating",))
        assert (pool.ids.tolist(), answered(pool)[:2]) == (
            ["Do 0", "Do 1", "Do 2"],
            ["m-1b says", "m-7b says"],
        )
        assert pool.scores().tolist() == [[0.5, 1.5]] * 3
    with pytest.raises(LayoutError, match=r"no column 'data\.question' for instruction; found id, data,"):
        open_pool(path, columns={**columns, "instruction": "data.question"})


@TYPED
def test_the_path_of_a_part_may_hold_dots(kind: str, tmp_path: Path) -> None:
    rows = crowd(instruction=None, **{"v1.0": lambda i, j: {"x.y": {"ask": f"Do {i}"}, "mark": i - j}})
    path = write(tmp_path, rows, kind)
    with open_pool(path, columns={"instruction": "v1.0.x.y.ask", "extra": "v1.0.mark"}) as pool:
        is_plain(pool)
        assert pool.scores("extra")[2].tolist() == [2, 1]


@TYPED
def test_a_list_that_names_models_beside_numbers_is_told(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"Do {i}",
            "outs": [{"model": m, "text": "x"} for m in MODELS],
            "a": 1,
            "b": i,
        }
        for i in range(3)
    ]
    path = write(tmp_path, rows, kind)
    told = r"other columns \(outs\); .*; if the scores of models are in a, b, open it with `layout='matrix'`; .* `columns='completions=outs'`"
    with pytest.raises(LayoutError, match=told):
        open_pool(path)
    with open_pool(path, columns={"completions": "outs"}) as pool:
        assert (pool.models, answered(pool)) == (MODELS, ["x"] * 6)
    with open_pool(path, layout="matrix") as pool:
        assert pool.models == ("a", "b")


@ALL
@pytest.mark.parametrize(
    "name", ["project", "total_votes", "num_turns", "n_tokens", "vote_count", "best_idx"]
)
@pytest.mark.parametrize("more", [{}, {"said": ["x", "y"]}], ids=["alone", "beside a list"])
def test_a_number_about_a_row_is_no_model(name: str, more: Row, kind: str, tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "prompt": f"Do {i}", name: i % 2, **more} for i in range(3)]
    with pytest.raises(LayoutError, match="lacks the answers and the models that gave them"):
        open_pool(write(tmp_path, rows, kind))
    with open_pool(
        write(tmp_path, [{**row, "m-1b": 0.5, "m-7b": i / 4} for i, row in enumerate(rows)], kind)
    ) as pool:
        assert pool.models == MODELS


def _scored(name: str, *values: Any) -> list[Row]:
    """A table of the scores of two models, with another column."""
    return [
        {"id": f"q{i}", "prompt": f"Do {i}", "m-1b": i % 3, "m-7b": i % 5, name: values[i % len(values)]}
        for i in range(20)
    ]


@TYPED
def test_examples_that_name_models_beside_numbers_are_told_the_matrix_first(
    kind: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = write(tmp_path, _scored("history", [{"model": "a", "content": "b"}]), kind)
    run("inspect", path).refuses(
        "closest is the layout matrix, with what may be answers inside other columns (history)",
        "if the scores of models are in m-1b, m-7b, open it with --layout matrix; if their answers are in history, with "
        "--columns completions=history",
    )
    assert run("inspect", path, "--layout", "matrix").code == 0


@ALL
@pytest.mark.parametrize("name", ["chapter", "gemini"])
def test_a_text_in_a_column_that_may_be_a_model_leaves_no_model_out(
    name: str, kind: str, tmp_path: Path
) -> None:
    rows = _scored(name, *map(str, range(6)))
    rows[4][name] = "error"
    path = write(tmp_path, rows, kind)
    with pytest.raises(
        InputError, match=f"row 5: {name} is 'error'.* delete the column if {name} is no model"
    ):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert set(pool.models) == {*MODELS, name}
        assert f"some values of {name} are texts" in str(pool.read_as)


@ALL
def test_texts_in_a_column_that_may_be_a_model_are_told_where_they_are_left_out(
    kind: str, tmp_path: Path
) -> None:
    rows = [
        {"oak" if name == "m-1b" else name: str(value) for name, value in row.items()}
        for row in _scored("ash", 1, 2, 3)
    ]
    rows[4]["ash"] = "intro"
    path = write(tmp_path, rows, kind)
    with pytest.raises(InputError, match=r"row 5: ash is 'intro'.* delete the column if ash is no model"):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert (pool.models, pool.malformed) == (("ash", "m-7b", "oak"), 1)
        assert "columns (some values of ash are texts)" in str(pool.read_as)


@ALL
@pytest.mark.parametrize("layout", [None, "matrix"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rating", ["PG-13", "12", "R"]),
        ("rating", ["A", "B"]),
        ("reward_type", ["rule", "model"]),
        ("score_scale", ["0-10", "1/5"]),
    ],
)
def test_a_text_named_like_a_score_of_no_model_is_a_column(
    name: str, values: list[str], layout: str | None, kind: str, tmp_path: Path
) -> None:
    with open_pool(write(tmp_path, _scored(name, *values), kind), layout=layout) as pool:
        assert (pool.models, pool.usual_reward) == (MODELS, "score")
        assert f"no model: {name} (its values are texts)" in str(pool.read_as)
        assert set(pool.column(name)) == set(values)


@ALL
@pytest.mark.parametrize("name", ["m-7b score", "score: m-3b"])
def test_a_text_named_as_the_scores_of_models_are_is_told(name: str, kind: str, tmp_path: Path) -> None:
    rows = [
        {f"score: {n}" if name == "score: m-3b" and n in MODELS else n: value for n, value in row.items()}
        for row in _scored(name, "4/5", "3/5")
    ]
    with pytest.raises(LayoutError, match=f"row 1: {name} is '4/5'; the scores are texts"):
        open_pool(write(tmp_path, rows, kind))


ODD = ("Time-MoE", "gpt-4-version", "n_gram_lm", "olmo-step")
"""Models whose names are those of counts and efforts."""


@ALL
@pytest.mark.parametrize("others", [MODELS, ()])
@pytest.mark.parametrize("form", ["{}", "{}_score"])
def test_models_that_the_crowd_file_names_are_models_whatever_their_names(
    form: str, others: tuple[str, ...], kind: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    names = (*others, *ODD)
    rows = [
        {"id": f"q{i}", "instruction": f"Do {i}", "total_votes": i % 3}
        | {form.format(name): (i * 3 + j * 5) % 7 for j, name in enumerate(names)}
        for i in range(12)
    ]
    path, crowd_file = write(tmp_path, rows, kind), tmp_path / "crowd.toml"
    crowd_file.write_text("".join(f'[[model]]\nname = "{name}"\n' for name in names))
    choice = ("--budget", 2, "--clusters", 0, "--weights", "difficulty=1", "-o")
    found = json.loads(run("inspect", path, "--crowd", crowd_file, "--json").out)
    assert sorted(model["name"] for model in found["crowd"]) == sorted(names)
    ran = run("select", path, "--crowd", crowd_file, *choice, tmp_path / "out")
    assert f"12 instructions x {len(names)} models" in ran.out
    if form == "{}":
        hint = "a crowd file (--crowd) that names a column of numbers makes it a model"
        without = run("select", path, *choice, tmp_path / "without")
        said = " ".join((without.out + without.err).split())
        assert hint in said
        assert all(name in said for name in ODD)


@TYPED
def test_one_number_beside_a_list_is_no_crowd(kind: str, tmp_path: Path) -> None:
    """Whatever its name."""
    rows = [{"id": f"q{i}", "prompt": f"Do {i}", "pick": i % 2, "said": ["x", "y"]} for i in range(3)]
    path = write(tmp_path, rows, kind)
    with pytest.raises(LayoutError, match="lacks the answers and the models that gave them"):
        open_pool(path)
    with open_pool(path, layout="matrix") as pool:
        assert pool.models == ("pick",)


@ALL
def test_a_number_of_a_row_is_no_reward_of_its_answers(kind: str, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"P{i}", "n": 3, "answers": [{"model": m, "answer": "x", "rank": 1.0} for m in MODELS]}
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.reward_columns == ("rank",)
        with pytest.raises(
            RewardError, match="no column has the name of a reward: rank; name the one to use"
        ):
            pool.scores()


@ALL
@pytest.mark.parametrize("value", ["-", "0,5", "85%"])
def test_a_reward_that_is_hardly_a_number(value: str, kind: str, tmp_path: Path) -> None:
    """Another number of the row is not taken instead."""
    rows = crowd(score=lambda i, j: value if (i, j) == (1, 0) else str(i), turns=2, weight=0.5)
    with (
        open_pool(write(tmp_path, rows, kind)) as pool,
        pytest.raises(RewardError, match=f"score is '{value}' at id 'q1'"),
    ):
        pool.scores()


@ALL
@pytest.mark.parametrize("layout", ["matrix", "long"])
def test_an_instruction_that_is_not_understood_is_told(layout: str, kind: str, tmp_path: Path) -> None:
    if layout == "long":
        rows = crowd(instruction=None, asked=lambda i, j: f"Tell me a joke about {i}")
    else:
        rows = [
            {"id": f"q{i}", "asked": f"Tell me a joke about {i}", "m-1b": 0.5, "m-7b": 1.5} for i in range(3)
        ]
    path = write(tmp_path, rows, kind)
    with pytest.raises(LayoutError, match=r"'asked' may be one; name it with `columns='instruction=asked'`"):
        open_pool(path)
    with open_pool(path, columns={"instruction": "asked"}) as pool:
        assert pool.instructions()[2] == "Tell me a joke about 2"


def test_bytes_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    rows = [{**row, "picture": b"\xff", "file": {"bytes": b"\xfe", "path": "x"}} for row in crowd()]
    path = write(tmp_path, rows + rows[:1], "parquet")
    with open_pool(path) as pool:
        assert pool.scores()[2].tolist() == [2, 3]


@TYPED
def test_pairs_beside_a_crowd(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "instruction": "P",
            "chosen": "x",
            "rejected": "y",
            "generations": ["x", "y"],
            "generation_models": list(MODELS),
            "ratings": [1, 2],
        }
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.models, answered(pool)) == (MODELS, ["x", "y"])


# Folders and documents


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_folders_of_splits_and_models(kind: str, tmp_path: Path) -> None:
    """A model's name says nothing of the split."""
    for split in ("train", "test"):
        for j, model in enumerate(("eval-1b", "test-7b")):
            place = tmp_path / f"split={split}" / f"model={model}"
            place.mkdir(parents=True)
            write(place, [{**row, "id": f"{split}-{row['id']}"} for row in crowd(model=None)[j::2]], kind)
    with open_pool(tmp_path) as pool:
        assert pool.models == ("eval-1b", "test-7b")
        assert pool.ids.tolist() == ["train-q0", "train-q1", "train-q2"]
        assert "only the split train is read, not test" in pool.notes


def test_a_folder_named_by_a_model_that_the_rows_name(tmp_path: Path) -> None:
    for j, model in enumerate(MODELS):
        (tmp_path / f"model=x{j}").mkdir()
        write(tmp_path / f"model=x{j}", [row for row in crowd() if row["model"] == model], "jsonl")
    with open_pool(tmp_path) as pool:
        is_plain(pool)
        assert pool.notes == []


def test_splits_of_the_hub_by_the_names_of_shards(tmp_path: Path) -> None:
    for split in ("train_sft", "train_gen", "test_sft"):
        write(
            tmp_path,
            [{**row, "id": f"{split}-{row['id']}"} for row in crowd()],
            "parquet",
            f"{split}-00000-of-00001",
        )
    with pytest.raises(InputError, match="several splits are train; found test_sft, train_gen, train_sft"):
        open_pool(tmp_path)
    with open_pool(tmp_path, split="train_gen") as pool:
        assert pool.ids.tolist() == [f"train_gen-q{i}" for i in range(3)]
    with open_pool(tmp_path, split="test") as pool:
        assert pool.ids[0] == "test_sft-q0"


def test_tables_by_the_names_of_rows(tmp_path: Path) -> None:
    rows = crowd()
    by_name = tmp_path / "rows.json"
    by_name.write_text(json.dumps({f"{row['id']} {row['model']}": row for row in rows}))
    with open_pool(by_name) as pool:
        is_plain(pool)
    by_model = tmp_path / "columns.json"
    by_model.write_text(json.dumps({m: {f"q{i}": i + j for i in range(3)} for j, m in enumerate(MODELS)}))
    with open_pool(by_model) as pool:
        assert (pool.ids.tolist(), pool.models) == (["q0", "q1", "q2"], MODELS)
        assert pool.scores()[2].tolist() == [2, 3]
    table = tmp_path / "table.json"
    fields = [{"name": "index", "type": "integer"}]
    data = [{"index": at, **row} for at, row in enumerate(rows)]
    table.write_text(json.dumps({"schema": {"fields": fields, "primaryKey": ["index"]}, "data": data}))
    with open_pool(table) as pool:
        is_plain(pool)
        assert pool.reward_columns == ("score",)


def test_a_feather_file_is_arrow(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(crowd())
    with pa.OSFile(str(tmp_path / "p.feather"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with open_pool(tmp_path / "p.feather") as pool:
        is_plain(pool)


# Conversations


@ALL
def test_reasoning_of_the_last_message_stands_apart(kind: str, tmp_path: Path) -> None:
    def messages(i: int, j: int) -> list[Row]:
        return [
            {**user(f"Do {i}"), "reasoning_content": None},
            {"role": "assistant", "content": f"a{i}{j}", "reasoning_content": "Hm"},
        ]

    rows = crowd(instruction=None, response=None, messages=messages)
    with open_pool(write(tmp_path, rows, kind)) as pool:
        is_plain(pool)
        assert pool.exported([("q0", "m-1b")]) == ["<think>\nHm\n</think>\n\na00"]


@ALL
def test_the_history_of_alpaca_is_part_of_the_prompt(kind: str, tmp_path: Path) -> None:
    rows = crowd(input="now", history=lambda i, j: [["Hi", "Hello"]] if i == 0 else [])
    with open_pool(write(tmp_path, rows, kind)) as pool:
        turns = [user("Hi"), {"role": "assistant", "content": "Hello"}, user("Do 0\nnow")]
        assert pool.asked(["q0", "q1"]) == [turns, [user("Do 1\nnow")]]


# Rows that contradict each other


@TYPED
def test_one_id_of_two_rows_is_left_out(kind: str, tmp_path: Path) -> None:
    """Whichever of the two stands first."""
    rows = [
        {"id": f"q{i % 3}", "prompt": f"Do {i}", "generations": ["x", "y"], "model_names": [*MODELS]}
        for i in range(4)
    ]
    for turned in (rows, rows[::-1]):
        with open_pool(write(tmp_path, turned, kind), skip_invalid=True) as pool:
            reasons = [str(why).partition(":")[0] for why in pool.left_out()]
            assert reasons == ["malformed", "None", "None"]


@ALL
def test_one_id_of_two_instructions_is_left_out(kind: str, tmp_path: Path) -> None:
    rows = crowd(instruction=lambda i, j: f"Do {i if (i, j) != (1, 1) else 7}")
    path = write(tmp_path, rows, kind)
    told = "instruction differs within id 'q1': .*; give each .*; `columns='id='` makes the id of the text"
    with pytest.raises(InputError, match=told):
        open_pool(path).instructions()
    with open_pool(path, columns={"id": ""}) as pool:
        assert len(pool.ids) == 4
    with open_pool(path, skip_invalid=True) as pool:
        assert [str(why).partition(":")[0] for why in pool.left_out()] == ["None", "malformed", "None"]


def test_a_line_that_is_no_json_is_not_called_an_instruction_without_text(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = write(tmp_path, crowd(), "jsonl")
    with path.open("a") as file:
        file.write('{"id": "q9", "instru')
    assert (
        "instructions   4 (1 malformed, 0 without text, 0 repeat another)"
        in run("inspect", path, "--skip-invalid").out
    )
    write(tmp_path, crowd(), "jsonl")
    assert "instructions   3 (0 without text, 0 repeat another)" in run("inspect", path, "--skip-invalid").out


# Values inside objects, and rows that are no CSV


@TYPED
def test_rewards_in_an_object_beside_an_answer(kind: str, tmp_path: Path) -> None:
    rows = crowd(score=None, scores=lambda i, j: {"helpful": float(i + j), "safe": 1.0})
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.reward_columns == ("scores.helpful", "scores.safe")
        assert pool.scores("scores.helpful")[2].tolist() == [2, 3]


@TYPED
def test_the_right_answer_of_verl_is_a_column(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [user(f"P{i}")],
            "reward_model": {"ground_truth": str(i), "style": "rule"},
            "extra_info": {"difficulty": {"a-1b": i, "a-7b": 0}},
        }
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        found = dict(zip(pool.instructions(), pool.column("ground_truth"), strict=True))
    assert found == {"P0": "0", "P1": "1", "P2": "2"}


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_quote_that_does_not_end_its_field(kind: str, tmp_path: Path) -> None:
    """Its text is not read without its quotation marks."""
    sign = "," if kind == "csv" else "\t"
    rows = [sign.join(map(str, row.values())) for row in crowd(response=lambda i, j: 'a "b" c')]
    rows[1] = rows[1].replace('a "b"', '"b" a')
    path = tmp_path / f"p.{kind}"
    path.write_text("\n".join([sign.join(crowd()[0]), *rows]))
    with pytest.raises(InputError, match=r"row 2 cannot be read as CSV: .* 1 of 6 rows is malformed"):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert pool.malformed == 1
        assert pool.responses([("q0", "m-1b"), ("q2", "m-7b")]) == ['a "b" c'] * 2


@TYPED
def test_a_call_as_it_was_before_tools(kind: str, tmp_path: Path) -> None:
    call = {"name": "f", "arguments": "{}"}
    turns = [
        user("Hi"),
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "42"},
    ]
    with open_pool(write(tmp_path, crowd(instruction=None, messages=turns), kind)) as pool:
        asked = pool.asked(["q0"])[0]
        assert [turn["role"] for turn in asked] == ["user", "assistant", "tool"]
        assert asked[1]["tool_calls"] == [{"type": "function", "function": call}]
        assert set(pool.needs()) == {"tools"}


# Objects of numbers that are no models


@TYPED
@pytest.mark.parametrize(
    "held",
    [
        {"request_counts": {"total": 9, "failed": 1}, "status": "done"},
        {"sampling": {"n": 4, "temperature": 0.9, "top_p": 0.95}},
        {"decoding": {"max_new": 64, "penalty": 1.5}, "hardware": {"gpus": 8, "hours": 2.5}},
        {"tag": {"roberta-large": {"flagged": False, "probability": 0.02}}},
        {"info": {"score": {"correct": True, "rating": 4}}},
        {"oak-7b": {"score": 0.5}},  # one object alone may be of anything
        {"oak-7b": {"score": 0.5}, "elm-2b": {"tokens": 12}},
        {"message": {"role": "assistant", "content": "Two."}},
        {"generation_rate": {"only": 0.5}},
    ],
)
def test_objects_of_numbers_are_models_only_with_evidence(held: Row, kind: str, tmp_path: Path) -> None:
    for rows in (
        [{"id": f"q{i}", **held} for i in range(3)],
        [{"id": f"q{i}", "prompt": f"P{i}", **held} for i in range(3)],
    ):
        with pytest.raises(LayoutError):
            open_pool(write(tmp_path, rows, kind))


@TYPED
def test_settings_beside_objects_of_models_are_no_model(kind: str, tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"P{i}",
            "oak-7b": {"rating": i, "tokens": 3},
            "elm-2b": {"rating": 2 * i, "tokens": 4},
            "sampling": {"n": 4, "seed": i},
        }
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models, pool.usual_reward) == ("zoo", ("elm-2b", "oak-7b"), "rating")
        assert pool.scores().tolist() == [[0, 0], [2, 1], [4, 2]]


@TYPED
@pytest.mark.parametrize("names", [("policy",), ("policy_model",), ("policy", "model_name")])
def test_samples_of_a_policy(names: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    """`policy` is the model where no usual name is there."""
    rows = [
        {
            "prompt_idx": i,
            "prompt": f"P{i}",
            **{name: model if name == names[-1] else "be kind" for name in names},
            "sampling": {"n": 2, "temperature": 0.9},
            "outputs": [f"x{i}", f"y{i}"],
            "rm_scores": [float(i), float(j)],
            "best_idx": int(j > i),
        }
        for i in range(3)
        for j, model in enumerate(MODELS)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models, pool.likely_rewards) == ("samples", MODELS, ("rm_scores",))
        assert sorted(pool.scores().tolist()) == [[i / 2, (i + 1) / 2] for i in range(3)]
    nameless = [{name: value for name, value in row.items() if name not in names} for row in rows]
    with pytest.raises(
        LayoutError, match=r"lacks the model that gave the answers in 'outputs'; .*columns='model=COLUMN'"
    ):
        open_pool(write(tmp_path, nameless, kind))


@TYPED
@pytest.mark.parametrize(
    ("policies", "samples", "listed"),
    [
        (("sft", "dpo"), 3, False),
        (("oak-7b",), 3, False),
        (("oak-7b",), 1, True),
        (("oak-7b", "elm-2b"), 2, True),
    ],
    ids=["several samples of each", "of one model", "in a list", "in lists, each of other prompts"],
)
def test_a_policy_is_the_model_as_a_column_of_that_name_is(
    policies: tuple[str, ...],
    samples: int,
    listed: bool,  # noqa: FBT001  (of pytest)
    kind: str,
    tmp_path: Path,
) -> None:
    rows: list[Row] = [
        {"prompt": f"P{i}", "policy": policy, "output": f"x{i}{policy}{k}", "score": float(i + k)}
        for i in range(6)
        for policy in policies
        for k in range(samples)
    ]
    if listed:
        rows = [
            {
                "prompt": f"P{i}",
                "policy": policies[i % len(policies)],
                "outputs": ["a", "b"],
                "scores": [0.0, float(i)],
            }
            for i in range(6)
        ]
    named = [{"model" if name == "policy" else name: value for name, value in row.items()} for row in rows]
    found = []
    for name, each in (("policy", rows), ("model", named)):
        (tmp_path / name).mkdir()
        with open_pool(write(tmp_path / name, each, kind)) as pool:
            reward = "scores" if listed else "score"
            found.append(
                (
                    pool.layout,
                    pool.models,
                    pool.ids.tolist(),
                    np.nan_to_num(pool.scores_of_part(reward), nan=-9).tolist(),
                )
            )
    assert found[0] == found[1]
    assert found[0][1] == tuple(sorted(policies))


def test_a_policy_is_no_model_where_the_model_is_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"P{i}", "policy": "Be kind.", "output": "x", "score": float(i)} for i in range(3)]
    with open_pool(write(tmp_path, rows, "jsonl"), model="oak-7b") as pool:
        assert (pool.models, list(pool.column("policy"))) == (("oak-7b",), ["Be kind."] * 3)


@TYPED
@pytest.mark.parametrize("several", [True, False])
def test_a_label_called_policy_is_no_model(several: bool, kind: str, tmp_path: Path) -> None:  # noqa: FBT001  (of pytest)
    """It repeats among the answers to a prompt, or there is one alone to each; models tell these apart."""
    rows = [
        {"prompt": f"P{i}", "policy": ("safe", "unsafe")[i % 2], "output": f"x{i}{j}", "score": float(i + j)}
        for i in range(6)
        for j in range(1 + several)
    ]
    path = write(tmp_path, rows, kind)
    told = "lacks the model that gave the answers in 'output'; .*; policy is not taken for it, since it does not tell apart"
    with pytest.raises(LayoutError, match=told):
        open_pool(path)
    with open_pool(path, columns={"model": "policy"}) as pool:
        assert pool.models == ("safe", "unsafe")
