"""The whole chain, from instructions to a comparison of students: real teachers, real training, a judge with a rule."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from chain import PROMPTS, QUESTIONS, Judge, grade, serving, start, verdict, write_chain
from collecting import wait_for

for package in ("openai", "torch", "transformers", "trl", "peft", "fastapi", "uvicorn"):
    pytest.importorskip(package)
pytestmark = pytest.mark.extra

RUNS = ("select", "random seed 0", "random seed 1")


def test_from_instructions_to_a_comparison_through_a_kill(tmp_path):
    """One test, because every part of it rests on the one before; about two minutes, most of it imports of torch."""
    folder, log = tmp_path / "chain", tmp_path / "log"
    folder.mkdir()
    with serving() as served, Judge() as judge:
        recipe = write_chain(folder, served=served, judge=judge.base_url)
        out = folder / "recipe"
        kill_while_training(recipe, out, log)
        made = stamps(out)
        assert {name.rpartition("-")[0] for name in made} >= {
            "collect",
            "reward",
            "select",
            "train-on-select",
        }
        finish(recipe, log)
        assert {name: at for name, at in stamps(out).items() if name in made} == made
        assert judge.calls == len(RUNS) * 2 * (len(QUESTIONS) + len(PROMPTS))
        check_results(out)
        check_nothing_is_done_again(recipe, out, log)


def kill_while_training(recipe: Path, out: Path, log: Path) -> None:
    """End everything at once while the second student is trained."""
    process = start(recipe, log=log)
    try:
        wait_for(
            lambda: process.poll() is not None or list(out.glob("steps/train-on-random-seed-0-*/log.txt")),
            400,
        )
        time.sleep(2)
        assert process.poll() is None, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finish(recipe: Path, log: Path) -> None:
    process = start(recipe, log=log)
    try:
        assert process.wait(480) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def check_results(out: Path) -> None:
    found = json.loads((out / "table.json").read_text())
    assert tuple(run["run"] for run in found["runs"]) == RUNS
    for run in found["runs"]:
        assert run["losses"]["eval_loss"] < run["losses"]["eval_loss_before"]  # it has learned
        assert (out / run["model"] / "adapter_config.json").is_file()
        check_scores(out, run["results"])
    differences = {one["benchmark"]: one for one in found["differences"]}
    assert set(differences) == {"mt-bench", "arena-hard"}
    for one in differences.values():
        assert one["against"] == "random"
        assert {side["name"]: side["runs"] for side in one["standings"]} == {
            "select": 1,
            "random": 2,
        }
    page = (out / "index.html").read_text()
    assert all(run in page for run in RUNS)
    assert "better" not in page.replace("not which student is better", "")


def check_scores(out: Path, results: dict) -> None:
    """Score by hand what the judge must have said."""
    folder = out / results["mt-bench"]["folder"]
    answers = [json.loads(line)["choices"][0]["turns"] for line in lines(folder / "answers.jsonl")]
    grades = [grade(answer.strip("\n")) for turns in answers for answer in turns]
    assert results["mt-bench"]["score"] == pytest.approx(sum(grades) / len(grades))
    folder = out / results["arena-hard"]["folder"]
    own, other = (arena(folder / f"{name}.jsonl") for name in ("answers", "baseline_answers"))
    points = {"A>B": 100.0, "A=B": 50.0, "B>A": 0.0}
    won = [points[verdict(own[id_], other[id_])] for id_ in own]
    assert results["arena-hard"]["score"] == pytest.approx(sum(won) / len(won))


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def arena(file: Path) -> dict[str, str]:
    """The last answer to each question."""
    found = {}
    for line in lines(file):
        row = json.loads(line)
        said = row["messages"][-1]["content"]
        found[row["uid"]] = (said["answer"] if isinstance(said, dict) else said).strip("\n")
    return found


def check_nothing_is_done_again(recipe: Path, out: Path, log: Path) -> None:
    """Not after a second run, and not after every input was renamed."""
    before = stamps(out)
    for name in ("asked", "mt", "references", "arena"):
        (recipe.parent / f"{name}.jsonl").rename(recipe.parent / f"other-{name}.jsonl")
        text = recipe.read_text().replace(f'"{name}.jsonl"', f'"other-{name}.jsonl"')
        recipe.write_text(text)
    begun = time.monotonic()
    finish(recipe, log)
    assert time.monotonic() - begun < 20
    assert stamps(out) == before


def stamps(out: Path) -> dict[str, int]:
    """When each step was done."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("steps/*/step.json")}
