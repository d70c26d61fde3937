"""Scoring without a model: specs, the user's own function, imported scores, resuming, what is written."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from crowdselect import open_pool
from crowdselect.ask.ledger import Ledger
from crowdselect.cli.reward import reward
from crowdselect.errors import (
    CrowdselectError,
    InputError,
    LayoutError,
    LedgerError,
    OptionError,
    OutputError,
)
from crowdselect.locks import hold
from crowdselect.reward.job import Job, JobOptions
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, outcome_of
from crowdselect.reward.run import Column, survey, windows
from crowdselect.reward.scoring import PAIRS, WHOLE, built_in_items, in_this_process, score, self_test
from crowdselect.reward.specs import check_columns, parse_spec, parse_specs
from crowdselect.simulate.pool import simulate

SCORERS = """
import math, os, pathlib, time
def length(conversations):
    return [len(chat[-1]["content"]) for chat in conversations]
def odd(conversations):
    return [math.nan, math.inf, None][: len(conversations)] + [1.5] * (len(conversations) - 3)
def same(conversations):
    return [1.0] * len(conversations)
def short(conversations):
    return [1.0]
def words(conversations):
    return ["good"] * len(conversations)
def boom(conversations):
    for chat in conversations:
        yield float(chat[-1]["content"])
def none(conversations):
    return [None] * len(conversations)
def slow(conversations):
    with open("asked.txt", "a") as file:
        for chat in conversations:
            file.write(chat[-1]["content"].replace(chr(10), " ") + chr(10))
    time.sleep(0.1)
    return [float(len(chat[-1]["content"])) for chat in conversations]
number = 3
"""
BOOM = SCORERS.splitlines().index('        yield float(chat[-1]["content"])') + 1


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scorers_of_a_test.py").write_text(SCORERS)
    monkeypatch.delitem(sys.modules, "scorers_of_a_test", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.fixture
def pool(tmp_path):
    rows = {
        "id": ["a", "a", "b", "b", "c"],
        "instruction": ["Say one", "Say one", "Say two", "Say two", None],
        "model": ["m", "n", "m", "n", "m"],
        "response": ["one", "uno!", "two", " ", "orphan"],
    }
    pq.write_table(pa.table(rows), tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def run(*args):
    """The exit code, and what was printed; errors are raised."""
    found = CliRunner().invoke(reward, [str(arg) for arg in args], standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return found.return_value, found.output


def scored(pool, column, stored, **options):
    """How many scores were computed."""
    return sum(count for count, _ in score([WHOLE], in_this_process(column, pool, stored, **options)))


def own(name):
    return f"python:scorers_of_a_test:{name}"


# Specs and columns


@pytest.mark.parametrize(
    ("text", "kind", "target", "revision", "part", "column"),
    [
        ("hf:org/model", "hf", "org/model", None, None, "model"),
        ("hf:org/model@main#score", "hf", "org/model", "main", "score", "model"),
        ("http://h:1/x/classify", "http", "http://h:1/x/classify", None, None, "h-1"),
        ("http:https://h/v1/#o/m", "http", "https://h/v1", None, "o/m", "m"),
        ("judge:c.toml#big judge", "judge", "c.toml", None, "big judge", "big judge"),
        ("python:a.b:f", "python", "a.b:f", None, None, "f"),
        ("import:x.csv", "import", "x.csv", None, None, None),
        ("import:x.csv#one", "import", "x.csv", None, "one", "one"),
    ],
)
def test_specs(text, kind, target, revision, part, column):  # noqa: PLR0917  (a table's columns)
    spec = parse_spec(text)
    assert (spec.kind, spec.target, spec.revision, spec.part, spec.column) == (
        kind,
        target,
        revision,
        part,
        column,
    )


def test_a_path_that_exists_is_taken_whole(tmp_path):
    (tmp_path / "a@b#c").mkdir()
    spec = parse_spec(f"hf:{tmp_path}/a@b#c")
    assert (spec.target, spec.revision, spec.part, spec.column) == (f"{tmp_path}/a@b#c", None, None, "a@b#c")


@pytest.mark.parametrize(
    "text",
    [
        "org/model",
        "hf:",
        "what:x",
        "http:ftp://x",
        "http://u:p@h",
        "judge:c.toml",
        "python:f",
        "python:a:b c",
    ],
)
def test_specs_that_are_none(text):
    with pytest.raises(OptionError) as caught:
        parse_spec(text)
    assert repr(text) in str(caught.value)


def test_names(pool):
    with pytest.raises(OptionError, match="1 `name` for 2 `with`"):
        parse_specs(["hf:a/b", "hf:c/d"], ["x"])
    with pytest.raises(OptionError, match="say what to score with"):
        parse_specs([], [])
    with pytest.raises(OptionError, match="'b' is made by two of the scorers"):
        check_columns(["b", "b"], pool_path="p", pool_columns=[])
    with pytest.raises(OptionError, match="'score' is a reward of p already; choose another with `name`"):
        check_columns(["score"], pool_path="p", pool_columns=["Score"])
    for taken in ("id", "Reason", "truncated", "latency"):
        with pytest.raises(OptionError, match="choose another with `name`"):
            check_columns([taken], pool_path="p", pool_columns=[])


# Whole runs


def test_run_writes_every_answer_and_says_what_is_missing(pool):
    code, out = run(pool, "--with", own("length"), "-o", "r.parquet", "--no-self-test")
    assert code == 3
    assert "3 conversations sent to the scorers" in " ".join(out.split())
    rows = pq.read_table("r.parquet").to_pylist()
    assert [(row["id"], row["model"], row["sample"], row["length"], row["reason"]) for row in rows] == [
        ("a", "m", 0, 3.0, None),
        ("a", "n", 0, 4.0, None),
        ("b", "m", 0, 3.0, None),
        ("b", "n", 0, None, "the answer is empty"),
        ("c", "m", 0, None, "the instruction has no text"),
    ]
    manifest = json.loads(Path("r.parquet.manifest.json").read_text())
    assert manifest["tool"] == "crowdselect"
    assert manifest["columns"]["length"]["scored"] == 3
    assert manifest["columns"]["length"]["missing"] == {
        "the answer is empty": 1,
        "the instruction has no text": 1,
    }
    with open_pool(pool, rewards="r.parquet") as scored:
        assert scored.reward_columns == ("length",)
        assert scored.scores("length")[0].tolist() == [3, 4]


def test_nothing_that_was_scored_is_scored_again(pool):
    def asked():
        return Path("asked.txt").read_text().splitlines()

    run(pool, "--with", own("slow"), "-o", "r.parquet", "--no-self-test")
    assert sorted(asked()) == ["one", "two", "uno!"]
    code, out = run(pool, "--with", own("slow"), "-o", "r.parquet", "--no-self-test", "--overwrite")
    assert (code, len(asked())) == (3, 3)
    assert " 0 conversations sent" in out
    code, out = run(pool, "--with", own("slow"), "-o", "r.parquet", "--no-self-test")
    assert (code, len(asked())) == (3, 3)  # two answers have nothing to score
    assert "up to date: " in out
    with Path("scorers_of_a_test.py").open("a") as file:
        file.write("\n# changed code is another scorer\n")
    run(pool, "--with", own("slow"), "-o", "r.parquet", "--no-self-test", "--overwrite")
    assert len(asked()) == 6


def test_a_file_of_ours_gets_what_was_added_and_nothing_else_is_replaced(pool):
    def scores(*columns, code=0):
        more = [part for name in columns for part in ("--with", own(name))]
        found, out = run("grown.parquet", *more, "-o", "r.parquet", "--no-self-test")
        assert found == code
        return out

    rows = pq.read_table(pool).to_pylist()[:3]
    pq.write_table(pa.Table.from_pylist(rows[:2]), "grown.parquet")
    assert "written to" in scores("slow")
    before = Path("r.parquet").read_bytes()
    assert "up to date: " in scores("slow")
    assert Path("r.parquet").read_bytes() == before
    pq.write_table(pa.Table.from_pylist(rows), "grown.parquet")  # more rows
    assert " 1 conversation sent" in scores("slow")
    assert "written to" in scores("slow", "length")  # one more scorer
    with pytest.raises(OutputError, match="`score_columns` was"):
        scores("length")
    with Path("scorers_of_a_test.py").open("a") as file:
        file.write("\n# changed\n")
    with pytest.raises(OutputError, match=r"`slow\.code` was .* `overwrite=True`|--overwrite"):
        scores("slow", "length")
    Path("scorers_of_a_test.py").write_text(SCORERS)
    Path("r.parquet.manifest.json").unlink()  # as of a run that was killed before it wrote this
    assert "written to" in scores("slow", "length")
    table = pq.read_table("r.parquet")
    pq.write_table(table.append_column("mine", pa.array([1, 2, 3])), "r.parquet")
    with pytest.raises(OutputError, match="there is such a file already"):
        scores("slow", "length")


def test_an_answer_that_failed_is_looked_up_again(pool):
    given = (pool, "--with", own("odd"), "-o", "r.parquet", "--no-self-test")
    assert run(*given)[0] == 3
    code, out = run(*given)
    assert (code, "written to" in out) == (3, True)


def test_plan_scores_nothing_and_makes_no_ledger(pool, tmp_path):
    code, out = run(
        pool, "--with", own("slow"), "--with", own("length"), "-o", "r.parquet", "--dry-run", "--json"
    )
    assert code == 0
    plan = {row["column"]: row for row in json.loads(out)["plan"]}
    assert (plan["slow"]["answers"], plan["slow"]["to_score"], plan["slow"]["cannot_be_scored"]) == (5, 3, 2)
    assert sorted(file.name for file in tmp_path.iterdir() if file.name[0] != "_") == [
        "pool.parquet",
        "scorers_of_a_test.py",
    ]
    run(pool, "--with", own("length"), "-o", "r.parquet")
    _, out = run(
        pool,
        "--with",
        own("slow"),
        "--with",
        own("length"),
        "-o",
        "r.parquet",
        "--dry-run",
        "--json",
        "--overwrite",
    )
    assert {row["column"]: row["to_score"] for row in json.loads(out)["plan"]} == {"slow": 3, "length": 0}


def test_scores_that_are_none(pool):
    code, _ = run(pool, "--with", own("odd"), "--with", own("length"), "-o", "r.parquet", "--no-self-test")
    rows = pq.read_table("r.parquet").to_pylist()
    assert code == 3
    assert [row["odd"] for row in rows] == [None] * 5
    assert [row["reason"] for row in rows] == [
        "odd: the scorer gave NaN",
        "odd: the scorer gave an infinite number",
        "odd: the function gave no score",
        "odd: the answer is empty; length: the answer is empty",
        "odd: the instruction has no text; length: the instruction has no text",
    ]


def test_function_that_is_none(pool):
    for name, said in (
        ("short", "number of scores: 1, of conversations: 3"),
        ("words", "gave 'good' as a score"),
        ("boom", rf"^{own('boom')}: ValueError: could not .*: 'one' \(scorers_of_a_test.py, line {BOOM}\)$"),
    ):
        with pytest.raises(InputError, match=said):
            run(pool, "--with", own(name), "-o", "r.parquet", "--no-self-test")
    for spec, said in (
        (own("gone"), "has no 'gone'"),
        (own("number"), "is not a function"),
        ("python:no_such_module_here:f", "there is no module 'no_such_module_here'"),
    ):
        with pytest.raises(OptionError, match=said):
            run(pool, "--with", spec, "-o", "r.parquet")


def test_last_line_counts_what_has_a_score(pool):
    _, said = run(pool, "--with", own("odd"), "--with", own("length"), "-o", "r.parquet", "--no-self-test")
    assert "3 of 10 scores; 6 conversations sent to the scorers in this run" in " ".join(said.split())
    _, said = run(pool, "--with", own("none"), "-o", "n.parquet", "--no-self-test")
    assert "0 of 5 scores" in said
    assert "use it" not in said


def test_warnings_about_useless_scores(pool):
    run(pool, "--with", own("same"), "-o", "r.parquet")
    manifest = json.loads(Path("r.parquet.manifest.json").read_text())
    assert any(
        "SELF-TEST: same gives 1 to both answers to 'What is the capital of France?'" in w
        for w in manifest["warnings"]
    )
    assert "same: all 3 scores are 1, so they are not informative" in manifest["warnings"]


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        (["-o", "r.csv"], OutputError, "rewards are written as Parquet"),
        (["-o", "pool.parquet", "--overwrite"], OutputError, "is, or contains, the input"),
        (["-o", "r.parquet", "--name", "sample"], OptionError, "'sample' is a column of every rewards file"),
        (["-o", "r.parquet", "--batch-tokens", "2"], OptionError, "--batch-tokens 2 is too small"),
        (["-o", "r.parquet", "--dtype", "int8"], OptionError, "--dtype 'int8' is unknown"),
        (["-o", "r.parquet", "--api", "grpc"], OptionError, "--api 'grpc' is unknown"),
        (["-o", "r.parquet", "--samples", "0"], OptionError, "--samples 0"),
    ],
)
def test_refused_before_any_work(pool, args, error, said):
    with pytest.raises(error, match=said):
        run("pool.parquet", "--with", own("slow"), *args)
    assert not Path("asked.txt").exists()


def test_pool_without_responses(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "m": [1.0], "n": [2.0]}), tmp_path / "matrix.parquet")
    with pytest.raises(InputError, match="the pool holds no responses"):
        run("matrix.parquet", "--with", own("length"), "-o", "r.parquet")


# Imported scores


def test_import(pool, tmp_path):
    (tmp_path / "s.csv").write_text("id,model,helpful,honest\na,m,1,10\na,n,2,\nb,m,3,30\nz,m,4,40\n")
    code, _ = run(pool, "--with", "import:s.csv", "-o", "r.parquet")
    table = pq.read_table("r.parquet")
    assert code == 3
    assert table["helpful"].to_pylist() == [1.0, 2.0, 3.0, None, None]
    assert table["honest"].to_pylist() == [10.0, None, 30.0, None, None]
    assert table["reason"][1].as_py() == "honest: the file has no honest for it"
    warnings = json.loads(Path("r.parquet.manifest.json").read_text())["warnings"]
    assert warnings == [
        f"{name}: s.csv: 1 scores are of no answer with text in the pool" for name in ("helpful", "honest")
    ]
    assert not Path("r.parquet.ledger").exists()
    run(pool, "--with", "import:s.csv#honest", "--name", "truth", "-o", "r2.parquet")
    assert pq.read_schema("r2.parquet").names == ["id", "model", "sample", "truth", "truncated", "reason"]


def test_import_that_is_none(pool, tmp_path):
    (tmp_path / "twice.csv").write_text("id,model,s\na,m,1\na,m,2\n")
    (tmp_path / "text.csv").write_text("id,model,s\na,m,good\n")
    (tmp_path / "nomodel.csv").write_text("id,s\na,1\n")
    for spec, error, said in (
        ("import:twice.csv", InputError, "twice.csv: row 2: a second score for"),
        ("import:text.csv", InputError, "no scores: no numeric column"),
        ("import:nomodel.csv", LayoutError, "not a rewards file"),
        ("import:text.csv#t", InputError, "no scores"),
        ("import:gone.csv", InputError, "no such file"),
    ):
        with pytest.raises(error, match=said):
            run(pool, "--with", spec, "-o", "r.parquet")
    (tmp_path / "two.csv").write_text("id,model,s,t\na,m,1,2\n")
    with pytest.raises(OptionError, match=r"--name 'x' for 2 columns of two.csv \(s, t\)"):
        run(pool, "--with", "import:two.csv", "--name", "x", "-o", "r.parquet")


# Samples and layouts


@pytest.mark.parametrize("layout", ["long", "zoo"])
def test_every_layout_and_sample(layout, tmp_path):
    simulate(tmp_path / "p.parquet", instructions=30, layout=layout, samples=1 if layout == "zoo" else 2)
    run("p.parquet", "--with", own("length"), "-o", "r.parquet", "--no-self-test")
    table = pq.read_table("r.parquet")
    with open_pool("p.parquet") as pool:
        assert len(table) == len(pool.ids) * len(pool.models) * (1 if layout == "zoo" else 2)
        texts = pool.responses([(row["id"], row["model"]) for row in table.to_pylist() if row["sample"] == 0])
    lengths = [row["length"] for row in table.to_pylist() if row["sample"] == 0]
    assert all(
        n is None or n == len(text) for n, text in zip(lengths, texts, strict=True) if text is not None
    )
    with open_pool("p.parquet", rewards="r.parquet") as scored:
        assert scored.scores("length").shape == (30, len(scored.models))


def test_windows_are_bounded(tmp_path):
    simulate(tmp_path / "p.parquet", instructions=100)
    with open_pool("p.parquet", limit=40) as pool:
        sizes = [len(window.items) for window in windows(pool, size=50)]
        assert sum(sizes) == 40 * len(pool.models)
        assert max(sizes) <= 50


# Exactly once


class Counting(BaseScorer):
    """Counts how often each conversation is scored; fails at some."""

    def __init__(self, *, fail_at=None, settings=None):
        super().__init__("test", settings or {"kind": "test"})
        self.asked = []
        self.fail_at = fail_at

    def score(self, items):
        for at, item in enumerate(items):
            if len(self.asked) == self.fail_at:
                raise OptionError("the scorer broke")
            self.asked.append(self.identity(item))
            yield [(at, outcome_of(float(len(self.asked))))]


def test_a_broken_run_goes_on_where_it_was(tmp_path):
    simulate(tmp_path / "p.parquet", instructions=20)
    first, second = Counting(fail_at=77), Counting()
    with open_pool("p.parquet") as pool:
        with Ledger("l") as ledger, pytest.raises(OptionError, match="broke"):
            scored(pool, Column.of("x", first), ledger)
        with Ledger("l") as ledger:
            column = Column.of("x", second)
            left = survey(pool, [column], ledger, retry_failed=False)["x"].todo
            assert scored(pool, column, ledger) == left == len(second.asked)
            assert scored(pool, column, ledger) == 0
    both = first.asked + second.asked
    assert len(first.asked) == 77
    assert len(both) == len(set(both))


def test_other_settings_are_scored_apart_and_failures_on_request(tmp_path):
    class Failing(Counting):
        def score(self, items):
            self.asked += map(self.identity, items)
            yield [(at, Outcome(reason="no", passing=True)) for at in range(len(items))]

    simulate(tmp_path / "p.parquet", instructions=5)
    with open_pool("p.parquet") as pool, Ledger("l") as ledger:
        failing = Failing()
        n = scored(pool, Column.of("x", failing), ledger)
        assert n == len(failing.asked) > 0
        assert scored(pool, Column.of("x", Counting()), ledger) == 0
        assert scored(pool, Column.of("x", Counting(settings={"kind": "other"})), ledger) == n
        assert scored(pool, Column.of("x", Counting()), ledger, retry_failed=True) == n
        assert scored(pool, Column.of("x", Counting()), ledger, retry_failed=True) == 0


def test_two_runs_on_one_output(pool, tmp_path):
    lock = hold(tmp_path / "r.parquet.lock")
    with (
        lock,
        pytest.raises(OutputError, match=r"r\.parquet: another process is scoring into this file; wait"),
    ):
        run(pool, "--with", own("slow"), "-o", "r.parquet")
    assert not Path("asked.txt").exists()
    assert run(pool, "--with", own("slow"), "-o", "r.parquet")[0] == 3
    assert not Path("r.parquet.lock").exists()


def test_two_runs_on_one_ledger(pool):
    with Ledger("r.parquet.ledger"), pytest.raises(LedgerError, match="another process is using this ledger"):
        run(pool, "--with", own("length"), "-o", "r.parquet")


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_killed_runs_score_nothing_twice_but_what_was_in_flight(tmp_path):
    """The process is killed a few times; what it had recorded is not computed again."""
    simulate(tmp_path / "p.parquet", instructions=80)
    code = textwrap.dedent("""
        import crowdselect.reward.own as function, crowdselect.reward.run as run
        function._AT_ONCE = 100
        run.WINDOW = 300
        from crowdselect.cli.reward import reward
        reward(["p.parquet", "--with", "python:scorers_of_a_test:slow", "-o", "r.parquet", "--no-self-test"])
    """)
    kills = 0
    for wait in (1.0, 1.3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        asked = tmp_path / "asked.txt"
        before = asked.stat().st_size if asked.exists() else 0
        while process.poll() is None and (asked.stat().st_size if asked.exists() else 0) == before:
            time.sleep(0.02)
        time.sleep(0.4 * wait)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False)
    asked = (tmp_path / "asked.txt").read_text().splitlines()
    table = pq.read_table("r.parquet")
    with open_pool("p.parquet") as pool:
        needed = survey(pool, [Column.of("x", Counting())], None, retry_failed=False)["x"].todo
    assert kills > 0
    assert (
        needed <= len(asked) <= needed + 200 * kills
    )  # a call, and what waits a twentieth of a second to be written
    there = [row for row in table.to_pylist() if row["reason"] is None]
    assert len(there) == len([1 for row in table.to_pylist() if row["slow"] is not None]) > 800


# Self-test


def test_self_test():
    def by(rule):
        return lambda items: [rule(item) for item in items]

    good = {answer for _, answer, _ in PAIRS}
    assert self_test("x", by(lambda item: outcome_of(float(item.messages[-1]["content"] in good)))) == []
    warned = self_test("x", by(lambda item: outcome_of(-float(item.messages[-1]["content"] in good))))
    assert "prefers the bad answer to 'What is the capital of France?': -0, to the good one -1" in warned[0]
    assert "`self_test=False`" in warned[-1]
    failed = self_test("x", by(lambda item: Outcome(reason="it is off")))
    assert failed[0].endswith("gives no score to 'What is the capital of France?': it is off")
    assert all(isinstance(item, Item) for item in built_in_items())


def test_job_is_usable_from_python(pool):
    with (
        open_pool(pool) as opened,
        Job(opened, parse_specs([own("length")], []), "r.parquet", JobOptions()) as job,
    ):
        result = job.run(job.plan())
    assert not result.is_complete
    assert result.tallies["length"].scored == 3
    assert issubclass(LedgerError, CrowdselectError)
