"""A student that the pool or the crowd file marks: no part of the crowd for any command, and the student where none is named."""

import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Crowd, Options, export, load_selection, open_pool, select
from crowdselect.compare.robustness import robustness
from crowdselect.engine.here import run_here
from crowdselect.errors import InputError, OptionError
from crowdselect.methods import method_named
from crowdselect.selection.look import look_at

SKILLS = {"oak-1b": 0.55, "oak-7b": 0.8, "ash-7b": 0.7, "tiny": 0.45}
N = 240


def rows(*, student="tiny", marked=True, skills=SKILLS):
    """A pool of right and wrong answers; the student always answers longest, and better than the crowd in some rows."""
    draw, found = random.Random(3), []
    for n in range(N):
        level = draw.random()
        for model, skill in skills.items():
            right = draw.random() < skill + 0.6 * (level - 0.5)
            found.append(
                {
                    "id": f"i{n:03d}",
                    "instruction": f"What is {n} times {n % 7} in words?",
                    "model": model,
                    "response": f"{model} says {n * (n % 7) if right else 'no'}",
                    "score": float(right) + (0.25 if model == student else 0.0),
                }
                | ({"is_student": model == student} if marked else {})
            )
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    pq.write_table(pa.Table.from_pylist(rows()), folder / "pool.parquet")
    pq.write_table(pa.Table.from_pylist(rows(marked=False)), folder / "plain.parquet")
    alone = {name: skill for name, skill in SKILLS.items() if name != "tiny"}
    without = [row for row in rows(marked=False) if row["model"] in alone]
    pq.write_table(pa.Table.from_pylist(without), folder / "crowd.parquet")
    parts = folder / "parts"
    parts.mkdir()
    for k in range(3):
        own = [row for row in rows() if int(row["id"][1:]) % 3 == k]
        pq.write_table(pa.Table.from_pylist(own), parts / f"{k}.parquet")
    (folder / "crowd.toml").write_text(
        "".join(f'[[model]]\nname = "{name}"\n' for name in alone) + '[[student]]\nname = "tiny"\n'
    )
    return folder


def chosen(path, method=None, *, crowd=None, run=None, **options):
    with open_pool(path) as pool:
        built = None if method is None else method_named(method)
        asked = Options(**{"budget": 30, "clusters": 0, **options})
        return select(pool, asked, method=built, crowd=crowd, run=run)


@pytest.mark.parametrize("method", [None, "random", "reward", "easy"])
def test_a_marked_student_is_no_part_of_the_crowd(place, method):
    """The choice is that of a pool without it, but for easy: the cut is that of all rewards."""
    marked = chosen(place / "pool.parquet", method)
    assert [member["name"] for member in marked.facts["crowd"]] == ["ash-7b", "oak-1b", "oak-7b"]
    assert marked.students == ("tiny",)
    assert "tiny" not in marked.table["model"].to_pylist()
    assert any(
        "tiny is marked as a student and no part of the crowd" in note for note in marked.facts["notes"]
    )
    if method != "easy":
        without = chosen(place / "crowd.parquet", method)
        assert marked.table.select(without.table.column_names).equals(without.table)


@pytest.mark.parametrize("method", ["teachable", "teachable:plain", "easy", "random"])
def test_the_mark_stands_for_the_option(place, method):
    marked = chosen(place / "pool.parquet", method)
    named = chosen(place / "plain.parquet", method, student="tiny")
    with_file = chosen(place / "plain.parquet", method, crowd=Crowd.from_file(place / "crowd.toml"))
    assert marked.table.equals(named.table)
    assert marked.table.equals(with_file.table)
    tables = [found.facts["student"]["table"] for found in (marked, named, with_file)]
    assert tables[0] == tables[1] == tables[2]
    assert np.sum(tables[0]["pool"]) == N


def test_file_by_file_is_the_same(place):
    whole = chosen(place / "pool.parquet", "teachable")
    parts = chosen(place / "parts", "teachable", run=run_here)
    assert whole.table.equals(parts.table)
    assert parts.students == ("tiny",)
    assert whole.facts["student"] == parts.facts["student"]


def test_another_student_may_be_named_and_the_marked_one_stays_out(place):
    found = chosen(place / "pool.parquet", "teachable", student="oak-1b")
    assert [member["name"] for member in found.facts["crowd"]] == ["ash-7b", "oak-7b"]
    assert set(found.students) == {"oak-1b", "tiny"}
    assert any("tiny is marked as a student" in note for note in found.facts["notes"])
    assert found.facts["student"]["name"] == "oak-1b"


def test_several_marked_students_have_to_be_told_apart(tmp_path):
    own = [row | {"is_student": row["model"] in {"tiny", "oak-1b"}} for row in rows()]
    pq.write_table(pa.Table.from_pylist(own), tmp_path / "pool.parquet")
    with pytest.raises(OptionError, match="marked as students are: oak-1b, tiny"):
        chosen(tmp_path / "pool.parquet", "teachable")
    found = chosen(tmp_path / "pool.parquet", "random")
    assert [member["name"] for member in found.facts["crowd"]] == ["ash-7b", "oak-7b"]
    assert "student" not in found.facts


def test_a_marked_student_without_rewards_stops_only_what_needs_them(tmp_path):
    own = [row | {"score": None if row["model"] == "tiny" else row["score"]} for row in rows()]
    pq.write_table(pa.Table.from_pylist(own), tmp_path / "pool.parquet")
    assert "student" not in chosen(tmp_path / "pool.parquet").facts
    with pytest.raises(OptionError, match="the student tiny has no reward"):
        chosen(tmp_path / "pool.parquet", "teachable")
    with pytest.raises(OptionError, match="the student tiny has no reward"):
        chosen(tmp_path / "pool.parquet", keep=("student_good=..0.5",))
    bare = [{name: value for name, value in row.items() if name != "score"} for row in own]
    pq.write_table(pa.Table.from_pylist(bare), tmp_path / "bare.parquet")
    assert (
        "tiny" not in chosen(tmp_path / "bare.parquet", "random", answer="random").table["model"].to_pylist()
    )


def test_a_pool_of_students_has_no_crowd(tmp_path):
    pq.write_table(
        pa.Table.from_pylist([row for row in rows() if row["model"] == "tiny"]), tmp_path / "p.parquet"
    )
    with (
        open_pool(tmp_path / "p.parquet") as pool,
        pytest.raises(InputError, match="besides the student tiny"),
    ):
        select(pool, Options(budget=5, clusters=0))


# ── other commands ───────────────────────────────────────────────────────────────────────────────────────


def test_metrics_are_of_the_crowd_alone(place):
    for path in ("pool.parquet", "crowd.parquet"):
        with open_pool(place / path) as pool:
            _, known = look_at(pool, options=None)
        if path == "pool.parquet":
            first = known
    assert first.crowd.names == known.crowd.names
    for name, values in known.metrics.items():
        np.testing.assert_array_equal(first.metrics[name], values)


def test_robustness_leaves_it_out(place):
    options = Options(budget=30, clusters=0)
    found = []
    for path in ("pool.parquet", "crowd.parquet"):
        with open_pool(place / path) as pool:
            found.append(robustness(pool, options, bootstraps=2, seeds=1, clusters=()))
    marked, without = (one.as_dict() for one in found)
    assert marked["facts"]["models"] == 3
    for name in ("chosen", "summary", "variants"):
        assert marked[name] == without[name]


def test_compare_takes_the_best_reward_of_the_crowd(place, tmp_path, run):
    for name in ("pool", "crowd"):
        with open_pool(place / f"{name}.parquet") as pool:
            export(select(pool, Options(budget=30, clusters=0)), pool, tmp_path / name)
    told = []
    for name in ("pool", "crowd"):
        ran = run("compare", tmp_path / name, "--draws", 5, "--json")
        assert ran.code == 0, ran
        told.append(json.loads(ran.out))
    assert [one["selections"][0]["figures"]["best_reward"] for one in told] == [1.0, 1.0]
    assert told[0]["selections"][0]["figures"] == told[1]["selections"][0]["figures"]
    assert "tiny" not in json.dumps(told[0]["selections"])


def test_view_says_who_is_the_student(place, tmp_path, run):
    with open_pool(place / "pool.parquet") as pool:
        export(select(pool, Options(budget=30, clusters=0)), pool, tmp_path / "chosen")
    first = load_selection(tmp_path / "chosen").chosen[0]
    for shown in (
        run("view", tmp_path / "chosen", "--id", first),
        run("view", place / "pool.parquet", "--id", first),
    ):
        assert shown.out.count("(the student)") == 1
        assert shown.out.index("oak-7b  ") < shown.out.index(
            "tiny (the student)"
        )  # although it has the highest reward
    plain = run("view", place / "plain.parquet", "--id", first)
    assert "student" not in plain.out
    filed = run("view", place / "plain.parquet", "--crowd", place / "crowd.toml", "--id", first)
    assert "tiny (the student)" in filed.out


def test_the_summary_has_the_table_and_says_what_is_known_already(place, run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ran = run(
        "select", place / "pool.parquet", "--budget", 30, "--method", "teachable", "-o", tmp_path / "chosen"
    )
    assert ran.code == 0, ran
    facts = load_selection(tmp_path / "chosen").facts["student"]
    lines = ran.out.splitlines()
    at = next(n for n, line in enumerate(lines) if "What the crowd can and the student cannot" in line)
    begin = next(n for n, line in enumerate(lines) if line.startswith(" ──") and n > at) + 1
    cells = {line.split()[0]: line.split()[1:] for line in lines[begin : begin + 5]}
    assert list(cells) == ["80-100%", "60-80%", "40-60%", "20-40%", "0-20%"]
    for name, one, all_ in zip(
        reversed(cells), facts["table"]["chosen"], facts["table"]["pool"], strict=True
    ):
        assert cells[name] == [f"{c}/{p}" if p else "-" for c, p in zip(one, all_, strict=True)]
    assert f"The student already does as well on {facts['already']} of the 30 chosen." in ran.out
    assert max(len(line) for line in lines[at : begin + 5]) <= 80


def test_samples_of_a_marked_student_stay_out(tmp_path):
    sampled = [
        row
        | {"sample": k, "response": f"{row['response']} {k}", "score": row["score"] - k / 8, "second": k / 2}
        for row in rows()
        for k in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(sampled), tmp_path / "pool.parquet")
    without = [row for row in sampled if row["model"] != "tiny"]
    pq.write_table(pa.Table.from_pylist(without), tmp_path / "crowd.parquet")
    options = {"answers_per_row": 2, "reward": "score"}
    marked, plain = (chosen(tmp_path / f"{name}.parquet", **options) for name in ("pool", "crowd"))
    assert marked.table.select(plain.table.column_names).equals(plain.table)
    assert set(marked.facts["student"]["table"]["pool"][0]) - {
        0
    }  # its success is the share of its good samples
    found = []
    for name in ("pool", "crowd"):
        with open_pool(tmp_path / f"{name}.parquet") as pool:
            asked = Options(budget=30, clusters=0, reward="score")
            found.append(robustness(pool, asked, bootstraps=1, seeds=0, clusters=()).as_dict())
    assert found[0]["variants"] == found[1]["variants"]
    assert any(one["axis"] == "reward" and one["kept"] is not None for one in found[0]["variants"])


@pytest.mark.parametrize("layout", ["long", "wide"])
def test_how_a_student_s_answers_ended_is_not_counted(tmp_path, layout):
    if layout == "long":
        own = [row | {"finish_reason": "length" if row["model"] == "tiny" else "stop"} for row in rows()]
        pq.write_table(pa.Table.from_pylist(own), tmp_path / "pool.parquet")
        options = {}
    else:
        by_id = {}
        for row in rows():
            text = "<think>It is" if row["model"] == "tiny" else row["response"]
            wide = by_id.setdefault(row["id"], {"id": row["id"], "instruction": row["instruction"]})
            wide |= {f"response_{row['model']}": text, f"score_{row['model']}": row["score"]}
        (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in by_id.values()))
        options = {"student": "tiny"}
    path = next(tmp_path.iterdir())
    named = chosen(path, "reward", **options)
    assert not any("cut" in line for line in named.warnings), named.warnings
    if layout == "wide":
        assert any("cut" in line for line in chosen(path, "reward").warnings)


def test_the_marked_model_of_another_pool_is_the_student(place):
    options = {"student_answers": str(place / "pool.parquet")}
    found = chosen(place / "crowd.parquet", "teachable", **options)
    assert found.facts["student"]["name"] == "tiny"
    assert found.chosen == chosen(place / "crowd.parquet", "teachable", student="tiny", **options).chosen
    with pytest.raises(OptionError, match="answers of several models"):
        chosen(place / "crowd.parquet", "teachable", student_answers=str(place / "plain.parquet"))
