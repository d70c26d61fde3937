"""The ledger: answers on disk once, what is known, what was spent; what is refused, locked or full."""

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crowdselect.ask.calls import make_request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.ask.ledger_file import VERSION, network_file_system
from crowdselect.errors import LedgerError

ENDPOINT = Endpoint("m", model="m", price_in=1.0, price_out=1.0)


def answer(number: int, status="ok", **values):
    request = make_request([{"role": "user", "content": f"q{number}"}])
    fixed = {
        "key": request.key(ENDPOINT),
        "model": "m",
        "settings": ENDPOINT.digest,
        "prompt": request.digest,
        "sample": 0,
    }
    text = f"a{number}" if status in {"ok", "length"} else None
    return Answer(**{**fixed, "status": status, "text": text, "at": 1.0, **values})


def test_answers_are_there_at_once_and_after_opening_again(tmp_path):
    rows = [answer(number, cost=0.5) for number in range(1200)]
    keys = [row.key for row in rows]
    with Ledger(tmp_path / "l") as ledger:
        for row in rows:
            ledger.put(row)
        assert ledger.known(keys) == set(keys)  # written or not
        ledger.flush()
        assert ledger.get(keys[:3]) == {row.key: row for row in rows[:3]}
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.known([*keys, b"x" * 32]) == set(keys)
        assert ledger.get(keys[-2:]) == {row.key: row for row in rows[-2:]}
        spent = ledger.spent()["m"]
        assert (spent.attempts, spent.cost, spent.lost, spent.unknown) == (1200, 600.0, 0.0, 0)


def test_a_row_is_on_disk_within_a_tenth_of_a_second_and_survives_without_close(tmp_path):
    code = (
        "import sys, time, os\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_collect_ledger import answer\n"
        "from crowdselect.ask.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1])\n"
        "ledger.put(answer(1))\n"
        "time.sleep(0.4)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "l"), str(Path(__file__).parent)], check=False
    )
    assert done.returncode == 9
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.known([answer(1).key]) == {answer(1).key}


def test_commits_are_grouped(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        commits = []
        real = ledger._insert
        ledger._insert = lambda answers, notes: (commits.append(len(answers)), real(answers, notes))
        for number in range(100):
            ledger.put(answer(number))
        ledger.flush()
    assert sum(commits) == 100
    assert len(commits) < 60  # the first at once, then what came meanwhile together


def test_what_failed_is_known_unless_it_is_asked_again(tmp_path):
    rows = [
        answer(0),
        answer(1, "failed", error="no"),
        answer(2, "gave_up"),
        answer(3, "filtered"),
        answer(4, "pending"),
        answer(5, "empty", text=""),
    ]
    keys = [row.key for row in rows]
    for _ in range(2):  # before and after it is on disk
        with Ledger(tmp_path / "l") as ledger:
            for row in rows:
                ledger.put(row)
            assert ledger.known(keys) == {keys[at] for at in (0, 1, 2, 3, 5)}
            assert ledger.known(keys, retry_failed=True) == {keys[0], keys[5]}
            ledger.flush()
            assert ledger.known(keys) == {keys[at] for at in (0, 1, 2, 3, 5)}
            assert ledger.known(keys, retry_failed=True) == {keys[0], keys[5]}


def test_asking_again_keeps_one_row_and_all_that_was_spent(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        ledger.put(answer(1, "filtered", cost=0.25, attempts=2, lost=0.125))
        ledger.put(answer(1, "ok", cost=0.5, attempts=1, lost=0.0))
        ledger.flush()
        row = ledger.get([answer(1).key])[answer(1).key]
        assert (row.status, row.text, row.cost, row.attempts, row.lost) == ("ok", "a1", 0.5, 3, 0.375)
        spent = ledger.spent()["m"]
        assert (spent.attempts, spent.cost, spent.lost) == (3, 0.75, 0.125)
    with sqlite3.connect(tmp_path / "l") as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (1,)
    connection.close()


def test_what_was_in_flight_when_a_run_was_killed_counts(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        ledger.note("hold", [16, 2.5])
    for _ in range(2):
        with Ledger(tmp_path / "l") as ledger:
            spent = ledger.spent()[""]
            assert (spent.attempts, spent.lost) == (16, 2.5)
            assert ledger.noted("hold") == [0, 0.0]


def test_settings_explain_old_rows(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        ledger.keep_settings([ENDPOINT, ENDPOINT])
        ledger.put(answer(1))
    with sqlite3.connect(tmp_path / "l") as connection:
        ((digest, text),) = connection.execute("SELECT digest, json FROM settings").fetchall()
    connection.close()
    assert digest == ENDPOINT.digest
    assert json.loads(text)["model"] == "m"


def test_any_text_comes_back(tmp_path):
    texts = ["", "\0x", "é\U0001f993", "'; DROP TABLE answers; --", "\r\n\t", "a" * 3_000_000]
    with Ledger(tmp_path / "l") as ledger:
        for number, text in enumerate(texts):
            ledger.put(answer(number, text=text, reasoning=text))
        ledger.flush()
        found = ledger.get([answer(number).key for number in range(len(texts))])
        assert [found[answer(n).key].text for n in range(len(texts))] == texts


def test_the_second_process_is_told(tmp_path):
    with Ledger(tmp_path / "l"), pytest.raises(LedgerError, match="another process is using this ledger"):
        Ledger(tmp_path / "l")
    Ledger(tmp_path / "l").close()


def test_newer_versions_and_strangers_are_refused_and_left_as_they_are(tmp_path):
    newer, stranger, text = tmp_path / "newer", tmp_path / "stranger", tmp_path / "text"
    with Ledger(newer) as ledger:
        ledger.put(answer(1))
    connection = sqlite3.connect(newer)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    connection = sqlite3.connect(stranger)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    text.write_text("not a database, but long enough to look like one " * 40)
    before = {path: path.read_bytes() for path in (newer, stranger, text)}
    for path, words in (
        (newer, "newer version"),
        (stranger, "no ledger of crowdselect"),
        (text, "not a database"),
    ):
        with pytest.raises(LedgerError, match=words):
            Ledger(path)
        assert path.read_bytes() == before[path]
    with pytest.raises(LedgerError, match="there is no folder"):
        Ledger(tmp_path / "none" / "l")


def test_a_write_that_fails_is_said_and_what_is_there_stays(tmp_path):
    ledger = Ledger(tmp_path / "l")
    ledger.put(answer(1))
    ledger.flush()
    real = ledger._insert

    def full(answers, notes):
        real(answers, notes)
        raise sqlite3.OperationalError("database or disk is full")

    ledger._insert = full
    ledger.put(answer(2))
    with pytest.raises(LedgerError, match="the disk is full or the file may grow no further; make room"):
        ledger.flush()
    with pytest.raises(LedgerError, match="disk is full"):
        ledger.put(answer(3))
    with pytest.raises(LedgerError, match="the last 1 answers are not in it"):
        ledger.close()
    with Ledger(tmp_path / "l") as again:
        assert again.known([answer(n).key for n in (1, 2)]) == {answer(1).key}


def test_room_that_is_made_in_time_is_used(tmp_path):
    ledger = Ledger(tmp_path / "l")
    real, fails = ledger._insert, [True]

    def full_once(answers, notes):
        if fails.pop() if fails else False:
            raise sqlite3.OperationalError("database or disk is full")
        real(answers, notes)

    ledger._insert = full_once
    ledger.put(answer(2))
    with pytest.raises(LedgerError):
        ledger.flush()
    ledger.close()
    with Ledger(tmp_path / "l") as again:
        assert again.known([answer(2).key]) == {answer(2).key}


def test_threads_end_with_the_ledger(tmp_path):
    before = threading.active_count()
    ledger = Ledger(tmp_path / "l")
    ledger.close()
    ledger.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/srv/a b/x", "nfs4"),
        ("/srv/a b", "nfs4"),
        ("/srv/a bc/x", None),
        ("/x", None),
        ("/srv/a b/local/x", None),
        ("/s/x", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_known_by_their_mounts(tmp_path, path, found):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "root / ext4 rw 0 0\nhost:/e /srv/a\\040b nfs4 rw 0 0\n/dev/x /srv/a\\040b/local ext4 rw 0 0\nme@h: /s fuse.sshfs rw 0 0\nodd\n"
    )
    assert network_file_system(Path(path), mounts=mounts) == found
    assert network_file_system(tmp_path, mounts=tmp_path / "none") is None


def test_a_network_file_system_is_refused_unless_forced(tmp_path, monkeypatch):
    monkeypatch.setattr("crowdselect.ask.ledger_file.network_file_system", lambda _path: "nfs4")
    with pytest.raises(LedgerError, match=r"network file system \(nfs4\).*`force_ledger=True`"):
        Ledger(tmp_path / "l")
    Ledger(tmp_path / "l", force=True).close()
