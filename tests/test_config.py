"""`--config FILE.toml`: the options of a command from a file; flags win."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from commands import manifest, train, tree


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_flags_win_over_the_file(run, sim):
    Path("c.toml").write_text(
        'budget = 9\nclusters = 2\nseed = 3\ncrowd = "crowd.toml"\nno-cache = true\nkeep = ["rewards=3.."]\n'
        'format = "alpaca"\nfor = "llamafactory"\nlicense = "cc0-1.0"\noutput = "from-file"\n'
        "[weights]\ndifficulty = 1\nstability = 0.5\n"
    )
    Path("crowd.toml").write_text(run("crowd", sim, "--toml").out)
    ran = run("select", sim, "--config", "c.toml", "--seed", 5, "-o", "out", "--ties", "paper")
    assert ran.code == 0, ran.err
    options = manifest("out")["options"]
    wanted = {
        "budget": 9,
        "clusters": 2,
        "seed": 5,
        "cache": False,
        "keep": ["rewards=3.."],
        "ties": "paper",
    }
    assert {name: options[name] for name in wanted} == wanted
    assert options["weights"] == {"difficulty": 1.0, "separability": 0.0, "stability": 0.5, "within": 0.0}
    assert {member["source"] for member in manifest("out")["facts"]["crowd"]} == {"file"}
    assert (Path("out") / "dataset_info.json").exists()
    assert train("out")[0].keys() >= {"instruction", "history"}
    assert 'license: "cc0-1.0"' in (Path("out") / "README.md").read_text()
    assert not Path("from-file").exists()
    assert run("select", sim, "--config", "c.toml").code == 0
    assert Path("from-file").exists()


def test_several_values_and_tables_of_names_in_the_file(run):
    rows = [
        {"task": f"Say {n}", "by": model, "said": f"{n}!", "score": score}
        for n in range(4)
        for model, score in (("m-1b", n - 1), ("m-3b", 0), ("m-7b", n + 1.5))
    ]
    Path("pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, missing in (("several", "[-1, 0]"), ("one", "-1")):
        Path("c.toml").write_text(
            f'budget = 1\nclusters = 0\nmissing = {missing}\nreward = "score"\nkeep = "rewards=1.."\n'
            '[columns]\ninstruction = "task"\nmodel = "by"\nresponse = "said"\n'
        )
        ran = run("select", "pool.jsonl", "--config", "c.toml", "-o", name)
        assert ran.code == 0, ran.err
    found = {name: pq.read_table(f"{name}/selection.parquet")["n_rewards"] for name in ("several", "one")}
    assert {name: sorted(counts.to_pylist()) for name, counts in found.items()} == {
        "several": [1, 1, 2, 2],
        "one": [2, 3, 3, 3],
    }
    assert manifest("several")["options"]["keep"] == ["rewards=1.."]


def test_weights_as_text_in_the_file(run, sim):
    Path("c.toml").write_text('budget = 3\nclusters = 0\nweights = "difficulty=2"\noutput = "out"\n')
    assert run("select", sim, "--config", "c.toml").code == 0
    assert manifest("out")["options"]["weights"] == {
        "difficulty": 2.0,
        "separability": 0.0,
        "stability": 0.0,
        "within": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "budgets = 3",
            ["c.toml: unknown option 'budgets'", "did you mean 'budget'?"],
        ),
        ("crowd_path = 'x'", ["unknown option 'crowd_path'"]),
        ("as_json = true", ["unknown option 'as_json'"]),
        ("config = 'other.toml'", ["unknown option 'config'"]),
        ("clusters = 3\ncluster-by = 'topic'", ["both say what the clusters are; give one of them"]),
        ("help = true", ["unknown option 'help'"]),
        ("[select]\nbudget = 3", ["unknown option 'select'"]),
        ("budget = 10.5", ["c.toml: budget is 10.5; wanted a whole number"]),
        ("budget = true", ["budget is True; wanted a whole number"]),
        ("budget = '10'", ["budget is '10'; wanted a whole number"]),
        ("budget = 5\nbudget = 6", ["c.toml: not a TOML file of options"]),
        ("answers-per-row = 2\nanswers_per_row = 3", ["'answers-per-row' is given twice"]),
        ("min-rewards = 3", ["--min-rewards is now a band; write --keep rewards=3.."]),
        ("min_best_quantile = 0.2", ["write --keep best_reward=20%.."]),
        ("overwrite = 1", ["overwrite is 1; wanted true or false"]),
        ("near_duplicates = 'x'", ["near_duplicates is 'x'; wanted a number"]),
        ("reward = 5", ["reward is 5; wanted text", "or a list of texts"]),
        ("reward = ['a', 5]", ["reward is ['a', 5]; wanted a list of texts"]),
        ("missing = [-1, 'NA']", ["missing is [-1, 'NA']; wanted a list of numbers, empty or error"]),
        ("missing = [true]", ["missing is [True]; wanted a list of numbers"]),
        (
            "missing = '-1'",
            ["missing is '-1'; wanted a number, empty or error, or a list of numbers, empty or error"],
        ),
        ("seeds = [1, 2]", ["seeds is [1, 2]; wanted a whole number"]),
        ("[columns]\ninstruction = 3", ["columns is {'instruction': 3}; wanted a table of column names"]),
        ('output = "a\\u0000b"', ["wanted text without a null character"]),
        ("[weights]\ndifficulty = 'high'", ["weights is {'difficulty': 'high'}; wanted a table of numbers"]),
        ("[weights]\ndifficulty = true", ["wanted a table of numbers"]),
        ("[weights]\ndifficulty = nan", ["nan"]),
        ("[weights]", ["weight"]),
        ("budget = ", ["c.toml: not a TOML file of options"]),
    ],
)
def test_a_bad_configuration_file(run, sim, text, parts):
    Path("c.toml").write_text(text + "\n" if "budget" in text else f"budget = 5\n{text}\n")
    before = tree()
    run("select", sim, "-o", "out", "--config", "c.toml").refuses(*parts)
    assert tree() == before


def test_a_configuration_file_that_is_not_there_or_not_text(run, sim):
    run("select", sim, "-o", "out", "--config", "none.toml").refuses("none.toml: no such file")
    run("select", sim, "-o", "out", "--config", ".").refuses("not a TOML file")
    Path("latin.toml").write_bytes(b'reward = "\xe9"\n')
    run("select", sim, "-o", "out", "--config", "latin.toml").refuses("latin.toml: not a TOML file")
