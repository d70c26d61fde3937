"""`crowdselect select`: what every option does, and every format for every trainer."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import manifest, train, tree

FORMATS = {
    "messages": ["id", "messages"],
    "prompt-completion": ["id", "prompt", "completion"],
    "sharegpt": ["id", "conversations", "system"],
    "alpaca": ["id", "instruction", "input", "output", "system", "history"],
    "dpo": ["id", "prompt", "chosen", "rejected"],
}
UNREADABLE = {("sharegpt", "trl"), ("alpaca", "trl"), ("prompt-completion", "llamafactory")}


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def options_of(run, pool, *arguments) -> dict:
    clusters = () if "--cluster-by" in arguments else ("--clusters", "2")
    ran = run("select", pool, "--budget", "12", *clusters, *arguments, "-o", "out")
    assert ran.code == 0, ran.err
    return manifest("out")["options"]


def test_the_defaults(run, sim):
    ran = run("select", sim, "--budget", 30, "-o", "out")
    assert ran.code == 0, ran.err
    options = manifest("out")["options"]
    assert options["weights"] == {"difficulty": 1.0, "separability": 1.0, "stability": 2.0, "within": 0.0}
    wanted = {"budget": 30, "clusters": 10, "embedder": "lsa", "answer": "best", "ties": "average", "seed": 0}
    assert {name: options[name] for name in wanted} == wanted
    assert "10 by k-means, 3 chosen from each" in ran.out
    assert "chosen    30 of 120 eligible" in ran.out
    assert "written to out: 30 rows to train on" in ran.out
    assert "why a row is in or out:\n  crowdselect why out sim-" in ran.out
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "README.md",
        "manifest.json",
        "selection.parquet",
        "train.jsonl",
    ]


def test_weights_turn_round_and_leave_out(run, sim):
    options = options_of(run, sim, "--weights", "separability=-1")
    assert options["weights"] == {"difficulty": 0.0, "separability": -1.0, "stability": 0.0, "within": 0.0}
    ran = run("select", sim, "--budget", 1, "--clusters", 0, "--weights", "separability=-1", "--dry-run")
    assert "score     -1 x separability\n" in ran.out
    assert re.search(r"^ +1 .* 0\.00 ", ran.out, re.MULTILINE)  # the lowest rank is now the best


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "7"], {"seed": 7}),
        (["--seed", "-1"], {"seed": -1}),
        (["--ties", "paper"], {"ties": "paper"}),
        (["--answer", "random"], {"answer": "random"}),
        (["--answer", "top5-random"], {"answer": "top5-random"}),
        (
            ["--keep", "rewards=12..", "--keep", "best_reward=3.."],
            {"keep": ["rewards=12..", "best_reward=3.."]},
        ),
        (["--keep", "best_reward=50%.."], {"keep": ["best_reward=50%.."]}),
        (["--cluster-by", "difficulty:3"], {"cluster_by": "difficulty:3"}),
        (["--near-duplicates", "0.9"], {"near_duplicates": 0.9}),
        (["--reward", "simulated_reward"], {"reward": "simulated_reward"}),
        (["--cluster-by", "topic"], {"cluster_by": "topic"}),
        (["--quota", "topic=equal"], {"quota": "topic=equal"}),
        (["--no-cache"], {"cache": False}),
        (["--trust-remote-code"], {"trust_remote_code": True}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_reach_the_choice(run, sim, arguments, expected):
    options = options_of(run, sim, *arguments)
    assert {name: options[name] for name in expected} == expected
    assert len(train("out")) == 12


def test_one_teacher(run, sim):
    options_of(run, sim, "--answer", "model:sim-oak-7b")
    models = pq.read_table("out/selection.parquet", filters=[("selected", "=", True)])["model"].to_pylist()
    assert models == ["sim-oak-7b"] * 12


def test_include_and_exclude(run, sim):
    ids = [f"sim-{i:09}" for i in range(40)]
    Path("in.txt").write_text("\n".join([*ids, "unknown"]))
    Path("out.csv").write_text("id,why\n" + "\n".join(f"{i},x" for i in ids[:10]) + "\n")
    ran = run(
        "select",
        sim,
        "--budget",
        12,
        "--clusters",
        2,
        "--include",
        "in.txt",
        "--exclude",
        "out.csv",
        "-o",
        "out",
    )
    assert ran.code == 0, ran.err
    assert {row["id"] for row in train("out")} <= set(ids[10:])
    assert "note: --include in.txt: 1 of 41 ids are not in the pool" in ran.err
    assert "10 excluded, 80 not_included" in ran.out


def test_vectors_from_a_file(run, sim):
    ids = [f"sim-{i:09}" for i in range(120)]
    pq.write_table(pa.table({"id": ids, "vector": [[float(i % 3), 1.0] for i in range(120)]}), "v.parquet")
    ran = run("select", sim, "--budget", 12, "--clusters", 3, "--embedder", "file:v.parquet", "-o", "out")
    assert ran.code == 0, ran.err
    assert "embedder  file:v.parquet (2 dimensions, as given)" in ran.out
    assert manifest("out")["facts"]["quotas"] == {"0": 4, "1": 4, "2": 4}


def test_limit_layout_rewards_and_crowd(run, sim):
    pool = pq.read_table(sim)
    names = ["id", "model"]
    pq.write_table(pool.drop_columns(["simulated_reward"]), "answers.parquet")
    rewards = pool.select([*names, "simulated_reward"]).rename_columns([*names, "judge"])
    pq.write_table(rewards, "rewards.parquet")
    Path("crowd.json").write_text(
        json.dumps(
            {
                n: {"family": "x", "size_b": i + 1}
                for i, n in enumerate(sorted(set(pool["model"].to_pylist())))
            }
        )
    )
    ran = run(
        *("select", "answers.parquet", "--rewards", "rewards.parquet", "--limit", 60, "--layout", "long"),
        *("--crowd", "crowd.json", "--budget", 6, "--clusters", 2, "-o", "out"),
    )
    assert ran.code == 0, ran.err
    facts = manifest("out")["facts"]
    assert (facts["instructions"], facts["limit"], facts["reward"], facts["layout"]) == (
        60,
        60,
        "judge",
        "long",
    )
    assert {member["source"] for member in facts["crowd"]} == {"file"}
    assert "1 family of two or more sizes: x 1/2/3/4/5/6/7/8/9/10/11/12B" in ran.out


def test_dry_run_writes_nothing_but_checks_the_place(run, sim, tmp_path):
    before = tree(tmp_path)
    ran = run("select", sim, "--budget", 5, "--clusters", 2, "--dry-run", "-o", "out")
    assert ran.code == 0
    assert "nothing was written (a dry run)" in ran.out
    assert "crowdselect why" not in ran.out
    assert tree(tmp_path) == before
    run("select", sim, "--budget", 5, "--dry-run", "-o", sim.parent).refuses("is, or contains, the input")


def test_json_is_complete_and_plain_ascii(run, sim):
    ran = run("select", sim, "--budget", 5, "--clusters", 2, "--json", "-o", "out")
    assert ran.out.isascii()
    assert ran.err == ""
    found = json.loads(ran.out)
    assert found["written"] == str(Path("out").absolute())
    assert [row["id"] for row in found["chosen"]] == [row["id"] for row in train("out")]
    assert [row["rank"] for row in found["chosen"]] == [1, 2, 3, 4, 5]
    assert sum(found["counts"].values()) == 120
    assert found["options"] == manifest("out")["options"]
    assert (
        run("select", sim, "--budget", 5, "--clusters", 2, "--json", "--dry-run").out.count('"written": null')
        == 1
    )


@pytest.mark.parametrize("trainer", [None, "trl", "llamafactory"])
@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_file_type_and_trainer(run, sim, name, file_type, trainer):
    more = ["--pairs", "best-worst"] if name == "dpo" else []
    more += ["--for", trainer] if trainer else []
    arguments = ["--format", name, "--file-type", file_type, *more, "-o", "out"]
    ran = run("select", sim, "--budget", 6, "--clusters", 0, *arguments)
    if (name, trainer) in UNREADABLE:
        ran.refuses(f"does not read --format {name}", "choose one of")
        assert not Path("out").exists()
        return
    assert ran.code == 0, ran.err
    file = Path("out") / f"train.{file_type}"
    rows = train("out") if file_type == "jsonl" else pq.read_table(file).to_pylist()
    tools = ["tools"] if trainer == "llamafactory" and name != "alpaca" else []
    assert [list(row) for row in rows] == [[*FORMATS[name], *tools]] * 6
    files = {None: [], "trl": ["trl.sh"], "llamafactory": ["dataset_info.json", "llamafactory.yaml"]}[trainer]
    written = {"README.md", "manifest.json", "selection.parquet", file.name, *files}
    assert {p.name for p in Path("out").iterdir()} == written


def test_pairs_alone_mean_dpo(run, sim):
    assert run("select", sim, "--budget", 6, "--clusters", 0, "--pairs", "best-worst", "-o", "out").code == 0
    assert list(train("out")[0]) == FORMATS["dpo"]
    table = pq.read_table("out/selection.parquet", filters=[("selected", "=", True)]).to_pylist()
    assert all(row["reward"] > row["rejected_reward"] for row in table)
