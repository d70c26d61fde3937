"""`crowdselect collect` at its limits: caps on requests and money, one ledger at a time, Ctrl-C, a full disk."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from collecting import FAST, Job, Result, wait_for
from fault_server import FaultServer
from faults import completion

pytest.importorskip("openai")
pytestmark = [pytest.mark.extra, pytest.mark.usefixtures("starter")]

PRICES = {"price_in": 2000.0, "price_out": 8000.0, "max_tokens": 30}
PROMPTS = [f"question {number}" for number in range(40)]


def paid(server: FaultServer) -> float:
    """What the server's answers cost at PRICES, by the numbers of tokens that it said."""
    usage = [completion(call)["usage"] for call in server.calls if call.kind == "ok"]
    return (
        sum(
            entry["prompt_tokens"] * PRICES["price_in"] + entry["completion_tokens"] * PRICES["price_out"]
            for entry in usage
        )
        / 1e6
    )


def booked(job: Job) -> tuple[int, float]:
    """Requests and money that the next run on the ledger will count as spent."""
    spent = job.query("SELECT total(attempts) AS requests, total(cost) + total(lost) AS money FROM spent")
    hold = job.query("SELECT value FROM notes WHERE name = 'hold'")
    requests, money = json.loads(hold[0]["value"]) if hold else (0, 0.0)
    return spent[0]["requests"] + requests, spent[0]["money"] + money


# ── caps ────────────────────────────────────────────────────────────────────────────────────────────────


def test_max_requests_counts_retries_and_former_runs(tmp_path):
    with FaultServer(chaos=0.3, seed=1) as server:
        models = {name: {"base_url": server.base_url} for name in ("m1", "m2")}
        job = Job(tmp_path, PROMPTS, models)
        for cap in (7, 7, 30):
            done = job.run("--max-requests", cap, *FAST)
            assert done.code == 3, done
            assert len(server.calls) == cap
            assert "--max-requests" in done.said
        done = job.run(*FAST)
        kinds = server.counts()["kinds"]
    assert done.code == 0, done
    assert kinds["ok"] == len(job.rows()) == 80


def test_max_cost_is_never_passed(tmp_path):
    with FaultServer(latency=0.01) as server:
        models = {name: {"base_url": server.base_url} | PRICES for name in ("m1", "m2", "m3")}
        job = Job(tmp_path, PROMPTS, models)
        for cap in (3.0, 3.0, 6.0):
            done = job.run("--max-cost", cap, *FAST)
            assert done.code == 3, done
            assert "--max-cost" in done.said
            spent = sum(row["cost"] for row in job.rows() if row["cost"] is not None)
            assert spent == pytest.approx(paid(server))
            assert paid(server) <= cap
        assert paid(server) > 3.0
        assert job.run("--max-cost", 1000, *FAST).code == 0
        total = paid(server)
        sealed = sum(row["cost"] for row in job.pool_rows())
    assert len(server.calls) == 120
    assert sealed == pytest.approx(total)


def test_answers_without_usage_count_at_their_most(tmp_path):
    with FaultServer(plan={"m": "no-usage"}) as server:
        job = Job(tmp_path, PROMPTS, {"m": {"base_url": server.base_url} | PRICES})
        done = job.run("--max-cost", 3, *FAST)
        at_most = 30 * PRICES["price_out"] / 1e6
        assert done.code == 3
        assert 1 <= len(server.calls) <= 3 / at_most


@pytest.mark.parametrize("plan", ["answers", "failures"])
def test_caps_hold_over_kills(tmp_path, plan):
    """What a killed run sent and had not yet recorded counts too, retries included."""
    names = ("m1", "m2", "m3", "m4")
    failing = "500:3+ok:1+" * 99 + "ok"
    with FaultServer(plan=dict.fromkeys(names, failing) if plan == "failures" else None) as server:
        job = Job(tmp_path, PROMPTS * 5, {name: {"base_url": server.base_url} | PRICES for name in names})
        caps = ("--max-requests", 350, "--max-cost", 60.0)
        for number in range(5):
            before = len(server.calls)
            process = job.start(*caps, *FAST)
            wait_for(lambda: len(server.calls) > before + 20 or process.poll() is not None)  # noqa: B023
            time.sleep(0.05 * number)
            process.kill()
            wait_for(lambda: not server.open.total())
            requests, money = booked(job)
            assert requests >= len(server.calls)
            assert money >= paid(server)
        done = job.run(*caps, *FAST)
        assert done.code == 3, done
        assert len(server.calls) <= 350
        assert paid(server) <= 60
        assert job.integrity() == "ok"


# ── one ledger ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_process_is_told_so_and_the_first_goes_on(tmp_path):
    with FaultServer(latency=5) as server:
        job = Job(tmp_path, ["A"], {"m": {"base_url": server.base_url}})
        first = job.start(*FAST)
        wait_for(lambda: server.calls)
        second = job.run(*FAST)
        assert second.code == 2, second
        assert "another process" in second.err
        assert job.ledger.name in second.err
        assert first.end().code == 0
        assert len(server.calls) == 1
    assert job.run(*FAST).code == 0  # and after the first, all is known


def test_a_newer_ledger_is_refused_and_unchanged(tmp_path):
    with FaultServer() as server:
        job = Job(tmp_path, ["A"], {"m": {"base_url": server.base_url}})
        assert job.run(*FAST).code == 0
        connection = sqlite3.connect(job.ledger)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        before = hashlib.sha256(job.ledger.read_bytes()).digest()
        for options in ([], ["--overwrite"], ["--seal"], ["--retry-failed"]):
            done = job.run(*options, *FAST)
            assert done.code == 2, (options, done)
            assert "newer" in done.err
            assert "99" in done.err
            assert hashlib.sha256(job.ledger.read_bytes()).digest() == before
        assert len(server.calls) == 1


def test_another_programs_file_is_no_ledger(tmp_path):
    with FaultServer() as server:
        job = Job(tmp_path, ["A"], {"m": {"base_url": server.base_url}})
        assert job.run(*FAST).code == 0
        ledger = job.ledger
        other = sqlite3.connect(":memory:")
        other.execute("CREATE TABLE answers (x)")
        for content in (other.serialize(), b"not a database at all, but long enough to be looked at" * 30):
            ledger.write_bytes(content)
            done = job.run("--overwrite", *FAST)
            assert done.code == 2, done
            assert ledger.name in done.err
            assert ledger.read_bytes() == content
        other.close()
        assert len(server.calls) == 1


def test_overwrite_keeps_the_ledger(tmp_path):
    with FaultServer() as server:
        job = Job(tmp_path, ["A", "B"], {"m": {"base_url": server.base_url}})
        assert job.run(*FAST).code == 0
        assert job.run("--overwrite", *FAST).code == 0
        assert len(server.calls) == 2
        job.pool.unlink()
        assert job.run("--seal", *FAST).code == 0
        assert len(server.calls) == len(job.answers()) == 2


# ── Ctrl-C ──────────────────────────────────────────────────────────────────────────────────────────────


def test_ctrl_c_stops_sending_waits_and_says_how_to_go_on(tmp_path):
    with FaultServer(latency=0.4) as server:
        models = {name: {"base_url": server.base_url} for name in ("m1", "m2")}
        job = Job(tmp_path, PROMPTS, models)
        process = job.start(*FAST, fresh=True)
        wait_for(lambda: len(server.calls) > 10)
        process.send(signal.SIGINT)
        stopped = time.time()
        done = process.end(30)
        assert done.code == 130, done
        assert time.time() - stopped < 8
        assert all(call.at < stopped + 0.2 for call in server.calls)
        assert len(job.rows()) == len(server.calls) < 80  # what was in flight was waited for
        assert {row["status"] for row in job.rows()} == {"ok"}
        assert "again" in done.said or "resume" in done.said
        assert job.run(*FAST).code == 0
        assert len(server.calls) == len(job.answers()) == 80  # nothing was paid for twice


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ctrl_c_ends_at_once(tmp_path, number):
    with FaultServer(plan={"slow": "late=60"}) as server:
        models = {"slow": {"base_url": server.base_url}, "quick": {"base_url": server.base_url}}
        job = Job(tmp_path, PROMPTS, models)
        process = job.start(*FAST)
        wait_for(lambda: server.ends["A"] == 40)
        process.send(number)
        time.sleep(0.3)
        process.send(number)
        stopped = time.time()
        done = process.end(30)
        assert time.time() - stopped < 1.4  # the first alone waits longer
    assert done.code == 130, done
    assert job.integrity() == "ok"
    assert sum(row["status"] == "ok" for row in job.rows()) == 40


# ── a full disk ─────────────────────────────────────────────────────────────────────────────────────────


def check_full(job: Job, done: Result, server: FaultServer) -> None:
    """The run has said what was wrong; what is in the ledger is whole; with room again it goes on."""
    assert done.code == 2, done
    assert "Traceback" not in done.said
    assert job.ledger.name in done.err
    assert "room" in done.err or "space" in done.err
    assert job.integrity() == "ok"
    assert not job.pool.exists()
    kept = job.rows()
    assert all(row["text"] and row["status"] == "ok" for row in kept)
    sent = len(server.calls)
    assert 0 < len(kept) < sent <= len(kept) + 700


def test_a_file_size_limit_gives_a_clear_error_and_an_intact_ledger(tmp_path):
    prompts = [f"question {number} " + "long " * 50 for number in range(400)]
    with FaultServer() as server:
        job = Job(tmp_path, prompts, {"m": {"base_url": server.base_url}})
        done = job.run(*FAST, file_size=150_000)
        check_full(job, done, server)
        kept = len(job.rows())
        before = len(server.calls)
        assert job.run(*FAST).code == 0
        assert len(server.calls) - before == 400 - kept
        assert len(job.answers()) == 400


def test_no_room_at_all_is_said_in_one_line(tmp_path):
    with FaultServer() as server:
        job = Job(tmp_path, PROMPTS, {"m": {"base_url": server.base_url}})
        for size in (100, 9000):
            done = job.run(*FAST, file_size=size)
            assert done.code == 2, (size, done)
            assert len(done.err.strip().splitlines()) == 1, (size, done)
            assert done.err.startswith("error: "), (size, done)
        assert server.calls == []
        assert job.run(*FAST).code == 0


def test_a_broken_ledger_is_said_in_one_line(tmp_path):
    with FaultServer() as server:
        job = Job(tmp_path, PROMPTS, {"m": {"base_url": server.base_url}})
        assert job.run(*FAST).code == 0
        ledger = job.ledger
        whole = ledger.read_bytes()
        for start in range(4096, len(whole) - 4096, len(whole) // 5 // 4096 * 4096):
            ledger.write_bytes(whole[:start] + b"\xff" * 4096 + whole[start + 4096 :])
            job.pool.unlink(missing_ok=True)
            done = job.run("--seal", *FAST)
            assert done.code in {0, 2}, (start, done)
            assert "Traceback" not in done.said, (start, done)
        assert len(server.calls) == 40


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=4m", "none", place]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_gives_a_clear_error_and_an_intact_ledger(small_disk):
    prompts = [f"question {number} " + "long " * 50 for number in range(400)]
    filler = small_disk / "filler"
    with FaultServer() as server:
        job = Job(small_disk, prompts, {"m": {"base_url": server.base_url}})
        filler.write_bytes(bytes(3_800_000))
        done = job.run(*FAST)
        check_full(job, done, server)
        kept = len(job.rows())
        before = len(server.calls)
        filler.unlink()
        assert job.run(*FAST).code == 0
        assert len(server.calls) - before == 400 - kept
        assert len(job.answers()) == 400
