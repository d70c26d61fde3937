"""What a running command is at: the file beside its output, and `crowdselect status`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import crowdselect
from collecting import wait_for
from crowdselect.errors import InputError
from crowdselect.running import Running, kept, progress_path, read_progress, running
from crowdselect.terminal import stage_bar

SLOW = """
import sys, time
from crowdselect.running import kept
from crowdselect.terminal import stage_bar
with kept(sys.argv[1], "select"), stage_bar("clusters") as report:
    for done in range(1, 1000):
        report(done, 1000)
        time.sleep(0.05)
"""


@pytest.fixture
def slow(tmp_path):
    """A process that keeps its progress until it is stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path / "chosen")], stderr=subprocess.DEVNULL
    )
    wait_for(progress_path(tmp_path / "chosen").exists)
    yield process
    process.kill()
    process.wait()


def test_a_running_command_is_seen_from_elsewhere(tmp_path, slow, run):
    shown = run("status", tmp_path / "chosen")
    assert shown.code == 0, shown
    assert f"running: select (process {slow.pid}, since " in shown.out.replace("\n  ", " ")
    assert "clusters, " in shown.out
    assert "of 1,000" in shown.out
    found = json.loads(run("status", tmp_path / "chosen", "--json").out)
    (one,) = found["running"]
    assert (found["exists"], one["alive"], one["stage"], one["of"]) == (False, True, "clusters", 1000)
    assert 0 < one["per_second"] < 21
    assert one["seconds_left"] == pytest.approx((1000 - one["done"]) / one["per_second"])
    time.sleep(1.2)
    (later,) = json.loads(run("status", tmp_path / "chosen", "--json").out)["running"]
    assert later["done"] > one["done"]


def test_a_killed_command_is_told_from_a_running_one(tmp_path, slow, run):
    slow.send_signal(signal.SIGKILL)
    slow.wait()
    shown = run("status", tmp_path / "chosen")
    assert "stopped: select" in shown.out
    assert "is gone" in shown.out
    assert json.loads(run("status", tmp_path / "chosen", "--json").out)["running"][0]["alive"] is False
    with kept(
        tmp_path / "chosen", "select"
    ) as at:  # the same command again takes the place over, and leaves none
        at.tell("clusters")
        wait_for(lambda: read_progress(progress_path(tmp_path / "chosen"))["process"] == os.getpid())
    assert not list(tmp_path.iterdir())


def interrupted(output):
    with Running(output, "select", every=0.01) as at:
        at.tell("one")
        wait_for(progress_path(output).exists)
        raise KeyboardInterrupt


def test_nothing_is_left_and_nothing_is_written_by_a_quick_command(tmp_path, run, sim):
    with kept(tmp_path / "out", "select"), stage_bar("one") as report:
        report(1, 2)
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "out")
    assert not list(tmp_path.iterdir())
    run("status", tmp_path / "out").refuses("nothing is there")
    assert run("select", sim, "--budget", 5, "-o", tmp_path / "out").code == 0
    assert "no command is writing" in run("status", tmp_path / "out").out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_file_is_whole_at_any_moment(tmp_path):
    path = progress_path(tmp_path / "out")
    with Running(tmp_path / "out", "collect", every=0.001) as at:
        at.tell("asking models", 0, 10**6, cost=0.0)
        wait_for(path.exists)
        for done in range(2000):
            at.tell("asking models", done, 10**6, cost=done / 1000)
            found = read_progress(path)
            assert found["of"] == 10**6
            assert found["done"] <= done
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path):
    with Running(tmp_path / "no" / "such" / "out", "select", every=0.01) as at:
        at.tell("one")
        wait_for(lambda: at.problem is not None)
        at.tell("two")


def test_a_full_disk_keeps_no_half_of_the_file(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "replace", full)
    with Running(tmp_path / "out", "select", every=0.01) as at:
        at.tell("one")
        wait_for(lambda: at.problem is not None)
    assert not list(tmp_path.iterdir())


def test_a_recipe_shows_its_step_as_well(tmp_path, run):
    folder = tmp_path / "recipe" / "steps" / "collect-12345678"
    folder.mkdir(parents=True)
    with (
        Running(tmp_path / "recipe", "run", every=0.01) as outer,
        Running(folder / "pool.parquet", "collect", every=0.01) as inner,
    ):
        outer.tell("collect", 0, 4)
        inner.tell("asking models", 7, 9, cost=0.5)
        wait_for(
            lambda: all(progress_path(one).exists() for one in (tmp_path / "recipe", folder / "pool.parquet"))
        )
        shown = run("status", tmp_path / "recipe").out
    assert shown.index("running: run") < shown.index("running: collect")
    assert ": collect, 0 of 4 steps done" in shown  # while `run` says step 1/4
    assert ": asking models, 7 of 9 done" in shown
    assert "0.5000 spent" in shown


def test_outside_of_a_command_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    running().tell("one", 1, 2)
    assert not list(Path().iterdir())


@pytest.mark.extra
def test_collect_says_what_it_asks_and_what_it_spends(tmp_path, run, starter):
    pytest.importorskip("openai")
    from collecting import Job
    from fault_server import FaultServer

    (tmp_path / "job").mkdir()
    with FaultServer(latency=0.3) as server:
        models = {name: {"price_in": 1.0, "price_out": 1.0} for name in ("oak-7b", "ash-7b")}
        job = Job(
            tmp_path / "job",
            [f"Say {n}" for n in range(60)],
            models,
            base_url=server.base_url,
            max_concurrency=1,
        )
        collecting = job.start()
        wait_for(lambda: (read_progress(progress_path(job.pool)) or {}).get("done"))
        (one,) = json.loads(run("status", job.pool, "--json").out)["running"]
        collecting.kill()
    assert (one["command"], one["stage"], one["of"], one["alive"]) == ("collect", "asking models", 120, True)
    assert 0 < one["done"] < 120
    assert one["cost"] > 0
    assert "stopped: collect" in run("status", job.pool).out


def test_scoring_is_counted(tmp_path):
    import io

    from crowdselect.reward.job import Meter

    with kept(tmp_path / "rewards.parquet", "reward"):
        meter = Meter(100, stream=io.StringIO())
        meter.add(30)
        wait_for(progress_path(tmp_path / "rewards.parquet").exists)
        found = read_progress(progress_path(tmp_path / "rewards.parquet"))
    assert (found["stage"], found["done"], found["of"]) == ("scoring", 30, 100)


def test_a_recipe_says_which_step_it_is_at(tmp_path):
    """A whole run, its only slow step being that a second process is started for it."""
    rows = [
        {
            "id": f"i{n}",
            "instruction": f"Say {n}.",
            "model": model,
            "response": "x" * n,
            "score": n % 3 + len(model),
        }
        for n in range(30)
        for model in ("m-7b", "m-70b")
    ]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.toml").write_text(
        '[pool]\npath = "pool.jsonl"\n[select]\nmethod = "random"\nbudget = [3, 4]\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "crowdselect", "run", str(tmp_path / "r.toml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen = set()

    def is_over() -> bool:
        found = read_progress(progress_path(tmp_path / "r"))
        if found is not None and found["of"] is not None:
            seen.add((found["stage"], found["done"], found["of"]))
        return process.poll() is not None

    wait_for(is_over, 90)
    assert process.returncode == 0
    assert seen & {("random budget 3", 0, 2), ("random budget 4", 1, 2)}
    assert not progress_path(tmp_path / "r").exists()


def test_a_notebook_shows_the_same_record_with_a_bar(tmp_path, run):
    output, step = tmp_path / "recipe", tmp_path / "recipe" / "steps" / "collect-12345678" / "pool.parquet"
    step.parent.mkdir(parents=True)
    with Running(output, "run", every=0.01) as outer, Running(step, "collect <b>", every=0.01) as inner:
        outer.tell("collecting")
        inner.tell("asking models", 7, 9)
        wait_for(lambda: progress_path(output).exists() and progress_path(step).exists())
        found = crowdselect.status(output)
        shown = json.loads(run("status", output, "--json").out)
    assert [one["command"] for one in found.running] == ["run", "collect <b>"]
    assert [one["process"] for one in found.running] == [one["process"] for one in shown["running"]]
    assert repr(found).startswith("running: run (process ")
    assert ": asking models, 7 of 9 done" in repr(found).splitlines()[1]
    page = found._repr_html_()
    assert page.count("<progress") == 1
    assert '<progress value="7" max="9"></progress> running: collect &lt;b&gt; (process ' in page
    assert page.count("<p>") == 2


def test_where_nobody_works_a_notebook_says_so(tmp_path):
    found = crowdselect.status(tmp_path)
    assert (found.exists, found.running) == (True, ())
    assert repr(found).startswith("no command is writing ")
    assert found._repr_html_() == f"<p>{found}</p>"
    with pytest.raises(InputError, match="nothing is there"):
        crowdselect.status(tmp_path / "none")
