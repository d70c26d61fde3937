"""Every path of the chat server of CROWDSELECT_CASES: the ledger's row, the pool's or the reward's row, the exit code."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cases_server import Server
from commands import Ran
from crowdselect.ask.budget import Limits
from crowdselect.reward import judge

pytestmark = pytest.mark.extra

COLLECTED = {
    # quirk: (status in the ledger, the pool's response (None = no row), exit code)
    "ok": ("ok", "Fine answer.", 0),
    "usage_null": ("ok", "Fine answer.", 0),
    "list": ("ok", "Fine answer.", 0),
    "gpt5": ("ok", "Score: 7", 0),
    "repetition": ("odd", "a a a a a a a a", 0),
    "tool": ("empty", "", 0),
    "think_only": ("empty", "", 0),
    "think_cut": (
        "length",
        "<think>\nThe rubric: Score: 10 would be for a complete answer, while Score: 2",
        0,
    ),
    "finish_error": ("gave_up", None, 3),
    "finish_error_empty": ("gave_up", None, 3),
    "error200": ("gave_up", None, 3),
    "sse": ("gave_up", None, 3),
    "html": ("gave_up", None, 3),
    "abort": ("failed", None, 3),
    "no_such_quirk": ("failed", None, 3),
}
JUDGED = {
    # quirk: a score, or what the reason says
    "gpt5": 7.0,
    "think_full": 8.0,
    "think_noclose": 8.0,
    "fullwidth": 8.0,
    "bracket": 8.0,
    "json": 8.0,
    "outof": 8.0,
    "dash": 8.0,
    "boxed": 8.0,
    "mt_think": 9.0,
    "think_cut": "an unfinished <think>",
    "mt_cut": "an unfinished <think>",
    "think_only": "the judge's reply is empty",
    "tool": "the judge's reply is empty",
    "ok": "no score can be read in 'Fine answer.'",
    "list": "no score can be read in 'Fine answer.'",
    "ah_think": "no number: 'My final verdict is: [[A>B]]'",
    "range": "a range or several numbers: 'Score: 7-8'",
    "word": "no number: 'Score: eight'",
    "echo": "an echo of the scale",
    "repetition": "no score can be read in 'a a a a a a a a'",
    "finish_error": "Upstream error from provider",
    "finish_error_empty": "Upstream error",
    "abort": "broken off by the server (finish_reason abort)",
    "html": "the answer is not JSON",
    "sse": "the answer is not JSON",
    "error200": "Provider returned error",
}
"""The paths of what a judge says."""
STATUSES = {"gpt5": "ok", "think_cut": "length", "mt_cut": "length", "think_only": "empty", "tool": "empty"}
STATUSES |= {
    "repetition": "odd",
    "abort": "failed",
    "finish_error": "gave_up",
    "finish_error_empty": "gave_up",
}
STATUSES |= {"error200": "gave_up", "html": "gave_up", "sse": "gave_up"}


def rows_of(ledger: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(ledger)) as opened:
        opened.row_factory = sqlite3.Row
        return [dict(row) for row in opened.execute("SELECT * FROM answers ORDER BY number")]


def settings_of(ledger: Path, row: dict[str, Any]) -> dict[str, Any]:
    with closing(sqlite3.connect(ledger)) as opened:
        sql = "SELECT json FROM settings WHERE digest = ?"
        return json.loads(opened.execute(sql, (row["settings"],)).fetchone()[0])


def test_every_path_is_tested(cases: Path) -> None:
    import re

    text = (cases / "chat_server.py").read_text()
    paths = set(re.findall(r'if q=="(\w+)"', text))
    assert len(paths) >= 28
    assert paths <= COLLECTED.keys() | JUDGED.keys()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy server is asked again at once."""
    monkeypatch.setattr(judge, "Limits", partial(Limits, wait=0.002, attempts=2))


@pytest.mark.parametrize("quirk", COLLECTED)
def test_collect(quirk: str, run: Callable[..., Ran], server: Server, tmp_path: Path) -> None:
    status, response, code = COLLECTED[quirk]
    (tmp_path / "ins.jsonl").write_text('{"id": "q0", "instruction": "Say something about rain"}\n')
    (tmp_path / "crowd.toml").write_text(server.table("model", "m-7b", quirk, max_tokens=64))
    brief = ("--attempts", 2, "--retry-wait", 0.01)
    ran = run(
        "collect",
        tmp_path / "ins.jsonl",
        "--crowd",
        tmp_path / "crowd.toml",
        "-o",
        tmp_path / "p.parquet",
        *brief,
    )
    assert ran.code == code, ran
    [row] = rows_of(next(tmp_path.glob("*.ledger*")))
    assert row["status"] == status
    if response is None:
        assert not (tmp_path / "p.parquet").exists()
        assert row["error"]
    else:
        assert pq.read_table(tmp_path / "p.parquet")["response"].to_pylist() == [response]
        assert row["text"] == response


@pytest.mark.parametrize("quirk", JUDGED)
def test_a_judge_of_reward(quirk: str, run: Callable[..., Ran], server: Server, tmp_path: Path) -> None:
    row = {"id": "q0", "instruction": "Why does it rain?", "model": "m", "response": "Clouds."}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    crowd = tmp_path / "crowd.toml"
    crowd.write_text(server.table("judge", "j", quirk, max_tokens=512))
    out = tmp_path / "r.parquet"
    ran = run("reward", tmp_path / "p.jsonl", "--with", f"judge:{crowd}#j", "-o", out, "--no-self-test")
    wanted = JUDGED[quirk]
    [made] = pq.read_table(out).to_pylist()
    [asked] = [row for row in rows_of(Path(f"{out}.ledger")) if row["model"] == "j" and row["latency"]] or [
        None
    ]
    if isinstance(wanted, float):
        assert (ran.code, made["j"], made["reason"]) == (0, wanted, None)
    else:
        assert (ran.code, made["j"]) == (3, None)
        assert wanted in made["reason"]
    if asked is not None:
        assert asked["status"] == STATUSES.get(quirk, "ok")


@pytest.mark.parametrize(
    ("quirk", "rating"), [("mt_think", 9.0), ("mt_cut", None), ("bracket", 8.0), ("gpt5", 7.0)]
)
def test_a_judge_of_mt_bench(
    quirk: str, rating: float | None, run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "q.jsonl").write_text('{"question_id": 1, "category": "stem", "turns": ["Why?"]}')
    answer = {"question_id": 1, "model_id": "m", "choices": [{"turns": ["Because."]}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(answer))
    crowd = tmp_path / "crowd.toml"
    crowd.write_text(server.table("judge", "j", quirk))
    ran = run(
        *("evaluate", "mt-bench", "--answers", tmp_path / "a.jsonl", "--judge", f"{crowd}#j"),
        *("--questions", tmp_path / "q.jsonl", "-o", tmp_path / "out"),
    )
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (ran.code, found["score"]) == ((3, None) if rating is None else (0, rating))
    rows = rows_of(tmp_path / "out" / "ledger.sqlite")
    assert len(rows) == (3 if rating is None else 1)  # a cut verdict is asked for again
    assert {row["status"] for row in rows} == {"length" if rating is None else "ok"}


# Servers that refuse a parameter.


def test_a_refused_max_tokens_is_said_once_and_part_of_the_key(
    run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    rows = [{"id": f"q{n}", "instruction": f"Say {n} things"} for n in range(12)]
    ins = tmp_path / "ins.jsonl"
    ins.write_text("".join(json.dumps(row) + "\n" for row in rows[:9]))
    crowd = tmp_path / "crowd.toml"
    crowd.write_text(server.table("model", "m-7b", "gpt5", max_tokens=64))
    command = ("collect", ins, "--crowd", crowd, "-o", tmp_path / "p.parquet")
    ran = run(*command)
    assert ran.code == 0, ran
    line = "m-7b: the server refuses 'max_tokens'; 'max_completion_tokens' is sent instead"
    assert ran.err.count(line) == 1
    ledger = next(tmp_path.glob("*.ledger*"))
    kept = rows_of(ledger)
    assert [row["status"] for row in kept] == ["ok"] * 9
    assert settings_of(ledger, kept[0])["max_tokens"] is None
    assert settings_of(ledger, kept[0])["extra_body"] == {"max_completion_tokens": 64}
    # Known from then on: neither asked nor said again, and what is answered is not sent again.
    ins.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = len(server.asked())
    again = run(*command)
    assert (again.code, line in again.err) == (0, False)
    assert ["max_completion_tokens" in body for body in server.asked()[before:]] == [True] * 3
    # One who writes it himself pays for nothing again.
    crowd.write_text(server.table("model", "m-7b", "gpt5", extra_body={"max_completion_tokens": 64}))
    before = len(server.asked())
    assert run(*command).code == 0
    assert len(server.asked()) == before


@pytest.mark.parametrize(
    ("role", "settings", "line"),
    [
        ("model", {"temperature": 0.5}, 'write `temperature = "default"` in its table of the crowd file'),
        ("model", {"extra_body": {"logprobs": True}}, "leave 'logprobs' out of its extra_body"),
        ("judge", {"temperature": 0.5}, 'write `temperature = "default"` in its table of the crowd file'),
        ("judge", {"logprobs": True}, "write `logprobs = false` in its table of the crowd file"),
    ],
)
def test_what_the_user_wrote_is_an_error_with_the_line_to_write(  # noqa: PLR0917  (fixtures)
    role: str, settings: dict[str, Any], line: str, run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    crowd = tmp_path / "crowd.toml"
    pool = tmp_path / "p.jsonl"
    pool.write_text('{"id": "q0", "instruction": "Hi", "model": "m", "response": "Ho"}')
    (tmp_path / "ins.jsonl").write_text('{"id": "q0", "instruction": "Hi"}')
    commands = {
        "model": ("collect", tmp_path / "ins.jsonl", "--crowd", crowd, "-o", tmp_path / "out.parquet"),
        "judge": (
            "reward",
            pool,
            "--with",
            f"judge:{crowd}#j",
            "-o",
            tmp_path / "out.parquet",
            "--no-self-test",
        ),
    }
    crowd.write_text(server.table(role, "j", "gpt5", **settings))
    ran = run(*commands[role])
    assert ran.code == {"model": 3, "judge": 2}[role]
    assert line in ran.err
    mended = {"temperature": {"temperature": "default"}, "logprobs": {"logprobs": False}, "extra_body": {}}
    crowd.write_text(server.table(role, "j", "gpt5", **mended[next(iter(settings))]))
    assert run(*commands[role]).code == 0


def test_an_evaluated_model_that_refuses_the_temperature(
    run: Callable[..., Ran], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "q.jsonl").write_text('{"question_id": 1, "category": "writing", "turns": ["Why?", "And?"]}')
    crowd = tmp_path / "crowd.toml"
    graders = server.table("judge", "j", "bracket")
    command = (
        *("evaluate", "mt-bench", "--model", f"{crowd}#m", "--judge", f"{crowd}#j"),
        *("--questions", tmp_path / "q.jsonl", "-o", tmp_path / "out"),
    )
    crowd.write_text(server.table("model", "m", "gpt5") + graders)
    ran = run(*command)
    assert ran.code == 3
    assert 'write `temperature = "default"`' in ran.err
    crowd.write_text(server.table("model", "m", "gpt5", temperature="default") + graders)
    ran = run(*command)
    assert ran.code == 0, ran
    sent = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]["model"]
    assert [(one["temperature"], one["extra_body"]) for one in sent] == [
        (None, {"max_completion_tokens": 1024})
    ]
