"""What a server sends is read up to a limit, unpacked: neither a flood nor a bomb takes this machine's memory."""

import subprocess
import sys
import threading

import pytest

from crowdselect.ask import http_client
from crowdselect.errors import CallError
from crowdselect.reward.protocol import Item
from crowdselect.reward.served import ServedOptions, ServedScorer
from crowdselect.reward.specs import parse_spec
from fault_server import FaultServer
from faults import bomb
from reward_server import RewardServer

MIB = 1 << 20
ITEMS = [Item([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])]

_CHAT = """
import asyncio, resource, sys
from crowdselect.ask.calls import make_request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.http_client import HttpClient
from crowdselect.ask import http_client
from crowdselect.errors import CallError

async def ask(text):
    client = HttpClient(Endpoint("m", base_url=sys.argv[1], model="m"), key=None)
    try:
        return await client.ask(make_request([{"role": "user", "content": text}]))
    finally:
        await client.close()

asyncio.run(ask("hello"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    asyncio.run(ask(f"fault={sys.argv[2]}"))
except CallError as error:
    print(str(error)[:100])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
_REWARD = """
import resource, sys
from crowdselect.reward.protocol import Item
from crowdselect.reward.served import ServedOptions, ServedScorer
from crowdselect.reward.specs import parse_spec

items = [Item([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])]
made = ServedScorer(parse_spec(sys.argv[1]), ServedOptions(), wait=0.0)
next(made.score(items))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(next(made.score(items))[0][1].reason[:100])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def taken(program: str, *arguments: str) -> tuple[str, float]:
    """What a program says, and by how many MiB its memory grew."""
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    said, _, grown = ran.stdout.strip().rpartition("\n")
    return said, int(grown) / 1024


@pytest.mark.extra
@pytest.mark.parametrize(
    ("fault", "said", "most"),
    [("flood-500", "HTTP 500: xxx", 24), ("bomb-500", "HTTP 500", 24), ("bomb", "longer than 64 MiB", 200)],
)
def test_chat_servers(fault, said, most):
    pytest.importorskip("openai")
    with FaultServer() as server:
        found, grown = taken(_CHAT, server.base_url, fault)
    assert said in found
    assert grown < most


@pytest.mark.extra
def test_the_status_of_an_error_counts_whatever_its_body_is():
    import asyncio

    pytest.importorskip("openai")
    from crowdselect.ask.calls import make_request
    from crowdselect.ask.endpoints import Endpoint
    from crowdselect.ask.http_client import HttpClient

    async def ask(url: str) -> None:
        client = HttpClient(Endpoint("m", base_url=url, model="m"), key=None)
        try:
            await client.ask(make_request([{"role": "user", "content": "hi"}]))
        finally:
            await client.close()

    broken = {"Content-Encoding": "gzip", "Retry-After": "7"}
    with (  # a reward server can send any bytes
        RewardServer("/v1/chat/completions", reply=lambda *_: (429, b"no gzip", broken)) as server,
        pytest.raises(CallError, match="HTTP 429") as caught,
    ):
        asyncio.run(ask(f"{server.url}/v1"))
    assert (caught.value.verdict, caught.value.retry_after) == ("refused", 7.0)


def flood(stop: threading.Event):
    """700 MB."""
    for _ in range(700):
        if stop.is_set():
            return
        yield b"x" * MIB


@pytest.mark.parametrize(
    ("status", "packed", "said", "most"),
    [
        (422, False, "HTTP 422: xxx", 16),
        (422, True, "HTTP 422", 24),
        (200, False, "longer than 64 MiB", 200),
        (200, True, "longer than 64 MiB", 200),
    ],
)
def test_reward_servers(status, packed, said, most):
    stop = threading.Event()

    def reply(number: int, _headers):
        if number == 0:
            return None
        if packed:
            return status, bomb(), {"Content-Encoding": "gzip"}
        return status, flood(stop), {"Content-Length": str(700 * MIB)}

    with RewardServer("/classify", reply=reply) as server:
        try:
            found, grown = taken(_REWARD, f"{server.url}/classify")
        finally:
            stop.set()
    assert said in found
    assert grown < most


def test_an_answer_that_is_too_long_is_said_to_be(monkeypatch):
    monkeypatch.setattr(http_client, "LONGEST", 1000)
    with RewardServer("/classify", reply=lambda *_: (200, b" " * 1001, {})) as server:
        made = ServedScorer(parse_spec(f"{server.url}/classify"), ServedOptions(), wait=0.0)
        ((_, outcome),) = next(made.score(ITEMS))
    assert "the answer is longer than" in outcome.reason
    assert not outcome.passing
