"""Scores in a file of their own that name no model, but the key of each answer."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from crowds import Row
from crowdselect import open_pool
from crowdselect.errors import InputError, LayoutError

N = 8
MODELS = ("qwen-1b", "qwen-7b")


def answers(key: str = "id") -> list[Row]:
    return [
        {
            key: f"0{i}{j}",
            "prompt_id": f"p{i}",
            "prompt": f"Question {i}?",
            "model": model,
            "response": f"x{i}{j}",
        }
        for j, model in enumerate(MODELS)
        for i in range(N)
    ]


def scores(key: str = "id") -> list[Row]:
    """In another order; the last answer has none, and one is of no answer."""
    found = [{key: f"0{i}{j}", "score": i + j / 2, "n_tokens": 7 * i} for i in range(N) for j in (1, 0)]
    return [*found[:-1], {key: "999", "score": 99.0, "n_tokens": 0}]


WANTED = np.array([[float(i), i + 0.5] for i in range(N - 1)] + [[np.nan, N - 0.5]])


def write(file: Path, rows: list[Row]) -> Path:
    if file.suffix == ".jsonl":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    elif file.suffix == ".csv":
        pc.write_csv(pa.Table.from_pylist(rows), file)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def follow(message: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the line of pandas that a message proposes, and open what it wrote."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(folder)
    line = re.search(r"beside the answers: (.*); then open (\S+) alone", message)
    assert line is not None
    eval(line[1], {"pd": pandas})
    with open_pool(line[2]) as pool:
        assert pool.models == MODELS
        assert pool.ids.tolist() == [f"p{i}" for i in range(N)]
        assert pool.reward_columns == ("score",)
        np.testing.assert_array_equal(pool.scores(), WANTED)


@pytest.mark.parametrize("columns", [{}, {"id": "prompt_id"}])
@pytest.mark.parametrize("keys", [("id", "id"), ("id", "response_id"), ("response_id", "id")])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_scores_by_the_key_of_an_answer(
    kind: str,
    keys: tuple[str, str],
    columns: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = write(tmp_path / f"answers.{kind}", answers(keys[0]))
    rewards = write(tmp_path / f"scores.{kind}", scores(keys[1]))
    with pytest.raises(LayoutError, match="its rows name no model; 15 values of its") as error:
        open_pool(str(pool), rewards=str(rewards), columns=columns).close()
    follow(str(error.value), tmp_path, monkeypatch)


@pytest.mark.parametrize("how", [{}, {"skip_invalid": True}])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_answers_and_scores_in_one_folder(
    kind: str, how: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    write(folder / f"a.{kind}", answers())
    write(folder / f"b.{kind}", scores())
    with pytest.raises(InputError, match="two kinds of files are here: answers") as error:
        open_pool(str(folder), **how).close()
    assert "skip_invalid" not in str(error.value)
    follow(str(error.value), tmp_path, monkeypatch)


def test_answers_of_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "answers"
    folder.mkdir()
    for at in (0, 1):
        write(folder / f"{at}.jsonl", answers()[at::2])
    rewards = write(tmp_path / "scores.jsonl", scores())
    with pytest.raises(LayoutError, match="its rows name no model") as error:
        open_pool(str(folder), rewards=str(rewards)).close()
    follow(str(error.value), tmp_path, monkeypatch)


def test_scores_by_instruction_are_no_rewards_of_answers(tmp_path: Path) -> None:
    pool = write(tmp_path / "answers.jsonl", answers())
    rewards = write(tmp_path / "scores.jsonl", [{"prompt_id": f"p{i}", "score": 1.0} for i in range(N)])
    with pytest.raises(LayoutError, match="not a rewards file"):
        open_pool(str(pool), rewards=str(rewards)).close()
    folder = tmp_path / "both"
    folder.mkdir()
    pool.rename(folder / "answers.jsonl")
    rewards.rename(folder / "scores.jsonl")
    with pytest.raises(InputError, match=r"two kinds of files.*; open the answers alone: answers\.jsonl$"):
        open_pool(str(folder)).close()


def test_a_file_whose_rows_are_all_malformed_is_named_and_not_skipped(tmp_path: Path) -> None:
    write(tmp_path / "answers.jsonl", answers())
    write(tmp_path / "prompts.jsonl", [{"prompt": f"Another {i}?"} for i in range(3)])
    with pytest.raises(InputError, match=r"so it is with all 3 rows of prompts\.jsonl") as error:
        open_pool(str(tmp_path)).close()
    assert "skip_invalid" not in str(error.value)
    assert str(error.value).endswith(f"open {tmp_path / 'answers.jsonl'}")
    with open_pool(str(tmp_path), skip_invalid=True) as pool:
        assert pool.malformed == 3


def test_malformed_rows_of_every_file_are_told_as_before(tmp_path: Path) -> None:
    wrong = [{**row, "model": None} for row in answers()[:2]]
    write(tmp_path / "a.jsonl", [*answers(), *wrong])
    write(tmp_path / "b.jsonl", answers())
    with pytest.raises(
        InputError, match=r"2 of 34 rows are malformed: correct them, or leave .*`skip_invalid"
    ):
        open_pool(str(tmp_path)).close()
