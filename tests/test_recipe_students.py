"""A recipe that trains students and measures them without a judge: rows held out, results as the commands give them."""

import json

import pytest

from crowdselect.simulate.pool import simulate
from tiny_models import build_model

for package in ("lm_eval", "torch", "transformers", "trl", "peft"):
    pytest.importorskip(package)
pytestmark = pytest.mark.extra

TASK = """
task: local_days
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
doc_to_text: "{{question}}"
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
RECIPE = """
[pool]
path = "pool.parquet"
[[select]]
budget = 6
clusters = 0
weights = { difficulty = 1 }
[[select]]
method = "random"
budget = 6
seed = [0, 1]
[train]
base = "oak"
lora = true
max-steps = 2
[evaluate.loss]
sample = 10
model = "oak"
[evaluate.prefers]
[evaluate.harness]
tasks = "local_days"
include-path = "tasks"
"""


def test_students_are_measured_and_compared_without_a_judge(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    simulate(tmp_path / "pool.parquet", instructions=30, answer_chars=80)
    build_model(tmp_path / "oak")
    (tmp_path / "tasks").mkdir()
    rows = [{"question": f"Days, {n}?", "choices": ("one", "two"), "label": n % 2} for n in range(4)]
    (tmp_path / "tasks/days.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks/days.yaml").write_text(TASK.replace("FILE", str(tmp_path / "tasks/days.jsonl")))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    made = run("run", "recipe.toml")
    assert made.code == 0, made
    assert "loss: nats per answer token; lower is better" in made.out
    assert made.err.count("warning: one training run each: select, oak;") == 1
    found = json.loads((tmp_path / "recipe/table.json").read_text())
    runs = {one["run"]: one["results"] for one in found["runs"]}
    assert {name: set(filter(results.get, results)) for name, results in runs.items()} == {
        "select": {"loss", "prefers", "harness"},
        "random seed 0": {"loss", "prefers", "harness"},
        "random seed 1": {"loss", "prefers", "harness"},
        "oak": {"loss"},
    }
    trained_on = {
        json.loads(line)["id"]
        for file in tmp_path.glob("recipe/steps/*/chosen/train.jsonl")
        for line in file.read_text().splitlines()
    }
    folders = {name: tmp_path / "recipe" / results["loss"]["folder"] for name, results in runs.items()}
    held_out = {
        name: [json.loads(line)["id"] for line in (folder / "rows.jsonl").read_text().splitlines()]
        for name, folder in folders.items()
    }
    assert len(trained_on) > 6
    assert all(len(ids) == 10 and trained_on.isdisjoint(ids) for ids in held_out.values())
    assert len(set(map(tuple, held_out.values()))) == 1
    for name, folder in folders.items():
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
        mean = sum(row["loss"] * row["tokens"] for row in rows) / sum(row["tokens"] for row in rows)
        assert runs[name]["loss"]["score"] == pytest.approx(mean)
    differences = {one["benchmark"]: one["differences"] for one in found["differences"]}
    assert set(differences) == {"loss", "prefers", "harness"}
    seeds = [folders["random seed 0"], folders["random seed 1"]]
    compared = run(
        "evaluate", "compare", *(f"{name}={folders[name]}" for name in ("select", "oak")),
        f"random={seeds[0]},{seeds[1]}", "--against", "random", "--json",
    )  # fmt: skip
    by_hand = {one["one"]: one for one in json.loads(compared.out)["differences"]}
    assert {one["one"]: one for one in differences["loss"]} == by_hand
    for benchmark, against_random in differences.items():
        scores = {
            name: results[benchmark]["score"] for name, results in runs.items() if results.get(benchmark)
        }
        mean = (scores["random seed 0"] + scores["random seed 1"]) / 2
        shown = {one["one"]: one["difference"] for one in against_random}
        assert shown["select"] == pytest.approx(scores["select"] - mean, abs=1e-9)
    assert [one["questions"] for one in differences["harness"]] == [4]
    page = (tmp_path / "recipe/index.html").read_text()
    assert "paired over instructions" in page
    assert "paired over documents" in page
    again = run("run", "recipe.toml")
    assert "up to date" in again.out
