"""Scoring on a real Ray of this machine: the same scores, whatever dies on the way."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crowdselect import open_pool
from crowdselect.cache import Parts
from crowdselect.simulate.pool import simulate
from engines import BATCH, SCORERS, parts, ran, recut, start, wait_for

pytestmark = pytest.mark.extra
LOGGED = ("--with", "python:scorers_on_ray:logged", "--no-self-test", "--engine", "ray")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scorers_on_ray.py").write_text(SCORERS)
    simulate("pool", instructions=40, shards=3, answer_chars=80)


def rewards(path):
    return pq.read_table(path).sort_by([("id", "ascending"), ("model", "ascending")])


def asked(tmp_path):
    return (tmp_path / "asked.txt").read_text().splitlines()


def conversations():
    """How many different (instruction, answer) the pool has."""
    with open_pool("pool") as pool:
        texts = dict(zip(pool.ids, pool.instructions(), strict=True))
        return {
            (texts[pool.ids[row]], text)
            for batch in pool.stream_responses()
            for row, text in zip(batch.rows, batch.texts, strict=True)
            if text is not None
        }


def test_as_many_workers_as_cores_give_the_scores_of_the_local_engine():
    cores = os.cpu_count() or 1
    ran("reward", "pool", "--with", "python:scorers_on_ray:length", "-o", "here.parquet", code=3)
    out, err = ran("reward", "pool", "--with", "python:scorers_on_ray:length", "-o", "there.parquet",
                   "--engine", "ray", "--workers", cores, code=3)  # fmt: skip
    assert pq.read_table("there.parquet").equals(pq.read_table("here.parquet"))
    assert "the answer is empty" in out
    out, _ = ran(
        "reward",
        "pool",
        "--with",
        "python:scorers_on_ray:length",
        "-o",
        "there.parquet",
        "--overwrite",
        code=3,
    )
    assert "; 0 conversations sent to the scorers" in out  # the local engine knows what workers have scored
    assert pq.read_table("there.parquet").equals(pq.read_table("here.parquet"))
    assert "SELF-TEST" in err
    assert not [line for line in err.splitlines() if not line.startswith(("warning: SELF-TEST", "scored"))]


def test_a_worker_that_is_killed_loses_no_more_than_its_batch(tmp_path):
    (tmp_path / "deadly").touch()
    ran("reward", "pool", *LOGGED, "--workers", 2, "-o", "r.parquet", code=3)
    assert not (tmp_path / "deadly").exists()
    table = rewards("r.parquet")
    assert table["logged"].null_count == table["reason"].to_pylist().count("the answer is empty")
    twice = len(asked(tmp_path)) - len(set(asked(tmp_path)))
    assert 0 < twice <= BATCH + 10  # its batch, and equal conversations in two files
    assert set(asked(tmp_path)) == {repr(f"{question}|{answer}") for question, answer in conversations()}


def test_a_driver_that_is_killed_goes_on_with_other_shards_and_workers(tmp_path):
    first = start("reward", "pool", *LOGGED, "--workers", 2, "-o", "r.parquet", PAUSE="0.5")
    wait_for(lambda: len(parts(tmp_path / "r.parquet.parts")) >= 4)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    wait_for(lambda: _still(tmp_path))
    before = asked(tmp_path)
    (tmp_path / "asked.txt").unlink()
    recut(tmp_path / "pool", 7)
    ran("reward", "pool", *LOGGED, "--workers", 1, "-o", "r.parquet", code=3)
    table = Parts(tmp_path / "r.parquet.parts").read("key")
    assert len(table) == len(set(table["key"].to_pylist()))  # nothing that was written was scored again
    assert len(before) + len(asked(tmp_path)) <= len(table) + 2 * BATCH  # what was in hand when it was killed
    ran(
        "reward",
        "pool",
        "--with",
        "python:scorers_on_ray:logged",
        "--no-self-test",
        "-o",
        "here.parquet",
        code=3,
    )
    assert rewards("r.parquet").equals(rewards("here.parquet"))


@pytest.fixture
def two_gpus(tmp_path):
    """The address of a cluster that says it has two GPUs, and what a command needs to reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must be short
    env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [
        Path(sys.executable).parent / "ray",
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--temp-dir={place}",
    ]
    more = ["--num-cpus=2", "--num-gpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    with (
        (tmp_path / "ray.log").open("wb") as log,
        subprocess.Popen([*command, *more], env=env, stdout=log, stderr=log) as head,
    ):
        wait_for(lambda: "Ray runtime started" in (tmp_path / "ray.log").read_text())
        yield f"127.0.0.1:{port}", {"RAY_AUTH_MODE": "disabled"}
        head.terminate()
        head.wait(60)
    shutil.rmtree(place, ignore_errors=True)


def test_workers_share_the_gpus_of_a_cluster_that_is_there(two_gpus):
    address, env = two_gpus
    asked = ("reward", "pool", "--with", "python:scorers_on_ray:placed", "--no-self-test", "-o", "r.parquet",
             "--engine", "ray", "--ray-address", address, "--gpus-per-worker")  # fmt: skip
    ran(*asked, 1, code=3, **env)
    assert set(Path("gpus.txt").read_text().split()) == {"0", "1"}
    _, err = ran(*asked, 1, "--workers", 3, "--overwrite", code=2, **env)
    assert err == "error: --workers 3 of 1 GPUs each are more than the 2 GPUs of the Ray cluster\n"
    _, err = ran(*asked, 4, "--overwrite", code=2, **env)
    assert (
        err
        == "error: --gpus-per-worker is 4, but the Ray cluster has 2 GPUs in all; leave it out to use CPUs\n"
    )


def test_what_a_worker_ends_with_is_one_line():
    _, err = ran("reward", "pool", "--with", "python:scorers_on_ray:broken", "--no-self-test", "-o", "r.parquet",
                 "--engine", "ray", "--workers", 1, code=2)  # fmt: skip
    assert err == (
        "error: python:scorers_on_ray:broken: number of scores: 1, of conversations: 16; wanted one for each\n"
    )


def _still(tmp_path):
    """The orphaned workers have ended: nothing more is asked."""
    before = asked(tmp_path)
    time.sleep(3)
    return asked(tmp_path) == before
