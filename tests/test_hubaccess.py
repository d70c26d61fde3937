"""The Hub that cannot be reached, that answers slowly, and that has no such model: asked once, said in one line."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crowdselect import hubaccess
from crowdselect.errors import InputError
from crowdselect.hubaccess import ask_for, hub_trouble
from crowdselect.modelfolders import quiet_hub

pytestmark = pytest.mark.extra
CODES = {
    "no/one": (404, "RepoNotFound"),
    "own/gated": (403, "GatedRepo"),
    "own/adapter": (404, "EntryNotFound"),
}
NOWHERE = "http://127.0.0.1:9"


@contextmanager
def serving(*, seconds: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    """A server that answers as the Hub does, in its time; every model that is not in `CODES` is there."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            time.sleep(seconds)
            status, code = CODES.get("/".join(self.path.split("/")[1:3]), (200, ""))
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", "c0ffee")
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

        def handle(self):
            with suppress(ConnectionError):  # who asked has gone
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def at(monkeypatch, tmp_path):
    """Take an address for the Hub's, with an empty cache; return the library's constants."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hubaccess._trouble.cache_clear()

    def take(address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        return constants

    yield take
    hubaccess._trouble.cache_clear()


@pytest.mark.parametrize(
    ("address", "said"),
    [(NOWHERE, "refused"), ("http://no-such-host.invalid", "http://no-such-host.invalid (")],
)
def test_a_hub_that_cannot_be_reached_is_asked_once(at, address, said, monkeypatch):
    import huggingface_hub

    at(address)
    tries = []
    usual = huggingface_hub.get_session()

    class Client:
        def head(self, *given, **how):
            tries.append(given)
            return usual.head(*given, **how)

    monkeypatch.setattr(huggingface_hub, "get_session", Client)
    monkeypatch.setattr(hubaccess, "_PAUSE", 0.01)
    found = [hub_trouble(extra="hub") for _ in range(5)]
    assert len(set(found)) == 1
    assert found[0].startswith(f"the Hub cannot be reached at {address} (")
    assert said in found[0]
    assert found[0].endswith("); check the connection")
    assert len(tries) == 2  # the look-up of a name may fail once


def test_a_hub_that_does_not_let_itself_be_connected_to_has_its_time_once(at, monkeypatch):
    constants = at("http://127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr(hubaccess, "_PAUSE", 60.0)  # a second try would be noticed
    with socket.socket() as full:  # a queue without a place: who connects waits
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        at(f"http://127.0.0.1:{port}")
        began = time.monotonic()
        found = hub_trouble(extra="hub")
        for one in waiting:
            one.close()
    assert found is not None
    assert time.monotonic() - began < 30


def test_a_slow_hub_can_be_asked(at, monkeypatch):
    with serving(seconds=0.6) as (address, asked):
        constants = at(address)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
        assert hub_trouble(extra="hub") is None
        assert asked == ["/"]


def test_a_hub_that_is_left_alone(at, monkeypatch):
    with serving() as (address, asked):
        monkeypatch.setattr(at(address), "HF_HUB_OFFLINE", True)
        assert hub_trouble(extra="hub") == ask_for("no/one", extra="hub") == "HF_HUB_OFFLINE is set"
        assert asked == []


def test_what_the_hub_says_of_a_model(at):
    with serving() as (address, asked):
        at(address)
        assert ask_for("own/name", extra="hub") is None
        assert ask_for("own/adapter", extra="hub") is None
        with pytest.raises(
            InputError, match="no/one: the Hub does not give this model: there is none of this name"
        ):
            ask_for("no/one", extra="hub")
        with pytest.raises(InputError, match="own/gated: the Hub does not give this model: it is gated"):
            ask_for("own/gated", extra="hub")
        assert asked.count("/") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "ifd:no/one"),
        ("--answer", "fits:no/one"),
        ("--embedder", "hidden:no/one", "--clusters", 3),
        ("--embedder", "no/one", "--clusters", 3),
    ],
)
def test_a_dry_run_refuses_what_the_hub_does_not_have(at, run, sim, words):
    for module in ("torch", "transformers", "sentence_transformers"):
        pytest.importorskip(module)
    given = ("select", sim, "--budget", 5, "--dry-run", *words)
    with serving() as (address, _):
        at(address)
        run(*given).refuses(
            "no/one: the Hub does not give this model: there is none of this name, or it is private"
        )
        there = run(*(str(word).replace("no/one", "own/name") for word in given))
        assert there.code == 0, there
        assert "own/name: the model is fetched from the Hub first\n" in there.err
    at(NOWHERE)
    alone = run(*given)
    assert alone.code == 0, alone
    [line] = [line for line in alone.err.splitlines() if "Hub" in line]
    assert (
        "no/one: the model is not on this machine, and whether the Hub has it was not asked: the Hub cannot"
        in line
    )
    (work,) = json.loads(run(*given, "--json").out)["plan"]
    assert work["is_here"] is False
    assert work["unasked"].startswith(f"the Hub cannot be reached at {NOWHERE} (")


def test_a_dry_run_of_a_measurement_asks_for_its_model(at, run, sim):
    pytest.importorskip("transformers")
    given = ("evaluate", "prefers", "no/one", "--pool", sim, "--dry-run")
    with serving() as (address, _):
        at(address)
        run(*given).refuses("no/one: the Hub does not give this model")
    at(NOWHERE)
    ran = run(*given)
    assert ran.code == 0, ran
    assert "no/one: the model is not on this machine" in ran.err


def test_a_harness_dry_run_asks_for_its_model(at, run):
    pytest.importorskip("lm_eval")
    with serving() as (address, _):
        at(address)
        run("evaluate", "harness", "no/one", "--tasks", "arc_easy", "--dry-run").refuses(
            "no/one: the Hub does not give this model"
        )


@pytest.fixture
def cached(at, tmp_path) -> Path:
    """`own/tiny` in the cache of the Hub's library."""
    pytest.importorskip("transformers")
    from tiny_models import build_model

    at(NOWHERE)
    home = tmp_path / "hub" / "models--own--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("c0ffee")
    build_model(home / "snapshots" / "c0ffee")
    return home


def test_a_model_of_the_cache_is_loaded_without_the_hub(cached, run, sim, tmp_path, monkeypatch):
    def again(seconds):
        raise AssertionError(f"tried again after {seconds} s")

    monkeypatch.setattr(time, "sleep", again)  # by which the Hub's library waits before it tries again
    ran = run("select", sim, "--budget", 5, "--limit", 20, "--method", "ifd:own/tiny", "-o", tmp_path / "out")
    assert ran.code == 0, ran
    (cached / "snapshots" / "c0ffee" / "model.safetensors").unlink()
    ran = run(
        "select", sim, "--budget", 6, "--limit", 30, "--method", "ifd:own/tiny", "-o", tmp_path / "more"
    )
    ran.refuses("own/tiny", "cannot be reached at http://127.0.0.1:9", "check the connection")
    ran = run("train", tmp_path / "out", "--base", "own/none", "--dry-run")
    ran.refuses(
        "own/none: not all of it is on this machine, and the Hub cannot be reached at http://127.0.0.1:9"
    )


def test_the_library_may_ask_again_afterwards(cached):
    from huggingface_hub import constants

    seen = []

    def load():
        with quiet_hub("own/tiny"):
            seen.append(constants.HF_HUB_OFFLINE)
            raise ValueError("of another kind")

    with pytest.raises(ValueError, match="of another kind"):
        load()
    assert [*seen, constants.HF_HUB_OFFLINE] == [True, False]
