"""The results of promptfoo, read as they are: what was sent, whose answers, scores and variables, in every form that it writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crowdselect import open_pool
from crowdselect.errors import InputError, LayoutError
from crowdselect.selection.benchmarks import read_questions

Row = dict[str, Any]
PROVIDERS = (("openai:gpt-4o", ""), ("ollama:chat:qwen:7b", "local"))
TEMPLATE = "Translate the question into French. Do not answer it.\n\nQuestion: "


def result(test: int, column: int, provider: Row | str, **more: Any) -> Row:
    return {
        "id": f"r{test}-{column}",
        "promptIdx": column,
        "testIdx": test,
        "promptId": "p",
        "prompt": {"raw": f"{TEMPLATE}Where is place {test}?", "label": "p"},
        "provider": provider,
        "vars": {"question": f"Where is place {test}?", "topic": "ab"[test % 2], "level": test},
        "testCase": {"vars": {"question": f"Where is place {test}?"}, "assert": [{"type": "llm-rubric"}]},
        "response": {"output": f"Answer {test} {column}", "finishReason": "stop", "cached": False},
        "score": (test + column) / 8,
        "success": test > 2,
        "namedScores": {"tone": column / 2, "facts": test / 8},
        "gradingResult": {"pass": test > 2, "score": (test + column) / 8, "reason": "So"},
        "failureReason": 0,
        "metadata": {"source": {"x": 1}},
    } | more


def results(tests: int = 6, **more: Any) -> list[Row]:
    named = [{"id": id_, "label": label} for id_, label in PROVIDERS]
    return [result(test, at, each, **more) for test in range(tests) for at, each in enumerate(named)]


def document(path: Path, rows: list[Row]) -> Path:
    prompts = [{"raw": "{{question}}", "provider": name} for name, _ in PROVIDERS]
    inner = {"version": 3, "prompts": prompts, "results": rows, "stats": {"successes": 1}}
    path.write_text(json.dumps({"evalId": "e", "results": inner, "config": {"tests": [{"vars": {}}]}}))
    return path


def lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def older(path: Path, rows: list[Row]) -> Path:
    """Version 2: rows without indices, and a table that holds them once more."""
    own = (
        {n: v for n, v in row.items() if n not in {"id", "testIdx", "promptIdx", "testCase"}} for row in rows
    )
    table = {
        "head": {"prompts": [{"raw": "x"}], "vars": []},
        "body": [{"outputs": [{"prompt": "x"}], "vars": []}],
    }
    path.write_text(json.dumps({"results": {"version": 2, "results": list(own), "table": table}}))
    return path


def oldest(path: Path, rows: list[Row]) -> Path:
    path.write_text(json.dumps({"version": 1, "results": rows, "stats": {}}))
    return path


def array(path: Path, rows: list[Row]) -> Path:
    path.write_text(json.dumps(rows, indent=1))
    return path


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (document, "out.json"),
        (lines, "out.jsonl"),
        (older, "out.json"),
        (oldest, "out.json"),
        (array, "out.json"),
    ],
)
def test_results_are_read_as_they_are(write: Callable[..., Path], name: str, tmp_path: Path) -> None:
    rows = results()
    names = {0: "openai:gpt-4o", 1: "local"}
    with open_pool(write(tmp_path / name, rows)) as pool:
        assert (sorted(pool.models), len(pool.ids)) == (sorted(names.values()), 6)
        prompts = pool.prompts([(id_, "local") for id_ in pool.ids])
        ids = {turns[0]["content"]: id_ for turns, id_ in zip(prompts, pool.ids, strict=True)}
        cells = [(ids[row["prompt"]["raw"]], names[row["promptIdx"]]) for row in rows]
        assert pool.responses(cells) == [row["response"]["output"] for row in rows]
        for reward, of in {
            "score": lambda row: row["score"],
            "namedScores.tone": lambda row: row["namedScores"]["tone"],
            "namedScores.facts": lambda row: row["namedScores"]["facts"],
        }.items():
            found = pool.scores(reward)
            assert [found[list(pool.ids).index(i), pool.models.index(m)] for i, m in cells] == list(
                map(of, rows)
            )


def test_it_says_how_and_what_is_left_out(tmp_path: Path, run: Callable[..., Any]) -> None:
    path = document(tmp_path / "out.json", results(vars={"topic": "a", "docs": ["x"], "score": "high"}))
    told = run("inspect", path)
    assert told.code == 0
    assert "results of promptfoo: one answer per row; provider.name is the label" in told.out
    assert "prompt.raw is taken for instruction" in told.out
    assert "left out, beside the results: config, prompts, stats" in told.err
    assert "left out of promptfoo's results: testCase, gradingResult, metadata, vars.docs" in told.err
    columns = next(line for line in told.out.splitlines() if line.startswith("columns"))
    assert columns.endswith(" topic, vars.score")
    assert "gradingResult.score" not in told.out


def test_variables_choose_spread_and_keep(tmp_path: Path, run: Callable[..., Any]) -> None:
    path, out = document(tmp_path / "out.json", results(12)), tmp_path / "chosen"
    common = ("--weights", "difficulty=1", "--overwrite", "-o", out)
    for options in (
        ("--budget", "4", "--quota", "topic=equal"),
        ("--budget", "4", "--cluster-by", "topic"),
        ("--budget", "2", "--clusters", "0", "--keep", "level=9..11"),
        ("--budget", "4", "--columns", "subject=vars.topic", "--cluster-by", "subject"),
    ):
        assert run("select", path, *common, *options).code == 0
    chosen = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert all(row["messages"][0]["content"].startswith(TEMPLATE) for row in chosen)
    with pytest.raises(LayoutError, match=r"vars\.missing"), open_pool(path, columns={"x": "vars.missing"}):
        pass
    with pytest.raises(InputError, match="not a number"), open_pool(path, columns={"reward": "vars.topic"}):
        pass


def test_variables_that_are_called_as_scores_are_no_rewards(tmp_path: Path, run: Callable[..., Any]) -> None:
    rows = [
        row | {"vars": {"rating": row["testIdx"] % 5, "Score": row["testIdx"], "correct": row["testIdx"] > 2}}
        for row in results(12)
    ]
    told = run("inspect", document(tmp_path / "out.json", rows))
    assert "score is used unless --reward names another" in told.out
    unnamed = next(line for line in told.err.splitlines() if "no rewards unless" in line)
    assert all(name in unnamed for name in ("vars.rating", "vars.Score", "vars.correct"))


def test_cut_answers_are_told(tmp_path: Path, run: Callable[..., Any]) -> None:
    rows = results()
    rows[3]["response"]["finishReason"] = "length"
    common = (
        "--weights",
        "difficulty=1",
        "--budget",
        "2",
        "--clusters",
        "0",
        "--overwrite",
        "-o",
        tmp_path / "c",
    )
    named = "instruction=vars.question,model=provider.id,response=response.output"
    for options in ((), ("--columns", named)):
        assert (
            "1 answer was cut" in run("select", document(tmp_path / "out.json", rows), *common, *options).err
        )


def test_how_an_answer_ended_is_taken_from_the_object_that_holds_it(tmp_path: Path) -> None:
    rows = [
        {
            "id": i,
            "instruction": f"Do {i}",
            "model": m,
            "reply": {"text": f"{m} {i}", "stop_reason": "max_tokens"},
        }
        for i in range(3)
        for m in ("a-1b", "b-7b")
    ]
    with open_pool(lines(tmp_path / "pool.jsonl", rows), columns={"response": "reply.text"}) as pool:
        assert "reply.stop_reason is taken for finish_reason" in str(pool.read_as)
    ended = [row | {"finish_reason": "stop"} for row in rows]
    with open_pool(lines(tmp_path / "pool.jsonl", ended), columns={"response": "reply.text"}) as pool:
        assert "reply.stop_reason" not in str(pool.read_as)


def test_what_the_user_names_wins(tmp_path: Path) -> None:
    path = document(tmp_path / "out.json", results())
    with open_pool(path, columns={"instruction": "vars.question", "model": "provider.id"}) as pool:
        assert pool.models == ("ollama:chat:qwen:7b", "openai:gpt-4o")
        assert pool.prompts([(pool.ids[0], pool.models[0])])[0][0]["content"].startswith("Where is place")
        assert any(note.startswith("not read: prompt.raw, which the models were sent") for note in pool.notes)
    with open_pool(path, columns={"id": "testIdx"}) as pool:
        assert sorted(pool.ids) == list("012345")
        assert not any(note.startswith("left out, beside what") for note in pool.notes)
    with open_pool(path, columns={"instruction": "question"}) as pool:  # as `inspect` lists the variable
        assert str(pool.instructions()[0]).startswith("Where is place")


def test_chats_stay_conversations_beside_texts(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rows = [row | {"prompt": {"raw": json.dumps(chat, indent=2), "label": "p"}} for row in results(1)]
    yaml = [
        row | {"testIdx": 9, "prompt": {"raw": "- role: user\n  content: Ho", "label": "p"}}
        for row in results(1)
    ]
    with open_pool(document(tmp_path / "out.json", [*rows, *results(3)[2:], *yaml])) as pool:
        asked = pool.prompts([(id_, "local") for id_ in pool.ids])
        assert chat in [list(turns) for turns in asked]
        assert len(asked) == 4
        assert any(note.startswith("2 prompts of promptfoo are messages in YAML") for note in pool.notes)


def test_configurations_of_one_provider_stay_apart_and_repeats_are_samples(tmp_path: Path) -> None:
    one, other = {"id": "qwen-7b", "label": ""}, {"id": "openai:gpt-4o", "label": "qwen-7b"}
    columns = [one, one, other]
    rows = [
        result(repeat * 3 + test, at, each, prompt={"raw": f"Do {test}", "label": "p"})
        for repeat in range(2)
        for test in range(3)
        for at, each in enumerate(columns)
    ]
    for path in (document(tmp_path / "out.json", rows), lines(tmp_path / "out.jsonl", rows[::-1])):
        with open_pool(path) as pool:
            assert pool.models[1:] == ("qwen-7b [qwen-7b] (1)", "qwen-7b [qwen-7b] (2)")
            answers = [pool.responses([(id_, model) for id_ in pool.ids]) for model in pool.models]
            assert [{str(text)[-1] for text in texts} for texts in answers] == [{"2"}, {"0"}, {"1"}]
            assert pool.models == (
                "qwen-7b [openai:gpt-4o]",
                "qwen-7b [qwen-7b] (1)",
                "qwen-7b [qwen-7b] (2)",
            )
            assert pool.scores("score").shape == (3, 3)
            assert any("they are samples" in note for note in pool.notes)


def test_configurations_are_numbered_alike_for_each_of_several_prompts(tmp_path: Path) -> None:
    rows = [
        result(
            test, 2 * at + prompt, "m-1b", prompt={"raw": f"{'Be kind. ' * prompt}Do {test}", "label": "p"}
        )
        for test in range(3)
        for at in range(2)
        for prompt in range(2)
    ]
    with open_pool(document(tmp_path / "out.json", rows)) as pool:
        assert (pool.models, len(pool.ids)) == (("m-1b (1)", "m-1b (2)"), 6)
        answers = pool.responses([(id_, "m-1b (1)") for id_ in pool.ids])
        assert {str(text)[-1] for text in answers} == {"0", "1"}


def test_several_prompts_of_a_test_are_instructions_of_their_own(tmp_path: Path) -> None:
    rows = [
        result(
            test,
            2 * at + prompt,
            {"id": name},
            prompt={"raw": f"{'Be kind. ' * prompt}Do {test}", "label": "p"},
        )
        for test in range(3)
        for at, name in enumerate(("a-1b", "b-7b"))
        for prompt in range(2)
    ]
    with open_pool(document(tmp_path / "out.json", rows)) as pool:
        assert (pool.models, len(pool.ids)) == (("a-1b", "b-7b"), 6)


def test_the_table_is_read_where_there_is_no_list(tmp_path: Path) -> None:
    def cell(test: int, column: int) -> Row:
        graded = {"pass": column == 0, "score": float(column == 0), "reason": "Too long"}
        text = f"Too long\n---\nAnswer {column}" if column else f"Answer {column}"
        return {
            "text": text,
            "pass": column == 0,
            "score": graded["score"],
            "prompt": f"Do {test}",
            "gradingResult": graded,
        }

    prompts = [{"raw": "Do {{q}}", "provider": name} for name in ("a-1b", "b-7b")]
    body = [{"outputs": [cell(test, 0), cell(test, 1)], "vars": [f"{test}"]} for test in range(3)]
    table = {"head": {"prompts": prompts, "vars": ["q"]}, "body": body}
    path = tmp_path / "out.json"
    path.write_text(json.dumps({"results": {"version": 2, "table": table, "stats": {}}}))
    with open_pool(path) as pool:
        assert pool.scores("score").tolist() == [[1.0, 0.0]] * 3
        assert pool.responses([(pool.ids[0], model) for model in pool.models]) == ["Answer 0", "Answer 1"]


def test_what_promptfoo_was_told_not_to_write(tmp_path: Path) -> None:
    stripped = results(response={"output": "[output stripped]"})
    with open_pool(document(tmp_path / "out.json", stripped)) as pool:
        assert set(pool.responses([(id_, "local") for id_ in pool.ids])) == {None}
    rows = results(prompt={"raw": "[prompt stripped]", "label": "p"})
    with pytest.raises(InputError, match="PROMPTFOO_STRIP_PROMPT_TEXT"):
        open_pool(document(tmp_path / "out.json", rows))


def test_objects_are_answers_that_are_no_texts(tmp_path: Path) -> None:
    rows = results()
    rows[0]["response"]["output"] = {"city": "Lima"}
    with open_pool(document(tmp_path / "out.json", rows)) as pool:
        assert any("1 answer is something other than text" in note for note in pool.notes)


def test_what_was_sent_can_be_kept_out_of_another_choice(tmp_path: Path) -> None:
    sent = {row["prompt"]["raw"] for row in results()}
    for path in (document(tmp_path / "out.json", results()), lines(tmp_path / "out.jsonl", results())):
        questions = read_questions(str(path))
        assert len(questions) == len(sent)
        assert {text for question in questions for text in question.texts} == sent


@pytest.mark.parametrize(
    "more",
    [
        {"failureReason": "2"},
        {"gradingResult": {"score": 0.2}},
        {"gradingResult": "x", "error": "Could not extract JSON from llm-rubric response"},
    ],
    ids=["failureReason", "gradingResult", "message"],
)
def test_one_name_of_promptfoo_makes_no_results(more: Row, tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "instruction": f"Do {i}", "model": m, "response": f"{m} {i}", "score": i / 4} | more
        for i in range(3)
        for m in ("a-1b", "b-7b")
    ]
    with open_pool(lines(tmp_path / "pool.jsonl", rows)) as pool:
        assert pool.scores("score").tolist() == [[i / 4] * 2 for i in range(3)]
        assert "promptfoo" not in f"{pool.read_as} {pool.notes}"


@pytest.mark.extra
def test_results_in_parquet_have_the_providers_id(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    rows = results()
    rows[0] |= {"score": 0, "failureReason": 2}
    pd.DataFrame(rows).to_parquet(tmp_path / "out.parquet")
    with open_pool(tmp_path / "out.parquet") as pool:
        assert pool.models == tuple(sorted(id_ for id_, _ in PROVIDERS))
        assert "provider.id is taken for model" in str(pool.read_as)
        assert "provider.name" not in str(pool.read_as)
        assert any(note.startswith("1 row has no scores: promptfoo's call") for note in pool.notes)


def test_odd_values_in_results_are_no_fault(tmp_path: Path) -> None:
    for more in (
        {"testIdx": [1]},
        {"testIdx": {"a": 1}},
        {"gradingResult": {"pass": True, "score": 1, "reason": "So", "componentResults": 3}},
    ):
        path = document(tmp_path / "out.json", results(**more))
        with open_pool(path) as pool:
            assert len(pool.ids) == 6
        assert len(read_questions(str(path))) == 6
    for odd in ({"error": {"code": 1}}, {"gradingResult": {"reason": ["Too long"]}}):
        cell = {"text": "Lima", "pass": False, "score": 0.5, "prompt": "Where?"} | odd
        head = {
            "prompts": [{"raw": "{{q}}", "provider": name} for name in ("a-1b", "b-7b")],
            "vars": [{"q": 1}],
        }
        body = [{"outputs": [cell, cell], "vars": ["x"]}]
        path.write_text(json.dumps({"results": {"version": 2, "table": {"head": head, "body": body}}}))
        with open_pool(path) as pool:
            assert pool.responses([(pool.ids[0], name) for name in pool.models]) == ["Lima", "Lima"]


@pytest.mark.parametrize("value", [0, {"type": "x"}, ["x"]], ids=str)
def test_how_an_answer_ended_is_a_text(value: object, tmp_path: Path) -> None:
    rows = [
        {"id": i, "instruction": f"Do {i}", "model": m, "reply": {"text": f"{m} {i}", "stop_reason": value}}
        for i in range(3)
        for m in ("a-1b", "b-7b")
    ]
    with open_pool(lines(tmp_path / "pool.jsonl", rows), columns={"response": "reply.text"}) as pool:
        assert "finish_reason" not in str(pool.read_as)


def test_variables_that_differ_in_case_have_names_of_their_own(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    odd = {"Model": "a", "model": "b", "ID": "c", "id": "d", "vars.x": "e", "x": "f", "X": "g"}
    told = run("inspect", document(tmp_path / "out.json", results(vars=odd)))
    assert told.code == 0
    columns = next(line for line in told.out.splitlines() if line.startswith("columns"))
    assert "vars.Model, vars.model (2), vars.ID, vars.id (2), vars.x, x, vars.X (2)" in columns
