"""Every input of CROWDSELECT_CASES is read, chosen from and exported as the README there wants.

Each kind has tests of its own with inputs of their own elsewhere; here the folders themselves are run.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cases_server import Server
from commands import Ran
from crowdselect import open_pool
from crowdselect.errors import InputError


class Chosen:
    """What `select` made of a pool."""

    def __init__(self, ran: Ran, folder: Path) -> None:
        assert ran.code == 0, ran.err
        self.said = ran.out + ran.err
        self.rows: list[dict[str, Any]] = pq.read_table(folder / "selection.parquet").to_pylist()
        train = folder / "train.jsonl"
        self.train = [json.loads(line) for line in train.read_text().splitlines()] if train.exists() else []

    def reasons(self) -> Counter[str]:
        return Counter(row["reason"].partition(":")[0] for row in self.rows)

    def barred(self, code: str) -> set[str]:
        return {row["id"] for row in self.rows if row["reason"].partition(":")[0] == code}

    def answers(self) -> list[str]:
        return [record["messages"][-1]["content"] for record in self.train]


@pytest.fixture
def choose(run: Callable[..., Ran], tmp_path: Path) -> Callable[..., Chosen]:
    def choosing(pool: Path, *more: object, budget: int = 3) -> Chosen:
        ran = run("select", pool, "--budget", budget, "--clusters", 0, "-o", tmp_path / "out", *more)
        return Chosen(ran, tmp_path / "out")

    return choosing


PLAIN = [
    *("02_response_parts", "04_bool_reward", "07_messages_end_with_answer", "16c_lone_surrogate"),
    *("24e_sharegpt", "24f_prompt_column", "61b_pool_alpaca_same_instruction", "65c_reward_list"),
]


def test_every_folder_is_tested(cases: Path) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    folders = sorted(path.name for path in cases.iterdir() if path.is_dir() and path.name[0].isdigit())
    assert len(folders) >= 40
    assert [name for name in folders if f'"{name}' not in text] == []


@pytest.mark.parametrize("name", PLAIN)
def test_twelve_instructions_and_three_models(name: str, cases: Path, choose: Callable[..., Chosen]) -> None:
    with open_pool(cases / name / "pool.jsonl") as pool:
        assert (len(pool.ids), len(pool.models)) == (12, 3)
        assert all(pool.instructions())
        assert set(pool.left_out()) == {None}
    found = choose(cases / name / "pool.jsonl")
    assert found.reasons() == {"selected": 3, "below_cut": 9}
    for record in found.train:
        assert [turn["role"] for turn in record["messages"]] == ["user", "assistant"]
        assert not record["messages"][-1]["content"].startswith(("[", "{"))


def test_parts_are_the_answer(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "02_response_parts" / "pool.jsonl", budget=12)
    assert all(answer.startswith("Answer of Qwen2.5-") for answer in found.answers())


def test_true_is_one(cases: Path) -> None:
    with open_pool(cases / "04_bool_reward" / "pool.jsonl") as pool:
        assert pool.reward_name(None) == "correct"
        assert set(pool.scores().ravel().tolist()) == {0.0, 1.0}


def test_an_image_is_no_text(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "05b_one_image_row" / "pool.jsonl", budget=11)
    assert found.barred("not_text") == {"q007"}
    assert "image_url" not in json.dumps(found.train)


def test_calls_of_tools(cases: Path, choose: Callable[..., Chosen], tmp_path: Path) -> None:
    found = choose(cases / "06_tool_calls" / "pool.jsonl", budget=12)
    record = next(record for record in found.train if record["id"] == "q007")
    assert [turn["role"] for turn in record["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert record["messages"][1]["tool_calls"][0]["function"]["name"] == "f"
    found = choose(cases / "06_tool_calls" / "pool.jsonl", "--format", "sharegpt", "--overwrite", budget=11)
    assert found.barred("bad_turns") | found.barred("no_tools") == {"q007"}


def test_one_turn_of_the_assistant(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "07_messages_end_with_answer" / "pool.jsonl", budget=12)
    assert all(
        [turn["role"] for turn in record["messages"]].count("assistant") == 1 for record in found.train
    )


def test_save_to_disk(cases: Path, choose: Callable[..., Chosen]) -> None:
    assert choose(cases / "08_save_to_disk" / "pool").reasons() == {"selected": 3, "below_cut": 9}


def test_only_train_is_read(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "09_splits_mixed" / "repo")
    assert "only the split train is read, not test" in found.said
    assert not any(row["id"].startswith("test") for row in found.rows)
    found = choose(cases / "09_splits_mixed" / "repo", "--split", "test", "--overwrite")
    assert all(row["id"].startswith("test") for row in found.rows)


@pytest.mark.parametrize("name", ["matrix.csv", "matrix.parquet", "pool.csv"])
def test_an_index_of_pandas(name: str, cases: Path, choose: Callable[..., Chosen]) -> None:
    path = cases / "11_pandas_index" / name
    assert "an index that pandas wrote" in choose(path).said
    with open_pool(path) as pool:
        assert pool.models[0] in {"m-1.5b", "Qwen2.5-1.5B-Instruct"}
        assert len(pool.reward_columns) == 1


def test_half_a_surrogate_pair(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "16c_lone_surrogate" / "pool.jsonl", budget=12)
    assert sum("\ufffd" in answer for answer in found.answers()) <= 1
    assert "1 texts held half a surrogate pair" in found.said


@pytest.mark.parametrize("name", ["na", "none", "null"])
def test_what_stands_for_no_number(name: str, cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "17_csv" / f"{name}.csv")
    assert "reward: 1 values such as NA are missing" in found.said
    assert Counter(row["n_rewards"] for row in found.rows) == {3: 11, 2: 1}


@pytest.mark.parametrize("name", ["semi", "bom", "backslash"])
def test_other_csv(name: str, cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "17_csv" / f"{name}.csv")
    assert all(answer.endswith('second "line", ok') for answer in found.answers())


def test_latin_is_named(cases: Path) -> None:
    with pytest.raises(InputError, match=r"latin\.csv: holds byte 0xe9.*Latin-1"):
        open_pool(cases / "17_csv" / "latin.csv")


def test_distilabel_names_its_models(cases: Path, choose: Callable[..., Chosen]) -> None:
    path = cases / "19_distilabel_model_names" / "pool.jsonl"
    assert choose(path).reasons() == {"selected": 3, "below_cut": 9}
    with open_pool(path) as pool:
        assert "gpt-4o" not in pool.models
        assert "model_name is taken for the judge" in str(pool.read_as)


def test_short_ratings(cases: Path, choose: Callable[..., Chosen]) -> None:
    path = cases / "19c_distilabel_short_ratings" / "pool.jsonl"
    with pytest.raises(
        InputError, match=r"row 4: ratings has 2 values for 3 answers; 1 of 12 rows is malformed"
    ):
        open_pool(path)
    found = choose(path, "--skip-invalid")
    assert found.reasons() == {"selected": 3, "below_cut": 8, "malformed": 1}


def test_empty_completions(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "20_ultrafeedback_empty_completions" / "pool.jsonl", "--reward", "overall_score")
    assert found.reasons() == {"selected": 3, "below_cut": 7, "no_answer": 2}


def test_a_row_twice(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "21_duplicate_rows_no_id" / "pool.jsonl", "--reward", "overall_score")
    assert len(found.rows) == 12
    assert "counted once: 1 row equal to another in all columns" in found.said


def test_samples_without_a_number(cases: Path, choose: Callable[..., Chosen], tmp_path: Path) -> None:
    path = cases / "21c_samples_unnumbered" / "pool.jsonl"
    found = choose(path)
    assert "they are samples" in found.said
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(f"{line}\n" for line in reversed(path.read_text().splitlines())))
    again = choose(turned, "--overwrite")
    assert again.rows == found.rows
    assert again.train == found.train


def test_a_marker_for_no_reward(cases: Path, run: Callable[..., Ran], choose: Callable[..., Chosen]) -> None:
    path = cases / "22_sentinel_minus_one" / "pool.jsonl"
    said = run("inspect", path).err
    assert "the lowest value -1 occurs 6 times, and the next is 5" in said
    assert "--missing -1" in said
    assert choose(path, "--missing", "-1").reasons()["too_few_rewards"] == 2


def test_lists_of_generations(cases: Path, choose: Callable[..., Chosen]) -> None:
    path = cases / "24_openr1" / "pool.jsonl"
    with pytest.raises(
        InputError, match=r"closest is the layout samples.*name the model with `model='NAME'`"
    ):
        open_pool(path)
    with open_pool(path, model="r1") as pool:
        assert pool.models == ("r1",)
        assert len(pool.ids) == 8
        assert pool.sampled
        assert pool.responses([("u0", "r1")] * 2, [0.0, 1.0]) == ["1", "2"]
        assert pool.scores_of_part(pool.reward_name(None)).ravel().tolist() == [1.0, 0.5] * 4
    assert len(choose(path, "--model", "r1", "--method", "reward").train) == 3


@pytest.mark.parametrize("name", ["pool.csv", "renamed.csv"])
def test_routerbench(name: str, cases: Path) -> None:
    with open_pool(cases / "24c_routerbench" / name) as pool:
        assert pool.models == ("WizardLM/WizardLM-13B-V1.2", "gpt-4-1106-preview")
        assert pool.evaluations == ("RouterBench",)
        assert pool.responses([("mmlu.val.0", model) for model in pool.models]) == ["A", "B"]
        assert pool.scores()[0].tolist() == [0.0, 1.0]


def test_lm_evaluation_harness(cases: Path, choose: Callable[..., Chosen]) -> None:
    path = cases / "24d_lm_eval_samples" / "results"
    with pytest.raises(
        InputError, match="strict-match, flexible-extract; name one with `filter=flexible-extract`"
    ):
        open_pool(path)
    with open_pool(path, filter="flexible-extract") as pool:
        assert pool.models == ("Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct")
        assert len(pool.ids) == 11
        assert pool.scores()[:, 1].any()  # of the newest run; the older one has none
        answers = pool.responses([(id_, pool.models[0]) for id_ in pool.ids])
        assert [answer is not None for answer in answers] == [id_.startswith("gsm8k") for id_ in pool.ids]
    assert choose(path, "--filter", "flexible-extract").reasons()["no_answer"] == 5


def test_questions_of_an_evaluation_are_no_quiet_training_file(
    cases: Path, run: Callable[..., Ran], tmp_path: Path
) -> None:
    path = cases / "24d_lm_eval_samples" / "results"
    said = "these rows are questions of an evaluation (arc_easy, gsm8k), which cannot measure a model that was trained on them"
    given = (path, "--filter", "flexible-extract")
    looked = run("inspect", *given)
    assert looked.code == 0
    assert (
        looked.err.count("questions of an evaluation")
        == looked.err.count(f"warning: {said}; choose from")
        == 1
    )
    ran = run("select", *given, "--budget", 2, "--clusters", 0, "-o", tmp_path / "out")
    assert ran.code == 0
    assert ran.err.count("questions of an evaluation") == ran.err.count(f"warning: {said}; choose from") == 1
    assert "(--decontaminate)" in ran.err
    assert said in json.loads((tmp_path / "out" / "manifest.json").read_text())["warnings"][0]
    assert f"- `` {said}" in (tmp_path / "out" / "README.md").read_text()
    # What the line advises: another pool, without what shares text with this one.
    with open_pool(path, filter="flexible-extract") as pool:
        texts = [str(text) for text in pool.instructions()]
    rows = [
        {"id": f"{i}", "instruction": text, "model": model, "response": "An answer.", "score": float(i % 3)}
        for i, text in enumerate([*texts, *(f"Name a river of country number {i}." for i in range(9))])
        for model in ("a-1b", "a-7b")
    ]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = run("inspect", tmp_path / "other.jsonl")
    assert "questions of an evaluation" not in other.err
    given = (tmp_path / "other.jsonl", "--budget", 5, "--clusters", 0, "--decontaminate", path)
    ran = run("select", *given, "-o", tmp_path / "clean")
    assert ran.code == 0, ran
    assert "11 contaminated" in ran.out
    assert "questions of an evaluation" not in ran.err
    assert "gsm8k:" in run("why", tmp_path / "clean", "10").out


@pytest.mark.extra
def test_a_finish_reason_that_is_an_error(
    cases: Path, run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    case = cases / "30_collect_finish_error"
    ran = run(
        "collect", case / "ins.jsonl", "--crowd", server.crowd(case, tmp_path), "-o", tmp_path / "p.parquet",
        "--attempts", 2, "--retry-wait", 0.01,
    )  # fmt: skip
    assert ran.code == 3
    assert "Upstream error from provider" in ran.out + ran.err
    assert not (tmp_path / "p.parquet").exists()


@pytest.mark.extra
def test_an_unfinished_verdict(cases: Path, run: Callable[..., Ran], server: Server, tmp_path: Path) -> None:
    case = cases / "31_judge_think_cut"
    judge = f"judge:{server.crowd(case, tmp_path)}#judge"
    ran = run("reward", case / "pool.jsonl", "--with", judge, "-o", tmp_path / "r.parquet", "--no-self-test")
    assert ran.code == 3
    assert "an unfinished <think>" in ran.out
    assert pq.read_table(tmp_path / "r.parquet")["judge"].null_count == 6


def test_cut_answers_are_no_targets(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "40_truncated_chosen" / "pool.jsonl", budget=12)
    assert not any("<think>" in answer for answer in found.answers())


def test_turns_that_do_not_alternate(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "42_export_one_bad_row" / "pool.jsonl", "--format", "sharegpt")
    assert found.reasons() == {"selected": 3, "below_cut": 6, "bad_turns": 3}
    assert choose(cases / "42_export_one_bad_row" / "pool.jsonl", "--overwrite").reasons()["bad_turns"] == 0


def test_pairs_differ(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "43_pairs_identical" / "pool.jsonl", "--pairs", "best-worst", budget=8)
    for record in found.train:
        one, other = (record[side][0]["content"].strip().casefold() for side in ("chosen", "rejected"))
        assert one != other
        assert other


def test_a_shared_frame_is_no_contamination(
    cases: Path, choose: Callable[..., Chosen], run: Callable[..., Ran], tmp_path: Path
) -> None:
    case = cases / "45_decontaminate_boilerplate"
    found = choose(case / "pool.jsonl", "--decontaminate", case / "bench.jsonl")
    assert [row["reason"] for row in found.rows if row["id"] == "q000"] == ["contaminated:gpqa-2"]
    assert found.reasons()["contaminated"] == 1
    assert "explain how rain works in 2 sentences" in run("why", tmp_path / "out", "q000").out


def test_short_questions_are_found(cases: Path, choose: Callable[..., Chosen]) -> None:
    case = cases / "45b_decontaminate_short"
    found = choose(case / "pool.jsonl", "--decontaminate", case / "bench.jsonl")
    wanted = {"contaminated:b0", "contaminated:b1", "contaminated:b2"}
    assert {row["reason"] for row in found.rows if row["reason"].startswith("cont")} == wanted


def test_models_that_are_spelt_otherwise(
    cases: Path, run: Callable[..., Ran], choose: Callable[..., Chosen], tmp_path: Path
) -> None:
    case = cases / "47_model_spelling"
    ran = run("select", case / "pool.jsonl", "--rewards", case / "rewards.jsonl", "--budget", 3, "--dry-run")
    assert ran.code == 2
    assert (
        "none of its 36 rows belongs to an answer of the pool: none of its 3 models is one of the 3"
        in ran.err
    )
    assert "it says 'Qwen/Qwen2.5-1.5B-Instruct', the pool 'Qwen2.5-1.5B-Instruct'" in ran.err
    crowd = tmp_path / "crowd.toml"
    lines = ran.err.partition("join them: ")[2].strip().replace("; ", "\n")
    crowd.write_text(lines.replace("]] ", "]]\n").replace(" aliases", "\naliases"))
    assert len(choose(case / "pool.jsonl", "--rewards", case / "rewards.jsonl", "--crowd", crowd).train) == 3


@pytest.mark.extra
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("60_collect_alpaca_input", "Translate to French.\nI have 0 cats."),
        ("60_collect_prompt_column", "Say 0 things about rain"),
        ("60_collect_tools", "Say 0 things about rain"),
    ],
)
def test_what_is_sent(  # noqa: PLR0917  (fixtures)
    name: str, wanted: str, cases: Path, run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    case = cases / name
    before = len(server.asked())
    crowd = server.crowd(case, tmp_path)
    ran = run("collect", case / "ins.jsonl", "--crowd", crowd, "-o", tmp_path / "p.parquet")
    assert ran.code == 0, ran.err
    asked = server.asked()[before:]
    assert wanted in [body["messages"][-1]["content"] for body in asked]
    assert all(("tools" in body) == (name == "60_collect_tools") for body in asked)


def test_one_instruction_and_twelve_inputs(cases: Path, choose: Callable[..., Chosen]) -> None:
    path = cases / "61b_pool_alpaca_same_instruction" / "pool.jsonl"
    found = choose(path, budget=12)
    assert found.reasons() == {"selected": 12}
    assert len({record["messages"][0]["content"] for record in found.train}) == 12
    assert all(record["id"] in record["messages"][0]["content"] for record in found.train)


def test_lists_of_rewards(cases: Path) -> None:
    with open_pool(cases / "65c_reward_list" / "pool.jsonl") as pool:
        assert pool.sampled
        assert pool.samples is not None
        assert len(pool.samples.rewards("rewards")) == 36 * 3


def test_prompts_with_their_reference(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "70_rl_export" / "pool.jsonl", "--format", "rl", "--reference", "reference")
    assert found.reasons() == {"selected": 3, "below_cut": 9}
    for record in found.train:
        assert [turn["role"] for turn in record["prompt"]] == ["user"]
        assert record["prompt"][0]["content"].startswith("Explain how ")
        assert record["reference"] == "42"


def test_how_samples_differ_within_and_between_models(cases: Path, choose: Callable[..., Chosen]) -> None:
    found = choose(cases / "71_within_model_variance" / "pool.jsonl", budget=6)
    half, sure = {"q0", "q1", "q2"}, {"q3", "q4", "q5"}
    assert {row["id"]: (row["within"], row["separability"]) for row in found.rows} == {
        **dict.fromkeys(half, (0.25, 0.0)),
        **dict.fromkeys(sure, (0.0, 0.25)),
    }


def test_the_best_sample_is_exported(
    cases: Path, choose: Callable[..., Chosen], run: Callable[..., Ran], tmp_path: Path
) -> None:
    found = choose(cases / "72_first_sample_not_best" / "pool.jsonl")
    assert all(answer.startswith("RIGHT") for answer in found.answers())
    row = next(row for row in found.rows if row["selected"])
    assert row["sample"] > 0
    assert row["reward"] == 1
    said = run("why", tmp_path / "out", row["id"]).out
    assert f"answer to train on: {row['model']}, sample {row['sample']:g} (reward 1;" in said


@pytest.mark.extra
def test_a_judge_that_refuses_parameters(
    cases: Path, run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    case = cases / "31_judge_gpt5"
    judge = f"judge:{server.crowd(case, tmp_path)}#judge"
    ran = run("reward", case / "pool.jsonl", "--with", judge, "-o", tmp_path / "r.parquet", "--no-self-test")
    assert ran.code == 0, ran
    assert pq.read_table(tmp_path / "r.parquet")["judge"].to_pylist() == [7.0] * 6
    for parameter in ("max_tokens", "logprobs", "temperature"):
        assert ran.err.count(f"the server refuses {parameter!r}") == 1


@pytest.mark.extra
def test_the_verdict_after_the_thinking(
    cases: Path, run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    case = cases / "51_ah_think"
    before = len(server.asked())
    ran = run(
        *("evaluate", "arena-hard", "--answers", case / "answers.jsonl", "--baseline", case / "base.jsonl"),
        *("--questions", case / "question.jsonl", "--judge", f"{server.crowd(case, tmp_path)}#judge"),
        *("-o", tmp_path / "out"),
    )
    assert ran.code == 0, ran
    assert len(server.asked()) - before == 8  # each game once
    games = [
        json.loads(line)["games"] for line in (tmp_path / "out" / "judgments.jsonl").read_text().splitlines()
    ]
    assert [[game["score"] for game in pair] for pair in games] == [["A>B", "A>B"]] * 4
    assert json.loads((tmp_path / "out" / "result.json").read_text())["score"] == 50


def test_a_baseline_for_each_category(cases: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    case = cases / "51_ah_v2_two_baselines"
    ran = run(
        *("evaluate", "arena-hard", "--judgments", case / "judgments.jsonl"),
        *("--questions", case / "question.jsonl", "-o", tmp_path / "out"),
    )
    assert ran.code == 0, ran
    found = json.loads((tmp_path / "out" / "result.json").read_text())["categories"]
    assert {name: (part["baseline"], part["score"]) for name, part in found.items()} == {
        "hard_prompt": ("o3-mini-2025-01-31", 0.0),
        "creative_writing": ("gemini-2.0-flash-001", 0.0),
    }


def test_a_server_of_sglang_is_tested_elsewhere(cases: Path) -> None:
    """In `test_reward_served.py`: it takes a tokenizer."""
    with open_pool(cases / "32_served_sglang" / "pool.jsonl") as pool:
        assert len(pool.ids) == 2
