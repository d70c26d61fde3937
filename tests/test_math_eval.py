"""Results as Qwen2.5-Math's evaluation leaves them: MODEL/math_eval/TASK/test_*.jsonl, the right answer in `answer`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import Ran
from crowds import write
from crowdselect import open_pool
from crowdselect.errors import InputError, LayoutError, OptionError, RewardError

NAMES = ("ash-1b", "elm-2b", "oak-7b")
N = 12


def row(i: int, j: int) -> dict[str, Any]:
    right = (i + j) % 3 > 0
    said = f"It is {i * i if right else j}, says {NAMES[j]}: {i}."
    pred = f"{i * i if right else j} m"
    known = {"idx": i, "question": f"What is {i} times {i}?", "gt_cot": "None", "gt": f"{i * i} m"}
    return known | {
        "answer": f"{i * i} m",
        "code": [said],
        "pred": [pred],
        "report": [None],
        "score": [right],
    }


def results(folder: Path, *, tasks: tuple[str, ...] = ("hard",), names: tuple[str, ...] = NAMES) -> Path:
    """A folder per model; the first has its rows in two files, as a run that was cut in two."""
    for j, name in enumerate(names):
        for task in tasks:
            place = folder / "runs" / name / "math_eval" / task
            place.mkdir(parents=True)
            rows = [row(i, j) for i in range(N)]
            cut = N // 2 if j == 0 else N
            write(place, rows[:cut], "jsonl", "run_s0_e-1")
            if cut < N:
                write(place, rows[cut:], "jsonl", "run_s6_e-1")
    return folder / "runs"


# The level of folders that names the model


def test_the_level_that_differs_names_the_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = results(tmp_path)
    run("inspect", str(path)).refuses("name one with --split test")
    run("inspect", str(path), "--split", "test").refuses(
        "--model-from folder takes the model from names of folders (ash-1b, elm-2b, oak-7b)"
    )
    for place in (str(path), f"{path}/*/math_eval/hard/*.jsonl", f"{path}/**/run_*"):
        with open_pool(place, model_from="folder", columns={"response": "code"}) as pool:
            assert pool.models == NAMES
            assert pool.layout == "samples"
            want = [[float((i + j) % 3 > 0) for j in range(3)] for i in range(N)]
            by_text = dict(zip(pool.text_array.to_pylist(), pool.scores().tolist(), strict=True))
            assert [by_text[f"What is {i} times {i}?"] for i in range(N)] == want


def test_several_levels_are_named(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = results(tmp_path, tasks=("easy", "hard"))
    said = run("inspect", str(path), "--model-from", "folder")
    said.refuses(
        "the folders differ at several levels: 1 (ash-1b, elm-2b, oak-7b); 3 (easy, hard); say which level names the model, "
        "as with --model-from folder:1"
    )
    with open_pool(path, model_from="folder:1", columns={"response": "code"}) as pool:
        assert pool.models == NAMES
    with open_pool(path, model_from="folder:3", columns={"response": "code"}) as pool:
        assert pool.models == ("easy", "hard")
    with open_pool(f"{path}/*/*/easy/*", model_from="folder", columns={"response": "code"}) as pool:
        assert pool.models == NAMES


def test_one_model_under_several_folders_is_asked_for(tmp_path: Path) -> None:
    path = results(tmp_path, names=NAMES[:1])
    with pytest.raises(
        InputError, match=r"several folders may be the model: 1 \(ash-1b\); 2 \(math_eval\).*`model='NAME'`"
    ):
        open_pool(path, model_from="folder")
    with open_pool(path, model_from="folder:1", columns={"response": "code"}) as pool:
        assert pool.models == NAMES[:1]
    inner = path / "ash-1b" / "math_eval" / "hard"
    with open_pool(inner, model_from="folder", columns={"response": "code"}) as pool:
        assert pool.models == ("hard",)


def test_a_file_outside_of_the_level_is_told(tmp_path: Path) -> None:
    path = results(tmp_path)
    write(path, [row(0, 0)], "jsonl", "more")
    for level in ("folder", "folder:2"):
        with pytest.raises(
            InputError, match=r"more.jsonl: lies in no folder of level|several levels: 1 .*; 2 "
        ):
            open_pool(f"{path}/**/*.jsonl", model_from=level)
    for odd in ("folder:0", "folder:", "folders", "file:1"):
        with pytest.raises(OptionError, match=r"unknown; choose file, folder, or a level of folders such as"):
            open_pool(path, model_from=odd)


def test_files_are_proposed_where_they_say_sizes(tmp_path: Path) -> None:
    for task in ("easy", "hard"):
        (tmp_path / task).mkdir()
        for j, name in enumerate(NAMES):
            write(tmp_path / task, [row(i, j) for i in range(N)], "jsonl", name)
    with pytest.raises(
        LayoutError, match=r"`model_from='file'` takes the model from names of files \(ash-1b"
    ):
        open_pool(tmp_path)


# The right answer is nobody's


def test_the_right_answer_is_not_taken_for_that_of_the_models(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    path = results(tmp_path)
    run("inspect", str(path), "--model-from", "folder").refuses(
        "answer is the same for all models of an id, so it is the right one; code or pred may hold what the models "
        "answered: name it with --columns response=code; if none does, say so with --columns reference=answer"
    )
    with open_pool(path, model_from="folder", columns={"reference": "answer"}) as pool:
        assert not pool.has_responses


@pytest.mark.parametrize("named", [{}, {"id": "idx"}])
def test_so_it_is_with_a_column_of_models(named: dict[str, str], tmp_path: Path) -> None:
    rows = [row(i, j) | {"model": NAMES[j]} for i in range(N) for j in range(3)]
    with pytest.raises(
        LayoutError, match=r"so it is the right one; code or pred may .*`columns='response=code'`"
    ):
        open_pool(write(tmp_path, rows, "jsonl"), columns=named)


def test_what_another_column_of_right_answers_holds_is_one(tmp_path: Path) -> None:
    path = write(tmp_path, [row(i, 0) for i in range(N)], "jsonl")
    with pytest.raises(
        LayoutError, match=r"answer is what gt is in all rows, .*code or pred .*`columns='response=code'`$"
    ):
        open_pool(path, model="ash-1b")
    with open_pool(path, model="ash-1b", columns={"response": "code"}) as pool:
        assert pool.has_responses


def test_answers_of_models_stay_answers(tmp_path: Path) -> None:
    """Also where some column of right answers is beside them, and labels differ."""
    rows = [
        {
            "question": f"{i}?",
            "gt": str(i),
            "model": name,
            "answer": str(i + (i + j) % 3),
            "verdict": "ab"[j > 1],
        }
        for i in range(N)
        for j, name in enumerate(NAMES)
    ]
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert pool.has_responses
    shared = [one | {"answer": one["gt"], "score": 1.0} for one in rows]
    with open_pool(write(tmp_path, shared, "jsonl")) as pool:  # a verdict is no answer
        assert not pool.has_responses


# Scores in lists beside the answers


@pytest.mark.parametrize("more", [[], ["--skip-invalid"]])
def test_a_score_in_a_list_names_the_answers_beside_it(
    more: list[str], run: Callable[..., Ran], tmp_path: Path
) -> None:
    path = str(results(tmp_path))
    given = ["--model-from", "folder", "--columns"]
    said = run("inspect", path, *given, "response=answer", *more)
    assert said.code == 0
    told = "; a list, as long as that in code and in pred: if the answers are there, --columns response=code reads both"
    assert "score is '[" in said.err
    assert told in said.err
    assert "--skip-invalid leaves" not in said.err
    assert "line that reads them" not in said.out
    run("select", path, *given, "response=answer", *more, "--budget", "3", "-o", "out").refuses(told)
    said = run("inspect", path, *given, "response=code", *more)
    assert (said.code, "Reward columns" in said.out) == (0, True)


def test_other_lists_of_scores_are_told_without_a_way_that_leads_nowhere(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(i),
            "prompt": f"{i}?",
            "model": name,
            "output": f"{name}: {i}",
            "score": [1, i],
            "tags": ["a"],
        }
        for i in range(N)
        for name in NAMES
    ]
    with (
        open_pool(write(tmp_path, rows, "jsonl")) as pool,
        pytest.raises(RewardError, match=r"score is '\[1,0\]' at .*; wanted a number$"),
    ):
        pool.reward_name(None)


# Answers that stand twice


def test_an_answer_that_stands_twice_names_both_places(tmp_path: Path) -> None:
    path = results(tmp_path)
    named = {"response": "code"}
    with (
        open_pool(path, model_from="folder:3", columns=named) as pool,
        pytest.raises(
            InputError, match=r"model 'hard', sample 0 \(.*runs/ash-1b/.*: row \d+; .*runs/elm-2b/"
        ) as told,
    ):
        pool.scores_of_part("score")
    assert (
        "if these files are of two models, let `model_from` name another folder or the file; else drop"
        in str(told.value)
    )
    (path / "ash-1b" / "math_eval" / "hard" / "run_s6_e-1.jsonl").unlink()
    rows = [row(i, 0) | {"pred": ["odd"]} for i in range(2)]
    write(path / "ash-1b" / "math_eval" / "hard", [row(0, 0), *rows], "jsonl", "run_s0_e-1")
    with (
        open_pool(path, model_from="folder", columns=named) as pool,
        pytest.raises(
            InputError, match=r"'ash-1b', sample 0 \(.*: row 1; .*: row 2\); wanted each once; drop one"
        ),
    ):
        pool.scores_of_part("score")
