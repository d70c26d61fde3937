"""An HTTP server that speaks /v1/chat/completions and misbehaves on request, with the standard library alone.

What it does to a request is written in the request: a message that holds `fault=429:2+reset:1` gets two
times 429, one reset connection and then its answer; `fault=stall` stalls for ever. A plan by model name
(`plan={"broken": "503"}`) does the same to all requests of a model, counted over the model. Answers are a
function of (model, messages, seed), so a test knows what every request must end in.

In a test:     with FaultServer() as server: ... server.base_url ... server.calls ... server.counts()
As a process:  python tests/fault_server.py --port 0 --log FILE     (prints its base_url)
For a benchmark: --latency 0.05 answers after 50 ms; --fast keeps no record of single requests.

The log gets a line per event, written with one write(2): R (a request is complete), A (its answer was sent
and acknowledged by the other side's kernel), L (the other side went away before that).
"""

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import struct
import sys
import termios
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Self

from faults import CHAOS, FAULTS, Call, Step, dumped, error_body, http, key_of, parse, pick, status

_DIRECTIVE = re.compile(r"fault=([A-Za-z0-9_.=:+-]+)")


class Event(NamedTuple):
    what: str  # R, A or L
    key: str
    kind: str
    at: float
    model: str


class Connection(asyncio.Protocol):
    """One client's connection: requests come one after another, each waits for the former's end."""

    def __init__(self, server: "FaultServer") -> None:
        self.server = server
        self.buffer = b""
        self.call: Call | None = None
        self.timers: set[asyncio.TimerHandle] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.socket = transport.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        for timer in self.timers:
            timer.cancel()
        self.server.connections.discard(self)
        self._end("L")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.call is not None and self._unsent() == 0:
            self._end("A")  # the next request is here, so the answer before it has arrived
        if self.call is None:
            self._next()

    def _next(self) -> None:
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        method, path, _version = first.split(" ")
        if method == "POST" and path.endswith("/chat/completions"):
            self._handle(path, headers, rest[:length])
        elif path.endswith("/counts"):
            self.transport.write(http(200, dumped(self.server.counts())))
        elif path.endswith("/models"):
            self.transport.write(http(200, dumped({"object": "list", "data": []})))
        else:
            self.transport.write(http(404, error_body(f"no such path: {path}")))

    def _handle(self, path: str, headers: dict, raw: bytes) -> None:
        self.call = call = self.server.take(path, headers, json.loads(raw))
        act = FAULTS.get(call.kind, status)
        if self.server.latency:
            self.later(self.server.latency, lambda: act(self, call))
        else:
            act(self, call)

    def later(self, seconds: float, what) -> None:
        def run() -> None:
            self.timers.discard(timer)
            if not self.transport.is_closing():
                what()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self.timers.add(timer)

    def send(self, data: bytes) -> None:
        """Send a whole response; its end is noted once the other kernel has all of it."""
        self.transport.write(data)
        if self.server.fast:
            self._end("A")
        else:
            self._confirm()

    def _confirm(self) -> None:
        if self.call is None:
            return
        if self._unsent():
            self.later(0.002, self._confirm)
        else:
            self._end("A")

    def _unsent(self) -> int:
        waiting = self.transport.get_write_buffer_size()
        if waiting or self.transport.is_closing():
            return waiting or 1
        return struct.unpack("i", fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]

    def _end(self, what: str) -> None:
        if self.call is not None:
            self.server.end(self.call, what)
            self.call = None
            if self.buffer and what == "A":
                self._next()

    def reset(self) -> None:
        """End with an RST, not a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class FaultServer:
    """The server, in a thread of its own.

    Args:
        plan: Model name to faults, as in a directive; counted over all requests of the model.
        latency: Seconds before anything is answered.
        room: Model name to the most requests that it takes at once; what is more gets 429.
        chaos: Share of the requests (without a plan or directive) that meet a retryable fault, drawn from
            `seed` and the request, never more than two times in a row for one request.
        fast: Keep no record of single requests, only counts.
        log: File to append events to.
    """

    def __init__(
        self,
        *,
        plan=None,
        room=None,
        latency=0.0,
        chaos=0.0,
        seed=0,
        fast=False,
        log=None,
        port=0,
        host="127.0.0.1",
    ) -> None:
        self.plan = {model: parse(spec) for model, spec in (plan or {}).items()}
        self.room = room or {}
        self.latency, self.chaos, self.seed, self.fast = latency, chaos, seed, fast
        self.host, self.port = host, port
        self.calls: list[Call] = []
        self.connections: set[Connection] = set()
        self.by_kind: Counter[str] = Counter()
        self.by_model: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def take(self, path: str, headers: dict, body: dict) -> Call:
        model = str(body.get("model"))
        self.by_model[model] += 1
        self.open[model] += 1
        self.peak[model] = max(self.peak[model], self.open[model])
        key = key_of(model, body.get("messages"), body.get("seed"))
        attempt = 0 if self.fast else self._attempts[key]
        step = self._step(model, body, key, attempt)
        call = Call(path, model, body, headers, key, attempt, step.kind, time.time(), step.arg)
        if not self.fast:
            self._attempts[key] += 1
            call.prompt = str(body["messages"][-1].get("content")) if body.get("messages") else ""
            self.calls.append(call)
        self.by_kind[step.kind] += 1
        self._write("R", call)
        return call

    def _step(self, model: str, body: dict, key: str, attempt: int) -> Step:
        if self.open[model] > self.room.get(model, self.open[model]):
            return Step("429", None, None)
        if model in self.plan:
            return pick(self.plan[model], self.by_model[model] - 1)
        text = " ".join(str(turn.get("content")) for turn in body.get("messages", []))
        found = _DIRECTIVE.search(text)
        if found:
            return pick(parse(found[1]), attempt)
        if self.chaos and attempt < 2:
            draw = hashlib.sha256(f"{self.seed} {key} {attempt}".encode()).digest()
            if int.from_bytes(draw[:4]) < self.chaos * 2**32:
                return parse(CHAOS[draw[4] % len(CHAOS)])[0]
        return Step("ok", None, None)

    def end(self, call: Call, what: str) -> None:
        call.ended, call.ended_at = what, time.time()
        self.open[call.model] -= 1
        self.ends[what] += 1
        self._write(what, call)

    def _write(self, what: str, call: Call) -> None:
        if self._log is not None:
            os.write(self._log, f"{what} {call.key} {call.kind} {time.time():.6f} {call.model}\n".encode())

    def counts(self) -> dict:
        """Requests by kind of treatment and by model, how they ended, and the most open at once by model."""
        return {
            "requests": self.by_model.total(),
            "kinds": dict(self.by_kind),
            "models": dict(self.by_model),
            "ends": dict(self.ends),
            "peak": dict(self.peak),
        }

    async def serve(self, started) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._loop = loop
        listener = await loop.create_server(
            lambda: Connection(self), self.host, self.port, backlog=2048, reuse_address=True
        )
        self.port = listener.sockets[0].getsockname()[1]
        started()
        await self._stop.wait()
        # A connection that is half accepted when the listener closes never gets a transport, and its socket leaks.
        loop.remove_reader(listener.sockets[0].fileno())
        accepting = asyncio.all_tasks() - {asyncio.current_task()}
        if accepting:
            await asyncio.wait(accepting)
        listener.close()
        while self.connections:
            for connection in list(self.connections):
                connection.transport.abort()
            await asyncio.sleep(0)  # connection_lost is called in the next round
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the fault server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


def read_log(path: Path | str) -> list[Event]:
    """The events of a log file; a line that is still being written is left out."""
    lines = Path(path).read_text().split("\n")[:-1]
    return [
        Event(what, key, kind, float(at), model)
        for what, key, kind, at, model in (x.split(" ", 4) for x in lines)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat completions server that misbehaves on request.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--log", help="append events to this file")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--chaos", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="keep no record of single requests")
    parser.add_argument("--plan", action="append", default=[], metavar="MODEL=FAULTS")
    options = vars(parser.parse_args())
    options["plan"] = dict(entry.split("=", 1) for entry in options["plan"])
    server = FaultServer(**options)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(lambda: (sys.stdout.write(f"{server.base_url}\n"), sys.stdout.flush())))


if __name__ == "__main__":
    main()
