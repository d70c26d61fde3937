"""The fault server does to a client what it says, and its counts and log can be trusted."""

import gzip
import http.client
import json
import subprocess
import sys
import time
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from fault_server import FaultServer, read_log
from faults import FAULTS, HUGE, answer, parse, pick

SERVER = Path(__file__).with_name("fault_server.py")


@pytest.fixture
def server():
    with FaultServer() as running:
        yield running


def ask(server, prompt, *, model="m", timeout=2.0, **body):
    """Status, headers and body of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]} | body
        headers = {"Authorization": "Bearer sk-secret"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def text(raw):
    return json.loads(raw)["choices"][0]["message"]["content"]


def test_the_answer_depends_on_model_messages_and_seed(server):
    messages = [{"role": "user", "content": "Hello"}]
    assert text(ask(server, "Hello")[2]) == answer("m", messages)
    assert text(ask(server, "Hello", seed=3)[2]) == answer("m", messages, 3)
    assert len({answer("m", messages), answer("n", messages), answer("m", messages, 3), answer("m", [])}) == 4


def test_faults_come_in_turn_and_then_the_answer(server):
    seen = [ask(server, "Say fault=429:2+503:1 please")[0] for _ in range(5)]
    assert seen == [429, 429, 503, 200, 200]
    assert ask(server, "Say fault=429:2+503:1 now")[0] == 429  # another request, counted for itself


def test_a_plan_by_model_counts_over_its_requests():
    with FaultServer(plan={"bad": "500:2"}) as server:
        assert [ask(server, f"q{n}", model="bad")[0] for n in range(3)] == [500, 500, 200]
        assert ask(server, "q0", model="good")[0] == 200


def test_retry_after_in_both_forms(server):
    assert ask(server, "fault=429-after=0.5")[1]["Retry-After"] == "0.5"
    before = time.time()
    then = parsedate_to_datetime(ask(server, "fault=429-date=2")[1]["Retry-After"]).timestamp()
    assert before + 2 <= then <= time.time() + 3
    assert ask(server, "fault=429")[1]["Retry-After"] is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", ConnectionResetError),
        ("reset-early", ConnectionResetError),
        ("close", http.client.IncompleteRead),
        ("garbage", http.client.BadStatusLine),
        ("stall", TimeoutError),
        ("silent", TimeoutError),
        ("late=3", TimeoutError),
    ],
)
def test_broken_connections(server, fault, error):
    with pytest.raises(error):
        ask(server, f"fault={fault}", timeout=0.3)
    assert server.calls[0].kind == fault.partition("=")[0]


def test_a_drip_passes_every_limit_on_silence(server):
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=0.5)
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": [{"content": "fault=drip"}]}))
    assert connection.getresponse().read(10) == b" " * 10
    assert time.monotonic() - start > 0.8
    connection.close()


def test_bodies(server):
    assert len(text(ask(server, "fault=huge")[2])) > HUGE - 9
    with pytest.raises(json.JSONDecodeError):
        json.loads(ask(server, "fault=truncated")[2])
    with pytest.raises(UnicodeDecodeError):
        ask(server, "fault=utf8")[2].decode()
    _, headers, raw = ask(server, "fault=gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert "says" in text(gzip.decompress(raw))
    assert text(ask(server, "fault=surrogate")[2]) == "half \ud83d pair"
    assert "sk-secret" in json.loads(ask(server, "fault=echo-401")[2])["error"]["message"]
    cut = json.loads(ask(server, "fault=ok", max_tokens=3)[2])
    assert (cut["usage"]["completion_tokens"], cut["choices"][0]["finish_reason"]) == (3, "length")


def test_every_fault_of_the_table_can_be_asked_for(server):
    for kind in FAULTS:
        try:
            ask(server, f"fault={kind}", timeout=0.05 if kind in {"silent", "stall", "late", "drip"} else 2)
        except (OSError, http.client.HTTPException):
            continue
    assert set(server.by_kind) == set(FAULTS)
    with pytest.raises(ValueError, match="'nonsense' is no fault"):
        parse("429+nonsense")
    assert pick(parse("500:1+stall=2:1"), 2).kind == "ok"


def test_chaos_is_a_function_of_the_seed():
    def run(seed):
        with FaultServer(chaos=0.5, seed=seed) as server:
            for n in range(40):
                try:
                    ask(server, f"q{n}")
                except (OSError, http.client.HTTPException):
                    continue
            return [call.kind for call in server.calls]

    first, again, other = run(1), run(1), run(2)
    assert first == again
    assert first != other
    assert 8 < first.count("ok") < 32


def test_as_a_process_with_a_log(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, SERVER, "--log", log, "--plan", "bad=500", "--latency", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        base_url = process.stdout.readline().strip()
        server = FaultServer(port=int(base_url.rsplit(":", 1)[1].removesuffix("/v1")))
        assert ask(server, "q")[0] == 200
        assert ask(server, "q", model="bad")[0] == 500
        with pytest.raises(TimeoutError):
            ask(server, "fault=stall", timeout=0.2)
        time.sleep(0.1)
        with urllib.request.urlopen(f"{base_url}/counts") as reply:
            counts = json.load(reply)
        process.kill()
    events = read_log(log)
    assert [event.what for event in events] == ["R", "A", "R", "A", "R", "L"]
    assert [event.kind for event in events] == ["ok", "ok", "500", "500", "stall", "stall"]
    assert (counts["requests"], counts["ends"]) == (3, {"A": 2, "L": 1})


@pytest.mark.extra
def test_the_openai_client_reads_it(server):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        messages = [{"role": "user", "content": "Hello"}]
        got = client.chat.completions.create(model="m", messages=messages, seed=1)
        assert got.choices[0].message.content == answer("m", messages, 1)
        assert got.usage.completion_tokens == len(answer("m", messages, 1).split(" "))
        for fault, error in (("503", openai.InternalServerError), ("reset", openai.APIConnectionError)):
            with pytest.raises(error):
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": f"fault={fault}"}]
                )
