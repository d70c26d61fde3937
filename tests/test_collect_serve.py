"""Collecting from models that really generate: `transformers serve` through HTTP, and the same models in this process."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from collecting import Job
from tiny_models import build_model

pytest.importorskip("openai")
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.extra, pytest.mark.usefixtures("starter")]

SIZES = {"tiny-1b": 1.0, "tiny-7b": 7.0}
PROMPTS = {f"q{number:02d}": f"Say something about the number {number}." for number in range(12)}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Two models of one family, of random weights."""
    folder = tmp_path_factory.mktemp("models")
    return {name: build_model(folder / name, seed=seed) for seed, name in enumerate(SIZES)}


@pytest.fixture(scope="module")
def served(models):
    """The base_url of `transformers serve`, which loads a model when it is first asked for by its path."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    ) as process:
        try:
            wait_until_up(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def wait_until_up(url: str, process: subprocess.Popen, limit: float = 90) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        assert process.poll() is None, f"transformers serve ended with {process.returncode}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"transformers serve was not up after {limit} s")


def crowd(models, *, key: str = "model", **settings: object) -> dict[str, dict]:
    common = {"max_tokens": 16, "temperature": 0.0, "family": "tiny"} | settings
    return {name: common | {"size_b": SIZES.get(name, 3.0), key: str(path)} for name, path in models.items()}


def write_rewards(job: Job) -> Path:
    """A second file with a number for every answer."""
    draw = random.Random(0)
    path = job.folder / "rewards.jsonl"
    rows = [
        {"id": id_, "model": model, "score": round(draw.random(), 3)} for id_, model in sorted(job.answers())
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_from_a_served_crowd_to_a_selection(tmp_path, models, served, run):
    """One test, so that two workers do not start two servers."""
    for name in ("served", "here", "odd"):
        (tmp_path / name).mkdir()
    over_http = check_served(Job(tmp_path / "served", PROMPTS, crowd(models, base_url=served)))
    check_local(Job(tmp_path / "here", PROMPTS, crowd(models, key="local")), over_http)
    check_selection(over_http, run, tmp_path / "run")
    absent = crowd({"absent": tmp_path / "none"}, base_url=served)
    check_absent(Job(tmp_path / "odd", {"a": "Hello"}, crowd(models, base_url=served) | absent))


def check_served(job: Job) -> Job:
    done = job.run(limit=120)
    assert done.code == 0, done
    rows = job.pool_rows()
    assert {(row["id"], row["model"]) for row in rows} == {(id_, model) for id_ in PROMPTS for model in SIZES}
    for row in rows:
        assert row["instruction"] == PROMPTS[row["id"]]
        assert row["response"].strip()
        assert row["finish_reason"] in {"stop", "length"}
        assert 1 <= row["completion_tokens"] <= 16
        assert row["prompt_tokens"] > 10
    assert len({row["response"] for row in rows}) > 12  # they say different things
    assert job.run().code == 0  # all is known now
    return job


def check_local(job: Job, over_http: Job) -> None:
    """Greedy answers of one model are the same over HTTP one by one and here in batches."""
    done = job.run(limit=120)
    assert done.code == 0, done
    assert job.answers() == over_http.answers()
    here, there = (
        {(r["id"], r["model"]): (r["prompt_tokens"], r["completion_tokens"]) for r in found.pool_rows()}
        for found in (job, over_http)
    )
    assert here == there


def check_selection(job: Job, run, folder: Path) -> None:
    given = (
        "--rewards",
        write_rewards(job),
        "--crowd",
        job.crowd,
        "--budget",
        5,
        "-o",
        folder,
        "--allow-cut",
    )
    selected = run("select", job.pool, *given)
    assert selected.code == 0, selected
    selection = pq.read_table(folder / "selection.parquet").to_pylist()
    assert sum(row["selected"] for row in selection) == 5
    assert all(row["stability"] in {-1.0, 0.0, 1.0} for row in selection)  # two sizes of one family


def check_absent(job: Job) -> None:
    """A server's own way to say that it has no such model, whatever it is, ends in a row and exit code 3."""
    done = job.run("--attempts", "2", "--retry-wait", "0.05", limit=120)
    assert done.code == 3, done
    assert {row["model"]: row["status"] for row in job.rows()}["absent"] in {"gave_up", "failed"}
    assert set(job.answers()) == {("a", name) for name in SIZES}
