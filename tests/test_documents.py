"""JSON documents whose rows lie in a list inside, as evaluation tools write them, and logs of inspect_ai."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crowdselect import open_pool
from crowdselect.errors import CrowdselectError, InputError
from crowdselect.selection.benchmarks import read_questions

Row = dict[str, Any]
MODELS = ("qwen-1b", "qwen-7b")
INDENTS = pytest.mark.parametrize("indent", [None, 2], ids=["one line", "indented"])


def rows_of(model: str) -> list[Row]:
    return [
        {"question": f"Do {i}", "answer": f"{model} {i}", "score": i + len(model) % 3, "by": model}
        for i in range(4)
    ]


def both() -> list[Row]:
    return [row for model in MODELS for row in rows_of(model)]


def written(path: Path, value: object, indent: int | None = 2) -> Path:
    path.write_text(json.dumps(value, indent=indent), encoding="utf-8")
    return path


# The rows in a list inside


@INDENTS
def test_rows_in_a_list_inside_an_object_are_read(indent: int | None, tmp_path: Path) -> None:
    around = {"version": 3, "prompts": [{"raw": "{{question}}"}], "results": both(), "stats": {"passed": 5}}
    path = written(
        tmp_path / "run.json", {"evalId": "e-1", "results": around, "config": {"by": "me"}}, indent
    )
    with open_pool(path, columns={"model": "by", "response": "answer"}) as pool:
        assert (pool.models, len(pool.ids), pool.reward_columns) == (MODELS, 4, ("score",))
        said = pool.responses([(id_, "qwen-7b") for id_ in pool.ids])
        assert set(said) == {f"qwen-7b {i}" for i in range(4)}
        told = "the rows of 'results.results' are read; left out: results.prompts; what stands around them is in every row: config.by"
        assert told in pool.notes


@INDENTS
def test_the_model_of_a_run_stands_beside_its_rows(indent: int | None, tmp_path: Path) -> None:
    for model in MODELS:
        rows = [{name: value for name, value in row.items() if name != "by"} for row in rows_of(model)]
        run = {"run": {"setup": {"model": model}, "mean": len(model)}, "rows": rows}
        written(tmp_path / f"{model}.json", run, indent)
        written(
            tmp_path / f"top-{model}.json", {"model": model, "prompt": "{{question}}", "found": rows}, indent
        )
    for files, columns in (("qwen*", {"model": "run.setup.model"}), ("top*", {})):
        with open_pool(f"{tmp_path}/{files}.json", columns={**columns, "response": "answer"}) as pool:
            assert (pool.models, len(pool.ids), pool.reward_columns) == (MODELS, 4, ("score",))


def test_a_model_beside_the_rows_is_not_theirs_where_they_name_their_own(tmp_path: Path) -> None:
    rows = [{"generator" if name == "by" else name: said for name, said in row.items()} for row in both()]
    path = written(tmp_path / "run.json", {"model": "a-judge", "results": rows})
    with open_pool(path) as pool:
        assert pool.models == MODELS


def test_an_object_over_several_lines_that_holds_no_rows_is_a_row(tmp_path: Path) -> None:
    answers = [{"model": model, "response": f"{model} says", "score": 0.5} for model in MODELS]
    row = {"prompt": "Name a prime.", "completions": answers}
    for name, text in (
        ("one.json", json.dumps(row, indent=1)),
        ("two.json", "\n".join(json.dumps({**row, "prompt": f"Do {i}"}, indent=1) for i in range(2))),
    ):
        (tmp_path / name).write_text(text)
        with open_pool(tmp_path / name) as pool:
            assert (pool.models, len(pool.ids)) == (MODELS, 1 + (name == "two.json"))


@INDENTS
@pytest.mark.parametrize("name", ["answers", "data"])
def test_a_document_that_holds_the_named_prompt_is_a_row(
    name: str, indent: int | None, tmp_path: Path
) -> None:
    answers = [{"model": model, "text": f"{model} says", "score": len(model)} for model in MODELS]
    path = written(tmp_path / "one.json", {"task": {"text": "Name a prime."}, name: answers}, indent)
    with open_pool(path, columns={"instruction": "task.text", "completions": name}) as pool:
        assert pool.instructions().tolist() == ["Name a prime."]
        assert pool.models == MODELS
        assert not any("the rows of" in note for note in pool.notes)


@INDENTS
def test_the_named_prompt_tells_which_list_holds_the_rows(indent: int | None, tmp_path: Path) -> None:
    """Also where the document has a field of that name, or is a table by columns."""
    runs = [{"task": f"Do {i}", "model": model, "output": "Done"} for i in range(2) for model in MODELS]
    document = {"task": "sums", "runs": runs, "examples_shown": [{"question": "Do 7"}]}
    with open_pool(written(tmp_path / "run.json", document, indent), columns={"instruction": "task"}) as pool:
        assert pool.instructions().tolist() == ["Do 0", "Do 1"]
    table = {name: [row[name] for row in runs] for name in runs[0]}
    with open_pool(written(tmp_path / "table.json", table, indent), columns={"instruction": "task"}) as pool:
        assert pool.instructions().tolist() == ["Do 0", "Do 1"]


@pytest.mark.extra
def test_several_lists_that_may_be_the_rows_are_told_with_a_line_that_writes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(
        tmp_path / "runs.json", {"first": {"rows": both()}, "second": {"rows": both()[:6]}, "n": 2}
    )
    with pytest.raises(
        InputError, match=r"may be the rows: first\.rows, second\.rows; pandas writes"
    ) as error:
        open_pool(path)
    monkeypatch.chdir(tmp_path)
    exec(f"import pandas as pd; {str(error.value).partition('pool.jsonl: ')[2]}", {})
    with open_pool("pool.jsonl", columns={"model": "by", "response": "answer"}) as pool:
        assert (pool.models, len(pool.ids)) == (MODELS, 4)


def test_a_document_that_was_cut_is_told_as_one(tmp_path: Path) -> None:
    path = written(tmp_path / "run.json", {"results": both()})
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"run\.json: not JSON \(.*line \d+.*it may have been cut"):
        open_pool(path)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "3",
        '"a"',
        '{"columns": ["a", ["b"]], "data": [[1, 2]]}',
        '{"columns": ["a", "b"], "data": [3]}',
    ],
)
def test_a_document_that_is_no_table_is_refused_in_a_line(text: str, tmp_path: Path) -> None:
    for name in ("d.json", "d.jsonl"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(CrowdselectError, match=name):
            open_pool(str(tmp_path / name))


def test_a_table_by_columns_whose_cells_are_lists_stays_one(tmp_path: Path) -> None:
    cell = [{"model": model, "response": model, "score": 1} for model in MODELS]
    table = {"prompt": {"0": "Do 0", "1": "Do 1"}, "completions": {"0": cell, "1": cell}}
    with open_pool(written(tmp_path / "table.json", table)) as pool:
        assert (pool.layout, len(pool.ids), pool.models) == ("ultrafeedback", 2, MODELS)


# inspect_ai


def sample(number: int, value: Any, *, epoch: int = 1, **more: Any) -> Row:
    """A sample as inspect_ai writes it, with a system prompt and a template around the input."""
    said = f"It is {number}."
    message = {"role": "assistant", "content": said, "source": "generate"}
    return {
        "id": number,
        "epoch": epoch,
        "input": f"What is {number}?",
        "target": str(number),
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Solve: What is {number}?", "source": "input"},
            message,
        ],
        "output": {"choices": [{"message": message, "stop_reason": "stop"}], "completion": said},
        "scores": {"match": {"value": value, "answer": str(number), "explanation": said}},
        "metadata": {"level": 5, "rating": 7},
        **more,
    }


def log(
    model: str, samples: list[Row], *, created: str = "2026-01-01", status: str = "success", epochs: int = 1
) -> Row:
    head = {"created": created, "task": "sums", "model": model, "config": {"epochs": epochs}}
    scorers = [{"name": "match", "metrics": {"accuracy": {"value": 0.5}}}]
    steps = [{"solver": "system_message"}, {"solver": "generate"}]
    return {
        "version": 2,
        "status": status,
        "eval": head,
        "plan": {"steps": steps},
        "results": {"scores": scorers},
        "samples": samples,
    }


@INDENTS
def test_logs_of_inspect_are_a_crowd(indent: int | None, tmp_path: Path, run: Callable[..., Any]) -> None:
    """The letters count as inspect_ai counts them; a failed sample is no answer and has no reward, and no 0 either."""
    failed = sample(3, "C", error={"message": "529"}, output={"choices": [], "completion": ""}, scores=None)
    failed["messages"] = [{"role": "user", "content": "What is 3?"}]  # before the system prompt came in
    written(tmp_path / "1.json", log("openai/a", [sample(i, v) for i, v in enumerate("CPIN")]), indent)
    written(tmp_path / "2.json", log("vllm/b", [*(sample(i, 1 - i / 4) for i in range(3)), failed]), indent)
    with open_pool(tmp_path) as pool:
        assert pool.models == ("openai/a", "vllm/b")
        assert pool.ids.tolist() == [f"sums:{i}" for i in range(4)]
        expected: list[list[float]] = [[1, 1], [0.5, 0.75], [0, 0.5], [0, np.nan]]
        assert np.array_equal(pool.scores("scores.match"), expected, equal_nan=True)
        assert pool.reward_columns == ("scores.match",)
        asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Solve: What is 1?"}]
        assert pool.prompts([("sums:1", "openai/a")]) == [asked]
        assert pool.responses([("sums:1", "vllm/b"), ("sums:3", "vllm/b")]) == ["It is 1.", None]
        assert [turns[0]["role"] for turns in pool.prompts([("sums:3", model) for model in pool.models])] == [
            "system"
        ] * 2
        assert pool.evaluations == ("sums",)
        assert pool.values_of("target", ["sums:2"]) == ["2"]
    seen = run("inspect", tmp_path)
    assert "logs of inspect_ai: C = 1, P = 0.5, I and N = 0" in seen.out
    assert "note: 1 samples ended with an error: they are failed answers" in seen.err


@pytest.mark.parametrize(
    "odd",
    [
        {"output": {"choices": [None], "completion": "It is 1."}},
        {"output": "It is 1."},
        {"scores": ["C"]},
        {"input": ["What is 1?"], "messages": None},
        {"messages": "What is 1?"},
    ],
)
def test_a_log_of_inspect_of_another_form_ends_in_no_traceback(
    odd: Row, tmp_path: Path, run: Callable[..., Any]
) -> None:
    samples = [sample(0, "C"), sample(1, "I"), sample(2, "C") | odd]
    for model in ("a", "b"):
        written(tmp_path / f"{model}.json", log(model, samples))
    run("inspect", tmp_path)
    with open_pool(tmp_path, skip_invalid=True) as pool:
        assert pool.models == ("a", "b")
        assert pool.scores("scores.match")[:2].tolist() == [[1, 1], [0, 0]]


def test_questions_of_inspect_are_kept_out_of_another_choice(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    path = written(logs / "1.json", log("m/a", [sample(i, "C") for i in range(3)]))
    for place in (logs, path):
        assert next((each.id, each.texts) for each in read_questions(str(place))) == (
            "sums:0",
            ("system: Be brief.\n\nuser: Solve: What is 0?",),
        )


def test_one_run_of_a_task_with_a_model_counts(tmp_path: Path) -> None:
    good, bad = [sample(0, "C"), sample(1, "I")], [sample(0, "I")]
    written(tmp_path / "1.json", log("m/a", bad, created="2026-01-03", status="error"))
    written(tmp_path / "2.json", log("m/a", good, created="2026-01-02"))
    written(tmp_path / "3.json", log("m/a", bad, created="2026-01-01"))
    written(tmp_path / "4.json", log("m/b", bad, status="cancelled"))
    written(tmp_path / "logs.json", {"files": ["1.json"]})
    with open_pool(tmp_path) as pool:
        expected: list[list[float]] = [[1, 0], [0, np.nan]]
        assert np.array_equal(pool.scores("scores.match"), expected, equal_nan=True)
        notes = "\n".join(pool.notes)
    assert "model counts: 1.json (m/a, error), 3.json (m/a, success)" in notes
    assert "the run of m/b in 4.json did not succeed (cancelled): it may lack samples" in notes
    assert "left out, no logs: logs.json" in notes


def test_epochs_are_samples_and_scorers_are_rewards(tmp_path: Path) -> None:
    epochs = [sample(0, value, epoch=at + 1) for at, value in enumerate("CCI")]
    for each in epochs:
        each["scores"]["judge"] = {"value": {"clear": 4, "kind": 2}}
    written(tmp_path / "1.json", log("m/a", epochs, epochs=3))
    with open_pool(tmp_path / "1.json") as pool:
        assert pool.reward_columns == ("scores.match", "scores.judge.clear", "scores.judge.kind")
        assert pool.scores_of_part("scores.match").tolist() == [[pytest.approx(2 / 3)]]
        assert pool.responses([("sums:0", "m/a")], [3.0]) == ["It is 0."]


def test_the_prompt_of_an_agent_ends_before_its_first_turn(tmp_path: Path) -> None:
    """Its answer to it was a call: the reward counts, and there is no text to train on."""
    call = {
        "role": "assistant",
        "content": "",
        "source": "generate",
        "tool_calls": [{"function": "sum", "arguments": {}}],
    }
    one = sample(0, "C")
    one["messages"][2:2] = [call, {"role": "tool", "content": "0"}]
    shown = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1", "source": "input"}]
    two = sample(1, "I")
    two["messages"][1:1] = shown
    written(tmp_path / "1.json", log("m/a", [one, two]))
    with open_pool(tmp_path / "1.json") as pool:
        assert pool.scores_of_part("scores.match").tolist() == [[1], [0]]
        assert pool.responses([("sums:0", "m/a"), ("sums:1", "m/a")]) == [None, "It is 1."]
        assert [len(turns) for turns in pool.prompts([("sums:0", "m/a"), ("sums:1", "m/a")])] == [2, 4]
        notes = "\n".join(pool.notes)
    assert "1 answers came after other turns of the model" in notes
    assert "1 answer is calls of tools without a text" in notes


def test_logs_in_another_format_are_told_with_what_makes_json_of_them(tmp_path: Path) -> None:
    (tmp_path / "run.eval").write_bytes(b"PK\3\4")
    for path in (tmp_path, tmp_path / "run.eval"):
        with pytest.raises(InputError, match=r"inspect log convert LOGS --to json --output-dir logs-json"):
            open_pool(path)


# What a row holds in objects and lists inside


def test_a_whole_conversation_is_read_before_a_text_in_it(tmp_path: Path, run: Callable[..., Any]) -> None:
    """As promptfoo has them: what was sent is the JSON of a chat, and the bare question lies beside it."""

    def row(number: int, model: str) -> Row:
        chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Do {number}"}]
        return {
            "id": f"{number}{model}",
            "prompt": {"raw": json.dumps(chat, indent=2), "label": "prompts/chat.json"},
            "provider": {"id": f"openai:{model}", "label": ""},
            "response": {"output": f"{model} {number}"},
            "score": number / 2,
            "testCase": {"vars": {"question": f"Do {number}"}},
        }

    rows = [row(number, model) for number in range(3) for model in MODELS]
    prompts = [{"raw": "[]", "provider": model} for model in MODELS]
    written(
        tmp_path / "pf.json", {"evalId": "e", "results": {"version": 3, "prompts": prompts, "results": rows}}
    )
    line = "instruction=prompt.raw,model=provider.id,response=response.output,id="
    with open_pool(tmp_path / "pf.json") as pool:
        assert pool.models == ("openai:qwen-1b", "openai:qwen-7b")
        assert pool.prompts([(pool.ids[0], pool.models[0])])[0][0] == {
            "role": "system",
            "content": "Be brief.",
        }
    bare = line.replace("prompt.raw", "testCase.vars.question")
    assert (
        "name it with --columns instruction=prompt.raw"
        in run("inspect", tmp_path / "pf.json", "--columns", bare).err
    )


PANDAS = "import pandas as pd; "


def rated(number: int, model: str, ratings: list[int | None]) -> Row:
    """A task of a full export of Label Studio, as many annotators saw it; None = one skipped it."""
    data = {"prompt": f"Do {number}", "model": model, "response": f"{model} {number}"}
    shown = [
        {
            "id": at,
            "was_cancelled": rating is None,
            "lead_time": 8.5,
            "result": []
            if rating is None
            else [
                {"type": "choices", "from_name": "kind", "value": {"choices": ["maths"]}},
                {"type": "rating", "from_name": "good", "value": {"rating": rating}},
            ],
        }
        for at, rating in enumerate(ratings)
    ]
    counts = {
        "total_annotations": len(ratings),
        "cancelled_annotations": ratings.count(None),
        "comment_count": number,
    }
    return {"id": number, "data": data, "annotations": shown, "project": 3, "allow_skip": True, **counts}


@pytest.mark.extra
def test_ratings_of_label_studio_are_told_with_the_line_that_makes_their_mean(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [
        rated(0, "qwen-1b", [2, 3]),
        rated(0, "qwen-7b", [5, None]),
        rated(1, "qwen-1b", [None]),
        rated(1, "qwen-7b", [4]),
    ]
    path = written(tmp_path / "project-1.json", tasks, None)
    named = "instruction=data.prompt,model=data.model,response=data.response"
    run("inspect", path).refuses(f"name them with --columns {named},reward=annotations")
    seen = run("inspect", path, "--columns", f"{named},id=")
    assert "annotations holds ratings in lists" in seen.err
    assert (
        "cancelled_annotations, comment_count"
        in seen.err.partition("no rewards unless --reward names them")[2]
    )
    assert "crowdselect reward" in seen.out
    refused = run("inspect", path, "--columns", f"{named},reward=annotations")
    monkeypatch.chdir(tmp_path)
    exec(PANDAS + refused.err.partition("with reward=reward in --columns: ")[2], {})
    again = run("inspect", "pool.jsonl")
    again.refuses(f"name them with --columns {named}")
    assert "reward=annotations" not in again.err  # the mean is there
    run("inspect", "pool.jsonl", "--columns", f"{named},reward=annotations").refuses("annotations is a list")
    columns = dict(part.split("=") for part in f"{named},reward=reward,id=data.prompt".split(","))
    with open_pool("pool.jsonl", columns=columns) as pool:
        assert np.array_equal(pool.scores("reward"), np.array([[2.5, 5], [np.nan, 4]]), equal_nan=True)


@pytest.mark.extra
@pytest.mark.parametrize(("files", "inside"), [(1, False), (2, False), (2, True)])
def test_letters_of_a_scorer_are_told_with_the_line_that_makes_numbers_of_them(
    files: int,
    inside: bool,  # noqa: FBT001  (of pytest)
    tmp_path: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for at in range(files):
        rows = [
            {"prompt": f"Do {at}", "model": model, "output": "x", "scores": {"match": {"value": letter}}}
            for model, letter in zip(MODELS, "CI", strict=True)
        ]
        if inside:
            written(folder / f"{at}.json", {"run": {"rows": rows, "n": 1}})
        else:
            (folder / f"{at}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = run("inspect", folder, "--columns", "reward=scores.match.value")
    refused.refuses("scores.match.value is 'C', not a number", "C = 1, P = 0.5, I and N = 0")
    monkeypatch.chdir(tmp_path)
    exec(PANDAS + refused.err.partition("with reward=reward in --columns: ")[2], {})
    with open_pool("pool.jsonl", columns={"reward": "reward"}) as pool:
        assert pool.scores("reward").tolist() == [[1, 0]] * files
