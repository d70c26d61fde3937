"""A chat model as judge: what it is asked, how its answer is read, and what a run with one does."""

import json
import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from crowdselect.ask.calls import ScriptedClient
from crowdselect.ask.ledger import Ledger
from crowdselect.cli.reward import reward
from crowdselect.errors import CallError, OptionError
from crowdselect.reward.judge import JudgeOptions, JudgeScorer
from crowdselect.reward.protocol import Item
from crowdselect.reward.rubric import (
    Rubric,
    expected_score,
    pack_judgement,
    read_score,
    unpack_judgement,
    with_expectation,
)
from crowdselect.reward.specs import parse_spec
from reward_server import RewardServer

CHAT = "/v1/chat/completions"


def item(answer, reference=None, question="What is 2 + 2?"):
    return Item([{"role": "user", "content": question}, {"role": "assistant", "content": answer}], reference)


@pytest.fixture
def crowd(tmp_path):
    def write(url="http://127.0.0.1:9/v1", **more):
        lines = [
            f"{name} = {json.dumps(value)}" for name, value in {"name": "j", "base_url": url, **more}.items()
        ]
        (tmp_path / "crowd.toml").write_text("[[judge]]\n" + "\n".join(lines))
        return f"judge:{tmp_path}/crowd.toml#j"

    return write


# The prompt


def test_prompt_holds_what_is_judged_and_a_fence_that_the_answer_cannot_know():
    plain, informed = Rubric().prompt(item("Four.")), Rubric().prompt(item("Four.", "4"))
    for prompt in (plain, informed):
        assert "What is 2 + 2?" in prompt
        assert "Four." in prompt
        assert "whole number from 0 to 10" in prompt
    assert "reference" not in plain.lower()
    assert re.search(r"<reference-([0-9a-f]{8})>\n4\n</reference-\1>", informed)
    fences = {re.search(r"<answer-([0-9a-f]{8})>", Rubric().prompt(item(answer)))[1] for answer in ("a", "b")}
    assert len(fences) == 2


def test_what_looks_like_a_placeholder_in_an_answer_is_text():
    prompt = Rubric().prompt(item("{instruction} {0} {response.__class__} {{x}}"))
    assert "{instruction} {0} {response.__class__} {{x}}" in prompt


def test_own_prompt(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("Grade {response} for {instruction} as {{json}}.")
    assert Rubric(str(file)).prompt(item("Four.")) == "Grade Four. for What is 2 + 2? as {json}."
    assert Rubric(str(file)).digest != Rubric().digest
    file.write_text("{instruction} {response} {reference}")
    assert Rubric(str(file)).prompt(item("Four.")) is None
    assert Rubric(str(file)).prompt(item("Four.", "4")) == "What is 2 + 2? Four. 4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{instruction}", r"there is no place for \{response\}"),
        (
            "{instruction} {response} {answer}",
            r"unknown placeholder \{answer\}; known are \{instruction\}, \{response\}",
        ),
        ("{instruction} {response.x}", r"unknown placeholder \{response.x\}"),
        ("{instruction} {response", "p.txt: .*write {{ and }}"),
        ("{instruction} {response} {}", r"unknown placeholder \{\}"),
    ],
)
def test_own_prompt_that_is_none(text, said, tmp_path):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(OptionError, match=said):
        Rubric(str(tmp_path / "p.txt"))


# Reading


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 7", 7),
        ("score=7.5", 7.5),
        ("**Score:** 10", 10),
        ('{"score": 3}', 3),
        ("Score: 2. No, I was wrong.\nScore: 4", 4),
        ("8", 8),
        (" 9/10 ", 9),
        ("**6**", 6),
        ("Rating: 0", 0),
        ("7 of the 10 items are wrong", None),
        ("Score: 11", None),
        ("Score: -1", None),
        ("", None),
        ("I will not.", None),
        ("Score: N", None),
    ],
)
def test_scores_are_read_or_missing_never_made_up(text, score):
    found = read_score(text)
    assert found.score == score
    assert (found.reason is None) == (score is not None)


def tops(**shares):
    return [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]


def token(text, top=()):
    return {"token": text, "logprob": 0.0, "top_logprobs": list(top)}


def test_expectation():
    before = [token("Score"), token(":"), token(" ")]
    assert expected_score(
        "Score: 7", [*before, token("7", tops(**{"7": 0.6, "8": 0.3, "x": 0.1}))]
    ) == pytest.approx((0.6 * 7 + 0.3 * 8) / 0.9)
    assert expected_score(
        "Score: 10", [*before, token("10", tops(**{"10": 0.5, "9": 0.5}))]
    ) == pytest.approx(9.5)
    digits = [token("1", tops(**{"1": 0.8, "9": 0.2})), token("0", tops(**{"0": 0.75, "<": 0.25}))]
    assert expected_score("Score: 10", [*before, *digits]) == pytest.approx(0.6 * 10 + 0.2 * 1 + 0.2 * 9)
    spaced = [token("Score"), token(":"), token(" 7", tops(**{" 7": 0.5, "7": 0.25, " 3": 0.25}))]
    assert expected_score("Score: 7", spaced) == pytest.approx(6)


def test_no_expectation_where_it_would_be_a_guess():
    assert expected_score("Score: 7", [token("Score"), token(": "), token("7", tops(**{"7": 0.3}))]) is None
    assert expected_score("Score: 7", [token("other")]) is None
    assert expected_score("none", [token("none")]) is None
    assert expected_score("7", []) is None
    assert expected_score("8", [token("8", tops(**{"8": 0.6, "1": 0.4}))]) is None  # a 1 or a 10?
    assert expected_score("8", [token("8", tops(**{"8": 0.99, "1": 0.01}))]) == pytest.approx(7.93)
    assert expected_score("7.5", [token("7.5")]) is None


def test_expectation_travels_in_the_text():
    tokens = [token("7", tops(**{"7": 0.5, "5": 0.5}))]
    body = {"choices": [{"message": {"content": "7"}, "logprobs": {"content": tokens}}]}
    made = json.loads(with_expectation(json.dumps(body).encode()))
    assert unpack_judgement(made["choices"][0]["message"]["content"]) == ("7", pytest.approx(6.0))
    for other in (b"", b"{}", b"[1]", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}'):
        assert with_expectation(other) == other
    assert unpack_judgement(pack_judgement("x", None)) == ("x", None)


# Judging


def judged(crowd, answer, items, tmp_path, **options):
    """Judge with a scripted client; gives outcomes, the client and the scorer."""
    client = ScriptedClient(answer)
    with Ledger(tmp_path / "ledger") as ledger:
        made = JudgeScorer(
            parse_spec(crowd()), JudgeOptions(**options), ledger=lambda: ledger, client=lambda _: client
        )
        found = {at: outcome for some in made.score(items) for at, outcome in some}
        made.close()
    return found, client, made


def test_samples_are_averaged_and_asked_once(crowd, tmp_path):
    def answer(request):
        return f"Score: {4 + 2 * request.sample}"

    found, client, _ = judged(crowd, answer, [item("a"), item("b")], tmp_path, samples=3)
    assert [found[at].score for at in (0, 1)] == [6, 6]
    assert len(client.asked) == 6
    found, client, _ = judged(crowd, answer, [item("a"), item("b"), item("c")], tmp_path, samples=3)
    assert [found[at].score for at in range(3)] == [6, 6, 6]
    assert len(client.asked) == 3


def test_what_cannot_be_read_is_missing(crowd, tmp_path):
    def answer(request):
        text = request.messages()[0]["content"]
        if "refuse" in text:
            raise CallError("no", verdict="filtered")
        return (
            "I would rather not."
            if "shy" in text
            else pack_judgement("Score: 7", 6.25)
            if "sure" in text
            else "Score: 3"
        )

    found, _, made = judged(crowd, answer, [item("shy"), item("refuse"), item("sure"), item("x")], tmp_path)
    assert found[0].reason == "no score can be read in 'I would rather not.'"
    assert (found[1].score, found[1].reason) == (None, "no")
    assert (found[2].score, found[3].score) == (6.25, 3)
    assert made.notes == ["1 of 3 judgements could not be read"]


def test_mean_is_over_what_can_be_read(crowd, tmp_path):
    found, _, made = judged(
        crowd, lambda request: "Score: 8" if request.sample else "hm", [item("a")], tmp_path, samples=3
    )
    assert found[0].score == 8
    assert made.notes == ["1 of 3 judgements could not be read"]


def test_budget_leaves_the_rest_unasked(crowd, tmp_path):
    found, client, made = judged(
        crowd, lambda _: "Score: 5", [item(str(n)) for n in range(9)], tmp_path, max_requests=4
    )
    assert len(client.asked) == 4
    assert len(found) == 4
    assert made.notes == ["not all was asked: `max_requests` is used up"]


def test_judges_that_are_none(crowd, tmp_path):
    with pytest.raises(OptionError, match=r"no \[\[judge\]\] named 'other'; found j"):
        JudgeScorer(parse_spec(crowd().replace("#j", "#other")), JudgeOptions(), ledger=lambda: None)
    with pytest.raises(OptionError, match="price_in and price_out of 'j' are unknown"):
        JudgeScorer(parse_spec(crowd()), JudgeOptions(max_cost=1.0), ledger=lambda: None)


def test_settings_are_those_that_change_scores(crowd, tmp_path):
    def settings(**options):
        return JudgeScorer(parse_spec(crowd()), JudgeOptions(**options), ledger=lambda: None).settings

    assert settings() == settings(max_requests=5)
    assert settings() != settings(samples=2)
    assert settings() != settings(logprobs=False)
    assert settings()["endpoint"]["temperature"] == 0.0
    assert settings()["endpoint"]["extra_body"] == {"logprobs": True, "top_logprobs": 20}


# Through the real client and the command


@pytest.mark.extra
def test_a_run_with_a_judge(crowd, tmp_path):
    pytest.importorskip("openai")
    from crowdselect.simulate.pool import simulate

    def answer(body):
        text = body["messages"][-1]["content"]
        said = str(len(text) % 10)
        top = tops(**{said: 0.5, "4" if said != "4" else "5": 0.5})
        choice = {
            "message": {"role": "assistant", "content": f"Score: {said}"},
            "finish_reason": "stop",
            "index": 0,
        }
        logprobs = {"content": [token("Score: "), token(said, top)]} if body.get("logprobs") else None
        return {
            "choices": [choice | {"logprobs": logprobs}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        }

    simulate(tmp_path / "p.parquet", instructions=3)
    out = str(tmp_path / "r.parquet")
    with RewardServer(CHAT, answer=answer) as server:
        args = [str(tmp_path / "p.parquet"), "--with", crowd(f"{server.url}/v1", max_tokens=8), "-o", out]
        planned = CliRunner().invoke(reward, [*args, "--dry-run", "--json"], standalone_mode=False)
        (plan,) = json.loads(planned.output)["plan"]
        assert plan["requests"] == plan["to_score"] > 0
        assert not server.requests
        ran = CliRunner().invoke(reward, args, standalone_mode=False)
        assert ran.exception is None
        assert f"j is asked at {server.url}" in ran.stderr
        asked = len(server.requests)
        assert asked == plan["requests"] + 4  # and the self-test
        again = CliRunner().invoke(reward, [*args, "--overwrite"], standalone_mode=False)
        assert again.exception is None
        assert len(server.requests) == asked
        scores = [score for score in pq.read_table(out)["j"].to_pylist() if score is not None]
        assert len(scores) >= plan["to_score"]
        assert any(score % 1 == 0.5 for score in scores)  # a mean of two scores, not what was said
        CliRunner().invoke(
            reward, [*args, "--overwrite", "--no-logprobs", "--no-self-test"], standalone_mode=False
        )
        assert all(score % 1 == 0 for score in pq.read_table(out)["j"].to_pylist() if score is not None)


@pytest.mark.extra
def test_a_renamed_judge_is_asked_nothing_again(crowd, tmp_path):
    pytest.importorskip("openai")
    from crowdselect.simulate.pool import simulate

    def answer(_body):
        message = {"role": "assistant", "content": "Score: 6"}
        return {"choices": [{"message": message, "finish_reason": "stop", "index": 0}]}

    simulate(tmp_path / "p.parquet", instructions=3)
    with RewardServer(CHAT, answer=answer) as server:

        def call(name, *more):
            spec = crowd(f"{server.url}/v1", name=name, model="default").replace("#j", f"#{name}")
            args = [str(tmp_path / "p.parquet"), "--with", spec, "-o", str(tmp_path / "r.parquet")]
            args += ["--no-self-test", *more]  # it says 6 to everything
            ran = CliRunner().invoke(reward, args, standalone_mode=False)
            assert ran.exception is None, ran.exception
            return ran

        call("old")
        asked = len(server.requests)
        plan = json.loads(call("new", "--overwrite", "--dry-run", "--json").stdout)
        assert [(row["to_score"], row["requests"]) for row in plan["plan"]] == [(0, 0)]
        (note,) = plan["notes"]
        assert note.startswith(f"'new' takes over {asked} answers of 'old'")
        said = note.replace("`ledger`", "--ledger")  # JSON speaks Python, a terminal the command line
        assert f"note: {said}" in call("new", "--overwrite").stderr
        assert "takes over" not in call("new", "--overwrite").stderr
        assert len(server.requests) == asked
    table = pq.read_table(tmp_path / "r.parquet")
    assert set(table["new"].drop_null().to_pylist()) == {6.0}


STORED = Path(__file__).parent / "stored" / "ledgers-0.1.0"


@pytest.mark.parametrize("name", ["judge", "grader"])
def test_a_ledger_of_0_1_0_pays_for_nothing_again_whatever_the_judge_is_called(tmp_path, name):
    """Nobody listens at the address that the crowd file names: a request would end the run."""
    (tmp_path / "l").write_bytes((STORED / "reward.ledger").read_bytes())
    text = (STORED / "crowd.toml").read_text(encoding="utf-8")
    renamed = text.replace('name = "judge"', f'name = "{name}"\nmodel = "judge"')
    (tmp_path / "crowd.toml").write_text(renamed.replace(":18399/", ":9/"))
    spec, out = f"judge:{tmp_path}/crowd.toml#{name}", str(tmp_path / "r.parquet")
    args = [str(STORED / "pool.jsonl"), "--with", spec, "-o", out, "--ledger", str(tmp_path / "l")]
    planned = CliRunner().invoke(reward, [*args, "--dry-run", "--json"], standalone_mode=False)
    (plan,) = json.loads(planned.stdout)["plan"]
    assert (plan["to_score"], plan["requests"]) == (0, 0)
    ran = CliRunner().invoke(reward, args, standalone_mode=False)
    assert ran.exception is None
    assert ("'grader' takes over" in ran.stderr) == (name == "grader")
    scores = pq.read_table(out)[name].to_pylist()
    assert scores.count(7.0) >= 4


@pytest.mark.extra
def test_a_judge_that_misbehaves(crowd, tmp_path):
    """Through the fault server: refusals and broken answers are asked again, words without a score are missing."""
    pytest.importorskip("openai")
    from fault_server import FaultServer

    rows = {
        "id": ["a", "b"],
        "instruction": ["Say one. fault=429-after=0.05:1+reset:1", "Say two. fault=400"],
    }
    rows |= {"model": ["m", "m"], "response": ["one", "two"]}
    pq.write_table(pa.table(rows), tmp_path / "p.parquet")
    out = str(tmp_path / "r.parquet")
    with FaultServer() as server:
        args = [str(tmp_path / "p.parquet"), "--with", crowd(server.base_url), "-o", out, "--no-self-test"]
        ran = CliRunner().invoke(reward, args, standalone_mode=False)
        assert (ran.exception, ran.return_value) == (None, 3)
        assert server.counts()["requests"] == 4
    reasons = pq.read_table(out)["reason"].to_pylist()
    assert reasons[0].startswith("no score can be read in 'j says ")
    assert reasons[1].startswith("HTTP 400")
