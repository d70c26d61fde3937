"""From instructions to a pool with scripted models: the pool, its manifest, plans, resumes, samples, turns, the command."""

import json
import sqlite3

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from crowdselect.ask.budget import Limits
from crowdselect.ask.calls import Reply, ScriptedClient
from crowdselect.cli import collect as command
from crowdselect.collect.job import Task, collect, plan
from crowdselect.collect.seal import pool_manifest_path
from crowdselect.errors import CallError, OptionError, OutputError
from crowdselect.pool.pool import open_pool

ROWS = [{"id": f"i{n}", "instruction": f"q{n}", "topic": "t" if n % 2 else None} for n in range(6)]
CROWD = """
[defaults]
base_url = "http://127.0.0.1:9/v1"
max_tokens = 50
[[model]]
name = "oak-7b"
price_in = 1.0
price_out = 2.0
[[model]]
name = "ash-7b"
[[judge]]
name = "never-asked"
"""


class Place:
    def __init__(self, folder):
        self.folder = folder
        self.asked = {}
        self.write(ROWS)
        self.crowd(CROWD)

    def write(self, rows):
        (self.folder / "in.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )

    def crowd(self, text):
        (self.folder / "crowd.toml").write_text(text, encoding="utf-8")

    def task(self, **values):
        names = (str(self.folder / name) for name in ("in.jsonl", "crowd.toml", "pool.parquet"))
        return Task(*names, **{"limits": Limits(wait=0.001, attempts=2, patience=1), **values})

    def collect(self, answer=None, *, seal_only=False, **values):
        """Run; `asked` holds what each model was asked."""
        self.asked = {}

        def client(endpoint):
            def say(request):
                self.asked.setdefault(endpoint.name, []).append(
                    [turn["content"] for turn in request.messages()]
                )
                if answer is not None:
                    return answer(endpoint.name, request)
                text = f"{endpoint.name} on {request.messages()[-1]['content']}, {request.sample}"
                return Reply(text, "stop", None, 3, 4)

            return ScriptedClient(say)

        return collect(self.task(**values), clients=client, seal_only=seal_only)

    def pool(self):
        return pq.read_table(self.folder / "pool.parquet").to_pylist()

    def manifest(self):
        return json.loads(pool_manifest_path(self.folder / "pool.parquet").read_text())


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_pool_comes_out(place):
    report = place.collect()
    assert {name: len(asked) for name, asked in place.asked.items()} == {"oak-7b": 6, "ash-7b": 6}
    rows = place.pool()
    assert [(row["id"], row["model"]) for row in rows] == [
        (f"i{n}", m) for n in range(6) for m in ("oak-7b", "ash-7b")
    ]
    assert rows[2] == {
        "id": "i1",
        "instruction": "q1",
        "model": "oak-7b",
        "response": "oak-7b on q1, 0",
        "finish_reason": "stop",
        "reasoning": None,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "cost": pytest.approx(11e-6),
        "topic": "t",
    }
    assert rows[3]["cost"] is None
    assert not any(tally.missing for tally in report.tallies.values())
    with open_pool(place.folder / "pool.parquet") as pool:
        assert pool.layout == "long"
        assert pool.models == ("ash-7b", "oak-7b")
        assert pool.answered().all()
        assert pool.reward_columns == ()
    manifest = place.manifest()
    assert (manifest["rows"], manifest["missing"], manifest["models"]["oak-7b"]["statuses"]) == (
        12,
        0,
        {"ok": 6},
    )
    assert manifest["models"]["ash-7b"]["cost_unknown"] == 6


def test_the_second_run_has_nothing_to_do_and_leaves_the_pool_as_it_is(place):
    place.collect()
    before = (place.folder / "pool.parquet").stat().st_mtime_ns
    report = place.collect()
    assert place.asked == {}
    assert report.fresh
    assert (place.folder / "pool.parquet").stat().st_mtime_ns == before
    assert report.tallies["oak-7b"].rows == 6


def test_only_the_difference_is_asked(place):
    place.collect()
    place.write([*ROWS, {"id": "new", "instruction": "new"}])
    place.collect()
    assert {name: len(asked) for name, asked in place.asked.items()} == {"oak-7b": 1, "ash-7b": 1}
    place.crowd(CROWD + '[[model]]\nname = "elm-7b"\n')
    place.collect()
    assert {name: len(asked) for name, asked in place.asked.items()} == {"elm-7b": 7}
    place.collect(samples=2)
    assert {name: len(asked) for name, asked in place.asked.items()} == {
        "oak-7b": 7,
        "ash-7b": 7,
        "elm-7b": 7,
    }
    assert {row["sample"] for row in place.pool()} == {0, 1}
    assert len(place.pool()) == 7 * 3 * 2
    place.crowd(
        (CROWD + '[[model]]\nname = "elm-7b"\n').replace("127.0.0.1:9", "127.0.0.1:10").replace("2.0", "3.0")
    )
    place.collect(samples=2)
    assert place.asked == {}  # where it is and what it costs change no answer
    place.crowd(CROWD.replace('"ash-7b"', '"ash-7b"\ntemperature = 0.5'))
    place.collect()
    assert {name: len(asked) for name, asked in place.asked.items()} == {"ash-7b": 7}
    connection = sqlite3.connect(place.folder / "pool.parquet.ledger")
    assert connection.execute("SELECT count(*) FROM answers").fetchone() == (
        7 * 3 * 2 + 7,
    )  # the old rows are kept
    connection.close()


def test_what_is_missing_is_counted_with_reasons_and_has_no_row(place):
    def answer(name, request):
        text = request.messages()[-1]["content"]
        if name == "oak-7b" and text in {"q1", "q2"}:
            raise CallError(f"HTTP 400: bad {text}", verdict="failed")
        return {"q3": Reply("", "stop"), "q4": Reply("cut", "length"), "q5": Reply("", "content_filter")}.get(
            text, "a"
        )

    report = place.collect(answer)
    tally = report.tallies["oak-7b"]
    assert (tally.rows, tally.missing) == (3, 3)
    assert dict(tally.statuses) == {"ok": 1, "failed": 2, "empty": 1, "length": 1, "filtered": 1}
    assert tally.reasons["HTTP 400: bad q1"] == 1
    rows = {row["id"]: row for row in place.pool() if row["model"] == "oak-7b"}
    assert set(rows) == {"i0", "i3", "i4"}
    assert (rows["i3"]["response"], rows["i4"]["finish_reason"]) == ("", "length")
    manifest = place.manifest()
    assert manifest["models"]["oak-7b"]["reasons"]["HTTP 400: bad q2"] == 1
    assert manifest["missing"] == 4


def test_no_answer_no_pool(place):
    def refuse(_name, _request):
        raise CallError("no", verdict="failed")

    report = place.collect(refuse)
    assert report.sealed is None
    assert not (place.folder / "pool.parquet").exists()
    assert report.tallies["oak-7b"].missing == 6
    assert not [entry for entry in place.folder.iterdir() if "partial" in entry.name]


def test_a_foreign_file_is_not_replaced_and_ours_is(place):
    pool = place.folder / "pool.parquet"
    pool.write_bytes(b"somebody's")
    with pytest.raises(OutputError, match="add `overwrite=True`"):
        place.collect()
    assert place.asked == {}
    place.collect(overwrite=True)
    place.write(ROWS[:2])
    place.collect()
    assert len(place.pool()) == 4
    with pool.open("ab") as stream:
        stream.write(b"changed by somebody")
    place.write(ROWS[:1])
    with pytest.raises(OutputError, match="add `overwrite=True`"):
        place.collect()
    ledger = place.folder / "pool.parquet.ledger"
    before = ledger.read_bytes()
    place.collect(overwrite=True)
    assert place.asked == {}  # the ledger was not overwritten
    assert len(ledger.read_bytes()) >= len(before)


def test_sealing_sends_nothing_and_needs_no_reachable_model(place):
    place.collect(limits=Limits(max_requests=5))
    done = len(place.pool())
    (place.folder / "pool.parquet").unlink()
    place.crowd(CROWD.replace("[defaults]", "[defaults]\napi_key_env = 'NO_SUCH_KEY_HERE'"))
    report = place.collect(seal_only=True)
    assert place.asked == {}
    assert done == 5 == len(place.pool())
    assert sum(tally.statuses["not_asked"] for tally in report.tallies.values()) == 7


def test_turns_become_messages_and_the_last_answer(place):
    place.write(
        [{"id": "1", "turns": ["hi", "and?"], "instruction": "hi / and?"}, {"id": "2", "turns": ["yo"]}]
    )
    place.collect()
    rows = {(row["id"], row["model"]): row for row in place.pool()}
    row = rows["1", "oak-7b"]
    assert [turn["content"] for turn in row["messages"]] == ["hi", "oak-7b on hi, 0", "and?"]
    assert row["response"] == "oak-7b on and?, 0"
    assert row["cost"] == pytest.approx(22e-6)
    assert row["instruction"] == "hi / and?"
    assert [turn["content"] for turn in rows["2", "ash-7b"]["messages"]] == ["yo"]


def test_a_request_of_several_instructions_is_paid_and_counted_once(place):
    place.write(
        [
            {"id": "1", "instruction": "hi", "turns": None},
            {"id": "2", "instruction": "hi", "turns": None},
            {"id": "3", "instruction": None, "turns": ["hi", "and?"]},
            {"id": "4", "instruction": None, "turns": ["hi", "so?"]},
            {"id": "5", "instruction": "else", "turns": None},
        ]
    )
    report = place.collect(samples=2)
    sent = len(place.asked["oak-7b"])
    assert sent == 2 * 4  # hi; and?; so?; else
    tally, facts = report.tallies["oak-7b"], place.manifest()
    assert (tally.rows, tally.prompt_tokens, tally.completion_tokens) == (10, 3 * sent, 4 * sent)
    assert tally.cost == pytest.approx(sent * 11e-6)
    assert facts["models"]["oak-7b"]["cost"] == pytest.approx(facts["spent"]["oak-7b"]["cost"])
    assert facts["models"]["ash-7b"]["cost_unknown"] == sent == facts["spent"]["ash-7b"]["unknown"]
    rows = [row for row in place.pool() if row["model"] == "oak-7b" and row["sample"] == 0]
    assert [row["cost"] for row in rows] == pytest.approx([11e-6, 11e-6, 22e-6, 22e-6, 11e-6])


def test_an_answer_counts_also_where_the_next_turn_failed(place):
    def answer(_name, request):
        if request.messages()[-1]["content"] == "and?":
            raise CallError("HTTP 400: no", verdict="failed")
        return Reply("yes", "stop", None, 3, 4)

    place.write([{"id": "1", "turns": ["hi", "and?"]}, {"id": "2", "turns": ["yo"]}])
    tally = place.collect(answer).tallies["oak-7b"]
    assert (tally.rows, tally.missing, tally.completion_tokens) == (1, 1, 8)
    assert tally.cost == pytest.approx(22e-6)
    assert place.manifest()["models"]["ash-7b"]["cost_unknown"] == 2


def test_the_pool_is_the_same_however_often_it_was_stopped(place, tmp_path_factory):
    place.write([{"id": f"i{n}", "turns": [f"a{n}", f"b{n}"], "n": n} for n in range(10)])
    place.collect(samples=2)
    whole = pq.read_table(place.folder / "pool.parquet")
    other = Place(tmp_path_factory.mktemp("other"))
    other.write([{"id": f"i{n}", "turns": [f"a{n}", f"b{n}"], "n": n} for n in range(10)])
    for cap in (3, 10, 31, 50, None):
        other.collect(samples=2, limits=Limits(max_requests=cap))
    assert pq.read_table(other.folder / "pool.parquet").equals(whole)
    assert sum(len(asked) for asked in other.asked.values()) == 30


@pytest.mark.extra
def test_plan(place):
    found, _ = plan(place.task())
    oak, ash = found["oak-7b"], found["ash-7b"]
    assert (oak.calls, oak.done, oak.answer_tokens) == (6, 0, 300.0)
    assert oak.prompt_tokens == pytest.approx(6 * len('[{"role":"user","content":"q0"}]') / 4)
    assert oak.cost == pytest.approx((oak.prompt_tokens + 600) / 1e6)
    assert (ash.cost, ash.minutes, oak.likely_cost) == (None, None, None)
    assert not (place.folder / "pool.parquet.ledger").exists()
    place.collect(limits=Limits(max_requests=7))
    found, _ = plan(place.task())
    assert sum(made.calls for made in found.values()) == 5
    assert sum(made.done for made in found.values()) == 7
    assert found["oak-7b"].likely_tokens == found["oak-7b"].calls * 4
    place.crowd(CROWD.replace("max_tokens = 50", "requests_per_minute = 3"))
    found, _ = plan(place.task())
    assert (found["oak-7b"].cost, found["oak-7b"].answer_tokens, found["oak-7b"].minutes) == (None, None, 2.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"samples": 0}, "`samples` is 0"),
        ({"limits": Limits(max_cost=-1.0)}, "`max_cost` is -1"),
        ({"limits": Limits(attempts=0)}, "`attempts` is 0"),
        ({"limits": Limits(max_cost=float("nan"))}, "`max_cost` is nan"),
    ],
)
def test_options_are_checked_before_anything_is_sent(place, values, words):
    with pytest.raises(OptionError, match=words):
        place.collect(**values)
    assert place.asked == {}


def test_the_command_says_what_it_needs(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    runner = CliRunner()
    for arguments, words in (
        (["-o", "p.parquet"], "name a file of instructions"),
        (["--seal", "-o", "p.parquet"], "there is no ledger to seal"),
        (["in.jsonl", "--crowd", "crowd.toml", "-o", "p.csv"], "ends in .parquet"),
        (["in.jsonl", "--crowd", "crowd.toml", "-o", "in.jsonl"], "ends in .parquet"),
    ):
        with pytest.raises(Exception, match=words):
            runner.invoke(command.collect, arguments, catch_exceptions=False, standalone_mode=False)


def test_the_command_seals_from_the_ledger_alone(place, monkeypatch, tmp_path_factory):
    place.collect(samples=2)
    (place.folder / "pool.parquet").unlink()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    done = CliRunner().invoke(
        command.collect, ["--seal", "-o", str(place.folder / "pool.parquet"), "--json"], standalone_mode=False
    )
    assert done.return_value == 0, done
    assert json.loads(done.stdout)["models"]["oak-7b"]["rows"] == 12
    assert len(place.pool()) == 24


@pytest.mark.extra
def test_the_command_plans(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    done = CliRunner().invoke(
        command.collect,
        ["in.jsonl", "--crowd", "crowd.toml", "-o", "pool.parquet", "--dry-run"],
        standalone_mode=False,
    )
    assert done.return_value == 0
    assert "12 calls" in done.stdout
    assert "unknown" in done.stdout
    assert "nothing was sent" in done.stdout


@pytest.mark.extra
def test_the_command_says_what_is_left_and_each_stop_once(place, monkeypatch):
    pytest.importorskip("openai")

    def oak_alone(name, _request):
        if name == "oak-7b":
            return Reply("a", "stop", None, 3, 4)
        raise CallError("cannot connect")

    place.collect(oak_alone, limits=Limits(wait=0.001, attempts=1, patience=1))
    monkeypatch.chdir(place.folder)
    arguments = "in.jsonl --crowd crowd.toml -o pool.parquet --retry-failed --patience 0.2 --retry-wait 0.01"
    done = CliRunner().invoke(
        command.collect, arguments.split(), standalone_mode=False
    )  # nobody is at that port
    assert done.return_value == 3
    assert "oak-7b: up to" not in done.stderr
    assert "ash-7b: up to 6 requests" in done.stderr
    assert done.stderr.count("ash-7b: stopped: gave no answer") == 1
    assert "6 answers of 1 model; 1 gave no answer" in done.stdout
    assert "no answer yet, the next run asks again: cannot connect" in " ".join(done.stdout.split())


def test_a_pool_that_was_written_without_its_manifest_is_known_to_be_ours(place, monkeypatch):
    """As after a kill between the two; a file of somebody else's at that place is refused all the same."""
    place.collect()
    pool = place.folder / "pool.parquet"
    before = pool.read_bytes()
    pool_manifest_path(pool).unlink()
    with pytest.raises(OutputError, match="there is such a file already"):
        place.collect()
    ledger = next(place.folder.glob("*.ledger"))
    with sqlite3.connect(ledger) as opened:
        opened.execute(
            "INSERT INTO notes (name, value) VALUES ('sealing', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (json.dumps(str(pool.absolute())),),
        )
    opened.close()
    report = place.collect()
    assert (report.fresh, place.asked) == (False, {})
    assert pool.read_bytes() == before
    assert pool_manifest_path(pool).exists()
    pool_manifest_path(pool).unlink()
    with pytest.raises(OutputError, match="there is such a file already"):
        place.collect()
