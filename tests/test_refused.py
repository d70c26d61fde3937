"""Servers that refuse a parameter: what is recognised, what is sent then, what the ledger keeps; and scores that are all one."""

import json
from dataclasses import replace

import pytest

from crowdselect.ask.ask import AskOptions, Wanted, answers_to, ask
from crowdselect.ask.budget import Limits, estimate_requests
from crowdselect.ask.calls import ScriptedClient, make_request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.http_client import _status_error
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.refused import REFUSED, accepted, line_to_write, without
from crowdselect.ask.renamed import take_over
from crowdselect.errors import CallError, CrowdselectError
from crowdselect.reward.alike import Alike
from crowdselect.reward.protocol import Item, Outcome

HELP = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


@pytest.mark.parametrize(
    ("error", "parameter"),
    [
        ({"message": HELP, "param": "max_tokens", "code": "unsupported_parameter"}, "max_tokens"),
        ({"message": HELP, "code": "unsupported_parameter"}, "max_tokens"),
        ({"message": HELP, "param": None, "code": 400}, "max_tokens"),
        (HELP, "max_tokens"),
        ({"message": "no", "param": "temperature", "code": "unsupported_value"}, "temperature"),
        ({"message": "Unsupported value: 'temperature' does not support 0 with this model."}, "temperature"),
        ({"message": "openai does not support parameters: ['logprobs'], for model=gpt-5"}, "logprobs"),
        (
            {"message": "'messages' must hold a user's turn", "param": "messages", "code": "invalid_value"},
            None,
        ),
        ({"message": "The model `gpt-x` is overloaded"}, None),
        ({"message": "this model does not support images"}, None),
    ],
)
def test_a_refusal_names_its_parameter(error, parameter):
    found = _status_error(400, {}, json.dumps({"error": error}))
    assert (found.parameter, found.verdict) == (parameter, "failed")
    assert _status_error(500, {}, json.dumps({"error": error})).parameter is None


def test_what_is_sent_without_a_parameter():
    end = Endpoint(
        "m", max_tokens=16, temperature=0.0, extra_body={"logprobs": True, "top_logprobs": 20, "top_k": 3}
    )
    assert without(end, "max_tokens").fields() == {
        "max_completion_tokens": 16, "temperature": 0.0, "logprobs": True, "top_logprobs": 20, "top_k": 3,
    }  # fmt: skip
    assert without(Endpoint("m", extra_body={"max_tokens": 9}), "max_tokens").fields() == {
        "max_completion_tokens": 9
    }
    for parameter in ("temperature", "logprobs", "top_k", "top_p", "max_completion_tokens"):
        assert without(end, parameter) is None
    waived = replace(end, waived=frozenset({"temperature", "logprobs", "top_logprobs"}))
    assert "temperature" not in without(waived, "temperature").fields()
    for parameter in ("logprobs", "top_logprobs"):
        assert without(waived, parameter).fields() == {"max_tokens": 16, "temperature": 0.0, "top_k": 3}
    # The same requests have the same key, whoever left the parameter out.
    assert (
        without(Endpoint("m", max_tokens=16), "max_tokens").digest
        == Endpoint("m", extra_body={"max_completion_tokens": 16}).digest
    )
    assert "`logprobs = false`" in line_to_write(replace(end, logprobs=True), "logprobs")


class Picky:
    """A server, or a gateway to some, that refuses some fields; counts what it is asked."""

    def __init__(self, *refused, latency=0.0):
        self.refused, self.latency = refused, latency
        self.asked, self.told, self.opened = [], [], 0

    def open(self, endpoint):
        self.opened += 1

        def answer(request):
            self.asked.append(endpoint.fields())
            for name in self.refused:
                if name in endpoint.fields():
                    raise CallError(f"{name} is not supported", verdict="failed", parameter=name)
            return f"to {request.messages()[0]['content']}"

        return ScriptedClient(answer, latency=self.latency)

    def ask(self, ledger, endpoint, requests, **limits):
        options = AskOptions(limits=Limits(wait=0.002, **limits), opener=self.open, tell=self.told.append)
        return ask([Wanted(endpoint, requests)], ledger, options)


def requests(count):
    return [make_request([{"role": "user", "content": f"q{n}"}]) for n in range(count)]


def endpoint(name="m", **settings):
    return Endpoint(name, base_url="http://localhost/v1", model="x", **settings)


def test_each_request_is_answered_once_and_the_refusal_is_said_once(tmp_path):
    picky, end = (
        Picky("max_tokens", "temperature", latency=0.002),
        endpoint(max_tokens=16, temperature=0.0, waived=frozenset({"temperature"})),
    )
    with Ledger(tmp_path / "l") as ledger:
        assert picky.ask(ledger, end, requests(700)).stopped == {}
        found = answers_to(ledger, end, requests(700))
        assert [answer.text for answer in found] == [f"to q{n}" for n in range(700)]
        assert picky.told == [
            "m: the server refuses 'max_tokens'; 'max_completion_tokens' is sent instead",
            "m: the server refuses 'temperature'; it is no longer sent",
        ]
        assert picky.asked.count({"max_completion_tokens": 16}) == 700
        assert len(picky.asked) < 700 + 2 * 8
        assert sum(answer.attempts for answer in found) == len(picky.asked)  # refused ones count, too
        assert ledger.spent()["m"].attempts == len(picky.asked)
        assert estimate_requests(requests(701), end, ledger).calls == 1
        before = len(picky.asked)
        picky.ask(ledger, end, requests(703))
        assert len(picky.asked) == before + 3
        assert len(picky.told) == 2
        # Other settings of the same model are known to be refused, another model is not.
        assert accepted(ledger, endpoint(max_tokens=32)).fields() == {"max_completion_tokens": 32}
        assert accepted(ledger, endpoint("n", max_tokens=32)).fields() == {"max_tokens": 32}


def test_answers_under_the_settings_that_are_taken_are_not_asked_again(tmp_path):
    written, picky = endpoint(extra_body={"max_completion_tokens": 16}), Picky("max_tokens")
    with Ledger(tmp_path / "l") as ledger:
        picky.ask(ledger, written, requests(300))
        before = len(picky.asked)
        picky.ask(ledger, endpoint(max_tokens=16), requests(300))
        assert len(picky.asked) - before <= 2 * 4  # those in flight when it was found out


def test_what_the_user_wrote_stops_the_endpoint(tmp_path):
    picky, end = Picky("top_p"), endpoint(top_p=0.5)
    with Ledger(tmp_path / "l") as ledger:
        stopped = picky.ask(ledger, end, requests(50)).stopped
        assert stopped == {"m": "top_p is not supported; leave 'top_p' out of its table of the crowd file"}
        assert len(picky.asked) <= 4
        rows = [answer for answer in answers_to(ledger, end, requests(50)) if answer is not None]
        assert {row.status for row in rows} == {"failed"}
        assert ledger.noted(REFUSED) is None
        assert picky.ask(ledger, endpoint(), requests(50)).stopped == {}


def test_a_server_that_refuses_what_is_not_sent_fails_and_is_not_asked_for_ever(tmp_path):
    def answer(_request):
        raise CallError("'tools' is not supported", verdict="failed", parameter="tools")

    client = ScriptedClient(answer)
    with Ledger(tmp_path / "l") as ledger:
        ended = ask(
            [Wanted(endpoint(max_tokens=5), requests(9))], ledger, AskOptions(opener=lambda _: client)
        )
        assert ended.stopped == {}
    assert len(client.asked) == 9


def test_a_renamed_endpoint_takes_its_refusals_with_it(tmp_path):
    picky = Picky("max_tokens")
    with Ledger(tmp_path / "l") as ledger:
        picky.ask(ledger, endpoint("old", max_tokens=16), requests(20))
        before = len(picky.asked)
        new = endpoint("new", max_tokens=16)
        assert len(take_over(ledger, [new], present={"new"})) == 1
        picky.ask(ledger, new, requests(20))
        assert len(picky.asked) == before
        assert all(answer is not None for answer in answers_to(ledger, new, requests(20)))


# Scores that are all one.


def item(text):
    return Item([{"role": "user", "content": "Q"}, {"role": "assistant", "content": text}])


@pytest.mark.parametrize("kind", ["hf", "http"])
def test_twenty_different_answers_with_one_score_end_a_run(kind):
    alike = Alike.of("r", kind, keep_going=False)
    for n in range(19):
        for _ in range(3):  # the same answers again are no evidence
            alike.add(item(f"a{n}"), Outcome(score=1.0))
        alike.add(item("none"), Outcome(reason="?"))
    with pytest.raises(CrowdselectError, match="r: the first 20 different answers all have the score 1"):
        alike.add(item("a19"), Outcome(score=1.0))


@pytest.mark.parametrize("kind", ["hf", "http", "judge", "python", "import", "verify"])
def test_nothing_ends_where_scores_differ_or_need_not(kind):
    for first in (1.0, 0.5):
        alike = Alike.of("r", kind, keep_going=first == 1.0)
        for n in range(100):
            alike.add(item(f"a{n}"), Outcome(score=1.0 if n else first))


def test_a_judge_is_only_warned_about(capsys):
    alike = Alike.of("j", "judge", keep_going=False)
    for n in range(49):
        alike.add(item(f"a{n}"), Outcome(score=7.0))
    assert capsys.readouterr().err == ""
    for n in range(49, 120):
        alike.add(item(f"a{n}"), Outcome(score=7.0))
    assert capsys.readouterr().err.count("the first 50 different answers all have the score 7") == 1
