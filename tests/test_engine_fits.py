"""Fits of answers computed on a real Ray of this machine."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from crowdselect.simulate.pool import simulate
from engines import parts, ran

pytestmark = pytest.mark.extra


def test_fits_are_those_of_this_process_and_are_kept(tmp_path, monkeypatch):
    for name in ("ray", "torch", "transformers"):
        pytest.importorskip(name)
    from tiny_models import build_model

    monkeypatch.chdir(tmp_path)
    build_model(tmp_path / "model")
    simulate("pool", instructions=30, shards=2, answer_chars=80)
    asked = ("select", "pool", "--answer", "fits:model", "--method", "random", "--budget", 12, "-o")
    ran(*asked, "here")
    ran(*asked, "there", "--engine", "ray", "--workers", 1)
    here, there = (pq.read_table(f"{name}/selection.parquet") for name in ("here", "there"))
    for name in ("id", "reason", "model", "reward", "good_answers"):
        assert there[name].equals(here[name])
    fits = [np.asarray(table["fit"].drop_null()) for table in (there, here)]
    assert len(fits[0]) == 12
    np.testing.assert_allclose(*fits, atol=1e-4)
    (tmp_path / "there.parts").rename(tmp_path / "again.parts")
    before = {path: path.stat().st_mtime_ns for path in parts(tmp_path / "again.parts")}
    ran(*asked, "again", "--engine", "ray", "--workers", 1)
    assert before
    assert {path: path.stat().st_mtime_ns for path in parts(tmp_path / "again.parts")} == before
    assert pq.read_table("again/selection.parquet").equals(there)
