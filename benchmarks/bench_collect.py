"""Requests per second of a run beside a bare loop over the same SDK, memory of a long queue, a resume with nothing to do.

Run: python benchmarks/bench_collect.py     (needs the extra `collect`; a server of the tests' own on loopback)
"""

import argparse
import asyncio
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crowdselect.ask.ask import open_client, run
from crowdselect.ask.budget import Limits
from crowdselect.ask.calls import ScriptedClient, make_request
from crowdselect.ask.endpoints import Endpoint, load_endpoints
from crowdselect.ask.lane import Lane
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.collect.instructions import open_instructions
from crowdselect.collect.job import Task, collect

ROOT = Path(__file__).resolve().parent.parent
CONCURRENT = (1, 32, 256)
ANSWERS = 5000
TEXT = "What would a river say about the bridges over it? Answer in a sentence or two, please."


def figure(what: str, value: float, *, unit: str, target: float | None = None, **facts: object) -> None:
    """Print one measured number, beside its target where it has one."""
    line = {"what": f"collect: {what}", "value": round(value, 3), "unit": unit, "target": target, **facts}
    print(json.dumps(line), flush=True)


@contextmanager
def server(latency: float) -> Iterator[str]:
    """Start the tests' server in a process of its own; gives its base_url."""
    command = [sys.executable, str(ROOT / "tests" / "fault_server.py"), "--fast", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield str(process.stdout and process.stdout.readline()).strip()
        finally:
            process.terminate()


def ours(url: str, concurrent: int, count: int) -> float:
    """A run, with its ledger on disk; making the client counts."""
    endpoint = Endpoint(
        "m", base_url=url, model="m", max_tokens=64, max_concurrency=concurrent, price_in=1.0, price_out=1.0
    )
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger") as ledger:
        requests = (make_request([{"role": "user", "content": f"{TEXT} ({n})"}]) for n in range(count))
        lane = Lane(endpoint, open_client(endpoint), requests)
        start = time.perf_counter()
        run([lane], ledger, Limits())
        seconds = time.perf_counter() - start
        assert (lane.counts.done, lane.counts.failed) == (count, 0), (lane.counts, lane.stopped)
    return count / seconds


def bare(url: str, concurrent: int, count: int) -> float:
    """A loop as one would write it: N workers, one client, nothing recorded."""
    import openai

    async def go() -> float:
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
            numbers = iter(range(count))

            async def worker() -> None:
                for n in numbers:
                    answer = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": f"{TEXT} ({n})"}], max_tokens=64
                    )
                    assert answer.choices[0].message.content

            start = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(concurrent)))
            return count / (time.perf_counter() - start)

    return asyncio.run(go())


def http(url: str, concurrent: int, count: int) -> float:
    """The least that HTTP/1.1 over asyncio can do: bytes out, bytes in, JSON parsed."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")

    async def go() -> float:
        numbers = iter(range(count))

        async def worker() -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            for n in numbers:
                body = json.dumps(
                    {"model": "m", "messages": [{"role": "user", "content": f"{TEXT} ({n})"}]}
                ).encode()
                writer.write(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    + f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                assert json.loads(await reader.readexactly(length))["choices"]
            writer.close()

        start = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(concurrent)))
        return count / (time.perf_counter() - start)

    return asyncio.run(go())


def rates(scale: float) -> None:
    """The ways take turns, so that what else the machine does meets all of them; the middle of three counts."""
    if importlib.util.find_spec("openai") is None:
        print("rates need the extra `collect` (openai); left out", file=sys.stderr)
        return
    ways: dict[str, Callable[[str, int, int], float]] = {
        "crowdselect": ours,
        "bare openai": bare,
        "bare http": http,
    }
    for latency in (0.0, 0.05):
        with server(latency) as url:
            bare(url, 8, 50)  # imports
            for concurrent in CONCURRENT:
                count = int(scale * (2000 if concurrent > 1 else 300 if latency == 0 else 60))
                found: dict[str, list[float]] = {name: [] for name in ways}
                for _ in range(3):
                    for name, way in ways.items():
                        found[name].append(way(url, concurrent, count))
                middle = {name: statistics.median(values) for name, values in found.items()}
                what = (
                    f"server answers {'at once' if latency == 0 else 'after 50 ms'}, {concurrent} concurrent"
                )
                for name, value in middle.items():
                    figure(f"{name}, {what}", value, unit="requests/s")
                ratio = middle["crowdselect"] / middle["bare openai"]
                figure(f"share of the bare openai loop, {what}", ratio, unit="x", target=0.8)


def write_inputs(folder: Path, count: int, models: int) -> Task:
    """Instructions, a crowd of servers that do not exist, and what to do with them."""
    with pq.ParquetWriter(
        folder / "in.parquet", pa.schema([("id", pa.string()), ("instruction", pa.string())])
    ) as to:
        for start in range(0, count, 50_000):
            numbers = range(start, min(start + 50_000, count))
            texts = [f"{TEXT} ({n})" for n in numbers]
            to.write_table(pa.table({"id": [f"i{n:08d}" for n in numbers], "instruction": texts}))
    url = "http://127.0.0.1:9/v1"
    tables = [f'[[model]]\nname = "m{n}"\nmax_tokens = 64\nbase_url = "{url}"\n' for n in range(models)]
    (folder / "crowd.toml").write_text("\n".join(tables), encoding="utf-8")
    names = (str(folder / name) for name in ("in.parquet", "crowd.toml", "pool.parquet"))
    return Task(*names, limits=Limits(max_requests=ANSWERS))


def memory(scale: float) -> None:
    """A million instructions for five models, of which some are answered, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        count = int(1_000_000 * scale)
        write_inputs(Path(folder), count, 5)
        figure(
            f"peak memory, {count} instructions x 5 queued, {ANSWERS} answered",
            **child("queue", folder),
            unit="MB",
            target=400,
        )


def queue(folder: Path) -> dict[str, Any]:
    """Collect with scripted models and a cap."""
    names = (str(folder / name) for name in ("in.parquet", "crowd.toml", "pool.parquet"))
    task = Task(*names, limits=Limits(max_requests=ANSWERS))
    start = time.perf_counter()
    done = collect(task, clients=lambda _: ScriptedClient(lambda request: f"An answer to {request.prompt}"))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "value": peak,
        "seconds": round(seconds, 1),
        "rows": sum(tally.rows for tally in done.tallies.values()),
    }


def resume(scale: float) -> None:
    """The command, on a ledger that holds every answer: the first seals the pool, the second has nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        count = int(100_000 * scale)
        task = write_inputs(Path(folder), count, 5)
        fill(task)
        command = ["-c", "from crowdselect.cli.main import main; main()"]
        command += ["collect", task.instructions, "--crowd", task.crowd, "-o", task.output]
        for what in ("that has its answers but no pool", "that is finished"):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            figure(
                f"resume a run of {count} x 5 {what}",
                time.perf_counter() - start,
                unit="s",
                target=5 if "finished" in what else None,
            )


def fill(task: Task) -> None:
    """Put answers straight into the ledger, as a finished run leaves them."""
    with open_instructions(task.instructions) as instructions, Ledger(task.ledger_path) as ledger:
        for endpoint in load_endpoints(task.crowd).models:
            for request in instructions.requests(1):
                text = f"An answer of some length to: {request.prompt * 2}"
                fixed = (endpoint.name, endpoint.digest, request.digest, 0, "ok", text, None, "stop", 20, 30)
                ledger.put(Answer(request.key(endpoint), *fixed))
                if ledger.is_behind:
                    ledger.flush()


def child(what: str, *values: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, what, *values], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print one line of JSON per figure; `queue FOLDER` is a process of its own."""
    if sys.argv[1:2] == ["queue"]:
        print(json.dumps(queue(Path(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description="Measure crowdselect collect.")
    parser.add_argument("what", nargs="*", default=["rates", "memory", "resume"])
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer requests and instructions")
    options = parser.parse_args()
    for what in options.what:
        {"rates": rates, "memory": memory, "resume": resume}[what](options.scale)


if __name__ == "__main__":
    main()
