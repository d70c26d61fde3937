"""Data for reinforcement learning: prompts, references, pass rates; in the form of each trainer, with names that it knows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.engine.here import run_here
from crowdselect.errors import OptionError
from crowdselect.methods.random_choice import random_choice
from crowdselect.pool.howread import HowRead
from crowdselect.selection.rl import CHECKED

MODELS = ("qwen2.5-1.5b", "qwen2.5-7b", "llama-3-8b")


def write(path, *, n=30, samples=4, answers=False, scale=1.0, seed=0, **more):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        for model in MODELS:
            for sample in range(samples):
                row = {
                    "id": f"q{i:03d}",
                    "messages": [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": f"What is {i} + 1?"},
                    ],
                    "model": model,
                    "sample": sample,
                    "score": scale * float(rng.random() < 0.5),
                    "answer": None if i == 7 else str(i + 1),
                    "data_source": "openai/gsm8k",
                    "dataset": "gsm8k",
                    "kind": "arithmetic",
                    **more,
                }
                rows.append(row | ({"response": f"It is {i + 1}."} if answers else {}))
    pq.write_table(pa.Table.from_pylist(rows), path)
    return rows


def rates(rows, *, model=None):
    """The pass rate of each id: of a model, or the mean over models."""
    cells = {}
    for row in rows:
        cells.setdefault(row["id"], {}).setdefault(row["model"], []).append(row["score"] == 1)
    return {
        id_: np.mean(own[model]) if model else np.mean([np.mean(each) for each in own.values()])
        for id_, own in cells.items()
    }


def made(path, out, *, run=None, **options):
    """Choose and export; the selection and the records."""
    given = {
        "budget": 9,
        "clusters": 0,
        "weights": {"difficulty": 1.0},
        "format": "rl",
        "cache": False,
        **options,
    }
    with open_pool(path) as pool:
        found = select(pool, Options(**given), run=run)
        export(
            found, pool, out, trainer=given.get("trainer"), file_type=given.get("file_type", "jsonl"), run=run
        )
    return found, read(out)


def read(folder):
    (file,) = folder.glob("train.*")
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def prompt_of(id_):
    number = int(id_[1:])
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"What is {number} + 1?"}]


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("model", [None, "llama-3-8b"])
def test_prompts_references_and_pass_rates(answers, model, tmp_path):
    rows = write(tmp_path / "pool.parquet", answers=answers)
    found, records = made(tmp_path / "pool.parquet", tmp_path / "out", pass_rate=model)
    wanted = rates(rows, model=model)
    assert [record["id"] for record in records] == found.chosen
    for record in records:
        assert list(record) == ["id", "prompt", "reference", "pass_rate", "source"]
        assert record["prompt"] == prompt_of(record["id"])
        assert record["reference"] == str(int(record["id"][1:]) + 1)
        assert record["pass_rate"] == pytest.approx(wanted[record["id"]])
        assert record["source"] == "openai/gsm8k"


def test_a_row_without_a_reference_is_not_chosen(tmp_path):
    write(tmp_path / "pool.parquet")
    found, _ = made(tmp_path / "pool.parquet", tmp_path / "out", budget=29)
    assert found.counts() == {"selected": 29, "no_reference": 1}
    assert found.explain("q007")["story"][-1] == "to be chosen: fill in what an answer is checked against"


def test_answers_play_no_part(tmp_path):
    """Rows whose answers are all blank or cut can be exported all the same."""
    write(tmp_path / "pool.parquet", answers=True, response=" ", finish_reason="length")
    found, records = made(tmp_path / "pool.parquet", tmp_path / "out", budget=29)
    assert len(records) == 29
    assert "no_answer" not in found.counts()


def test_rewards_beyond_0_and_1_leave_the_pass_rate_out_unless_it_is_asked_for(tmp_path):
    write(tmp_path / "pool.parquet", scale=5.0)
    found, records = made(tmp_path / "pool.parquet", tmp_path / "out")
    assert all("pass_rate" not in record for record in records)
    assert any("no pass rates are written" in note for note in found.warnings)
    for more in ({"pass_rate": "llama-3-8b"}, {"keep": "pass_rate=0.."}, {"weights": {"learnability": 1.0}}):
        with pytest.raises(OptionError, match="reward=score:up/5"):
            made(tmp_path / "pool.parquet", tmp_path / "more", **more)
    _, records = made(tmp_path / "pool.parquet", tmp_path / "scaled", reward="score:up/5")
    assert all(0 <= record["pass_rate"] <= 1 for record in records)


@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
def test_trl_reads_the_reference_as_solution(file_type, tmp_path):
    pytest.importorskip("trl")
    write(tmp_path / "pool.parquet")
    _, records = made(tmp_path / "pool.parquet", tmp_path / "out", trainer="trl", file_type=file_type)
    assert [list(record)[:3] for record in records] == [["id", "prompt", "solution"]] * 9
    assert [record["solution"] for record in records] == [str(int(r["id"][1:]) + 1) for r in records]
    script = (tmp_path / "out" / "trl.sh").read_text()
    assert "trl grpo " in script
    assert "--reward_funcs accuracy_reward" in script
    from datasets import load_dataset

    loaded = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "hf"))
    assert loaded[0]["prompt"] == prompt_of(loaded[0]["id"])
    pytest.importorskip("math_verify")
    from trl.rewards import accuracy_reward

    said = [[{"role": "assistant", "content": f"\\boxed{{{text}}}"}] for text in loaded["solution"]]
    assert accuracy_reward(said, solution=list(loaded["solution"])) == [1.0] * 9


VERL = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "ability": pa.string(),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct(
            {"index": pa.int64(), "split": pa.string(), "id": pa.string(), "pass_rate": pa.float64()}
        ),
    }
)


def test_verl_gets_its_parquet(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    found, records = made(
        tmp_path / "pool.parquet", tmp_path / "out", trainer="verl"
    )  # whatever the file type
    assert pq.read_schema(tmp_path / "out" / "train.parquet").equals(VERL)
    wanted = rates(rows)
    for index, record in enumerate(records):
        id_ = found.chosen[index]
        assert record["data_source"] == "openai/gsm8k"
        assert record["ability"] == "math"
        assert record["prompt"] == prompt_of(id_)
        assert record["reward_model"] == {"style": "rule", "ground_truth": str(int(id_[1:]) + 1)}
        assert record["extra_info"] == {
            "index": index,
            "split": "train",
            "id": id_,
            "pass_rate": pytest.approx(wanted[id_]),
        }
    assert not (tmp_path / "out" / "reward.py").exists()


def test_names_that_verl_does_not_know_are_refused(tmp_path):
    write(tmp_path / "pool.parquet")
    with pytest.raises(
        OptionError,
        match=r"kind says 'arithmetic', for which verl has no check of a text; it knows: openai/gsm8k",
    ) as told:
        made(tmp_path / "pool.parquet", tmp_path / "out", trainer="verl", source="kind")
    assert "custom_reward_function.path=FOLDER/reward.py" in str(told.value)
    table = pq.read_table(tmp_path / "pool.parquet").drop_columns(["data_source"])
    pq.write_table(table, tmp_path / "without.parquet")
    with pytest.raises(
        OptionError, match="picks its check of an answer by 'data_source', and the pool has no such column"
    ):
        made(tmp_path / "without.parquet", tmp_path / "out", trainer="verl")
    assert not (tmp_path / "out").exists()


def test_a_reward_function_of_ones_own_is_written_beside_the_data(tmp_path):
    write(tmp_path / "pool.parquet")
    _, records = made(tmp_path / "pool.parquet", tmp_path / "out", trainer="verl", source="custom")
    assert {record["data_source"] for record in records} == {"custom"}
    compile((tmp_path / "out" / "reward.py").read_text(), "reward.py", "exec")
    pytest.importorskip("math_verify")
    script = "from reward import compute_score as score; print(score('custom', 'so \\\\boxed{1/2}', '0.5'), score('custom', '3', '4'))"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["1.0", "0.0"]


OPEN_INSTRUCT = {  # what its `rlvr` data sets have: no release of it is on an index, so it is written down here
    "messages": list,
    "ground_truth": str,
    "dataset": str,
}


def test_open_instruct_gets_its_columns(tmp_path):
    write(tmp_path / "pool.parquet")
    _, records = made(tmp_path / "pool.parquet", tmp_path / "out", trainer="open-instruct")
    for record in records:
        assert {name: type(record[name]) for name in OPEN_INSTRUCT} == OPEN_INSTRUCT
        assert record["dataset"] == "gsm8k"
        assert record["messages"] == prompt_of(record["id"])
    with pytest.raises(OptionError, match=r"open-instruct has no check of a text; it knows: gsm8k, math"):
        made(tmp_path / "pool.parquet", tmp_path / "more", trainer="open-instruct", source="kind")


@pytest.mark.parametrize("trainer", [None, "verl"])
def test_seven_files_write_the_same(trainer, tmp_path):
    write(tmp_path / "pool.parquet")
    table = pq.read_table(tmp_path / "pool.parquet")
    home = np.array([int(id_[1:]) % 7 for id_ in table["id"].to_pylist()])
    (tmp_path / "in").mkdir()
    for number in range(7):
        pq.write_table(table.take(np.flatnonzero(home == number)), tmp_path / "in" / f"{number}.parquet")
    made(tmp_path / "pool.parquet", tmp_path / "whole", trainer=trainer, keep="pass_rate=..90%")
    made(tmp_path / "in", tmp_path / "parts", trainer=trainer, keep="pass_rate=..90%", run=run_here)
    for file in ("selection.parquet", "train.parquet" if trainer else "train.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_a_selection_made_for_something_else_is_not_exported_so(tmp_path):
    write(tmp_path / "pool.parquet", answers=True)
    with open_pool(tmp_path / "pool.parquet") as pool:
        prompts = select(pool, Options(budget=3, clusters=0, weights={"difficulty": 1.0}, format="rl"))
        for more in ({"format": "messages"}, {"trainer": "verl"}):
            with pytest.raises(OptionError, match="select again"):
                export(prompts, pool, tmp_path / "out", **more)


@pytest.mark.parametrize("trainer", [None, "trl", "verl", "open-instruct"])
def test_a_selection_of_answers_is_exported_as_prompts(trainer, tmp_path):
    write(tmp_path / "pool.parquet", answers=True)
    options = {"budget": 9, "clusters": 0, "weights": {"difficulty": 1.0}, "keep": "pass_rate=..90%"}
    without = [f"q{7:03d}"]  # it has no reference
    (tmp_path / "without.txt").write_text("\n".join(without))
    with open_pool(tmp_path / "pool.parquet") as pool:
        plain = select(pool, Options(**options, exclude=str(tmp_path / "without.txt")))
        export(plain, pool, tmp_path / "late", format="rl", trainer=trainer)
    _, records = made(
        tmp_path / "pool.parquet",
        tmp_path / "at once",
        trainer=trainer,
        keep="pass_rate=..90%",
        exclude=str(tmp_path / "without.txt"),
    )
    assert read(tmp_path / "late") == records
    again = load_selection(tmp_path / "late")
    with open_pool(tmp_path / "pool.parquet") as pool:
        export(again, pool, tmp_path / "again", trainer=trainer)
    assert read(tmp_path / "again") == records


def test_a_selection_of_answers_that_cannot_be_prompts_says_why(tmp_path):
    rows = write(tmp_path / "pool.parquet", answers=True)
    bare = [{k: v for k, v in row.items() if k not in {"answer", "data_source"}} for row in rows]
    pq.write_table(pa.Table.from_pylist(bare), tmp_path / "bare.parquet")
    again = "select again with `format='rl'`"
    for name, trainer, wanted in (
        ("pool", None, f"1 of the 30 chosen rows have no answer, .*{again}"),
        ("bare", None, f"none of reference, answer, target.*{again}"),
        ("bare", "verl", f"none of reference, answer, target.*{again}"),
    ):
        with open_pool(tmp_path / f"{name}.parquet") as pool:
            plain = select(pool, Options(budget=30, clusters=0, weights={"difficulty": 1.0}))
            with pytest.raises(OptionError, match=wanted):
                export(plain, pool, tmp_path / "out", format="rl", trainer=trainer)
    strange = [{**row, "answer": "1", "data_source": "mine"} for row in rows]
    pq.write_table(pa.Table.from_pylist(strange), tmp_path / "strange.parquet")
    with open_pool(tmp_path / "strange.parquet") as pool:
        plain = select(pool, Options(budget=3, clusters=0, weights={"difficulty": 1.0}))
        with pytest.raises(OptionError, match="data_source says 'mine', for which verl has no check"):
            export(plain, pool, tmp_path / "out", format="rl", trainer="verl")
    tooled = [{**row, "answer": "1", "tools": json.dumps([{"type": "function"}])} for row in rows]
    pq.write_table(pa.Table.from_pylist(tooled), tmp_path / "tooled.parquet")
    with open_pool(tmp_path / "tooled.parquet") as pool:
        plain = select(pool, Options(budget=3, clusters=0, weights={"difficulty": 1.0}))
        with pytest.raises(OptionError, match="3 of the 3 chosen rows need tools"):
            export(plain, pool, tmp_path / "out", format="rl")


def test_a_column_that_is_called_the_reference_is_found(tmp_path):
    write(tmp_path / "pool.parquet", right="42")
    with open_pool(tmp_path / "pool.parquet", read=HowRead(columns={"reference": "right"})) as pool:
        found = select(pool, Options(budget=3, clusters=0, weights={"difficulty": 1.0}, format="rl"))
        export(found, pool, tmp_path / "out")
    assert {record["reference"] for record in read(tmp_path / "out")} == {"42"}  # not the column `answer`


def test_a_method_without_rewards(tmp_path):
    write(tmp_path / "pool.parquet")
    pq.write_table(
        pq.read_table(tmp_path / "pool.parquet").drop_columns(["score"]), tmp_path / "none.parquet"
    )
    with open_pool(tmp_path / "none.parquet") as pool:
        found = select(pool, Options(budget=5, clusters=0, format="rl"), method=random_choice())
        export(found, pool, tmp_path / "out")
    assert all("pass_rate" not in record for record in read(tmp_path / "out"))


@pytest.fixture
def case():
    folder = os.environ.get("CROWDSELECT_CASES")
    if not folder:
        pytest.skip("CROWDSELECT_CASES is not set: the reported inputs are not here")
    return Path(folder) / "70_rl_export"


def test_a_pool_with_scores_alone_is_enough(case, tmp_path, run):
    out = tmp_path / "out"
    ran = run(
        "select",
        case,
        "--budget",
        3,
        "--clusters",
        0,
        "--format",
        "rl",
        "--reference",
        "reference",
        "-o",
        out,
    )
    assert ran.code == 0, ran.err
    records = read(out)
    assert len(records) == 3
    assert {record["reference"] for record in records} == {"42"}
    assert all(record["prompt"][0]["content"].startswith("Explain how") for record in records)
    assert "3 rows" in ran.out


@pytest.mark.trainers
def test_verl_scores_every_exported_row(tmp_path):
    """With verl's own function, for each of its names; `make trainers` runs it in an environment that has verl."""
    verl = pytest.importorskip("verl.utils.reward_score")
    said = {
        "openai/gsm8k": "#### {}",
        "math": "Answer: {}",
        "math_dapo": "Answer: {}",
        "aime2024": "Answer: {}",
    }
    skipped = {"hiyouga/geometry3k", "codecontests", "apps", "codeforces", "taco"}  # of images and programs
    for place, name in enumerate([*CHECKED["verl"].names, "aime2024"]):
        if name in skipped:
            continue
        write(tmp_path / "pool.parquet", data_source=name)
        _, records = made(tmp_path / "pool.parquet", tmp_path / str(place), trainer="verl")
        for record in records:
            truth = record["reward_model"]["ground_truth"]
            score = verl.default_compute_score(
                data_source=record["data_source"],
                solution_str=said.get(name, "So \\boxed{{{}}}").format(truth),
                ground_truth=truth,
                extra_info=record["extra_info"],
            )
            assert (score["score"] if isinstance(score, dict) else score) == 1, (name, score)
