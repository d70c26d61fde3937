"""`ask()`: requests in, answers in the ledger; clients made late, Ctrl-C with what came, ledgers only looked into."""

import os
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest

from crowdselect.ask.ask import AskOptions, InterruptedAskError, Wanted, answers_to, ask, looked_into
from crowdselect.ask.budget import Limits
from crowdselect.ask.calls import ScriptedClient, make_request
from crowdselect.ask.conversations import followed
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.errors import MissingExtraError


def endpoint(name="m", **more):
    return Endpoint(name, base_url="http://localhost/v1", model="m", **more)


def request(text, **more):
    return make_request([{"role": "user", "content": text}], **more)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "l") as opened:
        yield opened


def scripted(answer=lambda _: "yes", **more):
    """Options, and the list of endpoints that a client was made for."""
    made = []

    def opener(end):
        made.append(end.name)
        return ScriptedClient(answer, **more)

    return AskOptions(opener=opener), made


def test_clients_are_made_together_and_only_where_something_is_asked(ledger):
    options, made = scripted()
    wanted = [Wanted(endpoint("a"), [request("1")]), Wanted(endpoint("b"), [request("1")])]
    assert ask(wanted, ledger, options).stopped == {}
    assert made == ["a", "b"]
    ask(wanted, ledger, options)
    assert made == ["a", "b"]
    ask([wanted[0], Wanted(endpoint("c"), [request("1")])], ledger, options)  # one has nothing to ask
    assert made == ["a", "b", "a", "c"]


def test_one_name_with_two_settings_has_a_client_for_each(ledger):
    options, made = scripted()
    cold, warm = endpoint(temperature=0.0), endpoint(temperature=1.0)
    ask([Wanted(cold, [request("1")]), Wanted(warm, [request("1")])], ledger, options)
    assert made == ["m", "m"]
    assert answers_to(ledger, cold, [request("1")])[0].settings == cold.digest
    assert answers_to(ledger, warm, [request("1")])[0].settings == warm.digest


def test_answers_come_in_the_order_of_the_requests(ledger):
    options, _ = scripted(lambda one: one.messages()[0]["content"].upper())
    requests = [request("b"), request("a"), request("b"), request("a", sample=1)]
    ask([Wanted(endpoint(), requests[:3])], ledger, options)
    said = answers_to(ledger, endpoint(), requests)
    assert [answer and answer.text for answer in said] == ["B", "A", "B", None]


def test_what_is_not_asked_has_a_reason(ledger):
    options, _ = scripted()
    options = replace(options, limits=Limits(max_requests=2))
    requests = [request(str(n)) for n in range(5)]
    ended = ask([Wanted(endpoint(), requests)], ledger, options)
    assert ended.stopped == {"m": "`max_requests` is used up"}
    assert sum(answer is not None for answer in answers_to(ledger, endpoint(), requests)) == 2


def test_a_run_is_shown(ledger):
    seen = []

    @contextmanager
    def watch(lanes, total):
        yield lambda: seen.append((lanes[0].endpoint.name, lanes[0].counts.done, total))

    options, _ = scripted()
    ask([Wanted(endpoint(), [request("1")])], ledger, replace(options, watch=watch), total=1)
    assert seen[-1] == ("m", 1, 1)


def test_ctrl_c_keeps_what_came(ledger):
    def answer(one):
        if one.messages()[0]["content"] == "3":
            os.kill(os.getpid(), signal.SIGINT)
        return "yes"

    options, _ = scripted(answer)
    requests = [request(str(n)) for n in range(500)]
    with pytest.raises(InterruptedAskError) as raised:
        ask([Wanted(endpoint(max_concurrency=1), requests)], ledger, options)
    assert isinstance(raised.value, KeyboardInterrupt)
    assert raised.value.outcome.interrupted
    assert raised.value.outcome.stopped == {}
    said = answers_to(ledger, endpoint(max_concurrency=1), requests)
    assert said[0] is not None
    assert said[-1] is None
    with pytest.raises(KeyboardInterrupt):  # Python's own handler is back
        signal.raise_signal(signal.SIGINT)


def test_a_client_that_cannot_be_made_uses_up_no_budget(tmp_path):
    def missing(_endpoint):
        raise MissingExtraError("openai is not installed")

    options = AskOptions(limits=Limits(max_requests=1), opener=missing)
    wanted = [Wanted(endpoint(), [request("1")])]
    with Ledger(tmp_path / "l") as ledger, pytest.raises(MissingExtraError):
        ask(wanted, ledger, options)
    with Ledger(tmp_path / "l") as ledger:
        assert ask(wanted, ledger, replace(options, opener=scripted()[0].opener)).stopped == {}
        assert answers_to(ledger, endpoint(), [request("1")])[0].text == "yes"


def test_looking_into_a_ledger_makes_none(tmp_path):
    path = tmp_path / "l"
    with looked_into(path, [endpoint()], present={"m"}) as (ledger, renamed):
        assert ledger is None
        assert renamed.before(endpoint()) == endpoint()
    assert not path.exists()


def test_looking_into_a_ledger_finds_a_former_name_and_hands_nothing_over(tmp_path):
    path = tmp_path / "l"
    options, _ = scripted()
    with Ledger(path) as ledger:
        ask([Wanted(endpoint("old"), [request("1")])], ledger, options)
    for _ in range(2):
        with looked_into(path, [endpoint("new")], present={"new"}) as (ledger, renamed):
            assert renamed.before(endpoint("new")) == endpoint("old")
            assert answers_to(ledger, endpoint("old"), [request("1")])[0].text == "yes"
            assert answers_to(ledger, endpoint("new"), [request("1")]) == [None]


def test_conversations_that_begin_alike_are_followed_each_on_its_own(ledger):
    options, _ = scripted()
    requests = [request("1", then=("and?",)), request("1"), request("1", then=("so?",)), request("2")]
    ask([Wanted(endpoint(), [request("1")])], ledger, options)
    left = [
        one for _, one, is_known in followed(requests, endpoint(), ledger, retry_failed=False) if not is_known
    ]
    assert [one.messages()[-1]["content"] for one in left] == ["2", "and?", "so?"]
    assert all(len(one.messages()) == 3 for one in left[1:])
