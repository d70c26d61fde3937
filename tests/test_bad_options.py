"""Options that make no sense: one clear line, exit code 2, and nothing written."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import tree


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


SELECT = [
    (["--budget", "0"], ["--budget is 0; wanted at least 1"]),
    (["--budget", "-3"], ["--budget is -3; wanted at least 1"]),
    (["--budget", "121"], ["121", "120"]),
    (["--budget", "99999999999999999999999"], ["99999999999999999999999"]),
    (["--budget", "many"], ["'many' is neither a whole number nor a share", "crowdselect select --help"]),
    (["--reward", "nope"], ["no reward column 'nope'", "simulated_reward"]),
    (["--weights", "hardness=1"], ["hardness", "difficulty, separability, stability"]),
    (["--weights", "difficulty=nan"], ["difficulty", "nan"]),
    (["--weights", "difficulty=inf"], ["difficulty", "inf"]),
    (["--weights", "difficulty=0,stability=0"], ["weight"]),
    (["--weights", "difficulty"], ["'difficulty' is not of the form difficulty=1"]),
    (["--weights", "difficulty=x"], ["not of the form"]),
    (["--weights", "difficulty=1=2"], ["not of the form"]),
    (["--weights", ""], ["'' is not of the form"]),
    (["--weights", "difficulty=1,difficulty=2"], ["'difficulty' is named twice"]),
    (["--ties", "random"], ["--ties random is unknown", "average, paper"]),
    (["--clusters", "-1"], ["--clusters is -1; wanted at least 0"]),
    (["--clusters", "500"], ["--clusters 500 is more than the 120 eligible"]),
    (["--cluster-by", "nope"], ["nope", "column"]),
    (
        ["--cluster-by", "topic", "--clusters", "4"],
        ["--clusters and --cluster-by both say what the clusters are"],
    ),
    (["--cluster-by", "model"], ["model", "sim-"]),
    (["--quota", "topic"], ["--quota topic is of another form", "COLUMN=equal"]),
    (["--quota", "topi=equal"], ["no column 'topi'", "did you mean 'topic'?"]),
    (["--quota", "topic=musik:1"], ["--quota: no row has the topic 'musik'; did you mean 'music'?"]),
    (["--quota", "topic=music:0.5"], ["add up to 0.5; wanted 1, as with rest:0.5"]),
    (
        ["--quota", "topic=music:1", "--budget", "100"],
        ["--budget 100 is more than can be chosen", "no_quota"],
    ),
    (["--embedder", "nope"], ["--embedder nope is unknown", "lsa, minilm, file:VECTORS"]),
    (["--embedder", ""], ["embedder"]),
    (["--embedder", "file:"], ["names no file"]),
    (["--embedder", "file:none.parquet"], ["none.parquet"]),
    (["--embedder", "column:nope"], ["nope"]),
    (["--embedder", "column:instruction"], ["instruction"]),
    (["--answer", "worst"], ["--answer worst is unknown", "topN-random"]),
    (["--answer", "top0-random"], ["--answer top0-random is unknown"]),
    (["--answer", "model:gpt"], ["no model 'gpt' in the pool", "sim-ash-14b"]),
    (["--pairs", "worst-best"], ["--pairs worst-best is unknown", "best-worst"]),
    (["--pairs", "best-worst", "--answer", "random"], ["cannot be combined with --answer random"]),
    (["--pairs", "best-worst", "--format", "messages"], ["which --format messages cannot hold", "dpo"]),
    (["--format", "dpo"], ["--format dpo needs preference pairs", "--pairs best-worst"]),
    (["--format", "csv"], ["--format csv is unknown", "messages, prompt-completion"]),
    (["--file-type", "csv"], ["--file-type csv is unknown", "jsonl, parquet"]),
    (["--for", "swift"], ["--for swift is unknown", "axolotl, ms-swift"]),
    (["--min-rewards", "3"], ["--min-rewards is now a band; write --keep rewards=3.."]),
    (["--min-best-reward", "1.5"], ["--min-best-reward is now a band; write --keep best_reward=1.5.."]),
    (["--min-best-quantile", "0.07"], ["--min-best-quantile is now a band; write --keep best_reward=7%.."]),
    (["--keep", "rewards=13.."], ["0 instructions are eligible", "outside"]),
    (["--keep", "rewards"], ["--keep rewards is not a band", "NAME=LOW..HIGH"]),
    (["--keep", "rewards=3"], ["--keep rewards=3 is not a band"]),
    (["--keep", "rewards=.."], ["--keep rewards=.. is not a band"]),
    (["--keep", "=1..2"], ["--keep =1..2 is not a band"]),
    (["--keep", "rewards=nan.."], ["'nan' is no number"]),
    (["--keep", "rewards=150%.."], ["150% is outside 0% to 100%"]),
    (["--keep", "rewards=3..2"], ["holds nothing"]),
    (["--keep", "rewrads=3.."], ["--keep: no number 'rewrads'", "best_reward", "did you mean 'rewards'?"]),
    (["--keep", "reward:gpt=3.."], ["reward:gpt is of no model of the pool", "sim-ash-14b"]),
    (["--keep", "margin=3.."], ["margin is of pairs, which --pairs best-worst makes"]),
    (["--keep", "within=0.1.."], ["within needs several samples of a model"]),
    (["--keep", "pass_rate=..0.5"], ["within 0 and 1", "a column of 0 and 1"]),
    (["--weights", "within=1"], ["within has a weight", "two samples"]),
    (["--cluster-by", "difficulty:0"], ["--cluster-by difficulty:0 asks for 0 bins"]),
    (["--cluster-by", "dificulty:3"], ["--cluster-by: no number 'dificulty'"]),
    (["--answers-per-row", "0"], ["--answers-per-row is 0; wanted at least 1"]),
    (["--answers-per-row", "2", "--pairs", "best-worst"], ["cannot be combined with --pairs best-worst"]),
    (["--answers-per-row", "2", "--answer", "random"], ["cannot be combined with --answer random"]),
    (["--reference", "topic"], ["--reference topic is of --format rl"]),
    (["--format", "rl"], ["none of reference, answer, target, ground_truth, solution", "--reference"]),
    (["--format", "rl", "--reference", "nope"], ["no column 'nope'", "topic"]),
    (
        ["--format", "rl", "--reference", "topic", "--for", "llamafactory"],
        ["LLaMA-Factory does not read --format rl"],
    ),
    (
        ["--format", "rl", "--reference", "topic", "--for", "verl"],
        ["'data_source'", "openai/gsm8k", "custom_reward_function"],
    ),
    (
        ["--format", "rl", "--reference", "topic", "--for", "verl", "--source", "topic"],
        ["verl has no check of a text", "it knows: openai/gsm8k"],
    ),
    (["--format", "rl", "--reference", "topic", "--for", "open-instruct"], ["'dataset'", "gsm8k, math"]),
    (
        ["--for", "verl", "--format", "alpaca"],
        ["verl does not read --format alpaca; choose one of: messages, rl"],
    ),
    (["--near-duplicates", "-0.5"], ["--near-duplicates -0.5 is outside 0 to 1"]),
    (["--limit", "0"], ["--limit is 0"]),
    (["--limit", "3", "--clusters", "0"], ["5", "3"]),
    (["--layout", "tall"], ["tall", "long"]),
    (["--layout", "zoo"], ["zoo"]),
    (["--rewards", "none.parquet"], ["none.parquet: no such file"]),
    (["--include", "none.txt"], ["none.txt: no such file", "one id per line"]),
    (["--include", "."], [".: is a folder"]),
    (["--include", "empty.txt"], ["empty.txt: holds no id"]),
    (["--exclude", "binary.txt"], ["binary.txt: is UTF-16, not UTF-8"]),
    (["--exclude", "noid.csv"], ["noid.csv: no column id", "name, age"]),
    (["--include", "strangers.txt"], ["0"]),
    (["--crowd", "none.toml"], ["none.toml", "no such crowd file"]),
    (["--crowd", "broken.toml"], ["broken.toml", "broken TOML"]),
    (["--crowd", "broken.json"], ["broken.json", "broken JSON", "line 1"]),
    (["--crowd", "size.toml"], ["size.toml", "sim-oak-7b", "size_b must be a positive number", "-7"]),
    (["--crowd", "others.toml"], ["others.toml", "no entry matches a model of the pool", "llama"]),
    (["--crowd", "single.toml"], ["stability has a weight", "crowdselect crowd POOL -o crowd.toml"]),
    (["--crowd", "empty.txt"], ["empty.txt", ".toml or .json"]),
    (
        ["--bugdet", "5"],
        ["there is no option --bugdet; did you mean '--budget'?", "crowdselect select --help"],
    ),
    (["surplus"], ["surplus"]),
    (["-o", "no/such/parent"], ["there is no folder"]),
]


@pytest.fixture
def odd_files():
    Path("empty.txt").write_text("\n \n")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00")
    Path("noid.csv").write_text("name,age\nx,1\n")
    Path("strangers.txt").write_text("x\ny\n")
    Path("broken.toml").write_text("[[model]\n")
    Path("broken.json").write_text("{")
    Path("size.toml").write_text('[[model]]\nname = "sim-oak-7b"\nsize_b = -7\n')
    Path("others.toml").write_text('[[model]]\nname = "llama"\nfamily = "llama"\nsize_b = 7\n')
    names = [f"sim-{wood}-{size}b" for wood in ("oak", "elm") for size in (1.5, 7, 32)]
    names += [f"sim-{wood}-{size}b" for wood in ("ash", "fir") for size in (3, 14, 72)]
    tables = [f'[[model]]\nname = "{name}"\nfamily = "{name}"\n' for name in names]
    Path("single.toml").write_text("\n".join(tables))  # a family of its own for each


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize(("arguments", "parts"), SELECT, ids=[" ".join(case[0]) or "''" for case in SELECT])
def test_a_bad_option_is_one_line_and_nothing_is_written(run, sim, arguments, parts):
    before = tree()
    common = ["--budget", "5"] if "--budget" not in arguments else []
    run("select", sim, *common, "-o", "out", *arguments).refuses(*parts)
    assert tree() == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["selct"], ["there is no command 'selct'; did you mean 'select'?"]),
        (["--verbose"], ["No such option '--verbose'"]),
        (["select"], ["Missing argument 'POOL'"]),
        (["select", "POOL"], ["Missing option '--budget'"]),
        (["select", "POOL", "--budget", "5"], ["say where to write with -o DIR, or add --dry-run"]),
        (["select", "none.parquet", "--budget", "5", "-o", "out"], ["none.parquet: no such file"]),
        (["inspect", "none.parquet"], ["none.parquet: no such file"]),
        (["inspect", "POOL", "--reward", "nope"], ["no reward column 'nope'"]),
        (["inspect", "POOL", "--crowd", "none.json"], ["none.json", "no such crowd file"]),
        (["crowd", "POOL", "--toml", "--json"], ["give one of them"]),
        (["crowd", "POOL", "--layout", "tall"], ["tall"]),
        (["metrics", "POOL"], ["Missing option '-o' / '--output'"]),
        (["metrics", "POOL", "-o", "m.xlsx"], ["m.xlsx: cannot write .xlsx", ".parquet, .csv, .jsonl"]),
        (["metrics", "POOL", "-o", "m"], ["m: cannot write a file without an ending"]),
        (["metrics", "none.parquet", "-o", "m.xlsx"], ["m.xlsx: cannot write .xlsx"]),
        (["metrics", "POOL", "-o", "m.csv", "--ties", "x"], ["ties"]),
        (["metrics", "POOL", "-o", "m.csv", "--reward", "x"], ["no reward column 'x'"]),
        (["metrics", "POOL", "-o", "no/m.csv"], ["there is no folder"]),
        (["why", "nowhere", "a"], ["nowhere: not a crowdselect output folder (no manifest.json)"]),
        (["why", ".", "a"], [".: not a crowdselect output folder (no manifest.json)"]),
        (["why", "nowhere"], ["give the id of a row, or a --reason"]),
        (["simulate"], ["Missing option '-o' / '--output'"]),
        (["simulate", "-o", "s.txt"], ["s.txt"]),
        (["simulate", "-o", "s.parquet", "--instructions", "0"], ["--instructions is 0"]),
        (["simulate", "-o", "s.parquet", "--layout", "tall"], ["--layout is 'tall'"]),
        (["simulate", "-o", "s.parquet", "--crowd", "x"], ["--crowd is 'x'"]),
        (["simulate", "-o", "s.parquet", "--shards", "0"], ["--shards is 0"]),
        (["simulate", "-o", "s.parquet", "--samples", "2", "--layout", "matrix"], ["--samples is 2"]),
        (["simulate", "-o", "s.parquet", "--answer-chars", "1"], ["--answer-chars is 1"]),
        (["demo", "-o", "no/such/folder"], ["there is no folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_of_the_other_commands(run, sim, arguments, parts):
    before = tree()
    run(*(str(sim) if a == "POOL" else a for a in arguments)).refuses(*parts)
    assert tree() == before


def test_no_family_of_two_sizes_while_stability_has_a_weight(run):
    rows = [
        {"id": i, "instruction": f"{i}?", "model": m, "response": "r", "score": s}
        for i in "ab"
        for m, s in (("gpt-x", 1), ("claude-y", 2))
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    run("select", "pool.parquet", "--budget", 1, "-o", "out").refuses(
        "stability has a weight", "pass it as --crowd"
    )
    ran = run(
        "select", "pool.parquet", "--budget", 1, "--clusters", 0, "--weights", "difficulty=1", "-o", "out"
    )
    assert ran.code == 0
    assert "no family of two sizes among 2 models" in ran.out
