"""The folder of a benchmark that FastChat's `llm_judge` ran: three tables, none of which is a pool alone."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crowdselect import open_pool

MODELS = ("oak-7b", "oak-70b")
QUESTIONS = range(81, 101)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def bench():
    """The score of the last question is -1; the second turn of each answer is bad."""
    folder = Path("mt bench")
    questions = [
        {
            "question_id": i,
            "category": "maths",
            "turns": [f"What is {i}?", "And why?"],
            "reference": ["1", "2"],
        }
        for i in QUESTIONS
    ]
    lines(folder / "question.jsonl", questions)
    judgments = []
    for place, model in enumerate(MODELS):
        answers = [
            {
                "question_id": i,
                "answer_id": f"{model}{i}",
                "model_id": model,
                "choices": [{"index": 0, "turns": [f"{model} says it's {i}", "No idea"]}],
                "tstamp": 1.5 + i,
            }
            for i in QUESTIONS
        ]
        lines(folder / "model_answer" / f"{model}.jsonl", answers)
        judgments += [
            {
                "question_id": i,
                "model": model,
                "judge": ["gpt-4", "single-v1"],
                "user_prompt": f"Please act as an impartial judge. What is {i}? {model}",
                "judgment": "Rating: [[4]]",
                "score": 1 if turn == 2 else -1 if i == QUESTIONS[-1] else (i + place) % 10 + 1,
                "turn": turn,
                "tstamp": 1.5 + i,
            }
            for i in QUESTIONS
            for turn in (1, 2)
        ]
    lines(folder / "model_judgment" / "gpt-4_single.jsonl", judgments)
    return folder


def type_line(error):
    """Run the line of Python that an error ends with."""
    _, *words = shlex.split(error[error.index("python -c") :])
    subprocess.run([sys.executable, *words], check=True)


@pytest.mark.parametrize("command", ["inspect", "select"])
@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("", "questions"),
        ("question.jsonl", "questions"),
        ("model_answer", "answers"),
        ("model_answer/oak-7b.jsonl", "answers"),
        ("model_judgment", "judgments"),
        ("model_judgment/gpt-4_single.jsonl", "judgments"),
    ],
)
def test_each_of_the_files_is_refused_with_the_others(run, bench, command, file, what):
    options = ("--budget", "5", "-o", "out") if command == "select" else ()
    ran = run(command, str(bench / file), *options)
    others = {
        "questions": "its questions mt bench/question.jsonl",
        "answers": "its answers mt bench/model_answer/*.jsonl",
        "judgments": "its judgments mt bench/model_judgment/gpt-4_single.jsonl",
    }
    del others[what]
    ran.refuses(
        f"these are the {what} of a benchmark that FastChat ran", "turn 2 is left out", *others.values()
    )
    assert "--columns" not in ran.err


def test_the_line_makes_a_pool_of_the_first_turns(run, bench):
    type_line(run("inspect", str(bench)).err)
    with open_pool("pool.parquet") as pool:
        assert (pool.models, pool.reward_columns) == (tuple(sorted(MODELS)), ("score",))
        assert sorted(pool.ids) == sorted(map(str, QUESTIONS))
        assert pool.responses([("90", model) for model in MODELS]) == [
            f"{model} says it's 90" for model in MODELS
        ]
        scores = dict(zip(pool.ids, pool.scores("score"), strict=True))
        assert [scores["90"][pool.models.index(model)] for model in MODELS] == [1, 2]
        assert [id_ for id_, own in scores.items() if np.isnan(own).any()] == ["100"]
    assert run("select", "pool.parquet", "--clusters", "0", "--budget", "5", "-o", "out").code == 0


def test_the_line_holds_within_the_folder_and_with_a_quote_in_its_name(run, bench, monkeypatch):
    bench = bench.rename("it's a bench")
    type_line(run("inspect", str(bench / "model_answer")).err)
    assert Path("pool.parquet").is_file()
    monkeypatch.chdir(bench / "model_judgment")
    type_line(run("inspect", "gpt-4_single.jsonl").err)
    with open_pool("pool.parquet") as pool:
        assert len(pool.ids) == len(QUESTIONS)


def test_judgments_whose_prompt_is_named_are_refused_too(run, bench):
    file = str(bench / "model_judgment" / "gpt-4_single.jsonl")
    run("inspect", file, "--columns", "instruction=user_prompt").refuses("these are the judgments")


def test_answers_beside_turns_are_a_crowd():
    """A pool may keep the columns of the questions that it was made of."""
    rows = [
        {"question_id": i, "turns": [f"Do {i}", "Again"], "instruction": f"Do {i}",
         "completions": [{"model": m, "response": f"{m} {i}", "score": i + j} for j, m in enumerate("ab")]}
        for i in range(4)
    ]  # fmt: skip
    with open_pool(rows) as pool:
        assert (pool.models, len(pool.ids)) == (("a", "b"), 4)
