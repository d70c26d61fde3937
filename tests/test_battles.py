"""Rows that hold the answers of several models beside their names: battles, and preference pairs."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crowds import ALL, TYPED, Row, answered, user, write
from crowdselect import open_pool
from crowdselect.errors import InputError, LayoutError

NAMES = ("elm-2b", "oak-70b", "oak-7b")
PROMPTS = [f"Do {i}" for i in range(3)]


def answer(prompt: str, model: str) -> str:
    return f"{model} did: {prompt}"


def score(prompt: str, model: str) -> float:
    return float(PROMPTS.index(prompt) * 2 + NAMES.index(model))


def long() -> list[Row]:
    return [
        {"prompt": p, "model": m, "response": answer(p, m), "score": score(p, m)}
        for p in PROMPTS
        for m in NAMES
    ]


def battles(form: str = "{}_{}", sides: str = "ab", **more: Callable[[int], Any]) -> list[Row]:
    """Every model against every other, for every prompt; a name is made of what a column holds and of its side."""
    rows: list[Row] = []
    for prompt in PROMPTS:
        for pair in combinations(NAMES, 2):
            row: Row = {"prompt": prompt, **{name: value(len(rows)) for name, value in more.items()}}
            for side, model in zip(sides, pair, strict=True):
                held = {"model": model, "response": answer(prompt, model), "score": score(prompt, model)}
                row |= {form.format(what, side): value for what, value in held.items()}
            rows.append(row)
    return rows


def pairs(*names: str, chat: bool = False) -> list[Row]:
    """The same as preference pairs, with columns of the models and the scores where they have names."""
    rows = []
    for row in battles():
        sides = sorted("ab", key=lambda side: -row[f"score_{side}"])
        said = [row[f"response_{side}"] for side in sides]
        if chat:
            said = [[user(row["prompt"]), {"role": "assistant", "content": text}] for text in said]
        values = [row[f"{what}_{side}"] for what in ("model", "score") for side in sides]
        rows.append(
            {
                "prompt": row["prompt"],
                "chosen": said[0],
                "rejected": said[1],
                **dict(zip(names, values, strict=False)),
            }
        )
    return rows


def is_the_crowd(path: Path, folder: Path, kind: str, reward: str = "score", **how: Any) -> None:
    """What is read is what a row per answer says."""
    with open_pool(path, **how) as pool, open_pool(write(folder, long(), kind, "long")) as usual:
        order = [list(usual.instructions()).index(text) for text in pool.instructions()]
        assert pool.models == usual.models == NAMES
        assert np.array_equal(pool.scores(), usual.scores()[order])
        assert sorted(map(str, answered(pool))) == sorted(map(str, answered(usual)))
        assert pool.reward_columns == (reward,)
        assert not pool.sampled
        assert "counted once: 9 answers that other rows hold, too" in pool.notes


@ALL
@pytest.mark.parametrize(
    ("form", "sides"),
    [
        ("{}_{}", "AB"),
        ("{}_{}", "12"),
        ("{1}_{0}", "ab"),
        ("{} {}", "AB"),
        ("{}{}", "AB"),
        ("model_{1}_{0}", "12"),
    ],
)
def test_rows_with_the_same_prompt_are_one_instruction(
    form: str, sides: str, kind: str, tmp_path: Path
) -> None:
    rows = battles(form, sides)
    if form.startswith("model"):
        rows = [{name.replace("_model", "_name"): value for name, value in row.items()} for row in rows]
    path = write(tmp_path, rows, kind)
    is_the_crowd(path, tmp_path, kind)
    with open_pool(path) as pool, open_pool(tmp_path / f"long.{kind}") as usual:
        assert pool.layout == "battles"
        assert pool.ids.tolist() == usual.ids.tolist()


@ALL
def test_an_id_of_each_battle_is_not_that_of_the_instruction(
    kind: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = write(tmp_path, battles(id=lambda i: f"battle {i}"), kind)
    said = (
        "no instruction has rewards of more than 2 models, but 6 repeat the text of another: the id seems to differ from row "
        "to row; --columns id= makes it of the text"
    )
    assert said in run("inspect", path).err
    ran = run("select", path, "--budget", 3, "--clusters", 0, "-o", tmp_path / "out")
    assert (ran.code, said in ran.err) == (0, True)
    assert said not in run("inspect", path, "--columns", "id=").err
    is_the_crowd(path, tmp_path, kind, columns={"id": ""})


@ALL
def test_an_id_of_the_instruction_puts_its_battles_together(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, battles(id=lambda i: f"q{i // 3}"), kind)
    is_the_crowd(path, tmp_path, kind)
    with open_pool(path) as pool:
        assert pool.ids.tolist() == ["q0", "q1", "q2"]


@ALL
def test_other_answers_of_a_model_are_samples(kind: str, tmp_path: Path) -> None:
    """And so are other scores of the same answer, whose mean counts."""
    rows = battles()[:2]
    rows[0] |= {"response_a": "one", "score_a": 1.0}
    rows[1] |= {"response_a": "two", "score_a": 4.0}
    for said in ({}, {"response_a": "one"}):
        path = write(tmp_path, [rows[0], rows[1] | said], kind)
        with open_pool(path) as pool:
            assert pool.scores().tolist() == [[2.5, 1, 2]]
            texts = pool.responses([(pool.ids[0], "elm-2b")] * 2, [0.0, 1.0])
            assert sorted(map(str, texts)) == (["one", "one"] if said else ["one", "two"])


@ALL
def test_numbers_of_a_battle_are_no_rewards(kind: str, tmp_path: Path) -> None:
    one, zero = (lambda _: 1), (lambda _: 0)
    rows = battles(
        winner_model_a=one, winner_model_b=zero, winner_tie=zero, tokens_a=one, tokens_b=one, turns=one
    )
    is_the_crowd(write(tmp_path, rows, kind), tmp_path, kind)


@ALL
def test_columns_that_are_of_neither_side(kind: str, tmp_path: Path) -> None:
    """A judge is no model, and a right answer no response."""
    path = write(tmp_path, battles(model=lambda _: "judge", answer=lambda i: f"right {i // 3}"), kind)
    is_the_crowd(path, tmp_path, kind)
    with open_pool(path) as pool:
        assert "not read: model" in str(pool.read_as)
        found = dict(zip(pool.instructions(), pool.column("answer"), strict=True))
    assert found == {prompt: f"right {at}" for at, prompt in enumerate(PROMPTS)}


@ALL
def test_conversations_are_the_prompt_and_the_answer(kind: str, tmp_path: Path) -> None:
    rows = battles(question_id=lambda i: i, turn=lambda _: 1)
    for row in rows:
        for side in "ab":
            turns = [user(row["prompt"]), {"role": "assistant", "content": row.pop(f"response_{side}")}]
            row[f"conversation_{side}"] = turns
        del row["prompt"]
    is_the_crowd(write(tmp_path, rows, kind), tmp_path, kind, columns={"id": ""})
    for row in rows:
        for side in "ab":
            row[f"conversation_{side}"] += [user("And?"), {"role": "assistant", "content": "So."}]
    with open_pool(write(tmp_path, rows, kind), columns={"id": ""}) as pool:
        chats = pool.prompts([(pool.ids[0], model) for model in NAMES])
        assert {chat[1]["content"].partition(" ")[0] for chat in chats} == set(NAMES)
        assert [chat[2] for chat in chats] == [user("And?")] * 3
        assert set(answered(pool)) == {"So."}


@ALL
def test_scores_of_named_models_without_answers(kind: str, tmp_path: Path) -> None:
    rows = [{name: v for name, v in row.items() if "response" not in name} for row in battles()]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.models, pool.has_responses, len(pool.ids)) == (NAMES, False, 3)
        assert sorted(pool.scores()[:, 0].tolist()) == [0, 2, 4]


@ALL
@pytest.mark.parametrize("sides", ["ab", "12"])
def test_who_won_is_no_reward(sides: str, kind: str, tmp_path: Path) -> None:
    rows = battles("{}_{}", sides, id=lambda i: i, winner=lambda _: "model_a")
    rows = [{name: v for name, v in row.items() if "score" not in name} for row in rows]
    one, other = sides
    with pytest.raises(
        LayoutError,
        match=rf"these are battles \(model_{one}, model_{other}\), .* score_{one} and score_{other}",
    ):
        open_pool(write(tmp_path, rows, kind))


@ALL
def test_other_names_of_models_make_no_battles(kind: str, tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "prompt": p, "judge_model": "j", "base_model": "b", **{m: score(p, m) for m in NAMES}}
        for i, p in enumerate(PROMPTS)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert (pool.layout, pool.models) == ("matrix", NAMES)


# Preference pairs


@ALL
@pytest.mark.parametrize("chat", ["", "chat"])
@pytest.mark.parametrize(
    "names",
    [
        ("chosen_model", "rejected_model", "score_chosen", "score_rejected"),
        ("chosen-model", "rejected-model", "chosen-rating", "rejected-rating"),
        ("model_chosen", "model_rejected", "chosen_avg_rating", "rejected_avg_rating"),
    ],
)
def test_pairs_of_named_models_are_answers(
    names: tuple[str, ...], chat: str, kind: str, tmp_path: Path
) -> None:
    reward = names[2].replace("chosen", "").strip("-_")
    is_the_crowd(write(tmp_path, pairs(*names, chat=bool(chat)), kind), tmp_path, kind, reward)


@ALL
def test_pairs_without_scores_are_answers_to_score(kind: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, pairs("chosen_model", "rejected_model"), kind)) as pool:
        assert (pool.models, pool.reward_columns, len(pool.ids)) == (NAMES, (), 3)
        assert sorted(map(str, answered(pool))) == sorted(answer(p, m) for p in PROMPTS for m in NAMES)


@ALL
def test_pairs_without_a_name_are_told_which(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        LayoutError, match="no column says which model gave chosen and rejected; wanted columns chosen_model"
    ):
        open_pool(write(tmp_path, pairs(), kind))
    rows = [{n.replace("ed", "ed_response"): v for n, v in row.items()} for row in pairs()]
    for names in (pairs("chosen_model"), [row | {"chosen_model": "m"} for row in rows]):
        with pytest.raises(LayoutError, match="which model gave rejected; wanted"):
            open_pool(write(tmp_path, names, kind))


@ALL
def test_a_second_answer_that_is_not_read_is_told(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, pairs("chosen_model", "rejected_model", "score_chosen", "score_rejected"), kind)
    with open_pool(path, columns={"model": "chosen_model", "response": "chosen"}) as pool:
        assert (
            "not read: rejected, since `columns` names chosen; without model and response in it the answers of both models are read"
            in pool.notes
        )
    with open_pool(path, columns={"model": "chosen_model"}) as pool:
        assert "not read: chosen, rejected, since `columns` names chosen_model" in str(pool.notes)
    with open_pool(
        write(tmp_path, pairs("chosen_model"), kind, "one"),
        columns={"model": "chosen_model", "response": "chosen"},
    ) as pool:
        assert "not read: rejected, since `columns` names chosen" in pool.notes


# What is wrong in a row


@ALL
def test_a_row_that_is_wrong_counts_once(kind: str, tmp_path: Path) -> None:
    for change, what in (
        ({"model_a": "", "model_b": ""}, "model_a is missing"),
        ({"prompt": None}, "neither an id nor text"),
        (
            {"score_a": "k.A.", "score_b": "-"},
            "score_a is 'k.A.', not a number; leave it empty where there is none",
        ),
    ):
        rows = battles()
        rows = [{n: str(v) for n, v in row.items()} for row in rows]
        rows[1] |= change
        path = write(tmp_path, rows, kind)
        with pytest.raises(InputError, match=f"row 2: .*{what}.*; 1 of 9 rows is malformed"):
            open_pool(path)
        with open_pool(path, skip_invalid=True) as pool:
            assert sorted(str(why).partition(":")[0] for why in pool.left_out()) == ["None"] * 3 + [
                "malformed"
            ]
            assert pool.malformed == 1


@ALL
def test_a_side_without_a_model_is_left_out_alone(kind: str, tmp_path: Path) -> None:
    rows = [{n: str(v) for n, v in row.items()} for row in battles()]
    rows[1]["model_b"] = ""
    path = write(tmp_path, rows, kind)
    with pytest.raises(InputError, match=r"row 2: model_b is missing.*; 1 of 9 rows is malformed"):
        open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert set(pool.left_out()) == {None}
        assert pool.malformed == 0
        said = "1 answer without a model is left out; others of its row have one"
        assert said in pool.notes


@ALL
def test_a_side_without_an_answer_is_none(kind: str, tmp_path: Path) -> None:
    rows = battles()
    rows[0] |= {"response_b": None, "score_b": None, "model_b": None}
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert set(pool.left_out()) == {None}
        assert not np.isnan(pool.scores()).any()


@ALL
def test_battles_without_what_was_asked(kind: str, tmp_path: Path) -> None:
    rows = [{"frage" if n == "prompt" else n: v for n, v in row.items()} for row in battles()]
    path = write(tmp_path, rows, kind)
    with pytest.raises(
        LayoutError, match=r"closest is the layout battles, which lacks the instruction; .*instruction=COLUMN"
    ):
        open_pool(path)
    is_the_crowd(path, tmp_path, kind, columns={"instruction": "frage"})


# Scores of wide files that are texts


@ALL
@pytest.mark.parametrize("form", ["{} score", "score_{}", "{}_rating"])
@pytest.mark.parametrize("said", ["", "answers"])
def test_a_text_among_scores_is_a_malformed_row(said: str, form: str, kind: str, tmp_path: Path) -> None:
    rows = []
    for i, prompt in enumerate(PROMPTS):
        row: Row = {"id": f"q{i}", "prompt": prompt}
        for model in NAMES:
            row |= {model: answer(prompt, model)} if said else {}
            row[form.format(model)] = str(score(prompt, model))
        rows.append(row)
    for value, wanted in (("k.A.", "not a number"), ("3,5", "wanted a decimal point")):
        rows[1][form.format("oak-7b")] = value
        path = write(tmp_path, rows, kind)
        with pytest.raises(
            InputError,
            match=f"row 2: {form.format('oak-7b')} is '{value}'[,;] {wanted}.*; 1 of 3 rows is malformed",
        ):
            open_pool(path)
    rows[1][form.format("oak-7b")] = "-"
    with open_pool(write(tmp_path, rows, kind), skip_invalid=True) as pool:
        assert len(pool.models) == 3
        assert [str(why).partition(":")[0] for why in pool.left_out()] == ["None", "malformed", "None"]


@TYPED
def test_right_answers_are_no_scores(kind: str, tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "m": "a", "m_score": 1, "answer": "x", "correct_answer": ["7", "8", "y"][i]}
        for i in range(3)
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == ("m",)


def test_a_row_with_an_answer_of_its_own_is_no_battle(run):
    """Two judges, or a reference, beside a model, its answer and its score: the answer is the row's."""
    own = [{"id": f"q{i}", "instruction": f"Do {i}", "model": m, "response": f"{m} {i}", "score": i + j}
           for i in range(6) for j, m in enumerate(("oak-7b", "ash-7b"))]  # fmt: skip
    sides = {"model_a": "x", "model_b": "y", "score_a": 1, "score_b": 0.5}
    with open_pool([row | sides for row in own]) as pool:
        assert (pool.layout, pool.models, pool.usual_reward) == ("long", ("ash-7b", "oak-7b"), "score")
        assert pool.responses([("q0", "oak-7b")]) == ["oak-7b 0"]
