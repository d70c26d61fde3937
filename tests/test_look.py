"""`view`, `export`, `completion`, and a budget that is a share."""

import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from commands import manifest, train
from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.selection.methods import Method, Scored

POOL = """id,instruction,topic,model,response,score
1,What is 2+2?,maths,a-1b,four,1
1,What is 2+2?,maths,a-7b,4,3
2,Name a river.,places,a-1b,Rhine,2
2,Name a river.,places,a-7b,,
3,<b>\x1b[31mred</b>,,a-1b,x,5
3,<b>\x1b[31mred</b>,,a-7b,y,5
"""


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    file = tmp_path / "pool.csv"
    file.write_text(POOL)
    return file


def test_view_shows_rows_with_all_answers_best_first(run, pool):
    text = run("view", pool).out
    first = text[text.index("── 1") : text.index("── 2")]
    assert first.index("a-7b  3") < first.index("a-1b  1")
    assert "What is 2+2?" in first
    assert "\x1b" not in text
    assert text.rstrip().endswith("3 found, of 3 rows")
    second = text[text.index("── 2") : text.index("── 3")]
    assert "a-7b" not in second  # neither text nor reward


def test_view_finds_by_id_and_by_condition(run, pool):
    assert run("view", pool, "--where", "topic = maths").out.rstrip().endswith("1 found, of 3 rows")
    assert (
        run("view", pool, "--where", "difficulty > -3 and topic != maths")
        .out.rstrip()
        .endswith("1 found, of 3 rows")
    )
    assert "Name a river." in run("view", pool, "--id", 2).out
    for arguments, said in (
        (("--where", "topc = maths"), "did you mean 'topic'"),
        (("--where", "topic"), "--where: cannot be read"),
        (("--id", "9"), "no id '9'"),
    ):
        failed = run("view", pool, *arguments)
        assert failed.code == 2
        assert said in failed.err


def test_view_of_a_selection_shows_the_chosen_first(run, sim, tmp_path):
    run("select", sim, "--budget", 5, "--clusters", 0, "-o", tmp_path / "chosen")
    text = run("view", tmp_path / "chosen", "--where", "selected = true").out
    ranks = [
        line.split("rank ")[1].split(",")[0]
        for line in text.splitlines()
        if "rank " in line and "selected" in line
    ]
    assert ranks == ["1", "2", "3", "4", "5"]


def test_view_of_a_selection_knows_its_reward_and_shows_so_many_rows(run, tmp_path):
    rows = [f"{i},q{i},m-{m}b,a{i}{m},{i * m},{-i * m}" for i in range(1, 30) for m in (1, 7)]
    (tmp_path / "two.csv").write_text("id,instruction,model,response,a,b\n" + "\n".join(rows) + "\n")
    given = ("--reward", "b", "--clusters", 0, "--weights", "separability=1")
    assert run("select", tmp_path / "two.csv", "--budget", 25, *given, "-o", tmp_path / "chosen").code == 0
    text = run("view", tmp_path / "chosen").out
    assert text.rstrip().endswith("20 of the 25 found, of 29 rows; --rows shows more")
    assert "no reward" not in text
    assert text.index("m-1b  -29") < text.index("m-7b  -203")
    assert run("view", tmp_path / "chosen", "--rows", 25).out.count("── ") == 25


SAMPLED = """id,instruction,model,sample,response,score
1,What is 2+2?,a-1b,0,five,0
1,What is 2+2?,a-1b,1,four,1
1,What is 2+2?,a-1b,3,,1
1,What is 2+2?,a-7b,0,4,0.5
1,What is 2+2?,a-7b,1,2+2,0.25
2,Name a river.,a-1b,0,Rhine,1
2,Name a river.,a-7b,0,Danube,
"""


def test_view_shows_samples(run, tmp_path):
    (tmp_path / "pool.csv").write_text(SAMPLED)
    lines = run("view", tmp_path / "pool.csv").out.splitlines()
    first = lines.index("   a-1b  0.6667, mean of 3 samples: 0, 1, 1")
    assert lines[first + 1 : first + 3] == ["     sample 1  1", "       four"]  # the best that has text
    second = lines.index("   a-7b  0.375, mean of 2 samples: 0.5, 0.25")
    assert lines[second + 1 : second + 3] == ["     sample 0  0.5", "       4"]
    assert {"   a-1b  1, 1 sample", "   a-7b  no reward, 1 sample"} <= set(lines)
    whole = run("view", tmp_path / "pool.csv", "--id", "1").out
    assert all(text in whole for text in ("five", "four", "(no text)", "2+2"))


def test_view_of_a_selection_shows_the_samples_that_it_takes(run, tmp_path):
    (tmp_path / "pool.csv").write_text(SAMPLED)
    asked = ("--clusters", 0, "--weights", "difficulty=1", "--keep", "rewards=1..", "--budget", 1)
    pairs = ("--pairs", "within-model", "--answer", "model:a-7b")
    assert run("select", tmp_path / "pool.csv", *asked, *pairs, "-o", tmp_path / "pairs").code == 0
    text = run("view", tmp_path / "pairs").out
    assert "     sample 0  0.5, to train on\n       4\n" in text
    assert "     sample 1  0.25, rejected\n       2+2\n" in text
    assert "     sample 1  1\n       four\n" in text
    several = ("--answers-per-row", 2)
    assert run("select", tmp_path / "pool.csv", *asked, *several, "-o", tmp_path / "several").code == 0
    text = run("view", tmp_path / "several").out
    assert text.count(", to train on") == 2


def test_view_of_one_model(run, tmp_path):
    rows = [
        {"id": f"{i}", "instruction": f"q{i}", "model": "m", "sample": s} for i in range(2) for s in range(2)
    ]
    lines = [json.dumps({**row, "response": "r", "score": float(row["sample"])}) for row in rows]
    (tmp_path / "one.jsonl").write_text("\n".join(lines) + "\n")
    ran = run("view", tmp_path / "one.jsonl")
    assert ran.code == 0, ran.err
    assert ran.out.count("   m  0.5, mean of 2 samples: 0, 1") == 2


def test_export_writes_another_form_of_the_same_rows(run, sim, tmp_path):
    run("select", sim, "--budget", 5, "--clusters", 0, "-o", tmp_path / "chosen")
    done = run("export", tmp_path / "chosen", "--format", "alpaca", "-o", tmp_path / "alpaca")
    assert "written to" in done.out
    before, after = train(tmp_path / "chosen"), train(tmp_path / "alpaca")
    assert [row["messages"][-1]["content"] for row in before] == [row["output"] for row in after]
    assert manifest(tmp_path / "alpaca")["options"] == manifest(tmp_path / "chosen")["options"]
    same = [(tmp_path / name / "selection.parquet").read_bytes() for name in ("chosen", "alpaca")]
    assert same[0] == same[1]
    again = run("export", tmp_path / "chosen", "-o", tmp_path / "alpaca")
    assert again.code == 2
    assert "--overwrite" in again.err


@pytest.mark.parametrize(
    "options",
    [
        ["--reward", "other"],
        [
            "--reward",
            "other",
            "--missing",
            "-1",
            "--missing",
            "empty",
            "--columns",
            "response=response,id=id",
        ],
        ["--limit", "50", "--reward", "simulated_reward:down"],
        ["--reward", "simulated_reward", "--reward", "other", "--ensemble", "mean-rank"],
    ],
)
def test_export_of_pairs_that_are_not_there_names_the_line_that_makes_them(
    run, sim, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)
    table = pq.read_table(sim)
    pq.write_table(table.append_column("other", table["simulated_reward"]), "pool.parquet")
    assert run("select", "pool.parquet", "--budget", 5, "--clusters", 0, *options, "-o", "chosen").code == 0
    refused = run("export", "chosen", "--format", "dpo", "-o", "again")
    refused.refuses("chosen: this selection has no preference pairs", "add --pairs best-worst")
    line = re.search("as in `crowdselect (select pool.parquet [^`]*)`", refused.err)[1]
    made = run(*shlex.split(line))
    assert made.code == 0, made
    assert manifest("chosen-pairs")["export"]["format"] == "dpo"
    before, after = (manifest(name)["facts"] for name in ("chosen", "chosen-pairs"))
    assert [before[name] for name in ("read", "limit", "reward")] == [
        after[name] for name in ("read", "limit", "reward")
    ]
    assert run("export", "chosen-pairs", "--format", "dpo", "-o", "again").code == 0
    run("export", "chosen-pairs", "--format", "alpaca", "-o", "other").refuses(
        "is of preference pairs, which --format alpaca cannot hold; use --format dpo"
    )


def _pairing_line(refused) -> list[str]:
    return shlex.split(re.search("as in `crowdselect (select [^`]*)`", refused.err)[1])


@pytest.mark.parametrize(
    "options",
    [
        ["--weights", "difficulty=1,separability=0.1234567890123", "--clusters", "3"],
        ["--weights", "irt_difficulty=1,separability=-1", "--near-duplicates", "0.4", "--seed", "7"],
        [
            "--ties",
            "paper",
            "--cluster-by",
            "difficulty:3",
            "--keep",
            "difficulty=20%..",
            "--keep",
            "rewards=3..",
        ],
        ["--quota", "field=x:0.8,rest:0.2", "--clusters", "2", "--limit", "90", "--seed", "3"],
        ["--method", "random", "--seed", "5", "--cluster-by", "field"],
        ["--method", "reward:down"],
        ["--method", "length:answer", "--direction", "down", "--clusters", "2"],
        ["--method", "deita:words,depth"],
        ["--method", "facility-location", "--neighbours", "7", "--weight-by", "words"],
        [
            "--method",
            "column:words",
            "--include",
            "in.txt",
            "--exclude",
            "out.txt",
            "--decontaminate",
            "test.jsonl",
        ],
        ["--method", "column:more", "--metrics", "more.csv", "--allow-cut", "--answer", "top3-random"],
        ["--student", "sim-oak-1.5b", "--good-above", "0.5"],
        ["--method", "teachable:plain", "--student", "sim-oak-1.5b", "--clusters", "4"],
        ["--method", "crowd", "--student", "sim-oak-1.5b"],
        ["--student-column", "skill"],
        ["--for", "axolotl", "--method", "easy", "--seed", "2"],
        ["--format", "alpaca", "--file-type", "parquet", "--answers-per-row", "2", "--method", "reward"],
    ],
    ids=" ".join,
)
def test_the_line_that_makes_pairs_chooses_the_same_rows(run, sim, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    table = pq.read_table(sim).filter(pc.is_valid(pc.field("simulated_reward")))
    ids = table["id"].to_pylist()
    number = {each: at for at, each in enumerate(dict.fromkeys(ids))}
    for name, made in {
        "field": lambda at: "xyz"[at % 3],
        "words": lambda at: at * 37 % 101,
        "depth": lambda at: at * 53 % 97,
        "skill": lambda at: at * 29 % 11 / 10,
    }.items():
        table = table.append_column(name, pa.array([made(number[each]) for each in ids]))
    pq.write_table(table, "pool.parquet")
    Path("in.txt").write_text("\n".join(list(number)[:90]))
    Path("out.txt").write_text("\n".join(list(number)[:20]))
    Path("more.csv").write_text(
        "id,more\n" + "".join(f"{each},{at * 41 % 89}\n" for each, at in number.items())
    )
    question = dict(zip(ids, table["instruction"].to_pylist(), strict=True))[list(number)[30]]
    Path("test.jsonl").write_text(json.dumps({"question": question}) + "\n")

    assert run("select", "pool.parquet", "--budget", 12, *options, "-o", "chosen").code == 0
    made = run(*_pairing_line(run("export", "chosen", "--format", "dpo", "-o", "again")))
    assert made.code == 0, made
    assert load_selection("chosen-pairs").chosen == load_selection("chosen").chosen


def test_the_line_that_makes_pairs_says_no_more_than_differs_and_asks_for_the_crowd_file(
    run, sim, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("pool.parquet").write_bytes(sim.read_bytes())
    run("crowd", "pool.parquet", "-o", "crowd.toml")
    run("select", "pool.parquet", "--budget", 5, "--crowd", "crowd.toml", "-o", "chosen")
    refused = run("export", "chosen", "--format", "dpo", "-o", "again")
    refused.refuses(
        "as in `crowdselect select pool.parquet --budget 5 --pairs best-worst -o chosen-pairs`; add the crowd file that it was "
        "chosen by, --crowd FILE"
    )


def test_a_selection_by_ones_own_method_has_no_line_that_makes_pairs(run, sim, tmp_path):
    method = Method(name="mine", score=lambda seen, progress: Scored(seen.known.hashes.astype(float)))
    with open_pool(sim) as pool:
        export(select(pool, Options(budget=5, clusters=0), method=method), pool, tmp_path / "chosen")
    refused = run("export", tmp_path / "chosen", "--format", "dpo", "-o", tmp_path / "again")
    refused.refuses("choose again with", "among its `crowdselect.Options`")
    assert "as in" not in refused.err


def test_export_refuses_a_pool_that_has_changed(run, sim, tmp_path):
    run("select", sim, "--budget", 5, "--clusters", 0, "-o", tmp_path / "chosen")
    facts = json.loads((tmp_path / "chosen" / "manifest.json").read_text())
    facts["facts"]["fingerprint"] = "0" * 64
    (tmp_path / "chosen" / "manifest.json").write_text(json.dumps(facts))
    failed = run("export", tmp_path / "chosen", "-o", tmp_path / "other")
    assert failed.code == 2
    assert "its content is not what this selection was made from" in failed.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(run, shell):
    assert "_CROWDSELECT_COMPLETE" in run("completion", shell).out


@pytest.mark.parametrize(("share", "rows"), [("10%", 12), ("0.3%", 1), ("33.4%", 40)])
def test_a_budget_may_be_a_share_of_the_instructions(run, sim, tmp_path, share, rows):
    run("select", sim, "--budget", share, "--clusters", 0, "-o", tmp_path / "chosen")
    assert manifest(tmp_path / "chosen")["options"]["budget"] == rows == len(train(tmp_path / "chosen"))


@pytest.mark.parametrize("budget", ["0%", "101%", "x%", "ten"])
def test_a_budget_that_is_none_is_refused(run, sim, budget):
    failed = run("select", sim, "--budget", budget, "--dry-run")
    assert failed.code == 2
    assert "--budget" in failed.err
