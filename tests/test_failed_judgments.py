"""Rewards of calls that failed: promptfoo's, which its results tell, and those beside a column of errors, which are asked about."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crowdselect import Options, open_pool, select
from crowdselect.errors import InputError
from crowdselect.pool.source import Source

Row = dict[str, Any]
MODELS = ("qwen-1b", "qwen-7b")
COLUMNS = "instruction=prompt.raw,model=provider.id,response=response.output,id=testIdx"
NO_JSON = "Could not extract JSON from llm-rubric response"


def graded(score: float, reason: str, **metadata: bool) -> Row:
    part = {"pass": score > 0.5, "score": score, "reason": reason, "metadata": metadata}
    return {"pass": score > 0.5, "score": score, "reason": reason, "componentResults": [part]}


OUTCOMES: dict[str, Row] = {
    "right": {"score": 0.9, "failureReason": 0, "error": None, "gradingResult": graded(0.9, "Good")},
    "low": {"score": 0.3, "failureReason": 1, "error": "Too long", "gradingResult": graded(0.3, "Too long")},
    "wrong": {
        "score": 0,
        "failureReason": 1,
        "error": "It is Lima",
        "gradingResult": graded(0, "It is Lima"),
    },
    "call": {"score": 0, "failureReason": 2, "error": "Error: Request timed out.", "gradingResult": None},
    "grader": {
        "score": 0,
        "failureReason": 1,
        "error": "503",
        "gradingResult": graded(0, "503", graderError=True),
    },
    "older": {"score": 0, "failureReason": 1, "error": NO_JSON, "gradingResult": graded(0, NO_JSON)},
}
JUDGED = ("right", "low", "wrong")


def promptfoo(path: Path) -> Path:
    rows = [
        {
            "id": f"{number}-{model}",
            "promptIdx": 0,
            "testIdx": number,
            "prompt": {"raw": f"Name the capital of country {number}.", "label": "p"},
            "provider": {"id": model, "label": ""},
            "response": {"output": f"{model} {number}"},
            "latencyMs": 100 * number + len(model),
            "success": OUTCOMES[name]["score"] > 0.5,
            **(OUTCOMES[name] if model == MODELS[0] else OUTCOMES["right"]),
        }
        for number, name in enumerate(OUTCOMES)
        for model in MODELS
    ]
    path.write_text(json.dumps({"evalId": "e", "results": {"version": 3, "results": rows}}), encoding="utf-8")
    return path


def test_promptfoo_tells_which_scores_are_none(tmp_path: Path, run: Callable[..., Any]) -> None:
    pool = promptfoo(tmp_path / "pf.json")
    with open_pool(pool, columns=dict(part.split("=") for part in COLUMNS.split(","))) as opened:
        for reward in ("score", "success"):
            here = ~np.isnan(opened.scores(reward))
            assert here.tolist() == [[name in JUDGED, True] for name in OUTCOMES]
    said = "3 rows have no scores: promptfoo's call or grader failed there, and the 0 that it writes is no judgment"
    assert run("inspect", pool, "--columns", COLUMNS).err.count(said) == 1
    out = tmp_path / "chosen"
    chosen = run("select", pool, "--columns", COLUMNS, "--budget", "2", "--clusters", "0", "-o", out)
    assert (chosen.code, chosen.err.count(said)) == (0, 1)


def test_numbers_about_a_row_of_promptfoo_are_no_rewards(tmp_path: Path, run: Callable[..., Any]) -> None:
    told = run("inspect", promptfoo(tmp_path / "pf.json"), "--columns", COLUMNS)
    assert "no rewards unless --reward names them" in told.err
    line = next(line for line in told.err.splitlines() if "no rewards unless" in line)
    assert all(name in line for name in ("promptIdx", "failureReason", "latencyMs"))
    assert "latencyMs" not in told.out.partition("Reward columns")[2]


def pool_of(path: Path, told: Callable[[int, str], tuple[float | None, str | None]]) -> Path:
    rows = []
    for number in range(12):
        for model in MODELS:
            score, error = told(number, model)
            row = {"id": f"q{number}", "instruction": f"Explain matter {number}.", "model": model}
            rows.append({**row, "response": f"{model} {number}", "score": score, "error_message": error})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def judged(number: int, model: str) -> tuple[float, str | None]:
    """Two calls of a judge failed, and one answer is really worth nothing."""
    if model == MODELS[0] and number < 2:
        return 0.0, "Rate limit reached"
    return (0.0, None) if (number, model) == (5, MODELS[0]) else (1.0 + number, "null")


def test_rewards_beside_errors_are_asked_about_and_left_out_on_request(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    pool = pool_of(tmp_path / "pool.jsonl", judged)
    said = "all 2 rewards beside a filled error_message (such as 'Rate limit reached') are 0, the lowest there is"
    for command in (
        ("inspect", pool),
        ("select", pool, "--budget", "3", "--clusters", "0", "-o", tmp_path / "c"),
    ):
        told = " ".join(run(*command).err.split())
        assert told.count(said) == 1
        assert "leave them out with --missing error" in told
        again = run(*command, "--missing", "error", *(["--overwrite"] if command[0] == "select" else []))
        words = " ".join(again.err.split())
        assert (again.code, said in words) == (0, False)
        assert (
            "2 answers beside a filled error_message: no rewards of theirs count, whatever they are (--missing error)"
            in words
        )
    with open_pool(pool, missing="error") as opened:
        rows, models = np.nonzero(np.isnan(opened.scores()))
        assert (opened.ids[rows].tolist(), models.tolist()) == (["q0", "q1"], [0, 0])


@pytest.mark.parametrize(
    "told",
    [
        lambda number, model: (number % 2, None if number % 2 else "AssertionError"),
        lambda number, model: (number % 5, "too long" if number % 2 else None),
        lambda number, model: (None if number < 2 else number, "failed" if number < 2 else None),
        lambda number, model: (number % 5, "Rate limit" if (number, model) == (0, MODELS[0]) else None),
    ],
    ids=[
        "errors tell why a test failed",
        "rewards beside errors differ",
        "they are missing already",
        "one alone",
    ],
)
def test_rewards_that_errors_explain_are_not_asked_about(
    told: Callable[[int, str], tuple[float | None, str | None]], tmp_path: Path
) -> None:
    with open_pool(pool_of(tmp_path / "pool.jsonl", told)) as pool:
        assert not any("error_message" in note for note in pool.notes)


def test_errors_inside_objects_and_lists_leave_rewards_out_too(tmp_path: Path) -> None:
    def answer(number: int, model: str) -> Row:
        score, error = judged(number, model)
        return {"content": f"{model} {number}", "score": score, "error": error}

    for name in ("zoo", "ultrafeedback"):
        rows = []
        for number in range(12):
            each = {model: answer(number, model) for model in MODELS}
            listed = [
                {"model": model, "response": own["content"], "score": own["score"], "error": own["error"]}
                for model, own in each.items()
            ]
            rest = each if name == "zoo" else {"completions": listed}
            rows.append({"id": f"q{number:02}", "instruction": f"Explain matter {number}.", **rest})
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        with open_pool(path, missing="error") as pool:
            assert pool.layout == name
            assert np.argwhere(np.isnan(pool.scores("score"))).tolist() == [[0, 0], [1, 0]]


def test_a_second_file_with_errors(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool.jsonl", lambda *_: (1.0, None))
    rows = [
        {
            "id": f"q{number}",
            "model": model,
            "judge": judged(number, model)[0],
            "judge_error": judged(number, model)[1],
        }
        for number in range(12)
        for model in MODELS
    ]
    second = tmp_path / "judge.jsonl"
    second.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with open_pool(pool, rewards=second, missing="error") as opened:
        assert np.isnan(opened.scores("judge")).sum() == 2
        assert not np.isnan(opened.scores("score")).any()


def test_shards_leave_the_same_rewards_out(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool.jsonl", judged)
    lines = pool.read_text(encoding="utf-8").splitlines(keepends=True)
    folder = tmp_path / "shards"
    folder.mkdir()
    for at in range(0, len(lines), 6):
        (folder / f"{at:02}.jsonl").write_text("".join(lines[at : at + 6]), encoding="utf-8")
    options = Options(budget=4, clusters=0)
    with open_pool(pool, missing="error") as whole, open_pool(folder, missing="error") as parts:
        chosen, again = select(whole, options), select(parts, options)
    assert len(chosen.table) == 12
    assert chosen.table.equals(again.table)


def test_without_a_column_of_errors_it_says_that_nothing_changes(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "instruction": f"Q {i}?", "a-1b": 0.0, "b-2b": 0.5} for i in range(3)]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with open_pool(path, missing="error") as pool:
        assert not np.isnan(pool.scores()).any()
        assert (
            "`missing='error'` changes nothing: beside the answers there is no column of errors" in pool.notes
        )


def lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def with_errors(path: Path, name: str, told: Callable[[int], Any]) -> Path:
    """A pool whose first answers to each instruction have such errors."""
    rows = [
        {"id": f"q{n}", "instruction": f"Explain matter {n}.", "model": m, "response": f"{m} {n}", "score": n}
        | {name: told(n) if m == MODELS[0] else told(-1)}
        for n in range(6)
        for m in MODELS
    ]
    return lines(path, rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grammar_errors", 0),
        ("error", 1),
        ("std_error", "0.2"),
        ("n_errors", "two"),
        ("no_error", True),
        ("error", "0"),
        ("error", "OK"),
        ("error", []),
        ("error", {}),
        ("error", {"code": 0, "message": ""}),
    ],
)
def test_numbers_and_empty_lists_are_no_errors(
    name: str, value: object, tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = with_errors(tmp_path / "pool.jsonl", name, lambda _: value)
    with open_pool(path, missing="error") as pool:
        assert not np.isnan(pool.scores("score")).any()
    number = str(value) in {"0", "0.2"} or type(value) is int
    assert (
        f"numbers are measures, and no errors: {name}" in run("inspect", path, "--missing", "error").err
    ) is number


@pytest.mark.parametrize("value", [["timeout"], {"code": 5, "message": ""}, True, "timeout"], ids=str)
def test_lists_objects_and_true_are_errors(value: object, tmp_path: Path) -> None:
    empty = {list: [], dict: {}, bool: False, str: ""}[type(value)]
    path = with_errors(tmp_path / "pool.jsonl", "error", lambda n: value if n in {1, 4} else empty)
    with open_pool(path, missing="error") as pool:
        assert np.argwhere(np.isnan(pool.scores("score"))).tolist() == [[1, 0], [4, 0]]


@pytest.mark.extra
def test_an_infinite_reward_beside_an_error_is_named(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    rows = [json.loads(line) for line in pool_of(tmp_path / "p.jsonl", judged).read_text().splitlines()]
    path = tmp_path / "pool.parquet"
    pd.DataFrame([row | {"score": row["score"] or float("-inf")} for row in rows]).to_parquet(path)
    with open_pool(path) as pool, pytest.raises(InputError, match="score is -inf at id 'q0'"):
        pool.scores()


def test_errors_of_each_model_in_columns_are_named_and_not_read(tmp_path: Path) -> None:
    own = {"response": "yes", "score": 1, "error": "boom"}
    rows = [
        {"id": f"q{n}", "instruction": f"Explain matter {n}."}
        | {f"{what}_{m}": value for m in MODELS for what, value in own.items()}
        for n in range(4)
    ]
    with open_pool(lines(tmp_path / "pool.jsonl", rows), missing="error") as pool:
        assert not np.isnan(pool.scores()).any()
        note = next(note for note in pool.notes if "changes nothing" in note)
        assert note.endswith(
            "not read, beside several answers (write one per row): error_qwen-1b, error_qwen-7b"
        )


def test_an_error_of_a_whole_row_of_several_answers_counts_for_none_of_them(tmp_path: Path) -> None:
    own = {"instruction": "Explain it.", "system": "Be brief."}  # which is rewritten, a row per answer
    answers = [{"model": m, "response": "yes", "rating": at} for at, m in enumerate(MODELS)]
    rows = [{"id": f"q{n}", "completions": answers, "error": "boom", **own} for n in range(4)]
    with open_pool(lines(tmp_path / "pool.jsonl", rows), missing="error") as pool:
        assert not np.isnan(pool.scores()).any()
        assert any(note.endswith("beside several answers (write one per row): error") for note in pool.notes)


@pytest.mark.parametrize("more", [{}, {"system": "Be brief."}], ids=["tidy", "rewritten"])
def test_a_list_of_errors_is_of_each_answer(more: Row, tmp_path: Path) -> None:
    own = {"generations": ["a", "b"], "generation_models": list(MODELS), "ratings": [1, 2]} | more
    rows = [
        {"id": f"q{n}", "instruction": f"Explain {n}.", "error": ["boom" if n == 2 else None, None], **own}
        for n in range(4)
    ]
    with open_pool(lines(tmp_path / "pool.jsonl", rows), missing="error") as pool:
        assert np.argwhere(np.isnan(pool.scores())).tolist() == [[2, 0]]


def test_all_errors_and_rewards_are_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        json.loads(line)
        for line in pool_of(tmp_path / "p.jsonl", lambda n, _: (n, None)).read_text().splitlines()
    ]
    more = {f"score_{at}": at for at in range(5)} | {f"error_{at}_text": None for at in range(5)}
    columns = [name for name in more if name.startswith("error")]
    path = lines(tmp_path / "pool.jsonl", [row | more | dict.fromkeys(columns, row["model"]) for row in rows])
    asked: list[tuple[str, ...]] = []
    fetch = Source.fetch

    def counted(source: Source, *sql: str) -> Any:
        asked.append(sql)
        return fetch(source, *sql)

    monkeypatch.setattr(Source, "fetch", counted)
    with open_pool(path):
        assert sum(any(each.startswith("min(") for each in sql) for sql in asked) == 1
