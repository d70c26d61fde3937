"""The real model's proving ground, with a tiny model in its place: parts, equal tokens, resuming, tables."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiny_models import build_model

pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.extra

TASKS = ("apples", "pears")
MODELS = tuple(f"{family}-{size}b" for family in ("oak", "ash", "elm") for size in (1, 7))


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    draw = random.Random(0)
    rows = []
    for number in range(60):
        task, hard = TASKS[number % 2], draw.random()
        for model in MODELS:
            text = " ".join(f"{number} and {draw.randrange(9)}" for _ in range(draw.randrange(4, 20)))
            right = float(draw.random() > hard)
            asked = f"How many {task}, {number}?" + (" Say why." * 99 if number == 7 else "")
            rows.append(
                {"id": f"q{number:02d}", "instruction": asked, "model": model, "response": text, "task": task}
                | {"score": right}
            )
    file = tmp_path_factory.mktemp("pool") / "pool.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.fixture
def small(monkeypatch, pool):
    """The run with small numbers, in threads of this process, where they hold; a crowd file."""
    from proving_ground.real import pool as parts
    from proving_ground.real import run

    for name, value in (("STEPS", 3), ("ROW_TOKENS", 64), ("ANSWER_TOKENS", 200)):
        monkeypatch.setattr(run, name, value)
    monkeypatch.setattr(parts, "HELD_OUT", 20)
    monkeypatch.setattr(run, "processes", ThreadPoolExecutor)
    crowd = pool.with_name("crowd.json")
    crowd.write_text("{" + ", ".join(f'"{name}": {{"family": "{name[:3]}", "size_b": {name[4]}}}' for name in MODELS) + "}")  # fmt: skip
    return run, crowd


def test_every_run_has_the_same_tokens_and_steps_and_goes_on_where_it_stopped(
    small, pool, tmp_path, monkeypatch
):
    from proving_ground.real.design import PAPER, RANDOM, SHORTEST, STUDENT
    from proving_ground.real.results import BASE, READING, Results, run_name
    from proving_ground.real.tables import page

    run, crowd = small
    results, ways = Results(tmp_path / "results"), (STUDENT, PAPER, SHORTEST, RANDOM)
    build_model(tmp_path / "work" / "student", seed=0)
    monkeypatch.setattr(run, "order", lambda: [(way, 0) for way in ways])
    run.run(results, pool, crowd, tmp_path / "work", workers=1, cpu_seconds=0)
    assert {file.stem for file in results.folder.glob("*.json")} == {READING, BASE}
    run.run(results, pool, crowd, tmp_path / "work", workers=1)
    names = [run_name(way, 0) for way in ways]
    assert {file.stem for file in results.folder.glob("*.json")} == {READING, BASE, *names}
    base, reading = results[BASE], results[READING]
    assert len(base["ids"]) == 20
    assert "q07" not in {*base["ids"], *reading["ids"]}  # too long a question
    assert not {*base["ids"]} & {*reading["ids"]}
    for name in names:
        record = results[name]
        assert record["steps"] == 3, name
        assert 170 <= record["answer_tokens"] <= 200, name
        assert record["rows"] % 3 == 0
        assert record["loss"] != base["loss"]
        assert len(record["loss"]) == len(record["prefers"]) == 20
    assert "| random | 1 of 4 |" in page(results)
    assert "| easy | not run |" in page(results)
    monkeypatch.setattr(run, "run_one", None)  # nothing is left to do
    run.run(results, pool, crowd, tmp_path / "work", workers=1)


@pytest.mark.parametrize(
    ("shifts", "told"),
    [
        ((-0.1, -0.12), "told apart"),
        ((0.1, 0.12), "told apart"),
        ((-0.2, 0.004), "not told apart"),  # one run lies among those of random
        ((0.0, 0.01), "not told apart"),
        ((-0.1,), "one seed"),
    ],
)
def test_a_way_is_told_apart_by_the_protocols_rule(shifts, told):
    import numpy as np

    from proving_ground.real.tables import compared, verdict

    draw = np.random.default_rng(0)
    level = draw.normal(1.0, 0.3, size=80)
    base = {
        "ids": [f"q{number:02d}" for number in range(80)],
        "tasks": ["apples"] * 80,
        "bands": ["easy"] * 80,
        "tokens": [100] * 80,
        "loss": level.tolist(),
    }

    def records(by_seed):
        return [
            {"seed": seed, "loss": (level + shift + draw.normal(0, 0.02, size=80)).tolist()}
            for seed, shift in enumerate(by_seed)
        ]

    runs = {"random": records((0.0, 0.01)), "easy": records(shifts), "other": records((0.0, 0.01))}
    assert verdict(compared(base, runs, "loss"), "easy") == told


def test_questions_without_two_answers_and_parts_are_left_out_of_a_comparison():
    from proving_ground.real.tables import BEFORE, compared

    base = {
        "ids": ["a", "b", "c", "d"],
        "tasks": ["apples", "apples", "pears", "pears"],
        "bands": ["easy"] * 4,
        "tokens": [1, 3, 5, 5],
        "loss": [2.0, 1.0, 9.0, 9.0],
        "prefers": [1.0, None, 0.0, 0.5],
    }
    found = compared(base, {"random": [base]}, "prefers")
    assert [(one.name, one.questions, one.score) for one in found.standings] == [
        ("random", 3, 50.0),
        (BEFORE, 3, 50.0),
    ]
    assert compared(base, {"random": [base]}, "loss", "apples").standings[0].score == 1.25  # by tokens


def test_the_tables_in_the_docs_are_those_of_the_results():
    from proving_ground.real.results import Results
    from proving_ground.real.tables import finding, page
    from proving_ground.tables import EVIDENCE

    results = Results()
    assert (results.folder / "tables.md").read_text() == page(results)
    assert f"begin -->\n\n{finding(results)}\n\n<!-- of the real model: end -->" in EVIDENCE.read_text()
