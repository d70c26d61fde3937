"""Answers without a text beside a reward: told of, and left out on request, in every shape of pool."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, load_selection, open_pool, select
from crowdselect.errors import OptionError
from crowdselect.pool.columns import FAILED
from crowdselect.selection.inspection import inspect_pool

MODELS = ("Qwen2.5-1.5B-Instruct", "Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct")
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}


def crashed(i, j):
    """The third model fails at the first two instructions; the first one is really wrong at the third."""
    return j == 2 and i < 2


def rows(*, none=None, score=True):
    return [
        {
            "id": f"q{i}",
            "instruction": f"Question {i}?",
            "model": model,
            "response": none if crashed(i, j) else f"Answer {i} of {model}",
            **(
                {"score": 0.0 if crashed(i, j) or (i, j) == (2, 0) else 0.5 + i / 20 + j / 10}
                if score
                else {}
            ),
        }
        for i in range(6)
        for j, model in enumerate(MODELS)
    ]


def per_instruction(each):
    """The shapes of a row per instruction: objects, distilabel's lists, and a struct per model."""
    found = {}
    for row in each:
        found.setdefault(row["id"], []).append(row)
    for id_, own in found.items():
        texts, scores = [row["response"] or "" for row in own], [row["score"] for row in own]
        base = {"id": id_, "instruction": own[0]["instruction"]}
        yield (
            {
                **base,
                "responses": dict(zip(MODELS, texts, strict=True)),
                "scores": dict(zip(MODELS, scores, strict=True)),
            },
            {**base, "generations": texts, "generation_models": [*MODELS], "ratings": scores},
            {
                **base,
                **{
                    m: {"content": text, "score": score}
                    for m, text, score in zip(MODELS, texts, scores, strict=True)
                },
            },
        )


SHAPES = {
    "null": rows,
    "blank": lambda: rows(none=" "),
    "thought only": lambda: rows(none="<think>Hm</think>"),
    "rewritten": lambda: [{**row, "prompt": row.pop("instruction")} for row in rows()],
    "structs": lambda: [each[0] for each in per_instruction(rows())],
    "lists": lambda: [each[1] for each in per_instruction(rows())],
    "zoo": lambda: [each[2] for each in per_instruction(rows())],
    "failed": lambda: rows(none="$ERROR$"),
    "failed in structs": lambda: [each[0] for each in per_instruction(rows(none="$ERROR$"))],
    "failed in lists": lambda: [each[1] for each in per_instruction(rows(none="$ERROR$"))],
    "failed in a zoo": lambda: [each[2] for each in per_instruction(rows(none="**API REQUEST ERROR**"))],
}


def written(path, each):
    path.write_text("".join(json.dumps(row) + "\n" for row in each), encoding="utf-8")
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_rewards_of_empty_answers_are_told_and_left_out(tmp_path, shape):
    path = written(tmp_path / "pool.jsonl", SHAPES[shape]())
    with open_pool(path) as pool:
        reward = pool.reward_name(None)
        assert np.isnan(pool.scores()).sum() == 0
        lines = [
            line
            for line in inspect_pool(pool)["warnings"]
            if line.startswith("2 answers have a reward but no text")
        ]
        assert len(lines) == 1
        assert lines[0].endswith("leave them out with `missing='empty'`")
        assert lines[0] in select(pool, Options(budget=1, clusters=0)).warnings
    with open_pool(path, missing="empty") as pool:
        scores = pool.scores(reward)
        assert np.argwhere(np.isnan(scores)).tolist() == [[0, 2], [1, 2]]
        assert scores[2, 0] == 0  # a wrong answer stays one
        found = inspect_pool(pool)
        assert found["empty_answers"] == 0
        assert not any("no text" in line for line in found["warnings"])
        assert not any("no text" in line for line in select(pool, Options(budget=1, clusters=0)).warnings)


@pytest.mark.parametrize("mark", FAILED)
@pytest.mark.parametrize("shape", ["long", "pairs"])
def test_what_a_failed_call_left_is_no_training_target(tmp_path, shape, mark):
    """In Parquet, whose statistics prove that no text is blank."""
    each = [{**row, "response": f"A: {row['response']}"} for row in rows()]
    for row in each:
        if row["response"] == "A: None":
            row["response"] = mark
    each[2 * len(MODELS) + 2]["response"] = f"{mark} is what it says."
    if shape == "pairs":
        found = {row["id"]: {"id": row["id"], "instruction": row["instruction"]} for row in each}
        for row in each:
            found[row["id"]] |= {f"{part}_{row['model']}": row[part] for part in ("response", "score")}
        each = [*found.values()]
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.Table.from_pylist(each), path)
    failed = [("q0", MODELS[2]), ("q1", MODELS[2])]
    with open_pool(path) as pool:
        assert np.argwhere(~pool.answered()).tolist() == [[0, 2], [1, 2]]
        assert pool.responses([*failed, ("q2", MODELS[2])]) == [
            None,
            None,
            f"{mark} is what it says.",
        ]
        assert np.argwhere(np.isnan(pool.response_lengths())).tolist() == [[0, 2], [1, 2]]
        streamed = [text for batch in pool.stream_responses() for text in batch.texts]
        assert (streamed.count(None), mark in streamed) == (2, False)
        if shape == "long":
            note = (
                f"answers of 2 rows are {mark}, which a failed call or formula leaves: they count as no text"
            )
            assert note in pool.notes
        one = select(pool, Options(budget=1, clusters=0, answer=f"model:{MODELS[2]}"))
        reasons = dict(zip(one.table["id"].to_pylist(), one.table["reason"].to_pylist(), strict=True))
        assert [reasons[id_] for id_ in ("q0", "q1")] == ["no_answer", "no_answer"]


def test_failed_samples_are_counted_each(tmp_path):
    each = [{**row, "sample": sample} for row in rows() for sample in (0, 1)]
    for row in each:
        row["response"] = row["response"] or ("At last." if row["sample"] else None)
    path = written(tmp_path / "pool.jsonl", each)
    with open_pool(path) as pool:
        assert inspect_pool(pool)["empty_answers"] == 2
        assert any(
            "2 answers have a reward but no text" in line
            for line in select(pool, Options(budget=1, clusters=0)).warnings
        )
    with open_pool(path, missing="empty") as pool:
        assert np.isnan(pool.samples.rewards("score")).sum() == 2


def test_a_call_of_tools_is_no_empty_answer(tmp_path):
    path = written(tmp_path / "pool.jsonl", [{**row, "response": row["response"] or CALL} for row in rows()])
    with open_pool(path, missing="empty") as pool:
        assert not np.isnan(pool.scores()).any()
        assert inspect_pool(pool)["empty_answers"] == 0


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_calls_of_tools_in_a_column_of_their_own_are_answers_without_a_text(tmp_path, ending):
    calls = [
        {**row, "tool_calls": CALL["tool_calls"] if row["response"] is None or row["id"] == "q3" else None}
        for row in rows()
    ]
    for row in calls:
        row["response"] = None if row["id"] == "q3" else row["response"]
    path = tmp_path / f"pool.{ending}"
    if ending == "jsonl":
        written(path, calls)
    else:
        pq.write_table(pa.Table.from_pylist(calls), path)
    with open_pool(path, missing="empty") as pool:
        assert not np.isnan(pool.scores()).any()
        said = [note for note in pool.notes if "calls of tools" in note]
        assert said == [
            "5 answers are calls of tools without a text: their rewards count, but only texts are trained on"
        ]
        assert list(pool.left_out()) == [None, None, None, "not_text", None, None]
        one = select(pool, Options(budget=1, clusters=0, answer=f"model:{MODELS[2]}"))
        reasons = dict(zip(one.table["id"].to_pylist(), one.table["reason"].to_pylist(), strict=True))
        assert [reasons[id_] for id_ in ("q0", "q1", "q3")] == ["no_answer", "no_answer", "not_text"]


@pytest.mark.parametrize("sampled", [False, True])
def test_a_second_file_of_rewards_follows_too(tmp_path, sampled):
    number = {"sample": 0} if sampled else {}
    pool = written(tmp_path / "pool.jsonl", [{**row, **number} for row in rows(score=False)])
    scores = [
        {
            "id": row["id"],
            "model": row["model"],
            **number,
            "score": -1.0 if row["id"] == "q5" else row["score"],
        }
        for row in rows()
    ]
    second = written(tmp_path / "rewards.jsonl", scores)
    with open_pool(pool, rewards=second, missing=["empty", -1]) as found:
        assert np.argwhere(np.isnan(found.scores())).tolist() == [[0, 2], [1, 2], [5, 0], [5, 1], [5, 2]]
        assert found.lost_rewards == 0


def test_without_texts_it_says_that_nothing_changes(tmp_path):
    each = [{"id": f"q{i}", "instruction": f"Q {i}?", "a-1b": 0.0, "b-2b": 0.5} for i in range(3)]
    with open_pool(written(tmp_path / "pool.jsonl", each), missing="empty") as pool:
        assert not np.isnan(pool.scores()).any()
        assert "`missing='empty'` changes nothing: the pool holds no texts of answers" in pool.notes
        assert inspect_pool(pool)["empty_answers"] is None


def test_the_option(tmp_path, run):
    pool = str(written(tmp_path / "pool.jsonl", rows()))
    options = ["--budget", "2", "--clusters", "0", "-o", str(tmp_path / "chosen")]
    told = run("select", pool, *options)
    assert "2 answers have a reward but no text: they are not trained on, but their rewards count" in told.err
    assert "leave them out with --missing empty" in " ".join(told.err.split())
    again = run("select", pool, "--missing", "empty", *options, "--overwrite")
    assert "no text" not in again.err
    assert load_selection(tmp_path / "chosen").facts["read"]["missing"] == ["empty"]
    assert run("why", tmp_path / "chosen", "q0").code == 0
    (tmp_path / "c.toml").write_text('missing = ["empty", -1]\n')
    again = run("select", pool, "--config", tmp_path / "c.toml", *options, "--overwrite")
    assert (again.code, "no text" in again.err) == (0, False)
    assert "'blank' is neither a number nor empty nor error" in run("inspect", pool, "--missing", "blank").err
    with pytest.raises(OptionError, match="neither a number nor `empty` nor `error`"):
        open_pool(pool, missing="blank")


def _why(run, folder, id_):
    """What is said of answers without a text, on one line; and the same for machines."""
    told = " ".join(run("why", folder, id_).out.split())
    lines = [line for line in told.split(" - ") if "without a text" in line]
    return [line.split(" all its answers:")[0] for line in lines], json.loads(
        run("why", folder, id_, "--json").out
    )["empty_answers"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_inspect_proposes_to_leave_them_out_and_why_names_them(tmp_path, run, monkeypatch, shape, ending):
    monkeypatch.chdir(tmp_path)
    file = f"pool.{ending}"
    if ending == "jsonl":
        written(tmp_path / file, SHAPES[shape]())
    else:
        pq.write_table(pa.Table.from_pylist(list(SHAPES[shape]())), file)
    proposed = run("inspect", file).out.splitlines()[-1].split()
    assert proposed[:5] == ["crowdselect", "select", file, "--missing", "empty"]
    assert run(*proposed[1:]).code == 0
    counts = [word for word in proposed[1:] if word not in {"--missing", "empty"}]
    assert run(*counts[:-1], "counts").code == 0
    assert _why(run, "chosen", "q0") == (
        [f"the reward of an answer without a text was left out: {MODELS[2]}"],
        {MODELS[2]: 1},
    )
    assert _why(run, "counts", "q1") == (
        [
            f"an answer without a text has a reward that counts, that of {MODELS[2]}; --missing empty leaves it out"
        ],
        {MODELS[2]: 1},
    )
    assert _why(run, "chosen", "q2") == _why(run, "counts", "q2") == ([], {})
    assert "--missing" not in run("inspect", file, "--missing", "empty").out.replace(
        " --missing empty", "", 1
    )


def test_why_counts_the_samples_without_a_text(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    each = [{**row, "sample": sample} for row in rows() for sample in (0, 1)]
    each[0] |= {"response": ""}
    written(tmp_path / "pool.jsonl", each)
    options = ["--budget", "2", "--clusters", "0"]
    assert run("select", "pool.jsonl", *options, "-o", "counts").code == 0
    assert run("select", "pool.jsonl", *options, "--missing", "empty", "-o", "out").code == 0
    found = {MODELS[0]: 1, MODELS[2]: 2}
    named = f"{MODELS[0]}, {MODELS[2]} (2)"
    assert _why(run, "counts", "q0") == (
        [
            f"answers without a text have rewards that count, those of {named}; --missing empty leaves them out"
        ],
        found,
    )
    assert _why(run, "out", "q0") == (
        [f"the rewards of answers without a text were left out: {named}"],
        found,
    )


def test_why_names_no_empty_answers_where_the_rewards_are_gone(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "pool.jsonl", rows(score=False))
    written(tmp_path / "r.jsonl", [{name: row[name] for name in ("id", "model", "score")} for row in rows()])
    assert (
        run(
            "select", "pool.jsonl", "--rewards", "r.jsonl", "--budget", "2", "--clusters", "0", "-o", "out"
        ).code
        == 0
    )
    assert _why(run, "out", "q0")[1] == {MODELS[2]: 1}
    (tmp_path / "r.jsonl").unlink()
    assert _why(run, "out", "q0") == ([], None)
    assert "Question 0?" in run("why", "out", "q0").out


def test_of_several_rewards_the_likeliest_is_the_one_that_counts_empty_answers(tmp_path):
    """A failed call has no judgment, and yet a number of seconds."""
    each = [
        {
            "id": f"q{i}",
            "instruction": f"{i}?",
            "model": model,
            "response": None if i == j else f"{i} {model}",
            "judge_score": None if i == j else i + j,
            "gen_s": 1.5 * i + j,
        }
        for i in range(6)
        for j, model in enumerate(MODELS)
    ]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in each))
    with open_pool(path) as pool:
        assert (pool.usual_reward, pool.likely_rewards) == (None, ("judge_score", "gen_s"))
        assert inspect_pool(pool)["empty_answers"] == 0


TIMED_OUT = "ERROR: Request timed out.\n(trial {})"


@pytest.mark.parametrize("shape", range(4))
def test_answers_that_several_failed_calls_may_have_left_are_asked_about(tmp_path, shape):
    """They stay answers, in every shape of pool: a right answer may begin so, too."""
    each = rows()
    for row in each[:9:3]:
        row["response"] = TIMED_OUT.format(row["id"])
    each[1]["response"] = "Error: division by zero"
    shapes = [each, *map(list, zip(*per_instruction(each), strict=True))]
    with open_pool(written(tmp_path / "pool.jsonl", shapes[shape])) as pool:
        assert pool.responses([("q0", MODELS[0])]) == [TIMED_OUT.format("q0")]
        said = [note for note in pool.notes if "if calls failed there" in note]
    assert len(said) == 1
    assert said[0].startswith(
        "answers of 3 rows begin with 'ERROR: Request timed out.'; if calls failed there"
    )


@pytest.mark.parametrize("failed", [2, 12])
def test_a_few_answers_that_begin_with_an_error_or_most_are_not_asked_about(tmp_path, failed):
    each = rows()
    for row in each[3 : 3 + failed]:
        row["response"] = "Error: division by zero"
    with open_pool(written(tmp_path / "pool.jsonl", each)) as pool:
        assert pool.responses([("q1", MODELS[0])]) == ["Error: division by zero"]
        assert not any("if calls failed there" in note for note in pool.notes)
