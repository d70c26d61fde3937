"""The pace of one endpoint, on a clock of the test's own: growth, cuts, pauses, limits per minute."""

import pytest

from crowdselect.ask.pace import Bucket, Pace
from crowdselect.errors import CallError

BUSY = CallError("busy", verdict="refused")
BROKEN = CallError("broken")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def rounds(pace, clock, number, *, latency, capacity=None, tokens=10):
    """So many rounds at the pace's own concurrency; a server with a capacity takes longer for more at once."""
    for _ in range(number):
        count = int(pace.limit)
        sent = [pace.send(at, 0) for at in range(count)]
        assert pace.delay(count, 0) is None
        clock.now += latency * (1 if capacity is None else max(1.0, count / capacity))
        for one in sent:
            pace.answered(one, prompt_tokens=5, tokens=tokens)


def test_it_starts_low_doubles_and_ends_at_the_ceiling(clock):
    pace = Pace(ceiling=64, clock=clock)
    assert pace.limit == 4
    assert pace.delay(3, 0) == 0
    assert pace.delay(4, 0) is None
    rounds(pace, clock, 2, latency=1.0)
    assert 8 <= pace.limit <= 16
    rounds(pace, clock, 8, latency=1.0)
    assert pace.limit == 64
    assert Pace(ceiling=2, clock=clock).limit == 2
    assert Pace(ceiling=16, adaptive=False, clock=clock).limit == 16


@pytest.mark.parametrize(("error", "slow"), [(BUSY, True), (CallError("no answer", billed=True), True)])
def test_refusals_and_time_outs_halve_it_once_per_burst(clock, error, slow):
    pace = Pace(ceiling=64, clock=clock)
    rounds(pace, clock, 10, latency=1.0)
    sent = [pace.send(at, 0) for at in range(64)]
    clock.now += 1
    for one in sent:
        pace.failed(one, error, slow=slow)
    assert pace.limit == 32
    assert pace.failures == 1
    clock.now += 10
    pace.failed(pace.send(0, 0), error, slow=slow)
    assert pace.limit == 16
    clock.now += 200
    rounds(pace, clock, 1, latency=1.0)
    assert 16 < pace.limit <= 18  # additive from there on
    assert pace.failures == 0


def test_other_errors_do_not_slow_it_until_there_is_nothing_else(clock):
    pace = Pace(ceiling=64, wait=1.0, clock=clock)
    for _ in range(4):
        pace.failed(pace.send(0, 0), BROKEN, slow=False)
    assert pace.limit == 4
    assert not pace.is_paused
    pauses = []
    for _ in range(10):
        pace.failed(pace.send(0, 0), BROKEN, slow=False)
        assert pace.is_paused
        assert pace.limit == 1
        pauses.append(pace.delay(0, 0))
        clock.now += pauses[-1] + 0.01
    assert all(0.75 * 2**at <= pause <= 1.25 * 2**at for at, pause in enumerate(pauses[:7]))
    assert all(48 <= pause <= 80 for pause in pauses[6:])  # grows no further
    rounds(pace, clock, 1, latency=1.0)
    assert pace.failures == 0
    assert not pace.is_paused


def test_refusals_pause_longer_each_time_and_what_the_server_says_is_obeyed(clock):
    pace = Pace(ceiling=64, wait=1.0, clock=clock)
    pace.failed(pace.send(0, 0), BUSY, slow=True)
    assert 0.75 <= pace.delay(0, 0) <= 1.25
    clock.now += 2
    pace.failed(pace.send(0, 0), BUSY, slow=True)
    assert 1.5 <= pace.delay(0, 0) <= 2.5
    clock.now += 3
    pace.failed(pace.send(0, 0), CallError("busy", verdict="refused", retry_after=30.0), slow=True)
    assert pace.delay(0, 0) == 30
    sent = pace.send(0, 0)
    clock.now += 29
    assert pace.delay(0, 0) == pytest.approx(1)
    pace.failed(sent, CallError("busy", verdict="refused", retry_after=0.5), slow=True)
    assert pace.delay(0, 0) == pytest.approx(1)  # the longer of two


def test_a_server_that_queues_is_not_asked_for_ever_more(clock):
    pace = Pace(ceiling=1024, clock=clock)
    rounds(pace, clock, 60, latency=1.0, capacity=16)
    assert 8 <= pace.limit < 128  # it would be 1024 if only refusals counted


def test_latency_that_holds_lets_it_grow(clock):
    pace = Pace(ceiling=1024, clock=clock)
    rounds(pace, clock, 12, latency=1.0)
    assert pace.limit == 1024


def test_longer_answers_are_not_taken_for_a_slow_server(clock):
    pace = Pace(ceiling=256, clock=clock)
    rounds(pace, clock, 3, latency=1.0, tokens=68)
    rounds(pace, clock, 20, latency=10.0, tokens=968)
    assert pace.limit == 256


def test_requests_per_minute_are_kept(clock):
    pace = Pace(ceiling=1000, requests_per_minute=120, adaptive=False, clock=clock)
    sent, end = 0, clock.now + 60
    while clock.now < end:
        delay = pace.delay(0, 0)
        if delay == 0:
            pace.send(0, 0)
            sent += 1
        else:
            clock.now += delay
    assert 118 <= sent <= 123


def test_tokens_per_minute_are_kept_and_settled(clock):
    pace = Pace(ceiling=1000, tokens_per_minute=6000, adaptive=False, clock=clock)
    one = pace.send(0, 6000)
    assert pace.delay(0, 600) == pytest.approx(6)
    pace.answered(one, prompt_tokens=500, tokens=500)  # took 1,000 and not 6,000
    assert pace.delay(0, 600) == 0
    big = Pace(ceiling=10, tokens_per_minute=600, adaptive=False, clock=clock)
    assert big.delay(0, 100_000) == 0  # a request above the limit waits for a full bucket only
    big.send(0, 100_000)
    assert big.delay(0, 1) > 60


def test_bucket(clock):
    bucket = Bucket(per_minute=60, capacity=2, now=0)
    bucket.take(2, now=0)
    assert bucket.delay(1, now=0) == 1
    assert bucket.delay(1, now=1) == 0
    bucket.take(-5, now=1)
    assert bucket.level == 2
