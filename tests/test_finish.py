"""What counts as finished: one table, for collecting, judging and choosing; tokens that were not counted; self-tests."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import COMMAND, manifest, train
from crowdselect import Options, open_pool, select
from crowdselect.ask.ask import run as ask
from crowdselect.ask.budget import Limits
from crowdselect.ask.calls import Reply, ScriptedClient, make_request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.http_client import parse_reply
from crowdselect.ask.lane import Lane
from crowdselect.ask.ledger import Ledger
from crowdselect.engine.here import run_here
from crowdselect.errors import CallError
from crowdselect.evaluate.judging import read_rating
from crowdselect.finish import ENDINGS, ending, ending_sql, no_verdict, spoken
from crowdselect.reward.rubric import read_score
from crowdselect.reward.verdicts import read_label
from judging import Bench
from reward_server import RewardServer

CHAT = "/v1/chat/completions"
STORED = Path(__file__).parent / "stored" / "ledgers-0.1.0"
HALF = "<think>\nThe rubric: Score: 10 would be complete [[9]] [[A>B]], while Score: 2"
KINDS = {
    "finished": (
        *(None, "", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls"),
        *("function_call", "COMPLETE", "STOP"),
    ),
    "cut": ("length", "max_tokens", "MAX_TOKENS", "model_length"),
    "filtered": ("content_filter", "safety", "SAFETY", "RECITATION"),
    "failed": ("error", "abort", "cancelled", "ERROR"),
    "odd": ("repetition", "FINISH_REASON_UNSPECIFIED", "0"),
}
TABLE = [(reason, kind) for kind, reasons in KINDS.items() for reason in reasons]
QUICK = Limits(wait=0.002, attempts=3, patience=0.3)


def completion(text, finish="stop", usage=(5, 3), **choice):
    message = {"role": "assistant", "content": text}
    found = {"choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}]}
    return {**found, "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}}


@pytest.mark.parametrize(("reason", "kind"), TABLE)
def test_the_table_says_the_same_in_python_and_in_sql(reason, kind):
    for text, wanted in (
        ("Hi", kind),
        (" <think>Hm", "cut" if kind in {"finished", "odd"} else kind),
        ("<think>Hm</think> Hi", kind),
        ("The tag <think> opens", kind),
    ):
        assert ending(reason, text) == wanted
        with duckdb.connect() as connection:
            ((found,),) = connection.execute(f"SELECT {ending_sql('$1', '$2')}", [reason, text]).fetchall()
        assert ENDINGS[found] == wanted


@pytest.mark.parametrize(
    ("reason", "status"),
    [("stop", "ok"), ("max_tokens", "length"), ("abort", "failed"), ("safety", "filtered"), ("other", "odd")],
)
def test_a_reply_has_the_status_that_the_table_says(reason, status):
    assert Reply("Half an ans", reason).status == status
    assert Reply(HALF, "stop").status == "length"
    assert Reply(" ", "stop").status == "empty"


# An error inside an answer.


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(429, "refused"), (502, "retry"), ("503", "refused"), (400, "failed"), (401, "stop"), (None, "retry")],
)
def test_an_error_beside_http_200_counts_by_its_own_code(code, verdict):
    error = {"message": "Upstream error", "code": code}
    for body in (completion("The capital of Fr", "error", error=error), {"error": error, "user_id": "u"}):
        with pytest.raises(CallError, match="Upstream error") as caught:
            parse_reply(json.dumps(body).encode())
        assert caught.value.verdict == verdict
        assert caught.value.billed == ("choices" in body)


def test_no_error_is_no_error():
    body = completion("Hi", error=None) | {"error": None}
    assert parse_reply(json.dumps(body).encode()).text == "Hi"


def ask_all(ledger, client, *, limits=QUICK, count=4, **endpoint):
    end = Endpoint("m", model="m", base_url="http://127.0.0.1:9/v1", **endpoint)
    requests = [make_request([{"role": "user", "content": f"q{n}"}]) for n in range(count)]
    ask([Lane(end, client, requests)], ledger, limits)
    rows = ledger.get([request.key(end) for request in requests])
    return [rows.get(request.key(end)) for request in requests]


def test_broken_answers_fail_and_odd_ones_are_kept_and_asked_again_on_request(tmp_path):
    said = {"q0": "stop", "q1": "error", "q2": "repetition", "q3": "length"}
    client = ScriptedClient(lambda request: Reply("Text", said[request.messages()[0]["content"]]))
    with Ledger(tmp_path / "l") as ledger:
        rows = ask_all(ledger, client)
        assert [row.status for row in rows] == ["ok", "failed", "odd", "length"]
        assert rows[1].error == "broken off by the server (finish_reason error)"
        ask_all(ledger, client)
        assert len(client.asked) == 4
        ask_all(ledger, client, limits=Limits(wait=0.002, retry_failed=True))
        assert sorted(one.messages()[0]["content"] for one in client.asked[4:]) == ["q1", "q2"]


# A ledger of an earlier version.


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A copy of what 0.1.0 wrote, and a server that counts what it is asked; it answers all alike."""
    pytest.importorskip("openai")
    folder = shutil.copytree(STORED, tmp_path / "stored")
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "rule", raising=False)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    with RewardServer(CHAT, answer=lambda _: completion("Score: 5")) as server:
        crowd = folder / "crowd.toml"
        crowd.write_text(crowd.read_text().replace("http://127.0.0.1:18399", server.url))
        yield server


COLLECT = ("collect", "instructions.jsonl", "--crowd", "crowd.toml", "-o", "out.parquet", "--ledger")
REWARD = ("reward", "pool.jsonl", "--with", "python:rule:length", "--with", "judge:crowd.toml#judge")
REWARD += ("-o", "r.parquet", "--ledger", "reward.ledger", "--overwrite")


@pytest.mark.extra
def test_a_collect_ledger_of_0_1_0_pays_for_nothing_again(stored, run):
    ran = run(*COLLECT, "collect.ledger")
    assert (ran.code, stored.requests) == (3, [])
    rows = [(row["model"], row["id"]) for row in pq.ParquetFile("out.parquet").read().to_pylist()]
    assert rows == [
        ("m-1b", "q0"),
        ("m-7b", "q0"),
        ("m-1b", "q1"),
        ("m-1b", "q2"),
        ("m-1b", "q3"),
        ("m-7b", "q3"),
    ]
    facts = json.loads(Path("out.parquet.manifest.json").read_text())["models"]
    assert facts["m-1b"]["statuses"] == {"length": 2, "ok": 2}
    assert facts["m-7b"]["statuses"] == {"failed": 2, "odd": 1, "ok": 1}
    assert facts["m-7b"]["odd"] == {"repetition": 1}
    assert "m-7b: 1 answer ended for an unknown reason (repetition)" in ran.err
    assert run(*COLLECT, "collect.ledger", "--retry-failed").code == 0
    asked = [(body["model"], body["messages"][-1]["content"][:5]) for body in stored.posted(CHAT)]
    assert sorted(asked) == [("m-7b", "Say 1"), ("m-7b", "Say 2"), ("m-7b", "Say 3")]


@pytest.mark.extra
def test_a_reward_ledger_of_0_1_0_pays_for_nothing_again_and_no_cut_verdict_counts(stored, run):
    assert run(*REWARD).code == 3
    assert stored.requests == []
    rows = {(row["id"], row["model"]): row for row in pq.ParquetFile("r.parquet").read().to_pylist()}
    assert all(row["length"] is not None for row in rows.values())
    missing = {place: row["reason"] for place, row in rows.items() if row["judge"] is None}
    assert sorted(missing) == [("q0", "m-1b"), ("q0", "m-7b"), ("q1", "m-1b")]
    assert "an unfinished <think>" in missing["q0", "m-1b"]
    assert "broken off" in missing["q0", "m-7b"]
    assert "content filter" in missing["q1", "m-1b"]
    run(*REWARD, "--retry-failed")
    assert len(stored.requests) == 2  # the filtered and the broken one


# Verdicts.


def test_a_reply_that_is_not_whole_is_no_verdict():
    assert "unfinished <think>" in no_verdict("stop", HALF)
    assert "cut off (length)" in no_verdict("length", "Score: 7, because")
    assert "content filter" in no_verdict("content_filter", "Score: 7")
    assert "broken off" in no_verdict("abort", "Score: 7")
    assert no_verdict("stop", "Score: 7") is None
    assert no_verdict("odd one", "Score: 7") is None


def test_a_verdict_stands_after_the_thinking():
    assert read_score(HALF).score is None
    assert read_rating(HALF).is_missing
    assert read_label(HALF).value is None
    assert read_score("<think>Score: 3?</think>\n8").score == 8
    assert read_score("<think>Score: 3?</think>\nI cannot say.").score is None
    assert read_score("Hm, Score: 3.\n</think>\nScore: 8").score == 8
    assert read_rating("<think>[[3]]</think> Rating: [[9]]").rating == 9
    assert read_label("<think>[[B>A]] but</think> [[A>B]]").value == "A>B"
    assert spoken("It quotes <think> and </think> here: 7") == "It quotes <think> and </think> here: 7"


# Tokens.


@pytest.mark.parametrize("usage", [(5, 0), (0, 3), (0, 0)])
def test_no_tokens_beside_a_text_is_no_count_and_the_cap_bites(usage, tmp_path):
    def reply(_request):
        return Reply("A long answer. " * 100, "stop", None, *usage)

    client = ScriptedClient(reply)
    priced = {"price_in": 1.0, "price_out": 1e6, "max_tokens": 10}  # an answer costs 10 at most
    with Ledger(tmp_path / "l") as ledger:
        limits = Limits(wait=0.002, max_cost=25.0)
        rows = ask_all(ledger, client, limits=limits, count=9, max_concurrency=1, **priced)
        spent = ledger.spent()["m"]
    assert len(client.asked) == 2
    assert spent.lost > 20
    assert spent.unknown == 2
    assert rows[0].cost is None


def test_an_empty_answer_may_have_no_tokens():
    assert Reply("", "stop", None, 5, 0).completion_tokens == 0


# Choosing.


def pool_of(folder, reasons, *, rows=40, column=True, files=1):
    """A pool whose third model is best everywhere; `reasons` gives its finish reason and text by row."""
    rng = np.random.default_rng(3)
    table = {name: [] for name in ("id", "instruction", "model", "response", "reward", "finish_reason")}
    for row in range(rows):
        for place, model in enumerate(("Qwen2.5-1.5B", "Qwen2.5-3B", "Qwen2.5-7B")):
            reason, text = reasons(row) if place == 2 else ("stop", None)
            values = (f"r{row:03d}", f"Say {row} things.", model, text or f"Answer {row} of {model}")
            values += (round(float(rng.normal(place, 0.1)), 3), reason)
            for name, value in zip(table, values, strict=True):
                table[name].append(value)
    made = pa.table(table if column else {k: v for k, v in table.items() if k != "finish_reason"})
    folder.mkdir()
    for number in range(files):
        part = made.filter(pa.array([int(id_[1:]) % files == number for id_ in table["id"]]))
        pq.write_table(part, folder / f"part-{number}.parquet")
    return folder


def mixed(row):
    kinds = [("length", None), ("content_filter", None), ("abort", None), ("stop", HALF), ("other", None)]
    return kinds[row % 10] if row % 10 < 5 else ("stop", None)


OPTIONS = {"budget": 40, "clusters": 0, "weights": {"difficulty": 1.0, "separability": 1.0}}


def test_half_answers_are_no_targets_but_their_rewards_count(tmp_path):
    with open_pool(pool_of(tmp_path / "p", mixed)) as pool:
        made = select(pool, Options(**OPTIONS))
        cut_too = select(pool, Options(**OPTIONS, allow_cut=True))
    with open_pool(pool_of(tmp_path / "plain", mixed, column=False)) as pool:
        plain = select(pool, Options(**OPTIONS))
    best = [row["model"] for row in made.table.to_pylist()]
    assert [model == "Qwen2.5-7B" for model in best] == [row % 10 > 3 for row in range(40)]
    taken = [row["model"] == "Qwen2.5-7B" for row in cut_too.table.to_pylist()]
    assert taken == [row % 10 not in {1, 2} for row in range(40)]
    whole = [row["model"] == "Qwen2.5-7B" for row in plain.table.to_pylist()]
    assert whole == [row % 10 != 3 for row in range(40)]  # unfinished reasoning needs no column to be seen
    for metric in ("difficulty", "separability", "score"):
        assert made.table[metric].equals(plain.table[metric])
    said = "\n".join(made.warnings)
    assert "8 answers were cut (finish_reason, or a <think> without an end)" in said
    assert "4 answers were withheld" in said
    assert "4 answers were broken off" in said
    assert "4 answers have an unknown finish_reason" in said
    assert "have no text" not in said
    said = [line for line in plain.warnings if "finish_reason" in line]
    assert len(said) == 1
    assert said[0].startswith("4 answers were cut")  # those whose reasoning has no end


def test_a_row_with_no_whole_answer_has_a_reason_of_its_own(tmp_path):
    folder = pool_of(tmp_path / "p", lambda row: ("length" if row < 5 else "stop", None))
    with open_pool(folder) as pool:
        made = select(pool, Options(**(OPTIONS | {"budget": 30}), answer="model:Qwen2.5-7B"))
    assert made.table["reason"].to_pylist()[:6] == ["unfinished"] * 5 + ["selected"]


def test_pairs_hold_no_half_answer(tmp_path):
    worst = pool_of(tmp_path / "p", lambda row: ("length" if row % 2 else "stop", None))
    with open_pool(worst) as pool:
        rows = select(pool, Options(**OPTIONS, pairs="best-worst")).table.to_pylist()
    for number, row in enumerate(rows):
        assert ("Qwen2.5-7B" in {row["model"], row["rejected_model"]}) == (number % 2 == 0)


@pytest.mark.parametrize(
    "more", [{}, {"allow_cut": True}, {"pairs": "best-worst"}, {"answer": "model:Qwen2.5-7B"}]
)
def test_file_by_file_is_the_same(more, tmp_path):
    options = Options(**(OPTIONS | {"budget": 15}), **more)
    one, several = pool_of(tmp_path / "one", mixed), pool_of(tmp_path / "several", mixed, files=3)
    with open_pool(one) as whole, open_pool(several) as parts:
        here, there = select(whole, options), select(parts, options, run=run_here)
    assert there.table.equals(here.table)
    assert there.warnings == here.warnings


def test_the_command_and_its_manifest(tmp_path, run):
    pool = pool_of(tmp_path / "p", mixed)
    arguments = ("select", pool, "--budget", 40, "--clusters", 0, "-o")
    assert "8 answers were cut" in run(*arguments, tmp_path / "a").err
    assert run(*arguments, tmp_path / "b", "--allow-cut").code == 0
    assert [manifest(tmp_path / name)["options"]["allow_cut"] for name in "ab"] == [False, True]
    assert HALF not in json.dumps(train(tmp_path / "a"))


# The self-test of a scorer.

SLOW = """
import time
def slow(conversations):
    if len(conversations) > 4 or not any("capital of France" in one[0]["content"] for one in conversations):
        time.sleep(30)
    return [1.0 for _ in conversations]
def fine(conversations):
    return [0.0 if "bananas" in one[-1]["content"] or "fish" in one[-1]["content"] else 1.0 for one in conversations]
"""


def test_a_failed_self_test_is_said_in_a_pipe_before_anything_is_scored(tmp_path):
    (tmp_path / "slow_scorer.py").write_text(textwrap.dedent(SLOW))
    pool = pool_of(tmp_path / "p", lambda _row: ("stop", None), rows=3)
    scorers = [f"--with=python:slow_scorer:{name}" for name in ("fine", "slow")]
    process = subprocess.Popen(
        [*COMMAND, "reward", str(pool), *scorers, "-o", "r.parquet"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
        text=True,
    )
    try:
        first = process.stderr.readline()
        assert first.startswith("warning: SELF-TEST: slow gives 1 to both answers")
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.extra
def test_a_judge_that_fails_the_self_test_is_asked_no_further(tmp_path, monkeypatch, run):
    pytest.importorskip("openai")
    monkeypatch.chdir(tmp_path)
    pool = pool_of(tmp_path / "p", lambda _row: ("stop", None), rows=3)
    with RewardServer(CHAT, answer=lambda _: completion(HALF, "length")) as server:
        (tmp_path / "crowd.toml").write_text(f'[[judge]]\nname = "j"\nbase_url = "{server.url}/v1"\n')
        arguments = ("reward", pool, "--with", "judge:crowd.toml#j", "-o", "r.parquet")
        ran = run(*arguments)
        assert (ran.code, len(server.requests)) == (2, 4)
        assert ran.err.count("SELF-TEST: j gives no score to") == 2
        assert "j: the judge failed the self-test" in ran.err
        assert not Path("r.parquet").exists()
        assert run(*arguments, "--no-self-test").code == 3
        assert len(server.requests) == 4 + 9
    reasons = pq.ParquetFile("r.parquet").read()["reason"].to_pylist()
    assert set(reasons) == {"the judge's reply is no verdict: an unfinished <think>"}


@pytest.mark.extra
def test_an_evaluation_judges_no_broken_answer_and_reads_no_cut_verdict(tmp_path, run):
    pytest.importorskip("openai")

    def answer(body):
        last = body["messages"][-1]["content"]
        if body["model"] == "student":
            return completion("Half an ans", "error" if last == "First 0?" else "stop")
        return completion(HALF, "stop") if "First 1?" in last else completion("<think>[[2]]</think> [[7]]")

    with RewardServer(CHAT, answer=answer) as server:
        bench = Bench(tmp_path, server.url, questions=3)
        ran = run(*bench.mt_bench())
        prompts = [
            body["messages"][-1]["content"] for body in server.posted(CHAT) if body["model"] == "judge"
        ]
    assert ran.code == 3
    assert not [prompt for prompt in prompts if "First 0?" in prompt]
    result = (tmp_path / "out" / "result.json").read_text()
    assert "broken off by the server (finish_reason error)" in result
    assert "an unfinished <think>" in result
