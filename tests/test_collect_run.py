"""The runner with scripted models: retries, caps, conversations, endpoints that are slow or dead, one row per request."""

import threading
import time

import pytest

from crowdselect.ask.ask import run
from crowdselect.ask.budget import Budget, Limits, check_cost_cap, most_prompt_tokens
from crowdselect.ask.calls import Reply, ScriptedClient, make_request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.lane import Lane
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.redact import Redactor
from crowdselect.errors import CallError, LedgerError, OptionError

QUICK = Limits(wait=0.002, attempts=3, patience=0.3)


def ask(text, **values):
    return make_request([{"role": "user", "content": text}], **values)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger") as opened:
        yield opened


def endpoint(name="m", **values):
    return Endpoint(name, model=name, base_url="http://127.0.0.1:9/v1", **values)


def rows(ledger, end, requests):
    found = ledger.get([request.key(end) for request in requests])
    return [found.get(request.key(end)) for request in requests]


def test_everything_is_asked_once_and_the_second_run_asks_nothing(ledger):
    end, requests = endpoint(), [ask(f"q{n}") for n in range(300)]
    for asked in (300, 0):
        client = ScriptedClient(lambda request: f"to {request.messages()[0]['content']}")
        lane = Lane(end, client, requests)
        outcome = run([lane], ledger, QUICK)
        assert not outcome.interrupted
        assert len(client.asked) == asked
        assert lane.counts.done == 300
        assert [row.text for row in rows(ledger, end, requests)] == [f"to q{n}" for n in range(300)]


@pytest.mark.parametrize(("count", "then", "most"), [(30, (), 3), (1, ("and?",), 1)])
def test_a_request_keeps_its_place_until_its_row_is_on_disk(ledger, count, then, most):
    held, sent = [], []

    def look():
        sent.append(len(client.asked))
        ledger._writing.release()

    def answer(_request):
        if not held:
            held.append(ledger._writing.acquire())  # nothing can be committed
            threading.Timer(0.4, look).start()
        return "a"

    end, client = endpoint(max_concurrency=3), ScriptedClient(answer)
    run([Lane(end, client, [ask(f"q{n}", then=then) for n in range(count)])], ledger, QUICK)
    assert sent == [most]
    assert len(client.asked) == count * (1 + len(then))


def test_conversations_that_begin_alike_all_go_on(ledger):
    end, client = endpoint(), ScriptedClient(lambda _: "a", latency=0.01)
    requests = [ask("hi", then=then) for then in ((), ("b",), ("c",), ("b", "d"), ("b",), ("b", "e", "f"))]
    for _ in range(2):
        run([Lane(end, client, requests)], ledger, QUICK)
        asked = sorted("".join(turn["content"] for turn in request.messages()) for request in client.asked)
        assert asked == ["hi", "hiab", "hiabad", "hiabae", "hiabaeaf", "hiac"]


def test_equal_requests_are_asked_once(ledger):
    end, client = endpoint(), ScriptedClient(lambda _: "a", latency=0.01)
    run([Lane(end, client, [ask("same") for _ in range(50)])], ledger, QUICK)
    assert len(client.asked) == 1


def test_a_client_is_made_only_when_it_is_needed(ledger):
    end, made = endpoint(), []

    def make():
        made.append(1)
        return ScriptedClient(lambda _: "a")

    run([Lane(end, make, [ask("q")])], ledger, QUICK)
    run([Lane(end, make, [ask("q")])], ledger, QUICK)
    assert made == [1]


@pytest.mark.parametrize(
    ("error", "status", "attempts"),
    [
        (CallError("broken"), "gave_up", 3),
        (CallError("busy", verdict="refused"), "gave_up", 12),
        (CallError("bad request", verdict="failed"), "failed", 1),
        (CallError("not nice", verdict="filtered"), "filtered", 1),
        (CallError("who are you", verdict="stop"), "failed", 1),
    ],
)
def test_errors_end_in_one_row(ledger, error, status, attempts):
    def answer(_request):
        raise error

    end, request = endpoint(), ask("q")
    lane = Lane(end, ScriptedClient(answer), [request])
    outcome = run([lane], ledger, Limits(wait=0.001, attempts=3, patience=30))
    (row,) = rows(ledger, end, [request])
    assert (row.status, row.attempts, row.text, row.error) == (status, attempts, None, str(error))
    assert ("m" in outcome.stopped) == (error.verdict == "stop")


def test_what_passes_is_answered_and_counted(ledger):
    failures = {"n": 0}

    def answer(_request):
        failures["n"] += 1
        if failures["n"] < 3:
            raise CallError("broken", billed=True)
        return Reply("yes", "stop", "hm", 10, 20)

    end = endpoint(price_in=1.0, price_out=1.0, max_tokens=100)
    request = ask("q")
    run([Lane(end, ScriptedClient(answer), [request])], ledger, QUICK)
    (row,) = rows(ledger, end, [request])
    assert (row.status, row.attempts, row.reasoning, row.cost) == ("ok", 3, "hm", pytest.approx(30 / 1e6))
    assert row.lost == pytest.approx(2 * (most_prompt_tokens(request, end) + 100) / 1e6)


def test_statuses_of_answers(ledger):
    end = endpoint()
    replies = {
        "a": Reply("x", "stop"),
        "b": Reply("x", "length"),
        "c": Reply("", "stop"),
        "d": Reply("x", "content_filter"),
        "e": Reply("x"),
    }
    requests = [ask(text) for text in replies]
    run([Lane(end, ScriptedClient(lambda r: replies[r.messages()[0]["content"]]), requests)], ledger, QUICK)
    assert [row.status for row in rows(ledger, end, requests)] == ["ok", "length", "empty", "filtered", "ok"]


def test_retry_failed_asks_what_has_no_answer(ledger):
    end, requests, broken = endpoint(), [ask(f"q{n}") for n in range(4)], True

    def answer(request):
        if broken and request.messages()[0]["content"] in {"q1", "q2"}:
            raise CallError("bad", verdict="failed")
        return "a"

    run([Lane(end, ScriptedClient(answer), requests)], ledger, QUICK)
    broken = False
    for limits, asked in ((QUICK, 0), (Limits(retry_failed=True), 2), (Limits(retry_failed=True), 0)):
        client = ScriptedClient(answer)
        run([Lane(end, client, requests)], ledger, limits)
        assert len(client.asked) == asked
    assert [row.status for row in rows(ledger, end, requests)] == ["ok"] * 4


def test_a_stopped_model_does_not_stop_the_others(ledger):
    def refuse(_request):
        raise CallError("HTTP 401: no", verdict="stop")

    bad, good = ScriptedClient(refuse), ScriptedClient(lambda _: "a")
    requests = [ask(f"q{n}") for n in range(500)]
    outcome = run(
        [Lane(endpoint("bad"), bad, requests), Lane(endpoint("good"), good, requests)], ledger, QUICK
    )
    assert len(good.asked) == 500
    assert len(bad.asked) <= 4
    assert "`retry_failed=True`" in outcome.stopped["bad"]


def test_a_slow_and_a_dead_endpoint_do_not_slow_the_others(ledger):
    def dead(_request):
        raise CallError("cannot connect")

    requests = [ask(f"q{n}") for n in range(400)]
    done_at = {}

    def quick(_request):
        done_at["quick"] = time.monotonic()
        return "a"

    lanes = [
        Lane(endpoint("dead"), ScriptedClient(dead), requests),
        Lane(endpoint("slow"), ScriptedClient(lambda _: "a", latency=0.4), requests[:8]),
        Lane(endpoint("quick"), ScriptedClient(quick), requests),
    ]
    started = time.monotonic()
    outcome = run(lanes, ledger, QUICK)
    assert done_at["quick"] - started < 0.4
    assert "gave no answer for" in outcome.stopped["dead"]
    assert "cannot connect" in outcome.stopped["dead"]
    assert lanes[0].counts.sent < 60
    statuses = {row.status for row in rows(ledger, lanes[0].endpoint, requests) if row}
    assert statuses <= {"gave_up", "pending"}


def test_a_time_out_counts_from_sending_and_not_from_waiting(ledger):
    end = endpoint(timeout=0.3, max_concurrency=1)
    requests = [ask(f"q{n}") for n in range(8)]  # together longer than the time-out
    run([Lane(end, ScriptedClient(lambda _: "a", latency=0.06), requests)], ledger, QUICK)
    assert [row.status for row in rows(ledger, end, requests)] == ["ok"] * 8
    late = ask("late")
    run(
        [Lane(end, ScriptedClient(lambda _: "a", latency=5), [late])],
        ledger,
        Limits(wait=0.001, attempts=2),
    )
    (row,) = rows(ledger, end, [late])
    assert (row.status, row.attempts) == ("gave_up", 2)
    assert "within 0.3 s" in row.error


def test_concurrency_stays_below_the_ceiling(ledger):
    client = ScriptedClient(lambda _: "a", latency=0.005)
    run([Lane(endpoint(max_concurrency=7), client, [ask(f"q{n}") for n in range(200)])], ledger, QUICK)
    assert client.peak == 7


def test_max_requests_is_kept_over_runs_and_retries(ledger):
    def flaky(request):
        if hash(request.digest) % 3 == 0:
            raise CallError("broken")
        return "a"

    requests = [ask(f"q{n}") for n in range(200)]
    total = 0
    for cap in (50, 50, 80):
        client = ScriptedClient(flaky)
        lane = Lane(endpoint(), client, requests)
        outcome = run([lane], ledger, Limits(max_requests=cap, wait=0.0001, attempts=50, patience=60))
        total += len(client.asked)
        assert total == cap
        assert "`max_requests`" in outcome.stopped["m"]


def test_max_cost_is_never_passed_and_counts_answers_without_usage_at_their_most(ledger):
    end = endpoint(price_in=1000.0, price_out=1000.0, max_tokens=100)
    most = (most_prompt_tokens(ask("q0"), end) + 100) / 1000
    for usage in (Reply("a", "stop", None, 10, 90), Reply("a", "stop")):
        spent = sum(entry.cost + entry.lost for entry in ledger.spent().values())
        cap = spent + 10.5 * most
        client = ScriptedClient(lambda _, usage=usage: usage, latency=0.002)
        requests = [ask(f"{usage.prompt_tokens} q{n}") for n in range(1000)]
        outcome = run([Lane(end, client, requests)], ledger, Limits(max_cost=cap))
        after = sum(entry.cost + entry.lost for entry in ledger.spent().values())
        assert after <= cap
        assert after > cap - 1.5 * most  # and used as far as it goes
        assert "`max_cost`" in outcome.stopped["m"]


def test_a_cap_that_cannot_be_kept_is_refused_before_anything_is_sent(ledger):
    client = ScriptedClient(lambda _: "a")
    for values, words in (
        ({"max_tokens": 5}, "price_in and price_out"),
        ({"price_in": 1.0, "max_tokens": 5}, "price_out of .m. is unknown"),
        ({"price_in": 1.0, "price_out": 1.0}, "max_tokens"),
    ):
        with pytest.raises(OptionError, match=words):
            run([Lane(endpoint(**values), client, [ask("q")])], ledger, Limits(max_cost=1.0))
    assert not client.asked
    check_cost_cap((endpoint(price_in=0.0, price_out=0.0),), 1.0)


def test_conversations_hold_the_answers_and_resume_in_the_middle(ledger):
    end = endpoint()
    talks = [ask(f"q{n}", then=("and?", "so?")) for n in range(5)]
    client = ScriptedClient(lambda request: f"a{len(request.messages())}")
    run([Lane(end, client, talks)], ledger, Limits(max_requests=7))
    assert len(client.asked) == 7
    client = ScriptedClient(lambda request: f"a{len(request.messages())}")
    run([Lane(end, client, talks)], ledger, QUICK)
    assert len(client.asked) == 8
    last = talks[0].follow("a1").follow("a3")
    assert [turn["content"] for turn in last.messages()] == ["q0", "a1", "and?", "a3", "so?"]
    (row,) = rows(ledger, end, [last])
    assert row.text == "a5"


def test_a_failed_turn_ends_its_conversation(ledger):
    def answer(request):
        if len(request.messages()) > 1:
            raise CallError("bad", verdict="failed")
        return "a"

    client = ScriptedClient(answer)
    run([Lane(endpoint(), client, [ask("q", then=("and?", "so?"))])], ledger, QUICK)
    assert len(client.asked) == 2


def test_keys_and_halves_of_characters_never_reach_the_ledger(ledger):
    def answer(request):
        if "fail" in request.prompt:
            raise CallError("you sent sk-0123456789 \ud800", verdict="failed")
        return Reply("sk-0123456789 \udc00é", "stop", "I see sk-0123456789")

    end, requests = endpoint(), [ask("q"), ask("fail")]
    run([Lane(end, ScriptedClient(answer), requests)], ledger, QUICK, redact=Redactor({"K": "sk-0123456789"}))
    good, bad = rows(ledger, end, requests)
    assert (good.text, good.reasoning) == ("[K] \ufffdé", "I see [K]")
    assert bad.error == "you sent [K] \ufffd"


def test_a_broken_client_is_not_hidden(ledger):
    def answer(_request):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([Lane(endpoint(), ScriptedClient(answer), [ask(f"q{n}") for n in range(10)])], ledger, QUICK)


def test_a_ledger_that_cannot_be_written_ends_the_run(ledger):
    def full(_answers, _notes):
        raise LedgerError("no room")

    good = ledger._insert
    ledger._insert = lambda answers, notes: full(answers, notes) if answers else good(answers, notes)
    client = ScriptedClient(lambda _: "a", latency=0.001)
    with pytest.raises(LedgerError, match="no room"):
        run([Lane(endpoint(), client, (ask(f"q{n}") for n in range(100_000)))], ledger, QUICK)
    assert len(client.asked) < 20_000
    ledger._insert = good  # somebody has made room: what came last is written when the ledger is closed


def test_requests_are_taken_as_they_are_needed(ledger):
    taken = []

    def source():
        for number in range(1_000_000):
            taken.append(number)
            yield ask(f"q{number}")

    run([Lane(endpoint(), ScriptedClient(lambda _: "a"), source())], ledger, Limits(max_requests=20))
    assert len(taken) <= 512


def test_runs_outside_the_main_thread(ledger):
    end, requests, seen = endpoint(), [ask("q")], []
    thread = threading.Thread(
        target=lambda: seen.append(run([Lane(end, ScriptedClient(lambda _: "a"), requests)], ledger, QUICK))
    )
    thread.start()
    thread.join(20)
    assert seen
    assert rows(ledger, end, requests)[0].status == "ok"


def test_what_is_in_flight_is_held_on_disk(ledger):
    held = []

    def answer(_request):
        held.append(ledger.noted("hold"))
        return Reply("a", "stop", None, 1, 1)

    end = endpoint(price_in=1.0, price_out=1.0, max_tokens=10)
    run([Lane(end, ScriptedClient(answer, latency=0.01), [ask(f"q{n}") for n in range(100)])], ledger, QUICK)
    assert all(requests >= 4 and cost > 0 for requests, cost in held)
    assert ledger.noted("hold") == [0, 0.0]
    assert Budget(ledger, max_cost=None, max_requests=None).requests == 100
