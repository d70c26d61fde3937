"""A deadline for every whole answer, and Ctrl-C: the first ends within seconds and keeps what is paid, the second at once."""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collecting import Job, wait_for
from commands import COMMAND
from crowdselect.errors import CallError, OptionError
from crowdselect.reward import served
from crowdselect.reward.protocol import Item
from crowdselect.reward.served import Crew, ServedOptions, ServedScorer
from crowdselect.reward.specs import parse_spec
from fault_server import FaultServer
from judging import Bench, serve
from reward_server import RewardServer

SOON = 3.0  # seconds after the first Ctrl-C
AT_ONCE = 1.5  # seconds after the second, with the end of the process
ITEMS = [
    Item([{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": "x" * n}])
    for n in range(1, 9)
]


# ── deadlines ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", [False, True])
def test_a_byte_now_and_then_is_no_answer(monkeypatch, head):
    monkeypatch.setattr("crowdselect.reward.served._ATTEMPTS", 2)
    with RewardServer("/classify", drip=0, drip_headers=head) as server:
        made = ServedScorer(parse_spec(f"{server.url}/classify"), ServedOptions(timeout=0.4), wait=0.01)
        begun = time.monotonic()
        found = dict(pair for some in made.score(ITEMS[:2]) for pair in some)
        assert time.monotonic() - begun < 4
    assert {outcome.reason for outcome in found.values()} == {"no whole answer within 0.4 s"}
    assert all(outcome.passing for outcome in found.values())


def test_the_first_question_has_a_deadline_too(monkeypatch):
    """Which way of asking a server knows is found out before anything is scored."""
    monkeypatch.setattr("crowdselect.reward.served._ATTEMPTS", 1)
    with RewardServer("/classify", drip=0) as server:
        made = ServedScorer(parse_spec(server.url), ServedOptions(timeout=0.3), wait=0.01)
        with pytest.raises(OptionError, match=r"no whole answer within 0\.3 s"):
            list(made.score(ITEMS))


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9])
def test_deadlines_that_are_none(timeout):
    with pytest.raises(OptionError, match="`timeout`"):
        ServedOptions(timeout=timeout)


# ── threads ─────────────────────────────────────────────────────────────────────────────────────────────


def crew(count, work):
    """A crew whose jobs need no tools."""

    async def does(_tools, job):
        return await work(job)

    return Crew(count, nullcontext, does)


def test_what_is_under_way_is_given_before_an_error_is_raised():
    async def work(job: int) -> int:
        if job == 1:
            raise CallError("no more", verdict="stop")
        await asyncio.sleep(0.3)
        return job

    found = []
    with pytest.raises(CallError, match="no more"):
        found.extend(crew(2, work).run(range(1000)))
    assert found == [(0, 0)]


def test_a_job_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(served, "GRACE", 0.2)
    ended = []

    async def work(job: int) -> None:
        if job:
            raise CallError("no more", verdict="stop")
        try:
            await asyncio.sleep(20)
        finally:
            ended.append(job)

    begun = time.monotonic()
    with pytest.raises(CallError):
        list(crew(2, work).run([0, 1]))
    assert time.monotonic() - begun < 3
    assert ended == [0]


def test_jobs_are_done_beside_an_event_loop_of_the_caller():
    async def work(job: int) -> int:
        return job

    async def notebook() -> list:
        return list(crew(2, work).run([1, 2]))

    assert sorted(asyncio.run(notebook())) == [(1, 1), (2, 2)]


def test_handlers_of_signals_are_put_back():
    async def work(job: int) -> int:
        return job

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert sorted(crew(3, work).run([1, 2, 3])) == [(1, 1), (2, 2), (3, 3)]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────


class Process:
    """A command, and how long it takes to end."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        with (folder / "said.txt").open("wb") as said:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def stop(self, number: int = signal.SIGINT, *, wait: float = 30) -> float:
        """Send a signal; seconds until the end."""
        begun = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(wait) == 130, self.said
        assert "Traceback" not in self.said
        return time.monotonic() - begun


def write_pool(folder: Path, count: int = 40, models: Sequence[str] = ("m",)) -> None:
    each = [(n, model) for n in range(count) for model in models]
    rows = {
        "id": [f"i{n:03d}" for n, _ in each],
        "instruction": [f"Say {n}" for n, _ in each],
        "model": [model for _, model in each],
        "response": ["x" * (n + 1) for n, _ in each],
    }
    pq.write_table(pa.table(rows), folder / "pool.parquet")


def reward(folder: Path, url: str, *options: str) -> Process:
    given = ("reward", "pool.parquet", "--with", f"{url}/classify", "-o", "scores.parquet", "--no-self-test")
    return Process(folder, *given, *options)


def scores(folder: Path) -> dict[str, int]:
    """Outcomes in the ledger, by their status."""
    with contextlib.closing(sqlite3.connect(folder / "scores.parquet.ledger")) as opened:
        return dict(opened.execute("SELECT status, count(*) FROM answers GROUP BY status").fetchall())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_reward_ends_soon_and_keeps_what_is_paid(tmp_path, number):
    write_pool(tmp_path)
    slow = threading.Event()

    def reply(at: int, _headers) -> None:
        if at == 12:  # under way when Ctrl-C comes, and answered in the time of grace
            slow.wait(20)
            time.sleep(0.8)

    with RewardServer("/classify", reply=reply, drip=13) as server:
        with reward(tmp_path, server.url, "--concurrency", "4") as running:
            wait_for(lambda: len(server.requests) >= 12 + 3, 60)
            time.sleep(0.3)
            slow.set()
            assert running.stop(number) < SOON
        assert len(server.requests) == 16
    assert scores(tmp_path) == {"ok": 13}


def test_reward_ends_at_once_when_told_twice(tmp_path):
    write_pool(tmp_path)
    with (
        RewardServer("/classify", drip=5) as server,
        reward(tmp_path, server.url, "--concurrency", "3") as running,
    ):
        wait_for(lambda: len(server.requests) >= 8, 60)
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert running.stop() < AT_ONCE


def test_reward_has_a_deadline(tmp_path):
    write_pool(tmp_path, 3)
    with (
        RewardServer("/classify", drip=2) as server,
        reward(tmp_path, server.url, "--timeout", "0.3") as running,
    ):
        wait_for(lambda: len(server.requests) >= 4, 60)
        assert running.stop() < SOON
    assert scores(tmp_path) == {"ok": 2}


@pytest.mark.extra
@pytest.mark.usefixtures("starter")
def test_collect_ends_soon_and_at_once(tmp_path):
    pytest.importorskip("openai")
    with FaultServer(plan={"slow": "drip"}) as server:
        models = {"slow": {"base_url": server.base_url}, "quick": {"base_url": server.base_url}}
        job = Job(tmp_path, [f"question {n}" for n in range(20)], models)
        for twice in (False, True):
            running = job.start(fresh=True)
            asked = server.by_model["slow"]
            wait_for(lambda: server.by_model["quick"] == 20 and server.by_model["slow"] > asked, 60)  # noqa: B023
            wait_for(lambda: len(job.rows()) >= 20, 10)
            begun = time.monotonic()
            running.send(signal.SIGINT)
            if twice:
                time.sleep(0.3)
                begun = time.monotonic()
                running.send(signal.SIGINT)
            assert running.end(30).code == 130
            assert time.monotonic() - begun < (AT_ONCE if twice else SOON)
    assert sum(row["status"] == "ok" for row in job.rows()) == 20


@pytest.mark.extra
def test_evaluate_ends_soon(tmp_path):
    pytest.importorskip("openai")
    held = threading.Event()

    def say(body: dict) -> None:
        if body["model"] == "judge":
            held.wait(30)

    with serve(say) as server:
        bench = Bench(tmp_path, server.url)
        try:
            with Process(tmp_path, *bench.mt_bench()) as running:
                wait_for(lambda: any(body["model"] == "judge" for _, body in server.requests), 60)
                assert running.stop() < SOON
        finally:
            held.set()


# ── run ─────────────────────────────────────────────────────────────────────────────────────────────────

RECIPE = """
[pool]
path = "pool.parquet"
[reward]
with = "{url}/classify"
no-self-test = true
concurrency = 3
[select]
budget = 3
clusters = 0
"""


@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_run_hands_a_stop_on(tmp_path, whole_group, twice):
    """Whether a signal reaches the run alone or, as from a terminal, its step as well."""
    write_pool(tmp_path, models=("qwen2-1b", "qwen2-7b"))
    with RewardServer("/classify", drip=6) as server:
        (tmp_path / "recipe.toml").write_text(RECIPE.format(url=server.url))
        with Process(tmp_path, "run", "recipe.toml") as running:
            wait_for(lambda: len(server.requests) >= 9, 60)
            send = os.killpg if whole_group else os.kill
            begun = time.monotonic()
            send(running.process.pid, signal.SIGINT)
            if twice:
                time.sleep(0.4)
                begun = time.monotonic()
                send(running.process.pid, signal.SIGINT)
            assert running.process.wait(30) == 130, running.said
            assert time.monotonic() - begun < (AT_ONCE + 1 if twice else SOON + 0.5)
        assert "run the same recipe again" in running.said
        (ledger,) = (tmp_path / "recipe" / "ledgers").glob("*.ledger")
        shutil.copy(ledger, tmp_path / "scores.parquet.ledger")
        assert scores(tmp_path) == {"ok": 6}
        wait_for(lambda: _nobody(tmp_path), 5)


def _nobody(folder: Path) -> bool:
    """No process works in this folder any more."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve() == folder and int(entry.name) != os.getpid():
                return False
        except OSError:
            continue
    return True
