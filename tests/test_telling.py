"""What a reward cannot tell is said: ranks tell of answers alone, a number of the question of instructions alone, and none of nothing."""

import json

import numpy as np
import pytest

from commands import manifest, train
from crowdselect import Options, open_pool, select
from crowdselect.errors import RewardError
from crowdselect.methods import method_named
from crowdselect.numeric.telling import share_of_commonest, tells_of_answers_alone, tells_of_rows_alone

MODELS = ("qwen2.5-1b", "qwen2.5-7b", "llama-3-8b", "llama-3-70b", "odd-1")
ROWS = 24
ASK = "its name does not say which end is better; write --reward"
NONE = "no answer has a reward, so which of several to an instruction is the best is not known; --answer random takes any"


def written(path, numbers, *, models=MODELS, rows=ROWS):
    """A pool of one answer per row; each number is a function of the places of instruction and model."""
    path.write_text(
        "".join(
            json.dumps(
                {
                    "id": f"q{i:02d}",
                    "instruction": f"Tell me of {i * i}?",
                    "model": model,
                    "response": f"A {i} of {model}",
                }
                | {name: number(i, j) for name, number in numbers.items()}
            )
            + "\n"
            for i in range(rows)
            for j, model in enumerate(models)
        )
    )
    return path


def place(i, j):
    """1 is the best: a permutation of 1 to 5 in every instruction."""
    return (i * 3 + j * (1 + i % 4)) % 5 + 1


def of_question(i, _):
    return i % 7 + 1


def score(i, j):
    return (i * i + j * 5 + i * j) % 11


@pytest.mark.parametrize(
    "name", ["rank", "Ranking", "place", "human_rank", "position", "mean_rank", "Rang", "ranks"]
)
def test_the_direction_of_a_place_is_asked_for(run, tmp_path, name):
    pool = written(tmp_path / "pool.jsonl", {name: place})
    for command in ("inspect", "select"):
        more = () if command == "inspect" else ("--budget", 4, "-o", tmp_path / "chosen")
        run(command, pool, "--reward", name, *more).refuses(
            f"{name} goes from 1 to 5, and {ASK} {name}:down where lower is better"
        )


def test_a_japanese_place_too(run, tmp_path):
    run("inspect", written(tmp_path / "pool.jsonl", {"順位": place}), "--reward", "順位").refuses(
        "--reward '順位:down'"
    )


@pytest.mark.parametrize("name", ["rank_score_of_franka", "placement", "composition", "frank"])
def test_a_name_that_only_holds_such_a_word_is_not_asked(name, tmp_path):
    with open_pool(written(tmp_path / "pool.jsonl", {name: score})) as pool:
        if name.startswith("rank_"):
            with pytest.raises(RewardError, match="does not say which end is better"):
                pool.reward_name(name)
        else:
            assert pool.reward_name(name) == name


def test_a_rank_that_is_read_as_the_reward_is_asked_for_by_its_own_name(run, tmp_path):
    pool = written(tmp_path / "pool.jsonl", {"rank": place})
    named = ("--columns", "reward=rank")
    options = ("--budget", 4, "--clusters", 0, "--method", "random")
    run("select", pool, *named, *options, "-o", tmp_path / "no").refuses(
        "reward (rank) goes from 1 to 5", "--reward reward:down"
    )
    ran = run("select", pool, *named, *options, "--reward", "reward:down", "-o", tmp_path / "chosen")
    assert ran.code == 0
    assert {row["id"] for row in train(tmp_path / "chosen")} == set(
        _best_of(tmp_path / "chosen", place, least=True)
    )


def _best_of(folder, number, *, least):
    """The ids of rows whose answer has the lowest, or the highest, number."""
    for row in train(folder):
        i = int(row["id"][1:])
        model = row["messages"][-1]["content"].partition(" of ")[2]
        own, all_ = number(i, MODELS.index(model)), [number(i, j) for j in range(len(MODELS))]
        if own == (min if least else max)(all_):
            yield row["id"]


def test_a_rank_of_a_second_file_is_asked_for_without_a_range(run, tmp_path):
    pool = written(tmp_path / "pool.jsonl", {})
    rows = [
        {"id": f"q{i:02d}", "model": m, "rank": place(i, j)}
        for i in range(ROWS)
        for j, m in enumerate(MODELS)
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = run("inspect", pool, "--rewards", tmp_path / "r.jsonl", "--reward", "rank")
    ran.refuses(
        "the name rank does not say which end is better", "--reward rank:down where lower is better, "
    )
    assert "nan" not in ran.err


def test_ranks_choose_no_instruction(run, tmp_path):
    pool = written(tmp_path / "pool.jsonl", {"rank": place})
    shown = run("inspect", pool, "--reward", "rank:down")
    assert (
        "warning: rank:down has the same values in nearly every instruction, as ranks do"
        in shown.err + shown.out
    )
    assert (
        json.loads(run("inspect", pool, "--reward", "rank:down", "--json").out)["rewards"]["rank:down"][
            "tells_of"
        ]
        == "answers"
    )
    line = shown.out.strip().splitlines()[-1].split()
    assert line[:3] == ["crowdselect", "select", str(pool)]
    assert " ".join(line).endswith("--method random --reward rank:down --budget 10% -o chosen")
    assert run(*line[1:-1], tmp_path / "chosen").code == 0
    rows = train(tmp_path / "chosen")
    assert len(rows) == 2
    assert {row["id"] for row in rows} == set(_best_of(tmp_path / "chosen", place, least=True))
    options = (
        "--reward",
        "rank:down",
        "--clusters",
        0,
        "--budget",
        4,
        "-o",
        tmp_path / "flat",
        "--overwrite",
    )
    flat = run("select", pool, *options, "--weights", "difficulty=1,separability=1")
    assert (
        "warning: difficulty (3 in 100.0%) and separability (2 in 100.0%) are the same in nearly all eligible instructions, as where "
        "rewards are ranks, which tell which answer is better and not which instruction is harder: little but chance chooses among these"
    ) in flat.out + flat.err
    noisy = run("select", pool, *options)  # no advice that the other warning takes back
    assert (
        "warning: stability is mostly noise here: only 2 model families have two sizes or more\n"
        in noisy.out + noisy.err
    )
    assert "little but chance and stability chooses among these" in noisy.out + noisy.err


def test_one_number_that_is_nearly_the_same_everywhere_is_told(run, tmp_path):
    """Of two weights one chooses nothing; the line that leaves it out is right."""
    pool = written(tmp_path / "pool.jsonl", {"score": lambda i, j: i % 7 + (j if i else 0)})
    options = ("--clusters", 0, "--budget", 4, "-o", tmp_path / "chosen")
    weights = ("--weights", "difficulty=1,separability=1")
    ran = run("select", pool, *options, *weights)
    assert (
        "warning: separability (2 in 95.8%) is the same in nearly all eligible instructions, so its weight chooses nothing; "
        "--weights difficulty=1 leaves it out"
    ) in ran.out + ran.err
    other = run("select", written(tmp_path / "o.jsonl", {"score": score}), *options, *weights, "--overwrite")
    assert "the same in nearly all" not in other.out + other.err


def test_a_number_of_the_question_is_no_reward_of_an_answer(run, tmp_path):
    pool = written(tmp_path / "pool.jsonl", {"difficulty": of_question, "num_tokens": score})
    same = "difficulty{} is the same for all answers to each instruction, so it tells of the instruction and of no answer"
    instead = "with `crowdselect select --method column:difficulty --answer random`, or score the answers with `crowdselect reward`"
    plain = run("inspect", pool, "--reward", "difficulty")
    plain.refuses(same.format(""), instead)
    assert ":up" not in plain.err
    shown = run("inspect", pool, "--reward", "difficulty:up")
    assert same.format(":up") in shown.out + shown.err
    assert instead in shown.out + shown.err
    line = shown.out.strip().splitlines()[-1].split()
    assert run(*line[1:-1], tmp_path / "chosen").code == 0
    assert {int(row["id"][1:]) % 7 for row in train(tmp_path / "chosen")} == {6}
    weights = ("--weights", "difficulty=1,separability=1")
    ran = run("select", pool, "--reward", "difficulty:up", *weights, "--budget", 3, "-o", tmp_path / "warned")
    assert ran.code == 0
    assert f"warning: {same.format(':up')}; which answer is trained on is drawn by lot; " in ran.out + ran.err
    assert "the same in nearly all" not in ran.out + ran.err


def test_one_answer_per_instruction_tells_of_both(tmp_path):
    """With one reward each nothing can differ within an instruction."""
    with open_pool(written(tmp_path / "pool.jsonl", {"loss": of_question}, models=MODELS[:1])) as pool:
        with pytest.raises(RewardError, match=r"loss goes from 1 to 7, .*loss:down"):
            pool.reward_name("loss")
        found = select(pool, Options(budget=3, reward="loss:down", clusters=0), method=method_named("reward"))
    assert not any("same" in line for line in found.warnings)


@pytest.mark.parametrize(
    "method", ["random", "length", "length:answer", "column:difficulty", "facility-location"]
)
@pytest.mark.parametrize("answer", ["random", "model:odd-1"])
def test_methods_without_rewards_need_none_though_there_are_numbers(run, tmp_path, method, answer):
    pool = written(tmp_path / "pool.jsonl", {"difficulty": of_question, "num_tokens": score})
    options = ("--method", method, "--budget", 4, "-o", tmp_path / "chosen")
    run("select", pool, *options).refuses(
        "0 instructions are eligible", NONE, "--answer model:NAME", MODELS[3]
    )
    ran = run("select", pool, *options, "--answer", answer)
    assert ran.code == 0
    assert (
        "it has numbers that are none unless --reward names them: difficulty, num_tokens" in ran.out + ran.err
    )
    rows = train(tmp_path / "chosen")
    assert len(rows) == 4
    assert manifest(tmp_path / "chosen")["options"]["reward"] is None
    if answer != "random":
        assert all(row["messages"][-1]["content"].endswith("odd-1") for row in rows)


@pytest.mark.parametrize("method", ["reward", "easy", "crowd"])
def test_methods_by_rewards_say_what_to_do(run, tmp_path, method):
    pool = written(tmp_path / "pool.jsonl", {"difficulty": of_question, "num_tokens": score})
    ran = run("select", pool, "--method", method, "--budget", 4, "-o", tmp_path / "chosen")
    ran.refuses(
        "no column has the name of a reward: difficulty, num_tokens; name the one to use with --reward"
    )
    line = ran.err.rpartition("`crowdselect select ")[2].partition("`")[0].split()
    assert run("select", pool, *line, "--budget", 4, "-o", tmp_path / "chosen").code == 0
    none = written(tmp_path / "none.jsonl", {})
    run("select", none, "--method", method, "--budget", 4, "-o", tmp_path / "none").refuses("no reward")


def test_the_only_answer_is_the_best_where_none_has_a_reward(tmp_path):
    """Each instruction by another model; in one file or in several."""
    rows = [
        {
            "id": f"q{i:02d}",
            "instruction": f"Tell me of {i * i}?",
            "model": MODELS[i % 5],
            "response": f"A {i}",
        }
        for i in range(ROWS)
    ]
    rows += [{**rows[0], "model": MODELS[1]}, {**rows[1], "response": " ", "model": MODELS[2]}]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_pool(path) as pool:
        found = select(pool, Options(budget=5, clusters=0), method=method_named("random"))
    table = {row["id"]: row for row in found.table.to_pylist()}
    assert table["q00"]["reason"] == "no_answer"  # which of two is not known
    assert all(table[f"q{i:02d}"]["model"] in {MODELS[i % 5], None} for i in range(1, ROWS))
    assert sum(row["model"] is not None for row in table.values()) == ROWS - 1
    assert any(
        "which of several to an instruction is the best is not known" in line for line in found.warnings
    )


def test_samples_without_a_reward_are_not_taken_by_a_number_that_is_none(tmp_path):
    """The longest of several samples was the best one, where a count was the only number."""
    rows = [
        {
            "id": f"q{i}",
            "instruction": f"Tell me of {i}?",
            "model": "m",
            "sample": k,
            "response": f"A {k}",
            "num_tokens": k,
        }
        for i in range(40)
        for k in range(3)
    ]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_pool(path) as pool:
        found = select(pool, Options(budget=40, clusters=0), method=method_named("random"))
    assert len({row["sample"] for row in found.rows()}) == 3


def test_what_scores_tell_of():
    ranks = np.array([[1.0, 2.0, np.nan, 3.0], [3.0, 1.0, 2.0, np.nan]])
    assert tells_of_answers_alone(ranks)
    assert tells_of_answers_alone(ranks * 1e300)
    assert not tells_of_answers_alone(np.array([[0.0, 0.0], [0.0, 0.0]]))
    assert not tells_of_answers_alone(ranks[:1])
    assert not tells_of_answers_alone(np.array([[1.0, 2.0], [2.0, 3.0]]))
    same = np.array([[1.0, 1.0, np.nan], [2.0, 2.0, 2.0], [5.0, np.nan, np.nan]])
    assert tells_of_rows_alone(same)
    assert not tells_of_rows_alone(np.where(same == 5, 5, 1.0 * ~np.isnan(same)) * np.nan)
    assert not tells_of_rows_alone(np.ones((2, 2)))
    for scores in (np.full((2, 2), np.nan), np.empty((0, 3)), np.empty((3, 0))):
        assert not tells_of_rows_alone(scores)
        assert not tells_of_answers_alone(scores)
    share, value = share_of_commonest(np.array([np.nan]))
    assert share == 0
    assert np.isnan(value)
