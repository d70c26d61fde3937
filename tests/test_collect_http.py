"""The HTTP client: what is sent, to whom and with which key; what is read from an answer, and from an error."""

import asyncio
import json
import socket
import time
from email.utils import formatdate

import pytest

from crowdselect.ask.calls import make_request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.http_client import HttpClient, _retry_after, _status_error, parse_reply
from crowdselect.errors import CallError
from fault_server import FaultServer


def body(message, **values):
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **values}).encode()


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "hi"}, "hi", None),
        ({"content": None}, "", None),
        ({}, "", None),
        ({"content": None, "refusal": "I will not"}, "I will not", None),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]},
            "ab",
            None,
        ),
        ({"content": "x", "reasoning_content": "hm"}, "x", "hm"),
        ({"content": "x", "reasoning": "hm"}, "x", "hm"),
        ({"content": "x", "reasoning": {"odd": 1}}, "x", None),
    ],
)
def test_answers_are_read(message, text, reasoning):
    reply = parse_reply(body(message))
    assert (reply.text, reply.reasoning, reply.finish_reason) == (text, reasoning, "stop")


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 0}, (3, None)),  # beside a text 0 is no count
        ({"prompt_tokens": 0, "completion_tokens": 2}, (None, 2)),
        ({"prompt_tokens": -1, "completion_tokens": 1.5}, (None, None)),
        ({"prompt_tokens": True}, (None, None)),
        (None, (None, None)),
        ([], (None, None)),
    ],
)
def test_only_counts_are_counts(usage, found):
    reply = parse_reply(body({"content": "x"}, usage=usage))
    assert (reply.prompt_tokens, reply.completion_tokens) == found


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not JSON"),
        (b'{"choices": [', "not JSON"),
        (b"<html>no</html>", "begins with '<html>no</html>'"),
        (b"\xff\xfe", "not UTF-8 text (byte 1)"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no choices"),
        (b'{"choices": {}}', "no choices"),
        (b'{"choices": []}', "list of choices is empty"),
        (b'{"choices": [3]}', "no message"),
        (b'{"choices": [{"message": {"content": 3}}]}', "not text but int"),
    ],
)
def test_what_is_no_answer_may_have_been_paid_for(raw, words):
    with pytest.raises(CallError) as caught:
        parse_reply(raw)
    assert words in str(caught.value)
    assert caught.value.billed
    assert caught.value.verdict == "retry"


@pytest.mark.parametrize(
    ("status", "text", "verdict"),
    [
        *((status, "", "retry") for status in (408, 409, 425, 500, 502, 504)),
        *((status, "", "refused") for status in (429, 503, 529)),
        *((status, "", "stop") for status in (401, 402, 403, 404, 405)),
        *((status, "", "failed") for status in (302, 307, 400, 410, 413, 422)),
        (429, '{"error": {"message": "no money", "code": "insufficient_quota"}}', "stop"),
        (400, '{"error": {"message": "x", "code": "content_filter"}}', "filtered"),
        (
            400,
            '{"error": {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}',
            "filtered",
        ),
    ],
)
def test_statuses(status, text, verdict):
    assert _status_error(status, {}, text).verdict == verdict


def test_messages_of_errors_are_one_short_line():
    long = json.dumps({"error": {"message": "a\nb " * 1000}})
    assert str(_status_error(400, {}, long)).startswith("HTTP 400: a b a b")
    assert len(str(_status_error(400, {}, long))) < 400
    assert str(_status_error(500, {}, '{"detail": "why"}')) == "HTTP 500: why"
    assert str(_status_error(500, {}, '{"error": "why"}')) == "HTTP 500: why"


def test_retry_after_in_all_its_forms():
    assert _retry_after({"retry-after": "1.5"}) == 1.5
    assert _retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert 8 <= _retry_after({"retry-after": formatdate(time.time() + 10, usegmt=True)}) <= 10
    assert _retry_after({"retry-after": formatdate(time.time() - 10, usegmt=True)}) == 0
    for odd in ("soon", "-3", "nan", "inf", ""):
        assert _retry_after({"retry-after": odd}) is None
    assert _status_error(429, {"retry-after": "90000"}, "").verdict == "stop"


@pytest.fixture
def server():
    with FaultServer() as started:
        yield started


def ask(endpoint, text="hi", *, key=None, sample=0):
    async def go():
        client = HttpClient(endpoint, key=key)
        try:
            return await client.ask(make_request([{"role": "user", "content": text}], sample=sample))
        finally:
            await client.close()

    return asyncio.run(go())


@pytest.mark.extra
def test_what_is_sent(server, monkeypatch):
    pytest.importorskip("openai")
    for name, value in {
        "OPENAI_API_KEY": "sk-ambient",
        "OPENAI_ORG_ID": "org",
        "OPENAI_PROJECT_ID": "proj",
        "OPENAI_CUSTOM_HEADERS": "X-Leak: sk-leak",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    endpoint = Endpoint(
        "m",
        base_url=server.base_url,
        model="sent",
        system="Be brief.",
        temperature=0.5,
        top_p=0.9,
        max_tokens=7,
        seed=10,
        extra_body={"top_k": 3},
    )
    ask(endpoint, "é\U0001f993", sample=2)
    ask(Endpoint("n", base_url=server.base_url, model="n"), key="sk-mine")
    first, second = server.calls
    assert first.body == {
        "model": "sent",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "é\U0001f993"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "top_k": 3,
        "seed": 12,
    }
    assert second.body == {"model": "n", "messages": [{"role": "user", "content": "hi"}]}
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == "Bearer sk-mine"
    sent = json.dumps([first.headers, second.headers])
    assert not [
        word for word in ("ambient", "leak", "org", "proj") if word in sent.lower().replace("openai-", "")
    ]


@pytest.mark.extra
def test_nobody_there(server):
    pytest.importorskip("openai")
    with pytest.raises(CallError, match="cannot connect") as caught:
        ask(Endpoint("m", base_url="http://127.0.0.1:1/v1", model="m"))
    assert not caught.value.billed
    with pytest.raises(CallError, match="the connection broke") as caught:
        ask(Endpoint("m", base_url=server.base_url, model="m"), "fault=reset")
    assert caught.value.billed


@pytest.mark.extra
def test_an_answer_without_end_is_not_read_to_its_end(server, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setattr("crowdselect.ask.http_client.LONGEST", 1 << 20)
    with pytest.raises(CallError, match="longer than 1 MiB") as caught:
        ask(Endpoint("m", base_url=server.base_url, model="m"), "fault=huge")
    assert caught.value.verdict == "failed"


def test_the_suite_reaches_this_machine_only(server):
    with socket.create_connection(("127.0.0.1", server.port)):
        pass
    with (
        socket.socket() as other,
        pytest.raises(pytest.fail.Exception, match=r"reached for the network: 192\.0\.2\.1"),
    ):
        other.connect(("192.0.2.1", 80))
