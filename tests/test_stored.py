"""What 0.1.0 wrote is read, and what it computed is not computed again.

Elsewhere: `why`, `compare`, `report` and `select --overwrite` on its folder in test_overwrite.py; `collect` and judges on
its ledgers in test_finish.py, and with renamed models in test_collect_renamed.py and test_reward_judge.py.
"""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from crowdselect.cache import Parts
from crowdselect.pool.pool import open_pool
from crowdselect.reward.job import Job, JobOptions
from crowdselect.reward.specs import parse_specs

STORED = Path(__file__).parent / "stored"
POOL = STORED / "selection-0.1.0" / "pool.parquet"
REWARD = ("--with", "python:rule:length", "--no-self-test", "-o", "rewards.parquet")


@pytest.fixture
def within(tmp_path, monkeypatch):
    """Go into a copy of a stored folder, whose `rule.py` is then found."""

    def go(name):
        shutil.copytree(STORED / name, tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        monkeypatch.delitem(sys.modules, "rule", raising=False)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    return go


def forbid_scoring(monkeypatch):
    """Let the scorer be found, and fail when it is called."""
    import rule

    def length(conversations):
        pytest.fail(f"{len(conversations)} conversations were scored again")

    length.__code__ = length.__code__.replace(co_filename=rule.__file__)  # the file's bytes are in the keys
    monkeypatch.setattr(rule, "length", length)


def same_scores(path, expected):
    by = [("id", "ascending"), ("model", "ascending"), ("sample", "ascending")]
    assert pq.read_table(path).sort_by(by).equals(pq.read_table(expected).sort_by(by))


@pytest.mark.extra
def test_a_selection_is_trained_on(run, tmp_path, monkeypatch):
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    from tiny_models import build_model

    monkeypatch.chdir(tmp_path)
    shutil.copytree(STORED / "selection-0.1.0" / "chosen", "chosen")
    build_model(tmp_path / "base")
    ran = run("train", "chosen", "--base", "base", "-o", "student", "--dry-run")
    assert ran.code == 0
    assert not Path("student").exists()


def test_a_select_embeds_nothing_that_is_in_the_part_cache(run, within, monkeypatch):
    within("parts-0.1.0")

    class Model:
        def __init__(self, name, **options):
            pass

        def encode(self, texts, **options):
            pytest.fail(f"{len(texts)} texts were embedded again")

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Model))
    monkeypatch.setattr("crowdselect.embed.models._library", lambda **_: "stand-in")
    monkeypatch.setenv("CROWDSELECT_CACHE", "cache")
    ran = run("select", POOL, "--budget", 5, "--clusters", 2, "--embedder", "./model", "-o", "chosen")
    assert ran.code == 0, ran.err
    assert Path("chosen/train.jsonl").read_bytes() == Path("train.jsonl").read_bytes()


def test_scores_in_parts_are_scored_by_nobody_again(run, within, monkeypatch):
    within("parts-0.1.0")
    forbid_scoring(monkeypatch)
    ran = run("reward", POOL, *REWARD)
    assert ran.code == 0, ran.err
    assert "; 0 conversations sent to the scorers" in ran.out
    same_scores("rewards.parquet", "scored.parquet")
    assert not Path("rewards.parquet.ledger").exists()


def test_scores_in_parts_beside_the_output_are_found_where_a_ledger_is_named(run, within, monkeypatch):
    within("parts-0.1.0")
    forbid_scoring(monkeypatch)
    assert run("reward", POOL, *REWARD, "--ledger", "other.ledger").code == 0
    same_scores("rewards.parquet", "scored.parquet")


def test_local_scores_in_a_ledger_are_taken_over_into_parts(run, within, monkeypatch):
    within("ledgers-0.1.0")
    forbid_scoring(monkeypatch)
    asked = ("reward", "pool.jsonl", *REWARD, "--overwrite", "--ledger", "reward.ledger")
    ran = run(*asked)
    assert ran.code == 0, ran.err
    assert "; 0 conversations sent to the scorers" in ran.out
    first = Path("rewards.parquet").read_bytes()
    with open_pool("pool.jsonl") as pool:
        count = sum(len(batch.texts) for batch in pool.stream_responses())
    assert Parts(Path("reward.parts")).read("score")["score"].null_count == 0
    written = Parts(Path("reward.parts")).paths()
    assert len(Parts(Path("reward.parts")).read("key")) >= count
    assert run(*asked).code == 0
    assert Parts(Path("reward.parts")).paths() == written  # taken over once
    Path("reward.ledger").unlink()
    assert run(*asked).code == 0  # the parts are enough
    assert Path("rewards.parquet").read_bytes() == first
    assert not Path("reward.ledger").exists()


def test_computed_scores_are_parts_and_a_failure_is_scored_again_on_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("half.py").write_text(
        "from pathlib import Path\n"
        "def score(chats):\n"
        "    with open('asked.txt', 'a') as file:\n"
        "        file.write('asked\\n' * len(chats))\n"
        "    good = Path('good').exists()\n"
        "    return [float(len(c[-1]['content'])) if good or at % 2 else None for at, c in enumerate(chats)]\n"
    )
    asked = lambda: len(Path("asked.txt").read_text().split())  # noqa: E731

    def score(**options):
        with (
            open_pool(POOL) as pool,
            Job(
                pool,
                parse_specs(["python:half:score"], []),
                "r.parquet",
                JobOptions(self_test=False, overwrite=True, **options),
            ) as job,
        ):
            return job.run(job.plan()).tallies["score"]

    count = score().answers
    assert asked() == count == 240
    assert not Path("r.parquet.ledger").exists()
    missing = pq.read_table("r.parquet")["score"].null_count
    assert missing == 120
    Path("good").touch()
    assert score().scored == count - missing  # without being asked to, nothing is scored again
    assert asked() == count
    assert score(retry_failed=True).scored == count
    assert asked() == count + missing
    assert score(retry_failed=True).scored == count
    assert asked() == count + missing
