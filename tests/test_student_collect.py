"""A `[[student]]` of the crowd file: asked like the models, marked in the pool and in its rewards, and no part of the crowd."""

import json

import pyarrow.parquet as pq
import pytest

from crowdselect.ask.budget import Limits
from crowdselect.ask.endpoints import load_endpoints
from crowdselect.crowd import Crowd
from crowdselect.errors import InputError
from crowdselect.pool.pool import open_pool
from crowdselect.reward.job import Job, JobOptions
from crowdselect.reward.specs import parse_specs
from crowdselect.selection.inspection import inspect_pool
from test_collect_job import CROWD, Place

STUDENT = """
[[student]]
name = "tiny-1b"
aliases = ["org/tiny-1b"]
price_in = 1.0
price_out = 2.0
"""


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    found.crowd(CROWD + STUDENT)
    return found


def marks(path):
    """Model → whether its rows are marked; all rows of a model say the same."""
    found = {(row["model"], row["is_student"]) for row in pq.read_table(path).to_pylist()}
    assert len(dict(found)) == len(found)
    return dict(found)


def test_it_is_asked_like_the_others_and_marked(place):
    place.collect()
    assert {name: len(asked) for name, asked in place.asked.items()} == {
        "oak-7b": 6,
        "ash-7b": 6,
        "tiny-1b": 6,
    }
    pool = place.folder / "pool.parquet"
    assert marks(pool) == {"oak-7b": False, "ash-7b": False, "tiny-1b": True}
    with open_pool(pool) as opened:
        assert opened.students == ("tiny-1b",)
        assert opened.reward_columns == ()


def test_without_a_student_the_pool_has_no_such_column(place):
    place.crowd(CROWD)
    place.collect()
    assert "is_student" not in pq.read_schema(place.folder / "pool.parquet").names
    with open_pool(place.folder / "pool.parquet") as opened:
        assert opened.students == ()


def test_a_model_that_becomes_the_student_is_not_asked_again_and_the_pool_is_written_anew(place):
    place.crowd(CROWD + STUDENT.replace("[[student]]", "[[model]]"))
    place.collect()
    place.crowd(CROWD + STUDENT)
    report = place.collect()
    assert (place.asked, report.fresh) == ({}, False)
    assert marks(place.folder / "pool.parquet")["tiny-1b"] is True
    assert place.collect().fresh
    place.crowd(CROWD + STUDENT.replace("[[student]]", "[[model]]"))
    assert not place.collect().fresh
    assert "is_student" not in pq.read_schema(place.folder / "pool.parquet").names


def test_a_run_that_stopped_goes_on_with_the_mark(place):
    place.collect(limits=Limits(max_requests=14, wait=0.001, attempts=2, patience=1))
    before = {name: len(asked) for name, asked in place.asked.items()}
    assert sum(before.values()) == 14
    place.collect()
    assert {name: before.get(name, 0) + len(asked) for name, asked in place.asked.items()} == dict.fromkeys(
        place.asked, 6
    )
    assert marks(place.folder / "pool.parquet") == {"oak-7b": False, "ash-7b": False, "tiny-1b": True}
    assert len(place.pool()) == 18


def test_a_student_may_be_asked_alone(place):
    place.crowd('[defaults]\nbase_url = "http://127.0.0.1:9/v1"\n' + STUDENT)
    place.collect()
    assert marks(place.folder / "pool.parquet") == {"tiny-1b": True}
    with open_pool(place.folder / "pool.parquet") as opened:
        found = inspect_pool(opened)
    assert (found["models"], [one["name"] for one in found["students"]]) == (0, ["tiny-1b"])


def test_a_column_of_the_instructions_cannot_mark_anyone(place):
    place.write([{"id": f"i{n}", "instruction": f"q{n}", "is_student": True} for n in range(3)])
    report = place.collect()
    assert any("not carried into the pool" in note and "is_student" in note for note in report.notes)
    assert marks(place.folder / "pool.parquet") == {"oak-7b": False, "ash-7b": False, "tiny-1b": True}


@pytest.mark.parametrize("kind", ["student", "model"])
def test_a_name_is_either_a_model_or_a_student(tmp_path, kind):
    path = tmp_path / "crowd.toml"
    path.write_text(f'{CROWD}[[student]]\nname = "a"\n[[{kind}]]\nname = "a"\n')
    with pytest.raises(InputError, match="'a' appears twice"):
        load_endpoints(path)
    with pytest.raises(InputError, match="'a' appears twice"):
        Crowd.from_file(path)


def test_unknown_keys_of_a_student_are_refused(tmp_path):
    path = tmp_path / "crowd.toml"
    path.write_text('[[student]]\nname = "a"\nbase_ulr = "x"\n')
    with pytest.raises(InputError, match=r"student 'a': unknown key 'base_ulr'.*base_url"):
        load_endpoints(path)
    path.write_text('student = "a"\n')
    with pytest.raises(InputError, match=r"under its own \[\[student\]\]"):
        load_endpoints(path)
    path.write_text('[[student]]\nname = "a"\n')
    with pytest.raises(InputError, match=r"no \[\[model\]\], only a student"):
        Crowd.from_file(path)


# ── the mark goes wherever the answers go ────────────────────────────────────────────────────────────────


def scored(place):
    """The rewards of the collected answers: how many letters each has."""
    place.collect()
    rule = place.folder / "rule_of_letters.py"
    rule.write_text(
        "def letters(conversations):\n    return [len(one[-1]['content']) for one in conversations]\n"
    )
    target = place.folder / "rewards.parquet"
    with (
        open_pool(place.folder / "pool.parquet") as pool,
        Job(
            pool, parse_specs(["python:rule_of_letters:letters"], ["score"]), str(target), JobOptions()
        ) as job,
    ):
        job.run({})
    return target


def test_reward_scores_it_and_passes_the_mark_on(place, monkeypatch):
    monkeypatch.syspath_prepend(place.folder)
    rewards = scored(place)
    assert marks(rewards) == {"oak-7b": False, "ash-7b": False, "tiny-1b": True}
    assert all(row["score"] > 0 for row in pq.read_table(rewards).to_pylist())
    for path, second in ((place.folder / "pool.parquet", rewards), (rewards, None)):
        with open_pool(path, rewards=second) as pool:
            assert (pool.students, pool.reward_columns) == (("tiny-1b",), ("score",))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_the_mark_survives_other_files(place, ending):
    place.collect()
    rows = place.pool()
    path = place.folder / f"copy.{ending}"
    if ending == "parquet":  # a part of the pool, put beside another without the column
        table = pq.read_table(place.folder / "pool.parquet")
        path = place.folder / "parts"
        path.mkdir()
        pq.write_table(table.slice(0, 9), path / "a.parquet")
        pq.write_table(table.slice(9).drop_columns("is_student"), path / "b.parquet")
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import pyarrow.csv

        pyarrow.csv.write_csv(pq.read_table(place.folder / "pool.parquet"), path)
    with open_pool(path) as pool:
        assert pool.students == ("tiny-1b",)


def test_a_mark_that_is_not_true_or_false_is_an_error(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text('{"id": "1", "instruction": "q", "model": "a", "response": "r", "is_student": "yes"}\n')
    with (
        open_pool(path) as pool,
        pytest.raises(InputError, match=r"is_student.*true in the rows of a student"),
    ):
        _ = pool.students


# ── commands that show a crowd ───────────────────────────────────────────────────────────────────────────


def test_inspect_and_crowd_keep_it_apart(place, run, monkeypatch):
    monkeypatch.syspath_prepend(place.folder)
    rewards = scored(place)
    pool = place.folder / "pool.parquet"
    shown = run("inspect", pool, "--rewards", rewards, "--json")
    found = json.loads(shown.out)
    assert found["models"] == 2
    assert {one["name"] for one in found["crowd"]} == {"ash-7b", "oak-7b"}
    (student,) = found["students"]
    assert student["name"] == "tiny-1b"
    assert student["mean_reward"]["score"] == pytest.approx(16)  # "tiny-1b on q0, 0"
    shown = run("inspect", pool, "--rewards", rewards).out
    assert "tiny-1b (score 16 on average)" in shown
    assert "--method teachable --budget 10%" in shown
    shown = run("crowd", pool)
    assert "no part of the crowd: tiny-1b (marked as a student)" in shown.out
    written = place.folder / "of-pool.toml"
    assert run("crowd", pool, "-o", written).code == 0
    assert set(Crowd.from_file(written).names) == {"ash-7b", "oak-7b"}


def test_a_crowd_file_keeps_its_student(place, run):
    place.collect()
    shown = run("crowd", place.folder / "pool.parquet", "--crowd", place.folder / "crowd.toml", "--toml")
    copy = place.folder / "copy.toml"
    copy.write_text(shown.out)
    assert Crowd.from_file(copy).students == ("tiny-1b",)
    before = (place.folder / "crowd.toml").read_text()
    assert run("crowd", place.folder / "pool.parquet", "-o", place.folder / "crowd.toml").code == 0
    assert (place.folder / "crowd.toml").read_text() == before
