"""Local models that answer on a real Ray of this machine."""

import json
import os
import signal

import pyarrow.parquet as pq
import pytest

from crowdselect.ask.ledger import Ledger
from engines import parts, ran, start, wait_for

pytestmark = pytest.mark.extra


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    for name in ("ray", "torch", "transformers"):
        pytest.importorskip(name)
    from tiny_models import build_model

    monkeypatch.chdir(tmp_path)
    build_model(tmp_path / "model")
    (tmp_path / "crowd.toml").write_text(
        f'[[model]]\nname = "tiny"\nlocal = "{tmp_path / "model"}"\nmax_tokens = 6\nbatch_size = 2\ntemperature = 0.8\nseed = 5\n'
        f'[[student]]\nname = "pupil"\nlocal = "{tmp_path / "model"}"\nmax_tokens = 6\ntemperature = 0.0\n'
    )
    asked = [{"id": f"i{n}", "instruction": f"Say {n} in words, please."} for n in range(40)]
    asked += [{"id": f"t{n}", "turns": [f"Once more, {n}", "And now?"]} for n in range(3)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))


def test_answers_are_those_of_this_process_and_a_killed_run_goes_on(tmp_path):
    first = start("collect", "asked.jsonl", "--crowd", "crowd.toml", "-o", "there.parquet",
                  "--engine", "ray", "--workers", 2)  # fmt: skip
    folder = tmp_path / "there.parquet.parts"
    wait_for(lambda: folder.exists() and [each for one in folder.iterdir() for each in parts(one)])
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    out, err = ran("collect", "asked.jsonl", "--crowd", "crowd.toml", "-o", "there.parquet",
                   "--engine", "ray", "--workers", 1)  # fmt: skip
    assert not folder.exists()
    assert "tiny" in out + err
    ran("collect", "asked.jsonl", "--crowd", "crowd.toml", "-o", "here.parquet")
    there, here = (pq.read_table(f"{name}.parquet") for name in ("there", "here"))
    said = ["id", "model", "is_student", "response", "finish_reason"]
    pairs = zip(there["model"].to_pylist(), there["is_student"].to_pylist(), strict=True)
    assert set(pairs) == {("tiny", False), ("pupil", True)}
    assert there.select([n for n in said if n in there.column_names]).equals(
        here.select([n for n in said if n in here.column_names])
    )
    with Ledger(tmp_path / "there.parquet.ledger") as ledger:
        for name in ("tiny", "pupil"):
            assert ledger.spent()[name].attempts == 40 + 3 * 2  # none was asked twice and kept twice
