"""Keys in what servers say: removed before anything is cut, from all that is shown or written, by every client."""

import base64
import html
import json
import os
import sqlite3
import subprocess
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collecting import FAST, Job, write_crowd
from commands import COMMAND
from crowdselect.ask.endpoints import load_endpoints
from crowdselect.ask.redact import Redactor
from crowdselect.errors import InputError
from fault_server import FaultServer
from reward_server import RewardServer

KEY = "zqXJ9/wKv_74YpQb-h5TgM"
LONGEST = 4  # characters of a key that may stand together anywhere: that many are chance
PIECES = [KEY[at : at + LONGEST + 1] for at in range(len(KEY) - LONGEST)]
LIMIT = 64 * 1024


def leaks(text: str) -> list[str]:
    return [piece for piece in PIECES if piece in text]


def check_folder(folder) -> None:
    """No piece of the key is in any file, neither in its bytes nor in the rows of a table or a ledger."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        assert leaks(raw.decode("latin-1")) == [], path
        if raw.startswith(b"PAR1"):
            table = pq.ParquetFile(path).read()
            assert leaks(f"{table.to_pylist()} {table.schema.metadata}") == [], path
        if raw.startswith(b"SQLite format 3"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as opened:
                names = [
                    name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                ]
                rows = [row for name in names for row in opened.execute(f'SELECT * FROM "{name}"')]
            assert leaks(str(rows)) == [], path


WAYS = {
    "as it is": KEY,
    "JSON": json.dumps(KEY).replace("/", "\\/"),
    "JSON, every character": "".join(f"\\u{ord(one):04X}" for one in KEY),
    "JSON in JSON": json.dumps("".join(f"\\u{ord(one):04x}" for one in KEY)),
    "URL": quote(KEY, safe=""),
    "URL, twice": quote(quote(KEY, safe=""), safe=""),
    "HTML": "".join(f"&#{ord(one)};" for one in KEY),
    "Python": repr(KEY.encode()),
    "basic": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "basic, other user": base64.b64encode(f"me:{KEY}".encode()).decode(),
    "basic, no user": base64.b64encode(f":{KEY}".encode()).decode(),
    "cut by the server": KEY[:19],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_found_however_it_is_written(way):
    said = Redactor({"MY_KEY": KEY}).error(f"before {WAYS[way]} after")
    assert "[MY_KEY]" in said
    assert leaks(said) == leaks(html.unescape(said)) == []
    assert KEY[4:14] not in said.encode().decode("unicode_escape")
    assert said.startswith("before ")
    assert said.endswith(" after")


@pytest.mark.parametrize("value", ["a\\b\\\\c\"d'e&f<g", "pass word+100%", "[x](y)*.^$|?"])
def test_keys_of_odd_characters(value):
    known = Redactor({"K": value})
    for written in (value, json.dumps(value), repr(value), quote(value), html.escape(value)):
        assert known.error(f"<{written}>").strip("<>\"'") == "[K]"


def test_a_key_at_every_place_about_a_cut():
    known = Redactor({"MY_KEY": KEY})
    for before in range(270, 302):
        assert leaks(known.brief("." * before + KEY + " and so on", 300)) == []
    for before in range(LIMIT - 30, LIMIT + 2):
        body = (" " * before + KEY + " " * 100).encode()
        assert leaks(known.beginning(body[:LIMIT], LIMIT)) == []
    assert known.beginning(b"short", LIMIT) == "short"


# ── reward --with http: ─────────────────────────────────────────────────────────────────────────────────


def scored(folder, server: RewardServer, *options: str) -> subprocess.CompletedProcess:
    rows = {"id": ["a", "b"], "instruction": ["A", "B"], "model": ["m", "m"], "response": ["one", "two"]}
    pq.write_table(pa.table(rows), folder / "pool.parquet")
    given = ["reward", "pool.parquet", "--with", f"{server.url}/classify", "--api-key-env", "MY_KEY"]
    return subprocess.run(
        [*COMMAND, *given, "-o", "scores.parquet", *options],
        cwd=folder,
        env={**os.environ, "MY_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def echoes(status: int, make):
    """Answers whose text is `make(offset)`, another offset for every request."""

    def reply(number: int, headers) -> tuple[int, bytes, dict]:
        assert headers["Authorization"] == f"Bearer {KEY}"
        return status, make(270 + number % 32).encode(), {}

    return reply


@pytest.mark.parametrize(
    ("status", "make"),
    [
        (422, lambda at: "." * at + KEY + " is wrong"),
        (422, lambda at: " " * (LIMIT - at + 270) + KEY + " is wrong"),
        (422, lambda at: "." * at + WAYS["JSON, every character"]),
        (401, lambda at: "." * at + KEY),
        (200, lambda at: json.dumps({"oops": "." * (at - 190) + KEY})),
        (200, lambda at: json.dumps({"data": [{"probs": [KEY] * 20}]})),
    ],
)
def test_reward_over_http_leaves_no_piece_of_a_key(tmp_path, status, make):
    """Many conversations, each refused by itself, so that the key meets the cut at every place."""
    place = tmp_path / "here"
    place.mkdir()
    with RewardServer("/classify", reply=echoes(status, make)) as server:
        ran = scored(place, server, "--no-self-test") if status != 422 else scored(place, server)
    assert leaks(ran.stdout + ran.stderr) == [], ran
    assert "[MY_KEY]" in ran.stderr + ran.stdout or status == 422
    check_folder(place)


def test_reasons_of_missing_scores_hold_no_piece_of_a_key():
    from crowdselect.reward.protocol import Item
    from crowdselect.reward.served import ServedOptions, ServedScorer
    from crowdselect.reward.specs import parse_spec

    items = [
        Item([{"role": "user", "content": str(at)}, {"role": "assistant", "content": "x"}])
        for at in range(32)
    ]
    os.environ["MY_KEY"] = KEY
    try:
        with RewardServer("/classify", reply=echoes(422, lambda at: "." * at + KEY)) as server:
            made = ServedScorer(parse_spec(f"{server.url}/classify"), ServedOptions(api_key_env="MY_KEY"))
            reasons = [outcome.reason for some in made.score(items) for _, outcome in some]
    finally:
        del os.environ["MY_KEY"]
    assert len(reasons) == 32
    assert leaks(" ".join(reasons)) == []
    assert any("[MY_KEY]" in reason for reason in reasons)


# ── collect ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.extra
@pytest.mark.usefixtures("starter")
def test_collect_leaves_no_piece_of_a_key(tmp_path):
    pytest.importorskip("openai")
    faults = [f"echo-{kind}={at}" for kind in ("400", "escaped") for at in range(230, 300, 3)]
    faults += [f"echo-end={at}" for at in range(24, 56)]
    faults += [f"echo-escaped-ok={at}" for at in range(0, 80, 5)]
    faults += ["echo-basic=1", "echo-basic=280", "echo-part=19", "echo-part=10", "echo-ok"]
    plan = {f"m{number}": fault for number, fault in enumerate(faults)}
    folder = tmp_path / "here"
    folder.mkdir()
    with FaultServer(plan=plan) as server:
        models = {name: {"base_url": server.base_url, "api_key_env": "MY_KEY"} for name in plan}
        job = Job(folder, ["Hello"], models)
        done = job.run(*FAST, "--attempts", "1", MY_KEY=KEY)
        assert {call.token for call in server.calls} == {KEY}
    assert done.code == 3, done
    assert leaks(done.said) == []
    check_folder(tmp_path)


# ── a crowd file that holds a key ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"system": f"Use {KEY}."}, "model 'm': system"),
        ({"base_url": f"http://127.0.0.1/{quote(KEY, safe='')}/v1"}, "model 'm': base_url"),
        ({"model": f"org/{KEY}"}, "model 'm': model"),
        ({"extra_body": {"headers": {"X-Say": f"Bearer {KEY}"}}}, "model 'm': extra_body: headers: X-Say"),
        ({"extra_body": {"tags": ["x", KEY]}}, "model 'm': extra_body: tags number 2"),
        ({"family": KEY}, "model 'm': family"),
    ],
)
def test_a_crowd_file_with_a_keys_value_is_refused(tmp_path, monkeypatch, settings, place):
    monkeypatch.setenv("MY_KEY", KEY)
    models = {"m": {"base_url": "http://127.0.0.1/v1", "api_key_env": "MY_KEY", **settings}}
    path = write_crowd(tmp_path, models)
    with pytest.raises(InputError) as caught:
        load_endpoints(path)
    said = str(caught.value)
    assert f"crowd.toml': {place} holds the value of the environment variable MY_KEY" in said
    assert leaks(said) == []
    assert "\n" not in said
    monkeypatch.setenv("MY_KEY", "another key entirely")
    load_endpoints(path)


def test_a_key_in_a_comment_a_name_or_the_defaults_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    table = '[[model]]\nname = "m"\nbase_url = "http://127.0.0.1/v1"\napi_key_env = "MY_KEY"\n'
    cases = {
        f"# it was {KEY}\n{table}": "line 1 holds",
        table.replace('"m"', f'"{KEY}"'): "model '[MY_KEY]': name holds",
        f'[defaults]\nsystem = "{KEY}"\n{table}': "defaults: system holds",
        f'{table}[[judge]]\nname = "j"\nsystem = "{KEY}"\n': "judge 'j': system holds",
    }
    for text, said in cases.items():
        (tmp_path / "crowd.toml").write_text(text)
        with pytest.raises(InputError) as caught:
            load_endpoints(tmp_path / "crowd.toml")
        assert said in str(caught.value)
        assert leaks(str(caught.value)) == []
    monkeypatch.setenv("MY_KEY", "m")  # too short to be a secret: a word that stands in many places
    (tmp_path / "crowd.toml").write_text(table)
    load_endpoints(tmp_path / "crowd.toml")
