"""`kill -9` at random moments, 30 rounds: what was recorded stays, what was in flight is the most that is paid twice.

The processes are forked from one that has its imports done, so that a round takes a moment; each is a whole
`crowdselect collect`, killed for real.
"""

import random
import signal
import time

import pyarrow.parquet as pq
import pytest

from collecting import FAST, Job, wait_for
from fault_server import FaultServer
from faults import completion

pytest.importorskip("openai")
pytestmark = [pytest.mark.extra, pytest.mark.usefixtures("starter")]

ROUNDS = 10  # of each of three tests
PLACES = 24  # three models of eight: the most in flight at once
WINDOW = 0.1  # seconds that answers may be gathered before they are committed
SLACK = 0.4  # for a machine that is busy with other things; the clock of the server runs on it too


class Story:
    """What is known after each round, and whether it agrees with the server's books."""

    def __init__(self, job: Job, server: FaultServer) -> None:
        self.job, self.server = job, server
        self.kept: dict[bytes, tuple] = {}
        self.wasted = self.in_flight = 0

    def check(self, killed: float, first: int) -> None:
        """After a kill: nothing recorded is gone, and what came in well before the kill is recorded."""
        rows = {row["key"]: (row["status"], row["text"]) for row in self.job.rows()}
        assert self.kept.items() <= rows.items()
        self.kept = {key: row for key, row in rows.items() if row[0] != "pending"}
        texts = {text for _, text in rows.values()}
        bought = [call for call in self.server.calls[first:] if call.kind == "ok"]
        open_ = [call for call in bought if call.ended != "A" or call.ended_at > killed - WINDOW - SLACK]
        lost = [call for call in bought if said(call) not in texts]
        assert {id(call) for call in lost} <= {id(call) for call in open_}
        assert len(lost) <= PLACES  # a place is free again once its answer is on disk
        self.in_flight += len(open_)
        self.wasted += len(lost)

    def wait(self, draw: random.Random, first: int) -> None:
        """Until a moment that nobody could foresee: before, between or after requests."""
        if draw.random() < 0.2:
            time.sleep(draw.uniform(0, 0.3))
            return
        more, end = draw.randint(1, 90), time.monotonic() + 3
        while len(self.server.calls) < first + more and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.05))


def said(call) -> str:
    return completion(call)["choices"][0]["message"]["content"]


SCENES = {
    "plain": {"server": {"latency": 0.01}, "prompts": 150, "options": ()},
    "faults": {"server": {"latency": 0.005, "chaos": 0.15, "seed": 3}, "prompts": 120, "options": ()},
    "samples": {"server": {"latency": 0.01}, "prompts": 60, "options": ("--samples", "3")},
}


@pytest.mark.parametrize("scene", SCENES)
def test_kill_9_at_any_moment_loses_nothing_that_was_recorded(tmp_path, scene):
    settings = SCENES[scene]
    draw = random.Random(f"kill {scene}")
    prompts = [f"question {number}" for number in range(settings["prompts"])]
    names = ("m1", "m2", "m3")
    folders = [tmp_path / "killed", tmp_path / "whole"]
    for folder in folders:
        folder.mkdir()
    with FaultServer(**settings["server"]) as server:
        models = {name: {"base_url": server.base_url, "seed": 5, "max_concurrency": 8} for name in names}
        job, whole = (Job(folder, prompts, models) for folder in folders)
        story = Story(job, server)
        for _ in range(ROUNDS):
            first = len(server.calls)
            process = job.start(*settings["options"], *FAST)
            story.wait(draw, first)
            killed = time.time()
            done = process.kill()
            assert done.code in {-signal.SIGKILL, 0}, done  # 0: it had ended before
            wait_for(lambda: not server.open.total())
            story.check(killed, first)
            assert not job.pool.exists() or len(job.pool_rows()) == len(story.kept)  # all of it or none
        assert job.run(*settings["options"], *FAST).code == 0
        bought = server.counts()["kinds"]["ok"]
        assert whole.run(*settings["options"], *FAST).code == 0
        needed = server.counts()["kinds"]["ok"] - bought
    assert needed == len(names) * settings["prompts"] * (3 if scene == "samples" else 1)
    assert len(job.rows()) == needed
    assert job.integrity() == "ok"
    assert bought == needed + story.wasted <= needed + story.in_flight
    assert pq.read_table(job.pool).equals(pq.read_table(whole.pool))
