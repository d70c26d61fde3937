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
    monkeypatch.setattr(parts.held_out, "__kwdefaults__", {"count": 20})
    monkeypatch.setattr(run, "processes", ThreadPoolExecutor)
    crowd = pool.with_name("crowd.json")
    crowd.write_text("{" + ", ".join(f'"{name}": {{"family": "{name[:3]}", "size_b": {name[4]}}}' for name in MODELS) + "}")  # fmt: skip
    return run, crowd


def test_every_run_has_the_same_tokens_and_steps_and_goes_on_where_it_stopped(
    small, pool, tmp_path, monkeypatch
):
    from proving_ground.real.design import WAYS, order
    from proving_ground.real.results import BASE, READING, Results, run_name
    from proving_ground.real.tables import page

    run, crowd = small
    results = Results(tmp_path / "results")
    build_model(tmp_path / "work" / "student", seed=0)
    todo = [(way, seed) for way, seed in order() if seed == 0]
    monkeypatch.setattr(run, "order", lambda: todo)
    run.run(results, pool, crowd, tmp_path / "work", workers=1)
    names = {BASE, READING, *(run_name(way, 0) for way in WAYS)}
    assert {file.stem for file in results.folder.glob("*.json")} == names
    base = results[BASE]
    assert len(base["ids"]) == 20
    assert "q07" not in {*base["ids"], *results[READING]["ids"]}  # too long a question
    assert not {*base["ids"]} & {*results[READING]["ids"]}
    for way in WAYS:
        record = results[run_name(way, 0)]
        assert record["steps"] == 3, way
        assert 170 <= record["answer_tokens"] <= 200, way
        assert record["rows"] % 3 == 0
        assert record["loss"] != base["loss"]
        assert len(record["loss"]) == len(record["prefers"]) == 20
    assert "1 of 4" in page(results)
    monkeypatch.setattr(run, "run_one", None)  # nothing is left to do
    run.run(results, pool, crowd, tmp_path / "work", workers=1)
