"""Rewards that are checked: where the final answer is, how it is compared, and what a run does with it."""

import json
import os
import re
import signal
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect.ask.budget import Limits
from crowdselect.ask.calls import Reply, ScriptedClient
from crowdselect.cache import Parts
from crowdselect.collect.instructions import open_instructions
from crowdselect.collect.job import Task as Collected
from crowdselect.collect.job import collect, last_task, plan
from crowdselect.errors import InputError, MissingExtraError, OptionError
from crowdselect.reward.specs import parse_spec
from crowdselect.verify.choice import choices_in, letter_of
from crowdselect.verify.exact import is_right, is_same_text, number_in, plain_number
from crowdselect.verify.final import final_answer
from crowdselect.verify.processes import Checkers
from crowdselect.verify.verifiers import VERIFIERS, Task, Verdict, check
from math_cases import CASES

LETTERS = "Which is largest?\nA. a cat\nB. a blue whale\nC. 7\nAnswer with a letter."

# Where the final answer is


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # The order: a JSON field, a box, hashes, "answer is", the last line
        ('{"answer": "1"} \\boxed{2}\n#### 3\nThe answer is 4\n5', "1"),
        ("\\boxed{2}\n#### 3\nThe answer is 4\n5", "2"),
        ("The answer is 4\n5\n#### 3", "3"),
        ("The answer is 4\n5", "4"),
        ("I say\n5", "5"),
        # JSON fields
        ('```json\n{"reasoning": "6 * 3", "answer": "18"}\n```\nDone.', "18"),
        ('{"answer": "1"} then {"answer": "2"}', "2"),
        ('{"answer": 1.50, "x": 2}', "1.50"),
        ('{"answer": -3\n}', "-3"),
        ('{"answer": null}\nthe answer is 7', "7"),
        ('{"answer": ""}', ""),
        ('{"answer": ["a", "b"], "x": 1}', '["a", "b"]'),
        ('{"answer": {"a": [1]}}', '{"a": [1]}'),
        ('{"answer": [(1, 2), (3, 4)]}', "[(1, 2), (3, 4)]"),
        ('{"answer": "a \\"quoted\\" word"}', 'a "quoted" word'),
        ('{"answer": "["a", "b"]"}', '["a", "b"]'),
        ('{"answer": "it says "no" here", "x": 1}', 'it says "no" here'),
        ('{"answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
        ('{"answer": "\\\\frac{1}{2}"}', r"\frac{1}{2}"),
        ('{"answer": "x \\neq 2"}', r"x \neq 2"),
        ('{"answer": "a\\nb"}', "a\nb"),
        ('{"answer": "\\u0041"}', "A"),
        ('{"reasoning": "say \\"answer\\": \\"3\\""}\n9', "9"),
        ('{"answer": "cut in the mid', "cut in the mid"),
        # Boxes
        (r"\boxed{1} and \boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1} \boxed{2", r"\boxed{1} \boxed{2"),
        (r"\fbox{3}", "3"),
        # Hashes
        ("so\n#### 1,234\n\nHope this helps", "1,234"),
        ("#### Step 1: add\nThe answer is 4.", "4"),
        ("so\n#### Paris", "Paris"),
        # Words
        ("The answer is 18.5 dollars. I am sure.", "18.5 dollars"),
        ("**Answer:** (B)", "(B)"),
        ("Answer:\n18", "18"),
        ("First the answer is 3. No, the answer is 4", "4"),
        ("the answers are 3\n4", "4"),
        # The last line
        ("a\nb: 5\n```\n", "b: 5"),
        (" \n\n", None),
        ("...", None),
    ],
)
def test_the_final_answer_is_found_in_one_order(text, found):
    assert final_answer(text) == found


def test_another_place_is_named_by_a_pattern():
    assert final_answer("x=1 x=2", re.compile("x=([0-9])")) == "2"
    assert final_answer("x=1 x=2", re.compile("x=[0-9]")) == "x=2"
    assert final_answer('{"answer": "1"}', re.compile("x=")) is None


# exact


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("18", "18", True),
        ("18.0", "18", True),
        ("1,600", "1600", True),
        ("$1,600.00", "# 1,600", True),
        ("18 eggs", "18", True),
        ("She has 18 eggs.", "18", True),
        ("6 * 3 = 18", "18", True),
        ("x = -3", "-3", True),
        ("\u22123", "-3", True),
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        ("0.333333", "1/3", True),
        ("0.3333", "1/3", False),
        ("33.333333", "100/3", True),
        ("1450001", "1450000", False),
        ("1450000.5", "1450000", False),
        ("0.000000001", "0.000000002", False),
        ("1e3", "1000", True),
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50%", "5000%", False),
        ("5", "50%", False),
        ("between 3 and 18", "18", False),
        ("3 of 18", "18", False),
        ("18x", "18", False),
        ("3 or 5", "3", False),
        (r"3\pi", "3", False),
        ("x^3", "3", False),
        ("about 18, I think", "18", True),
        ("18cm", "18", True),
        ("18 + 2", "18", False),
        ("(18, 2)", "18", False),
        ("18", "eighteen", False),
        ("'8999'", "'08999'", False),
        ("1/0", "0", False),
        ("9" * 5000, "9" * 5000, True),
        ("Paris", "Paris", True),
        (" **Paris**. ", "Paris", True),
        ("paris", "Paris", False),
        ("New  York", "New York", True),
        ("\u201cyes\u201d", "'yes'", True),
        ('["a","b"]', "['a', 'b']", True),
        ("{'a': 1}", '{"a":1}', True),
        ("'a  b'", "'a b'", False),
        ("a\\nb", "'a\nb'", True),
        ("''", "", True),
        ("", "x", False),
    ],
)
def test_numbers_and_texts(answer, reference, right):
    assert is_right(answer, reference) is right


def test_numbers_are_read_exactly():
    assert plain_number("1,234,567.25").value == Fraction(4938269, 4)
    assert plain_number("12,34") is None
    assert plain_number("1 2") is None
    assert number_in("no number") is None
    assert number_in("1 and 2") is None
    assert not is_same_text("a", "b")


# choice


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B)** a blue whale", "B"),
        (r"\text{(B)}", "B"),
        ("option B", "B"),
        ("The correct choice is B", "B"),
        ("a blue whale", "B"),
        ("A Blue Whale.", "B"),
        ("It must be a blue whale, I think", "B"),
        ("7.0", "C"),
        ("a cat", "A"),
        ("A cat", "A"),
        ("A dog", None),
        ("a cat or a blue whale", None),
        ("option A or option B", None),
        ("none of them", None),
    ],
)
def test_a_choice_is_named_by_letter_or_text(text, letter):
    assert letter_of(text, choices_in(LETTERS)) == letter


def test_choices_of_a_question():
    assert choices_in(LETTERS) == {"A": "a cat", "B": "a blue whale", "C": "7"}
    assert choices_in("Pick: (A) x (B) y") == {"A": "x", "B": "y"}
    assert choices_in("Example: A. 1\nB. 2\nNow: A. 3\nB. 4") == {"A": "3", "B": "4"}
    assert choices_in("Plan A. is good") == choices_in("no list") == {}


@pytest.mark.parametrize(
    ("answer", "reference", "question", "verdict"),
    [
        ("The answer is (B).", "B", LETTERS, 1.0),
        ("The answer is (A).", "B", LETTERS, 0.0),
        ("B", "a blue whale", LETTERS, 1.0),
        ("a blue whale", "B", LETTERS, 1.0),
        ("no idea", "B", LETTERS, 0.0),
        ("B", "B", "no list", 1.0),
        ("a whale", "A whale", "no list", 1.0),
        ("Paris", "B", "no list", "the answer names no letter, and the instruction lists no choices"),
        ("B", "D", LETTERS, "the reference is none of the choices that the instruction lists"),
        ("B", "a dog", LETTERS, "the reference is none of the choices that the instruction lists"),
        ("B", " ", LETTERS, "the reference is empty"),
    ],
)
def test_choices_are_checked(answer, reference, question, verdict):
    found = check(VERIFIERS["choice"], Task(answer, reference, question))
    assert (found.reason if found.score is None else found.score) == verdict


# math


@pytest.mark.extra
@pytest.mark.parametrize(("reference", "answer", "right"), CASES)
def test_math_agrees_with_math_verify(reference, answer, right):
    math_verify = pytest.importorskip("math_verify")
    gold = math_verify.parse(f"${reference}$")
    for text in (f"So we get \\boxed{{{answer}}}.", f"The final answer is ${answer}$."):
        assert math_verify.verify(gold, math_verify.parse(text)) is right
        assert check(VERIFIERS["math"], Task(text, reference)) == Verdict(float(right))


def test_the_cases_are_many_and_of_both_kinds():
    assert len({(reference, answer) for reference, answer, _ in CASES}) == len(CASES) >= 100
    assert min(Counter(right for *_, right in CASES).values()) > 30


@pytest.mark.extra
@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("", "the reference is empty"),
        (None, "the reference is empty"),
        ("proof", "the reference says 'proof'"),
        ("Notfound", "the reference says 'notfound'"),
        ("It depends on the day", "the reference is a sentence, not an expression"),
        (r"\frac{", "the reference cannot be read as mathematics"),
        ("12 square meters per second", None),
        (r"2\sqrt{3} \text{ cm}", None),
        (r"\text{Sunday}", None),
        ("x > 3 or x < 2", None),
    ],
)
def test_references_that_mathematics_cannot_check(reference, reason):
    pytest.importorskip("math_verify")
    assert check(VERIFIERS["math"], Task(None, reference)).reason == reason


# Processes


def test_what_takes_too_long_and_what_dies_costs_one_answer():
    slow, fine = Task("a" * 40, "x"), Task("xxb", "xxb")
    with Checkers("exact", "(?:a+)+b|x+b", processes=1, seconds=0.5) as checkers:
        began = time.monotonic()
        found = dict(checkers.verdicts([fine, slow, fine]))
        assert time.monotonic() - began < 20
        assert [found[at].score for at in range(3)] == [1.0, None, 1.0]
        assert found[1] == Verdict(None, "it could not be checked within 0.5 seconds", passing=True)
        (process,) = checkers._alive
        os.kill(process._process.pid, signal.SIGKILL)
        found = dict(checkers.verdicts([fine, fine]))
        assert found[0] == Verdict(None, "the process that checked it ended (SIGKILL)", passing=True)
        assert found[1].score == 1.0


def test_processes_end_when_they_are_closed_and_when_the_parent_is_gone():
    checkers = Checkers("exact", "(?:a+)+b", processes=1, seconds=60)
    list(checkers.verdicts([Task("ab", "ab")]))
    (process,) = checkers._alive
    checkers._threads.submit(checkers._checked, [Task("a" * 40, "x")])  # would take a minute
    checkers.close()
    assert process._process.returncode is not None
    other = Checkers("exact", processes=1)
    list(other.verdicts([Task("1", "1")]))
    (process,) = other._alive
    process._input.close()  # as at the end of the parent
    assert process._process.wait(20) == 0
    other.close()


def test_the_number_of_processes_changes_nothing():
    tasks = [Task(f"The answer is {n % 7}", str(n % 5)) for n in range(300)]
    with Checkers("exact", processes=1) as one, Checkers("exact", processes=3) as three:
        assert dict(one.verdicts(tasks)) == dict(three.verdicts(tasks))
        assert dict(one.verdicts(tasks)) == {
            at: Verdict(float(at % 7 == at % 5)) for at in range(300)
        }  # and they live on


def test_large_and_odd_texts_go_through():
    tasks = [
        Task("x" * 3_000_000 + "\nThe answer is 7", "7"),
        Task("\ud800 7", "\ud800 7"),
        Task("a\u2028b", "c"),
    ]
    with Checkers("exact", processes=1) as checkers:
        assert [checked.score for _, checked in sorted(checkers.verdicts(tasks))] == [1.0, 1.0, 0.0]


def test_what_a_parser_raises_is_a_reason():
    with Checkers("exact", processes=1) as checkers:
        ((_, found),) = checkers.verdicts([Task("7", 7)])  # no text
    assert found == Verdict(None, "it cannot be checked: AttributeError")


def test_verifiers_that_cannot_be_used(monkeypatch):
    with pytest.raises(OptionError, match=r"there is no verifier 'mat'.*did you mean 'math'"):
        Checkers("mat")
    with pytest.raises(OptionError, match=r"`extract` '\(' is no regular expression: missing \)"):
        Checkers("exact", "(")
    monkeypatch.setattr("crowdselect._optional.find_spec", lambda _: None)
    with pytest.raises(
        MissingExtraError, match=r"math_verify is not installed; run: pip install .*\[verify\]"
    ):
        Checkers("math")


# Whole runs

ROWS = [
    ("1", "6 * 3?", "18", "m", "It is 18.", "stop"),
    ("1", "6 * 3?", "18", "n", "It is 19.", "stop"),
    ("2", "Prove it", "proof", "m", "Clearly.", "stop"),
    ("2", "Prove it", "proof", "n", " ", "stop"),
    ("3", "5?", "5", "m", "The answer is 5", "length"),
    ("3", "5?", "5", "n", "The answer is 5", "content_filter"),
    ("4", "5?", "5", "m", "<think>The answer is 5", None),
    ("4", "5?", "5", "n", "<think>6?</think> 5", None),
    ("5", "5?", None, "m", "5", "error"),
    ("5", "5?", None, "n", "5", "repetition"),
]
REASONS = {
    ("2", "m"): "the reference says 'proof'",
    ("2", "n"): "the answer is empty",
    ("3", "m"): "the answer was cut off",
    ("3", "n"): "the answer was withheld by a content filter",
    ("4", "m"): "the answer was cut off",
    ("5", "m"): "the answer was broken off by an error",
    ("5", "n"): "the reference is empty",
}


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("id", "instruction", "answer", "model", "response", "finish_reason")
    pq.write_table(pa.table(dict(zip(names, zip(*ROWS, strict=True), strict=True))), "pool.parquet")
    return Path("pool.parquet")


def verdicts(file):
    rows = pq.read_table(file).to_pylist()
    return {(row["id"], row["model"]): row["exact"] for row in rows}, {
        (row["id"], row["model"]): row["reason"] for row in rows if row["reason"]
    }


def test_a_run_checks_whole_answers_and_says_why_the_others_have_no_score(run, pool):
    made = run("reward", pool, "--with", "verify:exact#answer", "-o", "r.parquet")
    assert made.code == 3, made
    scores, reasons = verdicts("r.parquet")
    assert reasons == REASONS
    assert {place: score for place, score in scores.items() if score is not None} == {
        ("1", "m"): 1.0,
        ("1", "n"): 0.0,
        ("4", "n"): 1.0,
    }
    assert "SELF-TEST" not in made.err
    settings = json.loads(Path("r.parquet.manifest.json").read_text())["columns"]["exact"]["settings"]
    assert (settings["kind"], settings["verifier"], settings["column"]) == ("verify", "exact", "answer")


def test_verdicts_are_kept_by_content(run, pool):
    line = ("reward", pool, "--with", "verify:exact#answer", "-o", "r.parquet")
    run(*line)
    assert run(*line).out.rstrip().splitlines()[-4].startswith("up to date: r.parquet: 3 of 10 scores")
    before = len(Parts(Path("r.parquet.parts")).read("key"))
    table = pq.read_table(pool)
    more = table.slice(0, 1).set_column(0, "id", pa.array(["6"]))  # the same answer to another instruction
    pq.write_table(pa.concat_tables([table, more]), pool)
    made = run(*line)
    assert " 0 conversations sent" in made.out
    assert verdicts("r.parquet")[0]["6", "m"] == 1.0
    changed = table.set_column(2, "answer", pa.array(["19"] * len(table)))
    pq.write_table(changed, pool)
    assert " 4 conversations sent" in run(*line).out  # of five answers two are the same
    assert verdicts("r.parquet")[0]["1", "n"] == 1.0
    assert len(Parts(Path("r.parquet.parts")).read("key")) > before


def test_a_plan_counts_what_cannot_be_checked(run, pool):
    made = run("reward", pool, "--with", "verify:exact#answer", "--dry-run", "--json")
    (row,) = json.loads(made.out)["plan"]
    assert (made.code, row["answers"], row["cannot_be_scored"], row["to_score"]) == (0, 10, 7, 3)
    assert row["reasons"] == dict(Counter(REASONS.values()))
    assert (
        "the reference says 'proof'" in run("reward", pool, "--with", "verify:exact#answer", "--dry-run").out
    )
    assert sorted(path.name for path in Path().iterdir()) == ["pool.parquet"]


def test_a_plan_looks_at_instructions_that_have_no_answers_yet(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": str(n), "instruction": LETTERS, "answer": answer} for n, answer in enumerate([*"BD", None])
    ]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ("reward", "in.jsonl", "--with", "verify:choice#answer", "--dry-run")
    (row,) = json.loads(run(*line, "--json").out)["plan"]
    assert (row["instructions"], row["can_be_checked"], row["cannot_be_checked"]) == (3, 1, 2)
    assert row["reasons"] == {
        "the reference is none of the choices that the instruction lists": 1,
        "the reference is empty": 1,
    }
    assert "can be checked" in run(*line).out
    run("reward", "in.jsonl", "--with", "verify:exact#anser", "--dry-run").refuses(
        "no column 'anser' of right answers", "did you mean 'answer'?"
    )
    run("reward", "in.jsonl", "--with", "verify:exact#answer", "-o", "r.parquet").refuses("lacks the answers")


def test_samples_are_checked_one_by_one_and_columns_may_differ(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": "1", "instruction": LETTERS, "a": "B", "b": "7", "model": "m", "sample": n, "response": text}
        for n, text in enumerate(["\\boxed{B}", "\\boxed{7}", "\\boxed{A}"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    made = run(
        "reward", "pool.parquet", "--with", "verify:choice#a", "--with", "verify:exact#b", "-o", "r.parquet"
    )
    assert made.code == 0, made
    table = pq.read_table("r.parquet").to_pydict()
    assert (table["sample"], table["choice"], table["exact"]) == ([0, 1, 2], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])


def test_references_that_are_no_choices_are_counted(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": f"{n}{model}", "instruction": question, "answer": right, "model": model, "response": "Paris"}
        for n, (question, right) in enumerate(
            [(LETTERS, "B"), ("Capital?", "Paris"), ("Capital?", "Rome"), ("Which?", "(C)"), ("Empty", " ")]
        )
        for model in "mn"
    ]
    for row in rows:
        row["id"] = row["id"][0]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    line = ("reward", "pool.parquet", "--with", "verify:choice#answer", "-o", "r.parquet")
    wanted = "2 of 5 references name no letter, and their instructions list no choices: answers are compared with them as texts"
    assert wanted in " ".join(run(*line).err.split())
    assert wanted in json.loads(Path("r.parquet.manifest.json").read_text())["warnings"][0]
    assert wanted in " ".join(run(*line, "--overwrite").err.split())  # with all scores in the cache
    exact = run("reward", "pool.parquet", "--with", "verify:exact#answer", "-o", "e.parquet")
    assert "no letter" not in exact.err


def test_a_pattern_names_the_place_of_the_answer(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": "1", "instruction": "?", "answer": "7", "model": model, "response": text}
        for model, text in (("m", "result=<7> or 8"), ("n", "7"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    line = ("reward", "pool.parquet", "--with", "verify:exact#answer", "-o", "r.parquet")
    assert run(*line, "--extract", "<(.*)>").code == 3
    assert verdicts("r.parquet") == (
        {("1", "m"): 1.0, ("1", "n"): None},
        {("1", "n"): "`extract` matches nothing in the answer"},
    )
    run(*line, "--extract", "x").refuses("`exact.extract` was", "--overwrite")


def test_what_is_no_verifier_is_refused(run, pool):
    for spec in ("verify:exact", "verify:exact#", "verify:what#answer", "verify:#answer"):
        with pytest.raises(OptionError, match=re.escape(f"{spec!r}: wanted verify:math|exact|choice#COLUMN")):
            parse_spec(spec)
    assert parse_spec("verify:math#the answer").part == "the answer"
    run("reward", pool, "--with", "verify:exact#anwser", "-o", "r.parquet").refuses("did you mean 'answer'?")
    run("reward", pool, "--with", "python:os:getcwd", "--extract", "x", "--dry-run").refuses(
        "--extract is for verifiers"
    )


def test_a_function_in_a_file_scores(run, pool):
    Path("own").mkdir()
    Path("own/mine.py").write_text(
        "def length(conversations):\n    return [len(chat[-1]['content']) for chat in conversations]\n"
    )
    made = run("reward", pool, "--with", "python:own/mine.py:length", "-o", "r.parquet", "--no-self-test")
    assert made.code == 3, made
    assert pq.read_table("r.parquet")["length"].to_pylist()[:2] == [9.0, 9.0]
    run("reward", pool, "--with", "python:none.py:length", "-o", "s.parquet").refuses(
        "there is no file 'none.py'"
    )
    run("reward", pool, "--with", "python:own/mine.py:lenght", "-o", "s.parquet").refuses("has no 'lenght'")


def test_the_functions_that_the_docs_show_score(run, tmp_path, monkeypatch):
    page = (Path(__file__).parent.parent / "docs" / "verifiers.md").read_text(encoding="utf-8")
    lines, code = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    monkeypatch.chdir(tmp_path)
    answers = [
        ("Say it in three lines", "a\nb\nc"),
        ("Say it in three lines", "a"),
        ("Write code", "```python\nprint(1)\n```"),
        ("Write code", "```python\n1 / 0\n```"),
    ]
    rows = [
        {"id": str(n), "instruction": asked, "model": "m", "response": said}
        for n, (asked, said) in enumerate(answers)
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    Path("lines.py").write_text(lines)
    code = re.sub(r"SANDBOX = \[.*\]", f"SANDBOX = [{sys.executable!r}]", code)  # no container in a test
    Path("programs.py").write_text(code)
    made = run(
        *(
            "reward",
            "pool.parquet",
            "--with",
            "python:lines.py:three_lines",
            "--with",
            "python:programs.py:runs",
        ),
        *("-o", "r.parquet", "--no-self-test"),
    )
    assert made.code == 3, made
    table = pq.read_table("r.parquet").to_pydict()
    assert (table["three_lines"], table["runs"]) == ([1.0, 0.0, None, None], [None, None, 1.0, 0.0])


# Instructions that can be checked


class Crowd:
    """Instructions, a crowd of one scripted model, and how to collect."""

    def __init__(self, folder):
        self.folder = folder
        rows = [
            {"id": "1", "instruction": "6 * 3?", "answer": 18},
            {"id": "2", "instruction": "Prove it", "answer": "proof"},
            {"id": "3", "turns": ["5?", "and 6?"], "answer": ""},
            {"id": "4", "instruction": "5?", "answer": "5"},
        ]
        (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "crowd.toml").write_text(
            '[[model]]\nname = "oak"\nbase_url = "http://127.0.0.1:9/v1"\nmax_tokens = 9\n'
        )

    def task(self, wanted):
        names = (str(self.folder / name) for name in ("in.jsonl", "crowd.toml", "pool.parquet"))
        return Collected(*names, only_verifiable=wanted, limits=Limits(wait=0.001, attempts=2, patience=1))

    def asked(self, wanted):
        said = []

        def answer(request):
            said.append(request.messages()[-1]["content"])
            return Reply("18", "stop", None, 3, 4)

        report = collect(self.task(wanted), clients=lambda _: ScriptedClient(answer))
        return sorted(said), report


@pytest.mark.extra
def test_only_what_can_be_checked_is_asked(tmp_path):
    crowd = Crowd(tmp_path)
    found, notes = plan(crowd.task("exact#answer"))
    assert found["oak"].calls == 2
    assert {
        "left out: 1 instruction: the reference says 'proof'",
        "left out: 1 instruction: the reference is empty",
    } <= set(notes)
    asked, report = crowd.asked("exact#answer")
    assert asked == ["5?", "6 * 3?"]
    assert report.tallies["oak"].rows == 2
    assert pq.read_table(tmp_path / "pool.parquet")["id"].to_pylist() == ["1", "4"]
    assert last_task(tmp_path / "pool.parquet.ledger")["only_verifiable"] == "exact#answer"
    asked, report = crowd.asked("exact#answer")
    assert (asked, report.fresh) == ([], True)
    asked, report = crowd.asked(None)  # the pool is another one
    assert (asked, report.tallies["oak"].rows) == (["Prove it", "and 6?"], 4)


def test_what_can_never_be_checked_is_refused(tmp_path, run, monkeypatch):
    crowd = Crowd(tmp_path)
    with pytest.raises(OptionError, match=r"`only_verifiable` 'exact': wanted math\|exact\|choice#COLUMN"):
        plan(crowd.task("exact"))
    with pytest.raises(InputError, match="no column 'anwser' of right answers; found answer; did you mean"):
        plan(crowd.task("exact#anwser"))
    (tmp_path / "in.jsonl").write_text('{"id": "1", "instruction": "?", "answer": "proof"}\n')
    monkeypatch.chdir(tmp_path)
    run(
        *("collect", "in.jsonl", "--crowd", "crowd.toml", "--only-verifiable", "exact#answer", "--dry-run")
    ).refuses("no instruction has a reference in 'answer' that verify:exact can check")


def test_carried_values_are_read_as_text(tmp_path):
    rows = [{"id": str(n), "instruction": "?", "a": value} for n, value in enumerate([1, 2, None])]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_instructions(tmp_path / "in.jsonl") as found:
        assert found.carried_texts("a") == ["1", "2", None]


# Ray, and the real pool


@pytest.mark.extra
def test_workers_of_ray_give_the_same(pool):
    pytest.importorskip("ray")
    pytest.importorskip("math_verify")
    from engines import ran

    line = ("reward", "pool.parquet", "--with", "verify:exact#answer", "--with", "verify:math#answer")
    ran(*line, "-o", "here.parquet", code=3)
    ran(*line, "-o", "there.parquet", "--engine", "ray", "--workers", 2, code=3)
    assert pq.read_table("there.parquet").equals(pq.read_table("here.parquet"))
    assert verdicts("here.parquet")[0]["1", "m"] == 1.0


SHARE = 0.97


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "tasks", "rows"),
    [
        ("exact", ("gsm", "math-l5", "crux"), 20_000),
        pytest.param("math", ("gsm", "math-l5"), 4_000, marks=pytest.mark.extra),
    ],
)
def test_verdicts_agree_with_the_rewards_of_a_real_pool(data, name, tasks, rows):
    if name == "math":
        pytest.importorskip("math_verify")
    with duckdb.connect() as connection:  # of its own: the shared one may hold another test's result
        found = connection.sql(
            f"SELECT task, response, reference, score FROM '{data / 'zeroeval.parquet'}' "
            f"WHERE task IN {tasks} AND trim(response) <> '' ORDER BY hash(id || model) LIMIT {rows}"
        ).fetchall()
    with Checkers(name) as checkers:
        verdicts = dict(checkers.verdicts([Task(text, reference) for _, text, reference, _ in found]))
    agree, of = Counter(), Counter()
    for at, (task, _, _, score) in enumerate(found):
        of[task] += 1
        agree[task] += verdicts[at].score == score
    assert {task: agree[task] / of[task] >= SHARE for task in of} == dict.fromkeys(tasks, True), agree
