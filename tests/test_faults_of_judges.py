"""The faults of real servers, put into judges' replies: what was whole scores as in an undisturbed run, the rest is missing."""

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial

import pyarrow.parquet as pq
import pytest

from crowdselect.ask.budget import Limits
from crowdselect.evaluate import job as evaluating
from crowdselect.reward import judge as judging_rewards
from judging import CHAT, Bench, answered, between, judged, write_jsonl
from reward_server import RewardServer

pytest.importorskip("openai")
pytestmark = pytest.mark.extra


def completion(text: object, finish: str = "stop", *, message: dict | None = None, **choice: object) -> dict:
    message = {"role": "assistant", "content": text, **(message or {})}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}]}


FAULTS: dict[str, Callable[[str], dict]] = {
    "finish_error": lambda _: completion("Score: 9", "error", error={"code": 502, "message": "upstream"}),
    "error200": lambda _: {"error": {"message": "Provider returned error", "code": 502}},
    "abort": lambda _: completion("Rating: [[9]] Score: 9 [[A>B]]", "abort"),
    "filtered": lambda _: completion("Score: 9 [[9]] [[A>B]]", "content_filter"),
    "think_cut": lambda _: completion("<think>Maybe Score: 9, [[9]] or [[A>B]], because", "length"),
    "think_open": lambda _: completion("<think>Score: 9 [[9]] [[A>B]]"),
    "cut": lambda _: completion("Score: 9 [[9]] [[A>B]] since", "length"),
    "think_only": lambda _: completion("", message={"reasoning_content": "Score: 9 [[9]] [[A>B]]"}),
    "range": lambda _: completion("Score: 8-9, [[8-9]], [[A>B or B>A]]"),
    "word": lambda _: completion("Score: nine"),
    "tool": lambda _: completion(None, "tool_calls"),
    "html": lambda _: {"not": "a completion"},
}
WHOLE: dict[str, Callable[[str], dict]] = {
    "plain": completion,
    "think": lambda text: completion(f"<think>Score: 1? [[1]] [[B>>A]]</think>\n{text}"),
    "no_open": lambda text: completion(f"Score: 1? [[1]] [[B>>A]]\n</think>\n{text}"),
    "parts": lambda text: completion([{"type": "text", "text": text}]),
    "odd": lambda text: completion(text, "repetition"),
}
"""Odd replies that are whole all the same."""


def drawn(prompt: str, kinds: list[str]) -> str:
    return kinds[int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % len(kinds)]


def serve(rule: Callable[[str], str], *, disturbed: bool) -> RewardServer:
    """Of a judge's replies about a third are faults; the same prompt always meets the same one."""
    kinds = [*FAULTS, *(name for name in WHOLE for _ in range(5))]

    def answer(body: dict) -> dict:
        prompt = body["messages"][-1]["content"]
        if body["model"] != "judge":
            return completion(answered(body["model"], body["messages"]))
        kind = drawn(prompt, kinds)
        if not disturbed:
            return completion(rule(prompt))
        return FAULTS[kind](prompt) if kind in FAULTS else WHOLE[kind](rule(prompt))

    return RewardServer(CHAT, answer=answer)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging_rewards, "Limits", partial(Limits, wait=0.002, attempts=3))
    real = evaluating.AskOptions
    brief = Limits(wait=0.002, attempts=3)
    monkeypatch.setattr(evaluating, "AskOptions", lambda **given: real(**{**given, "limits": brief}))


def test_rewards_of_a_disturbed_judge(run, tmp_path):
    rows = [
        {
            "id": f"q{n:03}",
            "instruction": f"Question {n}?",
            "model": "m",
            "response": "word " * (n % 37 + 1) + str(n),
        }
        for n in range(150)
    ]
    pool = write_jsonl(tmp_path / "p.jsonl", rows)

    def rule(prompt: str) -> str:
        return f"Reasons.\nScore: {len(between(prompt, 'answer')) % 11}"

    found, codes = {}, {}
    for name, disturbed in (("calm", False), ("rough", True)):
        with serve(rule, disturbed=disturbed) as server:
            crowd = tmp_path / f"{name}.toml"
            crowd.write_text(
                f'[[judge]]\nname = "judge"\nbase_url = "{server.url}/v1"\nmax_concurrency = 4\n'
            )
            out = tmp_path / f"{name}.parquet"
            ran = run(
                "reward", pool, "--with", f"judge:{crowd}#judge", "-o", out, "--no-self-test", "--no-logprobs"
            )
            codes[name] = ran.code
        found[name] = {row["id"]: (row["judge"], row["reason"]) for row in pq.read_table(out).to_pylist()}
    assert not [reason for _, reason in found["calm"].values() if reason]
    assert codes == {"calm": 0, "rough": 3}
    missing = {id_ for id_, (score, _) in found["rough"].items() if score is None}
    assert 30 < len(missing) < 70
    for id_, (score, reason) in found["rough"].items():
        if id_ in missing:
            assert reason
        else:
            assert score == found["calm"][id_][0]
    reasons = " ".join(reason for id_ in missing for reason in [found["rough"][id_][1]])
    for said in (
        "upstream",
        "abort",
        "content filter",
        "unfinished <think>",
        "cut off",
        "empty",
        "a range",
        "no number",
    ):
        assert said in reasons, said


@pytest.mark.parametrize("benchmark", ["mt_bench", "arena_hard"])
def test_evaluations_of_a_disturbed_judge(benchmark, run, tmp_path):
    results = {}
    for name, disturbed in (("calm", False), ("rough", True)):
        (tmp_path / name).mkdir()
        with serve(judged, disturbed=disturbed) as server:
            bench = Bench(tmp_path / name, server.url, questions=60)
            command = bench.mt_bench() if benchmark == "mt_bench" else bench.arena_hard()
            ran = run(*command, "--judge-retries", 0)
        assert ran.code == (3 if disturbed else 0), ran
        results[name] = json.loads((tmp_path / name / "out" / "result.json").read_text())
    calm, rough = results["calm"], results["rough"]
    assert 10 < rough["verdicts"]["missing"] < 90
    sums = weights = 0.0
    for one, other in zip(calm["questions"], rough["questions"], strict=True):
        for at, weight in enumerate(other["weights"]):
            if weight:
                assert (other["sums"][at], weight) == (one["sums"][at], one["weights"][at])
                sums, weights = sums + one["sums"][at], weights + one["weights"][at]
    scale = 1 if benchmark == "mt_bench" else 100
    assert rough["score"] == pytest.approx(scale * sums / weights)


# Judges whose replies are cut.


def cut_judge(server: RewardServer, folder, **settings: object):
    crowd = folder / "crowd.toml"
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    crowd.write_text(f'[[judge]]\nname = "judge"\nbase_url = "{server.url}/v1"\n{lines}')
    return crowd


def always_cut(_: dict) -> dict:
    return completion("The answer is", "length")


def test_a_judge_whose_replies_are_cut_ends_the_run(run, tmp_path):
    rows = [{"id": f"q{n}", "instruction": "Q", "model": "m", "response": f"A{n}"} for n in range(60)]
    pool = write_jsonl(tmp_path / "p.jsonl", rows)
    with RewardServer(CHAT, answer=always_cut) as server:
        crowd = cut_judge(server, tmp_path, max_tokens=16, max_concurrency=2)
        given = (
            "reward",
            pool,
            "--with",
            f"judge:{crowd}#judge",
            "--no-self-test",
            "-o",
            tmp_path / "r.parquet",
        )
        ran = run(*given)
        assert ran.code == 2
        # Those that were under way when the tenth came are counted too.
        assert re.search(r"(\d\d) of its first \1 replies were cut \(max_tokens = 16\)", ran.err)
        assert "write `max_tokens = 2048`" in ran.err
        assert "--keep-going" in ran.err
        asked = len(server.requests)
        assert 10 <= asked <= 12  # two are in flight
        assert run(*given).code == 2
        assert len(server.requests) == asked  # it is known at once
        assert run(*given, "--keep-going").code == 3
        assert len(server.requests) == 60
        assert run(*given, "--keep-going").code == 3
        crowd = cut_judge(server, tmp_path, max_tokens=64, max_concurrency=2)
        assert run(*given, "--overwrite").code == 2  # other settings, other replies
        assert len(server.requests) > 60


def test_a_cut_judge_ends_an_evaluation(run, tmp_path):
    def answer(body: dict) -> dict:
        return (
            always_cut(body)
            if body["model"] == "judge"
            else completion(answered(body["model"], body["messages"]))
        )

    with RewardServer(CHAT, answer=answer) as server:
        bench = Bench(tmp_path, server.url, questions=20)
        ran = run(*bench.mt_bench())
        assert ran.code == 2
        assert "were cut (max_tokens = 2048)" in ran.err
        assert "write `max_tokens = 8192`" in ran.err
        assert not (tmp_path / "out" / "result.json").exists()
        assert len(server.requests_of("judge")) <= 14
        ran = run(*bench.mt_bench(), "--keep-going", "--judge-retries", 0)
        assert ran.code == 3
        assert len(server.requests_of("judge")) == 40


def test_a_few_cut_replies_end_nothing(run, tmp_path):
    rows = [{"id": f"q{n}", "instruction": "Q", "model": "m", "response": f"A{n}"} for n in range(60)]
    pool = write_jsonl(tmp_path / "p.jsonl", rows)

    def answer(body: dict) -> dict:
        number = int(between(body["messages"][-1]["content"], "answer")[1:])
        return always_cut(body) if number % 3 == 0 else completion("Score: 5")

    with RewardServer(CHAT, answer=answer) as server:
        crowd = cut_judge(server, tmp_path, max_concurrency=1)
        out = tmp_path / "r.parquet"
        ran = run("reward", pool, "--with", f"judge:{crowd}#judge", "--no-self-test", "-o", out)
    assert ran.code == 3
    assert pq.read_table(out)["judge"].null_count == 20


def test_one_score_for_fifty_answers_of_a_judge_is_a_warning(run, tmp_path):
    rows = [{"id": f"q{n}", "instruction": "Q", "model": "m", "response": f"A{n}"} for n in range(60)]
    pool = write_jsonl(tmp_path / "p.jsonl", rows)
    with RewardServer(CHAT, answer=lambda _: completion("Score: 7")) as server:
        crowd = cut_judge(server, tmp_path)
        given = (
            "reward",
            pool,
            "--with",
            f"judge:{crowd}#judge",
            "--no-self-test",
            "-o",
            tmp_path / "r.parquet",
        )
        ran = run(*given)
    assert ran.code == 0
    assert "judge: the first 50 different answers all have the score 7" in ran.err


def test_functions_may_give_one_score(run, tmp_path, monkeypatch):
    (tmp_path / "same_rule.py").write_text(
        "def same(conversations):\n    return [1.0] * len(conversations)\n"
    )
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"q{n}", "instruction": "Q", "model": "m", "response": f"A{n}"} for n in range(60)]
    pool = write_jsonl(tmp_path / "p.jsonl", rows)
    ran = run(
        "reward", pool, "--with", "python:same_rule:same", "--no-self-test", "-o", tmp_path / "r.parquet"
    )
    assert ran.code == 0
    assert "different answers" not in ran.err
