"""Scores in a list beside the answers of a row, and answers in columns whose names do not say so: what belongs to what."""

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import Ran
from crowds import ALL, MODELS, TYPED, Row, write
from crowdselect import open_pool
from crowdselect.errors import InputError, LayoutError, RewardError
from crowdselect.pool.answercolumns import texts_by_model
from crowdselect.pool.columns import Kind

N = 12


def answers(i: int, form: str) -> Row:
    """The answers of a row, in an order of its own."""
    order = MODELS if i % 2 else MODELS[::-1]
    if form == "texts":
        return {"generations": [f"{m} says {i}" for m in order], "model_names": [*order]}
    if form == "tidy":
        return {"completions": [{"model": m, "response": f"{m} says {i}", "sure": 0.5} for m in order]}
    return {"responses": [{"model": m, "text": f"{m} says {i}", "n_tokens": i} for m in order]}


def right(i: int, model: str) -> float:
    return i * 5 % 7 + MODELS.index(model) / 2


def listed(form: str, **more: Callable[[int], Any]) -> list[Row]:
    """Rows with the scores of their answers in the list `rm`, and more."""
    return [
        {
            "instruction": f"Describe the river number {i}.",
            **answers(i, form),
            "rm": [right(i, m) for m in (MODELS if i % 2 else MODELS[::-1])],
            **{name: value(i) for name, value in more.items()},
        }
        for i in range(N)
    ]


def check(path: Path | str, reward: str | None = None, **how: Any) -> None:
    with open_pool(path, **how) as pool:
        texts = list(pool.instructions())
        numbers = [int(re.findall(r"\d+", text)[0]) for text in texts]
        assert pool.scores(reward).tolist() == [[right(i, m) for m in MODELS] for i in numbers]
        pairs = [(id_, m) for id_ in pool.ids for m in MODELS]
        assert pool.responses(pairs) == [f"{m} says {i}" for i in numbers for m in MODELS]


FORMS = pytest.mark.parametrize("form", ["texts", "objects", "tidy"])


@TYPED
@FORMS
def test_a_list_of_numbers_beside_the_answers_is_a_reward_of_these(
    form: str, kind: str, tmp_path: Path
) -> None:
    path = write(tmp_path, listed(form, embedding=lambda i: [0.5] * 7, tokens=lambda i: [3, 4]), kind)
    check(path, "rm")
    with open_pool(path) as pool:
        assert pool.reward_name(None) == "rm"
        assert "rewards in rm" in str(pool.read_as)
        assert "embedding" not in pool.reward_columns


@ALL
@FORMS
def test_a_list_beside_the_answers_that_is_named(form: str, kind: str, tmp_path: Path) -> None:
    check(write(tmp_path, listed(form), kind), "reward", columns={"reward": "rm"})


def test_two_lists_beside_the_answers_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, listed("objects", rm2=lambda i: [float(i), 1.0]), "jsonl")
    with pytest.raises(RewardError, match="several reward columns: rm, rm2"):
        open_pool(path).scores()
    check(path, "rm")


@TYPED
def test_nothing_and_nan_in_a_list_are_no_reward(kind: str, tmp_path: Path) -> None:
    rows = listed("objects")
    rows[0]["rm"], rows[3]["rm"], rows[5]["rm"] = [None, 1.0], [float("nan"), 2.0], None
    with open_pool(write(tmp_path, rows, kind)) as pool:
        at = {text: row.tolist() for text, row in zip(pool.instructions(), pool.scores(), strict=True)}
        lost = [sum(map(math.isnan, at[rows[i]["instruction"]])) for i in (0, 3, 5, 6)]
        assert lost == [1, 1, 2, 0]


@FORMS
def test_a_list_of_another_length_names_file_row_and_column(form: str, tmp_path: Path) -> None:
    rows = listed(form)
    rows[4]["rm"].append(9.0)
    path = write(tmp_path, rows, "parquet")
    told = rf"^{re.escape(str(path))}: row 5: rm has 3 values for 2 answers; 1 of 12 rows is malformed"
    with pytest.raises(InputError, match=told):
        open_pool(path, columns={"reward": "rm"})
    with open_pool(path, columns={"reward": "rm"}, skip_invalid=True) as pool:
        assert pool.malformed == 1


def test_a_list_that_only_happens_to_be_as_long_is_none(tmp_path: Path) -> None:
    rows = listed("objects", pages=lambda i: [i] * (i % 5))
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert "pages" not in pool.reward_columns
        assert pool.reward_name(None) == "rm"


# What is named as the reward, and is none of an answer


def wide(answered: str = "antwoord_{}", **more: Callable[[int, str], Any]) -> list[Row]:
    """A row per prompt, with columns of each model."""
    return [
        {
            "prompt": f"Describe the river number {i}.",
            **{answered.format(m): f"{m} says {i}" for m in MODELS},
            **{f"score_{m}": right(i, m) for m in MODELS},
            **{f"{name}_{m}": value(i, m) for name, value in more.items() for m in MODELS},
        }
        for i in range(N)
    ]


def test_a_list_named_beside_columns_of_models_has_no_mean(tmp_path: Path) -> None:
    rows = [{**row, "rm": [1.0, 2.0]} for row in wide("response_{}")]
    with pytest.raises(InputError, match=r"rm is a list .* wanted a number for each") as told:
        open_pool(write(tmp_path, rows, "jsonl"), columns={"reward": "rm"})
    assert "mean" not in str(told.value)


def test_a_number_of_the_row_is_not_called_empty(tmp_path: Path, run: Callable[..., Ran]) -> None:
    rows = [
        {**{name: value for name, value in row.items() if name != "rm"}, "reward": i / 3}
        for i, row in enumerate(listed("objects"))
    ]
    path = write(tmp_path, rows, "jsonl")
    for named in ([], ["--reward", "reward"], ["--columns", "reward=reward", "--reward", "reward"]):
        told = run("select", path, "--budget", 2, "-o", tmp_path / "out", *named)
        told.refuses("reward is the same for all answers to each instruction", "--method column:reward")
    both = write(tmp_path, listed("objects", reward=lambda i: i / 3), "jsonl", "both")
    check(both)  # the reward is rm


@pytest.mark.extra
@pytest.mark.parametrize("count", [2, 11])
def test_the_line_that_makes_a_mean_reads_all_files(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "said"
    folder.mkdir()
    for part in range(count):
        rows = [
            {"id": str(part), "prompt": f"Do {part}", "model": m, "response": "x", "by": [1, part]}
            for m in MODELS
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{part}.parquet")
    with pytest.raises(InputError) as told:
        open_pool(folder, columns={"reward": "by"})
    line = str(told.value).partition("with reward=reward in `columns`: ")[2]
    monkeypatch.chdir(tmp_path)
    exec("import glob; import pandas as pd; " + line, {})
    with open_pool("pool.parquet", columns={"reward": "reward"}) as pool:
        assert sorted(pool.scores("reward")[:, 0]) == [(1 + part) / 2 for part in range(count)]


def test_a_line_for_one_file_of_several_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "sheets"
    folder.mkdir()
    for part in range(2):
        rows = [{**row, **{f"score_{m}": f"{part},5" for m in MODELS}} for row in wide("response_{}")]
        write(folder, rows, "csv", f"part-{part}")
    with pytest.raises(
        LayoutError, match=r"wanted a decimal point.* \(for this file; the same for each of 2\)$"
    ):
        open_pool(folder)


# Answers in columns of other names


@ALL
@pytest.mark.parametrize(
    "answered",
    [
        "antwoord_{}",
        "{} Réponse",
        "reponse.{}",
        "{}-Antwort",
        "respuesta {}",
        "{}_resposta",
        "risposta ({})",
        "回答: {}",
        "{}_답변",
        "ответ_{}",
        "{} (svar)",
        "{}_outputs",
        "raw_replies_{}",
    ],
)
def test_texts_under_a_word_for_an_answer_are_the_answers(answered: str, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, wide(answered), kind)
    check(path)
    with open_pool(path) as pool:
        assert pool.layout == "column pairs"
        assert f"{answered.format('MODEL')} is taken for the answers" in str(pool.read_as)


@ALL
def test_known_words_come_before_others(kind: str, tmp_path: Path) -> None:
    rows = wide("answer_{}", redenering=lambda i, m: f"because of {m} and {i}")
    check(write(tmp_path, rows, kind))


@ALL
def test_texts_beside_the_answers_are_no_answers(kind: str, tmp_path: Path) -> None:
    said = {
        "prompt": lambda i, m: f"{m}: {i}",
        "reasoning": lambda i, m: f"{i}, {m}",
        "redenering": lambda i, m: f"because of {m} and {i}",
        "statut": lambda i, m: "ok",
    }
    check(write(tmp_path, wide("antwoord_{}", **said), kind))
    with open_pool(write(tmp_path, wide("judge_comment_{}"), kind, "other")) as pool:
        assert pool.layout == "matrix"


@ALL
@pytest.mark.parametrize("what", ["url", "summary", "log", "file", "refusal", "samenvatting", "antwoord_url"])
def test_texts_called_otherwise_are_told_with_the_line_that_reads_them(
    what: str, kind: str, tmp_path: Path, run: Callable[..., Ran]
) -> None:
    path = write(tmp_path, wide(f"{{}}_{what}"), kind)
    with open_pool(path) as pool:
        assert pool.layout == "matrix"
        assert not pool.has_responses
    line = ",".join(f"response_{m}={m}_{what}" for m in MODELS)
    assert f"if the answers are in MODEL_{what}, name them with --columns {line}" in run("inspect", path).out
    check(path, columns=dict(pair.split("=") for pair in line.split(",")))


@TYPED
def test_two_kinds_of_answers_are_told_with_the_line_that_works(
    kind: str, tmp_path: Path, run: Callable[..., Ran]
) -> None:
    rows = wide(risposta=lambda i, m: f"because of {m} and {i}")
    path = write(tmp_path, rows, kind)
    seen = run("inspect", path)
    told = "texts of models, not read: antwoord_MODEL and risposta_MODEL"
    assert told in seen.out.replace("\n", " ")
    line = ",".join(f"response_{m}=antwoord_{m}" for m in MODELS)
    assert f"--columns {line}" in seen.out
    check(path, columns=dict(pair.split("=") for pair in line.split(",")))


def test_the_columns_of_many_models_are_looked_up() -> None:
    models = [f"m{n}-7b" for n in range(600)]
    columns = {f"score_{m}": Kind("number") for m in models} | {f"antwoord_{m}": Kind("text") for m in models}
    began = time.process_time()
    assert texts_by_model(columns, ()) == {"antwoord_MODEL": {m: f"antwoord_{m}" for m in models}}
    assert time.process_time() - began < 3  # 0.03 s; a pattern for each column and model took 50


def test_a_pool_of_many_models_opens_in_time(tmp_path: Path) -> None:
    names = [f"m{n}-7b" for n in range(600)]
    rows = [
        {"prompt": f"Do {i}."}
        | {f"antwoord_{m}": f"{m} says {i}" for m in names}
        | {f"score_{m}": (i + at) % 5 for at, m in enumerate(names)}
        for i in range(3)
    ]
    path = write(tmp_path, rows, "csv")
    began = time.process_time()
    with open_pool(path) as pool:
        assert len(pool.models) == len(names)
        assert pool.has_responses
    assert time.process_time() - began < 20  # took a minute


@TYPED
def test_texts_of_some_models_are_told(kind: str, tmp_path: Path) -> None:
    rows = [{**row, "score_oak": 0.5} for row in wide()]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.layout == "matrix"
        assert "if the answers are in antwoord_MODEL, name them with" in str(pool.read_as)


@TYPED
def test_columns_of_models_may_be_named_one_by_one(kind: str, tmp_path: Path) -> None:
    rows = [json.loads(json.dumps(row).replace("score_", "cijfer_")) for row in wide()]
    named = {f"response_{m}": f"antwoord_{m}" for m in MODELS} | {f"score_{m}": f"cijfer_{m}" for m in MODELS}
    check(write(tmp_path, rows, kind), columns=named)


# Lists of numbers that are of the answers, and others


@TYPED
@FORMS
def test_lists_as_long_as_the_answers_in_most_rows_are_told_and_not_read(
    form: str, kind: str, tmp_path: Path
) -> None:
    rows = listed(form)
    rows[4]["rm"].append(9.0)
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert "rm" not in pool.reward_columns
        told = "not read: rm, which has 3 values for 2 answers in row 5; if it is a reward, name it with"
        assert any(note.startswith(told) for note in pool.notes)


def test_lists_of_samples_as_long_as_these_in_most_rows_are_no_rewards(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": f"Do {i}", "model": "oak", "responses": ["a", "b"], "scores": [i, 1], "other": [0.5, 1.0]}
        for i in range(N)
    ]
    rows[4]["other"] = [1.0]
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert pool.reward_columns == ("scores",)
        assert any(note.startswith("not read: other, which has 1 values") for note in pool.notes)


@TYPED
@FORMS
def test_lists_of_another_length_in_later_rows_are_missing_there(
    form: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crowdselect.pool.understood._FIRST_ROWS", 5)
    rows = listed(form)
    rows[7]["rm"].append(9.0)
    with open_pool(write(tmp_path, rows, kind)) as pool:
        at = {text: row.tolist() for text, row in zip(pool.instructions(), pool.scores("rm"), strict=True)}
        lost = [sum(map(math.isnan, at[row["instruction"]])) for row in rows]
        assert lost == [2 if i == 7 else 0 for i in range(N)]
        assert "1 of the lists rm is not as long as the answers beside: missing values" in pool.notes


NO_REWARDS = (
    *("timestamps", "latencies", "lengths", "seeds", "prices", "embedding", "embeddings", "temperatures"),
    *("logprobs", "order", "turn_ids", "indices", "costs"),
)


@TYPED
@pytest.mark.parametrize("name", NO_REWARDS)
def test_lists_of_what_is_no_reward_by_its_name_are_none(name: str, kind: str, tmp_path: Path) -> None:
    rows = [{name if key == "rm" else key: value for key, value in row.items()} for row in listed("objects")]
    path = write(tmp_path, rows, kind)
    with open_pool(path) as pool:
        assert "rewards in" not in str(pool.read_as)
        with pytest.raises(RewardError, match="no column has the name of a reward"):
            pool.scores()
    check(path, name)
    check(path, "reward", columns={"reward": name})


@pytest.mark.parametrize("name", ["losses", "perplexities", "perplexity"])
def test_lists_that_are_better_where_lower_need_a_direction(name: str, tmp_path: Path) -> None:
    rows = [{name if key == "rm" else key: value for key, value in row.items()} for row in listed("objects")]
    path = write(tmp_path, rows, "jsonl")
    with pytest.raises(RewardError, match=f"`reward={name}:down` where lower is better"):
        open_pool(path).scores()
    check(path, f"{name}:up")


@ALL
def test_a_list_called_as_a_number_of_each_answer_leaves_that_as_it_is(kind: str, tmp_path: Path) -> None:
    rows = listed("tidy", rating=lambda i: [0.5, 0.25])
    for i, row in enumerate(rows):
        del row["rm"]
        for answer in row["completions"]:
            answer["rating"] = right(i, answer["model"])
    path = write(tmp_path, rows, kind)
    check(path, "rating")
    with open_pool(path) as pool:
        told = "not read: the column rating, since answers in completions have a rating of their own"
        assert told in str(pool.read_as)


@TYPED
@pytest.mark.parametrize("name", ["embedding", "grid"])
@pytest.mark.parametrize("form", ["texts", "tidy"])
def test_lists_that_have_nothing_to_do_with_the_answers_leave_a_tidy_pool_tidy(
    form: str, name: str, kind: str, tmp_path: Path
) -> None:
    rows = listed(form, **{name: lambda i: [0.5, float(i)] if name == "embedding" else [0.5] * 7})
    names = {"rm": "ratings", "model_names": "generation_models"}
    rows = [{names.get(key, key): value for key, value in row.items()} for row in rows]
    if form == "tidy":
        rows = [{key: value for key, value in row.items() if key != "ratings"} for row in rows]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.read_as is None
        assert name not in pool.reward_columns


def test_a_list_beside_named_rewards_is_not_called_one(tmp_path: Path) -> None:
    rows = listed("tidy", votes=lambda i: [i % 3, 1])
    for i, row in enumerate(rows):
        del row["rm"]
        for answer in row["completions"]:
            answer["rating"] = right(i, answer["model"])
    path = write(tmp_path, rows, "jsonl")
    check(path)
    with open_pool(path) as pool:
        assert "rewards in" not in str(pool.read_as)
        assert set(pool.reward_columns) == {"rating", "sure", "votes"}
