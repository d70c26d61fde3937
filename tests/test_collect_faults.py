"""`crowdselect collect` against a real server that does all a network can do: one row per request, no hang, no leak."""

import pytest

from collecting import ANSWERED, BRIEF, FAST, Job, Result
from fault_server import FaultServer
from faults import HUGE, answer

pytest.importorskip("openai")
pytestmark = [pytest.mark.extra, pytest.mark.usefixtures("starter")]

KEY = "sk-test-5dfe0c9a7b314e86-ZyXw"
# After `:2` the server answers: these must end in the very answer that an unbroken run gets.
PASSING = [
    *(
        "429",
        "429-after=0.2",
        "429-date=1",
        "429-odd",
        "503-after=0.2",
        "408",
        "409",
        "500",
        "502",
        "503",
        "504",
        "529",
    ),
    *(
        "reset",
        "reset-early",
        "close",
        "garbage",
        "truncated",
        "no-body",
        "shape",
        "shape-list",
        "shape-null",
    ),
    *(
        "shape-text",
        "shape-message",
        "shape-content",
        "shape-number",
        "error-200",
        "html",
        "html-500",
        "utf8",
    ),
    *("empty-choices", "gzip-broken", "late=3", "stall", "silent", "drip", "echo-500"),
]
# Fault to (status in the ledger, requests the server gets, words of the recorded error).
FINAL = {
    "400": ("failed", 1, "HTTP 400: fault 400 asked for"),
    "413": ("failed", 1, "HTTP 413"),
    "422": ("failed", 1, "HTTP 422"),
    "401": ("failed", 1, "HTTP 401"),
    "403": ("failed", 1, "HTTP 403"),
    "404": ("failed", 1, "HTTP 404"),
    "redirect": ("failed", 1, "redirects"),
    "gzip-bomb": ("failed", 1, "longer than"),
    "filter": ("filtered", 1, "content filter"),
    "filter-400": ("filtered", 1, "filtered"),
}
# Fault to (status, text or None for the usual answer, finish reason).
KEPT = {
    "ok": ("ok", None, "stop"),
    "gzip": ("ok", None, "stop"),
    "close-after": ("ok", None, "stop"),
    "late=0.4": ("ok", None, "stop"),
    "no-usage": ("ok", None, "stop"),
    "bad-usage": ("ok", None, "stop"),
    "no-finish": ("ok", None, None),
    "reasoning": ("ok", None, "stop"),
    "reasoning-new": ("ok", None, "stop"),
    "nul": ("ok", "before\0after \x1b[31mred", "stop"),
    "surrogate": ("ok", "half \N{REPLACEMENT CHARACTER} pair", "stop"),
    "huge": ("ok", "all work " * (HUGE // 9), "stop"),
    "length": ("length", None, "length"),
    "empty": ("empty", "", "stop"),
    "blank": ("empty", " \n\t ", "stop"),
    "null-content": ("empty", "", "stop"),
    "tool": ("empty", "", "tool_calls"),
    "reasoning-alone": ("empty", "", "stop"),
}


def name(fault: str) -> str:
    return f"m-{fault}"


def messages(prompt: str) -> list[dict]:
    return [{"role": "user", "content": prompt}]


def crowd_of(faults, url: str, **settings: object) -> dict[str, dict]:
    return {name(fault): {"base_url": url} | settings for fault in faults}


# ── faults that pass, that stay, and odd answers ─────────────────────────────────────────────────────────


def test_what_fails_twice_is_asked_again_and_answered(tmp_path):
    with FaultServer(plan={name(fault): f"{fault}:2" for fault in PASSING}) as server:
        job = Job(tmp_path, ["Hello"], crowd_of(PASSING, server.base_url), timeout=1.0)
        done = job.run(*FAST, fresh=True)  # imports are no part of the second that an answer may take
        counts = server.counts()
    assert done.code == 0, done
    rows = job.rows()
    assert {row["model"]: (row["status"], row["attempts"]) for row in rows} == {
        name(fault): ("ok", 3) for fault in PASSING
    }
    assert len(rows) == len(PASSING)
    assert counts["models"] == {name(fault): 3 for fault in PASSING}  # asked as often as needed, never more
    assert job.answers() == {
        ("i000", name(fault)): answer(name(fault), messages("Hello")) for fault in PASSING
    }


def test_what_never_answers_is_given_up_and_nothing_hangs(tmp_path):
    with FaultServer(plan={name(fault): fault for fault in PASSING}) as server:
        job = Job(tmp_path, ["Hello"], crowd_of([*PASSING, "ok"], server.base_url), timeout=1.0)
        done = job.run(*FAST, *BRIEF)
        counts = server.counts()["models"]
    assert done.code == 3, done
    rows = {row["model"]: row for row in job.rows()}
    assert set(rows) == {name(fault) for fault in [*PASSING, "ok"]}
    assert rows.pop("m-ok")["status"] == "ok"
    for model, row in rows.items():
        assert row["status"] in {"gave_up", "pending"}, model
        assert row["text"] is None, model
        assert row["error"], model
        assert row["attempts"] == counts[model], model
        assert model in done.said
    assert set(job.answers()) == {("i000", "m-ok")}  # no row without an answer, and none invented


def test_what_is_final_is_asked_once(tmp_path):
    with FaultServer(plan={name(fault): fault for fault in FINAL}) as server:
        job = Job(tmp_path, ["Hello"], crowd_of([*FINAL, "ok"], server.base_url))
        done = job.run(*FAST)
        counts = server.counts()["models"]
        again = job.run(*FAST)
        assert server.counts()["models"] == counts  # nothing is asked again without --retry-failed
    assert (done.code, again.code) == (3, 3), done
    rows = {row["model"]: row for row in job.rows()}
    assert rows.pop("m-ok")["status"] == "ok"
    assert {model: row["status"] for model, row in rows.items()} == {name(f): FINAL[f][0] for f in FINAL}
    for fault, (_, requests, words) in FINAL.items():
        assert counts[name(fault)] == requests, fault
        assert words in rows[name(fault)]["error"]
        assert name(fault) in done.said
    assert set(job.answers()) == {("i000", "m-ok")}


def test_odd_answers_are_kept_as_they_came(tmp_path):
    with FaultServer(plan={name(fault): fault for fault in KEPT}) as server:
        job = Job(tmp_path, ["Hello"], crowd_of(KEPT, server.base_url))
        done = job.run(*FAST)
        assert server.counts()["requests"] == len(KEPT)
    assert done.code == 0, done
    rows = {row["model"]: row for row in job.rows()}
    pool = {row["model"]: row for row in job.pool_rows()}
    assert set(rows) == set(pool) == {name(fault) for fault in KEPT}
    for fault, (status, text, finish) in KEPT.items():
        wanted = answer(name(fault), messages("Hello")) if text is None else text
        row, sealed = rows[name(fault)], pool[name(fault)]
        assert (row["status"], row["finish_reason"]) == (status, finish), fault
        assert row["text"] == wanted, fault
        assert (sealed["response"] or "", sealed["finish_reason"]) == (wanted, finish), fault
    assert rows["m-ok"]["completion_tokens"] == len(answer("m-ok", messages("Hello")).split(" "))
    assert rows["m-no-usage"]["prompt_tokens"] is rows["m-bad-usage"]["completion_tokens"] is None
    assert pool["m-no-usage"]["completion_tokens"] is None
    assert pool["m-reasoning"]["reasoning"] == "thinking about it"
    assert pool["m-reasoning-new"]["reasoning"] == "thinking in the newer field"
    assert pool["m-reasoning-alone"]["reasoning"] == "only thoughts"
    assert "\x1b[31m" not in done.out + done.err


# ── how retries are made ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "seconds"), [("429-after=1.5", 1.5), ("503-after=1.5", 1.5), ("429-date=2", 2)]
)
def test_retry_after_is_obeyed(tmp_path, fault, seconds):
    with FaultServer() as server:
        job = Job(tmp_path, [f"A fault={fault}:1"], {"m": {"base_url": server.base_url}})
        assert job.run(*FAST).code == 0
        first, second = server.calls
    assert second.at - first.at >= seconds - 0.01
    assert second.at - first.at < seconds + 8


def test_a_day_of_retry_after_is_not_waited_for(tmp_path):
    with FaultServer(plan={"busy": "429-after=86400"}) as server:
        job = Job(
            tmp_path, ["A", "B"], crowd_of(["ok"], server.base_url) | {"busy": {"base_url": server.base_url}}
        )
        done = job.run(*FAST, limit=30)
    assert done.code == 3
    assert "86400" in done.said
    assert set(job.answers()) == {("i000", "m-ok"), ("i001", "m-ok")}


def test_a_server_that_always_refuses_is_left_after_the_attempts(tmp_path):
    prompts = [f"question {number}" for number in range(40)]
    with FaultServer(plan={"busy": "429"}) as server:
        models = crowd_of(["ok"], server.base_url) | {"busy": {"base_url": server.base_url}}
        job = Job(tmp_path, prompts, models, max_concurrency=4)
        done = job.run(*FAST, "--attempts", "1", limit=30)
        refused = server.counts()["models"]["busy"]
    assert done.code == 3, done
    assert "busy" in done.said
    assert "in a row and answered none" in " ".join(done.said.split())
    assert 4 <= refused <= 4 * 4
    assert len(job.answers()) == 40  # what was paid for is kept
    with FaultServer() as server:
        models = crowd_of(["ok"], server.base_url) | {"busy": {"base_url": server.base_url}}
        job = Job(tmp_path, prompts, models)
        assert job.run(*FAST, "--retry-failed").code == 0
        assert "ok" not in {call.model for call in server.calls}
    assert len(job.answers()) == 80


def test_a_refused_key_stops_its_model_and_no_other(tmp_path):
    prompts = [f"question {number}" for number in range(60)]
    with FaultServer(plan={"bad": "401"}) as server:
        models = {"bad": {"base_url": server.base_url}, "good": {"base_url": server.base_url}}
        done = Job(tmp_path, prompts, models, max_concurrency=4).run(*FAST)
        counts = server.counts()["models"]
    assert done.code == 3, done
    assert counts["good"] == 60
    assert counts["bad"] <= 4
    assert "bad" in done.said
    assert "401" in done.said


def test_a_dead_endpoint_does_not_slow_the_others(tmp_path):
    prompts = [f"question {number}" for number in range(60)]
    (tmp_path / "alone").mkdir()
    (tmp_path / "both").mkdir()

    def seconds(folder, models) -> tuple[float, Result]:
        server.calls.clear()
        done = Job(folder, prompts, models, timeout=1.0).run(*FAST, *BRIEF)
        good = [call.at for call in server.calls if call.model == "good"]
        assert len(good) == 60, done
        return max(good) - min(good), done

    with FaultServer(latency=0.05, plan={"stalled": "silent", "refusing": "503"}) as server:
        url = server.base_url
        good = {"good": {"base_url": url}}
        alone, done = seconds(tmp_path / "alone", good)
        assert done.code == 0, done
        nobody = {"base_url": "http://127.0.0.1:9/v1"}
        dead = {"nobody": nobody, "stalled": {"base_url": url}, "refusing": {"base_url": url}}
        both, done = seconds(tmp_path / "both", dead | good)
    assert done.code == 3, done
    assert both < 2 * alone + 1.5
    assert max(server.peak["stalled"], server.peak["refusing"]) <= 8  # a dead endpoint is not hammered
    for model in dead:
        assert model in done.said


def test_limits_of_an_endpoint_hold(tmp_path):
    prompts = [f"question {number}" for number in range(40)]
    with FaultServer(latency=0.03) as server:
        models = {
            "narrow": {"base_url": server.base_url, "max_concurrency": 3},
            "slow": {"base_url": server.base_url, "requests_per_minute": 600},
        }
        done = Job(tmp_path, prompts, models).run(*FAST)
        calls = sorted(call.at for call in server.calls if call.model == "slow")
    assert done.code == 0, done
    assert server.peak["narrow"] <= 3
    # Ten per second after the first ten, which may come at once; what the machine does is left out by 0.5 s.
    assert calls[-1] - calls[0] > (len(calls) - 10 - 1) / 10 - 0.5


def test_waiting_for_a_place_is_no_time_out(tmp_path):
    with FaultServer(latency=0.3) as server:
        models = {"m": {"base_url": server.base_url, "timeout": 1.5, "max_concurrency": 1}}
        job = Job(tmp_path, [f"question {number}" for number in range(8)], models)
        done = job.run(*FAST)
    assert done.code == 0, done
    assert len(server.calls) == 8


def test_a_server_that_refuses_what_is_too_much_is_asked_less(tmp_path):
    prompts = [f"question {number}" for number in range(150)]
    with FaultServer(latency=0.02, room={"m": 5}) as server:
        job = Job(tmp_path, prompts, {"m": {"base_url": server.base_url}})
        done = job.run(*FAST)
        kinds = server.counts()["kinds"]
    assert done.code == 0, done
    assert kinds["ok"] == 150
    assert kinds.get("429", 0) < 50


def test_a_server_that_ends_its_connections_is_no_trouble(tmp_path):
    prompts = [f"question {number}" for number in range(40)]
    with FaultServer(plan={"m": "close-after"}) as server:
        job = Job(tmp_path, prompts, {"m": {"base_url": server.base_url, "max_concurrency": 4}})
        done = job.run(*FAST)
    assert done.code == 0, done
    assert len(job.answers()) == 40
    assert len(server.calls) <= 50


def test_chaos_loses_nothing_and_pays_for_nothing_twice(tmp_path):
    prompts = [f"question {number}" for number in range(60)]
    with FaultServer(chaos=0.3, seed=7) as server:
        models = {name: {"base_url": server.base_url} for name in ("m1", "m2", "m3")}
        job = Job(tmp_path, prompts, models)
        done = job.run(*FAST)
        kinds = server.counts()["kinds"]
        keys = {call.key for call in server.calls if call.kind == "ok"}
        again = job.run(*FAST)
        assert server.counts()["kinds"] == kinds
    assert (done.code, again.code) == (0, 0), done
    assert kinds["ok"] == len(keys) == 180  # every answer was bought once
    assert sum(kinds.values()) > 200
    assert job.answers() == {
        (f"i{number:03d}", model): answer(model, messages(prompt))
        for number, prompt in enumerate(prompts)
        for model in models
    }


def test_turns_follow_one_another_through_faults(tmp_path):
    rows = '{"id": "t", "turns": ["First fault=503:1", "Second", "Third"]}\n{"id": "u", "turns": ["One", "Two fault=400"]}\n'
    with FaultServer() as server:
        job = Job(tmp_path, ["unused"], {"m": {"base_url": server.base_url}})
        job.instructions.write_text(rows)
        done = job.run(*FAST)
        sent = [[turn["role"] for turn in call.body["messages"]] for call in server.calls]
    assert done.code == 3, done
    first = messages("First fault=503:1")
    second = [
        *first,
        {"role": "assistant", "content": answer("m", first)},
        {"role": "user", "content": "Second"},
    ]
    third = [
        *second,
        {"role": "assistant", "content": answer("m", second)},
        {"role": "user", "content": "Third"},
    ]
    assert job.answers() == {("t", "m"): answer("m", third)}
    assert max(map(len, sent)) == 5
    assert sorted(row["status"] for row in job.rows()) == ["failed", "ok", "ok", "ok", "ok"]


# ── --retry-failed, exit codes ──────────────────────────────────────────────────────────────────────────


def test_retry_failed_asks_again_what_has_no_answer_only(tmp_path):
    prompts = ["A", "B fault=400:1", "C fault=filter:1", "D fault=length", "E fault=empty"]
    with FaultServer() as server:
        job = Job(tmp_path, prompts, {"m": {"base_url": server.base_url}})
        assert job.run(*FAST).code == 3
        assert {row["status"] for row in job.rows()} == {"ok", "failed", "filtered", "length", "empty"}
        assert job.run(*FAST).code == 3
        assert len(server.calls) == 5
        done = job.run("--retry-failed", *FAST)
        assert [call.prompt for call in server.calls[5:]] in (prompts[1:3], prompts[2:0:-1])
    assert done.code == 0, done
    assert len(job.rows()) == len(job.answers()) == 5
    assert {row["status"] for row in job.rows()} <= ANSWERED


def test_exit_codes_of_what_is_refused_before_anything_is_sent(tmp_path):
    with FaultServer() as server:
        good = {"base_url": server.base_url}
        cases = [
            ({"m": good | {"max_tokns": 5}}, [], {}, "max_tokens"),
            ({"m": good | {"api_key": KEY}}, [], {}, "api_key"),
            ({"m": good | {"api_key_env": KEY}}, [], {}, "api_key_env"),
            ({"m": good | {"extra_body": {"api_key": KEY}}}, [], {}, "api_key"),
            ({"m": good | {"api_key_env": "NO_SUCH_VARIABLE_HERE"}}, [], {}, "NO_SUCH_VARIABLE_HERE"),
            ({"m": good}, ["--max-cost", "1"], {}, "price"),
            ({"m": {"base_url": "ftp://127.0.0.1/v1"}}, [], {}, "ftp"),
            ({"m": {"base_url": f"http://me:{KEY}@127.0.0.1/v1"}}, [], {}, "base_url"),
            ({"m": {"base_url": f"http://127.0.0.1/v1?key={KEY}"}}, [], {}, "base_url"),
            ({"m": {"base_url": "http://example.com/v1", "api_key_env": "K"}}, [], {"K": KEY}, "http"),
            ({"m": {}}, [], {}, "base_url"),
        ]
        for number, (models, options, environment, words) in enumerate(cases):
            folder = tmp_path / str(number)
            folder.mkdir()
            job = Job(folder, ["A"], models)
            done = job.run(*options, *FAST, **environment)
            assert done.code == 2, (models, done)
            assert words in done.err, done
            assert KEY not in done.said
            assert len(done.err.strip().splitlines()) == 1, done
            assert not job.pool.exists()
        assert server.calls == []


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_that_the_server_echoes_is_nowhere(tmp_path):
    faults = ["echo-400", "echo-401", "echo-500", "echo-ok", "echo-shape", "ok"]
    faults += [
        f"{fault}={at}" for fault in ("echo-400", "echo-shape", "echo-500") for at in range(5, 520, 20)
    ]
    with FaultServer(plan={name(fault): fault for fault in faults}) as server:
        job = Job(tmp_path, ["Hello"], crowd_of(faults, server.base_url, api_key_env="TEST_KEY"))
        done = job.run(*FAST, "--attempts", "1", TEST_KEY=KEY)
        assert {call.token for call in server.calls} == {KEY}
        assert f"127.0.0.1:{server.port}" in done.said
    assert "TEST_KEY" in done.said
    assert done.code == 3, done
    assert len(job.rows()) == len(faults)
    for piece in (KEY[:12], KEY[8:20], KEY[-12:]):  # nor a piece of it, where a message was cut off
        assert piece not in done.said
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or piece.encode() not in path.read_bytes(), path
        leaks = [row["model"] for row in job.rows() if piece in str(row)]
        assert leaks == []
        assert piece not in str(job.pool_rows())
    assert "TEST_KEY" in job.answers()["i000", "m-echo-ok"]


def test_a_key_goes_to_its_own_host_only(tmp_path):
    with FaultServer() as one, FaultServer() as other:
        models = {
            "one": {"base_url": one.base_url, "api_key_env": "KEY_ONE"},
            "other": {"base_url": other.base_url, "api_key_env": "KEY_OTHER"},
            "free": {"base_url": other.base_url},
        }
        job = Job(tmp_path, ["A"], models)
        done = job.run(
            *FAST, KEY_ONE="k" * 20, KEY_OTHER="z" * 20, OPENAI_API_KEY=KEY, OPENAI_ORG_ID="org-me"
        )
        sent = {call.model: call for call in [*one.calls, *other.calls]}
    assert done.code == 0, done
    assert (sent["one"].token, sent["other"].token) == ("k" * 20, "z" * 20)
    assert sent["free"].token in {"", "none", "EMPTY"}
    assert all(KEY not in str(call.headers) and "org-me" not in str(call.headers) for call in sent.values())
